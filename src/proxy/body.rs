//! A request's body on its way out: in parts, each handed on as it is.

use std::collections::VecDeque;
use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pingora::protocols::http::ServerSession;
use pingora::{Error, ErrorType, OrErr, Result};

use super::spool;
use crate::access::Principal;
use crate::protocol::multipart::{Found, Scanner};

/// The error for an upload that grows beyond its limit while it streams through.
pub const UPLOAD_TOO_LARGE: ErrorType = ErrorType::Custom("UploadTooLarge");
/// The error for a form that turns out malformed, or to name a second model, while it streams.
pub const BAD_FORM: ErrorType = ErrorType::Custom("BadForm");

/// The error for a form that names a model its sender may not use.
pub const MODEL_NOT_ALLOWED: ErrorType = ErrorType::Custom("ModelNotAllowed");

/// A stretch of a request body.
#[derive(Clone, Debug)]
pub enum Part {
    Bytes(Bytes),
    /// Bytes of a spooled upload.
    File(Arc<File>, Range<u64>),
    /// What the client has yet to send; always the last part, and gone once it was read.
    Live,
}

/// What is watched about an upload while it streams through.
pub struct Live {
    /// How long the client may take for its next piece.
    pub pause: Duration,
    /// Who must be allowed the model that a form names on its way; `None`: that is settled.
    pub principal: Option<Arc<Principal>>,
    /// How many more bytes the client may send.
    pub left: u64,
    /// Reads on in a form: a second `model` behind the file could be the one the upstream takes.
    pub form: Option<Scanner>,
}

/// What is left to send of an attempt's body.
pub struct Outgoing {
    parts: VecDeque<Part>,
    live: Live,
}

/// The next bytes of a body.
pub struct Piece {
    pub bytes: Bytes,
    /// They came from the client just now, and cannot be had again.
    pub live: bool,
}

impl Outgoing {
    pub fn new(live: Live) -> Self {
        Self { parts: VecDeque::new(), live }
    }

    /// An attempt sends these.
    pub fn begin(&mut self, parts: Vec<Part>) {
        self.parts = parts.into();
    }

    pub fn first(&self) -> Option<&Part> {
        self.parts.front()
    }

    pub fn is_done(&self, client: &mut ServerSession) -> bool {
        match self.parts.front() {
            None => true,
            Some(Part::Live) => client.is_body_done(),
            Some(_) => false,
        }
    }

    /// The next stretch; `None` at the end. Nothing changes before it is there: pingora may drop
    /// this future.
    pub async fn next(&mut self, client: &mut ServerSession) -> Result<Option<Piece>> {
        match self.parts.front_mut() {
            None => Ok(None),
            Some(Part::Bytes(bytes)) => {
                let bytes = std::mem::take(bytes);
                self.parts.pop_front();
                Ok(Some(Piece { bytes, live: false }))
            }
            Some(Part::File(file, range)) => {
                let bytes = spool::read(file, range.clone()).await?;
                range.start = range.start.saturating_add(bytes.len() as u64);
                if range.is_empty() {
                    self.parts.pop_front();
                }
                Ok(Some(Piece { bytes, live: false }))
            }
            Some(Part::Live) => self.live.next(client).await,
        }
    }
}

impl Live {
    async fn next(&mut self, client: &mut ServerSession) -> Result<Option<Piece>> {
        // An empty DATA frame of HTTP/2 is nothing; handed on, it would be the chunk that ends a
        // chunked body.
        while !client.is_body_done() {
            // HTTP/2 has no deadline of pingora's here.
            let read = tokio::time::timeout(self.pause, client.read_body_or_idle(false)).await;
            let read = read.or_err(ErrorType::ReadTimedout, "the client stopped sending")??;
            if let Some(bytes) = read.filter(|bytes| !bytes.is_empty()) {
                self.watch(&bytes)?;
                return Ok(Some(Piece { bytes, live: true }));
            }
        }
        Ok(None)
    }

    fn watch(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
            return Error::e_explain(UPLOAD_TOO_LARGE, "upload beyond its limit");
        };
        self.left = left;
        match self.form.as_mut().map(|form| form.push(bytes)) {
            Some(Err(error)) => Error::e_explain(BAD_FORM, error.to_string()),
            Some(Ok(Found::Model { value, .. })) if !self.may_use(&value) => {
                Error::e_explain(MODEL_NOT_ALLOWED, "the form names a model that is not allowed")
            }
            _ => Ok(()),
        }
    }

    fn may_use(&self, model: &str) -> bool {
        self.principal.as_ref().is_none_or(|principal| principal.may_use(model))
    }
}

/// `parts` with the bytes of `span`, counted over all of them, replaced.
pub fn with_span(parts: &[Part], span: &Range<u64>, with: Bytes) -> Vec<Part> {
    let mut out = Vec::with_capacity(parts.len() + 2);
    let mut with = Some(with);
    let mut at = 0_u64;
    for part in parts {
        let length = match part {
            Part::Bytes(bytes) => bytes.len() as u64,
            Part::File(_, range) => range.end.saturating_sub(range.start),
            Part::Live => u64::MAX - at,
        };
        let end = at.saturating_add(length);
        let (before, after) = (span.start.clamp(at, end) - at, span.end.clamp(at, end) - at);
        out.extend(stretch(part, 0..before));
        if span.start < end {
            out.extend(with.take().map(Part::Bytes));
        }
        out.extend(stretch(part, after.max(before)..length));
        at = end;
    }
    out.extend(with.map(Part::Bytes));
    out
}

/// A stretch of a part; `None` when it is empty.
fn stretch(part: &Part, range: Range<u64>) -> Option<Part> {
    if range.is_empty() {
        return None;
    }
    match part {
        Part::Bytes(bytes) => {
            let start = usize::try_from(range.start).ok()?.min(bytes.len());
            let end = usize::try_from(range.end).ok()?.min(bytes.len());
            Some(Part::Bytes(bytes.slice(start..end)))
        }
        Part::File(file, whole) => {
            let range = whole.start + range.start..whole.start + range.end;
            Some(Part::File(Arc::clone(file), range))
        }
        Part::Live => Some(Part::Live),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(parts: &[Part]) -> String {
        let text = |part: &Part| match part {
            Part::Bytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            Part::File(_, range) => format!("<{}..{}>", range.start, range.end),
            Part::Live => "<live>".to_owned(),
        };
        parts.iter().map(text).collect()
    }

    fn bytes(text: &'static str) -> Part {
        Part::Bytes(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_model_is_replaced_wherever_it_lies_in_the_parts() {
        let with = || Bytes::from_static(b"NEW");
        let parts = [bytes("head-old-"), bytes("tail"), Part::Live];
        assert_eq!(flat(&with_span(&parts, &(5..8), with())), "head-NEW-tail<live>");
        // Across two parts, as when the head was cut inside the name.
        let cut = [bytes("head-o"), bytes("ld-tail"), Part::Live];
        assert_eq!(flat(&with_span(&cut, &(5..8), with())), "head-NEW-tail<live>");
        assert_eq!(flat(&with_span(&[bytes("old")], &(0..3), with())), "NEW");
    }

    #[test]
    fn a_spooled_file_is_cut_around_the_model() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let parts = [Part::File(file, 0..1000)];
        let cut = with_span(&parts, &(900..903), Bytes::from_static(b"NEW"));
        assert_eq!(flat(&cut), "<0..900>NEW<903..1000>");
    }
}
