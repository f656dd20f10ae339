//! What is removed when its time is over.

use forebay::store::{Batch, Expected, Kind, Note, Put, Spent, UsageDelta, UsageQuery};

use super::home::Home;

const NOTE: Note<'static> = Note { by: "test", before: None, after: None };

pub async fn old_entries_of_the_audit_go_oldest_first(home: Home) {
    let store = home.open().await;
    let ids: Vec<String> = (0..1500).map(|number| format!("{number:04}")).collect();
    let put = |id| Put { kind: Kind::Keys, id, handle: None, body: "{}", after: None };
    let puts: Vec<Put<'_>> = ids.iter().map(|id| put(id.as_str())).collect();
    store.put_many(&puts, "test").await.unwrap();
    assert_eq!(store.prune_changes(0).await.unwrap(), 0);
    home.tell("UPDATE forebay_changes SET at = 7 WHERE revision <= 1200").await;
    assert_eq!(store.prune_changes(7).await.unwrap(), 0);
    assert_eq!(store.prune_changes(8).await.unwrap(), 1000);
    assert_eq!(store.prune_changes(8).await.unwrap(), 200);
    assert_eq!(store.prune_changes(8).await.unwrap(), 0);
    let left = store.changes(None, 1000).await.unwrap();
    assert_eq!((left.len(), left[299].revision), (300, 1201));
    // The records are as they were, and what comes is told.
    assert_eq!(store.list(Kind::Keys, None, 1000).await.unwrap().len(), 1000);
    let last = store.put(Kind::Keys, "0001", None, "[]", Expected::Any, NOTE).await.unwrap();
    assert_eq!(last.version, 1501);
    assert_eq!(store.changed_since(1500).await.unwrap().records.len(), 1);
}

pub async fn old_usage_goes_hour_by_hour(home: Home) {
    let store = home.open().await;
    let used = |hour, key: &str| UsageDelta {
        hour,
        key: key.to_owned(),
        requests: 1,
        ..UsageDelta::default()
    };
    let usage = vec![used(5, "a"), used(5, "b"), used(6, "a"), used(7, "a")];
    store.flush("n", 1, &Batch { usage, ..Batch::default() }).await.unwrap();
    assert_eq!(store.prune_usage(5).await.unwrap(), 0);
    assert_eq!(store.prune_usage(7).await.unwrap(), 2);
    assert_eq!(store.prune_usage(7).await.unwrap(), 1);
    assert_eq!(store.prune_usage(7).await.unwrap(), 0);
    let query = UsageQuery { to: 100, limit: 10, ..UsageQuery::default() };
    assert_eq!(store.usage(&query).await.unwrap()[0].requests, 1);
}

pub async fn a_counter_goes_only_with_its_record(home: Home) {
    let store = home.open().await;
    store.put(Kind::Keys, "a", None, "{}", Expected::Absent, NOTE).await.unwrap();
    let spent = Spent { counter: "k:a:budget:0".to_owned(), amount: 5, expires_at: i64::MAX };
    store.flush("n", 1, &Batch { spent: vec![spent], ..Batch::default() }).await.unwrap();
    assert!(!store.forget_counter("k:a:budget:0", Kind::Keys, "a").await.unwrap());
    assert!(!store.forget_counter("k:b:budget:0", Kind::Keys, "b").await.unwrap());
    assert_eq!(store.counters().await.unwrap().len(), 1);
    store.delete(Kind::Keys, "a", Expected::Any, NOTE).await.unwrap();
    assert!(store.forget_counter("k:a:budget:0", Kind::Keys, "a").await.unwrap());
    assert!(store.counters().await.unwrap().is_empty());
}
