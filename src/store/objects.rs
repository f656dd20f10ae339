//! Who made which object at a provider.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::connect::{CALL, LOAD, settle, within};
use super::rows::{CHUNK, list, name, places};
use super::{Store, StoreError};

/// The most rows of one answer.
const MOST: u32 = 100_000;

/// One object, as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectRow {
    /// The provider's id of it.
    pub id: String,
    /// Whoever made it.
    pub owner: String,
    pub provider: String,
    /// What tells the provider's key that made it from others; no secret.
    pub credential: Option<String>,
    /// Unix milliseconds.
    pub seen_at: i64,
}

// === impl Store ===

impl Store {
    /// Writes that these objects were made, or seen again, and that others are gone; all of it or
    /// nothing. Who made an object first stays its maker. The same may be sent again.
    pub async fn note_objects(
        &self,
        made: &[ObjectRow],
        gone: &[String],
    ) -> Result<(), StoreError> {
        within(CALL, async {
            let mut link = self.writer().await?;
            let mut change = link.change().await?;
            let outcome = note(&mut change, made, gone).await;
            let outcome = settle(change, outcome).await;
            link.after(&outcome);
            outcome
        })
        .await
    }

    /// Those of these objects that are known, and were seen since then, in Unix milliseconds.
    pub async fn objects(&self, ids: &[String], since: i64) -> Result<Vec<ObjectRow>, StoreError> {
        within(CALL, async {
            let mut link = self.reader().await?;
            let outcome = find(link.on()?, ids, since).await;
            link.after(&outcome);
            outcome
        })
        .await
    }

    /// Up to `limit` objects, at most 100,000, that were seen since then, in Unix milliseconds: the
    /// last ones first.
    pub async fn recent_objects(
        &self,
        since: i64,
        limit: u32,
    ) -> Result<Vec<ObjectRow>, StoreError> {
        within(LOAD, async {
            let mut link = self.reader().await?;
            let recent = "SELECT id, owner, provider, credential, seen_at FROM forebay_objects \
                WHERE seen_at >= $1 ORDER BY seen_at DESC LIMIT $2";
            let recent = sqlx::query(recent).bind(since).bind(i64::from(limit.min(MOST)));
            let rows = recent.fetch_all(link.on()?).await.map_err(StoreError::from);
            link.after(&rows);
            rows?.iter().map(object).collect()
        })
        .await
    }
}

async fn note(
    on: &mut AnyConnection,
    made: &[ObjectRow],
    gone: &[String],
) -> Result<(), StoreError> {
    // Sorted, so that nodes that write the same rows wait for each other in one direction; and a
    // statement may not touch a row twice.
    let mut rows: BTreeMap<String, &ObjectRow> = BTreeMap::new();
    for row in made {
        let known = rows.entry(name(&row.id)).or_insert(row);
        if known.owner == row.owner && known.seen_at < row.seen_at {
            *known = row;
        }
    }
    let rows: Vec<_> = rows.into_iter().collect();
    for chunk in rows.chunks(CHUNK) {
        let sql = format!(
            "INSERT INTO forebay_objects (id, owner, provider, credential, seen_at) VALUES {} \
             ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at \
             WHERE forebay_objects.owner = excluded.owner \
             AND forebay_objects.seen_at < excluded.seen_at",
            places(chunk.len(), 5)
        );
        let mut insert = sqlx::query(AssertSqlSafe(sql)).persistent(chunk.len() == CHUNK);
        for (id, row) in chunk {
            insert = insert.bind(id.as_str()).bind(name(&row.owner)).bind(name(&row.provider));
            insert = insert.bind(row.credential.as_deref().map(name)).bind(row.seen_at);
        }
        insert.execute(&mut *on).await?;
    }
    let gone: Vec<String> =
        gone.iter().map(|id| name(id)).collect::<BTreeSet<_>>().into_iter().collect();
    for chunk in gone.chunks(CHUNK) {
        let sql = format!("DELETE FROM forebay_objects WHERE id IN ({})", list(1, chunk.len()));
        let mut delete = sqlx::query(AssertSqlSafe(sql)).persistent(chunk.len() == CHUNK);
        for id in chunk {
            delete = delete.bind(id.as_str());
        }
        delete.execute(&mut *on).await?;
    }
    Ok(())
}

async fn find(
    on: &mut AnyConnection,
    ids: &[String],
    since: i64,
) -> Result<Vec<ObjectRow>, StoreError> {
    let names: Vec<String> = ids.iter().map(|id| name(id)).collect();
    let mut found = Vec::new();
    for chunk in names.chunks(CHUNK) {
        let sql = format!(
            "SELECT id, owner, provider, credential, seen_at FROM forebay_objects \
             WHERE seen_at >= $1 AND id IN ({})",
            list(2, chunk.len())
        );
        // One id is what most questions are about.
        let kept = matches!(chunk.len(), 1 | CHUNK);
        let mut rows = sqlx::query(AssertSqlSafe(sql)).persistent(kept).bind(since);
        for id in chunk {
            rows = rows.bind(id.as_str());
        }
        for row in rows.fetch_all(&mut *on).await? {
            found.push(object(&row)?);
        }
    }
    Ok(found)
}

fn object(row: &AnyRow) -> Result<ObjectRow, StoreError> {
    Ok(ObjectRow {
        id: row.try_get(0)?,
        owner: row.try_get(1)?,
        provider: row.try_get(2)?,
        credential: row.try_get(3)?,
        seen_at: row.try_get(4)?,
    })
}
