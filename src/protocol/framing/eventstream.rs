//! AWS's event streams (`application/vnd.amazon.eventstream`), cut out of a byte stream however the
//! network cut it, and written.
//!
//! A message is a prelude (its length, that of its headers, and a checksum of the two), headers, a
//! payload, and a checksum of all before it. Numbers are big-endian, checksums CRC-32
//! (<https://smithy.io/2.0/aws/amazon-eventstream.html>).
//!
//! AWS's own crate waits for as many bytes as a length says before it looks at the length's checksum,
//! and copies headers and payload; the tests hold this reader to what that one reads.

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// Bytes a message's headers may have, as AWS bounds them.
pub const MAX_HEADERS: usize = 128 << 10;

/// Bytes a message's payload may have, as AWS bounds them.
pub const MAX_PAYLOAD: usize = 24 << 20;

/// The two lengths and their checksum.
const PRELUDE: usize = 12;

/// Prelude and the checksum at the end.
const AROUND: usize = PRELUDE + 4;

/// A byte stream that is no event stream, or no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("a message's prelude does not match its checksum")]
    PreludeChecksum,
    #[error("a message does not match its checksum")]
    Checksum,
    #[error("a message's lengths contradict each other or are beyond what AWS allows")]
    Length,
    #[error("a message's headers cannot be read")]
    Headers,
}

/// Cuts a byte stream into messages.
///
/// Push a chunk, then take messages until there are none. A length is believed only once its checksum
/// is right. The first error is the last item: what comes behind it has no beginning.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Chunks not looked at yet.
    chunks: VecDeque<Bytes>,
    /// The beginning of a message whose end has not come; never more than one message.
    carry: BytesMut,
    /// The lengths of the message under way, once its prelude was read.
    prelude: Option<Prelude>,
    broken: bool,
}

/// One message, its checksums verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The exact bytes.
    pub raw: Bytes,
    pub payload: Bytes,
    headers: Bytes,
}

/// What a message is, by its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind<'m> {
    /// By its `:event-type`.
    Event(&'m str),
    /// A failure the service has a model of, by its `:exception-type`.
    Exception(&'m str),
    /// Any other failure.
    Error { code: &'m str, message: &'m str },
}

#[derive(Clone, Copy, Debug)]
struct Prelude {
    total: usize,
    headers: usize,
}

impl Decoder {
    /// A decoder at the beginning of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what the network gave. Nothing is copied while messages lie whole in one chunk.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() && !self.broken {
            self.chunks.push_back(chunk);
        }
    }

    /// Is everything that was pushed part of a message that was taken?
    #[must_use]
    pub fn is_between_messages(&self) -> bool {
        self.carry.is_empty() && self.chunks.is_empty()
    }

    /// The next `length` bytes of the message under way are at hand: gives all of it so far.
    fn gather(&mut self, length: usize) -> Option<&[u8]> {
        if self.carry.is_empty() && self.chunks.front().is_some_and(|it| it.len() >= length) {
            return self.chunks.front()?.get(..length);
        }
        while self.carry.len() < length {
            let mut chunk = self.chunks.pop_front()?;
            let part = chunk.split_to(chunk.len().min(length - self.carry.len()));
            self.carry.extend_from_slice(&part);
            if !chunk.is_empty() {
                self.chunks.push_front(chunk);
            }
        }
        self.carry.get(..length)
    }

    /// Takes the `length` bytes that were gathered.
    fn take(&mut self, length: usize) -> Bytes {
        if !self.carry.is_empty() {
            return self.carry.split_to(length).freeze();
        }
        let Some(chunk) = self.chunks.front_mut() else { return Bytes::new() };
        let taken = chunk.split_to(length);
        if chunk.is_empty() {
            self.chunks.pop_front();
        }
        taken
    }

    fn read(&mut self) -> Result<Option<Message>, Malformed> {
        let prelude = match self.prelude {
            Some(prelude) => prelude,
            None => match self.gather(PRELUDE) {
                Some(bytes) => Prelude::read(bytes)?,
                None => return Ok(None),
            },
        };
        self.prelude = Some(prelude);
        if self.gather(prelude.total).is_none() {
            return Ok(None);
        }
        self.prelude = None;
        Message::read(self.take(prelude.total), prelude.headers).map(Some)
    }
}

impl Iterator for Decoder {
    type Item = Result<Message, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.broken {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            *self = Self { broken: true, ..Self::default() };
        }
        read.transpose()
    }
}

impl Prelude {
    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let number = |at: usize| {
            let four = bytes.get(at..at + 4).and_then(|it| it.try_into().ok());
            four.map(u32::from_be_bytes).ok_or(Malformed::Length)
        };
        let (total, headers, checksum) = (number(0)?, number(4)?, number(8)?);
        if crc32fast::hash(bytes.get(..8).unwrap_or_default()) != checksum {
            return Err(Malformed::PreludeChecksum);
        }
        let length = |number: u32| usize::try_from(number).map_err(|_| Malformed::Length);
        let (total, headers) = (length(total)?, length(headers)?);
        let payload = total.checked_sub(AROUND).and_then(|rest| rest.checked_sub(headers));
        match payload {
            Some(0..=MAX_PAYLOAD) if headers <= MAX_HEADERS => Ok(Self { total, headers }),
            _ => Err(Malformed::Length),
        }
    }
}

