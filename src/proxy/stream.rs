//! The answer's bytes on their way to the client: read in passing, edited where asked for.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::buffered::Kept;
use super::cross;
use crate::config::{Dialect, ResponseEdits, Thinking};
use crate::protocol::bedrock::invoke::{ChunkReader, ChunkWriter};
use crate::protocol::canonical::{Failure, FailureKind, scrubbed};
use crate::protocol::edit::{
    Delivered, StreamEditor, StreamOptions, Usage, edit_response, last_usage, read_usage,
};
use crate::protocol::translate::{Back, StreamTranslator, last_usage_of};
use crate::protocol::{Operation, write_refusal};

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
/// How many bytes more one event may be in another dialect, as a rule.
const AROUND: usize = 256;
/// How much of a stream is held before its first event is known to be good.
const UNJUDGED: usize = 64 << 10;

/// What happens to the bytes of an answer.
pub enum Stage {
    /// They pass.
    Pass,
    /// An event stream.
    Stream(Box<Stream>),
    /// Kept until it is whole, then put into the caller's dialect; as a stream, if it wants one.
    /// What comes of a chat is edited, too.
    Translate {
        kept: Kept,
        back: Back,
        as_stream: bool,
        edits: ResponseEdits,
        usage: Option<Usage>,
    },
    /// Kept until it is whole, then edited.
    Edit { kept: Kept, edits: ResponseEdits, usage: Option<Usage> },
    /// They pass, and usage is read.
    Meter(Meter),
    /// The provider's failure, kept for what it says.
    Failure { kept: BytesMut },
    /// A failure that may be our key's, kept until what it says is known.
    Unjudged { kept: BytesMut, status: u16, pause: Option<Duration> },
}

/// An event stream under way.
pub struct Stream {
    /// Takes Claude's events out of Bedrock's frames.
    unframe: Option<Box<ChunkReader>>,
    lane: Lane,
    /// Puts them into such frames.
    frame: Option<Box<ChunkWriter>>,
    unjudged: Vec<Bytes>,
    judged: bool,
    out: Vec<Bytes>,
}

/// What a stream goes through.
enum Lane {
    /// Caller and provider speak the same dialect.
    Same(Box<StreamEditor>),
    /// They do not; what has been translated may still be edited.
    Across { translator: Box<StreamTranslator>, editor: Option<Box<StreamEditor>> },
    /// They do, and it is not OpenAI's or Anthropic's: it passes, and is followed.
    Followed(Box<StreamTranslator>),
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
    /// Where usage has other names than in OpenAI's and Anthropic's answers.
    dialect: Option<Dialect>,
}

impl Stage {
    /// The stage of a good answer.
    pub fn of(
        operation: Operation,
        event_stream: bool,
        edits: &ResponseEdits,
        withhold: bool,
    ) -> Self {
        let theirs = |it: &Dialect| matches!(it, Dialect::Gemini | Dialect::Bedrock);
        let followed = operation.dialect().filter(theirs);
        if let Some(dialect) = followed.filter(|_| event_stream) {
            return Self::stream(Lane::Followed(Box::new(StreamTranslator::follower(dialect))));
        }
        if event_stream {
            let options = StreamOptions { edits: edits.clone(), withhold_usage: withhold };
            return Self::stream(Lane::Same(Box::new(StreamEditor::new(options))));
        }
        let editable = matches!(operation, Operation::ChatCompletions | Operation::Completions);
        let edited = edits.prefix.is_some() || edits.thinking != Thinking::Passthrough;
        if editable && edited {
            return Self::Edit { kept: Kept::default(), edits: edits.clone(), usage: None };
        }
        match operation {
            Operation::Other => Self::Pass,
            _ => Self::Meter(Meter { dialect: followed, ..Meter::default() }),
        }
    }

    /// The stage of an answer that is put into another dialect. `edits` are those of a chat.
    pub fn across(back: Back, streamed: bool, as_stream: bool, edits: &ResponseEdits) -> Self {
        if !streamed {
            let (kept, edits) = (Kept::default(), edits.clone());
            return Self::Translate { kept, back, as_stream, edits, usage: None };
        }
        let Some(translator) = back.into_stream() else { return Self::Pass };
        let edited = *edits != ResponseEdits::default();
        let options = StreamOptions { edits: edits.clone(), withhold_usage: false };
        let editor = edited.then(|| Box::new(StreamEditor::new(options)));
        Self::stream(Lane::Across { translator: Box::new(translator), editor })
    }

