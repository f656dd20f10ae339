//! Replicas that come and go: by DNS, by a file, and what is asked of them before they join.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::answer::{Answer, Gate};
use crate::support::client::{CHAT, Client};
use crate::support::dns::{self, a, srv};
use crate::support::gateway::{self, Gateway, Plan};
use crate::support::port::Port;
use crate::support::upstream::{self, Upstream};
use crate::support::{eventually, until};

const BY_FILE: &str = r"
providers:
  - name: p
    kind: vllm
    discovery: { type: file, path: replicas.yaml }
    health_check: { interval: 100ms, timeout: 1s }
    slow_start: 0
models:
  - { name: m, targets: [{ provider: p }] }
";

fn list(models: &[&str]) -> String {
    let cards: Vec<Value> = models.iter().map(|id| json!({"id": id, "object": "model"})).collect();
    json!({"object": "list", "data": cards}).to_string()
}

/// A server that says its name, and has these models.
async fn server(name: &str, models: &[&str]) -> Upstream {
    let upstream = upstream::chat(name).await;
    upstream.list_models(&list(models));
    upstream
}

/// Writes the file of replicas, as an operator's tool would: all at once.
fn write(folder: &Path, upstreams: &[&Upstream]) {
    let urls: Vec<String> = upstreams.iter().map(|it| format!("http://{}", it.address)).collect();
    write_urls(folder, &urls);
}

fn write_urls(folder: &Path, urls: &[String]) {
    std::fs::write(folder.join("new"), json!(urls).to_string()).unwrap();
    std::fs::rename(folder.join("new"), folder.join("replicas.yaml")).unwrap();
}

async fn by_file(plan: Plan, upstreams: &[&Upstream]) -> Gateway {
    write(plan.dir(), upstreams);
    plan.start().await
}

fn body(model: &str) -> String {
    json!({"model": model, "messages": [{"role": "user", "content": "x"}]}).to_string()
}

async fn ask(client: &Client, model: &str) -> String {
    client.post(CHAT, body(model)).send().await.ok().said()
}

/// Each replica's address and state.
async fn states(gateway: &Gateway) -> Vec<(String, String)> {
    let health = gateway.health().await;
    let replicas = health["providers"][0]["replicas"].as_array().unwrap().clone();
    let text = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
    replicas.iter().map(|one| (text(one, "address"), text(one, "health"))).collect()
}

