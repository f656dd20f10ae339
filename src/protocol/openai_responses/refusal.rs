//! Refusals as the responses API writes them.

use serde_json::json;

use crate::protocol::canonical::Refusal;
use crate::protocol::openai_chat;

/// The body of an error answer: the one of chat completions.
pub fn write_refusal(refusal: &Refusal) -> Vec<u8> {
    openai_chat::write_refusal(refusal)
}

/// The event after which a stream ends that has begun and cannot go on.
pub fn write_stream_refusal(refusal: &Refusal) -> Vec<u8> {
    error_event(refusal, 0)
}

/// The event that tells an error, as the stream's event of this number.
pub fn error_event(refusal: &Refusal, number: u64) -> Vec<u8> {
    let body = openai_chat::error_body(refusal);
    // Documented with its members at the top, sent (November 2025) with them in `error`.
    let event = json!({
        "type": "error",
        "sequence_number": number,
        "code": refusal.code,
        "message": refusal.message,
        "param": refusal.param,
        "error": body.get("error"),
    });
    format!("event: error\ndata: {event}\n\n").into_bytes()
}
