//! A provider with its replicas, and what of it outlives a reload.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::Uncompilable;
use crate::balance::{Catalogue, PeerTemplate, Pool, Question, Replica, Source, Unlisted, Wanted};
use crate::config::{self, Kind, Operation, Url};
use crate::provider::Provider;

/// How long an operation may take: an adapter may have to be fetched.
const CALL: Duration = Duration::from_secs(55);
/// The longest answer to one.
const LONGEST_ANSWER: usize = 1 << 20;

/// A provider with its replicas.
pub struct Upstream {
    /// What it was made of.
    given: config::Provider,
    pub provider: Provider,
    pub pool: Arc<Pool>,
    pub peers: PeerTemplate,
    pub catalogue: Arc<Catalogue>,
}

impl Upstream {
    /// The provider at `index` of a configuration. `before` is what the one of the same name was
    /// until now: it stays, when nothing has changed. Else its replicas stay with all that is known
    /// of them, when nothing has changed about these.
    pub fn new(
        given: &config::Provider,
        index: usize,
        before: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, Uncompilable> {
        let peers = PeerTemplate::new(given)?;
        if let Some(same) =
            before.filter(|before| before.given.is_like(given) && before.peers.trusts_as(&peers))
        {
            return Ok(Arc::clone(same));
        }
        let mut complete = given.clone();
        if given.is_built_in() {
            complete.endpoints.push(in_process(index));
        }
        let provider = Provider::new(&complete, before.map(|before| &before.provider))?;
        let same = before.filter(|before| before.given.has_replicas_of(given));
        let (pool, catalogue) = if let Some(before) = same {
            (Arc::clone(&before.pool), Arc::clone(&before.catalogue))
        } else {
            let before = before.filter(|before| before.given.watches_as(given));
            let before = before.map(|before| &*before.pool);
            (Arc::new(Pool::new(&complete, before)), Arc::default())
        };
        Ok(Arc::new(Self { given: given.clone(), provider, pool, peers, catalogue }))
    }

    /// What kind of provider it is.
    pub fn kind(&self) -> Kind {
        self.given.kind
    }

    /// How much it has under way at once, and who waits for it.
    pub fn admission(&self) -> Option<&config::Admission> {
        self.given.admission.as_ref()
    }

    /// Puts what its replicas may have under way into force, also where these stayed as they were.
    pub fn enforce(&self) {
        self.pool.gate().set_rule(self.given.admission);
    }

    /// Whether each of its replicas is asked for its models, and not only one of them.
    pub fn asks_each_for_models(&self) -> bool {
        self.given.asks_each_for_models()
    }

    /// Asks for its models: one replica, or each where they may differ.
    pub async fn list_models(&self) -> Result<(), Unlisted> {
        // What these have is another list, elsewhere.
        if matches!(self.given.kind, Kind::Vertex | Kind::Bedrock) {
            return Ok(());
        }
        let question = |replica: Arc<Replica>| {
            let target = self.provider.target(&replica.url, "/v1/models", None, "");
            let question = self.question(&replica, target);
            (replica, question)
        };
        if self.asks_each_for_models() {
            let questions = self.pool.replicas().into_iter().map(question).collect();
            let asked = self.catalogue.fetch_each(questions).await;
            self.pool.settle();
            return asked;
        }
        let Some(pick) = self.pool.pick_other(&[]) else { return Ok(()) };
        let (_, question) = question(Arc::clone(pick.replica()));
        self.catalogue.fetch(&question).await
    }

    /// What operators may call on its replicas.
    pub fn operation(&self, name: &str) -> Option<&'static Operation> {
        self.given.operations.iter().find(|operation| operation.name == name).copied()
    }

    /// Calls an operation on one replica: its status and answer, whatever they are.
    pub async fn call(
        &self,
        replica: &Replica,
        operation: &Operation,
        query: Option<&str>,
        body: Bytes,
    ) -> Result<(u16, Vec<u8>), Unlisted> {
        let base = replica.url.path.trim_end_matches("/v1");
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let target = format!("{base}{}{query}", operation.path);
        let wanted = Wanted { accept: "application/json", patience: CALL, longest: LONGEST_ANSWER };
        let method = if operation.post { "POST" } else { "GET" };
        let body = if operation.post { body } else { Bytes::new() };
        self.question(replica, target).call(wanted, method, body).await
    }

    /// Whether its servers may tell how busy they are, and its policy goes by that.
    pub fn tells_load(&self) -> bool {
        let kind = matches!(self.given.kind, Kind::Vllm | Kind::OpenaiCompatible);
        kind && self.pool.wants_loads()
    }

    /// How to ask each replica for its metrics; none when there is only one, whose
    /// places are not counted.
    pub fn load_questions(&self) -> Vec<(Arc<Replica>, Question)> {
        let known = self.pool.replicas();
        if known.len() < 2 && !self.pool.gate().is_bounded() {
            return Vec::new();
        }
        let question = |replica: Arc<Replica>| {
            let target = format!("{}/metrics", replica.url.path.trim_end_matches("/v1"));
            let question = self.question(&replica, target);
            (replica, question)
        };
        known.into_iter().map(question).collect()
    }

    /// Where its servers tell what they have cached: the topic of their messages, and who they are.
    pub fn cache_topic(&self) -> Option<&str> {
        self.given.kv_events.as_ref().map(|events| events.topic.as_str())
    }

    /// … none when there is only one.
    pub fn cache_sources(&self) -> Vec<Source> {
        let known = self.pool.replicas();
        let Some(events) = self.given.kv_events.as_ref().filter(|_| known.len() > 1) else {
            return Vec::new();
        };
        let source = |replica: Arc<Replica>| {
            let mut address = replica.address;
            address.set_port(events.port(address.port())?);
            Some(Source { replica, address })
        };
        known.into_iter().filter_map(source).collect()
    }

    /// How to ask the idlest replica for the tokens of a prompt.
    pub fn tokens_question(&self) -> Option<Question> {
        let pick = self.pool.pick_other(&[])?;
        let target = format!("{}/tokenize", pick.replica().url.path.trim_end_matches("/v1"));
        Some(self.question(pick.replica(), target))
    }

    /// Whether a model is a `LoRA` adapter, as its server's list says.
    pub fn is_adapter(&self, model: &str) -> bool {
        let cards = self.catalogue.cards();
        let mut parents = cards.iter().filter(|card| card.id == model);
        parents.any(|card| card.members.get("parent").is_some_and(|parent| !parent.is_null()))
    }

    fn question(&self, replica: &Replica, target: String) -> Question {
        let key = self.provider.keys.any().and_then(|key| key.header());
        let headers: Vec<(HeaderName, HeaderValue)> =
            key.into_iter().chain(self.provider.headers.iter().cloned()).collect();
        let peer = self.peers.peer(replica);
        Question { peer, host: replica.url.authority(), target, headers }
    }
}

/// The built-in mock has no address; pingora pools connections by one, so each gets its own.
fn in_process(index: usize) -> config::Endpoint {
    let port = u16::try_from(index).unwrap_or(u16::MAX).saturating_add(1);
    let url = Url { https: false, host: "0.0.0.0".to_owned(), port, path: String::new() };
    config::Endpoint { url, weight: 1 }
}
