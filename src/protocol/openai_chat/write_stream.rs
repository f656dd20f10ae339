//! Writes a stream of chunks.

use serde::Serialize;

use super::told::{Piece, ToldCall, ToldDetail, ToldExtra, ToldNote, ToldPicture};
use super::told::{answer_id, characters, finish_reason, stop_reason};
use super::usage::ToldUsage;
use super::write_stream_refusal;
use crate::protocol::canonical::{
    Annotation, Delta, End, Event, Failure, Image, Opening, Signature, Start, Told, ToolKind,
};

/// Writes a chat's stream: a chunk with the role, one for each event, one with the reason of the end,
/// one with the usage if the client asked for it, and `[DONE]`.
///
/// After a failure there is no `[DONE]`: clients would take what they have for the whole.
#[derive(Debug)]
pub struct StreamWriter {
    told: Told,
    /// What every chunk begins with, up to its choices.
    head: Vec<u8>,
    open: Vec<Open>,
    /// Characters of text so far, which citations count from.
    characters: u64,
    calls: usize,
    details: usize,
    over: bool,
}

/// A block that is open.
#[derive(Debug)]
struct Open {
    index: u32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Text {
        /// Characters of the text before it.
        before: u64,
    },
    Thinking {
        detail: usize,
    },
    Refusal,
    Call {
        number: usize,
        kind: ToolKind,
        has_arguments: bool,
    },
    Whole,
}

#[derive(Serialize)]
struct Head<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
}

#[derive(Serialize)]
struct Finish<'a> {
    index: u32,
    delta: Piece<'a>,
    logprobs: Option<()>,
    #[serde(rename = "finish_reason")]
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_reason: Option<&'a str>,
}

impl StreamWriter {
    pub fn new(told: Told) -> Self {
        Self {
            told,
            head: Vec::new(),
            open: Vec::new(),
            characters: 0,
            calls: 0,
            details: 0,
            over: false,
        }
    }

    /// Appends what the client sees of an event.
    pub fn write(&mut self, event: &Event, out: &mut Vec<u8>) {
        if self.over {
            return;
        }
        match event {
            Event::Start(start) => self.start(start, out),
            Event::Open { index, block } => self.open(*index, block, out),
            Event::Delta { index, delta } => self.delta(*index, delta, out),
            Event::Close { index } => self.close(*index, out),
            Event::Ping => out.extend_from_slice(b": ping\n\n"),
            Event::End(end) => self.end(end, out),
            Event::Failed(failure) => self.fail(failure, out),
        }
    }

    fn start(&mut self, start: &Start, out: &mut Vec<u8>) {
        if !self.head.is_empty() {
            return;
        }
        self.make_head(&start.id, start.created);
        let piece = Piece { role: Some("assistant"), content: Some(""), ..Piece::default() };
        self.piece(&piece, out);
    }

    fn make_head(&mut self, id: &str, created: Option<u64>) {
        let head = Head {
            id: &answer_id(id, &self.told.id),
            object: "chat.completion.chunk",
            created: created.unwrap_or(self.told.created),
            model: &self.told.model,
        };
        self.head.extend_from_slice(b"data: ");
        append(&head, &mut self.head);
        // What follows is within the same object.
        self.head.pop();
        self.head.extend_from_slice(b",\"choices\":[");
    }

    fn open(&mut self, index: u32, block: &Opening, out: &mut Vec<u8>) {
        let kind = match block {
            Opening::Text => Kind::Text { before: self.characters },
            Opening::Thinking => Kind::Thinking { detail: self.next_detail() },
            Opening::Refusal => Kind::Refusal,
            Opening::RedactedThinking(signature) => {
                let detail = ToldDetail::encrypted(signature, self.next_detail());
                let piece = Piece { reasoning_details: Some([detail]), ..Piece::default() };
                self.piece(&piece, out);
                Kind::Whole
            }
            Opening::Image(image) => {
                self.image(image, out);
                Kind::Whole
            }
            Opening::ToolUse { id, name, kind, .. } => {
                let number = self.calls;
                self.calls += 1;
                let call = ToldCall { index: Some(number), ..ToldCall::head(id, name, *kind, "") };
                self.call(call, out);
                Kind::Call { number, kind: *kind, has_arguments: false }
            }
        };
        self.open.push(Open { index, kind });
    }

    fn next_detail(&mut self) -> usize {
        self.details += 1;
        self.details - 1
    }

