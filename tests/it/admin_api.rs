//! The admin API: keys and users, made, shown, changed, and in force at once.

use serde_json::{Value, json};

use crate::support::client::{CHAT, Client, Reply, chat_body};
use crate::support::gateway::{self, ADMIN_KEY, Gateway};
use crate::support::upstream::{self, Upstream};

/// One provider, one model, and a store for keys beside the file.
pub const STORED: &str = r#"
store: {}
providers:
  - { name: p, kind: vllm, base_url: "http://@up", health_check: { type: none }, api_keys: [fake-upstream-key-0001] }
models:
  - { name: m, targets: [{ provider: p }] }
  - { name: other, targets: [{ provider: p }] }
"#;

/// A gateway whose keys are in its store.
pub async fn stored() -> (Upstream, Gateway) {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::with(STORED).up("up", &upstream).start().await;
    (upstream, gateway)
}

/// … with this besides.
async fn stored_with(more: &str) -> (Upstream, Gateway) {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::with(&format!("{STORED}{more}\n")).up("up", &upstream).start().await;
    (upstream, gateway)
}

/// An operator with the admin key, on the listener for operators.
pub fn operator(gateway: &Gateway) -> Client {
    gateway.operator().key(ADMIN_KEY)
}

/// Sends JSON to a path below `/admin/v1`.
pub async fn send(client: &Client, method: &str, path: &str, body: &Value) -> Reply {
    send_if(client, method, path, body, None).await
}

