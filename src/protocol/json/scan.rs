//! The strict reading of a body: is it JSON that every reader reads alike, and where are its members.

use super::cursor::{Cursor, Fault, MAX_DEPTH, MAX_NUMBER};
use super::text;
use std::borrow::Cow;
use std::ops::Range;

/// Top-level members a body may have; the APIs behind us know about fifty.
const MAX_MEMBERS: usize = 256;

/// The top-level members of one JSON object; spans point into the scanned bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    list: Vec<Member>,
    /// All names after unescaping, one behind the other.
    names: String,
    end: usize,
}

/// One member of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The name with its quotes.
    pub key: Range<usize>,
    /// The value without white space around it.
    pub value: Range<usize>,
    /// Where its unescaped name stands in [`Members::names`].
    name: Range<usize>,
}

/// Why a body is refused.  Displayed, it completes the sentence "the body is …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// Not JSON; `line` and `column` (in characters) count from 1.
    #[error("not valid JSON: expected {expected} at line {line}, column {column}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// The character in the line, from 1.
        column: usize,
        /// What should stand there.
        expected: &'static str,
    },
    /// The bytes are not UTF-8; a byte order mark counts as such.
    #[error("not valid UTF-8 at byte {offset}")]
    NotUtf8 {
        /// Bytes before the first wrong one.
        offset: usize,
    },
    /// JSON, but not an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// A top-level name stands twice: readers disagree on which of them counts.
    #[error("ambiguous: `{0}` is given twice")]
    Duplicate(String),
    /// Nested beyond 128 levels.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// A number of more than 1,024 characters.
    #[error("not readable: a number has more than {MAX_NUMBER} characters")]
    NumberTooLong,
    /// More top-level members than any API knows; bounds what a scan can cost.
    #[error("not readable: it has more than {MAX_MEMBERS} members")]
    TooManyMembers,
}

/// A member has another type than its reader needs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` must be {expected}")]
pub struct WrongType {
    /// The member.
    pub name: String,
    /// What it should be, with its article.
    pub expected: &'static str,
}

/// Reads a whole body in one pass.
///
/// Valid UTF-8 without a byte order mark, one object with nothing behind it, no name twice at the
/// top, at most 128 levels (the object itself counted) and 1,024 characters in a number.
///
/// # Errors
/// Says the first rule that the body breaks.
pub fn scan(body: &[u8]) -> Result<Members, ScanError> {
    // std's check would cost more than all the rest on text that is not ASCII.
    let text = simdutf8::compat::from_utf8(body)
        .map_err(|error| ScanError::NotUtf8 { offset: error.valid_up_to() })?;
    if text.starts_with('\u{feff}') {
        return Err(ScanError::NotUtf8 { offset: 0 });
    }
    let members = read(text).map_err(|fault| describe(text, fault))?;
    members.check()?;
    Ok(members)
}

/// Reads the object that stands at `span` of a body; spans of the result count from the body's start.
pub(in crate::protocol) fn scan_within(
    body: &[u8],
    span: Range<usize>,
) -> Result<Members, ScanError> {
    let start = span.start;
    let mut members = scan(body.get(span).unwrap_or_default())?;
    for member in &mut members.list {
        member.key = member.key.start + start..member.key.end + start;
        member.value = member.value.start + start..member.value.end + start;
    }
    members.end += start;
    Ok(members)
}

impl Members {
    /// All of them, in their order.
    #[must_use]
    pub fn all(&self) -> &[Member] {
        &self.list
    }

