//! A key, a user or a model with its limits, and what is counted of it.

use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::addresses::{Addresses, Seen};
use super::bucket::Bucket;
use super::meter::{Meter, Slot};
use super::registry::Limits;
use super::terms::{Claim, Now, Terms, Who};
use super::window::Span;
use crate::config::Period;

/// Who limits are about. It must outlive changes of its terms: what was counted is in it.
///
/// Small until its first request.
pub struct Subject {
    who: Who,
    /// Whether anything is limited; looked at before the lock is taken.
    counted: AtomicBool,
    /// In which lists it is; changed under the lock.
    marks: AtomicU8,
    /// Of the last meter.
    serial: AtomicU32,
    id: Arc<str>,
    inner: Mutex<Inner>,
}

pub(super) struct Inner {
    pub terms: Arc<Terms>,
    /// `None` before the first request.
    pub state: Option<Box<State>>,
}

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct State {
    pub bucket: Bucket,
    /// Requests under way.
    pub open: u32,
    /// The windows that are now, one per limit.
    pub current: Vec<Meter>,
    /// Windows that are over or without a limit, while something of them is open.
    pub past: Vec<Meter>,
    addresses: Addresses,
}

/// One limit of the terms that a request counts towards.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site<'a> {
    pub slot: Slot,
    pub cap: u64,
    /// What the request claims of it.
    pub claim: u64,
    /// `None`: a minute.
    period: Option<&'a Period>,
    pub group: Option<&'a Arc<str>>,
    /// Of a quota: how often it was given anew.
    epoch: u32,
}

/// Windows that are over and that the store has not taken; more are given up, the oldest first.
const MOST_PAST: usize = 100;

// === impl Subject ===

impl Subject {
    pub fn new(who: Who, id: impl Into<Arc<str>>, terms: impl Into<Arc<Terms>>) -> Arc<Self> {
        let terms = terms.into();
        let counted = AtomicBool::new(!terms.is_unlimited());
        let inner = Mutex::new(Inner { terms, state: None });
        let (marks, serial) = (AtomicU8::new(0), AtomicU32::new(0));
        Arc::new(Self { who, counted, marks, serial, id: id.into(), inner })
    }

