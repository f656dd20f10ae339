//! What clients may rely on in a stream, and what they make of it: one reader for each dialect, which
//! goes through its events as a state machine and panics at the first that may not come there.
//!
//! They know nothing of the gateway's own readers.

mod anthropic;
mod bedrock;
mod gemini;
mod openai_chat;
mod openai_responses;

use bytes::Bytes;
use forebay::config::Dialect;
use forebay::protocol::framing::sse::{Decoder, Event};
use serde_json::Value;

/// What a client has at the end of a stream.
#[derive(Debug, Default, PartialEq)]
pub struct Seen {
    /// What was said, refusals included.
    pub text: String,
    pub thinking: String,
    /// Calls of tools by name, and what they are called with.
    pub calls: Vec<(String, Value)>,
    pub end: End,
    /// Tokens read, and written.
    pub usage: Option<(u64, u64)>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub enum End {
    #[default]
    Missing,
    Stop,
    Length,
    Calls,
    Filtered,
    Failed,
}

/// Reads a whole stream, which must tell usage if it ends well.
pub fn read(client: Dialect, stream: &[u8]) -> Seen {
    let seen = match client {
        Dialect::OpenaiChat => openai_chat::read(stream),
        Dialect::OpenaiResponses => openai_responses::read(stream),
        Dialect::Anthropic => anthropic::read(stream),
        Dialect::Gemini => gemini::read(stream),
        Dialect::Bedrock => bedrock::read(stream),
    };
    assert_ne!(seen.end, End::Missing, "the stream has no end");
    seen
}

/// The events of a stream; the last one must be whole. Comments and empty lines are left out.
fn events(stream: &[u8]) -> Vec<Event> {
    let mut decoder = Decoder::new();
    decoder.push(Bytes::copy_from_slice(stream));
    let events = decoder.by_ref().filter(|event| event.data.is_some()).collect();
    assert!(decoder.finish().is_none(), "the last event has no end");
    events
}

fn parsed(data: &[u8]) -> Value {
    let text = String::from_utf8_lossy(data);
    serde_json::from_slice(data).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// What a tool is called with: an object, or text that a model broke off.
fn arguments(told: &str) -> Value {
    serde_json::from_str(told).unwrap_or_else(|_| Value::String(told.to_owned()))
}
