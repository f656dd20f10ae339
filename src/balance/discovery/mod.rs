//! Where a provider's replicas are: pingora's service discovery over names, a file, or Kubernetes.
//! A replica that stays keeps its record; a source that is away takes none of them with it.

mod file;
mod kubernetes;
mod names;
mod slices;
mod source;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use log::{Level, log, warn};
use pingora::lb::discovery::ServiceDiscovery;
use pingora::lb::{Backend, Extensions};
use pingora::protocols::l4::socket::SocketAddr as L4Address;
use pingora::{Error, ErrorType, Result};
use tokio::sync::Notify;

use self::source::{Finding, Found, Source};
use super::replica::Replica;
use crate::config::{self, Url};

/// Replicas of one provider. A bound, should a source find a whole data centre.
const MOST: usize = 512;
/// Replicas that left and are told of while they end what they have under way.
const LEAVING: usize = 64;
/// Addresses that left and are still to be forgotten by the metrics.
const GONE: usize = 1024;

/// A provider's replicas, wherever they are found.
pub struct Discovery {
    provider: String,
    source: Source,
    known: Mutex<Known>,
    changed: Notify,
    /// For how many milliseconds holds what was found.
    holds: AtomicU64,
    failures: AtomicU64,
}

#[derive(Default)]
struct Known {
    replicas: HashMap<(Url, SocketAddr), Arc<Replica>>,
    leaving: Vec<Arc<Replica>>,
    gone: Vec<SocketAddr>,
    /// Why it failed last, and was told to have.
    failed: Option<String>,
    /// Something has been found before: whoever comes now, joins.
    begun: bool,
}

impl Discovery {
    /// `before` is what looked for the same provider's replicas until now: those that stay keep their
    /// records, and others join them.
    pub fn new(provider: &config::Provider, before: Option<&Self>) -> Self {
        let known = before.map(|before| {
            let known = before.known();
            Known { replicas: known.replicas.clone(), begun: known.begun, ..Known::default() }
        });
        Self {
            provider: provider.name.clone(),
            source: Source::new(provider),
            known: Mutex::new(known.unwrap_or_default()),
            changed: Notify::new(),
            holds: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// Tells when there is something new to look at, for ever.
    pub async fn watch(&self) {
        self.source.watch(&self.changed).await;
    }

    /// Resolves when the source has told of something new.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// How long what was found last holds.
    pub fn holds(&self) -> Duration {
        Duration::from_millis(self.holds.load(Relaxed))
    }

    /// Looks that failed since this was last asked.
    pub fn take_failures(&self) -> u64 {
        self.failures.swap(0, Relaxed)
    }

    /// Replicas that take no requests any more and have some to end.
    pub fn leaving(&self) -> Vec<Arc<Replica>> {
        let mut known = self.known();
        known.leaving.retain(|replica| replica.in_flight() > 0);
        known.leaving.clone()
    }

    /// Addresses that are no replica's any more, each told once.
    pub fn take_gone(&self) -> Vec<SocketAddr> {
        std::mem::take(&mut self.known().gone)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a look that failed: told once, until one works or fails in another way.
    fn fail(&self, why: &str) {
        self.failures.fetch_add(1, Relaxed);
        self.hold(Source::AGAIN);
        let mut known = self.known();
        if known.failed.as_deref() != Some(why) {
            warn!("provider {}: its replicas stay as they are: {why}", self.provider);
            known.failed = Some(why.to_owned());
        }
    }

    fn hold(&self, time: Duration) {
        self.holds.store(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// What was found, as pingora has it. Replicas that are known already stay what they are.
    fn take(&self, finding: Finding) -> BTreeSet<Backend> {
        self.hold(finding.holds);
        let mut found = finding.replicas;
        if found.len() > MOST {
            warn!("provider {}: of {} replicas {MOST} are used", self.provider, found.len());
            found.truncate(MOST);
        }
        let mut known = self.known();
        known.failed = None;
        let mut next = HashMap::with_capacity(found.len());
        let mut backends = BTreeSet::new();
        let mut news = Vec::new();
        for Found { url, address, weight } in found {
            let key = (url, address);
            let replica = known.replicas.get(&key).cloned().unwrap_or_else(|| {
                news.push(address);
                Arc::new(replica(address, key.0.clone(), known.begun))
            });
            next.insert(key, Arc::clone(&replica));
            let mut ext = Extensions::new();
            ext.insert(replica);
            let weight = usize::try_from(weight).unwrap_or(1);
            backends.insert(Backend { addr: L4Address::Inet(address), weight, ext });
        }
        let before = std::mem::replace(&mut known.replicas, next);
        let mut left: Vec<Arc<Replica>> = Vec::new();
        for (key, replica) in before {
            if !known.replicas.contains_key(&key) {
                left.push(replica);
            }
        }
        if known.begun && !(news.is_empty() && left.is_empty()) {
            let left: Vec<SocketAddr> = left.iter().map(|replica| replica.address).collect();
            // The addresses behind a name are others all the time.
            let level = if self.source.is_listed() { Level::Debug } else { Level::Info };
            log!(level, "provider {}: replicas come {news:?}, leave {left:?}", self.provider);
        }
        known.begun |= !known.replicas.is_empty();
        known.note_left(left);
        backends
    }
}

fn replica(address: SocketAddr, url: Url, joins: bool) -> Replica {
    let replica = Replica::new(address, url);
    if joins {
        replica.serving.begin_to_join();
    }
    replica
}

impl Known {
    fn note_left(&mut self, left: Vec<Arc<Replica>>) {
        let here: BTreeSet<SocketAddr> = self.replicas.keys().map(|(_, at)| *at).collect();
        self.gone.retain(|at| !here.contains(at));
        let away = left.iter().map(|replica| replica.address).filter(|at| !here.contains(at));
        self.gone.extend(away);
        let surplus = self.gone.len().saturating_sub(GONE);
        self.gone.drain(..surplus);
        self.leaving.retain(|replica| replica.in_flight() > 0);
        self.leaving.extend(left.into_iter().filter(|replica| replica.in_flight() > 0));
        self.leaving.truncate(LEAVING);
    }
}

/// Pingora wants one of its own; the pool asks the same one other things.
pub struct Shared(pub Arc<Discovery>);

#[async_trait]
impl ServiceDiscovery for Shared {
    async fn discover(&self) -> Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        fault!("balance::discover", |_| Error::e_explain(ErrorType::ConnectNoRoute, "fault"));
        match self.0.source.look().await {
            Ok(finding) => Ok((self.0.take(finding), HashMap::new())),
            Err(why) => {
                self.0.fail(&why);
                Error::e_explain(ErrorType::ConnectNoRoute, "the replicas cannot be looked up")
            }
        }
    }
}
