//! Writes a whole answer.

use serde::Serialize;

use super::told::{self, answer_id, finish_reason, stop_reason};
use super::told::{ToldCall, ToldDetail, ToldExtra, ToldNote, ToldPicture};
use super::usage::ToldUsage;
use crate::protocol::canonical::{Block, Response, Told, ToolKind, ToolUse};

#[derive(Serialize)]
struct Completion<'a> {
    id: String,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: [Choice<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<ToldUsage>,
}

#[derive(Serialize)]
struct Choice<'a> {
    index: u32,
    message: Message<'a>,
    logprobs: Option<()>,
    finish_reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_reason: Option<&'a str>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Option<String>,
    refusal: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reasoning_content: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reasoning: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasoning_details: Vec<ToldDetail<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    annotations: Vec<ToldNote<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<ToldPicture>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToldCall<'a>>,
}

/// The body of a `chat.completion`. Where text, reasoning and calls took turns, that order is lost:
/// the form has one place for each.
pub fn write_response(response: &Response, told: &Told) -> Vec<u8> {
    let reasoning: String = response.blocks.iter().filter_map(thinking).collect();
    let message = message(&response.blocks, &reasoning);
    let finish_reason = finish_reason(&response.stop, !message.tool_calls.is_empty());
    let completion = Completion {
        id: answer_id(&response.id, &told.id),
        object: "chat.completion",
        created: response.created.unwrap_or(told.created),
        model: &told.model,
        choices: [Choice {
            index: 0,
            message,
            logprobs: None,
            finish_reason,
            stop_reason: stop_reason(&response.stop),
        }],
        usage: response.usage.as_ref().map(ToldUsage::of),
    };
    serde_json::to_vec(&completion).unwrap_or_default()
}

fn thinking(block: &Block) -> Option<&str> {
    match block {
        Block::Thinking { text, .. } => Some(text),
        _ => None,
    }
}

fn message<'a>(blocks: &'a [Block], reasoning: &'a str) -> Message<'a> {
    let mut message = Message {
        role: "assistant",
        content: None,
        refusal: None,
        reasoning_content: reasoning,
        reasoning,
        reasoning_details: Vec::new(),
        annotations: Vec::new(),
        images: Vec::new(),
        tool_calls: Vec::new(),
    };
    let mut characters = 0;
    for block in blocks {
        let detail = message.reasoning_details.len();
        match block {
            Block::Text { text, annotations } => {
                let notes = annotations.iter().map(|it| ToldNote::of(it, characters));
                message.annotations.extend(notes);
                message.content.get_or_insert_default().push_str(text);
                characters += told::characters(text);
            }
            Block::Thinking { text, signature } => {
                let detail = ToldDetail::text(Some(text), signature.as_ref(), detail);
                message.reasoning_details.push(detail);
            }
            Block::RedactedThinking(signature) => {
                message.reasoning_details.push(ToldDetail::encrypted(signature, detail));
            }
            Block::Refusal(text) => message.refusal.get_or_insert_default().push_str(text),
            Block::ToolUse(it) => message.tool_calls.push(call(it)),
            Block::Image(image) => message.images.extend(ToldPicture::of(image)),
            // No answer has these.
            Block::Audio(_)
            | Block::Video(_)
            | Block::Document(_)
            | Block::ToolResult(_)
            | Block::Cache(_) => {}
        }
    }
    // Without text the content is null, and that only where something else is there.
    if message.content.is_none() && message.refusal.is_none() && message.tool_calls.is_empty() {
        message.content = Some(String::new());
    }
    message
}

pub(super) fn call(call: &ToolUse) -> ToldCall<'_> {
    let is_empty = call.arguments.trim().is_empty() && call.kind == ToolKind::Function;
    let arguments = if is_empty { "{}" } else { &call.arguments };
    ToldCall {
        extra_content: call.signature.as_ref().and_then(ToldExtra::of),
        ..ToldCall::head(&call.id, &call.name, call.kind, arguments)
    }
}
