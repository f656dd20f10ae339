//! Streams, as Anthropic and the servers like it write them.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use super::read_response::{Content, Message, StopDetails, read_citation, thinking_signature};
use super::stop::read_stop;
use super::usage;
use crate::protocol::canonical::{
    Annotation, Delta, End, Event, Failure, Opening, Start, Stop, ToolKind,
};
use crate::protocol::framing::sse;
use crate::protocol::framing::whole::{TooLong, WholeEvents};
use crate::protocol::json;

/// The most blocks that may be open at once; Anthropic's own streams have one.
const MOST_OPEN: usize = 64;

/// The most citations that are kept for one block.
const MOST_CITATIONS: usize = 256;

/// Reads a stream, however the network cut it.
///
/// A second `message_start` of the same answer is passed over; one of another answer is a failure, for
/// what follows would be added to the first. The stream is whole when `message_stop` has come, or when it
/// ends behind a `message_delta` that says why, with all blocks closed.
#[derive(Debug, Default)]
pub struct StreamReader {
    decoder: WholeEvents,
    /// The answer's id, once it has begun.
    begun: Option<String>,
    open: Vec<Open>,
    /// The index of the next block that is told.
    next: u32,
    has_calls: bool,
    usage: Option<usage::Told>,
    stop: Option<Stop>,
    explanation: Option<String>,
    over: bool,
}

/// A block whose end has not come.
#[derive(Debug)]
struct Open {
    /// Its index on the wire, where blocks count that are not told.
    wire: u64,
    index: u32,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Citations come before the text they are about: all of the block's.
    Text {
        characters: u64,
        citations: Vec<Annotation>,
    },
    Thinking,
    Redacted,
    /// The `input` it began with, for a call that has no deltas.
    Call {
        input: String,
        spoken: bool,
    },
}

impl StreamReader {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a chunk in, cut anywhere.
    pub fn push(&mut self, chunk: Bytes, events: &mut Vec<Event>) {
        if self.over {
            return;
        }
        self.decoder.push(chunk);
        while !self.over
            && let Some(event) = self.decoder.next()
        {
            match event {
                Ok(event) => self.read(&event, events),
                Err(TooLong) => self.fail(unreadable(), events),
            }
        }
    }

    /// The stream is over.
    pub fn finish(&mut self, events: &mut Vec<Event>) {
        // The last event may lack its blank line; one that was cut within says nothing.
        if !self.over
            && let Some(event) = self.decoder.finish()
            && event
                .data
                .as_ref()
                .is_some_and(|data| serde_json::from_slice::<IgnoredAny>(data).is_ok())
        {
            self.read(&event, events);
        }
        if self.over {
            return;
        }
        if self.stop.is_some() && self.open.is_empty() {
            self.end(events);
        } else {
            self.fail(Failure::cut_off(), events);
        }
    }

    fn read(&mut self, event: &sse::Event, events: &mut Vec<Event>) {
        let Some(data) = &event.data else { return };
        let data = data.trim_ascii();
        if data.is_empty() || data.starts_with(b"[DONE]") {
            return;
        }
        match json::read::<Said>(data) {
            Ok(said) if said.kind == "error" || (said.kind.is_empty() && said.error.is_some()) => {
                self.fail(Failure::read(None, None, data), events);
            }
            Ok(said) => {
                if let Err(failure) = self.take(said, events) {
                    self.fail(failure, events);
                }
            }
            Err(_) if is_foreign(data) => {}
            Err(_) => self.fail(unreadable(), events),
        }
    }

