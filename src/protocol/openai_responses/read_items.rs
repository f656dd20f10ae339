//! What an answer is made of, as providers write it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::joined;
use super::read_input::{Text, reasoning};
use super::read_parts::read_annotation;
use super::seal::Signed;
use crate::config::Dialect;
use crate::protocol::canonical::{
    Annotation, Block, Failure, Image, Signature, Source, Stop, ToolKind, ToolUse, Unreadable,
    Usage,
};

/// The object of an answer, as far as it is read.
#[derive(Debug, Default, Deserialize)]
pub struct Answer<'a> {
    #[serde(default, borrow)]
    pub id: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    pub model: Option<Cow<'a, str>>,
    /// Seconds since 1970; some servers write fractions.
    #[serde(default)]
    pub created_at: Option<f64>,
    #[serde(default, borrow)]
    status: Option<Cow<'a, str>>,
    #[serde(default)]
    incomplete_details: Option<Incomplete>,
    #[serde(default, borrow)]
    output: Option<Vec<&'a RawValue>>,
    #[serde(default)]
    usage: Option<Took>,
}

#[derive(Debug, Deserialize)]
struct Incomplete {
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Took {
    input_tokens: u64,
    input_tokens_details: Option<InputDetails>,
    output_tokens: u64,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Debug, Deserialize)]
struct InputDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
    #[serde(default)]
    cache_write_tokens: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct OutputDetails {
    #[serde(default)]
    reasoning_tokens: Option<u64>,
}

impl<'a> Answer<'a> {
    pub fn read(json: &'a [u8]) -> Result<Self, Unreadable> {
        serde_json::from_slice(json).map_err(|error| Unreadable(error.to_string()))
    }

    /// Seconds since 1970.
    pub fn created(&self) -> Option<u64> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a time; what is out of range becomes the nearest that is not"
        )]
        self.created_at.map(|seconds| seconds as u64)
    }

    pub fn usage(&self) -> Option<Usage> {
        let tokens = self.usage.as_ref()?;
        let input = tokens.input_tokens_details.as_ref();
        let output = tokens.output_tokens_details.as_ref();
        Some(Usage {
            input: tokens.input_tokens,
            cache_read: input.and_then(|it| it.cached_tokens).unwrap_or(0),
            cache_write: input.and_then(|it| it.cache_write_tokens).unwrap_or(0),
            cache_write_long: 0,
            output: tokens.output_tokens,
            reasoning: output.and_then(|it| it.reasoning_tokens),
        })
    }

    /// Why it ended. `called`: tools are to be called.
    pub fn stop(&self, called: bool) -> Stop {
        let reason = self.incomplete_details.as_ref().and_then(|it| it.reason.as_deref());
        match self.status.as_deref() {
            Some("incomplete") if reason == Some("content_filter") => Stop::Filtered,
            Some("incomplete") => Stop::MaxTokens,
            _ if called => Stop::ToolUse,
            _ => Stop::EndTurn,
        }
    }

    /// Why there is no answer: it failed, it is not there yet, or this is no answer at all.
    pub fn fault(&self, json: &[u8]) -> Option<Unreadable> {
        match self.status.as_deref() {
            None | Some("completed" | "incomplete") if self.output.is_none() => {
                Some(Unreadable(Failure::read(None, None, json).message))
            }
            None | Some("completed" | "incomplete") => None,
            Some("failed") => Some(Unreadable(Failure::read(None, None, json).message)),
            Some(status) => Some(Unreadable(format!("its status is `{status}`"))),
        }
    }

    /// All that was answered.
    pub fn blocks(&self) -> Result<Vec<Block>, Unreadable> {
        let mut blocks = Vec::new();
        for item in self.output.iter().flatten() {
            if let Some(item) = Item::read(item)? {
                blocks.extend(item.blocks());
            }
        }
        Ok(blocks)
    }
}

/// An item of an answer that means something here.
#[derive(Debug)]
pub enum Item {
    Message(Vec<Part>),
    Reasoning { text: String, sealed: Option<Signature> },
    Call(ToolUse),
    Image(Image),
}

#[derive(Debug, Deserialize)]
pub struct Part {
    #[serde(default)]
    r#type: String,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    annotations: Option<Vec<Box<RawValue>>>,
}

