//! What an answer is made of, as clients read it: each block an item of its own.

use serde::{Serialize, Serializer};

use super::seal::{Signed, seal};
use crate::protocol::canonical::{
    Annotation, Block, Delta, Image, Opening, Response, Signature, Source, Stop, ToolKind, ToolUse,
};

/// An item of `output`.
#[derive(Debug)]
pub struct Item {
    pub id: String,
    pub content: Content,
    pub done: bool,
    /// The answer ended in the midst of it.
    pub cut: bool,
}

/// What is in an item.
#[derive(Debug)]
pub enum Content {
    Text { text: String, annotations: Vec<Annotation> },
    Refusal(String),
    Reasoning { text: String, signature: Option<Signature>, of: Signed },
    Call(ToolUse),
    Image(Image),
}

/// Whose ids the items have, and how reasoning is told.
#[derive(Clone, Debug)]
pub struct Style {
    /// The answer's id without its prefix.
    pub id: String,
    /// The client asked for summaries, so words of reasoning are told as one. Else as what they are.
    pub summaries: bool,
}

impl Item {
    fn new(content: Content, place: usize, style: &Style) -> Self {
        let prefix = match &content {
            Content::Text { .. } | Content::Refusal(_) => "msg",
            Content::Reasoning { .. } => "rs",
            Content::Call(ToolUse { kind: ToolKind::Function, .. }) => "fc",
            Content::Call(ToolUse { kind: ToolKind::Custom, .. }) => "ctc",
            Content::Image(_) => "ig",
        };
        Self { id: format!("{prefix}_{}_{place}", style.id), content, done: false, cut: false }
    }

    /// An item as it begins, at `place` among the others.
    pub fn open(opening: Opening, place: usize, style: &Style) -> Self {
        let content = match opening {
            Opening::Text => Content::Text { text: String::new(), annotations: Vec::new() },
            Opening::Thinking => reasoning(String::new(), None, Signed::Thinking),
            Opening::RedactedThinking(signature) => {
                reasoning(String::new(), Some(signature), Signed::Redacted)
            }
            Opening::Refusal => Content::Refusal(String::new()),
            Opening::ToolUse { id, name, namespace, kind } => {
                let arguments = String::new();
                Content::Call(ToolUse { id, name, namespace, kind, arguments, signature: None })
            }
            Opening::Image(image) => Content::Image(image),
        };
        Self::new(content, place, style)
    }

    /// An item that carries the signature of a call: an item of its own, as a call has no place for it.
    pub fn of_signature(call: &str, signature: &Signature, place: usize, style: &Style) -> Self {
        let of = Signed::Call(call.to_owned());
        Self::new(reasoning(String::new(), Some(signature.clone()), of), place, style)
    }

    /// Whether it is in the midst of something when its answer is incomplete: what refuses has said why.
    pub fn can_be_cut(&self) -> bool {
        !matches!(self.content, Content::Refusal(_))
    }

    /// Takes more of it in.
    pub fn push(&mut self, delta: &Delta) {
        match (&mut self.content, delta) {
            (Content::Text { text, .. }, Delta::Text(more))
            | (Content::Reasoning { text, .. }, Delta::Thinking(more))
            | (Content::Refusal(text), Delta::Refusal(more)) => text.push_str(more),
            (Content::Text { annotations, .. }, Delta::Annotation(annotation)) => {
                annotations.push(annotation.clone());
            }
            (Content::Call(call), Delta::Arguments(more)) => call.arguments.push_str(more),
            (
                Content::Call(ToolUse { signature, .. }) | Content::Reasoning { signature, .. },
                Delta::Signature(more),
            ) => match signature {
                // It may come in pieces.
                Some(signature) => signature.data.push_str(&more.data),
                None => *signature = Some(more.clone()),
            },
            _ => {}
        }
    }
}

fn reasoning(text: String, signature: Option<Signature>, of: Signed) -> Content {
    Content::Reasoning { text, signature, of }
}

/// The items of a whole answer.
pub fn items(response: &Response, style: &Style) -> Vec<Item> {
    let mut items = Vec::with_capacity(response.blocks.len());
    for block in &response.blocks {
        let content = match block.clone() {
            Block::Text { text, annotations } => Content::Text { text, annotations },
            Block::Refusal(text) => Content::Refusal(text),
            Block::Thinking { text, signature } => reasoning(text, signature, Signed::Thinking),
            Block::RedactedThinking(signature) => {
                reasoning(String::new(), Some(signature), Signed::Redacted)
            }
            Block::ToolUse(call) => Content::Call(call),
            Block::Image(image) => Content::Image(image),
            _ => continue,
        };
        items.push(Item::new(content, items.len(), style));
        if let Block::ToolUse(ToolUse { id, signature: Some(signature), .. }) = block {
            items.push(Item::of_signature(id, signature, items.len(), style));
        }
    }
    for item in &mut items {
        item.done = true;
    }
    // What carries a call's signature is a piece of that call.
    let of_call =
        |item: &Item| matches!(item.content, Content::Reasoning { of: Signed::Call(_), .. });
    if is_incomplete(&response.stop)
        && let Some(last) = items.iter_mut().rev().find(|item| !of_call(item))
    {
        last.cut = last.can_be_cut();
    }
    items
}

