//! What was used, rolled up by the hour.

use std::collections::BTreeMap;
use std::fmt::Write;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::connect::{CALL, within};
use super::rows::{CHUNK, name, places, read, stored};
use super::{Store, StoreError};

/// The most rows an answer has: ten thousand, and one that tells that there are more.
const MOST_ROWS: u32 = 10_001;
/// Days from March 1st, 1968, to 1970: a year that begins in March has its odd day at its end, and so has
/// a row of four of them.
const DAY: &str = "(hour / 24 + 671)";

/// Usage to add to the roll-up. Tokens; money in nanodollars.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageDelta {
    /// Hours since 1970.
    pub hour: i64,
    pub key: String,
    pub user: String,
    pub model: String,
    pub provider: String,
    pub requests: u64,
    pub prompt: u64,
    pub completion: u64,
    pub cached: u64,
    pub reasoning: u64,
    pub cost_nanos: u64,
}

/// What usage is told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    Hour,
    Day,
    Month,
    Key,
    User,
    Model,
    Provider,
}

// === impl Group ===

impl Group {
    /// All of them, times first.
    pub const ALL: [Self; 7] =
        [Self::Hour, Self::Day, Self::Month, Self::Key, Self::User, Self::Model, Self::Provider];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
            Self::Key => "key",
            Self::User => "user",
            Self::Model => "model",
            Self::Provider => "provider",
        }
    }

    /// The group of this word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.as_str() == word)
    }

    fn column(self) -> String {
        let column = match self {
            Self::Hour => "hour",
            Self::Day => "hour / 24",
            // Whole numbers alone, which every database divides alike: good until March 2100.
            Self::Month => {
                let year = format!("((4 * {DAY} + 3) / 1461)");
                let day_of_year = format!("({DAY} - 1461 * {year} / 4)");
                return format!("({year} * 12 + (5 * {day_of_year} + 2) / 153 - 22)");
            }
            Self::Key => "key_id",
            Self::User => "user_id",
            Self::Model => "model",
            Self::Provider => "provider",
        };
        column.to_owned()
    }
}

/// A question about usage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageQuery {
    /// Hours since 1970; from the first, before the second.
    pub from: i64,
    pub to: i64,
    pub key: Option<String>,
    pub user: Option<String>,
    pub model: Option<String>,
    pub provider: Option<String>,
    /// None: one row with everything.
    pub group_by: Vec<Group>,
    /// Rows; at most 10,001.
    pub limit: u32,
    /// Rows that are passed over first.
    pub offset: u32,
}

/// Usage of one group: members it is not grouped by are `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageRow {
    /// Hours since 1970.
    pub hour: Option<i64>,
    /// Days since 1970.
    pub day: Option<i64>,
    /// Months since January 1970.
    pub month: Option<i64>,
    pub key: Option<String>,
    pub user: Option<String>,
    pub model: Option<String>,
    pub provider: Option<String>,
    pub requests: u64,
    pub prompt: u64,
    pub completion: u64,
    pub cached: u64,
    pub reasoning: u64,
    pub cost_nanos: u64,
}

// === impl Store ===

impl Store {
    /// Usage by the groups asked for, in their order.
    pub async fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
        within(CALL, async {
            let mut link = self.reader().await?;
            let outcome = find(link.on()?, query).await;
            link.after(&outcome);
            outcome
        })
        .await
    }
}

