//! Streams as `ConverseStream` gives them.

use serde::Serialize;
use std::borrow::Cow;

use super::content::Content;
use super::refusal::write_stream_refusal;
use super::stop::{self, ResponseFields};
use super::usage::Counts;
use super::write_response::Metrics;
use super::{content, signature};
use crate::protocol::canonical::{Delta, End, Event, Failure, Opening, Sequence, Signature, Told};
use crate::protocol::framing::eventstream::write_event;

/// Writes the messages of `ConverseStream`: blocks one after the other, each with its own
/// `contentBlockIndex`. Text and reasoning begin with their first delta, as AWS has it.
#[derive(Debug)]
pub struct StreamWriter {
    sequence: Sequence,
    /// What the sequence lets through; kept for its memory.
    events: Vec<Event>,
    open: Option<Open>,
    /// The call that is being told.
    call: Option<Call>,
    /// The next `contentBlockIndex`.
    next: u32,
    over: bool,
}

/// The block that is being told.
#[derive(Debug)]
struct Open {
    /// Its `contentBlockIndex`, once anything of it was told.
    wire: Option<u32>,
    is: Is,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    Text,
    /// Whether its signature has begun.
    Thinking {
        signed: bool,
    },
    /// Whether it has arguments.
    Call {
        begun: bool,
    },
    Whole,
}

/// A call begins with its first delta: its signature stands before it, in a block of its own.
#[derive(Debug)]
struct Call {
    id: String,
    name: String,
    begun: bool,
    /// A signature that came when the call had begun stands behind it.
    late: Option<Signature>,
}

