//! Realtime: a WebSocket is passed on, both ways, to the model's provider.

use crate::support::answer::{Answer, Ending};
use crate::support::client::Connection;
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Upstream};
use crate::support::within;

const REALTIME: &str = r#"
providers:
  - { name: p, kind: vllm, base_url: "http://@up", health_check: { type: none }, api_keys: [provider-key-1] }
models:
  - { name: m, targets: [{ provider: p, model: "meta/voice 1" }] }
keys:
  - { name: a, key: client-key-of-a }
  - { name: b, key: client-key-of-b, allowed_models: [other] }
"#;

async fn echoing() -> (Upstream, Gateway) {
    let accept = Answer::new(101, "x", "")
        .header("upgrade", "websocket")
        .header("connection", "upgrade")
        .header("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        .ending(Ending::Echo);
    let upstream = upstream::always(accept).await;
    let gateway = gateway::with(REALTIME).up("up", &upstream).start().await;
    (upstream, gateway)
}

async fn upgrade(gateway: &Gateway, query: &str, key: &str) -> Connection {
    let request = gateway.client().key(key).request("GET", &format!("/v1/realtime{query}"));
    let request = request
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", "realtime");
    let mut connection = gateway.client().connect().await;
    connection.send(request.head()).await;
    connection
}

/// A connection over which a first frame has come back.
///
/// Pingora 0.9.1 reads an upstream's answer and writes the end of the request in no fixed order: a
/// 101 that comes within microseconds, as only one on the same machine does, can be read first, and
/// the end of the request is then taken for the end of the tunnel. Such a connection closes at once.
async fn tunnel(gateway: &Gateway) -> Connection {
    for _ in 0..5 {
        let mut connection = upgrade(gateway, "?model=m&x=1", "client-key-of-a").await;
        let head = connection.head().await;
        assert_eq!(head.word(1), "101", "{head:?}");
        let accept = head.get("sec-websocket-accept");
        assert_eq!(accept, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head:?}");
        connection.send(HELLO).await;
        while connection.wire.buffer.len() < HELLO.len() {
            if within("an echo", connection.wire.fill()).await.unwrap_or(0) == 0 {
                break;
            }
        }
        if connection.wire.buffer.split() == HELLO {
            return connection;
        }
    }
    panic!("no tunnel in five attempts");
}

const HELLO: &[u8] = b"\x81\x05Hello";

#[tokio::test]
async fn frames_pass_both_ways_to_the_models_provider() {
    let (upstream, gateway) = echoing().await;
    let mut connection = tunnel(&gateway).await;
    let long = vec![0x82; 100_000];
    for frame in [HELLO, &long, b"\x88\x00"] {
        connection.send(frame).await;
        while connection.wire.buffer.len() < frame.len() {
            let read = within("an echo", connection.wire.fill()).await.unwrap();
            assert!(read > 0, "closed after {} bytes", connection.wire.buffer.len());
        }
        assert_eq!(connection.wire.buffer.split(), frame);
    }
    let calls = upstream.calls();
    let call = calls.last().unwrap();
    assert_eq!(call.target(), "/v1/realtime?model=meta%2Fvoice%201&x=1");
    assert_eq!(call.header("authorization"), Some("Bearer provider-key-1"), "{call:?}");
    assert_eq!(call.header("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="), "{call:?}");
    assert_eq!(call.header("sec-websocket-protocol"), Some("realtime"), "{call:?}");
    assert!(!format!("{:?}", call.head).contains("client-key"), "{call:?}");
}

#[tokio::test]
async fn a_provider_that_refuses_is_heard() {
    let (upstream, gateway) = echoing().await;
    upstream.behave(|_| Answer::error(400, "No voice here."));
    let mut connection = upgrade(&gateway, "?model=m", "client-key-of-a").await;
    let reply = connection.reply().await;
    assert_eq!(
        (reply.status, reply.json()["error"]["message"].as_str()),
        (400, Some("No voice here."))
    );
}

#[tokio::test]
async fn the_same_rules_hold_as_for_any_call() {
    let (upstream, gateway) = echoing().await;
    let mut connection = upgrade(&gateway, "?model=m", "nobodys-key").await;
    connection.reply().await.refused(401, "invalid_api_key");
    let mut connection = upgrade(&gateway, "?model=m", "client-key-of-b").await;
    connection.reply().await.refused(403, "model_not_allowed");
    let mut connection = upgrade(&gateway, "?model=nope", "client-key-of-a").await;
    connection.reply().await.refused(404, "model_not_found");
    let mut connection = upgrade(&gateway, "", "client-key-of-a").await;
    connection.reply().await.refused(400, "invalid_request");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_caller_who_hangs_up_ends_the_call() {
    let (upstream, gateway) = echoing().await;
    let mut connection = upgrade(&gateway, "?model=m", "client-key-of-a").await;
    assert_eq!(connection.head().await.word(1), "101");
    drop(connection);
    let log = "GET /v1/realtime";
    crate::support::until("the call is over", || gateway.log().contains(log)).await;
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn an_upgraded_connection_is_never_tried_again() {
    let (upstream, gateway) = echoing().await;
    let accept = |call: &upstream::Call| {
        assert_eq!(call.index, 0, "tried again");
        let answer = Answer::new(101, "x", "").header("upgrade", "websocket");
        answer.header("connection", "upgrade").ending(Ending::Cut)
    };
    upstream.behave(accept);
    let mut connection = upgrade(&gateway, "?model=m", "client-key-of-a").await;
    assert_eq!(connection.head().await.word(1), "101");
    within("the end of the connection", connection.wire.closed()).await;
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_browser_may_send_its_key_as_a_subprotocol() {
    let (upstream, gateway) = echoing().await;
    let protocols = "realtime, openai-insecure-api-key.client-key-of-a, openai-beta.realtime-v1";
    let request = gateway.client().request("GET", "/v1/realtime?model=m");
    let request = request
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-protocol", protocols);
    let mut connection = gateway.client().connect().await;
    connection.send(request.head()).await;
    let head = connection.head().await;
    assert_eq!(head.word(1), "101", "{head:?}");
    let call = upstream.call();
    assert!(!format!("{:?}", call.head).contains("client-key"), "{call:?}");
    let passed = call.header("sec-websocket-protocol").unwrap_or_default();
    assert!(passed.contains("realtime"), "{call:?}");
}
