//! Refusals as Amazon Bedrock writes them.

use serde::Serialize;

use crate::protocol::canonical::Refusal;
use crate::protocol::framing::eventstream;

/// The body of an error answer and of an exception in a stream.
#[derive(Serialize)]
struct Body<'a> {
    message: &'a str,
}

/// The body of an error answer; its kind stands in the header `x-amzn-errortype`.
pub fn write_refusal(refusal: &Refusal) -> Vec<u8> {
    let mut body = Vec::with_capacity(refusal.message.len() + 16);
    write_body(refusal, &mut body);
    body
}

/// The exception after which a stream ends that has begun and cannot go on.
pub fn write_stream_refusal(refusal: &Refusal) -> Vec<u8> {
    let mut out = Vec::with_capacity(refusal.message.len() + 160);
    let name = exception(refusal.status, refusal.code);
    if eventstream::write_exception(name, &mut out, |out| write_body(refusal, out)).is_err() {
        out.clear();
    }
    out
}

fn write_body(refusal: &Refusal, out: &mut Vec<u8>) {
    // Writing text into memory does not fail.
    let _ = serde_json::to_writer(out, &Body { message: refusal.message });
}

/// The header `x-amzn-errortype`, by which AWS's clients know what went wrong and whether to try
/// again: the status of an answer, and our code where it says more.
/// <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html#API_runtime_Converse_Errors>
pub fn error_type(status: u16, code: &str) -> &'static str {
    match status {
        _ if code == "insufficient_quota" => "ServiceQuotaExceededException",
        401 => "UnrecognizedClientException",
        402 | 403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        408 | 504 => "ModelTimeoutException",
        424 => "ModelErrorException",
        429 => "ThrottlingException",
        503 | 529 => "ServiceUnavailableException",
        500.. => "InternalServerException",
        _ => "ValidationException",
    }
}

/// The exceptions that a stream may have; `ConverseStream` knows no others.
fn exception(status: u16, code: &str) -> &'static str {
    match error_type(status, code) {
        "ThrottlingException" | "ServiceQuotaExceededException" => "throttlingException",
        "ServiceUnavailableException" => "serviceUnavailableException",
        "InternalServerException" => "internalServerException",
        "ModelTimeoutException" | "ModelErrorException" => "modelStreamErrorException",
        _ => "validationException",
    }
}
