//! Answers as clients of the responses API read them.

use super::envelope::{Envelope, Status};
use super::output::items;
use crate::protocol::canonical::{Response, Told};

/// Writes an answer.
pub fn write_response(response: &Response, told: &Told) -> Vec<u8> {
    let Response { id, model, created, stop, usage, .. } = response;
    let envelope = Envelope::new(told, id, model, *created);
    let items = items(response, &envelope.style);
    let mut out = Vec::with_capacity(2048);
    // Strings and numbers into memory: there is nothing that could fail.
    let _ = envelope.write(Status::Ended(stop), &items, *usage, &mut out);
    out
}
