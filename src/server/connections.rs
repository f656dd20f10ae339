//! Counts the connections of clients, and refuses those beyond the limits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use ipnet::IpNet;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use prometheus::IntGauge;
use tokio::sync::watch;

use super::guarded::{Allowed, Guarded};
use super::handover::Connections;
use super::{handshake, heads};
use crate::config::Limits;
use crate::proxy::{Connection, until_told};
use crate::snapshot::Snapshot;

/// What was accepted last has a task by then, and the task has counted it.
const SETTLE: Duration = Duration::from_millis(250);

/// An app with a bound on its connections, overall and per address.
pub struct Bounded<A> {
    app: Arc<A>,
    open: Arc<Open>,
    /// Says how many there may be, and how long a new one may say nothing.
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// Turns true when idle connections may be closed.
    close_idle: watch::Receiver<bool>,
}

/// The connections that are open.
pub struct Open {
    gauge: IntGauge,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    /// What a predecessor still has: they count here too.
    elsewhere: Mutex<Connections>,
    /// Since when nothing is accepted any more.
    closed: OnceLock<Instant>,
}

/// One open connection.
pub struct Ticket {
    open: Arc<Open>,
    address: Option<IpAddr>,
}

impl<A> Bounded<A> {
    pub fn new(
        app: Arc<A>,
        open: Arc<Open>,
        snapshot: Arc<ArcSwap<Snapshot>>,
        close_idle: watch::Receiver<bool>,
    ) -> Self {
        Self { app, open, snapshot, close_idle }
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServerApp for Bounded<A> {
    async fn process_new(
        self: &Arc<Self>,
        session: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let snapshot = self.snapshot.load();
        let config = &snapshot.config;
        // Closed without a word: to say one would take the resources that are short.
        let taken = handshake::done(&session);
        let take = || {
            let peer = handshake::address(&*session);
            Ticket::take(&self.open, &config.limits, &config.trusted_proxies, peer)
        };
        let _ticket = taken.or_else(take)?;
        let head = config.timeouts.request_header;
        let stall = config.timeouts.client_write;
        let allowed = Allowed { stall, head: config.limits.headers, arrival: head };
        drop(snapshot);
        let connection = Arc::new(Connection::new(head));
        let mut session = Guarded::new(session, Arc::clone(&connection), allowed);
        let serve = async {
            tokio::select! {
                biased;
                whole = session.head() => whole.ok().filter(|whole| *whole)?,
                () = until_told(self.close_idle.clone()) => return None,
            };
            self.app.process_new(Box::new(session), shutdown).await
        };
        heads::within(head, connection, serve).await
    }

    /// Called when nothing is accepted any more; closes what is idle.
    async fn cleanup(&self) {
        let _first = self.open.closed.set(Instant::now());
        let mut close_idle = self.close_idle.clone();
        let _told = close_idle.wait_for(|close| *close).await.is_ok();
        self.app.cleanup().await;
    }
}

impl Open {
    pub fn new(gauge: IntGauge) -> Self {
        let closed = OnceLock::new();
        Self { gauge, by_address: Mutex::default(), elsewhere: Mutex::default(), closed }
    }

    /// Whether this process has no connection.
    pub fn is_empty(&self) -> bool {
        self.gauge.get() == 0
    }

    /// Whether nothing is accepted any more, and what was accepted last is counted.
    pub fn is_settled(&self) -> bool {
        self.closed.get().is_some_and(|since| since.elapsed() > SETTLE)
    }

    /// The connections that count: of this process, and of those before it.
    pub fn all(&self) -> Connections {
        let (mut overall, mut by_address) = self.elsewhere().clone();
        overall += usize::try_from(self.gauge.get()).unwrap_or(0);
        for (address, count) in self.by_address().iter() {
            *by_address.entry(*address).or_default() += count;
        }
        (overall, by_address)
    }

    /// Notes what a predecessor still has.
    pub fn set_elsewhere(&self, connections: Connections) {
        *self.elsewhere() = connections;
    }

    fn elsewhere(&self) -> MutexGuard<'_, Connections> {
        self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn by_address(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// `None`: beyond a limit. A trusted proxy's connections are those of many clients, and have no
    /// limit of their own.
    pub fn take(
        open: &Arc<Open>,
        limits: &Limits,
        proxies: &[IpNet],
        peer: Option<IpAddr>,
    ) -> Option<Self> {
        let is_proxy = |peer: &IpAddr| proxies.iter().any(|network| network.contains(peer));
        let address = peer.filter(|peer| !is_proxy(peer)).map(line);
        let elsewhere = {
            let (overall, by_address) = &*open.elsewhere();
            let here = usize::try_from(open.gauge.get()).unwrap_or(0);
            if here.saturating_add(*overall) >= limits.connections {
                return None;
            }
            address.and_then(|address| by_address.get(&address)).copied().unwrap_or(0)
        };
        if let Some(address) = address {
            let mut by_address = open.by_address();
            let here = by_address.get(&address).copied().unwrap_or(0);
            if here.saturating_add(elsewhere) >= limits.connections_per_ip {
                return None;
            }
            by_address.insert(address, here + 1);
        }
        open.gauge.inc();
        Some(Self { open: Arc::clone(open), address })
    }
}

/// What one client has to itself: an address, or a network of IPv6, of which every line has one.
fn line(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let network = u128::from(address) & (u128::MAX << 64);
            IpAddr::V6(network.into())
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.open.gauge.dec();
        let Some(address) = self.address else { return };
        let mut by_address = self.open.by_address();
        if let Some(count) = by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn few() -> (Arc<Open>, Limits) {
        let open = Arc::new(Open::new(IntGauge::new("open", "open").unwrap()));
        (open, Limits { connections: 3, connections_per_ip: 2, ..Limits::default() })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_limit_holds_until_a_connection_ends() {
        let (open, limits) = few();
        let take = |address: &str| Ticket::take(&open, &limits, &[], Some(ip(address)));
        let first = take("10.0.0.1");
        let _second = take("10.0.0.1");
        assert!(first.is_some() && take("10.0.0.1").is_none(), "two per address");
        let _third = take("10.0.0.2");
        assert!(take("10.0.0.2").is_none(), "three in all");
        drop(first);
        assert!(take("10.0.0.1").is_some());
        assert_eq!(open.by_address().len(), 2);
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let (open, limits) = few();
        let take = |address: &str| Ticket::take(&open, &limits, &[], Some(ip(address)));
        let _first = take("2001:db8::1");
        let _second = take("2001:db8::2:0:0:1");
        assert!(take("2001:db8::ffff:ffff:ffff:ffff").is_none(), "two of one /64");
        assert!(take("2001:db8:0:1::1").is_some(), "another /64");
    }

    #[test]
    fn a_trusted_proxy_has_no_limit_of_its_own() {
        let (open, limits) = few();
        let proxies = ["10.0.0.0/8".parse().unwrap()];
        let take = |address: &str| Ticket::take(&open, &limits, &proxies, Some(ip(address)));
        let [first, second, third] = [(); 3].map(|()| take("10.0.0.1"));
        assert!(first.is_some() && second.is_some() && third.is_some());
        assert!(take("10.0.0.1").is_none(), "three in all");
        assert!(open.by_address().is_empty());
    }

    #[test]
    fn a_predecessor_s_connections_count() {
        let (open, limits) = few();
        let take = |address: &str| Ticket::take(&open, &limits, &[], Some(ip(address)));
        let (one, other) = (ip("10.0.0.1"), ip("10.0.0.2"));
        open.set_elsewhere((2, HashMap::from([(one, 2)])));
        assert!(take("10.0.0.1").is_none(), "two per address");
        let ticket = take("10.0.0.2");
        assert!(ticket.is_some() && take("10.0.0.2").is_none(), "three in all");
        assert_eq!(open.all(), (3, HashMap::from([(one, 2), (other, 1)])));
        open.set_elsewhere(Connections::default());
        assert!(take("10.0.0.1").is_some());
    }
}
