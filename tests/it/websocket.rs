//! Realtime: a WebSocket is passed on, both ways, to the model's provider.

use crate::support::answer::{Answer, Ending};
use crate::support::client::Connection;
use crate::support::gateway::{self, Gateway};
use crate::support::tunnel::{Provider, handshake, hear, hear_out, leave};
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
    handshake(&gateway.client().key(key), query).await
}

/// A connection over which a first frame has come back.
async fn tunnel(gateway: &Gateway) -> Connection {
    let mut connection = upgrade(gateway, "?model=m&x=1", "client-key-of-a").await;
    let head = connection.head().await;
    assert_eq!(head.word(1), "101", "{head:?}");
    let accept = head.get("sec-websocket-accept");
    assert_eq!(accept, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head:?}");
    echoes(&mut connection, HELLO).await;
    connection
}

async fn echoes(connection: &mut Connection, frame: &[u8]) {
    connection.send(frame).await;
    while connection.wire.buffer.len() < frame.len() {
        let read = within("an echo", connection.wire.fill()).await.unwrap();
        assert!(read > 0, "closed after {} bytes", connection.wire.buffer.len());
    }
    assert_eq!(connection.wire.buffer.split(), frame);
}

const HELLO: &[u8] = b"\x81\x05Hello";

#[tokio::test]
async fn frames_pass_both_ways_to_the_models_provider() {
    let (upstream, gateway) = echoing().await;
    let mut connection = tunnel(&gateway).await;
    let long = vec![0x82; 100_000];
    for frame in [HELLO, &long, b"\x88\x00"] {
        echoes(&mut connection, frame).await;
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

/// An upstream on the same machine answers within microseconds: what comes of the handshake then
/// must not depend on which half of it is looked at first.
#[tokio::test]
async fn a_tunnel_survives_an_upgrade_that_comes_at_once() {
    let (_upstream, gateway) = echoing().await;
    for _ in 0..300 {
        tunnel(&gateway).await;
    }
}

#[tokio::test]
async fn a_tunnel_may_be_silent_for_longer_than_an_answer() {
    let accept = Answer::new(101, "x", "")
        .header("upgrade", "websocket")
        .header("connection", "upgrade")
        .header("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        .ending(Ending::Echo);
    let upstream = upstream::always(accept).await;
    let patience = "timeouts: { first_byte: 300ms, between_chunks: 300ms }, api_keys";
    let yaml = REALTIME.replace("api_keys", patience);
    let yaml = format!("{yaml}\ntimeouts: {{ request_body: 300ms, client_idle: 1s }}\n");
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let mut connection = tunnel(&gateway).await;
    // Nothing is to happen here, which only time can show.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    echoes(&mut connection, HELLO).await;
}

#[tokio::test]
async fn a_handshake_that_is_not_answered_is_given_up() {
    let upstream = upstream::always(Answer::silence()).await;
    let patience = "timeouts: { first_byte: 300ms, between_chunks: 300ms }, api_keys";
    let yaml = REALTIME.replace("api_keys", patience);
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let mut connection = upgrade(&gateway, "?model=m", "client-key-of-a").await;
    connection.reply().await.refused(504, "upstream_error");
}

#[tokio::test]
async fn a_refused_handshake_leaves_the_providers_connection_usable() {
    let (upstream, gateway) = echoing().await;
    upstream.behave(|_| Answer::error(400, "No voice here."));
    for over in 1..=3 {
        let mut connection = upgrade(&gateway, "?model=m", "client-key-of-a").await;
        assert_eq!(connection.reply().await.status, 400);
        let logged = || gateway.log().matches("GET /v1/realtime").count() == over;
        crate::support::until("the call is over", logged).await;
    }
    let calls = upstream.calls();
    let first = calls[0].connection;
    assert_eq!(calls.iter().filter(|call| call.connection == first).count(), 3, "{calls:?}");
}

#[tokio::test]
async fn a_handshake_with_a_body_is_refused() {
    let (upstream, gateway) = echoing().await;
    let request = gateway.client().key("client-key-of-a").request("GET", "/v1/realtime?model=m");
    let request = request
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-version", "13")
        .body("GET /v1/realtime?model=other HTTP/1.1\r\n\r\n");
    request.send().await.refused(400, "invalid_request");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_handshake_that_breaks_off_may_go_elsewhere() {
    let (second, _) = echoing().await;
    let first = upstream::always(Answer::chat("x").ending(Ending::CutBeforeHead)).await;
    let gateway = gateway::with(gateway::SPARE).up("a", &first).up("b", &second).start().await;
    let mut connection = upgrade(&gateway, "?model=m", "x").await;
    assert_eq!(connection.head().await.word(1), "101");
    echoes(&mut connection, HELLO).await;
    assert_eq!((first.count(), second.count()), (1, 1));
}

#[tokio::test]
async fn the_end_of_either_side_is_the_end_of_the_other() {
    let provider = Provider::new().await;
    let gateway = gateway::with(REALTIME).place("up", &provider.address).start().await;
    let goodbye = b"\x88\x05\x0f\xa1bye";
    for provider_first in [true, false] {
        let tunnel = provider.tunnel(&gateway.client().key("client-key-of-a")).await;
        let (mut from, mut to) = (tunnel.client, tunnel.provider);
        if provider_first {
            std::mem::swap(&mut from, &mut to);
        }
        // Close codes pass as they are.
        from.send(goodbye).await;
        hear(&mut to, goodbye).await;
        leave(&mut from).await;
        assert_eq!(hear_out(&mut to).await, b"");
        assert_eq!(hear_out(&mut from).await, b"");
    }
    gateway.counts("forebay_active_requests", 0).await;
}
