//! What the node knows of all counts: which have changed, which the store told of, how many nodes
//! there are.

use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use super::meter::Meter;
use super::subject::Subject;
use super::terms::Now;

/// How many there are to share the limits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Without Redis: `nodes` that share at most a database.
    Solo { nodes: u32 },
    /// Leases by Redis; `away`: Redis cannot be asked.
    Shared { nodes: u32, away: bool },
}

/// The counts of this node, and what is to be told of them.
///
/// One per process. It does no I/O: whoever drives the exchange with the store calls
/// [`Self::collect`], with Redis [`Self::leases`].
pub struct Limits {
    /// A [`Mode`], packed.
    mode: AtomicU64,
    /// Who has counts that the store is to be told of.
    pub(super) dirty: List,
    /// Who has counts of minutes: told of at a hand-over only.
    pub(super) minutes: List,
    /// Who runs short of a lease.
    pub(super) urgent: List,
    /// Who has leases.
    pub(super) watched: List,
    pub(super) wake: Notify,
    /// Unix minutes; when the tables were last gone through.
    pub(super) swept: AtomicI64,
    /// Unix milliseconds; when leases were last gone through.
    pub(super) looked: AtomicI64,
    known: [Mutex<HashMap<Arc<str>, Known>>; SHARDS],
}

/// Subjects that wait for something; each is in a list once at most.
pub(super) struct List {
    /// The mark of a subject that is in the list.
    mark: u8,
    subjects: Mutex<Vec<Arc<Subject>>>,
}

/// A counter that the store may tell of.
enum Known {
    /// No request has come yet: this is what the store told.
    Learnt { spent: u64, reserved_elsewhere: u64, expires_at: i64 },
    /// Its window has begun here.
    Begun { subject: Weak<Subject>, expires_at: i64 },
}

const SHARDS: usize = 16;

/// Counters per shard that the store told of and no request came for.
const MOST_LEARNT: usize = 65_536;

