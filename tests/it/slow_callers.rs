//! Callers with a slow line: given the time they were promised, and not a moment of anybody else's.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::sleep;

use crate::support::answer::{Answer, DONE, content};
use crate::support::client::{CHAT, chat_body, stream_body};
use crate::support::gateway;
use crate::support::http2::Http2;
use crate::support::upstream;
use crate::support::within;

fn front(more: &str) -> String {
    format!("{}\n{more}\n", gateway::FRONT)
}

/// Events worth eight megabytes.
fn flood() -> (Answer, String) {
    let event = content(&"x".repeat(8000));
    let mut events = vec![event; 1000];
    events.push(DONE.to_owned());
    (Answer::events(events.clone()), events.concat())
}

fn without_comments(text: &str) -> String {
    text.split_inclusive("\n\n").filter(|event| !event.starts_with(':')).collect()
}

#[tokio::test]
async fn a_caller_who_reads_late_gets_everything_heartbeats_and_all() {
    let (answer, whole) = flood();
    let upstream = upstream::always(answer).await;
    let gateway = gateway::with(&front("heartbeat: 20ms")).up("up", &upstream).start().await;
    let request = gateway.client().post(CHAT, stream_body("hi").to_string());
    let mut connection = request.begin().await;
    upstream.wait_for(0).await;
    // Long enough for the buffers to fill and many heartbeats to be due.
    sleep(Duration::from_millis(500)).await;
    let reply = connection.reply().await.ok();
    assert!(without_comments(&reply.text()) == whole, "{} of {}", reply.body.len(), whole.len());
}

#[tokio::test]
async fn an_http2_caller_who_reads_late_gets_everything_too() {
    let (answer, whole) = flood();
    let upstream = upstream::always(answer).await;
    let gateway = gateway::with(&front("heartbeat: 20ms")).up("up", &upstream).start().await;
    let mut http2 = Http2::connect(gateway.address).await;
    let incoming = http2.post(CHAT, stream_body("hi").to_string()).await;
    sleep(Duration::from_millis(500)).await;
    let reply = incoming.rest().await;
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(without_comments(&text) == whole, "{} of {}", text.len(), whole.len());
}

#[tokio::test]
async fn a_body_that_stops_arriving_is_408() {
    let upstream = upstream::chat("hello").await;
    let yaml = front("timeouts: { request_body: 300ms }");
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let request = gateway.client().post(CHAT, chat_body("hi").to_string());
    let mut connection = gateway.client().connect().await;
    let bytes = request.bytes();
    connection.send(&bytes[..bytes.len() - 5]).await;
    connection.reply().await.refused(408, "invalid_request");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_body_that_arrives_slowly_but_steadily_is_served() {
    let upstream = upstream::chat("hello").await;
    let yaml = front("timeouts: { request_body: 400ms }");
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let body = chat_body(&"x".repeat(8000)).to_string();
    let request = gateway.client().post(CHAT, body.clone());
    let mut connection = gateway.client().connect().await;
    connection.send(request.head()).await;
    for piece in body.as_bytes().chunks(1000) {
        connection.send(piece).await;
        sleep(Duration::from_millis(150)).await;
    }
    assert_eq!(connection.reply().await.said(), "hello");
    assert_eq!(upstream.call().text(), body);
}

#[tokio::test]
async fn a_head_that_trickles_in_is_given_up() {
    trickle(false).await;
}

/// A connection may be idle for long; its next head may not.
#[tokio::test]
async fn a_later_head_that_trickles_in_is_given_up_as_soon() {
    trickle(true).await;
}

async fn trickle(used: bool) {
    let upstream = upstream::chat("hello").await;
    let yaml = front("timeouts: { request_header: 400ms }");
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let mut connection = gateway.client().connect().await;
    if used {
        let request = gateway.client().post(CHAT, chat_body("hi").to_string());
        assert_eq!(request.over(&mut connection).await.said(), "hello");
    }
    let begun = Instant::now();
    connection.send("GET /health HTTP/1.1\r\nhost: x\r\nx-slow: ").await;
    // A letter now and then, each of them in time.
    let given_up = async {
        while connection.wire.send(b"a").await.is_ok() {
            let pause = Duration::from_millis(50);
            let closed = tokio::time::timeout(pause, connection.wire.fill()).await;
            if matches!(closed, Ok(Ok(0) | Err(_))) {
                return;
            }
        }
    };
    within("the end of the connection", given_up).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_connection_without_requests_is_closed_after_its_time() {
    let upstream = upstream::chat("hello").await;
    let yaml = front("timeouts: { client_idle: 1s }");
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let mut connection = gateway.client().connect().await;
    let request = gateway.client().post(CHAT, chat_body("hi").to_string());
    assert_eq!(request.over(&mut connection).await.said(), "hello");
    let begun = Instant::now();
    within("the end of the connection", connection.wire.closed()).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed_after_its_time() {
    let upstream = upstream::chat("hello").await;
    let yaml = front("timeouts: { request_header: 400ms, client_idle: 400ms }");
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let mut connection = gateway.client().connect().await;
    within("the end of the connection", connection.wire.closed()).await;
}

#[tokio::test]
async fn a_caller_who_never_reads_does_not_fill_the_memory() {
    let event = Bytes::from(content(&"x".repeat(60_000)));
    let upstream = upstream::always(Answer::events(vec![event; 1600])).await;
    let gateway = gateway::front(&upstream).await;
    gateway.client().chat("warm").await;
    let before = gateway.peak_memory();
    let request = gateway.client().post(CHAT, stream_body("hi").to_string());
    let _unread = request.begin().await;
    upstream.wait_for(1).await;
    sleep(Duration::from_secs(1)).await;
    // The kernel adds up what its processors have counted: it may be a page less.
    let grown = gateway.peak_memory().saturating_sub(before);
    assert!(grown < 16 << 10, "it grew by {grown} KiB");
}
