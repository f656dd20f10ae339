//! A bound on retries within one provider, so that a provider in trouble is not drowned by them.

use std::sync::atomic::{AtomicI32, AtomicU32, Ordering::Relaxed};

use crate::config::Percent;

/// What one retry costs, in hundredths of a request.
const RETRY: i32 = 100;
/// Retries a provider may have before it has earned any: at a handful of requests a minute a
/// share of them would round to none.
const RESERVE: i32 = 3 * RETRY;
/// Savings are bounded, or a quiet day would pay for a storm.
const SAVINGS: i32 = 100 * RETRY;
/// After this many requests whose retries were in vain the trouble is more than one replica's.
const IN_VAIN: u32 = 3;

/// Each request pays in its share, each retry takes one whole request out (the retry budget of
/// Finagle and Linkerd). Only a *further* attempt at the same provider counts: going on to
/// another target loads that one no more than a first attempt would.
///
/// Where retries do not help, the savings of better days would only add to the trouble: they are
/// lost, and what was retried in vain is paid back first.
#[derive(Debug)]
pub struct Budget {
    balance: AtomicI32,
    /// Retries since an attempt last succeeded.
    spent: AtomicI32,
    /// Requests whose retries have failed since then.
    in_vain: AtomicU32,
}

impl Budget {
    /// A request makes its first attempt at the provider: it pays this share in.
    pub fn deposit(&self, share: Percent) {
        let add = |balance: i32| {
            let next = balance.saturating_add(i32::from(share.0)).min(SAVINGS);
            (next != balance).then_some(next)
        };
        let _full = self.balance.fetch_update(Relaxed, Relaxed, add);
    }

    /// Whether there is one retry left.
    pub fn affords(&self) -> bool {
        self.balance.load(Relaxed) >= RETRY
    }

    /// Takes one retry out; false when there is none left.
    pub fn withdraw(&self) -> bool {
        let take = |balance: i32| (balance >= RETRY).then(|| balance - RETRY);
        let taken = self.balance.fetch_update(Relaxed, Relaxed, take).is_ok();
        if taken {
            self.spent.fetch_add(RETRY, Relaxed);
        }
        taken
    }

    /// An attempt succeeded: the provider serves.
    pub fn serves(&self) {
        if self.spent.load(Relaxed) != 0 || self.in_vain.load(Relaxed) != 0 {
            self.spent.store(0, Relaxed);
            self.in_vain.store(0, Relaxed);
        }
    }

    /// A request's first retry failed as well.
    pub fn failed_again(&self) {
        if self.in_vain.fetch_add(1, Relaxed) + 1 == IN_VAIN {
            self.balance.store(-self.spent.load(Relaxed), Relaxed);
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            balance: AtomicI32::new(RESERVE),
            spent: AtomicI32::new(0),
            in_vain: AtomicU32::new(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_stay_within_the_share_plus_the_reserve() {
        let budget = Budget::default();
        let mut retries = 0;
        for _ in 0..100 {
            budget.deposit(Percent(20));
            retries += u32::from(budget.withdraw());
        }
        assert_eq!(retries, 3 + 20);
    }

    /// Retries among this many requests of up to two retries each, all of which fail.
    fn storm(budget: &Budget, requests: u32) -> u32 {
        let mut retries = 0;
        for _ in 0..requests {
            budget.deposit(Percent(20));
            for attempt in 0..2 {
                if !budget.withdraw() {
                    break;
                }
                retries += 1;
                if attempt == 0 {
                    budget.failed_again();
                }
            }
        }
        retries
    }

    #[test]
    fn neither_savings_nor_the_reserve_pay_for_a_storm() {
        let budget = Budget::default();
        assert!((15..=20).contains(&storm(&budget, 100)));
        budget.serves();
        (0..1000).for_each(|_| budget.deposit(Percent(20)));
        let retries = storm(&budget, 100);
        assert!((15..=20).contains(&retries), "{retries}");
    }

    #[test]
    fn trouble_that_passes_costs_no_savings() {
        let budget = Budget::default();
        (0..1000).for_each(|_| budget.deposit(Percent(20)));
        for _ in 0..40 {
            assert!(budget.withdraw());
            budget.failed_again();
            budget.serves();
        }
        assert!(budget.withdraw());
    }

    #[test]
    fn savings_are_bounded() {
        let budget = Budget::default();
        (0..1_000_000).for_each(|_| budget.deposit(Percent(100)));
        assert_eq!((0..1000).filter(|_| budget.withdraw()).count(), 100);
    }
}
