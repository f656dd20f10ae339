//! What is removed when its time is over: each call a portion, so that nobody waits long for it.

use super::connect::{CALL, within};
use super::rows::name;
use super::{Kind, Store, StoreError};

// === impl Store ===

impl Store {
    /// Removes entries of the audit that are older than `before`, in Unix milliseconds: of the oldest
    /// thousand those it is true of. How many there were.
    pub async fn prune_changes(&self, before: i64) -> Result<u64, StoreError> {
        let old = "DELETE FROM forebay_changes WHERE revision IN (SELECT revision FROM \
            (SELECT revision, at FROM forebay_changes ORDER BY revision LIMIT 1000) AS oldest \
            WHERE at < $1)";
        self.prune(old, before).await
    }

    /// Removes the oldest hour of usage when it is before this one, in hours since 1970. How many rows
    /// it had.
    pub async fn prune_usage(&self, before: i64) -> Result<u64, StoreError> {
        let old = "DELETE FROM forebay_usage WHERE hour < $1 \
            AND hour = (SELECT MIN(hour) FROM forebay_usage)";
        self.prune(old, before).await
    }

    /// Removes objects that were last seen before `before`, in Unix milliseconds: up to a thousand of
    /// them. How many there were.
    pub async fn prune_objects(&self, before: i64) -> Result<u64, StoreError> {
        let old = "DELETE FROM forebay_objects WHERE id IN (SELECT id FROM forebay_objects \
            WHERE seen_at < $1 ORDER BY seen_at LIMIT 1000)";
        self.prune(old, before).await
    }

    async fn prune(&self, old: &'static str, before: i64) -> Result<u64, StoreError> {
        within(CALL, async {
            let mut link = self.writer().await?;
            let gone = sqlx::query(old).bind(before).execute(link.on()?).await;
            let gone = gone.map(|done| done.rows_affected()).map_err(StoreError::from);
            link.after(&gone);
            gone
        })
        .await
    }

    /// Removes a counter that belongs to a record, unless the record is there. `false`: it is, or there
    /// is no such counter.
    pub async fn forget_counter(
        &self,
        counter: &str,
        kind: Kind,
        id: &str,
    ) -> Result<bool, StoreError> {
        within(CALL, async {
            let mut link = self.writer().await?;
            let orphan = "DELETE FROM forebay_counters WHERE counter = $1 AND NOT EXISTS \
                (SELECT 1 FROM forebay_records WHERE kind = $2 AND id = $3)";
            let orphan = sqlx::query(orphan).bind(name(counter)).bind(kind.as_str()).bind(id);
            let gone = orphan.execute(link.on()?).await;
            let gone = gone.map(|done| done.rows_affected() > 0).map_err(StoreError::from);
            link.after(&gone);
            gone
        })
        .await
    }
}
