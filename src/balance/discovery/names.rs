//! Names to addresses: A, AAAA and SRV records, for as long as their TTL says.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::lookup_ip::LookupIp;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::{Resolver, TokioResolver};
use log::warn;

use crate::config::Dns;

/// How long one look-up may take, whoever is asked.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long a name server may take; then it, or the next, is asked once more.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Records the resolver keeps. Each name is two or three.
const CACHED: u64 = 256;
/// Names whose last addresses are kept. A bound, should SRV records change with each answer.
const REMEMBERED: usize = 1024;
/// Addresses taken of one name. A bound, should a resolver hand out a whole zone.
const ADDRESSES: usize = 64;
/// How soon the system is asked again, which tells no TTL.
const SYSTEM: Duration = Duration::from_secs(30);

/// Looks names up. What a name led to last counts for as long as nobody can be asked.
pub struct Names {
    provider: String,
    dns: Dns,
    /// Made with the first look-up: it belongs to the runtime that uses it. Made anew after a
    /// failure, since the system's name servers may be others by then.
    resolver: Mutex<Option<Arc<TokioResolver>>>,
    last: Mutex<HashMap<String, Last>>,
}

/// What a name led to last.
#[derive(Default)]
struct Last {
    ips: Vec<IpAddr>,
    /// It has been told that it leads nowhere now.
    told: bool,
}

/// The addresses of a name, and how long they hold.
pub struct Addresses {
    pub ips: Vec<IpAddr>,
    pub holds: Duration,
}

/// One SRV record of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    pub target: String,
}

impl Names {
    pub fn new(provider: &str, dns: &Dns) -> Self {
        Self {
            provider: provider.to_owned(),
            dns: dns.clone(),
            resolver: Mutex::default(),
            last: Mutex::default(),
        }
    }

    /// The addresses of a host: itself, when it is one. IPv4 when there is any: a host without IPv6
    /// would try every IPv6 address in vain first.
    pub async fn addresses(&self, host: &str) -> Addresses {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(ip) = bare.parse() {
            return Addresses { ips: vec![ip], holds: Duration::MAX };
        }
        let asked = match tokio::time::timeout(DEADLINE, self.ask(host)).await {
            Ok(Ok(found)) if !found.ips.is_empty() => {
                let ips = found.ips.clone();
                self.with_last(host, |last| *last = Last { ips, told: false });
                return found;
            }
            Ok(Ok(_)) => format!("{host} has no address"),
            Ok(Err(why)) => format!("cannot look up {host}: {why}"),
            Err(_) => format!("looking up {host} took too long"),
        };
        self.begin_anew();
        self.with_last(host, |last| {
            if !std::mem::replace(&mut last.told, true) {
                warn!("provider {}: {asked}", self.provider);
            }
            Addresses { ips: last.ips.clone(), holds: Duration::ZERO }
        })
    }

    /// The SRV records of a name, and how long they hold.
    pub async fn records(&self, name: &str) -> Result<(Vec<Record>, Duration), String> {
        let asked = async {
            let resolver = self.resolver().ok_or("no name server is known")?;
            resolver.srv_lookup(name).await.map_err(|error| error.to_string())
        };
        let asked = tokio::time::timeout(DEADLINE, asked).await;
        let found = asked.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        let lookup = found.inspect_err(|_| self.begin_anew())?;
        Ok((records_of(&lookup), holds(lookup.valid_until())))
    }

    async fn ask(&self, host: &str) -> Result<Addresses, String> {
        let told = match self.resolver() {
            Some(resolver) => resolver.lookup_ip(host).await.map_err(|error| error.to_string()),
            None => Err("no name server is known".to_owned()),
        };
        match told {
            Ok(lookup) => Ok(addresses_of(&lookup)),
            // The system may know names in other ways, unless somebody else was to be asked.
            Err(why) if !self.dns.servers.is_empty() => Err(why),
            Err(_) => {
                let found = tokio::net::lookup_host((host, 0)).await;
                let found = found.map_err(|error| error.to_string())?.map(|at| at.ip());
                let (v4, v6): (Vec<_>, Vec<_>) = found.take(ADDRESSES).partition(IpAddr::is_ipv4);
                Ok(Addresses { ips: if v4.is_empty() { v6 } else { v4 }, holds: SYSTEM })
            }
        }
    }

    fn with_last<T>(&self, host: &str, note: impl FnOnce(&mut Last) -> T) -> T {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= REMEMBERED && !last.contains_key(host) {
            last.clear();
        }
        note(last.entry(host.to_owned()).or_default())
    }

    fn begin_anew(&self) {
        *self.resolver.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn resolver(&self) -> Option<Arc<TokioResolver>> {
        let mut made = self.resolver.lock().unwrap_or_else(PoisonError::into_inner);
        if made.is_none() {
            *made = resolver(&self.dns.servers).map(Arc::new);
        }
        made.clone()
    }
}

/// `None`: the system names no server.
fn resolver(servers: &[SocketAddr]) -> Option<TokioResolver> {
    let mut builder = if servers.is_empty() {
        Resolver::builder_tokio().ok()?
    } else {
        let servers = servers.iter().map(server).collect();
        let config = ResolverConfig::from_name_servers(servers);
        Resolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
    options.timeout = PATIENCE;
    options.attempts = 2;
    options.cache_size = CACHED;
    // A name that is not there may be there in a moment: a pool begins, or grows.
    options.negative_max_ttl = Some(Duration::from_secs(1));
    builder.build().ok()
}

fn server(address: &SocketAddr) -> NameServerConfig {
    let connection = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections =
        vec![connection(ConnectionConfig::udp()), connection(ConnectionConfig::tcp())];
    NameServerConfig::new(address.ip(), true, connections)
}

fn addresses_of(lookup: &LookupIp) -> Addresses {
    let (v4, v6): (Vec<_>, Vec<_>) = lookup.iter().take(ADDRESSES).partition(IpAddr::is_ipv4);
    let ips = if v4.is_empty() { v6 } else { v4 };
    Addresses { ips, holds: holds(lookup.valid_until()) }
}

fn records_of(lookup: &Lookup) -> Vec<Record> {
    let record = |data: &RData| match data {
        RData::SRV(record) => Some(Record {
            priority: record.priority,
            weight: record.weight,
            port: record.port,
            target: record.target.to_utf8().trim_end_matches('.').to_ascii_lowercase(),
        }),
        _ => None,
    };
    lookup.answers().iter().filter_map(|answer| record(&answer.data)).collect()
}

fn holds(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}
