//! The way down, over HTTP/2: no stream is cut, and clients are told to go elsewhere.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::task::JoinHandle;

use crate::support::answer::{self, Answer, Cues, DONE, Gate, content};
use crate::support::certificate::Certificate;
use crate::support::client::{CHAT, chat_body, stream_body};
use crate::support::frames::{ACK, DATA, END_STREAM, Frames, GOAWAY, PING};
use crate::support::gateway::{self, Gateway};
use crate::support::http1::Io;
use crate::support::upstream::{self, Upstream};
use crate::support::{until, within};

/// A connection whose end can be waited for.
struct Connection {
    sender: SendRequest<Bytes>,
    ended: JoinHandle<Result<(), h2::Error>>,
}

async fn connect(io: impl Io + 'static) -> Connection {
    let shaken = h2::client::handshake(io);
    let (sender, connection) = within("the HTTP/2 handshake", shaken).await.unwrap();
    Connection { sender, ended: tokio::spawn(connection) }
}

impl Connection {
    async fn post(&mut self, body: String) -> Result<h2::client::ResponseFuture, h2::Error> {
        let mut sender = self.sender.clone().ready().await?;
        let request = Request::post(format!("http://localhost{CHAT}"));
        let request = request.header("content-type", "application/json").body(()).unwrap();
        let (answer, mut stream) = sender.send_request(request, false)?;
        stream.send_data(body.into(), true)?;
        Ok(answer)
    }

