//! Asking for a model: which provider serves it, and under which name.

use crate::support::answer::Answer;
use crate::support::client::{CHAT, Reply};
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Upstream};

/// Two providers that say who they are.
async fn two(models: &str) -> (Upstream, Upstream, Gateway) {
    let yaml = format!(
        r#"
providers:
  - {{ name: one, kind: vllm, base_url: "http://@a", health_check: {{ type: none }} }}
  - {{ name: two, kind: vllm, base_url: "http://@b", health_check: {{ type: none }} }}
{models}
"#
    );
    let (a, b) = (upstream::chat("one").await, upstream::chat("two").await);
    let gateway = gateway::with(&yaml).up("a", &a).up("b", &b).start().await;
    (a, b, gateway)
}

async fn ask(gateway: &Gateway, model: &str) -> Reply {
    let body = serde_json::json!({ "model": model }).to_string();
    gateway.client().post(CHAT, body).send().await
}

/// Who serves a model, and what it is called there.
async fn served(gateway: &Gateway, model: &str) -> (String, String) {
    let reply = ask(gateway, model).await;
    assert_eq!(reply.status, 200, "{model}: {reply:?}");
    (reply.said(), reply.header("x-forebay-model").unwrap().to_owned())
}

#[tokio::test]
async fn targets_share_requests_in_exact_proportion() {
    let models = "models: [{ name: m, targets: [{ provider: one, weight: 7 }, { provider: two, weight: 3 }] }]";
    let (a, b, gateway) = two(models).await;
    for round in 1..=5 {
        for _ in 0..10 {
            ask(&gateway, "m").await.ok();
        }
        assert_eq!((a.count(), b.count()), (7 * round, 3 * round));
    }
}

#[tokio::test]
async fn a_weight_of_0_is_a_last_resort() {
    let models = "models: [{ name: m, targets: [{ provider: one, weight: 0 }, { provider: two, weight: 1 }] }]";
    let (a, b, gateway) = two(models).await;
    for _ in 0..10 {
        ask(&gateway, "m").await.ok();
    }
    assert_eq!((a.count(), b.count()), (0, 10));
    b.behave(|_| Answer::error(503, "in trouble"));
    assert_eq!(ask(&gateway, "m").await.said(), "one");
}

#[tokio::test]
async fn a_model_that_cannot_be_served_falls_back_in_order() {
    let models = r"
models:
  - { name: big, targets: [{ provider: one, model: big-1 }], fallback: [medium, small] }
  - { name: medium, aliases: [mid], targets: [{ provider: one, model: medium-1 }] }
  - { name: small, targets: [{ provider: two, model: small-2 }] }
";
    let (a, _b, gateway) = two(models).await;
    a.behave(|call| match call.json()["model"].as_str() {
        Some("medium-1") => Answer::chat("one"),
        _ => Answer::error(503, "in trouble"),
    });
    assert_eq!(served(&gateway, "big").await, ("one".to_owned(), "medium-1".to_owned()));
    a.behave(|_| Answer::error(503, "in trouble"));
    assert_eq!(served(&gateway, "big").await, ("two".to_owned(), "small-2".to_owned()));
    ask(&gateway, "mid").await.refused(503, "upstream_error");
}

#[tokio::test]
async fn aliases_mean_the_model_they_belong_to() {
    let models = r#"
models:
  - { name: llama-70b, aliases: [llama, "gpt-3.5-turbo"], targets: [{ provider: one, model: meta/70b }] }
"#;
    let (a, _b, gateway) = two(models).await;
    for name in ["llama-70b", "llama", "gpt-3.5-turbo"] {
        assert_eq!(served(&gateway, name).await.1, "meta/70b");
        assert_eq!(a.calls().last().unwrap().json()["model"], "meta/70b");
    }
    ask(&gateway, "LLAMA").await.refused(404, "model_not_found");
    let list = gateway.client().get("/v1/models").await.ok().json();
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
    assert_eq!(ids, ["llama-70b", "llama", "gpt-3.5-turbo"]);
}

#[tokio::test]
async fn the_prefix_of_a_name_is_taken_off() {
    let models = "model_prefix: Proxy\nmodels: [{ name: m, targets: [{ provider: one }] }, { match: { prefix: gpt- }, targets: [{ provider: two }] }]";
    let (a, b, gateway) = two(models).await;
    assert_eq!(served(&gateway, "Proxy/m").await, ("one".to_owned(), "m".to_owned()));
    assert_eq!(a.call().json()["model"], "m");
    assert_eq!(served(&gateway, "m").await.0, "one");
    assert_eq!(served(&gateway, "Proxy/gpt-5").await.1, "gpt-5");
    assert_eq!(b.call().json()["model"], "gpt-5");
    ask(&gateway, "Proxy/Proxy/m").await.refused(404, "model_not_found");
    ask(&gateway, "proxy/m").await.refused(404, "model_not_found");
}