    pub fn who(&self) -> Who {
        self.who
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// Puts other terms in force. What was counted goes on counting where the limit is still there.
    pub fn set_terms(&self, terms: impl Into<Arc<Terms>>) {
        let terms = terms.into();
        let mut inner = self.lock();
        if *inner.terms == *terms {
            return;
        }
        self.counted.store(!terms.is_unlimited(), Relaxed);
        inner.terms = terms;
        if let Some(state) = &mut inner.state {
            // Each window is found again by its id, if there is still a limit for it.
            let State { current, past, .. } = &mut **state;
            past.append(current);
        }
    }

    pub fn terms(&self) -> Arc<Terms> {
        Arc::clone(&self.lock().terms)
    }

    /// Whether nothing is limited: a request need not be reserved here.
    pub fn is_unlimited(&self) -> bool {
        !self.counted.load(Relaxed)
    }

    /// Counts an address by its `hash`; at most `most` different ones are let in within a day, 0: any
    /// number.
    pub fn address_seen(&self, hash: u64, most: u32, now: Now) -> Seen {
        if most == 0 {
            return Seen::Known;
        }
        self.lock().state.get_or_insert_default().addresses.see(hash, most, now)
    }

    /// Takes in addresses that are known beforehand.
    pub fn know_addresses(&self, hashes: &[u64], now: Now) {
        self.lock().state.get_or_insert_default().addresses.know(hashes, now);
    }

    /// Forgets all addresses.
    pub fn forget_addresses(&self) {
        if let Some(state) = &mut self.lock().state {
            state.addresses = Addresses::default();
        }
    }

    /// Tokens and nanodollars in open reservations, together: 0 when no request is under way.
    pub fn reserved(&self) -> u64 {
        let inner = self.lock();
        let meters = inner.state.iter().flat_map(|state| state.current.iter().chain(&state.past));
        meters.fold(0, |sum, meter| sum.saturating_add(meter.reserved))
    }

    /// Requests under way.
    pub fn open(&self) -> u32 {
        self.lock().state.as_ref().map_or(0, |state| state.open)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks it as being in a list; says whether it was not. Under the lock, which keeps others away:
    /// a load and a store are cheaper than a swap.
    #[inline]
    pub(super) fn mark(&self, mark: u8) -> bool {
        let marks = self.marks.load(Relaxed);
        let new = marks & mark == 0;
        if new {
            self.marks.store(marks | mark, Relaxed);
        }
        new
    }

    /// Takes a mark away; under the lock.
    pub(super) fn unmark(&self, mark: u8) {
        self.marks.store(self.marks.load(Relaxed) & !mark, Relaxed);
    }

    /// A serial that no open reservation has; under the lock.
    fn next_serial(&self) -> u32 {
        let serial = self.serial.load(Relaxed).wrapping_add(1).max(1);
        self.serial.store(serial, Relaxed);
        serial
    }

    /// The id of the counter of `site` in `span`.
    fn counter(&self, site: &Site<'_>, span: Span) -> Arc<str> {
        let mut id = String::with_capacity(self.id.len() + 32);
        id.push(self.who.letter());
        id.push(':');
        id.push_str(&self.id);
        id.push_str(match site.slot {
            Slot::Requests => ":rpm",
            Slot::Tokens => ":tpm",
            Slot::Budget => ":budget",
            Slot::Quota(_) => ":quota:",
        });
        id.push_str(site.group.map_or("", |group| group));
        if site.epoch > 0 {
            let _ = write!(id, "~{}", site.epoch);
        }
        // A String takes everything.
        let _ = write!(id, ":{}", span.start);
        id.into()
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("who", &self.who)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

// === impl Inner ===

impl Inner {
    /// Whether counts of minutes are open; where nothing is counted any more, the memory goes.
    pub fn is_active(&mut self, now: Now) -> bool {
        let Some(state) = &mut self.state else { return false };
        state.forget(now);
        state.addresses.forget_old(now);
        let meters = state.current.len() + state.past.len();
        if let Some(rate) = self.terms.rate {
            let nodes = state.bucket.nodes();
            state.bucket.refill(rate, nodes, now);
        }
        let full = self.terms.rate.is_none_or(|rate| state.bucket.full_in(rate).is_zero());
        let idle = meters == 0 && state.open == 0 && state.addresses.is_empty() && full;
        let minutes = state.current.iter().any(|meter| !meter.slot.durable());
        if idle {
            self.state = None;
        }
        minutes
    }
}

// === impl State ===

impl State {
    /// The meter of `site` at `now`, begun if need be.
    pub(super) fn meter(
        &mut self,
        limits: &Limits,
        subject: &Arc<Subject>,
        site: &Site<'_>,
        now: Now,
    ) -> Option<&mut Meter> {
        let place = self.current.iter().position(|meter| meter.slot == site.slot);
        let place = match place {
            Some(place) if self.current.get(place).is_some_and(|it| it.span.holds(now)) => place,
            _ => {
                let before = place.map(|place| self.current.swap_remove(place));
                self.begin(limits, subject, site, before, now)
            }
        };
        let meter = self.current.get_mut(place)?;
        meter.cap = site.cap;
        Some(meter)
    }

    /// Begins a window, or goes on with one; gives its place.
    fn begin(
        &mut self,
        limits: &Limits,
        subject: &Arc<Subject>,
        site: &Site<'_>,
        before: Option<Meter>,
        now: Now,
    ) -> usize {
        let span = site.period.map_or_else(|| Span::minute(now), |period| Span::of(period, now));
        let id = subject.counter(site, span);
        self.past.extend(before);
        let known = self.past.iter().position(|meter| meter.id == id);
        let meter = if let Some(place) = known {
            Meter { slot: site.slot, span, ..self.past.swap_remove(place) }
        } else {
            let mut meter = Meter::new(site.slot, subject.next_serial(), span, id);
            limits.begun(subject, &mut meter, now);
            meter
        };
        self.forget(now);
        self.current.push(meter);
        self.current.len() - 1
    }

    /// Forgets windows that are over and of which nothing is open.
    pub(super) fn forget(&mut self, now: Now) {
        self.past.retain(|meter| !(meter.is_done() && meter.span.left(now) == 0));
        // Those of the last minute tell who was active in it.
        let before = Now(now.0.saturating_sub(60_000));
        self.current.retain(|meter| !(meter.is_done() && meter.span.left(before) == 0));
        if self.past.len() > MOST_PAST {
            let given_up = self.past.remove(0);
            if given_up.owed.flushed > 0 {
                log::error!("{}: not all of it is in the store, which is away", given_up.id);
            }
        }
    }

    /// The window of a reservation.
    pub(super) fn by_serial(&mut self, serial: u32) -> Option<&mut Meter> {
        let mut meters = self.current.iter_mut().chain(&mut self.past);
        meters.find(|meter| meter.serial == serial)
    }

    pub(super) fn by_id(&mut self, id: &str) -> Option<&mut Meter> {
        self.current.iter_mut().chain(&mut self.past).find(|meter| &*meter.id == id)
    }
}

// === impl Terms ===

impl Terms {
    /// The limits with a count that `claim` goes towards.
    pub(super) fn sites(&self, claim: Claim) -> impl Iterator<Item = Site<'_>> {
        let quota = claim.quota_group.and_then(|place| {
            let quota = self.quotas.get(usize::from(place)).filter(|quota| quota.tokens > 0)?;
            Some(quota_site(place, quota, claim.tokens))
        });
        self.plain_sites(claim).chain(quota)
    }

    /// All limits with a count.
    pub(super) fn all_sites(&self) -> impl Iterator<Item = Site<'_>> {
        let quotas = self.quotas.iter().enumerate().filter(|(_, quota)| quota.tokens > 0);
        let quotas = quotas
            .filter_map(|(place, quota)| Some(quota_site(u16::try_from(place).ok()?, quota, 0)));
        self.plain_sites(Claim::default()).chain(quotas)
    }

    fn plain_sites(&self, claim: Claim) -> impl Iterator<Item = Site<'_>> {
        let allowance = &self.allowance;
        let minute =
            |slot, cap, claim| Site { slot, cap, claim, period: None, group: None, epoch: 0 };
        let requests = minute(Slot::Requests, allowance.requests_per_minute, 1);
        let tokens = minute(Slot::Tokens, allowance.tokens_per_minute, claim.tokens);
        // Who is exempt has no minutes.
        let minutes = [requests, tokens].into_iter().filter(|_| !self.exempt);
        let cost = claim.cost_nanos;
        let budget = allowance.budget.as_ref().map(|budget| {
            let period = Some(&budget.period);
            Site {
                slot: Slot::Budget,
                cap: budget.nanos,
                claim: cost,
                period,
                group: None,
                epoch: 0,
            }
        });
        minutes.chain(budget).filter(|site| site.cap > 0)
    }
}

fn quota_site(place: u16, quota: &super::Quota, claim: u64) -> Site<'_> {
    let (period, group) = (Some(&quota.refresh), Some(&quota.group));
    Site { slot: Slot::Quota(place), cap: quota.tokens, claim, period, group, epoch: quota.epoch }
}
