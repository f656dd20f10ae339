//! What a message has in it, as Anthropic's clients write it.

use std::collections::HashMap;

use serde_json::value::RawValue;

use super::read_response::read_citation;
use super::signature::{Signed, read_signature};
use crate::protocol::canonical::{
    Block, CacheMark, Document, Image, Invalid, Losses, Signature, Source, ToolKind, ToolResult,
    ToolUse,
};
use crate::protocol::json::{Mistyped, Object};

/// Where blocks of messages stand.
const CONTENT: &str = "messages.content";

/// Says of a mistyped member where it stands.
pub fn named(place: &'static str) -> impl Fn(Mistyped) -> Invalid {
    move |mistyped| {
        let Mistyped { name, expected } = mistyped;
        let param = if place.is_empty() { name } else { format!("{place}.{name}") };
        let message = format!("`{param}` must be {expected}");
        Invalid::Request { param, message }
    }
}

/// Names what of an object has no place in the middle form.
pub fn name_rest(object: &Object, place: &str, losses: &mut Losses) -> Result<(), Invalid> {
    for name in object.rest() {
        if place.is_empty() {
            losses.drop_member(name)?;
        } else {
            losses.drop_member(&format!("{place}.{name}"))?;
        }
    }
    Ok(())
}

/// Takes `cache_control` out of an object.
pub fn cache_mark(
    object: &mut Object,
    place: &'static str,
    losses: &mut Losses,
) -> Result<Option<CacheMark>, Invalid> {
    let Some(mut mark) = object.object("cache_control").map_err(named(place))? else {
        return Ok(None);
    };
    mark.take("type");
    let long = mark.string("ttl").map_err(named("cache_control"))?.as_deref() == Some("1h");
    name_rest(&mark, "cache_control", losses)?;
    Ok(Some(if long { CacheMark::Long } else { CacheMark::Short }))
}

/// Reads what is a string, or blocks of text and nothing else.
pub fn read_texts(
    value: &RawValue,
    place: &'static str,
    losses: &mut Losses,
) -> Result<Vec<Block>, Invalid> {
    if let Some(text) = as_string(value) {
        return Ok(vec![Block::text(text)]);
    }
    let mut blocks = Vec::new();
    for value in elements(value, place)? {
        let mut block = Object::parse(value.get(), place).map_err(named(""))?;
        let mark = cache_mark(&mut block, place, losses)?;
        if block.string("type").map_err(named(place))?.is_some_and(|kind| kind != "text") {
            return Err(named(place)(Mistyped::new("type", "`text`")));
        }
        blocks.push(Block::text(text(&mut block, "text", place)?));
        blocks.extend(mark.map(Block::Cache));
        name_rest(&block, place, losses)?;
    }
    Ok(blocks)
}

/// Reads a message's content.
pub fn read_content(value: &RawValue, losses: &mut Losses) -> Result<Vec<Block>, Invalid> {
    if let Some(text) = as_string(value) {
        return Ok(vec![Block::text(text)]);
    }
    let mut blocks = Vec::new();
    let mut signed = HashMap::new();
    for value in elements(value, CONTENT)? {
        read_block(value, &mut blocks, &mut signed, losses)?;
    }
    for block in &mut blocks {
        if let Block::ToolUse(call) = block {
            call.signature = signed.remove(&call.id);
        }
    }
    Ok(blocks)
}

fn as_string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

fn elements<'j>(value: &'j RawValue, place: &'static str) -> Result<Vec<&'j RawValue>, Invalid> {
    let wrong = |_| named("")(Mistyped::new(place, "a string or an array of blocks"));
    serde_json::from_str(value.get()).map_err(wrong)
}

/// A string that must be there.
fn text(object: &mut Object, name: &str, place: &'static str) -> Result<String, Invalid> {
    let text = object.string(name).map_err(named(place))?;
    text.ok_or_else(|| named(place)(Mistyped::new(name, "a string")))
}