    fn take(&mut self, said: Said, events: &mut Vec<Event>) -> Result<(), Failure> {
        match &*said.kind {
            "message_start" => self.start(said.message, events)?,
            "content_block_start" => {
                self.begin(events);
                let Some(block) = said.content_block else { return Ok(()) };
                // One that is begun anew without having been closed.
                self.close(said.index, events);
                if let Some(content) = Content::read(block).map_err(|_| unreadable())? {
                    self.open(said.index, content, events)?;
                }
            }
            "content_block_delta" => self.delta(said.index, said.delta.unwrap_or_default(), events),
            "content_block_stop" => self.close(said.index, events),
            "message_delta" => {
                self.begin(events);
                self.tell_usage(said.usage);
                let delta = said.delta.unwrap_or_default();
                if let Some(reason) = delta.stop_reason {
                    self.stop = Some(read_stop(&reason, delta.stop_sequence));
                }
                let details = delta.stop_details.and_then(StopDetails::into_explanation);
                self.explanation = details.or_else(|| self.explanation.take());
            }
            "message_stop" => {
                self.begin(events);
                self.end(events);
            }
            "ping" if self.begun.is_some() => events.push(Event::Ping),
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, message: Option<Message>, events: &mut Vec<Event>) -> Result<(), Failure> {
        let Some(message) = message else { return Err(unreadable()) };
        let id = message.id.unwrap_or_default();
        if let Some(known) = &self.begun {
            if *known == id {
                return Ok(());
            }
            let message = "The provider began another answer within this one.".to_owned();
            return Err(Failure { message, ..Failure::cut_off() });
        }
        self.tell_usage(message.usage);
        self.begun = Some(id.clone());
        events.push(Event::Start(Start {
            id,
            model: message.model.unwrap_or_default(),
            created: None,
            usage: self.usage.map(|usage| usage.inclusive()),
        }));
        // Blocks may stand in it already.
        for (wire, content) in (u64::MAX / 2..).zip(message.content) {
            if let Some(content) = Content::read(content).map_err(|_| unreadable())? {
                self.open(wire, content, events)?;
                self.close(wire, events);
            }
        }
        let sequence = message.stop_sequence;
        self.stop = message.stop_reason.map(|reason| read_stop(&reason, sequence));
        Ok(())
    }

    /// Servers like Anthropic's may leave the start out.
    fn begin(&mut self, events: &mut Vec<Event>) {
        if self.begun.is_none() {
            self.begun = Some(String::new());
            events.push(Event::Start(Start::default()));
        }
    }

    fn tell_usage(&mut self, usage: Option<usage::Told>) {
        if let Some(later) = usage {
            self.usage.get_or_insert_default().update(later);
        }
    }

    fn open(
        &mut self,
        wire: u64,
        content: Content,
        events: &mut Vec<Event>,
    ) -> Result<(), Failure> {
        let (index, mut first) = (self.next, None);
        let (block, kind) = match &*content.kind {
            "text" => {
                first = content.text.map(Delta::Text);
                let citations = content.citations.unwrap_or_default();
                let read = citations.iter().filter_map(|it| read_citation(it.get(), 0));
                let citations = read.take(MOST_CITATIONS).collect();
                (Opening::Text, Kind::Text { characters: 0, citations })
            }
            "thinking" => {
                first = content.thinking.map(Delta::Thinking);
                (Opening::Thinking, Kind::Thinking)
            }
            "redacted_thinking" => {
                let Some(data) = content.data.and_then(thinking_signature) else { return Ok(()) };
                (Opening::RedactedThinking(data), Kind::Redacted)
            }
            _ => {
                self.has_calls = true;
                let (id, name) = (content.id.unwrap_or_default(), content.name.unwrap_or_default());
                let input = content.input.map_or("{}", RawValue::get).to_owned();
                let kind = ToolKind::Function;
                let block = Opening::ToolUse { id, name, namespace: None, kind };
                (block, Kind::Call { input, spoken: false })
            }
        };
        if self.open.len() >= MOST_OPEN {
            return Err(unreadable());
        }
        self.next += 1;
        events.push(Event::Open { index, block });
        self.open.push(Open { wire, index, kind });
        if let Some(delta) = first {
            self.say(wire, delta, events);
        }
        if let Some(signature) = content.signature.and_then(thinking_signature) {
            self.say(wire, Delta::Signature(signature), events);
        }
        Ok(())
    }

    fn delta(&mut self, wire: u64, said: Piece, events: &mut Vec<Event>) {
        let delta = match &*said.kind {
            "text_delta" => said.text.map(Delta::Text),
            "thinking_delta" => said.thinking.map(Delta::Thinking),
            "signature_delta" => said.signature.and_then(thinking_signature).map(Delta::Signature),
            "input_json_delta" => said.partial_json.map(Delta::Arguments),
            "citations_delta" => {
                let citation = said.citation.and_then(|it| read_citation(it.get(), 0));
                citation.map(Delta::Annotation)
            }
            _ => None,
        };
        if let Some(delta) = delta {
            self.say(wire, delta, events);
        }
    }

    /// Tells a delta, if its block is told and takes such deltas.
    fn say(&mut self, wire: u64, delta: Delta, events: &mut Vec<Event>) {
        let Some(open) = self.open.iter_mut().find(|open| open.wire == wire) else { return };
        match (&mut open.kind, &delta) {
            (Kind::Text { characters, .. }, Delta::Text(text)) if !text.is_empty() => {
                *characters += text.chars().count() as u64;
            }
            (Kind::Text { citations, .. }, Delta::Annotation(citation)) => {
                if citations.len() < MOST_CITATIONS {
                    citations.push(citation.clone());
                }
                return;
            }
            (Kind::Thinking, Delta::Thinking(text)) if !text.is_empty() => {}
            (Kind::Thinking, Delta::Signature(_)) => {}
            (Kind::Call { spoken, .. }, Delta::Arguments(text)) if !text.is_empty() => {
                *spoken = true;
            }
            _ => return,
        }
        events.push(Event::Delta { index: open.index, delta });
    }

    fn close(&mut self, wire: u64, events: &mut Vec<Event>) {
        let Some(place) = self.open.iter().position(|open| open.wire == wire) else { return };
        let Open { index, kind, .. } = self.open.remove(place);
        match kind {
            Kind::Text { characters, citations } => {
                events.extend(citations.into_iter().map(|citation| {
                    let delta = Delta::Annotation(Annotation { end: characters, ..citation });
                    Event::Delta { index, delta }
                }));
            }
            Kind::Call { input, spoken: false } => {
                events.push(Event::Delta { index, delta: Delta::Arguments(input) });
            }
            Kind::Call { .. } | Kind::Thinking | Kind::Redacted => {}
        }
        events.push(Event::Close { index });
    }

    fn end(&mut self, events: &mut Vec<Event>) {
        while let Some(wire) = self.open.first().map(|open| open.wire) {
            self.close(wire, events);
        }
        if let Some(explanation) = self.explanation.take() {
            let index = self.next;
            events.push(Event::Open { index, block: Opening::Refusal });
            events.push(Event::Delta { index, delta: Delta::Refusal(explanation) });
            events.push(Event::Close { index });
        }
        let unsaid = if self.has_calls { Stop::ToolUse } else { Stop::EndTurn };
        let stop = self.stop.take().unwrap_or(unsaid);
        events.push(Event::End(End { stop, usage: self.usage.map(|usage| usage.inclusive()) }));
        self.over = true;
    }

    fn fail(&mut self, failure: Failure, events: &mut Vec<Event>) {
        events.push(Event::Failed(failure));
        self.over = true;
    }
}

/// What an event says.
#[derive(Debug, Deserialize)]
struct Said<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Cow<'a, str>,
    #[serde(default)]
    index: u64,
    #[serde(borrow)]
    message: Option<Message<'a>>,
    #[serde(borrow)]
    content_block: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<Piece<'a>>,
    usage: Option<usage::Told>,
    error: Option<IgnoredAny>,
}

