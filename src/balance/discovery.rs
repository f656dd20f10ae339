//! Endpoints to addresses: names are looked up again and again, known addresses keep their record.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use log::warn;
use pingora::lb::discovery::ServiceDiscovery;
use pingora::lb::{Backend, Extensions};
use pingora::protocols::l4::socket::SocketAddr as L4Address;
use pingora::{Error, ErrorType, Result};

use super::replica::Replica;
use crate::config::Endpoint;

/// How long one name look-up may take.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(5);
/// Addresses taken of one name. A bound, should a resolver hand out a whole zone.
const ADDRESSES_PER_NAME: usize = 64;

type Known = HashMap<(usize, SocketAddr), Arc<Replica>>;

/// Pingora's service discovery over the endpoints of one provider.
pub struct Endpoints {
    provider: String,
    given: Vec<Endpoint>,
    known: Mutex<Known>,
}

impl Endpoints {
    pub fn new(provider: &str, endpoints: &[Endpoint]) -> Self {
        Self { provider: provider.to_owned(), given: endpoints.to_vec(), known: Mutex::default() }
    }

    async fn addresses(&self, index: usize, endpoint: &Endpoint) -> Vec<SocketAddr> {
        let (host, port) = (endpoint.url.host.as_str(), endpoint.url.port);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return vec![SocketAddr::new(ip, port)];
        }
        match tokio::time::timeout(LOOKUP_DEADLINE, tokio::net::lookup_host((host, port))).await {
            Ok(Ok(found)) => preferred(found),
            Ok(Err(error)) => self.keep_known(index, &format!("cannot look up {host}: {error}")),
            Err(_) => self.keep_known(index, &format!("looking up {host} took too long")),
        }
    }

    /// A resolver that is away must not take the replicas with it.
    fn keep_known(&self, index: usize, why: &str) -> Vec<SocketAddr> {
        warn!("provider {}: {why}", self.provider);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.keys().filter(|(endpoint, _)| *endpoint == index).map(|(_, at)| *at).collect()
    }
}

/// IPv4 when there is any: a host without IPv6 would try every IPv6 address in vain first.
fn preferred(found: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let (v4, v6): (Vec<_>, Vec<_>) = found.take(ADDRESSES_PER_NAME).partition(SocketAddr::is_ipv4);
    if v4.is_empty() { v6 } else { v4 }
}

#[async_trait]
impl ServiceDiscovery for Endpoints {
    async fn discover(&self) -> Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        fault!("balance::discover", |_| Error::e_explain(ErrorType::ConnectNoRoute, "fault"));
        let mut found = Vec::new();
        for (index, endpoint) in self.given.iter().enumerate() {
            for address in self.addresses(index, endpoint).await {
                found.push((index, endpoint.weight, address));
            }
        }
        if found.is_empty() {
            return Error::e_explain(ErrorType::ConnectNoRoute, "no endpoint has an address");
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Known::with_capacity(found.len());
        let mut backends = BTreeSet::new();
        for (index, weight, address) in found {
            let key = (index, address);
            let replica =
                known.get(&key).cloned().unwrap_or_else(|| Arc::new(Replica::new(address, index)));
            next.insert(key, Arc::clone(&replica));
            let mut ext = Extensions::new();
            ext.insert(replica);
            let weight = usize::try_from(weight).unwrap_or(1);
            backends.insert(Backend { addr: L4Address::Inet(address), weight, ext });
        }
        *known = next;
        Ok((backends, HashMap::new()))
    }
}