/// Reads a block with its cache mark. What a block says of another's signature goes to `signed`.
fn read_block(
    value: &RawValue,
    blocks: &mut Vec<Block>,
    signed: &mut HashMap<String, Signature>,
    losses: &mut Losses,
) -> Result<(), Invalid> {
    let mut block = Object::parse(value.get(), CONTENT).map_err(named(""))?;
    let mut mark = cache_mark(&mut block, CONTENT, losses)?;
    match text(&mut block, "type", CONTENT)?.as_str() {
        "text" => blocks.push(read_text(&mut block, losses)?),
        "image" => blocks.push(read_image(&mut block, losses)?),
        "document" => read_document(&mut block, blocks, losses)?,
        "search_result" => blocks.push(read_search_result(&mut block, losses)?),
        "thinking" => {
            let thinking = text(&mut block, "thinking", CONTENT)?;
            let signature = block.string("signature").map_err(named(CONTENT))?;
            let signature = match read_signature(signature.unwrap_or_default()) {
                Signed::Thinking(signature) => Some(signature),
                Signed::Call(..) | Signed::Nothing => None,
            };
            blocks.push(Block::Thinking { text: thinking, signature });
        }
        "redacted_thinking" => match read_signature(text(&mut block, "data", CONTENT)?) {
            Signed::Thinking(signature) => blocks.push(Block::RedactedThinking(signature)),
            Signed::Call(id, signature) => {
                signed.insert(id, signature);
            }
            Signed::Nothing => {}
        },
        "tool_use" => blocks.push(read_call(&mut block)?),
        "tool_result" => {
            let (result, within) = read_result(&mut block, losses)?;
            blocks.push(Block::ToolResult(result));
            mark = mark.or(within);
        }
        kind => {
            let why = format!("blocks of type `{kind}` are of use to Anthropic alone");
            return Err(Invalid::Unsupported { param: CONTENT.to_owned(), why });
        }
    }
    blocks.extend(mark.map(Block::Cache));
    name_rest(&block, CONTENT, losses)
}

fn read_text(block: &mut Object, losses: &mut Losses) -> Result<Block, Invalid> {
    let text = text(block, "text", CONTENT)?;
    let citations = block.array("citations").map_err(named(CONTENT))?.unwrap_or_default();
    let end = text.chars().count() as u64;
    let annotations: Vec<_> =
        citations.iter().filter_map(|citation| read_citation(citation.get(), end)).collect();
    if annotations.len() < citations.len() {
        losses.drop_member("messages.content.citations")?;
    }
    Ok(Block::Text { text, annotations })
}

/// Takes `source` out of an image or a document.
fn source<'j>(block: &mut Object<'j>) -> Result<(String, Object<'j>), Invalid> {
    let source = block.object("source").map_err(named(CONTENT))?;
    let mut source = source.ok_or_else(|| named(CONTENT)(Mistyped::new("source", "an object")))?;
    Ok((text(&mut source, "type", "messages.content.source")?, source))
}

fn read_image(block: &mut Object, losses: &mut Losses) -> Result<Block, Invalid> {
    let (kind, mut source) = source(block)?;
    let place = "messages.content.source";
    let media_type = source.string("media_type").map_err(named(place))?;
    let read = match kind.as_str() {
        "base64" => Source::Base64(text(&mut source, "data", place)?),
        "url" => Source::Url(text(&mut source, "url", place)?),
        "file" => Source::File(text(&mut source, "file_id", place)?),
        _ => return Err(named(place)(Mistyped::new("type", "`base64`, `url` or `file`"))),
    };
    name_rest(&source, place, losses)?;
    Ok(Block::Image(Image { source: read, media_type, detail: None }))
}

/// A document, and before it what is said about it.
fn read_document(
    block: &mut Object,
    blocks: &mut Vec<Block>,
    losses: &mut Losses,
) -> Result<(), Invalid> {
    let (kind, mut source) = source(block)?;
    let place = "messages.content.source";
    let media_type = source.string("media_type").map_err(named(place))?;
    let (read, default) = match kind.as_str() {
        "base64" => (Source::Base64(text(&mut source, "data", place)?), "application/pdf"),
        "url" => (Source::Url(text(&mut source, "url", place)?), "application/pdf"),
        "file" => (Source::File(text(&mut source, "file_id", place)?), "application/pdf"),
        "text" => (Source::Text(text(&mut source, "data", place)?), "text/plain"),
        "content" => (Source::Text(content_text(&mut source, losses)?), "text/plain"),
        _ => {
            let expected = "`base64`, `text`, `content`, `url` or `file`";
            return Err(named(place)(Mistyped::new("type", expected)));
        }
    };
    name_rest(&source, place, losses)?;
    blocks.extend(block.string("context").map_err(named(CONTENT))?.map(Block::text));
    cites(block, losses)?;
    blocks.push(Block::Document(Document {
        source: read,
        media_type: media_type.unwrap_or_else(|| default.to_owned()),
        name: block.string("title").map_err(named(CONTENT))?,
    }));
    Ok(())
}

