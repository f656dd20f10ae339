//! A model server for many requests: it counts them and keeps nothing, on a thread of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::support::answer::{Answer, Body, DONE, EVENT_STREAM, content};
use crate::support::client::{chunk, stream_body};
use crate::support::gateway::{self, Gateway};
use crate::support::http1::{Framing, Wire};

/// How often a stream says something.
const BEAT: Duration = Duration::from_millis(50);
/// A piece of an endless answer.
const PIECE: usize = 64 << 10;
/// What of a request's body is looked at: a wish stands at its end.
const TAIL: usize = 512;

/// Serves until dropped.
pub struct Model {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// What it answers with, when not 200.
    failing: AtomicU16,
    /// Milliseconds after which it closes an idle connection; 0 for never.
    idle: AtomicU64,
    asked: AtomicUsize,
    answering: AtomicUsize,
    /// How each large answer ended.
    large: Mutex<Vec<Large>>,
}

/// An answer that was asked to be large.
#[derive(Clone, Copy, Debug)]
pub struct Large {
    /// When bytes of it were taken last.
    pub moved: Instant,
    pub ended: Instant,
    pub whole: bool,
}

/// A gateway before these models, `@a`, `@b` and so on in its configuration. Its access log is off: it
/// would be hundreds of thousands of lines.
pub async fn front(yaml: &str, models: &[&Model]) -> Gateway {
    let mut plan = gateway::with(yaml).env("RUST_LOG", "warn,forebay=info,access=off");
    for (name, model) in ["a", "b", "c"].iter().zip(models) {
        plan = plan.place(name, &model.address.to_string());
    }
    plan.start().await
}

/// One replica, one model, no health checks.
pub const FRONT: &str = r#"
providers:
  - { name: p, kind: vllm, base_url: "http://@a", health_check: { type: none } }
models:
  - { name: m, targets: [{ provider: p }] }
"#;

/// Three replicas, balanced by `@policy`.
pub const TRIO: &str = r#"
providers:
  - name: p
    kind: vllm
    endpoints: [{ url: "http://@a" }, { url: "http://@b" }, { url: "http://@c" }]
    load_balancing: @policy
    health_check: { type: none }
models:
  - { name: m, targets: [{ provider: p }] }
"#;

/// A request for a stream that goes on for so long, numbered events, and then `[DONE]`.
pub fn stream_for(length: Duration) -> String {
    stream_body(&format!("@stream {}@", length.as_millis())).to_string()
}

/// A request for a stream of so many bytes.
pub fn stream_of(bytes: usize) -> String {
    stream_body(&format!("@large {bytes}@")).to_string()
}

/// A request that is answered after this long.
pub fn answer_after(pause: Duration) -> String {
    crate::support::client::chat_body(&format!("@after {}@", pause.as_millis())).to_string()
}

impl Model {
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = serve(listener, serving) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Answers with this status from now on.
    pub fn fail_with(&self, status: u16) {
        self.shared.failing.store(status, SeqCst);
    }

    pub fn heal(&self) {
        self.fail_with(0);
    }

    /// Closes connections that were idle for this long, as vLLM's server does.
    pub fn close_idle_after(&self, idle: Duration) {
        self.shared.idle.store(u64::try_from(idle.as_millis()).unwrap(), SeqCst);
    }

    /// Requests so far, but for health checks and lists of models.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(SeqCst)
    }

    /// Requests under way.
    pub fn answering(&self) -> usize {
        self.shared.answering.load(SeqCst)
    }

    pub fn large(&self) -> Vec<Large> {
        self.shared.large.lock().unwrap().clone()
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.stop.take();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(ended.is_some_and(|ended| ended.is_ok()) || std::thread::panicking());
    }
}

// === the server ===

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.unwrap();
                connections.spawn(converse(stream, Arc::clone(&shared)));
            }
            Some(_ended) = connections.join_next() => {}
        }
    }
}

async fn converse(stream: TcpStream, shared: Arc<Shared>) {
    stream.set_nodelay(true).unwrap();
    let mut wire = Wire::new(stream);
    while let Ok(true) = exchange(&mut wire, &shared).await {}
}

