//! Who guesses keys is slowed down: after a few wrong ones an address has to wait.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Wrong keys an address may send in a window.
const MOST: u32 = 5;
const WINDOW: Duration = Duration::from_mins(1);
/// Addresses that are remembered. All others then share one count: a crowd of addresses neither
/// fills the memory nor guesses on.
const ADDRESSES: usize = 4096;

/// Wrong keys by the address they came from.
#[derive(Default)]
pub struct Throttle(Mutex<HashMap<IpAddr, Count>>);

#[derive(Clone, Copy)]
struct Count {
    since: Instant,
    wrong: u32,
}

impl Throttle {
    /// How long an address has to wait before it may try another key; `None` when it may.
    pub fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get(&whole(address)).or_else(|| counts.get(&OTHERS))?;
        let left = WINDOW.checked_sub(now.saturating_duration_since(count.since))?;
        (count.wrong >= MOST && !left.is_zero()).then_some(left)
    }

    /// Counts a wrong key.
    pub fn note(&self, address: IpAddr, now: Instant) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut address = whole(address);
        if counts.len() >= ADDRESSES && !counts.contains_key(&address) {
            counts.retain(|_, count| now.saturating_duration_since(count.since) < WINDOW);
            if counts.len() >= ADDRESSES {
                address = OTHERS;
            }
        }
        let count = counts.entry(address).or_insert(Count { since: now, wrong: 0 });
        if now.saturating_duration_since(count.since) >= WINDOW {
            *count = Count { since: now, wrong: 0 };
        }
        count.wrong = count.wrong.saturating_add(1);
    }
}

/// Stands for all that found no place.
const OTHERS: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Who has one IPv6 address has its whole network of 64 bits.
fn whole(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn five_wrong_keys_in_a_minute_are_let_through() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        for _ in 0..MOST {
            assert_eq!(throttle.wait(v4(1), start), None);
            throttle.note(v4(1), start);
        }
        assert_eq!(throttle.wait(v4(1), start + WINDOW / 2), Some(WINDOW / 2));
        assert_eq!(throttle.wait(v4(2), start), None, "another address");
        assert_eq!(throttle.wait(v4(1), start + WINDOW), None, "another minute");
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for last in 0..MOST {
            throttle.note(format!("2001:db8::{last}").parse().unwrap(), now);
        }
        assert!(throttle.wait("2001:db8::ffff:1".parse().unwrap(), now).is_some());
        assert!(throttle.wait("2001:db8:0:1::1".parse().unwrap(), now).is_none());
    }

    #[test]
    fn a_crowd_of_addresses_fills_no_memory_and_guesses_no_further() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for number in 0..10_000 {
            throttle.note(v4(number), now);
        }
        assert!(throttle.0.lock().unwrap().len() <= ADDRESSES + 1);
        assert!(throttle.wait(v4(20_000), now).is_some());
        assert!(throttle.wait(v4(20_000), now + WINDOW).is_none());
    }
}
