//! The way into a pool whose replicas have only so many places: who gets one, and who waits how long.
//!
//! What is decided under the lock is short, and wakes nobody there. A [`Place`] and a [`Ticket`] are
//! given back by being dropped, whatever has become of their request.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::drain::Drain;
use super::line::{Ask, Charge, Line, Spot};
use super::replica::Replica;
use crate::config::Admission;

/// How often somebody who waits looks whether there is a place of which nobody told: an ejection that
/// is over, a KV cache that has room again.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Bounds of what a caller is told to wait.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(5);
/// Of a place, before it is known what its request took.
const UNKNOWN: u64 = u64::MAX;

/// The way into a pool.
#[derive(Debug, Default)]
pub struct Gate {
    /// Requests that one replica may have; 0 is any number. Read for every choice of a replica.
    bound: AtomicU32,
    /// How full its KV cache may be, in percent.
    kv_limit: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rule: Option<Admission>,
    /// Those that passed their health check last.
    replicas: Vec<Arc<Replica>>,
    /// Places that were given and are at no replica yet.
    pending: u32,
    line: Line<oneshot::Sender<Result<Place, Shed>>>,
    drain: Drain,
}

/// What becomes of a request at the gate.
#[derive(Debug)]
pub enum Entry {
    /// It may go on: with a place, where places are counted.
    Free(Option<Place>),
    /// It would have to wait, about so long as far as that is known.
    Full(Option<Duration>),
}

/// Why a request gets no place, and when it may be worth another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shed {
    pub why: Why,
    pub retry_after: Duration,
}

/// Why a request gets no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// As many wait as may.
    Full,
    /// It would wait longer than it may.
    Wait,
    /// … since the replicas' KV caches have no room.
    KvCache,
    /// Another came in its place: of a higher priority, or of a caller with fewer that wait.
    Displaced,
    /// It has waited as long as it may.
    Timeout,
}

/// A place among a pool's requests under way.
#[derive(Debug)]
pub struct Place {
    gate: Arc<Gate>,
    charge: Charge,
    since: Instant,
    /// It is counted at a replica.
    begun: AtomicBool,
    /// Tokens its request took.
    took: AtomicU64,
}

/// A place in the line.
#[derive(Debug)]
pub struct Ticket {
    gate: Arc<Gate>,
    spot: Spot,
    told: oneshot::Receiver<Result<Place, Shed>>,
}

/// What is told of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    pub waiting: usize,
    /// As many as may wait.
    pub most: u32,
    /// How long one more would wait; `None` when nobody does, or nothing is known.
    pub expected: Option<Duration>,
}

type Told = (oneshot::Sender<Result<Place, Shed>>, Result<Place, Shed>);

// === impl Gate ===

impl Gate {
    /// Puts a rule into force; `None`: everybody may go on.
    pub fn set_rule(self: &Arc<Self>, rule: Option<Admission>) {
        self.bound.store(rule.map_or(0, |rule| rule.max_concurrent), Relaxed);
        self.kv_limit.store(rule.map_or(100, |rule| rule.kv_limit.0.into()), Relaxed);
        self.lock().rule = rule;
        self.look();
    }

    /// Takes note of the replicas that passed their health check.
    pub(super) fn set_replicas(self: &Arc<Self>, replicas: Vec<Arc<Replica>>) {
        self.lock().replicas = replicas;
        self.look();
    }

    /// Whether places are counted.
    pub fn is_bounded(&self) -> bool {
        self.bound() > 0
    }

    /// Whether what servers tell of their KV caches is used.
    pub(super) fn wants_loads(&self) -> bool {
        self.is_bounded() && self.kv_limit() < 100
    }

    /// Requests that one replica may have; 0 is any number.
    pub(super) fn bound(&self) -> u32 {
        self.bound.load(Relaxed)
    }

    /// How many more requests a replica may have, as things are.
    pub(super) fn room(&self, replica: &Replica) -> u32 {
        match self.bound() {
            0 => u32::MAX,
            bound => room(replica, bound, self.kv_limit()),
        }
    }

    /// Asks for a place.
    pub fn enter(self: &Arc<Self>, ask: &Ask) -> Entry {
        if !self.is_bounded() {
            return Entry::Free(None);
        }
        let mut state = self.lock();
        // With no replica to count places at, it is not for the gate to say what becomes of it.
        let Some(free) = state.free() else { return Entry::Free(None) };
        if free > 0 && state.line.is_empty() {
            let charge = state.line.serve(ask);
            state.pending += 1;
            drop(state);
            return Entry::Free(Some(self.place(charge)));
        }
        Entry::Full(state.expected(state.line.ahead(ask) + 1))
    }

    /// Takes a place in the line, or says why there is none. `again`: its request was served before,
    /// and stands before its caller's others.
    pub fn join(self: &Arc<Self>, ask: &Ask, again: bool) -> Result<Ticket, Shed> {
        let mut state = self.lock();
        let Some(rule) = state.rule else {
            return Err(Shed { why: Why::Full, retry_after: SHORTEST });
        };
        let expected = state.expected(state.line.ahead(ask) + 1);
        let retry_after = expected.unwrap_or(SHORTEST).clamp(SHORTEST, LONGEST);
        // Who was served before is not sent away: there are no more of them than there were places.
        if !again && expected.is_some_and(|expected| expected > rule.wait) {
            let why = if state.is_out_of_kv() { Why::KvCache } else { Why::Wait };
            return Err(Shed { why, retry_after });
        }
        let most = usize::try_from(rule.queue).unwrap_or(usize::MAX);
        let mut displaced = None;
        if !again && state.line.len() >= most {
            displaced = state.line.displace(ask);
            if displaced.is_none() {
                return Err(Shed { why: Why::Full, retry_after });
            }
        }
        let (tell, told) = oneshot::channel();
        let spot = state.line.join(ask.clone(), again, tell);
        drop(state);
        if let Some(displaced) = displaced {
            displaced.send(Err(Shed { why: Why::Displaced, retry_after })).ok();
        }
        self.look();
        Ok(Ticket { gate: Arc::clone(self), spot, told })
    }

