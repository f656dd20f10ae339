//! Why an answer ends, in Google's words.

use crate::protocol::canonical::Stop;

/// What a `finishReason` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model was done; with calls of tools, or without.
    Done,
    MaxTokens,
    Filtered,
    /// The model wrote what Google could not use. An answer that has something is taken as it is,
    /// one without anything is a failure.
    Broken,
}

impl Finish {
    pub fn read(reason: &str) -> Self {
        match reason {
            "MAX_TOKENS" | "CONTINUATION" => Self::MaxTokens,
            "SAFETY"
            | "RECITATION"
            | "LANGUAGE"
            | "BLOCKLIST"
            | "PROHIBITED_CONTENT"
            | "SPII"
            | "IMAGE_SAFETY"
            | "IMAGE_PROHIBITED_CONTENT"
            | "IMAGE_RECITATION"
            | "MODEL_ARMOR" => Self::Filtered,
            "OTHER"
            | "MALFORMED_FUNCTION_CALL"
            | "MALFORMED_RESPONSE"
            | "UNEXPECTED_TOOL_CALL"
            | "TOO_MANY_TOOL_CALLS"
            | "MISSING_THOUGHT_SIGNATURE"
            | "NO_IMAGE"
            | "IMAGE_OTHER" => Self::Broken,
            // `STOP`, and what Google may yet add.
            _ => Self::Done,
        }
    }

    /// Google says `STOP` whether or not tools are to be called.
    pub fn stop(self, called: bool) -> Stop {
        match self {
            Self::MaxTokens => Stop::MaxTokens,
            Self::Filtered => Stop::Filtered,
            Self::Done | Self::Broken if called => Stop::ToolUse,
            Self::Done | Self::Broken => Stop::EndTurn,
        }
    }
}

pub fn reason(stop: &Stop) -> &'static str {
    match stop {
        Stop::EndTurn | Stop::Sequence(_) | Stop::ToolUse => "STOP",
        Stop::MaxTokens => "MAX_TOKENS",
        Stop::Filtered => "SAFETY",
    }
}
