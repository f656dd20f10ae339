//! A subscriber to a `ZeroMQ` publisher: as much of ZMTP 3.0 (<https://rfc.zeromq.org/spec/23/>) as vLLM's events
//! take, with the heartbeats of 3.1 (<https://rfc.zeromq.org/spec/37/>).

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long connecting and greeting may take, and each write.
const DEADLINE: Duration = Duration::from_secs(5);
/// After this long without a byte a publisher is asked for a sign of life; after as long again it is taken for dead.
const SILENCE: Duration = Duration::from_secs(5);
/// The longest message read: a scheduler's step of 500,000 tokens.
const LONGEST: usize = 4 << 20;
/// The most frames of a message: topic, number, events.
const FRAMES: usize = 8;

const GREETING: usize = 64;
const MORE: u8 = 1;
const LONG: u8 = 2;
const COMMAND: u8 = 4;

/// A connection to a publisher, subscribed to a topic.
pub struct Subscriber {
    stream: TcpStream,
    unread: BytesMut,
    /// Frames of a message that is not whole.
    frames: Vec<Bytes>,
    /// Asked for a sign of life.
    pinged: bool,
}

enum Frame {
    Command(Bytes),
    Part { body: Bytes, last: bool },
}

impl Subscriber {
    /// Connects, greets and subscribes to what begins with `topic`.
    pub async fn connect(address: SocketAddr, topic: &[u8]) -> Result<Self> {
        within(Self::open(address, topic)).await
    }

    async fn open(address: SocketAddr, topic: &[u8]) -> Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(&greeting()).await?;
        let mut theirs = [0; GREETING];
        stream.read_exact(&mut theirs).await?;
        check_greeting(&theirs)?;
        let (unread, frames) = (BytesMut::new(), Vec::new());
        let mut subscriber = Self { stream, unread, frames, pinged: false };
        subscriber.send(COMMAND, &[b"\x05READY\x0bSocket-Type\0\0\0\x03SUB"]).await?;
        loop {
            match subscriber.frame()? {
                Some(Frame::Command(body)) if body.starts_with(b"\x05READY") => break,
                Some(_) => return Err(bad("it does not take subscribers")),
                None => subscriber.read().await?,
            }
        }
        subscriber.send(0, &[b"\x01", topic]).await?;
        Ok(subscriber)
    }

    /// The frames of the next message. An error is the end of the connection: it was closed, was silent for too
    /// long, or is no publisher's. May be dropped while it waits, and be called again.
    pub async fn next(&mut self) -> Result<Vec<Bytes>> {
        loop {
            match self.frame()? {
                Some(Frame::Part { body, last }) => {
                    self.frames.push(body);
                    let length: usize = self.frames.iter().map(Bytes::len).sum();
                    if self.frames.len() > FRAMES || length > LONGEST {
                        return Err(bad("a message that is too long"));
                    }
                    if last {
                        return Ok(std::mem::take(&mut self.frames));
                    }
                }
                Some(Frame::Command(body)) => {
                    if let Some(context) = body.strip_prefix(b"\x04PING").and_then(|it| it.get(2..))
                    {
                        self.send(COMMAND, &[b"\x04PONG", context]).await?;
                    }
                }
                None => self.hear().await?,
            }
        }
    }

    /// Waits for more, and asks for a sign of life when there is none.
    async fn hear(&mut self) -> Result<()> {
        match timeout(SILENCE, self.read()).await {
            Ok(read) => {
                self.pinged = false;
                read
            }
            Err(_) if self.pinged => Err(ErrorKind::TimedOut.into()),
            Err(_) => {
                self.pinged = true;
                self.send(COMMAND, &[b"\x04PING\0\0"]).await
            }
        }
    }

    async fn read(&mut self) -> Result<()> {
        match self.stream.read_buf(&mut self.unread).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn send(&mut self, flags: u8, body: &[&[u8]]) -> Result<()> {
        let body = body.concat();
        let length = u8::try_from(body.len()).map_err(|_| bad("a topic that is too long"))?;
        within(self.stream.write_all(&[&[flags, length], body.as_slice()].concat())).await
    }

    /// The next frame, once it is whole.
    fn frame(&mut self) -> Result<Option<Frame>> {
        let mut head = self.unread.as_ref();
        let Ok(flags) = head.try_get_u8() else { return Ok(None) };
        let long = flags & LONG != 0;
        let length = if long { head.try_get_u64() } else { head.try_get_u8().map(u64::from) };
        let Ok(length) = length else { return Ok(None) };
        // What is declared is not believed: nothing is set aside for it, and too much is an error.
        let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST);
        let length = length.ok_or_else(|| bad("a frame that is too long"))?;
        if head.len() < length {
            return Ok(None);
        }
        self.unread.advance(if long { 9 } else { 2 });
        let body = self.unread.split_to(length).freeze();
        Ok(Some(match flags & COMMAND {
            0 => Frame::Part { body, last: flags & MORE == 0 },
            _ => Frame::Command(body),
        }))
    }
}

