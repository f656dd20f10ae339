//! Which attempt is next: the plan's targets in turn, a rested key, a healthy replica.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

use super::affinity::Asking;
use super::body::Part;
use super::context::{Body, Context, Course, Hop};
use super::cross::{self, Crossing};
use crate::balance::Pick;
use crate::config::ClientAuth;
use crate::protocol::edit::Usage;
use crate::provider::{ApiKey, Choice, Fault, Name, Probe, Spoken, nearly_spent};
use crate::routing::{Failure, Leg, Next};
use crate::snapshot::Upstream;
use crate::telemetry::Metrics;

/// One try at one replica.
#[expect(clippy::struct_excessive_bools, reason = "each says one thing, and all combine")]
pub struct Attempt {
    pub upstream: Arc<Upstream>,
    pub leg: Option<Leg>,
    pub pick: Pick,
    pub auth: Auth,
    /// It tries a key that was disabled.
    _probe: Option<Probe>,
    pub started: Instant,
    /// The upstream's head arrived.
    pub answered: bool,
    /// Take a new connection, whatever is pooled.
    pub fresh: bool,
    /// The provider does not know the call as it came: it is put into the provider's own dialect.
    pub across: bool,
    /// How it crosses, if it does.
    pub crossing: Option<Box<Crossing>>,
    /// Its answer's events come in frames of Bedrock's `InvokeModel`.
    pub chunks: bool,
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
        self.key().is_some()
    }

    /// Our key, when it carries one.
    pub fn key(&self) -> Option<&Arc<ApiKey>> {
        match &self.auth {
            Auth::Ours(key) => Some(key),
            Auth::None | Auth::Callers(_) => None,
        }
    }

    /// The provider's name of the model; empty without one.
    fn model(&self) -> &str {
        self.leg.as_ref().map_or("", Leg::upstream_model)
    }

    /// Whether that name is a caller's own: it passed a rule, and stands nowhere in the configuration.
    fn is_free_name(&self) -> bool {
        self.leg.as_ref().is_some_and(|leg| {
            let target = leg.model.targets.get(leg.target);
            let named = target.is_some_and(|target| target.model.is_some());
            !named && !leg.model.names.iter().any(|name| **name == *leg.asked)
        })
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
    match (next, last.key().cloned()) {
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
        ctx.course.go_on();
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
    let (auth, probe) = choose_auth(ctx, hop, refused_too)?;
    let (pool, asking) = (&hop.upstream.pool, Asking::new(ctx, hop));
    let pick = if ctx.course.begun {
        pool.pick_again(&asking, &ctx.course.tried_replicas)?
    } else {
        pool.pick(&asking)?
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
        _probe: probe,
        started: Instant::now(),
        answered: false,
        fresh: false,
        across: false,
        crossing: None,
        chunks: false,
    })
}

/// `None`: no key of ours can be used now.
fn choose_auth(ctx: &Context, hop: &Hop, refused_too: bool) -> Option<(Auth, Option<Probe>)> {
    let provider = &hop.upstream.provider;
    let callers = || {
        // A caller's key is its key with one provider: the one its request is for.
        let first = ctx.course.hops.first()?;
        let key = ctx.own_key.as_ref().filter(|_| first.upstream.provider.name == provider.name)?;
        provider
            .profile
            .auth
            .callers_header(key.expose())
            .map(|header| (Auth::Callers(header), None))
    };
    let ours = || {
        let tried = &ctx.course.tried_keys;
        // A key that is not configured any more is not sent any more.
        let pinned = ctx.course.pinned.as_ref().filter(|key| provider.keys.holds(key));
        if let Some(pinned) = pinned {
            let tried = tried.iter().any(|tried| Arc::ptr_eq(tried, pinned));
            return (!tried).then(|| (Auth::Ours(Arc::clone(pinned)), None));
        }
        if provider.keys.is_empty() {
            return Some((Auth::None, None));
        }
        let choice = if refused_too {
            provider.keys.last_resort(hop.model(), tried)
        } else {
            let may_probe = provider.budget.affords() && may_go_on(ctx);
            provider.keys.pick(hop.model(), tried, may_probe)
        };
        choice.map(|Choice { key, probe }| (Auth::Ours(key), probe))
    };
    match provider.client_auth {
        ClientAuth::Replace => ours(),
        ClientAuth::PreferClient => callers().or_else(ours),
        ClientAuth::Forward => Some(callers().unwrap_or((Auth::None, None))),
    }
}

/// Whether a request could be sent again: only such a one may try a disabled key.
fn may_go_on(ctx: &Context) -> bool {
    let again = match &ctx.body {
        Body::None | Body::Json { .. } => true,
        Body::Parts { parts, .. } => !matches!(parts.last(), Some(Part::Live)),
    };
    again && ctx.course.attempts + 1 < ctx.snapshot.config.retry.attempts
}

/// How long until a key may be used for this target; `None` when one may.
pub fn rested_in(hop: &Hop) -> Option<Duration> {
    hop.upstream.provider.keys.rested_in(hop.model())
}

/// Whether this target waits for a login.
pub fn is_logged_out(hop: &Hop) -> bool {
    hop.upstream.provider.keys.is_absent()
}

/// The current attempt's target cannot be asked this: the next one of the plan is tried. False when there
/// is none.
pub fn pass_over(ctx: &mut Context) -> bool {
    ctx.course.go_on();
    let next = choose(ctx, Some(Failure::Connect), false);
    if next.is_some() {
        ctx.course.attempts = ctx.course.attempts.saturating_sub(1);
    }
    ctx.course.next = next;
    ctx.course.next.is_some()
}

