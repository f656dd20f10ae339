//! The mock on a socket: reads a request, has it answered, and writes the reply at the pace it was
//! told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use log::debug;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ReusedHttpStream};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::ask::{Outcome, Serial};
use super::desk::{Desk, Facts};
use super::fault::{Fate, Fault};
use super::files;
use super::form::Form;
use super::options::Options;
use super::reply::{Body, Reply};
use super::route::{self, Endpoint};

/// The largest JSON body.
const BODY: usize = 64 * 1024 * 1024;
/// Seconds an idle connection stays open.
const IDLE: u64 = 75;
/// How long one read or write may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long the rest of an unwanted body is read, so that the refusal is not lost in a reset.
const DRAIN: Duration = Duration::from_secs(5);
/// When a request that is never answered ends, if its caller waits that long.
const FOREVER: Duration = Duration::from_hours(1);

/// The mock as an HTTP application of pingora's.
pub struct App {
    desk: Desk,
    fault: Fault,
    options: Options,
    keep_alive: bool,
    /// What tells this mock's ids from another's.
    mark: u32,
    calls: AtomicU32,
}

impl App {
    /// A mock that behaves so.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let now = now();
        Self {
            desk: Desk::new(&options, now.as_secs()),
            fault: Fault::new(options.fail),
            options,
            keep_alive: true,
            mark: now.subsec_nanos(),
            calls: AtomicU32::new(0),
        }
    }

    /// The same mock, closing the connection after each reply.
    pub(super) fn without_keep_alive(self) -> Self {
        Self { keep_alive: false, ..self }
    }

    /// Answers one request; false when the connection is to be dropped.
    async fn exchange(&self, session: &mut ServerSession) -> pingora::Result<bool> {
        let serial = Serial { mock: self.mark, call: self.calls.fetch_add(1, Ordering::Relaxed) };
        let head = session.req_header();
        let method = head.method.clone();
        let found = route::find(&method, head.uri.path());
        let (endpoint, reply) = match found {
            Ok((endpoint, id)) => {
                let outcome = self.answer(session, endpoint, &id, serial).await?;
                (Some(endpoint), outcome.unwrap_or_else(|refusal| refusal))
            }
            Err(refusal) => (None, refusal),
        };

        sleep(self.options.delay).await;
        match self.fault.next(&method, reply) {
            Fate::Sent(reply) => {
                let reply = match endpoint {
                    Some(endpoint) if reply.status >= 400 => endpoint.phrase(reply),
                    _ => reply,
                };
                self.write(session, serial, reply, usize::MAX).await?;
                session.drain_request_body().await?;
                Ok(true)
            }
            Fate::Cut(reply, after) => {
                self.write(session, serial, reply, after).await.map(|()| false)
            }
            Fate::Withheld => {
                // An error is what says that the caller has left.
                let _ = timeout(FOREVER, session.read_body_or_idle(true)).await;
                Ok(false)
            }
        }
    }

    /// Reads the request and has it answered.
    async fn answer(
        &self,
        session: &mut ServerSession,
        endpoint: Endpoint,
        id: &str,
        serial: Serial,
    ) -> pingora::Result<Outcome> {
        if !matches!(endpoint, Endpoint::Health) && !self.admits(session) {
            let message = "Incorrect API key provided";
            return Ok(Err(Reply::refusal(401, "AuthenticationError", message, None)));
        }
        if session.get_header_bytes("expect").eq_ignore_ascii_case(b"100-continue") {
            session.write_continue_response().await?;
        }
        let query = session.req_header().uri.query().unwrap_or_default();
        let events = query.split('&').any(|member| member == "alt=sse");
        let facts = Facts { serial, now: now().as_secs(), events };
        match endpoint {
            // A file is kept to be read again; audio is heard and forgotten.
            Endpoint::Upload => self.read_form(session, endpoint, facts, files::BYTES).await,
            Endpoint::Transcribe => self.read_form(session, endpoint, facts, 0).await,
            _ => {
                let body = read_json(session).await?;
                Ok(body.and_then(|body| self.desk.answer(endpoint, id, facts, body)))
            }
        }
    }

    /// Whether the request carries the key, if one is needed.
    fn admits(&self, session: &ServerSession) -> bool {
        let Some(key) = self.options.key.as_deref().map(str::as_bytes) else { return true };
        let bearer = session.get_header_bytes("authorization");
        let bearer = bearer.strip_prefix(b"Bearer ").unwrap_or_default();
        let other = |name: &str| session.get_header_bytes(name) == key;
        bearer == key || ["x-api-key", "api-key", "x-goog-api-key"].into_iter().any(other)
    }

    async fn read_form(
        &self,
        session: &mut ServerSession,
        endpoint: Endpoint,
        facts: Facts,
        keep: usize,
    ) -> pingora::Result<Outcome> {
        let content_type =
            String::from_utf8_lossy(session.get_header_bytes("content-type")).into_owned();
        let mut form = match Form::new(&content_type, keep) {
            Ok(form) => form,
            Err(refusal) => return Ok(Err(refusal)),
        };
        while let Some(chunk) = session.read_request_body().await? {
            if let Err(refusal) = form.push(&chunk) {
                return Ok(Err(refusal));
            }
        }
        Ok(self.desk.take(endpoint, facts, form))
    }

    /// Writes a reply, at most so many pieces of its stream.
    async fn write(
        &self,
        session: &mut ServerSession,
        serial: Serial,
        reply: Reply,
        most: usize,
    ) -> pingora::Result<()> {
        let mut head = ResponseHeader::build(reply.status, Some(8))?;
        head.insert_header("content-type", reply.content_type)?;
        match session.get_header("x-request-id").cloned() {
            Some(id) => head.insert_header("x-request-id", id)?,
            None => head.insert_header("x-request-id", serial.id("req_"))?,
        }
        for (name, value) in reply.headers {
            head.insert_header(name, value)?;
        }
        let pieces = match reply.body {
            Body::Whole(body) => {
                head.insert_header("content-length", body.len())?;
                session.write_response_header(Box::new(head)).await?;
                return session.write_response_body(body, true).await;
            }
            Body::Stream(pieces) => pieces,
        };
        if !session.is_http2() {
            head.insert_header("transfer-encoding", "chunked")?;
        }
        session.write_response_header(Box::new(head)).await?;
        for (index, piece) in pieces.iter().take(most).enumerate() {
            if index > 0 && !self.options.interval.is_zero() {
                sleep(self.options.interval).await;
            }
            session.write_response_body(piece.clone(), false).await?;
        }
        if most >= pieces.len() {
            session.write_response_body(Bytes::new(), true).await
        } else {
            Ok(())
        }
    }
}

