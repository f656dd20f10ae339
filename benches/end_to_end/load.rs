//! The client: requests over a few connections, and a close look at every answer.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// The same request, again and again, to one of the proxies.
pub struct Load {
    address: SocketAddr,
    request: Bytes,
    expected: Expected,
    /// How many ask at the same time.
    width: usize,
    connections: Vec<Connection>,
}

/// What every answer's body has to be.
#[derive(Clone, Debug)]
pub enum Expected {
    Exactly(Bytes),
    /// It tells the time: some of its digits are others each time.
    ButForDigits(Bytes),
}

/// What came of a round.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// Why, for each request that failed.
    pub failed: Vec<String>,
    /// How often a client was woken by bytes; fewer when a proxy gathers several events.
    pub reads: usize,
}

/// One keep-alive connection.
pub struct Connection {
    stream: TcpStream,
    received: BytesMut,
    reads: usize,
    /// The last answer said that there is no other.
    last: bool,
}

/// How the end of a body is found.
enum Framing {
    Length(usize),
    Chunked,
}

impl Load {
    pub fn new(address: SocketAddr, request: Bytes, expected: Expected, width: usize) -> Self {
        Self { address, request, expected, width, connections: Vec::new() }
    }

    /// Asks `requests` times in all.
    pub async fn run(&mut self, requests: usize) -> Round {
        let left = Arc::new(AtomicUsize::new(requests));
        let mut tasks = JoinSet::new();
        for _ in 0..self.width {
            let (address, left) = (self.address, Arc::clone(&left));
            let (request, expected) = (self.request.clone(), self.expected.clone());
            let mut connection = self.connections.pop();
            tasks.spawn(async move {
                let mut round = Round::default();
                while left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
                    // One that failed is not used again.
                    match ask(address, connection.take(), &request, &expected).await {
                        Ok(kept) => connection = Some(kept),
                        Err(error) => round.failed.push(error.to_string()),
                    }
                }
                let read = connection.as_mut().map(|kept| std::mem::take(&mut kept.reads));
                round.reads = read.unwrap_or(0);
                (connection, round)
            });
        }
        let mut whole = Round::default();
        for (connection, round) in tasks.join_all().await {
            self.connections.extend(connection);
            whole.failed.extend(round.failed);
            whole.reads += round.reads;
        }
        whole
    }
}

async fn ask(
    address: SocketAddr,
    connection: Option<Connection>,
    request: &[u8],
    expected: &Expected,
) -> io::Result<Connection> {
    let mut connection = match connection {
        Some(connection) => connection,
        None => Connection::open(address).await?,
    };
    let body = connection.ask(request).await?;
    if !expected.is(&body) {
        let length = body.len();
        return Err(io::Error::other(format!("an answer of {length} bytes that is another one")));
    }
    if !connection.last {
        return Ok(connection);
    }
    let next = Connection::open(address).await?;
    Ok(Connection { reads: connection.reads, ..next })
}

impl Expected {
    fn is(&self, body: &[u8]) -> bool {
        match self {
            Self::Exactly(expected) => body == expected,
            Self::ButForDigits(expected) => {
                let alike =
                    |(a, b): (&u8, &u8)| a == b || (a.is_ascii_digit() && b.is_ascii_digit());
                body.len() == expected.len() && body.iter().zip(expected).all(alike)
            }
        }
    }
}

impl Connection {
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: BytesMut::with_capacity(64 << 10), reads: 0, last: false })
    }

    /// Sends a request and gives the body of its answer, which has to be a good one.
    pub async fn ask(&mut self, request: &[u8]) -> io::Result<Bytes> {
        match self.send(request).await? {
            Framing::Length(length) => {
                while self.received.len() < length {
                    self.read().await?;
                }
                Ok(self.received.split_to(length).freeze())
            }
            Framing::Chunked => self.chunks().await,
        }
    }

    /// Sends a request and waits for the first bytes of its answer's body.
    pub async fn begin(&mut self, request: &[u8]) -> io::Result<()> {
        self.send(request).await?;
        while self.received.is_empty() {
            self.read().await?;
        }
        // A thousand of these are open at once.
        self.received = BytesMut::new();
        Ok(())
    }

    /// Sends a request and reads the head of its answer.
    async fn send(&mut self, request: &[u8]) -> io::Result<Framing> {
        self.stream.write_all(request).await?;
        let head = loop {
            if let Some(end) = memmem::find(&self.received, b"\r\n\r\n") {
                break self.received.split_to(end + 4);
            }
            self.read().await?;
        };
        let head = String::from_utf8_lossy(&head);
        if !head.starts_with("HTTP/1.1 200 ") {
            return Err(io::Error::other(head.into_owned()));
        }
        let mut fields = head.lines().filter_map(|line| line.split_once(':'));
        let is_close = |(name, value): (&str, &str)| {
            name.eq_ignore_ascii_case("connection") && value.trim().eq_ignore_ascii_case("close")
        };
        self.last = fields.clone().any(is_close);
        let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let length = length.map(|(_, value)| value.trim().parse().map_err(io::Error::other));
        length.map_or(Ok(Framing::Chunked), |length| length.map(Framing::Length))
    }

    async fn chunks(&mut self) -> io::Result<Bytes> {
        let mut body = BytesMut::with_capacity(32 << 10);
        loop {
            let Some(end) = memchr::memchr(b'\n', &self.received) else {
                self.read().await?;
                continue;
            };
            let size = std::str::from_utf8(&self.received[..end]).unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(io::Error::other)?;
            // The line with the size, the chunk, and the line's end behind it.
            while self.received.len() < end + 1 + size + 2 {
                self.read().await?;
            }
            self.received.advance(end + 1);
            body.extend_from_slice(&self.received[..size]);
            self.received.advance(size + 2);
            if size == 0 {
                return Ok(body.freeze());
            }
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        self.reads += 1;
        self.received.reserve(16 << 10);
        match self.stream.read_buf(&mut self.received).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}
