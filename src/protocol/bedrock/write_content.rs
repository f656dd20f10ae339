//! The conversation as Converse takes it.

use std::borrow::Cow;

use super::content::{CachePoint, CallResult, Content, Document, Media, Source as To};
use super::media::{self, DocumentNames};
use super::model::{Family, caches_for_an_hour};
use crate::config::Dialect;
use crate::protocol::canonical::{
    Arrange, Block, CacheMark, Document as Paper, Fate, Field, IdLimits, Image, Invalid, Losses,
    Merge, Signature, Source, SystemInside, Target, ToolResult, Turn,
};

/// The most places of a request that Claude and Nova let be marked for their cache.
const MOST_MARKS: usize = 4;

/// What stands where something must be said and nothing is.
const FILLER: &str = ".";

/// Roles alternate and the user's is the first; calls are the last of their turn, and each has its
/// result in the next; no text is blank.
pub fn rules(to: &Target) -> Arrange {
    Arrange {
        merge: Merge::Everything,
        system: SystemInside::Marked,
        user_first: true,
        no_prefill: !to.rules.prefill,
        no_blank_text: true,
        calls_last: true,
        ids: IdLimits { punctuation: Some("_.:-"), longest: 64 },
    }
}

/// The turns without reasoning that cannot be sent: what nobody signed, and what others did.
pub fn sendable<'a>(turns: &'a [Turn], losses: &mut Losses) -> Result<Cow<'a, [Turn]>, Invalid> {
    let keeps = |block: &Block| match block {
        Block::Thinking { signature, .. } => signature.as_ref().is_some_and(is_ours),
        Block::RedactedThinking(signature) => is_ours(signature),
        _ => true,
    };
    let blocks = || turns.iter().flat_map(|turn| &turn.blocks);
    for block in blocks().filter(|block| !keeps(block)) {
        let unsigned = matches!(block, Block::Thinking { signature: None, .. });
        let field = if unsigned { Field::ThinkingHistory } else { Field::Signature };
        losses.lose(field, Fate::Dropped)?;
    }
    if blocks().all(keeps) {
        return Ok(Cow::Borrowed(turns));
    }
    let kept = |turn: &Turn| Turn {
        role: turn.role,
        blocks: turn.blocks.iter().filter(|block| keeps(block)).cloned().collect(),
    };
    Ok(Cow::Owned(turns.iter().map(kept).collect()))
}

fn is_ours(signature: &Signature) -> bool {
    signature.dialect == Dialect::Bedrock
}

/// Marks for the cache, of which the last few are sent.
pub struct Marks {
    takes: bool,
    takes_in_tools: bool,
    an_hour: bool,
    /// How many of the first ones are left out.
    skip: usize,
}

impl Marks {
    /// `tools`, `others`: how many there are.
    pub fn new(to: &Target, tools: usize, others: usize) -> Self {
        let family = Family::of(to);
        let (takes, takes_in_tools) = (family.caches(), family.caches_tools());
        let counted = others + if takes_in_tools { tools } else { 0 };
        let skip = counted.saturating_sub(MOST_MARKS);
        Self { takes, takes_in_tools, an_hour: caches_for_an_hour(to), skip }
    }

    pub fn of_tool(
        &mut self,
        mark: CacheMark,
        losses: &mut Losses,
    ) -> Result<Option<CachePoint>, Invalid> {
        if self.takes_in_tools {
            return self.next(mark, losses);
        }
        losses.lose(Field::CacheMark, Fate::Dropped)?;
        Ok(None)
    }

    pub fn next(
        &mut self,
        mark: CacheMark,
        losses: &mut Losses,
    ) -> Result<Option<CachePoint>, Invalid> {
        if self.takes && self.skip == 0 {
            return Ok(Some(CachePoint::of(mark, self.an_hour)));
        }
        self.skip = self.skip.saturating_sub(1);
        losses.lose(Field::CacheMark, Fate::Dropped)?;
        Ok(None)
    }

    /// How many marks the blocks have.
    pub fn count<'a>(blocks: impl IntoIterator<Item = &'a Block>) -> usize {
        blocks.into_iter().filter(|block| matches!(block, Block::Cache(_))).count()
    }
}

/// Writes blocks one after the other.
pub struct Writer<'l> {
    pub marks: Marks,
    pub names: DocumentNames,
    pub losses: &'l mut Losses,
}

