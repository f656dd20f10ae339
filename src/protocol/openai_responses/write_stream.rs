//! Streams as clients of the responses API read them.

use serde::Serialize;

use super::envelope::{Envelope, Status};
use super::output::{Citation, Content, Item, Part, Told as ToldItem, is_incomplete};
use super::refusal::error_event;
use crate::protocol::canonical::{
    Delta, End, Event, Failure, Opening, Start, Told, ToolKind, ToolUse, Usage,
};

/// The most bytes of an answer that are kept: far beyond what models write.
const MOST_KEPT: usize = 16 << 20;

/// Writes a stream, event by event.
///
/// Each block is an item of its own, and several may be open at once. Clients take items from the
/// events that end them, and the whole answer from the last one, so all of it is kept until then.
#[derive(Debug)]
pub struct StreamWriter {
    told: Told,
    sequence: u64,
    envelope: Option<Envelope>,
    items: Vec<Item>,
    /// The blocks that are open: their indices, and the places of their items.
    open: Vec<(u32, usize)>,
    /// The one of them that was closed last. Its end is told with what comes behind it: only the answer's
    /// end says whether it is whole.
    closed: Option<u32>,
    /// Bytes of the answer.
    kept: usize,
    over: bool,
}

/// Where in the answer something happens.
#[derive(Serialize)]
struct At<'a> {
    item_id: &'a str,
    output_index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_index: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary_index: Option<u8>,
}

#[derive(Serialize)]
struct Framed<'a, T: Serialize> {
    r#type: &'a str,
    sequence_number: u64,
    #[serde(flatten)]
    body: T,
}

#[derive(Serialize)]
struct Placed<'a, T: Serialize> {
    #[serde(flatten)]
    at: At<'a>,
    #[serde(flatten)]
    body: T,
}

#[derive(Serialize)]
struct ItemBody<'a> {
    output_index: usize,
    item: ToldItem<'a>,
}

#[derive(Serialize)]
struct PartBody<'a> {
    part: Part<'a>,
}

#[derive(Serialize)]
struct AnnotationBody<'a> {
    annotation_index: usize,
    annotation: &'a Citation<'a>,
}

impl StreamWriter {
    pub fn new(told: Told) -> Self {
        Self {
            told,
            sequence: 0,
            envelope: None,
            items: Vec::new(),
            open: Vec::new(),
            closed: None,
            kept: 0,
            over: false,
        }
    }

    /// Writes what the client sees of an event.
    pub fn write(&mut self, event: &Event, out: &mut Vec<u8>) {
        if self.over {
            return;
        }
        // Strings and numbers into memory: there is nothing that could fail.
        let _ = self.try_write(event, out);
    }

    fn try_write(&mut self, event: &Event, out: &mut Vec<u8>) -> serde_json::Result<()> {
        if !matches!(event, Event::Ping | Event::End(_)) {
            self.close_last(out)?;
        }
        match event {
            Event::Start(start) => self.start(start, out),
            Event::Open { index, block } => self.open(*index, block, out),
            Event::Delta { index, delta } => self.delta(*index, delta, out),
            Event::Close { index } => {
                self.closed = Some(*index);
                Ok(())
            }
            Event::Ping => {
                out.extend_from_slice(b": ping\n\n");
                Ok(())
            }
            Event::End(End { stop, usage }) => self.end(Status::Ended(stop), *usage, out),
            Event::Failed(failure) => self.fail(failure, out),
        }
    }

    fn start(&mut self, start: &Start, out: &mut Vec<u8>) -> serde_json::Result<()> {
        if self.envelope.is_some() {
            return Ok(());
        }
        let Start { id, model, created, .. } = start;
        self.envelope = Some(Envelope::new(&self.told, id, model, *created));
        self.snapshot("response.created", Status::InProgress, None, out)?;
        self.snapshot("response.in_progress", Status::InProgress, None, out)
    }

    fn open(&mut self, index: u32, block: &Opening, out: &mut Vec<u8>) -> serde_json::Result<()> {
        self.start(&Start::default(), out)?;
        let Some(envelope) = &self.envelope else { return Ok(()) };
        let place = self.items.len();
        self.items.push(Item::open(block.clone(), place, &envelope.style));
        self.open.push((index, place));
        self.item_event("response.output_item.added", place, out)?;
        match block {
            Opening::Text | Opening::Refusal => self.part_event(place, false, out),
            _ => Ok(()),
        }
    }

