//! Streams as providers of the responses API write them.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::BETWEEN_PARTS;
use super::read_items::{Answer, Item, Part};
use super::read_parts::read_annotation;
use crate::protocol::canonical::{
    Block, Delta, End, Event, Failure, Opening, Response, Start, ToolKind, ToolUse, Unreadable,
    replay,
};
use crate::protocol::framing::sse;
use crate::protocol::framing::whole::WholeEvents;
use crate::protocol::json;

/// The most items that may be open at once.
const MOST_OPEN: usize = 512;

/// Reads a stream, chunk by chunk.
#[derive(Debug)]
pub struct StreamReader {
    decoder: WholeEvents,
    progress: Progress,
    /// The index of the next block.
    next: u32,
    items: Vec<OpenItem>,
    /// Tools are to be called.
    called: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd)]
enum Progress {
    #[default]
    Nothing,
    Started,
    Over,
}

/// An item that has been announced and is not done.
#[derive(Debug)]
struct OpenItem {
    output_index: u64,
    /// The block that is being told.
    block: Option<OpenBlock>,
    /// Something of it was told.
    told: bool,
    /// How many parts of a message were told.
    parts: u64,
}

#[derive(Debug)]
struct OpenBlock {
    index: u32,
    part: PartOf,
    annotations: usize,
}

/// Which part of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PartOf {
    Text(u64),
    Refusal(u64),
    Summary(u64),
    Reasoning(u64),
    Call(ToolKind),
}

impl PartOf {
    /// Which part of a message.
    fn of_message(self) -> Option<u64> {
        match self {
            Self::Text(index) | Self::Refusal(index) => Some(index),
            Self::Summary(_) | Self::Reasoning(_) | Self::Call(_) => None,
        }
    }

    fn opening(self) -> Opening {
        match self {
            Self::Refusal(_) => Opening::Refusal,
            Self::Summary(_) | Self::Reasoning(_) => Opening::Thinking,
            Self::Text(_) | Self::Call(_) => Opening::Text,
        }
    }

    fn delta(self, text: String) -> Delta {
        match self {
            Self::Text(_) => Delta::Text(text),
            Self::Refusal(_) => Delta::Refusal(text),
            Self::Summary(_) | Self::Reasoning(_) => Delta::Thinking(text),
            Self::Call(_) => Delta::Arguments(text),
        }
    }
}

/// An event. What is of several types in several events is read by those who know which it is.
#[derive(Deserialize)]
struct Wire<'e> {
    #[serde(default, borrow)]
    r#type: Cow<'e, str>,
    output_index: Option<u64>,
    content_index: Option<u64>,
    summary_index: Option<u64>,
    #[serde(borrow)]
    delta: Option<&'e RawValue>,
    #[serde(borrow)]
    text: Option<&'e RawValue>,
    #[serde(borrow)]
    refusal: Option<&'e RawValue>,
    #[serde(borrow)]
    arguments: Option<&'e RawValue>,
    #[serde(borrow)]
    input: Option<&'e RawValue>,
    #[serde(borrow)]
    part: Option<&'e RawValue>,
    #[serde(borrow)]
    annotation: Option<&'e RawValue>,
    #[serde(borrow)]
    item: Option<&'e RawValue>,
    #[serde(borrow)]
    response: Option<&'e RawValue>,
    #[serde(borrow)]
    error: Option<&'e RawValue>,
}

impl Default for StreamReader {
    fn default() -> Self {
        Self {
            decoder: WholeEvents::skipping(is_needed),
            progress: Progress::default(),
            next: 0,
            items: Vec::new(),
            called: false,
        }
    }
}

/// Whether an event is read that begins so. Pictures before they are done, and what the tools of the
/// provider do, are not.
fn is_needed(head: &[u8]) -> bool {
    let head = head.get(..200).unwrap_or(head);
    let passed_over = ["image_generation_call.", "code_interpreter_call", "mcp_call_arguments."];
    let begins =
        |kind: &str| memchr::memmem::find(head, format!("response.{kind}").as_bytes()).is_some();
    !passed_over.into_iter().any(begins)
}

