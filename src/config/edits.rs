//! The `request` and `response` sections of a model: what is changed on purpose on the way through.

use serde_json::{Map, Value as Json};

use super::read::Value;

/// What is changed in a request on its way to the upstream.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RequestEdits {
    /// Caps what the client asks for, or stands in when it asks for nothing.
    pub max_tokens: Option<u64>,
    /// Stop sequences put before the client's own.
    pub stop: Vec<String>,
    /// Members added where the client did not set them.
    pub extra_body: Map<String, Json>,
    /// What becomes of `<think>…</think>` in earlier assistant turns.
    pub thinking_history: ThinkingHistory,
}

/// What becomes of the thinking in earlier assistant turns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ThinkingHistory {
    /// It is passed on.
    #[default]
    Keep,
    /// It is taken out.
    Strip,
}

/// What is changed in a response on its way to the client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseEdits {
    /// Put before the first content that is not empty, streamed or not.
    pub prefix: Option<String>,
    /// How thinking is shown.
    pub thinking: Thinking,
}

/// How a response shows thinking.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Thinking {
    /// As the upstream sends it.
    #[default]
    Passthrough,
    /// Not at all.
    Strip,
    /// In the content, between `<think>` and `</think>`.
    Tag,
    /// In the member `reasoning`.
    Reasoning,
    /// In the member `reasoning_content`.
    ReasoningContent,
}

// === impl RequestEdits ===

impl RequestEdits {
    pub(super) fn read(value: Value) -> Option<Self> {
        value.section(|s| Self {
            max_tokens: s.read("max_tokens", |v| v.number(1, u64::from(u32::MAX))),
            stop: s.read("stop", |v| v.one_or_many(Value::some_text)).unwrap_or_default(),
            extra_body: s.read("extra_body", Value::json_object).unwrap_or_default(),
            thinking_history: s.read("thinking_history", ThinkingHistory::read).unwrap_or_default(),
        })
    }
}

// === impl ThinkingHistory ===

impl ThinkingHistory {
    fn read(value: Value) -> Option<Self> {
        value.one_of(&[("keep", Self::Keep), ("strip", Self::Strip)])
    }
}

// === impl ResponseEdits ===

impl ResponseEdits {
    pub(super) fn read(value: Value) -> Option<Self> {
        value.section(|s| Self {
            prefix: s.read("prefix", Value::some_text),
            thinking: s.read("thinking", Thinking::read).unwrap_or_default(),
        })
    }
}

// === impl Thinking ===

impl Thinking {
    fn read(value: Value) -> Option<Self> {
        value.one_of(&[
            ("passthrough", Self::Passthrough),
            ("strip", Self::Strip),
            ("tag", Self::Tag),
            ("reasoning", Self::Reasoning),
            ("reasoning_content", Self::ReasoningContent),
        ])
    }
}
