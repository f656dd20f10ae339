//! Counters that several nodes add to, and what each has reserved.

use std::collections::{BTreeMap, HashMap};

use futures::TryStreamExt;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::connect::{Backend, CALL, LOAD, now, settle, within};
use super::rows::{CHUNK, list, name, places, read, stored};
use super::usage::add_usage;
use super::{Store, StoreError, UsageDelta};

/// A node that was seen within so many milliseconds lives.
const LIVES: i64 = 10_000;
/// A node that was not seen for so long is given up.
const DEAD: i64 = 60_000;
/// How often what is over is removed.
const TIDY: i64 = 10_000;
/// Counters outlive their end by an hour: nodes' clocks differ.
const LATE: i64 = 3_600_000;
/// A batch is not sent again after a week.
const FORGOTTEN: i64 = 7 * 24 * 3_600_000;

/// What a node has counted since its last batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub spent: Vec<Spent>,
    /// This node's open reservation per counter, absolute. 0 removes it.
    pub reserved: Vec<(String, u64)>,
    pub usage: Vec<UsageDelta>,
}

/// An amount to add to a counter. The unit is the counter's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    pub counter: String,
    pub amount: u64,
    /// Unix milliseconds: from then on nobody asks for this counter.
    pub expires_at: i64,
}

/// Where a counter stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    pub spent: u64,
    /// By nodes that have not been given up, but the one that asks.
    pub reserved_elsewhere: u64,
}

// === impl Store ===

impl Store {
    /// Adds a batch, whole or not at all. A batch counts once per `(node, sequence)`: when its
    /// outcome was lost it may be sent again as it was. `sequence` grows with each batch of a node.
    pub async fn flush(&self, node: &str, sequence: i64, batch: &Batch) -> Result<(), StoreError> {
        within(CALL, async {
            let mut link = self.writer().await?;
            let mut change = link.change().await?;
            let outcome = add(&mut change, self.backend(), node, sequence, batch).await;
            let outcome = settle(change, outcome).await;
            link.after(&outcome);
            outcome
        })
        .await
    }

    /// Where these counters stand, in the order asked. One nobody knows stands at 0.
    pub async fn totals(&self, node: &str, counters: &[String]) -> Result<Vec<Total>, StoreError> {
        within(CALL, async {
            let mut link = self.reader().await?;
            let outcome = totals(link.on()?, node, counters).await;
            link.after(&outcome);
            outcome
        })
        .await
    }

    /// Every counter that has not expired: its name, what was spent, when it expires (Unix
    /// milliseconds).
    pub async fn counters(&self) -> Result<Vec<(String, u64, i64)>, StoreError> {
        within(LOAD, async {
            let mut link = self.reader().await?;
            let outcome = counters(link.on()?, self.backend()).await;
            link.after(&outcome);
            outcome
        })
        .await
    }

    /// Says that this node lives. Returns how many do: those seen within 10 s. Nodes that were not
    /// seen for 60 s are removed with their reservations, and now and then expired counters.
    pub async fn beat(&self, node: &str) -> Result<u32, StoreError> {
        within(CALL, async {
            let mut link = self.writer().await?;
            let outcome = self.beat_on(link.on()?, node).await;
            link.after(&outcome);
            outcome
        })
        .await
    }

    async fn beat_on(&self, on: &mut AnyConnection, node: &str) -> Result<u32, StoreError> {
        let moment = now(on, self.backend()).await?;
        seen(on, node, moment).await?;
        // Each statement by itself: several nodes do this at once, and none waits with a lock in
        // its hands.
        if self.is_untidy(moment, TIDY) {
            tidy(on, moment).await?;
        }
        let living = "SELECT COUNT(*) FROM forebay_nodes WHERE seen_at > $1";
        let living: i64 = sqlx::query_scalar(living).bind(moment - LIVES).fetch_one(on).await?;
        Ok(u32::try_from(living).unwrap_or(u32::MAX))
    }

    /// Says that this node has ended, and reserves nothing any more.
    pub async fn leave(&self, node: &str) -> Result<(), StoreError> {
        within(CALL, async {
            let mut link = self.writer().await?;
            let mut change = link.change().await?;
            let outcome = forget(&mut change, node).await;
            let outcome = settle(change, outcome).await;
            link.after(&outcome);
            outcome
        })
        .await
    }
}

