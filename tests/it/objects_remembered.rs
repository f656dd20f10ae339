//! Files, batches and the like stay their maker's: past a restart and an upgrade, and on every node.

use serde_json::json;
use tempfile::TempDir;

use crate::support::answer::Answer;
use crate::support::client::{Client, Reply};
use crate::support::databases::Database;
use crate::support::gateway::{self, Gateway, Plan};
use crate::support::relay::Relay;
use crate::support::upstream::{self, Call, Upstream};
use crate::support::{eventually, until};

const TWO_TENANTS: &str = r#"
upgrade_sock: @dir/run/upgrade.sock
store: { url: "@store" }
providers:
  - { name: one, kind: vllm, base_url: "http://@up", health_check: { type: none }, api_keys: [key-of-one-1, key-of-one-2] }
default_provider: one
keys:
  - { name: maker, key: client-key-of-the-maker }
  - { name: other, key: client-key-of-another }
"#;

/// Makes an object of every `POST`, with an id of its own.
fn made(call: &Call) -> Answer {
    let kind = if call.target().starts_with("/v1/batches") { "batch_" } else { "file-" };
    Answer::json(200, &json!({"id": format!("{kind}{:016x}", rand::random::<u64>())}))
}

async fn maker() -> Upstream {
    upstream::with(made).await
}

fn plan(upstream: &Upstream, store: &str) -> Plan {
    gateway::with(TWO_TENANTS).up("up", upstream).place("store", store)
}

fn callers(gateway: &Gateway) -> (Client, Client) {
    let client = gateway.client();
    (client.key("client-key-of-the-maker"), client.key("client-key-of-another"))
}

fn id_of(reply: Reply) -> String {
    reply.ok().json()["id"].as_str().unwrap().to_owned()
}

/// Waits until a node knows that an object is somebody else's.
async fn refused(client: &Client, id: &str) {
    eventually("the object is somebody else's", async || {
        (client.get(&format!("/v1/files/{id}")).await.status == 404).then_some(())
    })
    .await;
}

async fn stop(mut gateway: Gateway) {
    gateway.signal("TERM");
    assert!(gateway.ended().await.success(), "{}", gateway.log());
}

