//! Models: those of the file, to be looked at, and those of the store.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Caller;
use super::desk::Desk;
use super::given::{Given, Path, Query, check_id, merge};
use super::items::{self, Outcome};
use super::page::{Page, expected, one};
use super::providers::{items_page, rename_enabled};
use super::records::{self, By};
use super::refusal::{Answer, Refusal};
use super::shape::{Item, Shape};
use super::shown;
use crate::access::key;
use crate::config;
use crate::store::{Expected, Kind};

pub fn router() -> OpenApiRouter<Arc<Desk>> {
    OpenApiRouter::new()
        .routes(routes!(index, create))
        .routes(routes!(show, replace, update, remove))
}

/// Models of the file and of the store, by id.
#[utoipa::path(get, path = "/", params(Page), responses((status = 200)))]
async fn index(State(desk): records::State, Query(page): Query<Page>) -> Answer {
    let limit = page.limit()? as usize;
    let mut all = in_file(&desk);
    for record in items::stored(&desk, Kind::Models).await? {
        all.push(Value::Object(items::shown(&desk, Kind::Models, &record)));
    }
    Ok(items_page(all, &page, limit))
}

/// Adds a model to the store, as it would stand in the configuration's file.
#[utoipa::path(post, path = "/", request_body = Object, responses((status = 201), (status = 400), (status = 409)))]
async fn create(State(desk): records::State, Extension(by): By, given: Given) -> Answer {
    let given = items::settable(given.0);
    let word = |name: &str| given.get(name).and_then(Value::as_str).map(str::to_owned);
    let id = word("id").or_else(|| word("name")).unwrap_or_else(|| key::new_id("model"));
    check_id(&id)?;
    if in_file(&desk).iter().any(|model| model["id"] == *id) {
        return Err(Refusal::taken(format!("The configuration has a model `{id}` already.")));
    }
    let new = move |_: Option<&Item>| read(given.clone());
    let outcome = items::put(&desk, &by, Kind::Models, &id, Expected::Absent, new).await?;
    Ok(answer(&desk, StatusCode::CREATED, &outcome))
}

/// One model.
#[utoipa::path(get, path = "/{id}", params(("id" = String, Path)), responses((status = 200), (status = 404)))]
async fn show(State(desk): records::State, Path(id): Path<String>) -> Answer {
    if let Some(found) = in_file(&desk).into_iter().find(|model| model["id"] == *id) {
        return Ok(one(StatusCode::OK, None, &found));
    }
    let stored = items::stored(&desk, Kind::Models).await?;
    let record = stored.iter().find(|record| record.id == id);
    let record = record.ok_or_else(|| Refusal::not_found("model", &id))?;
    let shown = Value::Object(items::shown(&desk, Kind::Models, record));
    Ok(one(StatusCode::OK, Some(record.version), &shown))
}

/// Sets all of a model of the store.
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
    change(&desk, &by, &id, &headers, move |_| read(given.clone())).await
}

/// Changes a model of the store by a merge patch (RFC 7396): what is null goes, what is absent stays.
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
    let patched = move |before: Option<&Item>| {
        let mut members = before.map(items::sent).unwrap_or_default();
        let mut patch = patch.clone();
        rename_enabled(&mut patch, &members);
        merge(&mut members, patch);
        read(members)
    };
    change(&desk, &by, &id, &headers, patched).await
}

/// Removes a model from the store, when nothing in the configuration needs it.
#[utoipa::path(delete, path = "/{id}", params(("id" = String, Path)), responses((status = 200), (status = 400), (status = 404), (status = 412)))]
async fn remove(
    State(desk): records::State,
    Extension(by): By,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    refuse_files(&desk, &id)?;
    let gone = items::remove(&desk, &by, Kind::Models, &id, expected(&headers)?).await?;
    Ok(one(StatusCode::OK, None, &gone))
}

async fn change(
    desk: &Desk,
    by: &Caller,
    id: &str,
    headers: &HeaderMap,
    make: impl Fn(Option<&Item>) -> Answer<Item> + Send + Sync,
) -> Answer {
    refuse_files(desk, id)?;
    let outcome = items::put(desk, by, Kind::Models, id, expected(headers)?, make).await?;
    Ok(answer(desk, StatusCode::OK, &outcome))
}

/// A model is written in one shape only.
fn read(given: Map<String, Value>) -> Answer<Item> {
    let item = Item::of(given)?;
    if item.shape == Shape::LlmProxy {
        let message =
            "These are members of a provider; a model has `name` or `match`, and `targets`.";
        return Err(Refusal::invalid(None, message));
    }
    Ok(item)
}

/// The file's are changed in the file, and those a provider maps with that provider.
fn refuse_files(desk: &Desk, id: &str) -> Answer<()> {
    let snapshot = desk.snapshot.load();
    let of_file = |model: &&config::Model| shown::is_of_file(&snapshot.config, model.location);
    let mut of_file = snapshot.config.models.iter().filter(of_file);
    if !of_file.any(|model| shown::model_id(model) == id) {
        return Ok(());
    }
    let message = format!("The model `{id}` is of the configuration's file: change it there.");
    Err(Refusal::conflict("not_dynamic", message))
}

fn in_file(desk: &Desk) -> Vec<Value> {
    let snapshot = desk.snapshot.load_full();
    let of_file = snapshot.config.models.iter();
    let of_file = of_file.filter(|it| shown::is_of_file(&snapshot.config, it.location));
    of_file.map(|model| Value::Object(shown::model(model))).collect()
}

fn answer(desk: &Desk, status: StatusCode, outcome: &Outcome) -> Response {
    let record = &outcome.record;
    let mut shown = items::shown(desk, Kind::Models, record);
    if let Some(warning) = &outcome.warning {
        shown.insert("warning".to_owned(), json!(warning));
    }
    one(status, Some(record.version), &Value::Object(shown))
}
