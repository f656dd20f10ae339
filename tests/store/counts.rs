//! Counters, reservations and nodes.

use forebay::store::{Batch, Spent, Store, Total, UsageDelta};
use tokio::task::JoinSet;

use super::home::Home;

/// In the year 2100, in milliseconds.
const FAR: i64 = 4_102_444_800_000;

fn spent(counter: &str, amount: u64) -> Spent {
    Spent { counter: counter.to_owned(), amount, expires_at: FAR }
}

async fn total(store: &Store, node: &str, counter: &str) -> Total {
    store.totals(node, &[counter.to_owned()]).await.unwrap()[0]
}

pub async fn what_is_spent_adds_up(home: Home) {
    let store = home.open().await;
    let batch =
        Batch { spent: vec![spent("a", 3), spent("b", 1), spent("a", 4)], ..Batch::default() };
    store.flush("n1", 1, &batch).await.unwrap();
    let batch = Batch { spent: vec![spent("a", 10)], ..Batch::default() };
    store.flush("n2", 1, &batch).await.unwrap();
    let asked = ["b", "nobody", "a"].map(str::to_owned);
    let totals = home.open().await.totals("n1", &asked).await.unwrap();
    assert_eq!(totals.iter().map(|it| it.spent).collect::<Vec<_>>(), [1, 0, 17]);
    // More of them than one statement asks for.
    let many: Vec<String> = (0..700).map(|number| format!("c{number}")).collect();
    let batch = Batch { spent: many.iter().map(|it| spent(it, 2)).collect(), ..Batch::default() };
    store.flush("n1", 2, &batch).await.unwrap();
    let totals = store.totals("n1", &many).await.unwrap();
    assert!(totals.len() == 700 && totals.iter().all(|it| it.spent == 2));
    assert_eq!(store.counters().await.unwrap().len(), 702);
    assert!(store.totals("n1", &[]).await.unwrap().is_empty());
}

pub async fn a_batch_sent_again_counts_once(home: Home) {
    let stores = [home.open().await, home.open().await];
    let usage = UsageDelta { hour: 5, requests: 1, ..UsageDelta::default() };
    let batch = Batch {
        spent: vec![spent("a", 5)],
        reserved: vec![("a".to_owned(), 7)],
        usage: vec![usage],
    };
    let mut senders = JoinSet::new();
    for number in 0..8 {
        let (store, batch) = (stores[number % 2].clone(), batch.clone());
        senders.spawn(async move { store.flush("n", 3, &batch).await.unwrap() });
    }
    senders.join_all().await;
    // One that comes late has been counted, too.
    stores[0].flush("n", 2, &batch).await.unwrap();
    let expected = Total { spent: 5, reserved_elsewhere: 7 };
    assert_eq!(total(&stores[1], "other", "a").await, expected);
    let all = forebay::store::UsageQuery { to: 10, limit: 1, ..Default::default() };
    assert_eq!(stores[0].usage(&all).await.unwrap()[0].requests, 1);
    stores[0].flush("n", 4, &batch).await.unwrap();
    assert_eq!(total(&stores[1], "n", "a").await.spent, 10);
    // A node that has left and comes back is still the same.
    stores[0].leave("n").await.unwrap();
    stores[0].flush("n", 4, &batch).await.unwrap();
    assert_eq!(total(&stores[1], "other", "a").await, Total { spent: 10, reserved_elsewhere: 0 });
}

pub async fn batches_of_many_nodes_at_once_all_count(home: Home) {
    let stores = [home.open().await, home.open().await];
    let counters: Vec<String> = (0..20).map(|number| format!("c{number}")).collect();
    let mut nodes = JoinSet::new();
    for node in 0..10 {
        let (store, mut counters) = (stores[node % 2].clone(), counters.clone());
        nodes.spawn(async move {
            // In another order at each node.
            counters.rotate_left(node);
            for sequence in 1..=5 {
                let spent = counters.iter().map(|it| spent(it, 1)).collect();
                let batch = Batch { spent, ..Batch::default() };
                store.flush(&format!("n{node}"), sequence, &batch).await.unwrap();
                store.beat(&format!("n{node}")).await.unwrap();
            }
        });
    }
    nodes.join_all().await;
    let totals = stores[0].totals("n0", &counters).await.unwrap();
    assert!(totals.iter().all(|it| it.spent == 50), "{totals:?}");
}

