//! Asking for something that is not there: it is refused here, and never passed on.

use crate::support::client::{CHAT, chat_body};
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Upstream};

const OPEN: &str = r#"
providers:
  - { name: p, kind: vllm, base_url: "http://@up", health_check: { type: none } }
models:
  - { name: m, targets: [{ provider: p }] }
default_provider: p
"#;

async fn open() -> (Upstream, Gateway) {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::with(OPEN).up("up", &upstream).start().await;
    (upstream, gateway)
}

#[tokio::test]
async fn unknown_paths_are_404_and_never_passed_on() {
    let (upstream, gateway) = open().await;
    for path in ["/", "/v1", "/v1/", "/admin", "/v1/nope", "/pause", "/invocations", "/v1/filesX"] {
        for method in ["GET", "POST", "DELETE"] {
            let reply = gateway.client().request(method, path).send().await;
            reply.refused(404, "not_found");
        }
    }
    assert_eq!(upstream.count(), 0, "{:?}", upstream.calls());
}

#[tokio::test]
async fn a_second_spelling_of_a_path_is_404_and_never_passed_on() {
    let (upstream, gateway) = open().await;
    for path in [
        "/v1/files/../x",
        "/v1/files/..",
        "//v1/files",
        "/v1//files",
        "/v1/files/%2e%2e/x",
        "/v1/files/%2E./x",
        "/v1/files/a%2Fb",
        "/v1/files/a%5cb",
        "/v1/./files",
        "/v1/files/x%00",
    ] {
        let reply = gateway.client().get(path).await;
        assert!(matches!(reply.status, 400 | 404), "{path}: {reply:?}");
    }
    let reply = gateway.client().post("//v1/chat/completions", chat_body("hi").to_string());
    let reply = reply.send().await;
    assert!(matches!(reply.status, 400 | 404), "{reply:?}");
    assert_eq!(upstream.count(), 0, "{:?}", upstream.calls());
}

#[tokio::test]
async fn a_fragment_is_refused() {
    let (upstream, gateway) = open().await;
    let reply = gateway.client().get("/v1/files#b").await;
    assert!(matches!(reply.status, 400 | 404), "{reply:?}");
    assert_eq!(upstream.count(), 0, "{:?}", upstream.calls());
}

#[tokio::test]
async fn chat_is_posted_and_nothing_else() {
    let (upstream, gateway) = open().await;
    for method in ["GET", "PUT", "DELETE", "PATCH"] {
        let reply = gateway.client().request(method, CHAT).send().await;
        assert!(matches!(reply.status, 404 | 405), "{method}: {reply:?}");
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn unusual_methods_are_not_passed_on() {
    let (upstream, gateway) = open().await;
    for method in ["TRACE", "OPTIONS", "FOO", "PROPFIND"] {
        let reply = gateway.client().request(method, "/v1/files").send().await;
        assert!((400..500).contains(&reply.status), "{method}: {reply:?}");
    }
    assert_eq!(upstream.count(), 0, "{:?}", upstream.calls());
}

#[tokio::test]
async fn the_metrics_are_hidden_from_clients_unless_said_otherwise() {
    let (upstream, gateway) = open().await;
    gateway.client().get("/metrics").await.refused(404, "not_found");
    gateway.operator().get("/metrics").await.ok();
    let yaml = format!("{OPEN}\nmetrics: {{ on_data_listener: true }}\n");
    let shown = gateway::with(&yaml).up("up", &upstream).start().await;
    let reply = shown.client().get("/metrics").await.ok();
    assert!(reply.text().contains("forebay_build_info"), "{reply:?}");
}

#[tokio::test]
async fn head_is_answered_where_get_is_and_without_a_body() {
    let (_upstream, gateway) = open().await;
    let mut connection = gateway.client().connect().await;
    connection.send("HEAD /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let head = connection.head().await;
    assert_eq!(head.word(1), "200", "{head:?}");
    // The next answer follows at once: nothing of a body came between.
    let reply = gateway.client().request("GET", "/health").over(&mut connection).await;
    assert_eq!(reply.ok().text(), r#"{"status":"ok"}"#);
}
