//! Counts the connections of clients, and refuses those beyond the limits.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use prometheus::IntGauge;

use super::heads;
use crate::config::{Limits, Timeouts};

/// An app with a bound on its connections, overall and per address.
pub struct Bounded<A> {
    app: Arc<A>,
    open: Arc<Open>,
    /// How long a new connection may say nothing.
    head: Duration,
}

struct Open {
    gauge: IntGauge,
    overall: usize,
    per_address: usize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// One open connection.
struct Ticket {
    open: Arc<Open>,
    address: Option<IpAddr>,
}

impl<A> Bounded<A> {
    pub fn new(app: A, gauge: IntGauge, limits: &Limits, timeouts: &Timeouts) -> Self {
        let open = Open {
            gauge,
            overall: limits.connections,
            per_address: limits.connections_per_ip,
            by_address: Mutex::default(),
        };
        Self { app: Arc::new(app), open: Arc::new(open), head: timeouts.request_header }
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServerApp for Bounded<A> {
    async fn process_new(
        self: &Arc<Self>,
        session: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let digest = session.get_socket_digest();
        let peer = digest.as_ref().and_then(|digest| digest.peer_addr()?.as_inet());
        // Closed without a word: to say one would take the resources that are short.
        let _ticket = Ticket::take(&self.open, peer.map(|peer| peer.ip().to_canonical()))?;
        heads::within(self.head, self.app.process_new(session, shutdown)).await
    }

    async fn cleanup(&self) {
        self.app.cleanup().await;
    }
}

impl Open {
    fn by_address(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// `None`: beyond a limit.
    fn take(open: &Arc<Open>, address: Option<IpAddr>) -> Option<Self> {
        if usize::try_from(open.gauge.get()).unwrap_or(0) >= open.overall {
            return None;
        }
        if let Some(address) = address {
            let mut by_address = open.by_address();
            let count = by_address.entry(address).or_default();
            if *count >= open.per_address {
                return None;
            }
            *count += 1;
        }
        open.gauge.inc();
        Some(Self { open: Arc::clone(open), address })
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

    #[test]
    fn each_limit_holds_until_a_connection_ends() {
        let open = Arc::new(Open {
            gauge: IntGauge::new("open", "open").unwrap(),
            overall: 3,
            per_address: 2,
            by_address: Mutex::default(),
        });
        let [one, other]: [Option<IpAddr>; 2] = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().ok());
        let first = Ticket::take(&open, one);
        let _second = Ticket::take(&open, one);
        assert!(first.is_some() && Ticket::take(&open, one).is_none(), "two per address");
        let _third = Ticket::take(&open, other);
        assert!(Ticket::take(&open, other).is_none(), "three in all");
        drop(first);
        assert!(Ticket::take(&open, one).is_some());
        assert_eq!(open.by_address().len(), 2);
    }
}
