//! Places in a text: Google counts bytes of its UTF-8, others count characters.

/// Where the characters of a text begin, one bit for each of its bytes; the text itself is not kept.
#[derive(Clone, Debug, Default)]
pub struct Offsets {
    words: Vec<u64>,
    bytes: usize,
}

const BITS: usize = u64::BITS as usize;

impl Offsets {
    /// More of the text.
    pub fn push(&mut self, text: &str) {
        for byte in text.bytes() {
            if self.bytes.is_multiple_of(BITS) {
                self.words.push(0);
            }
            // Continuation bytes are 0b10xx_xxxx.
            let begins = byte & 0b1100_0000 != 0b1000_0000;
            if let Some(word) = self.words.last_mut() {
                *word |= u64::from(begins) << (self.bytes % BITS);
            }
            self.bytes += 1;
        }
    }

    pub fn clear(&mut self) {
        self.words.clear();
        self.bytes = 0;
    }

    /// How long the text is, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// How many characters begin before this byte.
    pub fn characters(&self, byte: u64) -> u64 {
        let byte = usize::try_from(byte).unwrap_or(usize::MAX).min(self.bytes);
        let (whole, rest) = (byte / BITS, byte % BITS);
        let before: u32 = self.words.iter().take(whole).map(|word| word.count_ones()).sum();
        let mask = (1u64 << rest) - 1;
        let last = self.words.get(whole).map_or(0, |word| (word & mask).count_ones());
        u64::from(before + last)
    }

    /// How many bytes stand before this character; all of them where there are fewer characters.
    pub fn bytes_before(&self, character: u64) -> u64 {
        let mut left = character;
        for (at, word) in self.words.iter().enumerate() {
            let here = u64::from(word.count_ones());
            if here <= left {
                left -= here;
                continue;
            }
            let mut word = *word;
            for _ in 0..left {
                word &= word - 1;
            }
            return (at * BITS) as u64 + u64::from(word.trailing_zeros());
        }
        self.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn places_are_those_of_the_text(text in "[a-ä€😀]{0,200}", cut in 0usize..200) {
            let mut offsets = Offsets::default();
            let cut = text.char_indices().nth(cut).map_or(text.len(), |(at, _)| at);
            offsets.push(&text[..cut]);
            offsets.push(&text[cut..]);
            for (count, (at, _)) in text.char_indices().enumerate() {
                prop_assert_eq!(offsets.characters(at as u64), count as u64);
                prop_assert_eq!(offsets.bytes_before(count as u64), at as u64);
            }
            let characters = text.chars().count() as u64;
            prop_assert_eq!(offsets.characters(u64::MAX), characters);
            prop_assert_eq!(offsets.bytes_before(characters), text.len() as u64);
            prop_assert_eq!(offsets.bytes_before(u64::MAX), text.len() as u64);
        }
    }
}
