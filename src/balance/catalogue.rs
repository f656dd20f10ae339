//! What models a provider says it has: its `/v1/models`, read in the background.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, OrErr, Result};
use serde_json::{Map, Value};

/// How long one fetch may take in all.
const DEADLINE: Duration = Duration::from_secs(10);
/// The largest list read.
const LONGEST_LIST: usize = 8 << 20;

/// The models of one provider, as of the last fetch that worked.
#[derive(Default)]
pub struct Catalogue {
    cards: ArcSwap<Vec<ModelCard>>,
}

/// One model object as the provider describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelCard {
    pub id: String,
    /// Every member of the object, `id` included.
    pub members: Map<String, Value>,
}

/// Where to ask.
pub struct Question {
    pub peer: HttpPeer,
    pub host: String,
    pub target: String,
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Catalogue {
    pub fn cards(&self) -> Arc<Vec<ModelCard>> {
        self.cards.load_full()
    }

    /// Asks once. A failure leaves the last list in place.
    pub async fn fetch(&self, question: &Question) -> Result<()> {
        fault!("balance::list_models", |_| Error::e_explain(ErrorType::ReadError, "fault"));
        let body = tokio::time::timeout(DEADLINE, get(question))
            .await
            .or_err(ErrorType::ReadTimedout, "listing models took too long")??;
        let cards = read_cards(&body);
        let cards = cards.or_err(ErrorType::InvalidHTTPHeader, "the list of models is no list")?;
        self.cards.store(Arc::new(cards));
        Ok(())
    }
}

async fn get(question: &Question) -> Result<Vec<u8>> {
    let mut request = RequestHeader::build("GET", question.target.as_bytes(), None)?;
    request.insert_header("host", &question.host)?;
    request.insert_header("accept", "application/json")?;
    for (name, value) in &question.headers {
        request.insert_header(name.clone(), value.clone())?;
    }
    let connector = Connector::new(None);
    let (mut session, _) = connector.get_http_session(&question.peer).await?;
    session.write_request_header(Box::new(request)).await?;
    session.finish_request_body().await?;
    session.set_read_timeout(Some(DEADLINE));
    session.read_response_header().await?;
    let status = session.response_header().map_or(0, |head| head.status.as_u16());
    if status != 200 {
        return Error::e_explain(ErrorType::HTTPStatus(status), "listing models");
    }
    let mut body = Vec::new();
    while let Some(chunk) = session.read_response_body().await? {
        if body.len().saturating_add(chunk.len()) > LONGEST_LIST {
            return Error::e_explain(ErrorType::ReadError, "the list of models is too long");
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn read_cards(body: &[u8]) -> serde_json::Result<Vec<ModelCard>> {
    #[derive(serde::Deserialize)]
    struct List {
        data: Vec<Map<String, Value>>,
    }
    let card = |members: Map<String, Value>| {
        let id = members.get("id")?.as_str()?.to_owned();
        Some(ModelCard { id, members })
    };
    Ok(serde_json::from_slice::<List>(body)?.data.into_iter().filter_map(card).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_keep_every_member() {
        let body = br#"{"object":"list","data":[{"id":"tiny","max_model_len":4096},{"no":"id"}]}"#;
        let cards = read_cards(body).unwrap();
        assert_eq!(cards.len(), 1);
        assert_eq!(cards[0].id, "tiny");
        assert_eq!(cards[0].members["max_model_len"], 4096);
    }
}
