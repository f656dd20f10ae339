//! A provider's replicas on pingora's `LoadBalancer`: selection, ejection, and the checks that run behind.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pingora::lb::selection::{Consistent, Random, RoundRobin};
use pingora::lb::{Backend, Backends, LoadBalancer};
use tokio::sync::Notify;

use super::affinity::{SHARE, Standing};
use super::blocks::{self, Blocks, Key};
use super::bound;
use super::breaker::Admission;
use super::choices::{Choices, Reason};
use super::discovery::{Discovery, Shared};
use super::fit::{Differences, Fit, Terms};
use super::gate::Gate;
use super::health::EndpointChecks;
use super::kv::Exact;
use super::load::Claim;
use super::recent::{Choice, Recent};
use super::replica::{InFlight, Probe, Replica};
use super::request::Request;
use crate::config::{self, Ejection, LoadBalancing};

/// Points each replica has on pingora's ring, per weight.
const RING_POINTS: usize = 160;
/// Bytes that a token is taken for.
const TOKEN: usize = 4;

/// Pingora's selectors differ in type; `least_requests` and `prefix_affinity` choose themselves from
/// the same backend set.
pub(super) enum Balancer {
    RoundRobin(LoadBalancer<RoundRobin>),
    Random(LoadBalancer<Random>),
    LeastRequests(LoadBalancer<RoundRobin>),
    ConsistentHash(LoadBalancer<Consistent>),
    PrefixAffinity(LoadBalancer<RoundRobin>),
}

