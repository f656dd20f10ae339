//! Active health: pingora's TCP and HTTP checks, one per URL.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use pingora::lb::Backend;
use pingora::lb::health_check::{HealthCheck, HttpHealthCheck, TcpHealthCheck};
use pingora::{Error, ErrorType, Result};

use super::replica::Replica;
use crate::config::{self, Probe, UpstreamTls, Url};

type Check = Arc<dyn HealthCheck + Send + Sync>;

/// Sends each replica the check of its URL: replicas of one pool may differ in host, scheme and path,
/// while pingora's checks know one of each.
pub struct EndpointChecks {
    rule: config::HealthCheck,
    tls: UpstreamTls,
    probe: Probe,
    /// Each URL's check, made with the first of its replicas.
    checks: Mutex<HashMap<Url, Check>>,
}

/// Checks that are kept. More URLs than that are of replicas that have left.
const KEPT: usize = 1024;

impl EndpointChecks {
    /// `None` when the provider is not checked.
    pub fn new(rule: &config::HealthCheck, tls: &UpstreamTls) -> Option<Self> {
        let probe = match rule {
            config::HealthCheck::None => return None,
            config::HealthCheck::Tcp(probe) | config::HealthCheck::Http { probe, .. } => *probe,
        };
        Some(Self { rule: rule.clone(), tls: tls.clone(), probe, checks: Mutex::default() })
    }

    /// The time between two rounds.
    pub fn interval(&self) -> Duration {
        self.probe.interval
    }

    fn of(&self, url: &Url) -> Option<Check> {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = checks.get(url) {
            return Some(Arc::clone(known));
        }
        let check: Check = match &self.rule {
            config::HealthCheck::Http { path, .. } => {
                http_check(url, path, &self.tls, self.probe.timeout)?
            }
            _ => tcp_check(self.probe.timeout),
        };
        if checks.len() >= KEPT {
            checks.clear();
        }
        checks.insert(url.clone(), Arc::clone(&check));
        Some(check)
    }
}

fn tcp_check(timeout: Duration) -> Check {
    let mut check: Box<TcpHealthCheck> = TcpHealthCheck::new();
    check.peer_template.options.connection_timeout = Some(timeout);
    let check: Box<dyn HealthCheck + Send + Sync> = check;
    Arc::from(check)
}

fn http_check(url: &Url, path: &str, tls: &UpstreamTls, timeout: Duration) -> Option<Check> {
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
    Some(Arc::new(check))
}

#[async_trait]
impl HealthCheck for EndpointChecks {
    async fn check(&self, target: &Backend) -> Result<()> {
        fault!("balance::health_check", |_| Error::e_explain(ErrorType::ReadError, "fault"));
        let replica = target.ext.get::<Arc<Replica>>();
        let Some((replica, check)) = replica.and_then(|it| Some((it, self.of(&it.url)?))) else {
            return Error::e_explain(ErrorType::InternalError, "a replica without a URL");
        };
        // Pingora bounds each read, not the whole check.
        match tokio::time::timeout(self.probe.timeout, check.check(target)).await {
            Ok(outcome) => outcome.inspect(|()| replica.serving.note_check()),
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
