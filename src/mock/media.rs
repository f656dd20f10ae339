//! Images and audio: `POST /v1/images/generations`, `/v1/audio/speech`, `/v1/audio/transcriptions`,
//! `/v1/audio/translations`.

use serde_json::{Value, json};

use super::ask::{Ask, Outcome, tokens_of};
use super::form::Form;
use super::reply::Reply;

/// A PNG of one transparent pixel.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhf\
    DwAChwGA60e6kgAAAABJRU5ErkJggg==";
/// More images than this are refused.
const IMAGES: usize = 10;
/// A tenth of a second of silence: 8,000 samples a second, one byte each.
const SAMPLES: u32 = 800;

/// Answers with images of one pixel.
pub fn images(ask: &Ask) -> Outcome {
    let prompt = ask.require("prompt")?.as_str().unwrap_or_default();
    let count = ask.count("n").unwrap_or(1);
    if !(1..=IMAGES).contains(&count) {
        return Err(Reply::bad_request(&format!("n must be between 1 and {IMAGES}"), Some("n")));
    }
    let image = match ask.text("response_format") {
        Some("url") => json!({"url": format!("data:image/png;base64,{PIXEL}")}),
        _ => json!({"b64_json": PIXEL}),
    };
    let data: Vec<Value> = (0..count).map(|_| image.clone()).collect();
    let (asked, made) = (tokens_of(prompt), count);
    let usage = json!({"input_tokens": asked, "output_tokens": made, "total_tokens": asked + made,
        "input_tokens_details": {"text_tokens": asked, "image_tokens": 0}});
    Ok(Reply::json(&json!({"created": ask.now, "data": data, "usage": usage})))
}

/// Answers with a tenth of a second of silence, as a WAV file whatever the format asked for.
pub fn speech(ask: &Ask) -> Outcome {
    ask.require("input")?;
    Ok(Reply::whole("audio/wav", silence()))
}

/// Answers an upload of audio with a sentence about it.
pub fn transcript(form: &Form) -> Outcome {
    let file = form.file().ok_or_else(|| Reply::missing("file"))?;
    let text =
        format!("This is Forebay's mock model. I heard {} bytes of {}.", file.size, file.name);
    match form.field("response_format") {
        Some("text") => Ok(Reply::whole("text/plain; charset=utf-8", format!("{text}\n"))),
        _ => Ok(Reply::json(&json!({"text": text, "usage": {"type": "duration", "seconds": 1}}))),
    }
}

fn silence() -> Vec<u8> {
    let mut wav = Vec::with_capacity(44 + 800);
    wav.extend(b"RIFF");
    wav.extend((36 + SAMPLES).to_le_bytes());
    wav.extend(b"WAVEfmt ");
    wav.extend(16_u32.to_le_bytes());
    // PCM, one channel.
    wav.extend([1, 0, 1, 0]);
    wav.extend(8000_u32.to_le_bytes());
    wav.extend(8000_u32.to_le_bytes());
    // One byte per frame, eight bits per sample.
    wav.extend([1, 0, 8, 0]);
    wav.extend(b"data");
    wav.extend(SAMPLES.to_le_bytes());
    // Silence in unsigned eight-bit samples is the middle.
    wav.extend((0..SAMPLES).map(|_| 128));
    wav
}

#[cfg(test)]
mod tests {
    use super::super::ask::tests::ask;
    use super::*;

    #[test]
    fn as_many_images_as_asked_for() {
        let body = images(&ask(json!({"prompt": "a cat", "n": 2}))).unwrap().value();
        assert_eq!(body["data"].as_array().unwrap().len(), 2);
        assert_eq!(images(&ask(json!({"prompt": "a cat", "n": 99}))).unwrap_err().status, 400);
    }

    #[test]
    fn silence_is_a_whole_wav_file() {
        let wav = silence();
        assert_eq!(wav.len(), 844);
        assert_eq!(wav[4..8], 836_u32.to_le_bytes());
    }

    #[test]
    fn a_transcript_tells_the_size() {
        let mut form = Form::new("multipart/form-data; boundary=b", 0).unwrap();
        let head = "Content-Disposition: form-data; name=\"file\"; filename=\"a.wav\"";
        form.push(format!("--b\r\n{head}\r\n\r\n12345\r\n--b--\r\n").as_bytes()).unwrap();
        let body = transcript(&form).unwrap().value();
        assert!(body["text"].as_str().unwrap().contains("5 bytes of a.wav"));
    }
}
