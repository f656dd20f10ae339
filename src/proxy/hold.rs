//! The held session: how a body can choose its upstream, and a request can be tried again.
//!
//! Pingora replays a body that was read before the upstream was chosen only up to 64 KiB. It lets a
//! *custom* session stand in for the client's, though, and asks it for the body at every attempt.
//! [`HeldSession`] is that stand-in: it owns the real session, hands out the body of each attempt,
//! and holds the response head back until the first bytes of an answer are known to be good.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session as CustomSession;
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora::protocols::l4::socket::SocketAddr;
use pingora::{Error, ErrorType, Result};
use tokio::sync::watch;

use super::body::{Live, Outgoing, Part};
use super::clock::{Clock, Due, Patience};

/// The content type of server-sent events.
pub const EVENT_STREAM: &str = "text/event-stream";
/// What a heartbeat sends: a comment, which every event-stream parser skips (WHATWG HTML §9.2.5).
const HEARTBEAT: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// Pingora's name for the error a silent upstream is reported with.
pub const SILENT_UPSTREAM: ErrorType = ErrorType::Custom("SilentUpstream");
/// The error that ends a stream when the gateway cannot wait for its end.
pub const SHUTTING_DOWN: ErrorType = ErrorType::Custom("ShuttingDown");

/// What a request's context and its held session share.
#[derive(Default)]
pub struct Hold {
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The next attempt's body and patience, until the session takes them up.
    next: Option<(Vec<Part>, Option<Patience>)>,
    /// The client's own session, once the held one is gone.
    released: Option<Box<ServerSession>>,
    progress: Progress,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each says one thing, and all combine")]
pub struct Progress {
    /// Bytes the client sees as an answer have been written: too late for another attempt.
    pub committed: bool,
    /// Only a head of our own and comments have been written: failures are told in-band.
    pub heartbeating: bool,
    /// Part of the body streamed by and cannot be sent again.
    pub spent: bool,
    /// The client has not sent all of it yet.
    pub unfinished: bool,
}

impl Hold {
    /// What the next attempt sends, and how long it may take.
    pub fn prepare(&self, body: Vec<Part>, patience: Option<Patience>) {
        self.lock().next = Some((body, patience));
    }

    pub fn progress(&self) -> Progress {
        self.lock().progress
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.lock().progress);
    }
}

/// Puts a held session in the place of the client's. `head`: what a heartbeat before the
/// upstream's own head commits the response with. `cut`: turns true when a stream must end.
pub fn install(
    session: &mut Box<ServerSession>,
    live: Live,
    head: Option<Box<ResponseHeader>>,
    cut: Option<watch::Receiver<bool>>,
) -> Arc<Hold> {
    let hold = Arc::new(Hold::default());
    let real = std::mem::replace(session, Box::new(ServerSession::Custom(Box::new(()))));
    **session = ServerSession::new_custom(Box::new(HeldSession {
        real,
        hold: Arc::clone(&hold),
        outgoing: Outgoing::new(live),
        waiting: Vec::new(),
        early_head: head,
        stream: false,
        tail: [b'\n'; 4],
        clock: Clock::default(),
        cut: cut.map(until_cut),
        progress: Progress::default(),
    }));
    hold
}

/// Gives the client's own session back, so that its connection goes on.
pub fn uninstall(session: &mut Box<ServerSession>, hold: &Hold) {
    // Dropping the held session is what releases the real one.
    **session = ServerSession::Custom(Box::new(()));
    if let Some(real) = hold.lock().released.take() {
        *session = real;
    }
}

/// See the module's documentation.
struct HeldSession {
    real: Box<ServerSession>,
    hold: Arc<Hold>,
    outgoing: Outgoing,
    /// The response's beginning, until it is known to be good.
    waiting: Vec<HttpTask>,
    early_head: Option<Box<ResponseHeader>>,
    /// The answer is an event stream.
    stream: bool,
    /// The last bytes written, to know whether an event is complete.
    tail: [u8; 4],
    clock: Clock,
    cut: Option<Cut>,
    progress: Progress,
}

/// Resolves when a stream must end.
type Cut = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

fn poll_cut(cut: &mut Option<Cut>, cx: &mut Context<'_>) -> Poll<()> {
    match cut.as_mut().map(|cut| cut.as_mut().poll(cx)) {
        Some(Poll::Ready(())) => {
            // Said once; what it leads to is written through this session.
            *cut = None;
            Poll::Ready(())
        }
        _ => Poll::Pending,
    }
}

