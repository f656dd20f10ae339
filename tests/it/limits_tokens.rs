//! Tokens and money: reserved before a call, settled after it, whatever has become of it.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::answer::{Answer, Cue, Gate, content, feed, usage_event};
use crate::support::client::{CHAT, Client};
use crate::support::gateway::{self, FRONT, Gateway};
use crate::support::upstream::{self, Upstream};
use crate::support::vault::{STORE, Vault, known, limit, me};
use crate::support::{eventually, within};

/// One dollar per million tokens either way: 1,000 nanodollars each.
const PRICES: &str = "prices: [{ model: m, input: 1, output: 1, max_output: 1000 }]\n";

async fn stored(upstream: &Upstream, members: Value) -> (Gateway, Vault, String) {
    stored_in_front(FRONT, upstream, members).await
}

async fn stored_in_front(
    front: &str,
    upstream: &Upstream,
    members: Value,
) -> (Gateway, Vault, String) {
    let yaml = format!("{front}{STORE}{PRICES}");
    let gateway = gateway::with(&yaml).up("up", upstream).start().await;
    let vault = Vault::of(&gateway).await;
    let key = vault.key("key_a", members).await;
    known(&gateway, &key).await;
    (gateway, vault, key)
}

fn body(max_tokens: u64) -> String {
    json!({"model": "m", "max_tokens": max_tokens, "messages": []}).to_string()
}

fn nanos(amount: &Value) -> u64 {
    forebay::config::parse_usd(amount.as_str().unwrap()).unwrap()
}

/// What is booked in the end, once it is in the store.
async fn booked(vault: &Vault, requests: u64) -> (u64, u64) {
    eventually("the rows of usage", async || {
        let (count, tokens, cost) = vault.used().await;
        (count == requests).then_some((tokens, cost))
    })
    .await
}

#[tokio::test]
async fn what_the_configuration_asks_for_is_reserved_as_well() {
    let upstream = upstream::chat("hello").await;
    let limits = json!({"limits": {"budget": {"usd": "0.003", "per": "total"}}});
    let more = "name: m, request: { extra_body: { max_tokens: 1500, n: 2 } },";
    let front = FRONT.replace("name: m,", more);
    let (gateway, _vault, key) = stored_in_front(&front, &upstream, limits).await;
    let client = gateway.client().key(&key);
    let open = json!({"model": "m", "messages": []}).to_string();
    client.post(CHAT, open).send().await.refused(429, "quota_exceeded");
    assert_eq!(upstream.count(), 0);
    client.post(CHAT, body(1000)).send().await.ok();
}

#[tokio::test]
async fn a_crowd_on_a_budget_gets_no_more_than_there_is() {
    const PROMPT: u64 = 12;
    let gate = Gate::closed();
    let held = gate.clone();
    let upstream = upstream::with(move |_| Answer::chat("hi").after(&held)).await;
    let asked = body(1000);
    let prompt = forebay::ledger::estimate_prompt(asked.as_bytes());
    assert_eq!(prompt, PROMPT, "{asked}");
    // Ten calls at their worst.
    let budget = forebay::config::format_usd(10 * (PROMPT + 1000) * 1000);
    let limits = json!({"limits": {"budget": {"usd": budget, "per": "total"}}});
    let (gateway, vault, key) = stored(&upstream, limits).await;

    let client = Arc::new(gateway.client().key(&key));
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (client, asked) = (Arc::clone(&client), asked.clone());
        crowd.spawn(async move { client.post(CHAT, asked).send().await });
    }
    let mut refused = 0;
    let reserved = |me: &Value| nanos(&limit(me, "budget")["reserved"]);
    while refused < 190 {
        let reply = within("an answer", crowd.join_next()).await.unwrap().unwrap();
        reply.refused(429, "quota_exceeded");
        refused += 1;
    }
    me(&gateway, &key, |me| reserved(me) == 10 * (PROMPT + 1000) * 1000).await;
    gate.open();
    while let Some(reply) = within("an answer", crowd.join_next()).await {
        reply.unwrap().ok();
    }
    assert_eq!(upstream.count(), 10);

    let told = me(&gateway, &key, |me| reserved(me) == 0).await;
    // Seven tokens and three, ten times.
    assert_eq!(nanos(&limit(&told, "budget")["used"]), 100_000, "{told}");
    assert_eq!(booked(&vault, 10).await, (100, 100_000));
}

