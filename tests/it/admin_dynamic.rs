//! Providers and models of the store: checked before they are written, in force at once, everywhere.

use serde_json::{Value, json};

use crate::admin_api::{operator, send, stored};
use crate::support::client::CHAT;
use crate::support::eventually;
use crate::support::gateway::{self, Gateway, Plan};
use crate::support::upstream::{self, Upstream};

const DYNAMIC: &str = r#"
store: { url: "sqlite:@db", dynamic: true, encryption_key: "an encryption key of the tests" }
anonymous: true
providers:
  - { name: of-the-file, kind: vllm, base_url: "http://@up", health_check: { type: none }, api_keys: [fake-file-key-0001] }
models:
  - { name: m, targets: [{ provider: of-the-file }] }
"#;

fn plan(upstream: &Upstream) -> Plan {
    let plan = gateway::with(DYNAMIC).up("up", upstream);
    let db = plan.dir().join("forebay.db").display().to_string();
    plan.place("db", &db)
}

fn provider(name: &str, upstream: &Upstream) -> Value {
    json!({
        "name": name, "kind": "vllm", "base_url": format!("http://{}", upstream.address),
        "health_check": {"type": "none"}, "api_keys": ["fake-stored-key-0002"],
    })
}

async fn status(gateway: &Gateway, model: &str) -> u16 {
    let body = json!({"model": model, "messages": []}).to_string();
    gateway.client().post(CHAT, body).send().await.status
}

#[tokio::test]
async fn what_is_added_serves_before_it_is_answered() {
    let upstream = upstream::chat("hello").await;
    let gateway = plan(&upstream).start().await;
    let admin = operator(&gateway);
    let made = send(&admin, "POST", "/providers", &provider("added", &upstream)).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.json()["api_keys"], json!(["…0002"]), "{made:?}");
    let model = json!({"name": "new", "targets": [{"provider": "added", "model": "there"}]});
    let made = send(&admin, "POST", "/models", &model).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(status(&gateway, "new").await, 200);
    assert_eq!(upstream.call().header("authorization"), Some("Bearer fake-stored-key-0002"));
    let gone = send(&admin, "PATCH", "/models/new", &json!({"enabled": false})).await;
    assert_eq!(gone.json()["enabled"], false, "{gone:?}");
    assert_eq!(status(&gateway, "new").await, 404);
    send(&admin, "PATCH", "/models/new", &json!({"enabled": true})).await.ok();
    assert_eq!(status(&gateway, "new").await, 200);
    send(&admin, "DELETE", "/models/new", &Value::Null).await.ok();
    assert_eq!(status(&gateway, "new").await, 404);
    send(&admin, "DELETE", "/providers/added", &Value::Null).await.ok();
    assert_eq!(status(&gateway, "m").await, 200);
}

#[tokio::test]
async fn what_would_not_hold_is_not_written() {
    let upstream = upstream::chat("hello").await;
    let gateway = plan(&upstream).start().await;
    let admin = operator(&gateway);
    send(&admin, "POST", "/providers", &provider("p", &upstream)).await;
    send(&admin, "POST", "/models", &json!({"name": "n", "targets": [{"provider": "p"}]})).await;
    let before = send(&admin, "GET", "/changes", &Value::Null).await.ok().json();
    for (method, path, body, said) in [
        ("POST", "/providers", json!({"name": "q", "kind": "vlm"}), "vllm"),
        ("POST", "/providers", json!({"name": "q", "kind": "mock", "colour": 1}), "colour"),
        (
            "POST",
            "/providers",
            json!({"name": "q", "kind": "vllm", "base_url": "ftp://x"}),
            "http://",
        ),
        ("POST", "/models", json!({"name": "x", "targets": [{"provider": "nobody"}]}), "nobody"),
        (
            "POST",
            "/models",
            json!({"id": "y", "name": "m", "targets": [{"provider": "p"}]}),
            "duplicate",
        ),
        (
            "POST",
            "/models",
            json!({"name": "z", "targets": [{"provider": "p"}], "fallback": ["z"]}),
            "circle",
        ),
        ("PATCH", "/providers/p", json!({"kind": "nothing"}), "nothing"),
        ("DELETE", "/providers/p", Value::Null, "unknown provider"),
    ] {
        let refused = send(&admin, method, path, &body).await;
        let error = refused.refused(400, "invalid_configuration");
        assert!(error["mistakes"].to_string().contains(said), "{said}: {refused:?}");
    }
    let after = send(&admin, "GET", "/changes", &Value::Null).await.ok().json();
    assert_eq!(before, after, "nothing was written");
    assert_eq!((status(&gateway, "m").await, status(&gateway, "n").await), (200, 200));
    for path in ["/providers/of-the-file", "/models/m"] {
        send(&admin, "DELETE", path, &Value::Null).await.refused(409, "not_dynamic");
        send(&admin, "PATCH", path, &json!({"name": "x"})).await;
    }
    let twin = provider("of-the-file", &upstream);
    send(&admin, "POST", "/providers", &twin).await.refused(409, "already_exists");
}

