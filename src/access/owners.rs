//! Who made which object: files, batches, responses and the like are their maker's alone.
//!
//! What this process has seen is in memory. Where there is a store, it is told in the background, and
//! remembers for every process and past a restart; an id that is not known here is looked for there.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::store::{ObjectRow, Store, StoreError};

/// Objects remembered here; the oldest are forgotten first.
const REMEMBERED: usize = 100_000;
/// Longer ids are no provider's.
const LONGEST_ID: usize = 256;
/// What may wait for the store; the oldest is left out when there is more.
const OWED: usize = 50_000;
/// How long an object is remembered after it was last asked for, where nothing is configured.
const KEPT: i64 = 30 * DAY;
/// An object that was seen so long ago, and is asked for, counts as seen anew.
const RENEWED: i64 = DAY;
const DAY: i64 = 24 * 3_600_000;
/// How long a request waits for the store's word, its turn included.
const PATIENCE: Duration = Duration::from_millis(500);
/// Requests that ask the store at once: its connections are for others, too.
const AT_ONCE: usize = 4;
/// What providers' ids of objects begin with.
const PREFIXES: [&str; 21] = [
    "asst_", "batch-", "batch_", "cfile_", "cntr_", "conv_", "eval_", "evalrun_", "file-", "file_",
    "ftjob-", "msg_", "resp-", "resp_", "run_", "step_", "thread_", "upload_", "video_", "vs_",
    "vsfb_",
];
/// What follows, at least.
const SHORTEST_REST: usize = 4;

/// Where an object was made, and by whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The id of the key that made it.
    pub owner: Arc<str>,
    pub provider: Arc<str>,
    /// The mark of the provider's key whose account it is in; `None`: without a key of ours.
    pub key: Option<Arc<str>>,
}

/// The objects this process knows. Moments are Unix milliseconds.
#[derive(Debug)]
pub struct Owners {
    known: Mutex<Known>,
    /// Looked at before the lock is taken: most gateways never see such an object.
    count: AtomicUsize,
    /// There is a store to tell.
    durable: bool,
    /// The store has objects.
    stocked: AtomicBool,
    /// How long an object is remembered after it was last asked for, in milliseconds.
    keep: AtomicI64,
    looking: Semaphore,
}

#[derive(Debug, Default)]
struct Known {
    by_id: HashMap<Arc<str>, Remembered>,
    in_order: VecDeque<Arc<str>>,
    owed: VecDeque<Owed>,
    /// It has been told that something was left out.
    told: bool,
}

#[derive(Debug)]
struct Remembered {
    origin: Origin,
    seen_at: i64,
}

/// What the store is yet to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owed {
    Made(ObjectRow),
    Gone(String),
}

impl Owners {
    /// `durable`: there is a store that is to be told.
    pub fn new(durable: bool) -> Self {
        Self {
            known: Mutex::default(),
            count: AtomicUsize::new(0),
            durable,
            stocked: AtomicBool::new(false),
            keep: AtomicI64::new(KEPT),
            looking: Semaphore::new(AT_ONCE),
        }
    }

    /// Whether no object is known, here or to the store.
    pub fn is_empty(&self) -> bool {
        self.count.load(Relaxed) == 0 && !self.is_stocked()
    }

    /// Whether the store has objects.
    pub fn is_stocked(&self) -> bool {
        self.stocked.load(Relaxed)
    }

    /// How long an object is remembered after it was last asked for.
    pub fn set_keep(&self, keep: Duration) {
        self.keep.store(i64::try_from(keep.as_millis()).unwrap_or(i64::MAX), Relaxed);
    }

    /// What was last seen before is forgotten.
    pub fn since(&self, now: i64) -> i64 {
        now.saturating_sub(self.keep.load(Relaxed))
    }

    pub fn find(&self, id: &str, now: i64) -> Option<Origin> {
        // None such is remembered; a body may hold millions of them.
        if id.is_empty() || id.len() > LONGEST_ID {
            return None;
        }
        let known = self.lock();
        let found = known.by_id.get(id)?;
        (found.seen_at >= self.since(now)).then(|| found.origin.clone())
    }

    /// Whether an id that is not known here may be known to the store.
    pub fn may_be_stored(&self, id: &str) -> bool {
        self.is_stocked() && is_like_an_object(id)
    }

    /// Remembers who made `id`. The first to have made it stays its maker.
    pub fn remember(&self, id: &str, origin: Origin, now: i64) {
        if id.is_empty() || id.len() > LONGEST_ID {
            return;
        }
        let since = self.since(now);
        let mut known = self.lock();
        if known.by_id.get(id).is_some_and(|it| it.seen_at >= since) {
            return;
        }
        let row = self.durable.then(|| row(id, &origin, now));
        known.put(id, Remembered { origin, seen_at: now });
        if let Some(row) = row {
            known.owe(Owed::Made(row));
        }
        self.count.store(known.by_id.len(), Relaxed);
    }

