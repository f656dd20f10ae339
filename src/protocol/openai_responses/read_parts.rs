//! What a message or a tool's result is made of.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::mistyped;
use crate::protocol::canonical::{
    Annotation, Block, CacheMark, Document, Image, Invalid, Losses, Media, Source,
};
use crate::protocol::json::{Mistyped, Object};

/// Reads a text or a list of parts, which is named `path`.
pub fn read_parts(json: &RawValue, path: &str, losses: &mut Losses) -> Result<Vec<Block>, Invalid> {
    if let Ok(text) = serde_json::from_str::<String>(json.get()) {
        return Ok(if text.is_empty() { Vec::new() } else { vec![Block::text(text)] });
    }
    let parts: Vec<&RawValue> = serde_json::from_str(json.get())
        .map_err(|_| mistyped("")(Mistyped::new(path, "a string or an array of parts")))?;
    let mut blocks = Vec::with_capacity(parts.len());
    for part in parts {
        let mut object = Object::parse(part.get(), path).map_err(mistyped(""))?;
        blocks.push(read_part(&mut object, path, losses)?);
        if let Some(mark) = read_mark(&mut object, path)? {
            blocks.push(Block::Cache(mark));
        }
        for name in object.rest() {
            losses.drop_member(&format!("{path}.{name}"))?;
        }
    }
    Ok(blocks)
}

fn read_part(object: &mut Object, path: &str, losses: &mut Losses) -> Result<Block, Invalid> {
    let at = mistyped(path);
    let kind = object.string("type").map_err(&at)?.unwrap_or_default();
    match kind.as_str() {
        "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text" => {
            let text = object.string("text").map_err(&at)?;
            let text = text.ok_or_else(|| at(Mistyped::new("text", "a string")))?;
            // Of an earlier answer, and of no use to the next one.
            object.take("logprobs");
            Ok(Block::Text { text, annotations: read_annotations(object, path, losses)? })
        }
        "refusal" => Ok(Block::Refusal(object.string("refusal").map_err(&at)?.unwrap_or_default())),
        "input_image" => read_image(object, path),
        "input_file" => read_file(object, path),
        "input_audio" => read_audio(object, path),
        _ => {
            let why = format!("a part of type `{kind}` cannot be read");
            Err(Invalid::Unsupported { param: format!("{path}.type"), why })
        }
    }
}

/// Where an earlier answer's text came from, as far as it is places on the web.
fn read_annotations(
    object: &mut Object,
    path: &str,
    losses: &mut Losses,
) -> Result<Vec<Annotation>, Invalid> {
    let list = object.array("annotations").map_err(mistyped(path))?.unwrap_or_default();
    let read: Vec<_> = list.iter().filter_map(|it| read_annotation(it.get())).collect();
    if read.len() < list.len() {
        losses.drop_member(&format!("{path}.annotations"))?;
    }
    Ok(read)
}

/// A `url_citation`; other annotations are about things of the provider's.
pub fn read_annotation(json: &str) -> Option<Annotation> {
    #[derive(Deserialize)]
    struct Citation {
        r#type: String,
        url: String,
        #[serde(default)]
        title: Option<String>,
        #[serde(default)]
        start_index: u64,
        #[serde(default)]
        end_index: u64,
    }
    let Citation { r#type, url, title, start_index, end_index } =
        serde_json::from_str(json).ok()?;
    (r#type == "url_citation").then_some(Annotation {
        url,
        title,
        start: start_index,
        end: end_index,
    })
}

fn read_image(object: &mut Object, path: &str) -> Result<Block, Invalid> {
    let at = mistyped(path);
    let detail = object.string("detail").map_err(&at)?.filter(|detail| detail != "auto");
    let url = object.string("image_url").map_err(&at)?;
    let file = object.string("file_id").map_err(&at)?;
    let (source, media_type) = match (url, file) {
        (Some(url), _) => match data_url(&url) {
            Some((media_type, data)) => (Source::Base64(data.to_owned()), Some(media_type)),
            None => (Source::Url(url), None),
        },
        (None, Some(id)) => (Source::File(id), None),
        (None, None) => return Err(at(Mistyped::new("image_url", "a string"))),
    };
    Ok(Block::Image(Image { source, media_type, detail }))
}

fn read_file(object: &mut Object, path: &str) -> Result<Block, Invalid> {
    let at = mistyped(path);
    let name = object.string("filename").map_err(&at)?;
    let data = object.string("file_data").map_err(&at)?;
    let url = object.string("file_url").map_err(&at)?;
    let id = object.string("file_id").map_err(&at)?;
    let by_name = |name: &str| {
        let ending = name.rsplit('.').next().unwrap_or_default();
        media_type_of(ending).unwrap_or("application/pdf").to_owned()
    };
    let named = by_name(name.as_deref().unwrap_or_default());
    let (source, media_type) = match (data, url, id) {
        (Some(data), _, _) => match data_url(&data) {
            Some((media_type, data)) => (Source::Base64(data.to_owned()), media_type),
            None => (Source::Base64(data), named),
        },
        (None, Some(url), _) => {
            let path = url.split(['?', '#']).next().unwrap_or_default();
            let media_type = if name.is_some() { named } else { by_name(path) };
            (Source::Url(url), media_type)
        }
        (None, None, Some(id)) => (Source::File(id), named),
        (None, None, None) => return Err(at(Mistyped::new("file_data", "a string"))),
    };
    Ok(Block::Document(Document { source, media_type, name }))
}

fn read_audio(object: &mut Object, path: &str) -> Result<Block, Invalid> {
    let path = format!("{path}.input_audio");
    let at = mistyped(&path);
    let audio = object.object("input_audio").map_err(&at)?;
    let mut audio = audio.ok_or_else(|| at(Mistyped::new("data", "a string")))?;
    let data = audio.string("data").map_err(&at)?;
    let data = data.ok_or_else(|| at(Mistyped::new("data", "a string")))?;
    let format = audio.string("format").map_err(&at)?;
    let format = format.ok_or_else(|| at(Mistyped::new("format", "a string")))?;
    Ok(Block::Audio(Media { source: Source::Base64(data), media_type: format!("audio/{format}") }))
}

/// Where the prompt shall be cached up to (GPT-5.6 and later).
fn read_mark(object: &mut Object, path: &str) -> Result<Option<CacheMark>, Invalid> {
    let at = mistyped(path);
    let Some(mut mark) = object.object("prompt_cache_breakpoint").map_err(&at)? else {
        return Ok(None);
    };
    let ttl = mark.string("ttl").map_err(&at)?;
    Ok(Some(if ttl.as_deref() == Some("12h") { CacheMark::Long } else { CacheMark::Short }))
}

/// The media type and the base64 text of a `data:` URL.
fn data_url(url: &str) -> Option<(String, &str)> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    let parameters = head.strip_suffix(";base64")?;
    let media_type = parameters.split(';').next().unwrap_or_default();
    Some((media_type.to_ascii_lowercase(), data))
}

/// By a file's ending.
fn media_type_of(ending: &str) -> Option<&'static str> {
    Some(match ending.to_ascii_lowercase().as_str() {
        "pdf" => "application/pdf",
        "txt" | "text" | "log" => "text/plain",
        "md" | "markdown" => "text/markdown",
        "csv" => "text/csv",
        "html" | "htm" => "text/html",
        "xml" => "text/xml",
        "json" => "application/json",
        "doc" => "application/msword",
        "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "xls" => "application/vnd.ms-excel",
        "xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        _ => return None,
    })
}
