//! The tunnel: what stands in for the client's session while a WebSocket passes.
//!
//! Pingora passes the bytes of an upgraded connection on. [`Tunnel`] follows the frames among them,
//! so that the gateway can end the connection as the protocol wants it: with a close frame, where
//! one may stand (RFC 6455 §5.5.1).
//!
//! It also keeps the end of the handshake, which has no body, from the upstream's half of pingora:
//! read there after a 101 that came at once, it would be taken for the end of the tunnel.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora::http::ResponseHeader;
use pingora::protocols::http::custom::server::Session as CustomSession;
use pingora::protocols::http::{HttpTask, ServerSession};
use pingora::{Error, Result};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::clock::{Clock, Patience};
use super::cut::{Cut, SHUTTING_DOWN};
use super::hold::{self, Hold, Prepared, SILENT_UPSTREAM};
use super::stand_in::{flush, left_to_the_real_session};
use crate::protocol::framing::websocket::{Frames, GOING_AWAY, Place, close};

/// How long a tunnel may be silent, both ways. No provider's session lasts longer.
const IDLE: Duration = Duration::from_hours(1);
/// How long the rest of a message is waited for. After that, a close frame between two of its
/// frames is better than none.
const REST_OF_MESSAGE: Duration = Duration::from_millis(500);
/// How much longer the rest of a frame is waited for.
const REST_OF_FRAME: Duration = Duration::from_secs(1);
/// How long a client may take to answer a close frame.
const ANSWER: Duration = Duration::from_secs(1);

/// What a close frame says.
const STOPPING: &str = "The gateway is shutting down.";
const SILENT: &str = "Nobody has said anything for long.";

/// Puts a tunnel in the place of the client's session. `cut`: when it must end.
pub fn install(session: &mut Box<ServerSession>, cut: Cut) -> Arc<Hold> {
    hold::replace(session, |real, hold| Tunnel::new(real, hold, cut, IDLE))
}

/// See the module's documentation.
struct Tunnel {
    real: Box<ServerSession>,
    hold: Arc<Hold>,
    clock: Clock,
    idle: Duration,
    cut: Cut,
    to_client: Frames,
    to_upstream: Frames,
    end: End,
}

/// How far the end of a tunnel has come.
#[derive(Clone, Copy)]
enum End {
    /// Bytes pass.
    Open,
    /// The client is told `why` as soon as a close frame may stand; until then bytes pass.
    Due {
        why: &'static str,
        whole_messages_until: Instant,
    },
    /// It was told, and nothing passes any more. Its answer is waited for.
    Told {
        until: Instant,
        upstream: Option<&'static str>,
    },
    Over,
}

/// What a tunnel waits for.
enum Event {
    /// The client's bytes, or its end.
    Sent(Option<Bytes>),
    Cut,
    Silence,
}

impl Tunnel {
    fn new(real: Box<ServerSession>, hold: Arc<Hold>, cut: Cut, idle: Duration) -> Self {
        let (to_client, to_upstream) = (Frames::default(), Frames::default());
        let clock = Clock::default();
        Self { real, hold, clock, idle, cut, to_client, to_upstream, end: End::Open }
    }

    /// The next event of a tunnel, or of a handshake.
    async fn next(&mut self, none_expected: bool) -> Result<Event> {
        let upgraded = self.real.was_upgraded();
        // An answer that is no tunnel ends by itself.
        let cuttable = upgraded || !self.hold.progress().committed;
        let (real, clock, cut) = (&mut self.real, &mut self.clock, &mut self.cut);
        tokio::select! {
            biased;
            () = cut.due(), if cuttable => Ok(Event::Cut),
            sent = real.read_body_or_idle(none_expected) => sent.map(Event::Sent),
            _ = std::future::poll_fn(|cx| clock.poll_due(upgraded, cx)) => Ok(Event::Silence),
        }
    }

