//! A provider's replicas on pingora's `LoadBalancer`: selection, ejection, and the checks that run behind.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pingora::lb::selection::{Consistent, Random, RoundRobin};
use pingora::lb::{Backend, Backends, LoadBalancer};

use super::affinity::{SHARE, Standing};
use super::blocks::{self, Blocks, Key};
use super::bound;
use super::breaker::Admission;
use super::choices::{Choices, Reason};
use super::discovery::Endpoints;
use super::gate::Gate;
use super::health::EndpointChecks;
use super::kv::Exact;
use super::load::Claim;
use super::replica::{InFlight, Probe, Replica};
use super::request::Request;
use crate::config::{self, Ejection, LoadBalancing};

/// How often names are looked up again.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(30);
/// How soon after a look-up that found nothing.
const LOOKUP_AGAIN: Duration = Duration::from_secs(2);

/// Points each replica has on pingora's ring, per weight.
const RING_POINTS: usize = 160;
/// Bytes that a token is taken for.
const TOKEN: usize = 4;

/// Pingora's selectors differ in type; `least_requests` and `prefix_affinity` choose themselves from
/// the same backend set.
enum Balancer {
    RoundRobin(LoadBalancer<RoundRobin>),
    Random(LoadBalancer<Random>),
    LeastRequests(LoadBalancer<RoundRobin>),
    ConsistentHash(LoadBalancer<Consistent>),
    PrefixAffinity(LoadBalancer<RoundRobin>),
}

/// The replicas of one provider.
pub struct Pool {
    balancer: Balancer,
    /// The header that names a request's session.
    session_header: Option<String>,
    /// Who comes first among equals.
    turn: AtomicUsize,
    /// Keys the hashes of prompts.
    key: Key,
    /// What servers tell of their caches, where they do.
    exact: Option<Arc<Exact>>,
    choices: Choices,
    ejection: Option<Ejection>,
    gate: Arc<Gate>,
    check_interval: Option<Duration>,
    started: Instant,
}

/// A replica chosen for one attempt, counted as in flight until dropped.
pub struct Pick {
    pub in_flight: InFlight,
}