/// Milliseconds that counters are kept after their window: a stream may end much later.
const GRACE_DURABLE: i64 = 24 * 3_600_000;
const GRACE_MINUTE: i64 = 120_000;

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        let mode = AtomicU64::new(pack(Mode::Solo { nodes: 1 }));
        Self {
            mode,
            dirty: List::new(1 << 0),
            minutes: List::new(1 << 1),
            urgent: List::new(1 << 2),
            watched: List::new(1 << 3),
            wake: Notify::new(),
            swept: AtomicI64::new(0),
            looked: AtomicI64::new(0),
            known: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl Limits {
    /// Alone, until told otherwise.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub fn mode(&self) -> Mode {
        unpack(self.mode.load(Relaxed))
    }

    pub fn set_mode(&self, mode: Mode) {
        self.mode.store(pack(mode), Relaxed);
    }

    /// Takes in what the store knows of a counter: `spent` by all nodes together, with what this one
    /// has sent, and what is reserved by others. To be called with totals that were read after
    /// [`Self::applied`]; `expires_at` in Unix milliseconds.
    pub fn learn(&self, counter: &str, spent: u64, reserved_elsewhere: u64, expires_at: i64) {
        let subject = {
            let mut known = self.shard(counter);
            let found = known.get(counter);
            let begun = found.and_then(|known| match known {
                Known::Begun { subject, .. } => subject.upgrade(),
                Known::Learnt { .. } => None,
            });
            let Some(subject) = begun else {
                if found.is_none() && known.len() >= MOST_LEARNT {
                    log::error!("too many counters in the store: {counter} begins at 0");
                    return;
                }
                let learnt = Known::Learnt { spent, reserved_elsewhere, expires_at };
                known.insert(Arc::from(counter), learnt);
                return;
            };
            subject
        };
        let mut inner = subject.lock();
        let meter = inner.state.as_mut().and_then(|state| state.by_id(counter));
        if let Some(meter) = meter {
            meter.learn(spent, reserved_elsewhere);
        }
    }

    /// A window begins: it goes on from what the store told.
    pub(super) fn begun(&self, subject: &Arc<Subject>, meter: &mut Meter, now: Now) {
        self.sweep_alone(now);
        let expires_at = expires_at(meter);
        let known = {
            let mut known = self.shard(&meter.id);
            let begun = Known::Begun { subject: Arc::downgrade(subject), expires_at };
            if meter.slot.durable() {
                known.insert(Arc::clone(&meter.id), begun)
            } else {
                // Told by the process before this one, which may count on for a while.
                known.get_mut(&meter.id).map(|known| std::mem::replace(known, begun))
            }
        };
        if let Some(Known::Learnt { spent, reserved_elsewhere, .. }) = known {
            meter.learn(spent, reserved_elsewhere);
        }
        // Other nodes may have counted since.
        meter.owed.refresh = meter.slot.durable();
        self.note_spending(subject, meter);
    }

    /// Puts a count on the list for the store.
    pub(super) fn note_spending(&self, subject: &Arc<Subject>, meter: &Meter) {
        if meter.is_dirty() {
            let list = if meter.slot.durable() { &self.dirty } else { &self.minutes };
            list.push(subject);
        }
    }

    /// Has a lease looked after, and asks for one when it runs short.
    pub(super) fn note_lease(&self, subject: &Arc<Subject>, meter: &Meter, now: Now) {
        let mode = self.mode();
        if !matches!(mode, Mode::Shared { .. }) {
            return;
        }
        self.watched.push(subject);
        if meter.is_short(mode, now) && self.urgent.push(subject) {
            self.wake.notify_one();
        }
    }

    /// Once a minute: forgets counters that have expired, and what is idle.
    pub(super) fn sweep(&self, now: Now) {
        let minute = now.0.div_euclid(60_000);
        if self.swept.swap(minute, Relaxed) == minute {
            return;
        }
        self.forget_known(now);
        let mut active = self.minutes.take();
        active.retain(|subject| {
            let active = subject.lock().is_active(now);
            if !active {
                self.minutes.out(subject);
            }
            active
        });
        self.minutes.back(active);
    }

    /// Forgets counters that have expired, where nobody collects.
    fn sweep_alone(&self, now: Now) {
        let minute = now.0.div_euclid(60_000);
        let swept = self.swept.load(Relaxed);
        if minute.saturating_sub(swept).unsigned_abs() > 2
            && self.swept.compare_exchange(swept, minute, Relaxed, Relaxed).is_ok()
        {
            self.forget_known(now);
        }
    }

    fn forget_known(&self, now: Now) {
        for shard in &self.known {
            let mut known = shard.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|_, known| match known {
                Known::Learnt { expires_at, .. } => *expires_at > now.0,
                Known::Begun { subject, expires_at } => {
                    *expires_at > now.0 && subject.strong_count() > 0
                }
            });
        }
    }

    fn shard(&self, counter: &str) -> MutexGuard<'_, HashMap<Arc<str>, Known>> {
        let mut hasher = DefaultHasher::new();
        counter.hash(&mut hasher);
        let shard = usize::try_from(hasher.finish() % SHARDS as u64).unwrap_or(0);
        let [first, ..] = &self.known;
        let shard = self.known.get(shard).unwrap_or(first);
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").field("mode", &self.mode()).finish_non_exhaustive()
    }
}

/// When the store may forget a counter, Unix milliseconds.
pub(super) fn expires_at(meter: &Meter) -> i64 {
    let grace = if meter.slot.durable() { GRACE_DURABLE } else { GRACE_MINUTE };
    meter.span.end.saturating_mul(1000).saturating_add(grace)
}

fn pack(mode: Mode) -> u64 {
    match mode {
        Mode::Solo { nodes } => u64::from(nodes),
        Mode::Shared { nodes, away } => u64::from(nodes) | 1 << 32 | u64::from(away) << 33,
    }
}

fn unpack(mode: u64) -> Mode {
    let nodes = u32::try_from(mode & u64::from(u32::MAX)).unwrap_or(1);
    match mode >> 32 {
        0 => Mode::Solo { nodes },
        flags => Mode::Shared { nodes, away: flags & 2 != 0 },
    }
}

// === impl List ===

impl List {
    fn new(mark: u8) -> Self {
        Self { mark, subjects: Mutex::default() }
    }

    /// Puts `subject` in, which the caller has locked; says whether it was not.
    pub(super) fn push(&self, subject: &Arc<Subject>) -> bool {
        let new = subject.mark(self.mark);
        if new {
            self.lock().push(Arc::clone(subject));
        }
        new
    }

    /// Takes all out. Each is in the list until [`Self::out`] says otherwise.
    pub(super) fn take(&self) -> Vec<Arc<Subject>> {
        std::mem::take(&mut *self.lock())
    }

    /// `subject`, which was taken and is locked, is not in the list any more.
    pub(super) fn out(&self, subject: &Subject) {
        subject.unmark(self.mark);
    }

    /// Puts back what was taken.
    pub(super) fn back(&self, subjects: Vec<Arc<Subject>>) {
        self.lock().extend(subjects);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Subject>>> {
        self.subjects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
