//! How a pool's replicas are, for whoever wants to see it.

use std::sync::Arc;

use pingora::lb::Backend;

use super::pool::{Pool, replica_of};
use super::replica::Replica;

/// Whether a replica takes requests, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Healthy,
    /// Failed its health check.
    Unhealthy,
    /// Left out for failing requests.
    Ejected,
    /// Found, and not yet known to serve.
    Joining,
    /// Not found any more: it ends what it has under way.
    Draining,
}

impl Health {
    /// All there are.
    pub const ALL: [Self; 5] =
        [Self::Healthy, Self::Unhealthy, Self::Ejected, Self::Joining, Self::Draining];

    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Ejected => "ejected",
            Self::Joining => "joining",
            Self::Draining => "draining",
        }
    }
}

/// What `/health/detailed` and the metrics tell of a replica.
pub struct ReplicaStatus {
    pub replica: Arc<Replica>,
    pub health: Health,
}

impl Pool {
    /// Every known replica, with its health.
    pub fn status(&self) -> Vec<ReplicaStatus> {
        let backends = self.backends();
        let known = backends.get_backend();
        let status = |backend: &Backend| {
            let replica = Arc::clone(replica_of(backend)?);
            let health = if !backends.ready(backend) {
                Health::Unhealthy
            } else if replica.breaker.is_ejected() {
                Health::Ejected
            } else if replica.serving.is_joining() {
                Health::Joining
            } else {
                Health::Healthy
            };
            Some(ReplicaStatus { replica, health })
        };
        let draining = |replica| ReplicaStatus { replica, health: Health::Draining };
        let leaving = self.discovery.leaving().into_iter().map(draining);
        known.iter().filter_map(status).chain(leaving).collect()
    }
}
