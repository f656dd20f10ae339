//! Door 1, the data plane: a request's way through pingora's phases, in the order of its life.

mod abuse;
mod account;
mod address;
mod admit;
mod affinity;
mod arrive;
mod attempt;
mod authenticate;
mod body;
mod buffered;
mod clock;
mod contain;
mod context;
mod cors;
mod cross;
mod cut;
mod edge;
mod finish;
mod forward;
mod heads;
mod history;
mod hold;
mod inspect;
mod local;
mod me;
mod models;
mod moderate;
mod note;
mod objects;
mod operators;
mod queue;
mod refusal;
mod rescue;
mod respond;
mod retell;
mod sign;
mod spool;
mod stand_in;
mod standing;
mod stream;
mod temporary;
mod trace;
mod tunnel;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use tokio::sync::watch;

use self::admit::Admitted;
use self::contain::{contain, contained};
pub use self::context::Context;
use self::cut::Cut;
pub use self::cut::until_told;
pub use self::edge::{CONNECTION, Connection};
pub use self::moderate::Moderators;
pub use self::operators::Operators;
pub use self::rescue::answer_unread;
use crate::access::{History, Owners, Registry};
use crate::audit::Audit;
use crate::config::Privacy;
use crate::ledger::UsageBook;
use crate::routing::Endpoint;
use crate::snapshot::{LastReload, Snapshot};
use crate::telemetry::{AccessLog, Entry, Metrics, Spans};

