//! Providers in clouds: called with tokens that are had ahead of need, or with signatures.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ring::hmac;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::answer::{Answer, Gate};
use crate::support::client::chat_body;
use crate::support::gateway::{self, Gateway, Plan};
use crate::support::upstream::{self, Call, Upstream};
use crate::support::{eventually, until};

const SECRET: &str = "canary-of-a-client-secret";

const ENTRA: &str = r#"
providers:
  - name: cloud
    kind: azure
    base_url: "http://@up"
    client_id: app
    client_secret: canary-of-a-client-secret
    token_url: "http://@tokens/tenant/oauth2/v2.0/token"
    health_check: { type: none }
    ejection: off
  - { name: spare, kind: vllm, base_url: "http://@spare", health_check: { type: none } }
models:
  - { name: m, targets: [{ provider: cloud }] }
  - { name: safe, targets: [{ provider: cloud }, { provider: spare, weight: 0 }] }
"#;

/// A token server: `token-1`, `token-2`, and so on, each good for so many seconds.
async fn lending(seconds: u64) -> Upstream {
    upstream::with(move |call| lent(call, seconds)).await
}

fn lent(call: &Call, seconds: u64) -> Answer {
    let token = format!("token-{}", call.index + 1);
    let answer = json!({ "token_type": "Bearer", "access_token": token, "expires_in": seconds });
    Answer::json(200, &answer)
}

fn refusing() -> Answer {
    let about = format!("Invalid client secret provided: {SECRET}.");
    let answer = json!({ "error": "invalid_client", "error_description": about });
    Answer::json(401, &answer)
}

fn entra(tokens: &Upstream, upstream: &Upstream) -> Plan {
    gateway::with(ENTRA).up("tokens", tokens).up("up", upstream).up("spare", upstream)
}

fn authorization(call: &Call) -> &str {
    call.header("authorization").unwrap_or_default()
}

/// How the key of provider `cloud` is, by `/health/detailed`.
async fn key(gateway: &Gateway) -> Value {
    let health = gateway.health().await;
    let providers = health["providers"].as_array().unwrap().iter();
    let cloud = providers.into_iter().find(|one| one["name"] == "cloud").unwrap();
    cloud["keys"][0].clone()
}

// === tokens ===

#[tokio::test]
async fn a_token_is_there_before_the_first_call() {
    let tokens = lending(3600).await;
    let upstream = upstream::chat("hello").await;
    let gateway = entra(&tokens, &upstream).start().await;
    for _ in 0..3 {
        assert_eq!(gateway.client().chat("hi").await.said(), "hello");
    }
    let calls = upstream.calls();
    assert!(calls.iter().all(|call| authorization(call) == "Bearer token-1"), "{calls:?}");
    assert!(calls.iter().all(|call| call.header("api-key").is_none()), "{calls:?}");
    let asked = tokens.call();
    assert_eq!(asked.target(), "/tenant/oauth2/v2.0/token");
    assert_eq!(asked.header("content-type"), Some("application/x-www-form-urlencoded"));
    let form = "grant_type=client%5Fcredentials&client_id=app\
                &scope=https%3A%2F%2Fcognitiveservices%2Eazure%2Ecom%2F%2Edefault\
                &client_secret=canary%2Dof%2Da%2Dclient%2Dsecret";
    assert_eq!(asked.text(), form);
    let key = key(&gateway).await;
    assert_eq!((&key["state"], &key["hint"]), (&json!("in_use"), &json!("entra")));
    let expires: Timestamp = key["expires"].as_str().unwrap().parse().unwrap();
    let left = expires.as_second() - Timestamp::now().as_second();
    assert!((3500..=3600).contains(&left), "{key}");
    let log = gateway.log();
    assert!(!log.contains(SECRET) && !log.contains("token-1"), "{log}");
}

