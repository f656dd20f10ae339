//! The rows in their database.

use std::fmt::Write as _;
use std::time::Duration;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};

use super::row::Row;
use crate::config::Secret;
use crate::store::{Schema, Store, StoreError, places, settle, within};

/// The tables of the audit, which has a database of its own or shares one with others.
static SCHEMA: Schema = Schema {
    table: "forebay_audit_schema",
    steps: &[("audit", include_str!("schema.sql"))],
    // A process may be killed at any time without a loss; a power failure may cost the last moments.
    sqlite: "PRAGMA synchronous = NORMAL",
    lock: 7_310_314_026_173_623,
};
/// Columns in the order of [`bind`].
const COLUMNS: &str = "id, at, request_id, method, endpoint, principal, key_name, user_id, \
    client_dialect, provider_dialect, asked_model, model, served_model, provider, replica, attempts, \
    status, client_gone, error, failure, stop, prompt_tokens, completion_tokens, cached_tokens, \
    reasoning_tokens, estimated, cost_nanos, queued_us, first_token_us, duration_us, bytes_in, \
    bytes_out, client, user_agent, stream, tools, images, metadata, request, response";
const WIDTH: usize = 40;
/// Rows in one statement: these and no other numbers, so that few statements are prepared.
const STEPS: [usize; 5] = [32, 8, 4, 2, 1];
/// How long one call may take.
const CALL: Duration = Duration::from_secs(5);
/// Rows that go at once.
const PORTION: i64 = 500;
/// The most rows one question is answered with.
pub const MOST: u32 = 1000;

/// Rows in SQLite or PostgreSQL.
#[derive(Clone)]
pub struct Table(Store);

/// Which rows, newest first.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Unix milliseconds: rows that ended from the first, before the second.
    pub from: Option<i64>,
    pub to: Option<i64>,
    /// Rows before this id.
    pub before: Option<String>,
    pub user: Option<String>,
    pub key: Option<String>,
    pub model: Option<String>,
    pub provider: Option<String>,
    pub status: Option<u16>,
    pub error: Option<String>,
    pub request_id: Option<String>,
    /// At most [`MOST`].
    pub limit: u32,
}

// === impl Table ===

impl Table {
    /// Connects, and brings the tables up to date.
    pub async fn open(url: &Secret) -> Result<Self, StoreError> {
        Store::open_as(url, &SCHEMA).await.map(Self)
    }

    /// Whether old rows go into archives: those of a server are looked after by it.
    pub fn is_file(&self) -> bool {
        self.0.is_sqlite()
    }

    /// Writes rows, each once however often it comes. How many were new.
    pub async fn append(&self, rows: &[Row]) -> Result<u64, StoreError> {
        within(CALL, async {
            let mut link = self.0.writer().await?;
            let outcome = async {
                let mut change = link.change().await?;
                let outcome = insert(&mut change, rows).await;
                settle(change, outcome).await
            }
            .await;
            link.after(&outcome);
            outcome
        })
        .await
    }

    /// Rows that fit, newest first.
    pub async fn find(&self, query: &Query) -> Result<Vec<Row>, StoreError> {
        within(CALL, async {
            let mut link = self.0.reader().await?;
            let outcome = match link.on() {
                Ok(on) => find(on, query).await,
                Err(error) => Err(error),
            };
            link.after(&outcome);
            outcome
        })
        .await
    }

    /// The row of this id.
    pub async fn one(&self, id: &str) -> Result<Option<Row>, StoreError> {
        within(CALL, async {
            let mut link = self.0.reader().await?;
            let sql = format!("SELECT {COLUMNS} FROM forebay_audit WHERE id = $1");
            let found = sqlx::query(AssertSqlSafe(sql)).bind(id).fetch_optional(link.on()?).await;
            let found = found.map_err(StoreError::from);
            let found = found.and_then(|row| row.as_ref().map(read).transpose());
            link.after(&found);
            found
        })
        .await
    }

