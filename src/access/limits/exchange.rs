//! The exchange with those who count for all nodes: the store, and Redis.
//!
//! To the store goes what is spent, as differences, and what is reserved, as it stands. What was
//! collected is on its way until [`Limits::applied`] or [`Limits::give_back`] says what became of
//! it: a batch whose outcome is unknown is to be sent again as it is, and not given back.
//!
//! To Redis goes what this node *holds* of a limit, as it stands, and what it wants besides. A lost
//! answer does no harm: the next question says again what is held. The script, for one counter:
//!
//! ```text
//! used = used or base                        -- Redis knows nothing: base, of which had is this node's
//! mine = held[node] or min(had, unclaimed)   -- unclaimed: what of base no node has named as its own
//! used = used - mine + ask.held
//! granted = max(0, min(ask.want, ask.cap - used))
//! used = used + granted; held[node] = ask.held + granted
//! return granted, used
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::meter::{ACTIVE, Meter, Wish};
use super::registry::{Limits, Mode, expires_at};
use super::subject::{Inner, State, Subject};
use super::terms::Now;

/// A count that the store is to be told of, or to be asked for.
#[derive(Clone)]
pub struct Owed {
    pub counter: Arc<str>,
    /// Unix milliseconds; after the window, with time for late streams.
    pub expires_at: i64,
    /// A budget or a quota; else a minute, which matters at a hand-over only.
    pub durable: bool,
    /// To be added. May be 0: then only the total is wanted.
    pub spent: u64,
    /// This node's open reservations as they stand.
    pub reserved: u64,
    entry: Entry,
}

/// What is asked of Redis for one counter.
#[derive(Clone)]
pub struct Ask {
    pub counter: Arc<str>,
    /// Unix milliseconds.
    pub expires_at: i64,
    pub cap: u64,
    /// Taken out of the limit by all nodes, as known here: where Redis knows nothing.
    pub base: u64,
    /// Of `base`: by this node.
    pub had: u64,
    /// What this node holds from now on: spent, reserved, and still to spend.
    pub held: u64,
    /// What it wants besides.
    pub want: u64,
    entry: Entry,
}

/// A count of a subject.
#[derive(Clone)]
struct Entry {
    subject: Arc<Subject>,
    serial: u32,
}

/// The answer to an [`Ask`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// Of what was wanted.
    pub granted: u64,
    /// Taken out of the limit by all nodes, with `granted` in it.
    pub used: u64,
}

/// Leases are gone through this often, milliseconds; those that run short are asked for at once.
const LOOK: u64 = 250;

// === impl Limits ===

impl Limits {
    /// Counts of budgets and quotas that changed since they were last collected, and those whose
    /// totals are wanted.
    pub fn collect(&self, now: Now) -> Vec<Owed> {
        self.sweep(now);
        let mut all = Vec::new();
        for subject in self.dirty.take() {
            let mut inner = subject.lock();
            self.dirty.out(&subject);
            collect(&subject, &mut inner, true, &mut all);
            inner.state.iter_mut().for_each(|state| state.forget(now));
        }
        all
    }

    /// The same with the counts of minutes, for a process that takes over from this one.
    pub fn collect_all(&self, now: Now) -> Vec<Owed> {
        let mut all = self.collect(now);
        for subject in self.minutes.take() {
            let mut inner = subject.lock();
            self.minutes.out(&subject);
            collect(&subject, &mut inner, false, &mut all);
        }
        all
    }

    /// Whether there is something to collect.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The store has it.
    pub fn applied(&self, owed: &[Owed]) {
        for one in owed {
            one.entry.with(|meter, _| meter.sent(one.spent, true));
        }
    }

    /// The store does not have it, which is certain: it is owed again.
    pub fn give_back(&self, owed: &[Owed]) {
        for one in owed {
            one.entry.with(|meter, subject| {
                meter.sent(one.spent, false);
                self.note_spending(subject, meter);
            });
        }
    }

    /// Returns when leases are wanted, or were since this was last called.
    pub async fn wanted(&self) {
        self.wake.notified().await;
    }

    /// What to ask Redis for. To be called when [`Self::wanted`] returns, and every 250 ms.
    pub fn leases(&self, now: Now) -> Vec<Ask> {
        let Mode::Shared { nodes, .. } = self.mode() else { return Vec::new() };
        let mut asks = Vec::new();
        for subject in self.urgent.take() {
            let mut inner = subject.lock();
            self.urgent.out(&subject);
            wish(&subject, &mut inner, nodes, now, false, &mut asks);
        }
        if now.0.saturating_sub(self.looked.load(Relaxed)).unsigned_abs() >= LOOK {
            self.looked.store(now.0, Relaxed);
            self.look_after(nodes, now, &mut asks);
        }
        asks
    }

