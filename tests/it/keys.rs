//! Keys of the store: found at once, revoked within a second, refused with a reason.

use std::time::{Duration, Instant};

use forebay::config::Secret;
use forebay::store::{Kind, Store};
use serde_json::json;

use crate::support::client::CHAT;
use crate::support::gateway::{self, ADMIN_KEY, FRONT, Gateway};
use crate::support::upstream::{self, Upstream};
use crate::support::vault::{STORE, Vault, known};
use crate::support::{eventually, until};

const FILE_KEY: &str = "key-of-the-file-0123456789";

async fn stored(more: &str) -> (Upstream, Gateway, Vault) {
    let upstream = upstream::chat("hi").await;
    let yaml = format!("{FRONT}{STORE}{more}");
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let vault = Vault::of(&gateway).await;
    (upstream, gateway, vault)
}

/// How long it takes until a chat with this key ends with `status`.
async fn turns(gateway: &Gateway, key: &str, status: u16) -> Duration {
    let (client, begun) = (gateway.client().key(key), Instant::now());
    eventually("the key turns", async || (client.chat("hi").await.status == status).then_some(()))
        .await;
    begun.elapsed()
}

#[tokio::test]
async fn a_key_of_the_store_opens_calls_and_a_revoked_one_none() {
    let (_upstream, gateway, vault) = stored("").await;
    let key = vault.key("key_a", json!({})).await;
    assert!(turns(&gateway, &key, 200).await < Duration::from_secs(1));
    vault.change(Kind::Keys, "key_a", json!({"enabled": false, "disabled_reason": "leaked"})).await;
    assert!(turns(&gateway, &key, 401).await < Duration::from_secs(1));
    let refused = gateway.client().key(&key).chat("hi").await.refused(401, "invalid_api_key");
    assert!(refused["message"].as_str().unwrap().contains("leaked"), "{refused}");
    vault.change(Kind::Keys, "key_a", json!({"enabled": true})).await;
    turns(&gateway, &key, 200).await;
    vault.remove(Kind::Keys, "key_a").await;
    assert!(turns(&gateway, &key, 401).await < Duration::from_secs(1));
}

#[tokio::test]
async fn a_gateway_on_loopback_is_open_until_the_first_key_is_made() {
    let upstream = upstream::chat("hi").await;
    // Without a word about a store there is one: it belongs to the listener of the operators.
    let gateway = gateway::with(FRONT).up("up", &upstream).start().await;
    gateway.client().chat("hi").await.ok();
    let url = format!("sqlite:{}", gateway.dir().join("forebay.db").display());
    let vault = Vault { store: Store::open(&Secret::new(url)).await.unwrap() };
    let key = vault.key("key_a", json!({})).await;
    known(&gateway, &key).await;
    gateway.client().chat("hi").await.refused(401, "invalid_api_key");
    gateway.client().key(&key).chat("hi").await.ok();
    vault.remove(Kind::Keys, "key_a").await;
    turns(&gateway, &key, 401).await;
    gateway.client().chat("hi").await.refused(401, "invalid_api_key");
}

#[tokio::test]
async fn nobody_is_let_in_without_a_key_once_there_has_been_one() {
    let (_upstream, gateway, vault) = stored("").await;
    gateway.client().chat("hi").await.refused(401, "invalid_api_key");
    let key = vault.key("key_a", json!({})).await;
    turns(&gateway, &key, 200).await;
    gateway.client().chat("hi").await.refused(401, "invalid_api_key");
    vault.remove(Kind::Keys, "key_a").await;
    turns(&gateway, &key, 401).await;
    // The last key is gone, and that opens nothing.
    gateway.client().chat("hi").await.refused(401, "invalid_api_key");
}

#[tokio::test]
async fn keys_of_the_file_and_of_the_store_stand_side_by_side() {
    let more = format!("keys: [{{ name: filed, key: {FILE_KEY} }}]\n");
    let (_upstream, gateway, vault) = stored(&more).await;
    let key = vault.key("key_a", json!({})).await;
    turns(&gateway, &key, 200).await;
    gateway.client().key(FILE_KEY).chat("hi").await.ok();
    gateway.client().key("another-key").chat("hi").await.refused(401, "invalid_api_key");
    gateway.client().key(ADMIN_KEY).chat("hi").await.refused(401, "invalid_api_key");
}

