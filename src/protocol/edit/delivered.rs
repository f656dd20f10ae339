//! How much of an answer has gone by, for answers that never came to tell their usage.

use std::sync::LazyLock;

use memchr::memchr2;
use memchr::memmem::Finder;

/// The strings a model writes into, in chat, completions, responses and messages.
const SPOKEN: [&[u8]; 9] = [
    b"content",
    b"text",
    b"delta",
    b"reasoning_content",
    b"reasoning",
    b"thinking",
    b"arguments",
    b"partial_json",
    b"refusal",
];
/// Streams of the responses API repeat in their later events what their deltas have said.
const RESPONSES: &[u8] = b"{\"type\":\"response.";
const BYTES_PER_TOKEN: u64 = 4;

/// Built once: that takes longer than to search an event.
static MEMBER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\":"));

/// What a model has written, without a tokenizer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// In quarters of a token: one for a byte of ASCII, four for each other character.
    quarters: u64,
    /// Events that had text. Most servers write one for each token.
    pieces: u64,
}

impl Delivered {
    /// Reads an answer, or an event of one.
    pub fn read(&mut self, json: &[u8]) {
        let deltas_only = json.starts_with(RESPONSES);
        let before = self.quarters;
        let mut rest = json;
        while let Some(at) = MEMBER.find(rest) {
            let (name, value) = rest.split_at(at);
            rest = value.get(2..).unwrap_or_default();
            let Some(text) = rest.trim_ascii_start().strip_prefix(b"\"") else { continue };
            let spoken = |known: &&[u8]| {
                name.strip_suffix(*known).is_some_and(|before| before.ends_with(b"\""))
                    && (!deltas_only || **known == *b"delta")
            };
            if SPOKEN.iter().any(spoken) {
                rest = self.text(text);
            }
        }
        self.pieces += u64::from(self.quarters > before);
    }

    /// Tokens: as many as there were pieces, or as their length makes likely.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.quarters.div_ceil(BYTES_PER_TOKEN).max(self.pieces)
    }

    /// Counts a string up to its closing quote; returns what is behind it.
    fn text<'a>(&mut self, mut text: &'a [u8]) -> &'a [u8] {
        loop {
            let end = memchr2(b'"', b'\\', text);
            let (plain, rest) = text.split_at(end.unwrap_or(text.len()));
            self.quarters += plain.iter().map(|byte| quarters(*byte)).sum::<u64>();
            match rest {
                [b'\\', b'u', after @ ..] => {
                    self.quarters += BYTES_PER_TOKEN;
                    text = after.get(4..).unwrap_or_default();
                }
                [b'\\', _, after @ ..] => {
                    self.quarters += 1;
                    text = after;
                }
                [_, after @ ..] => return after,
                [] => return &[],
            }
        }
    }
}

/// A character of several bytes counts with its first.
fn quarters(byte: u8) -> u64 {
    match byte {
        0x80..0xC0 => 0,
        0xC0.. => BYTES_PER_TOKEN,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(events: &[&str]) -> u64 {
        let mut delivered = Delivered::default();
        for event in events {
            delivered.read(event.as_bytes());
        }
        delivered.tokens()
    }

    #[test]
    fn each_event_with_text_is_a_token_at_least() {
        let role = r#"{"id":"x","choices":[{"delta":{"role":"assistant","content":""}}]}"#;
        let word = r#"{"id":"x","choices":[{"delta":{"content":"a"}}]}"#;
        assert_eq!(tokens(&[role, word, word, word]), 3);
    }

    #[test]
    fn long_pieces_count_by_their_length() {
        let long = format!(r#"{{"choices":[{{"text": "{}"}}]}}"#, "abcd".repeat(50));
        assert_eq!(tokens(&[&long]), 50);
        assert_eq!(tokens(&[r#"{"delta":{"content":"你好世界"}}"#]), 4);
        assert_eq!(tokens(&[r#"{"delta":{"content":"\u4f60\u597d"}}"#]), 2);
        assert_eq!(tokens(&[r#"{"delta":{"content":"a\"b\\c\n"}}"#]), 2);
    }

    #[test]
    fn what_is_no_text_of_the_model_is_not_counted() {
        assert_eq!(tokens(&[r#"{"id":"0123456789","model":"long-name-of-a-model"}"#]), 0);
        assert_eq!(tokens(&[r#"{"delta":{"content":"\"content\":\"abc"}}"#]), 4);
        assert_eq!(tokens(&["", "{", r#"{"content":"#, r#"{"content":""#]), 0);
    }

    #[test]
    fn tools_thoughts_and_every_dialect_are_read() {
        for event in [
            r#"{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{\"ab\""}}]}}]}"#,
            r#"{"choices":[{"delta":{"reasoning_content":"abcde"}}]}"#,
            r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"abcde"}}"#,
            r#"{"type":"content_block_delta","delta":{"thinking":"abcde"}}"#,
            r#"{"type":"response.output_text.delta","item_id":"m","delta":"abcde"}"#,
        ] {
            assert_eq!(tokens(&[event]), 2, "{event}");
        }
        let repeated = r#"{"type":"response.output_text.done","text":"abcdefghijklmnop"}"#;
        assert_eq!(tokens(&[repeated]), 0);
    }
}
