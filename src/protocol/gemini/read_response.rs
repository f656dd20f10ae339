//! A whole answer of Google's, read.

use super::parts::Parts;
use crate::protocol::canonical::{Collector, Failure, Response, Unreadable};

/// Reads an answer: a stream of one piece.
pub fn read_response(body: &[u8]) -> Result<Response, Unreadable> {
    let unreadable = |failure: Failure| Unreadable(failure.message);
    let mut events = Vec::new();
    let mut parts = Parts::default();
    parts.read(body, &mut events).map_err(unreadable)?;
    if !parts.is_answer() {
        return Err(Unreadable("it has no candidates".to_owned()));
    }
    parts.end_whole(&mut events);
    let mut collector = Collector::default();
    for event in events {
        if let Some(response) = collector.push(event).map_err(unreadable)? {
            return Ok(response);
        }
    }
    Err(Unreadable("it has no end".to_owned()))
}
