//! What goes beside the binary: the health command of containers, and the manifest for Kubernetes.

use std::path::Path;
use std::process::Output;

use serde::Deserialize;
use serde_yaml::Value;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::support::certificate::Certificate;
use crate::support::gateway::{self, Gateway};
use crate::support::{eventually, upstream, within};

/// Runs `forebay health`.
async fn health(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.arg("health").args(arguments).env_clear().kill_on_drop(true);
    within("forebay health", command.output()).await.unwrap()
}

async fn health_of(gateway: &Gateway) -> Output {
    health(&["-c", gateway.file().to_str().unwrap()]).await
}

#[tokio::test]
async fn a_server_that_serves_is_ready_and_one_that_has_ended_is_not() {
    let upstream = upstream::chat("hello").await;
    let mut gateway = gateway::front(&upstream).await;
    let asked = health_of(&gateway).await;
    assert_eq!(asked.status.code(), Some(0), "{asked:?}");
    gateway.signal("TERM");
    gateway.ended().await;
    let asked = health_of(&gateway).await;
    assert_eq!(asked.status.code(), Some(1), "{asked:?}");
    assert!(String::from_utf8_lossy(&asked.stderr).contains("not ready: "), "{asked:?}");
}

#[tokio::test]
async fn a_listener_with_tls_is_asked_too() {
    let upstream = upstream::chat("hello").await;
    let tls = "tls: { cert: \"@dir/tls.crt\", key: \"@dir/tls.key\" }";
    let yaml = format!("listen: [{{ address: \"@listen\", {tls} }}]\n{}", gateway::FRONT);
    let plan = gateway::with(&yaml).up("up", &upstream);
    Certificate::write(plan.dir());
    let gateway = plan.start().await;
    let asked = health_of(&gateway).await;
    assert_eq!(asked.status.code(), Some(0), "{asked:?}");
    assert!(String::from_utf8_lossy(&asked.stderr).starts_with("https://"), "{asked:?}");
}

#[tokio::test]
async fn a_server_that_is_about_to_go_serves_and_is_not_ready() {
    let upstream = upstream::chat("hello").await;
    let yaml = format!("{}\ntimeouts: {{ drain_delay: 1h }}\n", gateway::FRONT);
    let mut gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    gateway.signal("TERM");
    eventually("it is not ready", async || {
        (health_of(&gateway).await.status.code() == Some(1)).then_some(())
    })
    .await;
    let asked = health_of(&gateway).await;
    assert!(String::from_utf8_lossy(&asked.stderr).contains("it answers 503"), "{asked:?}");
    assert_eq!(gateway.client().chat("hi").await.said(), "hello", "on a new connection");
    gateway.signal("INT");
    gateway.ended().await;
}

#[tokio::test]
async fn another_address_can_be_asked_and_does_not_keep_it_waiting() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/health/ready", silent.local_addr().unwrap());
    let asked = health(&["--url", &url]).await;
    assert_eq!(asked.status.code(), Some(1), "{asked:?}");
    assert!(String::from_utf8_lossy(&asked.stderr).contains("no answer within 5s"), "{asked:?}");
}

#[tokio::test]
async fn a_wrong_configuration_is_no_answer_about_health() {
    let asked = gateway::with("nonsense: 1").run(&["health", "-c", "@file"]);
    assert_eq!(asked.status.code(), Some(2), "{asked:?}");
}

/// The documents of the manifest.
fn manifest() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("kubernetes/forebay.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    serde_yaml::Deserializer::from_str(&text).map(|it| Value::deserialize(it).unwrap()).collect()
}

fn of_kind(kind: &str) -> Value {
    manifest().into_iter().find(|document| document["kind"] == kind).unwrap()
}

fn seconds(yaml: &Value) -> u64 {
    yaml.as_str().unwrap().strip_suffix('s').unwrap().parse().unwrap()
}

#[test]
fn the_manifest_s_configuration_is_sound() {
    let yaml = of_kind("ConfigMap")["data"]["forebay.yaml"].as_str().unwrap().to_owned();
    let keys = ["VLLM_KEY", "TEAM_A_KEY", "ADMIN_KEY"];
    let plan = gateway::with(&yaml);
    let plan = keys.iter().fold(plan, |plan, name| plan.env(name, "sk-test-0123456789"));
    let checked = plan.run(&["check", "-c", "@file"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn the_manifest_s_parts_fit_together() {
    let text = of_kind("ConfigMap")["data"]["forebay.yaml"].as_str().unwrap().to_owned();
    let config: Value = serde_yaml::from_str(&text).unwrap();
    let pod = &of_kind("Deployment")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let timeouts = &config["timeouts"];
    let leave = seconds(&timeouts["drain_delay"]) + seconds(&timeouts["drain"]);
    // Two seconds more for the last words of what does not end.
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(grace >= leave + 5, "killed after {grace} s, leaves after {leave} s");
    for (port, address) in [(0, &config["listen"][0]["address"]), (1, &config["admin"]["listen"])] {
        let number = container["ports"][port]["containerPort"].as_u64().unwrap();
        assert!(address.as_str().unwrap().ends_with(&format!(":{number}")), "{address:?}");
    }
    let probed = |probe: &str| container[probe]["httpGet"]["path"].as_str().unwrap().to_owned();
    assert_eq!(probed("startupProbe"), "/health/live");
    assert_eq!(probed("livenessProbe"), "/health/live");
    assert_eq!(probed("readinessProbe"), "/health/ready");
}
