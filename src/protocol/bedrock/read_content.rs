//! Blocks of content as clients of Converse send them.

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::signature::Redacted;
use super::{media, signature};
use crate::protocol::canonical::{
    Block, CacheMark, Document, Image, Invalid, Losses, Media, Signature, Source, ToolKind,
    ToolResult, ToolUse,
};
use crate::protocol::json::{Mistyped, Object};

/// Reads the blocks of a list that is named `at`.
pub fn blocks(list: &[&RawValue], at: &str, losses: &mut Losses) -> Result<Vec<Block>, Invalid> {
    let mut blocks = Vec::with_capacity(list.len());
    // Of calls, whose signatures stand in blocks of their own.
    let mut signed = HashMap::new();
    for block in list {
        let object = Object::parse(block.get(), at).map_err(|it| mistyped("", it))?;
        blocks.extend(read(object, at, &mut signed, losses)?);
    }
    for block in &mut blocks {
        if let Block::ToolUse(call) = block {
            call.signature = signed.remove(&call.id);
        }
    }
    Ok(blocks)
}

/// What is of another type than it must be, within what is named `at`.
pub fn mistyped(at: &str, Mistyped { name, expected }: Mistyped) -> Invalid {
    let param = if at.is_empty() { name } else { format!("{at}.{name}") };
    Invalid::request(param.clone(), format!("`{param}` must be {expected}"))
}

/// Names what of an object was not read.
pub fn name_rest(object: &Object, at: &str, losses: &mut Losses) -> Result<(), Invalid> {
    object.rest().try_for_each(|name| match at {
        "" => losses.drop_member(name),
        at => losses.drop_member(&format!("{at}.{name}")),
    })
}

fn read(
    mut block: Object,
    at: &str,
    signed: &mut HashMap<String, Signature>,
    losses: &mut Losses,
) -> Result<Option<Block>, Invalid> {
    let wrong = |it| mistyped(at, it);
    let read = if let Some(text) = block.string("text").map_err(wrong)? {
        Block::text(text)
    } else if let Some(json) = block.take("json") {
        Block::text(json.get())
    } else if let Some(image) = block.object("image").map_err(wrong)? {
        let (media_type, source) = media(image, "image", media::IMAGES, at, losses)?;
        Block::Image(Image { source, media_type: Some(media_type), detail: None })
    } else if let Some(audio) = block.object("audio").map_err(wrong)? {
        let (media_type, source) = media(audio, "audio", media::AUDIO, at, losses)?;
        Block::Audio(Media { source, media_type })
    } else if let Some(video) = block.object("video").map_err(wrong)? {
        let (media_type, source) = media(video, "video", media::VIDEO, at, losses)?;
        Block::Video(Media { source, media_type })
    } else if let Some(mut document) = block.object("document").map_err(wrong)? {
        let at_document = format!("{at}.document");
        let name = document.string("name").map_err(|it| mistyped(&at_document, it))?;
        let (media_type, source) = media(document, "document", media::DOCUMENTS, at, losses)?;
        Block::Document(Document { source, media_type, name })
    } else if let Some(call) = block.object("toolUse").map_err(wrong)? {
        self::call(call, &format!("{at}.toolUse"), losses)?
    } else if let Some(result) = block.object("toolResult").map_err(wrong)? {
        self::result(result, &format!("{at}.toolResult"), losses)?
    } else if let Some(reasoning) = block.object("reasoningContent").map_err(wrong)? {
        let read = self::reasoning(reasoning, &format!("{at}.reasoningContent"), signed, losses)?;
        let Some(read) = read else { return name_rest(&block, at, losses).map(|()| None) };
        read
    } else if let Some(point) = block.object("cachePoint").map_err(wrong)? {
        Block::Cache(cache(point, &format!("{at}.cachePoint"), losses)?)
    } else if let Some(cited) = block.object("citationsContent").map_err(wrong)? {
        self::cited(cited, &format!("{at}.citationsContent"), losses)?
    } else if let Some(result) = block.object("searchResult").map_err(wrong)? {
        self::search_result(result, &format!("{at}.searchResult"), losses)?
    } else if let Some(guarded) = block.object("guardContent").map_err(wrong)? {
        self::guarded(guarded, &format!("{at}.guardContent"), losses)?
    } else {
        let Some(unknown) = block.rest().next() else { return Ok(None) };
        let why = "it is not known here".to_owned();
        return Err(Invalid::Unsupported { param: format!("{at}.{unknown}"), why });
    };
    name_rest(&block, at, losses)?;
    Ok(Some(read))
}