async fn add(
    on: &mut AnyConnection,
    backend: Backend,
    node: &str,
    sequence: i64,
    batch: &Batch,
) -> Result<(), StoreError> {
    let moment = now(on, backend).await?;
    let first = "INSERT INTO forebay_flushes (node, sequence, at) VALUES ($1, $2, $3) \
        ON CONFLICT (node) DO UPDATE SET sequence = excluded.sequence, at = excluded.at \
        WHERE forebay_flushes.sequence < excluded.sequence RETURNING sequence";
    let first = sqlx::query_scalar(first).bind(node).bind(sequence).bind(moment);
    let first: Option<i64> = first.fetch_optional(&mut *on).await?;
    if first.is_none() {
        return Ok(());
    }
    seen(on, node, moment).await?;
    // Sorted, so that nodes that add to the same counters wait for each other in one direction.
    spend(on, &batch.spent).await?;
    reserve(on, node, &batch.reserved).await?;
    add_usage(on, &batch.usage).await
}

async fn seen(on: &mut AnyConnection, node: &str, moment: i64) -> Result<(), StoreError> {
    let seen = "INSERT INTO forebay_nodes (node, seen_at) VALUES ($1, $2) \
        ON CONFLICT (node) DO UPDATE SET seen_at = excluded.seen_at";
    sqlx::query(seen).bind(node).bind(moment).execute(on).await?;
    Ok(())
}

async fn spend(on: &mut AnyConnection, spent: &[Spent]) -> Result<(), StoreError> {
    // A statement may not touch a row twice.
    let mut sums: BTreeMap<String, (u64, i64)> = BTreeMap::new();
    for Spent { counter, amount, expires_at } in spent {
        let sum = sums.entry(name(counter)).or_default();
        *sum = (sum.0.saturating_add(*amount), sum.1.max(*expires_at));
    }
    let sums: Vec<_> = sums.into_iter().collect();
    for chunk in sums.chunks(CHUNK) {
        // Beyond 2^62 a counter stands still, and does not turn over.
        let sql = format!(
            "INSERT INTO forebay_counters (counter, spent, expires_at) VALUES {} \
             ON CONFLICT (counter) DO UPDATE SET \
             spent = CASE WHEN forebay_counters.spent > 4611686018427387904 \
             THEN forebay_counters.spent ELSE forebay_counters.spent + excluded.spent END, \
             expires_at = CASE WHEN forebay_counters.expires_at > excluded.expires_at \
             THEN forebay_counters.expires_at ELSE excluded.expires_at END",
            places(chunk.len(), 3)
        );
        let mut rows = sqlx::query(AssertSqlSafe(sql)).persistent(chunk.len() == CHUNK);
        for (counter, (amount, expires_at)) in chunk {
            rows = rows.bind(counter.as_str()).bind(stored(*amount)).bind(*expires_at);
        }
        rows.execute(&mut *on).await?;
    }
    Ok(())
}

async fn reserve(
    on: &mut AnyConnection,
    node: &str,
    reserved: &[(String, u64)],
) -> Result<(), StoreError> {
    let latest: BTreeMap<String, i64> =
        reserved.iter().map(|(counter, amount)| (name(counter), stored(*amount))).collect();
    let (open, over): (Vec<_>, Vec<_>) = latest.into_iter().partition(|(_, amount)| *amount > 0);
    for chunk in open.chunks(CHUNK) {
        let sql = format!(
            "INSERT INTO forebay_reservations (counter, node, amount) VALUES {} \
             ON CONFLICT (counter, node) DO UPDATE SET amount = excluded.amount",
            places(chunk.len(), 3)
        );
        let mut rows = sqlx::query(AssertSqlSafe(sql)).persistent(chunk.len() == CHUNK);
        for (counter, amount) in chunk {
            rows = rows.bind(counter.as_str()).bind(node).bind(*amount);
        }
        rows.execute(&mut *on).await?;
    }
    for chunk in over.chunks(CHUNK) {
        let sql = format!(
            "DELETE FROM forebay_reservations WHERE node = $1 AND counter IN ({})",
            list(2, chunk.len())
        );
        let mut rows = sqlx::query(AssertSqlSafe(sql)).persistent(chunk.len() == CHUNK).bind(node);
        for (counter, _) in chunk {
            rows = rows.bind(counter.as_str());
        }
        rows.execute(&mut *on).await?;
    }
    Ok(())
}

