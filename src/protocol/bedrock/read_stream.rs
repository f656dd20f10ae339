//! Streams of `ConverseStream`.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::citation::Citation;
use super::invoke::chunk_bytes;
use super::signature::Redacted;
use super::stop::Ended;
use super::usage::Counts;
use super::{media, signature};
use crate::protocol::canonical::{Delta, End, Event, Failure, Image, Opening, Source, Start, Stop};
use crate::protocol::canonical::{ToolKind, Usage, brief};
use crate::protocol::framing::eventstream::{Decoder, Kind, Message};
use crate::protocol::json;

/// How many blocks may be open at once, and how many citations one may have.
const MOST: usize = 1000;

/// Reads the messages of `ConverseStream`, and those of `InvokeModelWithResponseStream` of models whose
/// own events have the same form (Nova).
///
/// Most blocks begin with their first delta, without a word; the indices of some are skipped, because
/// they are hidden. The stream is over once both its stop and its usage have come, in any order, or at
/// the end of the bytes if the stop had come.
#[derive(Debug, Default)]
pub struct StreamReader {
    decoder: Decoder,
    started: bool,
    open: Vec<Open>,
    /// The index of the next block.
    next: u32,
    /// Tools are called.
    calls: bool,
    ended: Option<Ended>,
    usage: Option<Usage>,
    over: bool,
}

/// A block that has begun.
#[derive(Debug)]
struct Open {
    /// `contentBlockIndex`.
    wire: u64,
    index: u32,
    kind: Is,
}