/// The media type and the source of `{"format":…,"source":{…}}`.
fn media(
    mut media: Object,
    name: &str,
    formats: &'static [(&'static str, &'static str)],
    at: &str,
    losses: &mut Losses,
) -> Result<(String, Source), Invalid> {
    let at = format!("{at}.{name}");
    let wrong = |it| mistyped(&at, it);
    let format = media.string("format").map_err(wrong)?.unwrap_or_default();
    // A document whose format is not said is text.
    let unsaid = (name == "document" && format.is_empty()).then_some("text/plain");
    let Some(media_type) = media::media_type(formats, &format).or(unsaid) else {
        let known: Vec<&str> = formats.iter().map(|(format, _)| *format).collect();
        let message = format!("`{at}.format` must be one of {}", known.join(", "));
        return Err(Invalid::request(format!("{at}.format"), message));
    };
    let missing = || wrong(Mistyped::new("source", "an object with `bytes` or `s3Location`"));
    let source = media.object("source").map_err(wrong)?.ok_or_else(missing)?;
    let source = self::source(source, &format!("{at}.source"), losses)?.ok_or_else(missing)?;
    name_rest(&media, &at, losses)?;
    Ok((media_type.to_owned(), source))
}

fn source(mut source: Object, at: &str, losses: &mut Losses) -> Result<Option<Source>, Invalid> {
    let wrong = |it| mistyped(at, it);
    let read = if let Some(bytes) = source.string("bytes").map_err(wrong)? {
        Some(Source::Base64(bytes))
    } else if let Some(text) = source.string("text").map_err(wrong)? {
        Some(Source::Text(text))
    } else if let Some(content) = source.array("content").map_err(wrong)? {
        Some(Source::Text(texts(&content, &format!("{at}.content"), losses)?.join("\n")))
    } else if let Some(mut s3) = source.object("s3Location").map_err(wrong)? {
        let uri = s3.string("uri").map_err(wrong)?;
        name_rest(&s3, &format!("{at}.s3Location"), losses)?;
        uri.map(Source::File)
    } else {
        None
    };
    name_rest(&source, at, losses)?;
    Ok(read)
}

/// The texts of a list of `{"text":…}`.
fn texts(list: &[&RawValue], at: &str, losses: &mut Losses) -> Result<Vec<String>, Invalid> {
    let mut texts = Vec::with_capacity(list.len());
    for item in list {
        let mut item = Object::parse(item.get(), at).map_err(|it| mistyped("", it))?;
        texts.extend(item.string("text").map_err(|it| mistyped(at, it))?);
        name_rest(&item, at, losses)?;
    }
    Ok(texts)
}

fn call(mut call: Object, at: &str, losses: &mut Losses) -> Result<Block, Invalid> {
    let wrong = |it| mistyped(at, it);
    if call.has("type") {
        let why = "a tool of the provider's own was called".to_owned();
        return Err(Invalid::Unsupported { param: format!("{at}.type"), why });
    }
    let input = call.take("input").map_or("{}", RawValue::get);
    if !input.starts_with('{') {
        return Err(wrong(Mistyped::new("input", "an object")));
    }
    let call_of = ToolUse {
        id: required(&mut call, "toolUseId", at)?,
        name: required(&mut call, "name", at)?,
        namespace: None,
        kind: ToolKind::Function,
        arguments: input.to_owned(),
        signature: None,
    };
    name_rest(&call, at, losses)?;
    Ok(Block::ToolUse(call_of))
}

pub fn required(object: &mut Object, name: &str, at: &str) -> Result<String, Invalid> {
    let text = object.string(name).map_err(|it| mistyped(at, it))?;
    text.ok_or_else(|| mistyped(at, Mistyped::new(name, "a string")))
}

