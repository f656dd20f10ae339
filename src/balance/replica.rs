//! One address of a provider, and what this process knows of it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::HeaderValue;

use super::blocks::Blocks;
use super::breaker::Breaker;
use super::gate::Place;
use super::load::{Claim, Load};
use super::report::Report;
use super::seen::Seen;
use super::serving::Serving;
use crate::config::Url;

/// One address of a provider. Lives as long as discovery keeps finding it.
#[derive(Debug)]
pub struct Replica {
    pub address: SocketAddr,
    /// What it is asked for: scheme, host and path.
    pub url: Url,
    /// Its `Host`; `None` when what was found cannot stand in a header.
    pub host: Option<HeaderValue>,
    /// What it serves, and how much of its share it is given.
    pub serving: Serving,
    pub(super) breaker: Breaker,
    /// What it has under way, and what its server says of it.
    pub load: Load,
    /// The prefixes it was sent; set aside with the first of them.
    seen: OnceLock<Seen>,
    /// Its server tells what it has cached.
    heard: AtomicBool,
    /// Estimated tokens of prompts sent there by their prefix, and of these expected to be cached.
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    /// Smoothed time to the response head, in microseconds; 0 before the first answer.
    latency_us: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl Replica {
    pub fn new(address: SocketAddr, url: Url) -> Self {
        Self {
            address,
            host: HeaderValue::try_from(url.authority()).ok(),
            url,
            serving: Serving::default(),
            breaker: Breaker::default(),
            load: Load::default(),
            seen: OnceLock::new(),
            heard: AtomicBool::new(false),
            prompt_tokens: AtomicU64::new(0),
            cached_tokens: AtomicU64::new(0),
            latency_us: AtomicU64::new(0),
            last_error: Mutex::new(None),
        }
    }

    /// Requests this process has under way there.
    pub fn in_flight(&self) -> u32 {
        self.load.requests()
    }

    /// Takes note of what its server says.
    pub fn note_report(&self, report: Report) {
        if let Some(seen) = self.seen.get() {
            let before = self.load.last_report();
            if before.is_some_and(|before| report.is_after_restart(&before)) {
                self.forget();
            }
            if report.capacity > 0 {
                seen.set_capacity(report.capacity);
            }
        }
        self.load.note(report);
    }

    /// How many of a prompt's first blocks are likely to be cached there.
    pub(super) fn knows(&self, blocks: &Blocks) -> usize {
        self.seen.get().map_or(0, |seen| seen.longest(blocks))
    }

    /// Takes note of a prompt that is sent there.
    pub(super) fn learns(&self, blocks: &Blocks) {
        if !blocks.hashes().is_empty() {
            self.seen().touch(blocks);
        }
    }

    /// Takes note of tokens generated there, which its cache holds too.
    pub(super) fn generated(&self, tokens: u64) {
        if let Some(seen) = self.seen.get() {
            seen.generated(tokens);
        }
    }

    /// Takes it that nothing is cached there, unless its server tells what is.
    pub(super) fn forget(&self) {
        if !self.heard.load(Relaxed) {
            self.clear();
        }
    }

    /// Nothing is cached there.
    pub(super) fn clear(&self) {
        if let Some(seen) = self.seen.get() {
            seen.forget();
        }
    }

    /// Whether its server is heard to tell what it has cached.
    pub fn is_heard(&self) -> bool {
        self.heard.load(Relaxed)
    }

    /// Its server is heard from now on, or is not.
    pub(super) fn hear(&self, heard: bool) {
        self.heard.store(heard, Relaxed);
        if let Some(seen) = self.seen.get() {
            seen.hear(heard);
        }
    }

    /// Its server says that it has a block of a prompt,
    pub(super) fn holds(&self, block: u64) {
        self.seen().hold(block);
    }

    /// … that it has it no more;
    pub(super) fn loses(&self, block: u64) {
        self.seen().lose(block);
    }

    /// what it said of it does not count any more.
    pub(super) fn doubts(&self, block: u64) {
        self.seen().doubt(block);
    }

    fn seen(&self) -> &Seen {
        self.seen.get_or_init(|| {
            let seen = Seen::default();
            seen.hear(self.heard.load(Relaxed));
            seen
        })
    }

    /// Counts a prompt's estimated tokens, and how many of them are expected to be cached there.
    pub(super) fn expect(&self, prompt: u64, cached: u64) {
        self.prompt_tokens.fetch_add(prompt, Relaxed);
        self.cached_tokens.fetch_add(cached, Relaxed);
    }

    /// The part of its prompts' tokens that was expected to be cached; `None` before the first prompt.
    pub fn expected_share(&self) -> Option<f64> {
        let (cached, prompt) = (self.cached_tokens.load(Relaxed), self.prompt_tokens.load(Relaxed));
        #[expect(clippy::cast_precision_loss, reason = "a share for people to read")]
        (prompt > 0).then(|| cached as f64 / prompt as f64)
    }

    /// Smoothed time to the response head.
    pub fn latency(&self) -> Duration {
        Duration::from_micros(self.latency_us.load(Relaxed))
    }

    /// Takes one more measurement in, with weight 1/8 (the smoothing TCP uses for its round trip).
    pub fn observe_latency(&self, took: Duration) {
        let sample = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let old = self.latency_us.load(Relaxed);
        let new = if old == 0 { sample } else { old - old / 8 + sample / 8 };
        self.latency_us.store(new, Relaxed);
    }

    /// The last failure, in words for an operator.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn note_error(&self, error: &str) {
        let mut slot = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = Some(error.to_owned());
    }
}

