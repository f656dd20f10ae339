//! Replicas that are the pods of a Kubernetes service, as a scripted API server tells of them.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::answer::{Answer, Body, Cues, feed};
use crate::support::certificate::{Certificate, Front};
use crate::support::client::CHAT;
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Upstream};
use crate::support::{eventually, until};

const TOKEN: &str = "fake-service-account-token";

const YAML: &str = r#"
providers:
  - name: p
    kind: vllm
    discovery:
      type: kubernetes
      namespace: inference
      service: vllm
      port: http
      api: "https://localhost:@api"
      token_file: @dir/token
      ca_file: @dir/tls.crt
    health_check: { interval: 100ms, timeout: 1s }
    slow_start: 0
models:
  - { name: m, targets: [{ provider: p }] }
"#;

/// An API server: what it lists, and the watch that is open.
struct Api {
    server: Upstream,
    front: Option<Front>,
    listed: Arc<Mutex<Value>>,
    watch: Arc<Mutex<Option<Cues>>>,
}

fn slice(name: &str, version: u32, pod: &Upstream, ready: bool) -> Value {
    json!({
        "metadata": {"name": name, "resourceVersion": version.to_string()},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": ready}}],
        "ports": [
            {"name": "metrics", "port": 1, "protocol": "TCP"},
            {"name": "http", "port": pod.address.port(), "protocol": "TCP"},
        ],
    })
}

async fn pod(name: &str) -> Upstream {
    let pod = upstream::chat(name).await;
    pod.list_models(r#"{"object":"list","data":[{"id":"m"}]}"#);
    pod
}

impl Api {
    async fn new(slices: &[Value]) -> Self {
        let listed = Arc::new(Mutex::new(json!(slices)));
        let watch: Arc<Mutex<Option<Cues>>> = Arc::default();
        let (shown, open) = (Arc::clone(&listed), Arc::clone(&watch));
        let server = upstream::with(move |call| {
            if call.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
                return Answer::json(401, &json!({"kind": "Status", "code": 401}));
            }
            if call.target().contains("watch=1") {
                let (cues, feed) = feed();
                *open.lock().unwrap() = Some(cues);
                let answer = Answer::new(200, "application/json", "");
                return Answer { body: Body::Live(feed), ..answer };
            }
            let items = shown.lock().unwrap().clone();
            let metadata = json!({"resourceVersion": "100"});
            Answer::json(200, &json!({"metadata": metadata, "items": items}))
        })
        .await;
        Self { server, front: None, listed, watch }
    }

    /// A gateway that is given a token and an authority, as a pod is.
    async fn gateway(&mut self) -> Gateway {
        let plan = gateway::with(YAML);
        let certificate = Certificate::write(plan.dir());
        std::fs::write(plan.dir().join("token"), format!("{TOKEN}\n")).unwrap();
        let front = certificate.front(self.server.address).await;
        let plan = plan.place("api", &front.address.port().to_string());
        self.front = Some(front);
        plan.start().await
    }

    /// Waits for a watch to be open, after `before` of them.
    async fn watched(&self, before: usize) {
        until("a watch", || self.calls("watch=1") > before && self.watch.lock().unwrap().is_some())
            .await;
    }

    fn calls(&self, part: &str) -> usize {
        self.server.calls().iter().filter(|call| call.target().contains(part)).count()
    }

    fn tell(&self, kind: &str, object: &Value) {
        let line = format!("{}\n", json!({"type": kind, "object": object}));
        // In two pieces: an event is a line, wherever a chunk ends.
        let (one, two) = line.split_at(20);
        let watch = self.watch.lock().unwrap();
        let cues = watch.as_ref().unwrap();
        cues.send(one.to_owned());
        cues.send(two.to_owned());
    }
}

