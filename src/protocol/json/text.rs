//! JSON strings: from their quoted form and back.

use super::runs;
use std::borrow::Cow;

/// What a quoted string says; borrowed when it holds no escape.
///
/// `quoted` has been read by a [`Cursor`](super::cursor::Cursor), so its escapes are sound.
pub fn unquote(quoted: &str) -> Cow<'_, str> {
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let inner = inner.unwrap_or(quoted);
    // Not memchr: names are short, and there are ten of them in each event of a stream.
    if runs::plain_run(inner.as_bytes()) == inner.len() {
        return Cow::Borrowed(inner);
    }
    serde_json::from_str(quoted).map_or(Cow::Borrowed(inner), Cow::Owned)
}

/// The string as JSON writes it, with its quotes.
pub fn quote(plain: &str) -> String {
    serde_json::to_string(plain).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_string_is_borrowed() {
        assert!(matches!(unquote(r#""hej""#), Cow::Borrowed("hej")));
    }

    #[test]
    fn escapes_are_read_and_written() {
        assert_eq!(unquote(r#""a\n\u00e9\ud83d\ude00\"""#), "a\né😀\"");
        assert_eq!(quote("a\n\u{1}é\"\\"), r#""a\n\u0001é\"\\""#);
    }
}
