//! Traffic that goes on until told to stop, and a report of everything that was not as it should be.
//!
//! Four kinds of clients, as many of each as asked for: a connection for each request, one
//! connection for all, HTTP/2, and streams of a given length (in turn over HTTP/1.1 and HTTP/2).

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use h2::client::SendRequest;
use http::Request;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{self, JoinSet};
use tokio::time::{sleep, timeout};

use crate::model::stream_for;
use crate::support::client::{CHAT, chat_body};
use crate::support::http1::{Framing, Wire};

/// How long an answer may take beyond what it is meant to.
const PATIENCE: Duration = Duration::from_secs(15);

/// Who calls, and how.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Clients with a new connection for each request.
    pub fresh: usize,
    /// Clients with one connection for all their requests.
    pub kept: usize,
    /// Clients with one HTTP/2 connection for all their requests.
    pub http2: usize,
    /// Streams at once; each is followed by another.
    pub streams: usize,
    /// How long a stream goes on.
    pub stream: Duration,
    /// Between two requests of a client.
    pub pause: Duration,
}

/// What the clients saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Whole answers with status 200.
    pub answered: u64,
    /// Whole streams, with every event and `[DONE]`.
    pub streams: u64,
    /// Connections that were opened.
    pub connections: u64,
    /// Connections that were not accepted.
    pub refused: u64,
    /// Connections that ended under their first request, before any byte of an answer.
    pub lost: u64,
    /// Answers with a status of 500 and more.
    pub failed: u64,
    /// Answers with another status than 200 below that.
    pub odd: u64,
    /// Answers that began and did not end as they should: no last chunk, no `[DONE]`, events
    /// missing.
    pub truncated: u64,
    /// Requests without an answer in time.
    pub silent: u64,
    /// Connections that were used before and ended under the next request, before any byte of an
    /// answer: the client asks again over a new one.
    pub closed_idle: u64,
    /// Connections that ended as announced, by `connection: close` or GOAWAY.
    pub told_to_close: u64,
}

impl Report {
    /// What no client may ever see.
    pub fn bad(&self) -> u64 {
        self.refused + self.lost + self.failed + self.odd + self.truncated + self.silent
    }
}

/// Running clients, on a thread of their own.
pub struct Traffic {
    stop: watch::Sender<bool>,
    report: Arc<Mutex<Report>>,
    thread: Option<JoinHandle<()>>,
}

impl Traffic {
    pub fn start(address: SocketAddr, mix: Mix) -> Self {
        let (stop, stopped) = watch::channel(false);
        let report = Arc::new(Mutex::new(Report::default()));
        let client = Client { address, mix, stopped, report: Arc::clone(&report) };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(run(&client));
        });
        Self { stop, report, thread: Some(thread) }
    }

    /// What was seen so far.
    pub fn report(&self) -> Report {
        *self.report.lock().unwrap()
    }

    /// Lets every client end what it is doing.
    pub fn stop(mut self) -> Report {
        self.stop.send_replace(true);
        self.thread.take().unwrap().join().unwrap();
        self.report()
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

async fn run(client: &Client) {
    let Mix { fresh, kept, http2, streams, .. } = client.mix;
    let mut clients = JoinSet::new();
    for _ in 0..fresh {
        clients.spawn(client.clone().fresh());
    }
    for _ in 0..kept {
        clients.spawn(client.clone().kept());
    }
    for _ in 0..http2 {
        clients.spawn(client.clone().http2());
    }
    for number in 0..streams {
        clients.spawn(client.clone().stream(number % 2 == 1));
    }
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
}

#[derive(Clone)]
struct Client {
    address: SocketAddr,
    mix: Mix,
    stopped: watch::Receiver<bool>,
    report: Arc<Mutex<Report>>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Properly; `last`: the server said that the connection ends here.
    Whole {
        last: bool,
    },
    /// With another status than 200.
    Status(u16),
    /// The connection was not accepted.
    Refused,
    /// The connection ended before any byte of an answer.
    Unanswered,
    Truncated,
    Silent,
}

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    Chat,
    Stream,
}

