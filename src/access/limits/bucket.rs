//! A token bucket in integers: so many requests per second, so many at once.

use std::time::Duration;

use super::terms::Now;
use crate::config::RateLimit;

/// A bucket without inflow is looked at again after this.
const NO_INFLOW: Duration = Duration::from_hours(1);

/// Requests that may come now.
///
/// Counted in parts of a request: `requests_per_second` parts flow in each millisecond, and a
/// request takes `1000 * nodes` of them. So each of several nodes has its exact share of the rate,
/// and nothing is rounded.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bucket {
    level: u64,
    /// When `level` was right, Unix milliseconds; 0: the bucket is full.
    at: i64,
    /// Of how many nodes it is one; parts are that much smaller.
    nodes: u32,
}

impl Bucket {
    /// Brings the level to `now`.
    pub(super) fn refill(&mut self, rate: RateLimit, nodes: u32, now: Now) {
        let nodes = nodes.max(1);
        let capacity = capacity(rate, nodes);
        if self.at == 0 {
            *self = Self { level: capacity, at: now.0, nodes };
            return;
        }
        if self.nodes != nodes {
            // What was left, in the new parts.
            let scaled = self.level.saturating_mul(nodes.into()) / u64::from(self.nodes.max(1));
            (self.level, self.nodes) = (scaled, nodes);
        }
        // A clock that went back lets nothing in: time counts again from there.
        let elapsed = u64::try_from(now.0.saturating_sub(self.at)).unwrap_or(0);
        let inflow = elapsed.saturating_mul(rate.requests_per_second.into());
        self.level = self.level.saturating_add(inflow).min(capacity);
        self.at = now.0;
    }

    /// How long until a request may come; `None`: it may now. After [`Self::refill`].
    pub(super) fn wait(&self, rate: RateLimit) -> Option<Duration> {
        let missing = price(self.nodes).checked_sub(self.level).filter(|missing| *missing > 0)?;
        Some(match rate.requests_per_second {
            0 => NO_INFLOW,
            inflow => Duration::from_millis(missing.div_ceil(inflow.into())),
        })
    }

    /// Takes one request out.
    pub(super) fn take(&mut self) {
        self.level = self.level.saturating_sub(price(self.nodes));
    }

    /// Requests that may come at once.
    pub(super) fn remaining(&self) -> u64 {
        self.level / price(self.nodes)
    }

    pub(super) fn nodes(&self) -> u32 {
        self.nodes
    }

    /// How long until it is full.
    pub(super) fn full_in(&self, rate: RateLimit) -> Duration {
        let missing = capacity(rate, self.nodes).saturating_sub(self.level);
        match rate.requests_per_second {
            0 if missing > 0 => NO_INFLOW,
            inflow => Duration::from_millis(missing.div_ceil(u64::from(inflow).max(1))),
        }
    }
}

/// What one request takes.
fn price(nodes: u32) -> u64 {
    1000 * u64::from(nodes.max(1))
}

/// What fits: the node's share of the burst, and at least one request where any is let in.
fn capacity(rate: RateLimit, nodes: u32) -> u64 {
    if rate.blocks() {
        return 0;
    }
    let burst = if rate.burst_size == 0 { rate.requests_per_second } else { rate.burst_size };
    (1000 * u64::from(burst)).max(price(nodes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: RateLimit = RateLimit { requests_per_second: 10, burst_size: 3 };

    fn let_in(bucket: &mut Bucket, rate: RateLimit, nodes: u32, at: i64) -> Option<Duration> {
        bucket.refill(rate, nodes, Now(at));
        let wait = bucket.wait(rate);
        if wait.is_none() {
            bucket.take();
        }
        wait
    }

    #[test]
    fn a_burst_comes_at_once_and_then_the_rate() {
        let mut bucket = Bucket::default();
        for _ in 0..3 {
            assert_eq!(let_in(&mut bucket, RATE, 1, 1000), None);
        }
        assert_eq!(let_in(&mut bucket, RATE, 1, 1000), Some(Duration::from_millis(100)));
        assert_eq!(let_in(&mut bucket, RATE, 1, 1099), Some(Duration::from_millis(1)));
        assert_eq!(let_in(&mut bucket, RATE, 1, 1100), None);
    }

    #[test]
    fn three_nodes_let_in_together_what_one_would() {
        let rate = RateLimit { requests_per_second: 100, burst_size: 30 };
        let mut nodes = [Bucket::default(); 3];
        let mut admitted = 0;
        for at in 1..=10_000 {
            for node in &mut nodes {
                admitted += u32::from(let_in(node, rate, 3, at).is_none());
            }
        }
        assert!((1029..=1030).contains(&admitted), "{admitted}");
    }

    #[test]
    fn a_clock_that_goes_back_lets_nothing_in() {
        let mut bucket = Bucket::default();
        for _ in 0..3 {
            let_in(&mut bucket, RATE, 1, 10_000);
        }
        assert!(let_in(&mut bucket, RATE, 1, 1).is_some());
        assert!(let_in(&mut bucket, RATE, 1, 2).is_some());
        assert_eq!(let_in(&mut bucket, RATE, 1, 101), None);
    }

    #[test]
    fn the_largest_numbers_do_not_wrap() {
        let rate = RateLimit { requests_per_second: u32::MAX, burst_size: u32::MAX };
        let mut bucket = Bucket::default();
        assert_eq!(let_in(&mut bucket, rate, u32::MAX, 1), None);
        assert_eq!(let_in(&mut bucket, rate, 1, i64::MAX), None);
    }
}