    fn stream(lane: Lane) -> Self {
        let (unjudged, out) = (Vec::new(), Vec::new());
        let (unframe, frame) = (None, None);
        Self::Stream(Box::new(Stream { unframe, lane, frame, unjudged, judged: false, out }))
    }

    /// The frames of Bedrock's `InvokeModel`: those the provider sends, and those the caller reads.
    pub fn framed(mut self, provider: bool, caller: bool) -> Self {
        if let Self::Stream(stream) = &mut self {
            stream.unframe = provider.then(|| Box::new(ChunkReader::new()));
            stream.frame = caller.then(|| Box::new(ChunkWriter::new()));
        }
        self
    }

    /// Whether the answer's length changes, or is not known before its end.
    pub fn changes_length(&self) -> bool {
        !matches!(self, Self::Pass | Self::Meter(_))
    }

    pub fn usage(&self) -> Option<Usage> {
        match self {
            Self::Pass | Self::Failure { .. } | Self::Unjudged { .. } => None,
            Self::Stream(stream) => stream.lane.usage(),
            Self::Edit { usage, .. } | Self::Translate { usage, .. } => *usage,
            Self::Meter(meter) => meter.usage(),
        }
    }

    /// Whether what was told of usage is all there is to tell.
    pub fn is_done(&self) -> bool {
        match self {
            Self::Stream(stream) => stream.lane.is_done(),
            _ => true,
        }
    }

    /// Tokens of the answer that has gone by, estimated.
    pub fn delivered(&self) -> u64 {
        match self {
            Self::Pass | Self::Failure { .. } | Self::Unjudged { .. } => 0,
            Self::Stream(stream) => stream.lane.delivered(),
            Self::Translate { kept, .. } => kept.as_bytes().len() as u64 / 4,
            Self::Edit { kept, .. } => delivered(kept.as_bytes()),
            Self::Meter(meter) => meter.delivered(),
        }
    }

    /// Events that carried data so far.
    pub fn events(&self) -> u64 {
        match self {
            Self::Stream(stream) => stream.lane.events(),
            _ => 0,
        }
    }
}

impl Lane {
    fn followed(&self) -> Option<&StreamTranslator> {
        match self {
            Self::Same(_) => None,
            Self::Across { translator, .. } | Self::Followed(translator) => Some(translator),
        }
    }

    fn push(&mut self, chunk: Option<Bytes>, end: bool, out: &mut Vec<Bytes>) {
        match self {
            Self::Same(editor) => edit(editor, chunk, end, out),
            Self::Across { translator, editor } => {
                // Most chunks hold one event, whose words around the text are what a chunk is mostly made of.
                let room = chunk.as_ref().map_or(0, |chunk| chunk.len() + AROUND);
                let mut translated = Vec::with_capacity(room);
                if let Some(chunk) = chunk {
                    translator.push(chunk, &mut translated);
                }
                if end {
                    translator.finish(&mut translated);
                }
                let translated = (!translated.is_empty()).then(|| Bytes::from(translated));
                match editor {
                    Some(editor) => edit(editor, translated, end, out),
                    None => out.extend(translated),
                }
            }
            Self::Followed(follower) => {
                if let Some(chunk) = chunk {
                    follower.push(chunk.clone(), &mut Vec::new());
                    out.push(chunk);
                }
                if end {
                    follower.finish(&mut Vec::new());
                }
            }
        }
    }

    /// The error that came before anything else.
    fn first_error(&self) -> Option<Passed> {
        if let Self::Same(editor) = self {
            let error = editor.first_error()?;
            return Some(Passed::FirstError { status: error.status, body: error.body.clone() });
        }
        let failure = self.followed()?.first_failure()?;
        let body = write_refusal(Dialect::OpenaiChat, &failure.refusal(""));
        let told = failure.kind != FailureKind::Server;
        let status = failure.status.or_else(|| told.then(|| failure.kind.status()));
        Some(Passed::FirstError { status, body })
    }

    fn is_judged(&self) -> bool {
        match self {
            Self::Same(editor) => editor.judged(),
            _ => self.followed().is_none_or(StreamTranslator::judged),
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Self::Same(editor) => editor.done(),
            _ => self.followed().is_none_or(StreamTranslator::done),
        }
    }

    fn usage(&self) -> Option<Usage> {
        match self {
            Self::Same(editor) => editor.usage(),
            _ => self.followed()?.usage().map(cross::usage),
        }
    }

