//! The dialect of Anthropic messages.
//!
//! <https://docs.anthropic.com/en/api/messages>, as version 2023-06-01 of it has it.

mod count;
mod read_content;
mod read_request;
mod read_response;
mod read_stream;
mod refusal;
mod schema;
mod signature;
mod stop;
mod thinking;
mod usage;
mod wrapped;
mod write_content;
mod write_request;
mod write_response;
mod write_stream;

pub use count::{
    read_count_request, read_count_response, write_count_request, write_count_response,
};
pub use read_request::read_request;
pub use read_response::read_response;
pub use read_stream::StreamReader;
pub use refusal::{write_refusal, write_stream_refusal};
pub(in crate::protocol) use schema::enforceable;
pub use wrapped::{Unwrapped, for_bedrock, for_vertex, from_cloud};
pub use write_request::{NAMES, fate, write_request};
pub use write_response::write_response;
pub use write_stream::StreamWriter;

#[cfg(test)]
mod tests;
