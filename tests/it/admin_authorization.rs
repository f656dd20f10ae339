//! Who may use the admin API: nobody, unless the table says so.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::admin_api::{STORED, operator, send, stored};
use crate::support::client::Client;
use crate::support::gateway::{self, ADMIN_KEY};
use crate::support::upstream;

const ON_DATA: &str = r#"
store: {}
listen: [{ address: "@listen" }]
admin: { listen: "@admin", key: admin-key-of-the-harness, on_data_listener: true }
providers:
  - { name: p, kind: vllm, base_url: "http://@up", health_check: { type: none } }
models:
  - { name: m, targets: [{ provider: p }] }
"#;

/// Every method and path the description has, with something in each place.
async fn routes(client: &Client) -> Vec<(String, String)> {
    let document = client.get("/admin/v1/openapi.json").await.ok().json();
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.replace("{id}", "x").replace("{number}", "0");
        for method in methods.as_object().unwrap().keys() {
            routes.push((method.to_ascii_uppercase(), path.clone()));
        }
    }
    routes
}

#[tokio::test]
async fn every_route_needs_the_admin_key() {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::with(ON_DATA).up("up", &upstream).start().await;
    let admin = operator(&gateway);
    let key = send(&admin, "POST", "/keys", &json!({"id": "ordinary"})).await.json();
    let ordinary = key["key"].as_str().unwrap();
    let before = send(&admin, "GET", "/changes", &Value::Null).await.ok().json();
    for door in [gateway.operator(), gateway.client()] {
        let routes = routes(&door).await;
        assert!(routes.len() > 30, "{routes:?}");
        for (method, path) in routes.iter().filter(|(_, path)| !path.ends_with("/openapi.json")) {
            let nobody = door.request(method, path).send().await;
            nobody.refused(401, "invalid_api_key");
            assert_eq!(nobody.header("www-authenticate"), Some("Bearer"), "{method} {path}");
            door.key(ordinary).request(method, path).send().await.refused(403, "not_permitted");
            // Only the one header counts: no page can make a browser send it.
            let elsewhere = door.request(method, &format!("{path}?key={ADMIN_KEY}"));
            elsewhere.header("x-api-key", ADMIN_KEY).send().await.refused(401, "invalid_api_key");
        }
    }
    let after = send(&admin, "GET", "/changes", &Value::Null).await.ok().json();
    assert_eq!(before, after, "nothing was changed");
}

#[tokio::test]
async fn the_page_shows_the_description() {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::with(ON_DATA).up("up", &upstream).start().await;
    for door in [gateway.operator(), gateway.client()] {
        assert_eq!(door.get("/swagger-ui").await.header("location"), Some("/swagger-ui/"));
        let page = door.get("/swagger-ui/").await.ok();
        assert!(page.text().contains("swagger-ui"), "{page:?}");
        let script = door.get("/swagger-ui/swagger-initializer.js").await.ok();
        assert!(script.text().contains("/admin/v1/openapi.json"), "{script:?}");
        let document = door.get("/admin/v1/openapi.json").await.ok().json();
        assert!(document["openapi"].as_str().unwrap().starts_with("3."), "{document}");
        let mut connection = door.request("HEAD", "/admin/v1/openapi.json").begin().await;
        assert_eq!(connection.head().await.word(1), "200");
    }
}

#[tokio::test]
async fn data_listeners_have_it_only_where_that_is_said() {
    let (_upstream, gateway) = stored().await;
    let client = gateway.client().key(ADMIN_KEY);
    for path in ["/admin/v1/keys", "/admin/v1/openapi.json", "/swagger-ui/", "/swagger-ui"] {
        client.get(path).await.refused(404, "not_found");
    }
}

#[tokio::test]
async fn who_guesses_is_slowed_down() {
    let (_upstream, gateway) = stored().await;
    let guess = |number: u32| gateway.operator().key(&format!("wrong-key-number-{number}"));
    for number in 0..5 {
        guess(number).get("/admin/v1/keys").await.refused(401, "invalid_api_key");
    }
    let slowed = guess(6).get("/admin/v1/keys").await;
    slowed.refused(429, "rate_limit_exceeded");
    let wait: u64 = slowed.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=61).contains(&wait), "{slowed:?}");
    // The right one has to wait as well, or the wait would tell which one is right.
    operator(&gateway).get("/admin/v1/keys").await.refused(429, "rate_limit_exceeded");
}

