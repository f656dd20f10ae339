//! The dialect of Google Gemini, `generateContent`: AI Studio's and Vertex AI's.

mod answer;
mod count;
pub mod embeddings;
mod finish;
mod frames;
mod grounding;
mod media;
mod members;
mod offsets;
mod partial;
mod parts;
pub mod predict;
mod read_config;
mod read_contents;
mod read_request;
mod read_response;
mod read_stream;
mod refusal;
mod schema;
mod signature;
mod usage;
mod wire;
mod write_config;
mod write_contents;
mod write_request;
mod write_response;
mod write_stream;

pub use count::{
    count_for_vertex, read_count_request, read_count_response, write_count_request,
    write_count_response, write_vertex_count_request,
};
pub use read_request::read_request;
pub use read_response::read_response;
pub use read_stream::StreamReader;
pub use refusal::{write_refusal, write_stream_refusal};
pub use usage::last_usage;
pub use write_request::{NAMES, fate, write_request};
pub use write_response::write_response;
pub use write_stream::StreamWriter;

#[cfg(test)]
mod tests;
