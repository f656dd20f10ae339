//! What a message has in it, as Anthropic takes it.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;

use super::write_request::fate;
use crate::config::Dialect;
use crate::protocol::canonical::{
    Block, CacheMark, Document, Field, Image, Invalid, Losses, Role, Signature, Source, ToolResult,
    Turn, object_or_wrapped,
};

/// The images that it takes.
const IMAGES: &[&str] = &["image/jpeg", "image/png", "image/gif", "image/webp"];

#[derive(Debug, Serialize)]
pub struct Message<'a> {
    pub role: &'static str,
    pub content: Vec<Content<'a>>,
}

/// `cache_control`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Mark {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<&'static str>,
}

impl From<CacheMark> for Mark {
    fn from(mark: CacheMark) -> Self {
        Self { kind: "ephemeral", ttl: (mark == CacheMark::Long).then_some("1h") }
    }
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Content<'a> {
    Text {
        text: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<Mark>,
    },
    Image {
        source: Bytes<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<Mark>,
    },
    Document {
        source: Bytes<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<Mark>,
    },
    Thinking {
        thinking: &'a str,
        signature: &'a str,
    },
    RedactedThinking {
        data: &'a str,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: Box<RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<Mark>,
    },
    ToolResult {
        tool_use_id: &'a str,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        content: Vec<Content<'a>>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<Mark>,
    },
}

/// Where an image or a document is.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Bytes<'a> {
    Base64 { media_type: &'a str, data: &'a str },
    Url { url: &'a str },
    Text { media_type: &'static str, data: Cow<'a, str> },
}

impl Content<'_> {
    /// Where its cache mark stands; thinking cannot be marked.
    fn mark(&mut self) -> Option<&mut Option<Mark>> {
        match self {
            Self::Text { cache_control, .. }
            | Self::Image { cache_control, .. }
            | Self::Document { cache_control, .. }
            | Self::ToolUse { cache_control, .. }
            | Self::ToolResult { cache_control, .. } => Some(cache_control),
            Self::Thinking { .. } | Self::RedactedThinking { .. } => None,
        }
    }
}

/// The cache marks that are sent: of more than four, which Anthropic refuses, the last ones.
#[derive(Debug)]
pub struct Marks {
    skipped: usize,
}

impl Marks {
    const MOST: usize = 4;

    pub fn new(count: usize, losses: &mut Losses) -> Result<Self, Invalid> {
        let skipped = count.saturating_sub(Self::MOST);
        if skipped > 0 {
            losses.lose(Field::CacheMark, fate(Field::CacheMark))?;
        }
        Ok(Self { skipped })
    }

    /// The next mark, unless it is one too many.
    pub fn next(&mut self, mark: CacheMark) -> Option<Mark> {
        if self.skipped > 0 {
            self.skipped -= 1;
            return None;
        }
        Some(mark.into())
    }

    /// Puts a mark onto what stands before it.
    pub fn put(&mut self, mark: CacheMark, content: &mut [Content]) {
        let mark = self.next(mark);
        let marked = content.iter_mut().rev().find_map(Content::mark);
        if let (Some(place), Some(mark)) = (marked, mark) {
            *place = Some(mark);
        }
    }
}

/// Why a block of reasoning cannot go back to Anthropic; `None` for one that can, and for other blocks.
pub fn unsigned(block: &Block) -> Option<Field> {
    let own = |signature: &Signature| signature.dialect == Dialect::Anthropic;
    match block {
        Block::Thinking { signature: None, .. } => Some(Field::ThinkingHistory),
        Block::Thinking { signature: Some(signature), .. } | Block::RedactedThinking(signature) => {
            (!own(signature)).then_some(Field::Signature)
        }
        _ => None,
    }
}

/// Writes a turn. Its reasoning is Anthropic's own, its results stand first.
pub fn write_turn<'a>(
    turn: &'a Turn,
    is_last: bool,
    marks: &mut Marks,
    losses: &mut Losses,
) -> Result<Message<'a>, Invalid> {
    let mut content = Vec::with_capacity(turn.blocks.len());
    for block in &turn.blocks {
        if let Block::Cache(mark) = block {
            marks.put(*mark, &mut content);
        } else if let Some(block) = write_block(block, turn.role, losses)? {
            content.push(block);
        }
    }
    // A turn of the assistant's that shall be gone on with may not end with white space.
    if is_last
        && turn.role == Role::Assistant
        && let Some(Content::Text { text, .. }) = content.last_mut()
    {
        *text = text.trim_end();
    }
    let role = match turn.role {
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::System => "system",
    };
    Ok(Message { role, content })
}