impl StreamReader {
    pub fn new() -> Self {
        Self::default()
    }

    /// Feeds a chunk; appends what happens in it.
    pub fn push(&mut self, chunk: Bytes, events: &mut Vec<Event>) {
        if self.progress == Progress::Over {
            return;
        }
        self.decoder.push(chunk);
        while let Some(event) = self.decoder.next() {
            if let Ok(event) = event {
                self.read(&event, events);
            } else {
                let message = "an event is larger than can be read".to_owned();
                self.fail(Failure { message, ..Failure::cut_off() }, events);
            }
            if self.progress == Progress::Over {
                return;
            }
        }
    }

    /// The stream is over. One without its last event was cut off.
    pub fn finish(&mut self, events: &mut Vec<Event>) {
        if self.progress == Progress::Over {
            return;
        }
        if let Some(rest) = self.decoder.finish() {
            if rest.data.is_none() && rest.raw.trim_ascii_start().starts_with(b"{") {
                self.fail(Failure::read(None, None, &rest.raw), events);
            } else {
                self.read(&rest, events);
            }
        }
        if self.progress != Progress::Over {
            self.fail(Failure::cut_off(), events);
        }
    }

    fn read(&mut self, event: &sse::Event, events: &mut Vec<Event>) {
        let Some(data) = event.data.as_deref().filter(|data| *data != b"[DONE]") else { return };
        let read = json::read(data)
            .map_err(|error| Unreadable(error.to_string()))
            .and_then(|wire: Wire| self.read_wire(&wire, data, events));
        if let Err(unreadable) = read {
            self.fail(Failure { message: unreadable.to_string(), ..Failure::cut_off() }, events);
        }
    }

