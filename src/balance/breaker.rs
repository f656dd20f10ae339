//! Passive health: a replica that keeps failing is left out for a while, then probed with one request.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::config::Ejection;

/// What a breaker says to a request that would like to use its replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// In service.
    Open,
    /// Its time out is over: one request at a time may find out whether it works again.
    Probe,
    /// Left out.
    Ejected,
}

/// The failure record of one replica. Times are milliseconds on the pool's own clock.
///
/// Envoy's outlier detection is the model: `after` failures in a row eject for `base` × n, n being
/// how often it was ejected lately. Who may be ejected at all is the pool's decision, since only
/// the pool knows how many are left.
#[derive(Debug, Default)]
pub struct Breaker {
    failures: AtomicU32,
    ejections: AtomicU32,
    /// 0: in service.
    ejected_until: AtomicU64,
    probing: AtomicBool,
}

impl Breaker {
    /// May a request use this replica at `now`?
    pub fn admission(&self, now: u64) -> Admission {
        match self.ejected_until.load(Relaxed) {
            0 => Admission::Open,
            until if now < until || self.probing.load(Relaxed) => Admission::Ejected,
            _ => Admission::Probe,
        }
    }

    /// Claims the one probe of a half-open breaker; false when another request was quicker.
    pub fn claim_probe(&self) -> bool {
        self.probing.compare_exchange(false, true, Relaxed, Relaxed).is_ok()
    }

    /// Gives the probe back unused: the request ended without an answer either way.
    pub fn release_probe(&self) {
        self.probing.store(false, Relaxed);
    }

    /// The replica answered in full.
    pub fn succeed(&self) {
        // Most requests find nothing to change; reading first keeps the cache line shared.
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
        self.answer();
    }

    /// The replica began to answer: closes a half-open breaker. A stream may still break off, so
    /// earlier failures go on counting.
    pub fn answer(&self) {
        if self.ejected_until.load(Relaxed) != 0 {
            self.ejected_until.store(0, Relaxed);
            self.ejections.store(self.ejections.load(Relaxed).saturating_sub(1), Relaxed);
            self.probing.store(false, Relaxed);
        }
    }

    /// The replica failed. True when it has now failed often enough to be ejected.
    pub fn fail(&self, rule: &Ejection) -> bool {
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        self.is_ejected() || failures >= rule.after
    }

    /// Leaves the replica out until `now` + `base` × n, at most `max`.
    pub fn eject(&self, now: u64, rule: &Ejection) {
        let times = self.ejections.load(Relaxed).saturating_add(1);
        let pause = rule.base.saturating_mul(times).min(rule.max).max(Duration::from_millis(1));
        let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        self.ejections.store(times, Relaxed);
        self.failures.store(0, Relaxed);
        self.ejected_until.store(now.saturating_add(pause), Relaxed);
        self.probing.store(false, Relaxed);
    }

    /// Whether the replica is out or only let in as a probe.
    pub fn is_ejected(&self) -> bool {
        self.ejected_until.load(Relaxed) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Percent;

    fn rule() -> Ejection {
        Ejection {
            after: 3,
            base: Duration::from_millis(100),
            max: Duration::from_millis(250),
            share: Percent(50),
        }
    }

    #[test]
    fn failures_in_a_row_eject_and_a_success_between_them_does_not() {
        let breaker = Breaker::default();
        assert!(!breaker.fail(&rule()));
        assert!(!breaker.fail(&rule()));
        breaker.succeed();
        assert!(!breaker.fail(&rule()));
        assert!(!breaker.fail(&rule()));
        assert!(breaker.fail(&rule()));
    }

    #[test]
    fn only_one_request_probes_after_the_pause() {
        let breaker = Breaker::default();
        breaker.eject(1000, &rule());
        assert_eq!(breaker.admission(1099), Admission::Ejected);
        assert_eq!(breaker.admission(1100), Admission::Probe);
        assert!(breaker.claim_probe());
        assert!(!breaker.claim_probe());
        assert_eq!(breaker.admission(1100), Admission::Ejected);
        breaker.succeed();
        assert_eq!(breaker.admission(1100), Admission::Open);
    }

    #[test]
    fn the_pause_grows_with_every_ejection_up_to_its_bound() {
        let breaker = Breaker::default();
        for (at, back) in [(0, 100), (1000, 1200), (2000, 2250), (3000, 3250)] {
            breaker.eject(at, &rule());
            assert_eq!(breaker.admission(back - 1), Admission::Ejected);
            assert_eq!(breaker.admission(back), Admission::Probe);
        }
    }

    #[test]
    fn a_failed_probe_ejects_again_at_once() {
        let breaker = Breaker::default();
        breaker.eject(0, &rule());
        assert!(breaker.claim_probe());
        assert!(breaker.fail(&rule()));
    }
}
