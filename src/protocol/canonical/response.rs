//! What is answered.

use super::{Block, Json, Usage};

/// A whole answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The provider's id of it; empty when it has none.
    pub id: String,
    /// The provider's name of the model that answered.
    pub model: String,
    /// Seconds since 1970, where the provider says it.
    pub created: Option<u64>,
    /// Text, thinking, refusals, calls of tools, images: in the order they were made.
    pub blocks: Vec<Block>,
    pub stop: Stop,
    pub usage: Option<Usage>,
}

/// Why an answer ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    /// The model had said all.
    #[default]
    EndTurn,
    /// One of the strings asked for came; which, where the provider says it.
    Sequence(Option<String>),
    /// The most tokens asked for, or the context's end.
    MaxTokens,
    /// Tools are to be called.
    ToolUse,
    /// The provider's filter, or the model's own refusal to go on.
    Filtered,
}

/// What a client is told beside what the provider said.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// The model's name as the client asked for it.
    pub model: String,
    /// What stands in for an id the provider did not give: letters and digits.
    pub id: String,
    /// Seconds since 1970: now, for where the provider gave no time.
    pub created: u64,
    /// The client wants usage in its stream.
    pub stream_usage: bool,
    /// Gemini without `alt=sse`: a JSON array in pieces instead of events.
    pub array: bool,
    /// Responses: the members of the request that an answer repeats, as one object.
    pub echo: Option<Json>,
}

/// Where a stretch of text comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotation {
    pub url: String,
    pub title: Option<String>,
    /// The stretch, in characters (Unicode scalar values) of its block's text.
    pub start: u64,
    pub end: u64,
}
