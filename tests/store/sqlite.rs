//! What holds for files alone.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use forebay::config::Secret;
use forebay::store::{Batch, Expected, Kind, Note, Store, StoreError};
use sqlx::{AnyConnection, Connection};

use super::home::{Home, open};

async fn refused(path: &Path) -> StoreError {
    let url = Secret::new(format!("sqlite:{}", path.display()));
    Store::open(&url).await.err().unwrap()
}

#[tokio::test]
async fn the_library_is_one_that_keeps_its_log_whole() {
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect("sqlite::memory:").await.unwrap();
    let version = sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&mut connection).await;
    let version: String = version.unwrap();
    let parts: Vec<u32> = version.split('.').map(|part| part.parse().unwrap()).collect();
    assert!(parts >= vec![3, 51, 3], "{version}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_made_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/deep/forebay.db");
    let store = open(&format!("sqlite:{}", path.display())).await;
    store.set_meta("a", "b").await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    // The log is there: writes go to it.
    assert_eq!(mode(&path.with_extension("db-wal")), 0o600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_file_becomes_a_store() {
    let home = Home::file().await;
    std::fs::write(home.path(), "").unwrap();
    assert_eq!(home.open().await.revision().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strange_names_are_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a b%41#ä?.db");
    let url = format!("sqlite:{}", path.display()).replace('%', "%25").replace('?', "%3f");
    open(&url).await.set_meta("a", "b").await.unwrap();
    assert!(path.exists());
    assert_eq!(open(&url).await.meta("a").await.unwrap().as_deref(), Some("b"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_database_is_refused_and_left_alone() {
    let home = Home::file().await;
    let texts = ["hello".to_owned(), "providers: []\n".repeat(1_000), "SQLite format 3".to_owned()];
    for text in texts {
        std::fs::write(home.path(), &text).unwrap();
        let error = refused(&home.path()).await;
        assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
        assert_eq!(std::fs::read_to_string(home.path()).unwrap(), text);
    }
    let error = refused(home.path().parent().unwrap()).await;
    assert!(matches!(error, StoreError::Away(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_of_something_else_is_left_alone() {
    let home = Home::file().await;
    std::fs::write(home.path(), "").unwrap();
    home.tell("CREATE TABLE notes (text TEXT)").await;
    let before = std::fs::read(home.path()).unwrap();
    let error = refused(&home.path()).await;
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    assert!(std::fs::read(home.path()).unwrap() == before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_in_memory_lives_as_long_as_its_handles() {
    let store = open("sqlite::memory:").await;
    let note = Note::default();
    store.put(Kind::Keys, "a", None, "{}", Expected::Absent, note).await.unwrap();
    let conflict = store.put(Kind::Keys, "a", None, "{}", Expected::Absent, note).await;
    assert!(matches!(conflict, Err(StoreError::Conflict { .. })), "{conflict:?}");
    assert_eq!(store.clone().revision().await.unwrap(), 1);
    assert_eq!(open("sqlite::memory:").await.revision().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_too_long_for_a_lock_is_told_so() {
    let home = Home::file().await;
    let store = home.open().await;
    let mut other = AnyConnection::connect(&home.url()).await.unwrap();
    let held = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let busy = store.set_meta("a", "b").await.err().unwrap();
    assert!(matches!(busy, StoreError::Busy(_)) && busy.may_pass(), "{busy}");
    let busy = store.flush("n", 1, &Batch::default()).await.err().unwrap();
    assert!(matches!(busy, StoreError::Busy(_)), "{busy}");
    // Reading goes on meanwhile.
    assert_eq!(store.revision().await.unwrap(), 0);
    held.rollback().await.unwrap();
    store.set_meta("a", "b").await.unwrap();
}
