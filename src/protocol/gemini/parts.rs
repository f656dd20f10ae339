//! The parts of answers, told as events.

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::answer::{Answer, Candidate, FunctionCall, Part, string};
use super::finish::Finish;
use super::grounding::{Support, supports};
use super::offsets::Offsets;
use super::partial::PartialArguments;
use crate::config::Dialect;
use crate::protocol::canonical::{
    Annotation, Delta, End, Event, Failure, Image, Opening, Signature, Source, Start, ToolKind,
    Usage, brief,
};

/// What a blocked prompt is answered with where Google says nothing.
const BLOCKED: &str = "The prompt was blocked by the provider's filter.";

/// Tells the pieces of one answer, or an answer that is one piece.
///
/// Neighbouring parts of text are one block, and so are thoughts. A block is closed when another kind of
/// part comes, and a call at once, because it comes whole.
#[derive(Debug, Default)]
pub struct Parts {
    started: bool,
    /// A candidate has come.
    answered: bool,
    /// How many blocks have been opened.
    blocks: u32,
    /// Something came that is no thought.
    said: bool,
    open: Option<Open>,
    /// A call whose arguments come in pieces.
    call: Option<(u32, PartialArguments)>,
    ids: Ids,
    text: Text,
    usage: Option<Usage>,
    finish: Option<Finish>,
    /// Google's words on the end, where it was not a good one.
    complaint: String,
}

/// A block that takes more deltas.
#[derive(Clone, Copy, Debug)]
struct Open {
    index: u32,
    thinking: bool,
    signed: bool,
}

/// Ids for calls that have none: unlike those of any other answer, and the same whenever this one is
/// read again.
#[derive(Debug, Default)]
struct Ids {
    seed: String,
    calls: u32,
}

/// The answer's text, as far as its places matter.
#[derive(Debug, Default)]
struct Text {
    /// How many bytes came before the block that is open.
    before: u64,
    block: Offsets,
    /// Sources whose stretch is not told yet.
    waiting: Vec<Support>,
    told: Vec<Support>,
}

impl Parts {
    /// Tells a piece.
    pub fn read(&mut self, json: &[u8], events: &mut Vec<Event>) -> Result<(), Failure> {
        if json.trim_ascii_start().starts_with(b"[") {
            // Only errors come in an array of their own.
            return Err(Failure::read(None, None, json));
        }
        let answer = Answer::read(json).map_err(|error| unreadable(&error))?;
        if answer.error.is_some() {
            return Err(Failure::read(None, None, json));
        }
        // It is cumulative, and the last one counts.
        self.usage = answer.usage_metadata.and_then(|usage| usage.usage()).or(self.usage);
        if !self.started {
            self.start(&answer, json, events);
        }
        let blocked = answer.prompt_feedback.filter(|feedback| feedback.block_reason.is_some());
        if let Some(feedback) = blocked {
            let message = feedback.block_reason_message.filter(|message| !message.is_empty());
            self.refuse(message.unwrap_or_else(|| BLOCKED.to_owned()), events);
        }
        // The middle form has one answer; others are not asked for.
        let mut candidates = answer.candidates.unwrap_or_default().into_iter();
        match candidates.find(|candidate| candidate.index.unwrap_or_default() == 0) {
            Some(candidate) => {
                self.answered = true;
                self.candidate(candidate, events)
            }
            None => Ok(()),
        }
    }

    /// Whether there is an answer, be it that none is given.
    pub fn is_answer(&self) -> bool {
        self.answered || self.finish.is_some()
    }

    /// Tells the end. An answer that does not say why it ended was cut off.
    pub fn end(&mut self, events: &mut Vec<Event>) {
        self.close_call(events);
        let Some(finish) = self.finish else {
            return events.push(Event::Failed(Failure::cut_off()));
        };
        if finish == Finish::Broken && !self.said {
            let message = format!("The model gave no answer: {}", self.complaint);
            return events.push(Event::Failed(Failure { message, ..Failure::cut_off() }));
        }
        self.close(events);
        let stop = finish.stop(self.ids.calls > 0);
        events.push(Event::End(End { stop, usage: self.usage }));
    }

    /// Tells the end of an answer that is one piece, which need not say why it ended.
    pub fn end_whole(&mut self, events: &mut Vec<Event>) {
        self.finish.get_or_insert(Finish::Done);
        self.end(events);
    }

