//! Which prefixes a replica has seen, and how long ago: an estimate of what is in its cache.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use super::blocks::{self, Blocks};

/// Places of one set: a cache line.
const WAYS: usize = 8;
const SETS: usize = 1 << 13;
/// Blocks remembered of one replica: 512 KiB of memory, and 16 MiB of prompts or more.
const PLACES: u32 = 1 << 16;
/// A place holds the upper bits of a hash, whether its server says that it holds it, and the moment it was
/// seen last.
const MOMENT_BITS: u32 = 23;
const MOMENTS: u64 = (1 << MOMENT_BITS) - 1;
const TOLD: u64 = 1 << MOMENT_BITS;
const TAG: u64 = !(MOMENTS | TOLD);

/// The blocks one replica has seen. Its size is fixed, the oldest give way; reading and writing lock
/// nothing, and a race costs at most one estimate.
///
/// Time is counted in blocks the replica has taken in, as its own cache does: what was used last
/// before more came in than the cache holds is taken for evicted. Where a server tells what its cache holds,
/// that counts instead, for as long as it is heard.
#[derive(Debug)]
pub struct Seen {
    sets: Box<[Set]>,
    clock: AtomicU32,
    /// What the replica's cache holds, in units of the clock.
    capacity: AtomicU32,
    /// Its server is heard.
    heard: AtomicBool,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

impl Default for Seen {
    fn default() -> Self {
        let sets = (0..SETS).map(|_| Set::default()).collect();
        let (clock, capacity) = (AtomicU32::new(1), AtomicU32::new(PLACES));
        Self { sets, clock, capacity, heard: AtomicBool::new(false) }
    }
}

impl Seen {
    /// How many of the first blocks are likely to be cached. Looks at a few of them: whoever has a
    /// block has those before it.
    pub fn longest(&self, blocks: &Blocks) -> usize {
        blocks.hashes().partition_point(|hash| self.holds(*hash))
    }

    /// Takes note of a prompt that is sent to the replica.
    pub fn touch(&self, blocks: &Blocks) {
        let now = u64::from(self.clock.load(Relaxed));
        let mut new = 0;
        for (index, hash) in blocks.hashes().iter().enumerate() {
            if !self.put(*hash, now, 0) {
                new += blocks::units(index);
            }
        }
        self.pass(new);
    }

    /// Lets as much time pass as `tokens` that were generated take room.
    pub fn generated(&self, tokens: u64) {
        self.pass(u32::try_from(tokens / 64).unwrap_or(0));
    }

    /// Takes note of how many tokens the replica's cache holds.
    pub fn set_capacity(&self, tokens: u64) {
        let units = u32::try_from(tokens / 64).unwrap_or(u32::MAX);
        self.capacity.store(units.clamp(1, u32::try_from(MOMENTS / 2).unwrap_or(PLACES)), Relaxed);
    }

    /// The replica has begun anew.
    pub fn forget(&self) {
        for place in self.sets.iter().flat_map(|set| &set.0) {
            place.store(0, Relaxed);
        }
    }

    /// Whether what the server says of its cache counts.
    pub fn hear(&self, heard: bool) {
        self.heard.store(heard, Relaxed);
    }

    /// The server says that it holds a block.
    pub fn hold(&self, hash: u64) {
        self.put(hash, u64::from(self.clock.load(Relaxed)), TOLD);
    }

    /// … that it holds it no more.
    pub fn lose(&self, hash: u64) {
        self.change(hash, |_| 0);
    }

    /// What the server said of a block does not count any more.
    pub fn doubt(&self, hash: u64) {
        self.change(hash, |place| place & !TOLD);
    }

    fn change(&self, hash: u64, to: impl Fn(u64) -> u64) {
        for place in self.set(hash) {
            let now = place.load(Relaxed);
            if is_of(now, hash) {
                // When it is changed in between, it was sent there again: what comes of that will be told.
                let _raced = place.compare_exchange(now, to(now), Relaxed, Relaxed);
            }
        }
    }

    fn holds(&self, hash: u64) -> bool {
        let mut found = self.set(hash).iter().map(|place| place.load(Relaxed));
        found.any(|place| is_of(place, hash) && self.counts(place))
    }

    /// Whether what is in a place is likely to be cached still.
    fn counts(&self, place: u64) -> bool {
        let told = place & TOLD != 0 && self.heard.load(Relaxed);
        told || self.age(place) <= u64::from(self.capacity.load(Relaxed))
    }

    /// Whether it was there, and not too long ago.
    fn put(&self, hash: u64, now: u64, told: u64) -> bool {
        let set = self.set(hash);
        let fresh = (hash & TAG) | told | (now & MOMENTS);
        for place in set {
            let before = place.load(Relaxed);
            if is_of(before, hash) {
                let _raced =
                    place.compare_exchange(before, fresh | before & TOLD, Relaxed, Relaxed);
                return self.counts(before);
            }
        }
        let oldest = set.iter().max_by_key(|place| match place.load(Relaxed) {
            0 => u64::MAX,
            taken => self.age(taken),
        });
        if let Some(place) = oldest {
            place.store(fresh, Relaxed);
        }
        false
    }