    /// Notes that an object was asked for by its maker: it is remembered from now on.
    pub fn see(&self, id: &str, now: i64) {
        let mut known = self.lock();
        let Some(found) = known.by_id.get_mut(id) else { return };
        if now.saturating_sub(found.seen_at) < RENEWED {
            return;
        }
        found.seen_at = now;
        let row = self.durable.then(|| row(id, &found.origin, now));
        if let Some(row) = row {
            known.owe(Owed::Made(row));
        }
    }

    /// Forgets an object: its maker has deleted it.
    pub fn forget(&self, id: &str) {
        let mut known = self.lock();
        if known.by_id.remove(id).is_none() {
            return;
        }
        // Its place in the order is found empty when its turn comes.
        if self.durable {
            known.owe(Owed::Gone(id.to_owned()));
        }
        self.count.store(known.by_id.len(), Relaxed);
    }

    // === the store ===

    /// Takes up what the store knows, the last seen first.
    pub fn learn(&self, rows: Vec<ObjectRow>) {
        if rows.is_empty() {
            return;
        }
        self.stocked.store(true, Relaxed);
        // Many have the same few makers.
        let mut words: HashSet<Arc<str>> = HashSet::new();
        let mut word = |text: &str| {
            if let Some(known) = words.get(text) {
                Arc::clone(known)
            } else {
                let word: Arc<str> = Arc::from(text);
                words.insert(Arc::clone(&word));
                word
            }
        };
        let mut known = self.lock();
        for ObjectRow { id, owner, provider, credential, seen_at } in rows.into_iter().rev() {
            if let Some(here) = known.by_id.get_mut(id.as_str()) {
                here.seen_at = here.seen_at.max(seen_at);
            } else {
                let (owner, provider) = (word(&owner), word(&provider));
                let origin = Origin { owner, provider, key: credential.as_deref().map(&mut word) };
                known.put(&id, Remembered { origin, seen_at });
            }
        }
        self.count.store(known.by_id.len(), Relaxed);
    }

    /// Asks the store for ids that are not known here; what it knows is known here from then on.
    ///
    /// # Errors
    /// When it is away, or takes longer than a request may wait.
    pub async fn look_up(&self, store: &Store, ids: &[String], now: i64) -> Result<(), StoreError> {
        let looked = async {
            let _turn = self.looking.acquire().await;
            store.objects(ids, self.since(now)).await
        };
        let late = |_| Err(StoreError::Away("no answer in time".to_owned()));
        self.learn(timeout(PATIENCE, looked).await.unwrap_or_else(late)?);
        Ok(())
    }

    /// Up to `most` of what the store is yet to be told, the oldest first.
    pub fn take_owed(&self, most: usize) -> Vec<Owed> {
        let mut known = self.lock();
        let mut gone: HashSet<String> = HashSet::new();
        let fits = |owed: &&Owed| match owed {
            Owed::Gone(id) => {
                gone.insert(id.clone());
                true
            }
            // What is told together is made before it goes.
            Owed::Made(row) => !gone.contains(&row.id),
        };
        let count = known.owed.iter().take(most).take_while(fits).count();
        known.owed.drain(..count).collect()
    }

    /// Takes back what the store could not be told.
    pub fn give_back(&self, owed: Vec<Owed>) {
        let mut known = self.lock();
        for one in owed.into_iter().rev() {
            known.owed.push_front(one);
        }
        known.bound();
    }

