//! A provider's replicas on pingora's `LoadBalancer`: selection, ejection, and the checks that run behind.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pingora::lb::selection::{Random, RoundRobin};
use pingora::lb::{Backend, Backends, LoadBalancer};

use super::breaker::Admission;
use super::discovery::Endpoints;
use super::health::EndpointChecks;
use super::replica::{InFlight, Probe, Replica};
use crate::config::{self, Ejection, LoadBalancing};

/// How often names are looked up again.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(30);
/// How soon after a look-up that found nothing.
const LOOKUP_AGAIN: Duration = Duration::from_secs(2);

/// Pingora's selectors differ in type; `least_requests` chooses itself from the same backend set.
enum Balancer {
    RoundRobin(LoadBalancer<RoundRobin>),
    Random(LoadBalancer<Random>),
    LeastRequests(LoadBalancer<RoundRobin>),
}

/// The replicas of one provider.
pub struct Pool {
    balancer: Balancer,
    /// Who comes first among equals.
    turn: AtomicUsize,
    ejection: Option<Ejection>,
    check_interval: Option<Duration>,
    started: Instant,
}

/// A replica chosen for one attempt, counted as in flight until dropped.
pub struct Pick {
    pub in_flight: InFlight,
}

impl Pick {
    pub fn replica(&self) -> &Arc<Replica> {
        self.in_flight.replica()
    }
}

/// Whether a replica takes requests, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Healthy,
    /// Failed its health check.
    Unhealthy,
    /// Left out for failing requests.
    Ejected,
}

/// What `/health/detailed` and the metrics tell of a replica.
pub struct ReplicaStatus {
    pub replica: Arc<Replica>,
    pub health: Health,
}

impl Pool {
    pub fn new(provider: &config::Provider) -> Self {
        let discovery = Box::new(Endpoints::new(&provider.name, &provider.endpoints));
        let mut backends = Backends::new(discovery);
        let checks =
            EndpointChecks::new(&provider.endpoints, &provider.health_check, &provider.tls);
        let check_interval = checks.as_ref().and(match &provider.health_check {
            config::HealthCheck::None => None,
            config::HealthCheck::Tcp(probe) | config::HealthCheck::Http { probe, .. } => {
                Some(probe.interval)
            }
        });
        if let Some(checks) = checks {
            backends.set_health_check(Box::new(checks));
        }
        let balancer = match provider.load_balancing {
            LoadBalancing::Random => Balancer::Random(LoadBalancer::from_backends(backends)),
            LoadBalancing::LeastRequests => {
                Balancer::LeastRequests(LoadBalancer::from_backends(backends))
            }
            // The others are refused when the configuration is read.
            LoadBalancing::RoundRobin
            | LoadBalancing::ConsistentHash
            | LoadBalancing::PrefixAffinity => {
                Balancer::RoundRobin(LoadBalancer::from_backends(backends))
            }
        };
        let ejection = provider.ejection;
        let turn = AtomicUsize::new(0);
        Self { balancer, turn, ejection, check_interval, started: Instant::now() }
    }

    /// Chooses the replica for a first attempt, by the configured policy.
    pub fn pick(&self) -> Option<Pick> {
        let now = self.now();
        let probe = Cell::new(None);
        let accept = |backend: &Backend, healthy: bool| healthy && admits(backend, now, &probe);
        let set = self.backends().get_backend();
        // One alone takes every turn; pingora's selectors would copy it.
        if let (Some(only), 1) = (set.first(), set.len())
            && accept(only, self.backends().ready(only))
        {
            return picked(only, probe.take());
        }
        let steps = set.len().saturating_mul(2);
        let backend = match &self.balancer {
            Balancer::RoundRobin(balancer) => balancer.select_with(b"", steps, accept),
            Balancer::Random(balancer) => balancer.select_with(b"", steps, accept),
            Balancer::LeastRequests(_) => None,
        };
        match backend {
            Some(backend) => picked(&backend, probe.take()),
            // Pingora's selectors may also pass over a replica when others draw at the same time;
            // no usable one may be missed for that.
            None => self.pick_other(&[]),
        }
    }

    /// Chooses the idlest replica that is not among `tried`: for another attempt, which must not
    /// take anybody's turn.
    pub fn pick_other(&self, tried: &[Arc<Replica>]) -> Option<Pick> {
        let (now, probe) = (self.now(), Cell::new(None));
        let idlest = self.idlest(tried);
        let fit = idlest.iter().find(|backend| admits(backend, now, &probe));
        // With every healthy replica left out, one that may fail beats none.
        let fit = fit.or_else(|| {
            let last = idlest.first().filter(|_| tried.is_empty())?;
            probe.set(replica_of(last).and_then(Probe::claim));
            Some(last)
        });
        fit.and_then(|backend| picked(backend, probe.take()))
    }