    fn set(&self, hash: u64) -> &[AtomicU64] {
        // The lower bits choose the set, the upper ones stand in the place.
        let index = usize::try_from(hash).unwrap_or(usize::MAX) % SETS;
        self.sets.get(index).map_or(&[], |set| &set.0)
    }

    fn age(&self, place: u64) -> u64 {
        u64::from(self.clock.load(Relaxed)).wrapping_sub(place) & MOMENTS
    }

    fn pass(&self, units: u32) {
        if units > 0 {
            self.clock.fetch_add(units, Relaxed);
        }
    }
}

/// Whether a taken place is of this hash.
fn is_of(place: u64, hash: u64) -> bool {
    place != 0 && place & TAG == hash & TAG
}

#[cfg(test)]
mod tests {
    use super::super::blocks::Key;
    use super::super::request::Prompt;
    use super::*;

    fn blocks(turns: &[u8], state: &Key) -> Blocks {
        Blocks::of(&Prompt { parts: [b"", b"", turns], ..Prompt::default() }, state)
    }

    fn text(seed: usize, length: usize) -> Vec<u8> {
        format!("{seed:08}").into_bytes().into_iter().cycle().take(length).collect()
    }

    #[test]
    fn it_knows_how_much_of_a_prompt_it_has_seen() {
        let (seen, state) = (Seen::default(), Key::random());
        let mut chat = text(1, 10 << 10);
        assert_eq!(seen.longest(&blocks(&chat, &state)), 0);
        seen.touch(&blocks(&chat, &state));
        chat.extend(text(2, 4 << 10));
        assert_eq!(seen.longest(&blocks(&chat, &state)), 40);
        assert_eq!(seen.longest(&blocks(&text(3, 10 << 10), &state)), 0);
        seen.forget();
        assert_eq!(seen.longest(&blocks(&chat, &state)), 0);
    }

    #[test]
    fn what_would_be_evicted_there_is_forgotten_here_and_what_is_used_is_not() {
        let (seen, state) = (Seen::default(), Key::random());
        seen.set_capacity(64 * 100);
        let (old, hot) = (blocks(&text(1, 5 << 10), &state), blocks(&text(2, 5 << 10), &state));
        seen.touch(&old);
        for other in 10..20 {
            seen.touch(&hot);
            seen.touch(&blocks(&text(other, 5 << 10), &state));
        }
        assert_eq!((seen.longest(&old), seen.longest(&hot)), (0, 20));
        seen.generated(64 * 101);
        assert_eq!(seen.longest(&hot), 0);
    }

    #[test]
    fn however_much_it_sees_its_size_stays() {
        let (seen, state) = (Seen::default(), Key::random());
        for other in 0..4000 {
            seen.touch(&blocks(&text(other, 16 << 10), &state));
        }
        let taken = seen.sets.iter().flat_map(|set| &set.0).filter(|it| it.load(Relaxed) != 0);
        let taken = taken.count();
        assert!(taken <= usize::try_from(PLACES).unwrap() && taken > 60_000, "{taken}");
        assert_eq!(size_of::<Set>() * seen.sets.len(), 512 << 10);
        // The newest are among them.
        assert!(seen.longest(&blocks(&text(3999, 16 << 10), &state)) > 60);
        assert_eq!(seen.longest(&blocks(&text(0, 16 << 10), &state)), 0);
    }

    #[test]
    fn what_a_server_tells_counts_for_as_long_as_it_is_heard() {
        let (seen, state) = (Seen::default(), Key::random());
        seen.set_capacity(64 * 100);
        let chat = blocks(&text(1, 5 << 10), &state);
        seen.touch(&chat);
        seen.hear(true);
        chat.hashes().iter().for_each(|hash| seen.hold(*hash));
        seen.generated(64 * 1000);
        assert_eq!(seen.longest(&chat), 20, "it is not taken for evicted");
        seen.touch(&chat);
        seen.generated(64 * 1000);
        assert_eq!(seen.longest(&chat), 20);
        chat.hashes()[12..].iter().for_each(|hash| seen.lose(*hash));
        assert_eq!(seen.longest(&chat), 12, "what it lost is gone at once");
        chat.hashes().iter().for_each(|hash| seen.doubt(*hash));
        assert_eq!(seen.longest(&chat), 0, "what is in doubt has an age again");
        seen.touch(&chat);
        seen.hear(false);
        assert_eq!(seen.longest(&chat), 20, "unheard, what was sent is what counts");
        seen.generated(64 * 1000);
        assert_eq!(seen.longest(&chat), 0);
    }

    #[test]
    fn its_clock_may_go_round() {
        let (seen, state) = (Seen::default(), Key::random());
        seen.clock.store(u32::MAX - 10, Relaxed);
        let chat = blocks(&text(1, 10 << 10), &state);
        seen.touch(&chat);
        assert_eq!(seen.longest(&chat), 40);
        seen.touch(&blocks(&text(2, 10 << 10), &state));
        assert_eq!(seen.longest(&chat), 40);
    }
}
