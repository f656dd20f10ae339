//! Strings by the names above them: what a body refers to, wherever it does.

use super::cursor::{Cursor, Fault};
use super::scan::ScanError;
use super::text::unquote;

/// Shows `found` the strings that are, or stand below, a member by one of these names, at any depth.
///
/// Every one of them: where a name stands twice in an object, readers disagree on which value counts.
///
/// # Errors
/// When the body is nothing that [`scan()`](super::scan()) lets pass.
pub fn strings_below(
    body: &[u8],
    names: &[&str],
    mut found: impl FnMut(&str),
) -> Result<(), ScanError> {
    let text = simdutf8::compat::from_utf8(body)
        .map_err(|error| ScanError::NotUtf8 { offset: error.valid_up_to() })?;
    let mut walk = Walk { names, found: &mut found };
    let mut cursor = Cursor::new(text);
    walk.value(&mut cursor, false).and_then(|()| cursor.end()).map_err(|_| ScanError::NotAnObject)
}

struct Walk<'w> {
    names: &'w [&'w str],
    found: &'w mut dyn FnMut(&str),
}

impl Walk<'_> {
    /// The cursor bounds how deep this goes.
    fn value(&mut self, cursor: &mut Cursor, below: bool) -> Result<(), Fault> {
        match cursor.peek() {
            b'{' => {
                let member = |cursor: &mut Cursor, key: std::ops::Range<usize>| {
                    let named = self.names.contains(&&*unquote(cursor.slice(&key)));
                    self.value(cursor, below || named)
                };
                cursor.object(member).map(drop)
            }
            b'[' => cursor.array(|cursor| self.value(cursor, below)).map(drop),
            b'"' if below => {
                let string = cursor.skip()?;
                (self.found)(&unquote(cursor.slice(&string)));
                Ok(())
            }
            _ => cursor.pass(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(body: &str) -> Vec<String> {
        let mut found = Vec::new();
        strings_below(body.as_bytes(), &["id", "ids"], |id| found.push(id.to_owned())).unwrap();
        found
    }

    #[test]
    fn strings_are_found_at_any_depth_below_their_name() {
        let body = r#"{"id":"a","x":["b",{"ids":["c",{"y":"d"},7]}],"z":{"i\u0064":"\u0065"}}"#;
        assert_eq!(found(body), ["a", "c", "d", "e"]);
    }

    #[test]
    fn both_of_two_are_found() {
        assert_eq!(found(r#"{"x":{"id":"a","\u0069d":"b"}}"#), ["a", "b"]);
    }

    #[test]
    fn all_that_a_scan_lets_pass_is_read() {
        let deep = format!("{{\"x\":{}{},\"id\":\"a\"}}", "[".repeat(127), "]".repeat(127));
        let vast = format!("{{\"x\":{}e-300,\"id\":\"a\"}}", "9".repeat(600));
        for body in [deep, vast] {
            super::super::scan(body.as_bytes()).unwrap();
            assert_eq!(found(&body), ["a"], "{body}");
        }
        assert!(strings_below(b"{\"id\":", &["id"], |_| ()).is_err());
        assert!(strings_below(b"{\"id\":\"\xff\"}", &["id"], |_| ()).is_err());
    }
}
