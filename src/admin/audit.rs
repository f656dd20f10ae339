//! What happened, row by row: looked for, read, and removed for those who ask that of us.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::desk::Desk;
use super::given::{Path, Query};
use super::moment::Moment;
use super::records::unreachable_store;
use super::refusal::{Answer, Refusal};
use super::{page, records};
use crate::access::limits::Now;
use crate::audit::{self, Audit, MOST, Row, Table};

/// Rows of a page when nothing is said.
const USUAL: u32 = 100;

/// Which rows, newest first.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Ended at this moment or later: RFC 3339 or a date.
    from: Option<String>,
    /// Ended before this moment.
    to: Option<String>,
    /// Of this user, by its id.
    user: Option<String>,
    /// Of the key of this name.
    key: Option<String>,
    /// Of this model, by its name in the configuration.
    model: Option<String>,
    /// At this provider.
    provider: Option<String>,
    /// Answered with this status.
    status: Option<u16>,
    /// Refused or failed with this code.
    error: Option<String>,
    /// Answered with this `x-request-id`.
    request_id: Option<String>,
    /// The id of the last row of the page before.
    after: Option<String>,
    /// Rows; 100 when absent, at most 1000.
    limit: Option<u32>,
}

/// Whose rows.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Whose {
    /// The user's id, as rows have it.
    user: Option<String>,
}

pub fn router() -> OpenApiRouter<Arc<Desk>> {
    OpenApiRouter::new().routes(routes!(list, erase)).routes(routes!(one))
}

/// Rows, newest first.
#[utoipa::path(get, path = "/", params(Which), responses((status = 200), (status = 400)))]
async fn list(State(desk): records::State, Query(which): Query<Which>) -> Answer {
    let mut query = which.query()?;
    let limit = query.limit;
    query.limit += 1;
    let mut rows = table(&desk)?.find(&query).await.map_err(|error| unreachable_store(&error))?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let data: Vec<Value> = rows.iter().map(shown).collect();
    Ok(page::list(&data, more))
}

/// One row.
#[utoipa::path(get, path = "/{id}", params(("id" = String, Path)), responses((status = 200), (status = 404)))]
async fn one(State(desk): records::State, Path(id): Path<String>) -> Answer {
    let found = table(&desk)?.one(&id).await.map_err(|error| unreachable_store(&error))?;
    let row = found.ok_or_else(|| Refusal::not_found("row", &id))?;
    Ok(page::one(StatusCode::OK, None, &shown(&row)))
}

/// Removes all rows of a user that have ended by now: those of the database at once, those of archives
/// soon after.
#[utoipa::path(delete, path = "/", params(Whose), responses((status = 202), (status = 400)))]
async fn erase(State(desk): records::State, Query(whose): Query<Whose>) -> Answer {
    let user = whose.user.filter(|user| !user.is_empty());
    let said = "Say whose rows: `user` is the id of a user.";
    let user = user.ok_or_else(|| Refusal::invalid(Some("user"), said))?;
    let (table, now) = (table(&desk)?, Now::by_clock().0.saturating_add(1));
    // First noted: what follows may be cut short, and is done all the same.
    let noted = table.note_erasure(&kept(&desk)?.id(), &user, now).await;
    noted.map_err(|error| unreachable_store(&error))?;
    // A while's worth: the clerk goes on with the rest.
    let mut removed = 0;
    for _ in 0..20 {
        let some = table.remove_user(&user, now).await;
        match some.map_err(|error| unreachable_store(&error))? {
            0 => break,
            some => removed += some,
        }
    }
    kept(&desk)?.erase();
    let told = json!({ "user": user, "removed": removed, "archives": "pending" });
    Ok((StatusCode::ACCEPTED, Json(told)).into_response())
}

/// The database, when it can be reached.
fn table(desk: &Desk) -> Answer<Table> {
    kept(desk)?.table().ok_or_else(Refusal::store_away)
}

fn kept(desk: &Desk) -> Answer<&Audit> {
    let kept = desk.audit.as_deref().filter(|audit| audit.is_enabled());
    kept.ok_or_else(Refusal::no_audit)
}

/// A row with moments that people can read.
fn shown(row: &Row) -> Value {
    let mut value = serde_json::to_value(row).unwrap_or_default();
    if let Some(members) = value.as_object_mut() {
        let moment = |at: i64| Timestamp::from_millisecond(at).map(|it| format!("{it:.3}")).ok();
        members.insert("at".to_owned(), moment(row.at).into());
        members.insert("ended_at".to_owned(), moment(row.ended()).into());
    }
    value
}

impl Which {
    fn query(self) -> Answer<audit::Query> {
        let moment = |name: &'static str, text: Option<String>| match text {
            None => Ok(None),
            Some(text) => Moment::parse(&text).map(|it| Some(it.0)).ok_or_else(|| {
                Refusal::invalid(Some(name), format!("`{name}` is RFC 3339, or a date."))
            }),
        };
        let limit = self.limit.unwrap_or(USUAL);
        if !(1..MOST + 1).contains(&limit) {
            return Err(Refusal::invalid(Some("limit"), format!("`limit` is from 1 to {MOST}.")));
        }
        Ok(audit::Query {
            from: moment("from", self.from)?,
            to: moment("to", self.to)?,
            before: self.after,
            user: self.user,
            key: self.key,
            model: self.model,
            provider: self.provider,
            status: self.status,
            error: self.error,
            request_id: self.request_id,
            limit,
        })
    }
}