    fn delivered(&self) -> u64 {
        match self {
            Self::Same(editor) => editor.delivered(),
            _ => self.followed().map_or(0, StreamTranslator::delivered),
        }
    }

    fn events(&self) -> u64 {
        match self {
            Self::Same(editor) => editor.content_events(),
            _ => self.followed().map_or(0, StreamTranslator::deltas),
        }
    }
}

fn edit(editor: &mut StreamEditor, chunk: Option<Bytes>, end: bool, out: &mut Vec<Bytes>) {
    if let Some(chunk) = chunk {
        editor.push(chunk, out);
    }
    if end {
        editor.finish(out);
    }
}

impl Stream {
    /// Takes a chunk, and the end when there is one, to what the client shall see.
    pub fn push(&mut self, chunk: Option<Bytes>, end: bool) -> Passed {
        let chunk = match (&mut self.unframe, chunk) {
            (Some(unframe), Some(chunk)) => {
                let mut events = Vec::with_capacity(chunk.len());
                unframe.push(chunk, &mut events);
                Some(Bytes::from(events))
            }
            (_, chunk) => chunk,
        };
        let chunk = match (&mut self.unframe, end) {
            (Some(unframe), true) => {
                let mut events = chunk.map(Vec::from).unwrap_or_default();
                unframe.finish(&mut events);
                Some(Bytes::from(events))
            }
            _ => chunk,
        };
        self.lane.push(chunk.filter(|chunk| !chunk.is_empty()), end, &mut self.out);
        self.put_into_frames();
        if self.judged {
            return Passed::Bytes(concatenated(&mut self.out));
        }
        if let Some(error) = self.lane.first_error() {
            self.judged = true;
            return error;
        }
        self.unjudged.append(&mut self.out);
        let held: usize = self.unjudged.iter().map(Bytes::len).sum();
        if !(self.lane.is_judged() || end || held > UNJUDGED) {
            return Passed::Bytes(None);
        }
        self.judged = true;
        Passed::Bytes(concatenated(&mut self.unjudged))
    }

    fn put_into_frames(&mut self) {
        let Some(frame) = &mut self.frame else { return };
        let mut frames = Vec::new();
        for events in self.out.drain(..) {
            frame.push(events, &mut frames);
        }
        self.out.extend((!frames.is_empty()).then(|| Bytes::from(frames)));
    }

    /// Whether the provider's stream broke off, and the client has been told in its own dialect.
    pub fn has_failed(&self) -> bool {
        self.lane.followed().is_some_and(StreamTranslator::failed)
    }

    /// Ends a stream that cannot go on: what is held back, and word of `failure` where that is part of
    /// the stream itself; else it is the caller's to tell.
    pub fn break_off(&mut self, failure: impl FnOnce() -> Failure) -> BrokenOff {
        let told = match &mut self.lane {
            Lane::Same(editor) => {
                editor.break_off(&mut self.out);
                false
            }
            Lane::Followed(_) => false,
            Lane::Across { translator, .. } => {
                let mut last = Vec::new();
                translator.fail(failure(), &mut last);
                self.out.push(last.into());
                true
            }
        };
        self.put_into_frames();
        self.unjudged.append(&mut self.out);
        BrokenOff { bytes: concatenated(&mut self.unjudged), told }
    }
}

/// The end of a stream that broke off.
#[derive(Default)]
pub struct BrokenOff {
    pub bytes: Option<Bytes>,
    /// They say why.
    pub told: bool,
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
        if let Some(dialect) = self.dialect {
            let whole = self.whole();
            let end = whole.as_deref().unwrap_or(&self.tail);
            return last_usage_of(dialect, end).map(cross::usage);
        }
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

/// A translated answer, or the stream it became, with a chat's edits.
pub fn edit_translated(written: Vec<u8>, as_stream: bool, edits: &ResponseEdits) -> Bytes {
    let written = Bytes::from(written);
    if *edits == ResponseEdits::default() {
        return written;
    }
    if !as_stream {
        return edit_response(&written, edits).unwrap_or(written);
    }
    let options = StreamOptions { edits: edits.clone(), withhold_usage: false };
    let mut out = Vec::new();
    edit(&mut StreamEditor::new(options), Some(written), true, &mut out);
    concatenated(&mut out).unwrap_or_default()
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
    Some(scrubbed(said.chars().take(2000).collect()))
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
