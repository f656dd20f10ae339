//! A stream, from the provider's dialect into the client's, chunk by chunk.

use bytes::Bytes;

use super::objects::Objects;
use super::verbs::{Reader, Writer};
use crate::config::Dialect;
use crate::protocol::canonical::{
    Delta, Emulation, Event, Failure, Names, Told, Usage, estimated_tokens,
};

/// Turns one stream into another. What the provider says is read as it comes, and written at once.
#[derive(Debug)]
pub struct StreamTranslator {
    reader: Reader,
    /// None: the stream is only followed.
    writer: Option<Writer>,
    names: Names,
    emulation: Option<Emulation>,
    objects: Objects,
    events: Vec<Event>,
    usage: Option<Usage>,
    /// Characters of text, thinking and arguments that went by.
    spoken: Spoken,
    state: State,
    /// The failure that came before anything else.
    first_failure: Option<Failure>,
    deltas: u64,
    /// The answer's id, where it is not the provider's.
    id: Option<String>,
}

/// How far a stream has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing that tells whether it is a good one.
    #[default]
    Unjudged,
    Judged,
    Ended,
    Failed,
}

#[derive(Clone, Copy, Debug, Default)]
struct Spoken {
    ascii: u64,
    others: u64,
}

impl StreamTranslator {
    pub(super) fn new(
        client: Dialect,
        provider: Dialect,
        names: Names,
        emulation: Option<Emulation>,
        told: Told,
    ) -> Self {
        Self {
            reader: Reader::new(provider),
            writer: Some(Writer::new(client, told)),
            names,
            emulation,
            objects: Objects::of(client),
            events: Vec::new(),
            usage: None,
            spoken: Spoken::default(),
            state: State::default(),
            first_failure: None,
            deltas: 0,
            id: None,
        }
    }

    /// Follows a stream that passes as it is: whether it begins well, and what it took.
    pub fn follower(provider: Dialect) -> Self {
        let (names, told) = (Names::default(), Told::default());
        Self { writer: None, ..Self::new(provider, provider, names, None, told) }
    }

    /// The id the answer shall have, instead of the provider's.
    pub(super) fn with_id(self, id: Option<String>) -> Self {
        Self { id, ..self }
    }

    /// Feeds a chunk; appends to `out` what the client shall get.
    pub fn push(&mut self, chunk: Bytes, out: &mut Vec<u8>) {
        self.reader.push(chunk, &mut self.events);
        self.write(out);
    }

    /// The provider's stream is over. One that broke off ends with an error, not as if it were whole.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.reader.finish(&mut self.events);
        self.write(out);
    }

    /// The stream broke off, or is ended: its client is told in its own way.
    pub fn fail(&mut self, failure: Failure, out: &mut Vec<u8>) {
        self.events.push(Event::Failed(failure));
        self.write(out);
    }

    /// Whether the client has been told of a failure.
    pub fn failed(&self) -> bool {
        self.state == State::Failed
    }

    /// A failure before anything of an answer: the client may still be sent elsewhere.
    pub fn first_failure(&self) -> Option<&Failure> {
        self.first_failure.as_ref()
    }

    /// Whether the stream has begun well.
    pub fn judged(&self) -> bool {
        self.state != State::Unjudged
    }

    /// Whether the stream is whole.
    pub fn done(&self) -> bool {
        self.state == State::Ended
    }

    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Tokens of the answer that went by, estimated.
    pub fn delivered(&self) -> u64 {
        estimated_tokens(self.spoken.ascii, self.spoken.others)
    }

    /// How many pieces of an answer went by.
    pub fn deltas(&self) -> u64 {
        self.deltas
    }

    fn write(&mut self, out: &mut Vec<u8>) {
        for mut event in self.events.drain(..) {
            if matches!(self.state, State::Ended | State::Failed) {
                break;
            }
            if let Some(emulation) = &mut self.emulation {
                emulation.restore(&mut event);
            }
            self.names.restore(&mut event);
            let before = self.objects.write(&mut event);
            match &mut event {
                Event::Start(start) => {
                    if let Some(id) = &self.id {
                        start.id.clone_from(id);
                    }
                    self.usage = start.usage.or(self.usage);
                }
                // Anthropic and Bedrock begin a stream before they know whether it goes well.
                Event::Ping => {}
                Event::Open { .. } | Event::Close { .. } => self.state = State::Judged,
                Event::Delta { delta, .. } => {
                    self.state = State::Judged;
                    self.deltas += 1;
                    self.spoken.add(delta);
                }
                Event::End(end) => {
                    self.state = State::Ended;
                    self.usage = end.usage.or(self.usage);
                }
                Event::Failed(failure) => {
                    if self.state == State::Unjudged {
                        self.first_failure = Some(failure.clone());
                    }
                    self.state = State::Failed;
                }
            }
            if let Some(writer) = &mut self.writer {
                if let Some(before) = &before {
                    writer.write(before, out);
                }
                writer.write(&event, out);
            }
        }
        self.events.clear();
    }
}

impl Spoken {
    fn add(&mut self, delta: &Delta) {
        let (Delta::Text(text)
        | Delta::Thinking(text)
        | Delta::Arguments(text)
        | Delta::Refusal(text)) = delta
        else {
            return;
        };
        if text.is_ascii() {
            self.ascii += text.len() as u64;
            return;
        }
        let letters = text.chars().count() as u64;
        let ascii = text.bytes().filter(u8::is_ascii).count() as u64;
        self.ascii += ascii;
        self.others += letters.saturating_sub(ascii);
    }
}
