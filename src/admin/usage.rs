//! What was used, by hour, day, key, user, model and provider; as JSON, or as CSV for a table.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::desk::Desk;
use super::given::Query;
use super::moment::Moment;
use super::records::{self, unreachable_store};
use super::refusal::{Answer, Refusal};
use crate::access::limits::Now;
use crate::config::format_usd;
use crate::store::{Group, UsageQuery, UsageRow};

const HOUR_MS: i64 = 3_600_000;
/// Hours looked back on when nothing is said: thirty days.
const USUAL: i64 = 30 * 24;
const MOST: u32 = 10_000;

/// Which usage.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// From the hour this moment is in: RFC 3339 or a date; thirty days ago when absent.
    from: Option<String>,
    /// Before the hour this moment is in; now when absent, with the hour under way.
    to: Option<String>,
    /// Any of `hour`, `day`, `key`, `user`, `model`, `provider`, with commas between.
    group_by: Option<String>,
    /// Of this key only, by its id.
    key: Option<String>,
    /// Of this user only, by its id.
    user: Option<String>,
    /// Of this model only.
    model: Option<String>,
    /// At this provider only.
    provider: Option<String>,
    /// `json` or `csv`.
    format: Option<String>,
    /// Rows; at most 10000.
    limit: Option<u32>,
}

pub fn router() -> OpenApiRouter<Arc<Desk>> {
    OpenApiRouter::new().routes(routes!(show))
}

/// Requests, tokens and money.
#[utoipa::path(get, path = "/usage", params(Which), responses((status = 200), (status = 400)))]
async fn show(State(desk): records::State, Query(which): Query<Which>) -> Answer {
    let query = which.query(Now::by_clock())?;
    let csv = match which.format.as_deref() {
        None | Some("json") => false,
        Some("csv") => true,
        Some(_) => return Err(Refusal::invalid(Some("format"), "`format` is json or csv.")),
    };
    let rows = desk.store()?.usage(&query).await.map_err(|error| unreachable_store(&error))?;
    if csv {
        return Ok(as_csv(&rows, &query.group_by));
    }
    let data: Vec<Value> = rows.iter().map(|row| as_json(row, &query.group_by)).collect();
    let truncated = rows.len() >= query.limit as usize;
    let shown = json!({
        "object": "list",
        "from": hour(query.from),
        "to": hour(query.to),
        "data": data,
        "truncated": truncated,
    });
    Ok(Json(shown).into_response())
}

impl Which {
    fn query(&self, now: Now) -> Answer<UsageQuery> {
        let moment = |name: &'static str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => {
                Moment::parse(text).map(|it| Some(it.0.div_euclid(HOUR_MS))).ok_or_else(|| {
                    Refusal::invalid(Some(name), format!("`{name}` is RFC 3339, or a date."))
                })
            }
        };
        let to = moment("to", &self.to)?.unwrap_or(now.0.div_euclid(HOUR_MS) + 1);
        let from = moment("from", &self.from)?.unwrap_or(to.saturating_sub(USUAL));
        if from >= to {
            return Err(Refusal::invalid(Some("from"), "`from` must be before `to`."));
        }
        let mut group_by = Vec::new();
        let words = self.group_by.iter().flat_map(|words| words.split(','));
        for word in words.map(str::trim).filter(|word| !word.is_empty()) {
            let known: Vec<&str> = Group::ALL.iter().map(|group| group.as_str()).collect();
            let said = format!("`group_by` takes any of {}.", known.join(", "));
            let group = Group::parse(word);
            let group = group.ok_or_else(|| Refusal::invalid(Some("group_by"), said))?;
            if !group_by.contains(&group) {
                group_by.push(group);
            }
        }
        let limit = self.limit.unwrap_or(MOST);
        if !(1..=MOST).contains(&limit) {
            return Err(Refusal::invalid(Some("limit"), format!("`limit` is from 1 to {MOST}.")));
        }
        Ok(UsageQuery {
            from,
            to,
            key: self.key.clone(),
            user: self.user.clone(),
            model: self.model.clone(),
            provider: self.provider.clone(),
            group_by,
            limit,
        })
    }
}