#[async_trait]
impl HttpServerApp for App {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        session.set_write_timeout(Some(PATIENCE));
        match session.read_request().await {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                debug!("mock: a request cannot be read: {error}");
                let _ = session.respond_error(400).await;
                return None;
            }
        }
        session.set_read_timeout(Some(PATIENCE));
        session.set_total_drain_timeout(Some(DRAIN));
        // Reading the request has set what its `connection` header asks for, without a bound.
        let keep = self.keep_alive && session.get_keepalive().is_some() && !*shutdown.borrow();
        session.set_keepalive(keep.then_some(IDLE));
        match self.exchange(&mut session).await {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                debug!("mock: the caller has left: {error}");
                return None;
            }
        }
        let settings = HttpPersistentSettings::for_session(&session);
        let stream = session.finish().await.ok()??;
        Some(ReusedHttpStream::from_reusable_stream(stream, settings))
    }
}

/// Reads a body of JSON; none is null.
async fn read_json(session: &mut ServerSession) -> pingora::Result<Result<Value, Reply>> {
    let mut body = BytesMut::new();
    while let Some(chunk) = session.read_request_body().await? {
        if body.len() + chunk.len() > BODY {
            return Ok(Err(Reply::refusal(413, "RequestTooLarge", "The body is too large", None)));
        }
        body.extend_from_slice(&chunk);
    }
    if body.is_empty() {
        return Ok(Ok(Value::Null));
    }
    let value = serde_json::from_slice(&body);
    Ok(value.map_err(|error| Reply::bad_request(&format!("The body is not JSON: {error}"), None)))
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