    fn start(&mut self, answer: &Answer, json: &[u8], events: &mut Vec<Event>) {
        self.started = true;
        let (id, model) = (string(answer.response_id), string(answer.model_version));
        let created = string(answer.create_time).parse::<jiff::Timestamp>().ok();
        let created = created.and_then(|time| u64::try_from(time.as_second()).ok());
        self.ids.seed = seed(&id, json);
        events.push(Event::Start(Start { id, model, created, usage: self.usage }));
    }

    fn refuse(&mut self, message: String, events: &mut Vec<Event>) {
        self.close(events);
        self.said = true;
        let index = self.next_index();
        events.push(Event::Open { index, block: Opening::Refusal });
        events.push(Event::Delta { index, delta: Delta::Refusal(message) });
        events.push(Event::Close { index });
        self.finish = Some(Finish::Filtered);
    }

    fn candidate(&mut self, mut piece: Candidate, events: &mut Vec<Event>) -> Result<(), Failure> {
        if piece.grounding_metadata.is_some() || piece.citation_metadata.is_some() {
            let found = supports(&piece, self.text.before + self.text.block.bytes());
            self.text.wait(found);
        }
        let parts = piece.content.take().and_then(|content| content.parts);
        for part in parts.unwrap_or_default() {
            self.part(part, events)?;
        }
        self.annotate(false, events);
        if let Some(reason) = piece.finish_reason {
            self.complaint = piece.finish_message.unwrap_or_else(|| reason.clone());
            self.finish = Some(Finish::read(&reason));
        }
        Ok(())
    }

    fn part(&mut self, part: Part, events: &mut Vec<Event>) -> Result<(), Failure> {
        let thinking = part.is_thought();
        if let Some(call) = part.function_call {
            return self.call(call, part.thought_signature, events);
        }
        let mut signature = part.thought_signature;
        if let Some(text) = part.text.filter(|text| !text.is_empty()) {
            if !thinking && self.open.is_some_and(|open| open.thinking && !open.signed) {
                self.sign(signature.take(), events);
            }
            let index = self.open(thinking, events);
            let delta = if thinking {
                Delta::Thinking(text)
            } else {
                self.text.block.push(&text);
                Delta::Text(text)
            };
            events.push(Event::Delta { index, delta });
        }
        self.sign(signature, events);
        // Pictures made on the way to the one that is answered are thoughts.
        let image = part.inline_data.filter(|_| !thinking);
        let image = image.and_then(|blob| Some((blob.mime_type?, blob.data?)));
        if let Some((media_type, data)) = image.filter(|(kind, _)| kind.starts_with("image/")) {
            self.close(events);
            self.said = true;
            let index = self.next_index();
            let image =
                Image { source: Source::Base64(data), media_type: Some(media_type), detail: None };
            events.push(Event::Open { index, block: Opening::Image(image) });
            events.push(Event::Close { index });
        }
        Ok(())
    }

    fn call(
        &mut self,
        call: FunctionCall,
        signature: Option<String>,
        events: &mut Vec<Event>,
    ) -> Result<(), Failure> {
        if let Some(name) = call.name.filter(|name| !name.is_empty()) {
            self.close_call(events);
            self.close(events);
            self.said = true;
            let index = self.next_index();
            let id = self.ids.id(call.id);
            let kind = ToolKind::Function;
            let block = Opening::ToolUse { id, name, namespace: None, kind };
            events.push(Event::Open { index, block });
            let signature = signature.filter(|data| !data.is_empty()).map(signed);
            events.extend(signature.map(|delta| Event::Delta { index, delta }));
            if call.will_continue != Some(true) && call.partial_args.is_none() {
                let arguments = call.args.map_or("{}", RawValue::get).to_owned();
                events.push(Event::Delta { index, delta: Delta::Arguments(arguments) });
                events.push(Event::Close { index });
                return Ok(());
            }
            self.call = Some((index, PartialArguments::default()));
        }
        let Some((_, arguments)) = &mut self.call else { return Ok(()) };
        for piece in call.partial_args.unwrap_or_default() {
            arguments.apply(&piece).map_err(|why| {
                let message = format!("The provider's stream has an argument {why}.");
                Failure { message, ..Failure::cut_off() }
            })?;
        }
        if call.will_continue != Some(true) {
            self.close_call(events);
        }
        Ok(())
    }