fn write_block<'a>(
    block: &'a Block,
    role: Role,
    losses: &mut Losses,
) -> Result<Option<Content<'a>>, Invalid> {
    Ok(Some(match block {
        Block::Text { text, .. } | Block::Refusal(text) => {
            if text.trim().is_empty() {
                return Ok(None);
            }
            Content::Text { text, cache_control: None }
        }
        Block::Image(_) | Block::Document(_) if role == Role::Assistant => {
            let why = "Anthropic's models take no images or documents as their own".to_owned();
            return Err(Invalid::Unsupported { param: "messages".to_owned(), why });
        }
        Block::Image(image) => write_image(image, losses)?,
        Block::Document(document) => write_document(document, losses)?,
        Block::Audio(_) => return refused(Field::Audio, losses),
        Block::Video(_) => return refused(Field::Video, losses),
        Block::Thinking { text, signature: Some(signature) } => {
            Content::Thinking { thinking: text, signature: &signature.data }
        }
        Block::RedactedThinking(signature) => Content::RedactedThinking { data: &signature.data },
        Block::ToolUse(call) => {
            let input = object_or_wrapped(&call.arguments);
            Content::ToolUse { id: &call.id, name: &call.name, input, cache_control: None }
        }
        Block::ToolResult(result) => write_result(result, losses)?,
        Block::Thinking { signature: None, .. } | Block::Cache(_) => return Ok(None),
    }))
}

fn refused<'a>(field: Field, losses: &mut Losses) -> Result<Option<Content<'a>>, Invalid> {
    losses.lose(field, fate(field)).map(|()| None)
}

fn write_result<'a>(result: &'a ToolResult, losses: &mut Losses) -> Result<Content<'a>, Invalid> {
    let mut content = Vec::with_capacity(result.blocks.len());
    for block in &result.blocks {
        content.extend(write_block(block, Role::User, losses)?);
    }
    let ToolResult { id, is_error, .. } = result;
    Ok(Content::ToolResult { tool_use_id: id, content, is_error: *is_error, cache_control: None })
}

fn write_image<'a>(image: &'a Image, losses: &mut Losses) -> Result<Content<'a>, Invalid> {
    if image.detail.as_deref().is_some_and(|detail| detail != "auto") {
        losses.lose(Field::ImageDetail, fate(Field::ImageDetail))?;
    }
    let source = match &image.source {
        Source::Base64(data) => {
            let media_type = match image.media_type.as_deref() {
                Some("image/jpg") => "image/jpeg",
                Some(media_type) => media_type,
                None => sniffed(data).unwrap_or_default(),
            };
            if !IMAGES.contains(&media_type) {
                let why = format!("images of type `{media_type}` are taken by none of its models");
                return Err(Invalid::Unsupported { param: "messages".to_owned(), why });
            }
            Bytes::Base64 { media_type, data }
        }
        Source::Url(url) => Bytes::Url { url },
        Source::File(_) | Source::Text(_) => {
            losses.lose(Field::FileId, fate(Field::FileId))?;
            Bytes::Url { url: "" }
        }
    };
    Ok(Content::Image { source, cache_control: None })
}

/// The type of an image by its first bytes in base64.
fn sniffed(data: &str) -> Option<&'static str> {
    let magic = [
        ("/9j/", "image/jpeg"),
        ("iVBOR", "image/png"),
        ("R0lGOD", "image/gif"),
        ("UklGR", "image/webp"),
    ];
    magic.into_iter().find(|(magic, _)| data.starts_with(magic)).map(|(_, media_type)| media_type)
}

fn write_document<'a>(document: &'a Document, losses: &mut Losses) -> Result<Content<'a>, Invalid> {
    let media_type = document.media_type.as_str();
    let is_text = media_type.starts_with("text/") || media_type == "application/json";
    let plain = |data| Bytes::Text { media_type: "text/plain", data };
    let source = match &document.source {
        Source::Text(text) => plain(Cow::Borrowed(text.as_str())),
        Source::Base64(data) if is_text => {
            let bytes = STANDARD.decode(data).ok();
            let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
            let wrong = || Invalid::request("messages", "a text document is not base64 of UTF-8");
            plain(Cow::Owned(text.ok_or_else(wrong)?))
        }
        Source::Base64(data) if media_type == "application/pdf" => {
            Bytes::Base64 { media_type: "application/pdf", data }
        }
        Source::Url(url) => Bytes::Url { url },
        Source::Base64(_) => {
            let why = format!("documents of type `{media_type}` are taken by none of its models");
            return Err(Invalid::Unsupported { param: "messages".to_owned(), why });
        }
        Source::File(_) => {
            losses.lose(Field::FileId, fate(Field::FileId))?;
            Bytes::Url { url: "" }
        }
    };
    Ok(Content::Document { source, title: document.name.as_deref(), cache_control: None })
}