#[tokio::test]
async fn a_restart_forgets_no_object() {
    let (upstream, folder) = (maker().await, TempDir::new().unwrap());
    let store = format!("sqlite:{}", folder.path().join("keys.db").display());
    let gateway = plan(&upstream, &store).start().await;
    let (maker, _other) = callers(&gateway);
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(id_of(maker.post("/v1/files", "{}").send().await));
    }
    let key = |call: &Call| call.header("authorization").map(str::to_owned);
    let keys: Vec<_> = upstream.calls().iter().map(|call| key(call)).collect();
    // The last one was made just before the end.
    stop(gateway).await;
    let gateway = plan(&upstream, &store).start().await;
    let (maker, other) = callers(&gateway);
    let before = upstream.count();
    for id in &ids {
        for method in ["GET", "DELETE", "POST"] {
            let reply = other.request(method, &format!("/v1/files/{id}")).send().await;
            assert_eq!(reply.status, 404, "{method} {id}: {reply:?}");
        }
        let named = json!({"input_file_id": id}).to_string();
        assert_eq!(other.post("/v1/batches", named).send().await.status, 404);
    }
    assert_eq!(upstream.count(), before, "{:?}", upstream.calls().last());
    for (id, key_then) in ids.iter().zip(&keys) {
        maker.get(&format!("/v1/files/{id}")).await.ok();
        let now = key(upstream.calls().last().unwrap());
        assert_eq!(&now, key_then, "it is in that key's account");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_knows_whose_an_object_is() {
    let (upstream, database) = (maker().await, Database::create());
    let one = plan(&upstream, &database.url()).start().await;
    let two = plan(&upstream, &database.url()).start().await;
    let ((maker, _), (maker_there, other_there)) = (callers(&one), callers(&two));
    let first = id_of(maker.post("/v1/files", "{}").send().await);
    refused(&other_there, &first).await;
    // In a body as well as in the path, and what was made meanwhile.
    let id = id_of(maker.post("/v1/batches", "{}").send().await);
    refused(&other_there, &id).await;
    let before = upstream.count();
    let named = json!({"file_ids": [first, id], "x": 1}).to_string();
    let reply = other_there.post("/v1/vector_stores", named.clone()).send().await;
    assert_eq!(reply.status, 404, "{reply:?}");
    assert_eq!(upstream.count(), before);
    let reply = maker_there.post("/v1/vector_stores", named).send().await.ok();
    assert!(reply.json()["id"].is_string());
    drop((one, two));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_hands_objects_over() {
    let upstream = maker().await;
    let mut gateway = plan(&upstream, "sqlite:@dir/keys.db").start().await;
    for _ in 0..3 {
        let (maker, other) = callers(&gateway);
        let id = id_of(maker.post("/v1/files", "{}").send().await);
        gateway.upgrade(&[]).await.unwrap();
        let before = upstream.count();
        other.get(&format!("/v1/files/{id}")).await.refused(404, "not_found");
        assert_eq!(upstream.count(), before);
        maker.get(&format!("/v1/files/{id}")).await.ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_object_is_forgotten_and_what_is_taken_out_of_another_is_not() {
    let (upstream, database) = (maker().await, Database::create());
    let one = plan(&upstream, &database.url()).start().await;
    let two = plan(&upstream, &database.url()).start().await;
    let ((maker, other), (_, other_there)) = (callers(&one), callers(&two));
    let ids = [
        id_of(maker.post("/v1/files", "{}").send().await),
        id_of(maker.post("/v1/files", "{}").send().await),
    ];
    let below = format!("/v1/vector_stores/vs_1/files/{}", ids[1]);
    maker.request("DELETE", &below).send().await.ok();
    upstream.behave(|_| Answer::error(500, "no"));
    let whole = format!("/v1/files/{}", ids[0]);
    maker.request("DELETE", &whole).send().await;
    other.get(&whole).await.refused(404, "not_found");
    upstream.behave(made);
    maker.request("DELETE", &whole).send().await.ok();
    other.get(&whole).await.ok();
    other.get(&format!("/v1/files/{}", ids[1])).await.refused(404, "not_found");
    refused(&other_there, &ids[1]).await;
    eventually("the store has forgotten it", async || {
        let reply = other_there.get(&whole).await;
        (reply.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_object_nobody_asks_for_is_forgotten_in_time() {
    let (upstream, folder) = (maker().await, TempDir::new().unwrap());
    let store = format!("sqlite:{}", folder.path().join("keys.db").display());
    let yaml = format!("{TWO_TENANTS}objects: {{ keep: 2s }}\n");
    let plan = || gateway::with(&yaml).up("up", &upstream).place("store", &store);
    let gateway = plan().start().await;
    let (maker, other) = callers(&gateway);
    let id = id_of(maker.post("/v1/files", "{}").send().await);
    other.get(&format!("/v1/files/{id}")).await.refused(404, "not_found");
    let asked = async |client: &Client| {
        eventually("nobody knows it", async || {
            (client.get(&format!("/v1/files/{id}")).await.status == 200).then_some(())
        })
        .await;
    };
    asked(&other).await;
    stop(gateway).await;
    let gateway = plan().start().await;
    callers(&gateway).1.get(&format!("/v1/files/{id}")).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_store_is_away_what_is_in_memory_holds() {
    let (upstream, database) = (maker().await, Database::create());
    let mut relay = Relay::to(&database.host()).await;
    let url = database.url_by(&relay.address.to_string());
    let one = plan(&upstream, &url).start().await;
    let two = plan(&upstream, &database.url()).start().await;
    let ((maker, other), (_, other_there)) = (callers(&one), callers(&two));
    let known = id_of(maker.post("/v1/files", "{}").send().await);
    refused(&other_there, &known).await;

    relay.cut().await;
    // Until that is noticed nobody is let past what cannot be looked up.
    let unknown = "/v1/files/file-0123456789abcdef";
    eventually("it is noticed", async || {
        let reply = other.get(unknown).await;
        assert!(matches!(reply.status, 200 | 503), "{reply:?}");
        (reply.status == 200).then_some(())
    })
    .await;
    until("it is told", || one.log().contains("serving from memory")).await;
    other.get(&format!("/v1/files/{known}")).await.refused(404, "not_found");
    maker.get(&format!("/v1/files/{known}")).await.ok();
    let meanwhile = id_of(maker.post("/v1/files", "{}").send().await);
    other.get(&format!("/v1/files/{meanwhile}")).await.refused(404, "not_found");

    relay.mend().await;
    refused(&other_there, &meanwhile).await;
}

#[tokio::test]
async fn a_request_names_a_bounded_number_of_unknown_objects() {
    let upstream = maker().await;
    let gateway = plan(&upstream, "sqlite:@dir/keys.db").start().await;
    let (maker, other) = callers(&gateway);
    let id = id_of(maker.post("/v1/files", "{}").send().await);
    // The store is asked once it is known to have something.
    let body = |count: usize| {
        let ids: Vec<String> = (0..count).map(|number| format!("file-{number:08}")).collect();
        json!({"file_ids": ids, "file_id": id}).to_string()
    };
    eventually("too many are refused", async || {
        let reply = other.post("/v1/vector_stores", body(1001)).send().await;
        assert!(matches!(reply.status, 400 | 404), "{reply:?}");
        (reply.status == 400).then_some(())
    })
    .await;
    let reply = other.post("/v1/vector_stores", body(999)).send().await;
    assert_eq!(reply.status, 404, "{reply:?}");
    assert_eq!(upstream.count(), 1);
    maker.post("/v1/vector_stores", body(999)).send().await.ok();
}
