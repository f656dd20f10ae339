//! Who asks how often, and who tries keys. Of an address only a hash is kept, which means something in
//! this process alone.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::table::Table;
use crate::config::{FailedKeys, Pace};

/// Requests that are kept waiting on purpose at once, all together: they cost memory.
const WAITING: usize = 512;
/// Microseconds of a minute.
const MINUTE: u64 = 60_000_000;

/// Who asks how often, and who tries keys. One per process; it outlives every configuration.
#[derive(Debug)]
pub struct Watch {
    hasher: RandomState,
    began: Instant,
    addresses: OnceLock<Table<Asked>>,
    users: OnceLock<Table<Asked>>,
    failures: OnceLock<Table<Failed>>,
    waiting: AtomicUsize,
}

/// A place among those who are kept waiting; given back when dropped.
#[derive(Debug)]
pub struct Slot<'w>(&'w AtomicUsize);

/// Moments are microseconds since the process began.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    /// When the minute began that is counted …
    since: u64,
    /// … and the requests in it.
    count: u32,
    /// When all that came would have come at the rate that is allowed.
    due: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Failed {
    last: u64,
    count: u32,
}

// === impl Watch ===

impl Watch {
    /// Counts a request of an address, or says how long it has to wait for the next.
    pub fn address(&self, address: IpAddr, pace: Pace) -> Result<(), Duration> {
        let key = self.hasher.hash_one(whole(address));
        self.addresses
            .get_or_init(Table::new)
            .with(key, self.now(), |asked| asked.admit(pace, self.now()))
    }

    /// … of a user, or of a key that is nobody's.
    pub fn user(&self, id: &str, pace: Pace) -> Result<(), Duration> {
        let key = self.hasher.hash_one(id);
        self.users
            .get_or_init(Table::new)
            .with(key, self.now(), |asked| asked.admit(pace, self.now()))
    }

    /// Counts a wrong key of an address; how late its refusal comes.
    pub fn failed(&self, address: IpAddr, terms: &FailedKeys) -> Duration {
        let key = self.hasher.hash_one(whole(address));
        let now = self.now();
        self.failures.get_or_init(Table::new).with(key, now, |failed| failed.count(terms, now))
    }

    /// A place among those who are kept waiting; `None` when all are taken.
    pub fn slot(&self) -> Option<Slot<'_>> {
        if self.waiting.fetch_add(1, Relaxed) >= WAITING {
            self.waiting.fetch_sub(1, Relaxed);
            return None;
        }
        Some(Slot(&self.waiting))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            began: Instant::now(),
            addresses: OnceLock::new(),
            users: OnceLock::new(),
            failures: OnceLock::new(),
            waiting: AtomicUsize::new(0),
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

// === impl Asked ===

impl Asked {
    fn admit(&mut self, pace: Pace, now: u64) -> Result<(), Duration> {
        if now.saturating_sub(self.since) >= MINUTE {
            (self.since, self.count) = (now, 0);
        }
        let most = pace.requests_per_minute;
        if most > 0 && self.count >= most {
            let left = self.since.saturating_add(MINUTE).saturating_sub(now);
            return Err(Duration::from_micros(left));
        }
        if let Some(rate) = pace.rate_limit {
            if rate.blocks() {
                return Err(Duration::from_hours(1));
            }
            let each = 1_000_000 / u64::from(rate.requests_per_second.max(1));
            let due = self.due.max(now).saturating_add(each);
            let early = due.saturating_sub(now);
            let allowed = each.saturating_mul(rate.burst_size.max(1).into());
            if early > allowed {
                return Err(Duration::from_micros(early - allowed));
            }
            self.due = due;
        }
        self.count = self.count.saturating_add(1);
        Ok(())
    }
}

// === impl Failed ===

impl Failed {
    fn count(&mut self, terms: &FailedKeys, now: u64) -> Duration {
        let pause = Duration::from_micros(now.saturating_sub(self.last));
        if pause >= terms.within {
            self.count = 0;
        }
        self.last = now;
        self.count = self.count.saturating_add(1);
        let Some(beyond) = self.count.checked_sub(terms.after).filter(|beyond| *beyond > 0) else {
            return Duration::ZERO;
        };
        let doubled = 1_u32.checked_shl(beyond - 1).unwrap_or(u32::MAX).max(1);
        terms.delay.saturating_mul(doubled).min(terms.longest)
    }
}

/// Who has one IPv6 address has its whole network of 64 bits.
fn whole(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RateLimit;

    const SECOND: u64 = 1_000_000;
    const START: u64 = 1_000 * SECOND;

    #[test]
    fn so_many_requests_in_a_minute_and_then_a_wait_for_the_next() {
        let pace = Pace { requests_per_minute: 2, rate_limit: None };
        let mut asked = Asked::default();
        assert_eq!(asked.admit(pace, START), Ok(()));
        assert_eq!(asked.admit(pace, START + SECOND), Ok(()));
        assert_eq!(asked.admit(pace, START + 20 * SECOND), Err(Duration::from_secs(40)));
        assert_eq!(asked.admit(pace, START + 60 * SECOND), Ok(()));
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let rate = RateLimit { requests_per_second: 2, burst_size: 3 };
        let pace = Pace { requests_per_minute: 0, rate_limit: Some(rate) };
        let mut asked = Asked::default();
        for _ in 0..3 {
            assert_eq!(asked.admit(pace, START), Ok(()));
        }
        assert_eq!(asked.admit(pace, START), Err(Duration::from_millis(500)));
        assert_eq!(asked.admit(pace, START + SECOND / 2), Ok(()));
        assert!(asked.admit(pace, START + SECOND / 2).is_err());
        let none = RateLimit { requests_per_second: 0, burst_size: 0 };
        let pace = Pace { requests_per_minute: 0, rate_limit: Some(none) };
        assert!(Asked::default().admit(pace, START).is_err());
    }

    #[test]
    fn refusals_come_later_and_later_up_to_a_bound_and_at_once_after_a_pause() {
        let terms = FailedKeys {
            after: 2,
            within: Duration::from_secs(10),
            delay: Duration::from_secs(1),
            longest: Duration::from_secs(5),
        };
        let mut failed = Failed::default();
        let delays: Vec<u64> =
            (0..40).map(|at| failed.count(&terms, START + at * SECOND).as_secs()).collect();
        assert_eq!(delays[..6], [0, 0, 1, 2, 4, 5]);
        assert!(delays[6..].iter().all(|delay| *delay == 5));
        assert_eq!(failed.count(&terms, START + 49 * SECOND), Duration::ZERO);
    }

    #[test]
    fn a_network_of_ipv6_is_one_caller_and_addresses_of_ipv4_are_many() {
        let watch = Watch::default();
        let pace = Pace { requests_per_minute: 1, rate_limit: None };
        let ask = |address: &str| watch.address(address.parse().unwrap(), pace).is_ok();
        assert!(ask("2001:db8::1") && !ask("2001:db8::ffff") && ask("2001:db8:0:1::1"));
        assert!(ask("192.0.2.1") && !ask("::ffff:192.0.2.1") && ask("192.0.2.2"));
    }

    #[test]
    fn only_so_many_wait_at_once() {
        let watch = Watch::default();
        let slots: Vec<_> = (0..WAITING).map(|_| watch.slot().unwrap()).collect();
        assert!(watch.slot().is_none());
        drop(slots);
        assert!(watch.slot().is_some());
    }
}
