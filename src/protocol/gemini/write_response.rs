//! A whole answer, written for a client of Google's.

use serde::Serialize;
use serde_json::value::RawValue;

use super::finish::reason;
use super::grounding::{GroundingMetadata, Support, support};
use super::offsets::Offsets;
use super::signature;
use super::usage::UsageMetadata;
use super::wire::{Content, FunctionCall, Part};
use crate::protocol::canonical::{
    Block, Image, Response, Signature, Source, Told, ToolUse, object_or_wrapped,
};

/// `GenerateContentResponse`, as it is written: an answer, or a piece of a streamed one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Written<'a> {
    pub candidates: [Candidate<'a>; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage_metadata: Option<UsageMetadata>,
    pub model_version: &'a str,
    pub response_id: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate<'a> {
    pub content: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<&'static str>,
    pub index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grounding_metadata: Option<GroundingMetadata<'a>>,
}

pub fn write_response(response: &Response, told: &Told) -> Vec<u8> {
    let parts = response.blocks.iter().filter_map(part).collect();
    let sources = sources(&response.blocks);
    let answer = Written {
        candidates: [Candidate {
            content: Content { parts, role: Some("model") },
            finish_reason: Some(reason(&response.stop)),
            index: 0,
            grounding_metadata: GroundingMetadata::of(&sources),
        }],
        usage_metadata: response.usage.as_ref().map(UsageMetadata::from),
        model_version: either(&told.model, &response.model),
        response_id: either(&response.id, &told.id),
    };
    serde_json::to_vec(&answer).unwrap_or_default()
}

/// The first that says something.
pub fn either<'a>(one: &'a str, other: &'a str) -> &'a str {
    if one.is_empty() { other } else { one }
}

fn part(block: &Block) -> Option<Part<'_>> {
    Some(match block {
        Block::Text { text, .. } | Block::Refusal(text) => Part::text(text),
        Block::Thinking { text, signature } => Part {
            thought: true,
            thought_signature: signature.as_ref().map(signature::write),
            ..Part::text(text)
        },
        Block::RedactedThinking(signature) => Part::redacted(signature),
        Block::ToolUse(call) => Part {
            thought_signature: call.signature.as_ref().map(signature::write),
            ..Part::call(call)
        },
        Block::Image(image) => picture(image)?,
        _ => return None,
    })
}

impl<'a> Part<'a> {
    pub fn redacted(signature: &'a Signature) -> Self {
        let thought_signature = Some(signature::write_redacted(signature));
        Self { thought: true, thought_signature, ..Self::text("") }
    }

    /// A call, without its signature.
    pub fn call(call: &'a ToolUse) -> Self {
        let id = (!call.id.is_empty()).then_some(call.id.as_str());
        let args = on_one_line(object_or_wrapped(&call.arguments));
        let function_call = Some(FunctionCall { id, name: &call.name, args });
        Self { function_call, ..Self::default() }
    }
}

/// Line ends between tokens would end the line of an event. (Within strings there are none.)
fn on_one_line(args: Box<RawValue>) -> Box<RawValue> {
    if !args.get().contains(['\n', '\r']) {
        return args;
    }
    RawValue::from_string(args.get().replace(['\n', '\r'], " ")).unwrap_or(args)
}

/// A picture that a model made.
pub fn picture(image: &Image) -> Option<Part<'_>> {
    let kind = image.media_type.as_deref().unwrap_or("image/png");
    match &image.source {
        Source::Base64(data) => Some(Part::inline(kind, data)),
        Source::Url(url) => Some(Part::file(kind, url)),
        Source::File(_) | Source::Text(_) => None,
    }
}

fn sources(blocks: &[Block]) -> Vec<Support> {
    let mut sources = Vec::new();
    let mut base = 0;
    for block in blocks {
        let (Block::Text { text, .. } | Block::Refusal(text)) = block else { continue };
        if let Block::Text { annotations, .. } = block
            && !annotations.is_empty()
        {
            let mut offsets = Offsets::default();
            offsets.push(text);
            sources.extend(annotations.iter().map(|it| support(it, base, &offsets)));
        }
        base += text.len() as u64;
    }
    sources
}
