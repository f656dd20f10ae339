//! Where a test's store is: a file, or a database in the server for tests.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use forebay::config::Secret;
use forebay::store::Store;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};
use tempfile::TempDir;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub enum Home {
    File(TempDir),
    Postgres { server: String, name: String },
}

impl Home {
    #[expect(clippy::unused_async, reason = "like its neighbour")]
    pub async fn file() -> Self {
        sqlx::any::install_default_drivers();
        Self::File(TempDir::new().unwrap())
    }

    pub async fn postgres() -> Self {
        sqlx::any::install_default_drivers();
        #[expect(clippy::disallowed_methods, reason = "where the tests' databases are")]
        let said = std::env::var("FOREBAY_TEST_POSTGRES");
        let server = said.unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432".to_owned());
        let server = server.trim_end_matches('/').to_owned();
        let name = format!("forebay_store_{:016x}", rand::random::<u64>());
        tell(&format!("{server}/postgres"), &format!("CREATE DATABASE {name}")).await;
        Self::Postgres { server, name }
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres { .. })
    }

    pub fn url(&self) -> String {
        match self {
            Self::File(_) => format!("sqlite:{}", self.path().display()),
            Self::Postgres { server, name } => format!("{server}/{name}"),
        }
    }

    /// The same by way of somebody else.
    pub fn url_by(&self, address: &str) -> String {
        self.url().replacen(&self.host(), address, 1)
    }

    /// `host:port` of the server.
    pub fn host(&self) -> String {
        let Self::Postgres { server, .. } = self else { panic!("a file has no host") };
        let (_, rest) = server.split_once("://").unwrap();
        rest.rsplit_once('@').map_or(rest, |(_, host)| host).to_owned()
    }

    pub fn path(&self) -> PathBuf {
        let Self::File(folder) = self else { panic!("no file") };
        folder.path().join("forebay.db")
    }

    pub async fn open(&self) -> Store {
        open(&self.url()).await
    }

    /// Does something behind the store's back.
    pub async fn tell(&self, what: &str) {
        tell(&self.url(), what).await;
    }

    /// Asks something behind the store's back.
    pub async fn count(&self, what: &'static str) -> i64 {
        let mut connection = AnyConnection::connect(&self.url()).await.unwrap();
        let count = sqlx::query_scalar(what).fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        count
    }

    /// Tables and everything else in it.
    pub async fn things(&self) -> i64 {
        self.count(if self.is_postgres() {
            "SELECT COUNT(*) FROM pg_class WHERE relname LIKE 'forebay%'"
        } else {
            "SELECT COUNT(*) FROM sqlite_master"
        })
        .await
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let Self::Postgres { server, name } = self else { return };
        let (url, drop) =
            (format!("{server}/postgres"), format!("DROP DATABASE {name} WITH (FORCE)"));
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| runtime.block_on(tell(&url, &drop)));
    }
}

pub async fn open(url: &str) -> Store {
    Store::open(&Secret::new(url)).await.unwrap()
}

async fn tell(url: &str, what: &str) {
    let mut connection = AnyConnection::connect(url).await.unwrap();
    connection.execute(AssertSqlSafe(what)).await.unwrap();
    connection.close().await.unwrap();
}

/// Waits for `found` to find something.
pub async fn eventually<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = found().await {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
