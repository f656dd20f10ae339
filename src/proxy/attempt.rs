//! Which attempt is next: the plan's targets in turn, a rested key, a healthy replica.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::upstreams::peer::HttpPeer;

use super::affinity::Asking;
use super::body::Part;
use super::context::{Body, Context, Course, Hop};
use super::cross::{self, Crossing};
use super::queue;
use super::refusal::Refusal;
use crate::balance::{Entry, Pick, Place, Replica};
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
    /// What it tells the server of its priority; the lower comes first.
    pub priority: Option<i64>,
}

/// Whose credential an attempt carries.
pub enum Auth {
    None,
    Ours(Arc<ApiKey>),
    Callers((HeaderName, HeaderValue)),
}

impl Attempt {
    /// Where pingora connects to.
    pub fn peer(&self) -> HttpPeer {
        let mut peer = self.upstream.peers.peer(self.pick.replica());
        if self.fresh {
            // The pool knows connections by group; nobody else is in this one.
            peer.group_key = rand::random();
        }
        peer
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

/// The next attempt, if the request may have one: the first, or one after `failure`. It is chosen, or
/// waits for a place.
pub fn advance(ctx: &mut Context, metrics: &Metrics, failure: Option<(Failure, Next)>) -> bool {
    let limit = ctx.snapshot.config.retry.attempts.max(1);
    if ctx.course.attempts >= limit {
        return false;
    }
    if let Some((failure, next)) = failure {
        remember(&mut ctx.course, failure, next);
    }
    let search = Search { failure: failure.map(|(failure, _)| failure), refused_too: false };
    let found = choose(ctx, search);
    // Nothing rested was left. Before anything was tried, a refused key beats no answer: it is the
    // provider who then says what is wrong. A limited one has been told when to come back.
    if !found && ctx.course.attempts == 0 && ctx.course.shed.is_none() {
        ctx.course.position = 0;
        choose(ctx, Search { refused_too: true, ..search });
    }
    note_failover(ctx, metrics);
    ctx.course.has_next()
}

/// Counts that the attempt which is next goes on from the current one.
pub fn note_failover(ctx: &Context, metrics: &Metrics) {
    if let (Some(next), Some(last)) = (&ctx.course.next, &ctx.course.current) {
        let (from, to) = (&last.upstream.provider.name, &next.upstream.provider.name);
        metrics.failovers.with_label_values(&[from, to]).inc();
    }
}

/// Why there is no attempt at all.
pub fn explain(ctx: &Context) -> Refusal {
    if let Some(shed) = ctx.course.shed {
        return Refusal::no_place(shed);
    }
    match ctx.course.hops.iter().filter_map(rested_in).min() {
        Some(rest) => Refusal::upstream_limited(rest),
        None if ctx.course.hops.iter().any(is_logged_out) => Refusal::upstream_auth(),
        None => Refusal::no_healthy_upstream(None),
    }
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

/// What an attempt is looked for.
#[derive(Clone, Copy)]
pub struct Search {
    /// What the last one came to.
    pub failure: Option<Failure>,
    /// Refused keys may be tried.
    pub refused_too: bool,
}

/// Why a target has no attempt for a request.
enum Lack {
    /// There is no place as things are; one would be free after about so long.
    Place(Option<Duration>),
    /// There is no key that may be used, no replica in service, or no budget for one more attempt.
    Means,
}

/// Chooses the next attempt from the current position of the plan on. A target that is full is passed
/// over when the wait there would be too long; is there no other, the request waits at the first that
/// takes it in. False: there is nothing.
pub fn choose(ctx: &mut Context, search: Search) -> bool {
    let (mut first_full, mut left_aside) = (None, Vec::new());
    while let Some(hop) = ctx.course.hops.get(ctx.course.position) {
        match choose_at(ctx, hop, search) {
            Ok(attempt) => {
                if let Some(from) = first_full.and_then(|position| ctx.course.hops.get(position)) {
                    queue::note_spill(ctx, from, hop);
                }
                ctx.course.begin(attempt);
                return true;
            }
            Err(Lack::Place(expected)) => {
                first_full = first_full.or(Some(ctx.course.position));
                if spills(hop, expected) {
                    left_aside.push(ctx.course.aside());
                } else if queue::join(ctx, search) {
                    return true;
                }
            }
            Err(Lack::Means) => {}
        }
        ctx.course.go_on();
    }
    left_aside.into_iter().any(|aside| {
        ctx.course.back_to(aside);
        queue::join(ctx, search)
    })
}

/// Chooses an attempt at a later target that is free; without one, the course stays as it is.
pub fn choose_free(ctx: &mut Context, search: Search) -> bool {
    let here = ctx.course.aside();
    ctx.course.go_on();
    while let Some(hop) = ctx.course.hops.get(ctx.course.position) {
        if let Ok(attempt) = choose_at(ctx, hop, search) {
            ctx.course.begin(attempt);
            return true;
        }
        ctx.course.go_on();
    }
    ctx.course.back_to(here);
    false
}

/// Whether a wait at this target is so long that another one is taken that is free.
fn spills(hop: &Hop, expected: Option<Duration>) -> bool {
    let after = hop.upstream.admission().and_then(|admission| admission.spill_after);
    after.is_some_and(|after| expected.is_some_and(|expected| expected > after))
}

fn choose_at(ctx: &Context, hop: &Hop, search: Search) -> Result<Attempt, Lack> {
    let auth = choose_auth(ctx, hop, search.refused_too).ok_or(Lack::Means)?;
    // Nobody waits for a place at replicas that have failed it.
    let tried = &ctx.course.tried_replicas;
    if !tried.is_empty() && !hop.upstream.pool.has_others(tried) {
        return Err(Lack::Means);
    }
    let place = match queue::enter(ctx, hop) {
        Entry::Free(place) => place,
        Entry::Full(expected) => return Err(Lack::Place(expected)),
    };
    begin_at(ctx, hop, search, auth, place).ok_or(Lack::Means)
}

/// The attempt at the current target, for which a place has become free.
pub fn take_place(ctx: &mut Context, search: Search, place: Place) -> bool {
    let attempt = ctx.course.hops.get(ctx.course.position).and_then(|hop| {
        let auth = choose_auth(ctx, hop, search.refused_too)?;
        begin_at(ctx, hop, search, auth, Some(place))
    });
    let Some(attempt) = attempt else {
        ctx.course.go_on();
        return choose(ctx, search);
    };
    ctx.course.begin(attempt);
    true
}

fn begin_at(
    ctx: &Context,
    hop: &Hop,
    search: Search,
    (auth, probe): (Auth, Option<Probe>),
    place: Option<Place>,
) -> Option<Attempt> {
    let provider = &hop.upstream.provider;
    let (pool, asking) = (&hop.upstream.pool, Asking::new(ctx, hop));
    let mut pick = if ctx.course.begun {
        pool.pick_again(&asking, &ctx.course.tried_replicas)?
    } else {
        pool.pick(&asking)?
    };
    if place.is_some() {
        pick.in_flight.take(place);
    }
    let again = ctx.course.asked.iter().any(|asked| Arc::ptr_eq(asked, &hop.upstream));
    // A connection that never came about has cost the provider nothing.
    if again && search.failure != Some(Failure::Connect) {
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
        priority: queue::told_priority(ctx, hop),
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
fn rested_in(hop: &Hop) -> Option<Duration> {
    hop.upstream.provider.keys.rested_in(hop.model())
}

/// Whether this target waits for a login.
fn is_logged_out(hop: &Hop) -> bool {
    hop.upstream.provider.keys.is_absent()
}

/// The current attempt's target cannot be asked this: the next one of the plan is tried. False when there
/// is none.
pub fn pass_over(ctx: &mut Context) -> bool {
    ctx.course.go_on();
    let next = choose(ctx, Search { failure: Some(Failure::Connect), refused_too: false });
    if next {
        ctx.course.attempts = ctx.course.attempts.saturating_sub(1);
    }
    next
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

/// A target that was passed over, and what of it was tried.
struct Aside {
    position: usize,
    begun: bool,
    keys: Vec<Arc<ApiKey>>,
    replicas: Vec<Arc<Replica>>,
}

impl Course {
    /// Whether it is decided how the request goes on: with an attempt, or a wait for one.
    pub fn has_next(&self) -> bool {
        self.next.is_some() || self.queued.is_some()
    }

    fn begin(&mut self, attempt: Attempt) {
        self.begun = true;
        self.asked.push(Arc::clone(&attempt.upstream));
        self.next = Some(attempt);
    }

    /// What there is to know of the current target, when it is passed over.
    fn aside(&mut self) -> Aside {
        Aside {
            position: self.position,
            begun: self.begun,
            keys: std::mem::take(&mut self.tried_keys),
            replicas: std::mem::take(&mut self.tried_replicas),
        }
    }

    fn back_to(&mut self, aside: Aside) {
        (self.position, self.begun) = (aside.position, aside.begun);
        (self.tried_keys, self.tried_replicas) = (aside.keys, aside.replicas);
    }

    /// On to the next target of the plan, of which nothing has been tried.
    pub fn go_on(&mut self) {
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
