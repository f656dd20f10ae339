//! Which attempt is next: the plan's targets in turn, a rested key, a healthy replica.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

use super::context::{Context, Course, Hop};
use crate::balance::Pick;
use crate::config::ClientAuth;
use crate::provider::{ApiKey, Provider};
use crate::routing::{Failure, Leg, Next};
use crate::snapshot::Upstream;
use crate::telemetry::Metrics;

/// How long a key rests when the provider does not say.
const LIMITED_REST: Duration = Duration::from_secs(1);
/// … and when it was refused: someone has to act before it works again.
const REFUSED_REST: Duration = Duration::from_mins(1);

/// One try at one replica.
pub struct Attempt {
    pub upstream: Arc<Upstream>,
    pub leg: Option<Leg>,
    pub pick: Pick,
    pub auth: Auth,
    pub started: Instant,
    /// The upstream's head arrived.
    pub answered: bool,
    /// Take a new connection, whatever is pooled.
    pub fresh: bool,
}

/// Whose credential an attempt carries.
pub enum Auth {
    None,
    Ours(Arc<ApiKey>),
    Callers((HeaderName, HeaderValue)),
}

impl Attempt {
    /// Where pingora connects to.
    pub fn peer(&self) -> Result<HttpPeer> {
        let Some(url) = self.upstream.url(&self.pick) else {
            return Error::e_explain(ErrorType::InternalError, "a replica without an endpoint");
        };
        let mut peer = self.upstream.peers.peer(self.pick.replica(), url);
        if self.fresh {
            // The pool knows connections by group; nobody else is in this one.
            peer.group_key = rand::random();
        }
        Ok(peer)
    }

    pub fn is_ours(&self) -> bool {
        matches!(self.auth, Auth::Ours(_))
    }
}

/// The next attempt, if the request may have one: the first, or one after `failure`.
pub fn advance(ctx: &mut Context, metrics: &Metrics, failure: Option<(Failure, Next)>) -> bool {
    let limit = ctx.snapshot.config.retry.attempts.max(1);
    if ctx.course.attempts >= limit {
        return false;
    }
    if let Some((failure, next)) = failure {
        remember(&mut ctx.course, failure, next);
    }
    let next = choose(ctx, failure.map(|(failure, _)| failure), false);
    // Nothing rested was left. Before anything was tried, a refused key beats no answer: it is the
    // provider who then says what is wrong. A limited one has been told when to come back.
    let next = next.or_else(|| {
        if ctx.course.attempts > 0 {
            return None;
        }
        ctx.course.position = 0;
        choose(ctx, None, true)
    });
    if let (Some(next), Some(last)) = (&next, &ctx.course.current) {
        let (from, to) = (&last.upstream.provider.name, &next.upstream.provider.name);
        metrics.failovers.with_label_values(&[from, to]).inc();
    }
    ctx.course.next = next;
    ctx.course.next.is_some()
}

/// Takes what failed out of the running for the current hop.
fn remember(course: &mut Course, failure: Failure, next: Next) {
    let Some(last) = &course.current else { return };
    let key = match &last.auth {
        Auth::Ours(key) => Some(Arc::clone(key)),
        Auth::None | Auth::Callers(_) => None,
    };
    match (next, key) {
        (Next::AnotherKey, Some(key)) => course.tried_keys.push(key),
        // A limit without a key of ours is the replica's own.
        _ => course.tried_replicas.push(Arc::clone(last.pick.replica())),
    }
    course.failure = Some(failure);
}

fn choose(ctx: &mut Context, failure: Option<Failure>, refused_too: bool) -> Option<Attempt> {
    while let Some(hop) = ctx.course.hops.get(ctx.course.position) {
        if let Some(attempt) = choose_at(ctx, hop, failure, refused_too) {
            ctx.course.begun = true;
            ctx.course.asked.push(Arc::clone(&attempt.upstream));
            return Some(attempt);
        }
        ctx.course.position += 1;
        ctx.course.begun = false;
        ctx.course.tried_keys.clear();
        ctx.course.tried_replicas.clear();
    }
    None
}

