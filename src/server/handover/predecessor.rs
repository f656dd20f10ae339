//! The new process's side: what it takes over, and from whom.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::RawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use log::warn;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::time::timeout;

use super::control::Connections;
use super::message::{self, Message};

/// How long the old process may take to answer. It is alive, and has nothing to wait for.
const ANSWER: Duration = Duration::from_secs(10);

/// The process whose place this one takes.
pub struct Predecessor {
    stream: UnixStream,
}

/// A predecessor that drains.
pub struct Following {
    stream: BufReader<tokio::net::UnixStream>,
}

impl Predecessor {
    /// Connects to a running server, and receives the sockets it listens on.
    pub fn greet(path: &Path) -> io::Result<(Self, Vec<(String, RawFd)>)> {
        let mut stream = UnixStream::connect(path)?;
        if !is_ours(&stream)? {
            return Err(io::Error::new(ErrorKind::PermissionDenied, "it is somebody else's"));
        }
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        stream.write_all(&message::line(&Message::Sockets)?)?;
        let mut bytes = vec![0; 64 << 10];
        let (mut length, sockets) = message::receive_with_sockets(&stream, &mut bytes)?;
        while length > 0 && !bytes.get(..length).is_some_and(|line| line.ends_with(b"\n")) {
            let more = stream.read(bytes.get_mut(length..).unwrap_or_default())?;
            if more == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            length += more;
        }
        match message::parse(bytes.get(..length).unwrap_or_default())? {
            Message::Addresses(addresses) if addresses.len() == sockets.len() => {
                Ok((Self { stream }, addresses.into_iter().zip(sockets).collect()))
            }
            Message::Failed { why } => Err(io::Error::other(why)),
            _ => Err(ErrorKind::InvalidData.into()),
        }
    }

    /// Says that this process cannot take over.
    pub fn decline(mut self, why: &str) {
        let line = message::line(&Message::Failed { why: why.to_owned() });
        let _told = line.and_then(|line| self.stream.write_all(&line));
    }

    /// Says that everything stands, and waits to be let go. An error: the old process serves on.
    pub async fn release(self) -> io::Result<Option<Following>> {
        self.stream.set_nonblocking(true)?;
        let mut stream = BufReader::new(tokio::net::UnixStream::from_std(self.stream)?);
        let ready = message::line(&Message::Ready { pid: std::process::id() })?;
        let talk = async {
            stream.write_all(&ready).await?;
            hear(&mut stream).await
        };
        match timeout(ANSWER, talk).await? {
            Ok(Message::Go) => Ok(Some(Following { stream })),
            Ok(Message::Failed { why }) => Err(io::Error::other(why)),
            Ok(_) => Err(ErrorKind::InvalidData.into()),
            // It ended without a word, and there is nobody else to serve.
            Err(error) => {
                warn!("the old process is gone ({error}): this one takes over");
                Ok(None)
            }
        }
    }
}

impl Following {
    /// Says that this process serves: only now does the old one stop accepting.
    pub async fn confirm(&mut self) -> io::Result<()> {
        let serving = message::line(&Message::Serving { pid: std::process::id() })?;
        timeout(ANSWER, self.stream.write_all(&serving)).await?
    }

    /// Passes on what the old process tells of its connections, until it has ended. An error: it
    /// serves on, because this one was late.
    pub async fn follow(mut self, mut note: impl FnMut(Connections)) -> Result<(), String> {
        while let Ok(message) = hear(&mut self.stream).await {
            match message {
                Message::Open { overall, by_address } => note((overall, by_address)),
                Message::Failed { why } => return Err(why),
                _ => {}
            }
        }
        note(Connections::default());
        Ok(())
    }
}

/// Whether the server at the other end runs as this process's user, or as root.
fn is_ours(stream: &UnixStream) -> io::Result<bool> {
    let peer = nix::sys::socket::getsockopt(stream, nix::sys::socket::sockopt::PeerCredentials)?;
    Ok(peer.uid() == 0 || peer.uid() == nix::unistd::geteuid().as_raw())
}

async fn hear(stream: &mut BufReader<tokio::net::UnixStream>) -> io::Result<Message> {
    let mut line = Vec::new();
    stream.take(message::LONGEST).read_until(b'\n', &mut line).await?;
    message::parse(&line)
}
