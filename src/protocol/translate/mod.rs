//! A call and its answer from one dialect to another, by way of the form in the middle.

mod assemble;
mod count;
mod embeddings;
mod objects;
mod stream;
pub mod table;
mod verbs;

use std::collections::HashSet;

use crate::config::{Dialect, Kind, RequestEdits, ThinkingHistory, Translation};
use crate::protocol::canonical::{
    Asked, Block, Emulation, Invalid, Losses, Names, Request, Response, Role, Rules, Target, Told,
    Unreadable, Usage, replay,
};
use crate::protocol::edit::without_thinking;
use crate::protocol::json::Object;
use crate::protocol::json::text::quote;
use crate::protocol::{Task, bedrock, gemini, openai_responses};

pub use assemble::assemble;
pub use count::estimate_count;
pub use stream::StreamTranslator;

/// From whom to whom, and by which rules.
#[derive(Clone, Copy, Debug)]
pub struct Route<'a> {
    pub client: Dialect,
    pub provider: Dialect,
    pub kind: Kind,
    /// What the client's path says.
    pub asked: Asked<'a>,
    pub target: Target<'a>,
    pub translation: Translation,
    /// What the configuration changes in requests for this model.
    pub edits: &'a RequestEdits,
}

/// What is asked, beside whom.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub task: Task,
    /// The client's call is the one for several texts.
    pub several: bool,
}

/// A request in the provider's dialect.
#[derive(Debug)]
pub struct Translated {
    pub body: Vec<u8>,
    /// A stream is asked for.
    pub stream: bool,
    /// Several texts are embedded.
    pub several: bool,
    /// What the client asked for and the provider is not asked, in the client's words.
    pub dropped: Vec<String>,
    /// What turns the answer back.
    pub back: Back,
}

/// Turns one answer back into the client's dialect.
#[derive(Debug)]
pub enum Back {
    Answer(Box<Translator>),
    Embeddings(embeddings::Back),
    Count(count::Back),
}

/// Turns an answer in words back.
#[derive(Debug)]
pub struct Translator {
    client: Dialect,
    provider: Dialect,
    names: Names,
    emulation: Option<Emulation>,
    told: Told,
}

/// Puts a request into the provider's dialect. `told` is what the answer tells the client beside what
/// the provider says.
pub fn translate(
    body: &[u8],
    call: Call,
    route: &Route,
    told: Told,
) -> Result<Translated, Invalid> {
    match call.task {
        Task::Generate => translate_request(body, route, told),
        Task::Embed => embeddings::translate(body, call.several, route, told),
        Task::Count => count::translate(body, route),
    }
}

fn translate_request(body: &[u8], route: &Route, told: Told) -> Result<Translated, Invalid> {
    let Route { client, provider, asked, target, translation, edits, .. } = route;
    let mut losses = Losses::new(*client, *translation);
    let mut request = verbs::read_request(*client, body, asked, &mut losses)?;
    apply(&mut request, edits);
    let mut told = Told { stream_usage: request.stream_usage, ..told };
    if *client == Dialect::OpenaiResponses && told.echo.is_none() {
        told.echo = Some(openai_responses::echo(body));
    }
    let emulated = needs_emulation(*provider, target.rules);
    let emulation = if emulated { Emulation::apply(&mut request, &mut losses)? } else { None };
    let limits = verbs::names(*provider).of_model(target.rules);
    let names = Names::flatten(&mut request, limits);
    // Our own accounts need it, whether or not the client wants it.
    request.stream_usage = true;
    let written = verbs::write_request(*provider, &request, target, &mut losses)?;
    let (client, provider) = (*client, *provider);
    Ok(Translated {
        body: with_extra(written, edits),
        stream: request.stream,
        several: false,
        dropped: losses.dropped().to_vec(),
        back: Back::Answer(Box::new(Translator { client, provider, names, emulation, told })),
    })
}

impl Back {
    /// A whole answer in the client's dialect, as a stream if that was asked for; and what it took.
    pub fn whole(
        &mut self,
        body: &[u8],
        as_stream: bool,
    ) -> Result<(Vec<u8>, Option<Usage>), Unreadable> {
        match self {
            Self::Answer(translator) if as_stream => translator.response_as_stream(body),
            Self::Answer(translator) => translator.response(body),
            Self::Embeddings(back) => back.response(body),
            Self::Count(back) => back.response(body).map(|count| (count, None)),
        }
    }

    /// What turns a streamed answer back; only answers in words are streamed.
    pub fn into_stream(self) -> Option<StreamTranslator> {
        match self {
            Self::Answer(translator) => Some(translator.into_stream()),
            Self::Embeddings(_) | Self::Count(_) => None,
        }
    }
}

