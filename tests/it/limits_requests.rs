//! Rates, requests per minute, and requests at once: of keys, users and models.

use std::sync::Arc;

use serde_json::json;

use crate::support::answer::{Answer, Ending, Gate};
use crate::support::client::{CHAT, chat_body};
use crate::support::gateway::{self, FRONT, Gateway};
use crate::support::tunnel::handshake;
use crate::support::upstream::{self, Upstream};
use crate::support::vault::{STORE, Vault, known, limit, me};

const KEY: &str = "key-of-the-file-0123456789";

async fn keyed(limits: &str) -> (Upstream, Gateway) {
    let upstream = upstream::chat("hi").await;
    let yaml = format!("{FRONT}keys: [{{ name: filed, key: {KEY}, {limits} }}]\n");
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    (upstream, gateway)
}

#[tokio::test]
async fn a_burst_is_let_through_and_the_next_is_told_when_to_come_back() {
    let (upstream, gateway) = keyed("rate_limit: { requests_per_second: 1, burst_size: 2 }").await;
    let client = gateway.client().key(KEY);
    let first = client.chat("hi").await.ok();
    assert_eq!(first.header("x-ratelimit-limit-requests"), Some("2"), "{first:?}");
    assert_eq!(first.header("x-ratelimit-remaining-requests"), Some("1"), "{first:?}");
    client.chat("hi").await.ok();
    let reply = client.chat("hi").await;
    reply.refused(429, "rate_limit_exceeded");
    assert_eq!(reply.header("retry-after"), Some("1"), "{reply:?}");
    assert_eq!(reply.header("x-ratelimit-remaining-requests"), Some("0"), "{reply:?}");
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn a_rate_of_nothing_blocks() {
    let (upstream, gateway) = keyed("rate_limit: { requests_per_second: 0, burst_size: 0 }").await;
    gateway.client().key(KEY).chat("hi").await.refused(429, "rate_limit_exceeded");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn limits_of_nothing_limit_nothing() {
    let limits = "limits: { requests_per_minute: 0, tokens_per_minute: 0, max_concurrent: 0 }";
    let (_upstream, gateway) = keyed(limits).await;
    let reply = gateway.client().key(KEY).chat("hi").await.ok();
    assert_eq!(reply.header("x-ratelimit-limit-requests"), None, "{reply:?}");
}

#[tokio::test]
async fn requests_of_a_minute_are_counted_whatever_becomes_of_them() {
    let (upstream, gateway) = keyed("limits: { requests_per_minute: 2 }").await;
    upstream.behave(|call| match call.index {
        0 => Answer::error(400, "no"),
        _ => Answer::chat("hi").header("x-ratelimit-remaining-requests", "999"),
    });
    let client = gateway.client().key(KEY);
    assert_eq!(client.chat("hi").await.status, 400);
    let reply = client.chat("hi").await.ok();
    // What the provider says of its own limits is not the caller's.
    assert_eq!(reply.header("x-ratelimit-remaining-requests"), Some("0"), "{reply:?}");
    let reply = client.chat("hi").await;
    reply.refused(429, "rate_limit_exceeded");
    let pause: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&pause), "{reply:?}");
}

#[tokio::test]
async fn without_limits_of_ours_the_providers_words_pass() {
    let upstream =
        upstream::with(|_| Answer::chat("hi").header("x-ratelimit-remaining-requests", "999"))
            .await;
    let gateway = gateway::front(&upstream).await;
    let reply = gateway.client().chat("hi").await.ok();
    assert_eq!(reply.header("x-ratelimit-remaining-requests"), Some("999"), "{reply:?}");
}

#[tokio::test]
async fn anthropics_callers_are_told_in_their_words() {
    let (_upstream, gateway) = keyed("limits: { requests_per_minute: 1 }").await;
    let ask = || {
        let body = json!({"model": "m", "max_tokens": 5, "messages": []}).to_string();
        gateway.client().post("/v1/messages", body).header("x-api-key", KEY)
    };
    let reply = ask().send().await.ok();
    assert_eq!(reply.header("anthropic-ratelimit-requests-limit"), Some("1"), "{reply:?}");
    assert_eq!(reply.header("x-ratelimit-limit-requests"), None, "{reply:?}");
    let reply = ask().send().await;
    assert_eq!(reply.status, 429, "{reply:?}");
    assert_eq!(reply.json()["error"]["type"], "rate_limit_error", "{reply:?}");
    let reset = reply.header("anthropic-ratelimit-requests-reset").unwrap();
    reset.parse::<jiff::Timestamp>().unwrap();
}

