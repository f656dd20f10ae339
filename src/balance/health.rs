//! Active health: pingora's TCP and HTTP checks, one per configured endpoint.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::lb::Backend;
use pingora::lb::health_check::{HealthCheck, HttpHealthCheck, TcpHealthCheck};
use pingora::{Error, ErrorType, Result};

use super::replica::Replica;
use crate::config::{self, Endpoint, Probe, UpstreamTls};

type Check = Box<dyn HealthCheck + Send + Sync>;

/// Sends each replica the check of the endpoint it belongs to: endpoints of one pool may differ
/// in host, scheme and path, while pingora's checks know one of each.
pub struct EndpointChecks {
    checks: Vec<Check>,
    probe: Probe,
}

impl EndpointChecks {
    /// `None` when the provider is not checked.
    pub fn new(
        endpoints: &[Endpoint],
        rule: &config::HealthCheck,
        tls: &UpstreamTls,
    ) -> Option<Self> {
        let (probe, path) = match rule {
            config::HealthCheck::None => return None,
            config::HealthCheck::Tcp(probe) => (*probe, None),
            config::HealthCheck::Http { probe, path } => (*probe, Some(path.as_str())),
        };
        let check = |endpoint: &Endpoint| match path {
            Some(path) => http_check(endpoint, path, tls, probe.timeout),
            None => Some(tcp_check(endpoint, probe.timeout)),
        };
        let checks: Option<Vec<Check>> = endpoints.iter().map(check).collect();
        Some(Self { checks: checks?, probe })
    }
}

fn tcp_check(_endpoint: &Endpoint, timeout: Duration) -> Check {
    let mut check = TcpHealthCheck::new();
    check.peer_template.options.connection_timeout = Some(timeout);
    check
}

fn http_check(
    endpoint: &Endpoint,
    path: &str,
    tls: &UpstreamTls,
    timeout: Duration,
) -> Option<Check> {
    let url = &endpoint.url;
    let mut check = HttpHealthCheck::new(&url.authority(), url.https);
    let path = format!("{}{path}", url.path.trim_end_matches("/v1"));
    check.req.set_uri(path.parse().ok()?);
    check.req.insert_header("user-agent", concat!("forebay/", env!("CARGO_PKG_VERSION"))).ok()?;
    let peer = &mut check.peer_template;
    peer.sni = tls.server_name.clone().unwrap_or_else(|| url.host.clone());
    peer.options.verify_cert = tls.verify;
    peer.options.verify_hostname = tls.verify;
    peer.options.connection_timeout = Some(timeout);
    peer.options.read_timeout = Some(timeout);
    peer.options.write_timeout = Some(timeout);
    Some(Box::new(check))
}

#[async_trait]
impl HealthCheck for EndpointChecks {
    async fn check(&self, target: &Backend) -> Result<()> {
        fault!("balance::health_check", |_| Error::e_explain(ErrorType::ReadError, "fault"));
        let replica = target.ext.get::<Arc<Replica>>();
        let Some(check) = replica.and_then(|replica| self.checks.get(replica.endpoint)) else {
            return Error::e_explain(ErrorType::InternalError, "a replica without an endpoint");
        };
        // Pingora bounds each read, not the whole check.
        match tokio::time::timeout(self.probe.timeout, check.check(target)).await {
            Ok(outcome) => outcome,
            Err(_) => Error::e_explain(ErrorType::ReadTimedout, "health check took too long"),
        }
    }

    fn backend_summary(&self, target: &Backend) -> String {
        format!("replica {}", target.addr)
    }

    fn health_threshold(&self, success: bool) -> usize {
        if success { self.probe.healthy_after } else { self.probe.unhealthy_after }
    }
}