#[tokio::test]
async fn who_forgets_the_key_is_not_slowed_down() {
    let (_upstream, gateway) = stored().await;
    for _ in 0..10 {
        gateway.operator().get("/admin/v1/keys").await.refused(401, "invalid_api_key");
    }
    operator(&gateway).get("/admin/v1/keys").await.ok();
}

#[tokio::test]
async fn nobody_sends_a_body_before_it_is_clear_who_asks() {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::with(ON_DATA).up("up", &upstream).start().await;
    let (admin, begun) = (operator(&gateway), Instant::now());
    let ordinary = send(&admin, "POST", "/keys", &json!({"id": "ordinary"})).await.json();
    let ordinary = ordinary["key"].as_str().unwrap();
    for door in [gateway.operator(), gateway.client()] {
        for (key, path, status) in [
            ("wrong-key-of-the-tests", "/admin/v1/keys", "401"),
            (ordinary, "/admin/v1/keys/x/rotate", "403"),
            (ADMIN_KEY, "/admin/v1/nothing", "404"),
            (ADMIN_KEY, "/admin/v1/config", "405"),
        ] {
            // The head is all that comes.
            let head = door.key(key).request("POST", path).header("content-length", "1000000");
            let mut connection = head.begin().await;
            assert_eq!(connection.head().await.word(1), status, "{path}");
        }
        // A short body passes by, and the connection lives on.
        let wrong = door.post("/admin/v1/keys", "{\"id\": \"a\"}");
        let mut connection = door.connect().await;
        for _ in 0..2 {
            wrong.over(&mut connection).await.refused(401, "invalid_api_key");
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_key_says_what_it_is_good_for() {
    let (_upstream, gateway) = stored().await;
    let shown = send(&operator(&gateway), "POST", "/auth/validate", &Value::Null).await.ok().json();
    assert_eq!(shown, json!({"valid": true, "by": "admin", "role": "operator"}));
    let nobody = gateway.operator().key("wrong-key-of-the-tests");
    nobody.request("POST", "/admin/v1/auth/validate").send().await.refused(401, "invalid_api_key");
}

#[tokio::test]
async fn an_admin_gives_no_more_than_it_has() {
    let (_upstream, gateway) = stored().await;
    let root = operator(&gateway);
    let user = json!({"id": "boss", "role": "admin", "allowed_models": ["m*"]});
    send(&root, "POST", "/users", &user).await;
    let limits = json!({"tokens_per_minute": 100, "budget": {"usd": 1, "per": "day"}});
    let key =
        json!({"id": "boss-key", "user": "boss", "limits": limits, "expires_at": "2999-01-01"});
    let key = send(&root, "POST", "/keys", &key).await.json();
    let boss = gateway.operator().key(key["key"].as_str().unwrap());
    send(&root, "POST", "/keys", &json!({"id": "strong", "key": "fake-strong-key-1"})).await;

    send(&boss, "GET", "/keys", &Value::Null).await.ok();
    let within = json!({
        "id": "small", "allowed_models": ["m"], "limits": limits, "expires_at": "2998-01-01",
    });
    let small = send(&boss, "POST", "/keys", &within).await;
    assert_eq!((small.status, &small.json()["created_by"]), (201, &json!("boss")), "{small:?}");
    let but = |name: &str, value: Value| {
        let mut body = within.clone();
        body["id"] = json!("more");
        body[name] = value;
        body
    };
    for body in [
        but("allowed_models", json!(["*"])),
        but("allowed_models", Value::Null),
        but("expires_at", json!("3000-01-01")),
        but("expires_at", Value::Null),
        but("limits", json!({"tokens_per_minute": 101, "budget": {"usd": 1, "per": "day"}})),
        but("limits", json!({})),
    ] {
        send(&boss, "POST", "/keys", &body).await.refused(403, "not_permitted");
    }
    for (method, path, body) in [
        // What is stronger cannot be taken over, nor can one grow by oneself.
        ("POST", "/keys/strong/rotate", Value::Null),
        ("PATCH", "/keys/strong", json!({"key": "fake-key-of-the-boss"})),
        ("PATCH", "/keys/boss-key", json!({"limits": null})),
        ("PATCH", "/keys/small", json!({"allowed_models": null})),
        ("PATCH", "/users/boss", json!({"allowed_models": null})),
        (
            "POST",
            "/users",
            json!({"id": "s", "role": "special", "allowed_models": ["m"], "limits": limits, "expires_at": "2998-01-01"}),
        ),
        // What has no bounds is a way around them.
        ("POST", "/config/reload", Value::Null),
        ("POST", "/providers", json!({"name": "x", "kind": "mock"})),
        ("PUT", "/models/m", json!({"name": "m"})),
    ] {
        send(&boss, method, path, &body).await.refused(403, "not_permitted");
    }
    send(&root, "POST", "/users/boss/disable", &Value::Null).await.ok();
    send(&boss, "GET", "/keys", &Value::Null).await.refused(401, "invalid_api_key");
}

#[tokio::test]
async fn an_admin_gives_no_more_tokens_or_addresses_than_it_has() {
    let upstream = upstream::chat("hello").await;
    let yaml = format!(
        "{STORED}\nquotas: {{ refresh: monthly, groups: [{{ name: all, models: [\"*\"], tokens: 1000 }}] }}\n"
    );
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let root = operator(&gateway);
    let boss = json!({"id": "boss", "role": "admin", "quotas": {"all": 500}, "max_ips": 2});
    send(&root, "POST", "/users", &boss).await;
    let key = send(&root, "POST", "/keys", &json!({"id": "k", "user": "boss"})).await.json();
    let boss = gateway.operator().key(key["key"].as_str().unwrap());
    for (path, param, body) in [
        // What is not said is what the configuration gives everybody.
        ("/users", "max_ips", json!({"id": "a"})),
        ("/users", "quotas", json!({"id": "a", "max_ips": 2})),
        ("/users", "quotas", json!({"id": "a", "max_ips": 2, "quotas": {"all": 501}})),
        ("/users", "max_ips", json!({"id": "a", "max_ips": 3, "quotas": {"all": 500}})),
        ("/keys", "user", json!({"id": "a", "limits": {"max_ips": 1}})),
    ] {
        let refused = send(&boss, "POST", path, &body).await;
        assert_eq!(refused.refused(403, "not_permitted")["param"], param, "{body}");
    }
    let within = json!({"id": "ada", "max_ips": 1, "quotas": {"all": 500}});
    assert_eq!(send(&boss, "POST", "/users", &within).await.status, 201);
    let own = send(&boss, "POST", "/keys", &json!({"id": "of-ada", "user": "ada"})).await;
    assert_eq!(own.status, 201, "{own:?}");
    send(&boss, "PATCH", "/users/ada", &json!({"max_ips": 2})).await.ok();
    let more = send(&boss, "PATCH", "/users/ada", &json!({"quotas": null})).await;
    assert_eq!(more.refused(403, "not_permitted")["param"], "quotas");
    let odd = send(&root, "POST", "/users", &json!({"id": "b", "limits": {"max_ips": 2}})).await;
    assert_eq!(odd.refused(400, "invalid_request")["param"], "limits");
}

#[tokio::test]
async fn an_admin_without_bounds_may_do_the_same_as_the_admin_key() {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::with(STORED).up("up", &upstream).start().await;
    let root = operator(&gateway);
    send(&root, "POST", "/users", &json!({"id": "boss", "role": "admin"})).await;
    let key = send(&root, "POST", "/keys", &json!({"id": "k", "user": "boss"})).await.json();
    let boss = gateway.operator().key(key["key"].as_str().unwrap());
    send(&boss, "POST", "/config/reload", &Value::Null).await.ok();
    let free = send(&boss, "POST", "/keys", &json!({"id": "free"})).await;
    assert_eq!(free.status, 201, "{free:?}");
    let noted = send(&root, "GET", "/changes?limit=1", &Value::Null).await.ok().json();
    assert_eq!(noted["data"][0]["by"], "boss", "{noted}");
    send(&root, "PATCH", "/users/boss", &json!({"role": "normal"})).await.ok();
    send(&boss, "GET", "/keys", &Value::Null).await.refused(403, "not_permitted");
}
