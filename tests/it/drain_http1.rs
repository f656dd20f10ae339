//! The way down, over HTTP/1.1: an answer says that it is its connection's last.

use crate::support::answer::{self, Answer, DONE, Gate, content};
use crate::support::client::{CHAT, chat_body, stream_body};
use crate::support::gateway::{self, Gateway};
use crate::support::until;
use crate::support::upstream;
use crate::support::within;

async fn drain(gateway: &Gateway) {
    gateway.signal("TERM");
    until("it drains", || gateway.log().contains("draining")).await;
}

#[tokio::test]
async fn an_answer_under_way_says_that_the_connection_closes() {
    let gate = Gate::closed();
    let upstream = upstream::always(Answer::chat("hello").after(&gate)).await;
    let mut gateway = gateway::front(&upstream).await;
    let mut waiting = gateway.client().post(CHAT, chat_body("hi").to_string()).begin().await;
    upstream.wait_for(0).await;
    drain(&gateway).await;
    gate.open();
    let reply = waiting.reply().await;
    assert_eq!(reply.said(), "hello");
    assert_eq!(reply.header("connection"), Some("close"), "{reply:?}");
    within("the end of the connection", waiting.wire.closed()).await;
    assert!(waiting.wire.buffer.is_empty(), "{:?}", waiting.wire.buffer);
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_stream_under_way_says_that_the_connection_closes() {
    let gate = Gate::closed();
    let (cues, feed) = answer::feed();
    let upstream = upstream::always(Answer::live(feed).after(&gate)).await;
    let mut gateway = gateway::front(&upstream).await;
    let waiting = gateway.client().post(CHAT, stream_body("hi").to_string()).begin().await;
    upstream.wait_for(0).await;
    drain(&gateway).await;
    gate.open();
    cues.send(content("one"));
    let mut stream = waiting.answer().await;
    assert_eq!(stream.head.get("connection"), Some("close"), "{:?}", stream.head);
    assert_eq!(stream.data().await.unwrap(), content("one").trim_end());
    cues.send(DONE);
    cues.end();
    assert_eq!(stream.rest().await.ok().text(), DONE);
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_stream_kept_alive_by_comments_says_so_too() {
    let upstream = upstream::always(Answer::silence()).await;
    let yaml = format!("heartbeat: 500ms\ntimeouts: {{ drain: 2s }}\n{}", gateway::FRONT);
    let mut gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let waiting = gateway.client().post(CHAT, stream_body("hi").to_string()).begin().await;
    upstream.wait_for(0).await;
    drain(&gateway).await;
    let mut stream = waiting.answer().await;
    assert_eq!(stream.head.get("connection"), Some("close"), "{:?}", stream.head);
    assert!(stream.event().await.unwrap().starts_with(':'));
    assert!(stream.rest().await.whole);
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn an_answer_that_passes_without_a_model_says_so_too() {
    let gate = Gate::closed();
    let list = serde_json::json!({ "object": "list", "data": [] });
    let upstream = upstream::always(Answer::json(200, &list).after(&gate)).await;
    let yaml = format!("{}\ndefault_provider: p\n", gateway::FRONT);
    let mut gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let mut waiting = gateway.client().request("GET", "/v1/files").begin().await;
    upstream.wait_for(0).await;
    drain(&gateway).await;
    gate.open();
    let reply = waiting.reply().await.ok();
    assert_eq!(reply.header("connection"), Some("close"), "{reply:?}");
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_a_word() {
    let upstream = upstream::chat("hello").await;
    let mut gateway = gateway::front(&upstream).await;
    let mut idle = gateway.client().connect().await;
    let request = gateway.client().post(CHAT, chat_body("hi").to_string());
    let reply = request.over(&mut idle).await;
    assert_eq!((reply.said().as_str(), reply.header("connection")), ("hello", Some("keep-alive")));
    gateway.signal("TERM");
    within("the end of the connection", idle.wire.closed()).await;
    assert!(idle.wire.buffer.is_empty(), "{:?}", idle.wire.buffer);
    assert_eq!(gateway.ended().await.code(), Some(0));
}