#[tokio::test]
async fn tokens_of_a_minute_are_reserved_and_settled() {
    let upstream = upstream::chat("hi").await;
    let limits = json!({"limits": {"tokens_per_minute": 2000}});
    let (gateway, _vault, key) = stored(&upstream, limits).await;
    let client = gateway.client().key(&key);
    let reply = client.post(CHAT, body(1000)).send().await.ok();
    assert_eq!(reply.header("x-ratelimit-limit-tokens"), Some("2000"), "{reply:?}");
    assert_eq!(reply.header("x-ratelimit-remaining-tokens"), Some("988"), "{reply:?}");
    assert!(reply.header("x-ratelimit-reset-tokens").is_some(), "{reply:?}");
    let told = me(&gateway, &key, |me| limit(me, "tokens_per_minute")["reserved"] == 0).await;
    assert_eq!(limit(&told, "tokens_per_minute")["used"], 10, "{told}");
    // Without a cap of the caller's, an answer may be as long as the model's answers can be.
    let long = json!({"model": "m", "n": 3, "messages": []}).to_string();
    let refused = client.post(CHAT, long).send().await.refused(429, "rate_limit_exceeded");
    assert!(refused["message"].as_str().unwrap().contains("more than there ever is"), "{refused}");
    // What would fit a whole minute is told what is left of this one.
    let much = client.post(CHAT, body(1985)).send().await.refused(429, "rate_limit_exceeded");
    assert!(much["message"].as_str().unwrap().contains("and 1990 tokens are left"), "{much}");
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_stream_is_settled_by_usage_its_caller_does_not_see() {
    let upstream = upstream::with(|call| {
        assert_eq!(call.json()["stream_options"]["include_usage"], true);
        Answer::words(&["one", " two"], true)
    })
    .await;
    let limits = json!({"limits": {"tokens_per_minute": 2000}});
    let (gateway, vault, key) = stored(&upstream, limits).await;
    let asked = json!({"model": "m", "stream": true, "max_tokens": 9, "messages": []});
    let client = gateway.client().key(&key);
    let reply = client.post(CHAT, asked.to_string()).send().await.ok();
    assert!(!reply.text().contains("usage"), "{reply:?}");
    me(&gateway, &key, |me| limit(me, "tokens_per_minute")["used"] == 16).await;
    assert_eq!(booked(&vault, 1).await.0, 16);
}

async fn open_stream(client: &Client) -> crate::support::client::Incoming {
    let asked = json!({"model": "m", "stream": true, "max_tokens": 900, "messages": []});
    client.post(CHAT, asked.to_string()).open().await
}

#[tokio::test]
async fn a_stream_its_caller_leaves_is_charged_what_was_delivered() {
    let (cues, live) = feed();
    let upstream = upstream::always(Answer::live(live)).await;
    let limits = json!({"limits": {"budget": {"usd": "1", "per": "day"}}});
    let (gateway, vault, key) = stored(&upstream, limits).await;
    // The head waits for the first event.
    for word in ["one", " two", " three"] {
        cues.send(content(word));
    }
    let mut stream = open_stream(&gateway.client().key(&key)).await;
    for _ in 0..3 {
        stream.data().await.unwrap();
    }
    drop(stream);
    let told = me(&gateway, &key, |me| nanos(&limit(me, "budget")["used"]) > 0).await;
    let asked = json!({"model": "m", "stream": true, "max_tokens": 900, "messages": []});
    let prompt = forebay::ledger::estimate_prompt(asked.to_string().as_bytes());
    // "one two three" has thirteen letters, and came in three pieces.
    let tokens = prompt + 4;
    assert_eq!(nanos(&limit(&told, "budget")["used"]), tokens * 1000, "{told}");
    assert_eq!(nanos(&limit(&told, "budget")["reserved"]), 0, "{told}");
    assert_eq!(booked(&vault, 1).await, (tokens, tokens * 1000));
}

#[tokio::test]
async fn a_stream_its_upstream_cuts_is_charged_what_was_delivered() {
    let (cues, live) = feed();
    let upstream = upstream::always(Answer::live(live)).await;
    let limits = json!({"limits": {"tokens_per_minute": 2000}});
    let (gateway, _vault, key) = stored(&upstream, limits).await;
    cues.send(content("one"));
    let mut stream = open_stream(&gateway.client().key(&key)).await;
    stream.data().await.unwrap();
    cues.cue(Cue::Cut);
    let _broken = stream.rest().await;
    let told = me(&gateway, &key, |me| limit(me, "tokens_per_minute")["reserved"] == 0).await;
    let used = limit(&told, "tokens_per_minute")["used"].as_u64().unwrap();
    assert!((2..900).contains(&used), "{told}");
}

#[tokio::test]
async fn usage_told_before_the_cut_counts() {
    let (cues, live) = feed();
    let upstream = upstream::always(Answer::live(live)).await;
    let limits = json!({"limits": {"tokens_per_minute": 2000}});
    let (gateway, _vault, key) = stored(&upstream, limits).await;
    cues.send([content("one"), usage_event()].concat());
    let mut stream = open_stream(&gateway.client().key(&key)).await;
    stream.data().await.unwrap();
    cues.cue(Cue::Cut);
    let _broken = stream.rest().await;
    me(&gateway, &key, |me| limit(me, "tokens_per_minute")["used"] == 16).await;
}

#[tokio::test]
async fn a_failure_costs_nothing_and_who_leaves_first_its_prompt() {
    let upstream = upstream::always(Answer::error(503, "down")).await;
    let limits = json!({"limits": {"tokens_per_minute": 2000}});
    let (gateway, vault, key) = stored(&upstream, limits).await;
    let client = gateway.client().key(&key);
    assert_eq!(client.post(CHAT, body(1000)).send().await.status, 503);
    let told = me(&gateway, &key, |me| limit(me, "tokens_per_minute")["reserved"] == 0).await;
    assert_eq!(limit(&told, "tokens_per_minute")["used"], 0, "{told}");
    upstream.behave(|_| Answer::silence());
    let begun = client.post(CHAT, body(1000)).begin().await;
    me(&gateway, &key, |me| limit(me, "tokens_per_minute")["reserved"] == 1012).await;
    drop(begun);
    let told = me(&gateway, &key, |me| limit(me, "tokens_per_minute")["reserved"] == 0).await;
    assert_eq!(limit(&told, "tokens_per_minute")["used"], 12, "{told}");
    assert_eq!(booked(&vault, 2).await.0, 12);
}

#[tokio::test]
async fn a_budget_that_is_used_up_says_when_it_begins_anew() {
    let upstream = upstream::chat("hi").await;
    let limits = json!({"limits": {"budget": {"usd": "0.000030", "per": "hour"}}});
    let (gateway, _vault, key) = stored(&upstream, limits).await;
    let client = gateway.client().key(&key);
    client.post(CHAT, body(3)).send().await.ok();
    me(&gateway, &key, |me| nanos(&limit(me, "budget")["used"]) == 10_000).await;
    let reply = client.post(CHAT, body(18)).send().await;
    let refused = reply.refused(429, "quota_exceeded");
    assert!(refused["message"].as_str().unwrap().contains("budget"), "{refused}");
    let pause: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=3600).contains(&pause), "{reply:?}");
}

