//! PostgreSQL goes away and comes back.

use std::time::{Duration, Instant};

use forebay::config::Secret;
use forebay::store::{Batch, Expected, Kind, Note, Spent, Store, StoreError};
use tokio::time::timeout;

use super::home::{Home, PATIENCE, eventually, open};
use super::relay::Relay;

const NOTE: Note<'static> = Note { by: "test", before: None, after: None };

/// What a call may take, and a little more.
const BOUND: Duration = Duration::from_secs(11);

async fn is_away<T>(call: impl Future<Output = Result<T, StoreError>>) {
    let since = Instant::now();
    let error = call.await.err().unwrap();
    assert!(matches!(error, StoreError::Away(_)), "{error}");
    assert!(since.elapsed() < BOUND, "{:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_went_away_is_found_again() {
    let home = Home::postgres().await;
    let mut relay = Relay::to(&home.host()).await;
    let (store, other) = (open(&home.url_by(&relay.address.to_string())).await, home.open().await);
    let mut watch = store.watch().await;
    timeout(PATIENCE, watch.changed()).await.unwrap();
    let spent = Spent { counter: "a".to_owned(), amount: 1, expires_at: i64::MAX };
    let batch = Batch { spent: vec![spent], ..Batch::default() };
    store.flush("n", 1, &batch).await.unwrap();

    relay.cut().await;
    is_away(store.get(Kind::Keys, "a")).await;
    is_away(store.flush("n", 2, &batch)).await;
    // Not heard of: nobody is connected.
    other.put(Kind::Keys, "a", None, "{}", Expected::Absent, NOTE).await.unwrap();

    relay.mend().await;
    let since = Instant::now();
    let missed = async || {
        watch.changed().await;
        (store.revision().await.ok()? == 1).then_some(())
    };
    eventually("the change that was missed", missed).await;
    assert!(since.elapsed() < Duration::from_secs(4), "{:?}", since.elapsed());
    store.flush("n", 2, &batch).await.unwrap();
    assert_eq!(store.totals("n", &["a".to_owned()]).await.unwrap()[0].spent, 2);
    // And it hears again.
    let writing = other.put(Kind::Keys, "b", None, "{}", Expected::Absent, NOTE);
    let (written, heard) = tokio::join!(writing, timeout(Duration::from_secs(1), watch.changed()));
    written.unwrap();
    heard.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_says_nothing_is_away() {
    let home = Home::postgres().await;
    let relay = Relay::to(&home.host()).await;
    let url = home.url_by(&relay.address.to_string());
    let store = open(&url).await;
    let mut watch = store.watch().await;
    timeout(PATIENCE, watch.changed()).await.unwrap();
    relay.block(true);
    let record = store.get(Kind::Keys, "a");
    let note = store.set_meta("a", "b");
    let opened = async { Store::open(&Secret::new(url.clone())).await };
    // Who waits for changes is not kept for ever.
    let waited = async { timeout(BOUND, watch.changed()).await.unwrap() };
    tokio::join!(is_away(record), is_away(note), is_away(opened), waited);
    relay.block(false);
    eventually("an answer", async || store.revision().await.ok()).await;
    store.put(Kind::Keys, "a", None, "{}", Expected::Absent, NOTE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ended_connections_are_made_anew() {
    let home = Home::postgres().await;
    let store = home.open().await;
    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    for _ in 0..3 {
        assert_eq!(store.revision().await.unwrap(), 0);
        home.tell(others).await;
    }
    // One more time would do; none is the promise only while nothing was under way.
    assert_eq!(store.revision().await.unwrap(), 0);
}

#[tokio::test]
async fn no_error_tells_the_url() {
    let urls = [
        "postgres://fake-name:fake-secret@127.0.0.1:1/fake-db",
        "postgres://fake-name:fake-secret@127.0.0.1:x/fake-db",
        "postgres://fake-name:fake#secret@/fake-db?sslmode=fake-mode",
        "postgres://fake-name:fake-secret@fake-host.invalid/fake-db",
    ];
    for url in urls {
        let error = Store::open(&Secret::new(url)).await.err().unwrap();
        let texts = [error.to_string(), format!("{error:?}")];
        assert!(texts.iter().all(|text| !text.contains("fake")), "{texts:?}");
    }
}
