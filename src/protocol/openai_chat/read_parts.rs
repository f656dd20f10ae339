//! Reads the parts of a message.

use serde_json::value::RawValue;

use super::media;
use super::read_reasoning::thinking;
use super::read_request::{drop_rest, mistyped};
use crate::protocol::canonical::{
    Block, CacheMark, Document, Image, Invalid, Losses, Media, Source,
};
use crate::protocol::json::Object;

/// Reads a content called `at`: a string, or parts.
pub(super) fn read_content(
    content: &RawValue,
    at: &str,
    losses: &mut Losses,
) -> Result<Vec<Block>, Invalid> {
    if let Ok(text) = serde_json::from_str::<String>(content.get()) {
        return Ok(vec![Block::text(text)]);
    }
    let fault = |_| Invalid::request(at, format!("`{at}` must be a string or an array of parts"));
    let parts: Vec<&RawValue> = serde_json::from_str(content.get()).map_err(fault)?;
    let mut blocks = Vec::with_capacity(parts.len());
    for part in parts {
        blocks.extend(read_part(part, at, losses)?);
    }
    Ok(blocks)
}

/// Reads a part, and the cache mark on it, which stands behind it then.
pub(super) fn read_part(
    part: &RawValue,
    at: &str,
    losses: &mut Losses,
) -> Result<Vec<Block>, Invalid> {
    let fault = |_| Invalid::request(at, format!("the parts of `{at}` must be objects"));
    let raw = part;
    let mut part = Object::parse(part.get(), "").map_err(fault)?;
    let kind = part.string("type").map_err(mistyped(at))?.unwrap_or_default();
    let block = match kind.as_str() {
        "text" | "input_text" | "output_text" => {
            Block::text(part.string("text").map_err(mistyped(at))?.unwrap_or_default())
        }
        "refusal" => {
            Block::Refusal(part.string("refusal").map_err(mistyped(at))?.unwrap_or_default())
        }
        "image_url" => image(&mut part, at, losses)?,
        "input_audio" => audio(&mut part, at, losses)?,
        "audio_url" => Block::Audio(media_url(&mut part, "audio_url", "audio/wav", at)?),
        "video_url" => Block::Video(media_url(&mut part, "video_url", "video/mp4", at)?),
        "file" => document(&mut part, at, losses)?,
        "thinking" | "redacted_thinking" => {
            let block = thinking(raw, at)?;
            return Ok(block.into_iter().collect());
        }
        other => {
            return Err(Invalid::Unsupported {
                param: "messages.content".to_owned(),
                why: format!("parts of type {other:?} are not known"),
            });
        }
    };
    let mark = cache_mark(&mut part, at)?.map(Block::Cache);
    drop_rest(&part, "messages.content", losses)?;
    Ok(std::iter::once(block).chain(mark).collect())
}

/// The mark of a prompt's part that shall be cached: `OpenAI`'s, or Anthropic's, which clients send in
/// this dialect too.
pub(super) fn cache_mark(object: &mut Object, at: &str) -> Result<Option<CacheMark>, Invalid> {
    for name in ["cache_control", "prompt_cache_breakpoint"] {
        if let Some(mut mark) = object.object(name).map_err(mistyped(at))? {
            let ttl = mark.string("ttl").map_err(mistyped(at))?;
            let is_long = matches!(ttl.as_deref(), Some("1h" | "30m" | "12h" | "24h"));
            return Ok(Some(if is_long { CacheMark::Long } else { CacheMark::Short }));
        }
    }
    Ok(None)
}

/// `{"image_url": {"url": …, "detail": …}}`, or the URL alone.
fn image(part: &mut Object, at: &str, losses: &mut Losses) -> Result<Block, Invalid> {
    let within = format!("{at}.image_url");
    let missing = || Invalid::request(&within, format!("`{within}` must have a `url`"));
    let raw = part.take("image_url").ok_or_else(missing)?;
    let (url, detail) = if let Ok(url) = serde_json::from_str::<String>(raw.get()) {
        (url, None)
    } else {
        let mut image = Object::parse(raw.get(), "image_url").map_err(mistyped(at))?;
        let url = image.string("url").map_err(mistyped(&within))?.ok_or_else(missing)?;
        let detail = image.string("detail").map_err(mistyped(&within))?;
        drop_rest(&image, "messages.content.image_url", losses)?;
        (url, detail)
    };
    let (source, media_type) = match source(url, &within)? {
        (source, Some(media_type)) => (source, Some(media_type)),
        (source, None) => (source, None),
    };
    Ok(Block::Image(Image { source, media_type, detail }))
}

