//! A bound on retries within one provider, so that a provider in trouble is not drowned by them.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::config::Percent;

/// What one retry costs, in hundredths of a request.
const RETRY: u32 = 100;
/// Retries a provider may have before it has earned any: at a handful of requests a minute a
/// share of them would round to none.
const RESERVE: u32 = 3 * RETRY;
/// Savings are bounded, or a quiet day would pay for a storm.
const SAVINGS: u32 = 100 * RETRY;

/// Each request pays in its share, each retry takes one whole request out (the retry budget of
/// Finagle and Linkerd). Only a *further* attempt at the same provider counts: going on to
/// another target loads that one no more than a first attempt would.
#[derive(Debug)]
pub struct Budget {
    share: u32,
    balance: AtomicU32,
}

impl Budget {
    pub fn new(share: Percent) -> Self {
        Self { share: u32::from(share.0), balance: AtomicU32::new(RESERVE) }
    }

    /// A request makes its first attempt at the provider.
    pub fn deposit(&self) {
        let add = |balance: u32| {
            let next = balance.saturating_add(self.share).min(SAVINGS);
            (next != balance).then_some(next)
        };
        let _full = self.balance.fetch_update(Relaxed, Relaxed, add);
    }

    /// Takes one retry out; false when there is none left.
    pub fn withdraw(&self) -> bool {
        self.balance.fetch_update(Relaxed, Relaxed, |balance| balance.checked_sub(RETRY)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_stay_within_the_share_plus_the_reserve() {
        let budget = Budget::new(Percent(20));
        let mut retries = 0;
        for _ in 0..100 {
            budget.deposit();
            retries += u32::from(budget.withdraw());
        }
        assert_eq!(retries, 3 + 20);
    }

    #[test]
    fn savings_are_bounded() {
        let budget = Budget::new(Percent(100));
        (0..1_000_000).for_each(|_| budget.deposit());
        assert_eq!((0..1000).filter(|_| budget.withdraw()).count(), 100);
    }
}