    fn close_call(&mut self, events: &mut Vec<Event>) {
        let Some((index, arguments)) = self.call.take() else { return };
        let delta = Delta::Arguments(arguments.into_json());
        events.push(Event::Delta { index, delta });
        events.push(Event::Close { index });
    }

    /// The block that text or thoughts belong to.
    fn open(&mut self, thinking: bool, events: &mut Vec<Event>) -> u32 {
        match self.open {
            // What comes behind a thought's signature is another thought.
            Some(open) if open.thinking == thinking && !(thinking && open.signed) => {
                return open.index;
            }
            _ => {}
        }
        self.close_call(events);
        self.close(events);
        self.said |= !thinking;
        let index = self.next_index();
        let block = if thinking { Opening::Thinking } else { Opening::Text };
        events.push(Event::Open { index, block });
        self.open = Some(Open { index, thinking, signed: false });
        index
    }

    /// A signature of text or thoughts. Google puts that of a thought on the first text behind it, but it
    /// is the thought's; one that no block is left for is not needed to go on.
    fn sign(&mut self, signature: Option<String>, events: &mut Vec<Event>) {
        let Some(data) = signature.filter(|data| !data.is_empty()) else { return };
        if let Some(open) = self.open.as_mut().filter(|open| !open.signed) {
            open.signed = true;
            events.push(Event::Delta { index: open.index, delta: signed(data) });
        }
    }

    fn close(&mut self, events: &mut Vec<Event>) {
        self.annotate(true, events);
        let Some(Open { index, thinking, .. }) = self.open.take() else { return };
        if !thinking {
            self.text.before += self.text.block.bytes();
            self.text.block.clear();
        }
        events.push(Event::Close { index });
    }

    /// Tells the sources of the text that is open; those of text to come wait for it.
    fn annotate(&mut self, closing: bool, events: &mut Vec<Event>) {
        if self.text.waiting.is_empty() {
            return;
        }
        let Some(Open { index, thinking: false, .. }) = self.open else { return };
        let annotations = self.text.annotations(closing);
        events.extend(annotations.map(|it| Event::Delta { index, delta: Delta::Annotation(it) }));
    }

    fn next_index(&mut self) -> u32 {
        let index = self.blocks;
        self.blocks += 1;
        index
    }
}

impl Text {
    /// Pieces of a stream tell all sources known so far, again and again.
    fn wait(&mut self, mut supports: Vec<Support>) {
        supports.retain(|support| !self.told.contains(support));
        self.waiting = supports;
    }

    fn annotations(&mut self, closing: bool) -> impl Iterator<Item = Annotation> + use<'_> {
        let (start, end) = (self.before, self.before + self.block.bytes());
        let ready =
            |it: &Support| it.start >= start && (it.end <= end || (closing && it.start < end));
        let (ready, waiting): (Vec<_>, _) = self.waiting.drain(..).partition(ready);
        self.waiting = waiting;
        self.told.extend(ready.iter().cloned());
        let block = &self.block;
        ready.into_iter().map(move |Support { url, title, start: from, end: to }| Annotation {
            url,
            title,
            start: block.characters(from - start),
            end: block.characters(to.max(from) - start),
        })
    }
}

impl Ids {
    fn id(&mut self, given: Option<String>) -> String {
        self.calls += 1;
        let made = || format!("call_{}_{}", self.seed, self.calls);
        given.filter(|id| !id.is_empty()).unwrap_or_else(made)
    }
}

/// The answer's id where it will do, else what its first piece comes to.
fn seed(id: &str, json: &[u8]) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    // 40 characters are what the strictest dialect takes for an id.
    if (8..=28).contains(&id.len()) && id.bytes().all(plain) {
        return id.to_owned();
    }
    let mut digits = hex::encode(Sha256::digest(json));
    digits.truncate(16);
    digits
}

fn signed(data: String) -> Delta {
    Delta::Signature(Signature { dialect: Dialect::Gemini, data })
}

fn unreadable(error: &serde_json::Error) -> Failure {
    let message = format!("The provider's answer cannot be read: {}.", brief(error));
    Failure { message, ..Failure::cut_off() }
}
