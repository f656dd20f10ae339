//! What a provider's discovery looks at, and what it finds there.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::Notify;

use super::file;
use super::kubernetes::Cluster;
use super::names::{Names, Record};
use crate::config::{self, Dns, Endpoint, Srv, Url};

/// How long what was found holds at most: then it is looked at again, which costs nothing where a
/// resolver still holds the answer.
const LONGEST: Duration = Duration::from_secs(30);
/// … and at least, however short a TTL is.
const SHORTEST: Duration = Duration::from_secs(1);
/// How soon it is looked at again when nothing, or not all, was found.
const AGAIN: Duration = Duration::from_secs(2);
/// Hosts taken of one SRV name.
const TARGETS: usize = 256;
/// The largest weight: SRV records may say 65535, and a selector counts out each unit.
const HEAVIEST: u32 = 100;

/// Where replicas are found.
pub enum Source {
    Listed { endpoints: Vec<Endpoint>, names: Names },
    Srv { given: Srv, names: Names },
    File { path: PathBuf, names: Names },
    Kubernetes(Box<Cluster>),
}

/// A replica, as it was found.
pub struct Found {
    pub url: Url,
    pub address: SocketAddr,
    pub weight: u32,
}

/// All that was found, and how long it holds.
pub struct Finding {
    pub replicas: Vec<Found>,
    pub holds: Duration,
}

impl Source {
    pub fn new(provider: &config::Provider) -> Self {
        let names = |dns: &Dns| Names::new(&provider.name, dns);
        match &provider.discovery {
            config::Discovery::Dns(dns) => {
                Self::Listed { endpoints: provider.endpoints.clone(), names: names(dns) }
            }
            config::Discovery::Srv(given) => {
                Self::Srv { given: given.clone(), names: names(&given.dns) }
            }
            config::Discovery::File(path) => {
                Self::File { path: path.clone(), names: names(&Dns::default()) }
            }
            config::Discovery::Kubernetes(given) => {
                Self::Kubernetes(Box::new(Cluster::new(&provider.name, given)))
            }
        }
    }

    /// Looks once; why not, when the source is away.
    pub async fn look(&self) -> Result<Finding, String> {
        match self {
            Self::Listed { endpoints, names } => {
                let finding = addresses(names, endpoints).await;
                if finding.replicas.is_empty() {
                    return Err("no endpoint has an address".to_owned());
                }
                Ok(finding)
            }
            Self::Srv { given, names } => {
                let (records, holds) = names.records(&given.name).await?;
                let endpoint = |(record, weight): (Record, u32)| Endpoint {
                    url: given.form.url(&record.target, record.port),
                    weight,
                };
                let endpoints: Vec<Endpoint> = targets(records).into_iter().map(endpoint).collect();
                let mut finding = addresses(names, &endpoints).await;
                if finding.replicas.is_empty() {
                    return Err(format!("no host of {} has an address", given.name));
                }
                finding.holds = finding.holds.min(holds.max(SHORTEST));
                Ok(finding)
            }
            Self::File { path, names } => Ok(addresses(names, &file::read(path).await?).await),
            Self::Kubernetes(cluster) => {
                let pods = cluster.pods().await?;
                let replica = |address: SocketAddr| Found {
                    url: cluster.given.form.url(&pods.host, address.port()),
                    address,
                    weight: 1,
                };
                let replicas = pods.addresses.into_iter().map(replica).collect();
                Ok(Finding { replicas, holds: LONGEST })
            }
        }
    }

    /// Whether its replicas are the addresses of names in the configuration.
    pub fn is_listed(&self) -> bool {
        matches!(self, Self::Listed { .. })
    }

    /// Tells when there is something new to look at, for ever. Most sources only answer.
    pub async fn watch(&self, changed: &Notify) {
        match self {
            Self::File { path, .. } => file::watch(path, changed).await,
            Self::Kubernetes(cluster) => cluster.watch(changed).await,
            Self::Listed { .. } | Self::Srv { .. } => std::future::pending().await,
        }
    }

    /// How soon to look again after a look that failed.
    pub const AGAIN: Duration = AGAIN;
}

/// The addresses of these, names looked up side by side.
async fn addresses(names: &Names, endpoints: &[Endpoint]) -> Finding {
    let look = |endpoint: &Endpoint| {
        let host = endpoint.url.host.clone();
        async move { names.addresses(&host).await }
    };
    let found = futures::future::join_all(endpoints.iter().map(look)).await;
    let (mut replicas, mut holds) = (Vec::new(), LONGEST);
    for (Endpoint { url, weight }, found) in endpoints.iter().zip(found) {
        holds = holds.min(if found.holds.is_zero() { AGAIN } else { found.holds.max(SHORTEST) });
        replicas.extend(found.ips.into_iter().map(|ip| Found {
            url: url.clone(),
            address: SocketAddr::new(ip, url.port),
            weight: *weight,
        }));
    }
    Finding { replicas, holds }
}

/// Of these records, those to be used, each with its weight: those of the lowest priority
/// (RFC 2782). A root as the target says that there is no such service.
fn targets(records: Vec<Record>) -> Vec<(Record, u32)> {
    let first = records.iter().map(|record| record.priority).min();
    let used = |record: &Record| Some(record.priority) == first && !record.target.is_empty();
    let records: Vec<Record> = records.into_iter().filter(used).take(TARGETS).collect();
    let most = records.iter().map(|record| u32::from(record.weight)).max().unwrap_or(1).max(1);
    let weight = |record: Record| {
        let own = u32::from(record.weight);
        let scaled = if most > HEAVIEST { own.saturating_mul(HEAVIEST) / most } else { own };
        (record, scaled.max(1))
    };
    records.into_iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(priority: u16, weight: u16, target: &str) -> Record {
        Record { priority, weight, port: 8000, target: target.to_owned() }
    }

    #[test]
    fn the_records_of_the_lowest_priority_are_used_by_their_weights() {
        let records = vec![
            record(20, 5, "spare"),
            record(10, 65_535, "large"),
            record(10, 6554, "small"),
            record(10, 0, "least"),
            record(10, 1, ""),
        ];
        let used: Vec<(String, u32)> =
            targets(records).into_iter().map(|(record, weight)| (record.target, weight)).collect();
        let expected = [("large", 100), ("small", 10), ("least", 1)];
        assert_eq!(used, expected.map(|(name, weight)| (name.to_owned(), weight)));
    }
}
