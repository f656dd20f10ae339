//! A configuration, compiled: what every request reads through one `Arc`, and what a reload replaces.

mod origin;
#[cfg(test)]
mod tests;
mod upstream;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

pub use self::origin::{LastReload, Origin, Reload};
pub use self::upstream::Upstream;
use crate::access::abuse::Guard;
use crate::access::limits::{Subject, Terms, Who};
use crate::access::{Digest, Keyring, Made, Principal, Rules, counted};
use crate::balance::{Health, InvalidAuthority, Load};
use crate::config::{AuditContent, Config};
use crate::ledger::Prices;
use crate::provider::{KeyState, Provider, Uncallable};
use crate::routing::{Leg, Model, Models, Unresolved};
use crate::telemetry::{Metrics, Series};

/// A configuration, compiled.
pub struct Snapshot {
    pub config: Config,
    pub origin: Origin,
    pub models: Models,
    /// In the order of `config.providers`.
    pub upstreams: Vec<Arc<Upstream>>,
    /// What is counted of each model at each of its targets.
    series: Vec<Vec<Series>>,
    pub default_upstream: Option<Arc<Upstream>>,
    pub keyring: Keyring,
    /// What is counted of models that are limited, by their label, with its limits.
    subjects: HashMap<String, (Arc<Subject>, Arc<Terms>)>,
    /// What models cost.
    pub prices: Prices,
    /// What of a key's calls is written down, where the configuration says it.
    contents: HashMap<String, AuditContent>,
    /// What it says of where requests come from.
    pub guard: Guard,
    /// What holds for every user.
    pub rules: Arc<Rules>,
    /// The key of `admin`.
    operator: Option<Digest>,
    /// Callers need no key, as far as the configuration goes.
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
    Provider(#[from] Uncallable),
    #[error(transparent)]
    Authority(#[from] InvalidAuthority),
}

impl Snapshot {
    /// `before` is what was in force until now: of it stays what has not changed, with all that is
    /// known of it. Nothing of it is touched.
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
            default_upstream: default_upstream.cloned(),
            upstreams,
            series: models.all().iter().map(uncounted).collect(),
            keyring: Keyring::new(&config.keys, before.map(|before| &before.keyring)),
            subjects: subjects(&models, &config, before),
            prices: Prices::compile(&config),
            contents: contents(&config),
            guard: Guard::new(&config.abuse),
            rules: Arc::new(Rules::of(&config)),
            operator: config.admin.as_ref().map(|admin| Digest::of(admin.key.expose())),
            open: config.open(),
            anonymous: Arc::new(Principal::anonymous()),
            models,
            config,
        })
    }

    pub fn upstream(&self, index: usize) -> Option<&Arc<Upstream>> {
        self.upstreams.get(index)
    }

    /// What is counted of a model at one of its targets.
    pub fn series(&self, leg: &Leg) -> Option<&Series> {
        self.series.get(leg.model.index)?.get(leg.target)
    }

    /// Whether `privacy: strict` holds for all who came in at an address, which is only asked for
    /// where listeners differ.
    pub fn is_strict_at(&self, local: impl FnOnce() -> Option<SocketAddr>) -> bool {
        if self.config.privacy.strict || !self.config.listen.iter().any(|listen| listen.strict) {
            return self.config.privacy.strict;
        }
        // Who knows no better is discreet.
        local().is_none_or(|local| {
            let listen = self.config.listen.iter().find(|listen| listen.takes(local));
            listen.is_none_or(|listen| listen.strict)
        })
    }

    /// Whether this is the operators' key.
    pub fn is_operator(&self, key: &Digest) -> bool {
        self.operator.as_ref() == Some(key)
    }

    /// What is counted of the model of this label; `None` when nothing of it is limited.
    pub fn subject(&self, label: &str) -> Option<&Arc<Subject>> {
        // Most gateways limit no model.
        if self.subjects.is_empty() {
            return None;
        }
        self.subjects.get(label).map(|(subject, _)| subject)
    }

    /// What of a call's content is written down, as its key says and as its model says.
    pub fn contents(
        &self,
        caller: Option<&Principal>,
        leg: Option<&Leg>,
    ) -> [Option<AuditContent>; 2] {
        let of_file = |caller: &&Principal| caller.made() == Made::File;
        let key = caller.filter(of_file).filter(|_| !self.contents.is_empty());
        let key = key.and_then(|caller| self.contents.get(&*caller.name).copied());
        [key, leg.and_then(|leg| self.config.models.get(leg.model.index)?.content)]
    }

    /// Puts its limits into force over what is counted on from before. To be called when requests
    /// begin to see it, and not for one that is only tried.
    pub fn enforce(&self) {
        self.keyring.enforce();
        self.upstreams.iter().for_each(|upstream| upstream.enforce());
        for (subject, terms) in self.subjects.values() {
            subject.set_terms(Arc::clone(terms));
        }
    }

    /// Sets the gauges that are only worth working out when somebody looks.
    pub fn note_health(&self, metrics: &Metrics) {
        for upstream in &self.upstreams {
            note_keys(&upstream.provider, metrics);
            note_found(upstream, metrics);
            for status in upstream.pool.status() {
                if status.health == Health::Draining {
                    continue;
                }
                let address = status.replica.address.to_string();
                let labels = [upstream.provider.name.as_str(), address.as_str()];
                let healthy = if status.health == Health::Healthy { 1.0 } else { 0.0 };
                metrics.provider_health.with_label_values(&labels).set(healthy);
                let latency = status.replica.latency().as_secs_f64();
                metrics.provider_latency.with_label_values(&labels).set(latency);
                note_load(&status.replica.load, labels, metrics);
            }
            note_choices(upstream, metrics);
            note_queue(upstream, metrics);
        }
    }
}

