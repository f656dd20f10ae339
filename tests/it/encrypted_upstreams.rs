//! Providers behind TLS: called only when they prove who they are.

use crate::support::certificate::{Certificate, Front};
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Upstream};

/// A gateway in front of a provider with a certificate for `localhost`.
async fn encrypted(tls: &str) -> (Upstream, Front, Gateway) {
    let upstream = upstream::chat("hello").await;
    let yaml = gateway::FRONT.replace("http://@up", "https://@up").replace(
        "{ type: none }",
        &format!("{{ type: none }}, ejection: off, api_keys: [provider-key-1], tls: {tls}"),
    );
    let plan = gateway::with(&yaml);
    let certificate = Certificate::write(plan.dir());
    let front = certificate.front(upstream.address).await;
    let gateway = plan.place("up", &front.address.to_string()).start().await;
    (upstream, front, gateway)
}

#[tokio::test]
async fn a_provider_with_a_trusted_certificate_is_called() {
    let (upstream, _front, gateway) =
        encrypted("{ ca_file: \"@dir/tls.crt\", server_name: localhost }").await;
    for _ in 0..3 {
        assert_eq!(gateway.client().chat("hi").await.said(), "hello");
    }
    assert_eq!(upstream.count(), 3);
}

#[tokio::test]
async fn a_provider_nobody_vouches_for_gets_nothing() {
    let (upstream, _front, gateway) = encrypted("{ server_name: localhost }").await;
    gateway.client().chat("hi").await.refused(502, "upstream_error");
    assert_eq!(upstream.count(), 0, "{:?}", upstream.calls());
}

#[tokio::test]
async fn a_provider_with_anothers_certificate_gets_nothing() {
    let (upstream, _front, gateway) =
        encrypted("{ ca_file: \"@dir/tls.crt\", server_name: other.example }").await;
    gateway.client().chat("hi").await.refused(502, "upstream_error");
    assert_eq!(upstream.count(), 0, "{:?}", upstream.calls());
}

#[tokio::test]
async fn a_provider_is_called_unchecked_only_when_that_is_said() {
    let (_upstream, _front, gateway) = encrypted("{ verify: false }").await;
    assert_eq!(gateway.client().chat("hi").await.said(), "hello");
}

#[tokio::test]
async fn a_provider_that_speaks_no_tls_gets_no_key() {
    let upstream = upstream::chat("hello").await;
    let yaml = gateway::FRONT
        .replace("http://@up", "https://@up")
        .replace("{ type: none }", "{ type: none }, api_keys: [provider-key-1]");
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    gateway.client().chat("hi").await.refused(502, "upstream_error");
    // What came was a handshake.
    let seen = format!("{:?}", upstream.calls());
    assert!(!seen.contains("provider-key") && !seen.contains("HTTP/1.1"), "{seen}");
}