    fn read_wire(
        &mut self,
        wire: &Wire,
        data: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), Unreadable> {
        let part = |index: Option<u64>| index.unwrap_or(0);
        let (text, summary) = (part(wire.content_index), part(wire.summary_index));
        match wire.r#type.as_ref() {
            "response.output_text.delta" => {
                self.say(wire, PartOf::Text(text), wire.delta, events)?;
            }
            "response.function_call_arguments.delta" => {
                self.say(wire, PartOf::Call(ToolKind::Function), wire.delta, events)?;
            }
            "response.custom_tool_call_input.delta" => {
                self.say(wire, PartOf::Call(ToolKind::Custom), wire.delta, events)?;
            }
            "response.reasoning_summary_text.delta" => {
                self.say(wire, PartOf::Summary(summary), wire.delta, events)?;
            }
            "response.reasoning_text.delta" => {
                self.say(wire, PartOf::Reasoning(text), wire.delta, events)?;
            }
            "response.refusal.delta" => {
                self.say(wire, PartOf::Refusal(text), wire.delta, events)?;
            }
            // What was told in one piece only.
            "response.output_text.done" => {
                self.say_unsaid(wire, PartOf::Text(text), wire.text, events)?;
            }
            "response.function_call_arguments.done" => {
                self.say_unsaid(wire, PartOf::Call(ToolKind::Function), wire.arguments, events)?;
            }
            "response.custom_tool_call_input.done" => {
                self.say_unsaid(wire, PartOf::Call(ToolKind::Custom), wire.input, events)?;
            }
            "response.reasoning_summary_text.done" => {
                self.say_unsaid(wire, PartOf::Summary(summary), wire.text, events)?;
            }
            "response.reasoning_text.done" => {
                self.say_unsaid(wire, PartOf::Reasoning(text), wire.text, events)?;
            }
            "response.refusal.done" => {
                self.say_unsaid(wire, PartOf::Refusal(text), wire.refusal, events)?;
            }
            "response.output_text.annotation.added" => self.annotate(wire, text, events),
            "response.content_part.done" => self.end_part(wire, events)?,
            "response.output_item.added" => self.open_item(wire, events)?,
            "response.output_item.done" => self.end_item(wire, events)?,
            "response.created" | "response.in_progress" | "response.queued" => {
                self.start(wire.response, events)?;
            }
            "response.completed" | "response.incomplete" => self.end(wire.response, events)?,
            "response.failed" | "response.cancelled" | "error" => {
                self.fail(Failure::read(None, None, data), events);
            }
            // Servers of chats tell errors so.
            "" if wire.error.is_some() => self.fail(Failure::read(None, None, data), events),
            _ => {}
        }
        Ok(())
    }

    fn start(
        &mut self,
        response: Option<&RawValue>,
        events: &mut Vec<Event>,
    ) -> Result<(), Unreadable> {
        if self.progress != Progress::Nothing {
            return Ok(());
        }
        self.progress = Progress::Started;
        let answer = match response {
            Some(response) => Answer::read(response.get().as_bytes())?,
            None => Answer::default(),
        };
        events.push(Event::Start(Start {
            id: answer.id.as_deref().unwrap_or_default().to_owned(),
            model: answer.model.as_deref().unwrap_or_default().to_owned(),
            created: answer.created(),
            usage: None,
        }));
        Ok(())
    }

    /// More of a part, which begins with it.
    fn say(
        &mut self,
        wire: &Wire,
        part: PartOf,
        said: Option<&RawValue>,
        events: &mut Vec<Event>,
    ) -> Result<(), Unreadable> {
        let Some(text) = said.map(text_of).transpose()?.filter(|text| !text.is_empty()) else {
            return Ok(());
        };
        self.start(None, events)?;
        let Some(place) = self.place(wire.output_index.unwrap_or(0), part)? else { return Ok(()) };
        let next = &mut self.next;
        let Some(item) = self.items.get_mut(place) else { return Ok(()) };
        let Some(index) = item.block_of(part, next, events) else { return Ok(()) };
        item.told = true;
        events.push(Event::Delta { index, delta: part.delta(text) });
        Ok(())
    }

    /// The whole of a part, where nothing of it was said in pieces.
    fn say_unsaid(
        &mut self,
        wire: &Wire,
        part: PartOf,
        said: Option<&RawValue>,
        events: &mut Vec<Event>,
    ) -> Result<(), Unreadable> {
        let output_index = wire.output_index.unwrap_or(0);
        let item = self.items.iter().find(|item| item.output_index == output_index);
        let said_before = item.is_some_and(|item| item.has_said(part));
        if said_before { Ok(()) } else { self.say(wire, part, said, events) }
    }

    /// Where the item stands; one that was not announced is opened, but for a call, whose name is
    /// not known then.
    fn place(&mut self, output_index: u64, part: PartOf) -> Result<Option<usize>, Unreadable> {
        let place = self.items.iter().position(|item| item.output_index == output_index);
        if place.is_some() || matches!(part, PartOf::Call(_)) {
            return Ok(place);
        }
        self.announce(output_index)?;
        Ok(Some(self.items.len() - 1))
    }

    fn announce(&mut self, output_index: u64) -> Result<(), Unreadable> {
        if self.items.len() >= MOST_OPEN {
            return Err(Unreadable("too many items are open at once".to_owned()));
        }
        self.items.push(OpenItem { output_index, block: None, told: false, parts: 0 });
        Ok(())
    }

    fn annotate(&mut self, wire: &Wire, part: u64, events: &mut Vec<Event>) {
        let Some(annotation) = wire.annotation.and_then(|it| read_annotation(it.get())) else {
            return;
        };
        let output_index = wire.output_index.unwrap_or(0);
        let next = &mut self.next;
        let item = self.items.iter_mut().find(|item| item.output_index == output_index);
        let Some(item) = item else { return };
        let Some(index) = item.block_of(PartOf::Text(part), next, events) else { return };
        item.told = true;
        if let Some(block) = &mut item.block {
            block.annotations += 1;
        }
        events.push(Event::Delta { index, delta: Delta::Annotation(annotation) });
    }

    /// A part is done: what of it was not told is told now.
    fn end_part(&mut self, wire: &Wire, events: &mut Vec<Event>) -> Result<(), Unreadable> {
        let output_index = wire.output_index.unwrap_or(0);
        let item = self.items.iter_mut().find(|item| item.output_index == output_index);
        let (Some(item), Some(part)) = (item, wire.part) else { return Ok(()) };
        let whole: Part =
            serde_json::from_str(part.get()).map_err(|error| Unreadable(error.to_string()))?;
        let Some(whole) = whole.block() else { return Ok(()) };
        let index = wire.content_index.unwrap_or(0);
        let open = item.block.take_if(|block| block.part.of_message() == Some(index));
        if let Some(block) = open {
            if let Block::Text { annotations, .. } = whole {
                let unsaid = annotations.into_iter().skip(block.annotations).map(Delta::Annotation);
                events.extend(unsaid.map(|delta| Event::Delta { index: block.index, delta }));
            }
            events.push(Event::Close { index: block.index });
        } else if index >= item.parts {
            item.close(events);
            item.told = true;
            item.parts = index + 1;
            tell(vec![whole], &mut self.next, events);
        }
        Ok(())
    }

    fn open_item(&mut self, wire: &Wire, events: &mut Vec<Event>) -> Result<(), Unreadable> {
        self.start(None, events)?;
        let output_index = wire.output_index.unwrap_or(0);
        self.remove(output_index, events);
        let item = wire.item.map(Item::read).transpose()?.flatten();
        self.announce(output_index)?;
        if let (Some(Item::Call(call)), Some(open)) = (item, self.items.last_mut())
            && !call.name.is_empty()
        {
            self.called = true;
            let index = self.next;
            self.next += 1;
            let part = PartOf::Call(call.kind);
            open.block = Some(OpenBlock { index, part, annotations: 0 });
            let ToolUse { id, name, namespace, kind, .. } = call;
            let block = Opening::ToolUse { id, name, namespace, kind };
            events.push(Event::Open { index, block });
        }
        Ok(())
    }

    /// An item is done. It is whole here, in case nothing of it was told before.
    fn end_item(&mut self, wire: &Wire, events: &mut Vec<Event>) -> Result<(), Unreadable> {
        self.start(None, events)?;
        let output_index = wire.output_index.unwrap_or(0);
        let place = self.items.iter().position(|item| item.output_index == output_index);
        let mut open = place.map(|place| self.items.remove(place));
        let Some(item) = wire.item.map(Item::read).transpose()?.flatten() else {
            if let Some(open) = &mut open {
                open.close(events);
            }
            return Ok(());
        };
        self.called |= matches!(item, Item::Call(_));
        let Some(mut open) = open else {
            tell(item.blocks(), &mut self.next, events);
            return Ok(());
        };
        match (item, open.block.as_ref().map(|block| block.index)) {
            (Item::Message(parts), _) => {
                open.close(events);
                let untold = parts.iter().skip(usize::try_from(open.parts).unwrap_or(usize::MAX));
                tell(untold.filter_map(Part::block).collect(), &mut self.next, events);
            }
            (Item::Call(call), Some(index)) if !open.told => {
                let blank = call.arguments.is_empty() && call.kind == ToolKind::Function;
                let whole = if blank { "{}".to_owned() } else { call.arguments };
                if !whole.is_empty() {
                    events.push(Event::Delta { index, delta: Delta::Arguments(whole) });
                }
            }
            (Item::Reasoning { sealed: Some(signature), .. }, Some(index)) => {
                events.push(Event::Delta { index, delta: Delta::Signature(signature) });
            }
            (item, None) if !open.told => tell(item.blocks(), &mut self.next, events),
            _ => {}
        }
        open.close(events);
        Ok(())
    }

    fn end(
        &mut self,
        response: Option<&RawValue>,
        events: &mut Vec<Event>,
    ) -> Result<(), Unreadable> {
        self.start(response, events)?;
        self.close_all(events);
        let answer = match response {
            Some(response) => Answer::read(response.get().as_bytes())?,
            None => Answer::default(),
        };
        // Nothing was told on the way.
        if self.next == 0 {
            let blocks = answer.blocks()?;
            self.called = blocks.iter().any(|block| matches!(block, Block::ToolUse(_)));
            tell(blocks, &mut self.next, events);
        }
        let stop = answer.stop(self.called);
        events.push(Event::End(End { stop, usage: answer.usage() }));
        self.progress = Progress::Over;
        Ok(())
    }

    fn close_all(&mut self, events: &mut Vec<Event>) {
        for mut item in self.items.drain(..) {
            item.close(events);
        }
    }

    /// Ends an item whose index another one takes.
    fn remove(&mut self, output_index: u64, events: &mut Vec<Event>) {
        if let Some(place) = self.items.iter().position(|item| item.output_index == output_index) {
            self.items.remove(place).close(events);
        }
    }

    fn fail(&mut self, failure: Failure, events: &mut Vec<Event>) {
        events.push(Event::Failed(failure));
        self.progress = Progress::Over;
        self.items.clear();
    }
}