async fn find(on: &mut AnyConnection, query: &UsageQuery) -> Result<Vec<UsageRow>, StoreError> {
    let mut groups: Vec<Group> = Vec::new();
    for group in &query.group_by {
        if !groups.contains(group) {
            groups.push(*group);
        }
    }
    let filters = [
        ("key_id", &query.key),
        ("user_id", &query.user),
        ("model", &query.model),
        ("provider", &query.provider),
    ];
    let filters: Vec<_> =
        filters.iter().filter_map(|(column, value)| Some((column, value.as_deref()?))).collect();

    // Columns are words of this file; what was asked for is bound.
    let columns: Vec<String> = groups.iter().map(|group| group.column()).collect();
    let mut sql = "SELECT ".to_owned();
    for column in &columns {
        sql.push_str(column);
        sql.push_str(", ");
    }
    let sums = ["requests", "prompt", "completion", "cached", "reasoning", "cost_nanos"];
    let sums = sums.map(|sum| format!("CAST(COALESCE(SUM({sum}), 0) AS BIGINT)"));
    sql.push_str(&sums.join(", "));
    sql.push_str(" FROM forebay_usage WHERE hour >= $1 AND hour < $2");
    for (place, (column, _)) in (5..).zip(&filters) {
        // Writing to a text cannot fail.
        _ = write!(sql, " AND {column} = ${place}");
    }
    if !columns.is_empty() {
        let columns = columns.join(", ");
        _ = write!(sql, " GROUP BY {columns} ORDER BY {columns}");
    }
    sql.push_str(" LIMIT $3 OFFSET $4");

    let mut asked = sqlx::query(AssertSqlSafe(sql)).bind(query.from).bind(query.to);
    asked = asked.bind(i64::from(query.limit.min(MOST_ROWS))).bind(i64::from(query.offset));
    for (_, value) in &filters {
        asked = asked.bind(*value);
    }
    let rows = asked.fetch_all(on).await?;
    rows.iter().map(|row| usage_row(row, &groups)).collect()
}

fn usage_row(row: &AnyRow, groups: &[Group]) -> Result<UsageRow, StoreError> {
    let mut found = UsageRow::default();
    for (place, group) in groups.iter().enumerate() {
        match group {
            Group::Hour => found.hour = row.try_get(place)?,
            Group::Day => found.day = row.try_get(place)?,
            Group::Month => found.month = row.try_get(place)?,
            Group::Key => found.key = row.try_get(place)?,
            Group::User => found.user = row.try_get(place)?,
            Group::Model => found.model = row.try_get(place)?,
            Group::Provider => found.provider = row.try_get(place)?,
        }
    }
    let sum = |place| Ok::<_, StoreError>(read(row.try_get(groups.len() + place)?));
    found.requests = sum(0)?;
    found.prompt = sum(1)?;
    found.completion = sum(2)?;
    found.cached = sum(3)?;
    found.reasoning = sum(4)?;
    found.cost_nanos = sum(5)?;
    Ok(found)
}

/// Adds to the roll-up.
pub(super) async fn add_usage(
    on: &mut AnyConnection,
    deltas: &[UsageDelta],
) -> Result<(), StoreError> {
    // A statement may not touch a row twice; and sorted, see where this is called.
    let mut sums: BTreeMap<(i64, [String; 4]), [u64; 6]> = BTreeMap::new();
    for it in deltas {
        let names = [&it.key, &it.user, &it.model, &it.provider].map(|text| name(text));
        let amounts =
            [it.requests, it.prompt, it.completion, it.cached, it.reasoning, it.cost_nanos];
        let sum = sums.entry((it.hour, names)).or_default();
        for (sum, amount) in sum.iter_mut().zip(amounts) {
            *sum = sum.saturating_add(amount);
        }
    }
    let sums: Vec<_> = sums.into_iter().collect();
    for chunk in sums.chunks(CHUNK / 2) {
        let sql = format!(
            "INSERT INTO forebay_usage (hour, key_id, user_id, model, provider, requests, prompt, \
             completion, cached, reasoning, cost_nanos) VALUES {} \
             ON CONFLICT (hour, key_id, user_id, model, provider) DO UPDATE SET \
             requests = forebay_usage.requests + excluded.requests, \
             prompt = forebay_usage.prompt + excluded.prompt, \
             completion = forebay_usage.completion + excluded.completion, \
             cached = forebay_usage.cached + excluded.cached, \
             reasoning = forebay_usage.reasoning + excluded.reasoning, \
             cost_nanos = forebay_usage.cost_nanos + excluded.cost_nanos",
            places(chunk.len(), 11)
        );
        let mut rows = sqlx::query(AssertSqlSafe(sql)).persistent(chunk.len() == CHUNK / 2);
        for ((hour, names), amounts) in chunk {
            rows = rows.bind(*hour);
            for name in names {
                rows = rows.bind(name.as_str());
            }
            for amount in amounts {
                rows = rows.bind(stored(*amount));
            }
        }
        rows.execute(&mut *on).await?;
    }
    Ok(())
}
