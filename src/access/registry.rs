//! What the process knows of the store's keys and users, and how it reaches the store.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::mpsc;

use super::abuse::Watch;
use super::directory::{Directory, Loading, Lookup};
use super::errand::Errand;
use super::keyring::Digest;
use super::limits::Limits;
use super::rules::Rules;
use super::temporary::Issuer;
use crate::store::{Changed, Store, StoreError};

/// Under what the store remembers that it has had a key.
const KEYS_MADE: &str = "keys_made";
/// Errands that may wait for the store; more are dropped, and come up again.
const WAITING: usize = 1024;

/// The keys and users of the store, what is counted, and the way to the store. One per process; it
/// outlives every configuration.
pub struct Registry {
    /// Keys and users, as far as they are known.
    pub directory: ArcSwap<Directory>,
    pub limits: Arc<Limits>,
    /// Makes keys for whoever may have one.
    pub issuer: Issuer,
    /// Who asks how often, and who tries keys.
    pub watch: Watch,
    /// What the configuration says of every user.
    rules: ArcSwap<Rules>,
    /// There is to be a store.
    configured: bool,
    /// The directory has been read from the store.
    loaded: AtomicBool,
    /// The store has had a key at some time.
    keys_made: AtomicBool,
    /// `None`: there is none, or it is away.
    store: ArcSwapOption<Store>,
    errands: mpsc::Sender<Errand>,
    /// Until the background takes it.
    waiting: Mutex<Option<mpsc::Receiver<Errand>>>,
    /// Held while the directory is replaced.
    replacing: Mutex<()>,
}

impl Registry {
    /// `configured`: a store is to be opened, and until it has been read no key of its is known.
    pub fn new(configured: bool, limits: Arc<Limits>) -> Self {
        let (errands, waiting) = mpsc::channel(WAITING);
        Self {
            directory: ArcSwap::from_pointee(Directory::empty()),
            limits,
            issuer: Issuer::default(),
            watch: Watch::default(),
            rules: ArcSwap::default(),
            configured,
            loaded: AtomicBool::new(false),
            keys_made: AtomicBool::new(false),
            store: ArcSwapOption::empty(),
            errands,
            waiting: Mutex::new(Some(waiting)),
            replacing: Mutex::new(()),
        }
    }

    /// The store; `None` while it is away, and when there is none.
    pub fn store(&self) -> Option<Store> {
        self.store.load().as_deref().cloned()
    }

    /// Says that the store has come, or gone away.
    pub fn attach(&self, store: Option<Store>) {
        self.store.store(store.map(Arc::new));
    }

    /// Whether a store is configured.
    pub fn is_configured(&self) -> bool {
        self.configured
    }

    /// Whether the directory has been read from the store.
    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Relaxed)
    }

    /// Looks for a key, at `now` in Unix milliseconds.
    pub fn find(&self, digest: &Digest, now: i64) -> Lookup {
        if !self.configured {
            return Lookup::Unknown;
        }
        match self.directory.load().find(digest, now) {
            Lookup::Unknown if !self.is_loaded() || self.store.load().is_none() => Lookup::Away,
            found => found,
        }
    }

    /// Whether the store's part lets everyone in: there is none, or it has never had a key.
    pub fn is_open(&self) -> bool {
        !self.configured || (self.is_loaded() && !self.keys_made())
    }

    /// Whether the store has had a key at some time.
    pub fn keys_made(&self) -> bool {
        self.keys_made.load(Relaxed)
    }

    /// Notes that the store has had a key: from now on nobody is let in without one.
    pub fn note_keys_made(&self) {
        self.keys_made.store(true, Relaxed);
    }

    /// Has the store remember that it has had a key: from then on no process lets anybody in without
    /// one, also where the last key is gone.
    pub async fn remember_keys(store: &Store) -> Result<(), StoreError> {
        store.set_meta(KEYS_MADE, "1").await
    }

    /// Whether the store remembers that it has had a key.
    pub async fn remembers_keys(store: &Store) -> Result<bool, StoreError> {
        Ok(store.meta(KEYS_MADE).await?.is_some())
    }

    /// Takes the records of the store, to be put into force by [`Self::loaded`].
    pub fn loading(&self) -> Loading {
        Loading::new(self.directory.load_full(), self.rules.load_full())
    }

    /// Puts what was read into force; it goes up to change `revision` of the store, that of the kind
    /// that was read first. What was counted stays.
    pub fn loaded(&self, loading: Loading, revision: i64) {
        let _held = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = loading.finish(revision);
        directory.follow(&self.rules.load());
        self.put(directory);
        self.loaded.store(true, Relaxed);
    }

    /// Puts what has changed into force.
    pub fn apply(&self, changed: &Changed) {
        let _held = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.directory.load_full();
        // Another has told of later changes already.
        if changed.revision >= before.revision() {
            self.put(before.apply(changed, &self.rules.load()));
        }
    }

    /// Puts what has changed in the store into force, without waiting for word from it. Nothing, while
    /// the directory is still to be read.
    pub async fn learn(&self, store: &Store) -> Result<(), StoreError> {
        if self.is_loaded() {
            // A store that was put back to an earlier state is read anew by who follows it.
            self.apply(&store.changed_since(self.directory.load().revision()).await?);
        }
        Ok(())
    }

    /// Puts what the configuration says of every user into force.
    pub fn follow(&self, rules: Rules) {
        let _held = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        if **self.rules.load() != rules {
            self.directory.load().follow(&rules);
            self.rules.store(Arc::new(rules));
        }
    }

    /// What the configuration says of every user.
    pub fn rules(&self) -> arc_swap::Guard<Arc<Rules>> {
        self.rules.load()
    }

    fn put(&self, directory: Directory) {
        if !directory.is_empty() {
            self.note_keys_made();
        }
        self.directory.store(Arc::new(directory));
    }

    /// Leaves something to be done with the store, in the background. When too much waits already it is
    /// dropped.
    pub fn leave(&self, errand: Errand) {
        if self.errands.try_send(errand).is_err() {
            log::warn!("too much waits for the store: something was left out");
        }
    }

    /// The errands, for the one who does them; `None` when somebody has taken them already.
    pub fn take_errands(&self) -> Option<mpsc::Receiver<Errand>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Default for Registry {
    /// Without a store.
    fn default() -> Self {
        Self::new(false, Arc::default())
    }
}
