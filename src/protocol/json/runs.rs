//! How far a reader may go within a string in one step.
//!
//! Strings are nearly all of a prompt, and walking them is nearly all of a scan. Blocks of them are
//! judged with the widest vectors the processor has, found out at run time: each question about 64
//! bytes becomes a word of 64 bits, a bit for each byte.

use fearless_simd::prelude::*;
use fearless_simd::{Level, dispatch, u8x64};

/// Bytes of a string that are looked at as words, before blocks pay.
pub const SHORT: usize = 32;
/// Bytes that [`sound_run`] judges at once.
const BLOCK: usize = 64;

/// How many bytes of a string stand before the next quote, backslash or control character, eight
/// bytes at a time: most strings are short.
#[inline]
pub fn plain_run(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = ONES << 7;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quote = word ^ (ONES * 0x22);
        let backslash = word ^ (ONES * 0x5c);
        // A byte's high bit is set where the byte was zero (or below 0x20); a borrow can set bits
        // only above a true one, and only the lowest counts.
        let stops = (quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash)
            | (word.wrapping_sub(ONES * 0x20) & !word);
        let stops = stops & HIGHS;
        if stops != 0 {
            return index * 8 + stops.trailing_zeros() as usize / 8;
        }
    }
    let plain = |byte: &&u8| !matches!(byte, 0..0x20 | b'"' | b'\\');
    words.len() * 8 + rest.iter().take_while(plain).count()
}

/// How many bytes of a string are sound: plain, or of the commonest escapes, each of them whole.
///
/// `bytes` begins at a place within a string that no escape spans. The answer is such a place too:
/// the first odd one, or less than a block before the end.
pub fn sound_run(bytes: &[u8]) -> usize {
    dispatch!(Level::new(), simd => sound_blocks(simd, bytes))
}

#[expect(clippy::inline_always, reason = "it must be compiled for each kind of processor")]
#[inline(always)]
fn sound_blocks<S: Simd>(simd: S, bytes: &[u8]) -> usize {
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    // Whether the block's first byte is escaped by the last one of the block before.
    let mut carried = 0;
    for (index, block) in blocks.iter().enumerate() {
        let block = u8x64::from_slice(simd, block);
        let are = |byte: u8| block.simd_eq(byte).to_bitmask();
        let (quotes, backslashes) = (are(b'"'), are(b'\\'));
        let mut escaped = 0;
        let mut unknown = 0;
        if backslashes | carried != 0 {
            let escaping = escaping(backslashes, carried);
            escaped = escaping << 1 | carried;
            carried = escaping >> 63;
            let known = quotes | backslashes | are(b'n') | are(b't') | are(b'r') | are(b'/');
            unknown = escaped & !known;
        }
        let controls = block.simd_lt(0x20).to_bitmask();
        let odd = controls | quotes & !escaped | unknown;
        if odd != 0 {
            let first = odd.trailing_zeros();
            // What is odd about an escape begins with its backslash.
            let backslash = usize::from(escaped >> first & 1 == 1);
            return index * BLOCK + first as usize - backslash;
        }
    }
    blocks.len() * BLOCK - usize::from(carried == 1)
}

/// Those of a block's backslashes that escape what follows, which in a row is every other one. The
/// borrows of one subtraction run along all rows at once (Langdale and Lemire 2019, §3.1.1).
#[inline]
fn escaping(backslashes: u64, carried: u64) -> u64 {
    const ODD: u64 = 0xaaaa_aaaa_aaaa_aaaa;
    let rows = backslashes & !carried;
    let ends = (rows << 1 | ODD).wrapping_sub(rows);
    (ends ^ ODD) & rows
}

#[cfg(test)]
#[path = "runs_tests.rs"]
mod tests;
