//! A prompt cut into blocks: each has a hash of everything up to its end.

use std::hash::{BuildHasher, Hasher};

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;

use super::request::Prompt;

/// Bytes of the first blocks. With four bytes to a token, 64 tokens: a few blocks of vLLM's.
pub const UNIT: usize = 256;
/// Up to each of these places blocks are of the size beside it; beyond the last there are none. What
/// is told apart late in a long prompt matters less than what a look at all of it would cost.
const SIZES: [(usize, usize); 3] = [(16 << 10, UNIT), (128 << 10, 4 * UNIT), (1 << 20, 16 * UNIT)];

/// Keys the hashes: nobody outside can aim at a collision.
#[derive(Debug)]
pub struct Key(SeedableRandomState);

/// The hashes of a prompt's whole blocks: 400 at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blocks(Vec<u64>);

impl Key {
    pub fn random() -> Self {
        Self(SeedableRandomState::with_seed(rand::random(), SharedSeed::global_random()))
    }

    /// The chain that a server's blocks of a `LoRA` adapter, or of none, begin with.
    pub fn begin(&self, adapter: Option<&str>) -> u64 {
        self.0.hash_one(adapter)
    }

    /// The chain that goes on from another with a block of these tokens.
    pub fn chain(&self, before: u64, tokens: &[u32]) -> u64 {
        self.0.hash_one((before, tokens))
    }
}

impl Blocks {
    /// Reads the prompt once.
    pub fn of(prompt: &Prompt, Key(random): &Key) -> Self {
        let length: usize = prompt.parts.iter().map(|part| part.len()).sum();
        let mut hashes = Vec::with_capacity(count(length));
        let mut sponge = random.build_hasher();
        sponge.write(prompt.model.as_bytes());
        sponge.write_usize(prompt.model.len());
        sponge.write(prompt.salt);
        let (mut at, mut end) = (0, block_end(0));
        for part in prompt.parts {
            // Where a part ends shows in all that comes after it.
            sponge.write_usize(hashes.len());
            let mut rest = part;
            while let Some(stop) = end {
                let Some((piece, after)) = rest.split_at_checked(stop - at) else {
                    sponge.write(rest);
                    at += rest.len();
                    break;
                };
                sponge.write(piece);
                let hash = sponge.finish();
                hashes.push(hash);
                sponge = random.build_hasher();
                sponge.write_u64(hash);
                (at, end, rest) = (stop, block_end(stop), after);
            }
        }
        Self(hashes)
    }

    /// In the order of the prompt.
    pub fn hashes(&self) -> &[u64] {
        &self.0
    }
}

/// Bytes that the first `blocks` blocks of a prompt cover.
pub fn covered(blocks: usize) -> usize {
    let (mut left, mut at) = (blocks, 0);
    for (until, size) in SIZES {
        let here = left.min((until - at) / size);
        at += here * size;
        left -= here;
        if left == 0 {
            break;
        }
    }
    at
}

/// How many of the smallest blocks the block at `index` is as long as.
pub fn units(index: usize) -> u32 {
    let bytes = covered(index.saturating_add(1)).saturating_sub(covered(index));
    u32::try_from(bytes / UNIT).unwrap_or(u32::MAX)
}

/// Where the block that begins at `at` ends.
fn block_end(at: usize) -> Option<usize> {
    SIZES.iter().find(|(until, _)| at < *until).map(|(_, size)| at + size)
}

/// Whole blocks of a prompt of that many bytes.
fn count(length: usize) -> usize {
    let (mut at, mut blocks) = (0, 0);
    for (until, size) in SIZES {
        blocks += (length.min(until).saturating_sub(at)) / size;
        at = until;
    }
    blocks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hashes(prompt: &Prompt, state: &Key) -> Vec<u64> {
        Blocks::of(prompt, state).hashes().to_vec()
    }

    fn common(one: &[u64], other: &[u64]) -> usize {
        one.iter().zip(other).take_while(|(a, b)| a == b).count()
    }

    #[test]
    fn a_longer_chat_begins_with_the_blocks_of_the_shorter() {
        let state = Key::random();
        let turns = "turn after turn ".repeat(200);
        let (first, second) = (&turns.as_bytes()[..2000], turns.as_bytes());
        let parts = |turns| [b"tools".as_slice(), b"system", turns];
        let short = hashes(&Prompt { parts: parts(first), ..Prompt::default() }, &state);
        let long = hashes(&Prompt { parts: parts(second), ..Prompt::default() }, &state);
        assert_eq!(short.len(), 2011 / 256);
        assert_eq!(common(&short, &long), short.len());
    }

    #[test]
    fn another_model_salt_or_system_prompt_shares_nothing() {
        let state = Key::random();
        let turns = vec![b'x'; 4096];
        let prompt = Prompt { model: "m", salt: b"s", parts: [b"", b"system", &turns] };
        let own = hashes(&prompt, &state);
        let others = [
            Prompt { model: "lora", ..prompt },
            Prompt { salt: b"", ..prompt },
            Prompt { parts: [b"", b"System", &turns], ..prompt },
            Prompt { parts: [b"system", b"", &turns], ..prompt },
            Prompt { parts: [b"", b"syste", &turns], ..prompt },
        ];
        for other in others {
            assert_eq!(common(&own, &hashes(&other, &state)), 0, "{other:?}");
        }
        assert_ne!(own, hashes(&prompt, &Key::random()), "the hash is keyed");
    }

    #[test]
    fn a_prompt_of_any_length_has_at_most_four_hundred() {
        let state = Key::random();
        for length in [0, 255, 256, 16 << 10, (16 << 10) + 1024, 128 << 10, 1 << 20, 3 << 20] {
            let turns = vec![b'x'; length];
            let parts = [b"".as_slice(), b"", &turns];
            let found = hashes(&Prompt { parts, ..Prompt::default() }, &state).len();
            assert_eq!(found, count(length), "{length}");
            assert!(found <= 400);
            assert!(covered(found) <= length);
            assert!(length >= 1 << 20 || length < covered(found + 1), "{length}");
        }
        assert_eq!((covered(1), covered(64), covered(65)), (256, 16 << 10, (16 << 10) + 1024));
        assert_eq!((covered(400), covered(401)), (1 << 20, 1 << 20));
        assert_eq!((units(0), units(63), units(64), units(399)), (1, 1, 4, 16));
    }

    proptest! {
        #[test]
        fn blocks_agree_exactly_up_to_the_first_difference(
            shared in 0..9000usize, tail in 1..3000usize, cut in 0..9000usize,
        ) {
            let state = Key::random();
            let mut one = vec![b'a'; shared];
            let mut other = one.clone();
            one.extend(vec![b'b'; tail]);
            other.extend(vec![b'c'; tail]);
            let cut = cut.min(shared);
            let parts = |whole: &'_ [u8]| { let (a, b) = whole.split_at(cut); (a.to_vec(), b.to_vec()) };
            let ((a, b), (c, d)) = (parts(&one), parts(&other));
            let first = hashes(&Prompt { parts: [b"", &a, &b], ..Prompt::default() }, &state);
            let second = hashes(&Prompt { parts: [b"", &c, &d], ..Prompt::default() }, &state);
            prop_assert_eq!(common(&first, &second), count(shared));
        }
    }
}