#[tokio::test]
async fn the_gateway_serves_once_it_has_asked() {
    let gate = Gate::closed();
    let held = gate.clone();
    let tokens = upstream::with(move |call| lent(call, 3600).after(&held)).await;
    let upstream = upstream::chat("hello").await;
    let gateway = entra(&tokens, &upstream).spawn();
    tokens.wait_for(0).await;
    let client = gateway.client();
    let call = tokio::spawn(async move { client.chat("hi").await.said() });
    gate.open();
    assert_eq!(call.await.unwrap(), "hello", "it waited for the token, and was not refused");
    assert_eq!(authorization(&upstream.call()), "Bearer token-1");
}

#[tokio::test]
async fn a_token_is_renewed_ahead_of_its_end() {
    let tokens = lending(4).await;
    let upstream = upstream::chat("hello").await;
    let gateway = entra(&tokens, &upstream).start().await;
    gateway.client().chat("hi").await.ok();
    tokens.wait_for(1).await;
    eventually("another token is used", async || {
        gateway.client().chat("hi").await.ok();
        (authorization(upstream.calls().last().unwrap()) != "Bearer token-1").then_some(())
    })
    .await;
    assert_eq!(authorization(&upstream.calls()[0]), "Bearer token-1");
}

#[tokio::test]
async fn a_token_stays_in_use_while_its_server_is_away_and_no_longer_than_it_is_good() {
    let tokens = lending(8).await;
    let upstream = upstream::chat("hello").await;
    let gateway = entra(&tokens, &upstream).start().await;
    tokens.behave(|_| Answer::new(503, "text/plain", "away"));
    until("the failure is told", || gateway.log().contains("its login (entra) ends in")).await;
    gateway.client().chat("hi").await.ok();
    assert_eq!(authorization(upstream.calls().last().unwrap()), "Bearer token-1");
    let told = key(&gateway).await;
    assert_eq!((&told["state"], &told["reason"]), (&json!("in_use"), &json!("token_refused")));
    eventually("the token is over", async || {
        (key(&gateway).await["state"] == "absent").then_some(())
    })
    .await;
    let before = upstream.count();
    gateway.client().chat("hi").await.refused(502, "upstream_auth");
    assert_eq!(upstream.count(), before, "without a token nothing is called");
    until("that is told too", || gateway.log().contains("not logged in (entra)")).await;
    tokens.behave(|call| lent(call, 3600));
    eventually("it is logged in again", async || {
        (key(&gateway).await["state"] == "in_use").then_some(())
    })
    .await;
    gateway.client().chat("hi").await.ok();
    let log = gateway.log();
    for line in ["its login (entra) ends in", "not logged in (entra)"] {
        assert_eq!(log.matches(line).count(), 1, "each change once:\n{log}");
    }
}

#[tokio::test]
async fn without_a_token_calls_go_elsewhere_and_no_secret_is_told() {
    let tokens = upstream::always(refusing()).await;
    let (upstream, spare) = (upstream::chat("cloud").await, upstream::chat("spare").await);
    let plan = gateway::with(ENTRA).up("tokens", &tokens).up("up", &upstream).up("spare", &spare);
    let gateway = plan.start().await;
    let body = json!({ "model": "safe", "messages": [{ "role": "user", "content": "hi" }] });
    let reply = gateway.client().post("/v1/chat/completions", body.to_string()).send().await;
    assert_eq!(reply.said(), "spare");
    gateway.client().chat("hi").await.refused(502, "upstream_auth");
    assert_eq!(upstream.count(), 0);
    let key = key(&gateway).await;
    assert_eq!((&key["state"], &key["reason"]), (&json!("absent"), &json!("token_refused")));
    let metrics = gateway.metrics().await;
    let absent = r#"forebay_provider_keys{provider="cloud",state="absent"} 1"#;
    assert!(metrics.contains(absent), "{metrics}");
    // It is asked again, and that is not told again.
    tokens.wait_for(2).await;
    let log = gateway.log();
    let told = format!(
        "provider cloud: not logged in (entra), and not called: {} answers 401: invalid_client",
        tokens.address
    );
    assert_eq!(log.matches(&told).count(), 1, "{log}");
    assert!(!log.contains(SECRET), "{log}");
    let shown = gateway.health().await.to_string();
    assert!(!shown.contains(SECRET), "{shown}");
}

