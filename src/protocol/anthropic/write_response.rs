//! Whole answers, as Anthropic's clients read them.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::signature::{write_call_signature, write_signature};
use super::stop::write_stop;
use super::usage::Written;
use crate::protocol::canonical::{
    Annotation, Block, Image, Response, Source, Stop, Told, object_or_wrapped,
};

/// Writes the body of an answer.
pub fn write_response(response: &Response, told: &Told) -> Vec<u8> {
    let mut content = Vec::with_capacity(response.blocks.len());
    for block in &response.blocks {
        write_block(block, &mut content);
    }
    let filtered = response.stop == Stop::Filtered;
    let refusal: String = response.blocks.iter().filter_map(refusal_of).collect();
    let explanation = Some(refusal.as_str()).filter(|refusal| !refusal.is_empty());
    if let Some(text) = explanation.filter(|_| !filtered) {
        // The model has ended its turn with it.
        content.push(Content::Text { text, citations: None });
    }
    if content.is_empty() && !filtered {
        // Clients look for a first block.
        content.push(Content::Text { text: "", citations: None });
    }
    let calls = response.blocks.iter().any(|block| matches!(block, Block::ToolUse(_)));
    let (stop_reason, stop_sequence) = write_stop(&response.stop, calls);
    let message = Message {
        id: message_id(&response.id, told),
        kind: "message",
        role: "assistant",
        model: &told.model,
        content,
        stop_reason: Some(stop_reason),
        stop_sequence,
        stop_details: filtered.then(|| StopDetails::refused(explanation)),
        usage: Written::new(response.usage.as_ref()),
    };
    serde_json::to_vec(&message).unwrap_or_default()
}

/// The id of an answer: the provider's, as a message's.
pub(super) fn message_id<'a>(id: &'a str, told: &'a Told) -> Cow<'a, str> {
    match id {
        "" => Cow::Owned(format!("msg_{}", told.id)),
        id if id.starts_with("msg_") => Cow::Borrowed(id),
        id => Cow::Owned(format!("msg_{id}")),
    }
}

fn refusal_of(block: &Block) -> Option<&str> {
    match block {
        Block::Refusal(text) => Some(text),
        _ => None,
    }
}

fn write_block<'a>(block: &'a Block, content: &mut Vec<Content<'a>>) {
    match block {
        Block::Text { text, annotations } => {
            let citations: Vec<_> = annotations.iter().map(Citation::new).collect();
            let citations = (!citations.is_empty()).then_some(citations);
            content.push(Content::Text { text, citations });
        }
        Block::Thinking { text, signature } => {
            let signature = write_signature(signature.as_ref());
            content.push(Content::Thinking { thinking: text, signature });
        }
        Block::RedactedThinking(signature) => {
            content.push(Content::RedactedThinking { data: write_signature(Some(signature)) });
        }
        Block::ToolUse(call) => {
            // Before the call: clients cut thoughts off that end a turn.
            if let Some(signature) = &call.signature {
                let data = write_call_signature(&call.id, signature).into();
                content.push(Content::RedactedThinking { data });
            }
            let input = object_or_wrapped(&call.arguments);
            content.push(Content::ToolUse { id: &call.id, name: &call.name, input });
        }
        Block::Image(image) => {
            content.extend(ImageSource::new(image).map(|source| Content::Image { source }));
        }
        _ => {}
    }
}

/// An answer, or how a streamed one begins.
#[derive(Debug, Serialize)]
pub(super) struct Message<'a> {
    pub id: Cow<'a, str>,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub role: &'static str,
    pub model: &'a str,
    pub content: Vec<Content<'a>>,
    pub stop_reason: Option<&'static str>,
    pub stop_sequence: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_details: Option<StopDetails<'a>>,
    pub usage: Written,
}

/// Beside the stop reason `refusal`.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct StopDetails<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    category: Option<&'static str>,
    explanation: Option<&'a str>,
}

impl<'a> StopDetails<'a> {
    pub fn refused(explanation: Option<&'a str>) -> Self {
        Self { kind: "refusal", category: None, explanation }
    }
}

/// A block, or how it begins.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Content<'a> {
    Text {
        text: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        citations: Option<Vec<Citation<'a>>>,
    },
    Thinking {
        thinking: &'a str,
        signature: Cow<'a, str>,
    },
    RedactedThinking {
        data: Cow<'a, str>,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: Box<RawValue>,
    },
    /// Anthropic's own answers have no images; this is how its requests have them.
    Image {
        source: ImageSource<'a>,
    },
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ImageSource<'a> {
    Base64 { media_type: &'a str, data: &'a str },
    Url { url: &'a str },
}

impl<'a> ImageSource<'a> {
    pub fn new(image: &'a Image) -> Option<Self> {
        match &image.source {
            Source::Base64(data) => {
                let media_type = image.media_type.as_deref().unwrap_or("image/png");
                Some(Self::Base64 { media_type, data })
            }
            Source::Url(url) => Some(Self::Url { url }),
            Source::File(_) | Source::Text(_) => None,
        }
    }
}

/// Where a block's text comes from. `encrypted_index` is what only Anthropic could say.
#[derive(Debug, Serialize)]
pub(super) struct Citation<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    url: &'a str,
    title: Option<&'a str>,
    cited_text: &'static str,
    encrypted_index: &'static str,
}

impl<'a> Citation<'a> {
    pub fn new(annotation: &'a Annotation) -> Self {
        Self {
            kind: "web_search_result_location",
            url: &annotation.url,
            title: annotation.title.as_deref(),
            cited_text: "",
            encrypted_index: "",
        }
    }
}