/// Counts a request as under way at a replica for as long as it lives. A guard, because pingora
/// skips its `logging` phase when a request panics.
#[derive(Debug)]
pub struct InFlight {
    replica: Arc<Replica>,
    probe: Option<Probe>,
    claim: Claim,
    answered: AtomicBool,
    ended: bool,
    /// What it has of the pool's; goes after the rest.
    place: Option<Place>,
}

/// The one probe of a replica that is left out; given back when it is dropped unused.
#[derive(Debug)]
pub struct Probe(Arc<Replica>);

impl InFlight {
    /// `None`: the replica has `bound` requests already; 0 is any number.
    pub(super) fn begin(
        replica: Arc<Replica>,
        probe: Option<Probe>,
        claim: Claim,
        bound: u32,
    ) -> Option<Self> {
        let begun = replica.load.begin(claim, bound);
        let answered = AtomicBool::new(false);
        begun.then(|| Self { replica, probe, claim, answered, ended: false, place: None })
    }

    /// Takes over the place it was given.
    pub fn take(&mut self, place: Option<Place>) {
        if let Some(place) = &place {
            place.begin();
        }
        self.place = place;
    }

    /// Takes note of the tokens it took, prompt and answer.
    pub fn settle(&self, tokens: u64) {
        if let Some(place) = &self.place {
            place.settle(tokens);
        }
    }

    /// It is under way no longer, though it is kept.
    pub fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            self.answer();
            self.replica.load.end(self.claim);
            self.probe = None;
            self.place = None;
        }
    }

    /// The answer has begun: the prompt is worked out.
    pub(super) fn answer(&self) {
        if !self.answered.swap(true, Relaxed) {
            self.replica.load.answer(self.claim);
        }
    }

    pub fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// Whether this request's outcome says something about the replica as it is now. While one is
    /// left out, only its probe does: the others began before that, and end when they end.
    pub(super) fn counts(&self) -> bool {
        self.probe.is_some() || !self.replica.breaker.is_ejected()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.end();
    }
}

impl Probe {
    /// `None` when another request was quicker.
    pub(super) fn claim(replica: &Arc<Replica>) -> Option<Self> {
        replica.breaker.claim_probe().then(|| Self(Arc::clone(replica)))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.breaker.release_probe();
    }
}