#[tokio::test]
async fn without_dynamic_only_the_files_are_there_to_be_looked_at() {
    let (upstream, gateway) = stored().await;
    let admin = operator(&gateway);
    let listed = send(&admin, "GET", "/providers", &Value::Null).await.ok().json();
    assert_eq!(listed["data"][0]["source"], "file", "{listed}");
    assert_eq!(listed["data"][0]["api_keys"], json!(["…0001"]), "{listed}");
    let refused = send(&admin, "POST", "/providers", &provider("x", &upstream)).await;
    refused.refused(409, "not_dynamic");
    send(&admin, "PUT", "/models/m", &json!({"name": "m"})).await.refused(409, "not_dynamic");
}

#[tokio::test]
async fn secrets_lie_sealed_and_survive_a_change_that_does_not_name_them() {
    let upstream = upstream::chat("hello").await;
    let gateway = plan(&upstream).start().await;
    let admin = operator(&gateway);
    send(&admin, "POST", "/providers", &provider("p", &upstream)).await;
    send(&admin, "POST", "/models", &json!({"name": "n", "targets": [{"provider": "p"}]})).await;
    for file in ["forebay.db", "forebay.db-wal"] {
        let bytes = std::fs::read(gateway.dir().join(file)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("fake-stored-key"), "{file}");
    }
    let mut shown = send(&admin, "GET", "/providers/p", &Value::Null).await.ok().json();
    shown["load_balancing"] = json!("random");
    // What was shown, sent back: masked secrets are those there are.
    send(&admin, "PUT", "/providers/p", &shown).await.ok();
    send(&admin, "PATCH", "/providers/p", &json!({"load_balancing": null})).await.ok();
    let mut silent = provider("p", &upstream);
    silent.as_object_mut().unwrap().remove("api_keys");
    send(&admin, "PUT", "/providers/p", &silent).await.ok();
    assert_eq!(status(&gateway, "n").await, 200);
    assert_eq!(upstream.call().header("authorization"), Some("Bearer fake-stored-key-0002"));
    let wrong = send(&admin, "PATCH", "/providers/p", &json!({"api_keys": ["…9999"]})).await;
    wrong.refused(400, "invalid_request");
    let noted = send(&admin, "GET", "/changes", &Value::Null).await.ok();
    assert!(
        !noted.text().contains("fake-stored") && !noted.text().contains("sealed:"),
        "{noted:?}"
    );
    assert!(!gateway.log().contains("fake-stored"), "{}", gateway.log());
}

#[tokio::test]
async fn what_one_node_is_told_the_others_serve() {
    let upstream = upstream::chat("hello").await;
    let first = plan(&upstream).start().await;
    let db = first.dir().join("forebay.db").display().to_string();
    let second = gateway::with(DYNAMIC).up("up", &upstream).place("db", &db).start().await;
    let admin = operator(&first);
    send(&admin, "POST", "/providers", &provider("p", &upstream)).await;
    send(&admin, "POST", "/models", &json!({"name": "n", "targets": [{"provider": "p"}]})).await;
    let since = std::time::Instant::now();
    eventually("the other node serves it", async || {
        (status(&second, "n").await == 200).then_some(())
    })
    .await;
    assert!(since.elapsed() < std::time::Duration::from_secs(5), "{:?}", since.elapsed());
    send(&operator(&second), "DELETE", "/models/n", &Value::Null).await.ok();
    eventually("it is gone", async || (status(&first, "n").await == 404).then_some(())).await;
}