    /// Gives back all that is not spent: this node leaves. To be asked like the others.
    pub fn leave(&self, now: Now) -> Vec<Ask> {
        let Mode::Shared { nodes, .. } = self.mode() else { return Vec::new() };
        let mut asks = Vec::new();
        let subjects = self.watched.take();
        for subject in &subjects {
            wish(subject, &mut subject.lock(), nodes, now, true, &mut asks);
        }
        self.watched.back(subjects);
        asks
    }

    /// Takes Redis' answers in, each for the question at its place.
    pub fn leased(&self, asks: &[Ask], answers: &[Granted], now: Now) {
        for (ask, answer) in asks.iter().zip(answers) {
            ask.entry.with(|meter, subject| {
                meter.leased(ask.wish(), answer.granted, answer.used);
                self.note_lease(subject, meter, now);
            });
        }
        self.unheard(asks.get(answers.len()..).unwrap_or_default());
    }

    /// Whether Redis has taken these is not known: they are asked again.
    pub fn unheard(&self, asks: &[Ask]) {
        for ask in asks {
            ask.entry.with(|meter, subject| {
                meter.lease.asked = 0;
                self.urgent.push(subject);
            });
        }
    }

    /// Goes through all leases: what is idle goes back, and where a window is over, the next one of
    /// who was active begins with a lease.
    fn look_after(&self, nodes: u32, now: Now, asks: &mut Vec<Ask>) {
        let mut subjects = self.watched.take();
        subjects.retain(|subject| {
            let mut inner = subject.lock();
            self.renew(subject, &mut inner, now);
            wish(subject, &mut inner, nodes, now, false, asks);
            let state = inner.state.as_deref();
            let kept = state.is_some_and(|it| it.current.iter().any(|it| it.is_leased(now)));
            if !kept {
                self.watched.out(subject);
            }
            kept
        });
        self.watched.back(subjects);
    }

    /// Begins windows after those that are over.
    fn renew(&self, subject: &Arc<Subject>, inner: &mut Inner, now: Now) {
        let Inner { terms, state: Some(state) } = inner else { return };
        let over = |state: &State, slot| {
            let mut meters = state.current.iter();
            let meter = meters.find(|it| it.slot == slot && it.span.left(now) == 0)?;
            let active = now.0.saturating_sub(meter.lease.touched) < ACTIVE;
            active.then_some((meter.lease.claim, meter.lease.touched))
        };
        for site in terms.all_sites() {
            let Some((claim, touched)) = over(state, site.slot) else { continue };
            if let Some(meter) = state.meter(self, subject, &site, now) {
                (meter.lease.claim, meter.lease.touched) = (claim, touched);
            }
        }
    }
}

/// What the store is to be told of `subject`: of what it keeps, or of minutes.
fn collect(subject: &Arc<Subject>, inner: &mut Inner, durable: bool, all: &mut Vec<Owed>) {
    let Some(state) = inner.state.as_deref_mut() else { return };
    let meters = state.current.iter_mut().chain(&mut state.past);
    for meter in meters.filter(|meter| meter.slot.durable() == durable && meter.is_dirty()) {
        let (spent, reserved) = meter.send();
        let (counter, expires_at) = (Arc::clone(&meter.id), expires_at(meter));
        let entry = Entry { subject: Arc::clone(subject), serial: meter.serial };
        all.push(Owed { counter, expires_at, durable, spent, reserved, entry });
    }
}

/// What is to be asked for `subject`.
fn wish(
    subject: &Arc<Subject>,
    inner: &mut Inner,
    nodes: u32,
    now: Now,
    leaving: bool,
    asks: &mut Vec<Ask>,
) {
    let Some(state) = inner.state.as_deref_mut() else { return };
    for meter in &mut state.current {
        let Some(Wish { base, held, had, want }) = meter.wish(nodes, now, leaving) else {
            continue;
        };
        let (counter, expires_at, cap) = (Arc::clone(&meter.id), expires_at(meter), meter.cap);
        let entry = Entry { subject: Arc::clone(subject), serial: meter.serial };
        asks.push(Ask { counter, expires_at, cap, base, had, held, want, entry });
    }
}

// === impl Ask ===

impl Ask {
    fn wish(&self) -> Wish {
        Wish { base: self.base, held: self.held, had: self.had, want: self.want }
    }

    /// What is new of `held`: spent beyond what Redis had granted.
    pub fn spent_on_credit(&self) -> u64 {
        self.held.saturating_sub(self.had)
    }

    /// What goes back of `had`.
    pub fn give_back(&self) -> u64 {
        self.had.saturating_sub(self.held)
    }
}

// === impl Entry ===

impl Entry {
    /// Does something with the count, if it is still there.
    fn with<R>(&self, act: impl FnOnce(&mut Meter, &Arc<Subject>) -> R) -> Option<R> {
        let mut inner = self.subject.lock();
        let meter = inner.state.as_deref_mut()?.by_serial(self.serial)?;
        Some(act(meter, &self.subject))
    }
}
