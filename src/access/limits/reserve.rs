//! Letting a request in, and booking what became of it.

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use super::meter::{Meter, Slot};
use super::registry::{Limits, Mode};
use super::standing::{Detail, Exceeded, LimitKind, Standing, Window};
use super::subject::{Inner, State, Subject};
use super::terms::{Claim, Now, Terms, Used, Who};

/// A request that was let in.
///
/// To be settled with what it used. Dropped, it gives tokens and money back; the request still counts.
#[derive(Debug)]
#[must_use = "dropped at once it is given back at once"]
pub struct Reservation {
    limits: Arc<Limits>,
    holds: Vec<Hold>,
    claim: Claim,
    standing: Standing,
}

/// What a request holds of one subject: the serials of the meters it is booked in, 0: none.
#[derive(Debug)]
struct Hold {
    subject: Arc<Subject>,
    tokens: u32,
    budget: u32,
    quota: u32,
}

/// A subject that cannot change while a request is looked at.
struct Locked<'a> {
    subject: &'a Arc<Subject>,
    inner: MutexGuard<'a, Inner>,
}

/// Where a request may wait for another one's end, or for another node.
const SOON: Duration = Duration::from_secs(1);

/// Nothing but other terms will help; a caller that asks again after this does no harm.
const BLOCKED: Duration = Duration::from_hours(1);

// === impl Limits ===

impl Limits {
    /// Lets a request in with all `subjects`, or with none. It counts at once; `claim` is reserved
    /// until the reservation is settled or dropped.
    pub fn reserve(
        self: &Arc<Self>,
        subjects: &[Arc<Subject>],
        claim: Claim,
        now: Now,
    ) -> Result<Reservation, Exceeded> {
        let mode = self.mode();
        let mut locked = lock(subjects);
        let mut refused: Option<Exceeded> = None;
        for one in &mut locked {
            let found = one.look(self, claim, mode, now);
            let longer = |found: &Exceeded| {
                refused.as_ref().is_none_or(|refused| found.retry_after > refused.retry_after)
            };
            if let Some(found) = found.filter(longer) {
                refused = Some(found);
            }
        }
        if let Some(mut refused) = refused {
            refused.standing = standing(&locked, claim, mode, now);
            return Err(refused);
        }
        let mut standing = Standing::default();
        let mut holds = Vec::with_capacity(locked.len());
        for one in &mut locked {
            holds.push(one.take(self, claim, mode, now, &mut standing));
        }
        note_rates(&locked, &mut standing);
        drop(locked);
        Ok(Reservation { limits: Arc::clone(self), holds, claim, standing })
    }

    /// How `subjects` stand at `now`, for headers. Quotas are looked at by `quota_group`.
    pub fn standing(
        &self,
        subjects: &[Arc<Subject>],
        quota_group: Option<u16>,
        now: Now,
    ) -> Standing {
        let (mode, claim) = (self.mode(), Claim { quota_group, ..Claim::default() });
        let mut locked = lock(subjects);
        for one in &mut locked {
            one.begin(self, mode, now);
        }
        standing(&locked, claim, mode, now)
    }

    /// All limits of `subjects`, for `GET /v1/me`.
    pub fn details(&self, subjects: &[Arc<Subject>], now: Now) -> Vec<Detail> {
        let mode = self.mode();
        let mut details = Vec::new();
        for subject in subjects.iter().filter(|subject| !subject.is_unlimited()) {
            let mut one = Locked { subject, inner: subject.lock() };
            one.begin(self, mode, now);
            one.tell(&mut details, mode, now);
        }
        details
    }
}

/// Locks subjects in the order of their addresses, so that nobody waits for each other.
fn lock(subjects: &[Arc<Subject>]) -> Vec<Locked<'_>> {
    let mut order: Vec<&Arc<Subject>> = subjects.iter().filter(|it| !it.is_unlimited()).collect();
    order.sort_unstable_by_key(|subject| Arc::as_ptr(subject));
    order.dedup_by(|one, other| Arc::ptr_eq(one, other));
    order.into_iter().map(|subject| Locked { subject, inner: subject.lock() }).collect()
}

