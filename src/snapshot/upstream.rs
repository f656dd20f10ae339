//! A provider with its replicas, and what of it outlives a reload.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::Uncompilable;
use crate::balance::{
    Catalogue, PeerTemplate, Pick, Pool, Question, Replica, ReplicaStatus, Source,
};
use crate::config::{self, Kind, Url};
use crate::provider::Provider;

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
        if given.kind == Kind::Mock && given.endpoints.is_empty() {
            complete.endpoints.push(in_process(index));
        }
        let provider = Provider::new(&complete, before.map(|before| &before.provider))?;
        let (pool, catalogue) = match before.filter(|before| before.given.has_replicas_of(given)) {
            Some(before) => (Arc::clone(&before.pool), Arc::clone(&before.catalogue)),
            None => (Arc::new(Pool::new(&complete)), Arc::default()),
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

    /// The endpoint a chosen replica belongs to.
    pub fn url(&self, pick: &Pick) -> Option<&Url> {
        self.provider.endpoints.get(pick.replica().endpoint)
    }

    /// How to ask this provider for its models; `None` when no replica can be asked.
    pub fn models_question(&self) -> Option<Question> {
        // What these have is another list, elsewhere.
        if matches!(self.given.kind, Kind::Vertex | Kind::Bedrock) {
            return None;
        }
        let pick = self.pool.pick_other(&[])?;
        let target = self.provider.target(pick.replica().endpoint, "/v1/models", None, "");
        self.question(pick.replica(), target)
    }

    /// Whether its servers may tell how busy they are, and its policy goes by that.
    pub fn tells_load(&self) -> bool {
        let kind = matches!(self.given.kind, Kind::Vllm | Kind::OpenaiCompatible);
        kind && self.pool.wants_loads()
    }

    /// How to ask each replica for its metrics; none when there is only one, whose
    /// places are not counted.
    pub fn load_questions(&self) -> Vec<(Arc<Replica>, Question)> {
        let known = self.pool.status();
        if known.len() < 2 && !self.pool.gate().is_bounded() {
            return Vec::new();
        }
        let question = |status: ReplicaStatus| {
            let url = self.provider.endpoints.get(status.replica.endpoint)?;
            let target = format!("{}/metrics", url.path.trim_end_matches("/v1"));
            let question = self.question(&status.replica, target)?;
            Some((status.replica, question))
        };
        known.into_iter().filter_map(question).collect()
    }

    /// Where its servers tell what they have cached: the topic of their messages, and who they are.
    pub fn cache_topic(&self) -> Option<&str> {
        self.given.kv_events.as_ref().map(|events| events.topic.as_str())
    }

    /// … none when there is only one.
    pub fn cache_sources(&self) -> Vec<Source> {
        let known = self.pool.status();
        let Some(events) = self.given.kv_events.as_ref().filter(|_| known.len() > 1) else {
            return Vec::new();
        };
        let source = |ReplicaStatus { replica, .. }| {
            let mut address = replica.address;
            address.set_port(events.port(address.port())?);
            Some(Source { replica, address })
        };
        known.into_iter().filter_map(source).collect()
    }

    /// How to ask the idlest replica for the tokens of a prompt.
    pub fn tokens_question(&self) -> Option<Question> {
        let pick = self.pool.pick_other(&[])?;
        let url = self.provider.endpoints.get(pick.replica().endpoint)?;
        let target = format!("{}/tokenize", url.path.trim_end_matches("/v1"));
        self.question(pick.replica(), target)
    }

    /// Whether a model is a `LoRA` adapter, as its server's list says.
    pub fn is_adapter(&self, model: &str) -> bool {
        let cards = self.catalogue.cards();
        let mut parents = cards.iter().filter(|card| card.id == model);
        parents.any(|card| card.members.get("parent").is_some_and(|parent| !parent.is_null()))
    }

    fn question(&self, replica: &Replica, target: String) -> Option<Question> {
        let url = self.provider.endpoints.get(replica.endpoint)?;
        let key = self.provider.keys.any().and_then(|key| key.header());
        let headers: Vec<(HeaderName, HeaderValue)> =
            key.into_iter().chain(self.provider.headers.iter().cloned()).collect();
        let peer = self.peers.peer(replica, url);
        Some(Question { peer, host: url.authority(), target, headers })
    }
}

/// The built-in mock has no address; pingora pools connections by one, so each gets its own.
fn in_process(index: usize) -> config::Endpoint {
    let port = u16::try_from(index).unwrap_or(u16::MAX).saturating_add(1);
    let url = Url { https: false, host: "0.0.0.0".to_owned(), port, path: String::new() };
    config::Endpoint { url, weight: 1 }
}
