//! The way down: what is under way ends well, and then the process does.

use std::time::{Duration, Instant};

use crate::support::answer::{self, Answer, DONE, Gate, content};
use crate::support::client::{CHAT, chat_body};
use crate::support::gateway;
use crate::support::until;
use crate::support::upstream;

#[tokio::test]
async fn an_idle_gateway_ends_promptly() {
    let upstream = upstream::chat("hello").await;
    let mut gateway = gateway::front(&upstream).await;
    gateway.client().chat("hi").await.ok();
    let told = Instant::now();
    gateway.signal("TERM");
    let status = gateway.ended().await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(told.elapsed() < Duration::from_secs(3), "it took {:?}", told.elapsed());
}

#[tokio::test]
async fn a_stream_under_way_finishes_first() {
    let (cues, feed) = answer::feed();
    let upstream = upstream::always(Answer::live(feed)).await;
    let mut gateway = gateway::front(&upstream).await;
    cues.send(content("one"));
    let mut stream = gateway.client().stream("hi").await;
    stream.data().await.expect("the first event");
    gateway.signal("TERM");
    until("it drains", || gateway.log().contains("draining")).await;
    cues.send(content(" two"));
    assert_eq!(stream.data().await.unwrap(), content(" two").trim_end());
    cues.send(DONE);
    cues.end();
    let reply = stream.rest().await.ok();
    assert_eq!(reply.text(), DONE);
    let finished = Instant::now();
    let status = gateway.ended().await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(finished.elapsed() < Duration::from_secs(3), "it took {:?}", finished.elapsed());
}

#[tokio::test]
async fn an_answer_waited_for_arrives() {
    let gate = Gate::closed();
    let upstream = upstream::always(Answer::chat("hello").after(&gate)).await;
    let mut gateway = gateway::front(&upstream).await;
    let request = gateway.client().post(CHAT, chat_body("hi").to_string());
    let mut waiting = request.begin().await;
    upstream.wait_for(0).await;
    gateway.signal("TERM");
    until("it drains", || gateway.log().contains("draining")).await;
    gate.open();
    assert_eq!(waiting.reply().await.said(), "hello");
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_stream_that_does_not_end_is_told_at_the_deadline() {
    let (cues, feed) = answer::feed();
    let upstream = upstream::always(Answer::live(feed)).await;
    let yaml = format!("{}\ntimeouts: {{ drain: 1s }}\n", gateway::FRONT);
    let mut gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    cues.send(content("one"));
    let mut stream = gateway.client().stream("hi").await;
    stream.data().await.expect("the first event");
    let told = Instant::now();
    gateway.signal("TERM");
    let reply = stream.rest().await;
    assert!(reply.text().contains("\"error\""), "a bare cut: {reply:?}");
    assert!(reply.whole, "a bare cut: {reply:?}");
    gateway.ended().await;
    assert!(told.elapsed() < Duration::from_secs(8), "it took {:?}", told.elapsed());
}

#[tokio::test]
async fn a_gateway_that_drains_is_not_ready() {
    let gate = Gate::closed();
    let upstream = upstream::always(Answer::chat("hello").after(&gate)).await;
    let gateway = gateway::front(&upstream).await;
    // A connection from before: new ones may not be taken any more.
    let mut connection = gateway.client().connect().await;
    let ready = gateway.client().request("GET", "/health/ready");
    ready.over(&mut connection).await.ok();
    let request = gateway.client().post(CHAT, chat_body("hi").to_string());
    let mut waiting = request.begin().await;
    upstream.wait_for(0).await;
    gateway.signal("TERM");
    until("it drains", || gateway.log().contains("draining")).await;
    // Either it says so, or it has closed a connection that was idle.
    let sent = connection.wire.send(&ready.bytes()).await;
    if sent.is_ok()
        && let Ok(Some(head)) = connection.wire.head().await
    {
        assert_eq!(head.word(1), "503", "{head:?}");
    }
    gate.open();
    waiting.reply().await.ok();
}

#[tokio::test]
async fn a_hangup_does_not_end_it() {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::front(&upstream).await;
    gateway.client().chat("hi").await.ok();
    gateway.signal("HUP");
    // A process that the signal ends is gone before it could answer twice.
    for _ in 0..20 {
        assert_eq!(gateway.client().chat("hi").await.said(), "hello");
    }
}

#[tokio::test]
async fn an_interrupt_ends_it() {
    let upstream = upstream::chat("hello").await;
    let mut gateway = gateway::front(&upstream).await;
    gateway.signal("INT");
    let told = Instant::now();
    gateway.ended().await;
    assert!(told.elapsed() < Duration::from_secs(3), "it took {:?}", told.elapsed());
}

#[tokio::test]
async fn an_upload_under_way_finishes_first() {
    let upstream = upstream::chat("heard").await;
    let mut gateway = gateway::front(&upstream).await;
    let body = [
        "--x\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\nm\r\n",
        "--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n",
        &"w".repeat(100_000),
        "\r\n--x--\r\n",
    ]
    .concat();
    let request = gateway.client().request("POST", "/v1/audio/transcriptions").body(body.clone());
    let request = request.header("content-type", "multipart/form-data; boundary=x");
    let mut connection = gateway.client().connect().await;
    connection.send(request.head()).await;
    connection.send(&body[..50_000]).await;
    upstream.wait_for(0).await;
    gateway.signal("TERM");
    until("it drains", || gateway.log().contains("draining")).await;
    connection.send(&body[50_000..]).await;
    assert_eq!(connection.reply().await.said(), "heard");
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert_eq!(upstream.call().text(), body);
}
