//! The `model` field of a multipart upload, found while the body streams by.
//!
//! RFC 7578 and RFC 2046, read strictly: where the parsers behind us are known to differ (a preamble,
//! white space behind a boundary, bare line feeds, `name*`), the body is refused, so that none of
//! them can see another model than we do.

mod head;

use head::Role;
use std::ops::Range;

/// Bytes the headers of one part may have.
const MAX_HEAD: usize = 16 << 10;
/// Bytes the model's name may have.
const MAX_VALUE: usize = 1 << 10;

/// Reads a multipart/form-data body chunk by chunk; holds neither files nor other fields.
///
/// The answer stands when the first `model` field has ended.  Push the rest of the body as well: a
/// second `model` field is an error then, and the upload can still be broken off.  Servers differ
/// in which of two they take.
#[derive(Debug)]
pub struct Scanner {
    /// CRLF, two hyphens and the boundary.
    delimiter: Vec<u8>,
    place: Place,
    /// Bytes of the body consumed.
    at: u64,
    part: Part,
    model: Option<(String, Range<u64>)>,
    failed: Option<MultipartError>,
}

/// What is known of the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The field was read.
    Model {
        /// Its value.
        value: String,
        /// Where the value's bytes stand in the whole body.
        span: Range<u64>,
    },
    /// The closing boundary came and no model field before it.
    Absent,
    /// More bytes are needed.
    Undecided,
}

/// Why an upload is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MultipartError {
    /// The content type is another.
    #[error("the content type is not multipart/form-data")]
    NotMultipart,
    /// The content type names no sound boundary of 1 to 70 characters.
    #[error("the content type has no valid boundary")]
    NoBoundary,
    /// A second `model` field; seen only as far as the body has been pushed.
    #[error("`model` is given twice")]
    DuplicateModel,
    /// More than 16 KiB of headers in a part.
    #[error("the headers of a part are longer than 16 KiB")]
    HeadTooLong,
    /// A model name of more than 1 KiB.
    #[error("`model` is longer than 1 KiB")]
    ValueTooLong,
    /// The headers of a part, or the model's name, are not UTF-8.
    #[error("not valid UTF-8")]
    NotUtf8,
    /// Not the form that RFC 7578 gives it.
    #[error("the multipart body is malformed")]
    Malformed,
}

/// Where in the body the scanner stands.
#[derive(Debug)]
enum Place {
    /// In a part's content, of which the last `matched` bytes begin the delimiter.
    Content { matched: usize },
    /// Behind a delimiter: CRLF begins a part, two hyphens end the body.
    Boundary { first: Option<u8> },
    /// In a part's headers.
    Head(Vec<u8>),
    /// Behind the closing boundary, where anything may stand and nobody reads it.
    Epilogue,
}

/// What the content under way belongs to.
#[derive(Debug)]
enum Part {
    /// Nothing: the delimiter that opens the body is due.
    Opening,
    Model {
        start: u64,
        value: Vec<u8>,
    },
    Field,
    File,
}

impl Scanner {
    /// A scanner for a body of this content type.
    ///
    /// # Errors
    /// `NotMultipart` or `NoBoundary`.
    pub fn new(content_type: &str) -> Result<Self, MultipartError> {
        let boundary = head::boundary(content_type)?;
        Ok(Self {
            delimiter: [b"\r\n--", boundary.as_bytes()].concat(),
            // The opening delimiter has no line before it: its CRLF counts as seen.
            place: Place::Content { matched: 2 },
            at: 0,
            part: Part::Opening,
            model: None,
            failed: None,
        })
    }

    /// Takes the next bytes of the body.
    ///
    /// # Errors
    /// When the body breaks a rule; the same again on every later call.
    pub fn push(&mut self, chunk: &[u8]) -> Result<Found, MultipartError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let mut rest = chunk;
        while !rest.is_empty() {
            let taken = self.step(rest).inspect_err(|error| self.failed = Some(*error))?;
            self.at += taken as u64;
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(self.found())
    }