    /// Waits until no more streams can be begun; why.
    async fn refuses(&mut self) -> h2::Error {
        let refused = async {
            loop {
                if let Err(error) = poll_fn(|cx| self.sender.poll_ready(cx)).await {
                    return error;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within("GOAWAY", refused).await
    }
}

async fn body(mut stream: h2::RecvStream) -> Result<String, h2::Error> {
    let mut whole = Vec::new();
    while let Some(piece) = within("more of the answer", stream.data()).await {
        let piece = piece?;
        let _released = stream.flow_control().release_capacity(piece.len());
        whole.extend_from_slice(&piece);
    }
    Ok(String::from_utf8(whole).unwrap())
}

/// A stream under way, and an answer that is waited for, on one connection.
async fn a_stop_with_both(
    mut gateway: Gateway,
    upstream: Upstream,
    mut connection: Connection,
    cues: Cues,
    gate: Gate,
) {
    let streaming = connection.post(stream_body("hi").to_string()).await.unwrap();
    upstream.wait_for(0).await;
    cues.send(content("one"));
    let mut streaming = within("a head", streaming).await.unwrap().into_body();
    let first = within("the first event", streaming.data()).await.unwrap().unwrap();
    assert_eq!(first, content("one"));
    let waiting = connection.post(chat_body("hi").to_string()).await.unwrap();
    upstream.wait_for(1).await;

    gateway.signal("TERM");
    let refused = connection.refuses().await;
    assert!(refused.is_go_away() && refused.is_remote(), "{refused:?}");
    assert_eq!(refused.reason(), Some(h2::Reason::NO_ERROR), "{refused:?}");
    assert!(connection.post(chat_body("late").to_string()).await.is_err());

    gate.open();
    let answer = within("the answer", waiting).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(body(answer.into_body()).await.unwrap().contains("hello"));
    assert!(!connection.ended.is_finished(), "a stream is under way");
    cues.send(content("two"));
    cues.send(DONE);
    cues.end();
    assert_eq!(body(streaming).await.unwrap(), content("two") + DONE);
    let ended = within("the end of the connection", connection.ended).await.unwrap();
    assert!(ended.is_ok(), "{ended:?}");
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert_eq!(upstream.count(), 2);
}

async fn upstream() -> (Upstream, Cues, Gate) {
    let ((cues, feed), gate) = (answer::feed(), Gate::closed());
    let opened = gate.clone();
    let upstream = upstream::with(move |call| match call.index {
        0 => Answer::live(feed.clone()),
        _ => Answer::chat("hello").after(&opened),
    });
    (upstream.await, cues, gate)
}

#[tokio::test]
async fn streams_under_way_finish_and_new_ones_go_elsewhere() {
    let (upstream, cues, gate) = upstream().await;
    let gateway = gateway::front(&upstream).await;
    let connection = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let connection = connect(connection).await;
    a_stop_with_both(gateway, upstream, connection, cues, gate).await;
}

#[tokio::test]
async fn streams_under_way_finish_and_new_ones_go_elsewhere_over_tls() {
    let (upstream, cues, gate) = upstream().await;
    let tls = "tls: { cert: \"@dir/tls.crt\", key: \"@dir/tls.key\" }";
    let yaml = format!("listen: [{{ address: \"@listen\", {tls} }}]\n{}", gateway::FRONT);
    let plan = gateway::with(&yaml).up("up", &upstream);
    let certificate = Certificate::write(plan.dir());
    let gateway = plan.start().await;
    let connection = connect(certificate.connect(gateway.address, &["h2"]).await).await;
    a_stop_with_both(gateway, upstream, connection, cues, gate).await;
}

#[tokio::test]
async fn an_idle_connection_is_told_and_ends() {
    let upstream = upstream::chat("hello").await;
    let mut gateway = gateway::front(&upstream).await;
    let connection = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
    let mut connection = connect(connection).await;
    let answer = connection.post(chat_body("hi").to_string()).await.unwrap();
    assert_eq!(within("the answer", answer).await.unwrap().status(), 200);
    gateway.signal("TERM");
    let refused = connection.refuses().await;
    assert_eq!(refused.reason(), Some(h2::Reason::NO_ERROR), "{refused:?}");
    let ended = within("the end of the connection", connection.ended).await.unwrap();
    assert!(ended.is_ok(), "{ended:?}");
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_stream_that_crosses_the_goodbye_is_served() {
    let gate = Gate::closed();
    let upstream = upstream::always(Answer::chat("hello").after(&gate)).await;
    let mut gateway = gateway::front(&upstream).await;
    let mut frames = Frames::connect(gateway.address).await;
    frames.polite = false;
    frames.post(1, CHAT, &chat_body("one").to_string()).await;
    upstream.wait_for(0).await;
    gateway.signal("TERM");
    let goodbye = frames.next_of(GOAWAY).await;
    assert_eq!(goodbye.goaway(), (0x7fff_ffff, 0), "the first one lets everything in");
    let ping = frames.next_of(PING).await;
    // Sent before the goodbye was read, for all the gateway knows.
    frames.post(3, CHAT, &chat_body("three").to_string()).await;
    upstream.wait_for(1).await;
    frames.send(PING, ACK, 0, &ping.payload).await;
    let goodbye = frames.next_of(GOAWAY).await;
    assert_eq!(goodbye.goaway(), (3, 0), "the second one names the last");
    // Whoever reads that knows that this one was not begun, and may send it elsewhere.
    frames.post(5, CHAT, &chat_body("five").to_string()).await;
    gate.open();
    let (mut answered, mut ended) = (String::new(), Vec::new());
    while let Some(frame) = frames.next().await {
        assert_ne!(frame.stream, 5, "{frame:?}");
        if frame.kind == DATA {
            answered.push_str(&String::from_utf8_lossy(&frame.payload));
        }
        if frame.kind == DATA && frame.flags & END_STREAM != 0 {
            ended.push(frame.stream);
        }
    }
    ended.sort_unstable();
    assert_eq!((ended, answered.matches("hello").count()), (vec![1, 3], 2));
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn an_answer_arrives_to_its_last_byte_however_slowly_it_is_read() {
    let said = "x".repeat(16 << 20);
    let upstream = upstream::always(Answer::chat(&said)).await;
    let mut gateway = gateway::front(&upstream).await;
    let mut frames = Frames::connect(gateway.address).await;
    frames.post(1, CHAT, &chat_body("hi").to_string()).await;
    let head = frames.next_of(DATA).await;
    let (mut length, mut ended) = (head.payload.len(), false);
    gateway.signal("TERM");
    until("it drains", || gateway.log().contains("draining")).await;
    // Reads only until the gateway is through with it.
    while !gateway.log().contains("POST /v1/chat/completions 200") {
        length += frames.next_of(DATA).await.payload.len();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    while let Some(frame) = frames.next().await {
        if frame.kind == DATA {
            length += frame.payload.len();
            ended |= frame.flags & END_STREAM != 0;
        }
    }
    assert!(ended && length > said.len(), "cut after {length} bytes");
    assert_eq!(gateway.ended().await.code(), Some(0));
}
