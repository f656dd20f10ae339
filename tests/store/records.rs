//! Records, and the audit of their changes.

use std::collections::BTreeSet;

use forebay::store::{Expected, Kind, Note, Put, Record, Still, Store, StoreError};
use tokio::task::JoinSet;

use super::home::Home;

const NOTE: Note<'static> = Note { by: "test", before: None, after: None };

async fn put(
    store: &Store,
    id: &str,
    body: &str,
    expected: Expected,
) -> Result<Record, StoreError> {
    store.put(Kind::Keys, id, None, body, expected, NOTE).await
}

async fn everything(store: &Store) -> (i64, Vec<Record>) {
    let mut records = Vec::new();
    let revision = store.all(Kind::Keys, &mut |record| records.push(record)).await.unwrap();
    (revision, records)
}

pub async fn a_record_is_kept_as_it_was_given(home: Home) {
    let store = home.open().await;
    let body = r#"{"name":"ä'\"; DROP TABLE forebay_records; --","n":9007199254740993}"#;
    let put =
        store.put(Kind::Users, "one", Some("hand'le"), body, Expected::Absent, NOTE).await.unwrap();
    assert_eq!((put.body.as_str(), put.handle.as_deref()), (body, Some("hand'le")));
    // A moment of this century, in milliseconds.
    assert!(put.updated_at > 1_700_000_000_000, "{}", put.updated_at);
    let got = home.open().await.get(Kind::Users, "one").await.unwrap();
    assert_eq!(got, Some(put));
    assert_eq!(store.get(Kind::Keys, "one").await.unwrap(), None);
    assert_eq!(store.get(Kind::Users, "ONE").await.unwrap(), None);
}

pub async fn what_is_expected_is_held_to(home: Home) {
    let store = home.open().await;
    let missing = put(&store, "a", "{}", Expected::Version(1)).await;
    assert!(matches!(missing, Err(StoreError::Conflict { current: None })), "{missing:?}");
    let first = put(&store, "a", "1", Expected::Absent).await.unwrap();
    let again = put(&store, "a", "2", Expected::Absent).await;
    let current = Some(first.version);
    assert!(matches!(again, Err(StoreError::Conflict { current: it }) if it == current));
    let second = put(&store, "a", "2", Expected::Version(first.version)).await.unwrap();
    assert!(second.version > first.version);
    let stale = put(&store, "a", "3", Expected::Version(first.version)).await;
    let current = Some(second.version);
    assert!(matches!(stale, Err(StoreError::Conflict { current: it }) if it == current));
    put(&store, "a", "4", Expected::Any).await.unwrap();
    put(&store, "b", "1", Expected::Any).await.unwrap();
    // What was refused has left no trace.
    assert_eq!(store.revision().await.unwrap(), 4);
    assert_eq!(store.changes(None, 100).await.unwrap().len(), 4);
    assert_eq!(store.get(Kind::Keys, "a").await.unwrap().unwrap().body, "4");
}

pub async fn a_deleted_record_is_gone(home: Home) {
    let store = home.open().await;
    let first = put(&store, "a", "1", Expected::Absent).await.unwrap();
    let stale = store.delete(Kind::Keys, "a", Expected::Version(first.version + 1), NOTE).await;
    assert!(matches!(stale, Err(StoreError::Conflict { .. })), "{stale:?}");
    assert!(!store.delete(Kind::Users, "a", Expected::Any, NOTE).await.unwrap());
    assert_eq!(store.revision().await.unwrap(), 1);
    assert!(store.delete(Kind::Keys, "a", Expected::Version(first.version), NOTE).await.unwrap());
    assert!(!store.delete(Kind::Keys, "a", Expected::Any, NOTE).await.unwrap());
    assert_eq!(store.get(Kind::Keys, "a").await.unwrap(), None);
    let changed = store.changed_since(1).await.unwrap();
    assert_eq!((changed.revision, changed.records), (2, vec![(Kind::Keys, "a".to_owned(), None)]));
}

pub async fn a_version_never_comes_back(home: Home) {
    let store = home.open().await;
    let first = put(&store, "a", "1", Expected::Absent).await.unwrap();
    store.delete(Kind::Keys, "a", Expected::Any, NOTE).await.unwrap();
    put(&store, "a", "2", Expected::Absent).await.unwrap();
    let stale = put(&store, "a", "3", Expected::Version(first.version)).await;
    assert!(matches!(stale, Err(StoreError::Conflict { .. })), "{stale:?}");
}

pub async fn handles_are_unique_within_their_kind(home: Home) {
    let store = home.open().await;
    let put = async |kind, id: &str, handle: Option<&str>| {
        store.put(kind, id, handle, "{}", Expected::Any, NOTE).await
    };
    put(Kind::Keys, "a", Some("x")).await.unwrap();
    put(Kind::Users, "a", Some("x")).await.unwrap();
    put(Kind::Keys, "a", Some("x")).await.unwrap();
    let taken = put(Kind::Keys, "b", Some("x")).await;
    assert!(matches!(taken, Err(StoreError::Taken)), "{taken:?}");
    // Having none is not a handle.
    put(Kind::Keys, "c", None).await.unwrap();
    put(Kind::Keys, "d", None).await.unwrap();
    put(Kind::Keys, "a", Some("y")).await.unwrap();
    put(Kind::Keys, "b", Some("x")).await.unwrap();
    store.delete(Kind::Keys, "b", Expected::Any, NOTE).await.unwrap();
    put(Kind::Keys, "c", Some("x")).await.unwrap();
}

