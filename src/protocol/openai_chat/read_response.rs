//! Reads a whole answer.

use serde_json::Number;

use super::answer::Answer;
use super::wire::Chunk;
use crate::protocol::canonical::{Collector, Failure, Response, Unreadable};
use crate::protocol::json;

/// Reads the body of a `chat.completion`.
pub fn read_response(body: &[u8]) -> Result<Response, Unreadable> {
    let unreadable = |message: &str| Unreadable(message.to_owned());
    let mut whole: Chunk = json::read(body).map_err(|error| Unreadable(error.to_string()))?;
    if whole.is_error() {
        return Err(Unreadable(Failure::read(None, None, body).message));
    }
    let choice = whole.choices.iter_mut().flatten().next();
    let choice = choice.ok_or_else(|| unreadable("it has no choices"))?;
    let message = choice.delta.insert(choice.message.take().map(|it| *it).unwrap_or_default());
    // Here the calls are whole, and their places are their numbers.
    for (place, call) in (0_u64..).zip(message.tool_calls.iter_mut().flatten()) {
        call.index = Some(Number::from(place));
    }
    let mut answer = Answer::default();
    let mut events = Vec::new();
    answer.chunk(&whole, &mut events);
    answer.end(&mut events);
    let mut collector = Collector::default();
    for event in events {
        match collector.push(event) {
            Ok(None) => {}
            Ok(Some(response)) => return Ok(response),
            Err(failure) => return Err(Unreadable(failure.message)),
        }
    }
    Err(unreadable("it has no end"))
}
