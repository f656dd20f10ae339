//! The schema, step by step, forward only. All steps that are missing are one transaction.

use sqlx::{AnyConnection, AssertSqlSafe, Connection};

use super::StoreError;
use super::connect::{Backend, now, settle};

/// Tables that belong together: what has been released of their steps is never changed.
pub(crate) struct Schema {
    /// Where the steps are kept that were taken.
    pub table: &'static str,
    /// Their names and texts in their order: the first is schema 1.
    pub steps: &'static [(&'static str, &'static str)],
    /// What SQLite is told beside the usual.
    pub sqlite: &'static str,
    /// Any number, but the same in every process.
    pub lock: i64,
}

/// The tables of records and counts.
pub(super) static RECORDS: Schema = Schema {
    table: "forebay_schema",
    steps: &[
        ("start", include_str!("migrations/0001_start.sql")),
        ("objects", include_str!("migrations/0002_objects.sql")),
    ],
    sqlite: "",
    lock: 7_310_314_026_173_622,
};

/// How long PostgreSQL may take to change its tables.
const PATIENCE: &str = "SET LOCAL statement_timeout = '60s'; SET LOCAL lock_timeout = '60s'";

impl Schema {
    /// The schema that this version works with.
    fn known(&self) -> i64 {
        i64::try_from(self.steps.len()).unwrap_or(i64::MAX)
    }
}

/// Refuses what must not be touched. Writes nothing.
pub(super) async fn look(
    on: &mut AnyConnection,
    backend: Backend,
    of: &Schema,
) -> Result<(), StoreError> {
    let (found, known) = (schema(on, backend, of).await?, of.known());
    if found > known {
        return Err(StoreError::NewerSchema { found, known });
    }
    if found == 0 && backend == Backend::File {
        // One statement: another process may make the schema between two.
        let tables = "SELECT COUNT(*) FROM sqlite_master WHERE NOT EXISTS \
            (SELECT 1 FROM sqlite_master WHERE name = $1)";
        let tables = sqlx::query_scalar(tables).bind(of.table);
        let tables: i64 = tables.fetch_one(&mut *on).await?;
        if tables > 0 {
            return Err(StoreError::Corrupt("it is a database of something else".into()));
        }
    }
    Ok(())
}

/// Takes the steps that are missing.
pub(super) async fn migrate(
    on: &mut AnyConnection,
    backend: Backend,
    of: &Schema,
) -> Result<(), StoreError> {
    if schema(on, backend, of).await? == of.known() {
        return Ok(());
    }
    let begin = if backend == Backend::Postgres { "BEGIN" } else { "BEGIN IMMEDIATE" };
    let mut change = on.begin_with(begin).await?;
    let outcome = steps(&mut change, backend, of).await;
    settle(change, outcome).await
}

async fn steps(on: &mut AnyConnection, backend: Backend, of: &Schema) -> Result<(), StoreError> {
    if backend == Backend::Postgres {
        let lock = format!("{PATIENCE}; SELECT pg_advisory_xact_lock({})", of.lock);
        sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *on).await?;
    }
    // Another process may have been here while this one waited.
    look(on, backend, of).await?;
    let found = schema(on, backend, of).await?;
    let at = now(on, backend).await?;
    let bytes = if backend == Backend::Postgres { "COLLATE \"C\"" } else { "" };
    for ((name, text), version) in of.steps.iter().zip(1_i64..) {
        if version <= found {
            continue;
        }
        sqlx::raw_sql(AssertSqlSafe(text.replace("{bytes}", bytes))).execute(&mut *on).await?;
        fault!("store::migrate");
        let done = format!("INSERT INTO {} (version, name, at) VALUES ($1, $2, $3)", of.table);
        sqlx::query(AssertSqlSafe(done))
            .bind(version)
            .bind(*name)
            .bind(at)
            .execute(&mut *on)
            .await?;
        log::info!("{} is at {version} ({name})", of.table);
    }
    Ok(())
}

/// The schema it is at; 0: there is none yet.
pub(super) async fn schema(
    on: &mut AnyConnection,
    backend: Backend,
    of: &Schema,
) -> Result<i64, StoreError> {
    let there = match backend {
        // Not `to_regclass`: it may remember that there was none, from before the lock.
        Backend::Postgres => {
            "SELECT COUNT(*) FROM pg_tables WHERE tablename = $1 \
                AND schemaname = ANY (current_schemas(false))"
        }
        Backend::File | Backend::Memory => "SELECT COUNT(*) FROM sqlite_master WHERE name = $1",
    };
    let there: i64 = sqlx::query_scalar(there).bind(of.table).fetch_one(&mut *on).await?;
    if there == 0 {
        return Ok(0);
    }
    let latest = format!("SELECT COALESCE(MAX(version), 0) FROM {}", of.table);
    Ok(sqlx::query_scalar(AssertSqlSafe(latest)).fetch_one(&mut *on).await?)
}
