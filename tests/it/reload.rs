//! Another configuration without a restart: what changes, what stays, and that no request notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::answer::{self, Answer, DONE, Gate, content};
use crate::support::client::{CHAT, chat_body, stream_body};
use crate::support::eventually;
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Upstream};

/// Puts `entry` before the models that are there.
fn with_model(entry: &str) -> impl FnOnce(String) -> String {
    let entry = format!("models:\n  - {entry}");
    move |yaml| yaml.replacen("models:", &entry, 1)
}

async fn reloaded(gateway: &Gateway, change: impl FnOnce(String) -> String) {
    gateway.configure(change);
    assert!(gateway.reload().await, "refused: {}", gateway.log());
}

async fn ask(gateway: &Gateway, model: &str) -> crate::support::client::Reply {
    gateway.client().post(CHAT, json!({ "model": model }).to_string()).send().await
}

#[tokio::test]
async fn twenty_reloads_under_traffic_lose_no_request() {
    let upstream = upstream::chat("hello").await;
    // A pool that is asked for its health, and a host to look up: both must be ready in time.
    let yaml = gateway::FRONT.replace("http://@up", "http://localhost:@port");
    let yaml = yaml.replace("{ type: none }", "{ type: http, interval: 100ms }");
    let port = upstream.address.port().to_string();
    let gateway = Arc::new(gateway::with(&yaml).place("port", &port).start().await);
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for number in 0..6 {
        let (gateway, stop) = (Arc::clone(&gateway), Arc::clone(&stop));
        let served = Arc::clone(&served);
        clients.spawn(async move {
            let request = gateway.client().post(CHAT, chat_body("hi").to_string());
            let mut kept = gateway.client().connect().await;
            while !stop.load(SeqCst) {
                // Half of them keep their connection through all reloads.
                let reply = match number % 2 {
                    0 => request.over(&mut kept).await,
                    _ => request.send().await,
                };
                assert_eq!(reply.said(), "hello");
                served.fetch_add(1, SeqCst);
            }
        });
    }
    for turn in 0..20 {
        let before = served.load(SeqCst);
        let entry = format!("{{ name: new-{turn}, targets: [{{ provider: p }}] }}");
        reloaded(&gateway, |yaml| {
            // The provider is another one each time, with a pool of its own.
            let yaml = with_model(&entry)(yaml);
            yaml.replace("interval: 1", "interval: 2")
                .replace("interval: 2", &format!("interval: {}", 1 + turn % 2))
        })
        .await;
        assert_eq!(ask(&gateway, &format!("new-{turn}")).await.said(), "hello");
        let reached = || served.load(SeqCst) > before;
        crate::support::until("traffic goes on", reached).await;
    }
    stop.store(true, SeqCst);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    assert!(gateway.reloads().0 >= 20);
    gateway.counts(r#"forebay_config_reloads_total{outcome="failed"}"#, 0).await;
    gateway.counts("forebay_config_last_reload_successful", 1).await;
}

#[tokio::test]
async fn a_stream_that_began_before_ends_as_it_began() {
    let (cues, feed) = answer::feed();
    let old = upstream::always(Answer::live(feed)).await;
    let new = upstream::chat("new").await;
    let yaml = gateway::FRONT
        .replace("provider: p }] }", "provider: p }], response: { prefix: \"old: \" } }");
    let gateway = gateway::with(&yaml).up("up", &old).start().await;
    let waiting = gateway.client().post(CHAT, stream_body("hi").to_string()).begin().await;
    old.wait_for(0).await;
    reloaded(&gateway, |yaml| {
        let yaml = yaml.replace(&old.address.to_string(), &new.address.to_string());
        yaml.replace("name: p,", "name: q,")
            .replace("provider: p", "provider: q")
            .replace("old: ", "new: ")
    })
    .await;
    assert_eq!(gateway.client().chat("hi").await.said(), "new: new");
    // The edit comes with the first content, which is only sent now.
    cues.send(content("one"));
    let mut stream = waiting.answer().await;
    assert!(stream.data().await.unwrap().contains("old: one"));
    cues.send(content(" two"));
    assert_eq!(stream.data().await.unwrap(), content(" two").trim_end());
    cues.send(DONE);
    cues.end();
    let reply = stream.rest().await.ok();
    assert_eq!(reply.text(), DONE);
    gateway.counts("forebay_active_requests", 0).await;
}

#[tokio::test]
async fn what_is_taken_away_is_gone() {
    let upstream = upstream::chat("hello").await;
    let yaml = format!(
        "{}keys: [{{ name: a, key: key-of-caller-a-1 }}, {{ name: b, key: key-of-caller-b-2 }}]",
        gateway::FRONT
    );
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let (a, b) =
        (gateway.client().key("key-of-caller-a-1"), gateway.client().key("key-of-caller-b-2"));
    let request = b.post(CHAT, chat_body("hi").to_string());
    let mut connection = b.connect().await;
    request.over(&mut connection).await.ok();
    reloaded(&gateway, |yaml| {
        yaml.replace(", { name: b, key: key-of-caller-b-2 }", "").replace("name: m,", "name: n,")
    })
    .await;
    // On a connection that was open before, too.
    request.over(&mut connection).await.refused(401, "invalid_api_key");
    a.chat("hi").await.refused(404, "model_not_found");
    a.post(CHAT, json!({"model": "n"}).to_string()).send().await.ok();
}

fn pair() -> &'static str {
    r#"
providers:
  - name: p
    kind: vllm
    endpoints: [{ url: "http://@a" }, { url: "http://@b" }]
    health_check: { type: none }
    ejection: { after: 2, base: 600s, max: 600s }
    api_keys: [key-one-1111]
  - { name: q, kind: vllm, base_url: "http://@a", health_check: { type: none } }
models:
  - { name: m, targets: [{ provider: p }] }
retry: { budget: 100% }
"#
}

