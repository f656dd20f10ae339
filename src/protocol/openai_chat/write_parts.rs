//! Writes the parts of a message.

use std::borrow::Cow;

use serde::Serialize;

use super::media;
use crate::protocol::canonical::{
    Block, Document, Fate, Field, Image, Invalid, Losses, Media, Rules, Source,
};

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Part<'a> {
    Text {
        text: Cow<'a, str>,
    },
    ImageUrl {
        image_url: ImageUrl<'a>,
    },
    InputAudio {
        input_audio: InputAudio<'a>,
    },
    /// vLLM.
    AudioUrl {
        audio_url: Url<'a>,
    },
    /// vLLM.
    VideoUrl {
        video_url: Url<'a>,
    },
    File {
        file: File<'a>,
    },
}

#[derive(Serialize)]
pub(super) struct ImageUrl<'a> {
    url: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct InputAudio<'a> {
    data: &'a str,
    format: &'static str,
}

#[derive(Serialize)]
pub(super) struct Url<'a> {
    url: Cow<'a, str>,
}

#[derive(Serialize)]
pub(super) struct File<'a> {
    filename: Cow<'a, str>,
    file_data: String,
}

impl<'a> Part<'a> {
    pub fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text { text: text.into() }
    }

    /// The words, of a part that is nothing else.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text { text } => Some(text),
            _ => None,
        }
    }
}

/// What a block of the user's is; `None` for what says nothing here.
pub(super) fn write_part<'a>(
    block: &'a Block,
    rules: &Rules,
    losses: &mut Losses,
) -> Result<Option<Part<'a>>, Invalid> {
    match block {
        Block::Text { text, .. } | Block::Refusal(text) => Ok(Some(Part::text(text))),
        Block::Image(it) => image(it, losses),
        Block::Audio(it) => audio(it, rules, losses),
        Block::Video(it) => video(it, rules, losses),
        Block::Document(it) => document(it, rules, losses),
        // The assistant's, or nothing that is read.
        Block::Thinking { .. }
        | Block::RedactedThinking(_)
        | Block::ToolUse(_)
        | Block::ToolResult(_)
        | Block::Cache(_) => Ok(None),
    }
}

type Written<'a> = Result<Option<Part<'a>>, Invalid>;

const OF_ANOTHER: Fate = Fate::Refused("the file is kept by another provider");

fn image<'a>(image: &'a Image, losses: &mut Losses) -> Written<'a> {
    let url = match &image.source {
        Source::Base64(data) => {
            let media_type = image.media_type.as_deref().unwrap_or("image/png");
            Cow::Owned(format!("data:{media_type};base64,{data}"))
        }
        Source::Url(url) => Cow::Borrowed(url.as_str()),
        Source::File(_) | Source::Text(_) => {
            losses.lose(Field::FileId, OF_ANOTHER)?;
            return Ok(None);
        }
    };
    let detail = image.detail.as_deref();
    Ok(Some(Part::ImageUrl { image_url: ImageUrl { url, detail } }))
}

fn audio<'a>(audio: &'a Media, rules: &Rules, losses: &mut Losses) -> Written<'a> {
    let format = match audio.media_type.as_str() {
        "audio/wav" | "audio/x-wav" | "audio/wave" => Some("wav"),
        "audio/mp3" | "audio/mpeg" => Some("mp3"),
        _ => None,
    };
    match (&audio.source, format) {
        (Source::Base64(data), Some(format)) => {
            Ok(Some(Part::InputAudio { input_audio: InputAudio { data, format } }))
        }
        _ if rules.extended_sampling => {
            Ok(url(audio, losses)?.map(|audio_url| Part::AudioUrl { audio_url }))
        }
        _ => {
            losses.lose(Field::Audio, Fate::Refused("only WAV and MP3 data can be sent"))?;
            Ok(None)
        }
    }
}

fn video<'a>(video: &'a Media, rules: &Rules, losses: &mut Losses) -> Written<'a> {
    if !rules.extended_sampling {
        losses.lose(Field::Video, Fate::Refused("only vLLM takes video"))?;
        return Ok(None);
    }
    Ok(url(video, losses)?.map(|video_url| Part::VideoUrl { video_url }))
}

fn url<'a>(media: &'a Media, losses: &mut Losses) -> Result<Option<Url<'a>>, Invalid> {
    let url = match &media.source {
        Source::Base64(data) => Cow::Owned(format!("data:{};base64,{data}", media.media_type)),
        Source::Url(url) => Cow::Borrowed(url.as_str()),
        Source::File(_) | Source::Text(_) => {
            losses.lose(Field::FileId, OF_ANOTHER)?;
            return Ok(None);
        }
    };
    Ok(Some(Url { url }))
}

/// Plain text is words like any others; what must be read by a program is a file.
fn document<'a>(document: &'a Document, rules: &Rules, losses: &mut Losses) -> Written<'a> {
    let Document { source, media_type, name } = document;
    let words = |text: &str| {
        let title = name.as_ref().map(|name| format!("{name}\n\n")).unwrap_or_default();
        Ok(Some(Part::text(format!("{title}{text}"))))
    };
    match source {
        Source::Text(text) => words(text),
        Source::Base64(data) => {
            if media_type.starts_with("text/")
                && let Some(text) = media::text(data)
            {
                return words(&text);
            }
            if rules.extended_sampling {
                let why = "the server reads no documents but text";
                losses.lose(Field::Document, Fate::Refused(why))?;
            }
            let is_pdf = media_type == "application/pdf";
            let usual = if is_pdf { "document.pdf" } else { "document" };
            // OpenAI knows by the ending what it is given.
            let filename = match name.as_deref().unwrap_or(usual) {
                name if is_pdf && !name.contains('.') => Cow::Owned(format!("{name}.pdf")),
                name => Cow::Borrowed(name),
            };
            let file_data = format!("data:{media_type};base64,{data}");
            Ok(Some(Part::File { file: File { filename, file_data } }))
        }
        Source::Url(_) => {
            losses.lose(Field::DocumentUrl, super::fate(Field::DocumentUrl))?;
            Ok(None)
        }
        Source::File(_) => {
            losses.lose(Field::FileId, OF_ANOTHER)?;
            Ok(None)
        }
    }
}
