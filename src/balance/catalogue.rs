//! What models a provider says it has: its `/v1/models`, read in the background.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::connectors::http::Connector;
use pingora::{ErrorType, OrErr, Result};
use serde_json::{Map, Value};

use super::question::{Question, Wanted};

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

impl Catalogue {
    pub fn cards(&self) -> Arc<Vec<ModelCard>> {
        self.cards.load_full()
    }

    /// Asks once. A failure leaves the last list in place.
    pub async fn fetch(&self, question: &Question) -> Result<()> {
        fault!("balance::list_models", |_| pingora::Error::e_explain(
            ErrorType::ReadError,
            "fault"
        ));
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
    let wanted = Wanted { accept: "application/json", patience: DEADLINE, longest: LONGEST_LIST };
    let (_, body) = question.ask(&Connector::new(None), wanted).await?;
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
