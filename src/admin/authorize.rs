//! Who may do what: one table for every route. What is not in it is refused.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use http::{HeaderMap, Method, header};

use super::caller::Caller;
use super::desk::{Desk, From};
use super::moment::now_ms;
use super::refusal::{Answer, Refusal};
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
    ("/changes", &[("GET", Admin)]),
    ("/config", &[("GET", Admin)]),
    ("/config/reload", &[("POST", Unbounded)]),
    ("/config/version", &[("GET", Admin)]),
];

/// What everything is below.
pub const ROOT: &str = "/admin/v1";

/// The row of a route, by its pattern.
fn row(path: &str) -> Option<&'static [(&'static str, Needs)]> {
    let path = path.strip_prefix(ROOT)?;
    TABLE.iter().find(|(known, _)| *known == path).map(|(_, methods)| *methods)
}

/// Lets a request through to its handler, with who it is from, or refuses it.
pub async fn authorize(
    State(desk): State<Arc<Desk>>,
    path: MatchedPath,
    mut request: Request,
    next: Next,
) -> Answer {
    let refused = || Refusal::forbidden("Nobody may do this.");
    let methods = row(path.as_str()).ok_or_else(refused)?;
    let method = match request.method() {
        method if *method == Method::HEAD => Method::GET,
        method => method.clone(),
    };
    let Some((_, needs)) = methods.iter().find(|(known, _)| *known == method.as_str()) else {
        let allowed: Vec<&str> = methods.iter().map(|(method, _)| *method).collect();
        return Err(Refusal::wrong_method(&allowed.join(", ")));
    };
    if *needs != Nobody {
        let from = request.extensions().get::<From>().copied();
        let caller = identify(&desk, request.headers(), from)?;
        if *needs == Unbounded && caller.is_bounded() {
            return Err(Refusal::forbidden("Your key or user has bounds, and this has none."));
        }
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
    match desk.registry.find(&key.digest(), now_ms()) {
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
    fn only_the_document_is_for_everybody() {
        let open = TABLE.iter().filter(|(_, methods)| methods.iter().any(|(_, it)| *it == Nobody));
        assert_eq!(open.map(|(path, _)| *path).collect::<Vec<_>>(), ["/openapi.json"]);
    }
}