    /// Rows that ended before a moment, oldest first, behind `after`.
    pub async fn oldest(&self, after: &str, before: i64) -> Result<Vec<Row>, StoreError> {
        within(CALL, async {
            let mut link = self.0.reader().await?;
            let sql = format!(
                "SELECT {COLUMNS} FROM forebay_audit WHERE id > $1 AND id < $2 ORDER BY id LIMIT $3"
            );
            let found = sqlx::query(AssertSqlSafe(sql)).bind(after).bind(Row::first_id(before));
            let found = found.bind(PORTION).fetch_all(link.on()?).await.map_err(StoreError::from);
            let found = found.and_then(|rows| rows.iter().map(read).collect());
            link.after(&found);
            found
        })
        .await
    }

    /// Removes these rows. How many were there.
    pub async fn remove(&self, ids: &[String]) -> Result<u64, StoreError> {
        let mut gone = 0;
        for ids in ids.chunks(100) {
            let places: Vec<String> = (1..=ids.len()).map(|place| format!("${place}")).collect();
            let sql = format!("DELETE FROM forebay_audit WHERE id IN ({})", places.join(", "));
            gone += self.delete(sql, ids).await?;
        }
        Ok(gone)
    }

    /// Removes rows that ended before a moment: a portion of them. How many there were.
    pub async fn prune(&self, before: i64) -> Result<u64, StoreError> {
        let sql = "DELETE FROM forebay_audit WHERE id IN \
            (SELECT id FROM forebay_audit WHERE id < $1 ORDER BY id LIMIT 500)";
        self.delete(sql.to_owned(), &[Row::first_id(before)]).await
    }

    /// Removes rows of a user that ended before a moment: a portion of them. How many there were.
    pub async fn remove_user(&self, user: &str, before: i64) -> Result<u64, StoreError> {
        let sql = "DELETE FROM forebay_audit WHERE id IN (SELECT id FROM forebay_audit \
            WHERE user_id = $1 AND id < $2 ORDER BY id LIMIT 500)";
        self.delete(sql.to_owned(), &[user.to_owned(), Row::first_id(before)]).await
    }

    /// Notes that a user's rows are to go.
    pub async fn note_erasure(&self, id: &str, user: &str, at: i64) -> Result<(), StoreError> {
        within(CALL, async {
            let mut link = self.0.writer().await?;
            let sql = "INSERT INTO forebay_audit_erasures (id, user_id, at) VALUES ($1, $2, $3)";
            let noted = sqlx::query(sql).bind(id).bind(user).bind(at).execute(link.on()?).await;
            let noted = noted.map(drop).map_err(StoreError::from);
            link.after(&noted);
            noted
        })
        .await
    }

    /// Whose rows are to go, with the note's id and until when.
    pub async fn erasures(&self) -> Result<Vec<(String, String, i64)>, StoreError> {
        within(CALL, async {
            let mut link = self.0.reader().await?;
            let sql = "SELECT id, user_id, at FROM forebay_audit_erasures ORDER BY id LIMIT 100";
            let found = sqlx::query(sql).fetch_all(link.on()?).await.map_err(StoreError::from);
            let read = |row: &AnyRow| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
            let found = found.and_then(|rows| rows.iter().map(read).collect());
            link.after(&found);
            found
        })
        .await
    }

    /// A user's rows are gone.
    pub async fn end_erasure(&self, id: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM forebay_audit_erasures WHERE id = $1";
        self.delete(sql.to_owned(), &[id.to_owned()]).await.map(drop)
    }

    /// Ends all connections.
    pub async fn close(&self) {
        self.0.close().await;
    }

    async fn delete(&self, sql: String, texts: &[String]) -> Result<u64, StoreError> {
        within(CALL, async {
            let mut link = self.0.writer().await?;
            let mut delete = sqlx::query(AssertSqlSafe(sql));
            for text in texts {
                delete = delete.bind(text.as_str());
            }
            let gone = delete.execute(link.on()?).await;
            let gone = gone.map(|done| done.rows_affected()).map_err(StoreError::from);
            link.after(&gone);
            gone
        })
        .await
    }
}