    /// Is the body, as far as it came, within the content of a file?
    #[must_use]
    pub fn inside_file(&self) -> bool {
        matches!((&self.place, &self.part), (Place::Content { .. }, Part::File))
    }

    fn found(&self) -> Found {
        match (&self.model, &self.place) {
            (Some((value, span)), _) => Found::Model { value: value.clone(), span: span.clone() },
            (None, Place::Epilogue) => Found::Absent,
            (None, _) => Found::Undecided,
        }
    }

    /// Goes one step on in `rest`, which is not empty; says how many bytes of it are done with.
    fn step(&mut self, rest: &[u8]) -> Result<usize, MultipartError> {
        let first = rest.first().copied().unwrap_or_default();
        match &mut self.place {
            Place::Epilogue => Ok(rest.len()),
            Place::Boundary { first: None } => {
                self.place = Place::Boundary { first: Some(first) };
                Ok(1)
            }
            Place::Boundary { first: Some(before) } => {
                self.place = match [*before, first] {
                    [b'\r', b'\n'] => Place::Head(Vec::new()),
                    [b'-', b'-'] => Place::Epilogue,
                    _ => return Err(MultipartError::Malformed),
                };
                Ok(1)
            }
            Place::Head(head) => {
                head.push(first);
                if head.ends_with(b"\r\n\r\n") || head == b"\r\n" {
                    let role = Role::read(head)?;
                    self.begin(role)?;
                } else if head.len() >= MAX_HEAD {
                    return Err(MultipartError::HeadTooLong);
                }
                Ok(1)
            }
            Place::Content { matched } => {
                let matched = *matched;
                self.content(rest, matched)
            }
        }
    }

    fn begin(&mut self, role: Role) -> Result<(), MultipartError> {
        self.place = Place::Content { matched: 0 };
        self.part = match role {
            Role::File => Part::File,
            Role::Field => Part::Field,
            Role::Model if self.model.is_some() => return Err(MultipartError::DuplicateModel),
            // The head's last byte is being consumed: the content begins behind it.
            Role::Model => Part::Model { start: self.at + 1, value: Vec::new() },
        };
        Ok(())
    }

    fn content(&mut self, rest: &[u8], matched: usize) -> Result<usize, MultipartError> {
        let wanted = self.delimiter.get(matched).copied();
        if wanted.is_some() && wanted == rest.first().copied() {
            if matched + 1 == self.delimiter.len() {
                self.end_of_content()?;
                self.place = Place::Boundary { first: None };
            } else {
                self.place = Place::Content { matched: matched + 1 };
            }
            return Ok(1);
        }
        // What had matched is content after all, and no later byte of it can begin the delimiter:
        // its only CR is its first byte.
        let plain = match matched {
            0 => memchr::memchr(b'\r', rest).unwrap_or(rest.len()),
            _ => 0,
        };
        self.keep(matched, rest.get(..plain).unwrap_or_default())?;
        self.place = Place::Content { matched: 0 };
        Ok(plain)
    }

    /// Keeps content if it is the model's: first `matched` bytes of the delimiter, then `plain`.
    fn keep(&mut self, matched: usize, plain: &[u8]) -> Result<(), MultipartError> {
        match &mut self.part {
            // Nothing may stand before the first boundary.
            Part::Opening => Err(MultipartError::Malformed),
            Part::Field | Part::File => Ok(()),
            Part::Model { value, .. } => {
                value.extend_from_slice(self.delimiter.get(..matched).unwrap_or_default());
                if value.len() + plain.len() > MAX_VALUE {
                    return Err(MultipartError::ValueTooLong);
                }
                value.extend_from_slice(plain);
                Ok(())
            }
        }
    }

    fn end_of_content(&mut self) -> Result<(), MultipartError> {
        if let Part::Model { start, value } = std::mem::replace(&mut self.part, Part::Field) {
            let span = start..start + value.len() as u64;
            let value = String::from_utf8(value).map_err(|_| MultipartError::NotUtf8)?;
            self.model = Some((value, span));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
