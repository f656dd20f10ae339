//! Streams, as Anthropic's clients read them.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::refusal::write_stream_refusal;
use super::signature::{write_call_signature, write_signature};
use super::stop::write_stop;
use super::usage::Written;
use super::write_response::{Citation, Content, ImageSource, Message, StopDetails, message_id};
use crate::protocol::canonical::{
    Delta, End, Event, Opening, Sequence, Signature, Start, Stop, Told,
};

/// Writes a stream, each event as it comes; of blocks that interleave, one after the other.
/// The most that is kept of a refusal, in bytes.
const LONGEST_REFUSAL: usize = 64 << 10;

#[derive(Debug)]
pub struct StreamWriter {
    told: Told,
    sequence: Sequence,
    begun: bool,
    block: Option<Open>,
    /// The index of the next block.
    next: u32,
    has_calls: bool,
    /// A call that has begun and is not written yet: its signature, which may be the next thing to
    /// come, stands before it. Clients cut thoughts off that end a turn.
    call: Option<(String, String)>,
    /// Why the model refuses: an explanation of the stop, or a text, as the end will tell.
    refusal: String,
}

/// The block whose deltas are written.
#[derive(Debug)]
struct Open {
    index: u32,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Text,
    Refusal,
    Thinking {
        signed: bool,
    },
    Whole,
    /// A call, and the signature that came for it.
    Call {
        id: String,
        signature: Option<Signature>,
    },
}

impl StreamWriter {
    pub fn new(told: Told) -> Self {
        Self {
            told,
            sequence: Sequence::new(),
            begun: false,
            block: None,
            next: 0,
            has_calls: false,
            call: None,
            refusal: String::new(),
        }
    }

    pub fn write(&mut self, event: &Event, out: &mut Vec<u8>) {
        if self.sequence.passes(event) {
            return self.write_next(event, out);
        }
        let mut events = Vec::new();
        self.sequence.push(event.clone(), &mut events);
        for event in &events {
            self.write_next(event, out);
        }
    }

    fn write_next(&mut self, event: &Event, out: &mut Vec<u8>) {
        match event {
            Event::Start(start) => self.begin(start, out),
            Event::Open { block, .. } => {
                self.begin(&Start::default(), out);
                self.open(block, out);
            }
            Event::Delta { delta, .. } => {
                if let Some((id, name)) = self.call.take() {
                    let signed = self.begin_call(&id, &name, delta, out);
                    if signed {
                        return;
                    }
                }
                self.delta(delta, out);
            }
            Event::Close { .. } => {
                if let Some((id, name)) = self.call.take() {
                    self.open_call(&id, &name, out);
                }
                self.close(out);
            }
            Event::Ping => say(out, "ping", &Ping { kind: "ping" }),
            Event::End(end) => {
                self.begin(&Start::default(), out);
                self.end(end, out);
            }
            Event::Failed(failure) => {
                out.extend(write_stream_refusal(&failure.refusal(&self.told.id)));
            }
        }
    }

    fn begin(&mut self, start: &Start, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let message = Message {
            id: message_id(&start.id, &self.told),
            kind: "message",
            role: "assistant",
            model: &self.told.model,
            content: Vec::new(),
            stop_reason: None,
            stop_sequence: None,
            stop_details: None,
            usage: Written::new(start.usage.as_ref()),
        };
        say(out, "message_start", &MessageStart { kind: "message_start", message });
    }

    fn open(&mut self, block: &Opening, out: &mut Vec<u8>) {
        if *block == Opening::Refusal {
            self.block = Some(Open { index: self.next, kind: Kind::Refusal });
            return;
        }
        let (content, kind) = match block {
            Opening::Text | Opening::Refusal => {
                (Content::Text { text: "", citations: None }, Kind::Text)
            }
            Opening::Thinking => {
                let content = Content::Thinking { thinking: "", signature: Cow::Borrowed("") };
                (content, Kind::Thinking { signed: false })
            }
            Opening::RedactedThinking(signature) => {
                let data = write_signature(Some(signature));
                (Content::RedactedThinking { data }, Kind::Whole)
            }
            Opening::ToolUse { id, name, .. } => {
                self.has_calls = true;
                self.call = Some((id.clone(), name.clone()));
                return;
            }
            Opening::Image(image) => match ImageSource::new(image) {
                Some(source) => (Content::Image { source }, Kind::Whole),
                None => return,
            },
        };
        self.start(content, kind, out);
    }

    fn start(&mut self, content_block: Content, kind: Kind, out: &mut Vec<u8>) {
        let index = self.next;
        self.next += 1;
        self.block = Some(Open { index, kind });
        let start = BlockStart { kind: "content_block_start", index, content_block };
        say(out, "content_block_start", &start);
    }

    /// Writes a call's beginning once its first delta is there; true when that was its signature.
    fn begin_call(&mut self, id: &str, name: &str, delta: &Delta, out: &mut Vec<u8>) -> bool {
        let signature = match delta {
            Delta::Signature(signature) => Some(signature),
            _ => None,
        };
        if let Some(signature) = signature {
            let data = write_call_signature(id, signature).into();
            self.start(Content::RedactedThinking { data }, Kind::Whole, out);
            self.close(out);
        }
        self.open_call(id, name, out);
        signature.is_some()
    }

    fn open_call(&mut self, id: &str, name: &str, out: &mut Vec<u8>) {
        let input =
            RawValue::from_string("{}".to_owned()).unwrap_or_else(|_| RawValue::NULL.to_owned());
        let kind = Kind::Call { id: id.to_owned(), signature: None };
        self.start(Content::ToolUse { id, name, input }, kind, out);
    }

