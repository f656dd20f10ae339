//! The dialect against what servers have really sent, and against itself.

mod cases;
mod read_requests;
mod recorded;
mod request_round_trips;
mod requests;
mod round_trips;
mod validator;
mod write_requests;

use bytes::Bytes;

use super::{StreamReader, StreamWriter};
use crate::protocol::canonical::{Collector, Event, Failure, Response, Told};

/// The events of a stream that comes in these pieces.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event> {
    let mut reader = StreamReader::new();
    let mut events = Vec::new();
    for piece in pieces {
        reader.push(Bytes::copy_from_slice(piece), &mut events);
    }
    reader.finish(&mut events);
    events
}

/// The bytes of a stream of these events.
fn write(events: &[Event], told: Told) -> Vec<u8> {
    let mut writer = StreamWriter::new(told);
    let mut out = Vec::new();
    for event in events {
        writer.write(event, &mut out);
    }
    out
}

/// What the events come to.
fn collect(events: Vec<Event>) -> Result<Response, Failure> {
    let mut collector = Collector::default();
    for event in events {
        if let Some(response) = collector.push(event)? {
            return Ok(response);
        }
    }
    panic!("the stream has no end");
}

fn told(stream_usage: bool) -> Told {
    let (model, id) = ("asked-for".to_owned(), "0123abc".to_owned());
    Told { model, id, created: 1_700_000_000, stream_usage, ..Told::default() }
}
