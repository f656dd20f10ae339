//! Trying again: how often, after what, and at whose cost.

use crate::support::answer::Answer;
use crate::support::gateway::{self, SPARE};
use crate::support::upstream;

const FIVE: &str = r#"
providers:
  - name: p
    kind: vllm
    endpoints: [{ url: "http://@a" }, { url: "http://@b" }, { url: "http://@c" }, { url: "http://@d" }, { url: "http://@e" }]
    health_check: { type: none }
    ejection: off
models:
  - { name: m, targets: [{ provider: p }] }
"#;

/// Five replicas that all fail so; how many calls one request makes.
async fn calls_of_one_request(answer: Answer, more: &str) -> usize {
    let mut plan = gateway::with(&format!("{FIVE}\n{more}"));
    let mut upstreams = Vec::new();
    for name in ["a", "b", "c", "d", "e"] {
        let upstream = upstream::always(answer.clone()).await;
        plan = plan.up(name, &upstream);
        upstreams.push(upstream);
    }
    let gateway = plan.start().await;
    let reply = gateway.client().chat("hi").await;
    assert_eq!(reply.status, answer.status, "{reply:?}");
    let calls = upstreams.iter().map(upstream::Upstream::count).sum();
    let told = reply.header("x-forebay-attempts").map(str::to_owned);
    assert_eq!(told, Some(format!("{calls}")), "{reply:?}");
    calls
}

#[tokio::test]
async fn three_attempts_unless_said_otherwise() {
    assert_eq!(calls_of_one_request(Answer::error(503, "x"), "").await, 3);
}

#[tokio::test]
async fn as_many_attempts_as_configured() {
    let retry = |attempts| format!("retry: {{ attempts: {attempts}, budget: 100% }}");
    assert_eq!(calls_of_one_request(Answer::error(503, "x"), &retry(1)).await, 1);
    assert_eq!(calls_of_one_request(Answer::error(503, "x"), &retry(4)).await, 4);
    // No replica is tried twice.
    assert_eq!(calls_of_one_request(Answer::error(503, "x"), &retry(16)).await, 5);
}

#[tokio::test]
async fn only_after_what_is_listed() {
    let on = "retry: { on: [502] }";
    assert_eq!(calls_of_one_request(Answer::error(500, "x"), on).await, 1);
    assert_eq!(calls_of_one_request(Answer::error(503, "x"), on).await, 1);
    assert_eq!(calls_of_one_request(Answer::error(429, "x"), on).await, 1);
    assert_eq!(calls_of_one_request(Answer::error(502, "x"), on).await, 3);
}

#[tokio::test]
async fn never_after_the_callers_own_mistake() {
    for status in [400, 404, 413, 422] {
        assert_eq!(calls_of_one_request(Answer::error(status, "x"), "").await, 1, "{status}");
    }
}

#[tokio::test]
async fn a_broken_connection_is_not_tried_again_when_connect_is_not_listed() {
    let port = upstream::refusing();
    let good = upstream::chat("hello").await;
    let yaml = r#"
providers:
  - { name: one, kind: vllm, base_url: "http://@a", health_check: { type: none } }
  - { name: two, kind: vllm, base_url: "http://@b", health_check: { type: none } }
models:
  - { name: m, targets: [{ provider: one }, { provider: two, weight: 0 }] }
retry: { on: [503] }
"#;
    let plan = gateway::with(yaml).place("a", &port.address()).up("b", &good);
    let gateway = plan.start().await;
    gateway.client().chat("hi").await.refused(502, "upstream_error");
    assert_eq!(good.count(), 0);
}

#[tokio::test]
async fn a_provider_in_trouble_is_not_drowned_in_retries() {
    let yaml = r#"
providers:
  - name: p
    kind: vllm
    endpoints: [{ url: "http://@a" }, { url: "http://@b" }]
    health_check: { type: none }
    ejection: off
models:
  - { name: m, targets: [{ provider: p }] }
"#;
    let failing = || upstream::always(Answer::error(503, "overloaded"));
    let (a, b) = (failing().await, failing().await);
    let gateway = gateway::with(yaml).up("a", &a).up("b", &b).start().await;
    let requests = 50;
    for _ in 0..requests {
        gateway.client().chat("hi").await.refused(503, "upstream_error");
    }
    // A fifth of the requests, and a reserve of three.
    let most = requests + requests / 5 + 3;
    let calls = a.count() + b.count();
    assert!(calls <= most, "{calls} calls for {requests} requests");
    assert!(calls > requests, "no retry at all");
}

#[tokio::test]
async fn going_on_to_another_provider_costs_the_budget_nothing() {
    let (a, b) = (upstream::always(Answer::error(500, "x")).await, upstream::chat("well").await);
    let gateway = gateway::with(SPARE).up("a", &a).up("b", &b).start().await;
    for _ in 0..30 {
        assert_eq!(gateway.client().chat("hi").await.said(), "well");
    }
    assert_eq!((a.count(), b.count()), (30, 30));
}
