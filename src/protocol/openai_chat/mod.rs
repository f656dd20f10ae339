//! The `OpenAI` chat dialect and its relatives: what their bodies mean, and the edits made in them.
//!
//! Nothing is serialised anew.  An edit replaces the bytes of the members it is about and leaves
//! every other byte of a request, an answer or an event where it was.

mod choices;
mod delivered;
mod error;
mod history;
mod meter;
mod refusal;
mod request;
mod response;
mod stream;
mod synthetic;
mod thinking;
mod usage;
mod voice;

pub use delivered::Delivered;
pub use error::StreamError;
pub use refusal::{Caller, Refusal, write_refusal, write_stream_refusal};
pub use request::{ChatCap, EditError, Edits, edit_request, wants_usage};
pub use response::edit_response;
pub use stream::{StreamEditor, StreamOptions};
pub use usage::{Usage, last_usage, read_usage};

/// Which JSON endpoint a body belongs to; decides which members an edit touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `/v1/chat/completions`
    ChatCompletions,
    /// `/v1/completions`
    Completions,
    /// `/v1/embeddings`
    Embeddings,
    /// `/v1/responses`
    Responses,
    /// `/v1/messages`
    Messages,
    /// Any other endpoint that names a model.
    Other,
}

impl Operation {
    /// Whether `stream: true` asks for server-sent events.
    #[must_use]
    pub fn has_event_stream(self) -> bool {
        matches!(self, Self::ChatCompletions | Self::Completions | Self::Responses | Self::Messages)
    }
}