/// The longest request id taken over from a caller, in bytes.
const LONGEST_ID: usize = 128;
/// What a request's id is looked for by: a name in text would be read anew each time.
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Everything a request needs.
pub struct Gateway {
    /// The configuration in force.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub metrics: Arc<Metrics>,
    /// Who made which object at a provider.
    pub owners: Arc<Owners>,
    /// Responses that callers may go on from, where their providers keep none.
    pub history: Arc<History>,
    /// The keys and users of the store.
    pub registry: Arc<Registry>,
    /// What was used, until it is in the store.
    pub usage: Arc<UsageBook>,
    /// Who gets a record of each answered request.
    pub audit: Arc<Audit>,
    /// Who answers operators that come through the data listeners.
    pub operators: Option<Operators>,
    /// Lines of the access log, until they are written.
    pub access_log: Arc<AccessLog>,
    /// The spans of requests, until they are sent.
    pub spans: Arc<Spans>,
    /// Who is asked whether what a request says is harmless.
    pub moderators: Moderators,
    /// False while draining.
    pub ready: Arc<AtomicBool>,
    /// Turns true when streams must end.
    pub cut: watch::Receiver<bool>,
    /// How the last reload ended.
    pub last_reload: Arc<LastReload>,
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
        contain(|| self.begin(session, ctx))
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<bool> {
        contained(self.receive(session, ctx)).await
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut Self::CTX,
    ) -> Result<Box<HttpPeer>> {
        if ctx.course.queued.is_some() {
            // Boxed: most requests never wait.
            contained(Box::pin(queue::wait(session, ctx, self))).await?;
        }
        contain(|| {
            let Some(attempt) = ctx.course.next.take() else {
                return Error::e_explain(ErrorType::InternalError, "no attempt was chosen");
            };
            fault!("proxy::upstream_peer", |_| Error::e_explain(ErrorType::InternalError, "fault"));
            let mut peer = attempt.peer();
            if ctx.endpoint == Some(Endpoint::Realtime) && ctx.hold.is_some() {
                // Pingora would bound the silence of a WebSocket as it does that of an answer.
                peer.options.read_timeout = None;
            }
            if let Some(trace) = &mut ctx.trace {
                trace.attempt(&attempt);
            }
            ctx.course.attempts += 1;
            ctx.course.current = Some(attempt);
            Ok(Box::new(peer))
        })
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        contain(|| forward::write_request(ctx, &self.metrics, request))
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        contain(|| respond::judge_head(ctx, &self.metrics, head))
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
        if !self.ready.load(Relaxed) {
            // The drain may have begun since the request did. A held session sees to it itself.
            session.set_keepalive(None);
        }
        contain(|| {
            respond::write_head(ctx, head)?;
            objects::forget(&self.owners, ctx);
            Ok(())
        })
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Self::CTX,
    ) -> Result<Option<Duration>> {
        contain(|| {
            respond::write_chunk(ctx, &self.metrics, body, end)?;
            if let Some(bytes) = body.as_ref().filter(|_| ctx.note.wanted) {
                note::answer(ctx, bytes);
            }
            objects::remember(&self.owners, ctx);
            Ok(None)
        })
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
        finish::finish(session, ctx);
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

impl Gateway {
    /// When what goes on for long must end.
    fn cut_off(&self) -> Cut {
        Cut::new(self.cut.clone(), Arc::clone(&self.ready))
    }

    /// Readies a request for its way.
    fn begin(&self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        ctx.activate(&self.metrics, &self.access_log);
        ctx.method = session.req_header().method.clone();
        let request = session.req_header();
        ctx.note.audit = self.audit.is_enabled().then(|| Arc::clone(&self.audit));
        if let Some(tracing) = &ctx.snapshot.config.tracing {
            ctx.trace = trace::begin(&request.headers, tracing, &self.spans);
        }
        let told = ctx.trace.is_some() || ctx.snapshot.config.access_log.is_some();
        ctx.note.wanted = told || ctx.note.audit.is_some() || Entry::is_wanted();
        if ctx.note.wanted {
            ctx.note.head(&request.headers);
        }
        ctx.request_id = request_id(request);
        ctx.caller = admit::caller(request.uri.path(), &request.headers);
        fault!("proxy::begin", |_| Error::e_explain(ErrorType::InternalError, "fault"));
        let config = &ctx.snapshot.config;
        if ctx.snapshot.is_strict_at(|| local_address(session)) {
            ctx.privacy = Privacy::STRICT;
        }
        if ctx.privacy.log_client_ip {
            let peer = session.client_addr().and_then(|address| address.as_inet());
            let headers = &session.req_header().headers;
            ctx.client = peer.map(|peer| edge::client(peer.ip(), headers, &config.trusted_proxies));
        }
        // Pingora would keep an idle connection for ever after its first request. HTTP/1.0 closes
        // unless it said otherwise, and then pingora has no bound to offer.
        if !self.ready.load(Relaxed) {
            // Draining: this answer is the connection's last, and says so.
            session.set_keepalive(None);
        } else if session.req_header().version != http::Version::HTTP_10 {
            session.set_keepalive(Some(config.timeouts.client_idle.as_secs()));
        }
        session.set_write_timeout(Some(config.timeouts.client_write));
        session.set_read_timeout(Some(config.timeouts.request_body));
        edge::check(session, config.limits.headers).or_else(|refusal| {
            ctx.refusal = Some(refusal);
            Error::e_explain(ErrorType::InvalidHTTPHeader, "a head that is refused")
        })
    }

    /// Takes a request in: false when it goes on to an upstream, true when it is answered.
    async fn receive(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        let refusal = match admit::admit(session, ctx, self).await {
            Ok(Admitted::Forward) => {
                affinity::note_sessions(ctx, &session.req_header().headers);
                match queue::note_rank(ctx, &session.req_header().headers) {
                    Ok(()) if attempt::advance(ctx, &self.metrics, None) => return Ok(false),
                    Ok(()) => attempt::explain(ctx),
                    Err(refusal) => refusal,
                }
            }
            Ok(Admitted::Local(local)) => match local::answer(session, ctx, local, self).await? {
                None => return Ok(true),
                Some(refusal) => refusal,
            },
            Ok(Admitted::Told(body)) => {
                local::write_json(session, ctx, body).await?;
                return Ok(true);
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
}

/// Where a request came in.
fn local_address(session: &Session) -> Option<SocketAddr> {
    session.downstream_session.server_addr()?.as_inet().copied()
}

/// 128 random bits in hexadecimal digits.
fn new_request_id() -> HeaderValue {
    let mut digits = [0; 32];
    let written = hex::encode_to_slice(rand::random::<u128>().to_be_bytes(), &mut digits).ok();
    let id = written.and_then(|()| HeaderValue::from_bytes(&digits).ok());
    id.unwrap_or_else(|| HeaderValue::from_static("none"))
}

/// The caller's id when it is a sane one, else a new one.
fn request_id(request: &RequestHeader) -> HeaderValue {
    let sane = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
    let given = request.headers.get(&REQUEST_ID);
    let given = given.filter(|id| (1..=LONGEST_ID).contains(&id.len()));
    if let Some(id) = given.filter(|id| id.as_bytes().iter().all(sane)) {
        return id.clone();
    }
    new_request_id()
}
