//! The dialect of `OpenAI` responses: of Codex and the `openai` libraries as clients, and of `OpenAI`,
//! Azure and servers of open weights as providers.
//!
//! A conversation is a list of items: messages, reasoning, calls, results. A turn of the assistant's is
//! a run of items here, and each block of an answer is an item of its own. The API reference is at
//! <https://platform.openai.com/docs/api-reference/responses>.

mod count;
mod envelope;
mod history;
mod output;
mod read_input;
mod read_items;
mod read_parts;
mod read_request;
mod read_response;
mod read_stream;
mod read_tools;
mod refusal;
mod seal;
mod write_input;
mod write_request;
mod write_response;
mod write_stream;

pub use count::{
    read_count_request, read_count_response, write_count_request, write_count_response,
};
pub use envelope::{echo, echo_with};
pub use history::{prepend, stored_input, stored_output, without_others, without_sealed};
pub use read_request::read_request;
pub use read_response::read_response;
pub use read_stream::StreamReader;
pub use refusal::{write_refusal, write_stream_refusal};
pub use write_request::{NAMES, fate, write_request};
pub use write_response::write_response;
pub use write_stream::StreamWriter;

use crate::protocol::canonical::Invalid;
use crate::protocol::json::Mistyped;

/// Names a member of the wrong type by its whole path.
fn mistyped(path: &str) -> impl Fn(Mistyped) -> Invalid {
    move |Mistyped { name, expected }| {
        let param = if path.is_empty() { name } else { format!("{path}.{name}") };
        let message = format!("`{param}` must be {expected}");
        Invalid::Request { param, message }
    }
}

/// Reasoning in several parts, as one text.
fn joined<'t>(parts: impl Iterator<Item = &'t str>) -> String {
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(BETWEEN_PARTS)
}

/// What stands between two parts of a summary.
const BETWEEN_PARTS: &str = "\n\n";

#[cfg(test)]
mod tests;