impl Client {
    fn goes_on(&self) -> bool {
        !*self.stopped.borrow()
    }

    fn note(&self, change: impl FnOnce(&mut Report)) {
        change(&mut self.report.lock().unwrap());
    }

    fn book(&self, ask: Ask, outcome: Outcome) {
        self.note(|report| match outcome {
            Outcome::Whole { .. } if ask == Ask::Stream => report.streams += 1,
            Outcome::Whole { .. } => report.answered += 1,
            Outcome::Status(500..) => report.failed += 1,
            Outcome::Status(_) => report.odd += 1,
            Outcome::Refused => report.refused += 1,
            Outcome::Unanswered => report.lost += 1,
            Outcome::Truncated => report.truncated += 1,
            Outcome::Silent => report.silent += 1,
        });
    }

    async fn fresh(self) {
        while self.goes_on() {
            let outcome = match self.connect().await {
                Some(mut wire) => self.patiently(ask(&mut wire, &self.request(Ask::Chat))).await,
                None => Outcome::Refused,
            };
            self.book(Ask::Chat, outcome);
            sleep(self.mix.pause).await;
        }
    }

    async fn kept(self) {
        let mut open = None;
        while self.goes_on() {
            let used = open.is_some();
            let wire = match open.take() {
                Some(wire) => Some(wire),
                None => self.connect().await,
            };
            let Some(mut wire) = wire else {
                self.book(Ask::Chat, Outcome::Refused);
                sleep(self.mix.pause).await;
                continue;
            };
            let outcome = self.patiently(ask(&mut wire, &self.request(Ask::Chat))).await;
            if used && outcome == Outcome::Unanswered {
                self.note(|report| report.closed_idle += 1);
                continue;
            }
            self.book(Ask::Chat, outcome);
            match outcome {
                Outcome::Whole { last: false } => open = Some(wire),
                Outcome::Whole { last: true } => self.note(|report| report.told_to_close += 1),
                _ => {}
            }
            sleep(self.mix.pause).await;
        }
    }

    async fn http2(self) {
        let mut open: Option<Http2> = None;
        while self.goes_on() {
            if open.as_ref().is_some_and(Http2::is_over) {
                self.note(|report| report.told_to_close += 1);
                open = None;
            }
            let used = open.is_some();
            let Some(http2) = (match open.take() {
                Some(http2) => Some(http2),
                None => self.connect_http2().await,
            }) else {
                self.book(Ask::Chat, Outcome::Refused);
                sleep(self.mix.pause).await;
                continue;
            };
            let outcome = self.patiently(http2.ask(self.body(Ask::Chat))).await;
            if used && outcome == Outcome::Unanswered {
                self.note(|report| report.closed_idle += 1);
                continue;
            }
            self.book(Ask::Chat, outcome);
            if matches!(outcome, Outcome::Whole { .. }) {
                open = Some(http2);
            }
            sleep(self.mix.pause).await;
        }
    }

    async fn stream(self, http2: bool) {
        while self.goes_on() {
            let outcome = if http2 {
                match self.connect_http2().await {
                    Some(open) => self.patiently(open.ask(self.body(Ask::Stream))).await,
                    None => Outcome::Refused,
                }
            } else {
                match self.connect().await {
                    Some(mut wire) => {
                        self.patiently(ask(&mut wire, &self.request(Ask::Stream))).await
                    }
                    None => Outcome::Refused,
                }
            };
            self.book(Ask::Stream, outcome);
            sleep(self.mix.pause).await;
        }
    }

    async fn patiently(&self, outcome: impl Future<Output = Outcome>) -> Outcome {
        timeout(self.mix.stream + PATIENCE, outcome).await.unwrap_or(Outcome::Silent)
    }

    async fn connect(&self) -> Option<Wire<TcpStream>> {
        Some(Wire::new(self.dial().await?))
    }