    fn delta(&mut self, index: u32, delta: &Delta, out: &mut Vec<u8>) -> serde_json::Result<()> {
        let Some(place) = self.open.iter().find(|open| open.0 == index).map(|open| open.1) else {
            return Ok(());
        };
        let Some(item) = self.items.get_mut(place) else { return Ok(()) };
        let first = matches!(&item.content, Content::Reasoning { text, .. } if text.is_empty());
        let words = match delta {
            Delta::Text(words)
            | Delta::Thinking(words)
            | Delta::Refusal(words)
            | Delta::Arguments(words) => words,
            Delta::Annotation(annotation) => {
                item.push(delta);
                return self.annotation_event(place, &annotation.into(), out);
            }
            Delta::Signature(_) => {
                item.push(delta);
                return Ok(());
            }
        };
        if words.is_empty() {
            return Ok(());
        }
        self.kept += words.len();
        if self.kept > MOST_KEPT {
            let message = "The answer is larger than can be told.".to_owned();
            return self.fail(&Failure { message, ..Failure::cut_off() }, out);
        }
        if first {
            self.part_event(place, false, out)?;
        }
        if let Some(item) = self.items.get_mut(place) {
            item.push(delta);
        }
        self.words_event(place, Some(words), out)
    }

    /// Tells the end of the block that was closed last: something has come behind it, so it is whole.
    fn close_last(&mut self, out: &mut Vec<u8>) -> serde_json::Result<()> {
        self.closed.take().map_or(Ok(()), |index| self.close(index, false, out))
    }

    fn close(&mut self, index: u32, cut: bool, out: &mut Vec<u8>) -> serde_json::Result<()> {
        let Some(open) = self.open.iter().position(|open| open.0 == index) else { return Ok(()) };
        let (_, place) = self.open.remove(open);
        let Some(item) = self.items.get_mut(place) else { return Ok(()) };
        (item.done, item.cut) = (true, cut && item.can_be_cut());
        let told = match &item.content {
            Content::Reasoning { text, .. } => !text.is_empty(),
            Content::Image(_) => false,
            Content::Text { .. } | Content::Refusal(_) | Content::Call(_) => true,
        };
        if told {
            self.words_event(place, None, out)?;
            self.part_event(place, true, out)?;
        }
        self.item_event("response.output_item.done", place, out)?;
        self.sign(place, out)
    }

    /// The signature of a call that is done, as an item of its own.
    fn sign(&mut self, place: usize, out: &mut Vec<u8>) -> serde_json::Result<()> {
        let (Some(item), Some(envelope)) = (self.items.get(place), &self.envelope) else {
            return Ok(());
        };
        let Content::Call(ToolUse { id, signature: Some(signature), .. }) = &item.content else {
            return Ok(());
        };
        let place = self.items.len();
        let item = Item::of_signature(id, signature, place, &envelope.style);
        self.items.push(item);
        self.item_event("response.output_item.added", place, out)?;
        if let Some(item) = self.items.get_mut(place) {
            item.done = true;
        }
        self.item_event("response.output_item.done", place, out)
    }

    fn end(
        &mut self,
        status: Status,
        usage: Option<Usage>,
        out: &mut Vec<u8>,
    ) -> serde_json::Result<()> {
        self.start(&Start::default(), out)?;
        let incomplete = matches!(status, Status::Ended(stop) if is_incomplete(stop));
        if self.open.len() > 1 {
            self.close_last(out)?;
        }
        while let Some((index, _)) = self.open.first().copied() {
            self.close(index, incomplete && self.open.len() == 1, out)?;
        }
        let kind = if incomplete { "response.incomplete" } else { "response.completed" };
        self.over = true;
        self.snapshot(kind, status, usage, out)
    }

    fn fail(&mut self, failure: &Failure, out: &mut Vec<u8>) -> serde_json::Result<()> {
        let request_id = self.told.id.clone();
        let refusal = failure.refusal(&request_id);
        self.over = true;
        out.extend(error_event(&refusal, self.next_number()));
        if self.envelope.is_none() {
            self.envelope = Some(Envelope::new(&self.told, "", "", None));
        }
        self.snapshot("response.failed", Status::Failed(&refusal), None, out)
    }

    /// An event with the whole object of the answer.
    fn snapshot(
        &mut self,
        kind: &str,
        status: Status,
        usage: Option<Usage>,
        out: &mut Vec<u8>,
    ) -> serde_json::Result<()> {
        let number = self.next_number();
        let Some(envelope) = &self.envelope else { return Ok(()) };
        let head = format!(
            "event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":{number},\"response\":"
        );
        out.extend_from_slice(head.as_bytes());
        envelope.write(status, &self.items, usage, out)?;
        out.extend_from_slice(b"}\n\n");
        Ok(())
    }

    fn item_event(
        &mut self,
        kind: &str,
        place: usize,
        out: &mut Vec<u8>,
    ) -> serde_json::Result<()> {
        let number = self.next_number();
        let Some((item, envelope)) = self.items.get(place).zip(self.envelope.as_ref()) else {
            return Ok(());
        };
        let item = ToldItem(item, &envelope.style);
        frame(kind, number, ItemBody { output_index: place, item }, out)
    }

