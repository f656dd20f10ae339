//! A scripted upstream: records every request it got, and misbehaves on cue.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::answer::{Answer, Body, Cue, Ending};
use super::http1::{Framing, Head, Wire};
use super::port::Port;
use super::until;

type Behaviour = Arc<dyn Fn(&Call) -> Answer + Send + Sync>;

/// A server of its own on 127.0.0.1; gone when dropped.
pub struct Upstream {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

struct Shared {
    behaviour: Mutex<Behaviour>,
    calls: Mutex<Vec<Arc<Call>>>,
    connections: AtomicUsize,
    healthy: AtomicBool,
    early: AtomicBool,
    models: Mutex<String>,
    /// What `GET /metrics` says; 404 without.
    metrics: Mutex<Option<String>>,
    asked: AtomicUsize,
}

/// One request, from its head on.
pub struct Call {
    /// How many came before it.
    pub index: usize,
    /// Which connection it came on.
    pub connection: usize,
    pub head: Head,
    body: Mutex<Vec<u8>>,
    whole: AtomicBool,
    gone: Mutex<Option<Instant>>,
}

/// Answers everything so.
pub async fn with(behaviour: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Upstream {
    at("127.0.0.1", behaviour).await
}

/// … on a port of this address.
pub async fn at(ip: &str, behaviour: impl Fn(&Call) -> Answer + Send + Sync + 'static) -> Upstream {
    let listener = TcpListener::bind((ip, 0)).await.unwrap();
    let shared = Arc::new(Shared {
        behaviour: Mutex::new(Arc::new(behaviour)),
        calls: Mutex::default(),
        connections: AtomicUsize::new(0),
        healthy: AtomicBool::new(true),
        early: AtomicBool::new(false),
        models: Mutex::new(r#"{"object":"list","data":[]}"#.to_owned()),
        metrics: Mutex::default(),
        asked: AtomicUsize::new(0),
    });
    let address = listener.local_addr().unwrap();
    let mut server = JoinSet::new();
    server.spawn(serve(listener, Arc::clone(&shared)));
    Upstream { address, shared, _server: server }
}

/// Answers everything with this.
pub async fn always(answer: Answer) -> Upstream {
    with(move |_| answer.clone()).await
}

/// Answers with a chat completion.
pub async fn chat(text: &str) -> Upstream {
    always(Answer::chat(text)).await
}

/// An address where nobody listens, for as long as it is kept.
pub fn refusing() -> Port {
    Port::take()
}

impl Upstream {
    pub fn behave(&self, behaviour: impl Fn(&Call) -> Answer + Send + Sync + 'static) {
        *self.shared.behaviour.lock().unwrap() = Arc::new(behaviour);
    }

    /// What it got, but for health checks and lists of models.
    pub fn calls(&self) -> Vec<Arc<Call>> {
        self.shared.calls.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.shared.calls.lock().unwrap().len()
    }

    /// Forgets what it got.
    pub fn forget(&self) {
        self.shared.calls.lock().unwrap().clear();
    }

    /// The only call there was.
    pub fn call(&self) -> Arc<Call> {
        let calls = self.calls();
        assert_eq!(calls.len(), 1, "not one call: {calls:?}");
        Arc::clone(&calls[0])
    }

    /// Waits for call `index`.
    pub async fn wait_for(&self, index: usize) -> Arc<Call> {
        until(&format!("upstream call {index}"), || self.count() > index).await;
        Arc::clone(&self.calls()[index])
    }

    pub fn set_healthy(&self, healthy: bool) {
        self.shared.healthy.store(healthy, SeqCst);
    }

    /// Answers before it has read a body, and reads none.
    pub fn answer_early(&self) {
        self.shared.early.store(true, SeqCst);
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(SeqCst)
    }

    /// What `GET /metrics` says.
    pub fn tell_metrics(&self, text: &str) {
        *self.shared.metrics.lock().unwrap() = Some(text.to_owned());
    }

    /// How often it was asked for its metrics.
    pub fn asked_for_metrics(&self) -> usize {
        self.shared.asked.load(SeqCst)
    }

    /// What `GET /v1/models` says.
    pub fn list_models(&self, body: &str) {
        body.clone_into(&mut self.shared.models.lock().unwrap());
    }
}

impl Call {
    pub fn target(&self) -> &str {
        self.head.word(1)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.get(name)
    }

    /// What of the body has arrived.
    pub fn body(&self) -> Vec<u8> {
        self.body.lock().unwrap().clone()
    }

    pub fn body_len(&self) -> usize {
        self.body.lock().unwrap().len()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body()).into_owned()
    }

    pub fn json_body(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body()).ok()
    }

    pub fn json(&self) -> serde_json::Value {
        let text = self.text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Whether the body has arrived as a whole.
    pub fn is_whole(&self) -> bool {
        self.whole.load(SeqCst)
    }

    /// When the gateway closed the connection before it had the whole answer.
    pub fn gone(&self) -> Option<Instant> {
        *self.gone.lock().unwrap()
    }
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.text();
        let shown: String = text.chars().take(300).collect();
        write!(f, "#{} on connection {}: {:?}\n  {shown}", self.index, self.connection, self.head)
    }
}

// === the server ===

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let number = shared.connections.fetch_add(1, SeqCst);
        connections.spawn(converse(stream, number, Arc::clone(&shared)));
    }
}

async fn converse(stream: TcpStream, number: usize, shared: Arc<Shared>) {
    stream.set_nodelay(true).unwrap();
    let mut wire = Wire::new(stream);
    let outcome = exchange(&mut wire, number, &shared).await;
    if matches!(outcome, Ok(Ending::Reset | Ending::ResetBeforeHead)) {
        // Dropped with this, the connection is reset.
        wire.io.set_zero_linger().unwrap();
    }
}

