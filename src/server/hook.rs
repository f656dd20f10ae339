//! Tells somebody else of the audit's rows: lines of JSON, signed, sent again until they are taken.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::header;
use log::{info, warn};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, OrErr, Result};
use ring::hmac;
use tokio::time::{sleep, timeout};

use super::tireless::tireless;
use crate::audit::{Audit, Lines};
use crate::config::Webhook;
use crate::snapshot::Snapshot;

/// How soon a delivery is tried again: at first, and at most.
const AGAIN: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_mins(1);
/// Addresses of the host that are tried.
const ADDRESSES: usize = 4;
/// Moment and signature: `t=1767225600,v1=…`.
const SIGNATURE: &str = "x-forebay-signature";

/// The service.
pub struct Hook {
    pub audit: Arc<Audit>,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
}

#[async_trait]
impl BackgroundService for Hook {
    async fn start(&self, _shutdown: ShutdownWatch) {
        let Some(lines) = self.audit.lines() else { return };
        let lines = tokio::sync::Mutex::new(lines);
        let connector: Connector = Connector::new(None);
        let tell = || async {
            let mut lines = lines.lock().await;
            while let Some(some) = lines.recv().await {
                self.deliver(&connector, some).await;
            }
            std::future::pending::<()>().await;
        };
        tireless(tell).await;
    }
}

impl Hook {
    /// Delivers, for as long as it takes and somebody is to be told.
    async fn deliver(&self, connector: &Connector, lines: Lines) {
        let mut pause = AGAIN;
        loop {
            let audit = self.snapshot.load().config.audit.clone();
            let Some(webhook) = audit.and_then(|audit| audit.webhook) else { return };
            let sent = timeout(webhook.timeout, send(connector, &webhook, &lines)).await;
            let status = sent.unwrap_or_else(|_| Error::e_explain(ErrorType::ReadTimedout, ""));
            let said = match &status {
                Ok(200..=299) if pause == AGAIN => return,
                Ok(200..=299) => return info!("the audit's webhook takes rows again"),
                Ok(status) => format!("it answered {status}"),
                // The kind alone: pingora puts bytes of what a peer said into an error's context.
                Err(error) => error.etype.as_str().to_owned(),
            };
            if pause == AGAIN {
                warn!("the audit's webhook does not take rows: {said}");
            }
            if matches!(status, Ok(400..=499)) && !matches!(status, Ok(401 | 403 | 404 | 408 | 429))
            {
                // These very rows are not wanted.
                return self.audit.untold(lines.rows);
            }
            sleep(pause).await;
            pause = (pause * 2).min(MOST);
        }
    }
}

/// Sends once: the status of the answer.
async fn send(connector: &Connector, webhook: &Webhook, lines: &Lines) -> Result<u16> {
    let url = &webhook.url;
    let found = tokio::net::lookup_host((url.host.as_str(), url.port)).await;
    let found = found.or_err(ErrorType::ConnectNoRoute, "looking up the webhook")?;
    let target = if url.path.is_empty() { "/" } else { url.path.as_str() };
    let mut head = RequestHeader::build("POST", target.as_bytes(), None)?;
    head.insert_header(header::HOST, url.authority())?;
    head.insert_header(header::CONTENT_TYPE, "application/x-ndjson")?;
    head.insert_header(header::CONTENT_LENGTH, lines.text.len())?;
    head.insert_header(header::USER_AGENT, concat!("forebay/", env!("CARGO_PKG_VERSION")))?;
    if let Some(secret) = &webhook.secret {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        head.insert_header(SIGNATURE, sign(secret.expose().as_bytes(), now, &lines.text))?;
    }
    let mut failed = Error::explain(ErrorType::ConnectNoRoute, "no address");
    let (mut addresses, v6): (Vec<SocketAddr>, Vec<_>) = found.partition(SocketAddr::is_ipv4);
    addresses.extend(v6);
    for address in addresses.into_iter().take(ADDRESSES) {
        let name = if url.https { url.host.clone() } else { String::new() };
        let mut peer = HttpPeer::new(address, url.https, name);
        peer.options.total_connection_timeout = Some(webhook.timeout / 2);
        let mut session = match connector.get_http_session(&peer).await {
            Ok((session, _)) => session,
            Err(error) => {
                failed = error;
                continue;
            }
        };
        session.set_read_timeout(Some(webhook.timeout));
        session.set_write_timeout(Some(webhook.timeout));
        session.write_request_header(Box::new(head)).await?;
        session.write_request_body(lines.text.clone(), true).await?;
        session.finish_request_body().await?;
        session.read_response_header().await?;
        return Ok(session.response_header().map_or(0, |head| head.status.as_u16()));
    }
    Err(failed)
}

/// HMAC-SHA256 of the moment, a dot, and the body.
fn sign(secret: &[u8], at: u64, body: &[u8]) -> String {
    let mut signed = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    signed.update(at.to_string().as_bytes());
    signed.update(b".");
    signed.update(body);
    format!("t={at},v1={}", hex::encode(signed.sign()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_signed_as_it_is_documented() {
        // `printf '1767225600.{}\n' | openssl dgst -sha256 -hmac 0123456789abcdef`
        let signature = sign(b"0123456789abcdef", 1_767_225_600, b"{}\n");
        let expected = "450db29ce0c98595e99ecddaf384fcd4ffe265b6a58d1f090b243795d8b270e6";
        assert_eq!(signature, format!("t=1767225600,v1={expected}"));
    }
}