pub async fn a_list_comes_in_pages(home: Home) {
    let store = home.open().await;
    for id in ["b", "B", "a", "Z", "ä", "a-b", "a_b", "aa"] {
        put(&store, id, "{}", Expected::Absent).await.unwrap();
    }
    let mut seen = Vec::new();
    loop {
        let after = seen.last().cloned();
        let page = store.list(Kind::Keys, after.as_deref(), 3).await.unwrap();
        assert!(page.len() <= 3);
        if page.is_empty() {
            break;
        }
        seen.extend(page.into_iter().map(|record| record.id));
    }
    // By bytes, whatever the language of the database.
    assert_eq!(seen, ["B", "Z", "a", "a-b", "a_b", "aa", "b", "ä"]);
    assert!(store.list(Kind::Users, None, 3).await.unwrap().is_empty());
}

pub async fn everything_is_handed_out_once(home: Home) {
    let store = home.open().await;
    for number in 0..30 {
        put(&store, &format!("{number:02}"), "{}", Expected::Absent).await.unwrap();
    }
    store.put(Kind::Models, "other", None, "{}", Expected::Any, NOTE).await.unwrap();
    let (revision, records) = everything(&store).await;
    assert_eq!(revision, 31);
    let ids: Vec<String> = records.into_iter().map(|record| record.id).collect();
    assert_eq!(ids, (0..30).map(|number| format!("{number:02}")).collect::<Vec<_>>());
    let changed = store.changed_since(revision).await.unwrap();
    assert!(changed.records.is_empty());
}

pub async fn what_was_checked_against_something_else_is_not_written(home: Home) {
    let store = home.open().await;
    let model = |id| Put { kind: Kind::Models, id, handle: None, body: "{}", after: None };
    let since = store.revision().await.unwrap();
    let still = Still { kinds: &[Kind::Providers, Kind::Models], since };
    // A key is no part of it.
    put(&store, "key", "{}", Expected::Absent).await.unwrap();
    store.put_while(still, model("a"), Expected::Absent, NOTE).await.unwrap();
    let before = store.revision().await.unwrap();
    let late = store.put_while(still, model("b"), Expected::Absent, NOTE).await;
    assert!(matches!(late, Err(StoreError::Overtaken)), "{late:?}");
    let late = store.delete_while(still, Kind::Models, "a", Expected::Any, NOTE).await;
    assert!(matches!(late, Err(StoreError::Overtaken)), "{late:?}");
    assert_eq!(store.revision().await.unwrap(), before);
    assert!(store.get(Kind::Models, "b").await.unwrap().is_none());
    let still = Still { since: before, ..still };
    assert!(store.delete_while(still, Kind::Models, "a", Expected::Any, NOTE).await.unwrap());
    let again = store.put_while(still, model("a"), Expected::Absent, NOTE).await;
    assert!(matches!(again, Err(StoreError::Overtaken)), "{again:?}");
    // Of many that were checked against the same, one is written.
    let since = store.revision().await.unwrap();
    let mut writers = JoinSet::new();
    for number in 0..8 {
        let store = store.clone();
        writers.spawn(async move {
            let id = number.to_string();
            let put = Put { kind: Kind::Models, id: &id, handle: None, body: "{}", after: None };
            let still = Still { kinds: &[Kind::Models], since };
            store.put_while(still, put, Expected::Absent, NOTE).await.is_ok()
        });
    }
    assert_eq!(writers.join_all().await.into_iter().filter(|done| *done).count(), 1);
}

