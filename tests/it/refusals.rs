//! A request that cannot be served as it is: refused in the caller's dialect, before anything of it
//! reaches an upstream.

use serde_json::json;

use crate::support::client::{CHAT, Reply, chunk};
use crate::support::gateway::{self, Gateway};
use crate::support::http2::Http2;
use crate::support::upstream::{self, Upstream};

async fn fronted() -> (Upstream, Gateway) {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::front(&upstream).await;
    (upstream, gateway)
}

/// Posts each body to chat; none may reach the upstream.
async fn refused(bodies: &[&str], status: u16, code: &str) -> Vec<serde_json::Value> {
    let (upstream, gateway) = fronted().await;
    let mut errors = Vec::new();
    for body in bodies {
        let reply = gateway.client().post(CHAT, body.to_string()).send().await;
        assert_eq!(reply.status, status, "{body}: {reply:?}");
        errors.push(reply.refused(status, code));
    }
    assert_eq!(upstream.count(), 0, "{:?}", upstream.calls());
    errors
}

#[tokio::test]
async fn an_unknown_model_is_404() {
    let errors = refused(&[r#"{"model":"nope"}"#], 404, "model_not_found").await;
    assert_eq!(errors[0]["param"], "model");
    assert_eq!(errors[0]["type"], "invalid_request_error");
    assert!(errors[0]["message"].as_str().unwrap().contains("nope"), "{errors:?}");
}

#[tokio::test]
async fn malformed_json_is_400() {
    let deep = format!(r#"{{"model":"m","x":{}{}}}"#, "[".repeat(500), "]".repeat(500));
    let bodies = [
        "",
        "x",
        "{",
        "[]",
        "null",
        r#"{"model":"m",}"#,
        r#"{"model":"m"}}"#,
        r#"{"model":"m","x":NaN}"#,
        r#"{"model":"m","x":01}"#,
        r#"{"model":"m","x":"\ud800"}"#,
        r#"{"model":"m" "x":1}"#,
        "\u{feff}{\"model\":\"m\"}",
        &deep,
    ];
    refused(&bodies, 400, "invalid_json").await;
}

#[tokio::test]
async fn invalid_utf8_is_400_also_where_nobody_looks() {
    let (upstream, gateway) = fronted().await;
    let body = b"{\"model\":\"m\",\"ignored\":\"\xff\"}".to_vec();
    gateway.client().post(CHAT, body).send().await.refused(400, "invalid_json");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_member_given_twice_is_400_however_it_is_spelled() {
    let bodies = [
        r#"{"model":"m","model":"other"}"#,
        r#"{"model":"m","mod\u0065l":"other"}"#,
        r#"{"mod\u0065l":"m","model":"m"}"#,
        r#"{"model":"m","stream":true,"stream":false}"#,
    ];
    let errors = refused(&bodies, 400, "duplicate_field").await;
    assert_eq!(errors[1]["param"], "model");
    assert_eq!(errors[3]["param"], "stream");
}

#[tokio::test]
async fn a_member_of_the_wrong_type_is_400() {
    let bodies = [
        r#"{"model":5}"#,
        r#"{"model":null}"#,
        r#"{"model":["m"]}"#,
        r#"{"model":"m","stream":"yes"}"#,
        r#"{"model":"m","stream":1}"#,
    ];
    let errors = refused(&bodies, 400, "invalid_request").await;
    assert_eq!(errors[0]["param"], "model");
    assert_eq!(errors[3]["param"], "stream");
}

#[tokio::test]
async fn a_request_without_a_model_is_400() {
    let errors = refused(&[r#"{"messages":[]}"#, "{}"], 400, "invalid_request").await;
    assert_eq!(errors[0]["param"], "model");
}

#[tokio::test]
async fn a_compressed_body_is_refused() {
    let (upstream, gateway) = fronted().await;
    let request = gateway.client().post(CHAT, "x").header("content-encoding", "gzip");
    request.send().await.refused(415, "invalid_request");
    assert_eq!(upstream.count(), 0);
}

const SMALL: &str = r#"
limits: { body: 10KiB }
providers:
  - { name: p, kind: vllm, base_url: "http://@up", health_check: { type: none } }
models:
  - { name: m, targets: [{ provider: p }] }
"#;

/// A chat request of exactly this many bytes.
fn sized(length: usize) -> String {
    let around = r#"{"model":"m","messages":[{"role":"user","content":""}]}"#;
    let text = "x".repeat(length - around.len());
    around.replace(r#""content":"""#, &format!(r#""content":"{text}""#))
}

#[tokio::test]
async fn a_body_beyond_its_limit_is_413_by_its_length_or_as_it_grows() {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::with(SMALL).up("up", &upstream).start().await;
    let client = gateway.client();
    let over = client.post(CHAT, sized(10 * 1024 + 1));
    over.send().await.refused(413, "request_too_large");
    over.clone().chunked(1000).send().await.refused(413, "request_too_large");
    over.chunked(1 << 20).send().await.refused(413, "request_too_large");
    client.post(CHAT, sized(1 << 20)).send().await.refused(413, "request_too_large");
    assert_eq!(upstream.count(), 0);

    let just = client.post(CHAT, sized(10 * 1024));
    just.send().await.ok();
    just.chunked(1000).send().await.ok();
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn an_absurd_content_length_is_413_at_once() {
    let (upstream, gateway) = fronted().await;
    let request = gateway.client().post(CHAT, "{}").header("content-length", "9223372036854775807");
    request.send().await.refused(413, "request_too_large");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn headers_beyond_their_limit_are_431() {
    let (upstream, gateway) = fronted().await;
    let long = "x".repeat(100 << 10);
    let reply = gateway.client().request("GET", "/v1/models").header("x-long", &long).send().await;
    reply.refused(431, "headers_too_large");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn the_connection_goes_on_after_a_refusal() {
    let (_upstream, gateway) = fronted().await;
    let mut connection = gateway.client().connect().await;
    let bad = gateway.client().post(CHAT, r#"{"model":"nope"}"#);
    bad.over(&mut connection).await.refused(404, "model_not_found");
    let good = gateway.client().post(CHAT, r#"{"model":"m","messages":[]}"#);
    good.over(&mut connection).await.ok();
    gateway.client().request("GET", "/nope").over(&mut connection).await.refused(404, "not_found");
    good.over(&mut connection).await.ok();
}

#[tokio::test]
async fn anthropic_callers_are_refused_in_their_dialect() {
    let (upstream, gateway) = fronted().await;
    let reply = gateway.client().post("/v1/messages", r#"{"model":"nope"}"#).send().await;
    assert_eq!(reply.status, 404, "{reply:?}");
    let body = reply.json();
    assert_eq!(body["type"], "error", "{body}");
    assert_eq!(body["error"]["type"], "not_found_error", "{body}");
    assert!(body["error"]["message"].as_str().unwrap().contains("nope"), "{body}");
    assert_eq!(body["request_id"].as_str(), reply.header("x-request-id"), "{body}");
    let reply = gateway.client().post("/v1/messages", "{").send().await;
    assert_eq!(reply.json()["error"]["type"], "invalid_request_error", "{reply:?}");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn gemini_callers_are_refused_in_their_dialect() {
    let (_upstream, gateway) = fronted().await;
    let reply = gateway.client().post("/v1beta/models/x:generateContent", "{}").send().await;
    let body = reply.json();
    assert_eq!(reply.status, 404, "{reply:?}");
    assert_eq!(body["error"]["code"], 404, "{body}");
    assert_eq!(body["error"]["status"], "NOT_FOUND", "{body}");
    assert!(body["error"]["message"].is_string(), "{body}");
}

// === framing that two parties could read differently ===

/// Sends these bytes; the answer must be a refusal or a closed connection.
async fn ambiguous(bytes: &str) {
    let (upstream, gateway) = fronted().await;
    let mut connection = gateway.client().connect().await;
    connection.send(bytes).await;
    let reply: Option<Reply> = match connection.wire.head().await {
        Ok(Some(head)) => Some(Reply::new(head, &[], false)),
        _ => None,
    };
    let refused = reply.as_ref().is_none_or(|reply| (400..=501).contains(&reply.status));
    assert!(refused, "{bytes:?}: {reply:?}");
    assert_eq!(upstream.count(), 0, "{bytes:?} reached the upstream: {:?}", upstream.calls());
}

const BODY: &str = r#"{"model":"m","messages":[]}"#;

#[tokio::test]
async fn a_length_next_to_chunks_is_refused() {
    let chunks = format!("{:x}\r\n{BODY}\r\n0\r\n\r\n", BODY.len());
    let head =
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    let both = "content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n";
    ambiguous(&format!("{head}{both}{chunks}")).await;
}

#[tokio::test]
async fn lengths_given_twice_are_refused() {
    let head =
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    let length = BODY.len();
    let twice = format!("content-length: {length}\r\ncontent-length: {length}\r\n\r\n");
    ambiguous(&format!("{head}{twice}{BODY}")).await;
    ambiguous(&format!("{head}content-length: {length}, {length}\r\n\r\n{BODY}")).await;
}

#[tokio::test]
async fn a_coding_that_nobody_undoes_is_refused() {
    let head =
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    let chunks = String::from_utf8(chunk(BODY.as_bytes())).unwrap() + "0\r\n\r\n";
    ambiguous(&format!("{head}transfer-encoding: gzip, chunked\r\n\r\n{chunks}")).await;
}

#[tokio::test]
async fn a_request_without_a_host_is_refused() {
    let length = BODY.len();
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {length}\r\n\r\n");
    ambiguous(&format!("{head}{BODY}")).await;
}

#[tokio::test]
async fn an_expectation_other_than_100_continue_is_417() {
    let (upstream, gateway) = fronted().await;
    let reply = gateway.client().post(CHAT, BODY).header("expect", "y").send().await;
    assert_eq!(reply.status, 417, "{reply:?}");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_refusal_is_json_that_escapes_what_the_caller_wrote() {
    let (_upstream, gateway) = fronted().await;
    let body = json!({"model": "a\"b\u{2028}é"}).to_string();
    let error = gateway.client().post(CHAT, body).send().await.refused(404, "model_not_found");
    assert!(error["message"].as_str().unwrap().contains("a\"b\u{2028}é"), "{error}");
}

#[tokio::test]
async fn an_http2_caller_hears_why_its_body_is_refused() {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::with(SMALL).up("up", &upstream).start().await;
    for size in [10 * 1024 + 1, 5 << 20] {
        let mut http2 = Http2::connect(gateway.address).await;
        let reply = http2.post(CHAT, sized(size)).await.rest().await;
        assert_eq!(reply.status, 413, "{size}: {reply:?}");
        let body = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(body.contains("request_too_large"), "{body}");
    }
    assert_eq!(upstream.count(), 0);
}