#[tokio::test]
async fn what_two_nodes_are_told_at_once_fits_together() {
    let upstream = upstream::chat("hello").await;
    let first = plan(&upstream).start().await;
    let db = first.dir().join("forebay.db").display().to_string();
    let second = gateway::with(DYNAMIC).up("up", &upstream).place("db", &db).start().await;
    let (here, there) = (operator(&first), operator(&second));
    for round in 0..8 {
        let (name, model) = (format!("p{round}"), format!("n{round}"));
        let made = send(&here, "POST", "/providers", &provider(&name, &upstream)).await;
        assert_eq!(made.status, 201, "{made:?}");
        // Each of them holds without the other.
        let path = format!("/providers/{name}");
        let gone = send(&here, "DELETE", &path, &Value::Null);
        let needs = json!({"name": model, "targets": [{"provider": name}]});
        let needed = send(&there, "POST", "/models", &needs);
        let (gone, needed) = tokio::join!(gone, needed);
        assert!(
            matches!((gone.status, needed.status), (200, 400) | (400, 201)),
            "{gone:?} {needed:?}"
        );
    }
    // Nothing lies in the store that keeps a change from being made.
    for admin in [&here, &there] {
        let name = if std::ptr::eq(admin, &raw const here) { "x" } else { "y" };
        let made = send(admin, "POST", "/providers", &provider(name, &upstream)).await;
        assert_eq!((made.status, &made.json()["warning"]), (201, &Value::Null), "{made:?}");
    }
}

#[tokio::test]
async fn a_start_serves_what_the_store_has_but_for_what_cannot_be_read() {
    let upstream = upstream::chat("hello").await;
    let first = plan(&upstream).start().await;
    let db = first.dir().join("forebay.db").display().to_string();
    let admin = operator(&first);
    send(&admin, "POST", "/providers", &provider("p", &upstream)).await;
    send(&admin, "POST", "/models", &json!({"name": "n", "targets": [{"provider": "p"}]})).await;
    let same = gateway::with(DYNAMIC).up("up", &upstream).place("db", &db).start().await;
    assert_eq!(status(&same, "n").await, 200, "{}", same.log());
    let other = DYNAMIC.replace("an encryption key of the tests", "another key of the tests");
    let other = gateway::with(&other).up("up", &upstream).place("db", &db).start().await;
    assert_eq!((status(&other, "n").await, status(&other, "m").await), (404, 200));
    let version = send(&operator(&other), "GET", "/config/version", &Value::Null).await.ok();
    let said = version.json()["last_reload"]["mistakes"].to_string();
    assert!(said.contains("providers") && said.contains("another key"), "{version:?}");
    let shown = send(&operator(&other), "GET", "/providers/p", &Value::Null).await.ok();
    assert!(!shown.text().contains("sealed:"), "{shown:?}");
    // A change that does not name its secrets keeps them, though they cannot be read here.
    let change = json!({"load_balancing": "random"});
    let kept = send(&operator(&other), "PATCH", "/providers/p", &change).await;
    assert_eq!(kept.status, 200, "{kept:?}");
    assert!(kept.json()["warning"].to_string().contains("another key"), "{kept:?}");
    let shown = || async { send(&admin, "GET", "/providers/p", &Value::Null).await.ok().json() };
    assert_eq!(shown().await["load_balancing"], "random");
    assert_eq!(shown().await["api_keys"], json!(["…0002"]));
    let since = upstream.count();
    eventually("it is in force where it can be read", async || {
        let served = status(&first, "n").await == 200 && upstream.count() > since;
        (served && first.log().matches(" is in force: ").count() > 2).then_some(())
    })
    .await;
    let last = upstream.calls().pop().unwrap();
    assert_eq!(last.header("authorization"), Some("Bearer fake-stored-key-0002"));
    // Given anew, its key is sealed with the one there is now.
    let mended = send(&operator(&other), "PUT", "/providers/p", &provider("p", &upstream)).await;
    assert_eq!(mended.status, 200, "{mended:?}");
    assert_eq!(status(&other, "n").await, 200, "{}", other.log());
}

