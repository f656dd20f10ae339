//! A store, opened: its connections.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use log::LevelFilter;
use sqlx::any::{Any, AnyConnectOptions, AnyPoolOptions};
use sqlx::pool::PoolConnection;
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, ConnectOptions, Connection, Transaction};
use tokio::time::{Instant, sleep, timeout};

use crate::config::Secret;

use super::address::{self, Address};
use super::migrate::Schema;
use super::{StoreError, migrate};

/// How long a connection may take, or to wait for one that is free.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a call may take.
pub(super) const CALL: Duration = Duration::from_secs(10);
/// How long a call may take that moves everything.
pub(super) const LOAD: Duration = Duration::from_mins(1);

const READERS: u32 = 4;
const CONNECTIONS: u32 = 8;

/// FULL: what was answered survives a power failure. Without a memory map a failing disk is an error
/// and no signal.
const SQLITE: &str = "PRAGMA busy_timeout = 4000; PRAGMA journal_mode = WAL; \
    PRAGMA synchronous = FULL; PRAGMA mmap_size = 0; PRAGMA wal_autocheckpoint = 1000; \
    PRAGMA journal_size_limit = 67108864";
const POSTGRES: &str = "SET statement_timeout = '5s'; SET lock_timeout = '5s'; \
    SET idle_in_transaction_session_timeout = '20s'";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    File,
    Memory,
    Postgres,
}

/// Records and counts, kept in SQLite or PostgreSQL. Cheap to clone. It lives on the runtime that
/// opened it. Every call ends within 10 s, loads of everything within 60 s.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    backend: Backend,
    url: Secret,
    /// Of SQLite: the one connection that writes.
    writer: AnyPool,
    readers: AnyPool,
    /// When things that are over were last removed, in the store's milliseconds.
    tidied_at: AtomicI64,
}

/// A connection out of its pool. Whoever is through with it says so: one that was left in the middle
/// of something is closed, not given back.
pub(crate) struct Lent {
    connection: Option<PoolConnection<Any>>,
    backend: Backend,
}

// === impl Store ===

impl Store {
    /// Connects within 5 s and brings the schema up to date, one process at a time. The file of an
    /// SQLite store, and its folder, are made when they are not there, for the owner alone.
    ///
    /// URLs: `sqlite:FILE` with `FILE` absolute or not, `sqlite:///FILE`, `sqlite::memory:` (gone
    /// with the last clone), `postgres://` and `postgresql://`.
    ///
    /// # Errors
    /// [`StoreError::NewerSchema`] and [`StoreError::Corrupt`] when it is not to be touched.
    pub async fn open(url: &Secret) -> Result<Self, StoreError> {
        Self::open_as(url, &migrate::RECORDS).await
    }