    fn delta(&mut self, delta: &Delta, out: &mut Vec<u8>) {
        let Some(Open { index, kind }) = &mut self.block else { return };
        let piece = match (kind, delta) {
            (Kind::Refusal, Delta::Refusal(text)) => {
                // No refusal is that long; what is over the bound is no loss.
                if self.refusal.len() + text.len() <= LONGEST_REFUSAL {
                    self.refusal.push_str(text);
                }
                return;
            }
            (Kind::Text, Delta::Text(text) | Delta::Refusal(text)) => Piece::Text { text },
            (Kind::Text, Delta::Annotation(annotation)) => {
                Piece::Citations { citation: Citation::new(annotation) }
            }
            (Kind::Thinking { .. }, Delta::Thinking(text)) => Piece::Thinking { thinking: text },
            (Kind::Thinking { signed }, Delta::Signature(signature)) => {
                // More of a signature is only the rest of it.
                let more = std::mem::replace(signed, true);
                let signature = if more {
                    Cow::Borrowed(signature.data.as_str())
                } else {
                    write_signature(Some(signature))
                };
                Piece::Signature { signature }
            }
            (Kind::Call { .. }, Delta::Arguments(text)) => Piece::InputJson { partial_json: text },
            (Kind::Call { signature, .. }, Delta::Signature(more)) => {
                match signature {
                    Some(signature) => signature.data.push_str(&more.data),
                    None => *signature = Some(more.clone()),
                }
                return;
            }
            _ => return,
        };
        say_delta(out, *index, &piece);
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        let Some(Open { index, kind }) = self.block.take() else { return };
        if matches!(kind, Kind::Refusal) {
            return;
        }
        if let Kind::Thinking { signed: false } = kind {
            say_delta(out, index, &Piece::Signature { signature: write_signature(None) });
        }
        say(out, "content_block_stop", &BlockStop { kind: "content_block_stop", index });
        if let Kind::Call { id, signature: Some(signature) } = kind {
            let data = write_call_signature(&id, &signature).into();
            let (kind, index) = ("content_block_start", self.next);
            self.next += 1;
            let content_block = Content::RedactedThinking { data };
            say(out, kind, &BlockStart { kind, index, content_block });
            say(out, "content_block_stop", &BlockStop { kind: "content_block_stop", index });
        }
    }

    fn end(&mut self, end: &End, out: &mut Vec<u8>) {
        let refused = end.stop == Stop::Filtered;
        let refusal = std::mem::take(&mut self.refusal);
        if !refused && !refusal.is_empty() {
            self.open(&Opening::Text, out);
            self.delta(&Delta::Text(refusal.clone()), out);
            self.close(out);
        }
        if self.next == 0 && !refused {
            // Clients look for a first block.
            self.open(&Opening::Text, out);
            self.close(out);
        }
        let (reason, sequence) = write_stop(&end.stop, self.has_calls);
        let explanation = Some(refusal.as_str()).filter(|refusal| !refusal.is_empty());
        let details = refused.then(|| StopDetails::refused(explanation));
        let delta = Stopped { reason, sequence, details };
        let usage = Written::new(end.usage.as_ref());
        say(out, "message_delta", &MessageDelta { kind: "message_delta", delta, usage });
        say(out, "message_stop", &Ping { kind: "message_stop" });
    }
}

/// Nearly all events are this one, so what is the same in all of them is written as it stands.
fn say_delta(out: &mut Vec<u8>, index: u32, delta: &Piece) {
    out.extend_from_slice(
        b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":",
    );
    append(out, &index);
    out.extend_from_slice(b",\"delta\":");
    match delta {
        Piece::Text { text } => {
            out.extend_from_slice(b"{\"type\":\"text_delta\",\"text\":");
            append(out, text);
            out.push(b'}');
        }
        delta => append(out, delta),
    }
    out.extend_from_slice(b"}\n\n");
}

/// Writes an event: Anthropic names each, and clients may go by the name or by the `type`.
fn say(out: &mut Vec<u8>, name: &str, data: &impl Serialize) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    append(out, data);
    out.extend_from_slice(b"\n\n");
}

fn append(out: &mut Vec<u8>, data: &impl Serialize) {
    // Nothing can fail: all names are strings, and a `Vec` takes what it is given.
    let _ = serde_json::to_writer(out, data);
}

/// An event that has nothing but its type.
#[derive(Serialize)]
struct Ping {
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct MessageStart<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    message: Message<'a>,
}

#[derive(Serialize)]
struct BlockStart<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    index: u32,
    content_block: Content<'a>,
}

#[derive(Serialize)]
#[serde(tag = "type")]
enum Piece<'a> {
    #[serde(rename = "text_delta")]
    Text { text: &'a str },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: &'a str },
    #[serde(rename = "signature_delta")]
    Signature { signature: Cow<'a, str> },
    #[serde(rename = "input_json_delta")]
    InputJson { partial_json: &'a str },
    #[serde(rename = "citations_delta")]
    Citations { citation: Citation<'a> },
}

#[derive(Serialize)]
struct BlockStop {
    #[serde(rename = "type")]
    kind: &'static str,
    index: u32,
}

#[derive(Serialize)]
struct MessageDelta<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    delta: Stopped<'a>,
    usage: Written,
}

#[derive(Serialize)]
struct Stopped<'a> {
    #[serde(rename = "stop_reason")]
    reason: &'static str,
    #[serde(rename = "stop_sequence")]
    sequence: Option<&'a str>,
    #[serde(rename = "stop_details", skip_serializing_if = "Option::is_none")]
    details: Option<StopDetails<'a>>,
}
