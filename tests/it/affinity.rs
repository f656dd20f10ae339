//! Which replica a session or a prompt goes to.

use serde_json::{Value, json};

use crate::support::answer::{Answer, Gate};
use crate::support::client::{CHAT, Client, Reply};
use crate::support::eventually;
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Upstream};

fn yaml(policy: &str) -> String {
    format!(
        r#"
providers:
  - name: p
    kind: vllm
    endpoints: [{{ url: "http://@a" }}, {{ url: "http://@b" }}]
    load_balancing: {policy}
    health_check: {{ type: none }}
models:
  - {{ name: m, targets: [{{ provider: p }}] }}
"#
    )
}

/// Two replicas behind a policy, who both say their names.
async fn two(policy: &str) -> (Upstream, Upstream, Gateway) {
    let (a, b) = (upstream::chat("a").await, upstream::chat("b").await);
    let gateway = gateway::with(&yaml(policy)).up("a", &a).up("b", &b).start().await;
    (a, b, gateway)
}

/// A chat whose system prompt and first turns are several blocks long.
fn long(chat: &str, turns: usize) -> Value {
    let turn =
        |number: usize| json!({"role": "user", "content": format!("{chat} {number} ").repeat(60)});
    let system = json!({"role": "system", "content": "be brief. ".repeat(40)});
    let messages: Vec<Value> = std::iter::once(system).chain((0..turns).map(turn)).collect();
    json!({"model": "m", "messages": messages})
}

async fn ask(client: &Client, body: &Value) -> Reply {
    client.post(CHAT, body.to_string()).send().await.ok()
}

async fn provider(gateway: &Gateway) -> Value {
    gateway.health().await["providers"][0].clone()
}

#[tokio::test]
async fn a_session_stays_at_its_replica_however_it_is_named() {
    let (a, b, gateway) = two("consistent_hash").await;
    let client = gateway.client();
    let mut homes = Vec::new();
    for session in 0..12 {
        let name = format!("session-{session}");
        let plain = json!({"model": "m", "messages": []});
        let mut named = plain.clone();
        named["prompt_cache_key"] = json!(name);
        let mut by_user = plain.clone();
        by_user["user"] = json!(name);
        let home = ask(&client, &named).await.said();
        assert_eq!(ask(&client, &by_user).await.said(), home);
        for header in ["x-session-id", "x-claude-code-session-id", "session_id"] {
            let request = client.post(CHAT, plain.to_string()).header(header, &name);
            assert_eq!(request.send().await.ok().said(), home, "{header}");
        }
        homes.push(home);
    }
    assert!(a.count() > 0 && b.count() > 0, "all sessions in one place: {homes:?}");
    assert_eq!(provider(&gateway).await["choices"], json!({"session": 60}));
}

#[tokio::test]
async fn the_configured_header_comes_first() {
    let (_a, _b, gateway) = two("{ policy: consistent_hash, header: X-Tenant }").await;
    let client = gateway.client();
    for tenant in 0..6 {
        let mut homes = Vec::new();
        for session in 0..6 {
            let body = json!({"model": "m", "messages": [], "user": format!("{session}")});
            let request = client.post(CHAT, body.to_string());
            let request = request.header("x-tenant", &format!("tenant-{tenant}"));
            let request = request.header("x-session-id", &format!("{session}"));
            homes.push(request.send().await.ok().said());
        }
        homes.dedup();
        assert_eq!(homes.len(), 1, "tenant {tenant}");
    }
}

#[tokio::test]
async fn a_chat_goes_on_where_its_prefix_is_cached() {
    let (a, b, gateway) = two("prefix_affinity").await;
    let client = gateway.client();
    for chat in ["one", "two", "three", "four", "five", "six"] {
        let home = ask(&client, &long(chat, 2)).await.said();
        for turns in 3..6 {
            assert_eq!(ask(&client, &long(chat, turns)).await.said(), home, "{chat}");
        }
    }
    let told = provider(&gateway).await;
    assert!(told["choices"]["prefix"].as_u64().unwrap() >= 18, "{told}");
    assert!(told["expected_hit_share"].as_f64().unwrap() > 0.5, "{told}");
    assert_eq!(a.count() + b.count(), 24);
    let metrics = gateway.metrics().await;
    for part in [
        r#"forebay_replica_choices_total{provider="p",reason="prefix"}"#,
        r#"forebay_prefix_tokens_total{kind="expected",provider="p"}"#,
        r#"kind="prefill_tokens",provider="p"} 0"#,
    ] {
        assert!(metrics.contains(part), "{part}:\n{metrics}");
    }
}