/// The replicas of one provider.
pub struct Pool {
    pub(super) provider: String,
    pub(super) balancer: Balancer,
    pub(super) discovery: Arc<Discovery>,
    pub(super) differences: Differences,
    pub(super) terms: Terms,
    /// Replicas have come that nobody has asked for their models.
    pub(super) newcomers: Notify,
    /// The header that names a request's session.
    session_header: Option<String>,
    /// Who comes first among equals.
    turn: AtomicUsize,
    /// Keys the hashes of prompts.
    key: Arc<Key>,
    /// What servers tell of their caches, where they do.
    exact: Option<Arc<Exact>>,
    choices: Choices,
    recent: Recent,
    ejection: Option<Ejection>,
    gate: Arc<Gate>,
    pub(super) check_interval: Option<Duration>,
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

impl Pool {
    /// `before` is what the same provider's pool was until now: replicas that stay keep their records.
    pub fn new(provider: &config::Provider, before: Option<&Self>) -> Self {
        let discovery = Discovery::new(provider, before.map(|before| &*before.discovery));
        let discovery = Arc::new(discovery);
        let mut backends = Backends::new(Box::new(Shared(Arc::clone(&discovery))));
        let checks = EndpointChecks::new(&provider.health_check, &provider.tls);
        let check_interval = checks.as_ref().map(EndpointChecks::interval);
        let terms = Terms {
            checks: checks.is_some(),
            models: provider.asks_each_for_models(),
            slow_start: provider.slow_start,
        };
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
        // Places are taken at replicas, and those that stay are the same ones. What is in force stays
        // untouched until this is.
        let new_gate = || {
            let gate = Arc::<Gate>::default();
            gate.set_rule(provider.admission);
            gate
        };
        let gate = before.map_or_else(new_gate, |before| Arc::clone(&before.gate));
        let exact = before.and_then(|before| before.exact.clone());
        Self {
            provider: provider.name.clone(),
            balancer,
            discovery,
            differences: Differences::default(),
            terms,
            newcomers: Notify::new(),
            session_header,
            turn: AtomicUsize::new(0),
            key: before.map_or_else(|| Arc::new(Key::random()), |before| Arc::clone(&before.key)),
            exact: provider.kv_events.as_ref().map(|_| exact.unwrap_or_default()),
            choices: Choices::default(),
            recent: Recent::default(),
            ejection: provider.ejection,
            gate,
            check_interval,
            started: before.map_or_else(Instant::now, |before| before.started),
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

    /// The last of these choices, oldest first.
    pub fn last_choices(&self) -> Vec<Choice> {
        self.recent.all()
    }

    /// Takes note of a choice, and why it was made.
    fn note(&self, reason: Reason, pick: Option<Pick>, [prompt, cached]: [u64; 2]) -> Option<Pick> {
        self.choices.count(reason);
        let replica = pick.as_ref().map(Pick::replica)?;
        self.recent.note(Choice {
            replica: replica.address,
            reason,
            at: Instant::now(),
            in_flight: replica.in_flight(),
            prompt_tokens: prompt,
            cached_tokens: cached,
        });
        pick
    }

    /// Chooses the replica for a first attempt, by the configured policy.
    pub fn pick(&self, request: &dyn Request) -> Option<Pick> {
        let now = self.now();
        let probe = Cell::new(None);
        let backends = self.backends();
        let set = backends.get_backend();
        let fit = self.differences.fit(backends, request.model());
        let turn = |backend: &Backend| {
            let replica = replica_of(backend);
            fit.zip(replica).is_none_or(|(fit, it)| fit.allows(it) && fit.takes_turn(it))
        };
        let accept = |backend: &Backend, healthy: bool| {
            healthy && turn(backend) && self.has_room(backend) && admits(backend, now, &probe)
        };
        // One alone takes every turn; pingora's selectors would copy it.
        if let (Some(only), 1) = (set.first(), set.len())
            && backends.ready(only)
            && self.has_room(only)
            && admits(only, now, &probe)
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
            return self.note(Reason::Turn, pick, [request.tokens(), 0]);
        }
        // Pingora's selectors may also pass over a replica when others draw at the same time; no
        // usable one may be missed for that.
        self.pick_again(request, &[])
    }

    /// Chooses the idlest replica that is not among `tried`, for another attempt, which must not
    /// take anybody's turn.
    pub fn pick_again(&self, request: &dyn Request, tried: &[Arc<Replica>]) -> Option<Pick> {
        let pick = self.pick_among(tried, request.model(), whole(request));
        let pick = self.note(Reason::Again, pick, [request.tokens(), 0])?;
        if matches!(self.balancer, Balancer::PrefixAffinity(_))
            && let Some(prompt) = request.prompt()
        {
            pick.replica().learns(&Blocks::of(&prompt, &self.key));
        }
        Some(pick)
    }

    /// Chooses the idlest replica that is not among `tried`, for a question of our own.
    pub fn pick_other(&self, tried: &[Arc<Replica>]) -> Option<Pick> {
        self.pick_among(tried, None, Claim::default())
    }

    fn pick_idlest(&self, request: &dyn Request) -> Option<Pick> {
        let pick = self.pick_among(&[], request.model(), whole(request));
        self.note(Reason::LeastLoad, pick, [request.tokens(), 0])
    }

    fn pick_among(
        &self,
        tried: &[Arc<Replica>],
        model: Option<&str>,
        claim: Claim,
    ) -> Option<Pick> {
        let (now, probe) = (self.now(), Cell::new(None));
        let fit = self.differences.fit(self.backends(), model);
        let idlest = self.idlest(tried, fit);
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
        let fit = self.differences.fit(backends, request.model());
        let usable = set.iter().filter(|backend| {
            let usable = |it: &Arc<Replica>| !it.breaker.is_ejected() && allows(fit, it);
            replica_of(backend).is_some_and(usable) && backends.ready(backend)
        });
        let (all, weights) = usable.fold((0.0, 0.0), |(all, weights), backend| {
            (all + running(backend), weights + weight(backend))
        });
        let accept = |backend: &Backend, healthy: bool| {
            if !healthy || !replica_of(backend).is_some_and(|it| allows(fit, it)) {
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
        let reason = if crowded.get() { Reason::Overflow } else { Reason::Session };
        self.note(reason, Some(pick), [request.tokens(), 0])
    }

    /// The replica where the prompt is expected to wait least, counting what of it is cached there.
    fn pick_by_prefix(&self, request: &dyn Request) -> Option<Pick> {
        let prompt = request.prompt();
        let blocks =
            prompt.as_ref().map(|prompt| Blocks::of(prompt, &self.key)).unwrap_or_default();
        let tokens = request.tokens();
        let set = self.backends().get_backend();
        let fit = self.differences.fit(self.backends(), request.model());
        let mut candidates = self.candidates(&set, fit, &blocks, tokens);
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
        let reason = match cached {
            _ if longest == 0 => Reason::LeastLoad,
            cached if cached == longest => Reason::Prefix,
            _ => Reason::Spread,
        };
        self.choices.expect(tokens, cached);
        let pick = self.note(reason, Some(pick), [tokens, cached])?;
        pick.replica().expect(tokens, cached);
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
        fit: Option<Fit>,
        blocks: &Blocks,
        tokens: u64,
    ) -> Vec<Candidate<'b>> {
        let (now, backends) = (self.now(), self.backends());
        let candidate = |backend: &'b Backend| {
            let replica = replica_of(backend).filter(|_| backends.ready(backend))?;
            if !allows(fit, replica) {
                return None;
            }
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
    fn idlest(&self, tried: &[Arc<Replica>], fit: Option<Fit>) -> Vec<Backend> {
        let backends = self.backends();
        let set = backends.get_backend();
        let usable = |backend: &&Backend| {
            let fits = |it: &Arc<Replica>| {
                allows(fit, it) && !tried.iter().any(|other| Arc::ptr_eq(other, it))
            };
            backends.ready(backend) && replica_of(backend).is_some_and(fits)
        };
        let in_turn = self.in_turn(&set).filter(usable);
        let mut order: Vec<_> = in_turn.map(|backend| (load(backend), backend.clone())).collect();
        order.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        order.into_iter().map(|(_, backend)| backend).collect()
    }

    /// Whether a replica is well that is not among these.
    pub fn has_others(&self, tried: &[Arc<Replica>]) -> bool {
        let backends = self.backends();
        backends.get_backend().iter().filter(|backend| backends.ready(backend)).any(|backend| {
            replica_of(backend)
                .is_some_and(|replica| !tried.iter().any(|other| Arc::ptr_eq(other, replica)))
        })
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

    /// Whether a replica may have one more request.
    fn has_room(&self, backend: &Backend) -> bool {
        !self.gate.is_bounded()
            || replica_of(backend).is_some_and(|replica| self.gate.room(replica) > 0)
    }

    /// `None`: others were quicker, and it has as many as it may.
    fn picked(&self, backend: &Backend, probe: Option<Probe>, claim: Claim) -> Option<Pick> {
        picked(backend, probe, claim, self.gate.bound())
    }

    pub(super) fn backends(&self) -> &Backends {
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

pub(super) fn replica_of(backend: &Backend) -> Option<&Arc<Replica>> {
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

fn allows(fit: Option<Fit>, replica: &Arc<Replica>) -> bool {
    fit.is_none_or(|fit| fit.allows(replica))
}

/// Requests under way per weight.
fn load(backend: &Backend) -> f64 {
    running(backend) / weight(backend)
}

fn running(backend: &Backend) -> f64 {
    f64::from(replica_of(backend).map_or(0, |replica| replica.in_flight()))
}

/// Its weight, or as much of it as it is given yet.
fn weight(backend: &Backend) -> f64 {
    let share = replica_of(backend).map_or(1.0, |replica| replica.serving.share());
    f64::from(u32::try_from(backend.weight).unwrap_or(1).max(1)) * share
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
