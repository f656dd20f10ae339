//! `GET /v1/me`.

use serde_json::{Value, json};

use crate::support::gateway::{self, FRONT};
use crate::support::upstream;
use crate::support::vault::{STORE, Vault, known, limit};

const KEY: &str = "key-of-the-file-0123456789";

#[tokio::test]
async fn a_key_is_told_who_it_is_and_what_is_left() {
    let upstream = upstream::chat("hi").await;
    let gateway = gateway::with(&format!("{FRONT}{STORE}")).up("up", &upstream).start().await;
    let vault = Vault::of(&gateway).await;
    vault
        .user("u", json!({"name": "Ada", "role": "normal", "expires_at": 4_102_444_800_000_i64}))
        .await;
    let members = json!({
        "user": "u", "allowed_models": ["m*"],
        "limits": {"requests_per_minute": 10, "budget": {"usd": "2.50", "per": "month"}},
    });
    let key = vault.key("key_a", members).await;
    known(&gateway, &key).await;
    gateway.client().key(&key).chat("hi").await.ok();
    let reply = gateway.client().key(&key).get("/v1/me").await.ok();
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let me = reply.json();
    assert_eq!(me["key"]["name"], "key_a", "{me}");
    assert_eq!(me["key"]["allowed_models"], json!(["m*"]), "{me}");
    assert_eq!(
        (&me["user"]["name"], &me["user"]["role"]),
        (&json!("Ada"), &json!("normal")),
        "{me}"
    );
    assert_eq!(me["expires_at"], "2100-01-01T00:00:00Z", "{me}");
    assert_eq!(me["models"], json!(["m"]), "{me}");
    let requests = limit(&me, "requests_per_minute");
    assert_eq!(
        (&requests["of"], &requests["used"], &requests["remaining"]),
        (&json!("key"), &json!(1), &json!(9)),
        "{me}"
    );
    let budget = limit(&me, "budget");
    assert_eq!((&budget["limit"], &budget["unit"]), (&json!("2.5"), &json!("usd")), "{me}");
    assert!(budget["resets_at"].as_str().unwrap().ends_with("-01T00:00:00Z"), "{me}");
    assert!(!reply.text().contains(&key), "{reply:?}");
}

#[tokio::test]
async fn a_key_of_the_file_is_told_as_well_and_nobody_without_one() {
    let upstream = upstream::chat("hi").await;
    let yaml =
        format!("{FRONT}keys: [{{ name: filed, key: {KEY}, user: Ada, expires: 2100-01-01 }}]\n");
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let me = gateway.client().key(KEY).get("/v1/me").await.ok().json();
    assert_eq!(
        (&me["key"]["name"], &me["user"]),
        (&json!("filed"), &json!({"name": "Ada"})),
        "{me}"
    );
    assert_eq!(me["limits"], json!([]), "{me}");
    gateway.client().get("/v1/me").await.refused(401, "invalid_api_key");
    let open = gateway::front(&upstream).await;
    open.client().get("/v1/me").await.refused(401, "invalid_api_key");
    assert_eq!(me["quotas"], Value::Array(Vec::new()), "{me}");
}
