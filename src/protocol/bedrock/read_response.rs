//! Whole answers of Converse.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::citation::Citation;
use super::signature::Redacted;
use super::stop::Ended;
use super::usage::Counts;
use super::{media, signature};
use crate::protocol::canonical::Unreadable;
use crate::protocol::canonical::{Block, Image, Response, Source, Stop, ToolKind, ToolUse};
use crate::protocol::json;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    #[serde(borrow)]
    output: Output<'a>,
    stop_reason: Option<String>,
    usage: Option<Counts>,
    #[serde(borrow)]
    additional_model_response_fields: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow)]
    message: Message<'a>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Option<Vec<Piece<'a>>>,
}

/// A block: one of these.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Piece<'a> {
    text: Option<String>,
    #[serde(borrow)]
    tool_use: Option<Call<'a>>,
    reasoning_content: Option<Reasoning>,
    citations_content: Option<Cited>,
    image: Option<Picture>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Call<'a> {
    tool_use_id: String,
    name: String,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    /// Tools of the service's own have one.
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reasoning {
    reasoning_text: Option<ReasoningText>,
    redacted_content: Option<String>,
}

#[derive(Deserialize)]
struct ReasoningText {
    #[serde(default)]
    text: String,
    signature: Option<String>,
}

#[derive(Deserialize)]
struct Cited {
    #[serde(default)]
    content: Vec<CitedText>,
    #[serde(default)]
    citations: Vec<Citation>,
}

#[derive(Deserialize)]
struct CitedText {
    text: Option<String>,
}

#[derive(Deserialize)]
pub struct Picture {
    format: String,
    source: PictureSource,
}

#[derive(Deserialize)]
struct PictureSource {
    bytes: Option<String>,
}

/// Reads the body of an answer. Its id stands in the header `x-amzn-requestid`.
pub fn read_response(body: &[u8]) -> Result<Response, Unreadable> {
    let answer: Answer = json::read(body).map_err(|it| Unreadable(it.to_string()))?;
    let content = answer.output.message.content.unwrap_or_default();
    let blocks: Vec<Block> = content.into_iter().filter_map(block).collect();
    let calls = blocks.iter().any(|block| matches!(block, Block::ToolUse(_)));
    let reason = answer.stop_reason.unwrap_or_default();
    let stop = match Ended::read(&reason, answer.additional_model_response_fields, calls) {
        Ended::As(stop) => stop,
        Ended::Malformed if blocks.is_empty() => {
            return Err(Unreadable(format!("it ends as {reason:?} and says nothing")));
        }
        Ended::Malformed => Stop::EndTurn,
    };
    let usage = answer.usage.map(Counts::read);
    Ok(Response { blocks, stop, usage, ..Response::default() })
}

/// `None` for what has no counterpart, and for text that says nothing.
fn block(content: Piece) -> Option<Block> {
    if let Some(text) = content.text {
        return (!text.is_empty()).then(|| Block::text(text));
    }
    if let Some(Call { tool_use_id, name, input, kind: None }) = content.tool_use {
        let input = input.map(RawValue::get).filter(|input| *input != "null");
        return Some(Block::ToolUse(ToolUse {
            id: tool_use_id,
            name,
            namespace: None,
            kind: ToolKind::Function,
            arguments: input.unwrap_or("{}").to_owned(),
            signature: None,
        }));
    }
    if let Some(reasoning) = content.reasoning_content {
        return reasoning.read();
    }
    if let Some(Cited { content, citations }) = content.citations_content {
        let text: String = content.into_iter().filter_map(|it| it.text).collect();
        let length = text.chars().count() as u64;
        let annotations = citations.into_iter().filter_map(|it| it.read(length)).collect();
        return (!text.is_empty()).then_some(Block::Text { text, annotations });
    }
    content.image?.read().map(Block::Image)
}

impl Reasoning {
    fn read(self) -> Option<Block> {
        if let Some(redacted) = self.redacted_content {
            return match signature::read_redacted(redacted) {
                Redacted::Thinking(signature) => Some(Block::RedactedThinking(signature)),
                // Only clients are told such.
                Redacted::Call(..) | Redacted::Damaged => None,
            };
        }
        let ReasoningText { text, signature } = self.reasoning_text?;
        let signature = signature.filter(|it| !it.is_empty()).and_then(signature::read);
        let says = !text.is_empty() || signature.is_some();
        says.then_some(Block::Thinking { text, signature })
    }
}

impl Picture {
    fn read(self) -> Option<Image> {
        let source = Source::Base64(self.source.bytes?);
        let media_type = media::media_type(media::IMAGES, &self.format).map(str::to_owned);
        Some(Image { source, media_type, detail: None })
    }
}
