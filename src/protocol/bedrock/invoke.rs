//! The frames of `InvokeModelWithResponseStream` around a model's own events.
//!
//! A message `chunk` carries one event in base64. Claude's are those of Anthropic's own stream, so that
//! between these frames and Anthropic's dialect only the frames are changed.
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModelWithResponseStream.html>

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use std::borrow::Cow;

use super::refusal::write_stream_refusal;
use crate::protocol::anthropic;
use crate::protocol::canonical::{Failure, brief};
use crate::protocol::framing::eventstream::{Decoder, Kind, Message, write_event};
use crate::protocol::framing::whole::{TooLong, WholeEvents};

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow)]
    bytes: Cow<'a, str>,
}

/// Anthropic's events say what they are.
#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

/// The event that a message `chunk` carries.
pub(super) fn chunk_bytes(payload: &[u8]) -> Option<Vec<u8>> {
    let chunk: Chunk = serde_json::from_slice(payload).ok()?;
    STANDARD.decode(chunk.bytes.as_bytes()).ok()
}

/// Takes Claude's events out of their frames, as server-sent events.
#[derive(Debug, Default)]
pub struct ChunkReader {
    decoder: Decoder,
    over: bool,
}

impl ChunkReader {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes in, cut anywhere, and appends the events. A failure of the service becomes
    /// Anthropic's `error`, as does what cannot be read; it is the last event.
    pub fn push(&mut self, chunk: Bytes, out: &mut Vec<u8>) {
        if self.over {
            return;
        }
        self.decoder.push(chunk);
        while !self.over
            && let Some(read) = self.decoder.next()
        {
            let told = match read {
                Ok(message) => tell(&message, out),
                Err(malformed) => Err(unreadable(&malformed)),
            };
            if let Err(failure) = told {
                self.fail(&failure, out);
            }
        }
    }

    /// The stream is over. Of a message whose end has not come the client is told as of a failure.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if !self.over && !self.decoder.is_between_messages() {
            self.fail(&Failure::cut_off(), out);
        }
        self.over = true;
    }

    fn fail(&mut self, failure: &Failure, out: &mut Vec<u8>) {
        *self = Self { over: true, ..Self::default() };
        out.extend_from_slice(&anthropic::write_stream_refusal(&failure.refusal("")));
    }
}

fn tell(message: &Message, out: &mut Vec<u8>) -> Result<(), Failure> {
    match message.kind() {
        Kind::Event("chunk") => {}
        Kind::Event(name) if !name.ends_with("Exception") => return Ok(()),
        Kind::Event(name) | Kind::Exception(name) => {
            return Err(Failure::read(None, Some(name), &message.payload));
        }
        Kind::Error { code, message } => {
            return Err(Failure::read(None, Some(code), message.as_bytes()));
        }
    }
    let event =
        chunk_bytes(&message.payload).ok_or_else(|| unreadable(&"a chunk without bytes"))?;
    let typed: Typed = serde_json::from_slice(&event).map_err(|error| unreadable(&error))?;
    // What would end a line stands only between JSON's tokens, never within one.
    let is_break = |byte: &u8| matches!(byte, b'\n' | b'\r');
    let kind: String = typed.kind.chars().filter(|c| !c.is_control()).collect();
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    out.extend(event.iter().map(|byte| if is_break(byte) { b' ' } else { *byte }));
    out.extend_from_slice(b"\n\n");
    Ok(())
}

fn unreadable(why: &dyn std::fmt::Display) -> Failure {
    let message = format!("The provider's stream cannot be read: {}.", brief(why));
    Failure { message, ..Failure::cut_off() }
}

/// Puts Anthropic's events into frames, for clients that call Claude at Bedrock.
#[derive(Debug, Default)]
pub struct ChunkWriter {
    decoder: WholeEvents,
    base64: String,
    over: bool,
}

impl ChunkWriter {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes server-sent events in, cut anywhere, and appends their frames. There are no pings at
    /// Bedrock; an `error` becomes an exception, which is the last message.
    pub fn push(&mut self, chunk: Bytes, out: &mut Vec<u8>) {
        if self.over {
            return;
        }
        self.decoder.push(chunk);
        while !self.over
            && let Some(event) = self.decoder.next()
        {
            match event {
                Ok(event) => {
                    if let Some(data) = &event.data {
                        self.tell(data, out);
                    }
                }
                Err(TooLong) => self.fail(&unreadable(&"an event is too large"), out),
            }
        }
    }

    fn tell(&mut self, data: &[u8], out: &mut Vec<u8>) {
        let typed: Result<Typed, _> = serde_json::from_slice(data);
        match typed.as_ref().map(|typed| typed.kind.as_ref()) {
            Ok("ping") => {}
            Ok("error") => self.fail(&Failure::read(None, None, data), out),
            Ok(_) => {
                self.base64.clear();
                STANDARD.encode_string(data, &mut self.base64);
                let base64 = self.base64.as_bytes();
                let written = write_event("chunk", out, |out| {
                    out.extend_from_slice(br#"{"bytes":""#);
                    out.extend_from_slice(base64);
                    out.extend_from_slice(br#""}"#);
                });
                if let Err(too_large) = written {
                    self.fail(&unreadable(&too_large), out);
                }
            }
            Err(error) => self.fail(&unreadable(error), out),
        }
    }

    fn fail(&mut self, failure: &Failure, out: &mut Vec<u8>) {
        *self = Self { over: true, ..Self::default() };
        out.extend_from_slice(&write_stream_refusal(&failure.refusal("")));
    }
}
