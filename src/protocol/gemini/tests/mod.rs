//! The dialect, tried with what was recorded and what may come.

mod read_requests;
mod recorded;
mod round_trip;
mod streams;
mod write_requests;

use bytes::Bytes;
use serde_json::Value;

use super::{StreamReader, StreamWriter};
use crate::config::{Dialect, Kind, Translation};
use crate::protocol::canonical::{Collector, Event, Failure, Losses, Response, Rules, Told};

/// A stream that comes `size` bytes at a time, read.
fn read_stream(stream: &[u8], size: usize) -> Vec<Event> {
    let mut reader = StreamReader::new();
    let mut events = Vec::new();
    for chunk in stream.chunks(size) {
        reader.push(Bytes::copy_from_slice(chunk), &mut events);
    }
    reader.finish(&mut events);
    events
}

/// A stream, read, and however it is cut the same.
fn read_every_way(stream: &[u8]) -> Vec<Event> {
    let events = read_stream(stream, stream.len().max(1));
    for size in [1, 2, 3, 7, 100] {
        assert_eq!(read_stream(stream, size), events, "{size} bytes at a time");
    }
    assert_grammar(&events);
    events
}

/// Holds a stream to the grammar of [`Event`].
fn assert_grammar(events: &[Event]) {
    let mut open = Vec::new();
    let mut next = 0;
    let last = events.len() - 1;
    for (at, event) in events.iter().enumerate() {
        match event {
            Event::Start(_) => assert_eq!(at, 0),
            Event::Open { index, .. } => {
                assert_eq!(*index, next);
                next += 1;
                open.push(*index);
            }
            Event::Delta { index, .. } => assert!(open.contains(index), "{event:?}"),
            Event::Close { index } => {
                let place = open.iter().position(|known| known == index).unwrap();
                open.remove(place);
            }
            Event::Ping => {}
            Event::End(_) => {
                assert_eq!((at, open.len()), (last, 0));
                assert!(matches!(events.first(), Some(Event::Start(_))));
            }
            Event::Failed(_) => assert_eq!(at, last),
        }
    }
    assert!(matches!(events.last(), Some(Event::End(_) | Event::Failed(_))));
}

fn collected(events: &[Event]) -> Result<Response, Failure> {
    let mut collector = Collector::default();
    for event in events {
        if let Some(response) = collector.push(event.clone())? {
            return Ok(response);
        }
    }
    panic!("no end")
}

fn written(events: &[Event], told: &Told) -> Vec<u8> {
    let mut writer = StreamWriter::new(told.clone());
    let mut out = Vec::new();
    for event in events {
        writer.write(event, &mut out);
    }
    out
}

fn told() -> Told {
    Told { model: "asked".to_owned(), id: "1d".to_owned(), ..Told::default() }
}

fn lenient() -> Losses {
    Losses::new(Dialect::Gemini, Translation::Lenient)
}

fn rules(model: &str) -> Rules {
    Rules::of(Dialect::Gemini, Kind::Gemini, model)
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}