#[tokio::test]
async fn a_token_server_that_is_nobody_is_told() {
    let nobody = upstream::refusing();
    let upstream = upstream::chat("hello").await;
    let plan = gateway::with(ENTRA).place("tokens", &nobody.address());
    let gateway = plan.up("up", &upstream).up("spare", &upstream).start().await;
    gateway.client().chat("hi").await.refused(502, "upstream_auth");
    assert_eq!(key(&gateway).await["reason"], "token_server_unreachable");
    let told = format!("{} does not answer: ConnectRefused", nobody.address());
    assert!(gateway.log().contains(&told), "{}", gateway.log());
}

#[tokio::test]
async fn a_refused_token_is_replaced() {
    let tokens = lending(3600).await;
    let upstream = upstream::with(|call| match authorization(call) {
        "Bearer token-1" => Answer::error(401, "The token has been revoked."),
        _ => Answer::chat("well"),
    })
    .await;
    let gateway = entra(&tokens, &upstream).start().await;
    gateway.client().chat("hi").await.refused(502, "upstream_auth");
    tokens.wait_for(1).await;
    eventually("the new token is used", async || {
        let reply = gateway.client().chat("hi").await;
        (reply.status == 200).then(|| assert_eq!(reply.said(), "well"))
    })
    .await;
    assert_eq!(authorization(upstream.calls().last().unwrap()), "Bearer token-2");
    gateway.client().chat("hi").await.ok();
    assert_eq!(tokens.count(), 2);
}

#[tokio::test]
async fn a_provider_that_refuses_every_token_does_not_empty_the_token_server() {
    let tokens = lending(3600).await;
    let upstream = upstream::always(Answer::error(401, "Who are you?")).await;
    let gateway = entra(&tokens, &upstream).start().await;
    for _ in 0..30 {
        gateway.client().chat("hi").await.refused(502, "upstream_auth");
    }
    assert!(tokens.count() <= 2, "{:?}", tokens.calls());
}

#[tokio::test]
async fn a_reload_keeps_the_token() {
    let tokens = lending(3600).await;
    let upstream = upstream::chat("hello").await;
    let gateway = entra(&tokens, &upstream).start().await;
    gateway.configure(|yaml| yaml.replace("ejection: off", "ejection: { after: 9 }"));
    assert!(gateway.reload().await);
    gateway.client().chat("hi").await.ok();
    assert_eq!(authorization(&upstream.call()), "Bearer token-1");
    assert_eq!(tokens.count(), 1);
    gateway.configure(|yaml| yaml.replace("client_id: app", "client_id: other"));
    assert!(gateway.reload().await);
    gateway.client().chat("hi").await.ok();
    assert_eq!(authorization(upstream.calls().last().unwrap()), "Bearer token-2");
    assert!(tokens.calls()[1].text().contains("client_id=other"));
}

const VERTEX: &str = r#"
providers:
  - name: cloud
    kind: vertex
    project: fake-project
    location: global
    base_url: "http://@up"
    dialect: openai_chat
    @login
    health_check: { type: none }
models:
  - { name: m, targets: [{ provider: cloud, model: google/gemini }] }
"#;

#[tokio::test]
async fn a_service_account_shows_an_assertion() {
    let tokens = lending(3600).await;
    let upstream = upstream::chat("hello").await;
    let login = "credentials_file: sa.json\n    token_url: \"http://@tokens/token\"";
    let plan = gateway::with(VERTEX).place("login", login).up("tokens", &tokens);
    let file = include_str!("../fixtures/google/service_account.json");
    std::fs::write(plan.dir().join("sa.json"), file).unwrap();
    let gateway = plan.up("up", &upstream).start().await;
    gateway.client().chat("hi").await.ok();
    assert_eq!(authorization(&upstream.call()), "Bearer token-1");
    let text = tokens.call().text();
    let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant%2Dtype%3Ajwt%2Dbearer&assertion=ey";
    assert!(text.starts_with(grant), "{text}");
    let log = gateway.log();
    assert!(!log.contains("PRIVATE") && !log.contains("token-1"), "{log}");
}