    /// What is told of it; `None` where places are not counted.
    pub fn queue(&self) -> Option<Queue> {
        let state = self.lock();
        let rule = state.rule?;
        let waiting = state.line.len();
        let expected = (waiting > 0).then(|| state.expected(waiting + 1)).flatten();
        Some(Queue { waiting, most: rule.queue, expected })
    }

    /// Gives places that are free to those who wait.
    pub(super) fn look(self: &Arc<Self>) {
        let told = self.next_ones(&mut self.lock());
        // Who is gone gives the place back, and that looks again.
        for (tell, place) in told {
            tell.send(place).ok();
        }
    }

    fn next_ones(self: &Arc<Self>, state: &mut State) -> Vec<Told> {
        let mut told = Vec::new();
        if state.line.is_empty() {
            return told;
        }
        // Nobody must wait for replicas that are gone, or for a rule that is.
        let mut free = state.free().filter(|_| state.rule.is_some()).unwrap_or(u32::MAX);
        while free > 0
            && let Some((tell, charge)) = state.line.call()
        {
            state.pending += 1;
            free -= 1;
            told.push((tell, Ok(self.place(charge))));
        }
        told
    }

    fn place(self: &Arc<Self>, charge: Charge) -> Place {
        Place {
            gate: Arc::clone(self),
            charge,
            since: Instant::now(),
            begun: AtomicBool::new(false),
            took: AtomicU64::new(UNKNOWN),
        }
    }

    fn kv_limit(&self) -> u32 {
        self.kv_limit.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl State {
    /// Places that are free at replicas in service; `None`: none is.
    fn free(&self) -> Option<u32> {
        let rule = self.rule?;
        let limit = u32::from(rule.kv_limit.0);
        let rooms = self.in_service().map(|replica| room(replica, rule.max_concurrent, limit));
        let free =
            rooms.fold(None, |sum: Option<u32>, room| Some(sum.unwrap_or(0).saturating_add(room)));
        free.map(|free| free.saturating_sub(self.pending))
    }

    fn in_service(&self) -> impl Iterator<Item = &Arc<Replica>> {
        self.replicas.iter().filter(|replica| !replica.breaker.is_ejected())
    }

    /// How long until so many more have a place.
    fn expected(&self, ahead: usize) -> Option<Duration> {
        let taken = self.in_service().map(|replica| replica.in_flight()).sum();
        self.drain.expect(Instant::now(), ahead, taken)
    }

    /// Whether it is for want of room in their KV caches that replicas take nothing.
    fn is_out_of_kv(&self) -> bool {
        let Some(rule) = self.rule else { return false };
        let limit = u32::from(rule.kv_limit.0);
        self.in_service().any(|replica| is_out_of_kv(replica, limit))
    }
}

/// How many more requests a replica may have. One that has none of ours may always have one: it is
/// others' requests that fill its cache, and somebody must find out when there is room again.
fn room(replica: &Replica, bound: u32, kv_limit: u32) -> u32 {
    let taken = replica.in_flight();
    if is_out_of_kv(replica, kv_limit) {
        return u32::from(taken == 0);
    }
    bound.saturating_sub(taken)
}

fn is_out_of_kv(replica: &Replica, limit: u32) -> bool {
    limit < 100 && replica.load.kv_use().is_some_and(|used| used * 100.0 > f64::from(limit))
}

// === impl Place ===

impl Place {
    /// The request is counted at its replica from now on.
    pub(super) fn begin(&self) {
        if !self.begun.swap(true, Relaxed) {
            let mut state = self.gate.lock();
            state.pending = state.pending.saturating_sub(1);
        }
    }

    /// Takes note of the tokens its request took.
    pub(super) fn settle(&self, tokens: u64) {
        self.took.store(tokens.min(UNKNOWN - 1), Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        let took = self.took.load(Relaxed);
        let took = (took != UNKNOWN).then_some(took);
        state.line.done(&self.charge, took);
        if self.begun.load(Relaxed) {
            // What failed at once says nothing of how long others will take.
            if took.is_some_and(|tokens| tokens > 0) {
                let (now, crowded) = (Instant::now(), !state.line.is_empty());
                state.drain.note(now, self.since.elapsed(), crowded);
            }
        } else {
            state.pending = state.pending.saturating_sub(1);
        }
        drop(state);
        self.gate.look();
    }
}

// === impl Ticket ===

impl Ticket {
    /// Waits for a place. Dropping this future loses nothing.
    pub async fn called(&mut self) -> Result<Place, Shed> {
        loop {
            let wait = tokio::time::timeout(LOOK_AGAIN, &mut self.told);
            match wait.await {
                Ok(Ok(told)) => return told,
                Ok(Err(_)) => return Err(self.late()),
                Err(_) => self.gate.look(),
            }
        }
    }

    /// What one is told who has waited long enough.
    pub fn late(&self) -> Shed {
        let state = self.gate.lock();
        let expected = state.expected(state.line.len() + 1).unwrap_or(SHORTEST);
        Shed { why: Why::Timeout, retry_after: expected.clamp(SHORTEST, LONGEST) }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let left = self.gate.lock().line.leave(&self.spot);
        drop(left);
    }
}

// === impl Why ===

impl Why {
    /// Its label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Wait => "wait",
            Self::KvCache => "kv_cache",
            Self::Displaced => "displaced",
            Self::Timeout => "timeout",
        }
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
