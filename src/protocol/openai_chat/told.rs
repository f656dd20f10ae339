//! An answer as it is told to clients: what messages and their pieces have.

use serde::Serialize;

use super::details::format_of;
use crate::config::Dialect;
use crate::protocol::canonical::{Annotation, Image, Signature, Source, Stop, ToolKind};

/// `chatcmpl-…`, which some clients look for.
pub(super) fn answer_id(given: &str, stand_in: &str) -> String {
    let id = if given.is_empty() { stand_in } else { given };
    if id.starts_with("chatcmpl-") { id.to_owned() } else { format!("chatcmpl-{id}") }
}

/// How many characters (Unicode scalar values) a text has; citations count them.
pub(super) fn characters(text: &str) -> u64 {
    u64::try_from(text.chars().count()).unwrap_or(u64::MAX)
}

/// `calls`: the answer has calls of tools, which clients make only where they are told of them.
pub(super) fn finish_reason(stop: &Stop, calls: bool) -> &'static str {
    match stop {
        Stop::EndTurn | Stop::Sequence(_) if calls => "tool_calls",
        Stop::EndTurn | Stop::Sequence(_) => "stop",
        Stop::MaxTokens => "length",
        Stop::ToolUse => "tool_calls",
        Stop::Filtered => "content_filter",
    }
}

/// The string that ended the answer, in vLLM's member for it.
pub(super) fn stop_reason(stop: &Stop) -> Option<&str> {
    match stop {
        Stop::Sequence(sequence) => sequence.as_deref(),
        _ => None,
    }
}

/// What a piece of an answer has. There is no member of `OpenAI`'s for reasoning: its words go by both
/// names that servers use, and with their signatures by `OpenRouter`'s.
#[derive(Default, Serialize)]
pub(super) struct Piece<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_details: Option<[ToldDetail<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<[ToldCall<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<[ToldNote<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<[ToldPicture; 1]>,
}

/// One of `reasoning_details`; those of one block have one index.
#[derive(Serialize)]
pub(super) struct ToldDetail<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<&'static str>,
    index: usize,
}

impl<'a> ToldDetail<'a> {
    /// Words, or more of them, or their signature, or both.
    pub fn text(text: Option<&'a str>, signature: Option<&'a Signature>, index: usize) -> Self {
        Self {
            kind: "reasoning.text",
            text,
            data: None,
            signature: signature.map(|signature| signature.data.as_str()),
            format: signature.and_then(|signature| format_of(signature.dialect)),
            index,
        }
    }

    pub fn encrypted(signature: &'a Signature, index: usize) -> Self {
        Self {
            kind: "reasoning.encrypted",
            text: None,
            data: Some(&signature.data),
            signature: None,
            format: format_of(signature.dialect),
            index,
        }
    }
}

/// A call, or more of one.
#[derive(Default, Serialize)]
pub(super) struct ToldCall<'a> {
    /// Only in streams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<ToldFunction<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom: Option<ToldCustom<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra_content: Option<ToldExtra<'a>>,
}

#[derive(Serialize)]
pub(super) struct ToldFunction<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    pub arguments: &'a str,
}

#[derive(Serialize)]
pub(super) struct ToldCustom<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'a str>,
    pub input: &'a str,
}

#[derive(Serialize)]
pub(super) struct ToldExtra<'a> {
    google: ToldGoogle<'a>,
}

#[derive(Serialize)]
struct ToldGoogle<'a> {
    thought_signature: &'a str,
}

impl<'a> ToldCall<'a> {
    /// The beginning of a call with this much of its arguments.
    pub fn head(id: &'a str, name: &'a str, kind: ToolKind, arguments: &'a str) -> Self {
        let call = Self::more(kind, arguments, Some(name));
        let kind = match kind {
            ToolKind::Function => "function",
            ToolKind::Custom => "custom",
        };
        Self { id: Some(id), kind: Some(kind), ..call }
    }

    /// More of its arguments.
    pub fn more(kind: ToolKind, arguments: &'a str, name: Option<&'a str>) -> Self {
        match kind {
            ToolKind::Function => {
                Self { function: Some(ToldFunction { name, arguments }), ..Self::default() }
            }
            ToolKind::Custom => {
                Self { custom: Some(ToldCustom { name, input: arguments }), ..Self::default() }
            }
        }
    }
}

impl<'a> ToldExtra<'a> {
    /// Only Google signs calls.
    pub fn of(signature: &'a Signature) -> Option<Self> {
        let is_google = signature.dialect == Dialect::Gemini;
        is_google.then_some(Self { google: ToldGoogle { thought_signature: &signature.data } })
    }
}

#[derive(Serialize)]
pub(super) struct ToldNote<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    url_citation: ToldCitation<'a>,
}

#[derive(Serialize)]
struct ToldCitation<'a> {
    start_index: u64,
    end_index: u64,
    title: &'a str,
    url: &'a str,
}

impl<'a> ToldNote<'a> {
    /// `before`: the characters of all text before the block.
    pub fn of(annotation: &'a Annotation, before: u64) -> Self {
        let url_citation = ToldCitation {
            start_index: annotation.start.saturating_add(before),
            end_index: annotation.end.saturating_add(before),
            title: annotation.title.as_deref().unwrap_or_default(),
            url: &annotation.url,
        };
        Self { kind: "url_citation", url_citation }
    }
}

#[derive(Serialize)]
pub(super) struct ToldPicture {
    #[serde(rename = "type")]
    kind: &'static str,
    image_url: ToldUrl,
}

#[derive(Serialize)]
struct ToldUrl {
    url: String,
}

impl ToldPicture {
    /// `None` where the image lies with the provider and has no URL.
    pub fn of(image: &Image) -> Option<Self> {
        let url = match &image.source {
            Source::Base64(data) => {
                let media_type = image.media_type.as_deref().unwrap_or("image/png");
                format!("data:{media_type};base64,{data}")
            }
            Source::Url(url) => url.clone(),
            Source::File(_) | Source::Text(_) => return None,
        };
        Some(Self { kind: "image_url", image_url: ToldUrl { url } })
    }
}
