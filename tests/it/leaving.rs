//! Callers who leave: the upstream hears of it at once, and stops computing.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::answer::{self, Answer, content};
use crate::support::client::{CHAT, Request, chat_body, stream_body};
use crate::support::gateway::{self, Gateway};
use crate::support::http2::Http2;
use crate::support::until;
use crate::support::upstream::{self, Call, Upstream};

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