#[tokio::test]
async fn a_cap_that_is_no_number_is_refused_where_it_matters() {
    let upstream = upstream::chat("hi").await;
    let limits = json!({"limits": {"tokens_per_minute": 2000}});
    let (gateway, _vault, key) = stored(&upstream, limits).await;
    let client = gateway.client().key(&key);
    for cap in [json!("5"), json!(5.5), json!(-1)] {
        let asked = json!({"model": "m", "max_tokens": cap, "messages": []}).to_string();
        let refused = client.post(CHAT, asked).send().await.refused(400, "invalid_request");
        assert_eq!(refused["param"], "max_tokens");
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn counts_outlive_a_restart() {
    let upstream = upstream::chat("hi").await;
    let limits = json!({"limits": {"budget": {"usd": "1", "per": "total"}}});
    let (gateway, vault, key) = stored(&upstream, limits).await;
    gateway.client().key(&key).post(CHAT, body(3)).send().await.ok();
    booked(&vault, 1).await;
    let file = gateway.dir().join("keys.db");
    let yaml = format!("{FRONT}store: {{ url: \"sqlite:{}\" }}\n{PRICES}", file.display());
    let second = gateway::with(&yaml).up("up", &upstream).start().await;
    let told = known(&second, &key).await;
    assert_eq!(nanos(&limit(&told, "budget")["used"]), 10_000, "{told}");
}

#[tokio::test]
async fn how_long_an_answer_may_be_is_read_however_its_dialect_spells_it() {
    let upstream = upstream::chat("hi").await;
    let limits = json!({"limits": {"tokens_per_minute": 2000}});
    let (gateway, _vault, key) = stored(&upstream, limits).await;
    let client = gateway.client().key(&key);
    let contents = json!([{"role": "user", "parts": [{"text": "hi"}]}]);
    for config in [
        json!({"generationConfig": {"maxOutputTokens": 3000}}),
        json!({"generationConfig": {"max_output_tokens": "3000"}}),
        json!({"generation_config": {"max_output_tokens": 3000}}),
        json!({"generation_config": {"maxOutputTokens": 3e3}}),
        json!({"generation_config": {"max_output_tokens": 500, "candidate_count": "6"}}),
        json!({"generationConfig": {"maxOutputTokens": 1}, "generation_config": {"maxOutputTokens": 3000}}),
    ] {
        let mut body = config.clone();
        body["contents"] = contents.clone();
        let reply = client.post("/v1beta/models/m:generateContent", body.to_string()).send().await;
        assert_eq!(reply.status, 429, "{config}: {reply:?}");
    }
    for (path, body) in [
        (
            "/model/m/converse",
            json!({"messages": [], "inferenceConfig": {"maxTokens": 9},
                "additionalModelRequestFields": {"max_tokens": 3000}}),
        ),
        ("/model/m/converse", json!({"messages": [], "inferenceConfig": {"maxTokens": 3000}})),
        ("/v1/responses", json!({"model": "m", "input": "hi", "max_output_tokens": 3000})),
        ("/v1/messages", json!({"model": "m", "messages": [], "max_tokens": 3000})),
        (CHAT, json!({"model": "m", "messages": [], "max_tokens": 500, "n": 6})),
    ] {
        let reply = client.post(path, body.to_string()).send().await;
        assert_eq!(reply.status, 429, "{path} {body}: {reply:?}");
    }
    let twice =
        r#"{"contents":[],"generationConfig":{"maxOutputTokens":1,"maxOutputTokens":3000}}"#;
    let reply = client.post("/v1beta/models/m:generateContent", twice).send().await;
    assert_eq!(reply.status, 400, "{reply:?}");
    assert_eq!(upstream.count(), 0);
}