async fn insert(on: &mut AnyConnection, rows: &[Row]) -> Result<u64, StoreError> {
    let (mut rest, mut new) = (rows, 0);
    for step in STEPS {
        while rest.len() >= step {
            let (some, others) = rest.split_at(step);
            rest = others;
            let sql = format!(
                "INSERT INTO forebay_audit ({COLUMNS}) VALUES {} ON CONFLICT (id) DO NOTHING",
                places(step, WIDTH)
            );
            let mut insert = sqlx::query(AssertSqlSafe(sql));
            for row in some {
                insert = bind(insert, row);
            }
            new += insert.execute(&mut *on).await?.rows_affected();
        }
    }
    Ok(new)
}

type Insert<'q> = sqlx::query::Query<'q, sqlx::Any, <sqlx::Any as sqlx::Database>::Arguments>;

fn bind<'q>(insert: Insert<'q>, row: &'q Row) -> Insert<'q> {
    let flag = i64::from;
    insert
        .bind(row.id.as_str())
        .bind(row.at)
        .bind(row.request_id.as_str())
        .bind(row.method.as_str())
        .bind(row.endpoint.as_str())
        .bind(row.principal.as_deref())
        .bind(row.key_name.as_deref())
        .bind(row.user_id.as_deref())
        .bind(row.client_dialect.as_str())
        .bind(row.provider_dialect.as_deref())
        .bind(row.asked_model.as_deref())
        .bind(row.model.as_deref())
        .bind(row.served_model.as_deref())
        .bind(row.provider.as_deref())
        .bind(row.replica.as_deref())
        .bind(row.attempts)
        .bind(row.status)
        .bind(flag(row.client_gone))
        .bind(row.error.as_deref())
        .bind(row.failure.as_deref())
        .bind(row.stop.as_deref())
        .bind(row.prompt_tokens)
        .bind(row.completion_tokens)
        .bind(row.cached_tokens)
        .bind(row.reasoning_tokens)
        .bind(row.estimated.map(flag))
        .bind(row.cost_nanos)
        .bind(row.queued_us)
        .bind(row.first_token_us)
        .bind(row.duration_us)
        .bind(row.bytes_in)
        .bind(row.bytes_out)
        .bind(row.client.as_deref())
        .bind(row.user_agent.as_deref())
        .bind(flag(row.stream))
        .bind(flag(row.tools))
        .bind(flag(row.images))
        .bind(row.metadata.as_deref())
        .bind(row.request.as_deref())
        .bind(row.response.as_deref())
}

fn read(row: &AnyRow) -> Result<Row, StoreError> {
    let flag = |place| Ok::<_, StoreError>(row.try_get::<i64, _>(place)? != 0);
    Ok(Row {
        id: row.try_get(0)?,
        at: row.try_get(1)?,
        request_id: row.try_get(2)?,
        method: row.try_get(3)?,
        endpoint: row.try_get(4)?,
        principal: row.try_get(5)?,
        key_name: row.try_get(6)?,
        user_id: row.try_get(7)?,
        client_dialect: row.try_get(8)?,
        provider_dialect: row.try_get(9)?,
        asked_model: row.try_get(10)?,
        model: row.try_get(11)?,
        served_model: row.try_get(12)?,
        provider: row.try_get(13)?,
        replica: row.try_get(14)?,
        attempts: row.try_get(15)?,
        status: row.try_get(16)?,
        client_gone: flag(17)?,
        error: row.try_get(18)?,
        failure: row.try_get(19)?,
        stop: row.try_get(20)?,
        prompt_tokens: row.try_get(21)?,
        completion_tokens: row.try_get(22)?,
        cached_tokens: row.try_get(23)?,
        reasoning_tokens: row.try_get(24)?,
        estimated: row.try_get::<Option<i64>, _>(25)?.map(|flag| flag != 0),
        cost_nanos: row.try_get(26)?,
        queued_us: row.try_get(27)?,
        first_token_us: row.try_get(28)?,
        duration_us: row.try_get(29)?,
        bytes_in: row.try_get(30)?,
        bytes_out: row.try_get(31)?,
        client: row.try_get(32)?,
        user_agent: row.try_get(33)?,
        stream: flag(34)?,
        tools: flag(35)?,
        images: flag(36)?,
        metadata: row.try_get(37)?,
        request: row.try_get(38)?,
        response: row.try_get(39)?,
    })
}