#[tokio::test]
async fn a_key_of_the_file_that_is_disabled_or_expired_is_refused() {
    let more = "keys:
  - { name: off, key: key-that-is-off-0123456789, enabled: false }
  - { name: past, key: key-of-the-past-0123456789, expires: 2020-01-01 }
  - { name: good, key: key-that-is-good-0123456789, expires: 2999-01-01 }
";
    let (_upstream, gateway, _vault) = stored(more).await;
    for (key, word) in
        [("key-that-is-off-0123456789", "disabled"), ("key-of-the-past-0123456789", "expired")]
    {
        let refused = gateway.client().key(key).chat("hi").await.refused(401, "invalid_api_key");
        assert!(refused["message"].as_str().unwrap().contains(word), "{refused}");
    }
    gateway.client().key("key-that-is-good-0123456789").chat("hi").await.ok();
}

#[tokio::test]
async fn a_users_end_is_the_end_of_its_keys() {
    let (_upstream, gateway, vault) = stored("").await;
    vault.user("u", json!({})).await;
    let key = vault.key("key_a", json!({"user": "u"})).await;
    turns(&gateway, &key, 200).await;
    vault.change(Kind::Users, "u", json!({"enabled": false, "disabled_reason": "left"})).await;
    turns(&gateway, &key, 401).await;
    let refused = gateway.client().key(&key).chat("hi").await.refused(401, "invalid_api_key");
    assert!(refused["message"].as_str().unwrap().contains("left"), "{refused}");
    vault.change(Kind::Users, "u", json!({"enabled": true, "expires_at": 1})).await;
    until_said(&gateway, &key, "expired").await;
    vault.remove(Kind::Users, "u").await;
    until_said(&gateway, &key, "does not exist").await;
}