fn standing(locked: &[Locked<'_>], claim: Claim, mode: Mode, now: Now) -> Standing {
    let mut standing = Standing::default();
    for one in locked {
        one.stand(claim, &mut standing, mode, now);
    }
    note_rates(locked, &mut standing);
    standing
}

/// Where there are no windows of requests, rates stand for them.
fn note_rates(locked: &[Locked<'_>], standing: &mut Standing) {
    if standing.requests.is_none() {
        locked.iter().filter_map(Locked::rate).for_each(|rate| standing.note_requests(rate));
    }
}

// === impl Locked ===

impl Locked<'_> {
    /// Why a request cannot come; of several reasons the one that takes longest.
    fn look(&mut self, limits: &Limits, claim: Claim, mode: Mode, now: Now) -> Option<Exceeded> {
        let (subject, Inner { terms, state }) = (self.subject, &mut *self.inner);
        let state = &mut **state.get_or_insert_default();
        let who = subject.who();
        let mut worst: Option<Exceeded> = None;
        let mut note = |limit, cap, remaining, retry_after| {
            if worst.as_ref().is_none_or(|worst| retry_after > worst.retry_after) {
                worst = Some(exceeded(limit, who, cap, remaining, retry_after));
            }
        };
        if let Some(rate) = terms.rate.filter(|_| !terms.exempt) {
            state.bucket.refill(rate, shares(mode), now);
            let (burst, left) = (u64::from(rate.burst_size), state.bucket.remaining());
            if rate.blocks() {
                note(LimitKind::Blocked, 0, 0, BLOCKED);
            } else if let Some(wait) = state.bucket.wait(rate) {
                note(LimitKind::Rate, burst, left, wait);
            }
        }
        if let Some(most) = most_open(terms, mode).filter(|most| state.open >= *most) {
            note(LimitKind::Concurrency, most.into(), 0, SOON);
        }
        for site in terms.sites(claim) {
            let Some(meter) = state.meter(limits, subject, &site, now) else { continue };
            if terms.exempt || meter.fits(site.claim, mode) {
                continue;
            }
            let left = Duration::from_millis(meter.span.left(now));
            let soon = meter.may_fit_soon(site.claim, mode);
            let wait = if soon { left.min(SOON) } else { left };
            note(kind(site.slot), site.cap, meter.remaining(mode), wait);
            meter.refused(limits, subject, site.claim, now);
        }
        worst
    }

    /// Lets the request in, and notes how it stands then.
    fn take(
        &mut self,
        limits: &Limits,
        claim: Claim,
        mode: Mode,
        now: Now,
        standing: &mut Standing,
    ) -> Hold {
        let (subject, Inner { terms, state }) = (self.subject, &mut *self.inner);
        let state = &mut **state.get_or_insert_default();
        let mut hold = Hold { subject: Arc::clone(subject), tokens: 0, budget: 0, quota: 0 };
        if terms.rate.is_some() && !terms.exempt {
            state.bucket.take();
        }
        state.open = state.open.saturating_add(1);
        let others = matches!(mode, Mode::Solo { nodes: 2.. });
        for site in terms.sites(claim) {
            let found = state.current.iter_mut().find(|meter| meter.slot == site.slot);
            let Some(meter) = found else { continue };
            let serial = meter.serial;
            match site.slot {
                Slot::Requests => meter.spent = meter.spent.saturating_add(site.claim),
                Slot::Tokens => hold.tokens = serial,
                Slot::Budget => hold.budget = serial,
                Slot::Quota(_) => hold.quota = serial,
            }
            if site.slot != Slot::Requests {
                // It fits below the cap, so it cannot wrap; who is exempt stays at the top.
                meter.reserved = meter.reserved.saturating_add(site.claim);
            }
            meter.lease.claim = site.claim;
            meter.lease.touched = now.0;
            // With others about, who counts here wants to know of them.
            meter.owed.refresh |= site.slot.durable() && others;
            limits.note_spending(subject, meter);
            limits.note_lease(subject, meter, now);
            if !terms.exempt {
                meter.stand(standing, mode, now);
            }
        }
        hold
    }

    /// Begins the windows of all its limits.
    fn begin(&mut self, limits: &Limits, mode: Mode, now: Now) {
        let (subject, Inner { terms, state }) = (self.subject, &mut *self.inner);
        let state = &mut **state.get_or_insert_default();
        if let Some(rate) = terms.rate {
            state.bucket.refill(rate, shares(mode), now);
        }
        for site in terms.all_sites() {
            state.meter(limits, subject, &site, now);
        }
    }

    /// How it stands with its rate.
    fn rate(&self) -> Option<Window> {
        let Inner { terms, state: Some(state) } = &*self.inner else { return None };
        let rate = terms.rate.filter(|_| !terms.exempt)?;
        if rate.blocks() {
            return Some(Window { limit: 0, remaining: 0, resets_in: BLOCKED });
        }
        let (remaining, resets_in) = (state.bucket.remaining(), state.bucket.full_in(rate));
        Some(Window { limit: rate.burst_size.max(1).into(), remaining, resets_in })
    }

    /// Notes the windows that `claim` goes towards.
    fn stand(&self, claim: Claim, windows: &mut Standing, mode: Mode, now: Now) {
        let Inner { terms, state: Some(state) } = &*self.inner else { return };
        if terms.exempt {
            return;
        }
        for site in terms.sites(claim) {
            let Some(meter) = state.current.iter().find(|it| it.slot == site.slot) else {
                continue;
            };
            meter.stand(windows, mode, now);
        }
    }

    fn tell(&self, details: &mut Vec<Detail>, mode: Mode, now: Now) {
        let Inner { terms, state: Some(state) } = &*self.inner else { return };
        let who = self.subject.who();
        let detail = |limit: LimitKind, of: u64, used, remaining, resets_at| {
            let (name, group, reserved) = (limit.as_str(), None, 0);
            Detail { who, name, group, limit: of, used, reserved, remaining, resets_at }
        };
        if let Some(rate) = terms.rate.filter(|_| !terms.exempt) {
            let (burst, left) = (u64::from(rate.burst_size), state.bucket.remaining());
            let full = i64::try_from(state.bucket.full_in(rate).as_millis()).unwrap_or(i64::MAX);
            let at = now.0.saturating_add(full);
            let taken = burst.saturating_sub(left);
            details.push(detail(LimitKind::Rate, burst, taken, left, Some(at)));
        }
        if let Some(most) = most_open(terms, mode) {
            let (most, open) = (u64::from(most), u64::from(state.open));
            let left = most.saturating_sub(open);
            details.push(detail(LimitKind::Concurrency, most, open, left, None));
        }
        for site in terms.all_sites() {
            let Some(meter) = state.current.iter().find(|it| it.slot == site.slot) else {
                continue;
            };
            let resets = meter.span.ends().then(|| meter.span.end.saturating_mul(1000));
            let group = site.group.cloned();
            let (used, left) = (meter.used(mode), meter.remaining(mode));
            let detail = detail(kind(site.slot), site.cap, used, left, resets);
            details.push(Detail { group, reserved: meter.reserved, ..detail });
        }
    }
}

/// Requests that one subject may have under way at this node.
fn most_open(terms: &Terms, mode: Mode) -> Option<u32> {
    let most = terms.allowance.max_concurrent;
    (most > 0 && !terms.exempt).then(|| most.div_ceil(shares(mode)))
}

/// How many nodes rates and concurrency are split among.
fn shares(mode: Mode) -> u32 {
    match mode {
        Mode::Solo { .. } => 1,
        Mode::Shared { nodes, .. } => nodes.max(1),
    }
}

fn kind(slot: Slot) -> LimitKind {
    match slot {
        Slot::Requests => LimitKind::RequestsPerMinute,
        Slot::Tokens => LimitKind::TokensPerMinute,
        Slot::Budget => LimitKind::Budget,
        Slot::Quota(_) => LimitKind::Quota,
    }
}

fn exceeded(
    limit: LimitKind,
    who: Who,
    cap: u64,
    remaining: u64,
    retry_after: Duration,
) -> Exceeded {
    Exceeded { limit, who, retry_after, cap, remaining, standing: Standing::default() }
}

// === impl Meter ===

impl Meter {
    /// Notes how much is left.
    fn stand(&self, standing: &mut Standing, mode: Mode, now: Now) {
        let window = || {
            let resets_in = Duration::from_millis(self.span.left(now));
            Window { limit: self.cap, remaining: self.remaining(mode), resets_in }
        };
        match self.slot {
            Slot::Requests => standing.note_requests(window()),
            Slot::Tokens | Slot::Quota(_) => standing.note_tokens(window()),
            Slot::Budget => {}
        }
    }

    /// A request did not fit: the others may have given back, so they are asked.
    fn refused(&mut self, limits: &Limits, subject: &Arc<Subject>, claim: u64, now: Now) {
        if claim <= self.cap {
            self.lease.claim = claim;
            self.lease.missed = self.lease.missed.saturating_add(claim);
            self.lease.touched = now.0;
        }
        self.owed.refresh |= self.slot.durable();
        limits.note_spending(subject, self);
        limits.note_lease(subject, self, now);
    }

    /// Puts `used` in the place of what was reserved.
    fn settle(&mut self, limits: &Limits, subject: &Arc<Subject>, claim: u64, used: u64) {
        self.reserved = self.reserved.saturating_sub(claim);
        self.spent = self.spent.saturating_add(used);
        limits.note_spending(subject, self);
        limits.note_lease(subject, self, Now(self.lease.touched));
    }
}

// === impl Reservation ===

impl Reservation {
    /// Books what the request used, in the windows it was reserved in.
    pub fn settle(mut self, used: Used) {
        self.book(used);
    }

    /// How the caller stands with this request let in.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// What is reserved.
    pub fn claim(&self) -> Claim {
        self.claim
    }

    fn book(&mut self, used: Used) {
        for hold in self.holds.drain(..) {
            let (subject, limits) = (&hold.subject, &self.limits);
            let mut inner = subject.lock();
            let Some(state) = inner.state.as_deref_mut() else { continue };
            state.open = state.open.saturating_sub(1);
            let (tokens, cost) = (self.claim.tokens, self.claim.cost_nanos);
            for (serial, claim, used) in [
                (hold.tokens, tokens, used.tokens),
                (hold.quota, tokens, used.tokens),
                (hold.budget, cost, used.cost_nanos),
            ] {
                book(state, serial, |meter| meter.settle(limits, subject, claim, used));
            }
        }
    }
}

fn book(state: &mut State, serial: u32, settle: impl FnOnce(&mut Meter)) {
    if serial > 0
        && let Some(meter) = state.by_serial(serial)
    {
        settle(meter);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.book(Used::default());
    }
}
