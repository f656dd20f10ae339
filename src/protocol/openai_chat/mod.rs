//! The dialect of `OpenAI` chat completions.

mod answer;
mod details;
pub mod embeddings;
mod media;
mod read_messages;
mod read_parts;
mod read_reasoning;
mod read_request;
mod read_response;
mod read_stream;
mod read_tools;
mod refusal;
mod strict;
mod told;
mod usage;
mod wire;
mod write_messages;
mod write_parts;
mod write_request;
mod write_response;
mod write_stream;
mod write_tools;

pub(in crate::protocol) use details::dialect_of;
pub use read_request::read_request;
pub use read_response::read_response;
pub use read_stream::StreamReader;
pub(in crate::protocol) use refusal::body as error_body;
pub use refusal::{write_refusal, write_stream_refusal};
pub(in crate::protocol) use strict::may_be_strict;
pub use write_request::{NAMES, fate, write_request};
pub use write_response::write_response;
pub use write_stream::StreamWriter;

#[cfg(test)]
mod tests;