#[derive(Debug)]
enum Is {
    /// So many characters so far, and where they come from, which is told at the end.
    Text {
        length: u64,
        citations: Vec<Citation>,
    },
    Thinking,
    /// Whether it has arguments.
    Call(bool),
    /// An image whose bytes come with a delta, by its format.
    Image(Option<&'static str>),
    /// A tool of the service's own, and what it gave.
    Hidden,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockStart {
    content_block_index: u64,
    start: Option<StartOf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StartOf {
    tool_use: Option<CallStart>,
    tool_result: Option<Ignored>,
    image: Option<ImageStart>,
}

#[derive(Deserialize)]
struct Ignored {}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CallStart {
    tool_use_id: String,
    name: String,
    /// Tools of the service's own have one.
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct ImageStart {
    format: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockDelta {
    content_block_index: u64,
    delta: DeltaOf,
}

/// One of these.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeltaOf {
    text: Option<String>,
    tool_use: Option<CallDelta>,
    reasoning_content: Option<ReasoningDelta>,
    citation: Option<Citation>,
    image: Option<ImageDelta>,
}

#[derive(Deserialize)]
struct CallDelta {
    input: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReasoningDelta {
    text: Option<String>,
    signature: Option<String>,
    redacted_content: Option<String>,
}

#[derive(Deserialize)]
struct ImageDelta {
    source: Option<ImageBytes>,
}

#[derive(Deserialize)]
struct ImageBytes {
    bytes: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BlockStop {
    content_block_index: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageStop<'a> {
    #[serde(default)]
    stop_reason: String,
    #[serde(borrow)]
    additional_model_response_fields: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Metadata {
    usage: Option<Counts>,
}

/// A model's own event within a `chunk`: one of these.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Native<'a> {
    #[serde(borrow)]
    message_start: Option<&'a RawValue>,
    #[serde(borrow)]
    content_block_start: Option<&'a RawValue>,
    #[serde(borrow)]
    content_block_delta: Option<&'a RawValue>,
    #[serde(borrow)]
    content_block_stop: Option<&'a RawValue>,
    #[serde(borrow)]
    message_stop: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
}

impl StreamReader {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes in, cut anywhere.
    pub fn push(&mut self, chunk: Bytes, events: &mut Vec<Event>) {
        if self.over {
            return;
        }
        self.decoder.push(chunk);
        while !self.over
            && let Some(read) = self.decoder.next()
        {
            let told = match read {
                Ok(message) => self.message(&message, events),
                Err(malformed) => Err(unreadable(&malformed)),
            };
            if let Err(failure) = told {
                self.fail(failure, events);
            }
        }
    }

    /// The end of the bytes.
    pub fn finish(&mut self, events: &mut Vec<Event>) {
        if self.over {
            return;
        }
        if self.ended.is_some() && self.decoder.is_between_messages() {
            self.end(events);
        } else {
            self.fail(Failure::cut_off(), events);
        }
    }

    fn message(&mut self, message: &Message, events: &mut Vec<Event>) -> Result<(), Failure> {
        match message.kind() {
            Kind::Event("chunk") => self.native(&message.payload, events),
            Kind::Event(name) if !name.ends_with("Exception") => {
                self.event(name, &message.payload, events)
            }
            Kind::Event(name) | Kind::Exception(name) => {
                Err(Failure::read(None, Some(name), &message.payload))
            }
            Kind::Error { code, message } => {
                Err(Failure::read(None, Some(code), message.as_bytes()))
            }
        }
    }

    fn native(&mut self, payload: &[u8], events: &mut Vec<Event>) -> Result<(), Failure> {
        let bytes = chunk_bytes(payload).ok_or_else(|| unreadable(&"a chunk without bytes"))?;
        let native: Native = parse(&bytes)?;
        for (name, payload) in [
            ("messageStart", native.message_start),
            ("contentBlockStart", native.content_block_start),
            ("contentBlockDelta", native.content_block_delta),
            ("contentBlockStop", native.content_block_stop),
            ("messageStop", native.message_stop),
            ("metadata", native.metadata),
        ] {
            if let Some(payload) = payload {
                self.event(name, payload.get().as_bytes(), events)?;
            }
        }
        Ok(())
    }

    fn event(
        &mut self,
        name: &str,
        payload: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), Failure> {
        if !std::mem::replace(&mut self.started, true) {
            events.push(Event::Start(Start::default()));
        }
        match name {
            "contentBlockDelta" => self.delta(parse(payload)?, events)?,
            "contentBlockStart" => self.block_start(parse(payload)?, events)?,
            "contentBlockStop" => {
                let BlockStop { content_block_index } = parse(payload)?;
                self.close(content_block_index, events);
            }
            "messageStop" => {
                let stop: MessageStop = parse(payload)?;
                let fields = stop.additional_model_response_fields;
                self.ended = Some(Ended::read(&stop.stop_reason, fields, self.calls));
            }
            "metadata" => {
                let Metadata { usage } = parse(payload)?;
                self.usage = usage.map(Counts::read).or(self.usage);
            }
            _ => {}
        }
        if self.ended.is_some() && self.usage.is_some() {
            self.end(events);
        }
        Ok(())
    }

    fn block_start(&mut self, start: BlockStart, events: &mut Vec<Event>) -> Result<(), Failure> {
        let wire = start.content_block_index;
        let Some(start) = start.start else { return Ok(()) };
        let is_hidden = |call: &CallStart| call.kind.is_some();
        if start.tool_result.is_some() || start.tool_use.as_ref().is_some_and(is_hidden) {
            self.enter(wire, Is::Hidden, events)?;
        } else if let Some(CallStart { tool_use_id, name, .. }) = start.tool_use {
            let kind = ToolKind::Function;
            let block = Opening::ToolUse { id: tool_use_id, name, namespace: None, kind };
            self.calls = true;
            self.open(wire, Is::Call(false), block, events)?;
        } else if let Some(image) = start.image {
            let media_type = media::media_type(media::IMAGES, &image.format);
            self.enter(wire, Is::Image(media_type), events)?;
        }
        Ok(())
    }

    fn delta(&mut self, delta: BlockDelta, events: &mut Vec<Event>) -> Result<(), Failure> {
        let wire = delta.content_block_index;
        let delta = delta.delta;
        if self.block(wire).is_some_and(|open| matches!(open.kind, Is::Hidden)) {
            return Ok(());
        }
        if let Some(text) = delta.text.filter(|text| !text.is_empty()) {
            let index = self.text(wire, &text, events)?;
            events.push(Event::Delta { index, delta: Delta::Text(text) });
        }
        if let Some(CallDelta { input: Some(input) }) = delta.tool_use
            && !input.is_empty()
            && let Some(Open { index, kind: Is::Call(has_arguments), .. }) = self.block(wire)
        {
            *has_arguments = true;
            events.push(Event::Delta { index: *index, delta: Delta::Arguments(input) });
        }
        if let Some(reasoning) = delta.reasoning_content {
            self.reasoning(wire, reasoning, events)?;
        }
        if let Some(citation) = delta.citation {
            self.text(wire, "", events)?;
            if let Some(Open { kind: Is::Text { citations, .. }, .. }) = self.block(wire)
                && citations.len() < MOST
            {
                citations.push(citation);
            }
        }
        if let Some(ImageBytes { bytes: Some(bytes) }) = delta.image.and_then(|it| it.source)
            && let Some(Open { kind: Is::Image(media_type), .. }) = self.block(wire)
        {
            let media_type = media_type.map(str::to_owned);
            let image = Image { source: Source::Base64(bytes), media_type, detail: None };
            self.whole(wire, Opening::Image(image), events);
        }
        Ok(())
    }

    fn reasoning(
        &mut self,
        wire: u64,
        reasoning: ReasoningDelta,
        events: &mut Vec<Event>,
    ) -> Result<(), Failure> {
        if let Some(redacted) = reasoning.redacted_content {
            // The others are told to clients alone.
            if let Redacted::Thinking(signature) = signature::read_redacted(redacted) {
                self.whole(wire, Opening::RedactedThinking(signature), events);
            }
        }
        let text = reasoning.text.filter(|text| !text.is_empty()).map(Delta::Thinking);
        let signature = reasoning.signature.filter(|signature| !signature.is_empty());
        let signature = signature.and_then(signature::read).map(Delta::Signature);
        for delta in text.into_iter().chain(signature) {
            let index = match self.block(wire) {
                Some(Open { index, kind: Is::Thinking, .. }) => *index,
                _ => self.open(wire, Is::Thinking, Opening::Thinking, events)?,
            };
            events.push(Event::Delta { index, delta });
        }
        Ok(())
    }

    /// The index of the text block that `text` belongs to, which is opened if need be.
    fn text(&mut self, wire: u64, text: &str, events: &mut Vec<Event>) -> Result<u32, Failure> {
        let more = text.chars().count() as u64;
        if let Some(Open { index, kind: Is::Text { length, .. }, .. }) = self.block(wire) {
            *length += more;
            return Ok(*index);
        }
        let kind = Is::Text { length: more, citations: Vec::new() };
        self.open(wire, kind, Opening::Text, events)
    }

    fn block(&mut self, wire: u64) -> Option<&mut Open> {
        self.open.iter_mut().find(|open| open.wire == wire)
    }

    /// Opens a block; one of another kind that had its index is closed.
    fn open(
        &mut self,
        wire: u64,
        kind: Is,
        block: Opening,
        events: &mut Vec<Event>,
    ) -> Result<u32, Failure> {
        let index = self.enter(wire, kind, events)?;
        self.next += 1;
        events.push(Event::Open { index, block });
        Ok(index)
    }

    /// Keeps in mind a block that is not told of, or not yet.
    fn enter(&mut self, wire: u64, kind: Is, events: &mut Vec<Event>) -> Result<u32, Failure> {
        self.close(wire, events);
        if self.open.len() == MOST {
            return Err(unreadable(&"too many blocks at once"));
        }
        self.open.push(Open { wire, index: self.next, kind });
        Ok(self.next)
    }

    /// Tells a block that comes in one piece.
    fn whole(&mut self, wire: u64, block: Opening, events: &mut Vec<Event>) {
        self.close(wire, events);
        let index = self.next;
        self.next += 1;
        events.extend([Event::Open { index, block }, Event::Close { index }]);
    }

    fn close(&mut self, wire: u64, events: &mut Vec<Event>) {
        let Some(at) = self.open.iter().position(|open| open.wire == wire) else { return };
        let Open { index, kind, .. } = self.open.remove(at);
        match kind {
            Is::Text { length, citations } => {
                let annotations = citations.into_iter().filter_map(|it| it.read(length));
                let annotations = annotations.map(Delta::Annotation);
                events.extend(annotations.map(|delta| Event::Delta { index, delta }));
            }
            Is::Call(false) => {
                let delta = Delta::Arguments("{}".to_owned());
                events.push(Event::Delta { index, delta });
            }
            Is::Call(true) | Is::Thinking => {}
            Is::Image(_) | Is::Hidden => return,
        }
        events.push(Event::Close { index });
    }

    fn end(&mut self, events: &mut Vec<Event>) {
        while let Some(open) = self.open.first() {
            self.close(open.wire, events);
        }
        let stop = match self.ended.take() {
            Some(Ended::Malformed) if self.next == 0 => {
                let message = "The model's output was malformed.".to_owned();
                return self.fail(Failure { message, ..Failure::cut_off() }, events);
            }
            Some(Ended::As(stop)) => stop,
            Some(Ended::Malformed) | None => Stop::EndTurn,
        };
        self.over = true;
        events.push(Event::End(End { stop, usage: self.usage }));
    }

    fn fail(&mut self, failure: Failure, events: &mut Vec<Event>) {
        self.over = true;
        events.push(Event::Failed(failure));
    }
}

fn parse<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, Failure> {
    json::read(payload).map_err(|error| unreadable(&error))
}

fn unreadable(why: &dyn std::fmt::Display) -> Failure {
    let message = format!("The provider's stream cannot be read: {}.", brief(why));
    Failure { message, ..Failure::cut_off() }
}
