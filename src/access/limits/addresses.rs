//! From which addresses a key or a user was called of late. Of an address only a hash is known here.

use super::terms::Now;

/// Milliseconds after which an address that was not called from is forgotten: who moves about must
/// not run out of addresses, and who is passed around is used from many within a day.
const REMEMBERED: i64 = 24 * 3_600_000;

/// Addresses of one subject, whatever `max_ips` says.
const MOST: usize = 10_000;

/// What became of an address ([`Subject::address_seen`](super::Subject::address_seen)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Known,
    /// It is known from now on.
    New,
    /// Not known, and there are as many as there may be.
    TooMany,
}

/// Addresses that are known: hashes in their order, each with when it was last seen in Unix
/// milliseconds.
#[derive(Debug, Default)]
pub(super) struct Addresses(Vec<(u64, i64)>);

// === impl Addresses ===

impl Addresses {
    /// Counts an address; at most `most` different ones are let in.
    pub(super) fn see(&mut self, hash: u64, most: u32, now: Now) -> Seen {
        let place = match self.0.binary_search_by_key(&hash, |(known, _)| *known) {
            Ok(place) => {
                let Some((_, seen)) = self.0.get_mut(place) else { return Seen::Known };
                let fresh = is_fresh(*seen, now);
                *seen = now.0;
                if fresh {
                    return Seen::Known;
                }
                // Forgotten meanwhile: it comes as a new one would.
                self.0.remove(place);
                place
            }
            Err(place) => place,
        };
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(MOST);
        let mut place = place;
        if self.0.len() >= most {
            self.forget_old(now);
            place = self.0.partition_point(|(known, _)| *known < hash);
        }
        if self.0.len() >= most {
            return Seen::TooMany;
        }
        self.0.insert(place, (hash, now.0));
        Seen::New
    }

    /// Takes in addresses that are known beforehand.
    pub(super) fn know(&mut self, hashes: &[u64], now: Now) {
        for hash in hashes {
            match self.0.binary_search_by_key(hash, |(known, _)| *known) {
                Ok(place) => {
                    if let Some((_, seen)) = self.0.get_mut(place) {
                        *seen = now.0;
                    }
                }
                Err(_) if self.0.len() >= MOST => return,
                Err(place) => self.0.insert(place, (*hash, now.0)),
            }
        }
    }

    /// Forgets those that were not seen for a day.
    pub(super) fn forget_old(&mut self, now: Now) {
        self.0.retain(|(_, seen)| is_fresh(*seen, now));
        if self.0.is_empty() {
            self.0 = Vec::new();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A clock that was put back keeps what it has seen: nobody gets in by it.
fn is_fresh(seen: i64, now: Now) -> bool {
    now.0.saturating_sub(seen) < REMEMBERED
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    #[test]
    fn an_address_that_was_not_seen_for_a_day_makes_room() {
        let mut known = Addresses::default();
        let mut see = |hash, after| known.see(hash, 2, Now(NOW + after));
        assert_eq!((see(9, 0), see(4, 0)), (Seen::New, Seen::New));
        assert_eq!(see(5, 0), Seen::TooMany);
        // Whoever goes on calling goes on being known.
        assert_eq!(see(9, REMEMBERED - 1), Seen::Known);
        assert_eq!(see(5, REMEMBERED - 1), Seen::TooMany);
        assert_eq!(see(5, REMEMBERED), Seen::New);
        assert_eq!(see(4, REMEMBERED), Seen::TooMany, "its place is taken");
        assert_eq!(see(9, REMEMBERED), Seen::Known);
    }

    #[test]
    fn an_address_that_comes_back_after_a_day_counts_as_a_new_one() {
        let mut known = Addresses::default();
        assert_eq!(known.see(1, 1, Now(NOW)), Seen::New);
        assert_eq!(known.see(1, 1, Now(NOW + REMEMBERED)), Seen::New);
        assert_eq!(known.0, [(1, NOW + REMEMBERED)]);
        // A clock that was put back forgets nobody, and lets nobody in.
        assert_eq!(known.see(2, 1, Now(NOW)), Seen::TooMany);
    }

    #[test]
    fn what_is_kept_is_bounded_and_sorted() {
        let mut known = Addresses::default();
        let hashes: Vec<u64> = (0..MOST as u64 + 10).rev().collect();
        known.know(&hashes, Now(NOW));
        assert_eq!(known.0.len(), MOST);
        assert!(known.0.is_sorted());
        assert_eq!(known.see(0, u32::MAX, Now(NOW)), Seen::TooMany);
    }
}
