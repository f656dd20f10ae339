//! Listeners: TLS with both protocols, several at once.

use crate::support::certificate::Certificate;
use crate::support::client::{CHAT, Connection, chat_body};
use crate::support::gateway::{self, Gateway};
use crate::support::http2::Http2;
use crate::support::port::Port;
use crate::support::upstream::{self, Upstream};

async fn encrypted() -> (Upstream, Gateway, Certificate) {
    let upstream = upstream::chat("hello").await;
    let tls = "tls: { cert: \"@dir/tls.crt\", key: \"@dir/tls.key\" }";
    let yaml = format!("listen: [{{ address: \"@listen\", {tls} }}]\n{}", gateway::FRONT);
    let plan = gateway::with(&yaml).up("up", &upstream);
    let certificate = Certificate::write(plan.dir());
    (upstream, plan.start().await, certificate)
}

#[tokio::test]
async fn tls_speaks_http_1_1() {
    let (upstream, gateway, certificate) = encrypted().await;
    let stream = certificate.connect(gateway.address, &["http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));
    let mut connection = Connection::over(stream);
    let request = gateway.client().post(CHAT, chat_body("hi").to_string());
    assert_eq!(request.over(&mut connection).await.said(), "hello");
    assert_eq!(request.over(&mut connection).await.said(), "hello");
    assert_eq!(upstream.count(), 2);
}

#[tokio::test]
async fn tls_speaks_http_2() {
    let (_upstream, gateway, certificate) = encrypted().await;
    let stream = certificate.connect(gateway.address, &["h2", "http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let mut http2 = Http2::over(stream, "localhost").await;
    let body = chat_body(&"x".repeat(200_000)).to_string();
    let reply = http2.post(CHAT, body).await.rest().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(String::from_utf8_lossy(&reply.body).contains("hello"), "{reply:?}");
}

#[tokio::test]
async fn tls_without_an_agreement_is_http_1_1() {
    let (_upstream, gateway, certificate) = encrypted().await;
    let mut connection = Connection::over(certificate.connect(gateway.address, &[]).await);
    let request = gateway.client().post(CHAT, chat_body("hi").to_string());
    assert_eq!(request.over(&mut connection).await.said(), "hello");
}

#[tokio::test]
async fn several_listeners_serve_the_same() {
    let upstream = upstream::chat("hello").await;
    let second = Port::take();
    let yaml = format!(
        "listen: [{{ address: \"@listen\" }}, {{ address: \"{}\" }}]\n{}",
        second.address(),
        gateway::FRONT
    );
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    assert_eq!(gateway.client().chat("hi").await.said(), "hello");
    let other = crate::support::client::Client::new(second.address().parse().unwrap());
    assert_eq!(other.chat("hi").await.said(), "hello");
}

#[tokio::test]
async fn a_certificate_that_is_not_there_is_told_at_the_start() {
    let tls = "tls: { cert: /nowhere.crt, key: /nowhere.key }";
    let yaml = format!("listen: [{{ address: \"@listen\", {tls} }}]\n{}", gateway::FRONT);
    let output = gateway::with(&yaml.replace("@up", "127.0.0.1:1")).run(&["run", "-c", "@file"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("/nowhere.crt"), "{text}");
}

#[tokio::test]
async fn http2_serves_errors_and_local_answers() {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::front(&upstream).await;
    let mut http2 = Http2::connect(gateway.address).await;
    let refused = http2.post(CHAT, r#"{"model":"nope"}"#).await.rest().await;
    assert_eq!(refused.status, 404, "{refused:?}");
    assert!(refused.headers.contains_key("x-request-id"), "{refused:?}");
    let (mut body, answer) = http2.begin("GET", "/v1/models", &[]).await;
    body.send_data(bytes::Bytes::new(), true).unwrap();
    assert_eq!(answer.await.rest().await.status, 200);
    let large = http2.post(CHAT, "x".repeat(5 << 20)).await.rest().await;
    assert_eq!(large.status, 400, "{large:?}");
    assert_eq!(http2.post(CHAT, r#"{"model":"m"}"#).await.rest().await.status, 200);
}
