//! Refusals as Google writes them.

use serde_json::{Value, json};

use crate::protocol::canonical::Refusal;

/// The body of an error answer.
pub fn write_refusal(refusal: &Refusal) -> Vec<u8> {
    body(refusal).to_string().into_bytes()
}

/// The event after which a stream ends that has begun and cannot go on. Google ends its lines with CRLF.
pub fn write_stream_refusal(refusal: &Refusal) -> Vec<u8> {
    format!("data: {}\r\n\r\n", body(refusal)).into_bytes()
}

fn body(refusal: &Refusal) -> Value {
    let Refusal { status, message, .. } = refusal;
    json!({ "error": { "code": status, "message": message, "status": google_status(*status) } })
}

/// <https://cloud.google.com/apis/design/errors>
fn google_status(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        503 | 529 => "UNAVAILABLE",
        408 | 504 => "DEADLINE_EXCEEDED",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    }
}
