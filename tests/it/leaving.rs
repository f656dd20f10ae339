//! Callers who leave: the upstream hears of it at once, and stops computing.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::support::answer::{self, Answer, content};
use crate::support::client::{CHAT, Request, chat_body, stream_body};
use crate::support::gateway::{self, Gateway};
use crate::support::http2::Http2;
use crate::support::upstream::{self, Call, Upstream};
use crate::support::{eventually, until};

const SOON: Duration = Duration::from_secs(1);

async fn silent() -> (Upstream, Gateway) {
    let upstream = upstream::always(Answer::silence()).await;
    let gateway = gateway::front(&upstream).await;
    (upstream, gateway)
}

/// The gateway lets go of `call` soon after `left`.
async fn let_go(call: &Call, left: Instant) {
    until("the upstream is let go", || call.gone().is_some()).await;
    let took = call.gone().unwrap().duration_since(left);
    assert!(took < SOON, "it took {took:?}");
}

async fn send(gateway: &Gateway, request: &Request) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(&request.bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_caller_who_hangs_up_while_waiting_ends_the_call() {
    let (upstream, gateway) = silent().await;
    for body in [chat_body("hi"), stream_body("hi")] {
        let index = upstream.count();
        let stream = send(&gateway, &gateway.client().post(CHAT, body.to_string())).await;
        let call = upstream.wait_for(index).await;
        let left = Instant::now();
        drop(stream);
        let_go(&call, left).await;
    }
}

#[tokio::test]
async fn a_caller_who_resets_while_waiting_ends_the_call() {
    let (upstream, gateway) = silent().await;
    let request = gateway.client().post(CHAT, chat_body("hi").to_string());
    let stream = send(&gateway, &request).await;
    let call = upstream.wait_for(0).await;
    stream.set_zero_linger().unwrap();
    let left = Instant::now();
    drop(stream);
    let_go(&call, left).await;
    until("it is counted", || gateway.log().contains(" 499 ")).await;
}

#[tokio::test]
async fn a_caller_who_leaves_in_the_middle_of_a_stream_ends_the_call() {
    for reset in [false, true] {
        let (cues, feed) = answer::feed();
        let upstream = upstream::always(Answer::live(feed)).await;
        let gateway = gateway::front(&upstream).await;
        cues.send(content("one"));
        let request = gateway.client().post(CHAT, stream_body("hi").to_string());
        let mut stream = send(&gateway, &request).await;
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\n\n\r\n") {
            stream.read_buf(&mut bytes).await.unwrap();
        }
        if reset {
            stream.set_zero_linger().unwrap();
        }
        let left = Instant::now();
        drop(stream);
        let_go(&upstream.call(), left).await;
        assert_eq!(upstream.count(), 1, "tried again for nobody");
    }
}

#[tokio::test]
async fn a_caller_who_leaves_is_no_failure_of_the_replica() {
    let (upstream, gateway) = silent().await;
    for index in 0..6 {
        let request = gateway.client().post(CHAT, chat_body("hi").to_string());
        let stream = send(&gateway, &request).await;
        let call = upstream.wait_for(index).await;
        drop(stream);
        until("the upstream is let go", || call.gone().is_some()).await;
    }
    assert_eq!(upstream.count(), 6, "tried again for nobody");
    assert_eq!(gateway.health_of(&upstream).await, "healthy");
    until("requests are over", || gateway.log().matches(" 499 ").count() == 6).await;
    gateway.counts("forebay_active_requests", 0).await;
}

#[tokio::test]
async fn an_http2_caller_who_cancels_ends_the_call() {
    let (upstream, gateway) = silent().await;
    let mut http2 = Http2::connect(gateway.address).await;
    let json = [("content-type", "application/json")];
    let (mut body, answer) = http2.begin("POST", CHAT, &json).await;
    body.send_data(chat_body("hi").to_string().into(), true).unwrap();
    let call = upstream.wait_for(0).await;
    let left = Instant::now();
    body.send_reset(h2::Reason::CANCEL);
    drop(answer);
    let_go(&call, left).await;
}

#[tokio::test]
async fn an_http2_caller_who_cancels_a_stream_ends_the_call() {
    let (cues, feed) = answer::feed();
    let upstream = upstream::always(Answer::live(feed)).await;
    let gateway = gateway::front(&upstream).await;
    cues.send(content("one"));
    let mut http2 = Http2::connect(gateway.address).await;
    let mut stream = http2.post(CHAT, stream_body("hi").to_string()).await;
    stream.piece().await.unwrap().unwrap();
    let left = Instant::now();
    drop(stream);
    let_go(&upstream.call(), left).await;
}