#[tokio::test]
async fn a_machine_of_googles_asks_its_metadata_server() {
    let metadata = lending(3600).await;
    let upstream = upstream::chat("hello").await;
    let plan = gateway::with(VERTEX).place("login", "").up("up", &upstream);
    let gateway = plan.env("GCE_METADATA_HOST", &metadata.address.to_string()).start().await;
    gateway.client().chat("hi").await.ok();
    assert_eq!(authorization(&upstream.call()), "Bearer token-1");
    let asked = metadata.call();
    assert_eq!(asked.header("metadata-flavor"), Some("Google"));
    assert_eq!(asked.target(), "/computeMetadata/v1/instance/service-accounts/default/token");
}

// === signatures ===

const BEDROCK: &str = r#"
providers:
  - name: cloud
    kind: bedrock
    region: eu-central-1
    base_url: "http://@up"
    dialect: openai_chat
    headers: { X-Extra: one }
    @login
    health_check: { type: none }
    ejection: off
models:
  - { name: m, targets: [{ provider: cloud, model: "openai.gpt-oss:1" }] }
"#;

const KEYS: &str = "access_key_id: AKIDFAKE\n    secret_access_key: fake/secret+key";

/// What AWS does with a request: the signature, computed from what arrived.
fn is_signed_by(call: &Call, secret: &str) -> Result<(), String> {
    let given = authorization(call);
    let rest = given.strip_prefix("AWS4-HMAC-SHA256 Credential=").ok_or("no signature")?;
    let (credential, rest) = rest.split_once(", SignedHeaders=").ok_or("no headers")?;
    let (signed, signature) = rest.split_once(", Signature=").ok_or("no signature")?;
    let (_, scope) = credential.split_once('/').ok_or("no scope")?;
    let encoded = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    let (path, query) = call.target().split_once('?').unwrap_or((call.target(), ""));
    let path: String = path.bytes().map(encoded).collect();
    let header = |name: &str| {
        let value = call.header(name).unwrap_or_default().trim().to_owned();
        format!("{name}:{value}\n")
    };
    let headers: String = signed.split(';').map(header).collect();
    let hash = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    let canonical = format!("POST\n{path}\n{query}\n{headers}\n{signed}\n{}", hash(&call.body()));
    let date = call.header("x-amz-date").ok_or("no date")?;
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hash(canonical.as_bytes()));
    let sign = |key: Vec<u8>, text: &str| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
    };
    let key = scope.split('/').fold(format!("AWS4{secret}").into_bytes(), sign);
    let expected = hex::encode(sign(key, &text));
    let names = ["host", "content-type", "x-amz-date"];
    if !names.iter().all(|name| signed.split(';').any(|it| it == *name)) {
        return Err(format!("not all that counts is signed: {signed}"));
    }
    (signature == expected)
        .then_some(())
        .ok_or_else(|| format!("not the signature of\n{canonical}"))
}

fn bedrock(login: &str, upstream: &Upstream) -> Plan {
    gateway::with(BEDROCK).place("login", login).up("up", upstream)
}

/// AWS, with the clock of an hour from now.
fn strict(call: &Call, ahead: Duration) -> Answer {
    let now = SystemTime::now() + ahead;
    let date = call.header("x-amz-date").unwrap_or_default();
    let date = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date).unwrap();
    let date: SystemTime = date.to_zoned(TimeZone::UTC).unwrap().timestamp().into();
    let apart = now.duration_since(date).unwrap_or_else(|early| early.duration());
    if apart > Duration::from_mins(5) {
        let said = json!({ "message": "Signature expired: 20260101T000000Z is now earlier." });
        return Answer::json(403, &said).header("date", &httpdate::fmt_http_date(now));
    }
    match is_signed_by(call, "fake/secret+key") {
        Ok(()) => Answer::chat("signed"),
        Err(why) => Answer::error(400, &why),
    }
}