async fn until_said(gateway: &Gateway, key: &str, word: &str) {
    let client = gateway.client().key(key);
    eventually(word, async || {
        let reply = client.chat("hi").await;
        (reply.status == 401 && reply.text().contains(word)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn allowed_models_and_providers_of_key_and_user_both_hold() {
    let (one, two) = (upstream::chat("one").await, upstream::chat("two").await);
    let yaml = format!(
        "{STORE}
providers:
  - {{ name: one, kind: vllm, base_url: \"http://@a\", health_check: {{ type: none }} }}
  - {{ name: two, kind: vllm, base_url: \"http://@b\", health_check: {{ type: none }} }}
default_provider: one
models:
  - {{ name: m, targets: [{{ provider: one }}, {{ provider: two, weight: 0 }}] }}
  - {{ name: n, targets: [{{ provider: one }}] }}
  - {{ name: o, targets: [{{ provider: two }}], fallback: [n] }}
"
    );
    let gateway = gateway::with(&yaml).up("a", &one).up("b", &two).start().await;
    let vault = Vault::of(&gateway).await;
    vault.user("u", json!({"allowed_models": ["m", "n"]})).await;
    let key = vault
        .key(
            "key_a",
            json!({"user": "u", "allowed_models": ["m", "o"], "allowed_providers": ["t*"]}),
        )
        .await;
    let me = known(&gateway, &key).await;
    assert_eq!(me["models"], json!(["m"]), "{me}");
    let client = gateway.client().key(&key);
    let listed = client.get("/v1/models").await.ok().json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1, "{listed}");
    // The first target is not for this key.
    assert_eq!(client.chat("hi").await.said(), "two");
    for model in ["n", "o"] {
        let body = json!({"model": model, "messages": []}).to_string();
        client.post(CHAT, body).send().await.refused(403, "model_not_allowed");
    }
    client.get("/v1/files").await.refused(403, "model_not_allowed");
    assert_eq!(one.count(), 0);
    // To another key of the user's everything of the user's is open.
    let wide = vault.key("key_b", json!({"user": "u"})).await;
    known(&gateway, &wide).await;
    assert_eq!(gateway.client().key(&wide).chat("hi").await.said(), "one");
}

#[tokio::test]
async fn a_target_that_is_not_allowed_is_no_way_out_either() {
    let (one, two) = (upstream::chat("one").await, upstream::chat("two").await);
    one.behave(|_| crate::support::answer::Answer::error(503, "down"));
    let yaml = format!("{}{STORE}", gateway::SPARE);
    let gateway = gateway::with(&yaml).up("a", &one).up("b", &two).start().await;
    let vault = Vault::of(&gateway).await;
    let key = vault.key("key_a", json!({"allowed_providers": ["one"]})).await;
    known(&gateway, &key).await;
    let reply = gateway.client().key(&key).chat("hi").await;
    assert_eq!((reply.status, two.count()), (503, 0), "{reply:?}");
}

#[tokio::test]
async fn an_unknown_key_is_not_refused_for_good_while_the_database_is_away() {
    let upstream = upstream::chat("hi").await;
    let more = format!("keys: [{{ name: filed, key: {FILE_KEY} }}]\n");
    // Nobody listens there.
    let nowhere = upstream::refusing();
    let store = format!("store: {{ url: \"postgres://u:p@{}/forebay\" }}\n", nowhere.address());
    let yaml = format!("{FRONT}{store}{more}");
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let reply = gateway.client().key("sk-fb-unknown").chat("hi").await;
    reply.refused(503, "overloaded");
    assert!(reply.header("retry-after").is_some(), "{reply:?}");
    gateway.client().key(FILE_KEY).chat("hi").await.ok();
    gateway.client().chat("hi").await.refused(401, "invalid_api_key");
    gateway.client().key(ADMIN_KEY).get("/health/detailed").await.ok();
}

#[tokio::test]
async fn a_key_that_is_used_from_too_many_addresses_is_refused_there() {
    let (_upstream, gateway, vault) =
        stored("trusted_proxies: [127.0.0.1]\nprivacy: { log_client_ip: false }\n").await;
    let key = vault.key("key_a", json!({"limits": {"max_ips": 2}})).await;
    let from = |address: &str| {
        let request = gateway.client().key(&key).post(CHAT, chat());
        request.header("x-forwarded-for", address)
    };
    eventually("the key is known", async || {
        (from("192.0.2.1").send().await.status == 200).then_some(())
    })
    .await;
    from("2001:db8::1").send().await.ok();
    from("2001:db8::2").send().await.ok();
    from("192.0.2.2").send().await.refused(403, "too_many_addresses");
    from("192.0.2.1").send().await.ok();
}

fn chat() -> String {
    crate::support::client::chat_body("hi").to_string()
}

#[tokio::test]
async fn a_user_can_be_disabled_for_one_address_too_many() {
    let more = "trusted_proxies: [127.0.0.1]\nusers: { max_ips: 1, on_max_ips: disable }\n";
    let (_upstream, gateway, vault) = stored(more).await;
    vault.user("u", json!({})).await;
    let key = vault.key("key_a", json!({"user": "u"})).await;
    let from = |address: &str| {
        let request = gateway.client().key(&key).post(CHAT, chat());
        request.header("x-forwarded-for", address)
    };
    eventually("the key is known", async || {
        (from("192.0.2.1").send().await.status == 200).then_some(())
    })
    .await;
    from("192.0.2.2").send().await.refused(403, "too_many_addresses");
    eventually("the user is disabled", async || {
        (from("192.0.2.1").send().await.status == 401).then_some(())
    })
    .await;
    let user = vault.read(Kind::Users, "u").await.unwrap();
    assert_eq!(user["disabled_reason"], "called from too many addresses", "{user}");
    // Enabled again it begins anew, or its next call would end it again.
    vault.change(Kind::Users, "u", json!({"enabled": true})).await;
    eventually("the user is enabled", async || {
        (from("192.0.2.2").send().await.status == 200).then_some(())
    })
    .await;
    from("192.0.2.2").send().await.ok();
}

#[tokio::test]
async fn only_administrators_and_the_files_keys_see_the_insides() {
    let (_upstream, gateway, vault) = stored("").await;
    vault.user("boss", json!({"role": "admin"})).await;
    let boss = vault.key("key_b", json!({"user": "boss"})).await;
    let key = vault.key("key_a", json!({})).await;
    known(&gateway, &key).await;
    known(&gateway, &boss).await;
    gateway.client().key(&boss).get("/health/detailed").await.ok();
    gateway.client().key(&key).get("/health/detailed").await.refused(403, "permission_denied");
}

#[tokio::test]
async fn a_key_does_not_stand_in_the_log() {
    let (_upstream, gateway, vault) = stored("").await;
    let key = vault.key("key_a", json!({})).await;
    turns(&gateway, &key, 200).await;
    until("the call is logged", || {
        gateway.log().contains("key=key_a") || gateway.log().contains("key_a")
    })
    .await;
    assert!(!gateway.log().contains(&key[6..]), "{}", gateway.log());
}
