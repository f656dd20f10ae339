//! Starting without a file: a first try, and one upstream in front of which a key is put.

use std::net::TcpListener;

use serde_json::json;

use crate::support::client::{CHAT, Client};
use crate::support::gateway;
use crate::support::port::Port;
use crate::support::upstream;

#[tokio::test]
async fn without_anything_it_serves_the_mock_on_loopback() {
    if TcpListener::bind("127.0.0.1:8080").is_err() {
        return;
    }
    let port = Port::fixed(8080);
    let gateway = gateway::by_arguments(&["run"], port).start().await;
    let body = json!({"model": "mock", "messages": [{"role": "user", "content": "hello"}]});
    let reply = Client::new(gateway.address).post(CHAT, body.to_string()).send().await;
    assert!(!reply.said().is_empty(), "{reply:?}");
    assert!(gateway.log().contains("mock"), "it does not say so: {}", gateway.log());
}

async fn single(
    more: &[&str],
    environment: &[(&str, &str)],
) -> (upstream::Upstream, gateway::Gateway) {
    let upstream = upstream::chat("hello").await;
    let port = Port::take();
    let (number, url) = (port.number.to_string(), format!("http://{}/v1", upstream.address));
    let arguments = [&["run", "-p", &number, "--upstream", &url], more].concat();
    let plan = gateway::by_arguments(&arguments, port);
    let plan = environment.iter().fold(plan, |plan, (name, value)| plan.env(name, value));
    let gateway = plan.start().await;
    (upstream, gateway)
}

#[tokio::test]
async fn one_upstream_is_fronted_with_our_key() {
    let (upstream, gateway) = single(&["-a", "our-key-1"], &[]).await;
    let reply = gateway.client().post(CHAT, r#"{"model":"any/model"}"#).send().await;
    assert_eq!(reply.said(), "hello");
    let call = upstream.calls().last().unwrap().clone();
    assert_eq!(call.target(), "/v1/chat/completions");
    assert_eq!(call.header("authorization"), Some("Bearer our-key-1"), "{call:?}");
    assert_eq!(call.text(), r#"{"model":"any/model"}"#);
}

#[tokio::test]
async fn the_callers_own_key_goes_before_ours() {
    let (upstream, gateway) = single(&["-a", "our-key-1"], &[]).await;
    gateway.client().key("their-key-1").chat("hi").await.ok();
    let call = upstream.calls().last().unwrap().clone();
    assert_eq!(call.header("authorization"), Some("Bearer their-key-1"), "{call:?}");
}

#[tokio::test]
async fn the_key_may_come_from_the_environment() {
    let (upstream, gateway) = single(&[], &[("FOREBAY_API_KEY", "key-of-the-environment")]).await;
    gateway.client().chat("hi").await.ok();
    let call = upstream.calls().last().unwrap().clone();
    assert_eq!(call.header("authorization"), Some("Bearer key-of-the-environment"), "{call:?}");
}

#[tokio::test]
async fn calls_without_a_model_go_to_the_one_upstream() {
    let (upstream, gateway) = single(&["-a", "our-key-1"], &[]).await;
    gateway.client().get("/v1/files?limit=1").await.ok();
    assert_eq!(upstream.calls().last().unwrap().target(), "/v1/files?limit=1");
}

#[tokio::test]
async fn the_environment_moves_the_listener() {
    let upstream = upstream::chat("hello").await;
    let port = Port::take();
    let yaml = format!("listen: [{{ address: \"127.0.0.1:1\" }}]\n{}", gateway::FRONT);
    let plan = gateway::with(&yaml).up("up", &upstream);
    let plan = plan.env("FOREBAY_LISTEN", &port.address());
    let gateway = plan.at(port).start().await;
    gateway.client().chat("hi").await.ok();
}

#[tokio::test]
async fn a_dot_env_file_beside_the_configuration_is_read() {
    let upstream = upstream::chat("hello").await;
    let yaml =
        gateway::FRONT.replace("{ type: none }", "{ type: none }, api_keys: [\"${FROM_DOT_ENV}\"]");
    let plan = gateway::with(&yaml).up("up", &upstream);
    std::fs::write(plan.dir().join(".env"), "FROM_DOT_ENV=key-of-the-file\n").unwrap();
    let gateway = plan.start().await;
    gateway.client().chat("hi").await.ok();
    assert_eq!(upstream.call().header("authorization"), Some("Bearer key-of-the-file"));
}

#[tokio::test]
async fn forebay_mock_is_an_upstream_of_its_own() {
    let port = Port::take();
    let number = port.number.to_string();
    let mock = gateway::by_arguments(&["mock", "-p", &number], port).start().await;
    let yaml = gateway::FRONT.replace("@up", &mock.address.to_string());
    let gateway = gateway::with(&yaml).start().await;
    let reply = gateway.client().chat("hello").await;
    assert!(!reply.said().is_empty(), "{reply:?}");
    let reply = gateway.client().stream("hello").await.rest().await.ok();
    assert!(!reply.streamed().is_empty(), "{reply:?}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_and_ends_it() {
    let port = Port::take();
    let _taken = TcpListener::bind(port.address()).unwrap();
    let address = port.address();
    let yaml = format!("listen: [{{ address: \"{address}\" }}]\n{}", gateway::FRONT);
    let mut gateway = gateway::with(&yaml).place("up", "127.0.0.1:1").at(port).spawn();
    let status = gateway.ended().await;
    assert!(status.code().is_some_and(|code| code > 0), "{status}");
    assert!(gateway.log().contains(&address), "{}", gateway.log());
}