impl Part {
    /// Text that was said, or a refusal; nothing where nothing was.
    pub fn block(&self) -> Option<Block> {
        let annotations = self.annotations();
        match self.r#type.as_str() {
            "output_text" | "text" => {
                let text = self.text.clone().unwrap_or_default();
                let said = !text.is_empty() || !annotations.is_empty();
                said.then_some(Block::Text { text, annotations })
            }
            "refusal" => {
                let refusal = self.refusal.clone().filter(|refusal| !refusal.is_empty());
                refusal.map(Block::Refusal)
            }
            _ => None,
        }
    }

    fn annotations(&self) -> Vec<Annotation> {
        let all = self.annotations.iter().flatten();
        all.filter_map(|annotation| read_annotation(annotation.get())).collect()
    }
}

/// The members of all items that are read. Those of others may be of other types.
#[derive(Deserialize)]
struct Members {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    call_id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
    #[serde(default)]
    input: Option<String>,
    #[serde(default)]
    content: Option<Vec<Part>>,
    #[serde(default)]
    summary: Option<Vec<Text>>,
    #[serde(default)]
    encrypted_content: Option<String>,
    #[serde(default)]
    result: Option<String>,
    #[serde(default)]
    output_format: Option<String>,
}

impl Item {
    /// Reads an item; `None` for one that means nothing here.
    pub fn read(json: &RawValue) -> Result<Option<Self>, Unreadable> {
        let unreadable = |error: serde_json::Error| Unreadable(error.to_string());
        let kind = kind_of(json).map_err(unreadable)?;
        let known = matches!(
            kind.as_ref(),
            "message"
                | "reasoning"
                | "function_call"
                | "custom_tool_call"
                | "image_generation_call"
        );
        if !known {
            return Ok(None);
        }
        let members: Members = serde_json::from_str(json.get()).map_err(unreadable)?;
        Ok(match kind.as_ref() {
            "message" => Some(Self::Message(members.content.unwrap_or_default())),
            "reasoning" => Some(members.reasoning()),
            "function_call" => Some(Self::Call(members.call(ToolKind::Function))),
            "custom_tool_call" => Some(Self::Call(members.call(ToolKind::Custom))),
            _ => members.image().map(Self::Image),
        })
    }

    /// What was said in it.
    pub fn blocks(self) -> Vec<Block> {
        match self {
            Self::Message(parts) => parts.iter().filter_map(Part::block).collect(),
            Self::Reasoning { text, sealed } => {
                reasoning(text, sealed, Signed::Thinking, |_, _| {}).into_iter().collect()
            }
            Self::Call(mut call) => {
                if call.arguments.trim().is_empty() && call.kind == ToolKind::Function {
                    "{}".clone_into(&mut call.arguments);
                }
                vec![Block::ToolUse(call)]
            }
            Self::Image(image) => vec![Block::Image(image)],
        }
    }
}

impl Members {
    fn reasoning(self) -> Item {
        let words = |parts: Vec<&str>| joined(parts.into_iter());
        let content = self.content.iter().flatten().filter_map(|part| part.text.as_deref());
        let text = Some(words(content.collect())).filter(|text| !text.is_empty());
        let summary = || self.summary.iter().flatten().map(|part| part.text.as_str()).collect();
        let text = text.unwrap_or_else(|| words(summary()));
        let sealed = self.encrypted_content.filter(|data| !data.is_empty());
        let sealed = sealed.map(|data| Signature { dialect: Dialect::OpenaiResponses, data });
        Item::Reasoning { text, sealed }
    }

    fn call(self, kind: ToolKind) -> ToolUse {
        let arguments = match kind {
            ToolKind::Function => self.arguments,
            ToolKind::Custom => self.input,
        };
        ToolUse {
            id: self.call_id.or(self.id).unwrap_or_default(),
            name: self.name.unwrap_or_default(),
            namespace: self.namespace,
            kind,
            arguments: arguments.unwrap_or_default(),
            signature: None,
        }
    }

    fn image(self) -> Option<Image> {
        let format = self.output_format.as_deref().unwrap_or("png");
        let media_type = Some(format!("image/{format}"));
        let data = self.result.filter(|data| !data.is_empty())?;
        Some(Image { source: Source::Base64(data), media_type, detail: None })
    }
}

fn kind_of(json: &RawValue) -> serde_json::Result<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Kind<'k> {
        #[serde(default, borrow)]
        r#type: Cow<'k, str>,
    }
    serde_json::from_str::<Kind>(json.get()).map(|kind| kind.r#type)
}
