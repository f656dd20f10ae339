//! How a store begins.

use std::process::{Command, Stdio};
use std::time::Instant;

use forebay::config::Secret;
use forebay::store::{Expected, Kind, Note, Put, Record, Store, StoreError};
use sqlx::{AnyConnection, Connection, Executor};
use tokio::task::JoinSet;

use super::home::{Home, eventually};

/// The schema of this version.
pub const SCHEMA: i64 = 2;

pub async fn a_store_is_found_again(home: Home) {
    let store = home.open().await;
    let note = Note::default();
    store.put(Kind::Keys, "a", None, "{}", Expected::Absent, note).await.unwrap();
    store.close().await;
    let away = store.revision().await;
    assert!(matches!(away, Err(StoreError::Away(_))), "{away:?}");
    let store = home.open().await;
    assert_eq!((store.revision().await.unwrap(), store.schema().await.unwrap()), (1, SCHEMA));
    assert!(store.get(Kind::Keys, "a").await.unwrap().is_some());
}

pub async fn a_newer_schema_is_refused(home: Home) {
    home.open().await.close().await;
    home.tell("INSERT INTO forebay_schema (version, name, at) VALUES (99, 'later', 0)").await;
    let refused = Store::open(&Secret::new(home.url())).await;
    let error = refused.err().unwrap();
    assert!(matches!(error, StoreError::NewerSchema { found: 99, known: SCHEMA }), "{error}");
    assert_eq!(home.count("SELECT COUNT(*) FROM forebay_schema").await, SCHEMA + 1);
}

pub async fn many_open_an_empty_one_at_once(home: Home) {
    let mut openers = JoinSet::new();
    for _ in 0..8 {
        let url = Secret::new(home.url());
        openers.spawn(async move {
            let store = Store::open(&url).await.unwrap();
            store.schema().await.unwrap()
        });
    }
    assert_eq!(openers.join_all().await, [SCHEMA; 8]);
    assert_eq!(home.count("SELECT COUNT(*) FROM forebay_schema").await, SCHEMA);
}

pub async fn a_killed_migration_leaves_nothing(home: Home) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("forebay.yaml");
    let text = format!(
        "store: {{ url: \"{}\" }}\nanonymous: true\nproviders: [{{ name: here, kind: mock }}]\n",
        home.url()
    );
    std::fs::write(&file, text).unwrap();
    let migrate = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.args(["db", "migrate", "-c"]).arg(&file).stdin(Stdio::null());
        command
    };
    let mut child = migrate().env("FAILPOINTS", "store::migrate=pause").spawn().unwrap();
    eventually("it is in the middle", async || {
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        is_migrating(&home).await.then_some(())
    })
    .await;
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("its transaction is over", async || (!is_migrating(&home).await).then_some(()))
        .await;
    assert_eq!(home.things().await, 0);

    let done = migrate().output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.contains(&format!("schema {SCHEMA}")), "{said}");
    assert_eq!(home.open().await.revision().await.unwrap(), 0);
}

/// Does somebody hold the lock of migrations?
async fn is_migrating(home: &Home) -> bool {
    if home.is_postgres() {
        let held = "SELECT COUNT(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database \
            WHERE locktype = 'advisory' AND datname = current_database()";
        return home.count(held).await > 0;
    }
    if !home.path().exists() {
        return false;
    }
    let mut connection = AnyConnection::connect(&home.url()).await.unwrap();
    connection.execute("PRAGMA busy_timeout = 0").await.unwrap();
    connection.execute("BEGIN IMMEDIATE").await.is_err()
}

pub async fn a_hundred_thousand_records_are_loaded(home: Home) {
    const COUNT: usize = 100_000;
    let store = home.open().await;
    let ids: Vec<String> = (0..COUNT).map(|number| format!("key_{number:012}")).collect();
    let digests: Vec<String> = (0..COUNT).map(|number| format!("{number:064x}")).collect();
    let body = format!("{{\"name\":\"{}\"}}", "n".repeat(390));
    let records: Vec<Put<'_>> = ids
        .iter()
        .zip(&digests)
        .map(|(id, digest)| Put {
            kind: Kind::Keys,
            id,
            handle: Some(digest),
            body: &body,
            after: None,
        })
        .collect();
    let since = Instant::now();
    for chunk in records.chunks(COUNT / 10) {
        store.put_many(chunk, "test").await.unwrap();
    }
    let written = since.elapsed();
    let since = Instant::now();
    let (mut count, mut bytes) = (0, 0);
    let mut each = |record: Record| {
        count += 1;
        bytes += record.body.len();
    };
    let revision = store.all(Kind::Keys, &mut each).await.unwrap();
    assert_eq!(revision, i64::try_from(COUNT).unwrap());
    assert_eq!((count, bytes), (COUNT, COUNT * body.len()));
    #[expect(clippy::print_stdout, reason = "a figure, for who asks with --nocapture")]
    {
        println!("100,000 records: written in {written:?}, loaded in {:?}", since.elapsed());
    }
}