/// The bytes of a `data:` URL and their type, or a URL of the web.
fn source(url: String, at: &str) -> Result<(Source, Option<String>), Invalid> {
    if let Some((media_type, data)) = media::data_url(&url) {
        return Ok((Source::Base64(data), Some(media_type)));
    }
    if url.starts_with("https://") || url.starts_with("http://") {
        return Ok((Source::Url(url), None));
    }
    Err(Invalid::request(at, format!("`{at}` must be a URL of `https:`, `http:` or `data:`")))
}

/// `{"input_audio": {"data": base64, "format": "wav" | "mp3"}}`.
fn audio(part: &mut Object, at: &str, losses: &mut Losses) -> Result<Block, Invalid> {
    let within = format!("{at}.input_audio");
    let missing = || Invalid::request(&within, format!("`{within}` must have `data` and `format`"));
    let audio = part.object("input_audio").map_err(mistyped(at))?;
    let mut audio = audio.ok_or_else(missing)?;
    let data = audio.string("data").map_err(mistyped(&within))?.ok_or_else(missing)?;
    let format = audio.string("format").map_err(mistyped(&within))?.ok_or_else(missing)?;
    drop_rest(&audio, "messages.content.input_audio", losses)?;
    let media_type = format!("audio/{format}");
    Ok(Block::Audio(Media { source: Source::Base64(data), media_type }))
}

/// vLLM's `{"video_url": {"url": …}}` and the like; `usual` is the type where the URL does not say it.
fn media_url(part: &mut Object, name: &str, usual: &str, at: &str) -> Result<Media, Invalid> {
    let within = format!("{at}.{name}");
    let missing = || Invalid::request(&within, format!("`{within}` must have a `url`"));
    let mut media = part.object(name).map_err(mistyped(at))?.ok_or_else(missing)?;
    let url = media.string("url").map_err(mistyped(&within))?.ok_or_else(missing)?;
    let (source, media_type) = source(url, &within)?;
    Ok(Media { source, media_type: media_type.unwrap_or_else(|| usual.to_owned()) })
}

/// `{"file": {"file_data" | "file_id" | "file_url": …, "filename": …}}`.
fn document(part: &mut Object, at: &str, losses: &mut Losses) -> Result<Block, Invalid> {
    const PDF: &str = "application/pdf";
    let within = format!("{at}.file");
    let missing = || Invalid::request(&within, format!("`{within}` must have `file_data`"));
    let mut file = part.object("file").map_err(mistyped(at))?.ok_or_else(missing)?;
    let name = file.string("filename").map_err(mistyped(&within))?;
    let data = file.string("file_data").map_err(mistyped(&within))?;
    let url = file.string("file_url").map_err(mistyped(&within))?;
    let id = file.string("file_id").map_err(mistyped(&within))?;
    drop_rest(&file, "messages.content.file", losses)?;
    if let Some(id) = id {
        let (source, media_type) = (Source::File(id), PDF.to_owned());
        return Ok(Block::Document(Document { source, media_type, name }));
    }
    let data = data.or(url).ok_or_else(missing)?;
    let (source, media_type) = match source(data.clone(), &within) {
        Ok((source, media_type)) => (source, media_type.unwrap_or_else(|| PDF.to_owned())),
        // Bare base64.
        Err(_) => (Source::Base64(data), PDF.to_owned()),
    };
    let source = match source {
        Source::Base64(data) if media_type.starts_with("text/") => {
            media::text(&data).map_or(Source::Base64(data), Source::Text)
        }
        source => source,
    };
    Ok(Block::Document(Document { source, media_type, name }))
}
