//! One address of a provider, and what this process knows of it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::breaker::Breaker;

/// One address of a provider. Lives as long as discovery keeps finding it.
#[derive(Debug)]
pub struct Replica {
    pub address: SocketAddr,
    /// Index of the configured endpoint this address belongs to.
    pub endpoint: usize,
    pub(super) breaker: Breaker,
    in_flight: AtomicU32,
    /// Smoothed time to the response head, in microseconds; 0 before the first answer.
    latency_us: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl Replica {
    pub fn new(address: SocketAddr, endpoint: usize) -> Self {
        Self {
            address,
            endpoint,
            breaker: Breaker::default(),
            in_flight: AtomicU32::new(0),
            latency_us: AtomicU64::new(0),
            last_error: Mutex::new(None),
        }
    }

    /// Requests this process has under way there.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
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
}

/// The one probe of a replica that is left out; given back when it is dropped unused.
#[derive(Debug)]
pub struct Probe(Arc<Replica>);

impl InFlight {
    pub(super) fn new(replica: Arc<Replica>, probe: Option<Probe>) -> Self {
        replica.in_flight.fetch_add(1, Relaxed);
        Self { replica, probe }
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
        self.replica.in_flight.fetch_sub(1, Relaxed);
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
