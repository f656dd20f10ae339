//! What a chat answers, put together of chunks: blocks and their order, which chunks do not tell.
//!
//! A chunk has text, reasoning and calls beside each other, and servers differ in how they tell one
//! call from the next; all of that is decided here, for streams and whole answers alike.

use sha2::{Digest, Sha256};

use super::details::dialect_of;
use super::wire::{Call, Chunk, Detail, Message, Note, Picture, Text, Words};
use crate::config::Dialect;
use crate::protocol::canonical::{
    Annotation, Delta, End, Event, Failure, Image, Opening, Signature, Source, Start, Stop,
    ToolKind, Usage,
};

/// The most bytes of arguments kept back for calls whose name or id has not come.
const MOST_HELD: usize = 1 << 20;

/// An answer under way.
#[derive(Debug, Default)]
pub(super) struct Answer {
    started: bool,
    over: bool,
    id: String,
    /// The index of the next block.
    next: u32,
    /// The block of words that is open.
    prose: Option<Prose>,
    /// Characters of the text blocks that are closed.
    characters: u64,
    calls: Vec<OpenCall>,
    held: usize,
    stop: Option<Stop>,
    usage: Option<Usage>,
}

#[derive(Debug)]
struct Prose {
    block: u32,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text { characters: u64 },
    Thinking { detail: Option<u64>, signed: bool },
    Refusal,
}

/// A call that has begun. Calls stay open until the answer ends: more of any may come.
#[derive(Debug)]
struct OpenCall {
    /// The number the server gave it.
    number: Option<u64>,
    id: String,
    name: String,
    kind: ToolKind,
    /// None until name and id are known.
    block: Option<u32>,
    /// What came before that.
    held: String,
    signature: Option<Signature>,
    has_arguments: bool,
}

impl Answer {
    pub fn is_over(&self) -> bool {
        self.over
    }

    pub fn has_started(&self) -> bool {
        self.started
    }

    /// Why the answer ended has been told.
    pub fn is_finished(&self) -> bool {
        self.stop.is_some()
    }

    /// Takes a chunk in.
    pub fn chunk(&mut self, chunk: &Chunk, events: &mut Vec<Event>) {
        let choices = chunk.choices.as_deref().unwrap_or_default();
        // Azure's first chunk has neither ids nor choices.
        let id = Text::said(chunk.id.as_ref());
        if !self.started && (id.is_some() || !choices.is_empty()) {
            self.start(id.unwrap_or_default(), chunk, events);
        }
        // Of several answers only the first crosses.
        let number =
            |index: Option<&serde_json::Number>| index.and_then(serde_json::Number::as_u64);
        for choice in choices.iter().filter(|it| number(it.index.as_ref()).unwrap_or(0) == 0) {
            if let Some(message) = &choice.delta {
                self.message(message, events);
            }
            if let Some(reason) = Text::said(choice.finish_reason.as_ref()) {
                let stopped = Words::said(choice.stop_reason.as_ref());
                let stopped = stopped.or_else(|| Words::said(choice.matched_stop.as_ref()));
                self.finish(reason, stopped, events);
            }
        }
        let groq = chunk.x_groq.as_ref().and_then(|groq| groq.usage.as_ref());
        if let Some(usage) = chunk.usage.as_deref().or(groq) {
            self.usage = Some(usage.read());
        }
    }

    fn start(&mut self, id: &str, chunk: &Chunk, events: &mut Vec<Event>) {
        self.started = true;
        id.clone_into(&mut self.id);
        let model = Text::said(chunk.model.as_ref()).unwrap_or_default().to_owned();
        let created = chunk.created.as_ref().and_then(serde_json::Number::as_u64);
        let created = created.filter(|seconds| *seconds > 0);
        events.push(Event::Start(Start { id: id.to_owned(), model, created, usage: None }));
    }

