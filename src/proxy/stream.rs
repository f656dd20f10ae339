//! The answer's bytes on their way to the client: read in passing, edited where asked for.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::config::{ResponseEdits, Thinking};
use crate::protocol::openai_chat::{
    Delivered, Operation, StreamEditor, StreamOptions, Usage, edit_response, last_usage, read_usage,
};

/// Answers up to this size are kept whole for their edits.
pub const WHOLE: usize = 32 << 20;
/// Failures up to this size are kept for their message.
pub const FAILURE: usize = 64 << 10;
/// Of a longer answer, this much of its end is kept: usage stands there.
const TAIL: usize = 16 << 10;
/// Answers up to this size are kept whole only to read their usage.
const METERED_WHOLE: usize = 64 << 10;
/// Where usage is looked for first: this much of an answer's end.
const USAGE_END: usize = 1 << 10;
/// How much of a stream is held before its first event is known to be good.
const UNJUDGED: usize = 64 << 10;

/// What happens to the bytes of an answer.
pub enum Stage {
    /// They pass.
    Pass,
    /// An event stream.
    Stream(Box<Stream>),
    /// Kept until it is whole, then edited.
    Edit { kept: BytesMut, edits: ResponseEdits, usage: Option<Usage> },
    /// They pass, and usage is read.
    Meter(Meter),
    /// The provider's failure, kept for what it says.
    Failure { kept: BytesMut },
    /// A failure that may be our key's, kept until what it says is known.
    Unjudged { kept: BytesMut, status: u16, pause: Option<Duration> },
}

/// An event stream under way.
pub struct Stream {
    editor: StreamEditor,
    unjudged: Vec<Bytes>,
    judged: bool,
    out: Vec<Bytes>,
}

/// What became of a chunk of a stream.
#[derive(Debug, PartialEq)]
pub enum Passed {
    /// The client gets this (or nothing, for now).
    Bytes(Option<Bytes>),
    /// The stream's first event is an error of this status.
    FirstError { status: Option<u16>, body: Bytes },
}

/// Keeps what is needed to read the usage of an answer that passes.
#[derive(Default)]
pub struct Meter {
    kept: Vec<Bytes>,
    length: usize,
    tail: BytesMut,
}

impl Stage {
    /// The stage of a good answer.
    pub fn of(
        operation: Operation,
        event_stream: bool,
        edits: &ResponseEdits,
        withhold: bool,
    ) -> Self {
        if event_stream {
            let options = StreamOptions { edits: edits.clone(), withhold_usage: withhold };
            let editor = StreamEditor::new(options);
            let (unjudged, out) = (Vec::new(), Vec::new());
            return Self::Stream(Box::new(Stream { editor, unjudged, judged: false, out }));
        }
        let editable = matches!(operation, Operation::ChatCompletions | Operation::Completions);
        let edited = edits.prefix.is_some() || edits.thinking != Thinking::Passthrough;
        if editable && edited {
            return Self::Edit { kept: BytesMut::new(), edits: edits.clone(), usage: None };
        }
        match operation {
            Operation::Other => Self::Pass,
            _ => Self::Meter(Meter::default()),
        }
    }

    /// Whether the answer's length changes, or is not known before its end.
    pub fn changes_length(&self) -> bool {
        !matches!(self, Self::Pass | Self::Meter(_))
    }

    pub fn usage(&self) -> Option<Usage> {
        match self {
            Self::Pass | Self::Failure { .. } | Self::Unjudged { .. } => None,
            Self::Stream(stream) => stream.editor.usage(),
            Self::Edit { usage, .. } => *usage,
            Self::Meter(meter) => meter.usage(),
        }
    }

    /// Whether what was told of usage is all there is to tell.
    pub fn is_done(&self) -> bool {
        match self {
            Self::Stream(stream) => stream.editor.done(),
            _ => true,
        }
    }

    /// Tokens of the answer that has gone by, estimated.
    pub fn delivered(&self) -> u64 {
        match self {
            Self::Pass | Self::Failure { .. } | Self::Unjudged { .. } => 0,
            Self::Stream(stream) => stream.editor.delivered(),
            Self::Edit { kept, .. } => delivered(kept),
            Self::Meter(meter) => meter.delivered(),
        }
    }

    /// Events that carried data so far.
    pub fn events(&self) -> u64 {
        match self {
            Self::Stream(stream) => stream.editor.content_events(),
            _ => 0,
        }
    }
}

impl Stream {
    /// Takes a chunk, and the end when there is one, to what the client shall see.
    pub fn push(&mut self, chunk: Option<Bytes>, end: bool) -> Passed {
        if let Some(chunk) = chunk.filter(|chunk| !chunk.is_empty()) {
            self.editor.push(chunk, &mut self.out);
        }
        if end {
            self.editor.finish(&mut self.out);
        }
        if self.judged {
            return Passed::Bytes(concatenated(&mut self.out));
        }
        if let Some(error) = self.editor.first_error() {
            self.judged = true;
            return Passed::FirstError { status: error.status, body: error.body.clone() };
        }
        self.unjudged.append(&mut self.out);
        let held: usize = self.unjudged.iter().map(Bytes::len).sum();
        if !(self.editor.judged() || end || held > UNJUDGED) {
            return Passed::Bytes(None);
        }
        self.judged = true;
        Passed::Bytes(concatenated(&mut self.unjudged))
    }