#[tokio::test]
async fn a_hot_prefix_spreads_when_its_replica_has_much_to_do() {
    let gate = Gate::closed();
    let (a, b) = (
        upstream::always(Answer::chat("a").after(&gate)).await,
        upstream::always(Answer::chat("b").after(&gate)).await,
    );
    let yaml = yaml("prefix_affinity");
    let gateway = gateway::with(&yaml).up("a", &a).up("b", &b).start().await;
    let body = long("hot", 3).to_string();
    let mut waiting = Vec::new();
    for number in 0..24 {
        waiting.push(gateway.client().post(CHAT, body.clone()).begin().await);
        crate::support::until("it arrived", || a.count() + b.count() == number + 1).await;
    }
    let most = a.count().max(b.count());
    assert!(most <= 18, "{} and {}", a.count(), b.count());
    gate.open();
}

const BUSY: &str = "vllm:num_requests_running{engine=\"0\",model_name=\"m\"} 50.0\n\
    vllm:num_requests_waiting{engine=\"0\",model_name=\"m\"} 90.0\n\
    vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"m\"} 0.97\n\
    process_start_time_seconds 1795231800.0\n";

#[tokio::test]
async fn a_server_that_says_it_is_busy_is_spared() {
    let (a, b, gateway) = two("prefix_affinity").await;
    let home = ask(&gateway.client(), &long("x", 3)).await.said();
    let (busy, idle) = if home == "a" { (&a, "b") } else { (&b, "a") };
    busy.tell_metrics(BUSY);
    eventually("its load is known", async || {
        let told = provider(&gateway).await;
        let mut replicas = told["replicas"].as_array()?.iter();
        let known = replicas.any(|one| one["reported"]["waiting"] == json!(90.0));
        known.then_some(())
    })
    .await;
    assert_eq!(ask(&gateway.client(), &long("x", 3)).await.said(), idle);
    // The other one has no metrics, and is none the worse for that.
    let told = provider(&gateway).await;
    assert_eq!(told["status"], "healthy", "{told}");
    assert!(told["choices"]["spread"].as_u64() >= Some(1), "{told}");
    assert!(gateway.metrics().await.contains(r#"kind="waiting",provider="p"} 90"#));
}

#[tokio::test]
async fn a_server_that_began_anew_is_not_expected_to_know_anything() {
    let (a, b, gateway) = two("prefix_affinity").await;
    let started = |moment: u32| {
        for server in [&a, &b] {
            server.tell_metrics(&format!(
                "vllm:num_requests_running 0.0\nprocess_start_time_seconds {moment}.0\n"
            ));
        }
    };
    started(1000);
    let known = async || {
        let told = provider(&gateway).await;
        let replicas = told["replicas"].as_array().unwrap().clone();
        replicas.iter().all(|one| one["reported"]["running"].is_number()).then_some(())
    };
    eventually("their load is known", known).await;
    ask(&gateway.client(), &long("x", 3)).await;
    let before = provider(&gateway).await["choices"]["prefix"].clone();
    ask(&gateway.client(), &long("x", 3)).await;
    assert_ne!(provider(&gateway).await["choices"]["prefix"], before);
    started(2000);
    let seen = (a.asked_for_metrics() + 2, b.asked_for_metrics() + 2);
    crate::support::until("they are asked again", || {
        a.asked_for_metrics() >= seen.0 && b.asked_for_metrics() >= seen.1
    })
    .await;
    let before = provider(&gateway).await["choices"]["least_load"].as_u64();
    ask(&gateway.client(), &long("x", 3)).await;
    assert!(provider(&gateway).await["choices"]["least_load"].as_u64() > before);
}

#[tokio::test]
async fn servers_are_not_asked_for_a_load_that_nobody_uses() {
    let (a, b, gateway) = two("least_requests").await;
    let (c, d, other) = two("prefix_affinity").await;
    crate::support::until("the others are asked", || {
        c.asked_for_metrics() > 1 && d.asked_for_metrics() > 1
    })
    .await;
    assert_eq!((a.asked_for_metrics(), b.asked_for_metrics()), (0, 0));
    ask(&gateway.client(), &long("x", 1)).await;
    ask(&other.client(), &long("x", 1)).await;
}