pub async fn reservations_of_others_are_told(home: Home) {
    let store = home.open().await;
    let batch = |amount| Batch { reserved: vec![("a".to_owned(), amount)], ..Batch::default() };
    store.flush("n1", 1, &batch(10)).await.unwrap();
    store.flush("n2", 1, &batch(5)).await.unwrap();
    store.flush("n3", 1, &batch(1)).await.unwrap();
    assert_eq!(total(&store, "n1", "a").await.reserved_elsewhere, 6);
    assert_eq!(total(&store, "n4", "a").await.reserved_elsewhere, 16);
    store.flush("n2", 2, &batch(7)).await.unwrap();
    assert_eq!(total(&store, "n1", "a").await.reserved_elsewhere, 8);
    store.flush("n2", 3, &batch(0)).await.unwrap();
    assert_eq!(total(&store, "n1", "a").await.reserved_elsewhere, 1);
    store.leave("n3").await.unwrap();
    assert_eq!(total(&store, "n1", "a").await, Total::default());
    let left = home.count("SELECT COUNT(*) FROM forebay_reservations").await;
    assert_eq!(left, 1, "those of n1");
}

pub async fn what_is_over_is_removed(home: Home) {
    let store = home.open().await;
    let node = async |store: &Store, name: &str| store.beat(name).await.unwrap();
    assert_eq!(node(&store, "n1").await, 1);
    assert_eq!(node(&store, "n2").await, 2);
    let expired = Spent { counter: "over".to_owned(), amount: 1, expires_at: 1 };
    let batch = Batch {
        spent: vec![expired, spent("live", 1)],
        reserved: vec![("live".to_owned(), 4)],
        ..Batch::default()
    };
    store.flush("n2", 1, &batch).await.unwrap();
    let live: Vec<_> = store.counters().await.unwrap();
    assert_eq!(live, [("live".to_owned(), 1, FAR)]);
    // Not seen for a while: not counted, but what it has reserved may still be spent.
    home.tell("UPDATE forebay_nodes SET seen_at = seen_at - 20000 WHERE node = 'n2'").await;
    let late = home.open().await;
    assert_eq!(node(&late, "n1").await, 1);
    assert_eq!(total(&late, "n1", "live").await.reserved_elsewhere, 4);
    home.tell("UPDATE forebay_nodes SET seen_at = seen_at - 60000 WHERE node = 'n2'").await;
    let later = home.open().await;
    assert_eq!(node(&later, "n1").await, 1);
    assert_eq!(total(&later, "n1", "live").await.reserved_elsewhere, 0);
    assert_eq!(home.count("SELECT COUNT(*) FROM forebay_counters").await, 1);
    assert_eq!(home.count("SELECT COUNT(*) FROM forebay_nodes").await, 1);
    // Its last batch comes after all, and again: once is enough.
    store.flush("n2", 1, &batch).await.unwrap();
    assert_eq!(total(&store, "n1", "live").await, Total { spent: 1, reserved_elsewhere: 0 });
}

pub async fn amounts_beyond_all_bounds_stop_nothing(home: Home) {
    let store = home.open().await;
    let name = "x".repeat(10_000);
    let usage = UsageDelta {
        hour: 1,
        key: "nul\0l".to_owned(),
        model: name.clone(),
        prompt: u64::MAX,
        cost_nanos: u64::MAX,
        ..UsageDelta::default()
    };
    for sequence in 1..=3 {
        let batch = Batch {
            spent: vec![spent("a", u64::MAX), spent(&name, 1), spent("nul\0l", 1)],
            reserved: vec![("a".to_owned(), u64::MAX)],
            usage: vec![usage.clone()],
        };
        store.flush("n", sequence, &batch).await.unwrap();
    }
    home.tell("UPDATE forebay_counters SET spent = 9223372036854775807 WHERE counter = 'a'").await;
    let batch = Batch { spent: vec![spent("a", 1)], ..Batch::default() };
    store.flush("n", 4, &batch).await.unwrap();
    let totals = store.totals("m", &["a".to_owned(), name, "nul\0l".to_owned()]).await.unwrap();
    assert_eq!(totals.iter().map(|it| it.spent).collect::<Vec<_>>(), [i64::MAX as u64, 3, 3]);
}