    /// The healthy replicas not among `tried`, those with the fewest requests under way per weight
    /// first. Equals take turns, so that an idle pool spreads its first requests.
    fn idlest(&self, tried: &[Arc<Replica>]) -> Vec<Backend> {
        let backends = self.backends();
        let set = backends.get_backend();
        let skip = self.turn.fetch_add(1, Relaxed) % set.len().max(1);
        let usable = |backend: &&Backend| {
            let known = |replica| tried.iter().any(|other| Arc::ptr_eq(other, replica));
            backends.ready(backend) && !replica_of(backend).is_none_or(known)
        };
        let in_turn = set.iter().cycle().skip(skip).take(set.len()).filter(usable);
        let mut order: Vec<_> = in_turn.map(|backend| (load(backend), backend.clone())).collect();
        order.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        order.into_iter().map(|(_, backend)| backend).collect()
    }

    /// The replica began to answer a request.
    pub fn answered(&self, pick: &Pick) {
        if pick.in_flight.counts() {
            pick.replica().breaker.answer();
        }
    }

    /// The replica answered a request in full.
    pub fn succeeded(&self, pick: &Pick) {
        if pick.in_flight.counts() {
            pick.replica().breaker.succeed();
        }
    }

    /// The replica failed a request. Ejects it when it has failed too often, unless that would
    /// leave out more than the configured share, or the last one.
    pub fn failed(&self, pick: &Pick, error: &str) {
        let replica = pick.replica();
        replica.note_error(error);
        let Some(rule) = &self.ejection else { return };
        if !pick.in_flight.counts() || !replica.breaker.fail(rule) {
            return;
        }
        let backends = self.backends().get_backend();
        let others_out = backends
            .iter()
            .filter_map(replica_of)
            .filter(|other| other.address != replica.address && other.breaker.is_ejected())
            .count();
        let allowed = backends.len().saturating_mul(usize::from(rule.share.0)) / 100;
        // A pool of two at 50 % may lose one; a pool of one, or of three at 10 %, none or one.
        let allowed = allowed.max(1).min(backends.len().saturating_sub(1));
        if others_out < allowed {
            replica.breaker.eject(self.now(), rule);
        }
    }

    /// Every known replica, with its health.
    pub fn status(&self) -> Vec<ReplicaStatus> {
        let backends = self.backends();
        let known = backends.get_backend();
        let status = |backend: &Backend| {
            let replica = Arc::clone(replica_of(backend)?);
            let health = if !backends.ready(backend) {
                Health::Unhealthy
            } else if replica.breaker.is_ejected() {
                Health::Ejected
            } else {
                Health::Healthy
            };
            Some(ReplicaStatus { replica, health })
        };
        known.iter().filter_map(status).collect()
    }

    /// One look-up of names and one round of checks: after it the pool can be used.
    pub async fn refresh(&self) -> Duration {
        let found = match &self.balancer {
            Balancer::RoundRobin(balancer) | Balancer::LeastRequests(balancer) => {
                balancer.update().await
            }
            Balancer::Random(balancer) => balancer.update().await,
        };
        self.check().await;
        if found.is_ok() { LOOKUP_INTERVAL } else { LOOKUP_AGAIN }
    }

    /// Looks names up and checks replicas, for ever; ends when its task is dropped.
    pub async fn run(&self) {
        // A pool that found nothing at the start looks again soon.
        let found = !self.backends().get_backend().is_empty();
        let first = if found { LOOKUP_INTERVAL } else { LOOKUP_AGAIN };
        let mut next_lookup = tokio::time::Instant::now() + first;
        loop {
            let pause = self.check_interval.unwrap_or(LOOKUP_INTERVAL);
            let wake = (tokio::time::Instant::now() + pause).min(next_lookup);
            tokio::time::sleep_until(wake).await;
            if wake == next_lookup {
                next_lookup = tokio::time::Instant::now() + self.refresh().await;
            } else {
                self.check().await;
            }
        }
    }

    async fn check(&self) {
        fault!("balance::checks");
        if self.check_interval.is_some() {
            self.backends().run_health_check(true).await;
        }
    }

    fn backends(&self) -> &Backends {
        match &self.balancer {
            Balancer::RoundRobin(balancer) | Balancer::LeastRequests(balancer) => {
                balancer.backends()
            }
            Balancer::Random(balancer) => balancer.backends(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn replica_of(backend: &Backend) -> Option<&Arc<Replica>> {
    backend.ext.get::<Arc<Replica>>()
}

fn picked(backend: &Backend, probe: Option<Probe>) -> Option<Pick> {
    fault!("balance::probe", probe.is_some(), |_| None);
    fault!("balance::pick", |_| None);
    let replica = Arc::clone(replica_of(backend)?);
    Some(Pick { in_flight: InFlight::new(replica, probe) })
}

/// Whether a replica's breaker lets a request through; `probe` gets the one probe if it is that.
fn admits(backend: &Backend, now: u64, probe: &Cell<Option<Probe>>) -> bool {
    let Some(replica) = replica_of(backend) else { return false };
    match replica.breaker.admission(now) {
        Admission::Open => true,
        Admission::Ejected => false,
        Admission::Probe => {
            let claimed = Probe::claim(replica);
            let is_probe = claimed.is_some();
            probe.set(claimed);
            is_probe
        }
    }
}

/// Requests under way per weight.
fn load(backend: &Backend) -> f64 {
    let running = replica_of(backend).map_or(0, |replica| replica.in_flight());
    f64::from(running) / f64::from(u32::try_from(backend.weight).unwrap_or(1).max(1))
}