#[tokio::test]
async fn requests_at_once_are_bounded_and_give_their_place_back() {
    let (upstream, gateway) = keyed("limits: { max_concurrent: 2 }").await;
    let gate = Gate::closed();
    let held = gate.clone();
    upstream.behave(move |_| Answer::chat("hi").after(&held));
    let client = gateway.client().key(KEY);
    let ask = || client.post(CHAT, chat_body("hi").to_string());
    let (one, two) = (ask().begin().await, ask().begin().await);
    upstream.wait_for(1).await;
    let reply = client.chat("hi").await;
    reply.refused(429, "concurrency_exceeded");
    assert_eq!(reply.header("retry-after"), Some("1"), "{reply:?}");
    // One of them leaves.
    drop(one);
    me(&gateway, KEY, |me| limit(me, "max_concurrent")["used"] == 1).await;
    gate.open();
    client.chat("hi").await.ok();
    let reply = two.answer().await.rest().await.ok();
    assert_eq!(reply.said(), "hi");
    me(&gateway, KEY, |me| limit(me, "max_concurrent")["used"] == 0).await;
}

#[tokio::test]
async fn a_models_limits_hold_for_everybody_together() {
    let upstream = upstream::chat("hi").await;
    let yaml = FRONT.replace("targets:", "limits: { requests_per_minute: 2 }, targets:");
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    for _ in 0..2 {
        gateway.client().chat("hi").await.ok();
    }
    let refused = gateway.client().chat("hi").await.refused(429, "rate_limit_exceeded");
    assert!(refused["message"].as_str().unwrap().contains("model"), "{refused}");
}

#[tokio::test]
async fn a_users_keys_share_its_limits_and_special_users_have_none() {
    let upstream = upstream::chat("hi").await;
    let gateway = gateway::with(&format!("{FRONT}{STORE}")).up("up", &upstream).start().await;
    let vault = Vault::of(&gateway).await;
    let limited = json!({"limits": {"requests_per_minute": 2}});
    vault.user("u", limited.clone()).await;
    vault.user("s", json!({"role": "special", "limits": {"requests_per_minute": 2}})).await;
    let mut keys = Vec::new();
    for (id, user) in [("key_a", "u"), ("key_b", "u"), ("key_s", "s")] {
        let key = vault.key(id, json!({"user": user})).await;
        known(&gateway, &key).await;
        keys.push(gateway.client().key(&key));
    }
    keys[0].chat("hi").await.ok();
    keys[1].chat("hi").await.ok();
    for client in &keys[..2] {
        client.chat("hi").await.refused(429, "rate_limit_exceeded");
    }
    for _ in 0..4 {
        keys[2].chat("hi").await.ok();
    }
}

#[tokio::test]
async fn counts_outlive_a_reload_and_a_change_of_the_limit() {
    let (_upstream, gateway) = keyed("limits: { requests_per_minute: 2 }").await;
    let client = gateway.client().key(KEY);
    client.chat("hi").await.ok();
    gateway.configure(|yaml| yaml.replace("requests_per_minute: 2", "requests_per_minute: 3"));
    assert!(gateway.reload().await);
    client.chat("hi").await.ok();
    client.chat("hi").await.ok();
    client.chat("hi").await.refused(429, "rate_limit_exceeded");
}

#[tokio::test]
async fn calls_without_tokens_count_as_requests() {
    let upstream =
        upstream::always(Answer::json(200, &json!({"object": "list", "data": []}))).await;
    let yaml = format!(
        "{FRONT}default_provider: p\nkeys: [{{ name: filed, key: {KEY}, limits: {{ requests_per_minute: 1, tokens_per_minute: 1 }} }}]\n"
    );
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let client = gateway.client().key(KEY);
    client.get("/v1/files").await.ok();
    client.get("/v1/files").await.refused(429, "rate_limit_exceeded");
    // What is answered here costs nothing.
    client.get("/v1/models").await.ok();
}

#[tokio::test]
async fn a_crowd_gets_exactly_what_there_is() {
    let (upstream, gateway) = keyed("limits: { requests_per_minute: 20 }").await;
    let client = Arc::new(gateway.client().key(KEY));
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let client = Arc::clone(&client);
        crowd.spawn(async move { client.chat("hi").await.status });
    }
    let statuses = crowd.join_all().await;
    let good = statuses.iter().filter(|status| **status == 200).count();
    // The minute may turn over meanwhile.
    assert!(good == 20 || good == 40, "{good}");
    assert_eq!(upstream.count(), good);
}

#[tokio::test]
async fn a_websocket_counts_as_a_request_and_for_as_long_as_it_is_open() {
    let accept = Answer::new(101, "x", "")
        .header("upgrade", "websocket")
        .header("connection", "upgrade")
        .header("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        .ending(Ending::Echo);
    let (upstream, gateway) = keyed("limits: { max_concurrent: 1, requests_per_minute: 9 }").await;
    upstream.behave(move |_| accept.clone());
    let client = gateway.client().key(KEY);
    let mut open = handshake(&client, "?model=m").await;
    assert_eq!(open.head().await.word(1), "101");
    let mut refused = handshake(&client, "?model=m").await;
    assert_eq!(refused.head().await.word(1), "429");
    drop(open);
    let told = me(&gateway, KEY, |me| limit(me, "max_concurrent")["used"] == 0).await;
    assert_eq!(limit(&told, "requests_per_minute")["used"], 1, "{told}");
}
