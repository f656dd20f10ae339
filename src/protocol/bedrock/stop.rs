//! Why an answer ends, in Converse's words.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::protocol::canonical::Stop;

/// `additionalModelResponseFields`: what was asked for by `additionalModelResponseFieldPaths`. Claude
/// tells there which of the strings it stopped at.
#[derive(Deserialize, Serialize)]
pub struct ResponseFields {
    stop_sequence: String,
}

/// Why an answer ended that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    As(Stop),
    /// The model wrote what the service could not make sense of.
    Malformed,
}

impl Ended {
    /// `calls`: tools are called in the answer. Some models say `end_turn` all the same.
    pub fn read(reason: &str, fields: Option<&RawValue>, calls: bool) -> Self {
        Self::As(match reason {
            "tool_use" => Stop::ToolUse,
            "max_tokens" | "model_context_window_exceeded" => Stop::MaxTokens,
            "stop_sequence" => {
                let fields = fields.and_then(|it| serde_json::from_str(it.get()).ok());
                Stop::Sequence(fields.map(|fields: ResponseFields| fields.stop_sequence))
            }
            "guardrail_intervened" | "content_filtered" | "refusal" => Stop::Filtered,
            "malformed_model_output" | "malformed_tool_use" => return Self::Malformed,
            _ if calls => Stop::ToolUse,
            _ => Stop::EndTurn,
        })
    }
}

/// `stopReason`, and the string that was stopped at.
pub fn write(stop: &Stop) -> (&'static str, Option<ResponseFields>) {
    match stop {
        Stop::EndTurn => ("end_turn", None),
        Stop::ToolUse => ("tool_use", None),
        Stop::MaxTokens => ("max_tokens", None),
        Stop::Filtered => ("content_filtered", None),
        Stop::Sequence(sequence) => {
            let fields = sequence.clone().map(|stop_sequence| ResponseFields { stop_sequence });
            ("stop_sequence", fields)
        }
    }
}
