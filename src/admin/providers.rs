//! Providers: those of the file, to be looked at, and those of the store.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Caller;
use super::desk::Desk;
use super::given::{Given, Path, Query, check_id, merge};
use super::items::{self, Outcome};
use super::page::{Page, expected, list, one};
use super::records::{self, By};
use super::refusal::{Answer, Refusal};
use super::shape::{Item, Shape};
use super::shown;
use crate::store::{Expected, Kind};

/// What of LLM Proxy's shape stays when it is not sent again.
const KEPT: [&str; 2] = ["provider_type", "weight"];

pub fn router() -> OpenApiRouter<Arc<Desk>> {
    OpenApiRouter::new()
        .routes(routes!(index, create))
        .routes(routes!(show, replace, update, remove))
        .routes(routes!(recheck))
}

/// Providers of the file and of the store, by id, with how they are.
#[utoipa::path(get, path = "/", params(Page), responses((status = 200)))]
async fn index(State(desk): records::State, Query(page): Query<Page>) -> Answer {
    let limit = page.limit()? as usize;
    let stored = items::stored(&desk, Kind::Providers).await?;
    let mut all: Vec<Value> = in_file(&desk, &stored);
    let of_store = stored.iter().map(|record| items::shown(&desk, Kind::Providers, record));
    all.extend(of_store.map(|shown| with_state(&desk, shown)));
    Ok(items_page(all, &page, limit))
}

/// A page of what is all in memory.
pub fn items_page(mut all: Vec<Value>, page: &Page, limit: usize) -> axum::response::Response {
    let id = |value: &Value| value["id"].as_str().unwrap_or_default().to_owned();
    all.sort_by_cached_key(id);
    if let Some(after) = &page.after {
        all.retain(|value| id(value) > *after);
    }
    let more = all.len() > limit;
    all.truncate(limit);
    list(&all, more)
}

/// Adds a provider to the store: as in the configuration's file, or in LLM Proxy's shape.
#[utoipa::path(post, path = "/", request_body = Object, responses((status = 201), (status = 400), (status = 409)))]
async fn create(State(desk): records::State, Extension(by): By, given: Given) -> Answer {
    let given = items::settable(given.0);
    let word = |name: &str| given.get(name).and_then(Value::as_str).map(str::to_owned);
    let ids: Vec<String> =
        ["id", "name", "provider_key"].iter().filter_map(|it| word(it)).collect();
    let Some(id) = ids.first().cloned() else {
        return Err(Refusal::invalid(Some("id"), "A provider needs an `id`, or a `name`."));
    };
    if ids.iter().any(|other| *other != id) {
        return Err(Refusal::invalid(Some("name"), "A provider's `id` is its `name`."));
    }
    check_id(&id)?;
    if in_force_by_file(&desk, &id) {
        return Err(Refusal::taken(format!("The configuration's file has a provider `{id}`.")));
    }
    let new = move |_: Option<&Item>| {
        let mut item = Item::of(given.clone())?;
        // Masked secrets of nobody.
        item.restore(&Item { item: Map::new(), ..item.clone() }, false)?;
        Ok(item)
    };
    let outcome = items::put(&desk, &by, Kind::Providers, &id, Expected::Absent, new).await?;
    Ok(answer(&desk, StatusCode::CREATED, &outcome))
}

/// One provider: how its replicas and keys are.
#[utoipa::path(get, path = "/{id}", params(("id" = String, Path)), responses((status = 200), (status = 404)))]
async fn show(State(desk): records::State, Path(id): Path<String>) -> Answer {
    let stored = items::stored(&desk, Kind::Providers).await;
    let of_file = |known: &[crate::store::Record]| {
        let mut all = in_file(&desk, known).into_iter();
        all.find(|provider| provider["id"] == *id)
    };
    let stored = match stored {
        Ok(stored) => stored,
        // The file's can be told of without the store.
        Err(away) => {
            let found = of_file(&[]).filter(|_| in_force_by_file(&desk, &id));
            return Ok(one(StatusCode::OK, None, &found.ok_or(away)?));
        }
    };
    if let Some(record) = stored.iter().find(|record| record.id == id) {
        let shown = with_state(&desk, items::shown(&desk, Kind::Providers, record));
        return Ok(one(StatusCode::OK, Some(record.version), &shown));
    }
    let found = of_file(&stored).ok_or_else(|| Refusal::not_found("provider", &id))?;
    Ok(one(StatusCode::OK, None, &found))
}

