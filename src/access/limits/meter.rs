//! One count in one window: what is spent and reserved, what the store has of it, what is leased.

use std::sync::Arc;

use super::registry::Mode;
use super::terms::Now;
use super::window::Span;

/// Which of a subject's limits a count is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Requests,
    Tokens,
    Budget,
    /// The quota at this place.
    Quota(u16),
}

/// A count in a window. All sums saturate.
#[derive(Debug)]
pub(super) struct Meter {
    pub slot: Slot,
    /// Names it among the counts of its subject; reservations hold on to it.
    pub serial: u32,
    pub span: Span,
    /// `k:ID:rpm:START`
    pub id: Arc<str>,
    /// The limit as it was last looked at.
    pub cap: u64,
    /// Settled by this process.
    pub spent: u64,
    /// In open reservations of this process.
    pub reserved: u64,
    /// What the store told of other processes, and of this one before it began.
    pub elsewhere: u64,
    pub reserved_elsewhere: u64,
    pub owed: OwedState,
    pub lease: Lease,
}

/// What the store has of a count.
#[derive(Debug, Default)]
pub(super) struct OwedState {
    /// Its total is to be asked for, whether or not there is something to tell.
    pub refresh: bool,
    /// Of what is spent: the store has it.
    pub flushed: u64,
    /// Of what is spent: on its way to the store.
    pub sending: u64,
    /// Batches on their way that tell of it.
    pub batches: u32,
    /// Reserved, as the store was last told; `None`: that did not arrive.
    pub reserved_told: Option<u64>,
}

/// What several nodes leave to this one.
#[derive(Debug, Default)]
pub(super) struct Lease {
    /// Taken out of the limit for this node: spent, reserved, and still to spend.
    pub booked: u64,
    /// `booked` as the authority last confirmed it.
    pub confirmed: u64,
    /// A question went unanswered: what the authority has of this node is not sure.
    pub unsure: bool,
    /// Taken out of the limit for all nodes, as last heard; with `booked` in it.
    pub known: u64,
    /// The authority has answered in this window.
    pub heard: bool,
    /// What requests claim, by the last one.
    pub claim: u64,
    /// Claims that were refused since it last asked, together.
    pub missed: u64,
    /// When a request last came, Unix milliseconds.
    pub touched: i64,
    /// An answer is awaited since then; 0: none is.
    pub asked: i64,
    /// More is not asked for before that: there was not enough.
    pub dry_until: i64,
}

/// What a node asks of the authority; see [`super::Ask`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub base: u64,
    pub held: u64,
    pub had: u64,
    pub want: u64,
}

/// Leases of what nobody asked for so long, milliseconds, go back but for one claim…
const IDLE: i64 = 5_000;
/// … and after so long altogether.
const LONG_IDLE: i64 = 60_000;
/// Who was active so shortly before a window's end, milliseconds, has a lease of the next one asked
/// for.
pub(super) const ACTIVE: i64 = 10_000;
/// An answer that has not come after so long, milliseconds, will not.
const LOST: i64 = 5_000;
/// Where there was not enough, more is asked for this much later, milliseconds.
const DRY: i64 = 1_000;

// === impl Slot ===

impl Slot {
    /// Whether the count is kept in the store as it goes.
    pub(super) fn durable(self) -> bool {
        matches!(self, Self::Budget | Self::Quota(_))
    }
}

// === impl Meter ===

impl Meter {
    pub(super) fn new(slot: Slot, serial: u32, span: Span, id: Arc<str>) -> Self {
        Self {
            slot,
            serial,
            span,
            id,
            cap: 0,
            spent: 0,
            reserved: 0,
            elsewhere: 0,
            reserved_elsewhere: 0,
            owed: OwedState { reserved_told: Some(0), ..OwedState::default() },
            lease: Lease::default(),
        }
    }

    /// What this process has let in.
    pub(super) fn committed(&self) -> u64 {
        self.spent.saturating_add(self.reserved)
    }

