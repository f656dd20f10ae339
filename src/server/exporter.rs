//! Sends the spans of requests to a collector, in the background: batches of OTLP over HTTP.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue, header};
use log::{info, warn};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, OrErr, Result};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::balance::read_body;
use crate::config::Tracing;
use crate::snapshot::Snapshot;
use crate::telemetry::{Attribute, Metrics, Parcel, Span, Spans, encode_spans};

/// How long a batch gathers.
const GATHER: Duration = Duration::from_secs(1);
/// Spans of one batch, about: what comes with a request stays together.
const MANY: usize = 512;
/// How often a batch is sent before it is given up, and the pause after the first time, doubled each time.
const TRIES: u32 = 3;
const AGAIN: Duration = Duration::from_secs(1);
/// Of a collector's answer nothing is needed but its status.
const LONGEST: usize = 64 << 10;
/// Addresses of one name that are tried.
const ADDRESSES: usize = 3;

/// The one who sends spans.
pub struct Exporter {
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub spans: Arc<Spans>,
    pub metrics: Arc<Metrics>,
}

impl Exporter {
    /// For ever.
    pub async fn run(&self) {
        let mut queue = self.spans.outlet().await;
        let instance = format!("{:016x}", rand::random::<u64>());
        let mut trouble = false;
        loop {
            let (batch, leave) = gather(&mut queue).await;
            if !batch.is_empty() {
                self.send(&batch, &instance, &mut trouble, leave.is_some()).await;
            }
            if let Some(told) = leave {
                let _gone = told.send(());
            }
        }
    }

    /// Sends a batch; what goes wrong is told once, until it is well again.
    async fn send(&self, batch: &[Span], instance: &str, trouble: &mut bool, last: bool) {
        let snapshot = self.snapshot.load_full();
        let Some(tracing) = &snapshot.config.tracing else { return };
        let resource = [
            ("service.name", tracing.service_name.clone().into()),
            ("service.version", Attribute::from(env!("CARGO_PKG_VERSION"))),
            ("service.instance.id", instance.to_owned().into()),
        ];
        let body = encode_spans(&resource, batch);
        let outcome = deliver(tracing, &body, if last { 1 } else { TRIES }).await;
        let (count, host) = (batch.len() as u64, tracing.endpoint.authority());
        match outcome {
            Ok(()) => {
                self.metrics.count_spans("exported", count);
                if std::mem::take(trouble) {
                    info!("traces reach {host} again");
                }
            }
            Err(error) => {
                self.metrics.count_spans("failed", count);
                if !std::mem::replace(trouble, true) {
                    // The kind alone: pingora puts bytes of what a peer said into an error's context.
                    warn!("traces do not reach {host}: {}", error.etype.as_str());
                }
            }
        }
    }
}

/// What comes within a second of the first, or until there are many.
async fn gather(queue: &mut mpsc::Receiver<Parcel>) -> (Vec<Span>, Option<oneshot::Sender<()>>) {
    let mut batch = Vec::new();
    let mut until = None;
    while batch.len() < MANY {
        let next = match until {
            None => queue.recv().await,
            Some(until) => match timeout_at(until, queue.recv()).await {
                Ok(next) => next,
                Err(_) => break,
            },
        };
        match next {
            Some(Parcel::Request(spans)) => batch.extend(spans),
            Some(Parcel::Leave(told)) => return (batch, Some(told)),
            // The queue lives as long as its owner, who runs this.
            None => std::future::pending().await,
        }
        until.get_or_insert_with(|| Instant::now() + GATHER);
    }
    (batch, None)
}

/// Posts a batch, again when that may help.
async fn deliver(tracing: &Tracing, body: &[u8], tries: u32) -> Result<()> {
    let mut pause = AGAIN;
    for left in (0..tries).rev() {
        let answer = timeout(tracing.timeout, post(tracing, body)).await;
        let answer = answer.unwrap_or_else(|_| Error::e_explain(ErrorType::ReadTimedout, ""));
        match answer {
            Ok(200..=299) => return Ok(()),
            // What OTLP calls retryable.
            Ok(429 | 502..=504) | Err(_) if left > 0 => {}
            Ok(status) => return Error::e_explain(ErrorType::HTTPStatus(status), ""),
            Err(error) => return Err(error),
        }
        sleep(pause).await;
        pause *= 2;
    }
    Error::e_explain(ErrorType::InternalError, "a batch that was never sent")
}

/// Posts once: the status of the answer.
async fn post(tracing: &Tracing, body: &[u8]) -> Result<u16> {
    let mut session = connect(tracing).await?;
    let mut head = RequestHeader::build("POST", tracing.endpoint.path.as_bytes(), None)?;
    head.insert_header(header::HOST, tracing.endpoint.authority())?;
    head.insert_header(header::CONTENT_TYPE, "application/x-protobuf")?;
    head.insert_header(header::CONTENT_LENGTH, body.len())?;
    head.insert_header(header::USER_AGENT, concat!("forebay/", env!("CARGO_PKG_VERSION")))?;
    for (name, value) in &tracing.headers {
        let name = HeaderName::try_from(name.as_str());
        let value = HeaderValue::try_from(value.expose());
        let (Ok(name), Ok(mut value)) = (name, value) else { continue };
        value.set_sensitive(true);
        head.insert_header(name, value)?;
    }
    session.set_read_timeout(Some(tracing.timeout));
    session.set_write_timeout(Some(tracing.timeout));
    session.write_request_header(Box::new(head)).await?;
    session.write_request_body(bytes::Bytes::copy_from_slice(body), true).await?;
    session.finish_request_body().await?;
    session.read_response_header().await?;
    let status = session.response_header().map_or(0, |head| head.status.as_u16());
    let _words = read_body(&mut session, LONGEST).await;
    Ok(status)
}

/// Connects to the first address of the collector's that is there.
async fn connect(tracing: &Tracing) -> Result<HttpSession> {
    let url = &tracing.endpoint;
    let found = tokio::net::lookup_host((url.host.as_str(), url.port)).await;
    let found = found.or_err(ErrorType::ConnectNoRoute, "looking up the collector")?;
    let connector: Connector = Connector::new(None);
    let mut failed = Error::explain(ErrorType::ConnectNoRoute, "no address");
    for address in found.take(ADDRESSES) {
        let server_name = if url.https { url.host.clone() } else { String::new() };
        let mut peer = HttpPeer::new(address, url.https, server_name);
        peer.options.connection_timeout = Some(tracing.timeout / 4);
        peer.options.total_connection_timeout = Some(tracing.timeout / 2);
        match connector.get_http_session(&peer).await {
            Ok((session, _)) => return Ok(session),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}