/// Sets all of a provider of the store. Secrets that are not sent stay.
#[utoipa::path(put, path = "/{id}", params(("id" = String, Path)), request_body = Object, responses((status = 200), (status = 400), (status = 404), (status = 412)))]
async fn replace(
    State(desk): records::State,
    Extension(by): By,
    Path(id): Path<String>,
    headers: HeaderMap,
    mut given: Given,
) -> Answer {
    given.check_id(&id)?;
    let given = items::settable(given.0);
    check_name(&given, &id)?;
    let new = {
        let (id, by) = (id.clone(), Arc::clone(&by));
        move |before: Option<&Item>| {
            let mut given = given.clone();
            let foreign = before.filter(|before| before.shape == Shape::LlmProxy);
            if let Some(before) = foreign.filter(|_| !given.contains_key("kind")) {
                for name in KEPT {
                    if let Some(value) = before.item.get(name) {
                        given.entry(name).or_insert_with(|| value.clone());
                    }
                }
            }
            make(given, &id, before, true, &by)
        }
    };
    change(&desk, &by, &id, &headers, new).await
}

/// Changes a provider of the store by a merge patch (RFC 7396): what is null goes, what is absent stays.
#[utoipa::path(patch, path = "/{id}", params(("id" = String, Path)), request_body = Object, responses((status = 200), (status = 400), (status = 404), (status = 412)))]
async fn update(
    State(desk): records::State,
    Extension(by): By,
    Path(id): Path<String>,
    headers: HeaderMap,
    mut given: Given,
) -> Answer {
    given.check_id(&id)?;
    let patch = items::settable(given.0);
    check_name(&patch, &id)?;
    let new = {
        let (id, by) = (id.clone(), Arc::clone(&by));
        move |before: Option<&Item>| {
            let mut members = before.map(items::sent).unwrap_or_default();
            let mut patch = patch.clone();
            rename_enabled(&mut patch, &members);
            merge(&mut members, patch);
            make(members, &id, before, false, &by)
        }
    };
    change(&desk, &by, &id, &headers, new).await
}

/// Removes a provider from the store, when nothing in the configuration needs it.
#[utoipa::path(delete, path = "/{id}", params(("id" = String, Path)), responses((status = 200), (status = 400), (status = 404), (status = 412)))]
async fn remove(
    State(desk): records::State,
    Extension(by): By,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    refuse_files(&desk, &id)?;
    let gone = items::remove(&desk, &by, Kind::Providers, &id, expected(&headers)?).await?;
    Ok(one(StatusCode::OK, None, &gone))
}

/// Has a key of a provider tried again at once, on the node that is asked. `number` counts from 0, in
/// the order of the configuration.
#[utoipa::path(post, path = "/{id}/api-keys/{number}/recheck", params(("id" = String, Path), ("number" = usize, Path)), responses((status = 200), (status = 404)))]
async fn recheck(
    State(desk): records::State,
    Path((id, number)): Path<(String, String)>,
) -> Answer {
    let snapshot = desk.snapshot.load_full();
    let upstream = snapshot.upstreams.iter().find(|upstream| upstream.provider.name == id);
    let upstream = upstream.ok_or_else(|| Refusal::not_found("provider", &id))?;
    let place = number.parse().ok().filter(|number| upstream.provider.keys.recheck(*number));
    let place: usize = place.ok_or_else(|| Refusal::not_found("API key", &number))?;
    let key = shown::api_keys(upstream).into_iter().nth(place).unwrap_or_default();
    Ok(one(StatusCode::OK, None, &key))
}