/// More of a block, or of the answer as a whole.
#[derive(Debug, Default, Deserialize)]
struct Piece<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Cow<'a, str>,
    text: Option<String>,
    thinking: Option<String>,
    signature: Option<String>,
    partial_json: Option<String>,
    #[serde(borrow)]
    citation: Option<&'a RawValue>,
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
    stop_details: Option<StopDetails>,
}

/// Whether it is an event, or a delta, of a kind unknown here, which may have members of any type.
fn is_foreign(data: &[u8]) -> bool {
    let Ok(said) = serde_json::from_slice::<Value>(data) else { return false };
    let kind = |value: Option<&Value>| value?.get("type")?.as_str().map(str::to_owned);
    match kind(Some(&said)).as_deref() {
        Some("content_block_delta") => kind(said.get("delta")).is_some_and(|kind| {
            !matches!(
                kind.as_str(),
                "text_delta" | "thinking_delta" | "signature_delta" | "input_json_delta"
            )
        }),
        Some(
            "message_start"
            | "content_block_start"
            | "content_block_stop"
            | "message_delta"
            | "message_stop"
            | "error",
        )
        | None => false,
        Some(_) => true,
    }
}

fn unreadable() -> Failure {
    let message = "The provider's stream has an event that cannot be read.".to_owned();
    Failure { message, ..Failure::cut_off() }
}
