//! What operators see: every metric by its name, and no label a caller could make up.

use crate::support::answer::Answer;
use crate::support::client::CHAT;
use crate::support::gateway;
use crate::support::upstream;

const RULES: &str = r#"
providers:
  - { name: p, kind: vllm, base_url: "http://@up", health_check: { type: none }, api_keys: [key-1, key-2] }
models:
  - { name: m, aliases: [alias-of-m], targets: [{ provider: p }] }
  - { match: { prefix: "any-" }, targets: [{ provider: p }] }
default_provider: p
"#;

#[tokio::test]
async fn every_metric_has_its_name() {
    let upstream = upstream::with(|call| match call.index {
        0 => Answer::error(429, "slow down"),
        _ => Answer::words(&["a", "b"], true),
    })
    .await;
    let gateway = gateway::with(RULES).up("up", &upstream).start().await;
    gateway.client().stream("hi").await.rest().await.ok();
    let requests = r#"forebay_requests_total{endpoint="/v1/chat/completions",model="m",provider="p",status="200"}"#;
    gateway.counts(requests, 1).await;
    let metrics = gateway.metrics().await;
    for name in [
        "forebay_requests_total{",
        "forebay_request_duration_seconds_bucket{",
        "forebay_time_to_first_token_seconds_bucket{",
        "forebay_inter_token_seconds_bucket{",
        "forebay_active_requests ",
        r#"forebay_tokens_total{model="m",provider="p",type="prompt"} 11"#,
        r#"forebay_tokens_total{model="m",provider="p",type="completion"} 5"#,
        "forebay_provider_health{",
        "forebay_provider_latency_seconds{",
        r#"forebay_upstream_attempts_total{outcome="limited",provider="p"} 1"#,
        r#"forebay_upstream_attempts_total{outcome="ok",provider="p"} 1"#,
        r#"forebay_failovers_total{from="p",to="p"} 1"#,
        r#"forebay_key_cooldowns_total{provider="p"} 1"#,
        "forebay_connections ",
        "forebay_build_info{",
    ] {
        assert!(metrics.contains(name), "{name} is missing:\n{metrics}");
    }
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("forebay_"), "{line}");
    }
}

#[tokio::test]
async fn no_label_comes_from_a_caller() {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::with(RULES).up("up", &upstream).start().await;
    let client = gateway.client();
    let canary = "c4n4ry";
    for model in [format!("any-{canary}"), canary.to_owned(), format!("m\"{canary}")] {
        let body = serde_json::json!({ "model": model }).to_string();
        client.post(CHAT, body).header("x-request-id", canary).send().await;
    }
    client.get(&format!("/v1/files/{canary}?{canary}=1")).await;
    client.get(&format!("/{canary}")).await;
    client.request(&canary.to_uppercase(), "/v1/files").send().await;
    client.post(&format!("/v1/images/{canary}"), r#"{"model":"m"}"#).send().await;
    client.get(&format!("/v1/models/{canary}")).await;
    client.post(CHAT, r#"{"model":"alias-of-m"}"#).header("user-agent", canary).send().await.ok();
    let alias = r#"forebay_requests_total{endpoint="/v1/chat/completions",model="m",provider="p",status="200"}"#;
    gateway.counts(alias, 1).await;
    let metrics = gateway.metrics().await;
    assert!(!metrics.to_lowercase().contains(canary), "{metrics}");
    assert!(metrics.contains(r#"model="prefix:any-""#), "{metrics}");
}

#[tokio::test]
async fn requests_are_counted_by_how_they_ended() {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::with(RULES).up("up", &upstream).start().await;
    let client = gateway.client();
    client.post(CHAT, r#"{"model":"nope"}"#).send().await.refused(404, "model_not_found");
    client.get("/nowhere").await.refused(404, "not_found");
    client.get("/v1/models").await.ok();
    client.get("/v1/files").await.ok();
    let labels = |endpoint: &str, model: &str, provider: &str, status: &str| {
        format!(
            r#"forebay_requests_total{{endpoint="{endpoint}",model="{model}",provider="{provider}",status="{status}"}}"#
        )
    };
    gateway.counts(&labels(CHAT, "", "", "404"), 1).await;
    gateway.counts(&labels("other", "", "", "404"), 1).await;
    gateway.counts(&labels("/v1/models", "", "", "200"), 1).await;
    gateway.counts(&labels("/v1/files", "", "p", "200"), 1).await;
}

#[tokio::test]
async fn the_operators_listener_answers_nothing_else() {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::front(&upstream).await;
    gateway.operator().get("/health").await.ok();
    let reply = gateway.operator().post(CHAT, r#"{"model":"m"}"#).send().await;
    assert_eq!(reply.status, 404, "{reply:?}");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn connections_are_counted_while_they_are_open() {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::front(&upstream).await;
    let mut connection = gateway.client().connect().await;
    gateway.client().request("GET", "/health").over(&mut connection).await.ok();
    gateway.counts("forebay_connections", 1).await;
    drop(connection);
    gateway.counts("forebay_connections", 0).await;
}
