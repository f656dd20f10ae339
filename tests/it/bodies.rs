//! Bodies of every size: they arrive whole, over either protocol, also at the second upstream.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::support::answer::{Answer, Ending};
use crate::support::client::CHAT;
use crate::support::gateway::{self, Gateway, SPARE};
use crate::support::http2::{Http2, send_all};
use crate::support::upstream::{self, Upstream};

const SIZES: [usize; 10] =
    [60, 4095, 16_384, 65_535, 65_536, 65_537, 131_073, 1 << 20, (4 << 20) + 1, 20 << 20];

/// A chat request of exactly this many bytes, different in every place.
fn sized(length: usize) -> Bytes {
    let (before, after) = (r#"{"model":"m","x":""#, r#""}"#);
    let fill = (0..length - before.len() - after.len()).map(|at| {
        let letter = at.wrapping_mul(2_654_435_761) >> 7;
        b'a' + u8::try_from(letter % 26).unwrap()
    });
    before.bytes().chain(fill).chain(after.bytes()).collect::<Vec<u8>>().into()
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A first target that fails so, and a second that is well.
async fn pair(first: Answer) -> (Upstream, Upstream, Gateway) {
    let (a, b) = (upstream::always(first).await, upstream::chat("well").await);
    let gateway = gateway::with(SPARE).up("a", &a).up("b", &b).start().await;
    (a, b, gateway)
}

/// The last call got exactly this.
fn got(upstream: &Upstream, body: &[u8]) {
    let call = upstream.calls().last().expect("a call").clone();
    let sent = call.body();
    assert!(call.is_whole(), "{} of {} bytes", sent.len(), body.len());
    assert_eq!((sent.len(), digest(&sent)), (body.len(), digest(body)));
    assert_eq!(call.header("content-length"), Some(body.len().to_string().as_str()));
    assert_eq!(call.header("transfer-encoding"), None);
}

#[tokio::test]
async fn every_size_arrives_with_a_content_length() {
    let upstream = upstream::chat("well").await;
    let gateway = gateway::front(&upstream).await;
    for size in SIZES {
        let body = sized(size);
        gateway.client().post(CHAT, body.clone()).send().await.ok();
        got(&upstream, &body);
    }
}

#[tokio::test]
async fn every_size_arrives_in_chunks() {
    let upstream = upstream::chat("well").await;
    let gateway = gateway::front(&upstream).await;
    for size in SIZES {
        let body = sized(size);
        for chunk in [size.div_ceil(50), 8192] {
            gateway.client().post(CHAT, body.clone()).chunked(chunk).send().await.ok();
            got(&upstream, &body);
        }
    }
}

#[tokio::test]
async fn every_size_arrives_over_http2() {
    let upstream = upstream::chat("well").await;
    let gateway = gateway::front(&upstream).await;
    for size in SIZES {
        let body = sized(size);
        let mut http2 = Http2::connect(gateway.address).await;
        // Without a content-length, as HTTP/2 allows, and with one.
        let reply = http2.post(CHAT, body.clone()).await;
        assert_eq!(reply.status, 200);
        got(&upstream, &body);
        let length = size.to_string();
        let headers = [("content-type", "application/json"), ("content-length", length.as_str())];
        let (mut stream, answer) = http2.begin("POST", CHAT, &headers).await;
        let sending = send_all(&mut stream, body.clone());
        let ((), reply) = tokio::join!(sending, answer);
        assert_eq!(reply.status, 200);
        got(&upstream, &body);
    }
}

#[tokio::test]
async fn every_size_arrives_again_at_the_second_upstream() {
    for first in [
        Answer::error(503, "in trouble"),
        Answer::chat("x").ending(Ending::CutBeforeHead),
        Answer::chat("x").ending(Ending::ResetBeforeHead),
    ] {
        let (a, b, gateway) = pair(first).await;
        for size in SIZES {
            let body = sized(size);
            let reply = gateway.client().post(CHAT, body.clone()).send().await;
            assert_eq!(reply.said(), "well", "{size}");
            got(&a, &body);
            got(&b, &body);
        }
    }
}

#[tokio::test]
async fn every_size_arrives_at_the_second_upstream_when_nobody_listens_at_the_first() {
    let b = upstream::chat("well").await;
    let port = upstream::refusing();
    let gateway = gateway::with(SPARE).place("a", &port.address()).up("b", &b).start().await;
    for size in SIZES {
        let body = sized(size);
        let request = gateway.client().post(CHAT, body.clone());
        let request = if size % 2 == 0 { request } else { request.chunked(10_000) };
        assert_eq!(request.send().await.said(), "well", "{size}");
        got(&b, &body);
    }
}

#[tokio::test]
async fn every_size_arrives_again_over_http2() {
    let (a, b, gateway) = pair(Answer::error(500, "in trouble")).await;
    for size in SIZES {
        let body = sized(size);
        let mut http2 = Http2::connect(gateway.address).await;
        let reply = http2.post(CHAT, body.clone()).await.rest().await;
        assert_eq!(reply.status, 200, "{size}: {reply:?}");
        got(&a, &body);
        got(&b, &body);
    }
}

#[tokio::test]
async fn fifty_requests_share_one_connection() {
    let (_a, b, gateway) = pair(Answer::error(500, "in trouble")).await;
    let mut connection = gateway.client().connect().await;
    for turn in 0..50 {
        let body = sized(60 + turn * 2000);
        let reply = gateway.client().post(CHAT, body.clone()).over(&mut connection).await;
        assert_eq!(reply.said(), "well", "request {turn}");
        got(&b, &body);
    }
}

#[tokio::test]
async fn a_body_in_many_small_pieces_arrives() {
    let upstream = upstream::chat("well").await;
    let gateway = gateway::front(&upstream).await;
    let body = sized(3000);
    let request = gateway.client().post(CHAT, body.clone());
    let mut connection = gateway.client().connect().await;
    connection.send(request.head()).await;
    for piece in body.chunks(100) {
        connection.send(piece).await;
    }
    connection.reply().await.ok();
    got(&upstream, &body);
}

#[tokio::test]
async fn a_large_answer_arrives_whole() {
    let answer: Bytes = sized(20 << 20);
    for kind in ["application/json", "application/octet-stream"] {
        let upstream = upstream::always(Answer::new(200, kind, answer.clone())).await;
        let gateway = gateway::front(&upstream).await;
        let reply = gateway.client().chat("hi").await.ok();
        assert_eq!(digest(&reply.body), digest(&answer));
        let mut http2 = Http2::connect(gateway.address).await;
        let reply = http2.post(CHAT, r#"{"model":"m"}"#).await.rest().await;
        assert_eq!(digest(&reply.body), digest(&answer));
    }
}