fn until_cut(mut cut: watch::Receiver<bool>) -> Cut {
    Box::pin(async move {
        if cut.wait_for(|cut| *cut).await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

impl HeldSession {
    /// Takes the next attempt up: its body from the start, nothing waiting.
    fn begin_attempt(&mut self) {
        let Some((parts, patience)) = self.hold.lock().next.take() else { return };
        if matches!(parts.last(), Some(Part::Live)) {
            self.note(|progress| progress.unfinished = true);
        }
        self.outgoing.begin(parts);
        self.waiting.clear();
        self.clock.start(patience);
    }

    fn note(&mut self, change: impl Fn(&mut Progress)) {
        change(&mut self.progress);
        self.hold.note(change);
    }

    /// The next stretch of the body; `None` at its end. While it goes out, nobody waits for an
    /// answer yet.
    async fn next_part(&mut self) -> Result<Option<Bytes>> {
        let part = self.read_part().await;
        self.clock.asked();
        part
    }

    async fn read_part(&mut self) -> Result<Option<Bytes>> {
        let piece = self.outgoing.next(&mut self.real).await?;
        if piece.as_ref().is_some_and(|piece| piece.live) {
            self.note(|progress| progress.spent = true);
        }
        Ok(piece.map(|piece| piece.bytes))
    }

    /// Waits for the client to leave, while time passes.
    async fn idle(&mut self) -> Result<Option<Bytes>> {
        loop {
            let (real, clock, cut) = (&mut self.real, &mut self.clock, &mut self.cut);
            let committed = self.progress.committed;
            let due = tokio::select! {
                biased;
                left = real.read_body_or_idle(true) => return left,
                due = std::future::poll_fn(|cx| clock.poll_due(committed, cx)) => due,
                () = std::future::poll_fn(|cx| poll_cut(cut, cx)) => {
                    return Error::e_explain(SHUTTING_DOWN, "the gateway is shutting down");
                }
            };
            match due {
                Due::Silence => {
                    return Error::e_explain(SILENT_UPSTREAM, "the upstream is silent");
                }
                Due::Heartbeat => self.beat().await?,
            }
        }
    }

    /// Sends a comment where one may stand. Survives being dropped half-way: what is queued is
    /// written by whoever writes next.
    async fn beat(&mut self) -> Result<()> {
        self.clock.beaten();
        let begun = self.progress.committed || self.progress.heartbeating;
        if (self.progress.committed && !self.stream) || !ends_event(self.tail) {
            return Ok(());
        }
        let head = match (begun, self.waiting_head()) {
            (true, _) => None,
            // The head of something else is no place for comments.
            (false, Some(head)) if !is_of_type(head, EVENT_STREAM) => return Ok(()),
            (false, Some(head)) => Some(Box::new(head.clone())),
            (false, None) => self.early_head.take(),
        };
        if !begun && head.is_none() {
            return Ok(());
        }
        self.note(|progress| progress.heartbeating = true);
        if matches!(*self.real, ServerSession::H1(_)) {
            if let Some(head) = head {
                self.real.send_downstream_proxy_task(HttpTask::Header(head, false));
            }
            self.real.send_downstream_proxy_task(HttpTask::Body(Some(HEARTBEAT), false));
            return self.flush().await;
        }
        // HTTP/2: so small a frame is written whole, or not at all when the window is closed.
        if let Some(head) = head {
            self.real.write_response_header(head).await?;
        }
        self.real.write_response_body(HEARTBEAT, false).await
    }

    fn waiting_head(&self) -> Option<&ResponseHeader> {
        self.waiting.iter().find_map(|task| match task {
            HttpTask::Header(head, _) => Some(&**head),
            _ => None,
        })
    }

    /// Finishes a heartbeat that was interrupted.
    async fn flush(&mut self) -> Result<()> {
        if self.real.has_pending_downstream_proxy_tasks() {
            self.real.write_downstream_proxy_tasks().await?;
        }
        Ok(())
    }

    /// Writes what has waited, and everything from now on as it comes.
    async fn commit(&mut self) -> Result<bool> {
        let mut tasks = std::mem::take(&mut self.waiting);
        if self.progress.heartbeating {
            tasks.iter_mut().for_each(without_head);
        }
        self.note(|progress| progress.committed = true);
        self.clock.commit();
        self.write(tasks).await
    }

    async fn write(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        self.flush().await?;
        for task in &tasks {
            if let HttpTask::Body(Some(bytes), _) = task {
                keep_tail(&mut self.tail, bytes);
            }
        }
        self.clock.answered();
        self.real.response_duplex_vec(tasks).await
    }
}

/// A head that comes after a heartbeat's has nobody to go to; its end of the response has.
fn without_head(task: &mut HttpTask) {
    if let HttpTask::Header(_, end) = task {
        *task = HttpTask::Body(None, *end);
    }
}

/// Whether these tasks hold anything the client would take for an answer.
fn is_answer(task: &HttpTask) -> bool {
    match task {
        HttpTask::Header(_, end) => *end,
        HttpTask::Body(bytes, end) => *end || bytes.as_ref().is_some_and(|bytes| !bytes.is_empty()),
        HttpTask::UpgradedBody(..) | HttpTask::Trailer(_) | HttpTask::Done => true,
        HttpTask::Failed(_) => false,
    }
}

/// A head that says nothing yet: `100 Continue` was answered here, the others are of no use.
fn is_informational(task: &HttpTask) -> bool {
    matches!(task, HttpTask::Header(head, _) if head.status.is_informational())
}

/// Whether an answer's content type is `kind`, whatever parameters it has.
pub fn is_of_type(head: &ResponseHeader, kind: &str) -> bool {
    let given = head.headers.get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    given.is_some_and(|given| given.starts_with(kind))
}

fn keep_tail(tail: &mut [u8; 4], bytes: &[u8]) {
    for byte in bytes.iter().skip(bytes.len().saturating_sub(tail.len())) {
        tail.rotate_left(1);
        if let Some(last) = tail.last_mut() {
            *last = *byte;
        }
    }
}

/// Whether the stream stands between two events.
fn ends_event(tail: [u8; 4]) -> bool {
    matches!(tail, [.., b'\n', b'\n'] | [.., b'\r', b'\r'] | [b'\r', b'\n', b'\r', b'\n'])
}

impl Drop for HeldSession {
    fn drop(&mut self) {
        let nobody = Box::new(ServerSession::Custom(Box::new(())));
        let real = std::mem::replace(&mut self.real, nobody);
        self.hold.lock().released = Some(real);
    }
}

#[async_trait]
impl CustomSession for HeldSession {
    fn req_header(&self) -> &RequestHeader {
        self.real.req_header()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.real.req_header_mut()
    }

    // === the body ===

    /// Pingora calls this once at the start of every attempt.
    fn enable_retry_buffering(&mut self) {
        self.begin_attempt();
    }

    /// The body comes through `read_body_or_idle`, in as many pieces as it has: a retry buffer
    /// would have to be one.
    fn get_retry_buffer(&self) -> Option<Bytes> {
        None
    }

    fn retry_buffer_truncated(&self) -> bool {
        false
    }

    fn is_body_done(&mut self) -> bool {
        let done = self.outgoing.is_done(&mut self.real);
        if done && self.progress.unfinished {
            self.note(|progress| progress.unfinished = false);
        }
        done
    }

    fn is_body_empty(&mut self) -> bool {
        // Asked before the attempt begins, to decide about framing.
        let shared = self.hold.lock();
        let first = match &shared.next {
            Some((parts, _)) => parts.first(),
            None => self.outgoing.first(),
        };
        match first {
            None => true,
            Some(Part::Live) => self.real.is_body_empty(),
            Some(_) => false,
        }
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.next_part().await
    }

    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if no_body_expected || self.is_body_done() {
            self.idle().await
        } else {
            self.next_part().await
        }
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        self.real.drain_request_body().await
    }

    fn body_bytes_read(&self) -> usize {
        self.real.body_bytes_read()
    }

    // === the answer ===

    async fn response_duplex_vec(&mut self, mut tasks: Vec<HttpTask>) -> Result<bool> {
        if self.progress.committed {
            return self.write(tasks).await;
        }
        tasks.retain(|task| !is_informational(task));
        let failed = tasks.iter().position(|task| matches!(task, HttpTask::Failed(_)));
        if let Some(HttpTask::Failed(error)) = failed.map(|position| tasks.swap_remove(position)) {
            return Err(error);
        }
        self.waiting.extend(tasks);
        self.stream = self.waiting_head().is_some_and(|head| is_of_type(head, EVENT_STREAM));
        if self.waiting.iter().any(is_answer) { self.commit().await } else { Ok(false) }
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        let written = self.real.response_written()?;
        self.progress.committed.then_some(written)
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, _end: bool) -> Result<()> {
        self.flush().await?;
        self.note(|progress| progress.committed = true);
        self.real.write_response_header(head).await
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, _end: bool) -> Result<()> {
        self.flush().await?;
        self.note(|progress| progress.committed = true);
        self.real.write_response_header_ref(head).await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.flush().await?;
        self.real.write_response_body(data, end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.real.write_response_trailers(trailers).await
    }

    async fn finish(&mut self) -> Result<()> {
        self.flush().await?;
        self.real.finish_body().await
    }

    fn body_bytes_sent(&self) -> usize {
        self.real.body_bytes_sent()
    }

    // === the connection ===

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.real.set_read_timeout(timeout);
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.real.get_read_timeout()
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.real.set_write_timeout(timeout);
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.real.get_write_timeout()
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.real.set_total_drain_timeout(timeout);
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.real.get_total_drain_timeout()
    }

    fn request_summary(&self) -> String {
        self.real.request_summary()
    }

    async fn shutdown(&mut self, _code: u32, _why: &str) {
        self.real.shutdown().await;
    }

    fn digest(&self) -> Option<&Digest> {
        self.real.digest()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.real.digest_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.real.client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.real.server_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.real.to_h1_raw()
    }

    // === custom messages: a feature of pingora's custom protocols that HTTP does not have ===

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn futures::Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>>
    {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _reader: Box<dyn futures::Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(
        &mut self,
        _writer: Box<dyn CustomMessageWrite>,
    ) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_complete_after_its_blank_line_however_it_was_cut() {
        let mut tail = [b'\n'; 4];
        assert!(ends_event(tail), "a stream may begin with a comment");
        for (bytes, complete) in [
            ("data: x", false),
            ("\n", false),
            ("\n", true),
            ("d", false),
            ("ata\r\n\r", false),
            ("\n", true),
        ] {
            keep_tail(&mut tail, bytes.as_bytes());
            assert_eq!(ends_event(tail), complete, "{bytes:?}");
        }
    }
}
