//! Blocks of content as Converse has them, to be written.
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ContentBlock.html>

use serde::Serialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

use super::{media, signature};
use crate::protocol::canonical::Source as From;
use crate::protocol::canonical::{Block, CacheMark, Image, Signature, ToolUse, object_or_wrapped};

/// One block: an object with one member, which says what it is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Content<'a> {
    Text(&'a str),
    Image(Media<'a>),
    Audio(Media<'a>),
    Video(Media<'a>),
    Document(Document<'a>),
    ToolUse(Call<'a>),
    ToolResult(CallResult<'a>),
    #[serde(rename = "reasoningContent")]
    Reasoning(Reasoning<'a>),
    CachePoint(CachePoint),
}

#[derive(Serialize)]
pub struct Media<'a> {
    pub format: &'static str,
    pub source: Source<'a>,
}

#[derive(Serialize)]
pub struct Document<'a> {
    pub format: &'static str,
    pub name: String,
    pub source: Source<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Source<'a> {
    /// In base64.
    Bytes(&'a str),
    Text(&'a str),
    S3Location {
        uri: &'a str,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Call<'a> {
    tool_use_id: &'a str,
    name: &'a str,
    input: Box<RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallResult<'a> {
    pub tool_use_id: &'a str,
    pub content: Vec<Content<'a>>,
    pub status: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Reasoning<'a> {
    ReasoningText {
        text: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        signature: Option<Cow<'a, str>>,
    },
    RedactedContent(Cow<'a, str>),
}

#[derive(Clone, Copy, Serialize)]
pub struct CachePoint {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'static str>,
}

impl CachePoint {
    /// `an_hour`: the model knows more than its default.
    pub fn of(mark: CacheMark, an_hour: bool) -> Self {
        Self { kind: "default", ttl: (mark == CacheMark::Long && an_hour).then_some("1h") }
    }
}

impl<'a> Content<'a> {
    pub fn call(call: &'a ToolUse) -> Self {
        let input = object_or_wrapped(&call.arguments);
        Self::ToolUse(Call { tool_use_id: &call.id, name: &call.name, input })
    }

    pub fn thinking(text: &'a str, signed: Option<&'a Signature>) -> Self {
        let signature = signed.map(signature::write);
        Self::Reasoning(Reasoning::ReasoningText { text, signature })
    }

    pub fn redacted(signature: &'a Signature) -> Self {
        let redacted = signature::write_redacted(signature);
        Self::Reasoning(Reasoning::RedactedContent(redacted))
    }

    /// The signature of a call, which stands in a block of its own before it.
    pub fn call_signature(block: &'a Block) -> Option<Self> {
        let Block::ToolUse(ToolUse { id, signature: Some(signature), .. }) = block else {
            return None;
        };
        let redacted = Cow::Owned(signature::write_call(id, signature));
        Some(Self::Reasoning(Reasoning::RedactedContent(redacted)))
    }

    /// An image of an answer; `None` for one that Converse has no form for.
    pub fn image(image: &'a Image) -> Option<Self> {
        let From::Base64(bytes) = &image.source else { return None };
        let media_type = image.media_type.as_deref().or_else(|| media::sniff(bytes))?;
        let format = media::format(media::IMAGES, media_type)?;
        Some(Self::Image(Media { format, source: Source::Bytes(bytes) }))
    }

    /// A block of an answer; `None` for what has no form here, and for text that says nothing.
    pub fn of_answer(block: &'a Block) -> Option<Self> {
        match block {
            Block::Text { text, .. } | Block::Refusal(text) => {
                (!text.is_empty()).then_some(Self::Text(text))
            }
            Block::Thinking { text, signature } => {
                let says = !text.is_empty() || signature.is_some();
                says.then(|| Self::thinking(text, signature.as_ref()))
            }
            Block::RedactedThinking(signature) => Some(Self::redacted(signature)),
            Block::ToolUse(call) => Some(Self::call(call)),
            Block::Image(image) => Self::image(image),
            _ => None,
        }
    }
}
