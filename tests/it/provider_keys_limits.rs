//! What a provider tells of its limits: how long a key rests, for which model, and which key is
//! nearly spent.

use serde_json::json;

use crate::support::answer::Answer;
use crate::support::client::CHAT;
use crate::support::eventually;
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Call, Upstream};

const KEYS: &str = r#"
providers:
  - { name: p, kind: vllm, base_url: "http://@up", health_check: { type: none }, ejection: off, api_keys: [canary-fake-key-1111, canary-fake-key-2222] }
models:
  - { name: m, targets: [{ provider: p }] }
  - { name: n, targets: [{ provider: p, model: other }] }
"#;
const FIRST: &str = "Bearer canary-fake-key-1111";

fn is_first(call: &Call) -> bool {
    call.header("authorization") == Some(FIRST)
}

async fn started(
    behaviour: impl Fn(&Call) -> Answer + Send + Sync + 'static,
) -> (Upstream, Gateway) {
    let upstream = upstream::with(behaviour).await;
    let gateway = gateway::with(KEYS).up("up", &upstream).start().await;
    (upstream, gateway)
}

/// How often a model was asked for with the first key.
fn uses(upstream: &Upstream, model: &str) -> usize {
    let calls = upstream.calls();
    calls.iter().filter(|call| is_first(call) && call.json()["model"] == model).count()
}

async fn ask(gateway: &Gateway, model: &str, times: usize) {
    for _ in 0..times {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        let reply = gateway.client().post(CHAT, body.to_string()).send().await;
        assert_eq!(reply.said(), "well");
    }
}

#[tokio::test]
async fn a_limit_is_of_one_model_and_lasts_as_long_as_is_said() {
    for (name, value) in [
        ("retry-after", "60"),
        ("x-ratelimit-reset-requests", "6m0s"),
        ("x-ratelimit-reset-tokens", "59.5s"),
        ("anthropic-ratelimit-tokens-reset", "2099-01-01T00:00:00Z"),
    ] {
        let limit = Answer::error(429, "slow down").header(name, value);
        let behaviour = move |call: &Call| {
            let limited = is_first(call) && call.json()["model"] == "m";
            if limited { limit.clone() } else { Answer::chat("well") }
        };
        let (upstream, gateway) = started(behaviour).await;
        ask(&gateway, "m", 10).await;
        assert_eq!(uses(&upstream, "m"), 1, "{name}");
        ask(&gateway, "n", 10).await;
        assert_eq!(uses(&upstream, "other"), 5, "{name}");
        let key = gateway.health().await["providers"][0]["keys"][0].clone();
        let told = (&key["state"], &key["reason"], &key["resting_models"]);
        assert_eq!(told, (&json!("resting"), &json!("limited"), &json!(1)), "{key}");
        let until: jiff::Timestamp = key["until"].as_str().unwrap().parse().unwrap();
        let left = until.duration_since(jiff::Timestamp::now()).as_secs();
        assert!((30..=3600).contains(&left), "{name}: {left} s");
        gateway.counts(r#"forebay_provider_keys{provider="p",state="resting"}"#, 1).await;
    }
}

#[tokio::test]
async fn a_limit_ends_when_it_was_said_to() {
    let limit = Answer::error(429, "slow down").header("x-ratelimit-reset-requests", "150ms");
    let behaviour = move |call: &Call| {
        let limited = is_first(call) && call.index < 2;
        if limited { limit.clone() } else { Answer::chat("well") }
    };
    let (upstream, gateway) = started(behaviour).await;
    ask(&gateway, "m", 2).await;
    assert_eq!(uses(&upstream, "m"), 1);
    eventually("the key serves again", async || {
        ask(&gateway, "m", 1).await;
        (uses(&upstream, "m") > 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn when_all_keys_are_limited_for_a_model_the_caller_learns_for_how_long() {
    let behaviour = |call: &Call| match (call.json()["model"] == "m", is_first(call)) {
        (true, true) => Answer::error(429, "slow down").header("retry-after", "40"),
        (true, false) => Answer::error(429, "slow down").header("retry-after", "20"),
        (false, _) => Answer::chat("well"),
    };
    let (upstream, gateway) = started(behaviour).await;
    gateway.client().chat("hi").await.refused(429, "upstream_error");
    assert_eq!(upstream.count(), 2, "each key once");
    let reply = gateway.client().chat("hi").await;
    reply.refused(429, "upstream_error");
    assert_eq!(reply.header("retry-after"), Some("20"), "{reply:?}");
    assert_eq!(upstream.count(), 2, "a limited key was told when to come back");
    ask(&gateway, "n", 4).await;
}

#[tokio::test]
async fn a_nearly_spent_key_is_used_last() {
    let left = |remaining: &str| {
        Answer::chat("well")
            .header("x-ratelimit-limit-tokens", "1000")
            .header("x-ratelimit-remaining-tokens", remaining)
            .header("x-ratelimit-reset-tokens", "50s")
    };
    let (few, many) = (left("49"), left("51"));
    let behaviour = {
        let (few, many) = (few.clone(), many.clone());
        move |call: &Call| if is_first(call) { few.clone() } else { many.clone() }
    };
    let (upstream, gateway) = started(behaviour).await;
    ask(&gateway, "m", 10).await;
    assert_eq!(uses(&upstream, "m"), 1);
    ask(&gateway, "n", 10).await;
    assert_eq!(uses(&upstream, "other"), 1, "each model has its own limits");
    // It is still better than a limited one.
    let limit = Answer::error(429, "slow down").header("retry-after", "60");
    upstream.behave(move |call| if is_first(call) { few.clone() } else { limit.clone() });
    ask(&gateway, "m", 6).await;
    assert_eq!(uses(&upstream, "m"), 1 + 6);
    // … and in turn again once it has told of more.
    upstream.behave(move |_| many.clone());
    ask(&gateway, "m", 4).await;
    let before = uses(&upstream, "m");
    ask(&gateway, "m", 4).await;
    assert_eq!(uses(&upstream, "m"), before + 4, "the other one still rests");
}

#[tokio::test]
async fn limits_that_are_told_in_odd_ways_are_no_limits() {
    for (name, value) in [
        ("x-ratelimit-remaining-requests", "-1"),
        ("x-ratelimit-remaining-requests", "none"),
        ("x-ratelimit-remaining-requests", "0.0"),
        ("anthropic-ratelimit-requests-remaining", "18446744073709551616"),
    ] {
        let (upstream, gateway) = started(move |_| Answer::chat("well").header(name, value)).await;
        ask(&gateway, "m", 10).await;
        assert_eq!(uses(&upstream, "m"), 5, "{name}: {value}");
    }
}

#[tokio::test]
async fn many_at_once_are_limited_once() {
    let behaviour = |call: &Call| {
        if is_first(call) {
            return Answer::error(429, "slow down").header("retry-after", "30");
        }
        Answer::chat("well")
    };
    let upstream = upstream::with(behaviour).await;
    let yaml = format!("{KEYS}\nretry: {{ budget: 100% }}\n");
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let client = gateway.client();
        crowd.spawn(async move { client.chat("hi").await.status });
    }
    while let Some(status) = crowd.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    gateway.counts(r#"forebay_key_cooldowns_total{provider="p"}"#, 1).await;
    let before = upstream.calls().iter().filter(|call| is_first(call)).count();
    ask(&gateway, "m", 10).await;
    assert_eq!(upstream.calls().iter().filter(|call| is_first(call)).count(), before);
}