/// A document given in pieces, as one text.
fn content_text(source: &mut Object, losses: &mut Losses) -> Result<String, Invalid> {
    let place = "messages.content.source";
    let content = source.take("content");
    let content =
        content.ok_or_else(|| named(place)(Mistyped::new("content", "a string or an array")))?;
    join_texts(content, "messages.content.source.content", losses)
}

fn join_texts(
    content: &RawValue,
    place: &'static str,
    losses: &mut Losses,
) -> Result<String, Invalid> {
    let texts = read_texts(content, place, losses)?;
    let texts = texts.into_iter().filter_map(|block| match block {
        Block::Text { text, .. } => Some(text),
        _ => None,
    });
    Ok(texts.collect::<Vec<_>>().join("\n\n"))
}

/// Whether citations are asked for, which nobody else makes.
fn cites(block: &mut Object, losses: &mut Losses) -> Result<(), Invalid> {
    let Some(mut citations) = block.object("citations").map_err(named(CONTENT))? else {
        return Ok(());
    };
    if citations.boolean("enabled").map_err(named("messages.content.citations"))? == Some(true) {
        losses.drop_member("messages.content.citations")?;
    }
    Ok(())
}

/// A search's result is a document whose first line says where it is from.
fn read_search_result(block: &mut Object, losses: &mut Losses) -> Result<Block, Invalid> {
    let source = text(block, "source", CONTENT)?;
    let content = block.take("content");
    let content =
        content.ok_or_else(|| named(CONTENT)(Mistyped::new("content", "an array of blocks")))?;
    let content = join_texts(content, CONTENT, losses)?;
    cites(block, losses)?;
    Ok(Block::Document(Document {
        source: Source::Text(format!("{source}\n\n{content}")),
        media_type: "text/plain".to_owned(),
        name: block.string("title").map_err(named(CONTENT))?,
    }))
}

fn read_call(block: &mut Object) -> Result<Block, Invalid> {
    // Who called: the model itself, or code it ran at Anthropic.
    block.take("caller");
    Ok(Block::ToolUse(ToolUse {
        id: text(block, "id", CONTENT)?,
        name: text(block, "name", CONTENT)?,
        namespace: None,
        kind: ToolKind::Function,
        arguments: block.take("input").map_or("{}", RawValue::get).to_owned(),
        signature: None,
    }))
}

/// A tool's result, and the last cache mark within it: marks stand behind whole results.
fn read_result(
    block: &mut Object,
    losses: &mut Losses,
) -> Result<(ToolResult, Option<CacheMark>), Invalid> {
    let mut result = ToolResult {
        id: text(block, "tool_use_id", CONTENT)?,
        name: None,
        blocks: Vec::new(),
        is_error: block.boolean("is_error").map_err(named(CONTENT))?.unwrap_or_default(),
    };
    let Some(content) = block.take("content") else { return Ok((result, None)) };
    if let Some(text) = as_string(content) {
        result.blocks.push(Block::text(text));
        return Ok((result, None));
    }
    let mut mark = None;
    for value in elements(content, CONTENT)? {
        let mut inner = Object::parse(value.get(), CONTENT).map_err(named(""))?;
        mark = cache_mark(&mut inner, CONTENT, losses)?.or(mark);
        let blocks = &mut result.blocks;
        match text(&mut inner, "type", CONTENT)?.as_str() {
            "text" => blocks.push(read_text(&mut inner, losses)?),
            "image" => blocks.push(read_image(&mut inner, losses)?),
            "document" => read_document(&mut inner, blocks, losses)?,
            "search_result" => blocks.push(read_search_result(&mut inner, losses)?),
            // A tool that a search for tools found: here all of them are given from the beginning.
            "tool_reference" => blocks.push(Block::text(text(&mut inner, "tool_name", CONTENT)?)),
            kind => {
                let why = format!("blocks of type `{kind}` are of use to Anthropic alone");
                return Err(Invalid::Unsupported { param: CONTENT.to_owned(), why });
            }
        }
        name_rest(&inner, CONTENT, losses)?;
    }
    Ok((result, mark))
}
