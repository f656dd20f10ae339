//! Why an answer ends, in Anthropic's words.

use crate::protocol::canonical::Stop;

pub fn read_stop(reason: &str, sequence: Option<String>) -> Stop {
    match reason {
        "stop_sequence" => Stop::Sequence(sequence),
        "tool_use" => Stop::ToolUse,
        "refusal" => Stop::Filtered,
        // What is paused or compacted would go on if it were sent back, which no other dialect knows.
        "max_tokens" | "model_context_window_exceeded" | "pause_turn" | "compaction" => {
            Stop::MaxTokens
        }
        _ => Stop::EndTurn,
    }
}

/// The reason and the sequence. `calls`: the answer has calls of tools, whatever its provider says.
pub fn write_stop(stop: &Stop, calls: bool) -> (&'static str, Option<&str>) {
    match stop {
        Stop::EndTurn | Stop::ToolUse if calls => ("tool_use", None),
        Stop::EndTurn | Stop::ToolUse => ("end_turn", None),
        Stop::Sequence(sequence) => ("stop_sequence", sequence.as_deref()),
        Stop::MaxTokens => ("max_tokens", None),
        Stop::Filtered => ("refusal", None),
    }
}
