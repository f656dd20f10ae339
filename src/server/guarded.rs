//! A client's connection with a guard on it: who does not take what is sent, or sends a head or
//! control frames without end, is cut off.
//!
//! Pingora has a deadline for the bodies it writes, and none for heads, the ends of bodies, and
//! HTTP/2's frames; and it reads heads of up to a megabyte.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    Stream, TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::frames::Frames;
use crate::proxy::{Connection, answer_unread};

/// A head this many times as long as is allowed gets no answer any more, and is read no further.
const NO_ANSWER: u64 = 2;
/// What of a body may arrive in the same read as the end of its head.
const READ_AHEAD: u64 = 64 << 10;

/// Room for one read of a head.
const READ: usize = 1 << 10;

/// How long a client may take to close after an HTTP/2 connection's end: what it sends meanwhile is
/// read, for unread bytes would make of the close a reset, and of what it has not read yet nothing.
const CLOSE: Duration = Duration::from_secs(1);

/// What is allowed to a connection.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// How long it may take nothing of what is sent.
    pub stall: Duration,
    /// Bytes of a request's head.
    pub head: u64,
    /// How long a head may take from its first byte on.
    pub arrival: Duration,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Guarded {
    io: Stream,
    connection: Arc<Connection>,
    allowed: Allowed,
    /// Bytes of the head that is being read, and how many there were before it.
    head: u64,
    before: u32,
    frames: Frames,
    /// What goes out in place of pingora's answer to a head it cannot read.
    answer: Option<Bytes>,
    /// What was read before pingora asked for it.
    ahead: BytesMut,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Runs once our side has ended.
    closing: Option<Pin<Box<Sleep>>>,
}

impl Guarded {
    pub fn new(io: Stream, connection: Arc<Connection>, allowed: Allowed) -> Self {
        Self {
            io,
            connection,
            allowed,
            head: 0,
            before: 0,
            frames: Frames::new(),
            answer: None,
            ahead: BytesMut::new(),
            stalled: None,
            closing: None,
        }
    }

    /// Waits until a whole head is there, or what pingora will refuse: before that, a connection
    /// takes a third of the memory. `false`: the client has left.
    pub async fn head(&mut self) -> io::Result<bool> {
        // TLS has settled the protocol, and HTTP/2 has no such head.
        if self.io.selected_alpn_proto() == Some(ALPN::H2) {
            return Ok(true);
        }
        let most = usize::try_from(self.allowed.head).unwrap_or(usize::MAX);
        while !is_whole_or_odd(&self.ahead) && self.ahead.len() <= most {
            self.ahead.reserve(READ);
            if self.io.read_buf(&mut self.ahead).await? == 0 {
                return Ok(!self.ahead.is_empty());
            }
        }
        Ok(true)
    }

    /// Pingora answers a head it cannot read before any phase of ours, with a status and nothing
    /// else. `bytes` of it: ours are written instead.
    fn answer(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let answer = self.answer.get_or_insert_with(|| {
            let status = bytes.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
            answer_unread(status.and_then(|digits| digits.parse().ok()).unwrap_or(400))
        });
        while !answer.is_empty() {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, answer))?;
            answer.advance(written);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    /// `written`, unless it has been pending for too long.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stall = self.allowed.stall;
        let timer = self.stalled.get_or_insert_with(|| Box::pin(sleep(stall)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }

    /// Waits for the client's own end, for a while.
    fn hear_out(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.closing.get_or_insert_with(|| Box::pin(sleep(CLOSE)));
        if timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let mut room = [0; READ];
        loop {
            let mut unread = ReadBuf::new(&mut room);
            let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut unread));
            if read.is_err() || unread.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }

    fn count(&mut self, read: usize) -> io::Result<()> {
        let heads = self.connection.heads.load(Relaxed);
        if heads != self.before {
            (self.head, self.before) = (0, heads);
        }
        if !self.connection.awaits_head.load(Relaxed) {
            return Ok(());
        }
        if self.head == 0 && read > 0 {
            self.connection.wait(self.allowed.arrival);
        }
        self.head = self.head.saturating_add(read as u64);
        let most = self.allowed.head.saturating_mul(NO_ANSWER).saturating_add(READ_AHEAD);
        if self.head > most { Err(io::Error::other("a head without end")) } else { Ok(()) }
    }
}

