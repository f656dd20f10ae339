//! What an operator's command says to a running server.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::message::{self, Message};

/// How long a server that hangs may keep a command waiting; its own deadline comes before.
const PATIENCE: Duration = Duration::from_mins(15);

/// Why a server was not upgraded.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("no server answers at {path}: {source}")]
    NoServer { path: PathBuf, source: std::io::Error },
    #[error("{0}; the old process serves on")]
    Failed(String),
    #[error("the server broke off: {0}")]
    Broken(std::io::Error),
}

/// Has the server at `control` replaced by a new process, of `binary` or of the one it was started
/// from. The process that serves now.
pub fn upgrade(control: &Path, binary: Option<PathBuf>) -> Result<u32, Refused> {
    let missing = |source| Refused::NoServer { path: control.to_owned(), source };
    let mut stream = UnixStream::connect(control).map_err(missing)?;
    match ask(&mut stream, &Message::Upgrade { binary }).map_err(Refused::Broken)? {
        Message::Serving { pid } => Ok(pid),
        Message::Failed { why } => Err(Refused::Failed(why)),
        other => Err(Refused::Failed(format!("the server said {other:?}"))),
    }
}

fn ask(stream: &mut UnixStream, message: &Message) -> std::io::Result<Message> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&message::line(message)?)?;
    let mut line = Vec::new();
    BufReader::new(stream.take(message::LONGEST)).read_until(b'\n', &mut line)?;
    message::parse(&line)
}