    /// Notes what passes to the upstream.
    fn sent(&mut self, bytes: Option<Bytes>) -> Option<Bytes> {
        self.clock.asked();
        if let Some(bytes) = &bytes
            && self.real.was_upgraded()
        {
            self.to_upstream.read_all(bytes);
        }
        bytes
    }

    fn end_soon(&mut self, why: &'static str) {
        self.end = End::Due { why, whole_messages_until: Instant::now() + REST_OF_MESSAGE };
    }

    /// Whether this is the moment to tell the client of the end.
    fn may_tell(&self) -> bool {
        let End::Due { whole_messages_until, .. } = self.end else { return false };
        match self.to_client.place() {
            _ if self.to_client.is_closed() => true,
            Place::Between => true,
            Place::WithinMessage => Instant::now() >= whole_messages_until,
            Place::WithinFrame => false,
        }
    }

    /// Queues the close frame, unless the upstream's own has passed.
    fn tell(&mut self) {
        let End::Due { why, .. } = self.end else { return };
        if !self.to_client.is_closed() {
            let frame = close(GOING_AWAY, why, None);
            self.real.send_downstream_proxy_task(HttpTask::UpgradedBody(Some(frame), false));
        }
        // What the client says from here on does not reach the upstream.
        let told = self.to_upstream.place() == Place::WithinFrame || self.to_upstream.is_closed();
        let upstream = (!told).then_some(why);
        self.end = End::Told { until: Instant::now() + ANSWER, upstream };
    }

    /// Writes the close frame and waits for the client's: closed with bytes unread, the connection
    /// would be reset, and the client might never see why. What the upstream is told.
    async fn hear_out(&mut self) -> Option<Bytes> {
        let End::Told { until, upstream } = self.end else { return None };
        let answer = async {
            flush(&mut self.real).await?;
            while !self.to_upstream.is_closed() {
                let Some(bytes) = self.real.read_request_body().await? else { break };
                self.to_upstream.read_all(&bytes);
            }
            Ok::<_, Box<Error>>(())
        };
        let _answered = timeout_at(until, answer).await;
        self.end = End::Over;
        upstream.map(|why| close(GOING_AWAY, why, Some(rand::random())))
    }

    /// What of `tasks` the client gets: all, or what comes before the end.
    fn passed(&mut self, tasks: Vec<HttpTask>) -> Vec<HttpTask> {
        let mut passed = Vec::with_capacity(tasks.len());
        for task in tasks {
            let HttpTask::UpgradedBody(Some(bytes), end) = task else {
                passed.push(task);
                continue;
            };
            let mut read = 0;
            while let Some(rest) = bytes.get(read..).filter(|rest| !rest.is_empty()) {
                read += self.to_client.read(rest);
                if self.may_tell() {
                    passed.push(HttpTask::UpgradedBody(Some(bytes.slice(..read)), false));
                    return passed;
                }
            }
            passed.push(HttpTask::UpgradedBody(Some(bytes), end));
        }
        passed
    }
}

fn is_final_head(task: &HttpTask) -> bool {
    let is_final = |head: &ResponseHeader| {
        !head.status.is_informational() || head.status == http::StatusCode::SWITCHING_PROTOCOLS
    };
    matches!(task, HttpTask::Header(head, _) if is_final(head))
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.hold.release(&mut self.real);
    }
}

#[async_trait]
impl CustomSession for Tunnel {
    left_to_the_real_session!();

    fn is_upgrade_req(&self) -> bool {
        self.real.is_upgrade_req()
    }

    fn was_upgraded(&self) -> bool {
        self.real.was_upgraded()
    }

    // === towards the upstream ===

    /// Pingora calls this once at the start of every attempt.
    fn enable_retry_buffering(&mut self) {
        let Some(Prepared { patience, .. }) = self.hold.take_next() else { return };
        let patient = |given| Patience { between_chunks: self.idle, heartbeat: None, ..given };
        self.clock.start(patience.map(patient));
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        None
    }

    fn retry_buffer_truncated(&self) -> bool {
        false
    }

