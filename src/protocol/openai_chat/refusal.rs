//! Refusals in the words of the caller's own dialect, so that its client library understands them.

use super::Operation;
use bytes::Bytes;
use serde_json::{Value, json};

/// Whose client library reads the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// `OpenAI`'s, and all that are like it.
    Openai,
    /// Anthropic's.
    Anthropic,
    /// Google's.
    Gemini,
}

/// What the client is told when it gets no answer.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// The HTTP status, 4xx or 5xx; the caller of [`write_refusal`] sends it too.
    pub status: u16,
    /// Our code for it, such as `model_not_found`.
    pub code: &'a str,
    /// One or two sentences, without secrets.
    pub message: &'a str,
    /// The member of the request that it is about.
    pub param: Option<&'a str>,
    /// The `x-request-id` of the answer.
    pub request_id: &'a str,
}

/// The body of an error answer.
#[must_use]
pub fn write_refusal(caller: Caller, refusal: &Refusal) -> Bytes {
    body(caller, refusal).to_string().into()
}

/// The event after which a stream ends that has begun and cannot go on.
#[must_use]
pub fn write_stream_refusal(caller: Caller, operation: Operation, refusal: &Refusal) -> Bytes {
    let body = body(caller, refusal);
    match (caller, operation) {
        (Caller::Openai, Operation::Responses) => {
            // Documented with its members at the top, sent (November 2025) with them in `error`.
            let event = json!({
                "type": "error",
                "sequence_number": 0,
                "code": refusal.code,
                "message": refusal.message,
                "param": refusal.param,
                "error": body.get("error"),
            });
            format!("event: error\ndata: {event}\n\n")
        }
        (Caller::Openai, _) => format!("data: {body}\n\n"),
        (Caller::Anthropic, _) => format!("event: error\ndata: {body}\n\n"),
        // Google ends its lines with CRLF.
        (Caller::Gemini, _) => format!("data: {body}\r\n\r\n"),
    }
    .into()
}

fn body(caller: Caller, refusal: &Refusal) -> Value {
    let Refusal { status, code, message, param, request_id } = refusal;
    match caller {
        Caller::Openai => json!({
            "error": {
                "message": message,
                "type": openai_type(*status, code),
                "param": param,
                "code": code,
            }
        }),
        Caller::Anthropic => json!({
            "type": "error",
            "error": { "type": anthropic_type(*status), "message": message },
            "request_id": request_id,
        }),
        Caller::Gemini => json!({
            "error": { "code": status, "message": message, "status": google_status(*status) }
        }),
    }
}

/// <https://platform.openai.com/docs/guides/error-codes>; of 401, 403 and 404 it says
/// `invalid_request_error` as well.
fn openai_type(status: u16, code: &str) -> &'static str {
    match status {
        429 if code == "quota_exceeded" => "insufficient_quota",
        // The kind of limit is the type: requests or tokens.
        429 => "requests",
        503 | 529 => "service_unavailable_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

/// <https://docs.anthropic.com/en/api/errors>
fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        408 | 504 => "timeout_error",
        503 | 529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSAL: Refusal = Refusal {
        status: 404,
        code: "model_not_found",
        message: "no model \"x\"\n",
        param: Some("model"),
        request_id: "r-1",
    };

    fn written(caller: Caller) -> Value {
        serde_json::from_slice(&write_refusal(caller, &REFUSAL)).expect("JSON")
    }

    #[test]
    fn every_caller_reads_its_own_shape() {
        let message = "no model \"x\"\n";
        assert_eq!(
            written(Caller::Openai),
            json!({"error": {"message": message, "type": "invalid_request_error",
                "param": "model", "code": "model_not_found"}})
        );
        assert_eq!(
            written(Caller::Anthropic),
            json!({"type": "error", "error": {"type": "not_found_error", "message": message},
                "request_id": "r-1"})
        );
        assert_eq!(
            written(Caller::Gemini),
            json!({"error": {"code": 404, "message": message, "status": "NOT_FOUND"}})
        );
    }

    #[test]
    fn a_stream_refusal_is_one_event_that_carries_the_error() {
        use crate::protocol::framing::sse::Decoder;
        for (caller, operation, name) in [
            (Caller::Openai, Operation::ChatCompletions, None),
            (Caller::Openai, Operation::Responses, Some(&b"error"[..])),
            (Caller::Anthropic, Operation::Messages, Some(&b"error"[..])),
            (Caller::Gemini, Operation::Other, None),
        ] {
            let mut decoder = Decoder::new();
            decoder.push(write_stream_refusal(caller, operation, &REFUSAL));
            let event = decoder.next().expect("a whole event");
            assert_eq!(event.event.as_deref(), name);
            let data: Value = serde_json::from_slice(&event.data.expect("data")).expect("JSON");
            assert_eq!(data["error"], written(caller)["error"]);
            assert_eq!(decoder.pending(), 0);
        }
    }
}
