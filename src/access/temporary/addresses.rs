//! What each address has asked for. Of an address only a hash is kept.

use std::collections::HashMap;
use std::time::Duration;

/// Addresses remembered; the one that was seen longest ago is forgotten first.
const REMEMBERED: usize = 10_000;
/// Attempts in a minute.
const ATTEMPTS: u32 = 5;
const MINUTE: i64 = 60_000;

/// What each address has asked for.
#[derive(Debug, Default)]
pub struct Addresses {
    known: HashMap<u64, Address>,
}

/// Moments are Unix milliseconds.
#[derive(Debug, Default)]
struct Address {
    seen: i64,
    /// Since when attempts are counted.
    since: i64,
    attempts: u32,
    /// When its keys end.
    keys: Vec<i64>,
}

impl Addresses {
    /// Counts an attempt, or says how long to wait for the next.
    pub fn attempt(&mut self, address: u64, now: i64) -> Result<(), Duration> {
        let known = self.known(address, now);
        if now.saturating_sub(known.since) >= MINUTE || known.since > now {
            (known.since, known.attempts) = (now, 0);
        }
        if known.attempts >= ATTEMPTS {
            let left = known.since.saturating_add(MINUTE).saturating_sub(now);
            return Err(Duration::from_millis(u64::try_from(left).unwrap_or(0)));
        }
        known.attempts += 1;
        Ok(())
    }

    /// Takes one of `most` keys (0: any number), which ends at `until`; or says when the next of them
    /// ends.
    pub fn take(&mut self, address: u64, most: u32, until: i64, now: i64) -> Result<(), i64> {
        if most == 0 {
            return Ok(());
        }
        let known = self.known(address, now);
        known.keys.retain(|end| *end > now);
        if known.keys.len() >= usize::try_from(most).unwrap_or(usize::MAX) {
            return Err(known.keys.iter().copied().min().unwrap_or(now));
        }
        known.keys.push(until);
        Ok(())
    }

    /// Gives back what was taken.
    pub fn give_back(&mut self, address: u64, until: i64) {
        let Some(known) = self.known.get_mut(&address) else { return };
        if let Some(place) = known.keys.iter().position(|end| *end == until) {
            known.keys.swap_remove(place);
        }
    }

    fn known(&mut self, address: u64, now: i64) -> &mut Address {
        if self.known.len() >= REMEMBERED && !self.known.contains_key(&address) {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.seen);
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                self.known.remove(&oldest);
            }
        }
        let known = self.known.entry(address).or_default();
        known.seen = now;
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    #[test]
    fn five_attempts_a_minute_are_let_through() {
        let mut addresses = Addresses::default();
        for _ in 0..ATTEMPTS {
            addresses.attempt(1, NOW).unwrap();
        }
        assert_eq!(addresses.attempt(1, NOW + 20_000), Err(Duration::from_secs(40)));
        addresses.attempt(2, NOW).unwrap();
        addresses.attempt(1, NOW + MINUTE).unwrap();
    }

    #[test]
    fn an_address_has_so_many_keys_at_once() {
        let mut addresses = Addresses::default();
        addresses.take(1, 2, NOW + 10, NOW).unwrap();
        addresses.take(1, 2, NOW + 20, NOW).unwrap();
        assert_eq!(addresses.take(1, 2, NOW + 30, NOW), Err(NOW + 10));
        addresses.give_back(1, NOW + 20);
        addresses.take(1, 2, NOW + 30, NOW).unwrap();
        addresses.take(1, 2, NOW + 40, NOW + 10).unwrap();
        addresses.take(1, 0, NOW + 40, NOW + 10).unwrap();
    }

    #[test]
    fn the_address_seen_longest_ago_is_forgotten_first() {
        let mut addresses = Addresses::default();
        for number in 0..=REMEMBERED {
            let now = NOW + i64::try_from(number).unwrap();
            addresses.attempt(number as u64, now).unwrap();
        }
        assert!(!addresses.known.contains_key(&0) && addresses.known.contains_key(&1));
        assert_eq!(addresses.known.len(), REMEMBERED);
    }
}
