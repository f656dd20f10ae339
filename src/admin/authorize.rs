//! Who may do what: one table for every route. What is not in it is refused.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use http::{HeaderMap, Method, header};

use super::caller::Caller;
use super::desk::{Desk, From};
use super::refusal::{Answer, Refusal};
use crate::access::limits::Now;
use crate::access::{Credential, Lookup};

/// What a caller must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nobody in particular: nothing here tells of this installation.
    Nobody,
    /// The admin key, or the key of a user with the role `admin`.
    Admin,
    /// … whose grants have no bounds, since whoever may do this can get around them.
    Unbounded,
}

use Needs::{Admin, Nobody, Unbounded};

/// Every route below `/admin/v1`, with what each of its methods needs. `HEAD` is `GET`.
pub const TABLE: &[(&str, &[(&str, Needs)])] = &[
    ("/openapi.json", &[("GET", Nobody)]),
    ("/auth/validate", &[("POST", Admin)]),
    ("/providers", &[("GET", Admin), ("POST", Unbounded)]),
    (
        "/providers/{id}",
        &[("GET", Admin), ("PUT", Unbounded), ("PATCH", Unbounded), ("DELETE", Unbounded)],
    ),
    ("/providers/{id}/api-keys/{number}/recheck", &[("POST", Admin)]),
    ("/providers/{id}/replicas/{replica}/calls/{operation}", &[("POST", Unbounded)]),
    ("/models", &[("GET", Admin), ("POST", Unbounded)]),
    (
        "/models/{id}",
        &[("GET", Admin), ("PUT", Unbounded), ("PATCH", Unbounded), ("DELETE", Unbounded)],
    ),
    ("/keys", &[("GET", Admin), ("POST", Admin)]),
    ("/keys/{id}", &[("GET", Admin), ("PUT", Admin), ("PATCH", Admin), ("DELETE", Admin)]),
    ("/keys/{id}/rotate", &[("POST", Admin)]),
    ("/keys/{id}/revoke", &[("POST", Admin)]),
    ("/master-keys", &[("GET", Admin), ("POST", Admin)]),
    ("/master-keys/{id}", &[("GET", Admin), ("PUT", Admin), ("PATCH", Admin), ("DELETE", Admin)]),
    ("/master-keys/{id}/rotate", &[("POST", Admin)]),
    ("/master-keys/{id}/revoke", &[("POST", Admin)]),
    ("/users", &[("GET", Admin), ("POST", Admin)]),
    ("/users/{id}", &[("GET", Admin), ("PUT", Admin), ("PATCH", Admin), ("DELETE", Admin)]),
    ("/users/{id}/disable", &[("POST", Admin)]),
    ("/users/{id}/enable", &[("POST", Admin)]),
    ("/users/{id}/quota/refresh", &[("POST", Admin)]),
    ("/usage", &[("GET", Admin)]),
    // Rows are of everybody, and may have content.
    ("/audit", &[("GET", Unbounded), ("DELETE", Unbounded)]),
    ("/audit/{id}", &[("GET", Unbounded)]),
    ("/changes", &[("GET", Admin)]),
    ("/config", &[("GET", Admin)]),
    ("/config/reload", &[("POST", Unbounded)]),
    ("/config/version", &[("GET", Admin)]),
];

/// What everything is below.
pub const ROOT: &str = "/admin/v1";

/// What each method of a route needs.
type Row = &'static [(&'static str, Needs)];

/// The row of a route, by its pattern.
fn row(path: &str) -> Option<Row> {
    let path = path.strip_prefix(ROOT)?;
    TABLE.iter().find(|(known, _)| *known == path).map(|(_, methods)| *methods)
}

/// The row of a route, by a path as it is asked for.
fn row_of(path: &str) -> Option<Row> {
    let path = path.strip_prefix(ROOT)?;
    let matches = |known: &str| {
        let (mut parts, mut known) = (path.split('/'), known.split('/'));
        let same = known
            .by_ref()
            .all(|known| parts.next().is_some_and(|part| part == known || known.starts_with('{')));
        same && parts.next().is_none()
    };
    TABLE.iter().find(|(known, _)| matches(known)).map(|(_, methods)| *methods)
}

/// Whether to read the body of a request with this head. What nobody may do, or this caller may not,
/// is refused before it has cost any memory; where no body could mean anything none is read.
pub fn wants_body(desk: &Desk, head: &http::Request<()>, from: Option<From>) -> Answer<bool> {
    let Some(row) = row_of(head.uri().path()) else { return Ok(false) };
    let Ok(needs) = needs(row, head.method()) else { return Ok(false) };
    Ok(judge(desk, needs, head.headers(), from)?.is_some())
}