#[derive(Serialize)]
struct MessageStart {
    role: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BlockStart<'a> {
    content_block_index: u32,
    start: StartOf<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
enum StartOf<'a> {
    ToolUse { tool_use_id: &'a str, name: &'a str },
    Image { format: &'static str },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BlockDelta<'a> {
    content_block_index: u32,
    delta: DeltaOf<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum DeltaOf<'a> {
    Text(&'a str),
    ToolUse { input: &'a str },
    ReasoningContent(Reasoning<'a>),
    Image { source: content::Source<'a> },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Reasoning<'a> {
    Text(&'a str),
    Signature(Cow<'a, str>),
    RedactedContent(Cow<'a, str>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BlockStop {
    content_block_index: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageStop {
    stop_reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    additional_model_response_fields: Option<ResponseFields>,
}

#[derive(Serialize)]
struct Metadata {
    usage: Counts,
    metrics: Metrics,
}

impl StreamWriter {
    /// Converse has no place for anything of `told`, and its streams always tell usage.
    pub fn new(_told: Told) -> Self {
        let (sequence, events) = (Sequence::new(), Vec::new());
        Self { sequence, events, open: None, call: None, next: 0, over: false }
    }

    /// Appends what the client may see now.
    pub fn write(&mut self, event: &Event, out: &mut Vec<u8>) {
        if self.sequence.passes(event) {
            return self.tell(event, out);
        }
        let mut events = std::mem::take(&mut self.events);
        self.sequence.push(event.clone(), &mut events);
        for event in &events {
            self.tell(event, out);
        }
        events.clear();
        self.events = events;
    }

    fn tell(&mut self, event: &Event, out: &mut Vec<u8>) {
        if self.over {
            return;
        }
        match event {
            Event::Start(_) => self.send("messageStart", &MessageStart { role: "assistant" }, out),
            Event::Open { block, .. } => self.open(block, out),
            Event::Delta { delta, .. } => self.delta(delta, out),
            Event::Close { .. } => self.close(out),
            Event::Ping => {}
            Event::End(end) => self.end(end, out),
            Event::Failed(failure) => self.fail(failure, out),
        }
    }

    fn open(&mut self, block: &Opening, out: &mut Vec<u8>) {
        let is = match block {
            Opening::Text | Opening::Refusal => Is::Text,
            Opening::Thinking => Is::Thinking { signed: false },
            Opening::ToolUse { .. } => Is::Call { begun: false },
            Opening::RedactedThinking(_) | Opening::Image(_) => Is::Whole,
        };
        self.open = Some(Open { wire: None, is });
        match block {
            Opening::ToolUse { id, name, .. } => {
                let (id, name) = (id.clone(), name.clone());
                self.call = Some(Call { id, name, begun: false, late: None });
            }
            Opening::RedactedThinking(signature) => {
                let redacted = signature::write_redacted(signature);
                self.more(DeltaOf::ReasoningContent(Reasoning::RedactedContent(redacted)), out);
            }
            Opening::Image(image) => {
                if let Some(Content::Image(content::Media { format, source })) =
                    Content::image(image)
                {
                    self.start(StartOf::Image { format }, out);
                    self.more(DeltaOf::Image { source }, out);
                }
            }
            Opening::Text | Opening::Thinking | Opening::Refusal => {}
        }
    }

    fn delta(&mut self, delta: &Delta, out: &mut Vec<u8>) {
        if let (Some(call), Delta::Signature(signature)) = (&mut self.call, delta) {
            if call.begun {
                match &mut call.late {
                    Some(late) => late.data.push_str(&signature.data),
                    None => call.late = Some(signature.clone()),
                }
            } else {
                let redacted = signature::write_call(&call.id, signature);
                self.call_signature(redacted, out);
                self.begin_call(out);
            }
            return;
        }
        self.begin_call(out);
        let Some(Open { is, .. }) = &mut self.open else { return };
        let delta = match (is, delta) {
            (Is::Text, Delta::Text(text) | Delta::Refusal(text)) if !text.is_empty() => {
                DeltaOf::Text(text)
            }
            (Is::Thinking { .. }, Delta::Thinking(text)) if !text.is_empty() => {
                DeltaOf::ReasoningContent(Reasoning::Text(text))
            }
            (Is::Thinking { signed }, Delta::Signature(signature)) => {
                // Only the first piece says whose it is.
                let text = if std::mem::replace(signed, true) {
                    Cow::Borrowed(signature.data.as_str())
                } else {
                    signature::write(signature)
                };
                DeltaOf::ReasoningContent(Reasoning::Signature(text))
            }
            (Is::Call { begun }, Delta::Arguments(input)) if !input.is_empty() => {
                *begun = true;
                DeltaOf::ToolUse { input }
            }
            _ => return,
        };
        self.more(delta, out);
    }

    /// Tells the beginning of a call whose beginning was not told yet.
    fn begin_call(&mut self, out: &mut Vec<u8>) {
        let Some(call) = self.call.as_mut().filter(|call| !call.begun) else { return };
        call.begun = true;
        let (id, name) = (call.id.clone(), call.name.clone());
        self.start(StartOf::ToolUse { tool_use_id: &id, name: &name }, out);
    }

    /// A block that signs a call.
    fn call_signature(&mut self, redacted: String, out: &mut Vec<u8>) {
        let content_block_index = self.next;
        self.next += 1;
        let delta = DeltaOf::ReasoningContent(Reasoning::RedactedContent(Cow::Owned(redacted)));
        self.send("contentBlockDelta", &BlockDelta { content_block_index, delta }, out);
        self.send("contentBlockStop", &BlockStop { content_block_index }, out);
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        self.begin_call(out);
        if matches!(self.open, Some(Open { is: Is::Call { begun: false }, .. })) {
            self.more(DeltaOf::ToolUse { input: "{}" }, out);
        }
        if let Some(Open { wire: Some(content_block_index), .. }) = self.open.take() {
            self.send("contentBlockStop", &BlockStop { content_block_index }, out);
        }
        if let Some(Call { id, late: Some(signature), .. }) = self.call.take() {
            self.call_signature(signature::write_call(&id, &signature), out);
        }
    }

    fn end(&mut self, end: &End, out: &mut Vec<u8>) {
        let (stop_reason, additional_model_response_fields) = stop::write(&end.stop);
        let stop = MessageStop { stop_reason, additional_model_response_fields };
        self.send("messageStop", &stop, out);
        let usage = Counts::of(&end.usage.unwrap_or_default());
        self.send("metadata", &Metadata { usage, metrics: Metrics::default() }, out);
        self.over = true;
    }

    fn fail(&mut self, failure: &Failure, out: &mut Vec<u8>) {
        self.over = true;
        out.extend_from_slice(&write_stream_refusal(&failure.refusal("")));
    }

    fn start(&mut self, start: StartOf, out: &mut Vec<u8>) {
        if let Some(content_block_index) = self.wire() {
            self.send("contentBlockStart", &BlockStart { content_block_index, start }, out);
        }
    }

    fn more(&mut self, delta: DeltaOf, out: &mut Vec<u8>) {
        if let Some(content_block_index) = self.wire() {
            self.send("contentBlockDelta", &BlockDelta { content_block_index, delta }, out);
        }
    }

    /// The open block's `contentBlockIndex`.
    fn wire(&mut self) -> Option<u32> {
        let open = self.open.as_mut()?;
        Some(*open.wire.get_or_insert_with(|| {
            self.next += 1;
            self.next - 1
        }))
    }

    fn send(&mut self, name: &str, payload: &impl Serialize, out: &mut Vec<u8>) {
        if self.over {
            return;
        }
        let sent = write_event(name, out, |out| {
            // Writing into memory does not fail.
            let _ = serde_json::to_writer(out, payload);
        });
        if sent.is_err() {
            let message = "A piece of the answer is larger than a message may be.".to_owned();
            self.fail(&Failure { message, ..Failure::cut_off() }, out);
        }
    }
}