    /// Before an attempt begins pingora asks about the handshake's framing; once it has begun, about
    /// whether to send the handshake's end.
    fn is_body_empty(&mut self) -> bool {
        self.hold.has_next()
    }

    fn is_body_done(&mut self) -> bool {
        matches!(self.end, End::Over) || self.real.is_body_done()
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.real.read_request_body().await
    }

    async fn read_body_or_idle(&mut self, none_expected: bool) -> Result<Option<Bytes>> {
        loop {
            match self.end {
                End::Open => match (self.next(none_expected).await?, self.real.was_upgraded()) {
                    (Event::Sent(bytes), _) => return Ok(self.sent(bytes)),
                    (Event::Cut, true) => self.end_soon(STOPPING),
                    (Event::Silence, true) => self.end_soon(SILENT),
                    (Event::Cut, false) => {
                        return Error::e_explain(SHUTTING_DOWN, "the gateway is shutting down");
                    }
                    (Event::Silence, false) => {
                        return Error::e_explain(SILENT_UPSTREAM, "the upstream is silent");
                    }
                },
                End::Due { .. } if self.may_tell() => self.tell(),
                End::Due { whole_messages_until: until, .. } => {
                    let now = Instant::now();
                    if now >= until + REST_OF_FRAME {
                        // Within a frame there is nothing to be said.
                        self.end = End::Over;
                        continue;
                    }
                    let until = if now < until { until } else { until + REST_OF_FRAME };
                    tokio::select! {
                        sent = self.real.read_body_or_idle(none_expected) => {
                            return sent.map(|bytes| self.sent(bytes));
                        }
                        () = sleep_until(until) => {}
                    }
                }
                End::Told { .. } => {
                    if let Some(last) = self.hear_out().await {
                        return Ok(Some(last));
                    }
                }
                End::Over => return Ok(None),
            }
        }
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        self.real.drain_request_body().await
    }

