//! What is never written down: keys and prompts anywhere, addresses where privacy is strict.

use crate::support::answer::{Answer, Ending};
use crate::support::client::{CHAT, Reply};
use crate::support::gateway::{self, Gateway};
use crate::support::until;
use crate::support::upstream::{self, Upstream};

const SECRETS: &str = r#"
providers:
  - { name: p, kind: vllm, base_url: "http://@up", health_check: { type: none }, ejection: off, api_keys: [provider-canary-aaaa, provider-canary-bbbb], headers: { X-Secret: header-canary } }
models:
  - { name: m, targets: [{ provider: p }] }
default_provider: p
keys:
  - { name: team, key: client-canary-1 }
"#;
const CANARIES: [&str; 6] = [
    "client-canary",
    "provider-canary",
    "header-canary",
    "prompt-canary",
    "answer-canary",
    "unknown-canary",
];

/// All that happens to requests, good and bad, at the loudest log.
async fn everything(yaml: &str) -> (Upstream, Gateway) {
    let upstream = upstream::chat("answer-canary").await;
    let plan = gateway::with(yaml).up("up", &upstream);
    let gateway = plan.env("RUST_LOG", "trace").start().await;
    let client = gateway.client().key("client-canary-1");
    let prompt = r#"{"model":"m","messages":[{"role":"user","content":"prompt-canary"}]}"#;
    let streamed = prompt.replace("{\"model\"", "{\"stream\":true,\"model\"");
    client.post(CHAT, prompt).send().await.ok();
    upstream.behave(|_| Answer::words(&["answer-canary"], true));
    client.post(CHAT, streamed.clone()).send().await.ok();
    gateway.client().key("unknown-canary").post(CHAT, prompt).send().await;
    let query = format!("{CHAT}?key=client-canary-1");
    gateway.client().post(&query, prompt).send().await.ok();
    gateway.client().get("/v1/files?key=unknown-canary").await;
    client.post(CHAT, r#"{"model":"m","messages":"prompt-canary"#).send().await;
    client.post(CHAT, r#"{"model":"prompt-canary"}"#).send().await;
    for answer in [
        Answer::error(500, "answer-canary"),
        Answer::error(401, "provider-canary-aaaa is wrong"),
        Answer::error(429, "answer-canary"),
        Answer::error(400, "answer-canary"),
        Answer::chat("answer-canary").ending(Ending::CutBeforeHead),
        Answer::events(["data: {\"error\":\"answer-canary\"}\n\n"]),
        Answer::raw("answer-canary\r\n\r\n"),
    ] {
        upstream.behave(move |_| answer.clone());
        client.post(CHAT, streamed.clone()).send().await;
    }
    // No HTTP at all, with a key in it.
    let mut connection = gateway.client().connect().await;
    connection
        .send("GET / HTTP/1.1\r\nauthorization: Bearer client-canary-1\r\nbad header\r\n\r\n")
        .await;
    let _refused = connection.wire.head().await;
    let mut connection = gateway.client().connect().await;
    connection.send("GET /v1/models?key=client-canary-1 HTTP/9.9\r\n\r\n").await;
    let _refused = connection.wire.head().await;
    let last = client.post(CHAT, prompt).header("x-request-id", "the-last-one").send().await;
    assert!(last.status > 0, "{last:?}");
    until("the last line", || gateway.log().contains("the-last-one")).await;
    (upstream, gateway)
}

fn nowhere(log: &str, canaries: &[&str]) {
    for canary in canaries {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(canary)).collect();
        assert!(lines.is_empty(), "{canary} in the log:\n{}", lines.join("\n"));
    }
}

#[tokio::test]
async fn no_key_and_no_prompt_is_ever_logged() {
    let (_upstream, gateway) = everything(SECRETS).await;
    let log = gateway.log();
    nowhere(&log, &CANARIES);
    assert!(log.contains("client=127.0.0.1"), "{log}");
    assert!(log.contains("key=team"), "{log}");
}

#[tokio::test]
async fn strict_privacy_keeps_no_address_either() {
    let (_upstream, gateway) = everything(&format!("{SECRETS}\nprivacy: strict\n")).await;
    let log = gateway.log();
    nowhere(&log, &CANARIES);
    assert!(!log.contains("client="), "{log}");
}

#[tokio::test]
async fn addresses_are_left_out_when_that_is_said() {
    let yaml = format!("{SECRETS}\nprivacy: {{ log_client_ip: false }}\n");
    let (_upstream, gateway) = everything(&yaml).await;
    assert!(!gateway.log().contains("client="), "{}", gateway.log());
}

#[tokio::test]
async fn no_key_is_in_the_metrics_or_the_health() {
    let (_upstream, gateway) = everything(SECRETS).await;
    nowhere(&gateway.metrics().await, &CANARIES);
    let health: Reply = gateway.client().key("client-canary-1").get("/health/detailed").await.ok();
    nowhere(&health.text(), &CANARIES);
}

#[tokio::test]
async fn the_address_of_a_caller_is_taken_only_from_trusted_proxies() {
    let upstream = upstream::chat("hello").await;
    for (trusted, logged) in [
        ("trusted_proxies: [\"127.0.0.0/8\"]", "client=203.0.113.9"),
        ("trusted_proxies: [\"10.0.0.0/8\"]", "client=127.0.0.1"),
    ] {
        let yaml = format!("{}\n{trusted}\n", gateway::FRONT);
        let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
        let request = gateway.client().post(CHAT, r#"{"model":"m"}"#);
        let request = request.header("x-forwarded-for", "198.51.100.1, 203.0.113.9");
        request.send().await.ok();
        until("the access log", || gateway.log().contains("POST /v1/chat")).await;
        assert!(gateway.log().contains(logged), "{}", gateway.log());
    }
    let seen = format!("{:?}", upstream.calls());
    assert!(!seen.contains("203.0.113"), "{seen}");
}