impl OpenItem {
    fn has_said(&self, part: PartOf) -> bool {
        use PartOf::{Reasoning, Summary};
        if let Some(index) = part.of_message() {
            return index < self.parts;
        }
        match (part, self.block.as_ref().map(|block| block.part)) {
            (Summary(part), Some(Summary(last))) | (Reasoning(part), Some(Reasoning(last))) => {
                part <= last
            }
            _ => self.told,
        }
    }

    fn close(&mut self, events: &mut Vec<Event>) {
        events.extend(self.block.take().map(|block| Event::Close { index: block.index }));
    }

    /// The block of a part: the one that is open, or a new one. All reasoning of an item is one block,
    /// in words of one kind; the other kind's are passed over.
    fn block_of(&mut self, part: PartOf, next: &mut u32, events: &mut Vec<Event>) -> Option<u32> {
        use PartOf::{Call, Reasoning, Summary};
        if let Some(block) = &mut self.block {
            match (block.part, part) {
                (before, now) if before == now => return Some(block.index),
                (Call(_), Call(_)) => return Some(block.index),
                (Summary(_), Summary(_)) | (Reasoning(_), Reasoning(_)) => {
                    block.part = part;
                    let delta = Delta::Thinking(BETWEEN_PARTS.to_owned());
                    events.push(Event::Delta { index: block.index, delta });
                    return Some(block.index);
                }
                (Summary(_) | Reasoning(_) | Call(_), _) | (_, Summary(_) | Reasoning(_)) => {
                    return None;
                }
                _ => events.push(Event::Close { index: block.index }),
            }
        } else if matches!(part, Call(_)) {
            return None;
        }
        let index = *next;
        *next += 1;
        self.block = Some(OpenBlock { index, part, annotations: 0 });
        if let Some(part) = part.of_message() {
            self.parts = part + 1;
        }
        events.push(Event::Open { index, block: part.opening() });
        Some(index)
    }
}

/// Blocks that come whole.
fn tell(blocks: Vec<Block>, next: &mut u32, events: &mut Vec<Event>) {
    let whole = Response { blocks, ..Response::default() };
    for event in replay(&whole) {
        match event {
            Event::Open { index, block } => {
                events.push(Event::Open { index: index + *next, block });
            }
            Event::Delta { index, delta } => {
                events.push(Event::Delta { index: index + *next, delta });
            }
            Event::Close { index } => events.push(Event::Close { index: index + *next }),
            _ => {}
        }
    }
    *next += u32::try_from(whole.blocks.len()).unwrap_or(u32::MAX);
}

fn text_of(json: &RawValue) -> Result<String, Unreadable> {
    serde_json::from_str(json.get()).map_err(|error| Unreadable(error.to_string()))
}
