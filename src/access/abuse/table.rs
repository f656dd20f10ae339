//! A table of constant size: who was seen longest ago makes room.

use std::sync::{Mutex, PoisonError};

/// Sets, each with a lock of its own …
const SETS: usize = 2048;
/// … and places in each.
const WAYS: usize = 8;

/// What is known of so many, each by a hash. All of its memory is taken at once.
#[derive(Debug)]
pub(super) struct Table<T>(Box<[Mutex<[Place<T>; WAYS]>]>);

#[derive(Clone, Copy, Debug, Default)]
struct Place<T> {
    key: u64,
    /// When it was last asked for; 0: it is free.
    seen: u64,
    value: T,
}

impl<T: Copy + Default> Table<T> {
    /// How many there is room for.
    #[cfg(test)]
    pub(super) const ROOM: usize = SETS * WAYS;

    pub(super) fn new() -> Self {
        Self((0..SETS).map(|_| Mutex::new([Place::default(); WAYS])).collect())
    }

    /// What `change` comes to on what is known of `key`, which is a hash; nothing is known of one that
    /// is new, or that has made room. `now` never is 0.
    pub(super) fn with<R>(&self, key: u64, now: u64, change: impl FnOnce(&mut T) -> R) -> R {
        let set = usize::try_from(key % SETS as u64).ok().and_then(|at| self.0.get(at));
        let Some(set) = set else { return change(&mut T::default()) };
        let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
        let mut oldest = 0;
        let mut least = u64::MAX;
        for (at, place) in set.iter_mut().enumerate() {
            if place.seen > 0 && place.key == key {
                place.seen = now;
                return change(&mut place.value);
            }
            if place.seen < least {
                (oldest, least) = (at, place.seen);
            }
        }
        let mut value = T::default();
        let result = change(&mut value);
        if let Some(place) = set.get_mut(oldest) {
            *place = Place { key, seen: now.max(1), value };
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_stays_until_it_makes_room() {
        let table = Table::<u32>::new();
        let add = |key: u64, now: u64| {
            table.with(key, now, |count| {
                *count += 1;
                *count
            })
        };
        assert_eq!((add(7, 1), add(7, 2), add(8, 3)), (1, 2, 1));
        // All of one set.
        for other in 1..=WAYS as u64 {
            add(7 + other * SETS as u64, 10 + other);
        }
        assert_eq!(add(7, 100), 1, "it was seen longest ago");
        assert_eq!(add(7 + WAYS as u64 * SETS as u64, 101), 2, "it was seen last");
    }

    #[test]
    fn a_crowd_takes_no_more_memory_than_there_is() {
        let table = Table::<u64>::new();
        for key in 0..10 * Table::<u64>::ROOM as u64 {
            table.with(key, key + 1, |value| *value = key);
        }
        let places = table.0.iter().map(|set| set.lock().unwrap().len()).sum::<usize>();
        assert_eq!(places, Table::<u64>::ROOM);
    }
}
