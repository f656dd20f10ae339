//! Keys and users: read from the store once, then followed change by change.

use std::time::Duration;

use log::{error, info, warn};
use tokio::time::{sleep, timeout};

use crate::access::Registry;
use crate::store::{Kind, Store, StoreError};

/// How soon the store is asked again when it did not answer.
const AGAIN: Duration = Duration::from_millis(500);
/// How long a look at what has changed may take.
const LOOK: Duration = Duration::from_secs(10);
/// How long all records may take.
const LOAD: Duration = Duration::from_mins(2);

/// Keeps the directory, once loaded, as the store has it, for ever. That something of the
/// configuration has changed is told by `configured`.
pub async fn follow(registry: &Registry, store: &Store, configured: &(dyn Fn() + Sync)) {
    let mut told = false;
    let mut noted = false;
    // Others put changes of keys into force too, and know nothing of providers.
    let mut seen = registry.directory.load().revision();
    let mut watch = store.watch().await;
    loop {
        let done = async {
            note_keys(registry, store, &mut noted).await?;
            look(registry, store, configured, &mut seen).await
        };
        match done.await {
            Ok(()) => {
                told = false;
                watch.changed().await;
            }
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    warn!("keys and users stay as they are known: {error}");
                }
                sleep(AGAIN).await;
            }
        }
    }
}

/// Reads every key and user.
pub async fn load(registry: &Registry, store: &Store) -> Result<(), StoreError> {
    let read = async {
        let mut loading = registry.loading();
        // A change after this one is asked for again: which is no harm.
        let revision =
            store.all(Kind::Users, &mut |record| loading.add(Kind::Users, &record)).await?;
        store.all(Kind::Keys, &mut |record| loading.add(Kind::Keys, &record)).await?;
        if Registry::remembers_keys(store).await? {
            registry.note_keys_made();
        }
        registry.loaded(loading, revision);
        Ok(())
    };
    let read = timeout(LOAD, read).await;
    read.unwrap_or_else(|_| Err(late()))?;
    info!("{} keys of the store are known", registry.directory.load().len());
    Ok(())
}

/// Puts what has changed into force.
async fn look(
    registry: &Registry,
    store: &Store,
    configured: &(dyn Fn() + Sync),
    seen: &mut i64,
) -> Result<(), StoreError> {
    let revision = registry.directory.load().revision();
    let changed = timeout(LOOK, store.changed_since(revision.min(*seen))).await;
    let changed = changed.unwrap_or_else(|_| Err(late()))?;
    if changed.revision < *seen {
        error!("the store is an earlier one: all keys and users are read again");
        configured();
        load(registry, store).await?;
        *seen = changed.revision;
        return Ok(());
    }
    let of_configuration = |kind: Kind| matches!(kind, Kind::Providers | Kind::Models);
    if changed.records.iter().any(|(kind, ..)| of_configuration(*kind)) {
        configured();
    }
    if changed.revision > revision {
        registry.apply(&changed);
    }
    *seen = changed.revision;
    Ok(())
}

/// Has the store remember that it has had a key.
async fn note_keys(
    registry: &Registry,
    store: &Store,
    persisted: &mut bool,
) -> Result<(), StoreError> {
    if registry.keys_made() && !*persisted {
        let noted = timeout(LOOK, Registry::remember_keys(store)).await;
        noted.unwrap_or_else(|_| Err(late()))?;
        *persisted = true;
    }
    Ok(())
}

fn late() -> StoreError {
    StoreError::Away("no answer in time".to_owned())
}