async fn change(
    desk: &Desk,
    by: &Caller,
    id: &str,
    headers: &HeaderMap,
    make: impl Fn(Option<&Item>) -> Answer<Item> + Send + Sync,
) -> Answer {
    refuse_files(desk, id)?;
    let outcome = items::put(desk, by, Kind::Providers, id, expected(headers)?, make).await?;
    Ok(answer(desk, StatusCode::OK, &outcome))
}

fn make(
    mut given: Map<String, Value>,
    id: &str,
    before: Option<&Item>,
    absent_too: bool,
    by: &Caller,
) -> Answer<Item> {
    given.insert("id".to_owned(), json!(id));
    let mut item = Item::of(given)?;
    let Some(before) = before else { return Ok(item) };
    let kept = item.restore(before, absent_too)?;
    // Else whoever may change a provider could have its secrets sent to a server of its own.
    if let Some(secret) = kept.first().filter(|_| !by.is_operator())
        && let Some(moved) = item.leads_elsewhere(before)
    {
        let message = format!(
            "With another `{moved}` the provider's `{secret}` must be given anew: only the admin key \
             may send those there are elsewhere."
        );
        return Err(Refusal::invalid(Some(secret), message));
    }
    Ok(item)
}

/// A patch may call it `enabled` or `is_enabled`, whatever the item does.
pub fn rename_enabled(patch: &mut Map<String, Value>, item: &Map<String, Value>) {
    for (from, to) in [("enabled", "is_enabled"), ("is_enabled", "enabled")] {
        if item.contains_key(to)
            && !patch.contains_key(to)
            && let Some(value) = patch.remove(from)
        {
            patch.insert(to.to_owned(), value);
        }
    }
}

fn check_name(given: &Map<String, Value>, id: &str) -> Answer<()> {
    if given.get("name").is_some_and(|name| name != id) {
        return Err(Refusal::invalid(Some("name"), "A provider's `name` is its `id`, and stays."));
    }
    Ok(())
}

/// The file's are changed in the file.
fn refuse_files(desk: &Desk, id: &str) -> Answer<()> {
    if !in_force_by_file(desk, id) {
        return Ok(());
    }
    let message = format!("The provider `{id}` is of the configuration's file: change it there.");
    Err(Refusal::conflict("not_dynamic", message))
}

/// Whether the file has a provider of this name.
fn in_force_by_file(desk: &Desk, id: &str) -> bool {
    let snapshot = desk.snapshot.load();
    let config = &snapshot.config;
    config.providers.iter().any(|it| it.name == id && shown::is_of_file(config, it.location))
}

/// Those of the file; `stored` are not of the file, wherever they seem to stand.
fn in_file(desk: &Desk, stored: &[crate::store::Record]) -> Vec<Value> {
    let snapshot = desk.snapshot.load_full();
    let of_file = snapshot.config.providers.iter();
    let of_file = of_file.filter(|it| shown::is_of_file(&snapshot.config, it.location));
    let of_file = of_file.filter(|it| !stored.iter().any(|record| record.id == it.name));
    of_file.map(|provider| with_state(desk, shown::provider(provider))).collect()
}

/// … with how it is now, on this node.
fn with_state(desk: &Desk, mut shown: Map<String, Value>) -> Value {
    let snapshot = desk.snapshot.load_full();
    let id = shown.get("id").and_then(Value::as_str);
    let upstream = snapshot.upstreams.iter().find(|it| Some(it.provider.name.as_str()) == id);
    let state = upstream.map(|upstream| shown::state(upstream));
    shown.insert("state".to_owned(), state.unwrap_or(Value::Null));
    Value::Object(shown)
}

fn answer(desk: &Desk, status: StatusCode, outcome: &Outcome) -> axum::response::Response {
    let record = &outcome.record;
    let mut shown = items::shown(desk, Kind::Providers, record);
    if let Some(warning) = &outcome.warning {
        shown.insert("warning".to_owned(), json!(warning));
    }
    one(status, Some(record.version), &with_state(desk, shown))
}