/// Whether an answer that ends so has not been said in full.
pub fn is_incomplete(stop: &Stop) -> bool {
    matches!(stop, Stop::MaxTokens | Stop::Filtered)
}

/// An item in the style it is told in.
pub struct Told<'i>(pub &'i Item, pub &'i Style);

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Written<'i> {
    Message {
        id: &'i str,
        status: &'static str,
        role: &'static str,
        content: Vec<Part<'i>>,
    },
    Reasoning {
        id: &'i str,
        summary: Vec<Part<'i>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        content: Option<Vec<Part<'i>>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        encrypted_content: Option<String>,
    },
    FunctionCall {
        id: &'i str,
        status: &'static str,
        arguments: &'i str,
        call_id: &'i str,
        name: &'i str,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<&'i str>,
    },
    CustomToolCall {
        id: &'i str,
        status: &'static str,
        call_id: &'i str,
        name: &'i str,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<&'i str>,
        input: &'i str,
    },
    ImageGenerationCall {
        id: &'i str,
        status: &'static str,
        result: Option<&'i str>,
        output_format: &'i str,
    },
}

/// A part of a message, of a summary or of reasoning.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Part<'i> {
    OutputText { text: &'i str, annotations: Vec<Citation<'i>>, logprobs: [(); 0] },
    Refusal { refusal: &'i str },
    SummaryText { text: &'i str },
    ReasoningText { text: &'i str },
}

/// Where a stretch of text comes from.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "url_citation")]
pub struct Citation<'i> {
    url: &'i str,
    title: &'i str,
    start_index: u64,
    end_index: u64,
}

impl<'i> From<&'i Annotation> for Citation<'i> {
    fn from(Annotation { url, title, start, end }: &'i Annotation) -> Self {
        let title = title.as_deref().unwrap_or_default();
        Self { url, title, start_index: *start, end_index: *end }
    }
}

impl Serialize for Told<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.written().serialize(serializer)
    }
}

impl<'i> Told<'i> {
    /// The part that is told in pieces; nothing where there is none.
    pub fn part(&self) -> Option<Part<'i>> {
        let Self(item, style) = self;
        Some(match &item.content {
            Content::Text { text, annotations } => Part::OutputText {
                text,
                annotations: annotations.iter().map(Citation::from).collect(),
                logprobs: [],
            },
            Content::Refusal(refusal) => Part::Refusal { refusal },
            Content::Reasoning { text, .. } if style.summaries => Part::SummaryText { text },
            Content::Reasoning { text, .. } => Part::ReasoningText { text },
            Content::Call(_) | Content::Image(_) => return None,
        })
    }

    fn written(&self) -> Written<'i> {
        let Self(item, style) = self;
        let (id, done) = (item.id.as_str(), item.done);
        let status = match (done, item.cut) {
            (false, _) => "in_progress",
            (true, true) => "incomplete",
            (true, false) => "completed",
        };
        // An item is announced without what is yet to come.
        let part = || self.part().filter(|_| done).into_iter().collect::<Vec<_>>();
        match &item.content {
            Content::Text { .. } | Content::Refusal(_) => {
                Written::Message { id, status, role: "assistant", content: part() }
            }
            Content::Reasoning { text, signature, of } => {
                let signature = signature.as_ref().filter(|_| done);
                let encrypted_content = signature.map(|it| seal(it, of.clone()));
                let words = if text.is_empty() { Vec::new() } else { part() };
                let (summary, content) = if style.summaries || words.is_empty() {
                    (words, None)
                } else {
                    (Vec::new(), Some(words))
                };
                Written::Reasoning { id, summary, content, encrypted_content }
            }
            Content::Call(call) => {
                let ToolUse { id: call_id, name, namespace, kind, arguments, .. } = call;
                let namespace = namespace.as_deref();
                let said = if done { arguments.as_str() } else { "" };
                match kind {
                    ToolKind::Function => {
                        let arguments = said;
                        Written::FunctionCall { id, status, arguments, call_id, name, namespace }
                    }
                    ToolKind::Custom => {
                        let input = said;
                        Written::CustomToolCall { id, status, call_id, name, namespace, input }
                    }
                }
            }
            Content::Image(Image { source, media_type, .. }) => {
                let result = match source {
                    Source::Base64(text) | Source::Url(text) => {
                        Some(text.as_str()).filter(|_| done)
                    }
                    Source::File(_) | Source::Text(_) => None,
                };
                let media_type = media_type.as_deref().unwrap_or("image/png");
                let output_format = media_type.rsplit('/').next().unwrap_or("png");
                Written::ImageGenerationCall { id, status, result, output_format }
            }
        }
    }
}
