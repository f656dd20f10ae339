//! The edits of a streamed answer, event by event, and its metering.

use super::choices::{Answer, Choice};
use super::error::StreamError;
use super::meter::{Meter, Reading};
use super::synthetic;
use super::usage::Usage;
use super::voice::Voice;
use crate::config::{ResponseEdits, Thinking};
use crate::protocol::framing::sse::{Decoder, Event};
use crate::protocol::json::Splice;
use bytes::{Bytes, BytesMut};

/// Choices one stream may have and be edited; `OpenAI` allows 128.  Others pass as they are.
const MAX_VOICES: usize = 128;

/// What to do with a stream.
#[derive(Clone, Debug, Default)]
pub struct StreamOptions {
    /// The edits of its text.
    pub edits: ResponseEdits,
    /// Drop the chunk that carries only usage: we asked for it, the client did not.
    pub withhold_usage: bool,
}

/// Edits and reads one SSE stream of chat or completions chunks; streams of the responses and the
/// messages API are read only.
///
/// Events go out when they are complete, so that a stream which breaks off can still be given an
/// event that says so; those that no edit touches are slices of the input.  Without edits and
/// withholding a chunk of whole events is handed on as it is.
#[derive(Debug)]
pub struct StreamEditor {
    options: StreamOptions,
    decoder: Decoder,
    /// An event that is not complete yet, where nothing is edited.
    begun: BytesMut,
    meter: Meter,
    /// By choice index, in the order of appearance.
    voices: Vec<(u64, Voice)>,
    /// The last chunk that had choices, for writing another one of the same stream.
    template: Option<Bytes>,
}

impl StreamEditor {
    /// An editor at the beginning of a stream.
    #[must_use]
    pub fn new(options: StreamOptions) -> Self {
        Self {
            options,
            decoder: Decoder::new(),
            begun: BytesMut::new(),
            meter: Meter::default(),
            voices: Vec::new(),
            template: None,
        }
    }

    /// Feeds a chunk; appends to `out` what the client shall get.
    pub fn push(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) {
        if chunk.is_empty() {
            return;
        }
        if self.only_reads() {
            self.decoder.push(chunk.clone());
            for event in self.decoder.by_ref() {
                self.meter.read(&event);
            }
            self.pass(chunk, out);
            return;
        }
        self.decoder.push(chunk);
        while let Some(event) = self.decoder.next() {
            self.event(event, out);
        }
    }

    /// Ends the stream: what is held back goes out, whether or not `[DONE]` came.
    pub fn finish(&mut self, out: &mut Vec<Bytes>) {
        let mut broken_off = self.decoder.is_within_oversized();
        let rest = self.decoder.finish();
        if self.only_reads() {
            if let Some(event) = rest {
                self.meter.read(&event);
            }
            if !self.begun.is_empty() {
                out.push(self.begun.split().freeze());
            }
            return;
        }
        if let Some(event) = rest {
            // An event that the upstream broke off says nothing: what is held stands before it.
            let whole = event.data.as_deref().and_then(|data| std::str::from_utf8(data).ok());
            if whole.is_none_or(|json| Answer::read(json).is_none()) {
                self.flush(out);
            }
            self.event(event, out);
            broken_off = true;
        }
        let end = out.len();
        self.flush(out);
        if broken_off && out.len() > end {
            out.insert(end, Bytes::from_static(b"\n\n"));
        }
    }

    /// The upstream broke off: what is held back of its text goes out, but no half event, which
    /// would swallow the one that tells of it.
    pub fn break_off(&mut self, out: &mut Vec<Bytes>) {
        self.begun.clear();
        self.flush(out);
    }

