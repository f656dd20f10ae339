//! The dialect of Amazon Bedrock: `Converse` and `ConverseStream`.
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html>
//!
//! [`invoke`] takes the frames off of, and puts them around, what Claude says by
//! `InvokeModelWithResponseStream`, which are events of Anthropic's own dialect.

mod citation;
mod content;
mod count;
pub mod embeddings;
pub mod invoke;
mod media;
mod model;
mod read_content;
mod read_fields;
mod read_request;
mod read_response;
mod read_stream;
mod refusal;
mod signature;
mod stop;
mod usage;
mod write_content;
mod write_request;
mod write_response;
mod write_stream;
mod write_thinking;
mod write_tools;

pub use count::{
    read_count_request, read_count_response, write_count_request, write_count_response,
};
pub use read_request::read_request;
pub use read_response::read_response;
pub use read_stream::StreamReader;
pub use refusal::{error_type, write_refusal, write_stream_refusal};
pub use usage::last_usage;
pub use write_request::{NAMES, fate, write_request};
pub use write_response::write_response;
pub use write_stream::StreamWriter;

#[cfg(test)]
mod tests;