pub async fn of_writers_at_once_one_wins(home: Home) {
    let stores = [home.open().await, home.open().await];
    let mut current = put(&stores[0], "a", "first", Expected::Absent).await.unwrap();
    // In the first rounds they wait for connections, then for each other.
    for _ in 0..5 {
        let mut writers = JoinSet::new();
        for number in 0..20 {
            let (store, expected) =
                (stores[number % 2].clone(), Expected::Version(current.version));
            let body = number.to_string();
            writers.spawn(async move { put(&store, "a", &body, expected).await });
        }
        let mut won = Vec::new();
        for outcome in writers.join_all().await {
            match outcome {
                Ok(record) => won.push(record),
                Err(StoreError::Conflict { current: it }) => assert_ne!(it, Some(current.version)),
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(won.len(), 1);
        assert_eq!(stores[1].get(Kind::Keys, "a").await.unwrap().as_ref(), won.first());
        current = won.remove(0);
    }
}

pub async fn fifty_writers_all_get_through(home: Home) {
    let stores = [home.open().await, home.open().await];
    let mut writers = JoinSet::new();
    for number in 0..50 {
        let store = stores[number % 2].clone();
        writers.spawn(async move {
            put(&store, &format!("k{number}"), "{}", Expected::Absent).await.unwrap().version
        });
    }
    let versions: BTreeSet<i64> = writers.join_all().await.into_iter().collect();
    assert_eq!(versions, (1..=50).collect());
    assert_eq!(everything(&stores[0]).await.1.len(), 50);
    let changes = stores[1].changes(None, 100).await.unwrap();
    let revisions: Vec<i64> = changes.iter().map(|change| change.revision).collect();
    assert_eq!(revisions, (1..=50).rev().collect::<Vec<_>>());
}

pub async fn who_follows_the_revision_misses_nothing(home: Home) {
    const EACH: usize = 15;
    let (writer, follower) = (home.open().await, home.open().await);
    let mut writers = JoinSet::new();
    for number in 0..4 {
        let store = writer.clone();
        writers.spawn(async move {
            for turn in 0..EACH {
                put(&store, &format!("{number}-{turn}"), "{}", Expected::Absent).await.unwrap();
            }
        });
    }
    let (mut revision, mut seen) = (0, BTreeSet::new());
    loop {
        while writers.try_join_next().is_some() {}
        // Asked before the look: what is missing after one that began when all was written is
        // missing for ever.
        let over = writers.is_empty();
        let changed = follower.changed_since(revision).await.unwrap();
        assert!(changed.revision >= revision);
        revision = changed.revision;
        seen.extend(changed.records.into_iter().map(|(_, id, _)| id));
        if over {
            break;
        }
    }
    assert_eq!((revision, seen.len()), (60, 4 * EACH));
}

pub async fn many_are_written_at_once_or_none(home: Home) {
    let store = home.open().await;
    put(&store, "k7", "old", Expected::Absent).await.unwrap();
    let ids: Vec<String> = (0..600).map(|number| format!("k{number}")).collect();
    let one = |id: &'_ String| -> Put<'static> {
        let id: &'static str = Box::leak(id.clone().into_boxed_str());
        Put { kind: Kind::Keys, id, handle: Some(id), body: "new", after: Some("{}") }
    };
    let mut puts: Vec<Put<'_>> = ids.iter().map(one).collect();
    puts.push(Put { handle: Some("k1"), ..puts[0] });
    let taken = store.put_many(&puts, "test").await;
    assert!(matches!(taken, Err(StoreError::Taken)), "{taken:?}");
    assert_eq!((store.revision().await.unwrap(), everything(&store).await.1.len()), (1, 1));
    puts.pop();
    assert_eq!(store.put_many(&puts, "test").await.unwrap(), 601);
    let (revision, records) = everything(&store).await;
    assert_eq!((revision, records.len()), (601, 600));
    assert!(records.iter().all(|record| record.body == "new"));
    let changed = store.changed_since(1).await.unwrap();
    assert_eq!(changed.records.len(), 600);
    let stale = put(&store, "k7", "x", Expected::Version(1)).await;
    assert!(matches!(stale, Err(StoreError::Conflict { .. })), "{stale:?}");
}

pub async fn changes_are_told_latest_first(home: Home) {
    let store = home.open().await;
    let note = Note { by: "alice", before: None, after: Some("{\"a\":1}") };
    store.put(Kind::Users, "u", None, "{}", Expected::Absent, note).await.unwrap();
    let note = Note { by: "bob", before: Some("{\"a\":1}"), after: Some("{\"a\":2}") };
    store.put(Kind::Users, "u", None, "{}", Expected::Any, note).await.unwrap();
    let note = Note { by: "carol", before: Some("{\"a\":2}"), after: None };
    store.delete(Kind::Users, "u", Expected::Any, note).await.unwrap();
    let changes = store.changes(None, 10).await.unwrap();
    let told: Vec<_> = changes
        .iter()
        .map(|it| (it.by.as_str(), it.action.as_str(), it.before.as_deref(), it.after.as_deref()))
        .collect();
    let (one, two) = (Some("{\"a\":1}"), Some("{\"a\":2}"));
    assert_eq!(
        told,
        [
            ("carol", "delete", two, None),
            ("bob", "update", one, two),
            ("alice", "create", None, one)
        ]
    );
    assert!(changes.iter().all(|it| it.kind == "users" && it.id == "u" && it.at > 0));
    let older = store.changes(Some(changes[0].revision), 1).await.unwrap();
    assert_eq!(older, [changes[1].clone()]);
}

pub async fn notes_are_kept(home: Home) {
    let store = home.open().await;
    assert_eq!(store.meta("keys_made").await.unwrap(), None);
    store.set_meta("keys_made", "1").await.unwrap();
    store.set_meta("keys_made", "2").await.unwrap();
    assert_eq!(home.open().await.meta("keys_made").await.unwrap().as_deref(), Some("2"));
    assert_eq!(store.schema().await.unwrap(), super::opening::SCHEMA);
}