    fn message(&mut self, message: &Message, events: &mut Vec<Event>) {
        let details = message.reasoning_details.as_deref().unwrap_or_default();
        let in_words =
            |it: &&Detail| Text::said(it.text.as_ref().or(it.summary.as_ref())).is_some();
        if !details.iter().any(|detail| in_words(&detail)) {
            // The two names are the same words twice, where both are there.
            let words = [&message.reasoning_content, &message.reasoning];
            let words = words.into_iter().flatten().find(|words| !words.are_empty());
            if let Some(words) = words {
                self.words(words, true, events);
            }
        }
        for detail in details {
            self.detail(detail, events);
        }
        if let Some(content) = &message.content {
            self.words(content, false, events);
        }
        for note in message.annotations.iter().flatten() {
            self.annotation(note, events);
        }
        if let Some(refusal) = Text::said(message.refusal.as_ref()) {
            let block = self.prose(Kind::Refusal, events);
            events.push(Event::Delta { index: block, delta: Delta::Refusal(refusal.to_owned()) });
        }
        for picture in message.images.iter().flatten() {
            self.image(picture, events);
        }
        for call in message.tool_calls.iter().flatten() {
            self.call(call, events);
        }
    }

    fn words(&mut self, words: &Words, thinking: bool, events: &mut Vec<Event>) {
        match words {
            Words::Text(text) if text.is_empty() => {}
            Words::Text(text) if thinking => self.thinking(text, None, events),
            Words::Text(text) => self.text(text, events),
            Words::Parts(parts) => {
                for part in parts {
                    if let Some(words) = &part.thinking {
                        self.words(words, true, events);
                    } else if let Some(text) = &part.text {
                        self.words(&Words::Text(text.0.as_ref().into()), thinking, events);
                    }
                }
            }
            Words::Nothing => {}
        }
    }

    fn text(&mut self, text: &str, events: &mut Vec<Event>) {
        let block = self.prose(Kind::Text { characters: 0 }, events);
        if let Some(Prose { kind: Kind::Text { characters }, .. }) = &mut self.prose {
            *characters += super::told::characters(text);
        }
        events.push(Event::Delta { index: block, delta: Delta::Text(text.to_owned()) });
    }

    fn thinking(&mut self, text: &str, detail: Option<u64>, events: &mut Vec<Event>) {
        let block = self.prose(Kind::Thinking { detail, signed: false }, events);
        events.push(Event::Delta { index: block, delta: Delta::Thinking(text.to_owned()) });
    }

    fn detail(&mut self, detail: &Detail, events: &mut Vec<Event>) {
        let number = detail.index.as_ref().and_then(serde_json::Number::as_u64);
        let dialect = dialect_of(Text::said(detail.format.as_ref()));
        if let Some(data) = Text::said(detail.data.as_ref()) {
            let signature = Signature { dialect, data: data.to_owned() };
            self.whole(Opening::RedactedThinking(signature), events);
            return;
        }
        if let Some(text) = Text::said(detail.text.as_ref().or(detail.summary.as_ref())) {
            self.thinking(text, number, events);
        }
        if let Some(data) = Text::said(detail.signature.as_ref()) {
            let block = self.prose(Kind::Thinking { detail: number, signed: false }, events);
            let signature = Signature { dialect, data: data.to_owned() };
            events.push(Event::Delta { index: block, delta: Delta::Signature(signature) });
            if let Some(Prose { kind: Kind::Thinking { signed, .. }, .. }) = &mut self.prose {
                *signed = true;
            }
        }
    }

    /// The open block if words of this kind belong to it, else a new one.
    fn prose(&mut self, kind: Kind, events: &mut Vec<Event>) -> u32 {
        if let Some(prose) = &mut self.prose
            && prose.continues(kind)
        {
            return prose.block;
        }
        self.close_prose(events);
        let opening = match kind {
            Kind::Text { .. } => Opening::Text,
            Kind::Thinking { .. } => Opening::Thinking,
            Kind::Refusal => Opening::Refusal,
        };
        let block = self.open(opening, events);
        self.prose = Some(Prose { block, kind });
        block
    }

    fn close_prose(&mut self, events: &mut Vec<Event>) {
        if let Some(Prose { block, kind }) = self.prose.take() {
            if let Kind::Text { characters } = kind {
                self.characters += characters;
            }
            events.push(Event::Close { index: block });
        }
    }

    fn open(&mut self, block: Opening, events: &mut Vec<Event>) -> u32 {
        let index = self.next;
        self.next += 1;
        events.push(Event::Open { index, block });
        index
    }

    /// A block that is whole as it opens.
    fn whole(&mut self, block: Opening, events: &mut Vec<Event>) {
        self.close_prose(events);
        let index = self.open(block, events);
        events.push(Event::Close { index });
    }

