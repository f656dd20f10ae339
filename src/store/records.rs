//! Records, and the audit of their changes.

use std::collections::HashMap;

use futures::TryStreamExt;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::connect::{Backend, CALL, LOAD, now, settle, within};
use super::rows::{FEW, places};
use super::{Change, Changed, Expected, Kind, Note, Record, Still, Store, StoreError};

/// The most rows a page has.
const PAGE: u32 = 1_000;
/// What PostgreSQL's listeners hear.
pub(super) const CHANNEL: &str = "forebay";

/// A record to be written without asking what is there.
#[derive(Clone, Copy, Debug)]
pub struct Put<'a> {
    pub kind: Kind,
    pub id: &'a str,
    pub handle: Option<&'a str>,
    pub body: &'a str,
    /// For the audit: JSON without secrets.
    pub after: Option<&'a str>,
}

/// A change as it is written to the audit.
struct Entry<'a> {
    revision: i64,
    at: i64,
    kind: Kind,
    id: &'a str,
    action: &'static str,
    note: Note<'a>,
}

// === impl Store ===

impl Store {
    /// Hands out every record of a kind, by id. Returns the revision from which to ask
    /// [`changed_since`](Self::changed_since): what is handed out is at least as new.
    pub async fn all(
        &self,
        kind: Kind,
        each: &mut (dyn FnMut(Record) + Send),
    ) -> Result<i64, StoreError> {
        within(LOAD, async {
            let mut link = self.reader().await?;
            let outcome = all(link.on()?, self.backend(), kind, each).await;
            link.after(&outcome);
            outcome
        })
        .await
    }