    /// The member of that name, after unescaping: `mod\u0065l` is `model`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Member> {
        self.list.iter().find(|member| self.name(member) == name)
    }

    /// A string member; `None` when absent or null.
    ///
    /// # Errors
    /// When it is something else.
    pub fn string<'b>(
        &self,
        body: &'b [u8],
        name: &str,
    ) -> Result<Option<Cow<'b, str>>, WrongType> {
        match self.given(body, name) {
            None => Ok(None),
            Some(raw) if raw.starts_with('"') => Ok(Some(text::unquote(raw))),
            Some(_) => Err(WrongType { name: name.to_owned(), expected: "a string" }),
        }
    }

    /// A boolean member; `None` when absent or null.
    ///
    /// # Errors
    /// When it is something else.
    pub fn boolean(&self, body: &[u8], name: &str) -> Result<Option<bool>, WrongType> {
        match self.given(body, name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(_) => Err(WrongType { name: name.to_owned(), expected: "a boolean" }),
        }
    }

    /// A whole number of at least 0, written without point and exponent; `None` when absent or null.
    ///
    /// # Errors
    /// When it is something else, or larger than 64 bits hold.
    pub fn unsigned(&self, body: &[u8], name: &str) -> Result<Option<u64>, WrongType> {
        let Some(raw) = self.given(body, name) else { return Ok(None) };
        let expected = "a whole number that is not negative";
        raw.parse().map(Some).map_err(|_| WrongType { name: name.to_owned(), expected })
    }

    /// A member's value as it is written.
    #[must_use]
    pub fn raw<'b>(&self, body: &'b [u8], name: &str) -> Option<&'b [u8]> {
        body.get(self.find(name)?.value.clone())
    }

    /// Is it `{}`?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Where the object's closing brace stands.
    #[must_use]
    pub fn end(&self) -> usize {
        self.end
    }

    /// A member's value as text, unless absent or null.
    fn given<'b>(&self, body: &'b [u8], name: &str) -> Option<&'b str> {
        let raw = std::str::from_utf8(self.raw(body, name)?).ok()?;
        (raw != "null").then_some(raw)
    }

    /// A member's name, after unescaping.
    #[must_use]
    pub fn name(&self, member: &Member) -> &str {
        self.names.get(member.name.clone()).unwrap_or_default()
    }

    fn push(&mut self, name: &str, key: Range<usize>, value: Range<usize>) {
        let start = self.names.len();
        self.names.push_str(name);
        self.list.push(Member { key, value, name: start..self.names.len() });
    }

    /// Few members, few names, each once.  Every name against every other: there are at most 256.
    fn check(&self) -> Result<(), ScanError> {
        if self.list.len() > MAX_MEMBERS {
            return Err(ScanError::TooManyMembers);
        }
        for (index, member) in self.list.iter().enumerate() {
            let name = self.name(member);
            if self.list.iter().take(index).any(|earlier| self.name(earlier) == name) {
                return Err(ScanError::Duplicate(name.to_owned()));
            }
        }
        Ok(())
    }
}

fn read(text: &str) -> Result<Members, Fault> {
    let mut cursor = Cursor::new(text);
    let mut members =
        Members { list: Vec::with_capacity(16), names: String::with_capacity(128), end: 0 };
    members.end = cursor.object(|cursor, key| {
        let value = cursor.skip()?;
        // One more than allowed is enough to refuse it; the rest need not be kept.
        if members.list.len() <= MAX_MEMBERS {
            members.push(&text::unquote(cursor.slice(&key)), key, value);
        }
        Ok(())
    })?;
    cursor.end()?;
    Ok(members)
}

fn describe(text: &str, fault: Fault) -> ScanError {
    let (at, expected) = match fault {
        Fault::TooDeep => return ScanError::TooDeep,
        Fault::NumberTooLong => return ScanError::NumberTooLong,
        Fault::Syntax { at, expected } => (at, expected),
    };
    let mut whole = Cursor::new(text);
    if whole.peek() != b'{' && whole.skip().is_ok() && whole.end().is_ok() {
        return ScanError::NotAnObject;
    }
    let before = text.get(..at).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    ScanError::Syntax {
        line: 1 + before.matches('\n').count(),
        column: 1 + line.chars().count(),
        expected,
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
