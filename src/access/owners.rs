//! Who made which object: files, batches, responses and the like are their maker's alone.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::provider::ApiKey;

/// Objects remembered; the oldest are forgotten first.
const REMEMBERED: usize = 100_000;
/// Longer ids are no provider's.
const LONGEST_ID: usize = 256;

/// Where an object was made, and by whom.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The id of the key that made it.
    pub owner: Arc<str>,
    pub provider: Arc<str>,
    /// The provider's account it is in; `None`: without a key of ours.
    pub key: Option<Arc<ApiKey>>,
}

/// The objects this process has seen made. Nothing of it survives the process: an object that is
/// not known here is asked of the default provider.
#[derive(Debug, Default)]
pub struct Owners {
    known: Mutex<Known>,
    /// Looked at before the lock is taken: most gateways never see such an object.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Known {
    by_id: HashMap<Arc<str>, Origin>,
    in_order: VecDeque<Arc<str>>,
}

impl Owners {
    /// Whether nothing has been made yet.
    pub fn is_empty(&self) -> bool {
        self.count.load(Relaxed) == 0
    }

    pub fn find(&self, id: &str) -> Option<Origin> {
        // None such is remembered; a body may hold millions of them.
        if id.is_empty() || id.len() > LONGEST_ID {
            return None;
        }
        self.lock().by_id.get(id).cloned()
    }

    /// Remembers who made `id`. The first to have made it stays its maker.
    pub fn remember(&self, id: &str, origin: Origin) {
        if id.is_empty() || id.len() > LONGEST_ID {
            return;
        }
        let mut known = self.lock();
        if known.by_id.contains_key(id) {
            return;
        }
        if known.in_order.len() >= REMEMBERED
            && let Some(oldest) = known.in_order.pop_front()
        {
            known.by_id.remove(&oldest);
        }
        let id: Arc<str> = Arc::from(id);
        known.in_order.push_back(Arc::clone(&id));
        known.by_id.insert(id, origin);
        self.count.store(known.by_id.len(), Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made_by(owner: &str) -> Origin {
        Origin { owner: Arc::from(owner), provider: Arc::from("p"), key: None }
    }

    #[test]
    fn the_first_maker_stays_the_maker() {
        let owners = Owners::default();
        owners.remember("file-1", made_by("a"));
        owners.remember("file-1", made_by("b"));
        assert_eq!(&*owners.find("file-1").unwrap().owner, "a");
        assert!(owners.find("file-2").is_none());
    }

    #[test]
    fn the_oldest_are_forgotten_first() {
        let owners = Owners::default();
        for number in 0..=REMEMBERED {
            owners.remember(&format!("file-{number}"), made_by("a"));
        }
        assert!(owners.find("file-0").is_none());
        assert!(owners.find("file-1").is_some());
        assert_eq!(owners.lock().by_id.len(), REMEMBERED);
    }
}
