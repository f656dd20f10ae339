//! What a server's own management offers, called on one replica: only what its provider names.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{RawQuery, State};
use http::StatusCode;
use log::info;
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::desk::Desk;
use super::given::{Given, Maybe, Path};
use super::page::one;
use super::records::{self, By};
use super::refusal::{Answer, Refusal};
use crate::config::Operation;

pub fn router() -> OpenApiRouter<Arc<Desk>> {
    OpenApiRouter::new().routes(routes!(call))
}

/// Calls an operation on one replica of a provider, by the replica's address; the body, if any, and the
/// query go to it. Only what the provider's `operations` name. Tells the replica's status and answer.
#[utoipa::path(post, path = "/{id}/replicas/{replica}/calls/{operation}", params(("id" = String, Path), ("replica" = String, Path), ("operation" = String, Path)), request_body = Object, responses((status = 200), (status = 403), (status = 404), (status = 502)))]
async fn call(
    State(desk): records::State,
    Extension(by): By,
    Path((id, replica, operation)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
    Maybe(Given(body)): Maybe,
) -> Answer {
    let snapshot = desk.snapshot.load_full();
    let upstream = snapshot.upstreams.iter().find(|upstream| upstream.provider.name == id);
    let upstream = upstream.ok_or_else(|| Refusal::not_found("provider", &id))?;
    let known = Operation::named(&operation);
    known.ok_or_else(|| Refusal::not_found("operation", &operation))?;
    let operation = upstream.operation(&operation).ok_or_else(|| {
        let message = format!("The provider's `operations` do not name `{operation}`.");
        Refusal::forbidden(message)
    })?;
    let mut replicas = upstream.pool.replicas().into_iter();
    let found = replicas.find(|known| known.address.to_string() == replica);
    let found = found.ok_or_else(|| Refusal::not_found("replica", &replica))?;
    info!("provider {id}: {} has {} called on {replica}", by.by, operation.name);
    let body = if body.is_empty() { String::new() } else { Value::Object(body).to_string() };
    let called = upstream.call(&found, operation, query.as_deref(), body.into()).await;
    let (status, answer) = called.map_err(|error| {
        let message = format!("The replica did not answer: {}.", error.etype.as_str());
        Refusal::new(StatusCode::BAD_GATEWAY, "upstream_error", message)
    })?;
    // It may have other models now.
    let _listed = upstream.list_models().await;
    let text = String::from_utf8_lossy(&answer);
    let body = serde_json::from_str::<Value>(&text).unwrap_or_else(|_| json!(text));
    Ok(one(StatusCode::OK, None, &json!({ "status": status, "body": body })))
}
