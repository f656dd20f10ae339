//! Tokens of each user, by group of models.

use serde_json::{Value, json};

use crate::support::client::CHAT;
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Upstream};
use crate::support::vault::{STORE, Vault, known, me};

const GROUPS: &str = r#"
quotas:
  refresh: daily
  groups:
    - { name: small, models: ["s-*"], tokens: 100 }
    - { name: free, models: ["f-*"], tokens: 0 }
providers:
  - { name: p, kind: vllm, base_url: "http://@up", health_check: { type: none } }
models:
  - { match: { prefix: "" }, targets: [{ provider: p }] }
"#;

async fn grouped() -> (Upstream, Gateway, Vault) {
    let upstream = upstream::chat("hi").await;
    let yaml = format!("{GROUPS}{STORE}").replace("prefix: \"\"", "regex: \".*\"");
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let vault = Vault::of(&gateway).await;
    (upstream, gateway, vault)
}

fn ask(model: &str, max_tokens: u64) -> String {
    json!({"model": model, "max_tokens": max_tokens, "messages": []}).to_string()
}

fn group<'a>(me: &'a Value, name: &str) -> &'a Value {
    let mut quotas = me["quotas"].as_array().unwrap().iter();
    quotas.find(|quota| quota["group"] == name).unwrap_or_else(|| panic!("{name}: {me}"))
}

#[tokio::test]
async fn a_quota_counts_its_groups_models_for_all_keys_of_a_user() {
    let (upstream, gateway, vault) = grouped().await;
    vault.user("u", json!({})).await;
    let one = vault.key("key_a", json!({"user": "u"})).await;
    let two = vault.key("key_b", json!({"user": "u"})).await;
    known(&gateway, &one).await;
    let told = known(&gateway, &two).await;
    assert_eq!(group(&told, "small")["limit"], 100, "{told}");
    assert_eq!(group(&told, "free")["limit"], Value::Null, "{told}");
    for (key, used) in [(&one, 10), (&two, 20)] {
        let client = gateway.client().key(key);
        client.post(CHAT, ask("s-1", 5)).send().await.ok();
        let told = me(&gateway, key, |me| group(me, "small")["used"] == used).await;
        assert_eq!(group(&told, "small")["remaining"], 100 - used, "{told}");
    }
    let client = gateway.client().key(&one);
    let refused = client.post(CHAT, ask("s-2", 90)).send().await.refused(429, "quota_exceeded");
    assert!(refused["message"].as_str().unwrap().contains("quota"), "{refused}");
    // Other models are none of its business.
    client.post(CHAT, ask("f-1", 9000)).send().await.ok();
    client.post(CHAT, ask("other", 9000)).send().await.ok();
    assert_eq!(upstream.count(), 4);
}

#[tokio::test]
async fn a_users_own_number_goes_first_and_special_users_have_none() {
    let (_upstream, gateway, vault) = grouped().await;
    vault.user("u", json!({"quotas": {"small": 1000}})).await;
    vault.user("s", json!({"role": "special"})).await;
    for (user, limit) in [("u", json!(1000)), ("s", json!(100))] {
        let key = vault.key(&format!("key_{user}"), json!({"user": user})).await;
        let told = known(&gateway, &key).await;
        assert_eq!(group(&told, "small")["limit"], limit, "{told}");
        gateway.client().key(&key).post(CHAT, ask("s-1", 500)).send().await.ok();
    }
}

#[tokio::test]
async fn other_quotas_come_into_force_with_a_reload() {
    let (_upstream, gateway, vault) = grouped().await;
    vault.user("u", json!({})).await;
    let key = vault.key("key_a", json!({"user": "u"})).await;
    known(&gateway, &key).await;
    gateway.client().key(&key).post(CHAT, ask("s-1", 5)).send().await.ok();
    me(&gateway, &key, |me| group(me, "small")["used"] == 10).await;
    gateway.configure(|yaml| yaml.replace("tokens: 100", "tokens: 200"));
    assert!(gateway.reload().await);
    let told = me(&gateway, &key, |me| group(me, "small")["limit"] == 200).await;
    assert_eq!(group(&told, "small")["used"], 10, "{told}");
}
