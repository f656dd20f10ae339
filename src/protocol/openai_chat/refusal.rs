//! Refusals as `OpenAI` writes them.

use serde_json::{Value, json};

use crate::protocol::canonical::Refusal;

/// The body of an error answer.
pub fn write_refusal(refusal: &Refusal) -> Vec<u8> {
    body(refusal).to_string().into_bytes()
}

/// The event after which a stream ends that has begun and cannot go on: no `[DONE]` follows it.
pub fn write_stream_refusal(refusal: &Refusal) -> Vec<u8> {
    format!("data: {}\n\n", body(refusal)).into_bytes()
}

/// `{"error": {…}}`, which the responses API shares.
pub(in crate::protocol) fn body(refusal: &Refusal) -> Value {
    let Refusal { status, code, message, param, .. } = refusal;
    json!({
        "error": {
            "message": message,
            "type": error_type(*status, code),
            "param": param,
            "code": code,
        }
    })
}

/// <https://platform.openai.com/docs/guides/error-codes>; of 401, 403 and 404 it says
/// `invalid_request_error` as well.
fn error_type(status: u16, code: &str) -> &'static str {
    match status {
        429 if matches!(code, "quota_exceeded" | "insufficient_quota") => "insufficient_quota",
        // The kind of limit is the type: requests or tokens.
        429 => "requests",
        503 | 529 => "service_unavailable_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}
