//! HTTP/2 frame by frame, for what a well-behaved client would not show.

use bytes::{Buf, Bytes};
use tokio::net::TcpSocket;

use super::http1::Wire;
use super::within;
use std::net::SocketAddr;

/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// The types of frames (RFC 9113 §6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

// … and their flags.
pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A frame as it is sent.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A connection that has begun.
pub struct Frames {
    pub wire: Wire,
    /// Whether pings are answered.
    pub polite: bool,
}

/// One frame.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Bytes,
}

impl Frames {
    /// Connects, with windows that bound nothing. The system takes in little that is not read.
    pub async fn connect(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 << 10).unwrap();
        let stream = socket.connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut frames = Self { wire: Wire::new(Box::new(stream)), polite: true };
        frames.wire.send(PREFACE).await.unwrap();
        // SETTINGS_INITIAL_WINDOW_SIZE
        frames.send(SETTINGS, 0, 0, b"\x00\x04\x7f\xff\xff\xff").await;
        frames.send(WINDOW_UPDATE, 0, 0, &0x7000_0000_u32.to_be_bytes()).await;
        frames
    }

    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let frame = frame(kind, flags, stream, payload);
        within("sending a frame", self.wire.send(&frame)).await.unwrap();
    }

    /// Posts JSON. HPACK (RFC 7541) without a table of its own, and without Huffman's code.
    pub async fn post(&mut self, stream: u32, path: &str, body: &str) {
        // :method POST and :scheme http from the static table; then :path, :authority and
        // content-type by its names, their values spelled out.
        let mut block = vec![0x83, 0x86];
        for (name, value) in
            [(&[0x04][..], path), (&[0x01], "localhost"), (&[0x0f, 0x10], "application/json")]
        {
            block.extend_from_slice(name);
            block.push(u8::try_from(value.len()).unwrap());
            block.extend_from_slice(value.as_bytes());
        }
        self.send(HEADERS, END_HEADERS, stream, &block).await;
        self.send(DATA, END_STREAM, stream, body.as_bytes()).await;
    }

    /// The next frame; `None` at the end of the connection. Settings and pings are answered first.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            let frame = self.read().await?;
            match (frame.kind, frame.flags) {
                (SETTINGS, 0) => self.send(SETTINGS, ACK, 0, b"").await,
                (PING, 0) if self.polite => self.send(PING, ACK, 0, &frame.payload).await,
                _ => return Some(frame),
            }
        }
    }

    async fn read(&mut self) -> Option<Frame> {
        self.fill(9).await.then_some(())?;
        let length = usize::try_from(self.wire.buffer.clone().get_uint(3)).unwrap();
        self.fill(9 + length).await.then_some(())?;
        let mut head = self.wire.buffer.split_to(9);
        head.advance(3);
        let (kind, flags, stream) = (head.get_u8(), head.get_u8(), head.get_u32());
        let payload = self.wire.buffer.split_to(length).freeze();
        Some(Frame { kind, flags, stream, payload })
    }

    /// Whether there are that many bytes.
    async fn fill(&mut self, length: usize) -> bool {
        while self.wire.buffer.len() < length {
            if within("a frame", self.wire.fill()).await.unwrap_or(0) == 0 {
                return false;
            }
        }
        true
    }

    /// The next frame of this kind; what comes before it is passed over.
    pub async fn next_of(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().await.unwrap_or_else(|| panic!("closed before {kind}"));
            if frame.kind == kind {
                return frame;
            }
        }
    }
}

impl Frame {
    /// What a GOAWAY says: the last stream it lets in, and why it is sent.
    pub fn goaway(&self) -> (u32, u32) {
        assert_eq!(self.kind, GOAWAY, "{self:?}");
        let mut payload = self.payload.clone();
        (payload.get_u32(), payload.get_u32())
    }
}
