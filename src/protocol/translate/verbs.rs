//! Each dialect's verbs, by the dialect's name.

use bytes::Bytes;

use crate::config::Dialect;
use crate::protocol::canonical::{
    Asked, Event, Fate, Field, Invalid, Losses, NameLimits, Request, Response, Target, Told,
    Unreadable,
};
use crate::protocol::{anthropic, bedrock, gemini, openai_chat, openai_responses};

/// Calls the function of that name in the dialect's folder.
macro_rules! by_dialect {
    ($dialect:expr, $verb:ident($($argument:expr),*)) => {
        match $dialect {
            Dialect::OpenaiChat => openai_chat::$verb($($argument),*),
            Dialect::OpenaiResponses => openai_responses::$verb($($argument),*),
            Dialect::Anthropic => anthropic::$verb($($argument),*),
            Dialect::Gemini => gemini::$verb($($argument),*),
            Dialect::Bedrock => bedrock::$verb($($argument),*),
        }
    };
}

pub fn read_request(
    dialect: Dialect,
    body: &[u8],
    asked: &Asked,
    losses: &mut Losses,
) -> Result<Request, Invalid> {
    by_dialect!(dialect, read_request(body, asked, losses))
}

pub fn write_request(
    dialect: Dialect,
    request: &Request,
    to: &Target,
    losses: &mut Losses,
) -> Result<Vec<u8>, Invalid> {
    by_dialect!(dialect, write_request(request, to, losses))
}

pub fn read_response(dialect: Dialect, body: &[u8]) -> Result<Response, Unreadable> {
    by_dialect!(dialect, read_response(body))
}

pub fn write_response(dialect: Dialect, response: &Response, told: &Told) -> Vec<u8> {
    by_dialect!(dialect, write_response(response, told))
}

/// What becomes of a part of a request at a provider of this dialect.
pub fn fate(dialect: Dialect, field: Field) -> Fate {
    by_dialect!(dialect, fate(field))
}

/// What names of tools may be like.
pub fn names(dialect: Dialect) -> NameLimits {
    match dialect {
        Dialect::OpenaiChat => openai_chat::NAMES,
        Dialect::OpenaiResponses => openai_responses::NAMES,
        Dialect::Anthropic => anthropic::NAMES,
        Dialect::Gemini => gemini::NAMES,
        Dialect::Bedrock => bedrock::NAMES,
    }
}

/// Reads a provider's stream.
#[derive(Debug)]
pub enum Reader {
    Chat(openai_chat::StreamReader),
    Responses(openai_responses::StreamReader),
    Anthropic(anthropic::StreamReader),
    Gemini(gemini::StreamReader),
    Bedrock(bedrock::StreamReader),
}

impl Reader {
    pub fn new(dialect: Dialect) -> Self {
        match dialect {
            Dialect::OpenaiChat => Self::Chat(openai_chat::StreamReader::new()),
            Dialect::OpenaiResponses => Self::Responses(openai_responses::StreamReader::new()),
            Dialect::Anthropic => Self::Anthropic(anthropic::StreamReader::new()),
            Dialect::Gemini => Self::Gemini(gemini::StreamReader::new()),
            Dialect::Bedrock => Self::Bedrock(bedrock::StreamReader::new()),
        }
    }

    pub fn push(&mut self, chunk: Bytes, events: &mut Vec<Event>) {
        match self {
            Self::Chat(reader) => reader.push(chunk, events),
            Self::Responses(reader) => reader.push(chunk, events),
            Self::Anthropic(reader) => reader.push(chunk, events),
            Self::Gemini(reader) => reader.push(chunk, events),
            Self::Bedrock(reader) => reader.push(chunk, events),
        }
    }

    pub fn finish(&mut self, events: &mut Vec<Event>) {
        match self {
            Self::Chat(reader) => reader.finish(events),
            Self::Responses(reader) => reader.finish(events),
            Self::Anthropic(reader) => reader.finish(events),
            Self::Gemini(reader) => reader.finish(events),
            Self::Bedrock(reader) => reader.finish(events),
        }
    }
}

/// Writes a client's stream.
#[derive(Debug)]
pub enum Writer {
    Chat(openai_chat::StreamWriter),
    Responses(openai_responses::StreamWriter),
    Anthropic(anthropic::StreamWriter),
    Gemini(gemini::StreamWriter),
    Bedrock(bedrock::StreamWriter),
}

impl Writer {
    pub fn new(dialect: Dialect, told: Told) -> Self {
        match dialect {
            Dialect::OpenaiChat => Self::Chat(openai_chat::StreamWriter::new(told)),
            Dialect::OpenaiResponses => Self::Responses(openai_responses::StreamWriter::new(told)),
            Dialect::Anthropic => Self::Anthropic(anthropic::StreamWriter::new(told)),
            Dialect::Gemini => Self::Gemini(gemini::StreamWriter::new(told)),
            Dialect::Bedrock => Self::Bedrock(bedrock::StreamWriter::new(told)),
        }
    }

    pub fn write(&mut self, event: &Event, out: &mut Vec<u8>) {
        match self {
            Self::Chat(writer) => writer.write(event, out),
            Self::Responses(writer) => writer.write(event, out),
            Self::Anthropic(writer) => writer.write(event, out),
            Self::Gemini(writer) => writer.write(event, out),
            Self::Bedrock(writer) => writer.write(event, out),
        }
    }
}
