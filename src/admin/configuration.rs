//! The configuration in force: what it is, which one, and another one in its place.

use std::sync::Arc;

use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::desk::Desk;
use super::given::Query;
use super::moment::in_words;
use super::records::{self, By, unreachable_store};
use super::refusal::{Answer, Refusal};
use super::shown;

/// Entries of the audit that are shown when nothing is said, and at most.
const USUAL: u32 = 100;
const MOST: u32 = 1000;

pub fn router() -> OpenApiRouter<Arc<Desk>> {
    OpenApiRouter::new()
        .routes(routes!(validate))
        .routes(routes!(reload))
        .routes(routes!(version))
        .routes(routes!(show))
        .routes(routes!(changes))
}

/// Whether a key opens the admin API, and whose it is.
#[utoipa::path(post, path = "/auth/validate", responses((status = 200), (status = 401), (status = 403)))]
async fn validate(Extension(by): By) -> Answer {
    Ok(Json(json!({ "valid": true, "by": by.by, "role": by.role() })).into_response())
}

/// Reads the configuration's file again, and puts it into force when nothing is wrong with it.
#[utoipa::path(post, path = "/config/reload", responses((status = 200), (status = 400)))]
async fn reload(State(desk): records::State) -> Answer {
    desk.steward.reload().await.map_err(Refusal::mistakes)?;
    let mut shown = in_force(&desk);
    shown.insert("status".to_owned(), json!("ok"));
    Ok(Json(shown).into_response())
}

/// Which configuration is in force, since when, and how the last reload ended.
#[utoipa::path(get, path = "/config/version", responses((status = 200)))]
async fn version(State(desk): records::State) -> Answer {
    let mut shown = in_force(&desk);
    if let Some(store) = desk.registry.store() {
        let (schema, revision) = (store.schema().await.ok(), store.revision().await.ok());
        let told = json!({ "schema": schema, "revision": revision });
        shown.insert("store".to_owned(), told);
    }
    Ok(Json(shown).into_response())
}

/// The configuration in force, without its secrets.
#[utoipa::path(get, path = "/config", responses((status = 200)))]
async fn show(State(desk): records::State) -> Answer {
    Ok(Json(shown::configuration(&desk.snapshot.load().config)).into_response())
}

/// Which changes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Those before this revision.
    before: Option<i64>,
    /// Entries; 100 when absent, at most 1000.
    limit: Option<u32>,
}

/// Who changed what in the store, latest first.
#[utoipa::path(get, path = "/changes", params(Which), responses((status = 200)))]
async fn changes(State(desk): records::State, Query(which): Query<Which>) -> Answer {
    let limit = which.limit.unwrap_or(USUAL);
    if !(1..=MOST).contains(&limit) {
        return Err(Refusal::invalid(Some("limit"), format!("`limit` is from 1 to {MOST}.")));
    }
    let found = desk.store()?.changes(which.before, limit.saturating_add(1)).await;
    let mut found = found.map_err(|error| unreachable_store(&error))?;
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let last = found.last().map(|change| change.revision);
    let body = |text: Option<String>| -> Option<Value> { serde_json::from_str(&text?).ok() };
    let shown = found.into_iter().map(|change| {
        json!({
            "revision": change.revision,
            "at": in_words(change.at),
            "by": change.by,
            "kind": change.kind,
            "id": change.id,
            "action": change.action,
            "before": body(change.before),
            "after": body(change.after),
        })
    });
    let data: Vec<Value> = shown.collect();
    let page = json!({ "object": "list", "data": data, "has_more": more, "next_before": last });
    Ok(Json(page).into_response())
}

fn in_force(desk: &Desk) -> Map<String, Value> {
    let snapshot = desk.snapshot.load();
    let last = desk.last_reload.load();
    let last = last.as_deref().map(|reload| {
        json!({
            "outcome": if reload.mistakes.is_empty() { "ok" } else { "failed" },
            "at": shown::at(reload.at),
            "mistakes": reload.mistakes,
        })
    });
    shown::object(json!({
        "version": snapshot.origin.version,
        "loaded_at": shown::at(snapshot.origin.loaded_at),
        "waiting_for_upgrade": snapshot.origin.waiting,
        "last_reload": last,
    }))
}
