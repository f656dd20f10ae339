//! Usage: asked of the upstream, counted here, and shown only to those who asked for it.

use serde_json::{Value, json};

use crate::support::answer::{Answer, DONE, content, usage_event};
use crate::support::client::CHAT;
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Upstream};

/// An upstream that, like the real ones, sends usage only when it is asked to.
async fn telling() -> (Upstream, Gateway) {
    let upstream = upstream::with(|call| {
        let asked = call.json()["stream_options"]["include_usage"] == true;
        let mut events = vec![content("one"), content(" two")];
        events.extend(asked.then(usage_event));
        events.push(DONE.to_owned());
        Answer::events(events)
    })
    .await;
    let gateway = gateway::front(&upstream).await;
    (upstream, gateway)
}

async fn counts(gateway: &Gateway, prompt: u64, completion: u64) {
    let metric =
        |kind: &str| format!(r#"forebay_tokens_total{{model="m",provider="p",type="{kind}"}}"#);
    gateway.counts(&metric("prompt"), prompt).await;
    gateway.counts(&metric("completion"), completion).await;
}

#[tokio::test]
async fn a_caller_who_did_not_ask_sees_no_usage_and_it_is_counted() {
    let (upstream, gateway) = telling().await;
    for (body, rest) in [
        (r#"{"model":"m","stream":true}"#, json!({"include_usage": true})),
        (r#"{"model":"m","stream":true,"stream_options":null}"#, json!({"include_usage": true})),
        (
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":false,"x":1}}"#,
            json!({"include_usage": true, "x": 1}),
        ),
    ] {
        let index = upstream.count();
        let reply = gateway.client().post(CHAT, body).send().await.ok();
        let expected = [content("one"), content(" two"), DONE.to_owned()].concat();
        assert_eq!(reply.text(), expected, "{body}");
        assert_eq!(upstream.calls()[index].json()["stream_options"], rest, "{body}");
    }
    counts(&gateway, 33, 15).await;
}

#[tokio::test]
async fn a_caller_who_asked_gets_it_and_its_request_is_untouched() {
    let (upstream, gateway) = telling().await;
    let body = r#"{"model":"m", "stream":true, "stream_options":{ "include_usage" : true }}"#;
    let reply = gateway.client().post(CHAT, body).send().await.ok();
    let expected = [content("one"), content(" two"), usage_event(), DONE.to_owned()].concat();
    assert_eq!(reply.text(), expected);
    assert_eq!(upstream.call().text(), body);
    counts(&gateway, 11, 5).await;
}

#[tokio::test]
async fn nothing_is_asked_for_where_nothing_streams() {
    let (upstream, gateway) = telling().await;
    upstream.behave(|_| Answer::chat("hello"));
    let body = r#"{"model":"m","stream":false}"#;
    gateway.client().post(CHAT, body).send().await.ok();
    assert_eq!(upstream.call().text(), body);
    counts(&gateway, 7, 3).await;
}

#[tokio::test]
async fn responses_and_messages_are_asked_for_nothing() {
    let (upstream, gateway) = telling().await;
    upstream.behave(|_| Answer::events(["event: x\ndata: {}\n\n"]));
    let body = r#"{"model":"m","stream":true}"#;
    for path in ["/v1/responses", "/v1/messages"] {
        let index = upstream.count();
        gateway.client().post(path, body).send().await.ok();
        assert_eq!(upstream.calls()[index].text(), body, "{path}");
    }
}

#[tokio::test]
async fn usage_that_comes_with_a_choice_is_not_withheld() {
    let (upstream, gateway) = telling().await;
    let chunk: Value = json!({
        "choices": [{"index": 0, "delta": {"content": "x"}}],
        "usage": {"prompt_tokens": 4, "completion_tokens": 1, "total_tokens": 5},
    });
    let events = [format!("data: {chunk}\n\n"), DONE.to_owned()];
    let whole = events.concat();
    upstream.behave(move |_| Answer::events(events.clone()));
    let reply = gateway.client().post(CHAT, r#"{"model":"m","stream":true}"#).send().await.ok();
    assert_eq!(reply.text(), whole);
    counts(&gateway, 4, 1).await;
}

#[tokio::test]
async fn cached_and_reasoning_tokens_are_counted_apart() {
    let (upstream, gateway) = telling().await;
    upstream.behave(|_| {
        Answer::json(
            200,
            &json!({"choices": [], "usage": {
                "prompt_tokens": 100, "completion_tokens": 50,
                "prompt_tokens_details": {"cached_tokens": 64},
                "completion_tokens_details": {"reasoning_tokens": 30},
            }}),
        )
    });
    gateway.client().post(CHAT, r#"{"model":"m"}"#).send().await.ok();
    counts(&gateway, 100, 50).await;
    let metric =
        |kind: &str| format!(r#"forebay_tokens_total{{model="m",provider="p",type="{kind}"}}"#);
    gateway.counts(&metric("cached"), 64).await;
    gateway.counts(&metric("reasoning"), 30).await;
}

#[tokio::test]
async fn an_attempt_that_failed_costs_no_tokens() {
    let (upstream, gateway) = telling().await;
    upstream.behave(|_| Answer::error(503, "in trouble"));
    gateway.client().post(CHAT, r#"{"model":"m"}"#).send().await.refused(503, "upstream_error");
    let requests = r#"forebay_requests_total{endpoint="/v1/chat/completions",model="m",provider="p",status="503"}"#;
    gateway.counts(requests, 1).await;
    assert!(!gateway.metrics().await.contains("forebay_tokens_total{"));
}