    /// What the stream has cost, as far as it said.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.meter.usage
    }

    /// How many events carried data other than `[DONE]`; for the time to the first token and
    /// between tokens.
    #[must_use]
    pub fn content_events(&self) -> u64 {
        self.meter.content_events
    }

    /// Tokens the model has written so far, estimated.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.meter.delivered.tokens()
    }

    /// Was a terminal event seen: `[DONE]`, `response.completed`, `.failed` or `.incomplete`,
    /// `message_stop`?
    #[must_use]
    pub fn done(&self) -> bool {
        self.meter.done
    }

    /// The first data event, if it was an error object.
    #[must_use]
    pub fn first_error(&self) -> Option<&StreamError> {
        self.meter.first_error.as_ref()
    }

    /// Was a first data event seen?
    #[must_use]
    pub fn judged(&self) -> bool {
        self.meter.judged
    }

    /// Hands on what is complete of the stream so far.
    fn pass(&mut self, chunk: Bytes, out: &mut Vec<Bytes>) {
        let begun = self.decoder.pending();
        if self.begun.is_empty() && begun == 0 {
            out.push(chunk);
            return;
        }
        self.begun.extend_from_slice(&chunk);
        let complete = self.begun.len().saturating_sub(begun);
        if complete > 0 {
            out.push(self.begun.split_to(complete).freeze());
        }
    }

    fn only_reads(&self) -> bool {
        !self.options.withhold_usage && !self.edits_text()
    }

    fn edits_text(&self) -> bool {
        let edits = &self.options.edits;
        edits.prefix.is_some() || edits.thinking != Thinking::Passthrough
    }

    fn event(&mut self, event: Event, out: &mut Vec<Bytes>) {
        match self.meter.read(&event) {
            Reading::UsageOnly if self.options.withhold_usage => return,
            Reading::Done => self.flush(out),
            Reading::Data if self.edits_text() => return self.chunk(event, out),
            _ => {}
        }
        out.push(event.raw);
    }

    /// Passes an event on, edited if it is a chunk with choices.
    fn chunk(&mut self, event: Event, out: &mut Vec<Bytes>) {
        let json = event.data.as_deref().and_then(|data| std::str::from_utf8(data).ok());
        let Some((json, answer)) = json.and_then(|json| Some((json, Answer::read(json)?))) else {
            out.push(event.raw);
            return;
        };
        if answer.error {
            self.flush(out);
        }
        if !answer.choices.is_empty() {
            self.template.clone_from(&event.data);
        }
        let mut splice = Splice::default();
        for choice in &answer.choices {
            self.choice(choice, json, &mut splice, out);
        }
        let edited = (!splice.is_empty()).then(|| rewritten(&event, json, splice));
        out.push(edited.unwrap_or(event.raw));
    }

    fn choice(&mut self, choice: &Choice, json: &str, splice: &mut Splice, out: &mut Vec<Bytes>) {
        let known = self.voices.iter().position(|(index, _)| *index == choice.index);
        if known.is_none() && self.voices.len() < MAX_VOICES {
            self.voices.push((choice.index, Voice::default()));
        }
        let voice = self.voices.iter_mut().find(|(index, _)| *index == choice.index);
        let Some((index, voice)) = voice else { return };
        let edits = &self.options.edits;
        if choice.has_speech() {
            choice.rewrite(json, voice, edits, choice.finished, splice);
        } else if choice.finished {
            let chunk = synthetic::chunk(self.template.as_deref(), *index, voice, edits);
            out.extend(chunk);
        }
    }

    /// Writes chunks for all that is held back.
    fn flush(&mut self, out: &mut Vec<Bytes>) {
        let edits = &self.options.edits;
        let template = self.template.as_deref();
        let voices = self.voices.iter_mut();
        out.extend(
            voices.filter_map(|(index, voice)| synthetic::chunk(template, *index, voice, edits)),
        );
    }
}

/// The event with edited data; its other lines and its line endings stay as they were.
///
/// But for data in several lines, which no chat server sends: then the event is framed anew.
fn rewritten(event: &Event, json: &str, splice: Splice) -> Bytes {
    if let Some(span) = event.data_span() {
        return splice.shifted(span.start).join(&event.raw).into();
    }
    let edited = splice.join(json.as_bytes());
    let mut raw = Vec::with_capacity(event.raw.len() + 64);
    if let Some(name) = &event.event {
        raw.extend_from_slice(b"event: ");
        raw.extend_from_slice(name);
        raw.push(b'\n');
    }
    for line in edited.split(|byte| *byte == b'\n') {
        raw.extend_from_slice(b"data: ");
        raw.extend_from_slice(line);
        raw.push(b'\n');
    }
    raw.push(b'\n');
    raw.into()
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
