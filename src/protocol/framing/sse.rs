//! Server-sent events, cut out of a byte stream however the network cut it.
//!
//! The format is WHATWG's (<https://html.spec.whatwg.org/multipage/server-sent-events.html>): lines
//! end with LF, CR or CRLF, a blank line ends an event.  Unlike a browser's reader this one keeps
//! every byte, so that an event can be passed on exactly as it came.

use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;
use std::ops::Range;

/// Bytes one event may have before it is passed on unread.
pub const MAX_EVENT: usize = 1 << 20;

/// Cuts a byte stream into events.
///
/// The raw bytes of all events, one behind the other, are the input.  Push a chunk, then take
/// events until there are none; `finish` gives what is left when the stream is over.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Chunks not looked at yet.
    chunks: VecDeque<Bytes>,
    /// The beginning of an event whose end has not come; at most [`MAX_EVENT`].
    carry: BytesMut,
    place: Place,
    /// The event under way has grown beyond [`MAX_EVENT`] and is handed out in parts.
    oversized: bool,
    /// The next event is the stream's first and may begin with a byte order mark.
    started: bool,
}

/// One event, or a stretch of comments that a blank line ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The exact bytes, the blank line included.
    pub raw: Bytes,
    /// The data lines joined by LF; `None` when it has none (a comment) or was not read.
    pub data: Option<Bytes>,
    /// The last `event` field.
    pub event: Option<Bytes>,
    /// Larger than 1 MiB: passed unread, in parts as they come.
    pub oversized: bool,
    /// Where in `raw` the data stands, when it is one line.
    data_span: Option<Range<usize>>,
}

impl Decoder {
    /// A decoder at the beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what the network gave.  Nothing is copied while events lie whole in one chunk.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    /// What is left at the end of the stream: an event without its blank line.
    ///
    /// To be called when there is no next event any more.
    pub fn finish(&mut self) -> Option<Event> {
        self.place = Place::default();
        let rest = self.carry.split().freeze();
        let oversized = std::mem::take(&mut self.oversized);
        if rest.is_empty() { None } else { Some(self.event(rest, oversized)) }
    }

    /// How many bytes of an unfinished event are held back; at most 1 MiB once all events are taken.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.carry.len() + self.chunks.iter().map(Bytes::len).sum::<usize>()
    }

    /// Was an event handed out in parts whose end has not come?
    pub(in crate::protocol) fn is_within_oversized(&self) -> bool {
        self.oversized
    }

    /// The event that ends `length` bytes into `chunk`.
    fn take(&mut self, chunk: &mut Bytes, length: usize) -> Bytes {
        if self.carry.is_empty() {
            return chunk.split_to(length);
        }
        self.carry.extend_from_slice(chunk.get(..length).unwrap_or_default());
        chunk.advance(length);
        self.carry.split().freeze()
    }

    /// Does the next byte begin an event?
    fn is_between_events(&self) -> bool {
        self.place == Place::LineStart && self.carry.is_empty() && !self.oversized
    }

    fn event(&mut self, raw: Bytes, oversized: bool) -> Event {
        let first = !std::mem::replace(&mut self.started, true);
        if oversized {
            return Event { raw, data: None, event: None, oversized, data_span: None };
        }
        Event::read(raw, first)
    }
}

impl Iterator for Decoder {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        while let Some(mut chunk) = self.chunks.pop_front() {
            if self.is_between_events()
                && let Some(plain) = Plain::find(&chunk)
            {
                let raw = chunk.split_to(plain.length);
                if !chunk.is_empty() {
                    self.chunks.push_front(chunk);
                }
                self.started = true;
                return Some(plain.event(raw));
            }
            if let Some(length) = self.place.find_end(&chunk) {
                let raw = self.take(&mut chunk, length);
                if !chunk.is_empty() {
                    self.chunks.push_front(chunk);
                }
                let oversized = std::mem::take(&mut self.oversized) || raw.len() > MAX_EVENT;
                // Only the end of an event handed out in parts has nothing left to say.
                if !raw.is_empty() {
                    return Some(self.event(raw, oversized));
                }
                continue;
            }
            if self.oversized || self.carry.len() + chunk.len() > MAX_EVENT {
                self.oversized = true;
                let length = chunk.len();
                let part = self.take(&mut chunk, length);
                return Some(self.event(part, true));
            }
            self.carry.extend_from_slice(&chunk);
        }
        None
    }
}

impl Event {
    /// Where in `raw` the data stands; `None` when it was spread over several lines.
    pub(in crate::protocol) fn data_span(&self) -> Option<Range<usize>> {
        self.data_span.clone()
    }