/// Whether it may turn out that the provider does not know the call as it came.
pub fn is_perhaps(ctx: &Context) -> bool {
    let asked = ctx.asked;
    let attempt = ctx.course.current.as_ref();
    attempt.is_some_and(|it| cross::spoken(asked, it) == Spoken::Same { perhaps: true })
}

/// After a call was not known at a provider that might have had it: the same attempt goes out once more,
/// in the provider's own dialect.
pub fn repeat_across(ctx: &mut Context) -> bool {
    is_perhaps(ctx)
        && repeat(ctx, |attempt| {
            (attempt.answered, attempt.started, attempt.across) = (false, Instant::now(), true);
        })
}

/// After a signature was refused: when our clock was wrong, the same attempt goes out once more, by the
/// provider's.
pub fn repeat_by_their_clock(ctx: &mut Context, headers: &HeaderMap) -> bool {
    let key = ctx.course.current.as_ref().and_then(Attempt::key);
    let login = key.filter(|key| key.signer().is_some()).and_then(|key| key.login());
    login.is_some_and(|login| login.skew().learn(headers))
        && repeat(ctx, |attempt| {
            (attempt.answered, attempt.started) = (false, Instant::now());
        })
}

/// The current attempt goes out once more, changed so; together they count as one.
pub fn repeat(ctx: &mut Context, change: impl FnOnce(&mut Attempt)) -> bool {
    let Some(mut attempt) = ctx.course.current.take() else { return false };
    change(&mut attempt);
    ctx.course.attempts = ctx.course.attempts.saturating_sub(1);
    ctx.course.next = Some(attempt);
    true
}

impl Course {
    /// On to the next target of the plan, of which nothing has been tried.
    fn go_on(&mut self) {
        self.position += 1;
        self.begun = false;
        self.tried_keys.clear();
        self.tried_replicas.clear();
    }
}

impl Hop {
    /// The provider's name of the model; empty without one.
    fn model(&self) -> &str {
        self.leg.as_ref().map_or("", Leg::upstream_model)
    }
}

/// Books how the current attempt failed: metrics, ejection.
pub fn record_failure(ctx: &Context, metrics: &Metrics, failure: Failure) {
    let Some(attempt) = &ctx.course.current else { return };
    let provider = &attempt.upstream.provider;
    metrics.attempts.with_label_values(&[provider.name.as_str(), failure.label()]).inc();
    if let Some(trace) = &ctx.trace {
        trace.failed(failure.label());
    }
    if failure.blames_replica() {
        attempt.upstream.pool.failed(&attempt.pick, failure.label());
        let same = |asked: &&Arc<Upstream>| Arc::ptr_eq(asked, &attempt.upstream);
        if ctx.course.asked.iter().filter(same).count() == 2 {
            provider.budget.failed_again();
        }
    }
}

/// Books what the upstream blamed on our key, and that it rests for it, or is disabled. `pause`: how
/// long the upstream asked to wait.
pub fn blame_key(ctx: &Context, metrics: &Metrics, fault: Fault, pause: Option<Duration>) {
    let Some(attempt) = &ctx.course.current else { return };
    let Some(key) = attempt.key() else { return };
    let name = Name { model: attempt.model(), free: attempt.is_free_name() };
    let Some(rest) = key.fails(fault, name, pause) else { return };
    let provider = attempt.upstream.provider.name.as_str();
    metrics.key_cooldowns.with_label_values(&[provider]).inc();
    let (hint, seconds) = (&key.hint, rest.as_secs());
    match fault {
        Fault::Limited => log::warn!("provider {provider}: key {hint} rests for {seconds} s"),
        Fault::Model => {
            log::warn!("provider {provider}: key {hint} may not use a model; next in {seconds} s");
        }
        Fault::Key(why) => {
            let why = why.as_str();
            log::error!("provider {provider}: key {hint} is disabled ({why}); next in {seconds} s");
        }
    }
}

/// Reads from an answer's head how much of our key's limits is left.
pub fn note_allowance(ctx: &Context, headers: &HeaderMap) {
    let Some(attempt) = &ctx.course.current else { return };
    if let Some(key) = attempt.key().filter(|_| attempt.upstream.provider.keys.is_choice()) {
        let left = nearly_spent(headers, SystemTime::now());
        key.spends(left, || Name { model: attempt.model(), free: attempt.is_free_name() });
    }
}

fn record_key(attempt: &Attempt) {
    let Some(key) = attempt.key() else { return };
    if key.works(attempt.model()) {
        let provider = &attempt.upstream.provider.name;
        log::info!("provider {provider}: key {} is in use again", key.hint);
    }
}

/// Books that a stream has begun well. Whether it is a success shows at its end.
pub fn record_answer(ctx: &Context) {
    let Some(attempt) = &ctx.course.current else { return };
    record_key(attempt);
    attempt.upstream.pool.answered(&attempt.pick);
}

/// Books that the current attempt was answered in full.
pub fn record_success(ctx: &Context, metrics: &Metrics) {
    let Some(attempt) = &ctx.course.current else { return };
    metrics.count_served(ctx.counted());
    record_key(attempt);
    attempt.upstream.provider.budget.serves();
    attempt.upstream.pool.succeeded(&attempt.pick);
}

/// Tells the replica's pool what the answer took.
pub fn record_usage(ctx: &Context, usage: &Usage) {
    let Some(attempt) = &ctx.course.current else { return };
    attempt.upstream.pool.used(&attempt.pick, usage.completion, usage.cached);
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
