//! Changes to a body that leave every other byte where it was.

use super::Members;
use super::text;
use bytes::Bytes;
use std::ops::Range;

/// Replacements in a body, applied from left to right: everything else keeps its bytes.
///
/// Spans are meant not to overlap.  Where two do, all that either covers is left out and both
/// replacements stand, the earlier start first.
#[derive(Clone, Debug, Default)]
pub struct Splice {
    /// In order of their starts; of equal starts, in order of arrival.
    cuts: Vec<Cut>,
}

#[derive(Clone, Debug)]
struct Cut {
    span: Range<usize>,
    with: Bytes,
}

impl Splice {
    /// Puts `with` where `span` is now; an empty span inserts.
    pub fn replace(&mut self, span: Range<usize>, with: impl Into<Bytes>) {
        let place = self.cuts.partition_point(|cut| cut.span.start <= span.start);
        self.cuts.insert(place, Cut { span, with: with.into() });
    }

    /// Adds a member at the end of an object; `value` is JSON text.  May be called several times.
    ///
    /// The caller knows that the object has no member of that name.
    pub fn insert_member(&mut self, members: &Members, name: &str, value: &[u8]) {
        let first = members.is_empty() && !self.inserts_at(members.end());
        self.insert_at(members.end(), !first, name, value);
    }

    /// Adds a member before the closing brace at `end`, after a comma if `comma`.
    pub(in crate::protocol) fn insert_at(
        &mut self,
        end: usize,
        comma: bool,
        name: &str,
        value: &[u8],
    ) {
        let name = text::quote(name);
        let mut member = Vec::with_capacity(name.len() + value.len() + 2);
        if comma {
            member.push(b',');
        }
        member.extend_from_slice(name.as_bytes());
        member.push(b':');
        member.extend_from_slice(value);
        self.replace(end..end, member);
    }

    /// The same changes, for a body that has `by` more bytes at its beginning.
    pub(in crate::protocol) fn shifted(mut self, by: usize) -> Self {
        for cut in &mut self.cuts {
            cut.span = cut.span.start + by..cut.span.end + by;
        }
        self
    }

    /// Does it change nothing?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cuts.is_empty()
    }

    /// How many bytes the result has.
    #[must_use]
    pub fn len(&self, body: &[u8]) -> usize {
        let mut length = 0;
        self.walk(body.len(), |piece| {
            length += match piece {
                Piece::Kept(span) => span.len(),
                Piece::New(bytes) => bytes.len(),
            }
        });
        length
    }

    /// The result in parts: slices of the original and replacements, none of them empty.
    #[must_use]
    pub fn pieces(&self, body: &Bytes) -> Vec<Bytes> {
        let mut pieces = Vec::with_capacity(self.cuts.len() * 2 + 1);
        self.walk(body.len(), |piece| {
            pieces.push(match piece {
                Piece::Kept(span) => body.slice(span),
                Piece::New(bytes) => bytes.clone(),
            });
        });
        pieces
    }

    /// The result as one; the body itself, not copied, when nothing changes.
    #[must_use]
    pub fn apply(&self, body: &Bytes) -> Bytes {
        if self.is_empty() { body.clone() } else { self.join(body).into() }
    }

    /// The result in a buffer of its own.
    pub(in crate::protocol) fn join(&self, body: &[u8]) -> Vec<u8> {
        let mut joined = Vec::with_capacity(self.len(body));
        self.walk(body.len(), |piece| {
            joined.extend_from_slice(match piece {
                Piece::Kept(span) => body.get(span).unwrap_or_default(),
                Piece::New(bytes) => bytes,
            });
        });
        joined
    }

    fn inserts_at(&self, place: usize) -> bool {
        self.cuts.iter().any(|cut| cut.span == (place..place))
    }

    /// Names the pieces in order, for a body of `length` bytes.
    fn walk<'s>(&'s self, length: usize, mut visit: impl FnMut(Piece<'s>)) {
        let mut at = 0;
        for cut in &self.cuts {
            let start = cut.span.start.min(length);
            if start > at {
                visit(Piece::Kept(at..start));
            }
            if !cut.with.is_empty() {
                visit(Piece::New(&cut.with));
            }
            at = at.max(cut.span.end.min(length));
        }
        if at < length {
            visit(Piece::Kept(at..length));
        }
    }
}

enum Piece<'s> {
    Kept(Range<usize>),
    New(&'s Bytes),
}

#[cfg(test)]
mod tests {
    use super::super::scan;
    use super::*;

    fn spliced(body: &'static str, edit: impl FnOnce(&mut Splice, &Members)) -> String {
        let body = Bytes::from_static(body.as_bytes());
        let members = scan(&body).expect("valid");
        let mut splice = Splice::default();
        edit(&mut splice, &members);
        let joined = splice.apply(&body);
        assert_eq!(splice.len(&body), joined.len());
        let pieces = splice.pieces(&body);
        assert!(pieces.iter().all(|piece| !piece.is_empty()));
        assert_eq!(pieces.concat(), joined);
        String::from_utf8(joined.into()).expect("UTF-8")
    }

    #[test]
    fn only_the_replaced_span_changes() {
        let edited = spliced(r#" {"a" : 1e2, "model":"x" ,"z":[ ]} "#, |splice, members| {
            splice.replace(members.find("model").expect("there").value.clone(), "\"yy\"");
        });
        assert_eq!(edited, r#" {"a" : 1e2, "model":"yy" ,"z":[ ]} "#);
    }

    #[test]
    fn members_are_inserted_with_the_commas_they_need() {
        let insert = |splice: &mut Splice, members: &Members| {
            splice.insert_member(members, "a", b"1");
            splice.insert_member(members, "b\"", b"[2]");
        };
        assert_eq!(spliced("{ }", insert), r#"{ "a":1,"b\"":[2]}"#);
        assert_eq!(spliced(r#"{"z":0}"#, insert), r#"{"z":0,"a":1,"b\"":[2]}"#);
    }

    #[test]
    fn nothing_to_do_is_the_same_buffer() {
        let body = Bytes::from_static(b"{}");
        let same = Splice::default().apply(&body);
        assert_eq!(same.as_ptr(), body.as_ptr());
    }

    #[test]
    fn wild_spans_never_panic_and_keep_every_replacement() {
        let body = Bytes::from_static(b"0123456789");
        let mut splice = Splice::default();
        splice.replace(4..8, "B");
        splice.replace(2..6, "A");
        splice.replace(9..90, "C");
        splice.replace(70..80, "D");
        assert_eq!(splice.apply(&body), "01AB8CD");
        assert_eq!(splice.len(&body), 7);
    }
}
