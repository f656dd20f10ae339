//! Door 2, the control plane: what operators ask, and what they change.
//!
//! Pingora owns the listener and hands each request over; an `axum` router below `/admin/v1` answers it
//! (`router`), once it is clear who asks and what they may do (`authorize`). Keys and users are records
//! of the store (`records`). Providers and models of the store (`items`) are checked with the whole
//! configuration before they are written, and their secrets lie there sealed (`seal`).

mod audit;
mod authorize;
mod caller;
mod configuration;
mod desk;
pub mod dynamic;
mod given;
mod items;
mod keys;
mod models;
mod moment;
mod operations;
mod page;
mod providers;
mod records;
mod refusal;
mod router;
pub mod seal;
pub mod shape;
mod shown;
mod throttle;
mod usage;
mod users;

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use tower::ServiceExt as _;

use self::desk::From;
pub use self::desk::{Desk, Steward};
pub use self::items::shelf;
use self::refusal::Refusal;
pub use self::usage::cell as csv_cell;
use crate::telemetry;

/// What an operator may send at once.
pub const LARGEST: usize = 1 << 20;
/// How long sending it may take.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long an answer may take to be put together: the store has a few seconds for each of its parts.
const WORK: Duration = Duration::from_mins(1);
/// The longest answer: ten thousand rows of usage are well below.
const LONGEST: usize = 64 << 20;
/// The longest request id taken over from a caller, in bytes.
const LONGEST_ID: usize = 128;
/// A body nobody reads is let pass when it is at most so long, and comes soon.
const SKIPPED: usize = 64 << 10;
const SKIP: Duration = Duration::from_millis(500);
/// What every answer says to browsers and to those between.
const ALWAYS: [(HeaderName, &str); 3] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
];
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The admin API; and on the listener of its own `/metrics` and `/health`.
pub struct Admin {
    desk: Arc<Desk>,
    metrics: Arc<telemetry::Metrics>,
    router: Router,
}

impl Admin {
    pub fn new(desk: Arc<Desk>, metrics: Arc<telemetry::Metrics>) -> Self {
        Self { router: router::router(Arc::clone(&desk)), desk, metrics }
    }

    /// Answers a request, whichever listener it came from.
    pub async fn answer(&self, request: Request<Bytes>, from: Option<IpAddr>) -> Response<Bytes> {
        let mut request = request.map(Body::from);
        if let Some(from) = from {
            request.extensions_mut().insert(From(from));
        }
        let work = async {
            let answer = self.router.clone().oneshot(request).await;
            let answer = answer.unwrap_or_else(|never| match never {});
            let (head, body) = answer.into_parts();
            let body = to_bytes(body, LONGEST).await;
            body.map(|body| Response::from_parts(head, body)).ok()
        };
        // A panic costs its request, and nothing else.
        let contained = AssertUnwindSafe(tokio::time::timeout(WORK, work)).catch_unwind().await;
        marked(match contained {
            Ok(Ok(Some(answer))) => answer,
            Ok(Err(_late)) => Refusal::store_away().into_bytes(),
            Ok(Ok(None)) | Err(_) => Refusal::internal().into_bytes(),
        })
    }

    /// Whether to read the body of a request with this head; or what to answer without it, to whom
    /// may not ask.
    pub fn wants_body(
        &self,
        head: &Request<()>,
        from: Option<IpAddr>,
    ) -> Result<bool, Box<Response<Bytes>>> {
        let wanted = authorize::wants_body(&self.desk, head, from.map(From));
        wanted.map_err(|refusal| Box::new(marked(refusal.into_bytes())))
    }

    /// What is answered on the listener of its own.
    async fn respond(&self, session: &mut ServerSession) -> Response<Bytes> {
        let request = session.req_header();
        let get = request.method == Method::GET;
        match request.uri.path() {
            "/metrics" if get => {
                self.desk.snapshot.load().note_health(&self.metrics);
                let kind = "text/plain; version=0.0.4; charset=utf-8";
                plain(kind, self.metrics.render())
            }
            "/health" if get => plain("application/json", br#"{"status":"ok"}"#.to_vec()),
            _ => {
                let from = session.client_addr().and_then(|address| address.as_inet());
                let from = from.map(std::net::SocketAddr::ip);
                let mut head = Request::new(());
                head.method_mut().clone_from(&request.method);
                head.uri_mut().clone_from(&request.uri);
                head.headers_mut().clone_from(&request.headers);
                let read = match self.wants_body(&head, from) {
                    Ok(true) => read(session).await.map_err(Refusal::into_bytes).map_err(marked),
                    Ok(false) => Ok(Bytes::new()),
                    Err(refused) => Err(*refused),
                };
                if !session.is_body_done() && !skip(session).await {
                    session.set_keepalive(None);
                }
                match read {
                    Ok(body) => self.answer(head.map(|()| body), from).await,
                    Err(refused) => refused,
                }
            }
        }
    }
}

/// The listener of its own.
pub struct Listener(pub Arc<Admin>);

#[async_trait]
impl ServeHttp for Listener {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let id = request_id(session.req_header().headers.get(&REQUEST_ID));
        let head = session.req_header().method == Method::HEAD;
        let (mut parts, body) = self.0.respond(session).await.into_parts();
        parts.headers.insert(REQUEST_ID.clone(), id);
        if !head {
            parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        Response::from_parts(parts, if head { Vec::new() } else { body.to_vec() })
    }
}

/// A body, bounded in size and time.
async fn read(session: &mut ServerSession) -> Result<Bytes, Refusal> {
    let declared = session.get_header(header::CONTENT_LENGTH);
    let declared = declared.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > LARGEST) {
        return Err(Refusal::too_large(LARGEST));
    }
    session.set_read_timeout(Some(PATIENCE));
    let mut body = BytesMut::new();
    let whole = async {
        while let Some(piece) =
            session.read_request_body().await.map_err(|_| Refusal::too_slow())?
        {
            if body.len().saturating_add(piece.len()) > LARGEST {
                return Err(Refusal::too_large(LARGEST));
            }
            body.extend_from_slice(&piece);
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, whole).await.map_err(|_| Refusal::too_slow())??;
    Ok(body.freeze())
}

/// Lets a short body that nobody reads pass by, so that the connection can live on; whether it has.
async fn skip(session: &mut ServerSession) -> bool {
    let declared = session.get_header(header::CONTENT_LENGTH);
    let declared = declared.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if declared.is_none_or(|length| length > SKIPPED) {
        return false;
    }
    let rest = async { while let Ok(Some(_)) = session.read_request_body().await {} };
    tokio::time::timeout(SKIP, rest).await.is_ok() && session.is_body_done()
}

/// With what every answer says.
fn marked(mut answer: Response<Bytes>) -> Response<Bytes> {
    for (name, value) in ALWAYS {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

fn plain(kind: &'static str, body: Vec<u8>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// The caller's id when it is a sane one, else a new one.
fn request_id(given: Option<&HeaderValue>) -> HeaderValue {
    let sane = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
    let given = given.filter(|id| (1..=LONGEST_ID).contains(&id.len()));
    if let Some(id) = given.filter(|id| id.as_bytes().iter().all(sane)) {
        return id.clone();
    }
    let id = hex::encode(rand::random::<u128>().to_be_bytes());
    HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("none"))
}
