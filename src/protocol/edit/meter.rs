//! Reads a stream as it goes by: what it cost, how it began, whether it came to its end.

use super::delivered::Delivered;
use super::error::StreamError;
use super::usage::{self, Usage};
use crate::protocol::framing::sse::Event;
use crate::protocol::json::cursor::Cursor;
use crate::protocol::json::text::unquote;
use bytes::Bytes;

/// What is known of a stream so far.
#[derive(Debug, Default)]
pub struct Meter {
    pub usage: Option<Usage>,
    /// Events that carried data other than `[DONE]`.
    pub content_events: u64,
    /// What the model has written so far.
    pub delivered: Delivered,
    /// A terminal event was seen.
    pub done: bool,
    /// The first data event was seen.
    pub judged: bool,
    /// That event, if it was an error.
    pub first_error: Option<StreamError>,
}

/// What an event is, as far as metering tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// A comment, or not read.
    Silent,
    /// `[DONE]`
    Done,
    /// A chunk with usage and no choices.
    UsageOnly,
    Data,
}

impl Meter {
    pub fn read(&mut self, event: &Event) -> Reading {
        let Some(data) = &event.data else { return Reading::Silent };
        // OpenAI's clients end a stream on any data that begins so.
        if data.starts_with(b"[DONE]") {
            self.done = true;
            self.judged = true;
            return Reading::Done;
        }
        self.content_events += 1;
        self.delivered.read(data);
        if !self.judged {
            self.judged = true;
            self.first_error = StreamError::read(data);
        }
        self.done |= is_terminal(event, data);
        self.tally(data)
    }

    fn tally(&mut self, data: &Bytes) -> Reading {
        if !usage::mentions_usage(data) {
            return Reading::Data;
        }
        let Some(usage::Report { usage: Some(usage), no_choices }) = usage::read(data) else {
            return Reading::Data;
        };
        self.usage.get_or_insert_default().update(usage);
        if no_choices { Reading::UsageOnly } else { Reading::Data }
    }
}

/// Does the event end a stream of the responses or messages API?
fn is_terminal(event: &Event, data: &Bytes) -> bool {
    let terminal = |name: &[u8]| {
        matches!(
            name,
            b"response.completed" | b"response.failed" | b"response.incomplete" | b"message_stop"
        )
    };
    if let Some(name) = &event.event {
        return terminal(name);
    }
    // Some servers leave out the `event` line; the data begins with the same name then.
    data.starts_with(b"{\"type\"")
        && first_value(data).is_some_and(|name| terminal(name.as_bytes()))
}

/// The value of the first member.
fn first_value(data: &[u8]) -> Option<String> {
    let mut first = None;
    let mut cursor = Cursor::new(std::str::from_utf8(data).ok()?);
    let _ = cursor.object(|cursor, _| {
        let span = cursor.skip()?;
        first.get_or_insert_with(|| unquote(cursor.slice(&span)).into_owned());
        Ok(())
    });
    first
}