impl Translator {
    /// A whole answer in the client's dialect, and what it took.
    fn response(&mut self, body: &[u8]) -> Result<(Vec<u8>, Option<Usage>), Unreadable> {
        let mut response = verbs::read_response(self.provider, body)?;
        self.restore(&mut response);
        let written = verbs::write_response(self.client, &response, &self.told);
        Ok((written, response.usage))
    }

    /// A whole answer as the stream that the client asked for.
    fn response_as_stream(&mut self, body: &[u8]) -> Result<(Vec<u8>, Option<Usage>), Unreadable> {
        let mut response = verbs::read_response(self.provider, body)?;
        self.restore(&mut response);
        let mut writer = verbs::Writer::new(self.client, self.told.clone());
        let mut out = Vec::with_capacity(body.len() * 2);
        for event in replay(&response) {
            writer.write(&event, &mut out);
        }
        Ok((out, response.usage))
    }

    /// What turns a streamed answer back.
    fn into_stream(self) -> StreamTranslator {
        let Self { client, provider, names, emulation, told } = self;
        let id = (client == Dialect::OpenaiResponses).then(|| told.id.clone());
        StreamTranslator::new(client, provider, names, emulation, told).with_id(id)
    }

    fn restore(&mut self, response: &mut Response) {
        if self.client == Dialect::OpenaiResponses {
            // It can be asked for by its id: one that is no other's.
            response.id.clone_from(&self.told.id);
        }
        if let Some(emulation) = &mut self.emulation {
            emulation.restore_response(response);
        }
        self.names.restore_response(response);
        objects::Objects::of(self.client).write_response(response);
    }
}

/// What a whole answer of Google's or Amazon's took, by what it says near its end.
pub fn last_usage_of(dialect: Dialect, end: &[u8]) -> Option<Usage> {
    match dialect {
        Dialect::Gemini => gemini::last_usage(end),
        Dialect::Bedrock => bedrock::last_usage(end),
        _ => None,
    }
}

/// Whether a schema must be put into a tool's clothes.
fn needs_emulation(provider: Dialect, rules: &Rules) -> bool {
    matches!(provider, Dialect::Anthropic | Dialect::Bedrock) && !rules.structured_outputs
}

/// What the configuration says about requests for the model: caps, stops, thinking of earlier turns.
fn apply(request: &mut Request, edits: &RequestEdits) {
    if let Some(cap) = edits.max_tokens {
        request.max_output = Some(request.max_output.map_or(cap, |asked| asked.min(cap)));
    }
    if !edits.stop.is_empty() {
        let own = std::mem::take(&mut request.stop);
        let mut known = HashSet::new();
        let all = edits.stop.iter().cloned().chain(own);
        request.stop.extend(all.filter(|stop| known.insert(stop.clone())));
    }
    if edits.thinking_history == ThinkingHistory::Strip {
        let turns = request.turns.iter_mut().filter(|turn| turn.role == Role::Assistant);
        turns.for_each(|turn| {
            turn.blocks.retain(|block| !is_thinking(block));
            turn.blocks.iter_mut().for_each(strip_tagged);
        });
    }
}

/// Chats have thinking in their text, too.
fn strip_tagged(block: &mut Block) {
    if let Block::Text { text, .. } = block
        && let Some(rest) = without_thinking(text)
    {
        *text = rest;
    }
}

fn is_thinking(block: &Block) -> bool {
    matches!(block, Block::Thinking { .. } | Block::RedactedThinking(_))
}

/// Adds the members of `extra_body` that the request does not have.
fn with_extra(body: Vec<u8>, edits: &RequestEdits) -> Vec<u8> {
    if edits.extra_body.is_empty() {
        return body;
    }
    let Ok(known) = Object::parse(std::str::from_utf8(&body).unwrap_or_default(), "body") else {
        return body;
    };
    let known: HashSet<String> = known.names().map(str::to_owned).collect();
    let Some(end) = memchr::memrchr(b'}', &body) else { return body };
    // As text: a body that is read and written again has other numbers.
    let mut text = body;
    text.truncate(end);
    let mut comma = !known.is_empty();
    for (name, value) in edits.extra_body.iter().filter(|(name, _)| !known.contains(*name)) {
        if std::mem::replace(&mut comma, true) {
            text.push(b',');
        }
        text.extend_from_slice(format!("{}:{value}", quote(name)).as_bytes());
    }
    text.push(b'}');
    text
}
