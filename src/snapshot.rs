//! A configuration, compiled: what every request reads through one `Arc`, and what a reload replaces.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use crate::access::{Credential, Digest, Keyring, Principal};
use crate::balance::{Catalogue, Health, InvalidAuthority, PeerTemplate, Pick, Pool, Question};
use crate::config::{self, Config, Kind, Url};
use crate::provider::{InvalidHeader, Provider};
use crate::routing::{Models, Unresolved};
use crate::telemetry::Metrics;

/// A configuration, compiled.
pub struct Snapshot {
    pub config: Config,
    pub models: Models,
    /// In the order of `config.providers`.
    pub upstreams: Vec<Arc<Upstream>>,
    pub default_upstream: Option<Arc<Upstream>>,
    pub keyring: Keyring,
    /// The key of `admin`.
    operator: Option<Digest>,
    /// Callers need no key.
    pub open: bool,
    /// Who a caller without a key is.
    pub anonymous: Arc<Principal>,
}

/// A provider with its replicas.
pub struct Upstream {
    pub provider: Provider,
    pub pool: Pool,
    pub peers: PeerTemplate,
    pub catalogue: Catalogue,
}

/// A configuration that reads well and cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Uncompilable {
    #[error(transparent)]
    Target(#[from] Unresolved),
    #[error(transparent)]
    Header(#[from] InvalidHeader),
    #[error(transparent)]
    Authority(#[from] InvalidAuthority),
}

impl Snapshot {
    pub fn compile(config: Config) -> Result<Self, Uncompilable> {
        let models = Models::new(&config)?;
        let mut upstreams = Vec::with_capacity(config.providers.len());
        for (index, provider) in config.providers.iter().enumerate() {
            upstreams.push(Arc::new(Upstream::new(provider, index, &config.retry)?));
        }
        let default = config.default_provider.as_deref();
        let default_upstream = upstreams.iter().find(|u| Some(u.provider.name.as_str()) == default);
        Ok(Self {
            models,
            default_upstream: default_upstream.cloned(),
            upstreams,
            keyring: Keyring::new(&config.keys),
            operator: config.admin.as_ref().map(|admin| Digest::of(admin.key.expose())),
            open: config.open(),
            anonymous: Arc::new(Principal::new("anonymous", None)),
            config,
        })
    }

    pub fn upstream(&self, index: usize) -> Option<&Arc<Upstream>> {
        self.upstreams.get(index)
    }

    /// Whether this is the operators' key.
    pub fn is_operator(&self, credential: &Credential) -> bool {
        self.operator.as_ref() == Some(&Digest::of(credential.expose()))
    }

    /// Sets the gauges that are only worth working out when somebody looks.
    pub fn note_health(&self, metrics: &Metrics) {
        for upstream in &self.upstreams {
            for status in upstream.pool.status() {
                let address = status.replica.address.to_string();
                let labels = [upstream.provider.name.as_str(), address.as_str()];
                let healthy = if status.health == Health::Healthy { 1.0 } else { 0.0 };
                metrics.provider_health.with_label_values(&labels).set(healthy);
                let latency = status.replica.latency().as_secs_f64();
                metrics.provider_latency.with_label_values(&labels).set(latency);
            }
        }
    }
}

impl Upstream {
    fn new(
        given: &config::Provider,
        index: usize,
        retry: &config::Retry,
    ) -> Result<Self, Uncompilable> {
        let peers = PeerTemplate::new(given)?;
        let mut given = given.clone();
        if given.kind == Kind::Mock && given.endpoints.is_empty() {
            given.endpoints.push(in_process(index));
        }
        Ok(Self {
            provider: Provider::new(&given, retry)?,
            pool: Pool::new(&given),
            peers,
            catalogue: Catalogue::default(),
        })
    }

    /// The endpoint a chosen replica belongs to.
    pub fn url(&self, pick: &Pick) -> Option<&Url> {
        self.provider.endpoints.get(pick.replica().endpoint)
    }

    /// How to ask this provider for its models; `None` when no replica can be asked.
    pub fn models_question(&self) -> Option<Question> {
        let pick = self.pool.pick_other(&[])?;
        let url = self.url(&pick)?;
        let target = self.provider.target(pick.replica().endpoint, "/v1/models", None, "");
        let key = self.provider.keys.pick(&[], true).map(|key| key.header.clone());
        let headers: Vec<(HeaderName, HeaderValue)> =
            key.into_iter().chain(self.provider.headers.iter().cloned()).collect();
        let peer = self.peers.peer(pick.replica(), url);
        Some(Question { peer, host: url.authority(), target, headers })
    }
}

/// The built-in mock has no address; pingora pools connections by one, so each gets its own.
fn in_process(index: usize) -> config::Endpoint {
    let port = u16::try_from(index).unwrap_or(u16::MAX).saturating_add(1);
    let url = Url { https: false, host: "0.0.0.0".to_owned(), port, path: String::new() };
    config::Endpoint { url, weight: 1 }
}
