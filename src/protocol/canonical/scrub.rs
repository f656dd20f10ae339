//! Keys in other people's words: providers quote them in their errors.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::bytes::Regex;

/// What keys look like: `OpenAI`'s and Anthropic's, Google's, Amazon's, and whatever a header carried.
static KEYS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let keys =
        r"(?:\b(?:sk-|AIza|AKIA|ASIA|ya29\.|gsk_|hf_)|(?i:bearer|basic) +)[A-Za-z0-9._~+/=*-]{8,}";
    Regex::new(keys).ok()
});

/// The text with keys masked by as many asterisks, but for their first letters: its length stays.
pub fn scrub(text: &[u8]) -> Cow<'_, [u8]> {
    let Some(keys) = KEYS.as_ref() else { return Cow::Borrowed(text) };
    keys.replace_all(text, |found: &regex::bytes::Captures| {
        let found = found.get(0).map_or(&[][..], |found| found.as_bytes());
        let shown = found.len().min(3);
        let mut masked = found.get(..shown).unwrap_or_default().to_vec();
        masked.resize(found.len(), b'*');
        masked
    })
}

/// The same for text.
pub fn scrubbed(text: String) -> String {
    match scrub(text.as_bytes()) {
        Cow::Borrowed(_) => text,
        Cow::Owned(masked) => String::from_utf8_lossy(&masked).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_masked_and_nothing_else_is() {
        for (said, told) in [
            (
                "Incorrect API key provided: sk-live-abcdefgh.",
                "Incorrect API key provided: sk-**************",
            ),
            ("header 'Bearer abcdefgh12' is bad", "header 'Bea**************' is bad"),
            ("key AIzaSyA123456789 expired", "key AIz************* expired"),
            ("the task-oriented model is away", "the task-oriented model is away"),
            ("ask-me-anything-at-all", "ask-me-anything-at-all"),
        ] {
            let scrubbed = scrubbed(said.to_owned());
            assert_eq!(scrubbed, told);
            assert_eq!(scrubbed.len(), said.len());
        }
    }
}
