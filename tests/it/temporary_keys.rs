//! Keys that people make for themselves.

use forebay::access::temporary::Challenge;
use forebay::store::Kind;
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::gateway::{self, FRONT, Gateway};
use crate::support::upstream::{self, Upstream};
use crate::support::vault::{STORE, Vault};

const MAKE: &str = "/v1/temporary-keys";
const CHALLENGE: &str = "/v1/temporary-keys/challenge";
const PASSWORD: &str = "password-for-everybody";

async fn offering(terms: &str) -> (Upstream, Gateway, Vault) {
    let upstream = upstream::chat("hi").await;
    let yaml =
        format!("{FRONT}{STORE}trusted_proxies: [127.0.0.1]\ntemporary_keys: {{ {terms} }}\n");
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let vault = Vault::of(&gateway).await;
    (upstream, gateway, vault)
}

fn with_password() -> String {
    json!({"password": PASSWORD}).to_string()
}

/// Works until the challenge is solved.
fn solve(told: &Value) -> String {
    let mut challenge = told.clone();
    let members = challenge.as_object_mut().unwrap();
    assert_eq!(members.remove("parameters").unwrap()["algorithm"], "argon2id");
    members.remove("difficulty");
    let read: Challenge = serde_json::from_value(challenge.clone()).unwrap();
    let work = read.work().unwrap();
    let solution = (0..1000).map(|number| number.to_string()).find(|it| work.is_solved_by(it));
    json!({"challenge": challenge, "solution": solution.unwrap()}).to_string()
}

#[tokio::test]
async fn a_password_gets_a_key_that_works_at_once_and_ends() {
    let (_upstream, gateway, vault) = offering(&format!(
        "password: {PASSWORD}, lifetime: 2s, limits: {{ requests_per_minute: 3 }}"
    ))
    .await;
    let reply = gateway.client().post(MAKE, with_password()).send().await;
    assert_eq!(reply.status, 201, "{reply:?}");
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let made = reply.json();
    let client = gateway.client().key(made["key"].as_str().unwrap());
    client.chat("hi").await.ok();
    let me = client.get("/v1/me").await.ok().json();
    assert_eq!(me["user"]["role"], "temporary", "{me}");
    assert_eq!(me["expires_at"], made["expires_at"], "{me}");
    let user = vault.read(Kind::Users, made["user"]["id"].as_str().unwrap()).await.unwrap();
    assert!(user["purge_at"].as_i64() > user["expires_at"].as_i64(), "{user}");
    eventually("the key has expired", async || {
        let reply = client.get("/v1/me").await;
        (reply.status == 401 && reply.text().contains("expired")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn work_gets_a_key_once_and_for_one_address() {
    let (_upstream, gateway, _vault) = offering("proof_of_work: 2, per_address: 5").await;
    let told = gateway.client().post(CHALLENGE, "").send().await.ok().json();
    let solved = solve(&told);
    let elsewhere =
        gateway.client().post(MAKE, solved.clone()).header("x-forwarded-for", "192.0.2.7");
    let refused = elsewhere.send().await.refused(400, "invalid_request");
    assert_eq!(refused["param"], "challenge");
    let reply = gateway.client().post(MAKE, solved.clone()).send().await;
    assert_eq!(reply.status, 201, "{reply:?}");
    gateway.client().key(reply.json()["key"].as_str().unwrap()).chat("hi").await.ok();
    gateway.client().post(MAKE, solved).send().await.refused(400, "invalid_request");
    gateway.client().post(MAKE, with_password()).send().await.refused(400, "invalid_request");
}

#[tokio::test]
async fn a_wrong_solution_gets_nothing() {
    let (_upstream, gateway, _vault) = offering("proof_of_work: 1000000").await;
    let told = gateway.client().post(CHALLENGE, "").send().await.ok().json();
    let mut challenge = told;
    challenge
        .as_object_mut()
        .unwrap()
        .retain(|name, _| name != "parameters" && name != "difficulty");
    let mut asked = json!({"challenge": challenge, "solution": "0"});
    gateway.client().post(MAKE, asked.to_string()).send().await.refused(403, "permission_denied");
    asked["challenge"]["target"] = json!("ffffffffffffffff");
    gateway.client().post(MAKE, asked.to_string()).send().await.refused(400, "invalid_request");
}

#[tokio::test]
async fn an_address_has_so_many_keys_and_attempts() {
    let (_upstream, gateway, _vault) =
        offering(&format!("password: {PASSWORD}, per_address: 2")).await;
    let from = |address: &str, body: String| {
        gateway.client().post(MAKE, body).header("x-forwarded-for", address)
    };
    for _ in 0..2 {
        assert_eq!(from("192.0.2.1", with_password()).send().await.status, 201);
    }
    let reply = from("192.0.2.1", with_password()).send().await;
    reply.refused(429, "quota_exceeded");
    assert!(reply.header("retry-after").is_some(), "{reply:?}");
    assert_eq!(from("192.0.2.2", with_password()).send().await.status, 201);
    let wrong = || from("192.0.2.3", json!({"password": "wrong"}).to_string());
    for _ in 0..5 {
        wrong().send().await.refused(403, "permission_denied");
    }
    let reply = wrong().send().await;
    reply.refused(429, "rate_limit_exceeded");
    let pause: u64 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&pause), "{reply:?}");
}

#[tokio::test]
async fn what_is_not_offered_is_not_there() {
    let upstream = upstream::chat("hi").await;
    let gateway = gateway::front(&upstream).await;
    for path in [MAKE, CHALLENGE] {
        gateway.client().post(path, with_password()).send().await.refused(404, "not_found");
    }
}

#[tokio::test]
async fn without_the_store_nothing_is_made() {
    let upstream = upstream::chat("hi").await;
    let nowhere = upstream::refusing();
    let store = format!("store: {{ url: \"postgres://u:p@{}/forebay\" }}\n", nowhere.address());
    let yaml = format!("{FRONT}{store}temporary_keys: {{ password: {PASSWORD} }}\n");
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let reply = gateway.client().post(MAKE, with_password()).send().await;
    reply.refused(503, "overloaded");
    assert!(reply.header("retry-after").is_some(), "{reply:?}");
}