/// What a row is of, in the order asked for.
fn group_of(row: &UsageRow, group: Group) -> Value {
    match group {
        Group::Hour => json!(row.hour.and_then(hour)),
        Group::Day => {
            json!(row.day.and_then(|day| hour(day.checked_mul(24)?)?.get(..10).map(str::to_owned)))
        }
        Group::Key => json!(row.key),
        Group::User => json!(row.user),
        Group::Model => json!(row.model),
        Group::Provider => json!(row.provider),
    }
}

fn as_json(row: &UsageRow, groups: &[Group]) -> Value {
    let mut shown = Map::new();
    for group in groups {
        shown.insert(group.as_str().to_owned(), group_of(row, *group));
    }
    for (name, count) in counts(row) {
        shown.insert(name.to_owned(), json!(count));
    }
    // A text stays exact.
    shown.insert("cost_usd".to_owned(), json!(format_usd(row.cost_nanos)));
    Value::Object(shown)
}

fn counts(row: &UsageRow) -> [(&'static str, u64); 5] {
    [
        ("requests", row.requests),
        ("prompt_tokens", row.prompt),
        ("completion_tokens", row.completion),
        ("cached_tokens", row.cached),
        ("reasoning_tokens", row.reasoning),
    ]
}

fn as_csv(rows: &[UsageRow], groups: &[Group]) -> Response {
    let mut csv = String::new();
    let names = groups.iter().map(|group| group.as_str());
    let counted = counts(&UsageRow::default()).map(|(name, _)| name);
    let head: Vec<&str> = names.chain(counted).chain(["cost_usd"]).collect();
    csv.push_str(&head.join(","));
    csv.push_str("\r\n");
    for row in rows {
        for group in groups {
            let value = group_of(row, *group);
            csv.push_str(&cell(value.as_str().unwrap_or_default()));
            csv.push(',');
        }
        for (_, count) in counts(row) {
            let _written = write!(csv, "{count},");
        }
        csv.push_str(&format_usd(row.cost_nanos));
        csv.push_str("\r\n");
    }
    let head = [
        (CONTENT_TYPE, "text/csv; charset=utf-8"),
        (CONTENT_DISPOSITION, "attachment; filename=\"usage.csv\""),
    ];
    (head, csv).into_response()
}

/// A text as a cell (RFC 4180), and not as a formula: callers choose names of models.
fn cell(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\r', '\n']) {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text
}

/// An hour since 1970 in words.
fn hour(hour: i64) -> Option<String> {
    let at = Timestamp::from_millisecond(hour.checked_mul(HOUR_MS)?).ok()?;
    Some(at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        assert_eq!(cell("gpt-4"), "gpt-4");
        assert_eq!(cell("=1+1"), "'=1+1");
        assert_eq!(cell("@x"), "'@x");
        assert_eq!(cell("a,b"), "\"a,b\"");
        assert_eq!(cell("-a\"b"), "\"'-a\"\"b\"");
    }

    #[test]
    fn a_question_without_words_is_about_thirty_days() {
        let which = |from: Option<&str>, group_by: Option<&str>| Which {
            from: from.map(str::to_owned),
            to: None,
            group_by: group_by.map(str::to_owned),
            key: None,
            user: None,
            model: None,
            provider: None,
            format: None,
            limit: None,
        };
        let query = which(None, None).query(Now(10_000 * HOUR_MS + 5)).unwrap();
        assert_eq!((query.from, query.to), (10_001 - USUAL, 10_001));
        let query =
            which(Some("1970-01-02"), Some("day, key,day")).query(Now(100 * HOUR_MS)).unwrap();
        assert_eq!((query.from, query.group_by), (24, vec![Group::Day, Group::Key]));
        assert!(which(None, Some("colour")).query(Now(0)).is_err());
        assert!(which(Some("2999-01-01"), None).query(Now(0)).is_err());
    }
}
