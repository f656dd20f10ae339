//! A conversation, written for Google: contents and their parts.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::media;
use super::signature::own;
use super::wire::{Content, FunctionResponse, Outcome, Part};
use super::write_request::fate;
use crate::protocol::canonical::{
    Block, Document, Fate, Field, Image, Invalid, Losses, Media, Role, Rules, Source, ToolResult,
    ToolUse, Turn,
};

/// What stands for a signature that was never made: `skip_thought_signature_validator` in base64.
/// Models that sign their calls take it for calls of others.
pub const UNSIGNED: &str = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=";

/// Writes turns that are arranged.
pub fn write_contents<'a>(
    turns: &'a [Turn],
    rules: &Rules,
    losses: &mut Losses,
) -> Result<Vec<Content<'a>>, Invalid> {
    let mut contents: Vec<Content> = Vec::with_capacity(turns.len());
    for turn in turns {
        let mut writer =
            Writer { rules, losses, parts: Vec::new(), signature: None, called: false };
        for block in &turn.blocks {
            writer.block(block)?;
        }
        let parts = without_blanks(writer.parts);
        let role = Some(if turn.role == Role::Assistant { "model" } else { "user" });
        match contents.last_mut() {
            // A turn of foreign thoughts has nothing left, and its neighbours meet.
            _ if parts.is_empty() => {}
            Some(last) if last.role == role => last.parts.extend(parts),
            _ => contents.push(Content { parts, role }),
        }
    }
    Ok(contents)
}

/// An empty text says nothing, unless nothing else is said.
fn without_blanks(mut parts: Vec<Part>) -> Vec<Part> {
    let is_blank = |part: &Part| {
        part.text.as_deref().is_some_and(str::is_empty) && part.thought_signature.is_none()
    };
    if parts.iter().any(|part| !is_blank(part)) {
        parts.retain(|part| !is_blank(part));
    }
    parts.truncate(if parts.iter().all(is_blank) { 1 } else { parts.len() });
    parts
}

struct Writer<'a, 'w> {
    rules: &'w Rules,
    losses: &'w mut Losses,
    parts: Vec<Part<'a>>,
    /// A thought's, for the text behind it: thoughts themselves are not sent back.
    signature: Option<&'a str>,
    /// A call has been written. Of calls made together only the first is signed.
    called: bool,
}

impl<'a> Writer<'a, '_> {
    fn block(&mut self, block: &'a Block) -> Result<(), Invalid> {
        match block {
            Block::Text { text, .. } | Block::Refusal(text) => {
                let thought_signature = self.signature.take().map(Cow::Borrowed);
                self.parts.push(Part { thought_signature, ..Part::text(text) });
            }
            Block::Thinking { signature, .. } => match signature.as_ref().and_then(own) {
                Some(signature) => self.signature = Some(signature),
                None => self.lose(Field::ThinkingHistory)?,
            },
            Block::RedactedThinking(_) => self.lose(Field::Signature)?,
            Block::ToolUse(call) => self.call(call),
            Block::ToolResult(result) => self.result(result)?,
            Block::Cache(_) => self.lose(Field::CacheMark)?,
            Block::Image(_) | Block::Audio(_) | Block::Video(_) | Block::Document(_) => {
                let part = self.medium(block)?;
                self.parts.extend(part);
            }
        }
        Ok(())
    }

    fn lose(&mut self, field: Field) -> Result<(), Invalid> {
        self.losses.lose(field, Fate::Dropped)
    }

    fn call(&mut self, call: &'a ToolUse) {
        let mut part = Part::call(call);
        if !self.rules.call_ids
            && let Some(call) = &mut part.function_call
        {
            call.id = None;
        }
        let signed = call.signature.as_ref().and_then(own);
        let first = !std::mem::replace(&mut self.called, true);
        let needed = self.rules.signed_calls && first;
        part.thought_signature = signed.or(needed.then_some(UNSIGNED)).map(Cow::Borrowed);
        self.signature = None;
        self.parts.push(part);
    }

    fn result(&mut self, result: &'a ToolResult) -> Result<(), Invalid> {
        let mut texts: Vec<&str> = Vec::new();
        let mut media = Vec::new();
        for block in &result.blocks {
            match block {
                Block::Text { text, .. } => texts.push(text),
                Block::Cache(_) => self.lose(Field::CacheMark)?,
                _ => media.extend(self.medium(block)?),
            }
        }
        let text = texts.join("\n");
        let response = if result.is_error { Outcome::Error(text) } else { Outcome::Output(text) };
        let id = self.rules.call_ids.then_some(result.id.as_str());
        let name = result.name.as_deref().unwrap_or("tool");
        // Models that sign calls take what is inline with the result; others see it behind it.
        let fits = |part: &Part| self.rules.signed_calls && part.inline_data.is_some();
        let (parts, behind) = media.into_iter().partition(fits);
        let function_response = Some(FunctionResponse { id, name, response, parts });
        self.parts.push(Part { function_response, ..Part::default() });
        self.parts.extend::<Vec<Part>>(behind);
        Ok(())
    }

    /// A picture, a recording or a document; nothing for blocks of another kind.
    fn medium(&mut self, block: &'a Block) -> Result<Option<Part<'a>>, Invalid> {
        let (source, known, otherwise) = match block {
            Block::Image(Image { source, media_type, .. }) => {
                (source, media_type.as_deref().unwrap_or_default(), "image/jpeg")
            }
            Block::Audio(Media { source, media_type }) => {
                (source, media_type.as_str(), "audio/wav")
            }
            Block::Video(Media { source, media_type }) => {
                (source, media_type.as_str(), "video/mp4")
            }
            Block::Document(Document { source, media_type, .. }) => {
                (source, media_type.as_str(), "application/pdf")
            }
            _ => return Ok(None),
        };
        let known = Some(known).filter(|kind| !kind.is_empty());
        Ok(Some(match source {
            Source::Base64(data) => Part::inline(known.unwrap_or(otherwise), data),
            Source::Text(text) => {
                let kind = known.filter(|kind| kind.starts_with("text/"));
                Part::inline(kind.unwrap_or("text/plain"), STANDARD.encode(text))
            }
            Source::File(uri) if media::is_googles(uri) => {
                let kind = known.or_else(|| media::type_of(uri));
                Part::file(kind.unwrap_or(otherwise), uri)
            }
            Source::Url(url) => {
                let kind = known.or_else(|| media::type_of(url));
                Part::file(kind.unwrap_or(otherwise), url)
            }
            Source::File(_) => {
                self.losses.lose(Field::FileId, fate(Field::FileId))?;
                return Ok(None);
            }
        }))
    }
}
