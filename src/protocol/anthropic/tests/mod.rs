//! The dialect as a whole: what was recorded, and what is read again after it was written.

mod answers;
mod read_requests;
mod round_trips;
mod streams;
mod written_requests;
mod written_streams;

use bytes::Bytes;

use super::StreamReader;
use crate::config::{Dialect, Kind, Translation};
use crate::protocol::canonical::{
    Asked, Collector, Event, Failure, Invalid, Losses, Request, Response, Rules, Target, Told,
};

macro_rules! recorded {
    ($id:literal) => {
        include_bytes!(concat!("../../../../tests/fixtures/recorded/", $id, "/response.bin"))
    };
}
use recorded;

/// The events of a stream that comes in these pieces.
fn read_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event> {
    let (mut reader, mut events) = (StreamReader::new(), Vec::new());
    for piece in pieces {
        reader.push(Bytes::copy_from_slice(piece), &mut events);
    }
    reader.finish(&mut events);
    events
}

fn read_stream(stream: &[u8]) -> Vec<Event> {
    read_pieces([stream])
}

/// A stream of these events' data.
fn stream_of(data: &[&str]) -> Vec<u8> {
    data.iter().flat_map(|data| format!("data: {data}\n\n").into_bytes()).collect()
}

fn collect(events: &[Event]) -> Result<Response, Failure> {
    let mut collector = Collector::default();
    for event in events {
        if let Some(response) = collector.push(event.clone())? {
            return Ok(response);
        }
    }
    panic!("a stream without an end: {events:?}")
}

/// Holds events to the grammar that is promised: a start, blocks that are opened in order and closed
/// before the end, and one end.
fn assert_grammar(events: &[Event]) {
    let (mut opened, mut open, mut over, mut begun) = (0, Vec::new(), false, false);
    for event in events {
        assert!(!over, "something follows the end: {event:?}");
        match event {
            Event::Start(_) => assert!(!std::mem::replace(&mut begun, true), "two starts"),
            Event::Failed(_) => over = true,
            _ => assert!(begun, "{event:?} before the start"),
        }
        match event {
            Event::Open { index, .. } => {
                assert_eq!(*index, opened);
                opened += 1;
                open.push(*index);
            }
            Event::Delta { index, .. } => assert!(open.contains(index), "{event:?} is not open"),
            Event::Close { index } => {
                assert!(open.contains(index), "{event:?} is not open");
                open.retain(|known| known != index);
            }
            Event::End(_) => {
                assert_eq!(open, [0; 0], "blocks are open at the end");
                over = true;
            }
            Event::Start(_) | Event::Ping | Event::Failed(_) => {}
        }
    }
    assert!(over, "no end");
}

fn told() -> Told {
    Told { model: "mine".to_owned(), id: "4f2a".to_owned(), created: 1, ..Told::default() }
}

fn lenient() -> Losses {
    Losses::new(Dialect::Anthropic, Translation::Lenient)
}

/// Reads a request; with what was dropped.
fn read(body: &str) -> (Result<Request, Invalid>, Vec<String>) {
    let mut losses = lenient();
    let request = super::read_request(body.as_bytes(), &Asked::default(), &mut losses);
    (request, losses.dropped().to_vec())
}

/// Writes a request for a model; with what was dropped, in the words of a chat.
fn write(request: &Request, model: &str) -> (Result<serde_json::Value, Invalid>, Vec<String>) {
    let rules = Rules::of(Dialect::Anthropic, Kind::Anthropic, model);
    let mut losses = Losses::new(Dialect::OpenaiChat, Translation::Lenient);
    let written = super::write_request(request, &Target { model, rules: &rules }, &mut losses);
    let written = written.map(|body| serde_json::from_slice(&body).unwrap());
    (written, losses.dropped().to_vec())
}