    /// Flushes what is held back: the stream has broken off.
    pub fn break_off(&mut self) -> Option<Bytes> {
        self.editor.break_off(&mut self.out);
        self.unjudged.append(&mut self.out);
        concatenated(&mut self.unjudged)
    }
}

impl Meter {
    pub fn push(&mut self, chunk: &Bytes) {
        self.length = self.length.saturating_add(chunk.len());
        if self.length <= METERED_WHOLE {
            self.kept.push(chunk.clone());
            return;
        }
        for earlier in std::mem::take(&mut self.kept) {
            keep_end(&mut self.tail, &earlier);
        }
        keep_end(&mut self.tail, chunk);
    }

    /// The whole answer, when it was short enough to be kept.
    pub fn whole(&self) -> Option<Bytes> {
        match self.kept.as_slice() {
            [] => None,
            [whole] => Some(whole.clone()),
            pieces => Some(Bytes::from(pieces.concat())),
        }
    }

    fn delivered(&self) -> u64 {
        match self.kept.as_slice() {
            // Of what has not been kept, all is taken for text.
            [] => self.length as u64 / 4,
            [whole] => delivered(whole),
            pieces => delivered(&pieces.concat()),
        }
    }

    fn usage(&self) -> Option<Usage> {
        if self.length > METERED_WHOLE {
            return last_usage(&self.tail);
        }
        match self.kept.as_slice() {
            [] => None,
            [whole] => usage_of(whole),
            pieces => usage_of(&pieces.concat()),
        }
    }
}

fn delivered(answer: &[u8]) -> u64 {
    let mut delivered = Delivered::default();
    delivered.read(answer);
    delivered.tokens()
}

/// The usage of a whole answer. Servers write it last, or nearly so, where it is found without
/// reading the rest.
fn usage_of(whole: &[u8]) -> Option<Usage> {
    let end = whole.get(whole.len().saturating_sub(USAGE_END)..).unwrap_or(whole);
    last_usage(end).or_else(|| read_usage(whole))
}

/// Keeps `chunk` for an edit or an error message; false when that would be more than `most`.
pub fn keep(kept: &mut BytesMut, chunk: &Bytes, most: usize) -> bool {
    let fits = kept.len().saturating_add(chunk.len()) <= most;
    if fits {
        kept.extend_from_slice(chunk);
    }
    fits
}

/// The edited answer, and the usage it told of.
pub fn edit_whole(kept: BytesMut, edits: &ResponseEdits) -> (Bytes, Option<Usage>) {
    let whole = kept.freeze();
    let usage = usage_of(&whole).or_else(|| {
        // Without a word about usage: what there is of an answer is known only now.
        let spoken = *edits != ResponseEdits::default();
        spoken.then(|| Usage { completion: delivered(&whole), ..Usage::default() })
    });
    (edit_response(&whole, edits).unwrap_or(whole), usage)
}

/// The provider's own words about its failure: `error.message`, or `message`, as OpenAI, vLLM and
/// FastAPI put it.
pub fn error_message(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let places = ["/error/message", "/message", "/detail", "/error"];
    let said = places.iter().find_map(|place| value.pointer(place)?.as_str())?;
    Some(said.chars().take(2000).collect())
}

/// One piece, copied only when there are several.
fn concatenated(pieces: &mut Vec<Bytes>) -> Option<Bytes> {
    match pieces.len() {
        0 => None,
        1 => pieces.pop(),
        _ => {
            let joined = Bytes::from(pieces.concat());
            pieces.clear();
            Some(joined)
        }
    }
}

fn keep_end(tail: &mut BytesMut, bytes: &[u8]) {
    let bytes = bytes.get(bytes.len().saturating_sub(TAIL)..).unwrap_or(bytes);
    let surplus = (tail.len() + bytes.len()).saturating_sub(TAIL);
    drop(tail.split_to(surplus.min(tail.len())));
    tail.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_answer_is_metered_by_its_end() {
        let mut meter = Meter::default();
        let chunk = Bytes::from(vec![b'1'; 100_000]);
        meter.push(&Bytes::from_static(b"{\"data\":["));
        (0..4).for_each(|_| meter.push(&chunk));
        meter.push(&Bytes::from_static(
            b"],\"usage\":{\"prompt_tokens\":7,\"total_tokens\":7,\"completion_tokens\":0}}",
        ));
        assert!(meter.kept.is_empty() && meter.tail.len() <= TAIL);
        assert_eq!(meter.usage().map(|usage| usage.prompt), Some(7));
    }

    #[test]
    fn the_providers_words_are_found_in_every_shape() {
        for body in [
            r#"{"error":{"message":"no","type":"x"}}"#,
            r#"{"object":"error","message":"no"}"#,
            r#"{"detail":"no"}"#,
            r#"{"error":"no"}"#,
        ] {
            assert_eq!(error_message(body.as_bytes()).as_deref(), Some("no"), "{body}");
        }
        assert_eq!(error_message(b"<html>"), None);
    }
}