    /// Whether `claim` may still come.
    pub(super) fn fits(&self, claim: u64, mode: Mode) -> bool {
        let sum = self.committed().checked_add(claim);
        sum.is_some_and(|sum| sum <= self.entitled(claim, mode))
    }

    /// Whether `claim` may be tried again before the window ends: requests under way may give back
    /// what is missing, or other nodes may.
    pub(super) fn may_fit_soon(&self, claim: u64, mode: Mode) -> bool {
        let settled = self.spent.saturating_add(claim) <= self.entitled(claim, mode);
        let leased = matches!(mode, Mode::Shared { away: false, .. })
            && claim <= self.cap.saturating_sub(self.lease.known);
        settled || leased
    }

    /// How far this process may go.
    fn entitled(&self, claim: u64, mode: Mode) -> u64 {
        let (booked, cap) = (self.lease.booked, self.cap);
        let left = cap.saturating_sub(self.lease.known);
        match mode {
            Mode::Solo { .. } => cap.saturating_sub(self.others()),
            Mode::Shared { nodes, away: false } => {
                let credit = claim.max(cap / (10 * nodes_of(nodes)));
                // Known to remain, but others take of it too: near the end there is no credit.
                let spare = if self.lease.heard { left / (2 * nodes_of(nodes)) } else { left };
                booked.saturating_add(credit.min(spare))
            }
            Mode::Shared { nodes, away: true } => {
                let budget = self.slot == Slot::Budget;
                let overdraft = if budget { cap / 100 } else { 0 };
                let nodes = nodes_of(nodes);
                booked.saturating_add(left / nodes).saturating_add(overdraft / nodes)
            }
        }
    }

    /// What others have let in, as the store knows it.
    fn others(&self) -> u64 {
        self.elsewhere.saturating_add(self.reserved_elsewhere)
    }

    /// What can still be claimed, for headers.
    pub(super) fn remaining(&self, mode: Mode) -> u64 {
        match mode {
            Mode::Shared { away: false, .. } => {
                let others = self.lease.known.saturating_sub(self.lease.booked);
                self.cap.saturating_sub(others.saturating_add(self.committed()))
            }
            _ => self.entitled(0, mode).saturating_sub(self.committed()),
        }
    }

    /// Settled on all nodes, as far as is known here.
    pub(super) fn used(&self, mode: Mode) -> u64 {
        let others = match mode {
            // What the others have leased is told as used; it soon is.
            Mode::Shared { .. } if self.lease.heard => {
                self.lease.known.saturating_sub(self.lease.booked)
            }
            _ => self.elsewhere,
        };
        others.saturating_add(self.spent)
    }

    /// What the store said of all processes together.
    pub(super) fn learn(&mut self, spent: u64, reserved_elsewhere: u64) {
        self.elsewhere = spent.saturating_sub(self.owed.flushed);
        self.reserved_elsewhere = reserved_elsewhere;
        if !self.lease.heard {
            self.lease.known = self.others();
        }
    }

    // --- the store

    /// Whether there is something to tell the store, or to ask it.
    pub(super) fn is_dirty(&self) -> bool {
        self.owed.refresh || self.unsent() > 0 || self.owed.reserved_told != Some(self.reserved)
    }

    /// What is spent, and not on its way.
    pub(super) fn unsent(&self) -> u64 {
        self.spent.saturating_sub(self.owed.flushed.saturating_add(self.owed.sending))
    }

    /// What the store is to be told: what is spent and not on its way, and what is reserved.
    pub(super) fn send(&mut self) -> (u64, u64) {
        let spent = self.unsent();
        let owed = &mut self.owed;
        owed.sending = owed.sending.saturating_add(spent);
        owed.batches = owed.batches.saturating_add(1);
        // What changes from here on is news, whatever becomes of this.
        owed.reserved_told = Some(self.reserved);
        owed.refresh = false;
        (spent, self.reserved)
    }