#[tokio::test]
async fn rules_match_in_file_order_after_exact_names() {
    let models = r#"
models:
  - { match: { prefix: ["gpt-", "o3"] }, targets: [{ provider: one }] }
  - { match: { suffix: "-mini" }, targets: [{ provider: two, model: by-suffix }] }
  - { match: { keyword: ["coder"] }, targets: [{ provider: two, model: by-keyword }] }
  - { match: { regex: "^claude-[0-9]+$" }, targets: [{ provider: two, model: by-regex }] }
  - { match: { exact: ["gpt-exact", "other-exact"] }, targets: [{ provider: two, model: by-list }] }
  - { name: gpt-named, targets: [{ provider: two, model: by-name }] }
"#;
    let (_a, _b, gateway) = two(models).await;
    for (asked, served_as) in [
        ("gpt-5-mini", "gpt-5-mini"),
        ("o3", "o3"),
        ("x-mini", "by-suffix"),
        ("qwen-coder-7b", "by-keyword"),
        ("claude-4", "by-regex"),
        ("gpt-exact", "by-list"),
        ("other-exact", "by-list"),
        ("gpt-named", "by-name"),
    ] {
        assert_eq!(served(&gateway, asked).await.1, served_as, "{asked}");
    }
    for unknown in ["claude-4x", "", "mini-", " gpt-5"] {
        ask(&gateway, unknown).await.refused(404, "model_not_found");
    }
}

#[tokio::test]
async fn a_base_url_may_have_a_path() {
    let upstream = upstream::chat("hello").await;
    let yaml = r#"
providers:
  - { name: sdk, kind: openai_compatible, base_url: "http://@up/openai/v1", health_check: { type: none } }
  - { name: root, kind: vllm, base_url: "http://@up/pool/", health_check: { type: none } }
  - { name: azure, kind: azure, base_url: "http://@up", api_version: "2024-10-21", api_keys: [azure-key], health_check: { type: none } }
models:
  - { name: a, targets: [{ provider: sdk }] }
  - { name: b, targets: [{ provider: root }] }
  - { name: c, targets: [{ provider: azure, model: dep }] }
"#;
    let gateway = gateway::with(yaml).up("up", &upstream).start().await;
    for (model, target) in [
        ("a", "/openai/v1/chat/completions"),
        ("b", "/pool/v1/chat/completions"),
        ("c", "/openai/deployments/dep/chat/completions?api-version=2024-10-21"),
    ] {
        ask(&gateway, model).await.ok();
        let calls = upstream.calls();
        let call = calls.iter().rev().find(|call| call.head.word(0) == "POST").unwrap();
        assert_eq!(call.target(), target, "{model}");
        if model == "c" {
            assert_eq!(call.header("api-key"), Some("azure-key"), "{call:?}");
            assert_eq!(call.header("authorization"), None, "{call:?}");
        }
    }
}

#[tokio::test]
async fn the_built_in_mock_serves_beside_the_others() {
    let yaml = "providers: [{ name: mock, kind: mock }]\nmodels: [{ name: m, targets: [{ provider: mock }] }]";
    let gateway = gateway::with(yaml).start().await;
    let reply = gateway.client().chat("hello").await;
    assert!(!reply.said().is_empty(), "{reply:?}");
    let streamed = gateway.client().stream("hello").await.rest().await.ok();
    assert!(!streamed.streamed().is_empty(), "{streamed:?}");
    assert!(streamed.text().ends_with("data: [DONE]\n\n"), "{streamed:?}");
}

#[tokio::test]
async fn what_a_rule_lets_through_is_listed_as_its_provider_lists_it() {
    let models = "models: [{ name: m, targets: [{ provider: two }] }, { match: { prefix: a- }, targets: [{ provider: one }] }]";
    let (a, b, gateway) = two(models).await;
    let list = |names: [&str; 2]| {
        let model = |name: &str| serde_json::json!({"id": name, "object": "model"});
        serde_json::json!({"object": "list", "data": names.map(model)}).to_string()
    };
    a.list_models(&list(["a-1", "b-1"]));
    b.list_models(&list(["a-2", "m"]));
    // They are asked again when the gateway starts anew.
    drop(gateway);
    let yaml = format!(
        "providers:\n  - {{ name: one, kind: vllm, base_url: \"http://@a\", health_check: {{ type: none }} }}\n  - {{ name: two, kind: vllm, base_url: \"http://@b\", health_check: {{ type: none }} }}\n{models}"
    );
    let gateway = gateway::with(&yaml).up("a", &a).up("b", &b).start().await;
    let ids = crate::support::eventually("the providers' lists", async || {
        let list = gateway.client().get("/v1/models").await.ok().json();
        let models = list["data"].as_array().unwrap().iter();
        let ids: Vec<String> = models.map(|one| one["id"].as_str().unwrap().to_owned()).collect();
        (ids.len() > 1).then_some(ids)
    })
    .await;
    assert_eq!(ids, ["m", "a-1"], "what would not reach its provider is listed");
}