fn choose_at(
    ctx: &Context,
    hop: &Hop,
    failure: Option<Failure>,
    refused_too: bool,
) -> Option<Attempt> {
    let provider = &hop.upstream.provider;
    let auth = choose_auth(ctx, provider, refused_too)?;
    let pick = if ctx.course.begun {
        hop.upstream.pool.pick_other(&ctx.course.tried_replicas)?
    } else {
        hop.upstream.pool.pick()?
    };
    let again = ctx.course.asked.iter().any(|asked| Arc::ptr_eq(asked, &hop.upstream));
    // A connection that never came about has cost the provider nothing.
    if again && failure != Some(Failure::Connect) {
        provider.budget.withdraw().then_some(())?;
    } else if !again {
        provider.budget.deposit(ctx.snapshot.config.retry.budget);
    }
    Some(Attempt {
        upstream: Arc::clone(&hop.upstream),
        leg: hop.leg.clone(),
        pick,
        auth,
        started: Instant::now(),
        answered: false,
        fresh: false,
    })
}

/// `None`: no key of ours can be used now.
fn choose_auth(ctx: &Context, provider: &Provider, refused_too: bool) -> Option<Auth> {
    let callers = || {
        // A caller's key is its key with one provider: the one its request is for.
        let first = ctx.course.hops.first()?;
        let key = ctx.own_key.as_ref().filter(|_| first.upstream.provider.name == provider.name)?;
        provider.profile.auth.header(key.expose()).map(Auth::Callers)
    };
    let ours = || {
        // A key that is not configured any more is not sent any more.
        let pinned = ctx.course.pinned.as_ref().filter(|key| provider.keys.holds(key));
        if let Some(pinned) = pinned {
            return Some(Auth::Ours(Arc::clone(pinned)));
        }
        if provider.keys.is_empty() {
            return Some(Auth::None);
        }
        provider.keys.pick(&ctx.course.tried_keys, refused_too).map(Auth::Ours)
    };
    match provider.client_auth {
        ClientAuth::Replace => ours(),
        ClientAuth::PreferClient => callers().or_else(ours),
        ClientAuth::Forward => Some(callers().unwrap_or(Auth::None)),
    }
}

/// Books how the current attempt failed: metrics, ejection, a rest for its key.
pub fn record_failure(
    ctx: &Context,
    metrics: &Metrics,
    failure: Failure,
    retry_after: Option<Duration>,
) {
    let Some(attempt) = &ctx.course.current else { return };
    let provider = &attempt.upstream.provider;
    metrics.attempts.with_label_values(&[provider.name.as_str(), failure.label()]).inc();
    if failure.blames_replica() {
        attempt.upstream.pool.failed(&attempt.pick, failure.label());
        let same = |asked: &&Arc<Upstream>| Arc::ptr_eq(asked, &attempt.upstream);
        if ctx.course.asked.iter().filter(same).count() == 2 {
            provider.budget.failed_again();
        }
    }
    let rest = match failure {
        Failure::Status(429) => retry_after.unwrap_or(LIMITED_REST),
        Failure::Status(401 | 403) => REFUSED_REST,
        _ => return,
    };
    if let Auth::Ours(key) = &attempt.auth {
        provider.keys.rest(key, rest, failure == Failure::Status(429));
        metrics.key_cooldowns.with_label_values(&[provider.name.as_str()]).inc();
        log::warn!("provider {}: key {} rests for {} s", provider.name, key.hint, rest.as_secs());
    }
}

/// Books that a stream has begun well. Whether it is a success shows at its end.
pub fn record_answer(ctx: &Context) {
    let Some(attempt) = &ctx.course.current else { return };
    attempt.upstream.pool.answered(&attempt.pick);
}

/// Books that the current attempt was answered in full.
pub fn record_success(ctx: &Context, metrics: &Metrics) {
    let Some(attempt) = &ctx.course.current else { return };
    let name = attempt.upstream.provider.name.as_str();
    metrics.attempts.with_label_values(&[name, "ok"]).inc();
    attempt.upstream.provider.budget.serves();
    attempt.upstream.pool.succeeded(&attempt.pick);
}

/// Whether the current attempt's credential, or its want of one, is ours to mend.
pub fn is_our_key(ctx: &Context) -> bool {
    let Some(attempt) = &ctx.course.current else { return false };
    match attempt.auth {
        Auth::Ours(_) => true,
        Auth::Callers(_) => false,
        // Whoever may send a key of its own, and did not, has to know.
        Auth::None => attempt.upstream.provider.client_auth == ClientAuth::Replace,
    }
}
