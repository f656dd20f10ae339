//! The wire formats: bytes in, bytes out; no sockets, no clocks, no logging.
//!
//! Where caller and provider speak the same dialect, a body is read once, strictly ([`json::scan()`]),
//! and changed by splices of its own bytes ([`mod@edit`]), so that what nobody asked to change arrives
//! as it was written. Where they do not, it goes through one form in the middle ([`canonical`]), which
//! each dialect reads and writes: [`openai_chat`], [`openai_responses`], [`anthropic`], [`gemini`],
//! [`bedrock`]. Streams are cut into events by [`framing`].

pub mod anthropic;
pub mod bedrock;
pub mod canonical;
pub mod edit;
pub mod framing;
pub mod gemini;
pub mod json;
pub mod multipart;
pub mod openai_chat;
pub mod openai_responses;
mod operation;
mod texts;
pub mod translate;

use bytes::Bytes;

use crate::config::Dialect;
use canonical::Refusal;
pub use operation::{Operation, Task};
pub use texts::{Piece, texts};

/// The body of an error answer, in the caller's dialect.
pub fn write_refusal(caller: Dialect, refusal: &Refusal) -> Bytes {
    let write = match caller {
        Dialect::OpenaiChat => openai_chat::write_refusal,
        Dialect::OpenaiResponses => openai_responses::write_refusal,
        Dialect::Anthropic => anthropic::write_refusal,
        Dialect::Gemini => gemini::write_refusal,
        Dialect::Bedrock => bedrock::write_refusal,
    };
    write(refusal).into()
}

/// What ends a stream that has begun and cannot go on, in the caller's dialect.
pub fn write_stream_refusal(caller: Dialect, refusal: &Refusal) -> Bytes {
    let write = match caller {
        Dialect::OpenaiChat => openai_chat::write_stream_refusal,
        Dialect::OpenaiResponses => openai_responses::write_stream_refusal,
        Dialect::Anthropic => anthropic::write_stream_refusal,
        Dialect::Gemini => gemini::write_stream_refusal,
        Dialect::Bedrock => bedrock::write_stream_refusal,
    };
    write(refusal).into()
}

#[cfg(test)]
mod fixture;