    /// The same for tables of another kind, with a database of their own or in the same.
    pub(crate) async fn open_as(url: &Secret, schema: &'static Schema) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let (backend, url) = match Address::read(url)? {
            Address::File(path) => (Backend::File, Secret::new(prepared(&path)?)),
            Address::Memory => (Backend::Memory, Secret::new("sqlite::memory:")),
            Address::Postgres(url) => (Backend::Postgres, url),
        };
        // Files begin to use a write-ahead log while others look: SQLite does not wait for that.
        let until = Instant::now() + CONNECT;
        loop {
            match within(LOAD, Self::begin(backend, &url, schema)).await {
                Err(error)
                    if error.may_pass() && backend == Backend::File && Instant::now() < until =>
                {
                    sleep(Duration::from_millis(50)).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn begin(
        backend: Backend,
        url: &Secret,
        schema: &'static Schema,
    ) -> Result<Self, StoreError> {
        let options = AnyConnectOptions::from_str(url.expose())?
            .log_statements(LevelFilter::Trace)
            .log_slow_statements(LevelFilter::Off, Duration::ZERO);
        if backend != Backend::Memory {
            // A pool tries until its time is over, and then does not say what was wrong.
            let connecting = timeout(CONNECT, AnyConnection::connect_with(&options));
            let mut first = connecting.await.map_err(|_| StoreError::late(CONNECT))??;
            migrate::look(&mut first, backend, schema).await?;
            first.close().await?;
        }
        let (most, readers) = match backend {
            Backend::Postgres => (CONNECTIONS, 0),
            Backend::File => (1, READERS),
            Backend::Memory => (1, 0),
        };
        let writer = pool(backend, most, false, schema).connect_lazy_with(options.clone());
        let readers = match readers {
            0 => writer.clone(),
            most => pool(backend, most, true, schema).connect_lazy_with(options),
        };
        let shared =
            Shared { backend, url: url.clone(), writer, readers, tidied_at: AtomicI64::new(0) };
        let store = Self { shared: Arc::new(shared) };
        let mut link = store.writer().await?;
        let outcome = migrate::migrate(link.on()?, backend, schema).await;
        link.after(&outcome);
        outcome.map(|()| store)
    }

    /// Whether it is a file, or in memory.
    pub(crate) fn is_sqlite(&self) -> bool {
        self.shared.backend != Backend::Postgres
    }

    pub(super) fn backend(&self) -> Backend {
        self.shared.backend
    }

    /// What to connect to; SQLite's names an absolute path.
    pub(super) fn url(&self) -> &Secret {
        &self.shared.url
    }

    /// A connection to read with.
    pub(crate) async fn reader(&self) -> Result<Lent, StoreError> {
        Lent::from(&self.shared.readers, self.shared.backend).await
    }

    /// A connection to write with.
    pub(crate) async fn writer(&self) -> Result<Lent, StoreError> {
        Lent::from(&self.shared.writer, self.shared.backend).await
    }

    /// Is it time to remove what is over? Says yes once in so many milliseconds.
    pub(super) fn is_untidy(&self, now: i64, every: i64) -> bool {
        let last = self.shared.tidied_at.load(Ordering::Relaxed);
        let due = now.saturating_sub(last) >= every || now < last;
        due && {
            let order = Ordering::Relaxed;
            self.shared.tidied_at.compare_exchange(last, now, order, order).is_ok()
        }
    }

    /// Ends all connections. Calls fail from then on.
    pub async fn close(&self) {
        self.shared.readers.close().await;
        self.shared.writer.close().await;
    }
}

fn pool(backend: Backend, most: u32, reads_only: bool, schema: &'static Schema) -> AnyPoolOptions {
    let options = AnyPoolOptions::new()
        .max_connections(most)
        .acquire_timeout(CONNECT)
        .acquire_slow_level(LevelFilter::Off)
        // A server may have gone since; a file cannot.
        .test_before_acquire(backend == Backend::Postgres)
        .after_connect(move |connection, _| {
            let mut words = if backend == Backend::Postgres { POSTGRES } else { SQLITE }.to_owned();
            if backend != Backend::Postgres && !schema.sqlite.is_empty() {
                words.push_str("; ");
                words.push_str(schema.sqlite);
            }
            if reads_only {
                words.push_str("; PRAGMA query_only = ON");
            }
            async move {
                sqlx::raw_sql(AssertSqlSafe(words)).execute(connection).await?;
                Ok(())
            }
            .boxed()
        });
    match backend {
        Backend::Postgres => options,
        // Ended connections would end what is in memory, and gain nothing with a file.
        Backend::File | Backend::Memory => options.idle_timeout(None).max_lifetime(None),
    }
}

/// Makes the file and its folder when they are not there; the URL to open it with.
fn prepared(path: &Path) -> Result<String, StoreError> {
    let failed = |error: io::Error| StoreError::Away(format!("the file: {}", error.kind()));
    let path = std::path::absolute(path).map_err(failed)?;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(StoreError::Url("names no file"));
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let path = folder.canonicalize().map_err(failed)?.join(name);
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
        _ => {}
    }
    path.to_str().map(address::of_file).ok_or(StoreError::Url("is not UTF-8"))
}

/// Bounds a call.
pub(crate) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    timeout(limit, call).await.unwrap_or_else(|_| Err(StoreError::late(limit)))
}

// === impl Lent ===

impl Lent {
    async fn from(pool: &AnyPool, backend: Backend) -> Result<Self, StoreError> {
        let connection = match pool.acquire().await {
            // The one that writes is lent to somebody else in this process.
            Err(sqlx::Error::PoolTimedOut) if backend != Backend::Postgres => {
                return Err(StoreError::Busy("no connection in time".into()));
            }
            connection => connection?,
        };
        Ok(Self { connection: Some(connection), backend })
    }

    /// The connection itself.
    pub(crate) fn on(&mut self) -> Result<&mut AnyConnection, StoreError> {
        let ended = || StoreError::Away("the connection has ended".into());
        self.connection.as_deref_mut().ok_or_else(ended)
    }

    /// Begins to change something.
    pub(crate) async fn change(&mut self) -> Result<Transaction<'_, Any>, StoreError> {
        // One that begins by reading, and then cannot write because others did, would fail.
        let begin = match self.backend {
            Backend::Postgres => "BEGIN",
            Backend::File | Backend::Memory => "BEGIN IMMEDIATE",
        };
        Ok(self.on()?.begin_with(begin).await?)
    }

    /// Gives the connection back, unless it may be broken.
    pub(crate) fn after<T>(mut self, outcome: &Result<T, StoreError>) {
        if !outcome.as_ref().is_err_and(StoreError::is_away) {
            drop(self.connection.take());
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // A pool would wait for its answer before it is used again, maybe for ever.
        if let Some(connection) = self.connection.take()
            && self.backend != Backend::Memory
        {
            drop(connection.detach());
        }
    }
}

/// Ends a change: for good when it succeeded.
pub(crate) async fn settle<T>(
    change: Transaction<'_, Any>,
    outcome: Result<T, StoreError>,
) -> Result<T, StoreError> {
    match outcome {
        Ok(done) => {
            change.commit().await?;
            Ok(done)
        }
        Err(error) if error.is_away() => Err(error),
        Err(error) => {
            change.rollback().await?;
            Err(error)
        }
    }
}

/// The store's clock, in Unix milliseconds: nodes may not agree on the time, and it is one server.
pub(super) async fn now(on: &mut AnyConnection, backend: Backend) -> Result<i64, StoreError> {
    if backend == Backend::Postgres {
        let moment = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";
        return Ok(sqlx::query_scalar(moment).fetch_one(on).await?);
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
