//! Waiting for changes that others make.

use std::time::{Duration, Instant};

use forebay::store::{Batch, Expected, Kind, Note, Spent, Watch};
use tokio::time::timeout;

use super::home::{Home, PATIENCE};

const NOTE: Note<'static> = Note { by: "test", before: None, after: None };

/// The first call returns as soon as it listens.
async fn begin(watch: &mut Watch) {
    timeout(PATIENCE, watch.changed()).await.unwrap();
}

pub async fn changes_of_another_are_noticed_within_a_second(home: Home) {
    let (writer, reader) = (home.open().await, home.open().await);
    let mut watch = reader.watch().await;
    begin(&mut watch).await;
    let mut revision = 0;
    for number in 0..5 {
        let id = number.to_string();
        writer.put(Kind::Keys, &id, None, "{}", Expected::Absent, NOTE).await.unwrap();
        let since = Instant::now();
        loop {
            // Who waits may be called away, and comes back.
            let _ = timeout(Duration::from_millis(20), watch.changed()).await;
            let changed = reader.changed_since(revision).await.unwrap();
            revision = changed.revision;
            if changed.records.iter().any(|(_, it, _)| *it == id) {
                break;
            }
            assert!(since.elapsed() < Duration::from_secs(1), "change {number}");
        }
    }
    // What is asked for alone is heard of, too.
    writer.delete(Kind::Keys, "0", Expected::Any, NOTE).await.unwrap();
    timeout(Duration::from_secs(1), watch.changed()).await.unwrap();
    assert_eq!(reader.changed_since(revision).await.unwrap().records.len(), 1);
}

pub async fn counts_wake_nobody(home: Home) {
    let (writer, reader) = (home.open().await, home.open().await);
    let mut watch = reader.watch().await;
    begin(&mut watch).await;
    let since = Instant::now();
    let busy = async {
        for sequence in 1.. {
            let spent = Spent { counter: "a".to_owned(), amount: 1, expires_at: i64::MAX };
            let batch = Batch { spent: vec![spent], ..Batch::default() };
            writer.flush("n", sequence, &batch).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = busy => {}
        () = watch.changed() => {}
    }
    // It returns all the same, lest something was missed.
    let quiet = since.elapsed();
    assert!(quiet > Duration::from_secs(4) && quiet < Duration::from_secs(8), "{quiet:?}");
}
