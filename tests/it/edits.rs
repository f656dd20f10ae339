//! Requests that the operator has changed on purpose: caps, stops, extra members, stripped thinking.

use serde_json::{Value, json};

use crate::support::client::CHAT;
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Upstream};

async fn editing(request: &str) -> (Upstream, Gateway) {
    let upstream = upstream::chat("hello").await;
    let yaml = format!(
        "{}\n",
        gateway::FRONT.replace("provider: p }]", &format!("provider: p }}], request: {request}"))
    );
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    (upstream, gateway)
}

/// What the upstream gets of each body, as text.
async fn sent(request: &str, path: &str, bodies: &[&str]) -> Vec<String> {
    let (upstream, gateway) = editing(request).await;
    for body in bodies {
        gateway.client().post(path, body.to_string()).send().await.ok();
    }
    upstream.calls().iter().map(|call| call.text()).collect()
}

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test]
async fn more_tokens_than_the_cap_are_capped_and_fewer_are_kept() {
    let sent = sent(
        "{ max_tokens: 100 }",
        CHAT,
        &[
            r#"{"model":"m","max_tokens": 5000 ,"n":1e0}"#,
            r#"{"model":"m","max_tokens":50}"#,
            r#"{"model":"m"}"#,
            r#"{"model":"m","max_completion_tokens":5000}"#,
            r#"{"model":"m","max_tokens":null}"#,
        ],
    )
    .await;
    assert_eq!(sent[0], r#"{"model":"m","max_tokens": 100 ,"n":1e0}"#);
    assert_eq!(sent[1], r#"{"model":"m","max_tokens":50}"#);
    assert_eq!(read(&sent[2])["max_tokens"], 100);
    assert_eq!(read(&sent[3])["max_completion_tokens"], 100);
    assert_eq!(read(&sent[3]).get("max_tokens"), None, "{}", sent[3]);
    assert_eq!(read(&sent[4])["max_tokens"], 100);
}

#[tokio::test]
async fn the_cap_has_each_endpoints_own_name() {
    for (path, name) in [
        ("/v1/completions", "max_tokens"),
        ("/v1/messages", "max_tokens"),
        ("/v1/responses", "max_output_tokens"),
    ] {
        let body = r#"{"model":"m"}"#;
        let sent = sent("{ max_tokens: 100 }", path, &[body]).await;
        assert_eq!(read(&sent[0]), json!({"model": "m", name: 100}), "{path}");
    }
    let embeddings = sent("{ max_tokens: 100 }", "/v1/embeddings", &[r#"{"model":"m"}"#]).await;
    assert_eq!(embeddings[0], r#"{"model":"m"}"#);
}

#[tokio::test]
async fn a_cap_of_a_number_that_is_none_is_400() {
    let (upstream, gateway) = editing("{ max_tokens: 100 }").await;
    for body in [r#"{"model":"m","max_tokens":"5"}"#, r#"{"model":"m","max_tokens":-1}"#] {
        let reply = gateway.client().post(CHAT, body).send().await;
        let error = reply.refused(400, "invalid_request");
        assert_eq!(error["param"], "max_tokens");
    }
    assert_eq!(upstream.count(), 0, "{:?}", upstream.calls());
}

#[tokio::test]
async fn configured_stops_go_before_the_callers_own() {
    let bodies = [
        r#"{"model":"m"}"#,
        r#"{"model":"m","stop":"END"}"#,
        r#"{"model":"m","stop":["END","</s>"]}"#,
        r#"{"model":"m","stop":null}"#,
    ];
    let sent = sent(r#"{ stop: ["</s>", "<eot>"] }"#, CHAT, &bodies).await;
    let stops: Vec<Value> = sent.iter().map(|body| read(body)["stop"].clone()).collect();
    assert_eq!(stops[0], json!(["</s>", "<eot>"]));
    assert_eq!(stops[1], json!(["</s>", "<eot>", "END"]));
    assert_eq!(stops[2], json!(["</s>", "<eot>", "END"]));
    assert_eq!(stops[3], json!(["</s>", "<eot>"]));
}

#[tokio::test]
async fn extra_members_stand_where_the_caller_set_none() {
    let bodies = [r#"{"model":"m"}"#, r#"{"model":"m","top_k":5}"#];
    let sent = sent("{ extra_body: { top_k: 20, nested: { a: [1, true] } } }", CHAT, &bodies).await;
    let added = json!({"model": "m", "top_k": 20, "nested": {"a": [1, true]}});
    assert_eq!(read(&sent[0]), added);
    assert_eq!(read(&sent[1])["top_k"], 5);
}

#[tokio::test]
async fn thinking_is_stripped_from_earlier_turns() {
    let body = r#"{"model":"m","messages":[{"role":"user","content":"<think>keep</think> me"},{"role":"assistant","content":"<think>secret\nplan</think>\n\nAnswer."},{"role":"assistant","content":null},{"role":"user","content":"go on"}]}"#;
    let stripped = sent("{ thinking_history: strip }", CHAT, &[body]).await;
    let messages = read(&stripped[0])["messages"].clone();
    assert_eq!(messages[0]["content"], "<think>keep</think> me");
    assert_eq!(messages[1]["content"].as_str().unwrap().trim(), "Answer.");
    assert_eq!(messages[2]["content"], Value::Null);
    let kept = sent("{ thinking_history: keep }", CHAT, &[body]).await;
    assert_eq!(kept[0], body);
}

#[tokio::test]
async fn each_target_gets_the_edits_of_its_model() {
    let a = upstream::always(crate::support::answer::Answer::error(503, "x")).await;
    let b = upstream::chat("hello").await;
    let yaml = r#"
providers:
  - { name: one, kind: vllm, base_url: "http://@a", health_check: { type: none } }
  - { name: two, kind: vllm, base_url: "http://@b", health_check: { type: none } }
models:
  - { name: m, targets: [{ provider: one }], fallback: [small], request: { max_tokens: 100 } }
  - { name: small, targets: [{ provider: two }], request: { max_tokens: 10, extra_body: { x: 1 } } }
"#;
    let gateway = gateway::with(yaml).up("a", &a).up("b", &b).start().await;
    gateway.client().post(CHAT, r#"{"model":"m","max_tokens":500}"#).send().await.ok();
    assert_eq!(a.call().json(), json!({"model": "m", "max_tokens": 100}));
    assert_eq!(b.call().json(), json!({"model": "small", "max_tokens": 10, "x": 1}));
}