    /// A batch came through, or did not.
    pub(super) fn sent(&mut self, spent: u64, arrived: bool) {
        let owed = &mut self.owed;
        owed.batches = owed.batches.saturating_sub(1);
        owed.sending = owed.sending.saturating_sub(spent);
        if arrived {
            owed.flushed = owed.flushed.saturating_add(spent);
        } else {
            owed.reserved_told = None;
        }
    }

    /// Whether it can be forgotten once its window is over.
    pub(super) fn is_done(&self) -> bool {
        let told = !self.slot.durable() || !self.is_dirty();
        self.reserved == 0 && self.owed.batches == 0 && told
    }

    // --- leases

    /// Whether a lease should be asked for now.
    pub(super) fn is_short(&self, mode: Mode, now: Now) -> bool {
        let Mode::Shared { nodes, .. } = mode else { return false };
        self.lease.asked == 0
            && (!self.lease.heard
                || self.committed() > self.lease.booked
                || self.want(nodes, now) > 0)
    }

    /// How much more is wanted: a slice, when less than half of one is left.
    fn want(&self, nodes: u32, now: Now) -> u64 {
        if now.0 < self.lease.dry_until {
            return 0;
        }
        let left = self.cap.saturating_sub(self.lease.known);
        let claim = self.lease.claim.clamp(1, self.cap.max(1));
        let slice = (left / (4 * nodes_of(nodes))).max(claim);
        let spare = self.lease.booked.saturating_sub(self.committed());
        if spare >= claim.max(slice / 2) {
            return 0;
        }
        // Who was refused will come again: a fair share of what is left is asked for at most.
        let missed = self.lease.missed.min(left / nodes_of(nodes));
        slice.saturating_add(missed).saturating_sub(spare)
    }

    /// What to ask the authority for, if anything. What goes back is not spent any more from here
    /// on, whatever becomes of the answer.
    pub(super) fn wish(&mut self, nodes: u32, now: Now, leaving: bool) -> Option<Wish> {
        if self.span.left(now) == 0 {
            return None;
        }
        let awaited = self.lease.asked != 0 && now.0.saturating_sub(self.lease.asked) < LOST;
        if awaited && !leaving {
            return None;
        }
        let committed = self.committed();
        let spare = self.lease.booked.saturating_sub(committed);
        let idle = now.0.saturating_sub(self.lease.touched);
        let kept = match idle {
            _ if leaving => 0,
            // A minute ends soon enough.
            _ if idle < IDLE || !self.slot.durable() => spare,
            _ if idle < LONG_IDLE => spare.min(self.lease.claim),
            _ => 0,
        };
        let held = committed.saturating_add(kept);
        let rests = leaving || idle >= if self.slot.durable() { IDLE } else { ACTIVE };
        let want = if rests { 0 } else { self.want(nodes, now) };
        let news = held != self.lease.confirmed || want > 0 || self.lease.unsure;
        if !news && (self.lease.heard || leaving) {
            return None;
        }
        self.lease.booked = self.lease.booked.min(held);
        // Until it is answered.
        self.lease.unsure = true;
        self.lease.asked = now.0.max(1);
        self.lease.missed = 0;
        let base = self.lease.known.max(self.others().saturating_add(self.lease.confirmed));
        Some(Wish { base, held, had: self.lease.confirmed, want })
    }

    /// Whether the lease has to be looked at again.
    pub(super) fn is_leased(&self, now: Now) -> bool {
        let open = self.lease.unsure || self.lease.booked != self.committed();
        let active = now.0.saturating_sub(self.lease.touched) < LONG_IDLE;
        self.span.left(now) > 0 && (open || active)
    }

    /// The authority's answer.
    pub(super) fn leased(&mut self, wish: Wish, granted: u64, used: u64) {
        let lease = &mut self.lease;
        lease.booked = wish.held.saturating_add(granted);
        lease.confirmed = lease.booked;
        lease.known = used;
        lease.heard = true;
        lease.unsure = false;
        lease.dry_until = if granted < wish.want { lease.asked.saturating_add(DRY) } else { 0 };
        lease.asked = 0;
    }
}

fn nodes_of(nodes: u32) -> u64 {
    u64::from(nodes.max(1))
}