    /// Places of a citation count the characters of all text, here those of its block.
    fn annotation(&mut self, note: &Note, events: &mut Vec<Event>) {
        let Some(citation) = &note.url_citation else { return };
        let Some(Prose { block, kind: Kind::Text { .. } }) = self.prose else { return };
        let place = |at: &Option<serde_json::Number>| {
            let at = at.as_ref().and_then(serde_json::Number::as_u64).unwrap_or_default();
            at.saturating_sub(self.characters)
        };
        let annotation = Annotation {
            url: Text::said(citation.url.as_ref()).unwrap_or_default().to_owned(),
            title: Text::said(citation.title.as_ref()).map(str::to_owned),
            start: place(&citation.start_index),
            end: place(&citation.end_index),
        };
        events.push(Event::Delta { index: block, delta: Delta::Annotation(annotation) });
    }

    fn image(&mut self, picture: &Picture, events: &mut Vec<Event>) {
        let url = picture.image_url.as_ref().and_then(|it| Text::said(it.url.as_ref()));
        let Some(url) = url else { return };
        let (source, media_type) = match super::media::data_url(url) {
            Some((media_type, data)) => (Source::Base64(data), Some(media_type)),
            None => (Source::Url(url.to_owned()), None),
        };
        self.whole(Opening::Image(Image { source, media_type, detail: None }), events);
    }

    /// A call, or more of one.
    fn call(&mut self, call: &Call, events: &mut Vec<Event>) {
        let google = call.extra_content.as_ref().and_then(|extra| extra.google.as_ref());
        let signature = google.and_then(|google| Text::said(google.thought_signature.as_ref()));
        let (name, arguments, kind) = match (&call.custom, &call.function) {
            (Some(custom), _) => {
                let input = custom.input.as_ref().map(|input| input.0.as_ref().into());
                (custom.name.as_ref(), input, ToolKind::Custom)
            }
            (None, Some(it)) => (it.name.as_ref(), Some(it.arguments()), ToolKind::Function),
            (None, None) => (None, None, ToolKind::Function),
        };
        let (id, name) = (Text::said(call.id.as_ref()), Text::said(name));
        let arguments = arguments.unwrap_or_default();
        let number = call.index.as_ref().and_then(serde_json::Number::as_u64);
        let at = self.find(number, id, name).unwrap_or_else(|| {
            self.calls.push(OpenCall {
                number,
                id: String::new(),
                name: String::new(),
                kind,
                block: None,
                held: String::new(),
                signature: None,
                has_arguments: false,
            });
            self.calls.len() - 1
        });
        let Some(known) = self.calls.get_mut(at) else { return };
        if known.block.is_none() {
            known.learn(id, name);
            if let Some(data) = signature {
                let data = data.to_owned();
                known.signature = Some(Signature { dialect: Dialect::Gemini, data });
            }
            known.held.push_str(&arguments);
            self.held += arguments.len();
            if self.held > MOST_HELD {
                let message = "The provider's stream has a call without a name.".to_owned();
                self.fail(Failure { message, ..Failure::cut_off() }, events);
            } else if !known.id.is_empty() && !known.name.is_empty() {
                self.open_call(at, events);
            }
            return;
        }
        let Some(index) = known.block else { return };
        if !arguments.is_empty() {
            known.has_arguments = true;
            let delta = Delta::Arguments(arguments.into_owned());
            events.push(Event::Delta { index, delta });
        }
        if let Some(data) = signature {
            let data = data.to_owned();
            let delta = Delta::Signature(Signature { dialect: Dialect::Gemini, data });
            events.push(Event::Delta { index, delta });
        }
    }

    /// Which call these words are more of.
    ///
    /// The number tells it, but some servers number all calls 0, and then another id with a name begins
    /// another call; others give every piece a new id. Without numbers the id tells it, or a name, which
    /// pieces do not have.
    fn find(&self, number: Option<u64>, id: Option<&str>, name: Option<&str>) -> Option<usize> {
        if number.is_some() {
            let at = self.calls.iter().rposition(|call| call.number == number)?;
            let known = self.calls.get(at)?;
            let another = id.is_some_and(|id| !known.id.is_empty() && known.id != id);
            return (!(another && name.is_some())).then_some(at);
        }
        match (id, name) {
            (Some(id), _) => {
                let same = self.calls.iter().rposition(|call| call.id == id);
                // Its name came first, and now its id.
                let waits = |call: &OpenCall| call.id.is_empty() && name.is_none();
                same.or_else(|| self.calls.iter().rposition(waits))
            }
            (None, Some(_)) => None,
            (None, None) => self.calls.len().checked_sub(1),
        }
    }