async fn in_flight(gateway: &Gateway, upstream: &Upstream) -> u64 {
    let health = gateway.health().await;
    let replicas = health["providers"][0]["replicas"].as_array().unwrap().clone();
    let address = upstream.address.to_string();
    let replica = replicas.into_iter().find(|one| one["address"] == *address).unwrap();
    replica["in_flight"].as_u64().unwrap()
}

#[tokio::test]
async fn a_provider_that_does_not_change_keeps_what_is_known_of_it() {
    let (bad, good) =
        (upstream::always(Answer::error(500, "x")).await, upstream::chat("well").await);
    let gateway = gateway::with(pair()).up("a", &bad).up("b", &good).start().await;
    for _ in 0..8 {
        gateway.client().chat("hi").await.ok();
    }
    assert_eq!(gateway.health_of(&bad).await, "ejected");
    let before = bad.count();
    // A request is counted off after its last byte is out.
    let idle = async || (in_flight(&gateway, &good).await == 0).then_some(());
    eventually("the last one is counted off", idle).await;
    let gate = Gate::closed();
    let held = Answer::chat("late").after(&gate);
    good.behave(move |_| held.clone());
    let next = good.count();
    let mut waiting = gateway.client().post(CHAT, chat_body("hi").to_string()).begin().await;
    good.wait_for(next).await;
    good.behave(|_| Answer::chat("well"));

    for change in [
        // Somewhere else in the file, so that the provider moves.
        "providers: # moved\n\n".to_owned(),
        // The way it is called, but not its replicas.
        "providers: # keys\n".to_owned(),
    ] {
        reloaded(&gateway, |yaml| {
            let yaml = yaml.replace("key-one-1111]", "key-one-1111, key-two-2222]");
            yaml.replacen("providers:", &change, 1)
        })
        .await;
        assert_eq!(gateway.health_of(&bad).await, "ejected", "{change}");
        assert_eq!(in_flight(&gateway, &good).await, 1, "{change}");
        for _ in 0..8 {
            assert_eq!(gateway.client().chat("hi").await.said(), "well");
        }
        assert_eq!(bad.count(), before, "{change}");
    }
    gate.open();
    assert_eq!(waiting.reply().await.said(), "late");
    eventually("it is counted off", async || (in_flight(&gateway, &good).await == 0).then_some(()))
        .await;

    // Other replicas are new, and unknown.
    reloaded(&gateway, |yaml| yaml.replace("after: 2", "after: 3")).await;
    assert_eq!(gateway.health_of(&bad).await, "healthy");
}

