//! How busy a replica is: what this process sent there, exactly, and what its server says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use super::report::Report;

/// How long a server's word counts.
const FRESH: Duration = Duration::from_secs(5);

/// The load of one replica. Counts are of this process.
#[derive(Debug, Default)]
pub struct Load {
    requests: AtomicU32,
    /// Of these, not begun to be answered.
    unanswered: AtomicU32,
    prompt_tokens: AtomicU64,
    /// Tokens that are likely to be worked out yet: of prompts not answered, less what is cached.
    prefill_tokens: AtomicU64,
    reported: ArcSwapOption<Reported>,
}

/// What a server said, when, and what of it was ours.
#[derive(Clone, Copy, Debug)]
pub struct Reported {
    pub report: Report,
    pub at: Instant,
    ours: u32,
    ours_unanswered: u32,
    ours_prefill: u64,
}

/// What a request adds to its replica's load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    pub prompt_tokens: u64,
    pub prefill_tokens: u64,
}

/// Requests at a replica that others sent there, as far as its server told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Foreign {
    pub requests: f64,
    pub waiting: f64,
}

impl Load {
    pub fn requests(&self) -> u32 {
        self.requests.load(Relaxed)
    }

    pub fn unanswered(&self) -> u32 {
        self.unanswered.load(Relaxed)
    }

    /// Estimated tokens of the prompts under way.
    pub fn prompt_tokens(&self) -> u64 {
        self.prompt_tokens.load(Relaxed)
    }

    pub fn prefill_tokens(&self) -> u64 {
        self.prefill_tokens.load(Relaxed)
    }

    /// What the server said lately; nothing once that is stale.
    pub fn reported(&self) -> Option<Reported> {
        let reported = self.reported.load();
        reported.as_deref().filter(|reported| reported.at.elapsed() < FRESH).copied()
    }

    /// How full its KV cache is, from 0 to 1: as the server told, and what was sent there since. `None`:
    /// it has not told lately.
    pub fn kv_use(&self) -> Option<f64> {
        let Reported { report, ours_prefill, .. } = self.reported()?;
        report.running?;
        let more = self.prefill_tokens().saturating_sub(ours_prefill);
        #[expect(clippy::cast_precision_loss, reason = "no server has 2^52 tokens before it")]
        let grown = if report.capacity > 0 { more as f64 / report.capacity as f64 } else { 0.0 };
        Some(report.kv_use + grown)
    }

    /// What the server said last, however long ago.
    pub(super) fn last_report(&self) -> Option<Report> {
        self.reported.load().as_deref().map(|reported| reported.report)
    }

    /// What of the server's load is not of this process. Requests of ours that came or went since
    /// it was asked are not taken for others'.
    pub fn foreign(&self) -> Foreign {
        let Some(Reported { report, ours, ours_unanswered, .. }) = self.reported() else {
            return Foreign::default();
        };
        let all = report.running.unwrap_or(0.0) + report.waiting;
        Foreign {
            requests: (all - f64::from(ours)).max(0.0),
            waiting: (report.waiting - f64::from(ours_unanswered)).max(0.0),
        }
    }

    pub(super) fn note(&self, report: Report) {
        let (ours, ours_unanswered) = (self.requests(), self.unanswered());
        let (at, ours_prefill) = (Instant::now(), self.prefill_tokens());
        let reported = Reported { report, at, ours, ours_unanswered, ours_prefill };
        self.reported.store(Some(Arc::new(reported)));
    }

    /// Takes a request in, unless there are `bound` of them; 0 is any number.
    pub(super) fn begin(&self, claim: Claim, bound: u32) -> bool {
        if bound == 0 {
            self.requests.fetch_add(1, Relaxed);
        } else {
            let more = |requests| (requests < bound).then_some(requests + 1);
            if self.requests.fetch_update(Relaxed, Relaxed, more).is_err() {
                return false;
            }
        }
        self.unanswered.fetch_add(1, Relaxed);
        if claim.prompt_tokens > 0 {
            self.prompt_tokens.fetch_add(claim.prompt_tokens, Relaxed);
            self.prefill_tokens.fetch_add(claim.prefill_tokens, Relaxed);
        }
        true
    }

    /// The prompt is worked out: the answer has begun.
    pub(super) fn answer(&self, claim: Claim) {
        self.unanswered.fetch_sub(1, Relaxed);
        if claim.prompt_tokens > 0 {
            self.prefill_tokens.fetch_sub(claim.prefill_tokens, Relaxed);
        }
    }

    pub(super) fn end(&self, claim: Claim) {
        self.requests.fetch_sub(1, Relaxed);
        if claim.prompt_tokens > 0 {
            self.prompt_tokens.fetch_sub(claim.prompt_tokens, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_counts_without_our_own_requests() {
        let load = Load::default();
        assert_eq!(load.foreign(), Foreign::default());
        let claim = Claim { prompt_tokens: 100, prefill_tokens: 40 };
        assert!(load.begin(claim, 0) && load.begin(claim, 2) && !load.begin(claim, 2));
        load.answer(claim);
        load.note(Report { running: Some(4.0), waiting: 3.0, ..Report::default() });
        assert_eq!(load.foreign(), Foreign { requests: 5.0, waiting: 2.0 });
        load.end(claim);
        assert_eq!(load.foreign(), Foreign { requests: 5.0, waiting: 2.0 });
        assert_eq!((load.requests(), load.unanswered()), (1, 1));
        assert_eq!((load.prompt_tokens(), load.prefill_tokens()), (100, 40));
    }

    #[test]
    fn what_was_sent_since_a_server_spoke_counts_towards_its_cache() {
        let load = Load::default();
        assert_eq!(load.kv_use(), None);
        let (running, capacity) = (Some(1.0), 1000);
        load.note(Report { running, kv_use: 0.5, capacity, ..Report::default() });
        assert_eq!(load.kv_use(), Some(0.5));
        let claim = Claim { prompt_tokens: 400, prefill_tokens: 250 };
        assert!(load.begin(claim, 0));
        assert_eq!(load.kv_use(), Some(0.75));
        load.note(Report { running, kv_use: 0.7, capacity, ..Report::default() });
        assert_eq!(load.kv_use(), Some(0.7));
    }

    #[test]
    fn a_word_that_is_too_old_does_not_count() {
        let load = Load::default();
        load.note(Report { running: Some(4.0), ..Report::default() });
        assert!(load.reported().is_some());
        let old = Instant::now().checked_sub(FRESH).unwrap();
        let told = Reported { at: old, ..load.reported().unwrap() };
        load.reported.store(Some(Arc::new(told)));
        assert!(load.reported().is_none());
        assert_eq!(load.foreign(), Foreign::default());
    }
}
