//! Who made which object goes to the store, and comes from it.

use std::sync::Arc;
use std::time::Duration;

use log::{error, info, warn};
use tokio::sync::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::counts::FLUSH;
use crate::access::limits::Now;
use crate::access::{Owed, Owners};
use crate::store::{Store, StoreError};

/// Objects that are read at the start: the last ones that were seen. Others are asked for one by one.
const READ: u32 = 50_000;
/// What is told at once.
const PORTION: usize = 1000;
/// In so many turns the store is asked once whether others have told it of an object.
const TURNS: u32 = 4;
/// How long after a portion that the store does not take the next one is tried.
const PAUSE: Duration = Duration::from_secs(5);

/// What this process owes the store of objects.
pub struct Objects {
    owners: Arc<Owners>,
    /// Nothing is told before.
    not_before: Option<Instant>,
    /// It has been said that the store does not take it.
    told: bool,
}

// === impl Objects ===

impl Objects {
    pub fn new(owners: Arc<Owners>) -> Self {
        Self { owners, not_before: None, told: false }
    }

    /// Reads what was seen last.
    pub async fn load(&self, store: &Store) -> Result<(), StoreError> {
        let since = self.owners.since(Now::by_clock().0);
        let rows = store.recent_objects(since, READ).await?;
        if !rows.is_empty() {
            info!("{} objects of providers are known", rows.len());
        }
        self.owners.learn(rows);
        Ok(())
    }

    /// Tells a portion of what is owed. `true`: there is more, and it can be told at once.
    pub async fn flush(&mut self, store: &Store) -> bool {
        if self.not_before.is_some_and(|at| Instant::now() < at) {
            return false;
        }
        let owed = self.owners.take_owed(PORTION);
        if owed.is_empty() {
            return false;
        }
        let (mut made, mut gone) = (Vec::new(), Vec::new());
        for one in owed.iter().cloned() {
            match one {
                Owed::Made(row) => made.push(row),
                Owed::Gone(id) => gone.push(id),
            }
        }
        if let Err(error) = store.note_objects(&made, &gone).await {
            self.owners.give_back(owed);
            self.fail(&error);
            return false;
        }
        if std::mem::take(&mut self.told) {
            info!("the store is told of objects again");
        }
        self.owners.note_stocked();
        true
    }

    /// Tells all that has been owed until now.
    pub async fn flush_all(&mut self, store: &Store) {
        while self.flush(store).await {}
    }

    fn fail(&mut self, error: &StoreError) {
        if !error.may_pass() {
            self.not_before = Some(Instant::now() + PAUSE);
        }
        if !std::mem::replace(&mut self.told, true) {
            if error.may_pass() {
                warn!("objects are remembered here until the store takes them: {error}");
            } else {
                error!("objects cannot be written: {error}");
            }
        }
    }

    /// Finds out whether there is anything to be asked for: until there is, no request asks.
    pub async fn look(&self, store: &Store) {
        let since = self.owners.since(Now::by_clock().0);
        // What cannot be asked now is asked again.
        if let Ok(rows) = store.recent_objects(since, 1).await {
            self.owners.learn(rows);
        }
    }
}

/// Tells the store what there is to tell, for ever.
pub async fn keep(objects: &Mutex<Objects>, store: &Store) {
    let mut turn = interval(FLUSH);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut turns = 0_u32;
    loop {
        turn.tick().await;
        let mut objects = objects.lock().await;
        objects.flush_all(store).await;
        turns = turns.wrapping_add(1);
        if turns.is_multiple_of(TURNS) && !objects.owners.is_stocked() {
            objects.look(store).await;
        }
    }
}
