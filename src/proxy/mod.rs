//! Door 1, the data plane: a request's way through pingora's phases, in the order of its life.

mod admit;
mod attempt;
mod body;
mod clock;
mod context;
mod cors;
mod edge;
mod finish;
mod forward;
mod hold;
mod local;
mod objects;
mod refusal;
mod rescue;
mod respond;
mod spool;
mod stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderValue;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use tokio::sync::watch;

use self::admit::Admitted;
pub use self::context::Context;
pub use self::edge::{CONNECTION, Connection};
use self::refusal::Refusal;
use crate::access::Owners;
use crate::snapshot::Snapshot;
use crate::telemetry::Metrics;

/// The longest request id taken over from a caller, in bytes.
const LONGEST_ID: usize = 128;

/// Everything a request needs.
pub struct Gateway {
    /// The configuration in force.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub metrics: Arc<Metrics>,
    /// Who made which object at a provider.
    pub owners: Arc<Owners>,
    /// False while draining.
    pub ready: Arc<AtomicBool>,
    /// Turns true when streams must end.
    pub cut: watch::Receiver<bool>,
}

#[async_trait]
impl ProxyHttp for Gateway {
    /// Boxed: pingora's futures hold it by value, more than once, and are moved.
    type CTX = Box<Context>;

    /// Pingora calls this once a request's head is read.
    fn new_ctx(&self) -> Box<Context> {
        edge::note_head();
        Box::new(Context::new(self.snapshot.load_full()))
    }

    /// Pingora's default would put a compression module in every request's way.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<()> {
        ctx.activate(&self.metrics.active);
        ctx.request_id = request_id(session.req_header());
        let config = &ctx.snapshot.config;
        if config.privacy.log_client_ip {
            let peer = session.client_addr().and_then(|address| address.as_inet());
            let headers = &session.req_header().headers;
            ctx.client = peer.map(|peer| edge::client(peer.ip(), headers, &config.trusted_proxies));
        }
        // Pingora would keep an idle connection for ever after its first request. HTTP/1.0 closes
        // unless it said otherwise, and then pingora has no bound to offer.
        if session.req_header().version != http::Version::HTTP_10 {
            session.set_keepalive(Some(config.timeouts.client_idle.as_secs()));
        }
        session.set_write_timeout(Some(config.timeouts.client_write));
        session.set_read_timeout(Some(config.timeouts.request_body));
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<bool> {
        let refusal = match admit::admit(session, ctx, self).await {
            Ok(Admitted::Forward) => {
                if attempt::advance(ctx, &self.metrics, None) {
                    return Ok(false);
                }
                let hops = ctx.course.hops.iter();
                match hops.filter_map(|hop| hop.upstream.provider.keys.rested_in()).min() {
                    Some(rest) => Refusal::upstream_limited(rest),
                    None => Refusal::no_healthy_upstream(None),
                }
            }
            Ok(Admitted::Local(local)) => {
                let ready = self.ready.load(Relaxed);
                match local::answer(session, ctx, local, ready, &self.metrics).await? {
                    None => return Ok(true),
                    Some(refusal) => refusal,
                }
            }
            Ok(Admitted::Preflight(head)) => {
                ctx.outcome.status = head.status.as_u16();
                session.write_response_header(head, true).await?;
                return Ok(true);
            }
            Err(refusal) => refusal,
        };
        rescue::refuse(session, ctx, &refusal).await;
        Ok(true)
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        ctx: &mut Self::CTX,
    ) -> Result<Box<HttpPeer>> {
        let Some(attempt) = ctx.course.next.take() else {
            return Error::e_explain(ErrorType::InternalError, "no attempt was chosen");
        };
        let peer = attempt.peer()?;
        ctx.course.attempts += 1;
        ctx.course.current = Some(attempt);
        Ok(Box::new(peer))
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        forward::write_request(ctx, request)
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        respond::judge_head(ctx, &self.metrics, head)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        if head.status.as_u16() == 101 {
            // From here on only the provider's silence counts: a caller may listen for long.
            session.set_read_timeout(None);
        }
        respond::write_head(ctx, head)
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Self::CTX,
    ) -> Result<Option<Duration>> {
        respond::write_chunk(ctx, &self.metrics, body, end)?;
        objects::remember(&self.owners, ctx);
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Self::CTX,
        mut error: Box<Error>,
    ) -> Box<Error> {
        error.set_retry(rescue::after_connect(ctx, &self.metrics));
        error
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        _session: &mut Session,
        mut error: Box<Error>,
        ctx: &mut Self::CTX,
        reused: bool,
    ) -> Box<Error> {
        error.set_retry(rescue::after_attempt(ctx, &self.metrics, &error, reused));
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Self::CTX,
    ) -> FailToProxy {
        rescue::rescue(session, ctx, error).await
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Self::CTX) {
        if let Some(error) = error.filter(|_| ctx.outcome.failure.is_none()) {
            ctx.outcome.failure = Some(rescue::name(error));
        }
        finish::finish(session, ctx, &self.metrics);
    }

    /// Failures are told once, in the access log: pingora's own lines would carry the query, and
    /// with it a key.
    fn suppress_error_log(&self, _session: &Session, _ctx: &Self::CTX, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Self::CTX,
        _error: &Error,
        _context: pingora::proxy::ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

/// The caller's id when it is a sane one, else a new one of 128 random bits.
fn request_id(request: &RequestHeader) -> HeaderValue {
    let sane = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
    let given = request.headers.get("x-request-id");
    let given = given.filter(|id| (1..=LONGEST_ID).contains(&id.len()));
    if let Some(id) = given.filter(|id| id.as_bytes().iter().all(sane)) {
        return id.clone();
    }
    let id = hex::encode(rand::random::<u128>().to_be_bytes());
    HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("none"))
}