async fn becomes(gateway: &Gateway, expected: &[&Upstream]) {
    let mut expected: Vec<String> = expected.iter().map(|it| it.address.to_string()).collect();
    expected.sort();
    eventually(&format!("{expected:?} in service"), async || {
        let health = gateway.health().await;
        let replicas = health["providers"][0]["replicas"].as_array()?.clone();
        let healthy = replicas.iter().filter(|it| it["health"] == "healthy");
        let mut found: Vec<String> =
            healthy.map(|it| it["address"].as_str().unwrap().to_owned()).collect();
        found.sort();
        (found == expected).then_some(())
    })
    .await;
}

async fn said(gateway: &Gateway) -> String {
    let body = json!({"model": "m", "messages": []}).to_string();
    gateway.client().post(CHAT, body).send().await.ok().said()
}

#[tokio::test]
async fn the_pods_of_a_service_are_followed() {
    let (one, two) = (pod("one").await, pod("two").await);
    let mut api = Api::new(&[slice("a", 5, &one, true)]).await;
    let gateway = api.gateway().await;
    assert_eq!(said(&gateway).await, "one");
    let expected = format!("vllm.inference.svc:{}", one.address.port());
    assert_eq!(one.call().header("host"), Some(&*expected));
    let list = &api.server.calls()[0];
    assert!(list.target().starts_with(
        "/apis/discovery.k8s.io/v1/namespaces/inference/endpointslices\
         ?labelSelector=kubernetes.io%2Fservice-name%3Dvllm&"
    ));
    api.watched(0).await;
    let watch = api.server.calls().into_iter().find(|call| call.target().contains("watch=1"));
    assert!(watch.unwrap().target().contains("resourceVersion=100"));
    api.tell("ADDED", &slice("b", 101, &two, true));
    becomes(&gateway, &[&one, &two]).await;
    api.tell("MODIFIED", &slice("a", 102, &one, false));
    becomes(&gateway, &[&two]).await;
    one.forget();
    for _ in 0..4 {
        assert_eq!(said(&gateway).await, "two");
    }
    assert_eq!(one.count(), 0);
    api.tell("DELETED", &slice("b", 103, &two, true));
    becomes(&gateway, &[]).await;
    assert!(!gateway.log().contains(TOKEN));
}

#[tokio::test]
async fn a_watch_that_ends_goes_on_and_one_that_is_too_old_lists_again() {
    let (one, two) = (pod("one").await, pod("two").await);
    let mut api = Api::new(&[slice("a", 5, &one, true)]).await;
    let gateway = api.gateway().await;
    api.watched(0).await;
    api.tell("BOOKMARK", &json!({"metadata": {"resourceVersion": "150"}}));
    api.watch.lock().unwrap().take().unwrap().end();
    api.watched(1).await;
    let last = api.server.calls().into_iter().rfind(|call| call.target().contains("watch=1"));
    assert!(last.unwrap().target().contains("resourceVersion=150"));
    assert_eq!(api.calls("limit="), 1, "nothing was to be listed again");
    *api.listed.lock().unwrap() = json!([slice("b", 200, &two, true)]);
    api.tell("ERROR", &json!({"kind": "Status", "code": 410, "message": "too old"}));
    becomes(&gateway, &[&two]).await;
    assert_eq!(api.calls("limit="), 2);
    assert_eq!(said(&gateway).await, "two");
}

#[tokio::test]
async fn an_api_server_that_is_away_takes_no_pod_with_it() {
    let one = pod("one").await;
    let mut api = Api::new(&[slice("a", 5, &one, true)]).await;
    let gateway = api.gateway().await;
    api.watched(0).await;
    api.front = None;
    until("it is told", || gateway.log().contains("its pods are not followed")).await;
    becomes(&gateway, &[&one]).await;
    assert_eq!(said(&gateway).await, "one");
}

#[tokio::test]
async fn an_account_that_may_not_list_is_told_of() {
    let mut api = Api::new(&[]).await;
    api.server.behave(|_| Answer::json(403, &json!({"kind": "Status", "code": 403})));
    let gateway = api.gateway().await;
    until("it is told", || {
        gateway.log().contains("403: the service account may not list endpointslices")
    })
    .await;
    let body = json!({"model": "m", "messages": []}).to_string();
    gateway.client().post(CHAT, body).send().await.refused(503, "no_healthy_upstream");
}
