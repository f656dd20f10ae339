//! Places at replicas: who gets one, who waits, and what becomes of those who wait in vain.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::answer::{Answer, Gate, content};
use crate::support::client::{CHAT, Connection, Request, chat_body, stream_body};
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Upstream};
use crate::support::{eventually, until};

/// Two callers, and a pool with these places.
fn yaml(admission: &str) -> String {
    format!(
        r#"
providers:
  - name: pool
    kind: vllm
    base_url: "http://@up"
    health_check: {{ type: none }}
    admission: {{ {admission} }}
  - {{ name: spare, kind: vllm, base_url: "http://@spare", health_check: {{ type: none }} }}
models:
  - {{ name: m, targets: [{{ provider: pool }}] }}
  - {{ name: s, targets: [{{ provider: pool }}, {{ provider: spare, weight: 0 }}] }}
keys:
  - {{ name: a, key: key-of-caller-a }}
  - {{ name: b, key: key-of-caller-b }}
  - {{ name: first, key: key-of-the-first, priority: high }}
"#
    )
}

/// A pool whose answers wait for the gate, and another one that answers at once.
async fn pool(admission: &str) -> (Upstream, Gate, Gateway) {
    let gate = Gate::closed();
    let up = upstream::always(Answer::chat("pool").after(&gate)).await;
    let spare = upstream::chat("spare").await;
    let gateway = gateway::with(&yaml(admission)).up("up", &up).up("spare", &spare).start().await;
    // It answers for as long as the test runs.
    std::mem::forget(spare);
    (up, gate, gateway)
}

fn ask(gateway: &Gateway, caller: &str, text: &str) -> Request {
    let client = gateway.client().key(&format!("key-of-{caller}"));
    client.post(CHAT, chat_body(text).to_string())
}

fn ask_with_spare(gateway: &Gateway) -> Request {
    let body = json!({"model": "s", "messages": [{"role": "user", "content": "hi"}]});
    gateway.client().key("key-of-caller-a").post(CHAT, body.to_string())
}

async fn waiting(gateway: &Gateway) -> Value {
    let client = gateway.client().key("key-of-caller-a");
    let health = client.get("/health/detailed").await.ok().json();
    health["providers"][0]["queue"]["waiting"].clone()
}

/// Waits until this many wait in the line.
async fn until_waiting(gateway: &Gateway, count: u64) {
    let found = async || (waiting(gateway).await == json!(count)).then_some(());
    eventually(&format!("{count} wait"), found).await;
}

/// Sends a request that has to wait, as the `count`th in the line.
async fn wait_in_line(gateway: &Gateway, request: Request, count: u64) -> Connection {
    let connection = request.begin().await;
    until_waiting(gateway, count).await;
    connection
}

/// What the upstream was asked, in order.
fn texts(up: &Upstream) -> Vec<String> {
    let text = |body: Value| body["messages"][0]["content"].as_str().unwrap().to_owned();
    up.calls().iter().map(|call| text(call.json())).collect()
}

/// Takes the only place, so that what comes next has to wait.
async fn take_place(gateway: &Gateway, up: &Upstream) -> Connection {
    let before = up.count();
    let connection = ask(gateway, "caller-a", "before").begin().await;
    up.wait_for(before).await;
    connection
}

#[tokio::test]
async fn no_replica_has_more_than_its_bound_and_the_others_wait() {
    let gate = Gate::closed();
    let replica = || async { upstream::always(Answer::chat("x").after(&gate)).await };
    let (a, b) = (replica().await, replica().await);
    for policy in ["round_robin", "random", "least_requests", "consistent_hash", "prefix_affinity"]
    {
        let yaml = format!(
            r#"
providers:
  - name: pool
    kind: vllm
    endpoints: [{{ url: "http://@a" }}, {{ url: "http://@b" }}]
    load_balancing: {policy}
    health_check: {{ type: none }}
    admission: {{ max_concurrent: 3 }}
models: [{{ name: m, targets: [{{ provider: pool }}] }}]
"#
        );
        let gateway = gateway::with(&yaml).up("a", &a).up("b", &b).start().await;
        let (before_a, before_b) = (a.count(), b.count());
        let mut under_way = Vec::new();
        for _ in 0..20 {
            let request = gateway.client().post(CHAT, chat_body("hi").to_string());
            under_way.push(request.begin().await);
        }
        let found = async || {
            let health = gateway.health().await;
            (health["providers"][0]["queue"]["waiting"] == json!(14)).then_some(())
        };
        eventually("all but six wait", found).await;
        let arrived = || a.count() - before_a + b.count() - before_b;
        until("six are served", || arrived() >= 6).await;
        assert_eq!((a.count() - before_a, b.count() - before_b), (3, 3), "{policy}");
        gate.let_through(20);
        for mut connection in under_way {
            assert_eq!(connection.reply().await.status, 200, "{policy}");
        }
        assert_eq!(a.count() - before_a + b.count() - before_b, 20, "{policy}");
    }
}

