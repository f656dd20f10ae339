//! Reads a stream of chunks.

use bytes::Bytes;

use super::answer::Answer;
use super::wire::Chunk;
use crate::protocol::canonical::{Event, Failure};
use crate::protocol::framing::whole::WholeEvents;
use crate::protocol::json;

/// Reads the stream of a chat.
///
/// It ends with `[DONE]`; servers that leave it out have told why the answer ended, and that is an end
/// as well. What a server tells beside the answer (filters' results, padding, probabilities) is passed
/// over.
#[derive(Debug, Default)]
pub struct StreamReader {
    decoder: WholeEvents,
    answer: Answer,
}

impl StreamReader {
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads what the network gave.
    pub fn push(&mut self, chunk: Bytes, events: &mut Vec<Event>) {
        self.decoder.push(chunk);
        while let Some(event) = self.decoder.next() {
            if self.answer.is_over() {
                continue;
            }
            let Ok(event) = event else {
                return self.fail("an event that is too long", events);
            };
            match &event.data {
                Some(data) if event.event.as_deref() == Some(b"error") => {
                    self.answer.fail(Failure::read(None, None, data), events);
                }
                Some(data) => self.read(data, events),
                // A comment.
                None if self.answer.has_started() => events.push(Event::Ping),
                None => {}
            }
        }
    }

    /// The stream is over.
    pub fn finish(&mut self, events: &mut Vec<Event>) {
        if let Some(rest) = self.decoder.finish()
            && let Some(data) = &rest.data
            && (data.starts_with(b"[DONE]") || serde_json::from_slice::<Chunk>(data).is_ok())
            && !self.answer.is_over()
        {
            self.read(data, events);
        }
        if self.answer.is_finished() {
            self.answer.end(events);
        }
        self.answer.fail(Failure::cut_off(), events);
    }

    fn read(&mut self, data: &[u8], events: &mut Vec<Event>) {
        if data.starts_with(b"[DONE]") {
            if self.answer.has_started() {
                self.answer.end(events);
            } else {
                self.fail("no answer", events);
            }
            return;
        }
        match json::read::<Chunk>(data) {
            Ok(chunk) if chunk.is_error() => {
                self.answer.fail(Failure::read(None, None, data), events);
            }
            Ok(chunk) => self.answer.chunk(&chunk, events),
            Err(_) => self.fail("an event that is no chunk of an answer", events),
        }
    }

    fn fail(&mut self, what: &str, events: &mut Vec<Event>) {
        let message = format!("The provider's stream has {what}.");
        self.answer.fail(Failure { message, ..Failure::cut_off() }, events);
    }
}