    /// Begins a call's block with all that is known of it.
    fn open_call(&mut self, at: usize, events: &mut Vec<Event>) {
        self.close_prose(events);
        let made_up = self.made_up_id(at);
        let index = self.next;
        let Some(call) = self.calls.get_mut(at) else { return };
        if call.id.is_empty() {
            call.id = made_up;
        }
        call.block = Some(index);
        let held = std::mem::take(&mut call.held);
        call.has_arguments = !held.is_empty();
        let signature = call.signature.take();
        let (id, name, kind) = (call.id.clone(), call.name.clone(), call.kind);
        self.held = self.held.saturating_sub(held.len());
        self.open(Opening::ToolUse { id, name, namespace: None, kind }, events);
        let arguments = (!held.is_empty()).then_some(Delta::Arguments(held));
        for delta in arguments.into_iter().chain(signature.map(Delta::Signature)) {
            events.push(Event::Delta { index, delta });
        }
    }

    /// An id for a call whose server gives none; another answer's are others.
    fn made_up_id(&self, at: usize) -> String {
        let mut digits = hex::encode(Sha256::digest(format!("{} {at}", self.id)));
        digits.truncate(24);
        format!("call_{digits}")
    }

    fn finish(&mut self, reason: &str, stopped: Option<&str>, events: &mut Vec<Event>) {
        self.stop = Some(match reason {
            "length" | "max_tokens" | "model_length" | "insufficient_system_resource" => {
                Stop::MaxTokens
            }
            "content_filter" => Stop::Filtered,
            "error" => {
                let message = "The provider ended its answer with an error.".to_owned();
                return self.fail(Failure { message, ..Failure::cut_off() }, events);
            }
            _ => match stopped {
                Some(sequence) => Stop::Sequence(Some(sequence.to_owned())),
                None => Stop::EndTurn,
            },
        });
    }

    /// The answer is whole: closes what is open.
    pub fn end(&mut self, events: &mut Vec<Event>) {
        if self.over {
            return;
        }
        self.close_prose(events);
        for at in 0..self.calls.len() {
            let Some(call) = self.calls.get(at) else { continue };
            if call.block.is_none() && !call.name.is_empty() {
                self.open_call(at, events);
            }
        }
        self.over = true;
        let mut calls: Vec<_> = self.calls.drain(..).collect();
        calls.retain(|call| call.block.is_some());
        calls.sort_by_key(|call| call.block);
        let has_calls = !calls.is_empty();
        for call in calls {
            let Some(index) = call.block else { continue };
            if !call.has_arguments && call.kind == ToolKind::Function {
                events.push(Event::Delta { index, delta: Delta::Arguments("{}".to_owned()) });
            }
            events.push(Event::Close { index });
        }
        let stop = match self.stop.take().unwrap_or_default() {
            // A call that was demanded by name ends with `stop`.
            Stop::EndTurn if has_calls => Stop::ToolUse,
            stop => stop,
        };
        events.push(Event::End(End { stop, usage: self.usage }));
    }

    pub fn fail(&mut self, failure: Failure, events: &mut Vec<Event>) {
        if !self.over {
            self.over = true;
            events.push(Event::Failed(failure));
        }
    }
}

impl Prose {
    /// Whether words of this kind are more of this block; remembers the detail's number then.
    fn continues(&mut self, kind: Kind) -> bool {
        match (&mut self.kind, kind) {
            (Kind::Text { .. }, Kind::Text { .. }) | (Kind::Refusal, Kind::Refusal) => true,
            (Kind::Thinking { detail, signed: false }, Kind::Thinking { detail: new, .. }) => {
                let same = detail.is_none() || new.is_none() || *detail == new;
                if same {
                    *detail = detail.or(new);
                }
                same
            }
            _ => false,
        }
    }
}

impl OpenCall {
    fn learn(&mut self, id: Option<&str>, name: Option<&str>) {
        if let Some(id) = id
            && self.id.is_empty()
        {
            id.clone_into(&mut self.id);
        }
        if let Some(name) = name
            && self.name.is_empty()
        {
            name.clone_into(&mut self.name);
        }
    }
}
