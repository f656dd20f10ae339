//! The schema, step by step, forward only. All steps that are missing are one transaction.

use sqlx::{AnyConnection, AssertSqlSafe, Connection};

use super::StoreError;
use super::connect::{Backend, now, settle};

/// The steps in their order: the first is schema 1. What has been released is never changed.
const STEPS: &[(&str, &str)] = &[
    ("start", include_str!("migrations/0001_start.sql")),
    ("objects", include_str!("migrations/0002_objects.sql")),
];

/// Any number, but the same in every process.
const LOCK: &str = "SET LOCAL statement_timeout = '60s'; SET LOCAL lock_timeout = '60s'; \
    SELECT pg_advisory_xact_lock(7310314026173622)";

/// The schema that this version works with.
fn known() -> i64 {
    i64::try_from(STEPS.len()).unwrap_or(i64::MAX)
}

/// Refuses what must not be touched. Writes nothing.
pub(super) async fn look(on: &mut AnyConnection, backend: Backend) -> Result<(), StoreError> {
    let found = schema(on, backend).await?;
    if found > known() {
        return Err(StoreError::NewerSchema { found, known: known() });
    }
    if found == 0 && backend == Backend::File {
        // One statement: another process may make the schema between two.
        let tables = "SELECT COUNT(*) FROM sqlite_master WHERE NOT EXISTS \
            (SELECT 1 FROM sqlite_master WHERE name = 'forebay_schema')";
        let tables: i64 = sqlx::query_scalar(tables).fetch_one(&mut *on).await?;
        if tables > 0 {
            return Err(StoreError::Corrupt("it is a database of something else".into()));
        }
    }
    Ok(())
}

/// Takes the steps that are missing.
pub(super) async fn migrate(on: &mut AnyConnection, backend: Backend) -> Result<(), StoreError> {
    if schema(on, backend).await? == known() {
        return Ok(());
    }
    let begin = if backend == Backend::Postgres { "BEGIN" } else { "BEGIN IMMEDIATE" };
    let mut change = on.begin_with(begin).await?;
    let outcome = steps(&mut change, backend).await;
    settle(change, outcome).await
}

async fn steps(on: &mut AnyConnection, backend: Backend) -> Result<(), StoreError> {
    if backend == Backend::Postgres {
        sqlx::raw_sql(LOCK).execute(&mut *on).await?;
    }
    // Another process may have been here while this one waited.
    look(on, backend).await?;
    let found = schema(on, backend).await?;
    let at = now(on, backend).await?;
    let bytes = if backend == Backend::Postgres { "COLLATE \"C\"" } else { "" };
    for ((name, text), version) in STEPS.iter().zip(1_i64..) {
        if version <= found {
            continue;
        }
        sqlx::raw_sql(AssertSqlSafe(text.replace("{bytes}", bytes))).execute(&mut *on).await?;
        fault!("store::migrate");
        let done = "INSERT INTO forebay_schema (version, name, at) VALUES ($1, $2, $3)";
        sqlx::query(done).bind(version).bind(*name).bind(at).execute(&mut *on).await?;
        log::info!("the store is at schema {version} ({name})");
    }
    Ok(())
}

/// The schema it is at; 0: there is none yet.
pub(super) async fn schema(on: &mut AnyConnection, backend: Backend) -> Result<i64, StoreError> {
    let there = match backend {
        // Not `to_regclass`: it may remember that there was none, from before the lock.
        Backend::Postgres => {
            "SELECT COUNT(*) FROM pg_tables WHERE tablename = 'forebay_schema' \
                AND schemaname = ANY (current_schemas(false))"
        }
        Backend::File | Backend::Memory => {
            "SELECT COUNT(*) FROM sqlite_master WHERE name = 'forebay_schema'"
        }
    };
    let there: i64 = sqlx::query_scalar(there).fetch_one(&mut *on).await?;
    if there == 0 {
        return Ok(0);
    }
    let latest = "SELECT COALESCE(MAX(version), 0) FROM forebay_schema";
    Ok(sqlx::query_scalar(latest).fetch_one(&mut *on).await?)
}