fn result(mut result: Object, at: &str, losses: &mut Losses) -> Result<Block, Invalid> {
    let wrong = |it| mistyped(at, it);
    let id = required(&mut result, "toolUseId", at)?;
    let content = result.array("content").map_err(wrong)?.unwrap_or_default();
    let blocks = blocks(&content, &format!("{at}.content"), losses)?;
    let status = result.string("status").map_err(wrong)?;
    name_rest(&result, at, losses)?;
    let is_error = status.as_deref() == Some("error");
    Ok(Block::ToolResult(ToolResult { id, name: None, blocks, is_error }))
}

/// Reasoning; `None` for a block that only signs a call, which goes to `signed`.
fn reasoning(
    mut reasoning: Object,
    at: &str,
    signed: &mut HashMap<String, Signature>,
    losses: &mut Losses,
) -> Result<Option<Block>, Invalid> {
    let wrong = |it| mistyped(at, it);
    let block = if let Some(redacted) = reasoning.string("redactedContent").map_err(wrong)? {
        match signature::read_redacted(redacted) {
            Redacted::Thinking(signature) => Some(Block::RedactedThinking(signature)),
            Redacted::Call(id, signature) => {
                signed.insert(id, signature);
                None
            }
            Redacted::Damaged => None,
        }
    } else {
        let expected = "an object with `text`";
        let text = reasoning.object("reasoningText").map_err(wrong)?;
        let mut text = text.ok_or_else(|| wrong(Mistyped::new("reasoningText", expected)))?;
        let signature = text.string("signature").map_err(wrong)?.filter(|it| !it.is_empty());
        let signature = signature.and_then(signature::read);
        let read = text.string("text").map_err(wrong)?.unwrap_or_default();
        name_rest(&text, &format!("{at}.reasoningText"), losses)?;
        Some(Block::Thinking { text: read, signature })
    };
    name_rest(&reasoning, at, losses)?;
    Ok(block)
}

pub fn cache(mut point: Object, at: &str, losses: &mut Losses) -> Result<CacheMark, Invalid> {
    let wrong = |it| mistyped(at, it);
    // There is one type of it.
    point.take("type");
    let ttl = point.string("ttl").map_err(wrong)?;
    name_rest(&point, at, losses)?;
    Ok(if ttl.as_deref() == Some("1h") { CacheMark::Long } else { CacheMark::Short })
}

/// The text of an earlier answer; where it came from matters to nobody any more.
fn cited(mut cited: Object, at: &str, losses: &mut Losses) -> Result<Block, Invalid> {
    let content = cited.array("content").map_err(|it| mistyped(at, it))?.unwrap_or_default();
    let text = texts(&content, &format!("{at}.content"), losses)?.concat();
    name_rest(&cited, at, losses)?;
    Ok(Block::text(text))
}

/// What was found by a search becomes text: its title, where it is, what it says.
fn search_result(mut result: Object, at: &str, losses: &mut Losses) -> Result<Block, Invalid> {
    let wrong = |it| mistyped(at, it);
    let head = [result.string("title").map_err(wrong)?, result.string("source").map_err(wrong)?];
    let content = result.array("content").map_err(wrong)?.unwrap_or_default();
    let body = texts(&content, &format!("{at}.content"), losses)?;
    name_rest(&result, at, losses)?;
    let lines: Vec<String> = head.into_iter().flatten().chain(body).collect();
    Ok(Block::text(lines.join("\n")))
}

/// What a guardrail shall look at; without one it is content like any other.
fn guarded(mut guarded: Object, at: &str, losses: &mut Losses) -> Result<Block, Invalid> {
    let wrong = |it| mistyped(at, it);
    losses.drop_member(at)?;
    if let Some(image) = guarded.object("image").map_err(wrong)? {
        let (media_type, source) = media(image, "image", media::IMAGES, at, losses)?;
        return Ok(Block::Image(Image { source, media_type: Some(media_type), detail: None }));
    }
    let text = guarded.object("text").map_err(wrong)?;
    let mut text = text.ok_or_else(|| wrong(Mistyped::new("text", "an object")))?;
    Ok(Block::text(required(&mut text, "text", at)?))
}
