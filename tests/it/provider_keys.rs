//! The gateway's keys with a provider: used in turn, and one that is limited or refused rests alone.

use std::collections::BTreeMap;

use crate::support::answer::Answer;
use crate::support::client::{CHAT, chat_body};
use crate::support::eventually;
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Call, Upstream};

const TWO_KEYS: &str = r#"
providers:
  - { name: p, kind: vllm, base_url: "http://@up", health_check: { type: none }, ejection: off, api_keys: [key-one-1111, key-two-2222] }
models:
  - { name: m, targets: [{ provider: p }] }
"#;

/// An upstream that treats the first key so, and the second well.
async fn two_keys(first: Answer) -> (Upstream, Gateway) {
    let upstream = upstream::with(move |call| match call.header("authorization") {
        Some("Bearer key-two-2222") => Answer::chat("well"),
        Some("Bearer key-one-1111") => first.clone(),
        _ => Answer::error(400, "no key of ours"),
    })
    .await;
    let gateway = gateway::with(TWO_KEYS).up("up", &upstream).start().await;
    (upstream, gateway)
}

fn uses(upstream: &Upstream) -> BTreeMap<String, usize> {
    let mut uses = BTreeMap::new();
    let key = |call: &Call| call.header("authorization").unwrap_or_default().to_owned();
    upstream.calls().iter().for_each(|call| *uses.entry(key(call)).or_default() += 1);
    uses
}

#[tokio::test]
async fn keys_take_turns() {
    let (upstream, gateway) = two_keys(Answer::chat("well")).await;
    for _ in 0..10 {
        gateway.client().chat("hi").await.ok();
    }
    assert_eq!(uses(&upstream).into_values().collect::<Vec<_>>(), [5, 5], "{:?}", uses(&upstream));
}

#[tokio::test]
async fn a_limited_key_rests_as_long_as_the_provider_says() {
    let limit = Answer::error(429, "slow down").header("retry-after", "60");
    let (upstream, gateway) = two_keys(limit).await;
    for _ in 0..12 {
        assert_eq!(gateway.client().chat("hi").await.said(), "well");
    }
    assert_eq!(uses(&upstream)["Bearer key-one-1111"], 1, "{:?}", uses(&upstream));
    gateway.counts(r#"forebay_key_cooldowns_total{provider="p"}"#, 1).await;
}

#[tokio::test]
async fn a_refused_key_rests_and_the_other_serves() {
    for status in [401, 403] {
        let (upstream, gateway) = two_keys(Answer::error(status, "who are you?")).await;
        for _ in 0..12 {
            assert_eq!(gateway.client().chat("hi").await.said(), "well");
        }
        assert_eq!(uses(&upstream)["Bearer key-one-1111"], 1, "{:?}", uses(&upstream));
    }
}

#[tokio::test]
async fn a_limited_key_says_nothing_about_the_replica() {
    let limit = Answer::error(429, "slow down").header("retry-after", "0");
    let (upstream, gateway) = two_keys(limit).await;
    for _ in 0..12 {
        gateway.client().chat("hi").await;
    }
    assert_eq!(gateway.health_of(&upstream).await, "healthy");
}

#[tokio::test]
async fn a_rested_key_serves_again() {
    let limit = Answer::error(429, "slow down").header("retry-after-ms", "100");
    let (upstream, gateway) = two_keys(limit).await;
    gateway.client().chat("hi").await.ok();
    gateway.client().chat("hi").await.ok();
    assert_eq!(uses(&upstream)["Bearer key-one-1111"], 1);
    upstream.behave(|_| Answer::chat("well"));
    eventually("the rested key is used", async || {
        gateway.client().chat("hi").await.ok();
        (uses(&upstream)["Bearer key-one-1111"] > 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn when_every_key_is_limited_the_caller_is_told_for_how_long() {
    let answer = Answer::error(429, "slow down").header("retry-after", "9");
    let upstream = upstream::always(answer).await;
    let gateway = gateway::with(TWO_KEYS).up("up", &upstream).start().await;
    let reply = gateway.client().chat("hi").await;
    reply.refused(429, "upstream_error");
    assert_eq!(reply.header("retry-after"), Some("9"), "{reply:?}");
    assert_eq!(upstream.count(), 2, "each key once");
    // Resting keys beat no answer: the provider says what is wrong.
    gateway.client().chat("hi").await.refused(429, "upstream_error");
}

// === whose key ===

fn own(auth: &str) -> String {
    TWO_KEYS.replace("ejection: off", &format!("ejection: off, client_auth: {auth}"))
}

#[tokio::test]
async fn the_callers_own_key_goes_first_where_that_is_said() {
    let upstream = upstream::chat("hello").await;
    let plan = gateway::with(&own("prefer_client")).up("up", &upstream);
    let gateway = plan.start().await;
    gateway.client().key("key-of-the-caller").chat("hi").await.ok();
    gateway.client().chat("hi").await.ok();
    let calls = upstream.calls();
    assert_eq!(calls[0].header("authorization"), Some("Bearer key-of-the-caller"));
    let ours = calls[1].header("authorization").unwrap();
    assert!(ours.starts_with("Bearer key-one") || ours.starts_with("Bearer key-two"), "{ours}");
}

#[tokio::test]
async fn the_callers_own_key_is_found_in_any_place_and_sent_in_the_providers() {
    let upstream = upstream::chat("hello").await;
    let plan = gateway::with(&own("prefer_client")).up("up", &upstream);
    let gateway = plan.start().await;
    let request = gateway.client().post(CHAT, chat_body("hi").to_string());
    request.header("x-api-key", "key-of-the-caller").send().await.ok();
    let call = upstream.call();
    assert_eq!(call.header("authorization"), Some("Bearer key-of-the-caller"), "{call:?}");
    assert_eq!(call.header("x-api-key"), None, "{call:?}");
}

#[tokio::test]
async fn the_callers_own_key_refused_is_the_callers_to_know() {
    let answer = Answer::error(401, "Incorrect API key.");
    let upstream = upstream::always(answer.clone()).await;
    let plan = gateway::with(&own("prefer_client")).up("up", &upstream);
    let gateway = plan.start().await;
    let reply = gateway.client().key("key-of-the-caller").chat("hi").await;
    assert_eq!(reply.status, 401, "{reply:?}");
    assert_eq!(reply.json()["error"]["message"], "Incorrect API key.");
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn our_key_never_goes_out_for_a_caller_who_must_bring_one() {
    let upstream = upstream::always(Answer::error(401, "No key.")).await;
    let gateway = gateway::with(&own("forward")).up("up", &upstream).start().await;
    let reply = gateway.client().chat("hi").await;
    assert_eq!(reply.status, 401, "{reply:?}");
    assert_eq!(upstream.call().header("authorization"), None);
}

#[tokio::test]
async fn an_unknown_key_of_the_callers_does_not_go_out_in_place_of_ours() {
    let (upstream, gateway) = two_keys(Answer::chat("well")).await;
    gateway.client().key("key-of-the-caller").chat("hi").await.ok();
    let call = upstream.call();
    assert!(!format!("{:?}", call.head).contains("key-of-the-caller"), "{call:?}");
}