    // === towards the client ===

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        if matches!(self.end, End::Told { .. } | End::Over) {
            let ended = tasks.iter().any(HttpTask::is_end);
            if ended {
                self.hear_out().await;
            }
            return Ok(ended);
        }
        if tasks.iter().any(is_final_head) {
            self.hold.note(|progress| progress.committed = true);
            self.clock.commit();
        }
        self.clock.answered();
        let passed = self.passed(tasks);
        let ended = self.real.response_duplex_vec(passed).await?;
        if !ended && self.may_tell() {
            self.tell();
            flush(&mut self.real).await?;
        }
        Ok(ended)
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        self.real.response_written()
    }

    async fn write_response_header(&mut self, head: Box<ResponseHeader>, _end: bool) -> Result<()> {
        self.hold.note(|progress| progress.committed = true);
        self.real.write_response_header(head).await
    }

    async fn write_response_header_ref(&mut self, head: &ResponseHeader, _end: bool) -> Result<()> {
        self.hold.note(|progress| progress.committed = true);
        self.real.write_response_header_ref(head).await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
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
    use std::sync::atomic::AtomicBool;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::sync::watch;

    use super::*;

    const HANDSHAKE: &[u8] = b"GET /v1/realtime HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\n\
        upgrade: websocket\r\n\r\n";
    const SAID: &[u8] = b"\x81\x02hi";

    /// A tunnel whose handshake has succeeded, and the client's end of it.
    async fn opened(idle: Duration) -> (Tunnel, DuplexStream, watch::Sender<bool>) {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        client.write_all(HANDSHAKE).await.unwrap();
        let mut real = ServerSession::new_http1(Box::new(server));
        assert!(real.read_request().await.unwrap());
        let (hold, told) = (Arc::new(Hold::default()), watch::Sender::new(false));
        let cut = Cut::new(told.subscribe(), Arc::new(AtomicBool::new(false)));
        let mut tunnel = Tunnel::new(Box::new(real), Arc::clone(&hold), cut, idle);
        let long = Duration::from_mins(1);
        let patience = Patience { first_byte: long, between_chunks: long, heartbeat: None };
        hold.prepare(Prepared { patience: Some(patience), ..Prepared::default() });
        assert!(tunnel.is_body_empty(), "a handshake has no body");
        tunnel.enable_retry_buffering();
        assert!(!tunnel.is_body_empty(), "and its end is not sent");
        let head = Box::new(ResponseHeader::build(101, None).unwrap());
        assert!(!tunnel.response_duplex_vec(vec![HttpTask::Header(head, false)]).await.unwrap());
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(client.read_u8().await.unwrap());
        }
        (tunnel, client, told)
    }

    fn said(bytes: &'static [u8]) -> Vec<HttpTask> {
        vec![HttpTask::UpgradedBody(Some(Bytes::from_static(bytes)), false)]
    }

    #[tokio::test]
    async fn a_silent_tunnel_ends_with_a_close_frame_each_way() {
        let (mut tunnel, mut client, _told) = opened(Duration::from_millis(50)).await;
        client.write_all(b"\x88\x80\x00\x00\x00\x00").await.unwrap();
        let passed = tunnel.read_body_or_idle(false).await.unwrap().unwrap();
        assert_eq!(passed.len(), 6, "a client's close frame passes");

        let (mut tunnel, mut client, _told) = opened(Duration::from_millis(50)).await;
        let last = tunnel.read_body_or_idle(false).await.unwrap().unwrap();
        assert_eq!((last[0], last[1] & 0x80), (0x88, 0x80), "masked");
        assert!(tunnel.is_body_done());
        assert_eq!(tunnel.read_body_or_idle(true).await.unwrap(), None);
        let mut frame = [0; 4];
        client.read_exact(&mut frame).await.unwrap();
        assert_eq!((frame[0], &frame[2..]), (0x88, &b"\x03\xe9"[..]));
    }

    #[tokio::test]
    async fn a_frame_that_does_not_end_holds_nothing_up() {
        let (mut tunnel, _client, _told) = opened(Duration::from_millis(50)).await;
        assert!(!tunnel.response_duplex_vec(said(b"\x81\x02h")).await.unwrap());
        let end = tunnel.read_body_or_idle(false);
        let end = tokio::time::timeout(Duration::from_secs(5), end).await;
        assert_eq!(end.expect("an end").unwrap(), None);
        assert!(tunnel.is_body_done());
    }

    #[tokio::test]
    async fn what_either_side_says_keeps_a_tunnel_open() {
        let (mut tunnel, mut client, _told) = opened(Duration::from_millis(300)).await;
        for turn in 0..4 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            if turn % 2 == 0 {
                assert!(!tunnel.response_duplex_vec(said(SAID)).await.unwrap());
            } else {
                client.write_all(SAID).await.unwrap();
            }
            let waited = Duration::from_millis(20);
            let read = tokio::time::timeout(waited, tunnel.read_body_or_idle(false)).await;
            assert_eq!(read.is_ok(), turn % 2 == 1, "{read:?}");
        }
    }

    #[tokio::test]
    async fn nothing_passes_once_the_client_was_told() {
        let (mut tunnel, mut client, told) = opened(Duration::from_mins(1)).await;
        assert!(!tunnel.response_duplex_vec(said(b"\x81\x02h")).await.unwrap());
        told.send_replace(true);
        let waited = Duration::from_millis(20);
        let read = tokio::time::timeout(waited, tunnel.read_body_or_idle(false)).await;
        assert!(read.is_err(), "told within a frame: {read:?}");
        assert!(!tunnel.response_duplex_vec(said(b"i\x81\x02ho")).await.unwrap());
        assert!(!tunnel.response_duplex_vec(said(SAID)).await.unwrap());
        drop(tunnel);
        let mut got = vec![0; 64];
        let mut length = client.read(&mut got).await.unwrap();
        while length < 6 || length < 6 + usize::from(got[5]) {
            length += client.read(&mut got[length..]).await.unwrap();
        }
        assert_eq!(got[..4], *SAID);
        assert_eq!((got[4], length - 6), (0x88, usize::from(got[5])), "and nothing behind it");
    }
}