/// Serves one request; false at the connection's end.
async fn exchange(wire: &mut Wire<TcpStream>, shared: &Shared) -> io::Result<bool> {
    let idle = match shared.idle.load(SeqCst) {
        0 => Duration::MAX,
        idle => Duration::from_millis(idle),
    };
    let Ok(head) = timeout(idle, wire.head()).await else { return Ok(false) };
    let Some(head) = head? else { return Ok(false) };
    if head.word(0) == "GET" {
        let models = Answer::new(200, "application/json", r#"{"object":"list","data":[]}"#);
        send(wire, &models).await?;
        return Ok(true);
    }
    let _asked = Asked::note(shared);
    let mut framing = head.framing().unwrap_or(Framing::Length(0));
    let mut tail = Vec::new();
    while let Some(piece) = wire.piece(&mut framing).await? {
        tail.extend_from_slice(&piece[piece.len().saturating_sub(TAIL)..]);
        tail.drain(..tail.len().saturating_sub(TAIL));
    }
    let status = shared.failing.load(SeqCst);
    if status != 0 {
        send(wire, &Answer::error(status, "in trouble")).await?;
        return Ok(true);
    }
    match wish(&tail) {
        Some(("stream", milliseconds)) => {
            beat(wire, Duration::from_millis(u64::try_from(milliseconds).unwrap())).await?;
        }
        Some(("large", bytes)) => flood(wire, bytes, shared).await?,
        Some(("after", milliseconds)) => {
            sleep(Duration::from_millis(u64::try_from(milliseconds).unwrap())).await;
            send(wire, &Answer::chat("hello")).await?;
        }
        _ => send(wire, &Answer::chat("hello")).await?,
    }
    Ok(true)
}

/// Counts a request as under way.
struct Asked<'s>(&'s Shared);

impl<'s> Asked<'s> {
    fn note(shared: &'s Shared) -> Self {
        shared.asked.fetch_add(1, SeqCst);
        shared.answering.fetch_add(1, SeqCst);
        Self(shared)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.answering.fetch_sub(1, SeqCst);
    }
}

/// What stands between two `@`: a word and a number.
fn wish(body: &[u8]) -> Option<(&str, usize)> {
    let text = std::str::from_utf8(body).ok()?;
    let (word, number) = text.split('@').nth(1)?.split_once(' ')?;
    Some((word, number.parse().ok()?))
}

async fn send(wire: &mut Wire<TcpStream>, answer: &Answer) -> io::Result<()> {
    let Body::Whole(body) = &answer.body else { unreachable!("only whole answers are sent so") };
    let mut bytes = head_of(answer.status, &answer.headers);
    bytes.extend(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    bytes.extend_from_slice(body);
    wire.send(&bytes).await
}

fn head_of(status: u16, headers: &[(String, String)]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status} Scripted\r\n");
    for (name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    head.into_bytes()
}

async fn begin_stream(wire: &mut Wire<TcpStream>) -> io::Result<()> {
    let headers = [("content-type".to_owned(), EVENT_STREAM.to_owned())];
    let mut head = head_of(200, &headers);
    head.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
    wire.send(&head).await
}

/// Numbered events for `length`, and then the end.
async fn beat(wire: &mut Wire<TcpStream>, length: Duration) -> io::Result<()> {
    begin_stream(wire).await?;
    let begun = Instant::now();
    for number in 0_u32.. {
        wire.send(&chunk(content(&format!("#{number}")).as_bytes())).await?;
        if begun.elapsed() >= length {
            break;
        }
        sleep(BEAT).await;
    }
    wire.send(&[chunk(DONE.as_bytes()), b"0\r\n\r\n".to_vec()].concat()).await
}

/// So many bytes as fast as they are taken; notes how it ended.
async fn flood(wire: &mut Wire<TcpStream>, bytes: usize, shared: &Shared) -> io::Result<()> {
    let piece = Bytes::from(chunk(content(&"x".repeat(PIECE)).as_bytes()));
    begin_stream(wire).await?;
    let mut moved = Instant::now();
    let mut outcome = Ok(());
    for _ in 0..bytes.div_ceil(PIECE) {
        outcome = push(wire, &piece, &mut moved).await;
        if outcome.is_err() {
            break;
        }
    }
    let whole = outcome.is_ok();
    shared.large.lock().unwrap().push(Large { moved, ended: Instant::now(), whole });
    outcome?;
    wire.send(b"0\r\n\r\n").await
}

/// Sends all of `piece`, and notes each time when some of it was taken. A hang-up counts at once:
/// behind a full buffer a write would not learn of it.
async fn push(wire: &mut Wire<TcpStream>, mut piece: &[u8], moved: &mut Instant) -> io::Result<()> {
    while !piece.is_empty() {
        tokio::select! {
            writable = wire.io.writable() => writable?,
            read = wire.io.readable() => {
                read?;
                match wire.io.try_read(&mut [0; 16]) {
                    Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                    _ => continue,
                }
            }
        }
        match wire.io.try_write(piece) {
            Ok(taken) => {
                *moved = Instant::now();
                piece = &piece[taken..];
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