async fn becomes(gateway: &Gateway, expected: &[(&Upstream, &str)]) {
    let mut expected: Vec<(String, String)> =
        expected.iter().map(|(at, state)| (at.address.to_string(), (*state).to_owned())).collect();
    expected.sort();
    eventually(&format!("{expected:?}"), async || {
        let mut found = states(gateway).await;
        found.sort();
        (found == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_file_of_replicas_is_followed() {
    let (one, two) = (server("one", &["m"]).await, server("two", &["m"]).await);
    let gateway = by_file(gateway::with(BY_FILE), &[&one]).await;
    let client = gateway.client();
    assert_eq!(ask(&client, "m").await, "one");
    write(gateway.dir(), &[&one, &two]);
    becomes(&gateway, &[(&one, "healthy"), (&two, "healthy")]).await;
    for _ in 0..4 {
        ask(&client, "m").await;
    }
    assert!(two.count() >= 2, "{} and {}", one.count(), two.count());
    write(gateway.dir(), &[&two]);
    becomes(&gateway, &[(&two, "healthy")]).await;
    one.forget();
    for _ in 0..4 {
        assert_eq!(ask(&client, "m").await, "two");
    }
    assert_eq!(one.count(), 0);
}

#[tokio::test]
async fn a_file_with_a_mistake_changes_nothing_and_is_told() {
    let one = server("one", &["m"]).await;
    let gateway = by_file(gateway::with(BY_FILE), &[&one]).await;
    write_urls(gateway.dir(), &["ftp://nowhere".to_owned()]);
    until("it is told", || gateway.log().contains("replicas.yaml:1:2: ")).await;
    assert_eq!(ask(&gateway.client(), "m").await, "one");
    std::fs::remove_file(gateway.dir().join("replicas.yaml")).unwrap();
    until("it is told", || gateway.log().contains("No such file")).await;
    assert_eq!(ask(&gateway.client(), "m").await, "one");
}

#[tokio::test]
async fn an_empty_file_means_no_replicas() {
    let one = server("one", &["m"]).await;
    let gateway = by_file(gateway::with(BY_FILE), &[]).await;
    let reply = gateway.client().post(CHAT, body("m")).send().await;
    reply.refused(503, "no_healthy_upstream");
    write(gateway.dir(), &[&one]);
    becomes(&gateway, &[(&one, "healthy")]).await;
    assert_eq!(ask(&gateway.client(), "m").await, "one");
}

#[tokio::test]
async fn a_replica_joins_only_when_it_is_well_and_lists_its_models() {
    let (one, two) = (server("one", &["m"]).await, server("two", &[]).await);
    two.set_healthy(false);
    let gateway = by_file(gateway::with(BY_FILE), &[&one]).await;
    write(gateway.dir(), &[&one, &two]);
    // Three checks that fail make it ill, and until then it is not known to be well.
    eventually("it is seen", async || (states(&gateway).await.len() == 2).then_some(())).await;
    two.set_healthy(true);
    becomes(&gateway, &[(&one, "healthy"), (&two, "joining")]).await;
    for _ in 0..8 {
        assert_eq!(ask(&gateway.client(), "m").await, "one");
    }
    assert_eq!(two.count(), 0, "it has no model yet");
    two.list_models(&list(&["m"]));
    becomes(&gateway, &[(&one, "healthy"), (&two, "healthy")]).await;
    for _ in 0..8 {
        ask(&gateway.client(), "m").await;
    }
    assert!(two.count() > 0);
}

#[tokio::test]
async fn a_replica_that_leaves_ends_what_it_has_under_way() {
    let gate = Gate::closed();
    let one = upstream::always(Answer::chat("one").after(&gate)).await;
    one.list_models(&list(&["m"]));
    let two = server("two", &["m"]).await;
    let gateway = by_file(gateway::with(BY_FILE), &[&one]).await;
    let mut under_way = gateway.client().post(CHAT, body("m")).begin().await;
    one.wait_for(0).await;
    assert!(gateway.metrics().await.contains(&one.address.to_string()));
    write(gateway.dir(), &[&two]);
    becomes(&gateway, &[(&one, "draining"), (&two, "healthy")]).await;
    assert_eq!(ask(&gateway.client(), "m").await, "two");
    gate.open();
    assert_eq!(under_way.reply().await.ok().said(), "one");
    becomes(&gateway, &[(&two, "healthy")]).await;
    let metrics = gateway.metrics().await;
    assert!(!metrics.contains(&one.address.to_string()), "{metrics}");
}

#[tokio::test]
async fn a_newcomer_is_given_more_and_more() {
    let (one, two) = (server("one", &["m"]).await, server("two", &["m"]).await);
    let yaml = BY_FILE.replace("slow_start: 0", "slow_start: 1h");
    let gateway = by_file(gateway::with(&yaml), &[&one]).await;
    write(gateway.dir(), &[&one, &two]);
    becomes(&gateway, &[(&one, "healthy"), (&two, "healthy")]).await;
    let client = gateway.client();
    for _ in 0..100 {
        ask(&client, "m").await;
    }
    // A tenth of its turns: 5 of 50.
    assert!(two.count() < 20, "{}", two.count());
    let health = gateway.health().await;
    let replicas = health["providers"][0]["replicas"].as_array().unwrap();
    let share = |at: &Upstream| {
        let address = at.address.to_string();
        replicas.iter().find(|it| it["address"] == *address).unwrap()["share"].clone()
    };
    assert_eq!((share(&one), share(&two)), (json!(1.0), json!(0.1)), "{health}");
}

const MIXED: &str = r#"
providers:
  - name: p
    kind: vllm
    endpoints: [{ url: "http://@a" }, { url: "http://@b" }, { url: "http://@c" }]
    load_balancing: POLICY
    health_check: { type: none }
models:
  - { match: { prefix: "" }, targets: [{ provider: p }] }
"#;

#[tokio::test]
async fn a_model_is_asked_of_replicas_that_have_it() {
    for policy in ["round_robin", "random", "least_requests", "consistent_hash", "prefix_affinity"]
    {
        let (a, b) = (server("a", &["base", "lora"]).await, server("b", &["base"]).await);
        let c = server("c", &["other"]).await;
        let yaml = MIXED.replace("POLICY", policy);
        let plan = gateway::with(&yaml).up("a", &a).up("b", &b).up("c", &c);
        let gateway = plan.start().await;
        let client = gateway.client();
        for _ in 0..6 {
            assert_eq!(ask(&client, "lora").await, "a", "{policy}");
            assert_eq!(ask(&client, "other").await, "c", "{policy}");
            assert_ne!(ask(&client, "base").await, "c", "{policy}");
        }
        // Nobody says it has this: one is asked, and says so itself.
        ask(&client, "unlisted").await;
        let known = client.get("/v1/models").await.ok().json();
        let mut known: Vec<_> =
            known["data"].as_array().unwrap().iter().map(|it| it["id"].clone()).collect();
        known.sort_by_key(ToString::to_string);
        assert_eq!(known, [json!("base"), json!("lora"), json!("other")], "{policy}");
    }
}

#[tokio::test]
async fn an_adapter_that_is_loaded_later_is_found() {
    let (a, b) = (server("a", &["base"]).await, server("b", &["base"]).await);
    let c = server("c", &["base"]).await;
    let yaml = MIXED.replace("POLICY", "round_robin");
    let gateway = gateway::with(&yaml).up("a", &a).up("b", &b).up("c", &c).start().await;
    b.list_models(&list(&["base", "lora"]));
    eventually("it is known", async || {
        let known = gateway.client().get("/v1/models").await.ok().json();
        known["data"].as_array()?.iter().any(|it| it["id"] == "lora").then_some(())
    })
    .await;
    for _ in 0..6 {
        assert_eq!(ask(&gateway.client(), "lora").await, "b");
    }
}

fn by_srv(dns: &dns::Server) -> Plan {
    gateway::with(
        r#"
providers:
  - name: p
    kind: vllm
    discovery: { type: srv, name: _vllm._tcp.pool.test, servers: ["@dns"] }
    health_check: { interval: 100ms, timeout: 1s }
    slow_start: 0
models:
  - { name: m, targets: [{ provider: p }] }
"#,
    )
    .place("dns", &dns.address.to_string())
}

#[tokio::test]
async fn srv_records_are_followed_as_their_ttl_says() {
    let dns = dns::server().await;
    let (one, two) = (server("one", &["m"]).await, server("two", &["m"]).await);
    dns.set("one.pool.test", &[a([127, 0, 0, 1], 3600)]);
    dns.set("two.pool.test", &[a([127, 0, 0, 1], 3600)]);
    let record = |at: &Upstream, name| srv(at.address.port(), name, 1);
    dns.set("_vllm._tcp.pool.test", &[record(&one, "one.pool.test")]);
    let gateway = by_srv(&dns).start().await;
    assert_eq!(ask(&gateway.client(), "m").await, "one");
    assert_eq!(one.call().header("host"), Some(&*format!("one.pool.test:{}", one.address.port())));
    let both = [record(&one, "one.pool.test"), record(&two, "two.pool.test")];
    dns.set("_vllm._tcp.pool.test", &both);
    becomes(&gateway, &[(&one, "healthy"), (&two, "healthy")]).await;
    // A name server that is away takes nobody with it.
    dns.fall_silent();
    until("looks that failed", || gateway.log().contains("replicas stay as they are")).await;
    becomes(&gateway, &[(&one, "healthy"), (&two, "healthy")]).await;
    ask(&gateway.client(), "m").await;
}

#[tokio::test]
async fn a_name_is_asked_for_again_when_its_ttl_is_over_and_not_before() {
    let dns = dns::server().await;
    let one = server("one", &["m"]).await;
    dns.set("short.test", &[a([127, 0, 0, 1], 1)]);
    dns.set("long.test", &[a([127, 0, 0, 1], 3600)]);
    let yaml = r#"
providers:
  - name: p
    kind: vllm
    endpoints: [{ url: "http://short.test:@port" }]
    discovery: { type: dns, servers: ["@dns"] }
    health_check: { type: none }
  - name: q
    kind: vllm
    endpoints: [{ url: "http://long.test:@port" }]
    discovery: { type: dns, servers: ["@dns"] }
    health_check: { type: none }
models:
  - { name: m, targets: [{ provider: p }] }
  - { name: n, targets: [{ provider: q, model: m }] }
"#;
    let plan = gateway::with(yaml).place("port", &one.address.port().to_string());
    let gateway = plan.place("dns", &dns.address.to_string()).start().await;
    assert_eq!(ask(&gateway.client(), "m").await, "one");
    assert_eq!(ask(&gateway.client(), "n").await, "one");
    until("its TTL is over, and over again", || dns.asked_for("short.test") >= 3).await;
    assert_eq!(dns.asked_for("long.test"), 1);
}

/// A mock of its own process, which lists the model `mock`.
async fn mock() -> Gateway {
    let port = Port::take();
    let number = port.number.to_string();
    gateway::by_arguments(&["mock", "-p", &number], port).start().await
}

#[tokio::test]
async fn no_request_fails_when_a_cluster_grows_shrinks_and_loses_one() {
    let mocks = [mock().await, mock().await, mock().await, mock().await];
    let url = |mock: &Gateway| format!("http://{}", mock.address);
    let urls: Vec<String> = mocks.iter().map(url).collect();
    for policy in ["round_robin", "prefix_affinity"] {
        let yaml = BY_FILE.replace("slow_start: 0", &format!("load_balancing: {policy}"));
        let yaml = yaml.replace("{ provider: p }", "{ provider: p, model: mock }");
        let plan = gateway::with(&yaml);
        write_urls(plan.dir(), &urls[..2]);
        let gateway = Arc::new(plan.start().await);
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut callers: JoinSet<Vec<String>> = JoinSet::new();
        for _ in 0..8 {
            let (client, stop, served) = (gateway.client(), stop.clone(), served.clone());
            callers.spawn(async move {
                let mut failed = Vec::new();
                while !stop.load(SeqCst) {
                    let reply = client.post(CHAT, body("m")).send().await;
                    if reply.status == 200 {
                        served.fetch_add(1, SeqCst);
                    } else {
                        failed.push(reply.text());
                    }
                }
                failed
            });
        }
        let some_more = async || {
            let before = served.load(SeqCst);
            until("requests are served", || served.load(SeqCst) > before + 50).await;
        };
        let in_service = async |count: usize| {
            eventually(&format!("{count} in service"), async || {
                let states = states(&gateway).await;
                let healthy = states.iter().filter(|(_, state)| state == "healthy").count();
                (healthy == count).then_some(())
            })
            .await;
        };
        some_more().await;
        write_urls(gateway.dir(), &urls);
        in_service(4).await;
        some_more().await;
        write_urls(gateway.dir(), &urls[2..]);
        in_service(2).await;
        some_more().await;
        if policy == "prefix_affinity" {
            // The last round: one of those in service dies without a word.
            mocks[3].signal("KILL");
            in_service(1).await;
            some_more().await;
        }
        stop.store(true, SeqCst);
        let failed: Vec<String> = callers.join_all().await.into_iter().flatten().collect();
        assert!(failed.is_empty(), "{policy}: {} failed: {:?}", failed.len(), failed.first());
    }
}