    /// Reads an event; the first of a stream may begin with a byte order mark.
    pub(super) fn read(raw: Bytes, first: bool) -> Self {
        let mut data = Data::None;
        let mut event = None;
        let mark: &[u8] = b"\xef\xbb\xbf";
        let mut at = if first && raw.starts_with(mark) { mark.len() } else { 0 };
        while let Some(rest) = raw.get(at..).filter(|rest| !rest.is_empty()) {
            let length = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
            let line = rest.get(..length).unwrap_or_default();
            if let Some(value) = field(line, b"data") {
                data.push(&raw, at + length - value.len()..at + length);
            } else if let Some(value) = field(line, b"event") {
                event = Some(raw.slice(at + length - value.len()..at + length));
            }
            at += length + 1;
        }
        let (data, data_span) = match data {
            Data::None => (None, None),
            Data::Line(span) => (Some(raw.slice(span.clone())), Some(span)),
            Data::Lines(joined) => (Some(joined.into()), None),
        };
        Self { raw, data, event, oversized: false, data_span }
    }
}

/// An event as nearly all servers write theirs: perhaps a line with its name, then one line of data,
/// all of which end with LF, or with CRLF in those without a name.
///
/// One search for each line where [`Place::find_end`] and [`Event::read`] take four: 88 ns for an
/// event → 70.
struct Plain {
    name: Option<Range<usize>>,
    data: Range<usize>,
    length: usize,
}

impl Plain {
    /// The event that these bytes begin with, if it is whole.
    fn find(bytes: &[u8]) -> Option<Self> {
        let (mut name, mut start) = (None, 0);
        if bytes.starts_with(b"event: ") {
            let line = memchr::memchr2(b'\n', b'\r', bytes)?;
            if bytes.get(line) != Some(&b'\n') {
                return None;
            }
            (name, start) = (Some(b"event: ".len()..line), line + 1);
        }
        let rest = bytes.get(start..).filter(|rest| rest.starts_with(b"data: "))?;
        let line = start + memchr::memchr2(b'\n', b'\r', rest)?;
        let end = bytes.get(line..)?;
        let blank = if end.starts_with(b"\n\n") {
            2
        } else if end.starts_with(b"\r\n\r\n") {
            4
        } else {
            return None;
        };
        let (data, length) = (start + b"data: ".len()..line, line + blank);
        (length <= MAX_EVENT).then_some(Self { name, data, length })
    }

    fn event(self, raw: Bytes) -> Event {
        Event {
            data: Some(raw.slice(self.data.clone())),
            event: self.name.map(|name| raw.slice(name)),
            oversized: false,
            data_span: Some(self.data),
            raw,
        }
    }
}

/// The value of a field line, without the one space that may lead it.
fn field<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    match line.strip_prefix(name)? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

/// The data lines of an event; nearly always one, which is not copied.
enum Data {
    None,
    Line(Range<usize>),
    Lines(Vec<u8>),
}

impl Data {
    fn push(&mut self, raw: &[u8], span: Range<usize>) {
        let line = |span: &Range<usize>| raw.get(span.clone()).unwrap_or_default();
        match self {
            Self::None => *self = Self::Line(span),
            Self::Line(first) => {
                *self = Self::Lines([line(first), b"\n", line(&span)].concat());
            }
            Self::Lines(lines) => {
                lines.push(b'\n');
                lines.extend_from_slice(line(&span));
            }
        }
    }
}

/// Where in its lines the stream stands, between two chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    LineStart,
    InLine,
    /// Behind a CR that ended a line: an LF would belong to it.  When that line was blank the event
    /// is over, but only the next byte tells whether it is over here or behind an LF.
    AfterCr {
        blank: bool,
    },
}

impl Place {
    /// How many of `bytes` belong to the event under way, if its end is among them or before them.
    fn find_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
            if let Self::AfterCr { blank } = *self {
                *self = Self::LineStart;
                let feed = usize::from(rest.starts_with(b"\n"));
                if blank {
                    return Some(at + feed);
                }
                at += feed;
                continue;
            }
            let Some(length) = memchr::memchr2(b'\n', b'\r', rest) else {
                *self = Self::InLine;
                return None;
            };
            let blank = *self == Self::LineStart && length == 0;
            at += length + 1;
            *self = Self::LineStart;
            if rest.get(length) == Some(&b'\r') {
                *self = Self::AfterCr { blank };
            } else if blank {
                return Some(at);
            }
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