/// What a method of a route needs.
fn needs(row: Row, method: &Method) -> Answer<Needs> {
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    let found = row.iter().find(|(known, _)| *known == method.as_str());
    found.map(|(_, needs)| *needs).ok_or_else(|| {
        let allowed: Vec<&str> = row.iter().map(|(method, _)| *method).collect();
        Refusal::wrong_method(&allowed.join(", "))
    })
}

/// Who calls, where that matters; whoever may not is refused.
fn judge(
    desk: &Desk,
    needs: Needs,
    headers: &HeaderMap,
    from: Option<From>,
) -> Answer<Option<Caller>> {
    if needs == Nobody {
        return Ok(None);
    }
    let caller = identify(desk, headers, from)?;
    if needs == Unbounded && caller.is_bounded() {
        return Err(Refusal::forbidden("Your key or user has bounds, and this has none."));
    }
    Ok(Some(caller))
}

/// Lets a request through to its handler, with who it is from, or refuses it.
pub async fn authorize(
    State(desk): State<Arc<Desk>>,
    path: MatchedPath,
    mut request: Request,
    next: Next,
) -> Answer {
    let refused = || Refusal::forbidden("Nobody may do this.");
    let needs = needs(row(path.as_str()).ok_or_else(refused)?, request.method())?;
    let from = request.extensions().get::<From>().copied();
    if let Some(caller) = judge(&desk, needs, request.headers(), from)? {
        request.extensions_mut().insert(Arc::new(caller));
    }
    Ok(next.run(request).await)
}

/// Who calls. Only the `Authorization` header counts: no page can make a browser send it along.
fn identify(desk: &Desk, headers: &HeaderMap, from: Option<From>) -> Answer<Caller> {
    let mut bearer = HeaderMap::new();
    for value in headers.get_all(header::AUTHORIZATION) {
        bearer.append(header::AUTHORIZATION, value.clone());
    }
    let found = Credential::find(&bearer, None).map_err(|_| Refusal::unknown_key())?;
    let Some(key) = found else { return Err(Refusal::no_key()) };
    let now = Instant::now();
    if let Some(wait) = from.and_then(|from| desk.throttle.wait(from.0, now)) {
        return Err(Refusal::slow_down(wait.as_secs().saturating_add(1)));
    }
    let snapshot = desk.snapshot.load_full();
    if snapshot.is_operator(&key.digest()) {
        return Ok(Caller::operator());
    }
    if snapshot.keyring.find(&key.digest()).is_some() {
        return Err(ordinary());
    }
    match desk.registry.find(&key.digest(), Now::by_clock().0) {
        Lookup::Known(principal) => Caller::of(&principal).ok_or_else(ordinary),
        Lookup::Away => Err(Refusal::store_away()),
        Lookup::Refused(_) | Lookup::Unknown => {
            if let Some(from) = from {
                desk.throttle.note(from.0, now);
            }
            Err(Refusal::unknown_key())
        }
    }
}

fn ordinary() -> Refusal {
    Refusal::forbidden("This needs the admin key, or the key of a user with the role `admin`.")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_has_its_row_and_every_row_its_route() {
        let document = super::super::router::document();
        let mut routes = BTreeSet::new();
        for (path, item) in &document.paths.paths {
            let item = serde_json::to_value(item).unwrap();
            for method in item.as_object().unwrap().keys() {
                let method = method.to_ascii_uppercase();
                if ["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS"].contains(&&*method)
                {
                    routes.insert((path.clone(), method));
                }
            }
        }
        let row = |(path, methods): &(&str, &[(&str, Needs)])| {
            let path = format!("{ROOT}{path}");
            methods
                .iter()
                .map(|(method, _)| (path.clone(), (*method).to_owned()))
                .collect::<Vec<_>>()
        };
        let rows: BTreeSet<(String, String)> = TABLE.iter().flat_map(row).collect();
        assert_eq!(routes, rows);
    }

    #[test]
    fn a_path_is_found_by_its_pattern() {
        for (path, found) in [
            ("/admin/v1/keys", true),
            ("/admin/v1/keys/a", true),
            ("/admin/v1/keys/a%2Fb/rotate", true),
            ("/admin/v1/providers/p/api-keys/0/recheck", true),
            ("/admin/v1/keys/a/b", false),
            ("/admin/v1/keys/a/rotate/x", false),
            ("/admin/v1", false),
            ("/swagger-ui/", false),
        ] {
            assert_eq!(row_of(path).is_some(), found, "{path}");
        }
        for (path, methods) in TABLE {
            assert_eq!(row_of(&format!("{ROOT}{path}")), Some(*methods), "{path}");
        }
    }

    #[test]
    fn only_the_document_is_for_everybody() {
        let open = TABLE.iter().filter(|(_, methods)| methods.iter().any(|(_, it)| *it == Nobody));
        assert_eq!(open.map(|(path, _)| *path).collect::<Vec<_>>(), ["/openapi.json"]);
    }
}