fn contents(config: &Config) -> HashMap<String, AuditContent> {
    config.keys.iter().filter_map(|key| Some((key.name.clone(), key.content?))).collect()
}

/// What was counted under a label goes on, under its old limits until [`Snapshot::enforce`].
fn subjects(
    models: &Models,
    config: &Config,
    before: Option<&Snapshot>,
) -> HashMap<String, (Arc<Subject>, Arc<Terms>)> {
    let mut subjects = HashMap::new();
    for (model, given) in models.all().iter().zip(&config.models) {
        let terms = Arc::new(Terms {
            rate: given.rate_limit,
            allowance: given.limits.clone(),
            quotas: Vec::new(),
            exempt: false,
        });
        let known = before.and_then(|before| before.subject(&model.label));
        if let Some(subject) = counted(Who::Model, model.label.as_str().into(), &terms, known) {
            subjects.insert(model.label.clone(), (subject, terms));
        }
    }
    subjects
}

/// What a replica has to do, by our counts and by its server's word.
fn note_load(load: &Load, [provider, address]: [&str; 2], metrics: &Metrics) {
    #[expect(clippy::cast_precision_loss, reason = "tokens under way are fewer than 2^52")]
    let ours = [
        ("requests", f64::from(load.requests())),
        ("prompt_tokens", load.prompt_tokens() as f64),
        ("prefill_tokens", load.prefill_tokens() as f64),
    ];
    let gauge = |kind: &str| metrics.replica_load.with_label_values(&[provider, address, kind]);
    for (kind, value) in ours {
        gauge(kind).set(value);
    }
    let told = load.reported().map(|reported| reported.report);
    let values = told.and_then(|it| Some([it.running?, it.waiting, it.kv_use]));
    for (index, kind) in ["running", "waiting", "kv_use"].into_iter().enumerate() {
        match values.as_ref().and_then(|values| values.get(index)) {
            Some(value) => gauge(kind).set(*value),
            // A number that is stale is not told on.
            None => {
                metrics.replica_load.remove_label_values(&[provider, address, kind]).ok();
            }
        }
    }
}

/// How a provider's replicas were found: those that left are told of no more.
fn note_found(upstream: &Upstream, metrics: &Metrics) {
    let (name, discovery) = (upstream.provider.name.as_str(), upstream.pool.discovery());
    for address in discovery.take_gone() {
        metrics.forget_replica(name, &address.to_string());
    }
    metrics.discovery_failures.with_label_values(&[name]).inc_by(discovery.take_failures());
    let status = upstream.pool.status();
    for state in Health::ALL {
        let count = status.iter().filter(|one| one.health == state).count();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        metrics.replicas.with_label_values(&[name, state.word()]).set(f64::from(count));
    }
}

/// Why a provider's replicas were chosen since that was last asked.
fn note_choices(upstream: &Upstream, metrics: &Metrics) {
    let (provider, choices) = (upstream.provider.name.as_str(), upstream.pool.choices());
    for (reason, more) in choices.news().filter(|(_, more)| *more > 0) {
        metrics.choices.with_label_values(&[provider, reason.label()]).inc_by(more);
    }
    for (kind, more) in choices.token_news().into_iter().filter(|(_, more)| *more > 0) {
        metrics.prefix_tokens.with_label_values(&[provider, kind]).inc_by(more);
    }
}

/// How many wait for a provider's replicas.
fn note_queue(upstream: &Upstream, metrics: &Metrics) {
    let Some(queue) = upstream.pool.gate().queue() else { return };
    let waiting = u32::try_from(queue.waiting).map_or(f64::MAX, f64::from);
    metrics.queue_depth.with_label_values(&[&upstream.provider.name]).set(waiting);
}

/// How many of a provider's keys are in each state.
fn note_keys(provider: &Provider, metrics: &Metrics) {
    let states = provider.keys.states();
    for state in KeyState::ALL {
        let count = states.iter().filter(|key| key.state == state).count();
        let count = u32::try_from(count).map_or(f64::MAX, f64::from);
        let labels = [provider.name.as_str(), state.as_str()];
        metrics.provider_keys.with_label_values(&labels).set(count);
    }
}

/// A place for what is counted at each target.
fn uncounted(model: &Arc<Model>) -> Vec<Series> {
    model.targets.iter().map(|_| Series::default()).collect()
}

fn named(upstream: &Arc<Upstream>) -> (&str, &Arc<Upstream>) {
    (upstream.provider.name.as_str(), upstream)
}
