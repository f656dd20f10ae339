//! JSON strings: from their quoted form and back.

use super::runs;
use serde::Deserialize;
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

/// Reads JSON of a known form.
///
/// The whole is looked at once for being UTF-8, where reading from bytes looks at each string for itself.
/// What is not UTF-8 may still be read: bytes that nobody asks for may be anything.
pub fn read<'j, T: Deserialize<'j>>(json: &'j [u8]) -> serde_json::Result<T> {
    match simdutf8::basic::from_utf8(json) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(json),
    }
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
    fn members_nobody_asks_for_need_not_be_text() {
        #[derive(Deserialize)]
        struct Known {
            a: String,
        }
        let read = |json: &'static [u8]| read::<Known>(json).map(|known| known.a);
        assert_eq!(read(br#"{"a":"\u00e9","b":1}"#).unwrap(), "é");
        assert_eq!(read(b"{\"b\":\"\xff\",\"a\":\"c\"}").unwrap(), "c");
        read(b"{\"a\":\"\xff\"}").unwrap_err();
    }

    #[test]
    fn escapes_are_read_and_written() {
        assert_eq!(unquote(r#""a\n\u00e9\ud83d\ude00\"""#), "a\né😀\"");
        assert_eq!(quote("a\n\u{1}é\"\\"), r#""a\n\u0001é\"\\""#);
    }
}
