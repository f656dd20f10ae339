//! What is said over the control socket: lines of JSON, and listening sockets beside one of them.

use std::collections::HashMap;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::{Deserialize, Serialize};

/// The longest line, in bytes: a count for each of very many addresses.
pub const LONGEST: u64 = 4 << 20;
/// Listening sockets handed over at most. The kernel takes 253 at once.
pub const MOST_SOCKETS: usize = 128;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// To the server, from an operator: let this binary take over, or the one it was started from.
    Upgrade {
        binary: Option<PathBuf>,
    },
    /// … and its answers. Also from a new process, once it has been let go on.
    Serving {
        pid: u32,
    },
    Failed {
        why: String,
    },
    /// To the server, from a new process: give me your sockets.
    Sockets,
    /// The answer: what each of the sockets beside this line listens on.
    Addresses(Vec<String>),
    /// From the new process: everything stands.
    Ready {
        pid: u32,
    },
    /// From the old one: it is yours.
    Go,
    /// From the old one while it drains: the connections it still has.
    Open {
        overall: usize,
        by_address: HashMap<IpAddr, usize>,
    },
}

/// A message as a line.
pub fn line(message: &Message) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// A line as a message. An empty one is the end of a conversation.
pub fn parse(line: &[u8]) -> io::Result<Message> {
    if line.is_empty() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_slice(line).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

/// Sends bytes with sockets beside them; how many of the bytes went out.
pub fn send_with_sockets(to: &impl AsRawFd, bytes: &[u8], sockets: &[RawFd]) -> io::Result<usize> {
    let beside = [ControlMessage::ScmRights(sockets)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    Ok(sendmsg::<()>(to.as_raw_fd(), &[IoSlice::new(bytes)], &beside, flags, None)?)
}

/// Receives bytes, and the sockets that came beside them.
pub fn receive_with_sockets(
    from: &impl AsRawFd,
    bytes: &mut [u8],
) -> io::Result<(usize, Vec<RawFd>)> {
    let mut space = nix::cmsg_space!([RawFd; MOST_SOCKETS]);
    let mut into = [IoSliceMut::new(bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let received = recvmsg::<()>(from.as_raw_fd(), &mut into, Some(&mut space), flags)?;
    let mut sockets = Vec::new();
    for beside in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(more) = beside {
            sockets.extend(more);
        }
    }
    Ok((received.bytes, sockets))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_message_is_one_line() {
        let by_address = HashMap::from([("10.0.0.1".parse().unwrap(), 2)]);
        let line = line(&Message::Open { overall: 2, by_address }).unwrap();
        assert_eq!(line, b"{\"open\":{\"overall\":2,\"by_address\":{\"10.0.0.1\":2}}}\n");
        let Message::Open { overall, .. } = parse(&line).unwrap() else { panic!("another") };
        assert_eq!(overall, 2);
        assert!(parse(b"").is_err() && parse(b"{}").is_err());
    }

    #[test]
    fn a_listening_socket_goes_from_hand_to_hand() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        send_with_sockets(&ours, b"one\n", &[listener.as_raw_fd()]).unwrap();
        let mut bytes = [0; 16];
        let (count, sockets) = receive_with_sockets(&theirs, &mut bytes).unwrap();
        assert_eq!(&bytes[..count], b"one\n");
        assert_eq!(sockets.len(), 1);
        drop(listener);
        let mut client = std::net::TcpStream::connect(address).expect("it still listens");
        client.write_all(b"x").unwrap();
        nix::unistd::close(sockets[0]).unwrap();
        assert_ne!(client.read(&mut bytes).unwrap_or(0), 16);
    }
}