#[tokio::test]
async fn a_key_that_rests_goes_on_resting() {
    let upstream = upstream::with(|call| match call.header("authorization") {
        Some("Bearer key-two-2222") => Answer::chat("well"),
        _ => Answer::error(429, "slow down").header("retry-after", "600"),
    })
    .await;
    let yaml = gateway::FRONT
        .replace("type: none }", "type: none }, api_keys: [key-one-1111, key-two-2222]");
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    gateway.client().chat("hi").await.ok();
    gateway.client().chat("hi").await.ok();
    let before = upstream.count();
    // The provider is another one, with the same keys.
    reloaded(&gateway, |yaml| yaml.replace("api_keys:", "headers: { x-new: yes }, api_keys:"))
        .await;
    for _ in 0..6 {
        assert_eq!(gateway.client().chat("hi").await.said(), "well");
    }
    assert_eq!(upstream.count() - before, 6, "the limited key was tried");
    assert_eq!(upstream.calls().last().unwrap().header("x-new"), Some("yes"));
}

#[tokio::test]
async fn a_provider_that_is_gone_is_not_checked_any_more() {
    let (gone, stays) = (upstream::chat("a").await, upstream::chat("b").await);
    let yaml = r#"
providers:
  - { name: gone, kind: vllm, base_url: "http://@a", health_check: { type: http, interval: 20ms } }
  - { name: stays, kind: vllm, base_url: "http://@b", health_check: { type: http, interval: 20ms } }
models:
  - { name: m, targets: [{ provider: stays }] }
"#;
    let gateway = gateway::with(yaml).up("a", &gone).up("b", &stays).start().await;
    let metric = r#"forebay_provider_health{endpoint=""#;
    assert_eq!(gateway.metrics().await.matches(metric).count(), 2);
    // Each check is a connection.
    let checked = async |upstream: &Upstream, times: usize| {
        let before = upstream.connections();
        crate::support::until("checks", || upstream.connections() >= before + times).await;
    };
    checked(&gone, 3).await;
    reloaded(&gateway, |yaml| {
        let kept: Vec<&str> = yaml.lines().filter(|line| !line.contains("name: gone")).collect();
        kept.join("\n")
    })
    .await;
    // One may have been under way.
    checked(&stays, 3).await;
    let before = gone.connections();
    checked(&stays, 20).await;
    assert_eq!(gone.connections(), before);
    let metrics = gateway.metrics().await;
    assert_eq!(metrics.matches(metric).count(), 1, "{metrics}");
    assert_eq!(gateway.health().await["providers"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn limits_and_times_hold_from_the_next_connection_on() {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::front(&upstream).await;
    let request = gateway.client().post(CHAT, chat_body("hi").to_string());
    let mut first = gateway.client().connect().await;
    request.over(&mut first).await.ok();
    let bound = "limits: { connections_per_ip: 1 }\ntimeouts: { request_header: 100ms }\n";
    reloaded(&gateway, |yaml| yaml + bound).await;
    let mut second = gateway.client().connect().await;
    let _sent = second.wire.send(&request.bytes()).await;
    assert!(!second.wire.head().await.is_ok_and(|head| head.is_some()), "one too many");
    request.over(&mut first).await.ok();
    drop(first);
    // A head that does not arrive in the new time.
    eventually("a slow one is sent away", async || {
        let mut slow = gateway.client().connect().await;
        let begun = std::time::Instant::now();
        let _sent = slow.wire.send(b"GET /health HTTP/1.1\r\n").await;
        slow.wire.closed().await;
        (begun.elapsed() >= std::time::Duration::from_millis(90)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_hundred_thousand_models_are_taken() {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::front(&upstream).await;
    let model = |number| format!("- {{name: m{number},targets: [{{provider: p}}]}}\n");
    let models: String = (0..100_000).map(model).collect();
    reloaded(&gateway, |yaml| {
        let (before, after) = yaml.split_once("models:").unwrap();
        let (_, after) = after.split_once("}] }\n").unwrap();
        format!("{before}models:\n- {{name: m,targets: [{{provider: p}}]}}\n{models}{after}")
    })
    .await;
    assert_eq!(ask(&gateway, "m99999").await.said(), "hello");
    assert_eq!(gateway.client().chat("hi").await.said(), "hello");
}
