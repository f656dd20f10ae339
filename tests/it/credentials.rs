//! Sending a key: where it may stand, which keys are known, and what a key may use.

use crate::support::client::{CHAT, Reply, chat_body};
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Upstream};

const KEYED: &str = r#"
providers:
  - { name: p, kind: vllm, base_url: "http://@up", health_check: { type: none }, api_keys: [provider-key-1] }
models:
  - { name: m, targets: [{ provider: p }] }
  - { name: other, targets: [{ provider: p }] }
default_provider: p
keys:
  - { name: all, key: client-key-of-all-models }
  - { name: few, key: client-key-of-few-models, allowed_models: ["m", "x-*"] }
"#;
const KEY: &str = "client-key-of-all-models";
const FEW: &str = "client-key-of-few-models";

async fn keyed() -> (Upstream, Gateway) {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::with(KEYED).up("up", &upstream).start().await;
    (upstream, gateway)
}

async fn with_header(gateway: &Gateway, name: &str, value: &str) -> Reply {
    let request = gateway.client().post(CHAT, chat_body("hi").to_string());
    request.header(name, value).send().await
}

#[tokio::test]
async fn no_key_is_401_and_nothing_reaches_the_upstream() {
    let (upstream, gateway) = keyed().await;
    gateway.client().chat("hi").await.refused(401, "invalid_api_key");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn an_unknown_key_is_401_and_nothing_reaches_the_upstream() {
    let (upstream, gateway) = keyed().await;
    gateway.client().key("client-key-of-nobody").chat("hi").await.refused(401, "invalid_api_key");
    gateway.client().key("").chat("hi").await.refused(401, "invalid_api_key");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_key_counts_in_each_of_its_five_places() {
    let (upstream, gateway) = keyed().await;
    for (name, value) in [
        ("authorization", format!("Bearer {KEY}")),
        ("authorization", format!("bearer {KEY}")),
        ("x-api-key", KEY.to_owned()),
        ("api-key", KEY.to_owned()),
        ("x-goog-api-key", KEY.to_owned()),
    ] {
        let reply = with_header(&gateway, name, &value).await;
        assert_eq!(reply.status, 200, "{name}: {reply:?}");
    }
    let target = format!("{CHAT}?key={KEY}");
    gateway.client().post(&target, chat_body("hi").to_string()).send().await.ok();
    assert_eq!(upstream.count(), 6);
    for call in upstream.calls() {
        assert_eq!(call.header("authorization"), Some("Bearer provider-key-1"), "{call:?}");
        assert!(!format!("{:?}", call.head).contains(KEY), "the client's key went on: {call:?}");
    }
}

#[tokio::test]
async fn two_different_keys_are_400_and_nothing_reaches_the_upstream() {
    let (upstream, gateway) = keyed().await;
    let request = gateway.client().key(KEY).post(CHAT, chat_body("hi").to_string());
    request.clone().header("x-api-key", FEW).send().await.refused(400, "invalid_request");
    request.header("authorization", "Bearer x").send().await.refused(400, "invalid_request");
    let request = gateway.client().key(KEY).post(&format!("{CHAT}?key=x"), "{}");
    request.send().await.refused(400, "invalid_request");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn the_same_key_twice_is_one_key() {
    let (_upstream, gateway) = keyed().await;
    let request = gateway.client().key(KEY).post(CHAT, chat_body("hi").to_string());
    request.header("x-api-key", KEY).send().await.ok();
}

#[tokio::test]
async fn a_key_may_use_only_its_models() {
    let (upstream, gateway) = keyed().await;
    let client = gateway.client().key(FEW);
    client.chat("hi").await.ok();
    let body = r#"{"model":"other","messages":[]}"#;
    let error = client.post(CHAT, body).send().await.refused(403, "model_not_allowed");
    assert_eq!(error["param"], "model");
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_model_in_a_call_for_the_default_provider_must_be_allowed_too() {
    let (upstream, gateway) = keyed().await;
    let client = gateway.client().key(FEW);
    for (path, body) in [
        ("/v1/assistants", r#"{"model":"other"}"#),
        ("/v1/evals/e/runs", r#"{"data_source":{"type":"completions","model":"other"}}"#),
    ] {
        client.post(path, body).send().await.refused(403, "model_not_allowed");
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn the_list_of_models_is_the_callers() {
    let (_upstream, gateway) = keyed().await;
    let ids = |reply: Reply| {
        let list = reply.ok().json()["data"].as_array().unwrap().clone();
        list.iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(gateway.client().key(KEY).get("/v1/models").await), ["m", "other"]);
    assert_eq!(ids(gateway.client().key(FEW).get("/v1/models").await), ["m"]);
    gateway.client().key(FEW).get("/v1/models/m").await.ok();
    let hidden = gateway.client().key(FEW).get("/v1/models/other").await;
    hidden.refused(404, "model_not_found");
    gateway.client().get("/v1/models").await.refused(401, "invalid_api_key");
}

#[tokio::test]
async fn health_in_detail_needs_a_key_and_the_plain_one_does_not() {
    let (_upstream, gateway) = keyed().await;
    for path in ["/health", "/health/live", "/health/ready"] {
        let reply = gateway.client().get(path).await.ok();
        assert_eq!(reply.json(), serde_json::json!({"status": "ok"}), "{path}");
    }
    gateway.client().get("/health/detailed").await.refused(401, "invalid_api_key");
    gateway.client().key(KEY).get("/health/detailed").await.ok();
}

#[tokio::test]
async fn the_operators_key_opens_health_in_detail() {
    let (_upstream, gateway) = keyed().await;
    gateway.client().key(gateway::ADMIN_KEY).get("/health/detailed").await.ok();
}

#[tokio::test]
async fn keys_may_be_given_by_their_digest() {
    // printf %s "a-key-known-by-digest" | sha256sum
    let digest = "@digest";
    let yaml = KEYED.replace("key: client-key-of-all-models", &format!("key_sha256: {digest}"));
    let upstream = upstream::chat("hello").await;
    let digest = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(b"a-key-known-by-digest"));
    let plan = gateway::with(&yaml).up("up", &upstream).place("digest", &digest);
    let gateway = plan.start().await;
    gateway.client().key("a-key-known-by-digest").chat("hi").await.ok();
    gateway.client().key(&digest).chat("hi").await.refused(401, "invalid_api_key");
}