/// … when the thing is at this version.
pub async fn send_if(
    client: &Client,
    method: &str,
    path: &str,
    body: &Value,
    version: Option<&str>,
) -> Reply {
    let mut request = client.request(method, &format!("/admin/v1{path}"));
    if !body.is_null() {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    if let Some(version) = version {
        request = request.header("if-match", version);
    }
    request.send().await
}

/// Makes something that was not there.
#[track_caller]
fn made(reply: &Reply) -> Value {
    assert_eq!(reply.status, 201, "{reply:?}");
    reply.json()
}

/// Whether a key is let in.
async fn calls(gateway: &Gateway, key: &str) -> u16 {
    gateway.client().key(key).chat("hi").await.status
}

#[tokio::test]
async fn a_key_opens_calls_as_soon_as_it_is_made_and_none_once_it_is_revoked() {
    let (_upstream, gateway) = stored().await;
    let admin = operator(&gateway);
    let key = made(&send(&admin, "POST", "/keys", &json!({"name": "team-a"})).await);
    let secret = key["key"].as_str().unwrap();
    assert!(secret.starts_with("sk-fb-"), "{key}");
    assert_eq!(calls(&gateway, secret).await, 200);
    let path = format!("/keys/{}", key["id"].as_str().unwrap());
    let revoked = send(&admin, "POST", &format!("{path}/revoke"), &json!({"reason": "lost"})).await;
    assert_eq!(revoked.json()["disabled_reason"], "lost", "{revoked:?}");
    assert_eq!(calls(&gateway, secret).await, 401);
    send(&admin, "PATCH", &path, &json!({"enabled": true})).await.ok();
    assert_eq!(calls(&gateway, secret).await, 200);
    send(&admin, "DELETE", &path, &Value::Null).await.ok();
    assert_eq!(calls(&gateway, secret).await, 401);
    send(&admin, "GET", &path, &Value::Null).await.refused(404, "not_found");
}

#[tokio::test]
async fn a_secret_is_shown_once() {
    let (_upstream, gateway) = stored().await;
    let admin = operator(&gateway);
    let key = made(&send(&admin, "POST", "/keys", &json!({"id": "a"})).await);
    let secret = key["key"].as_str().unwrap().to_owned();
    for path in ["/keys", "/keys/a", "/master-keys/a", "/changes", "/config"] {
        let reply = send(&admin, "GET", path, &Value::Null).await.ok();
        assert!(!reply.text().contains(&secret), "{path}: {reply:?}");
    }
    let shown = send(&admin, "GET", "/keys/a", &Value::Null).await.json();
    let end: String = secret.chars().skip(secret.chars().count() - 4).collect();
    assert_eq!(shown["hint"], format!("…{end}"));
    assert!(!gateway.log().contains(&secret));
    let fresh = send(&admin, "POST", "/keys/a/rotate", &Value::Null).await.ok().json();
    let fresh = fresh["key"].as_str().unwrap();
    assert_eq!((calls(&gateway, &secret).await, calls(&gateway, fresh).await), (401, 200));
}

#[tokio::test]
async fn a_key_may_use_what_it_is_allowed() {
    let (_upstream, gateway) = stored().await;
    let admin = operator(&gateway);
    let body = json!({"id": "a", "allowed_models": ["oth*"], "expires": "2999-01-01"});
    let key = made(&send(&admin, "POST", "/keys", &body).await);
    assert_eq!(key["expires_at"], "2999-01-01T00:00:00.000Z", "{key}");
    let client = gateway.client().key(key["key"].as_str().unwrap());
    client.post(CHAT, chat_body("hi").to_string()).send().await.refused(403, "model_not_allowed");
    client.post(CHAT, r#"{"model":"other","messages":[]}"#).send().await.ok();
    // Null takes the bound away, what is absent stays.
    let patched = send(&admin, "PATCH", "/keys/a", &json!({"allowed_models": null})).await.ok();
    let patched = patched.json();
    assert_eq!(patched["allowed_models"], Value::Null);
    assert_eq!(patched["expires_at"], "2999-01-01T00:00:00.000Z");
    client.chat("hi").await.ok();
    // An empty list is no key to everything.
    let none = send(&admin, "PUT", "/keys/a", &json!({"allowed_models": []})).await.ok().json();
    assert_eq!((&none["expires_at"], &none["allowed_models"]), (&Value::Null, &json!([])));
    client.chat("hi").await.refused(403, "model_not_allowed");
    send(&admin, "PATCH", "/keys/a", &json!({"expires_at": "2001-01-01"})).await.ok();
    client.chat("hi").await.refused(401, "invalid_api_key");
}

#[tokio::test]
async fn what_was_shown_can_be_sent_back() {
    let (_upstream, gateway) = stored().await;
    let admin = operator(&gateway);
    let limits = json!({"tokens_per_minute": 5, "budget": {"usd": "0.50", "per": "day"}});
    for (path, body) in [
        (
            "/users/a",
            json!({"id": "a", "role": "special", "quotas": {"g": 1}, "note": "n", "limits": limits}),
        ),
        (
            "/keys/a",
            json!({"id": "a", "user": "a", "tags": ["x"], "expires": "2999-01-01", "limits": limits, "rate_limit": {"requests_per_second": 3}}),
        ),
    ] {
        let made = send(&admin, "POST", path.trim_end_matches("/a"), &body).await;
        assert_eq!(made.status, 201, "{made:?}");
        let mut shown = send(&admin, "GET", path, &Value::Null).await.ok().json();
        let mut again = send(&admin, "PUT", path, &shown).await.ok().json();
        for value in [&mut shown, &mut again] {
            for name in ["version", "updated_at"] {
                value.as_object_mut().unwrap().remove(name);
            }
        }
        assert_eq!(shown, again);
    }
}

#[tokio::test]
async fn a_quota_for_a_group_that_is_not_there_is_refused() {
    let groups = "quotas: { groups: [{ name: large, models: [m], tokens: 5 }] }";
    let (_upstream, gateway) = stored_with(groups).await;
    let admin = operator(&gateway);
    let typo = send(&admin, "POST", "/users", &json!({"id": "a", "quotas": {"larg": 1}})).await;
    let error = typo.refused(400, "invalid_request");
    assert_eq!(error["param"], "quotas", "{typo:?}");
    assert!(error["message"].as_str().unwrap().contains("did you mean `large`?"), "{typo:?}");
    let user = json!({"id": "a", "quotas": {"large": 1}});
    assert_eq!(send(&admin, "POST", "/users", &user).await.status, 201);
    // A group may go out of the file; who has a number for it can still be changed.
    gateway.configure(|yaml| yaml.replace("name: large", "name: huge"));
    send(&admin, "POST", "/config/reload", &Value::Null).await.ok();
    let kept = send(&admin, "PATCH", "/users/a", &json!({"note": "n"})).await.ok().json();
    assert_eq!(kept["quotas"], json!({"large": 1}));
    let new = send(&admin, "PATCH", "/users/a", &json!({"quotas": {"other": 1}})).await;
    new.refused(400, "invalid_request");
}

#[tokio::test]
async fn a_temporary_user_has_an_end() {
    let (_upstream, gateway) = stored().await;
    let admin = operator(&gateway);
    let endless = send(&admin, "POST", "/users", &json!({"id": "t", "role": "temporary"})).await;
    assert_eq!(endless.refused(400, "invalid_request")["param"], "expires_at");
    let ends = json!({"id": "t", "role": "temporary", "expires_at": "2999-01-01"});
    assert_eq!(send(&admin, "POST", "/users", &ends).await.status, 201);
    send(&admin, "PATCH", "/users/t", &json!({"expires_at": null}))
        .await
        .refused(400, "invalid_request");
}

#[tokio::test]
async fn a_disabled_user_takes_its_keys_along() {
    let (_upstream, gateway) = stored().await;
    let admin = operator(&gateway);
    let user =
        json!({"id": "u1", "name": "Ada", "limits": {"budget": {"usd": "25.50", "per": "month"}}});
    let user = made(&send(&admin, "POST", "/users", &user).await);
    assert_eq!(user["limits"]["budget"], json!({"usd": "25.5", "per": "month"}), "{user}");
    let key = made(&send(&admin, "POST", "/keys", &json!({"id": "k", "user": "u1"})).await);
    let secret = key["key"].as_str().unwrap();
    assert_eq!(calls(&gateway, secret).await, 200);
    let reason = json!({"reason": "left the house"});
    let shown = send(&admin, "POST", "/users/u1/disable", &reason).await.ok().json();
    assert_eq!(shown["disabled_reason"], "left the house");
    assert_eq!(calls(&gateway, secret).await, 401);
    send(&admin, "POST", "/users/u1/enable", &Value::Null).await.ok();
    assert_eq!(calls(&gateway, secret).await, 200);
    send(&admin, "DELETE", "/users/u1", &Value::Null).await.ok();
    assert_eq!(calls(&gateway, secret).await, 401);
    let orphan = send(&admin, "POST", "/keys", &json!({"user": "nobody"})).await;
    assert_eq!(orphan.refused(400, "invalid_request")["param"], "user");
}

#[tokio::test]
async fn lists_come_in_pages() {
    let (_upstream, gateway) = stored().await;
    let admin = operator(&gateway);
    for id in ["a", "b", "c"] {
        made(&send(&admin, "POST", "/keys", &json!({"id": id})).await);
    }
    let ids = |page: &Value| -> Vec<String> {
        let data = page["data"].as_array().unwrap().iter();
        data.map(|key| key["id"].as_str().unwrap().to_owned()).collect()
    };
    let first = send(&admin, "GET", "/keys?limit=2", &Value::Null).await.ok().json();
    assert_eq!((ids(&first), &first["has_more"]), (vec!["a".into(), "b".into()], &json!(true)));
    let rest = send(&admin, "GET", "/keys?limit=2&after=b", &Value::Null).await.ok().json();
    assert_eq!((ids(&rest), &rest["has_more"]), (vec!["c".into()], &json!(false)));
    for query in ["limit=0", "limit=1001", "limit=x", "colour=red"] {
        let reply = send(&admin, "GET", &format!("/keys?{query}"), &Value::Null).await;
        reply.refused(400, "invalid_request");
    }
}

#[tokio::test]
async fn what_is_not_understood_is_refused_and_named() {
    let (_upstream, gateway) = stored().await;
    let admin = operator(&gateway);
    for (body, param, said) in [
        (json!({"alowed_models": []}), json!("alowed_models"), "did you mean `allowed_models`?"),
        (json!({"name": 7}), json!("name"), "expected a string"),
        (json!({"key": "has a space"}), json!("key"), "no header can carry"),
        (json!({"id": "a b"}), json!("id"), "whitespace"),
        (json!({"allowed_models": [""]}), json!("allowed_models"), "empty name"),
        (json!({"expires_at": "soon"}), json!("expires_at"), "a moment"),
        (json!({"enabled": true, "is_enabled": false}), json!("enabled"), "one of them"),
        (json!({"limits": {"tokens": 1}}), json!("limits.tokens"), "Unknown field"),
        (
            json!({"rate_limit": {"requests_per_second": -1}}),
            json!("rate_limit.requests_per_second"),
            "a whole number",
        ),
        (
            json!({"rate_limit": {"burst_size": 1}}),
            json!("rate_limit.requests_per_second"),
            "is missing",
        ),
        (
            json!({"limits": {"budget": {"usd": "five", "per": "day"}}}),
            json!("limits.budget.usd"),
            "US dollars such as 25 or \"25.50\"",
        ),
        (json!({"id": ".."}), json!("id"), "is not"),
        (
            json!({"rate_limit": {"requests_per_second": 0, "burst_size": 5}}),
            json!("rate_limit"),
            "both are at least 1",
        ),
        (json!({"key": ADMIN_KEY}), json!("key"), "the admin key"),
    ] {
        let reply = send(&admin, "POST", "/keys", &body).await;
        let error = reply.refused(400, "invalid_request");
        assert_eq!(error["param"], param, "{reply:?}");
        assert!(error["message"].as_str().unwrap().contains(said), "{said}: {reply:?}");
    }
    for body in ["{", "[]", "\"x\"", "{\"a\":1,\"a\":2}", "\u{1}"] {
        let reply = admin.post("/admin/v1/keys", body.to_owned()).send().await;
        reply.refused(400, "invalid_json");
    }
    let deep = format!("{{\"limits\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    admin.post("/admin/v1/keys", deep).send().await.refused(400, "invalid_json");
    let huge = format!("{{\"name\":\"{}\"}}", "x".repeat(2 << 20));
    admin.post("/admin/v1/keys", huge.clone()).send().await.refused(413, "request_too_large");
    let chunked = admin.post("/admin/v1/keys", huge).chunked(1 << 16).send().await;
    chunked.refused(413, "request_too_large");
    let form = admin.request("POST", "/admin/v1/keys").header("content-type", "text/plain");
    form.body("{}").send().await.refused(415, "unsupported_media_type");
    send(&admin, "POST", "/keys", &Value::Null).await.refused(400, "invalid_request");
    send(&admin, "GET", "/nowhere", &Value::Null).await.refused(404, "not_found");
    let wrong = send(&admin, "DELETE", "/keys", &Value::Null).await;
    wrong.refused(405, "method_not_allowed");
    assert_eq!(wrong.header("allow"), Some("GET, POST"), "{wrong:?}");
    let keys = send(&admin, "GET", "/keys", &Value::Null).await.ok().json();
    assert_eq!(keys["data"], json!([]), "nothing of all that was made");
}

#[tokio::test]
async fn what_is_there_is_not_made_again() {
    let (_upstream, gateway) = stored().await;
    let admin = operator(&gateway);
    let first = json!({"id": "a", "key": "fake-key-of-the-tests-1"});
    made(&send(&admin, "POST", "/keys", &first).await);
    send(&admin, "POST", "/keys", &json!({"id": "a"})).await.refused(409, "already_exists");
    let same = json!({"id": "b", "key": "fake-key-of-the-tests-1"});
    send(&admin, "POST", "/keys", &same).await.refused(409, "already_exists");
    made(&send(&admin, "POST", "/users", &json!({"id": "u", "name": "Ada"})).await);
    let twin = json!({"id": "v", "name": "Ada"});
    send(&admin, "POST", "/users", &twin).await.refused(409, "already_exists");
}

#[tokio::test]
async fn every_change_is_noted_without_secrets() {
    let (_upstream, gateway) = stored().await;
    let admin = operator(&gateway);
    let key = made(&send(&admin, "POST", "/keys", &json!({"id": "a", "name": "one"})).await);
    send(&admin, "PATCH", "/keys/a", &json!({"name": "two"})).await.ok();
    send(&admin, "DELETE", "/keys/a", &Value::Null).await.ok();
    let noted = send(&admin, "GET", "/changes", &Value::Null).await.ok();
    let data = noted.json()["data"].as_array().unwrap().clone();
    let actions: Vec<&str> = data.iter().map(|one| one["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["delete", "update", "create"]);
    assert!(data.iter().all(|one| one["by"] == "admin" && one["kind"] == "keys"), "{noted:?}");
    assert_eq!(
        (&data[1]["before"]["name"], &data[1]["after"]["name"]),
        (&json!("one"), &json!("two"))
    );
    assert!(!noted.text().contains(key["key"].as_str().unwrap()));
    assert!(!noted.text().contains("digest"), "{noted:?}");
}

#[tokio::test]
async fn what_was_used_is_told_by_key_and_as_a_table() {
    let upstream = upstream::chat("hello").await;
    let yaml = STORED.replace("name: other", "name: \"=other\"");
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let admin = operator(&gateway);
    let key = made(&send(&admin, "POST", "/keys", &json!({"id": "a"})).await);
    let client = gateway.client().key(key["key"].as_str().unwrap());
    client.chat("hi").await.ok();
    client.post(CHAT, r#"{"model":"=other","messages":[]}"#).send().await.ok();
    let told = crate::support::eventually("usage is told", async || {
        let told = send(&admin, "GET", "/usage?group_by=key,model&key=a", &Value::Null).await.ok();
        let told = told.json();
        (told["data"].as_array().unwrap().len() == 2).then_some(told)
    })
    .await;
    assert!(told["data"].as_array().unwrap().iter().all(|row| row["requests"] == 1), "{told}");
    let table = send(&admin, "GET", "/usage?group_by=model&format=csv", &Value::Null).await.ok();
    assert_eq!(table.header("content-type"), Some("text/csv; charset=utf-8"));
    let text = table.text();
    assert!(text.starts_with("model,requests,prompt_tokens,"), "{text}");
    assert!(text.contains("\r\n'=other,1,"), "{text}");
    send(&admin, "GET", "/usage?group_by=colour", &Value::Null)
        .await
        .refused(400, "invalid_request");
}

#[tokio::test]
async fn the_configuration_in_force_is_told_and_read_again() {
    let (_upstream, gateway) = stored().await;
    let admin = operator(&gateway);
    let shown = send(&admin, "GET", "/config", &Value::Null).await.ok();
    assert!(shown.text().contains("…0001") && !shown.text().contains("fake-upstream"), "{shown:?}");
    assert!(!shown.text().contains(ADMIN_KEY), "{shown:?}");
    let before = send(&admin, "GET", "/config/version", &Value::Null).await.ok().json();
    gateway.configure(|yaml| yaml.replace("name: other", "name: another"));
    let after = send(&admin, "POST", "/config/reload", &Value::Null).await.ok().json();
    assert_ne!(before["version"], after["version"], "{before} {after}");
    let models = send(&admin, "GET", "/models", &Value::Null).await.ok();
    assert!(models.text().contains("another"), "{models:?}");
    gateway.configure(|yaml| yaml.replace("name: another", "nam: another"));
    let refused = send(&admin, "POST", "/config/reload", &Value::Null).await;
    let error = refused.refused(400, "invalid_configuration");
    assert!(error["mistakes"][0].as_str().unwrap().contains("nam"), "{error}");
}

#[tokio::test]
async fn a_providers_replicas_and_keys_are_told_of() {
    let upstream = upstream::with(|call| match call.index {
        0 => crate::support::answer::Answer::error(401, "who are you?"),
        _ => crate::support::answer::Answer::chat("well"),
    })
    .await;
    let yaml = STORED.replace("store: {}", "store: {}\nanonymous: true");
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let admin = operator(&gateway);
    gateway.client().chat("hi").await;
    let shown = send(&admin, "GET", "/providers/p", &Value::Null).await.ok().json();
    let key = &shown["state"]["api_keys"][0];
    assert_eq!((&key["hint"], &key["state"]), (&json!("…0001"), &json!("disabled")), "{shown}");
    assert!(key["until"].is_string(), "{shown}");
    assert_eq!(shown["state"]["replicas"][0]["address"], upstream.address.to_string());
    send(&admin, "POST", "/providers/p/api-keys/0/recheck", &Value::Null).await.ok();
    gateway.client().chat("hi").await.ok();
    let shown = send(&admin, "GET", "/providers/p", &Value::Null).await.ok().json();
    assert_eq!(shown["state"]["api_keys"][0]["state"], "in_use", "{shown}");
    for path in ["/providers/p/api-keys/1/recheck", "/providers/q/api-keys/0/recheck"] {
        send(&admin, "POST", path, &Value::Null).await.refused(404, "not_found");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_database_nothing_is_told_or_changed_and_it_says_so() {
    use crate::support::databases::Database;
    use crate::support::eventually;
    use crate::support::relay::Relay;

    let (upstream, database) = (upstream::chat("hello").await, Database::create());
    let mut relay = Relay::to(&database.host()).await;
    let url = database.url_by(&relay.address.to_string());
    let yaml = STORED.replace("store: {}", &format!("store: {{ url: \"{url}\", dynamic: true }}"));
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let admin = operator(&gateway);
    let key = made(&send(&admin, "POST", "/keys", &json!({"id": "a"})).await);
    relay.cut().await;
    for (method, path, body) in [
        ("GET", "/keys", Value::Null),
        ("GET", "/users/u", Value::Null),
        ("POST", "/keys", json!({"id": "b"})),
        ("PATCH", "/keys/a", json!({"name": "x"})),
        ("DELETE", "/keys/a", Value::Null),
        ("POST", "/models", json!({"name": "n", "targets": [{"provider": "p"}]})),
        ("GET", "/usage", Value::Null),
    ] {
        let away = send(&admin, method, path, &body).await;
        away.refused(503, "store_away");
        assert!(away.header("retry-after").is_some(), "{away:?}");
    }
    // What needs no store goes on.
    send(&admin, "GET", "/config", &Value::Null).await.ok();
    send(&admin, "GET", "/providers/p", &Value::Null).await.ok();
    send(&admin, "POST", "/config/reload", &Value::Null).await.ok();
    gateway.client().key(key["key"].as_str().unwrap()).chat("hi").await.ok();
    relay.mend().await;
    eventually("it is back", async || {
        (send(&admin, "GET", "/keys", &Value::Null).await.status == 200).then_some(())
    })
    .await;
    let keys = send(&admin, "GET", "/keys", &Value::Null).await.ok().json();
    assert_eq!(keys["data"].as_array().unwrap().len(), 1, "{keys}");
}

#[tokio::test]
async fn quotas_are_given_anew_before_their_time() {
    let upstream = upstream::chat("hello").await;
    let yaml = format!(
        "{STORED}\nquotas: {{ refresh: monthly, groups: [{{ name: all, models: [\"*\"], tokens: 8000 }}] }}\n"
    );
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let admin = operator(&gateway);
    made(&send(&admin, "POST", "/users", &json!({"id": "u"})).await);
    let key = made(&send(&admin, "POST", "/keys", &json!({"id": "k", "user": "u"})).await);
    let client = gateway.client().key(key["key"].as_str().unwrap());
    let used = async || client.get("/v1/me").await.ok().json()["quotas"][0]["used"].clone();
    let body =
        json!({"model": "m", "max_tokens": 20, "messages": [{"role": "user", "content": "hi"}]});
    client.post(CHAT, body.to_string()).send().await.ok();
    crate::support::eventually("it is counted", async || (used().await != json!(0)).then_some(()))
        .await;
    send(&admin, "POST", "/users/u/quota/refresh", &Value::Null).await.ok();
    let fresh = used().await;
    assert!(fresh == json!(0) || fresh.is_null(), "{fresh}");
    client.post(CHAT, body.to_string()).send().await.ok();
}
