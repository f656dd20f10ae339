//! Web pages: which of them may call, and what their browser is told.

use crate::support::client::{CHAT, Reply, chat_body};
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Upstream};

async fn with_cors(cors: &str) -> (Upstream, Gateway) {
    let upstream = upstream::chat("hello").await;
    let keys = "keys: [{ name: a, key: client-key-of-a }]";
    let yaml = format!("{}\n{keys}\n{cors}\n", gateway::FRONT);
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    (upstream, gateway)
}

async fn preflight(gateway: &Gateway, origin: &str) -> Reply {
    let request = gateway.client().request("OPTIONS", CHAT).header("origin", origin);
    let request = request.header("access-control-request-method", "POST");
    request.header("access-control-request-headers", "authorization, x-custom").send().await
}

const PAGE: &str = "https://chat.example";

#[tokio::test]
async fn a_preflight_is_answered_without_a_key() {
    let (upstream, gateway) =
        with_cors("cors: { allow_origins: [\"https://chat.example\"] }").await;
    let reply = preflight(&gateway, PAGE).await;
    assert!(matches!(reply.status, 200 | 204), "{reply:?}");
    assert_eq!(reply.header("access-control-allow-origin"), Some(PAGE), "{reply:?}");
    let methods = reply.header("access-control-allow-methods").unwrap_or_default();
    assert!(methods.contains("POST"), "{reply:?}");
    let headers = reply.header("access-control-allow-headers").unwrap_or_default();
    assert!(headers.contains("authorization"), "{reply:?}");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn another_page_is_not_let_in() {
    let (_upstream, gateway) =
        with_cors("cors: { allow_origins: [\"https://chat.example\"] }").await;
    for origin in
        ["https://evil.example", "http://chat.example", "https://chat.example.evil", "null"]
    {
        let reply = preflight(&gateway, origin).await;
        assert_eq!(reply.header("access-control-allow-origin"), None, "{origin}: {reply:?}");
    }
}

#[tokio::test]
async fn answers_and_refusals_are_readable_for_the_page() {
    let (_upstream, gateway) =
        with_cors("cors: { allow_origins: [\"https://chat.example\"] }").await;
    let request = gateway.client().post(CHAT, chat_body("hi").to_string()).header("origin", PAGE);
    let refused = request.send().await;
    refused.refused(401, "invalid_api_key");
    let answered = request.header("authorization", "Bearer client-key-of-a").send().await.ok();
    for reply in [refused, answered] {
        assert_eq!(reply.header("access-control-allow-origin"), Some(PAGE), "{reply:?}");
        let exposed = reply.header("access-control-expose-headers").unwrap_or_default();
        assert!(exposed.contains("x-request-id"), "{reply:?}");
        assert!(reply.header("vary").is_some_and(|vary| vary.contains("origin")), "{reply:?}");
    }
}

#[tokio::test]
async fn any_page_may_call_when_that_is_said() {
    let (_upstream, gateway) = with_cors("cors: { allow_origins: [\"*\"] }").await;
    let reply = preflight(&gateway, "https://anything.example").await;
    assert_eq!(reply.header("access-control-allow-origin"), Some("*"), "{reply:?}");
}

#[tokio::test]
async fn no_page_may_call_unless_said_so() {
    let (upstream, gateway) = with_cors("").await;
    let reply = preflight(&gateway, PAGE).await;
    assert!((400..500).contains(&reply.status), "{reply:?}");
    let request = gateway.client().key("client-key-of-a").post(CHAT, chat_body("hi").to_string());
    let reply = request.header("origin", PAGE).send().await.ok();
    assert_eq!(reply.header("access-control-allow-origin"), None, "{reply:?}");
    assert_eq!(upstream.count(), 1);
}