    /// Up to `limit` records by id, at most 1,000: those behind `after`.
    pub async fn list(
        &self,
        kind: Kind,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Record>, StoreError> {
        within(CALL, async {
            let mut link = self.reader().await?;
            let page = "SELECT id, version, handle, body, updated_at FROM forebay_records \
                WHERE kind = $1 AND id > $2 ORDER BY id LIMIT $3";
            let page = sqlx::query(page).bind(kind.as_str()).bind(after.unwrap_or_default());
            let rows = page.bind(i64::from(limit.min(PAGE))).fetch_all(link.on()?).await;
            let rows = rows.map_err(StoreError::from);
            link.after(&rows);
            rows?.iter().map(record).collect()
        })
        .await
    }

    /// One record.
    pub async fn get(&self, kind: Kind, id: &str) -> Result<Option<Record>, StoreError> {
        within(CALL, async {
            let mut link = self.reader().await?;
            let outcome = one(link.on()?, kind, id).await;
            link.after(&outcome);
            outcome
        })
        .await
    }

    /// Writes a record, with its change and the revision in one transaction.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]: it is not as expected. [`StoreError::Taken`]: another record has the
    /// handle.
    pub async fn put(
        &self,
        kind: Kind,
        id: &str,
        handle: Option<&str>,
        body: &str,
        expected: Expected,
        note: Note<'_>,
    ) -> Result<Record, StoreError> {
        let put = Put { kind, id, handle, body, after: note.after };
        self.put_while(Still::ANY, put, expected, note).await
    }

    /// The same, if what it was checked against is as it was: two changes that do not fit together are
    /// never both written.
    ///
    /// # Errors
    /// [`StoreError::Overtaken`]: it is not; else as [`put`](Self::put).
    pub async fn put_while(
        &self,
        still: Still<'_>,
        put: Put<'_>,
        expected: Expected,
        note: Note<'_>,
    ) -> Result<Record, StoreError> {
        within(CALL, async {
            let mut link = self.writer().await?;
            let mut change = link.change().await?;
            let outcome = match hold(&mut change, still).await {
                Ok(()) => write(&mut change, self.backend(), put, expected, note).await,
                Err(error) => Err(error),
            };
            let outcome = settle(change, outcome).await;
            link.after(&outcome);
            outcome
        })
        .await
    }

    /// Writes many records in one transaction, over what is there: all of them or none; of two with
    /// the same id the latter. Returns the revision afterwards.
    ///
    /// # Errors
    /// [`StoreError::Taken`]: another record has the handle of one.
    pub async fn put_many(&self, puts: &[Put<'_>], by: &str) -> Result<i64, StoreError> {
        within(LOAD, async {
            let last: HashMap<_, _> = puts.iter().map(|put| ((put.kind, put.id), put)).collect();
            let mut puts: Vec<Put<'_>> = last.into_values().copied().collect();
            puts.sort_unstable_by_key(|put| (put.kind, put.id));
            let mut link = self.writer().await?;
            let mut change = link.change().await?;
            let outcome = write_many(&mut change, self.backend(), &puts, by).await;
            let outcome = settle(change, outcome).await;
            link.after(&outcome);
            outcome
        })
        .await
    }

    /// Removes a record. `false`: there was none.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]: it is at another version, or not expected to be there.
    pub async fn delete(
        &self,
        kind: Kind,
        id: &str,
        expected: Expected,
        note: Note<'_>,
    ) -> Result<bool, StoreError> {
        self.delete_while(Still::ANY, kind, id, expected, note).await
    }

    /// The same, if what it was checked against is as it was.
    ///
    /// # Errors
    /// [`StoreError::Overtaken`]: it is not; else as [`delete`](Self::delete).
    pub async fn delete_while(
        &self,
        still: Still<'_>,
        kind: Kind,
        id: &str,
        expected: Expected,
        note: Note<'_>,
    ) -> Result<bool, StoreError> {
        within(CALL, async {
            let mut link = self.writer().await?;
            let mut change = link.change().await?;
            let outcome = match hold(&mut change, still).await {
                Ok(()) => remove(&mut change, self.backend(), kind, id, expected, note).await,
                Err(error) => Err(error),
            };
            // What was not there has changed nothing: the revision stays.
            let outcome = match outcome {
                Ok(false) => change.rollback().await.map(|()| false).map_err(StoreError::from),
                outcome => settle(change, outcome).await,
            };
            link.after(&outcome);
            outcome
        })
        .await
    }

    /// How many changes there have been.
    pub async fn revision(&self) -> Result<i64, StoreError> {
        within(CALL, async {
            let mut link = self.reader().await?;
            let outcome = revision(link.on()?).await;
            link.after(&outcome);
            outcome
        })
        .await
    }

    /// The records that were changed after this revision, as they stand now.
    pub async fn changed_since(&self, revision: i64) -> Result<Changed, StoreError> {
        within(LOAD, async {
            let mut link = self.reader().await?;
            let outcome = changed(link.on()?, revision).await;
            link.after(&outcome);
            outcome
        })
        .await
    }

    /// The audit, latest first: up to `limit` entries, at most 1,000, before the revision `before`.
    pub async fn changes(
        &self,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Change>, StoreError> {
        within(CALL, async {
            let mut link = self.reader().await?;
            let page = "SELECT revision, at, changed_by, kind, id, action, body_before, body_after \
                FROM forebay_changes WHERE revision < $1 ORDER BY revision DESC LIMIT $2";
            let page = sqlx::query(page).bind(before.unwrap_or(i64::MAX));
            let rows = page.bind(i64::from(limit.min(PAGE))).fetch_all(link.on()?).await;
            let rows = rows.map_err(StoreError::from);
            link.after(&rows);
            rows?.iter().map(entry).collect()
        })
        .await
    }
}

async fn all(
    on: &mut AnyConnection,
    backend: Backend,
    kind: Kind,
    each: &mut (dyn FnMut(Record) + Send),
) -> Result<i64, StoreError> {
    // Read first: what comes after it is told twice rather than not at all.
    let from = revision(on).await?;
    if backend == Backend::Postgres {
        sqlx::raw_sql("SET statement_timeout = '60s'").execute(&mut *on).await?;
    }
    let every = "SELECT id, version, handle, body, updated_at FROM forebay_records \
        WHERE kind = $1 ORDER BY id";
    let mut rows = sqlx::query(every).bind(kind.as_str()).fetch(&mut *on);
    while let Some(row) = rows.try_next().await? {
        each(record(&row)?);
    }
    drop(rows);
    if backend == Backend::Postgres {
        sqlx::raw_sql("SET statement_timeout = '5s'").execute(&mut *on).await?;
    }
    Ok(from)
}

pub(super) async fn revision(on: &mut AnyConnection) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar("SELECT value FROM forebay_revision").fetch_one(on).await?)
}

async fn one(on: &mut AnyConnection, kind: Kind, id: &str) -> Result<Option<Record>, StoreError> {
    let one = "SELECT id, version, handle, body, updated_at FROM forebay_records \
        WHERE kind = $1 AND id = $2";
    let row = sqlx::query(one).bind(kind.as_str()).bind(id).fetch_optional(on).await?;
    row.as_ref().map(record).transpose()
}

/// Takes the next revisions. Whoever else changes records waits here until this one has ended, so
/// that what is read next stays true.
async fn advance(on: &mut AnyConnection, by: i64) -> Result<i64, StoreError> {
    let next = "UPDATE forebay_revision SET value = value + $1 RETURNING value";
    Ok(sqlx::query_scalar(next).bind(by).fetch_one(on).await?)
}

/// Makes sure that what a change was checked against stays as it was until the change is through.
async fn hold(on: &mut AnyConnection, still: Still<'_>) -> Result<(), StoreError> {
    if still.kinds.is_empty() {
        return Ok(());
    }
    advance(on, 0).await?;
    let since = "SELECT COUNT(*) FROM forebay_changes WHERE revision > $1 AND kind = $2";
    for kind in still.kinds {
        let count = sqlx::query_scalar(since).bind(still.since).bind(kind.as_str());
        let changed: i64 = count.fetch_one(&mut *on).await?;
        if changed > 0 {
            return Err(StoreError::Overtaken);
        }
    }
    Ok(())
}

async fn write(
    on: &mut AnyConnection,
    backend: Backend,
    put: Put<'_>,
    expected: Expected,
    note: Note<'_>,
) -> Result<Record, StoreError> {
    let Put { kind, id, handle, body, .. } = put;
    let revision = advance(on, 1).await?;
    let version = "SELECT version FROM forebay_records WHERE kind = $1 AND id = $2";
    let version = sqlx::query_scalar(version).bind(kind.as_str()).bind(id);
    let current: Option<i64> = version.fetch_optional(&mut *on).await?;
    let fits = match expected {
        Expected::Absent => current.is_none(),
        Expected::Version(version) => current == Some(version),
        Expected::Any => true,
    };
    if !fits {
        return Err(StoreError::Conflict { current });
    }
    let at = now(on, backend).await?;
    let row = "INSERT INTO forebay_records (kind, id, version, handle, body, updated_at) \
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (kind, id) DO UPDATE SET \
        version = excluded.version, handle = excluded.handle, body = excluded.body, \
        updated_at = excluded.updated_at";
    let row = sqlx::query(row).bind(kind.as_str()).bind(id).bind(revision);
    row.bind(handle).bind(body).bind(at).execute(&mut *on).await?;
    let action = if current.is_some() { "update" } else { "create" };
    audit(on, &[Entry { revision, at, kind, id, action, note }]).await?;
    tell(on, backend).await?;
    Ok(Record {
        id: id.to_owned(),
        version: revision,
        handle: handle.map(str::to_owned),
        body: body.to_owned(),
        updated_at: at,
    })
}

async fn write_many(
    on: &mut AnyConnection,
    backend: Backend,
    puts: &[Put<'_>],
    by: &str,
) -> Result<i64, StoreError> {
    let count = i64::try_from(puts.len()).unwrap_or(i64::MAX);
    let last = advance(on, count).await?;
    let at = now(on, backend).await?;
    let mut revision = last - count;
    for chunk in puts.chunks(FEW) {
        let sql = format!(
            "INSERT INTO forebay_records (kind, id, version, handle, body, updated_at) VALUES {} \
             ON CONFLICT (kind, id) DO UPDATE SET version = excluded.version, \
             handle = excluded.handle, body = excluded.body, updated_at = excluded.updated_at",
            places(chunk.len(), 6)
        );
        let mut rows = sqlx::query(AssertSqlSafe(sql)).persistent(chunk.len() == FEW);
        let mut entries = Vec::with_capacity(chunk.len());
        for Put { kind, id, handle, body, after } in chunk {
            revision += 1;
            rows = rows.bind(kind.as_str()).bind(*id).bind(revision);
            rows = rows.bind(*handle).bind(*body).bind(at);
            let note = Note { by, before: None, after: *after };
            entries.push(Entry { revision, at, kind: *kind, id, action: "import", note });
        }
        rows.execute(&mut *on).await?;
        audit(on, &entries).await?;
    }
    tell(on, backend).await?;
    Ok(last)
}

async fn remove(
    on: &mut AnyConnection,
    backend: Backend,
    kind: Kind,
    id: &str,
    expected: Expected,
    note: Note<'_>,
) -> Result<bool, StoreError> {
    let revision = advance(on, 1).await?;
    let version = "SELECT version FROM forebay_records WHERE kind = $1 AND id = $2";
    let version = sqlx::query_scalar(version).bind(kind.as_str()).bind(id);
    let current: Option<i64> = version.fetch_optional(&mut *on).await?;
    let Some(current) = current else {
        return Ok(false);
    };
    let fits = match expected {
        Expected::Absent => false,
        Expected::Version(version) => current == version,
        Expected::Any => true,
    };
    if !fits {
        return Err(StoreError::Conflict { current: Some(current) });
    }
    let row = "DELETE FROM forebay_records WHERE kind = $1 AND id = $2";
    sqlx::query(row).bind(kind.as_str()).bind(id).execute(&mut *on).await?;
    let at = now(on, backend).await?;
    audit(on, &[Entry { revision, at, kind, id, action: "delete", note }]).await?;
    tell(on, backend).await?;
    Ok(true)
}

async fn audit(on: &mut AnyConnection, entries: &[Entry<'_>]) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO forebay_changes \
         (revision, at, changed_by, kind, id, action, body_before, body_after) VALUES {}",
        places(entries.len(), 8)
    );
    let mut rows = sqlx::query(AssertSqlSafe(sql)).persistent(matches!(entries.len(), 1 | FEW));
    for Entry { revision, at, kind, id, action, note } in entries {
        rows = rows.bind(*revision).bind(*at).bind(note.by).bind(kind.as_str()).bind(*id);
        rows = rows.bind(*action).bind(note.before).bind(note.after);
    }
    rows.execute(on).await?;
    Ok(())
}

/// Wakes those who listen, once this transaction is through.
async fn tell(on: &mut AnyConnection, backend: Backend) -> Result<(), StoreError> {
    if backend == Backend::Postgres {
        sqlx::query("SELECT pg_notify($1, '')").bind(CHANNEL).execute(on).await?;
    }
    Ok(())
}

async fn changed(on: &mut AnyConnection, since: i64) -> Result<Changed, StoreError> {
    let revision = revision(on).await?;
    if revision == since {
        return Ok(Changed { revision, records: Vec::new() });
    }
    let latest = "SELECT c.kind, c.id, r.version, r.handle, r.body, r.updated_at \
        FROM (SELECT DISTINCT kind, id FROM forebay_changes WHERE revision > $1) c \
        LEFT JOIN forebay_records r ON r.kind = c.kind AND r.id = c.id ORDER BY 1, 2";
    let mut rows = sqlx::query(latest).bind(since).fetch(on);
    let mut records = Vec::new();
    while let Some(row) = rows.try_next().await? {
        let kind: String = row.try_get(0)?;
        // A kind of a later version is none of ours.
        let Some(kind) = Kind::parse(&kind) else { continue };
        let id: String = row.try_get(1)?;
        let version: Option<i64> = row.try_get(2)?;
        let record = match version {
            None => None,
            Some(version) => Some(Record {
                id: id.clone(),
                version,
                handle: row.try_get(3)?,
                body: row.try_get(4)?,
                updated_at: row.try_get(5)?,
            }),
        };
        records.push((kind, id, record));
    }
    Ok(Changed { revision, records })
}

fn record(row: &AnyRow) -> Result<Record, StoreError> {
    Ok(Record {
        id: row.try_get(0)?,
        version: row.try_get(1)?,
        handle: row.try_get(2)?,
        body: row.try_get(3)?,
        updated_at: row.try_get(4)?,
    })
}

fn entry(row: &AnyRow) -> Result<Change, StoreError> {
    Ok(Change {
        revision: row.try_get(0)?,
        at: row.try_get(1)?,
        by: row.try_get(2)?,
        kind: row.try_get(3)?,
        id: row.try_get(4)?,
        action: row.try_get(5)?,
        before: row.try_get(6)?,
        after: row.try_get(7)?,
    })
}
