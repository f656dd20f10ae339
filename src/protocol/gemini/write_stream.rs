//! A streamed answer, written for a client of Google's.

use serde::Serialize;

use super::finish::reason;
use super::grounding::{GroundingMetadata, Support, support};
use super::offsets::Offsets;
use super::refusal::{write_refusal, write_stream_refusal};
use super::signature;
use super::usage::UsageMetadata;
use super::wire::{Content, Part};
use super::write_response::{Candidate, Written, picture};
use crate::protocol::canonical::{
    Annotation, Delta, End, Event, Failure, Opening, Sequence, Signature, Start, Told, ToolUse,
    Usage,
};

/// Writes server-sent events, or one array in pieces for clients that did not ask for them.
///
/// Text and thoughts go out as they come. A call goes out when it is whole: Google's clients know no
/// other. The piece with the end has the usage, and the sources of the text.
#[derive(Debug)]
pub struct StreamWriter {
    told: Told,
    id: String,
    sequence: Sequence,
    /// Events in their order, before they are written; empty between two calls.
    queue: Vec<Event>,
    call: Option<ToolUse>,
    /// What is open is thoughts.
    thinking: bool,
    text: Text,
    usage: Option<Usage>,
    /// Something has been written: an array has its bracket.
    begun: bool,
}

/// The text that is open, and what is known of its sources.
#[derive(Debug, Default)]
struct Text {
    before: u64,
    block: Offsets,
    annotations: Vec<Annotation>,
    sources: Vec<Support>,
}

impl StreamWriter {
    pub fn new(told: Told) -> Self {
        Self {
            id: told.id.clone(),
            told,
            sequence: Sequence::gathering_calls(),
            queue: Vec::new(),
            call: None,
            thinking: false,
            text: Text::default(),
            usage: None,
            begun: false,
        }
    }

    pub fn write(&mut self, event: &Event, out: &mut Vec<u8>) {
        if self.sequence.passes(event) {
            return self.tell(event, out);
        }
        let mut queue = std::mem::take(&mut self.queue);
        self.sequence.push(event.clone(), &mut queue);
        for event in queue.drain(..) {
            self.tell(&event, out);
        }
        self.queue = queue;
    }

    fn tell(&mut self, event: &Event, out: &mut Vec<u8>) {
        match event {
            Event::Start(Start { id, usage, .. }) => {
                self.usage = *usage;
                if !id.is_empty() {
                    self.id.clone_from(id);
                }
            }
            Event::Open { block, .. } => self.open(block, out),
            Event::Delta { delta, .. } => self.delta(delta, out),
            Event::Close { .. } => self.close(out),
            // Google's Python client takes a comment for an answer; it passes over empty lines, and so
            // does whoever reads an array.
            Event::Ping => out.extend_from_slice(b"\r\n\r\n"),
            Event::End(End { stop, usage }) => {
                let usage = usage.or(self.usage);
                let sources = std::mem::take(&mut self.text.sources);
                // Google's own end has an empty part, and its Python client wants one.
                let candidate = Candidate {
                    finish_reason: Some(reason(stop)),
                    grounding_metadata: GroundingMetadata::of(&sources),
                    ..saying(Part::text(""))
                };
                self.piece(candidate, usage.as_ref().map(UsageMetadata::from), out);
                if self.told.array {
                    out.extend_from_slice(b"]\r\n");
                }
            }
            Event::Failed(failure) => self.fail(failure, out),
        }
    }

    fn open(&mut self, block: &Opening, out: &mut Vec<u8>) {
        match block {
            Opening::ToolUse { id, name, namespace, kind } => {
                self.call = Some(ToolUse {
                    id: id.clone(),
                    name: name.clone(),
                    namespace: namespace.clone(),
                    kind: *kind,
                    arguments: String::new(),
                    signature: None,
                });
            }
            Opening::Image(image) => {
                if let Some(part) = picture(image) {
                    self.piece(saying(part), None, out);
                }
            }
            Opening::RedactedThinking(signature) => {
                self.piece(saying(Part::redacted(signature)), None, out);
            }
            Opening::Text | Opening::Thinking | Opening::Refusal => {
                self.thinking = matches!(block, Opening::Thinking);
            }
        }
    }

    fn delta(&mut self, delta: &Delta, out: &mut Vec<u8>) {
        match delta {
            Delta::Text(text) | Delta::Refusal(text) => {
                self.text.block.push(text);
                if !text.is_empty() {
                    self.piece(saying(Part::text(text)), None, out);
                }
            }
            Delta::Thinking(text) if text.is_empty() => {}
            Delta::Thinking(text) => {
                let part = Part { thought: true, ..Part::text(text) };
                self.piece(saying(part), None, out);
            }
            Delta::Signature(signature) => self.sign(signature, out),
            Delta::Arguments(more) => {
                if let Some(call) = &mut self.call {
                    call.arguments.push_str(more);
                }
            }
            Delta::Annotation(annotation) => self.text.annotations.push(annotation.clone()),
        }
    }

    /// Google signs an empty text where what it signs has been said already.
    fn sign(&mut self, signature: &Signature, out: &mut Vec<u8>) {
        if let Some(call) = &mut self.call {
            call.signature = Some(signature.clone());
            return;
        }
        let thought_signature = Some(signature::write(signature));
        let part = Part { thought: self.thinking, thought_signature, ..Part::text("") };
        self.piece(saying(part), None, out);
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if let Some(call) = self.call.take() {
            let thought_signature = call.signature.as_ref().map(signature::write);
            let part = Part { thought_signature, ..Part::call(&call) };
            return self.piece(saying(part), None, out);
        }
        self.text.close();
    }

    fn fail(&mut self, failure: &Failure, out: &mut Vec<u8>) {
        if self.told.array {
            self.separate(out);
            out.extend_from_slice(&write_refusal(&failure.refusal(&self.told.id)));
            out.extend_from_slice(b"]\r\n");
        } else {
            out.extend_from_slice(&write_stream_refusal(&failure.refusal(&self.told.id)));
        }
    }

    fn piece(&mut self, candidate: Candidate, usage: Option<UsageMetadata>, out: &mut Vec<u8>) {
        self.separate(out);
        let piece = Written {
            candidates: [candidate],
            usage_metadata: usage,
            model_version: &self.told.model,
            response_id: &self.id,
        };
        append(&piece, out);
        if !self.told.array {
            out.extend_from_slice(b"\r\n\r\n");
        }
    }

    /// What stands before a piece.
    fn separate(&mut self, out: &mut Vec<u8>) {
        let begun = std::mem::replace(&mut self.begun, true);
        out.extend_from_slice(match (self.told.array, begun) {
            (false, _) => b"data: ",
            (true, false) => b"[",
            (true, true) => b",\r\n",
        });
    }
}

impl Text {
    /// A block of text is closed; of another kind it had none.
    fn close(&mut self) {
        let (base, block) = (self.before, &self.block);
        self.sources.extend(self.annotations.drain(..).map(|it| support(&it, base, block)));
        self.before += self.block.bytes();
        self.block.clear();
    }
}

fn saying(part: Part<'_>) -> Candidate<'_> {
    let content = Content { parts: vec![part], role: Some("model") };
    Candidate { content, finish_reason: None, index: 0, grounding_metadata: None }
}

fn append(piece: &impl Serialize, out: &mut Vec<u8>) {
    // Writing into memory does not fail, and nothing of a piece has a form that JSON lacks.
    let _ = serde_json::to_writer(out, piece);
}
