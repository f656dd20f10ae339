//! What is done with records now and then: errands of requests, and users that were made for a time.

use std::collections::HashSet;
use std::time::Duration;

use log::{info, warn};
use tokio::sync::mpsc;
use tokio::time::{interval, sleep, timeout};

use crate::access::limits::Now;
use crate::access::{Errand, KeyRecord, Registry, Role, UserRecord};
use crate::store::{Expected, Kind, Note, Store, StoreError};

/// In whose name records are changed.
const GATEWAY: &str = "gateway";
/// What a caller is told whose time is over.
const EXPIRED: &str = "expired";
/// How often users are looked through.
const LOOK: Duration = Duration::from_secs(30);
/// How long one change may take.
const CHANGE: Duration = Duration::from_secs(10);
/// Users that are seen to in one look; the rest waits for the next.
const MOST: usize = 1000;
/// How soon an errand is tried again when the store is away.
const AGAIN: Duration = Duration::from_secs(1);

/// Runs errands as they come, for ever. One that cannot be run now is kept and tried again: what it
/// is about has not become any better meanwhile.
pub async fn run_errands(store: &Store, errands: &mut mpsc::Receiver<Errand>) {
    while let Some(errand) = errands.recv().await {
        loop {
            let done = timeout(CHANGE, errand.run(store)).await;
            match done.unwrap_or_else(|_| Err(StoreError::Away(String::new()))) {
                Ok(()) => break,
                Err(error) if error.may_pass() => sleep(AGAIN).await,
                Err(error) => {
                    warn!("{errand:?}: {error}");
                    break;
                }
            }
        }
    }
}

/// Disables users that were made for a time when it is over, and removes them with their keys some
/// time after, for ever. `purge_after`: how long after, where a user's record does not say.
pub async fn purge(registry: &Registry, store: &Store, purge_after: impl Fn() -> Duration) {
    let mut look = interval(LOOK);
    let mut told = false;
    loop {
        look.tick().await;
        match see_to(registry, store, purge_after()).await {
            Ok(0) => told = false,
            Ok(count) => {
                told = false;
                info!("{count} temporary users are removed with their keys");
            }
            Err(error) if !std::mem::replace(&mut told, true) => {
                warn!("temporary users stay for now: {error}");
            }
            Err(_) => {}
        }
    }
}

/// Sees to users whose time is over; how many were removed.
async fn see_to(
    registry: &Registry,
    store: &Store,
    purge_after: Duration,
) -> Result<usize, StoreError> {
    let now = Now::by_clock().0;
    let directory = registry.directory.load_full();
    let over = directory.users().filter(|user| {
        user.state().is_some_and(|state| state.role == Role::Temporary && state.has_expired(now))
    });
    let over: Vec<_> = over.take(MOST).map(|user| user.id.clone()).collect();
    let mut gone = HashSet::new();
    for id in &over {
        let Some(record) = store.get(Kind::Users, id).await? else { continue };
        let Ok(user) = serde_json::from_str::<UserRecord>(&record.body) else { continue };
        let Some(expired_at) = user.expires_at.filter(|at| *at <= now) else { continue };
        let after = i64::try_from(purge_after.as_millis()).unwrap_or(i64::MAX);
        if user.purge_at.unwrap_or(expired_at.saturating_add(after)) <= now {
            gone.insert(id.to_string());
        } else if user.enabled {
            let reason = Some(EXPIRED.to_owned());
            let user = UserRecord { enabled: false, disabled_reason: reason, ..user };
            let Ok(body) = serde_json::to_string(&user) else { continue };
            let note = Note { by: GATEWAY, before: Some(&record.body), after: Some(&body) };
            let (handle, at) = (record.handle.as_deref(), Expected::Version(record.version));
            passed_by(store.put(Kind::Users, id, handle, &body, at, note).await)?;
        }
    }
    if !gone.is_empty() {
        remove(store, &gone).await?;
    }
    Ok(gone.len())
}

/// Removes users, their keys first: what fails half-way is found again.
async fn remove(store: &Store, users: &HashSet<String>) -> Result<(), StoreError> {
    let mut keys = Vec::new();
    let mut gather = |record: crate::store::Record| {
        let of = serde_json::from_str::<KeyRecord>(&record.body).ok().and_then(|key| key.user);
        if of.is_some_and(|user| users.contains(&user)) {
            keys.push(record.id);
        }
    };
    store.all(Kind::Keys, &mut gather).await?;
    let note = Note { by: GATEWAY, before: None, after: None };
    for key in &keys {
        passed_by(store.delete(Kind::Keys, key, Expected::Any, note).await)?;
    }
    for user in users {
        passed_by(store.delete(Kind::Users, user, Expected::Any, note).await)?;
    }
    Ok(())
}

/// Somebody else was quicker: the next look finds what is left.
fn passed_by<T>(done: Result<T, StoreError>) -> Result<(), StoreError> {
    match done {
        Ok(_) | Err(StoreError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