#[tokio::test]
async fn a_reload_of_the_file_keeps_what_the_store_has() {
    let upstream = upstream::chat("hello").await;
    let gateway = plan(&upstream).start().await;
    let admin = operator(&gateway);
    send(&admin, "POST", "/providers", &provider("p", &upstream)).await;
    send(&admin, "POST", "/models", &json!({"name": "n", "targets": [{"provider": "p"}]})).await;
    gateway.configure(|yaml| yaml.replace("name: m,", "name: renamed,"));
    send(&admin, "POST", "/config/reload", &Value::Null).await.ok();
    assert_eq!((status(&gateway, "n").await, status(&gateway, "renamed").await), (200, 200));
    // A broken file in the folder keeps nobody from changing the store.
    gateway.configure(|yaml| yaml.replace("name: renamed,", "nam: renamed,"));
    let added = json!({"name": "n2", "targets": [{"provider": "p"}]});
    let added = send(&admin, "POST", "/models", &added).await;
    assert_eq!(added.status, 201, "{added:?}");
    assert_eq!((status(&gateway, "n2").await, status(&gateway, "renamed").await), (200, 200));
}

#[tokio::test]
async fn an_admin_user_cannot_have_a_providers_secrets_sent_elsewhere() {
    let upstream = upstream::chat("hello").await;
    let elsewhere = upstream::chat("stolen").await;
    let gateway = plan(&upstream).start().await;
    let admin = operator(&gateway);
    let mut given = provider("p", &upstream);
    given["headers"] = json!({"x-secret": "fake-header-0003"});
    send(&admin, "POST", "/providers", &given).await;
    send(&admin, "POST", "/models", &json!({"name": "n", "targets": [{"provider": "p"}]})).await;
    send(&admin, "POST", "/users", &json!({"id": "boss", "role": "admin"})).await;
    let key = send(&admin, "POST", "/keys", &json!({"id": "k", "user": "boss"})).await.json();
    let boss = gateway.operator().key(key["key"].as_str().unwrap());
    let address = format!("http://{}", elsewhere.address);
    let mut shown = send(&boss, "GET", "/providers/p", &Value::Null).await.ok().json();
    shown["base_url"] = json!(address);
    let mut silent = shown.clone();
    silent.as_object_mut().unwrap().remove("api_keys");
    let headers = json!({"x-secret": "fake-header-0004"});
    for (method, body, secret) in [
        ("PATCH", json!({"base_url": address}), "api_keys"),
        ("PATCH", json!({"base_url": null, "endpoints": [{"url": address}]}), "api_keys"),
        ("PATCH", json!({"base_url": address, "api_keys": "fake-other-0005"}), "headers"),
        ("PATCH", json!({"base_url": address, "headers": headers}), "api_keys"),
        ("PATCH", json!({"tls": {"verify": false}}), "api_keys"),
        ("PATCH", json!({"kind": "openai_compatible"}), "api_keys"),
        ("PUT", shown, "api_keys"),
        ("PUT", silent, "headers"),
    ] {
        let refused = send(&boss, method, "/providers/p", &body).await;
        assert_eq!(refused.refused(400, "invalid_request")["param"], secret, "{body}");
    }
    // What does not lead elsewhere is theirs to change, and so is all of it with secrets of their own.
    send(&boss, "PATCH", "/providers/p", &json!({"load_balancing": "random"})).await.ok();
    assert_eq!(elsewhere.count(), 0);
    let own = json!({"base_url": address, "api_keys": "fake-other-0005", "headers": headers});
    send(&boss, "PATCH", "/providers/p", &own).await.ok();
    let body = json!({"model": "n", "messages": []}).to_string();
    let reply = gateway.client().key(key["key"].as_str().unwrap()).post(CHAT, body).send().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(elsewhere.call().header("authorization"), Some("Bearer fake-other-0005"));
    assert_eq!(elsewhere.calls()[0].header("x-secret"), Some("fake-header-0004"));
    let back = json!({"base_url": format!("http://{}", upstream.address)});
    send(&admin, "PATCH", "/providers/p", &back).await.ok();
}