    fn delta(&mut self, index: u32, delta: &Delta, out: &mut Vec<u8>) {
        let Some(block) = self.open.iter_mut().find(|block| block.index == index) else { return };
        match (&mut block.kind, delta) {
            (Kind::Text { .. }, Delta::Text(text)) => {
                self.characters += characters(text);
                self.text(text, out);
            }
            (Kind::Text { before }, Delta::Annotation(annotation)) => {
                let before = *before;
                self.annotation(annotation, before, out);
            }
            (Kind::Thinking { detail }, Delta::Thinking(text)) => {
                let detail = ToldDetail::text(Some(text), None, *detail);
                let piece = Piece {
                    reasoning_content: Some(text),
                    reasoning: Some(text),
                    reasoning_details: Some([detail]),
                    ..Piece::default()
                };
                self.piece(&piece, out);
            }
            (Kind::Thinking { detail }, Delta::Signature(signature)) => {
                let detail = ToldDetail::text(None, Some(signature), *detail);
                let piece = Piece { reasoning_details: Some([detail]), ..Piece::default() };
                self.piece(&piece, out);
            }
            (Kind::Refusal, Delta::Refusal(text)) => {
                self.piece(&Piece { refusal: Some(text), ..Piece::default() }, out);
            }
            (Kind::Call { number, kind, has_arguments }, Delta::Arguments(text)) => {
                if text.is_empty() {
                    return;
                }
                *has_arguments = true;
                let call = ToldCall { index: Some(*number), ..ToldCall::more(*kind, text, None) };
                self.call(call, out);
            }
            (Kind::Call { number, .. }, Delta::Signature(signature)) => {
                let number = *number;
                self.call_signature(number, signature, out);
            }
            // A signature of text has no place here, and no other pairs occur.
            _ => {}
        }
    }

    fn close(&mut self, index: u32, out: &mut Vec<u8>) {
        let Some(at) = self.open.iter().position(|block| block.index == index) else { return };
        let block = self.open.swap_remove(at);
        let kind = ToolKind::Function;
        if let Kind::Call { number, kind: ToolKind::Function, has_arguments: false } = block.kind {
            self.call(ToldCall { index: Some(number), ..ToldCall::more(kind, "{}", None) }, out);
        }
    }

    fn image(&self, image: &Image, out: &mut Vec<u8>) {
        if let Some(picture) = ToldPicture::of(image) {
            self.piece(&Piece { images: Some([picture]), ..Piece::default() }, out);
        }
    }

    fn call(&self, call: ToldCall, out: &mut Vec<u8>) {
        self.piece(&Piece { tool_calls: Some([call]), ..Piece::default() }, out);
    }

    fn call_signature(&self, number: usize, signature: &Signature, out: &mut Vec<u8>) {
        let extra_content = ToldExtra::of(signature);
        if extra_content.is_some() {
            // Clients look for `function` in every piece of a call.
            let more = ToldCall::more(ToolKind::Function, "", None);
            self.call(ToldCall { index: Some(number), extra_content, ..more }, out);
        }
    }

    fn annotation(&self, annotation: &Annotation, before: u64, out: &mut Vec<u8>) {
        let note = ToldNote::of(annotation, before);
        self.piece(&Piece { annotations: Some([note]), ..Piece::default() }, out);
    }

    /// What nearly all chunks are: a piece that has nothing but text.
    fn text(&self, text: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b"{\"index\":0,\"delta\":{\"content\":");
        append(&text, out);
        out.push(b'}');
        self.go_on(out);
    }

    /// A chunk with one choice that goes on.
    fn piece(&self, piece: &Piece, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        out.extend_from_slice(b"{\"index\":0,\"delta\":");
        append(piece, out);
        self.go_on(out);
    }

    /// The rest of a chunk behind its piece.
    fn go_on(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"logprobs\":null,\"finish_reason\":null}]");
        self.no_usage(out);
        out.extend_from_slice(b"}\n\n");
    }

    /// Where the client wants usage, chunks without it say so.
    fn no_usage(&self, out: &mut Vec<u8>) {
        if self.told.stream_usage {
            out.extend_from_slice(b",\"usage\":null");
        }
    }

    fn end(&mut self, end: &End, out: &mut Vec<u8>) {
        self.over = true;
        if self.head.is_empty() {
            self.make_head("", None);
        }
        let finish = Finish {
            index: 0,
            delta: Piece::default(),
            logprobs: None,
            reason: finish_reason(&end.stop, self.calls > 0),
            stop_reason: stop_reason(&end.stop),
        };
        out.extend_from_slice(&self.head);
        append(&finish, out);
        out.push(b']');
        self.no_usage(out);
        out.extend_from_slice(b"}\n\n");
        if let Some(usage) = end.usage.filter(|_| self.told.stream_usage) {
            out.extend_from_slice(&self.head);
            out.extend_from_slice(b"],\"usage\":");
            append(&ToldUsage::of(&usage), out);
            out.extend_from_slice(b"}\n\n");
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
    }

    fn fail(&mut self, failure: &Failure, out: &mut Vec<u8>) {
        self.over = true;
        out.extend_from_slice(&write_stream_refusal(&failure.refusal("")));
    }
}

/// Writing into memory does not fail; if it did, nothing half-written would go out.
fn append(value: &impl Serialize, out: &mut Vec<u8>) {
    let begin = out.len();
    if serde_json::to_writer(&mut *out, value).is_err() {
        out.truncate(begin);
        out.extend_from_slice(b"null");
    }
}
