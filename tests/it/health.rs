//! Health checks and load: who takes the next request.

use crate::support::answer::{Answer, Gate};
use crate::support::eventually;
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Upstream};

const CHECKED: &str = r#"
providers:
  - name: p
    kind: vllm
    endpoints: [{ url: "http://@a" }, { url: "http://@b" }]
    health_check: { type: http, path: /health, interval: 50ms, timeout: 500ms, healthy_after: 1, unhealthy_after: 2 }
models:
  - { name: m, targets: [{ provider: p }] }
"#;

#[tokio::test]
async fn a_failed_check_takes_a_replica_out_and_a_good_one_brings_it_back() {
    let (a, b) = (upstream::chat("well").await, upstream::chat("well").await);
    let gateway = gateway::with(CHECKED).up("a", &a).up("b", &b).start().await;
    gateway.client().chat("hi").await.ok();
    assert_eq!(gateway.health_of(&a).await, "healthy");

    a.set_healthy(false);
    eventually("the replica is out", async || {
        (gateway.health_of(&a).await == "unhealthy").then_some(())
    })
    .await;
    let before = a.count();
    for _ in 0..10 {
        gateway.client().chat("hi").await.ok();
    }
    assert_eq!(a.count(), before, "an ill replica got requests");
    let metric = format!(r#"forebay_provider_health{{endpoint="{}",provider="p"}}"#, a.address);
    gateway.counts(&metric, 0).await;

    a.set_healthy(true);
    eventually("the replica is back", async || {
        (gateway.health_of(&a).await == "healthy").then_some(())
    })
    .await;
    let before = a.count();
    for _ in 0..10 {
        gateway.client().chat("hi").await.ok();
    }
    assert_eq!(a.count() - before, 5);
    gateway.counts(&metric, 1).await;
}

#[tokio::test]
async fn a_tcp_check_finds_out_who_listens() {
    let yaml = CHECKED.replace("type: http, path: /health,", "type: tcp,");
    let (a, port) = (upstream::chat("well").await, upstream::refusing());
    let gateway = gateway::with(&yaml).up("a", &a).place("b", &port.address()).start().await;
    eventually("the closed port is out", async || {
        let health = gateway.health().await;
        let replicas = health["providers"][0]["replicas"].as_array().unwrap().clone();
        replicas.iter().any(|one| one["health"] == "unhealthy").then_some(())
    })
    .await;
    for _ in 0..6 {
        let reply = gateway.client().chat("hi").await;
        assert_eq!(reply.header("x-forebay-attempts"), Some("1"), "{reply:?}");
    }
}

#[tokio::test]
async fn a_model_with_an_ill_provider_goes_to_the_next_target() {
    let yaml = r#"
providers:
  - { name: one, kind: vllm, base_url: "http://@a", health_check: { interval: 50ms, unhealthy_after: 1 } }
  - { name: two, kind: vllm, base_url: "http://@b", health_check: { type: none } }
models:
  - { name: m, targets: [{ provider: one }, { provider: two, weight: 0 }] }
"#;
    let (a, b) = (upstream::chat("one").await, upstream::chat("two").await);
    let gateway = gateway::with(yaml).up("a", &a).up("b", &b).start().await;
    assert_eq!(gateway.client().chat("hi").await.said(), "one");
    a.set_healthy(false);
    eventually("the second serves", async || {
        (gateway.client().chat("hi").await.said() == "two").then_some(())
    })
    .await;
    let reply = gateway.client().chat("hi").await;
    assert_eq!(reply.header("x-forebay-attempts"), Some("1"), "{reply:?}");
}

#[tokio::test]
async fn replicas_share_requests_by_weight() {
    let yaml = r#"
providers:
  - name: p
    kind: vllm
    endpoints: [{ url: "http://@a", weight: 3 }, { url: "http://@b", weight: 1 }]
    health_check: { type: none }
models:
  - { name: m, targets: [{ provider: p }] }
"#;
    let (a, b) = (upstream::chat("well").await, upstream::chat("well").await);
    let gateway = gateway::with(yaml).up("a", &a).up("b", &b).start().await;
    for _ in 0..80 {
        gateway.client().chat("hi").await.ok();
    }
    assert_eq!((a.count(), b.count()), (60, 20));
}

#[tokio::test]
async fn the_idle_replica_is_preferred_by_least_requests() {
    let yaml = CHECKED.replace("kind: vllm", "kind: vllm\n    load_balancing: least_requests");
    let gate = Gate::closed();
    let slow = Answer::chat("slow").after(&gate);
    let (a, b) = (upstream::always(slow).await, upstream::chat("fast").await);
    let gateway = gateway::with(&yaml).up("a", &a).up("b", &b).start().await;
    // Requests until one is stuck at the slow replica.
    let mut stuck = Vec::new();
    while a.count() == 0 {
        let request = gateway.client().post("/v1/chat/completions", r#"{"model":"m"}"#);
        let (before, waiting) = (b.count(), request.begin().await);
        crate::support::until("a call", || a.count() == 1 || b.count() > before).await;
        stuck.push(waiting);
    }
    for _ in 0..20 {
        until_in_flight(&gateway, &b, 0).await;
        assert_eq!(gateway.client().chat("hi").await.said(), "fast");
    }
    assert_eq!(a.count(), 1);
    until_in_flight(&gateway, &a, 1).await;
    gate.open();
    until_in_flight(&gateway, &a, 0).await;
}

/// A request counts until its last byte is booked, which is after the caller has it.
async fn until_in_flight(gateway: &Gateway, upstream: &Upstream, count: u64) {
    let address = upstream.address.to_string();
    eventually(&format!("{count} in flight"), async || {
        let health = gateway.health().await;
        let replicas = health["providers"][0]["replicas"].as_array().unwrap().clone();
        let replica = replicas.into_iter().find(|one| one["address"] == *address);
        (replica.unwrap()["in_flight"] == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_models_a_provider_lists_are_told_with_what_is_known_of_them() {
    let upstream = upstream::chat("well").await;
    upstream.list_models(
        r#"{"object":"list","data":[{"id":"tiny","object":"model","created":5,"owned_by":"vllm","root":"/secret/path","max_model_len":4096}]}"#,
    );
    let yaml = gateway::FRONT.replace("provider: p }", "provider: p, model: tiny }");
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let model = eventually("the provider's word on its model", async || {
        let model = gateway.client().get("/v1/models/m").await.ok().json();
        model["max_model_len"].is_number().then_some(model)
    })
    .await;
    assert_eq!((&model["id"], &model["max_model_len"]), (&"m".into(), &4096.into()));
    assert_eq!(model["object"], "model");
    assert!(!model.to_string().contains("secret"), "{model}");
}
