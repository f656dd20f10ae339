//! The held session: how a body can choose its upstream, and a request can be tried again.
//!
//! Pingora replays a body that was read before the upstream was chosen only up to 64 KiB. It lets a
//! *custom* session stand in for the client's, though, and asks it for the body at every attempt.
//! [`HeldSession`] is that stand-in: it owns the real session, hands out the body of each attempt,
//! and holds the response head back until the first bytes of an answer are known to be good.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, RETRY_AFTER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::ResponseHeader;
use pingora::protocols::http::custom::server::Session as CustomSession;
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora::{Error, ErrorType, Result};

use super::body::{Live, Outgoing, Part};
use super::clock::{Clock, Due, Patience};
use super::cut::{Cut, SHUTTING_DOWN};
use super::stand_in::{flush, left_to_the_real_session};

/// The content type of server-sent events.
pub const EVENT_STREAM: &str = "text/event-stream";
/// What a heartbeat sends: a comment, which every event-stream parser skips (WHATWG HTML §9.2.5).
const HEARTBEAT: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// Pingora's name for the error a silent upstream is reported with.
pub const SILENT_UPSTREAM: ErrorType = ErrorType::Custom("SilentUpstream");

/// What a request's context shares with the session that stands in for the client's.
#[derive(Default)]
pub struct Hold {
    shared: Mutex<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The next attempt, until the session takes it up.
    next: Option<Prepared>,
    /// The client's own session, once the one in its place is gone.
    released: Option<Box<ServerSession>>,
    progress: Progress,
    /// What the waiting head shall say of when to come back, in seconds.
    retry_after: Option<u64>,
}

/// What an attempt sends, and how its answer is waited for.
#[derive(Default)]
pub struct Prepared {
    pub body: Vec<Part>,
    pub patience: Option<Patience>,
    /// What a head says of it that goes out before its answer has come.
    pub early: Option<(HeaderName, HeaderValue)>,
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
    pub fn prepare(&self, next: Prepared) {
        self.lock().next = Some(next);
    }

    pub fn progress(&self) -> Progress {
        self.lock().progress
    }

    /// The head that still waits shall say when to come back, in seconds.
    pub fn come_back_in(&self, seconds: u64) {
        self.lock().retry_after = Some(seconds);
    }

    fn take_retry_after(&self) -> Option<u64> {
        self.lock().retry_after.take()
    }

    /// Whether an attempt is prepared and has not begun.
    pub(super) fn has_next(&self) -> bool {
        self.lock().next.is_some()
    }

    pub(super) fn take_next(&self) -> Option<Prepared> {
        self.lock().next.take()
    }

