//! A chunk of our own, for text that was held back when the stream ended without a finish reason.

use super::voice::{Kind, Voice};
use crate::config::{ResponseEdits, Thinking};
use crate::protocol::json::scan;
use crate::protocol::json::text::quote;
use bytes::Bytes;

/// The event that says what `voice` held back; `None` when that is nothing.
///
/// `template` is an earlier chunk of the stream: clients expect the same id, model and time in all.
pub fn chunk(
    template: Option<&[u8]>,
    index: u64,
    voice: &mut Voice,
    edits: &ResponseEdits,
) -> Option<Bytes> {
    let said = voice.flush(edits);
    let mut members = Vec::new();
    if !said.content.is_empty() {
        members.push(format!("\"content\":{}", quote(&said.content)));
    }
    if !said.reasoning.is_empty() {
        let name = match edits.thinking {
            Thinking::ReasoningContent => "reasoning_content",
            _ => "reasoning",
        };
        members.push(format!("\"{name}\":{}", quote(&said.reasoning)));
    }
    if members.is_empty() {
        return None;
    }
    let text = match voice.kind {
        Kind::Message => format!("\"delta\":{{{}}}", members.join(",")),
        Kind::Text => format!("\"text\":{}", quote(&said.content)),
    };
    let head = head(template.unwrap_or_default());
    let choice = format!("{{\"index\":{index},{text},\"logprobs\":null,\"finish_reason\":null}}");
    Some(format!("data: {{{head}\"choices\":[{choice}]}}\n\n").into())
}

/// The members that all chunks of a stream share, as the upstream wrote them, a comma behind each.
fn head(template: &[u8]) -> String {
    let Ok(members) = scan(template) else { return String::new() };
    let shared = ["id", "object", "created", "model"];
    let member = |name| {
        let raw = std::str::from_utf8(members.raw(template, name)?).ok()?;
        Some(format!("\"{name}\":{raw},"))
    };
    shared.into_iter().filter_map(member).collect()
}