fn greeting() -> [u8; GREETING] {
    let mut greeting = [0; GREETING];
    let parts: [(usize, &[u8]); 3] = [(0, &[0xff]), (9, &[0x7f, 3, 0]), (12, b"NULL")];
    for (at, part) in parts {
        greeting.iter_mut().skip(at).zip(part).for_each(|(byte, new)| *byte = *new);
    }
    greeting
}

fn check_greeting(theirs: &[u8; GREETING]) -> Result<()> {
    let [0xff, _, _, _, _, _, _, _, _, ninth, major, ..] = theirs else {
        return Err(bad("it does not speak ZMTP"));
    };
    if ninth & 1 == 0 || *major < 3 {
        return Err(bad("it speaks an old ZMTP"));
    }
    if !theirs[12..].starts_with(b"NULL\0") {
        return Err(bad("it wants a login"));
    }
    Ok(())
}

async fn within<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(DEADLINE, work).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
}

fn bad(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;

    /// A publisher that greets, takes a subscription, and says `bytes`.
    async fn publisher(bytes: Vec<u8>) -> (SocketAddr, JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(&greeting()).await.unwrap();
            let mut read = vec![0; GREETING];
            stream.read_exact(&mut read).await.unwrap();
            let ready = b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03PUB";
            stream.write_all(ready).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            let mut asked = Vec::new();
            stream.read_to_end(&mut asked).await.unwrap();
            asked
        });
        (address, server)
    }

    #[tokio::test]
    async fn it_subscribes_and_reads_messages_of_several_frames() {
        let mut said = b"\x01\x05topic\x01\x01n\x02\0\0\0\0\0\0\x01\x2c".to_vec();
        said.extend([b'x'; 300]);
        said.extend(b"\x04\x07\x04PING\0\0");
        let (address, server) = publisher(said).await;
        let mut subscriber = Subscriber::connect(address, b"top").await.unwrap();
        let message = subscriber.next().await.unwrap();
        assert_eq!((&message[0][..], &message[1][..]), (&b"topic"[..], &b"n"[..]));
        assert_eq!(message[2], vec![b'x'; 300]);
        drop(subscriber);
        let asked = server.await.unwrap();
        assert!(asked.starts_with(b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03SUB\0\x04\x01top"));
    }

    #[tokio::test]
    async fn a_ping_is_answered_and_the_end_is_an_error() {
        let (address, server) = publisher(b"\x04\x0a\x04PING\0\0abc".to_vec()).await;
        let mut subscriber = Subscriber::connect(address, b"").await.unwrap();
        let silent = timeout(Duration::from_millis(50), subscriber.next()).await;
        assert!(silent.is_err());
        drop(subscriber);
        assert!(server.await.unwrap().ends_with(b"\x04\x08\x04PONGabc"));
    }

    #[tokio::test]
    async fn what_is_declared_too_long_is_refused_before_it_comes() {
        let (address, _server) = publisher(b"\x02\x00\x00\x01\0\0\0\0\0".to_vec()).await;
        let mut subscriber = Subscriber::connect(address, b"").await.unwrap();
        let error = subscriber.next().await.unwrap_err();
        assert_eq!(error.to_string(), "a frame that is too long");
    }

    #[tokio::test(start_paused = true)]
    async fn a_publisher_that_gives_no_sign_of_life_is_taken_for_dead() {
        let (address, server) = publisher(Vec::new()).await;
        let mut subscriber = Subscriber::connect(address, b"").await.unwrap();
        let error = subscriber.next().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        drop(subscriber);
        assert!(server.await.unwrap().ends_with(b"\x04\x07\x04PING\0\0"));
    }

    #[test]
    fn other_protocols_are_known_by_their_greeting() {
        let mut theirs = greeting();
        assert!(check_greeting(&theirs).is_ok());
        theirs[12..17].copy_from_slice(b"CURVE");
        assert_eq!(check_greeting(&theirs).unwrap_err().to_string(), "it wants a login");
        theirs[..4].copy_from_slice(b"HTTP");
        assert_eq!(check_greeting(&theirs).unwrap_err().to_string(), "it does not speak ZMTP");
    }
}