    async fn connect_http2(&self) -> Option<Http2> {
        let stream = self.dial().await?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 20);
        let shaken = timeout(PATIENCE, builder.handshake(stream)).await.ok()?;
        let (sender, connection) = shaken.ok()?;
        let driver = tokio::spawn(async move {
            let _ended = connection.await;
        });
        Some(Http2 { sender, address: self.address, driver })
    }

    async fn dial(&self) -> Option<TcpStream> {
        let stream = timeout(PATIENCE, TcpStream::connect(self.address)).await.ok()?.ok()?;
        stream.set_nodelay(true).unwrap();
        self.note(|report| report.connections += 1);
        Some(stream)
    }

    fn body(&self, ask: Ask) -> String {
        match ask {
            Ask::Chat => chat_body("hi").to_string(),
            Ask::Stream => stream_for(self.mix.stream),
        }
    }

    fn request(&self, ask: Ask) -> Vec<u8> {
        let body = self.body(ask);
        let head = format!(
            "POST {CHAT} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        [head.as_bytes(), body.as_bytes()].concat()
    }
}

// === HTTP/1.1 ===

/// Sends the request and reads all of its answer.
async fn ask(wire: &mut Wire<TcpStream>, request: &[u8]) -> Outcome {
    // An answer may be there although not all of the request could be sent.
    let _sent = wire.send(request).await;
    let head = match wire.head().await {
        Ok(Some(head)) => head,
        // Within its first line, or where a reset has thrown away what there was.
        Err(_) if !wire.buffer.is_empty() => return Outcome::Truncated,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Outcome::Truncated,
        Ok(None) | Err(_) => return Outcome::Unanswered,
    };
    let status = head.word(1).parse().unwrap_or(0);
    let last = head.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let mut framing = head.framing().unwrap_or(Framing::UntilClose);
    let mut body = Vec::new();
    loop {
        match wire.piece(&mut framing).await {
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) => break,
            Err(_) => return Outcome::Truncated,
        }
    }
    judge(status, &body, last)
}

/// Whether what came is all that was meant to come.
fn judge(status: u16, body: &[u8], last: bool) -> Outcome {
    if status != 200 {
        return Outcome::Status(status);
    }
    let text = String::from_utf8_lossy(body);
    let whole = if text.trim_start().starts_with('{') {
        text.contains("hello")
    } else {
        let numbers = text.split("\"#").skip(1).map(|rest| rest.split('"').next());
        let in_order = numbers.zip(0_u32..).all(|(said, number)| said == Some(&number.to_string()));
        in_order && text.contains("\"#0\"") && text.trim_end().ends_with("data: [DONE]")
    };
    if whole { Outcome::Whole { last } } else { Outcome::Truncated }
}

// === HTTP/2 ===

struct Http2 {
    sender: SendRequest<Bytes>,
    address: SocketAddr,
    driver: task::JoinHandle<()>,
}

impl Http2 {
    /// The connection ended, or was told to, between two requests.
    fn is_over(&self) -> bool {
        let ready = self.sender.clone().ready().now_or_never();
        self.driver.is_finished() || ready.is_some_and(|ready| ready.is_err())
    }

    async fn ask(&self, body: String) -> Outcome {
        let Ok(mut sender) = self.sender.clone().ready().await else { return Outcome::Unanswered };
        let request = Request::post(format!("http://{}{CHAT}", self.address))
            .header("content-type", "application/json")
            .body(())
            .unwrap();
        let Ok((answer, mut stream)) = sender.send_request(request, false) else {
            return Outcome::Unanswered;
        };
        // An answer may be there although not all of the request could be sent.
        let _sent = stream.send_data(body.into(), true);
        let Ok(answer) = answer.await else { return Outcome::Unanswered };
        let (head, mut incoming) = answer.into_parts();
        let mut body = Vec::new();
        while let Some(piece) = incoming.data().await {
            let Ok(piece) = piece else { return Outcome::Truncated };
            let _released = incoming.flow_control().release_capacity(piece.len());
            body.extend_from_slice(&piece);
        }
        judge(head.status.as_u16(), &body, false)
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
