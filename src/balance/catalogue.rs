//! What models a provider says it has: its `/v1/models`, read in the background.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::join_all;
use pingora::connectors::http::Connector;
use pingora::{ErrorType, OrErr};
use serde_json::{Map, Value};

use super::question::{Question, Wanted};
use super::replica::Replica;

/// How long one fetch may take in all.
const DEADLINE: Duration = Duration::from_secs(10);
/// The largest list read.
const LONGEST_LIST: usize = 8 << 20;
/// Models noted of one replica. No server has more adapters.
const MOST: usize = 4096;
/// Replicas asked at once.
const AT_ONCE: usize = 16;
/// Statuses of servers that do not tell which models they have.
const SILENT: [u16; 5] = [401, 403, 404, 405, 501];

/// The models of one provider, as of the last fetch that worked.
#[derive(Default)]
pub struct Catalogue {
    cards: ArcSwap<Vec<ModelCard>>,
    connector: OnceLock<Connector>,
}

/// One model object as the provider describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelCard {
    pub id: String,
    /// Every member of the object, `id` included.
    pub members: Map<String, Value>,
}

/// Why models were not listed.
pub type Unlisted = Box<pingora::Error>;

impl Catalogue {
    pub fn cards(&self) -> Arc<Vec<ModelCard>> {
        self.cards.load_full()
    }

    /// Asks once. A failure leaves the last list in place.
    pub async fn fetch(&self, question: &Question) -> Result<(), Unlisted> {
        let cards = self.ask(question).await?;
        self.cards.store(Arc::new(cards));
        Ok(())
    }

    /// Asks each of these once, and notes with each which models it has; the provider has them all.
    /// Whoever does not answer stays as it is known. Fails when nobody told.
    pub async fn fetch_each(
        &self,
        questions: Vec<(Arc<Replica>, Question)>,
    ) -> Result<(), Unlisted> {
        let (mut cards, mut failed): (Vec<ModelCard>, _) = (Vec::new(), None);
        let (mut known, mut told, before) = (BTreeSet::new(), false, self.cards());
        for some in questions.chunks(AT_ONCE) {
            let asked = some.iter().map(|(_, question)| self.ask(question));
            for ((replica, _), asked) in some.iter().zip(join_all(asked).await) {
                match asked {
                    Ok(list) => {
                        told = true;
                        note(replica, &list);
                        cards.extend(list.into_iter().filter(|card| known.insert(card.id.clone())));
                    }
                    Err(error) => {
                        if matches!(error.etype, ErrorType::HTTPStatus(it) if SILENT.contains(&it))
                        {
                            replica.serving.note_models(None);
                        }
                        let models = replica.serving.models().unwrap_or_default();
                        let known_here = |card: &&ModelCard| models.contains(card.id.as_str());
                        let stay = before.iter().filter(known_here).cloned();
                        cards.extend(stay.filter(|card| known.insert(card.id.clone())));
                        failed = Some(error);
                    }
                }
            }
        }
        match failed {
            Some(error) if !told => Err(error),
            _ => {
                self.cards.store(Arc::new(cards));
                Ok(())
            }
        }
    }

    async fn ask(&self, question: &Question) -> Result<Vec<ModelCard>, Unlisted> {
        fault!("balance::list_models", |_| pingora::Error::e_explain(
            ErrorType::ReadError,
            "fault"
        ));
        let wanted =
            Wanted { accept: "application/json", patience: DEADLINE, longest: LONGEST_LIST };
        let connector = self.connector.get_or_init(|| Connector::new(None));
        let (_, body) = tokio::time::timeout(DEADLINE, question.ask(connector, wanted))
            .await
            .or_err(ErrorType::ReadTimedout, "listing models took too long")??;
        read_cards(&body).or_err(ErrorType::InvalidHTTPHeader, "the list of models is no list")
    }
}

/// An empty list says nothing: whoever is about to join has not loaded its model yet.
fn note(replica: &Replica, cards: &[ModelCard]) {
    let serving = &replica.serving;
    if cards.is_empty() {
        if !serving.is_joining() {
            serving.note_models(None);
        }
        return;
    }
    serving
        .note_models(Some(cards.iter().take(MOST).map(|card| card.id.as_str().into()).collect()));
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
