//! A configuration, compiled: what every request reads through one `Arc`, and what a reload replaces.

mod origin;
#[cfg(test)]
mod tests;
mod upstream;

use std::collections::HashMap;
use std::sync::Arc;

pub use self::origin::{LastReload, Origin, Reload};
pub use self::upstream::Upstream;
use crate::access::{Credential, Digest, Keyring, Principal};
use crate::balance::{Health, InvalidAuthority};
use crate::config::Config;
use crate::provider::InvalidHeader;
use crate::routing::{Models, Unresolved};
use crate::telemetry::Metrics;

/// A configuration, compiled.
pub struct Snapshot {
    pub config: Config,
    pub origin: Origin,
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
    /// `before` is what was in force until now: of it stays what has not changed, with all that is
    /// known of it.
    pub fn compile(
        config: Config,
        origin: Origin,
        before: Option<&Self>,
    ) -> Result<Self, Uncompilable> {
        let known: HashMap<&str, &Arc<Upstream>> =
            before.iter().flat_map(|before| &before.upstreams).map(named).collect();
        let models = Models::new(&config)?;
        let mut upstreams = Vec::with_capacity(config.providers.len());
        for (index, provider) in config.providers.iter().enumerate() {
            let known = known.get(provider.name.as_str()).copied();
            upstreams.push(Upstream::new(provider, index, known)?);
        }
        let default = config.default_provider.as_deref();
        let default_upstream = upstreams.iter().find(|u| Some(u.provider.name.as_str()) == default);
        Ok(Self {
            origin,
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

fn named(upstream: &Arc<Upstream>) -> (&str, &Arc<Upstream>) {
    (upstream.provider.name.as_str(), upstream)
}