#[tokio::test]
async fn a_full_line_is_told_when_to_come_back() {
    let (up, gate, gateway) = pool("max_concurrent: 1, queue: 1").await;
    let mut first = take_place(&gateway, &up).await;
    let mut second = wait_in_line(&gateway, ask(&gateway, "caller-a", "next"), 1).await;
    let third = ask(&gateway, "caller-a", "one too many").send().await;
    third.refused(503, "overloaded");
    assert!(third.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1, "{third:?}");
    let metrics = gateway.metrics().await;
    assert!(metrics.contains(r#"forebay_queue_depth{provider="pool"} 1"#), "{metrics}");
    gateway.counts(r#"forebay_queue_shed_total{provider="pool",reason="full"}"#, 1).await;
    gate.open();
    assert_eq!((first.reply().await.said(), second.reply().await.said()), pair("pool"));
    gateway.counts(r#"forebay_queue_wait_seconds_count{provider="pool"}"#, 1).await;
    until_waiting(&gateway, 0).await;
}

fn pair(text: &str) -> (String, String) {
    (text.to_owned(), text.to_owned())
}

#[tokio::test]
async fn who_has_waited_long_enough_is_told_so() {
    let (up, gate, gateway) = pool("max_concurrent: 1, wait: 300ms").await;
    let mut first = take_place(&gateway, &up).await;
    let second = ask(&gateway, "caller-a", "in vain").send().await;
    second.refused(503, "overloaded");
    assert!(second.header("retry-after").is_some(), "{second:?}");
    gateway.counts(r#"forebay_queue_shed_total{provider="pool",reason="timeout"}"#, 1).await;
    gate.open();
    first.reply().await.ok();
    assert_eq!(up.count(), 1);
}

#[tokio::test]
async fn without_a_line_the_next_target_serves() {
    let (up, gate, gateway) = pool("max_concurrent: 1, queue: 0").await;
    let mut first = take_place(&gateway, &up).await;
    let reply = ask_with_spare(&gateway).send().await;
    assert_eq!(reply.said(), "spare");
    assert_eq!(reply.header("x-forebay-provider"), Some("spare"));
    gateway.counts(r#"forebay_queue_spillovers_total{from="pool",to="spare"}"#, 1).await;
    gate.open();
    first.reply().await.ok();
    assert_eq!(ask_with_spare(&gateway).send().await.said(), "pool", "there is room again");
}

#[tokio::test]
async fn who_has_waited_a_while_goes_to_the_next_target() {
    let (up, gate, gateway) = pool("max_concurrent: 1, wait: 60s, spill_after: 200ms").await;
    let mut first = take_place(&gateway, &up).await;
    assert_eq!(ask_with_spare(&gateway).send().await.said(), "spare");
    gateway.counts(r#"forebay_queue_spillovers_total{from="pool",to="spare"}"#, 1).await;
    until_waiting(&gateway, 0).await;
    gate.open();
    first.reply().await.ok();
}

#[tokio::test]
async fn callers_take_turns_however_much_one_asks() {
    let (up, gate, gateway) = pool("max_concurrent: 1").await;
    let mut under_way = vec![take_place(&gateway, &up).await];
    for number in 1..=4 {
        let request = ask(&gateway, "caller-a", &format!("a{number}"));
        under_way.push(wait_in_line(&gateway, request, number).await);
    }
    for number in 1..=2 {
        let request = ask(&gateway, "caller-b", &format!("b{number}"));
        under_way.push(wait_in_line(&gateway, request, 4 + number).await);
    }
    for count in 1..=6 {
        gate.let_through(1);
        until("the next one is served", || up.count() > count).await;
    }
    gate.open();
    for mut connection in under_way {
        connection.reply().await.ok();
    }
    assert_eq!(texts(&up), ["before", "b1", "a1", "b2", "a2", "a3", "a4"]);
}

#[tokio::test]
async fn higher_priorities_go_first_and_nobody_can_raise_its_own() {
    let (up, gate, gateway) = pool("max_concurrent: 1").await;
    let mut under_way = vec![take_place(&gateway, &up).await];
    let low = ask(&gateway, "caller-a", "low").header("x-forebay-priority", "low");
    let greedy = ask(&gateway, "caller-b", "greedy").header("x-forebay-priority", "high");
    let by_body = {
        let mut body = chat_body("by body");
        body["priority"] = json!(20);
        gateway.client().key("key-of-the-first").post(CHAT, body.to_string())
    };
    let requests = [low, by_body, greedy, ask(&gateway, "the-first", "high")];
    for (number, request) in (1..).zip(requests) {
        under_way.push(wait_in_line(&gateway, request, number).await);
    }
    for count in 1..=4 {
        gate.let_through(1);
        until("the next one is served", || up.count() > count).await;
    }
    gate.open();
    for mut connection in under_way {
        connection.reply().await.ok();
    }
    assert_eq!(texts(&up), ["before", "high", "greedy", "low", "by body"]);
    let odd = ask(&gateway, "caller-a", "x").header("x-forebay-priority", "urgent").send().await;
    assert_eq!(odd.refused(400, "invalid_request")["param"], "x-forebay-priority");
}

#[tokio::test]
async fn servers_are_told_the_priority_where_they_know_one() {
    for (admission, told) in [
        ("max_concurrent: 9, priority: true", [Some(-10), Some(0), Some(10)]),
        ("max_concurrent: 9", [None, None, None]),
    ] {
        let (up, gate, gateway) = pool(admission).await;
        gate.open();
        ask(&gateway, "the-first", "x").send().await.ok();
        ask(&gateway, "caller-a", "x").send().await.ok();
        ask(&gateway, "caller-a", "x").header("x-forebay-priority", "low").send().await.ok();
        // In the clothes of another dialect it is told as well.
        let calls = up.calls();
        let found: Vec<Option<i64>> =
            calls.iter().map(|call| call.json()["priority"].as_i64()).collect();
        assert_eq!(found, told, "{admission}");
        assert!(calls.iter().all(|call| call.header("x-forebay-priority").is_none()));
    }
}

#[tokio::test]
async fn heartbeats_go_on_while_a_stream_waits_for_its_place() {
    let gate = Gate::closed();
    let up = upstream::with(move |call| {
        if call.json()["stream"] == json!(true) {
            return Answer::words(&["well"], false);
        }
        Answer::chat("pool").after(&gate)
    })
    .await;
    let spare = upstream::chat("spare").await;
    let yaml = format!("heartbeat: 100ms\n{}", yaml("max_concurrent: 1"));
    let gateway = gateway::with(&yaml).up("up", &up).up("spare", &spare).start().await;
    let first = take_place(&gateway, &up).await;
    let client = gateway.client().key("key-of-caller-a");
    let mut stream = client.post(CHAT, stream_body("hi").to_string()).open().await;
    assert_eq!(stream.status, 200);
    for _ in 0..2 {
        assert!(stream.event().await.unwrap().starts_with(':'));
    }
    assert_eq!(up.count(), 1, "it waits all the while");
    drop(first);
    while let Some(event) = stream.data().await {
        if event.contains("well") {
            return;
        }
        assert!(event.contains("assistant") || event == content("").trim_end(), "{event}");
    }
    panic!("the stream ended early");
}

#[tokio::test]
async fn a_stream_that_waited_in_vain_after_a_heartbeat_is_told_in_its_stream() {
    let gate = Gate::closed();
    let up = upstream::always(Answer::chat("pool").after(&gate)).await;
    let spare = upstream::chat("spare").await;
    let yaml = format!("heartbeat: 50ms\n{}", yaml("max_concurrent: 1, wait: 400ms"));
    let gateway = gateway::with(&yaml).up("up", &up).up("spare", &spare).start().await;
    let _first = take_place(&gateway, &up).await;
    let client = gateway.client().key("key-of-caller-a");
    let stream = client.post(CHAT, stream_body("hi").to_string()).send().await;
    assert!(stream.text().starts_with(": keep-alive"), "{stream:?}");
    assert!(stream.text().contains(r#""code":"overloaded""#), "{stream:?}");
}

#[tokio::test]
async fn a_reload_with_more_places_lets_those_who_wait_through() {
    let (up, gate, gateway) = pool("max_concurrent: 1").await;
    let mut under_way = vec![take_place(&gateway, &up).await];
    for number in 1..=3 {
        let request = ask(&gateway, "caller-a", "waits");
        under_way.push(wait_in_line(&gateway, request, number).await);
    }
    gateway.configure(|yaml| yaml.replace("max_concurrent: 1", "max_concurrent: 3"));
    assert!(gateway.reload().await);
    until("two more are served", || up.count() == 3).await;
    until_waiting(&gateway, 1).await;
    gateway.configure(|yaml| yaml.replace("admission: { max_concurrent: 3 }", ""));
    assert!(gateway.reload().await);
    until("all are served", || up.count() == 4).await;
    gate.open();
    for mut connection in under_way {
        connection.reply().await.ok();
    }
}

#[tokio::test]
async fn who_waits_is_served_before_a_gateway_ends() {
    let (up, gate, mut gateway) = pool("max_concurrent: 1").await;
    let mut first = take_place(&gateway, &up).await;
    let mut second = wait_in_line(&gateway, ask(&gateway, "caller-a", "last"), 1).await;
    gateway.signal("TERM");
    until("it drains", || gateway.log().contains("draining")).await;
    gate.open();
    assert_eq!((first.reply().await.said(), second.reply().await.said()), pair("pool"));
    assert_eq!(gateway.ended().await.code(), Some(0));
}

const FULL: &str = "vllm:num_requests_running{engine=\"0\"} 1.0\n\
    vllm:num_requests_waiting{engine=\"0\"} 0.0\nvllm:kv_cache_usage_perc{engine=\"0\"} 0.97\n";

#[tokio::test]
async fn a_server_without_room_in_its_cache_gets_nothing_more() {
    let (up, gate, gateway) = pool("max_concurrent: 100, kv_limit: 90%").await;
    up.tell_metrics(FULL);
    let client = gateway.client().key("key-of-caller-a");
    let known = async || {
        let health = client.get("/health/detailed").await.ok().json();
        let told = &health["providers"][0]["replicas"][0]["reported"]["kv_use"];
        (*told == json!(0.97)).then_some(())
    };
    eventually("it is known to be full", known).await;
    // One of ours may always find out whether that is still so.
    let mut first = take_place(&gateway, &up).await;
    let mut second = wait_in_line(&gateway, ask(&gateway, "caller-a", "later"), 1).await;
    assert_eq!(up.count(), 1);
    up.tell_metrics(&FULL.replace("0.97", "0.5"));
    until("there is room again", || up.count() == 2).await;
    gate.open();
    assert_eq!((first.reply().await.said(), second.reply().await.said()), pair("pool"));
}

#[tokio::test]
async fn a_failed_attempt_gives_its_place_back() {
    let gate = Gate::closed();
    let held = Answer::chat("well").after(&gate);
    let (a, b) = (upstream::always(held.clone()).await, upstream::always(held).await);
    let yaml = r#"
providers:
  - name: pool
    kind: vllm
    endpoints: [{ url: "http://@a" }, { url: "http://@b" }]
    health_check: { type: none }
    ejection: off
    admission: { max_concurrent: 1 }
models: [{ name: m, targets: [{ provider: pool }] }]
retry: { attempts: 3, budget: 100% }
"#;
    let gateway = gateway::with(yaml).up("a", &a).up("b", &b).start().await;
    let chat = || gateway.client().post(CHAT, chat_body("hi").to_string());
    let mut first = chat().begin().await;
    until("it is under way", || a.count() + b.count() == 1).await;
    let (taken, failing) = if a.count() == 1 { (&a, &b) } else { (&b, &a) };
    failing.behave(|_| Answer::error(500, "x"));
    let mut second = chat().begin().await;
    until("the other one fails it", || failing.count() >= 1).await;
    gate.open();
    first.reply().await.ok();
    assert_eq!(second.reply().await.said(), "well");
    assert_eq!(taken.count(), 2);
    let idle = async || {
        let health = gateway.health().await;
        let replicas = health["providers"][0]["replicas"].as_array()?.clone();
        replicas.iter().all(|one| one["in_flight"] == json!(0)).then_some(())
    };
    eventually("all places are free", idle).await;
}

#[tokio::test]
async fn what_only_counts_takes_no_place() {
    let (up, gate, gateway) = pool("max_concurrent: 1, queue: 0").await;
    let _first = take_place(&gateway, &up).await;
    up.behave(|_| Answer::json(200, &json!({"input_tokens": 3})));
    let client = gateway.client().key("key-of-caller-a");
    let counted = client.post("/v1/messages/count_tokens", chat_body("hi").to_string());
    counted.send().await.ok();
    gate.open();
}

/// How long a place is taken is measured, and a wait that would be too long is not begun.
#[tokio::test]
async fn who_would_wait_too_long_is_told_at_once() {
    let (up, gate, gateway) = pool("max_concurrent: 1, wait: 500ms").await;
    let mut slow = take_place(&gateway, &up).await;
    // A time that is measured, not one that is waited for.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    gate.let_through(1);
    slow.reply().await.ok();
    let mut next = take_place(&gateway, &up).await;
    let refused = ask(&gateway, "caller-a", "x").send().await;
    refused.refused(503, "overloaded");
    assert_eq!(refused.header("retry-after"), Some("2"), "{refused:?}");
    gateway.counts(r#"forebay_queue_shed_total{provider="pool",reason="wait"}"#, 1).await;
    gate.open();
    next.reply().await.ok();
}
