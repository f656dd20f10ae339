//! Whole answers, as Anthropic and the servers like it write them.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::signature::{Signed, read_signature};
use super::stop::read_stop;
use super::usage;
use crate::protocol::canonical::{
    Annotation, Block, Response, Signature, Stop, ToolKind, ToolUse, Unreadable,
};
use crate::protocol::json;

/// Reads the body of an answer.
pub fn read_response(body: &[u8]) -> Result<Response, Unreadable> {
    let message: Message = json::read(body).map_err(|error| Unreadable(error.to_string()))?;
    if message.kind != "message" {
        return Err(Unreadable("it is no message".to_owned()));
    }
    let mut blocks = Vec::with_capacity(message.content.len());
    for content in &message.content {
        let content = Content::read(content).map_err(|error| Unreadable(error.to_string()))?;
        blocks.extend(content.and_then(Content::into_block));
    }
    blocks.extend(message.stop_details.and_then(StopDetails::into_explanation).map(Block::Refusal));
    let stop = read_stop(message.stop_reason.as_deref().unwrap_or_default(), message.stop_sequence);
    Ok(Response {
        id: message.id.unwrap_or_default(),
        model: message.model.unwrap_or_default(),
        created: None,
        stop: if message.stop_reason.is_none() { stop_of(&blocks) } else { stop },
        blocks,
        usage: message.usage.map(|usage| usage.inclusive()),
    })
}

/// An answer that does not say why it ends.
fn stop_of(blocks: &[Block]) -> Stop {
    let calls = blocks.iter().any(|block| matches!(block, Block::ToolUse(_)));
    if calls { Stop::ToolUse } else { Stop::EndTurn }
}

/// A whole answer, or the beginning of a streamed one.
#[derive(Debug, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Cow<'a, str>,
    pub id: Option<String>,
    pub model: Option<String>,
    #[serde(borrow, default)]
    pub content: Vec<&'a RawValue>,
    pub stop_reason: Option<String>,
    pub stop_sequence: Option<String>,
    stop_details: Option<StopDetails>,
    pub usage: Option<usage::Told>,
}

/// Why the model refuses to go on.
#[derive(Debug, Deserialize)]
pub(super) struct StopDetails {
    explanation: Option<String>,
}

impl StopDetails {
    pub fn into_explanation(self) -> Option<String> {
        self.explanation.filter(|explanation| !explanation.is_empty())
    }
}

/// A block of an answer: whole, or how it begins.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Content<'a> {
    #[serde(rename = "type", borrow, default)]
    pub kind: Cow<'a, str>,
    pub text: Option<String>,
    #[serde(borrow)]
    pub citations: Option<Vec<&'a RawValue>>,
    pub thinking: Option<String>,
    pub signature: Option<String>,
    pub data: Option<String>,
    pub id: Option<String>,
    pub name: Option<String>,
    #[serde(borrow)]
    pub input: Option<&'a RawValue>,
}

impl<'a> Content<'a> {
    /// Reads a block; `None` for one that means nothing to others, such as a search on Anthropic's side.
    pub fn read(json: &'a RawValue) -> serde_json::Result<Option<Self>> {
        #[derive(Deserialize)]
        struct Kind<'a> {
            #[serde(rename = "type", borrow, default)]
            kind: Cow<'a, str>,
        }
        let Kind { kind } = serde_json::from_str(json.get())?;
        let known = matches!(&*kind, "text" | "thinking" | "redacted_thinking" | "tool_use");
        if known { serde_json::from_str(json.get()).map(Some) } else { Ok(None) }
    }

    fn into_block(self) -> Option<Block> {
        match &*self.kind {
            "text" => {
                let text = self.text.unwrap_or_default();
                let end = text.chars().count() as u64;
                let citations = self.citations.unwrap_or_default();
                let annotations =
                    citations.iter().filter_map(|citation| read_citation(citation.get(), end));
                Some(Block::Text { annotations: annotations.collect(), text })
            }
            "thinking" => {
                let text = self.thinking.unwrap_or_default();
                let signature = self.signature.and_then(thinking_signature);
                Some(Block::Thinking { text, signature })
            }
            "redacted_thinking" => thinking_signature(self.data?).map(Block::RedactedThinking),
            "tool_use" => Some(Block::ToolUse(ToolUse {
                id: self.id.unwrap_or_default(),
                name: self.name.unwrap_or_default(),
                namespace: None,
                kind: ToolKind::Function,
                arguments: self.input.map_or("{}", RawValue::get).to_owned(),
                signature: None,
            })),
            _ => None,
        }
    }
}

/// What thinking is signed with.
pub(super) fn thinking_signature(data: String) -> Option<Signature> {
    match read_signature(data) {
        Signed::Thinking(signature) => Some(signature),
        Signed::Call(..) | Signed::Nothing => None,
    }
}

/// A citation of something on the web. It is about the whole of its block, which has `end` characters.
pub(super) fn read_citation(json: &str, end: u64) -> Option<Annotation> {
    #[derive(Deserialize)]
    struct Citation {
        r#type: String,
        url: Option<String>,
        source: Option<String>,
        title: Option<String>,
    }
    let Citation { r#type, url, source, title } = serde_json::from_str(json).ok()?;
    let url = match r#type.as_str() {
        "web_search_result_location" => url?,
        "search_result_location" => source.filter(|source| source.starts_with("http"))?,
        _ => return None,
    };
    Some(Annotation { url, title, start: 0, end })
}
