//! What the store keeps for a time: the audit of changes, usage, objects, and counts of those who are gone.

use std::time::Duration;

use log::{info, warn};
use tokio::time::{MissedTickBehavior, interval};

use crate::access::limits::Now;
use crate::access::{Owners, Registry};
use crate::store::{Kind, Store, StoreError};

/// How long the audit of changes and usage are kept: a year, and what it takes to look back on it.
const KEPT: Duration = Duration::from_hours(400 * 24);
/// How often what is over is looked for.
const LOOK: Duration = Duration::from_hours(1);
/// Portions of each kind in one look; the rest waits for the next.
const PORTIONS: u32 = 500;
/// A counter that ends later than this never does, milliseconds.
const NEVER: i64 = 100 * 366 * 24 * HOUR;
const HOUR: i64 = 3_600_000;

/// Removes what is over, for ever.
pub async fn keep(registry: &Registry, owners: &Owners, store: &Store) {
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        match prune(registry, owners, store, Now::by_clock()).await {
            Ok(0) => {}
            Ok(gone) => info!("{gone} rows of the store are removed: their time is over"),
            Err(error) => warn!("what is over stays in the store for now: {error}"),
        }
    }
}

/// How many rows were removed.
async fn prune(
    registry: &Registry,
    owners: &Owners,
    store: &Store,
    now: Now,
) -> Result<u64, StoreError> {
    let kept = i64::try_from(KEPT.as_millis()).unwrap_or(i64::MAX);
    let before = now.0.saturating_sub(kept);
    let mut gone = 0;
    for _ in 0..PORTIONS {
        let some = store.prune_changes(before).await?;
        gone += some;
        if some == 0 {
            break;
        }
    }
    for _ in 0..PORTIONS {
        let some = store.prune_usage(before.div_euclid(HOUR)).await?;
        gone += some;
        if some == 0 {
            break;
        }
    }
    for _ in 0..PORTIONS {
        let some = store.prune_objects(owners.since(now.0)).await?;
        gone += some;
        if some == 0 {
            break;
        }
    }
    Ok(gone + forget_gone(registry, store, now).await?)
}

/// Removes counters without an end whose key or user is gone. Those of keys of the file and of models
/// stay: another node's file may have them.
async fn forget_gone(registry: &Registry, store: &Store, now: Now) -> Result<u64, StoreError> {
    let counters = store.counters().await?;
    let directory = registry.directory.load_full();
    let mut gone = 0;
    for (counter, _, expires_at) in &counters {
        if expires_at.saturating_sub(now.0) < NEVER {
            continue;
        }
        let Some((kind, id)) = subject(counter) else { continue };
        let known = match kind {
            Kind::Keys => directory.key(id).is_some(),
            _ => directory.user(id).is_some(),
        };
        if !known && store.forget_counter(counter, kind, id).await? {
            gone += 1;
        }
    }
    Ok(gone)
}

/// Which record a counter of a budget or a quota belongs to; `None` where that cannot be told.
fn subject(counter: &str) -> Option<(Kind, &str)> {
    let (kind, rest) = match counter.split_once(':')? {
        ("k", rest) => (Kind::Keys, rest),
        ("u", rest) => (Kind::Users, rest),
        _ => return None,
    };
    let ends = [":budget:", ":quota:"].into_iter().flat_map(|mark| rest.match_indices(mark));
    let mut ids = ends.filter_map(|(place, _)| rest.get(..place));
    // An id may have anything in it.
    let id = ids.next().filter(|_| ids.next().is_none())?;
    (!id.starts_with("file/")).then_some((kind, id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::server::keeper::records;
    use crate::store::{Batch, Expected, Note, Spent, UsageDelta, UsageQuery};

    #[test]
    fn a_counter_belongs_to_a_record_or_to_none() {
        for (counter, expected) in [
            ("k:key_1:budget:0", Some((Kind::Keys, "key_1"))),
            ("u:a:b:quota:all~2:0", Some((Kind::Users, "a:b"))),
            ("k:file/ci:budget:0", None),
            ("m:llama:budget:0", None),
            ("u:a:quota:b:quota:c:0", None),
            ("u:a:budget:b:quota:c:0", None),
            ("k:key_1:rpm:60", None),
            ("", None),
        ] {
            assert_eq!(subject(counter), expected, "{counter}");
        }
    }

    #[tokio::test]
    async fn what_is_over_goes_and_what_counts_stays() {
        let store = Store::open(&Secret::new("sqlite::memory:")).await.unwrap();
        let note = Note { by: "test", ..Note::default() };
        for (id, body) in [
            ("here", r#"{"id":"here","name":"here","hint":"","digest":""}"#),
            ("gone", r#"{"id":"gone","name":"gone","hint":"","digest":""}"#),
        ] {
            store.put(Kind::Keys, id, Some(id), body, Expected::Absent, note).await.unwrap();
        }
        let registry = Registry::new(true, std::sync::Arc::default());
        store.delete(Kind::Keys, "gone", Expected::Any, note).await.unwrap();
        records::load(&registry, &store).await.unwrap();
        // Made since by another node: not known here, and there all the same.
        store.put(Kind::Keys, "new", Some("new"), "{}", Expected::Absent, note).await.unwrap();
        let now = Now::by_clock();
        let counters = [
            ("k:here:budget:0", 253_402_041_600_000),
            ("k:gone:budget:0", 253_402_041_600_000),
            ("k:new:budget:0", 253_402_041_600_000),
            ("k:gone:budget:1", now.0 + 30 * 24 * HOUR),
            ("k:file/ci:budget:0", 253_402_041_600_000),
        ];
        let spent = |(counter, expires_at): &(&str, i64)| Spent {
            counter: (*counter).to_owned(),
            amount: 1,
            expires_at: *expires_at,
        };
        let hour = now.0 / HOUR;
        let used = |hour| UsageDelta { hour, requests: 1, ..UsageDelta::default() };
        let batch = Batch {
            spent: counters.iter().map(spent).collect(),
            usage: vec![used(hour - 401 * 24), used(hour - 402 * 24), used(hour - 399 * 24)],
            ..Batch::default()
        };
        store.flush("node", 1, &batch).await.unwrap();
        assert_eq!(prune(&registry, &Owners::default(), &store, now).await.unwrap(), 3);
        let left = store.counters().await.unwrap();
        assert!(left.len() == 4 && !left.iter().any(|(name, ..)| name == "k:gone:budget:0"));
        let query = UsageQuery { to: i64::MAX, limit: 10, ..UsageQuery::default() };
        assert_eq!(store.usage(&query).await.unwrap()[0].requests, 1);
        assert_eq!(store.changes(None, 10).await.unwrap().len(), 4);
        // A year and more later.
        let later = Now(now.0 + 401 * 24 * HOUR);
        assert_eq!(prune(&registry, &Owners::default(), &store, later).await.unwrap(), 5);
        assert!(store.changes(None, 10).await.unwrap().is_empty());
        assert_eq!(store.revision().await.unwrap(), 4, "revisions go on");
    }
}
