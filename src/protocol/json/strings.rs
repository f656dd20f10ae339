//! The strings of a document, wherever they stand.

use std::borrow::Cow;

use super::text::unquote;

/// The strings of a valid document that are at most `longest` bytes long as they are written, names
/// of members among them. Longer ones are passed over unread.
pub fn short_strings(document: &str, longest: usize) -> impl Iterator<Item = Cow<'_, str>> {
    let mut rest = document;
    std::iter::from_fn(move || {
        loop {
            let start = memchr::memchr(b'"', rest.as_bytes())?;
            let length = length(rest.as_bytes().get(start + 1..)?)?;
            let (from, to) = (start, start + length + 2);
            let quoted = rest.get(from..to)?;
            rest = rest.get(to..)?;
            if length <= longest {
                return Some(unquote(quoted));
            }
        }
    })
}

/// How many bytes stand before the closing quote.
fn length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes.get(at) == Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_short_string_is_found_unescaped() {
        let document = r#"{"a":["b\"c",{"\u0064":"e\\"}],"long":"0123456789abcdef","":1}"#;
        let found: Vec<_> = short_strings(document, 8).collect();
        assert_eq!(found, ["a", "b\"c", "d", "e\\", "long", ""]);
    }

    #[test]
    fn a_document_without_strings_has_none() {
        assert_eq!(short_strings("[1,2]", 8).count(), 0);
    }
}
