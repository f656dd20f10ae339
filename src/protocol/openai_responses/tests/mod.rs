//! The laws of the dialect, on recorded answers and on made-up ones.

mod conversations;
mod histories;
mod recorded;
mod requests;
mod stream_checker;
mod streams;

use bytes::Bytes;

use super::{StreamReader, StreamWriter};
use crate::config::{Dialect, Kind, Translation};
use crate::protocol::canonical::{
    Asked, Collector, Event, Failure, Invalid, Losses, Request, Response, Rules, Target, Told,
};

/// Reads a request of a client's, and says what was dropped.
fn read(body: &str) -> Result<(Request, Vec<String>), Invalid> {
    let mut losses = Losses::new(Dialect::OpenaiResponses, Translation::Lenient);
    let request = super::read_request(body.as_bytes(), &Asked::default(), &mut losses)?;
    Ok((request, losses.dropped().to_vec()))
}

/// Writes a request for a provider, and says what was dropped in the words of a chat client.
fn write(request: &Request, kind: Kind) -> Result<(serde_json::Value, Vec<String>), Invalid> {
    let model = if kind == Kind::Openai { "gpt-5" } else { "qwen" };
    write_for(request, kind, model)
}

fn write_for(
    request: &Request,
    kind: Kind,
    model: &str,
) -> Result<(serde_json::Value, Vec<String>), Invalid> {
    let rules = Rules::of(Dialect::OpenaiResponses, kind, model);
    let mut losses = Losses::new(Dialect::OpenaiChat, Translation::Lenient);
    let target = Target { model, rules: &rules };
    let body = super::write_request(request, &target, &mut losses)?;
    Ok((serde_json::from_slice(&body).unwrap(), losses.dropped().to_vec()))
}

/// The events of a stream that comes in pieces of this size.
fn events_of(stream: &[u8], size: usize) -> Vec<Event> {
    let mut reader = StreamReader::new();
    let mut events = Vec::new();
    for chunk in stream.chunks(size) {
        reader.push(Bytes::copy_from_slice(chunk), &mut events);
    }
    reader.finish(&mut events);
    events
}

fn collected(events: Vec<Event>) -> Result<Response, Failure> {
    let mut collector = Collector::default();
    for event in events {
        if let Some(response) = collector.push(event)? {
            return Ok(response);
        }
    }
    panic!("the stream has no end")
}

/// The bytes of a stream with these events.
fn written(events: &[Event], told: Told) -> Vec<u8> {
    let mut writer = StreamWriter::new(told);
    let mut out = Vec::new();
    for event in events {
        writer.write(event, &mut out);
    }
    out
}

fn told() -> Told {
    Told { model: "m".to_owned(), id: "abc1".to_owned(), created: 1_700_000_000, ..Told::default() }
}
