//! LLM Proxy's own examples of its Admin API, as its documentation has them: paths and bodies.

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::gateway::{self, ADMIN_KEY, Gateway};
use crate::support::upstream;

const DYNAMIC: &str = r#"
store: { dynamic: true }
listen: [{ address: "@listen" }]
admin: { listen: "@admin", key: admin-key-of-the-harness, on_data_listener: true }
"#;

/// The examples, in their order.
async fn examples(gateway: &Gateway, door: &Client, base: &str) {
    let admin = door.key(ADMIN_KEY);
    let provider = json!({
        "id": "openai-main",
        "provider_type": "openai",
        "api_base": base,
        "api_key": "sk-xxx",
        "model_mapping": {},
        "is_enabled": true
    });
    let made = admin.post("/admin/v1/providers", provider.to_string()).send().await;
    assert_eq!(made.status, 201, "{made:?}");
    let listed = admin.get("/admin/v1/providers").await.ok().json();
    assert_eq!(listed["data"][0]["id"], "openai-main", "{listed}");
    let one = admin.get("/admin/v1/providers/openai-main").await.ok().json();
    for (name, value) in [
        ("provider_type", json!("openai")),
        ("api_base", json!(base)),
        ("model_mapping", json!({})),
        ("is_enabled", json!(true)),
    ] {
        assert_eq!(one[name], value, "{one}");
    }
    assert!(!one.to_string().contains("sk-xxx"), "{one}");

    let changed = json!({
        "api_base": base,
        "api_key": "sk-new-key",
        "model_mapping": {"gpt-4": "gpt-4-turbo"},
        "is_enabled": true
    });
    let changed = admin
        .request("PUT", "/admin/v1/providers/openai-main")
        .header("content-type", "application/json")
        .body(changed.to_string())
        .send()
        .await
        .ok();
    assert_eq!(changed.json()["provider_type"], "openai", "it stays: {changed:?}");

    let key = json!({
        "id": "key-1",
        "key": "mk-xxx",
        "name": "Default Key",
        "allowed_models": ["*"],
        "is_enabled": true
    });
    let key = admin.post("/admin/v1/master-keys", key.to_string()).send().await;
    assert_eq!(key.status, 201, "{key:?}");
    assert_eq!(key.json()["key"], "mk-xxx");
    assert!(key.json()["warning"].as_str().unwrap().contains("16 characters"), "{key:?}");
    let keys = admin.get("/admin/v1/master-keys").await.ok();
    assert_eq!(keys.json()["data"][0]["name"], "Default Key", "{keys:?}");
    assert!(!keys.text().contains("mk-xxx"), "{keys:?}");

    // What they are for.
    let call = json!({"model": "gpt-4", "messages": [{"role": "user", "content": "Hello!"}]});
    let call = gateway.client().key("mk-xxx").post("/v1/chat/completions", call.to_string());
    call.send().await.ok();

    admin.request("POST", "/admin/v1/config/reload").send().await.ok();
    let version = admin.get("/admin/v1/config/version").await.ok().json();
    assert!(version["version"].is_string(), "{version}");
    admin.request("DELETE", "/admin/v1/providers/openai-main").send().await.ok();
    admin.get("/admin/v1/providers/openai-main").await.refused(404, "not_found");
    admin.request("DELETE", "/admin/v1/master-keys/key-1").send().await.ok();
}

#[tokio::test]
async fn the_examples_of_llm_proxy_work_as_they_are_written() {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::with(DYNAMIC).start().await;
    let base = format!("http://{}/v1", upstream.address);
    for door in [gateway.client(), gateway.operator()] {
        examples(&gateway, &door, &base).await;
        let call = upstream.calls().last().cloned().unwrap();
        assert_eq!(call.header("authorization"), Some("Bearer sk-new-key"), "{call:?}");
        let body: Value = call.json();
        assert_eq!(body["model"], "gpt-4-turbo");
    }
    assert!(!gateway.log().contains("sk-new-key") && !gateway.log().contains("mk-xxx"));
}

#[tokio::test]
async fn a_rate_limit_of_a_master_key_holds() {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::with(crate::admin_api::STORED).up("up", &upstream).start().await;
    let admin = gateway.operator().key(ADMIN_KEY);
    let key = json!({
        "id": "blocked", "key": "mk-blocked-0001", "name": "Blocked", "allowed_models": ["*"],
        "is_enabled": true, "rate_limit": {"requests_per_second": 0, "burst_size": 0},
    });
    let key = admin.post("/admin/v1/master-keys", key.to_string()).send().await;
    assert_eq!(key.status, 201, "{key:?}");
    let blocked = gateway.client().key("mk-blocked-0001").chat("hi").await;
    blocked.refused(429, "rate_limit_exceeded");
    assert_eq!(upstream.count(), 0);
}