    pub(super) fn note(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.lock().progress);
    }

    /// Gives the client's session back: the one in its place is being dropped.
    pub(super) fn release(&self, real: &mut Box<ServerSession>) {
        self.lock().released = Some(std::mem::replace(real, Box::new(nobody())));
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts another session in the place of the client's, which it gets to own.
pub fn replace<S: CustomSession>(
    session: &mut Box<ServerSession>,
    with: impl FnOnce(Box<ServerSession>, Arc<Hold>) -> S,
) -> Arc<Hold> {
    let hold = Arc::new(Hold::default());
    let real = std::mem::replace(session, Box::new(nobody()));
    **session = ServerSession::new_custom(Box::new(with(real, Arc::clone(&hold))));
    hold
}

/// Gives the client's own session back, so that its connection goes on.
pub fn uninstall(session: &mut Box<ServerSession>, hold: &Hold) {
    // Dropping what stands in its place is what releases it.
    **session = nobody();
    if let Some(real) = hold.lock().released.take() {
        *session = real;
    }
}

fn nobody() -> ServerSession {
    ServerSession::Custom(Box::new(()))
}

/// Puts a held session in the place of the client's. `head`: what a heartbeat before the
/// upstream's own head commits the response with. `cut`: when it must end. `ready`: false once the
/// gateway drains, and the connection may carry no further request.
pub fn install(
    session: &mut Box<ServerSession>,
    live: Live,
    head: Option<Box<ResponseHeader>>,
    cut: Cut,
    ready: Arc<AtomicBool>,
) -> Arc<Hold> {
    replace(session, |real, hold| HeldSession {
        real,
        hold,
        outgoing: Outgoing::new(live),
        waiting: Vec::new(),
        early_head: head,
        early: None,
        stream: false,
        tail: [b'\n'; 4],
        clock: Clock::default(),
        cut,
        ready,
        progress: Progress::default(),
    })
}

/// See the module's documentation.
struct HeldSession {
    real: Box<ServerSession>,
    hold: Arc<Hold>,
    outgoing: Outgoing,
    /// The response's beginning, until it is known to be good.
    waiting: Vec<HttpTask>,
    early_head: Option<Box<ResponseHeader>>,
    /// What it says of the attempt.
    early: Option<(HeaderName, HeaderValue)>,
    /// The answer is an event stream.
    stream: bool,
    /// The last bytes written, to know whether an event is complete.
    tail: [u8; 4],
    clock: Clock,
    cut: Cut,
    ready: Arc<AtomicBool>,
    progress: Progress,
}

impl HeldSession {
    /// Takes the next attempt up: its body from the start, nothing waiting.
    fn begin_attempt(&mut self) {
        let Some(Prepared { body, patience, early }) = self.hold.take_next() else { return };
        if matches!(body.last(), Some(Part::Live)) {
            self.note(|progress| progress.unfinished = true);
        }
        self.outgoing.begin(body);
        self.waiting.clear();
        self.clock.start(patience);
        self.early = early;
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
        fault!("proxy::held_session_idle");
        loop {
            let (real, clock, cut) = (&mut self.real, &mut self.clock, &mut self.cut);
            let committed = self.progress.committed;
            let due = tokio::select! {
                biased;
                left = real.read_body_or_idle(true) => return left,
                due = std::future::poll_fn(|cx| clock.poll_due(committed, cx)) => due,
                () = cut.due() => {
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
            (false, None) => self.take_early_head()?,
        };
        if !begun && head.is_none() {
            return Ok(());
        }
        self.note(|progress| progress.heartbeating = true);
        self.begin_answer();
        if matches!(*self.real, ServerSession::H1(_)) {
            if let Some(head) = head {
                self.real.send_downstream_proxy_task(HttpTask::Header(head, false));
            }
            self.real.send_downstream_proxy_task(HttpTask::Body(Some(HEARTBEAT), false));
            return flush(&mut self.real).await;
        }
        // HTTP/2: so small a frame is written whole, or not at all when the window is closed.
        if let Some(head) = head {
            self.real.write_response_header(head).await?;
        }
        self.real.write_response_body(HEARTBEAT, false).await
    }

    /// The head goes out, and says whether the connection goes on.
    fn begin_answer(&mut self) {
        if !self.ready.load(Relaxed) {
            self.real.set_keepalive(None);
        }
    }

    fn take_early_head(&mut self) -> Result<Option<Box<ResponseHeader>>> {
        let Some(mut head) = self.early_head.take() else { return Ok(None) };
        if let Some((name, value)) = self.early.take() {
            head.insert_header(name, value)?;
        }
        Ok(Some(head))
    }

    fn waiting_head(&self) -> Option<&ResponseHeader> {
        self.waiting.iter().find_map(|task| match task {
            HttpTask::Header(head, _) => Some(&**head),
            _ => None,
        })
    }

    /// Writes what has waited, and everything from now on as it comes.
    async fn commit(&mut self) -> Result<bool> {
        let mut tasks = std::mem::take(&mut self.waiting);
        if self.progress.heartbeating {
            tasks.iter_mut().for_each(without_head);
        }
        if let Some(seconds) = self.hold.take_retry_after() {
            for task in &mut tasks {
                if let HttpTask::Header(head, _) = task {
                    head.insert_header(RETRY_AFTER, seconds)?;
                }
            }
        }
        if !self.stream {
            tell_length(&mut tasks)?;
        }
        self.begin_answer();
        self.note(|progress| progress.committed = true);
        self.clock.commit();
        self.write(tasks).await
    }

    async fn write(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        flush(&mut self.real).await?;
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

/// Tells the length of an answer that is all there. Without one pingora would write its head, its body
/// and its end each by itself.
fn tell_length(tasks: &mut [HttpTask]) -> Result<()> {
    let [HttpTask::Header(head, false), body @ ..] = tasks else { return Ok(()) };
    let ends = matches!(body.last(), Some(HttpTask::Body(_, true) | HttpTask::Done));
    if !ends || !head.headers.contains_key(TRANSFER_ENCODING) {
        return Ok(());
    }
    let mut length = 0;
    for task in body {
        match task {
            HttpTask::Body(bytes, _) => length += bytes.as_ref().map_or(0, Bytes::len),
            HttpTask::Done => {}
            _ => return Ok(()),
        }
    }
    head.remove_header(&TRANSFER_ENCODING);
    head.insert_header(CONTENT_LENGTH, length)
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
        self.hold.release(&mut self.real);
    }
}

#[async_trait]
impl CustomSession for HeldSession {
    left_to_the_real_session!();

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
            Some(next) => next.body.first(),
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
        if self.waiting.is_empty() {
            self.waiting = tasks;
        } else {
            self.waiting.append(&mut tasks);
        }
        self.stream = self.waiting_head().is_some_and(|head| is_of_type(head, EVENT_STREAM));
        if self.waiting.iter().any(is_answer) { self.commit().await } else { Ok(false) }
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        let written = self.real.response_written()?;
        self.progress.committed.then_some(written)
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, _end: bool) -> Result<()> {
        flush(&mut self.real).await?;
        self.begin_answer();
        self.note(|progress| progress.committed = true);
        self.real.write_response_header(head).await
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, _end: bool) -> Result<()> {
        flush(&mut self.real).await?;
        self.begin_answer();
        self.note(|progress| progress.committed = true);
        self.real.write_response_header_ref(head).await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        flush(&mut self.real).await?;
        self.real.write_response_body(data, end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.real.write_response_trailers(trailers).await
    }

    async fn finish(&mut self) -> Result<()> {
        flush(&mut self.real).await?;
        self.real.finish_body().await
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    async fn shutdown(&mut self, _code: u32, _why: &str) {
        self.real.shutdown().await;
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