    /// A part begins or is done. Calls and images have none.
    fn part_event(
        &mut self,
        place: usize,
        done: bool,
        out: &mut Vec<u8>,
    ) -> serde_json::Result<()> {
        let Some((item, envelope)) = self.items.get(place).zip(self.envelope.as_ref()) else {
            return Ok(());
        };
        let Some(part) = ToldItem(item, &envelope.style).part() else { return Ok(()) };
        let kind = match (&part, done) {
            (Part::SummaryText { .. }, false) => "response.reasoning_summary_part.added",
            (Part::SummaryText { .. }, true) => "response.reasoning_summary_part.done",
            (_, false) => "response.content_part.added",
            (_, true) => "response.content_part.done",
        };
        let body = Placed { at: at(item, place, envelope), body: PartBody { part } };
        frame(kind, self.sequence, body, out)?;
        self.sequence += 1;
        Ok(())
    }

    /// A piece of a part, or that it is whole.
    fn words_event(
        &mut self,
        place: usize,
        piece: Option<&str>,
        out: &mut Vec<u8>,
    ) -> serde_json::Result<()> {
        let number = self.next_number();
        let Some((item, envelope)) = self.items.get(place).zip(self.envelope.as_ref()) else {
            return Ok(());
        };
        // What they are called, by what of: in the event's name, and as its member when all are there.
        let (name, member, whole) = match &item.content {
            Content::Text { text, .. } => ("output_text", "text", text),
            Content::Refusal(text) => ("refusal", "refusal", text),
            Content::Reasoning { text, .. } if envelope.style.summaries => {
                ("reasoning_summary_text", "text", text)
            }
            Content::Reasoning { text, .. } => ("reasoning_text", "text", text),
            Content::Call(call) if call.kind == ToolKind::Custom => {
                ("custom_tool_call_input", "input", &call.arguments)
            }
            Content::Call(call) => ("function_call_arguments", "arguments", &call.arguments),
            Content::Image(_) => return Ok(()),
        };
        let (end, member, words) = match piece {
            Some(words) => ("delta", "delta", words),
            None => ("done", member, whole.as_str()),
        };
        // Nearly all events are these, so what is the same in all of them is written as it stands.
        let text = |out: &mut Vec<u8>, pieces: &[&str]| {
            for piece in pieces {
                out.extend_from_slice(piece.as_bytes());
            }
        };
        let At { item_id, output_index, content_index, summary_index } = at(item, place, envelope);
        text(out, &["event: response.", name, ".", end]);
        text(out, &["\ndata: {\"type\":\"response.", name, ".", end, "\",\"sequence_number\":"]);
        serde_json::to_writer(&mut *out, &number)?;
        text(out, &[",\"item_id\":"]);
        serde_json::to_writer(&mut *out, item_id)?;
        text(out, &[",\"output_index\":"]);
        serde_json::to_writer(&mut *out, &output_index)?;
        for (name, index) in [("content_index", content_index), ("summary_index", summary_index)] {
            if let Some(index) = index {
                text(out, &[",\"", name, "\":"]);
                serde_json::to_writer(&mut *out, &index)?;
            }
        }
        text(out, &[",\"", member, "\":"]);
        serde_json::to_writer(&mut *out, words)?;
        let is_text = matches!(item.content, Content::Text { .. });
        text(out, &[if is_text { ",\"logprobs\":[]}\n\n" } else { "}\n\n" }]);
        Ok(())
    }

    fn annotation_event(
        &mut self,
        place: usize,
        annotation: &Citation,
        out: &mut Vec<u8>,
    ) -> serde_json::Result<()> {
        let number = self.next_number();
        let Some((item, envelope)) = self.items.get(place).zip(self.envelope.as_ref()) else {
            return Ok(());
        };
        let Content::Text { annotations, .. } = &item.content else { return Ok(()) };
        let annotation_index = annotations.len().saturating_sub(1);
        let at = at(item, place, envelope);
        let body = Placed { at, body: AnnotationBody { annotation_index, annotation } };
        frame("response.output_text.annotation.added", number, body, out)
    }

    fn next_number(&mut self) -> u64 {
        let number = self.sequence;
        self.sequence += 1;
        number
    }
}

/// An item has one part at most.
fn at<'a>(item: &'a Item, output_index: usize, envelope: &Envelope) -> At<'a> {
    let (content_index, summary_index) = match &item.content {
        Content::Reasoning { .. } if envelope.style.summaries => (None, Some(0)),
        Content::Text { .. } | Content::Refusal(_) | Content::Reasoning { .. } => (Some(0), None),
        Content::Call(_) | Content::Image(_) => (None, None),
    };
    At { item_id: &item.id, output_index, content_index, summary_index }
}

fn frame(
    kind: &str,
    number: u64,
    body: impl Serialize,
    out: &mut Vec<u8>,
) -> serde_json::Result<()> {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    serde_json::to_writer(&mut *out, &Framed { r#type: kind, sequence_number: number, body })?;
    out.extend_from_slice(b"\n\n");
    Ok(())
}