impl Message {
    fn read(raw: Bytes, headers: usize) -> Result<Self, Malformed> {
        let Some((summed, checksum)) = raw.split_last_chunk::<4>() else {
            return Err(Malformed::Length);
        };
        if crc32fast::hash(summed) != u32::from_be_bytes(*checksum) {
            return Err(Malformed::Checksum);
        }
        let end = summed.len();
        let payload = raw.slice(PRELUDE + headers..end);
        let message = Self { headers: raw.slice(PRELUDE..PRELUDE + headers), payload, raw };
        // All of them, so that `header` can trust them.
        let mut headers = Headers(&message.headers);
        while headers.read()?.is_some() {}
        Ok(message)
    }

    /// A header whose value is text; the first of its name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = Headers(&self.headers);
        while let Ok(Some((known, value))) = headers.read() {
            if known == name {
                return value;
            }
        }
        None
    }

    /// What it is. One that does not say is an event.
    #[must_use]
    pub fn kind(&self) -> Kind<'_> {
        let header = |name| self.header(name).unwrap_or_default();
        match header(":message-type") {
            "exception" => Kind::Exception(header(":exception-type")),
            "error" => {
                Kind::Error { code: header(":error-code"), message: header(":error-message") }
            }
            _ => Kind::Event(header(":event-type")),
        }
    }
}

/// The headers not read yet.
struct Headers<'m>(&'m [u8]);

impl<'m> Headers<'m> {
    /// The next one's name, and its value where that is text.
    fn read(&mut self) -> Result<Option<(&'m str, Option<&'m str>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let length = self.take(1)?;
        let name = self.text(length)?;
        let mut value = None;
        match self.take(1)? {
            [0 | 1] => {}
            [2] => self.skip(1)?,
            [3] => self.skip(2)?,
            [4] => self.skip(4)?,
            [5 | 8] => self.skip(8)?,
            [6] => {
                let length = self.take(2)?;
                self.skip(number(length))?;
            }
            [7] => {
                let length = self.take(2)?;
                value = Some(self.text(length)?);
            }
            [9] => self.skip(16)?,
            _ => return Err(Malformed::Headers),
        }
        Ok(Some((name, value)))
    }

    fn take(&mut self, length: usize) -> Result<&'m [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed::Headers)?;
        self.0 = rest;
        Ok(taken)
    }

    fn skip(&mut self, length: usize) -> Result<(), Malformed> {
        self.take(length).map(|_| ())
    }

    fn text(&mut self, length: &[u8]) -> Result<&'m str, Malformed> {
        let text = self.take(number(length))?;
        std::str::from_utf8(text).map_err(|_| Malformed::Headers)
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// A message that would be beyond what AWS allows. Nothing of it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message is larger than an event stream may have it")]
pub struct TooLarge;

/// Writes an event whose payload is the JSON that `payload` appends.
pub fn write_event(
    name: &str,
    out: &mut Vec<u8>,
    payload: impl FnOnce(&mut Vec<u8>),
) -> Result<(), TooLarge> {
    write(&[(":event-type", name), JSON, (":message-type", "event")], out, payload)
}

/// Writes an exception whose payload is the JSON that `payload` appends.
pub fn write_exception(
    name: &str,
    out: &mut Vec<u8>,
    payload: impl FnOnce(&mut Vec<u8>),
) -> Result<(), TooLarge> {
    write(&[(":exception-type", name), JSON, (":message-type", "exception")], out, payload)
}

const JSON: (&str, &str) = (":content-type", "application/json");

fn write(
    headers: &[(&str, &str)],
    out: &mut Vec<u8>,
    payload: impl FnOnce(&mut Vec<u8>),
) -> Result<(), TooLarge> {
    let start = out.len();
    let written = try_write(headers, out, payload);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

fn try_write(
    headers: &[(&str, &str)],
    out: &mut Vec<u8>,
    payload: impl FnOnce(&mut Vec<u8>),
) -> Result<(), TooLarge> {
    let start = out.len();
    out.extend_from_slice(&[0; PRELUDE]);
    for (name, value) in headers {
        out.push(u8::try_from(name.len()).map_err(|_| TooLarge)?);
        out.extend_from_slice(name.as_bytes());
        out.push(7);
        // AWS reads the length of a text as a signed number.
        let length = i16::try_from(value.len()).map_err(|_| TooLarge)?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(value.as_bytes());
    }
    let headers = out.len() - start - PRELUDE;
    payload(out);
    let total = out.len() - start + 4;
    if headers > MAX_HEADERS || total > AROUND + headers + MAX_PAYLOAD {
        return Err(TooLarge);
    }
    let mut prelude = [0; 8];
    for (number, slot) in [total, headers].into_iter().zip(prelude.chunks_exact_mut(4)) {
        slot.copy_from_slice(&u32::try_from(number).map_err(|_| TooLarge)?.to_be_bytes());
    }
    let checksum = crc32fast::hash(&prelude).to_be_bytes();
    if let Some(slot) = out.get_mut(start..start + PRELUDE) {
        slot.copy_from_slice(&[prelude.as_slice(), &checksum].concat());
    }
    let checksum = crc32fast::hash(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&checksum.to_be_bytes());
    Ok(())
}

#[cfg(test)]
#[path = "eventstream_tests.rs"]
mod tests;
