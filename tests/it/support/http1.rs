//! HTTP/1.1 as bytes, for both ends of the harness.

use std::fmt;
use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A connection of whatever kind.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connection, with what was read of it and not used yet.
pub struct Wire<T = Box<dyn Io>> {
    pub io: T,
    pub buffer: BytesMut,
}

/// The first line and the headers of a message.
#[derive(Clone, Default)]
pub struct Head {
    pub first: String,
    pub headers: Vec<(String, String)>,
}

/// How a body ends.
#[derive(Clone, Copy, Debug)]
pub enum Framing {
    Length(u64),
    /// Bytes left of the chunk under way.
    Chunked(u64),
    UntilClose,
}

// === impl Wire ===

impl<T: Io> Wire<T> {
    pub fn new(io: T) -> Self {
        Self { io, buffer: BytesMut::new() }
    }

    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.io.write_all(bytes).await?;
        self.io.flush().await
    }

    /// Reads more; 0 at the connection's end.
    pub async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.reserve(64 << 10);
        self.io.read_buf(&mut self.buffer).await
    }

    async fn line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                let line = String::from_utf8_lossy(&line);
                return Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned()));
            }
            if self.fill().await? == 0 {
                return match self.buffer.len() {
                    0 => Ok(None),
                    _ => Err(cut(&format!("within a line: {:?}", self.buffer))),
                };
            }
        }
    }

    /// The next head; `None` at a clean end of the connection.
    pub async fn head(&mut self) -> io::Result<Option<Head>> {
        let Some(first) = self.line().await? else { return Ok(None) };
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?.ok_or_else(|| cut("within a head"))?;
            let Some((name, value)) = line.split_once(':') else {
                return Ok(Some(Head { first, headers }));
            };
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// The next piece of a body as it arrived; `None` at its proper end.
    pub async fn piece(&mut self, framing: &mut Framing) -> io::Result<Option<Bytes>> {
        match framing {
            Framing::Length(0) => Ok(None),
            Framing::Length(left) => {
                let piece = self.some(*left).await?;
                *left -= piece.len() as u64;
                Ok(Some(piece))
            }
            Framing::Chunked(left) => {
                if *left == 0 {
                    let size = self.line().await?.ok_or_else(|| cut("before a chunk"))?;
                    let size = u64::from_str_radix(size.split(';').next().unwrap().trim(), 16);
                    *left = size.map_err(io::Error::other)?;
                    if *left == 0 {
                        while !self.line().await?.ok_or_else(|| cut("within trailers"))?.is_empty()
                        {
                        }
                        *framing = Framing::Length(0);
                        return Ok(None);
                    }
                }
                let piece = self.some(*left).await?;
                *left -= piece.len() as u64;
                if *left == 0 && self.line().await?.is_none_or(|line| !line.is_empty()) {
                    return Err(cut("after a chunk"));
                }
                Ok(Some(piece))
            }
            Framing::UntilClose => {
                if self.buffer.is_empty() && self.fill().await? == 0 {
                    return Ok(None);
                }
                Ok(Some(self.buffer.split().freeze()))
            }
        }
    }

    async fn some(&mut self, most: u64) -> io::Result<Bytes> {
        if self.buffer.is_empty() && self.fill().await? == 0 {
            return Err(cut("within a body"));
        }
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(self.buffer.len());
        let piece = Bytes::copy_from_slice(&self.buffer[..most]);
        self.buffer.advance(most);
        Ok(piece)
    }

    /// Waits for the other side to close; what it sends meanwhile is kept.
    pub async fn closed(&mut self) {
        while self.fill().await.is_ok_and(|read| read > 0) {}
    }
}

fn cut(place: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("cut {place}"))
}

// === impl Head ===

impl Head {
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.next().map(|(_, value)| value.as_str())
    }

    pub fn count(&self, name: &str) -> usize {
        self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).count()
    }

    /// The words of the first line.
    pub fn word(&self, index: usize) -> &str {
        self.first.split(' ').nth(index).unwrap_or_default()
    }

    /// How the body of a message with this head ends, when the head says so.
    pub fn framing(&self) -> Option<Framing> {
        if self.get("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
            return Some(Framing::Chunked(0));
        }
        Some(Framing::Length(self.get("content-length")?.parse().ok()?))
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        self.headers.iter().try_for_each(|(name, value)| write!(f, "\n  {name}: {value}"))
    }
}