impl Writer<'_> {
    /// Instructions: texts and marks.
    pub fn system<'a>(&mut self, blocks: &'a [Block]) -> Result<Vec<Content<'a>>, Invalid> {
        let mut written = Vec::with_capacity(blocks.len());
        for block in blocks {
            self.block(block, &mut written)?;
        }
        Ok(written)
    }

    /// A turn; a document is never without words beside it.
    pub fn turn<'a>(&mut self, turn: &'a Turn) -> Result<Vec<Content<'a>>, Invalid> {
        let mut written = Vec::with_capacity(turn.blocks.len() + 1);
        for block in &turn.blocks {
            self.block(block, &mut written)?;
        }
        let has = |is: fn(&Content) -> bool| written.iter().any(is);
        let is_alone = has(|it| matches!(it, Content::Document(_)))
            && !has(|it| matches!(it, Content::Text(_)));
        if written.is_empty() || is_alone {
            let first_call = written.iter().position(|it| matches!(it, Content::ToolUse(_)));
            written.insert(first_call.unwrap_or(written.len()), Content::Text(FILLER));
        }
        Ok(written)
    }

    fn block<'a>(
        &mut self,
        block: &'a Block,
        written: &mut Vec<Content<'a>>,
    ) -> Result<(), Invalid> {
        let content = match block {
            Block::Text { text, .. } | Block::Refusal(text) if text.trim().is_empty() => {
                return Ok(());
            }
            Block::Text { text, .. } | Block::Refusal(text) => Content::Text(text),
            Block::Image(image) => self.image(image)?,
            Block::Audio(audio) => Content::Audio(self.media(
                &audio.media_type,
                &audio.source,
                media::AUDIO,
                Field::Audio,
            )?),
            Block::Video(video) => Content::Video(self.media(
                &video.media_type,
                &video.source,
                media::VIDEO,
                Field::Video,
            )?),
            Block::Document(document) => self.document(document)?,
            Block::Thinking { text, signature } => Content::thinking(text, signature.as_ref()),
            Block::RedactedThinking(signature) => Content::redacted(signature),
            Block::ToolUse(call) => Content::call(call),
            Block::ToolResult(result) => self.result(result)?,
            Block::Cache(mark) => {
                // A point marks what stands before it.
                let marks = !matches!(written.last(), None | Some(Content::CachePoint(_)));
                if marks && let Some(point) = self.marks.next(*mark, self.losses)? {
                    written.push(Content::CachePoint(point));
                }
                return Ok(());
            }
        };
        written.push(content);
        Ok(())
    }

    fn result<'a>(&mut self, result: &'a ToolResult) -> Result<Content<'a>, Invalid> {
        let mut content = Vec::with_capacity(result.blocks.len());
        for block in &result.blocks {
            match block {
                // Marks stand behind results, not in them.
                Block::Cache(_) => self.losses.lose(Field::CacheMark, Fate::Dropped)?,
                block => self.block(block, &mut content)?,
            }
        }
        if content.is_empty() {
            content.push(Content::Text(FILLER));
        }
        let status = if result.is_error { "error" } else { "success" };
        Ok(Content::ToolResult(CallResult { tool_use_id: &result.id, content, status }))
    }

    fn image<'a>(&mut self, image: &'a Image) -> Result<Content<'a>, Invalid> {
        if image.detail.as_deref().is_some_and(|detail| detail != "auto") {
            self.losses.lose(Field::ImageDetail, Fate::Dropped)?;
        }
        let sniffed = match &image.source {
            Source::Base64(bytes) => media::sniff(bytes),
            _ => None,
        };
        let media_type = image.media_type.as_deref().or(sniffed).unwrap_or_default();
        let media = self.media(media_type, &image.source, media::IMAGES, Field::ImageData)?;
        Ok(Content::Image(media))
    }

    fn document<'a>(&mut self, document: &'a Paper) -> Result<Content<'a>, Invalid> {
        let essence = document.media_type.split(';').next().unwrap_or_default().trim();
        let is_text = essence.is_empty() || essence.starts_with("text/") || is_texts(essence);
        // What Converse has no word for and is text all the same.
        let plain = is_text && media::format(media::DOCUMENTS, essence).is_none();
        let media_type = if plain { "text/plain" } else { essence };
        let Media { format, source } =
            self.media(media_type, &document.source, media::DOCUMENTS, Field::Document)?;
        let name = self.names.fit(document.name.as_deref(), format);
        Ok(Content::Document(Document { format, name, source }))
    }

    fn media<'a>(
        &mut self,
        media_type: &str,
        source: &'a Source,
        formats: &'static [(&'static str, &'static str)],
        field: Field,
    ) -> Result<Media<'a>, Invalid> {
        let source = self.source(source, field)?;
        let Some(format) = media::format(formats, media_type) else {
            return Err(self.refuse(field, "the provider does not take this media type"));
        };
        Ok(Media { format, source })
    }

    fn source<'a>(&mut self, source: &'a Source, field: Field) -> Result<To<'a>, Invalid> {
        match source {
            Source::Base64(bytes) => Ok(To::Bytes(bytes)),
            Source::Text(text) if field == Field::Document => Ok(To::Text(text)),
            Source::Url(uri) | Source::File(uri) if uri.starts_with("s3://") => {
                Ok(To::S3Location { uri })
            }
            Source::File(_) => Err(self.refuse(Field::FileId, "it lies at another provider")),
            Source::Url(_) => {
                let field = match field {
                    Field::ImageData => Field::ImageUrl,
                    Field::Document => Field::DocumentUrl,
                    other => other,
                };
                Err(self.refuse(field, NOT_FETCHED))
            }
            Source::Text(_) => Err(self.refuse(field, "it is text")),
        }
    }

    fn refuse(&mut self, field: Field, why: &'static str) -> Invalid {
        let refused = self.losses.lose(field, Fate::Refused(why));
        refused.err().unwrap_or_else(|| Invalid::request("messages", why))
    }
}

/// Why an address is refused.
pub const NOT_FETCHED: &str = "the provider takes bytes, and addresses are not fetched";

/// Media types that are text without saying so.
fn is_texts(media_type: &str) -> bool {
    let known = ["application/json", "application/xml", "application/yaml", "application/x-yaml"];
    known.contains(&media_type)
}