async fn totals(
    on: &mut AnyConnection,
    node: &str,
    counters: &[String],
) -> Result<Vec<Total>, StoreError> {
    let names: Vec<String> = counters.iter().map(|counter| name(counter)).collect();
    let mut found: HashMap<String, Total> = HashMap::new();
    for chunk in names.chunks(CHUNK) {
        // One statement sees one moment: what moves from reserved to spent is not lost between two.
        let sql = format!(
            "SELECT counter, spent, 0 FROM forebay_counters WHERE counter IN ({0}) UNION ALL \
             SELECT counter, CAST(SUM(amount) AS BIGINT), 1 FROM forebay_reservations \
             WHERE node <> $1 AND counter IN ({0}) GROUP BY counter",
            list(2, chunk.len())
        );
        let mut rows = sqlx::query(AssertSqlSafe(sql)).persistent(chunk.len() == CHUNK).bind(node);
        for counter in chunk {
            rows = rows.bind(counter.as_str());
        }
        for row in rows.fetch_all(&mut *on).await? {
            let total = found.entry(row.try_get(0)?).or_default();
            let (amount, reserved): (i64, i32) = (row.try_get(1)?, small(&row, 2)?);
            if reserved == 1 {
                total.reserved_elsewhere = read(amount);
            } else {
                total.spent = read(amount);
            }
        }
    }
    Ok(names.iter().map(|name| found.get(name).copied().unwrap_or_default()).collect())
}

/// A literal number: four bytes in one database and eight in the other.
fn small(row: &sqlx::any::AnyRow, column: usize) -> Result<i32, StoreError> {
    match row.try_get::<i32, _>(column) {
        Ok(number) => Ok(number),
        Err(_) => Ok(i32::try_from(row.try_get::<i64, _>(column)?).unwrap_or(i32::MAX)),
    }
}

async fn counters(
    on: &mut AnyConnection,
    backend: Backend,
) -> Result<Vec<(String, u64, i64)>, StoreError> {
    let moment = now(on, backend).await?;
    let live = "SELECT counter, spent, expires_at FROM forebay_counters WHERE expires_at > $1";
    let mut rows = sqlx::query(live).bind(moment).fetch(on);
    let mut found = Vec::new();
    while let Some(row) = rows.try_next().await? {
        found.push((row.try_get(0)?, read(row.try_get(1)?), row.try_get(2)?));
    }
    Ok(found)
}

/// Removes what is over.
async fn tidy(on: &mut AnyConnection, moment: i64) -> Result<(), StoreError> {
    let dead = "DELETE FROM forebay_nodes WHERE seen_at < $1";
    sqlx::query(dead).bind(moment - DEAD).execute(&mut *on).await?;
    let orphans = "DELETE FROM forebay_reservations WHERE node NOT IN \
        (SELECT node FROM forebay_nodes)";
    sqlx::query(orphans).execute(&mut *on).await?;
    let expired = "DELETE FROM forebay_counters WHERE expires_at < $1";
    sqlx::query(expired).bind(moment - LATE).execute(&mut *on).await?;
    let forgotten = "DELETE FROM forebay_flushes WHERE at < $1";
    sqlx::query(forgotten).bind(moment - FORGOTTEN).execute(&mut *on).await?;
    Ok(())
}

async fn forget(on: &mut AnyConnection, node: &str) -> Result<(), StoreError> {
    let node_row = "DELETE FROM forebay_nodes WHERE node = $1";
    sqlx::query(node_row).bind(node).execute(&mut *on).await?;
    let reserved = "DELETE FROM forebay_reservations WHERE node = $1";
    sqlx::query(reserved).bind(node).execute(&mut *on).await?;
    Ok(())
}
