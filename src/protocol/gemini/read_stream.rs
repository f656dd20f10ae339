//! A streamed answer of Google's, read.

use bytes::Bytes;

use super::frames::Frames;
use super::parts::Parts;
use crate::protocol::canonical::{Event, Failure};
use crate::protocol::framing::whole::TooLong;

/// Reads server-sent events, and arrays that come in pieces.
///
/// Google ends a stream by ending the connection: what was said last is only known there.
#[derive(Debug, Default)]
pub struct StreamReader {
    frames: Frames,
    parts: Parts,
    over: bool,
}

impl StreamReader {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&mut self, chunk: Bytes, events: &mut Vec<Event>) {
        if self.over {
            return;
        }
        self.frames.push(chunk);
        while let Some(text) = self.frames.next() {
            let read = match text {
                Ok(text) => self.parts.read(&text, events),
                Err(TooLong) => Err(too_long()),
            };
            if let Err(failure) = read {
                return self.fail(failure, events);
            }
        }
    }

    /// The stream is over.
    pub fn finish(&mut self, events: &mut Vec<Event>) {
        if self.over {
            return;
        }
        if let Some(text) = self.frames.finish() {
            let is_whole = serde_json::from_slice::<serde::de::IgnoredAny>(&text).is_ok();
            let read =
                if is_whole { self.parts.read(&text, events) } else { Err(Failure::cut_off()) };
            if let Err(failure) = read {
                return self.fail(failure, events);
            }
        }
        self.over = true;
        self.parts.end(events);
    }

    fn fail(&mut self, failure: Failure, events: &mut Vec<Event>) {
        self.over = true;
        events.push(Event::Failed(failure));
    }
}

fn too_long() -> Failure {
    let message = "The provider's stream has an event that is too long.".to_owned();
    Failure { message, ..Failure::cut_off() }
}