/// A replica that could take a request, and what that would come to.
struct Candidate<'b> {
    backend: &'b Backend,
    standing: Standing,
    cost: f64,
    /// It was left out, and one request may find out whether it works again.
    probe: bool,
    /// It has as many requests as it may.
    full: bool,
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
            LoadBalancing::RoundRobin => {
                Balancer::RoundRobin(LoadBalancer::from_backends(backends))
            }
            LoadBalancing::Random => Balancer::Random(LoadBalancer::from_backends(backends)),
            LoadBalancing::LeastRequests => {
                Balancer::LeastRequests(LoadBalancer::from_backends(backends))
            }
            LoadBalancing::ConsistentHash { .. } => {
                Balancer::ConsistentHash(LoadBalancer::from_backends(backends))
            }
            LoadBalancing::PrefixAffinity => {
                Balancer::PrefixAffinity(LoadBalancer::from_backends(backends))
            }
        };
        let session_header = match &provider.load_balancing {
            LoadBalancing::ConsistentHash { header } => header.clone(),
            _ => None,
        };
        let gate = Arc::<Gate>::default();
        gate.set_rule(provider.admission);
        Self {
            balancer,
            session_header,
            turn: AtomicUsize::new(0),
            key: Key::random(),
            exact: provider.kv_events.as_ref().map(|_| Arc::default()),
            choices: Choices::default(),
            ejection: provider.ejection,
            gate,
            check_interval,
            started: Instant::now(),
        }
    }

    /// Whether replicas are chosen by a request's session.
    pub fn wants_sessions(&self) -> bool {
        matches!(self.balancer, Balancer::ConsistentHash(_))
    }

    /// The header that names a request's session, if one is configured.
    pub fn session_header(&self) -> Option<&str> {
        self.session_header.as_deref()
    }

    /// Whether what servers say of their load is used: not by every policy, nor for one replica alone.
    pub fn wants_loads(&self) -> bool {
        matches!(self.balancer, Balancer::PrefixAffinity(_)) || self.gate.wants_loads()
    }

    /// The way in, where places are counted.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// What servers tell of their caches; `None`: they are not listened to.
    pub fn exact(&self) -> Option<&Arc<Exact>> {
        self.exact.as_ref()
    }

    /// Why replicas were chosen so far.
    pub fn choices(&self) -> &Choices {
        &self.choices
    }

    /// Chooses the replica for a first attempt, by the configured policy.
    pub fn pick(&self, request: &dyn Request) -> Option<Pick> {
        let now = self.now();
        let probe = Cell::new(None);
        let accept = |backend: &Backend, healthy: bool| {
            healthy && self.has_room(backend) && admits(backend, now, &probe)
        };
        let set = self.backends().get_backend();
        // One alone takes every turn; pingora's selectors would copy it.
        if let (Some(only), 1) = (set.first(), set.len())
            && accept(only, self.backends().ready(only))
        {
            return self.picked(only, probe.take(), whole(request));
        }
        let steps = set.len().saturating_mul(2);
        let backend = match &self.balancer {
            Balancer::RoundRobin(balancer) => balancer.select_with(b"", steps, accept),
            Balancer::Random(balancer) => balancer.select_with(b"", steps, accept),
            Balancer::ConsistentHash(balancer) => {
                return self.pick_by_session(balancer, request);
            }
            Balancer::PrefixAffinity(_) => return self.pick_by_prefix(request),
            Balancer::LeastRequests(_) => return self.pick_idlest(request),
        };
        let pick = backend.and_then(|backend| self.picked(&backend, probe.take(), whole(request)));
        if pick.is_some() {
            self.choices.count(Reason::Turn);
            return pick;
        }
        // Pingora's selectors may also pass over a replica when others draw at the same time; no
        // usable one may be missed for that.
        self.pick_again(request, &[])
    }

    /// Chooses the idlest replica that is not among `tried`, for another attempt, which must not
    /// take anybody's turn.
    pub fn pick_again(&self, request: &dyn Request, tried: &[Arc<Replica>]) -> Option<Pick> {
        self.choices.count(Reason::Again);
        let pick = self.pick_among(tried, whole(request))?;
        if matches!(self.balancer, Balancer::PrefixAffinity(_))
            && let Some(prompt) = request.prompt()
        {
            pick.replica().learns(&Blocks::of(&prompt, &self.key));
        }
        Some(pick)
    }

    /// Chooses the idlest replica that is not among `tried`, for a question of our own.
    pub fn pick_other(&self, tried: &[Arc<Replica>]) -> Option<Pick> {
        self.pick_among(tried, Claim::default())
    }

    fn pick_idlest(&self, request: &dyn Request) -> Option<Pick> {
        self.choices.count(Reason::LeastLoad);
        self.pick_among(&[], whole(request))
    }

    fn pick_among(&self, tried: &[Arc<Replica>], claim: Claim) -> Option<Pick> {
        let (now, probe) = (self.now(), Cell::new(None));
        let idlest = self.idlest(tried);
        let with_room =
            idlest.iter().filter(|backend| self.has_room(backend)).find_map(|backend| {
                admits(backend, now, &probe).then(|| self.picked(backend, probe.take(), claim))?
            });
        if with_room.is_some() {
            return with_room;
        }
        // The places of replicas that were tried already are of no use. Such attempts are few.
        let fit = idlest.iter().find(|backend| admits(backend, now, &probe));
        // With every healthy replica left out, one that may fail beats none.
        let fit = fit.or_else(|| {
            let last = idlest.first().filter(|_| tried.is_empty())?;
            probe.set(replica_of(last).and_then(Probe::claim));
            Some(last)
        });
        fit.and_then(|backend| picked(backend, probe.take(), claim, 0))
    }

    /// The session's own replica; the next on the ring, when that has too much to do or is out.
    fn pick_by_session(
        &self,
        balancer: &LoadBalancer<Consistent>,
        request: &dyn Request,
    ) -> Option<Pick> {
        let Some(session) = request.session() else { return self.pick_idlest(request) };
        let (now, probe, crowded) = (self.now(), Cell::new(None), Cell::new(false));
        let backends = self.backends();
        let set = backends.get_backend();
        let usable = set.iter().filter(|backend| {
            let out = replica_of(backend).is_none_or(|replica| replica.breaker.is_ejected());
            !out && backends.ready(backend)
        });
        let (all, weights) = usable.fold((0.0, 0.0), |(all, weights), backend| {
            (all + running(backend), weights + weight(backend))
        });
        let accept = |backend: &Backend, healthy: bool| {
            if !healthy {
                return false;
            }
            let fits = self.has_room(backend)
                && running(backend)
                    < bound::most(bound::OF_SESSIONS, all, weight(backend), weights);
            crowded.set(crowded.get() || !fits);
            fits && admits(backend, now, &probe)
        };
        let steps = set.len().saturating_mul(RING_POINTS);
        let Some(backend) = balancer.select_with(&session.to_le_bytes(), steps, accept) else {
            return self.pick_again(request, &[]);
        };
        let Some(pick) = self.picked(&backend, probe.take(), whole(request)) else {
            return self.pick_again(request, &[]);
        };
        self.choices.count(if crowded.get() { Reason::Overflow } else { Reason::Session });
        Some(pick)
    }

    /// The replica where the prompt is expected to wait least, counting what of it is cached there.
    fn pick_by_prefix(&self, request: &dyn Request) -> Option<Pick> {
        let prompt = request.prompt();
        let blocks =
            prompt.as_ref().map(|prompt| Blocks::of(prompt, &self.key)).unwrap_or_default();
        let tokens = request.tokens();
        let set = self.backends().get_backend();
        let mut candidates = self.candidates(&set, &blocks, tokens);
        let (all, weights) = candidates.iter().fold((0.0, 0.0), |(all, weights), one| {
            (all + one.standing.requests, weights + one.standing.weight)
        });
        let crowded = |one: &Candidate| {
            one.full
                || one.standing.requests >= bound::most(SHARE, all, one.standing.weight, weights)
        };
        let order = |one: &Candidate| (!one.probe, crowded(one));
        candidates.sort_by(|a, b| order(a).cmp(&order(b)).then(a.cost.total_cmp(&b.cost)));
        let (now, probe) = (self.now(), Cell::new(None));
        let mut with_room = candidates.iter().filter(|one| !one.full);
        let chosen = with_room.find(|one| admits(one.backend, now, &probe));
        let claim_at =
            |cached| Claim { prompt_tokens: tokens, prefill_tokens: tokens.saturating_sub(cached) };
        let picked = chosen.and_then(|chosen| {
            let claim = claim_at(chosen.standing.cached);
            Some((chosen, self.picked(chosen.backend, probe.take(), claim)?))
        });
        let Some((chosen, pick)) = picked else { return self.pick_again(request, &[]) };
        let cached = chosen.standing.cached;
        let longest = candidates.iter().map(|one| one.standing.cached).max().unwrap_or(0);
        self.choices.count(match cached {
            _ if longest == 0 => Reason::LeastLoad,
            cached if cached == longest => Reason::Prefix,
            _ => Reason::Spread,
        });
        self.choices.expect(tokens, cached);
        pick.replica().learns(&blocks);
        if let (Some(exact), Some(prompt)) = (&self.exact, &prompt) {
            exact.offer(request, prompt, &blocks);
        }
        Some(pick)
    }

    /// Who could take a prompt, in turn.
    fn candidates<'b>(
        &self,
        set: &'b BTreeSet<Backend>,
        blocks: &Blocks,
        tokens: u64,
    ) -> Vec<Candidate<'b>> {
        let (now, backends) = (self.now(), self.backends());
        let candidate = |backend: &'b Backend| {
            let replica = replica_of(backend).filter(|_| backends.ready(backend))?;
            let admission = replica.breaker.admission(now);
            if admission == Admission::Ejected {
                return None;
            }
            let (load, foreign) = (&replica.load, replica.load.foreign());
            let cached = blocks::covered(replica.knows(blocks)) / TOKEN;
            let standing = Standing {
                requests: f64::from(load.requests()) + foreign.requests,
                waiting: f64::from(load.unanswered()) + foreign.waiting,
                prefill: float(load.prefill_tokens()),
                kv_use: load.reported().map_or(0.0, |reported| reported.report.kv_use),
                weight: weight(backend),
                cached: u64::try_from(cached).unwrap_or(u64::MAX).min(tokens),
            };
            let cost = standing.cost(tokens);
            let probe = admission == Admission::Probe;
            let full = !self.has_room(backend);
            Some(Candidate { backend, standing, cost, probe, full })
        };
        self.in_turn(set).filter_map(candidate).collect()
    }

    /// All of them, each time another one first.
    fn in_turn<'b>(&self, set: &'b BTreeSet<Backend>) -> impl Iterator<Item = &'b Backend> {
        let skip = self.turn.fetch_add(1, Relaxed) % set.len().max(1);
        set.iter().cycle().skip(skip).take(set.len())
    }

    /// The healthy replicas not among `tried`, those with the fewest requests under way per weight
    /// first. Equals take turns, so that an idle pool spreads its first requests.
    fn idlest(&self, tried: &[Arc<Replica>]) -> Vec<Backend> {
        let backends = self.backends();
        let set = backends.get_backend();
        let usable = |backend: &&Backend| {
            let known = |replica| tried.iter().any(|other| Arc::ptr_eq(other, replica));
            backends.ready(backend) && !replica_of(backend).is_none_or(known)
        };
        let in_turn = self.in_turn(&set).filter(usable);
        let mut order: Vec<_> = in_turn.map(|backend| (load(backend), backend.clone())).collect();
        order.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        order.into_iter().map(|(_, backend)| backend).collect()
    }

    /// The replica began to answer a request.
    pub fn answered(&self, pick: &Pick) {
        pick.in_flight.answer();
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

    /// What the server said it used for a request: tokens generated, and tokens of the prompt that it
    /// had cached.
    pub fn used(&self, pick: &Pick, generated: u64, cached: u64) {
        pick.replica().generated(generated);
        self.choices.found(cached);
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
            replica.forget();
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
            Balancer::RoundRobin(balancer)
            | Balancer::LeastRequests(balancer)
            | Balancer::PrefixAffinity(balancer) => balancer.update().await,
            Balancer::Random(balancer) => balancer.update().await,
            Balancer::ConsistentHash(balancer) => balancer.update().await,
        };
        self.check().await;
        self.note_healthy();
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
            self.forget_ill();
            self.note_healthy();
        }
    }

    /// Tells the gate whose places count.
    fn note_healthy(&self) {
        let backends = self.backends();
        let set = backends.get_backend();
        let healthy = set.iter().filter(|backend| backends.ready(backend));
        self.gate.set_replicas(healthy.filter_map(replica_of).cloned().collect());
    }

    /// Whether a replica may have one more request.
    fn has_room(&self, backend: &Backend) -> bool {
        !self.gate.is_bounded()
            || replica_of(backend).is_some_and(|replica| self.gate.room(replica) > 0)
    }

    /// `None`: others were quicker, and it has as many as it may.
    fn picked(&self, backend: &Backend, probe: Option<Probe>, claim: Claim) -> Option<Pick> {
        picked(backend, probe, claim, self.gate.bound())
    }

    /// A server that comes back has likely begun anew, and its cache is empty.
    fn forget_ill(&self) {
        if !self.wants_loads() {
            return;
        }
        let backends = self.backends();
        let set = backends.get_backend();
        let ill = set.iter().filter(|backend| !backends.ready(backend));
        ill.filter_map(replica_of).for_each(|replica| replica.forget());
    }

    fn backends(&self) -> &Backends {
        match &self.balancer {
            Balancer::RoundRobin(balancer)
            | Balancer::LeastRequests(balancer)
            | Balancer::PrefixAffinity(balancer) => balancer.backends(),
            Balancer::Random(balancer) => balancer.backends(),
            Balancer::ConsistentHash(balancer) => balancer.backends(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn replica_of(backend: &Backend) -> Option<&Arc<Replica>> {
    backend.ext.get::<Arc<Replica>>()
}

fn picked(backend: &Backend, probe: Option<Probe>, claim: Claim, bound: u32) -> Option<Pick> {
    fault!("balance::probe", probe.is_some(), |_| None);
    fault!("balance::pick", |_| None);
    let replica = Arc::clone(replica_of(backend)?);
    Some(Pick { in_flight: InFlight::begin(replica, probe, claim, bound)? })
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
    running(backend) / weight(backend)
}

fn running(backend: &Backend) -> f64 {
    f64::from(replica_of(backend).map_or(0, |replica| replica.in_flight()))
}

fn weight(backend: &Backend) -> f64 {
    f64::from(u32::try_from(backend.weight).unwrap_or(1).max(1))
}

/// What a request claims of which nothing is known to be cached.
fn whole(request: &dyn Request) -> Claim {
    let tokens = request.tokens();
    Claim { prompt_tokens: tokens, prefill_tokens: tokens }
}

#[expect(clippy::cast_precision_loss, reason = "no server has 2^52 tokens before it")]
fn float(tokens: u64) -> f64 {
    tokens as f64
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
