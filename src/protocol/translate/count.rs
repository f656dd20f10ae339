//! How many tokens a prompt has, asked in one dialect and answered in another.

use super::{Back as AnyBack, Route, Translated, verbs};
use crate::config::{Dialect, Kind, Translation};
use crate::protocol::canonical::count::{counted, estimate};
use crate::protocol::canonical::{Asked, Invalid, Losses, Request, Target, Unreadable};
use crate::protocol::{anthropic, bedrock, gemini, openai_responses};

/// Turns the answer back.
#[derive(Debug)]
pub struct Back {
    client: Dialect,
    provider: Dialect,
}

/// A question for the provider. One that speaks chat is vLLM, whose `/tokenize` takes a chat.
pub(super) fn translate(body: &[u8], route: &Route) -> Result<Translated, Invalid> {
    let Route { client, provider, asked, target, translation, .. } = route;
    let mut losses = Losses::new(*client, *translation);
    let request = read(*client, body, asked, &mut losses)?;
    let body = match (provider, route.kind) {
        (Dialect::Gemini, Kind::Vertex) => {
            gemini::write_vertex_count_request(&request, target, &mut losses)?
        }
        _ => write(*provider, &request, target, &mut losses)?,
    };
    Ok(Translated {
        body,
        stream: false,
        several: false,
        dropped: losses.dropped().to_vec(),
        back: AnyBack::Count(Back { client: *client, provider: *provider }),
    })
}

/// The answer without asking a provider: an estimate that is rather too high than too low.
pub fn estimate_count(client: Dialect, body: &[u8], asked: &Asked) -> Result<Vec<u8>, Invalid> {
    let mut losses = Losses::new(client, Translation::Lenient);
    let request = read(client, body, asked, &mut losses)?;
    Ok(answer(client, estimate(&request)))
}

impl Back {
    pub(super) fn response(&self, body: &[u8]) -> Result<Vec<u8>, Unreadable> {
        let tokens = match self.provider {
            Dialect::Anthropic => anthropic::read_count_response(body),
            Dialect::Gemini => gemini::read_count_response(body),
            Dialect::Bedrock => bedrock::read_count_response(body),
            Dialect::OpenaiResponses => openai_responses::read_count_response(body),
            // vLLM's `/tokenize`.
            Dialect::OpenaiChat => counted(body, "count"),
        }?;
        Ok(answer(self.client, tokens))
    }
}

fn read(
    client: Dialect,
    body: &[u8],
    asked: &Asked,
    losses: &mut Losses,
) -> Result<Request, Invalid> {
    match client {
        Dialect::Anthropic => anthropic::read_count_request(body, asked, losses),
        Dialect::Gemini => gemini::read_count_request(body, asked, losses),
        Dialect::Bedrock => bedrock::read_count_request(body, asked, losses),
        Dialect::OpenaiResponses => openai_responses::read_count_request(body, asked, losses),
        Dialect::OpenaiChat => verbs::read_request(client, body, asked, losses),
    }
}

fn write(
    provider: Dialect,
    request: &Request,
    to: &Target,
    losses: &mut Losses,
) -> Result<Vec<u8>, Invalid> {
    match provider {
        Dialect::Anthropic => anthropic::write_count_request(request, to, losses),
        Dialect::Gemini => gemini::write_count_request(request, to, losses),
        Dialect::Bedrock => bedrock::write_count_request(request, to, losses),
        Dialect::OpenaiResponses => openai_responses::write_count_request(request, to, losses),
        Dialect::OpenaiChat => verbs::write_request(provider, request, to, losses),
    }
}

fn answer(client: Dialect, tokens: u64) -> Vec<u8> {
    match client {
        Dialect::Gemini => gemini::write_count_response(tokens),
        Dialect::Bedrock => bedrock::write_count_response(tokens),
        Dialect::OpenaiResponses => openai_responses::write_count_response(tokens),
        Dialect::Anthropic | Dialect::OpenaiChat => anthropic::write_count_response(tokens),
    }
}
