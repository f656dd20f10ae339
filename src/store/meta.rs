//! Single facts about the store.

use super::connect::{CALL, within};
use super::{Store, StoreError, migrate};

// === impl Store ===

impl Store {
    /// What was noted under this name.
    pub async fn meta(&self, name: &str) -> Result<Option<String>, StoreError> {
        within(CALL, async {
            let mut link = self.reader().await?;
            let value = "SELECT value FROM forebay_meta WHERE name = $1";
            let value = sqlx::query_scalar(value).bind(name).fetch_optional(link.on()?).await;
            let value = value.map_err(StoreError::from);
            link.after(&value);
            value
        })
        .await
    }

    /// Notes this under a name, over what was there.
    pub async fn set_meta(&self, name: &str, value: &str) -> Result<(), StoreError> {
        within(CALL, async {
            let mut link = self.writer().await?;
            let noted = "INSERT INTO forebay_meta (name, value) VALUES ($1, $2) \
                ON CONFLICT (name) DO UPDATE SET value = excluded.value";
            let noted = sqlx::query(noted).bind(name).bind(value).execute(link.on()?).await;
            let noted = noted.map(|_| ()).map_err(StoreError::from);
            link.after(&noted);
            noted
        })
        .await
    }

    /// The number of the last migration.
    pub async fn schema(&self) -> Result<i64, StoreError> {
        within(CALL, async {
            let mut link = self.reader().await?;
            let schema = migrate::schema(link.on()?, self.backend(), &migrate::RECORDS).await;
            link.after(&schema);
            schema
        })
        .await
    }
}
