//! Normal clients, each on a thread of its own: a chat, a pause, a chat; every answer is timed.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::support::PATIENCE;
use crate::support::client::{CHAT, chat_body};

/// One request of a normal client.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub at: Instant,
    pub took: Duration,
    /// 0 when there was no answer.
    pub status: u16,
}

/// Some clients that go on until told to stop.
pub struct Callers {
    stop: Arc<AtomicBool>,
    samples: Arc<Mutex<Vec<Sample>>>,
    threads: Vec<JoinHandle<()>>,
}

/// How a client uses its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One for all its requests.
    Kept,
    /// A new one for each.
    Fresh,
}

impl Callers {
    /// A client of each kind, the normal users beside whom something else goes on.
    pub fn normal(address: SocketAddr) -> Self {
        let pause = Duration::from_millis(4);
        Self::start(address, &[Kind::Kept, Kind::Fresh], pause)
    }

    pub fn start(address: SocketAddr, kinds: &[Kind], pause: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let samples = Arc::new(Mutex::new(Vec::new()));
        let request = request(address);
        let call = |kind: &Kind| {
            let (kind, stop) = (*kind, Arc::clone(&stop));
            let (samples, request) = (Arc::clone(&samples), request.clone());
            std::thread::spawn(move || {
                let mut open = None;
                while !stop.load(SeqCst) {
                    let at = Instant::now();
                    let status = call(address, &request, &mut open).unwrap_or(0);
                    let sample = Sample { at, took: at.elapsed(), status };
                    samples.lock().unwrap().push(sample);
                    if kind == Kind::Fresh {
                        open = None;
                    }
                    std::thread::sleep(pause);
                }
            })
        };
        let threads = kinds.iter().map(call).collect();
        Self { stop, samples, threads }
    }

    /// Ends them; everything they saw, in the order of its end.
    pub fn stop(mut self) -> Vec<Sample> {
        self.stop.store(true, SeqCst);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
        std::mem::take(&mut *self.samples.lock().unwrap())
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
    }
}

fn request(address: SocketAddr) -> Vec<u8> {
    let body = chat_body("hi").to_string();
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// Sends the request over the open connection, or a new one; its status.
fn call(
    address: SocketAddr,
    request: &[u8],
    open: &mut Option<BufReader<TcpStream>>,
) -> io::Result<u16> {
    let mut connection = match open.take() {
        Some(connection) => connection,
        None => connect(address)?,
    };
    connection.get_mut().write_all(request)?;
    let (status, keeps) = answer(&mut connection)?;
    *open = keeps.then_some(connection);
    Ok(status)
}

fn connect(address: SocketAddr) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(BufReader::new(stream))
}

/// Reads one answer with a content-length: its status, and whether the connection goes on.
fn answer(connection: &mut BufReader<TcpStream>) -> io::Result<(u16, bool)> {
    let (mut status, mut length, mut keeps) = (0, None, true);
    loop {
        let mut line = String::new();
        if connection.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        match line.split_once(':') {
            None => status = line.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0),
            Some(("content-length", value)) => length = value.trim().parse().ok(),
            Some(("connection", value)) => keeps = value.trim() != "close",
            Some(_) => {}
        }
    }
    let length: usize = length.ok_or(io::ErrorKind::InvalidData)?;
    connection.read_exact(&mut vec![0; length])?;
    Ok((status, keeps))
}

/// A stretch of time.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub from: Instant,
    pub to: Instant,
}

impl Window {
    /// While `work` goes on.
    pub async fn during<T>(work: impl Future<Output = T>) -> (Self, T) {
        let from = Instant::now();
        let done = work.await;
        (Self { from, to: Instant::now() }, done)
    }

    pub fn of(self, samples: &[Sample]) -> Vec<Sample> {
        let within = |sample: &&Sample| (self.from..self.to).contains(&sample.at);
        samples.iter().filter(within).copied().collect()
    }
}

/// The answer time that one request in a hundred exceeds, over all these stretches.
pub fn p99(samples: &[Sample], windows: &[Window]) -> Duration {
    let chosen = windows.iter().flat_map(|window| window.of(samples));
    let mut times: Vec<_> = chosen.map(|sample| sample.took).collect();
    assert!(times.len() >= 200, "{} samples say nothing about one in a hundred", times.len());
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

pub fn failures(samples: &[Sample]) -> u64 {
    samples.iter().filter(|sample| sample.status != 200).count() as u64
}