    /// The store has been told of objects.
    pub fn note_stocked(&self) {
        self.stocked.store(true, Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Owners {
    fn default() -> Self {
        Self::new(false)
    }
}

impl Known {
    fn put(&mut self, id: &str, remembered: Remembered) {
        if let Some(known) = self.by_id.get_mut(id) {
            *known = remembered;
            return;
        }
        if self.in_order.len() >= REMEMBERED
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.by_id.remove(&oldest);
        }
        let id: Arc<str> = Arc::from(id);
        self.in_order.push_back(Arc::clone(&id));
        self.by_id.insert(id, remembered);
    }

    fn owe(&mut self, owed: Owed) {
        self.owed.push_back(owed);
        self.bound();
    }

    fn bound(&mut self) {
        while self.owed.len() > OWED {
            self.owed.pop_front();
            if !std::mem::replace(&mut self.told, true) {
                log::warn!("too many objects wait for the store: the oldest are left out");
            }
        }
    }
}

fn row(id: &str, origin: &Origin, seen_at: i64) -> ObjectRow {
    ObjectRow {
        id: id.to_owned(),
        owner: origin.owner.to_string(),
        provider: origin.provider.to_string(),
        credential: origin.key.as_deref().map(str::to_owned),
        seen_at,
    }
}

/// Whether a text is like the ids that providers give to objects: one of their prefixes and something
/// behind it, or a UUID.
fn is_like_an_object(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if id.len() > LONGEST_ID || !id.bytes().all(plain) {
        return false;
    }
    let rest = PREFIXES.iter().find_map(|prefix| id.strip_prefix(prefix));
    rest.is_some_and(|rest| rest.len() >= SHORTEST_REST) || is_uuid(id)
}

fn is_uuid(text: &str) -> bool {
    let fits = |(place, byte): (usize, u8)| match place {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    text.len() == 36 && text.bytes().enumerate().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1000 * DAY;

    fn made_by(owner: &str) -> Origin {
        Origin { owner: Arc::from(owner), provider: Arc::from("p"), key: Some(Arc::from("k")) }
    }

    fn stored(id: &str, owner: &str, seen_at: i64) -> ObjectRow {
        row(id, &made_by(owner), seen_at)
    }

    fn maker(owners: &Owners, id: &str, now: i64) -> Option<String> {
        owners.find(id, now).map(|origin| origin.owner.to_string())
    }

    #[test]
    fn the_first_maker_stays_the_maker() {
        let owners = Owners::default();
        owners.remember("file-1", made_by("a"), NOW);
        owners.remember("file-1", made_by("b"), NOW);
        owners.learn(vec![stored("file-1", "c", NOW)]);
        assert_eq!(maker(&owners, "file-1", NOW).as_deref(), Some("a"));
        assert_eq!(maker(&owners, "file-2", NOW), None);
    }

    #[test]
    fn the_oldest_are_forgotten_first() {
        let owners = Owners::default();
        for number in 0..=REMEMBERED {
            owners.remember(&format!("file-{number}"), made_by("a"), NOW);
        }
        assert_eq!(maker(&owners, "file-0", NOW), None);
        assert!(maker(&owners, "file-1", NOW).is_some());
        assert_eq!(owners.lock().by_id.len(), REMEMBERED);
    }

    #[test]
    fn what_nobody_asks_for_is_forgotten_and_what_is_asked_for_stays() {
        let owners = Owners::new(true);
        for id in ["file-idle", "file-busy"] {
            owners.remember(id, made_by("a"), NOW);
        }
        assert_eq!(owners.take_owed(10).len(), 2);
        for day in 1..=40 {
            owners.see("file-busy", NOW + day * DAY);
        }
        let later = NOW + 40 * DAY;
        assert_eq!(maker(&owners, "file-idle", later), None);
        assert!(maker(&owners, "file-busy", later).is_some());
        assert_eq!(owners.take_owed(100).len(), 40, "the store hears of it once a day");
        owners.remember("file-idle", made_by("b"), later);
        assert_eq!(maker(&owners, "file-idle", later).as_deref(), Some("b"));
        owners.set_keep(Duration::from_hours(1));
        assert_eq!(maker(&owners, "file-busy", later + DAY), None);
    }

    #[test]
    fn the_store_is_told_what_is_made_and_what_is_gone_in_turn() {
        let owners = Owners::new(true);
        owners.remember("file-1", made_by("a"), NOW);
        owners.forget("file-1");
        owners.forget("file-unknown");
        owners.remember("file-1", made_by("a"), NOW);
        let made = Owed::Made(stored("file-1", "a", NOW));
        let first = owners.take_owed(10);
        assert_eq!(first, [made.clone(), Owed::Gone("file-1".to_owned())]);
        owners.give_back(first.clone());
        assert_eq!(owners.take_owed(10), first);
        assert_eq!(owners.take_owed(10), [made]);
        assert!(owners.take_owed(10).is_empty());
        let without = Owners::new(false);
        without.remember("file-1", made_by("a"), NOW);
        assert!(without.take_owed(10).is_empty());
    }

    #[test]
    fn what_waits_for_the_store_is_bounded() {
        let owners = Owners::new(true);
        for number in 0..OWED + 10 {
            owners.remember(&format!("file-{number}"), made_by("a"), NOW);
        }
        let owed = owners.take_owed(usize::MAX);
        assert_eq!(owed.len(), OWED);
        assert_eq!(owed[0], Owed::Made(stored("file-10", "a", NOW)));
    }

    #[test]
    fn what_the_store_knows_is_known() {
        let owners = Owners::new(true);
        assert!(owners.is_empty() && !owners.may_be_stored("file-abcdef"));
        owners.learn(vec![stored("file-new", "a", NOW), stored("file-old", "b", NOW - 1)]);
        assert!(!owners.is_empty() && owners.may_be_stored("file-abcdef"));
        assert_eq!(maker(&owners, "file-old", NOW).as_deref(), Some("b"));
        assert_eq!(owners.lock().in_order[0], Arc::from("file-old"));
        assert!(owners.take_owed(10).is_empty());
    }

    #[test]
    fn only_what_is_like_an_id_is_looked_for() {
        for id in [
            "resp_68af4030592c81938ec0a5fbab4a3e9f",
            "file-AbC123",
            "batch_abc123",
            "123e4567-e89b-12d3-a456-426614174000",
        ] {
            assert!(is_like_an_object(id), "{id}");
        }
        let long = format!("resp_{}", "a".repeat(300));
        for text in ["", "completions", "resp_", "file-a b", "run_ä234", "llama-3", "12", &long] {
            assert!(!is_like_an_object(text), "{text}");
        }
    }
}