/// Serves one request after the other; how the last one ended.
async fn exchange(
    wire: &mut Wire<TcpStream>,
    number: usize,
    shared: &Shared,
) -> io::Result<Ending> {
    loop {
        let Some(head) = wire.head().await? else { return Ok(Ending::KeepAlive) };
        if let Some(answer) = own_answer(&head, shared) {
            write(wire, &answer, None).await?;
            continue;
        }
        let call = Arc::new(Call {
            index: shared.calls.lock().unwrap().len(),
            connection: number,
            head,
            body: Mutex::default(),
            whole: AtomicBool::new(false),
            gone: Mutex::default(),
        });
        shared.calls.lock().unwrap().push(Arc::clone(&call));
        if call.header("expect").is_some() {
            wire.send(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        if shared.early.load(SeqCst) {
            let behaviour = Arc::clone(&shared.behaviour.lock().unwrap());
            return write(wire, &behaviour(&call), Some(&call)).await;
        }
        let mut framing = call.head.framing().unwrap_or(Framing::Length(0));
        loop {
            match wire.piece(&mut framing).await {
                Ok(Some(piece)) => call.body.lock().unwrap().extend_from_slice(&piece),
                Ok(None) => break,
                Err(error) => {
                    *call.gone.lock().unwrap() = Some(Instant::now());
                    return Err(error);
                }
            }
        }
        call.whole.store(true, SeqCst);
        let behaviour = Arc::clone(&shared.behaviour.lock().unwrap());
        let answer = behaviour(&call);
        let ending = write(wire, &answer, Some(&call)).await.inspect_err(|_| {
            *call.gone.lock().unwrap() = Some(Instant::now());
        })?;
        if ending != Ending::KeepAlive {
            return Ok(ending);
        }
    }
}

/// Health, metrics and the list of models, which are no calls.
fn own_answer(head: &Head, shared: &Shared) -> Option<Answer> {
    let path = head.word(1).split('?').next().unwrap_or_default();
    match (head.word(0), path) {
        ("GET", "/health") => {
            let healthy = shared.healthy.load(SeqCst);
            Some(Answer::new(if healthy { 200 } else { 503 }, "text/plain", ""))
        }
        ("GET", "/metrics") => {
            shared.asked.fetch_add(1, SeqCst);
            let metrics = shared.metrics.lock().unwrap().clone();
            let status = if metrics.is_some() { 200 } else { 404 };
            Some(Answer::new(status, "text/plain", metrics.unwrap_or_default()))
        }
        ("GET", path) if path.ends_with("/models") => {
            let models = shared.models.lock().unwrap().clone();
            Some(Answer::new(200, "application/json", models))
        }
        _ => None,
    }
}

async fn write(
    wire: &mut Wire<TcpStream>,
    answer: &Answer,
    call: Option<&Call>,
) -> io::Result<Ending> {
    if let Some(gate) = &answer.gate {
        unless_gone(wire, gate.pass()).await?;
    }
    match answer.ending {
        Ending::Silence => return Err(gone(wire).await),
        ending @ (Ending::CutBeforeHead | Ending::ResetBeforeHead) => return Ok(ending),
        _ => {}
    }
    if let Body::Raw(bytes) = &answer.body {
        wire.send(bytes).await?;
        return Ok(answer.ending);
    }
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    match &answer.body {
        _ if answer.status == 101 => head.push_str("\r\n"),
        Body::Whole(body) => {
            head.extend(["content-length: ", &body.len().to_string(), "\r\n\r\n"]);
        }
        _ => head.push_str("transfer-encoding: chunked\r\n\r\n"),
    }
    if let (Body::Whole(body), true) = (&answer.body, answer.status != 101) {
        let no_body = call.is_some_and(|call| call.head.word(0) == "HEAD");
        let body: &[u8] = if no_body { b"" } else { body };
        // In one write, as a server would; a cut body lacks its second half.
        let end = if answer.ending == Ending::Cut { body.len() / 2 } else { body.len() };
        wire.send(&[head.as_bytes(), &body[..end]].concat()).await?;
        return Ok(answer.ending);
    }
    wire.send(head.as_bytes()).await?;
    let ending = match &answer.body {
        Body::Chunks(pieces) => {
            for piece in pieces {
                wire.send(&chunk(piece)).await?;
            }
            answer.ending
        }
        Body::Live(feed) => loop {
            match unless_gone(wire, feed.next()).await? {
                Cue::Bytes(bytes) => wire.send(&chunk(&bytes)).await?,
                Cue::End => break answer.ending,
                Cue::Cut => break Ending::Cut,
                Cue::Reset => break Ending::Reset,
            }
        },
        Body::Whole(_) | Body::Raw(_) => answer.ending,
    };
    match ending {
        Ending::Echo => loop {
            if wire.buffer.is_empty() && wire.fill().await? == 0 {
                return Ok(ending);
            }
            let bytes = wire.buffer.split();
            wire.send(&bytes).await?;
        },
        Ending::KeepAlive | Ending::QuietClose => {
            wire.send(b"0\r\n\r\n").await?;
        }
        _ => {}
    }
    Ok(ending)
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// Waits for `future`, or for the gateway to leave.
async fn unless_gone<T>(
    wire: &mut Wire<TcpStream>,
    future: impl Future<Output = T>,
) -> io::Result<T> {
    tokio::select! {
        done = future => Ok(done),
        error = gone(wire) => Err(error),
    }
}

async fn gone(wire: &mut Wire<TcpStream>) -> io::Error {
    wire.closed().await;
    io::ErrorKind::ConnectionAborted.into()
}