#[tokio::test]
async fn a_call_is_signed_as_it_goes_out() {
    let upstream = upstream::with(|call| strict(call, Duration::ZERO)).await;
    let gateway = bedrock(KEYS, &upstream).start().await;
    assert_eq!(gateway.client().chat("hi \u{e9}").await.said(), "signed");
    let call = upstream.call();
    let credential = authorization(&call).split(',').next().unwrap().to_owned();
    let day = &call.header("x-amz-date").unwrap()[..8];
    let scope = format!("{day}/eu-central-1/bedrock/aws4_request");
    assert_eq!(credential, format!("AWS4-HMAC-SHA256 Credential=AKIDFAKE/{scope}"));
    assert_eq!(call.header("x-amz-security-token"), None);
    // What a caller has signed with is the caller's.
    let foreign = gateway.client().post("/v1/chat/completions", chat_body("hi").to_string());
    let foreign = foreign.header("x-amz-security-token", "theirs").header("x-amz-date", "19700101");
    assert_eq!(foreign.send().await.said(), "signed");
    let call = Arc::clone(upstream.calls().last().unwrap());
    assert_eq!(call.header("x-amz-security-token"), None);
    // A body that goes out in pieces.
    let prompt = "x".repeat(200_000);
    assert_eq!(gateway.client().chat(&prompt).await.said(), "signed");
    let log = gateway.log();
    assert!(!log.contains("AKIDFAKE") && !log.contains("secret+key"), "{log}");
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_made_up_for_once() {
    let ahead = Duration::from_hours(1);
    let upstream = upstream::with(move |call| strict(call, ahead)).await;
    let gateway = bedrock(KEYS, &upstream).start().await;
    assert_eq!(gateway.client().chat("hi").await.said(), "signed");
    assert_eq!(upstream.count(), 2, "the same call once more");
    assert_eq!(gateway.client().chat("hi").await.said(), "signed");
    assert_eq!(upstream.count(), 3, "from then on it is known");
    // Who refuses whatever the time is, is asked once.
    upstream.behave(move |_| {
        let now = SystemTime::now() + ahead;
        let said = json!({ "message": "The request signature we calculated does not match." });
        Answer::json(403, &said).header("date", &httpdate::fmt_http_date(now))
    });
    gateway.client().chat("hi").await.refused(502, "upstream_auth");
    assert_eq!(upstream.count(), 4);
}

#[tokio::test]
async fn a_container_is_lent_keys_and_a_token() {
    let turn = Arc::new(AtomicU64::new(0));
    let keys = upstream::with(move |_| {
        let turn = turn.fetch_add(1, SeqCst);
        let end = Timestamp::from_second(Timestamp::now().as_second() + 3600).unwrap();
        let answer = json!({
            "AccessKeyId": format!("ASIAFAKE{turn}"), "SecretAccessKey": "fake/secret+key",
            "Token": "canary-of-a-session", "Expiration": end.to_string(),
        });
        Answer::json(200, &answer)
    })
    .await;
    let upstream = upstream::with(|call| strict(call, Duration::ZERO)).await;
    let uri = format!("http://{}/v2/credentials?id=1", keys.address);
    let plan = bedrock("", &upstream).env("AWS_CONTAINER_CREDENTIALS_FULL_URI", &uri);
    let plan = plan.env("AWS_CONTAINER_AUTHORIZATION_TOKEN", "canary-of-a-container");
    let gateway = plan.start().await;
    assert_eq!(gateway.client().chat("hi").await.said(), "signed");
    let asked = keys.call();
    assert_eq!(asked.target(), "/v2/credentials?id=1");
    assert_eq!(asked.header("authorization"), Some("canary-of-a-container"));
    let call = upstream.call();
    assert!(authorization(&call).contains("Credential=ASIAFAKE0/"), "{call:?}");
    assert!(authorization(&call).contains(";x-amz-security-token,"), "{call:?}");
    assert_eq!(call.header("x-amz-security-token"), Some("canary-of-a-session"));
    assert!(!gateway.log().contains("canary"), "{}", gateway.log());
}

#[tokio::test]
async fn bedrocks_api_keys_are_bearers_and_nothing_is_signed() {
    let upstream = upstream::chat("hello").await;
    let gateway = bedrock("api_keys: [fake-bedrock-key]", &upstream).start().await;
    gateway.client().chat("hi").await.ok();
    let call = upstream.call();
    assert_eq!(authorization(&call), "Bearer fake-bedrock-key");
    assert_eq!(call.header("x-amz-date"), None);
}