async fn find(on: &mut AnyConnection, query: &Query) -> Result<Vec<Row>, StoreError> {
    let texts = [
        ("id >=", query.from.map(Row::first_id)),
        ("id <", query.to.map(Row::first_id)),
        ("id <", query.before.clone()),
        ("user_id =", query.user.clone()),
        ("key_name =", query.key.clone()),
        ("model =", query.model.clone()),
        ("provider =", query.provider.clone()),
        ("error =", query.error.clone()),
        ("request_id =", query.request_id.clone()),
    ];
    let texts: Vec<_> = texts.into_iter().filter_map(|(is, text)| Some((is, text?))).collect();
    // Columns are words of this file; what was asked for is bound.
    let mut sql = format!("SELECT {COLUMNS} FROM forebay_audit WHERE 1 = 1");
    for (place, (is, _)) in (2..).zip(&texts) {
        // Writing to a text cannot fail.
        _ = write!(sql, " AND {is} ${place}");
    }
    if let Some(status) = query.status {
        _ = write!(sql, " AND status = {status}");
    }
    sql.push_str(" ORDER BY id DESC LIMIT $1");
    let mut asked = sqlx::query(AssertSqlSafe(sql)).bind(i64::from(query.limit.min(MOST)));
    for (_, text) in &texts {
        asked = asked.bind(text.as_str());
    }
    asked.fetch_all(on).await?.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Record;

    fn row(at: i64, number: u32, user: &str) -> Row {
        let record = Record { user: Some(user.into()), status: 200, ..Record::default() };
        Row::new(format!("{}{number:016x}", Row::first_id(at)), &record)
    }

    #[tokio::test]
    async fn a_row_is_there_once_however_often_it_is_written() {
        let table = Table::open(&Secret::new("sqlite::memory:")).await.unwrap();
        let rows: Vec<Row> = (0..77).map(|number| row(1000, number, "ada")).collect();
        assert_eq!(table.append(&rows).await.unwrap(), 77);
        assert_eq!(table.append(&rows).await.unwrap(), 0);
        assert_eq!(table.append(&[row(1000, 5, "ada"), row(1001, 5, "bob")]).await.unwrap(), 1);
        let all = table.find(&Query { limit: 1000, ..Query::default() }).await.unwrap();
        assert_eq!((all.len(), all[0].user_id.as_deref()), (78, Some("bob")), "newest first");
        assert_eq!(table.one(&rows[3].id).await.unwrap().as_ref(), Some(&rows[3]));
        let some = Query { user: Some("ada".into()), limit: 10, ..Query::default() };
        let page = table.find(&some).await.unwrap();
        let next = Query { before: Some(page[9].id.clone()), ..some };
        assert_eq!(table.find(&next).await.unwrap()[0].id, rows[66].id);
        let later = Query { from: Some(1001), limit: 10, ..Query::default() };
        assert_eq!(table.find(&later).await.unwrap().len(), 1);
        assert_eq!(table.oldest("", 1001).await.unwrap().len(), 77);
        assert_eq!(table.remove_user("ada", 1001).await.unwrap(), 77);
        assert_eq!(table.prune(2000).await.unwrap(), 1);
    }
}
