//! Embeddings, asked for in one dialect and made in another.

use super::{Back as AnyBack, Route, Told, Translated, Usage};
use crate::config::{Dialect, Kind};
use crate::protocol::canonical::{
    Asked, EmbedForm, EmbedRequest, EmbedResponse, Invalid, Losses, Target, Unreadable,
};
use crate::protocol::{bedrock, gemini, openai_chat};

/// Turns the answer back.
#[derive(Debug)]
pub struct Back {
    client: Dialect,
    provider: Dialect,
    asked: EmbedRequest,
}

/// `several`: the client's call is the one for several texts.
pub(super) fn translate(
    body: &[u8],
    several: bool,
    route: &Route,
    told: Told,
) -> Result<Translated, Invalid> {
    let Route { client, provider, asked, target, translation, .. } = route;
    let mut losses = Losses::new(*client, *translation);
    let mut request = read(*client, body, asked, &mut losses)?;
    if several {
        request.form = EmbedForm::Many;
    }
    let body = match (provider, route.kind) {
        (Dialect::Gemini, Kind::Vertex) => write_to_vertex(&request, target, &mut losses)?,
        _ => write(*provider, &request, target, &mut losses)?,
    };
    let several = request.inputs.len() != 1;
    let asked = EmbedRequest { model: told.model, ..request };
    Ok(Translated {
        body,
        stream: false,
        several,
        dropped: losses.dropped().to_vec(),
        back: AnyBack::Embeddings(Back { client: *client, provider: *provider, asked }),
    })
}

impl Back {
    pub(super) fn response(&self, body: &[u8]) -> Result<(Vec<u8>, Option<Usage>), Unreadable> {
        let response = match self.provider {
            Dialect::Gemini => gemini::embeddings::read_embed_response(body),
            Dialect::Bedrock => bedrock::embeddings::read_embed_response(body),
            _ => openai_chat::embeddings::read_embed_response(body),
        }?;
        Ok((self.write(&response), response.usage))
    }

    fn write(&self, response: &EmbedResponse) -> Vec<u8> {
        match self.client {
            Dialect::Gemini => gemini::embeddings::write_embed_response(response, &self.asked),
            Dialect::Bedrock => bedrock::embeddings::write_embed_response(response, &self.asked),
            _ => openai_chat::embeddings::write_embed_response(response, &self.asked),
        }
    }
}

fn read(
    client: Dialect,
    body: &[u8],
    asked: &Asked,
    losses: &mut Losses,
) -> Result<EmbedRequest, Invalid> {
    match client {
        Dialect::Gemini => gemini::embeddings::read_embed_request(body, asked, losses),
        Dialect::Bedrock => bedrock::embeddings::read_embed_request(body, asked, losses),
        _ => openai_chat::embeddings::read_embed_request(body, asked, losses),
    }
}

fn write_to_vertex(
    request: &EmbedRequest,
    to: &Target,
    losses: &mut Losses,
) -> Result<Vec<u8>, Invalid> {
    if gemini::predict::is_predicted(to.model) {
        return gemini::predict::write_predict_request(request, losses);
    }
    gemini::embeddings::write_vertex_embed_request(request, to, losses)
}

fn write(
    provider: Dialect,
    request: &EmbedRequest,
    to: &Target,
    losses: &mut Losses,
) -> Result<Vec<u8>, Invalid> {
    match provider {
        Dialect::Gemini => gemini::embeddings::write_embed_request(request, to, losses),
        Dialect::Bedrock => bedrock::embeddings::write_embed_request(request, to, losses),
        Dialect::Anthropic => {
            let why = "Anthropic makes no embeddings".to_owned();
            Err(Invalid::Unsupported { param: "model".to_owned(), why })
        }
        _ => openai_chat::embeddings::write_embed_request(request, to, losses),
    }
}
