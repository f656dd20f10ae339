//! What is asked.

use std::collections::HashSet;

use serde_json::value::RawValue;

use super::{Arguments, Reasoning, Rules};
use crate::config::Dialect;

/// A JSON value as it was written: numbers keep their spelling, members their order.
pub type Json = Box<RawValue>;

/// What a request's path and headers say beside its body.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked<'a> {
    /// The model, where the path names it (Gemini, Bedrock).
    pub model: Option<&'a str>,
    /// Whether the path asks for a stream (Gemini, Bedrock); elsewhere the body says so.
    pub stream: bool,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The provider's name of the model.
    pub model: &'a str,
    /// What that model takes.
    pub rules: &'a Rules,
}

/// A call for one answer of a model.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The model's name as the client wrote it.
    pub model: String,
    /// Instructions at the head of the conversation, one [`Block::Text`] each.
    pub system: Vec<Block>,
    /// The conversation, in order. Results of tools stand in `User` turns.
    pub turns: Vec<Turn>,
    pub tools: Vec<Tool>,
    pub tool_choice: Option<ToolChoice>,
    /// Whether several tools may be called in one answer.
    pub parallel_tools: Option<bool>,
    /// The most tokens the answer may have, reasoning included.
    pub max_output: Option<u64>,
    /// 0–2.
    pub temperature: Option<f64>,
    pub top_p: Option<f64>,
    pub top_k: Option<u64>,
    pub min_p: Option<f64>,
    pub stop: Vec<String>,
    pub seed: Option<i64>,
    /// How many answers (`n`, `candidateCount`).
    pub candidates: Option<u64>,
    pub presence_penalty: Option<f64>,
    pub frequency_penalty: Option<f64>,
    /// Token probabilities are asked for, with so many alternatives each.
    pub logprobs: Option<u64>,
    pub logit_bias: Option<Json>,
    pub format: Format,
    pub reasoning: Reasoning,
    /// `low`, `medium`, `high`.
    pub verbosity: Option<String>,
    /// As the dialect that was read spells it.
    pub service_tier: Option<String>,
    /// Who the caller's own user is.
    pub user: Option<String>,
    pub metadata: Vec<(String, String)>,
    /// Groups calls with a common prefix (`prompt_cache_key`).
    pub cache_key: Option<String>,
    pub stream: bool,
    /// The client wants usage at the end of its stream.
    pub stream_usage: bool,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    pub role: Role,
    pub blocks: Vec<Block>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    User,
    Assistant,
    /// Instructions in the middle of a conversation.
    System,
}

/// A piece of a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    Text {
        text: String,
        annotations: Vec<super::Annotation>,
    },
    Image(Image),
    Audio(Media),
    Video(Media),
    Document(Document),
    /// Reasoning in words.
    Thinking {
        text: String,
        signature: Option<Signature>,
    },
    /// Reasoning that only its provider can read.
    RedactedThinking(Signature),
    /// The model's own words on why it does not answer.
    Refusal(String),
    ToolUse(ToolUse),
    ToolResult(ToolResult),
    /// The prompt up to here shall be cached. Stands behind what it marks.
    Cache(CacheMark),
}

/// How long what is marked shall stay cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheMark {
    /// The provider's default, about five minutes.
    Short,
    /// An hour or more.
    Long,
}

/// Where the bytes of a piece of media are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In base64 (RFC 4648 §4).
    Base64(String),
    Url(String),
    /// An object at the provider whose dialect was read.
    File(String),
    /// Plain text, of a document.
    Text(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub source: Source,
    /// `image/png` …; unknown for some URLs.
    pub media_type: Option<String>,
    /// `low`, `high`, `auto`, `original`.
    pub detail: Option<String>,
}

/// Audio or video.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    pub source: Source,
    /// `audio/wav`, `video/mp4` …
    pub media_type: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub source: Source,
    /// `application/pdf`, `text/plain` …
    pub media_type: String,
    /// The file's name, or its title.
    pub name: Option<String>,
}

/// Opaque bytes that let a provider read its own reasoning again. Never sent to another provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Whose it is.
    pub dialect: Dialect,
    pub data: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolUse {
    pub id: String,
    pub name: String,
    /// The group a tool stands in (`namespace` of Responses).
    pub namespace: Option<String>,
    pub kind: ToolKind,
    /// JSON text for a function, free text for a custom tool; not parsed, and maybe not well-formed.
    pub arguments: Arguments,
    /// Gemini signs calls.
    pub signature: Option<Signature>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ToolKind {
    /// Takes a JSON object.
    #[default]
    Function,
    /// Takes free text.
    Custom,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolResult {
    /// The call's id.
    pub id: String,
    /// The tool's name, where the dialect says it.
    pub name: Option<String>,
    pub blocks: Vec<Block>,
    pub is_error: bool,
}

/// A tool the model may call.
#[derive(Clone, Debug)]
pub struct Tool {
    pub name: String,
    pub namespace: Option<String>,
    pub description: Option<String>,
    pub kind: ToolKind,
    /// A JSON Schema; none for a custom tool, or a function without parameters.
    pub schema: Option<Json>,
    pub strict: Option<bool>,
    /// What a custom tool's text must look like: a grammar in `OpenAI`'s `format` object.
    pub grammar: Option<Json>,
    pub cache: Option<CacheMark>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice {
    Auto,
    None,
    /// At least one call.
    Required,
    /// This one.
    Named(String),
    /// Only these may be called; `required`: one must be.
    Among {
        names: Vec<String>,
        required: bool,
    },
}

impl ToolChoice {
    /// The names of those that may be called, where not all may.
    pub fn among(&self) -> Option<HashSet<&str>> {
        match self {
            Self::Among { names, .. } => Some(names.iter().map(String::as_str).collect()),
            _ => None,
        }
    }
}

/// What the answer's text must be.
#[derive(Clone, Debug, Default)]
pub enum Format {
    #[default]
    Text,
    /// Any JSON object.
    JsonObject,
    JsonSchema(Schema),
}

#[derive(Clone, Debug)]
pub struct Schema {
    pub name: String,
    pub description: Option<String>,
    /// A JSON Schema.
    pub schema: Json,
    pub strict: Option<bool>,
}

impl Block {
    /// Text without annotations.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), annotations: Vec::new() }
    }
}