/// Whether these bytes are a whole head, or no head of HTTP/1 that could become one.
fn is_whole_or_odd(bytes: &[u8]) -> bool {
    let Some(first) = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')) else {
        return false;
    };
    let Some(head) =
        bytes.get(first..).filter(|head| head.first().is_some_and(u8::is_ascii_uppercase))
    else {
        return true;
    };
    if head.starts_with(b"PRI ") || memmem::find(head, b"\n\r\n").is_some() {
        return true;
    }
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let ended = line.len() < head.len();
    ended && (memmem::find(line, b" HTTP/1.").is_none() || memmem::find(head, b"\n\n").is_some())
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.ahead.is_empty() {
            ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        } else {
            let some = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead.split_to(some));
            if self.ahead.is_empty() {
                self.ahead = BytesMut::new();
            }
        }
        let arrived = buffer.filled().get(before..).unwrap_or_default();
        if !self.frames.allows(arrived) {
            return Poll::Ready(Err(io::Error::other("control frames without end")));
        }
        Poll::Ready(self.count(arrived.len()))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = if self.connection.awaits_head.load(Relaxed) {
            self.answer(cx, bytes)
        } else {
            Pin::new(&mut self.io).poll_write(cx, bytes)
        };
        self.watch(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.watch(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.closing.is_none() {
            let shut = Pin::new(&mut self.io).poll_shutdown(cx);
            ready!(self.watch(cx, shut))?;
        }
        if !self.frames.are_there() {
            return Poll::Ready(Ok(()));
        }
        self.hear_out(cx).map(Ok)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for Guarded {
    async fn shutdown(&mut self) {
        let _gone = tokio::time::timeout(self.allowed.stall, self.io.shutdown()).await;
    }
}

#[async_trait]
impl Peek for Guarded {
    async fn try_peek(&mut self, buffer: &mut [u8]) -> io::Result<bool> {
        if self.ahead.is_empty() {
            return self.io.try_peek(buffer).await;
        }
        while self.ahead.len() < buffer.len() {
            if self.io.read_buf(&mut self.ahead).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let length = buffer.len();
        if let Some(first) = self.ahead.get(..length) {
            buffer.copy_from_slice(first);
        }
        Ok(true)
    }
}

impl UniqueID for Guarded {
    fn id(&self) -> UniqueIDType {
        self.io.id()
    }
}

impl Ssl for Guarded {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.io.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.io.selected_alpn_proto()
    }
}

impl GetTimingDigest for Guarded {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.io.get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.io.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.io.get_write_pending_time()
    }
}

impl GetProxyDigest for Guarded {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.io.get_proxy_digest()
    }
}

impl GetSocketDigest for Guarded {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.io.get_socket_digest()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    fn guarded(io: impl pingora::protocols::IO + 'static, head: u64) -> Guarded {
        let allowed =
            Allowed { stall: Duration::from_mins(1), head, arrival: Duration::from_mins(1) };
        Guarded::new(Box::new(io), Arc::new(Connection::new(Duration::from_mins(1))), allowed)
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_cut_off_and_who_reads_slowly_is_not() {
        let (ours, mut theirs) = duplex(10);
        let mut guarded = guarded(ours, 100);
        let begun = tokio::time::Instant::now();
        let writing = tokio::spawn(async move {
            let slow = guarded.write_all(&[b'x'; 30]).await;
            (slow, guarded.write_all(&[b'x'; 30]).await)
        });
        for _ in 0..3 {
            sleep(Duration::from_secs(50)).await;
            theirs.read_exact(&mut [0; 10]).await.unwrap();
        }
        let (slow, stalled) = writing.await.unwrap();
        slow.unwrap();
        assert_eq!(stalled.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() < Duration::from_secs(220), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_head_without_end_is_not_read_to_its_end() {
        let (ours, mut theirs) = duplex(1 << 20);
        let mut guarded = guarded(ours, 1000);
        theirs.write_all(&vec![b'x'; 500_000]).await.unwrap();
        let connection = Arc::clone(&guarded.connection);
        // Many heads of 1,000 bytes, each read at once.
        for _ in 0..100 {
            connection.awaits_head.store(true, Relaxed);
            guarded.read_exact(&mut [0; 1000]).await.expect("each is short");
            connection.awaits_head.store(false, Relaxed);
            connection.heads.fetch_add(1, Relaxed);
        }
        let mut buffer = vec![0; 100_000];
        guarded.read_exact(&mut buffer).await.expect("a body may be long");
        connection.awaits_head.store(true, Relaxed);
        guarded.read_exact(&mut buffer).await.expect_err("a head may not");
    }
}