#[tokio::test]
async fn a_caller_who_leaves_in_the_middle_of_a_chat_body_reaches_no_upstream() {
    let (upstream, gateway) = silent().await;
    let request = gateway.client().post(CHAT, chat_body(&"x".repeat(100_000)).to_string());
    let bytes = request.bytes();
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(&bytes[..bytes.len() / 2]).await.unwrap();
    drop(stream);
    until("it is over", || gateway.log().contains("POST /v1/chat/completions")).await;
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_caller_who_leaves_in_the_middle_of_an_upload_ends_the_call() {
    let (upstream, gateway) = silent().await;
    let body = [
        "--x\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nm\r\n",
        "--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n",
        &"a".repeat(200_000),
    ]
    .concat();
    let request = gateway.client().request("POST", "/v1/audio/transcriptions");
    let request = request.header("content-type", "multipart/form-data; boundary=x");
    let head = request.header("content-length", "1000000").head();
    let mut stream = TcpStream::connect(gateway.address).await.unwrap();
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await.unwrap();
    let call = upstream.wait_for(0).await;
    until("most of it is there", || call.body_len() > 150_000).await;
    let left = Instant::now();
    drop(stream);
    let_go(&call, left).await;
}

/// One place at the only replica.
const ONE_PLACE: &str = r#"
providers:
  - name: p
    kind: vllm
    base_url: "http://@up"
    health_check: { type: none }
    admission: { max_concurrent: 1 }
  - { name: bad, kind: vllm, base_url: "http://@bad", health_check: { type: none }, ejection: off }
models:
  - { name: m, targets: [{ provider: p }] }
  - { name: b, targets: [{ provider: bad }, { provider: p, weight: 0 }] }
keys: [{ name: k, key: key-of-a-caller, limits: { max_concurrent: 2 } }]
"#;

async fn until_waiting(gateway: &Gateway, count: u64) {
    let client = gateway.client().key("key-of-a-caller");
    eventually(&format!("{count} wait"), async || {
        let health = client.get("/health/detailed").await.ok().json();
        (health["providers"][0]["queue"]["waiting"] == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_caller_who_leaves_while_it_waits_for_a_place_is_gone_from_the_line() {
    let upstream = upstream::always(Answer::silence()).await;
    let bad = upstream::always(Answer::error(500, "x")).await;
    let gateway = gateway::with(ONE_PLACE).up("up", &upstream).up("bad", &bad).start().await;
    let client = gateway.client().key("key-of-a-caller");
    let _first = send(&gateway, &client.post(CHAT, chat_body("hi").to_string())).await;
    upstream.wait_for(0).await;
    // After a failed attempt, too.
    let after_a_failure = json!({"model": "b", "messages": []});
    let bodies = [chat_body("hi"), stream_body("hi"), after_a_failure];
    let ways = bodies.iter().flat_map(|body| [(body, false), (body, true)]);
    for (number, (body, reset)) in (1..).zip(ways) {
        let request = client.post(CHAT, body.to_string());
        let stream = send(&gateway, &request).await;
        until_waiting(&gateway, 1).await;
        client.chat("one more").await.refused(429, "concurrency_exceeded");
        if reset {
            stream.set_zero_linger().unwrap();
        }
        let left = Instant::now();
        drop(stream);
        until_waiting(&gateway, 0).await;
        assert!(left.elapsed() < SOON, "{:?}", left.elapsed());
        until("it is counted", || gateway.log().matches(" 499 ").count() == number).await;
    }
    assert_eq!((upstream.count(), bad.count()), (1, 2));
    gateway.counts("forebay_active_requests", 1).await;
}

#[tokio::test]
async fn an_http2_caller_who_cancels_while_it_waits_for_a_place_is_gone_from_the_line() {
    let upstream = upstream::always(Answer::silence()).await;
    let bad = upstream::chat("x").await;
    let gateway = gateway::with(ONE_PLACE).up("up", &upstream).up("bad", &bad).start().await;
    let client = gateway.client().key("key-of-a-caller");
    let _first = send(&gateway, &client.post(CHAT, chat_body("hi").to_string())).await;
    upstream.wait_for(0).await;
    let mut http2 = Http2::connect(gateway.address).await;
    let headers =
        [("content-type", "application/json"), ("authorization", "Bearer key-of-a-caller")];
    let (mut body, answer) = http2.begin("POST", CHAT, &headers).await;
    body.send_data(chat_body("hi").to_string().into(), true).unwrap();
    until_waiting(&gateway, 1).await;
    let left = Instant::now();
    body.send_reset(h2::Reason::CANCEL);
    drop(answer);
    until_waiting(&gateway, 0).await;
    assert!(left.elapsed() < SOON, "{:?}", left.elapsed());
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_caller_who_leaves_after_a_failed_attempt_ends_the_next_one() {
    let bad = upstream::always(Answer::error(500, "x")).await;
    let upstream = upstream::always(Answer::silence()).await;
    let gateway = gateway::with(ONE_PLACE).up("up", &upstream).up("bad", &bad).start().await;
    let client = gateway.client().key("key-of-a-caller");
    let body = json!({"model": "b", "messages": []}).to_string();
    let stream = send(&gateway, &client.post(CHAT, body)).await;
    let call = upstream.wait_for(0).await;
    let left = Instant::now();
    drop(stream);
    let_go(&call, left).await;
    until("it is over", || gateway.log().contains(" 499 ")).await;
    assert_eq!((bad.count(), upstream.count()), (1, 1));
    gateway.counts("forebay_active_requests", 0).await;
}

/// A server that never accepts, and whose queue is full: connections to it do not come about.
async fn unreachable() -> (TcpListener, Vec<TcpStream>) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let (address, mut taken) = (listener.local_addr().unwrap(), Vec::new());
    let patience = Duration::from_millis(300);
    while let Ok(stream) = tokio::time::timeout(patience, TcpStream::connect(address)).await {
        taken.push(stream.unwrap());
    }
    (listener, taken)
}

#[tokio::test]
async fn a_caller_who_leaves_while_a_connection_comes_about_is_forgotten_with_it() {
    let (listener, _taken) = unreachable().await;
    let address = listener.local_addr().unwrap().to_string();
    // A connection to a vLLM server has a second.
    let gateway = gateway::with(gateway::FRONT).place("up", &address).start().await;
    let request = gateway.client().post(CHAT, chat_body("hi").to_string());
    let stream = send(&gateway, &request).await;
    gateway.counts("forebay_active_requests", 1).await;
    let left = Instant::now();
    drop(stream);
    gateway.counts("forebay_active_requests", 0).await;
    assert!(left.elapsed() < 2 * SOON, "{:?}", left.elapsed());
    let health = gateway.health().await;
    assert_eq!(health["providers"][0]["replicas"][0]["in_flight"], 0, "{health}");
}
