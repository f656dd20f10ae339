//! What was used, by hour, day, month, key, user, model and provider; as JSON, or as CSV for a table.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
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
/// Rows behind this one are not asked for one page after the other.
const DEEPEST: u32 = 10_000_000;
/// Where the next page of a CSV begins.
static NEXT_OFFSET: HeaderName = HeaderName::from_static("x-forebay-next-offset");

/// Which usage.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// From the hour this moment is in: RFC 3339 or a date; thirty days ago when absent.
    from: Option<String>,
    /// Before the hour this moment is in; now when absent, with the hour under way.
    to: Option<String>,
    /// Any of `hour`, `day`, `month`, `key`, `user`, `model`, `provider`, with commas between.
    group_by: Option<String>,
    /// Of this key only, by its id.
    key: Option<String>,
    /// Of this user only, by its id.
    user: Option<String>,
    /// Of this model only.
    model: Option<String>,
    /// At this provider only.
    provider: Option<String>,
    /// `json` or `csv`; when absent, what `Accept` prefers of the two.
    format: Option<String>,
    /// Rows; at most 10000.
    limit: Option<u32>,
    /// Rows that were on the pages before; what `next_offset` said.
    offset: Option<u32>,
}

pub fn router() -> OpenApiRouter<Arc<Desk>> {
    OpenApiRouter::new().routes(routes!(show))
}

/// Requests, tokens and money.
#[utoipa::path(get, path = "/usage", params(Which), responses((status = 200), (status = 400)))]
async fn show(
    State(desk): records::State,
    headers: HeaderMap,
    Query(which): Query<Which>,
) -> Answer {
    let mut query = which.query(Now::by_clock())?;
    let csv = match which.format.as_deref() {
        None => prefers_csv(&headers),
        Some("json") => false,
        Some("csv") => true,
        Some(_) => return Err(Refusal::invalid(Some("format"), "`format` is json or csv.")),
    };
    let limit = query.limit;
    // One more tells whether there is one.
    query.limit += 1;
    let rows = desk.store()?.usage(&query).await;
    let mut rows = rows.map_err(|error| unreachable_store(&error))?;
    let next_offset = (rows.len() > limit as usize).then(|| query.offset.saturating_add(limit));
    rows.truncate(limit as usize);
    if csv {
        return Ok(as_csv(&rows, &query.group_by, next_offset));
    }
    let data: Vec<Value> = rows.iter().map(|row| as_json(row, &query.group_by)).collect();
    let shown = json!({
        "object": "list",
        "from": hour(query.from),
        "to": hour(query.to),
        "data": data,
        "truncated": next_offset.is_some(),
        "next_offset": next_offset,
    });
    Ok(Json(shown).into_response())
}

/// Whether CSV is named, and JSON is not named before it.
fn prefers_csv(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok());
    let mut kinds = lines.flat_map(|line| line.split(','));
    let kind = |kind: &str| kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let known = kinds.find_map(|one| match kind(one).as_str() {
        "text/csv" => Some(true),
        "application/json" => Some(false),
        _ => None,
    });
    known.unwrap_or(false)
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
        let offset = self.offset.unwrap_or(0);
        if offset > DEEPEST {
            let said = format!("`offset` is at most {DEEPEST}.");
            return Err(Refusal::invalid(Some("offset"), said));
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
            offset,
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
        Group::Month => json!(row.month.map(month)),
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

fn as_csv(rows: &[UsageRow], groups: &[Group], next_offset: Option<u32>) -> Response {
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
    let mut answer = (head, csv).into_response();
    if let Some(offset) = next_offset {
        answer.headers_mut().insert(NEXT_OFFSET.clone(), HeaderValue::from(offset));
    }
    answer
}

/// A text as a cell (RFC 4180), and not as a formula: callers choose names of models.
pub fn cell(text: &str) -> String {
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

/// A month since January 1970, as in `2026-01`.
fn month(month: i64) -> String {
    format!("{:04}-{:02}", 1970 + month.div_euclid(12), month.rem_euclid(12) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_comes_to_those_who_name_it_first() {
        let prefers = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            prefers_csv(&headers)
        };
        assert!(prefers("text/csv"));
        assert!(prefers("text/html, Text/CSV; q=0.9, application/json"));
        assert!(!prefers("application/json, text/csv"));
        assert!(!prefers("*/*"));
        assert!(!prefers_csv(&HeaderMap::new()));
    }

    #[test]
    fn a_month_is_a_year_and_a_number() {
        assert_eq!([0, 11, 12, 672].map(month), ["1970-01", "1970-12", "1971-01", "2026-01"]);
    }

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
            offset: None,
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
