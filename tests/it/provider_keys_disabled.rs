//! Keys of the gateway's that a provider refuses, or that have nothing left to spend: they are left
//! out, tried again by one request at a time, and never the caller's concern.

use serde_json::{Value, json};

use crate::support::answer::{Answer, Ending, Gate};
use crate::support::client::{CHAT, chat_body, stream_body};
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Call, Upstream};
use crate::support::{eventually, until};

const KEYS: &str = r#"
providers:
  - { name: p, kind: vllm, base_url: "http://@up", health_check: { type: none }, ejection: off, api_keys: [canary-fake-key-1111, canary-fake-key-2222] }
models:
  - { name: m, targets: [{ provider: p }] }
  - { name: n, targets: [{ provider: p }] }
"#;
const FIRST: &str = "Bearer canary-fake-key-1111";
/// The first back-off is 200 ms.
const IMPATIENT: (&str, &str) = ("FAILPOINTS", "provider::back_off=return");

/// An error as OpenAI puts it.
fn refusal(status: u16, code: &str, message: &str) -> Answer {
    let error = json!({ "message": message, "type": code, "param": null, "code": code });
    Answer::json(status, &json!({ "error": error }))
}

fn quota() -> Answer {
    let told = "You exceeded your current quota, please check your plan and billing details.";
    refusal(429, "insufficient_quota", told)
}

fn by_key(first: Answer) -> impl Fn(&Call) -> Answer + Send + Sync + 'static {
    move |call| match call.header("authorization") {
        Some(FIRST) => first.clone(),
        _ => Answer::chat("well"),
    }
}

/// An upstream that treats the first key so, and the second well.
async fn treating(first: Answer) -> (Upstream, Gateway) {
    let upstream = upstream::with(by_key(first)).await;
    let (name, value) = IMPATIENT;
    let plan = gateway::with(KEYS).up("up", &upstream).env(name, value);
    (upstream, plan.start().await)
}

fn uses_of_first(upstream: &Upstream) -> usize {
    upstream.calls().iter().filter(|call| call.header("authorization") == Some(FIRST)).count()
}

/// What `/health/detailed` says of the keys.
async fn keys(gateway: &Gateway) -> Vec<Value> {
    gateway.health().await["providers"][0]["keys"].as_array().unwrap().clone()
}

async fn is_told(gateway: &Gateway, state: &str, reason: Option<&str>) {
    eventually(&format!("the first key is {state}"), async || {
        let first = keys(gateway).await[0].clone();
        (first["state"] == state && first["reason"].as_str() == reason).then_some(())
    })
    .await;
}

/// Chats until the first key has been disabled.
async fn disabled(answer: Answer, reason: &str) -> (Upstream, Gateway) {
    let upstream = upstream::with(by_key(answer)).await;
    let gateway = gateway::with(KEYS).up("up", &upstream).start().await;
    for _ in 0..12 {
        assert_eq!(gateway.client().chat("hi").await.said(), "well");
    }
    is_told(&gateway, "disabled", Some(reason)).await;
    (upstream, gateway)
}

#[tokio::test]
async fn a_key_is_disabled_for_what_the_provider_says_of_it() {
    let cases = [
        (refusal(401, "invalid_api_key", "Incorrect API key provided."), "refused"),
        (Answer::new(403, "text/html", "<html>no</html>"), "refused"),
        (refusal(401, "account_deactivated", "The account was deactivated."), "revoked"),
        (quota(), "quota"),
        (refusal(429, "billing_hard_limit_reached", "Hard limit."), "quota"),
        (refusal(429, "billing_not_active", "Not active."), "quota"),
        (refusal(402, "payment_required", "Pay."), "quota"),
        (refusal(400, "invalid_request_error", "Your credit balance is too low."), "quota"),
    ];
    for (answer, reason) in cases {
        let (upstream, gateway) = disabled(answer, reason).await;
        assert_eq!(uses_of_first(&upstream), 1, "{reason}");
        let all = keys(&gateway).await;
        assert_eq!(all[0]["hint"], "…1111", "{all:?}");
        assert!(all[0]["until"].as_str().is_some_and(|until| until.ends_with('Z')), "{all:?}");
        assert_eq!((&all[1]["state"], &all[1]["until"]), (&json!("in_use"), &Value::Null));
        gateway.counts(r#"forebay_provider_keys{provider="p",state="disabled"}"#, 1).await;
        gateway.counts(r#"forebay_provider_keys{provider="p",state="in_use"}"#, 1).await;
        gateway.counts(r#"forebay_key_cooldowns_total{provider="p"}"#, 1).await;
    }
}

#[tokio::test]
async fn words_that_break_off_or_come_in_pieces_are_judged_all_the_same() {
    let whole = refusal(429, "insufficient_quota", "No.");
    let crate::support::answer::Body::Whole(bytes) = whole.body.clone() else { unreachable!() };
    let (start, rest) = bytes.split_at(20);
    let pieces = [start.to_vec().into(), rest.to_vec().into()];
    let chunked =
        Answer { body: crate::support::answer::Body::Chunks(pieces.to_vec()), ..whole.clone() };
    let (upstream, _gateway) = disabled(chunked, "quota").await;
    assert_eq!(uses_of_first(&upstream), 1);
    let cut = refusal(401, "invalid_api_key", "Incorrect API key.").ending(Ending::Cut);
    let cut = Answer { body: crate::support::answer::Body::Chunks(vec!["{".into()]), ..cut };
    let (upstream, _gateway) = disabled(cut, "refused").await;
    assert_eq!(uses_of_first(&upstream), 1);
    let (upstream, _gateway) = disabled(Answer::new(401, "text/plain", ""), "refused").await;
    assert_eq!(uses_of_first(&upstream), 1);
}

#[tokio::test]
async fn a_disabled_key_is_tried_by_one_request_and_serves_again() {
    let (upstream, gateway) = treating(quota()).await;
    for _ in 0..4 {
        assert_eq!(gateway.client().chat("hi").await.said(), "well");
    }
    is_told(&gateway, "disabled", Some("quota")).await;
    assert_eq!(uses_of_first(&upstream), 1);
    // The one that tries it is held up; all others go elsewhere.
    let gate = Gate::closed();
    upstream.behave(by_key(quota().after(&gate)));
    let client = gateway.client();
    let mut held = tokio::task::JoinSet::new();
    eventually("a request tries the key", async || {
        let client = client.clone();
        held.spawn(async move { client.chat("hi").await.said() });
        (uses_of_first(&upstream) == 2).then_some(())
    })
    .await;
    is_told(&gateway, "probing", Some("quota")).await;
    for _ in 0..10 {
        assert_eq!(gateway.client().chat("hi").await.said(), "well");
    }
    assert_eq!(uses_of_first(&upstream), 2);
    gate.open();
    while let Some(said) = held.join_next().await {
        assert_eq!(said.unwrap(), "well", "a probe costs no request");
    }
    is_told(&gateway, "disabled", Some("quota")).await;
    // The account is topped up.
    upstream.behave(|_| Answer::chat("well"));
    eventually("the key is in use again", async || {
        gateway.client().chat("hi").await.ok();
        (keys(&gateway).await[0]["state"] == "in_use").then_some(())
    })
    .await;
    until("that is logged", || gateway.log().contains("key …1111 is in use again")).await;
}

#[tokio::test]
async fn a_request_that_cannot_go_elsewhere_tries_no_disabled_key() {
    let upstream = upstream::with(by_key(quota())).await;
    let yaml = format!("{KEYS}\nretry: {{ attempts: 1 }}\n");
    let (name, value) = IMPATIENT;
    let gateway = gateway::with(&yaml).up("up", &upstream).env(name, value).start().await;
    let mut refused = 0;
    eventually("the first key is due again", async || {
        refused += usize::from(gateway.client().chat("hi").await.status != 200);
        let until = keys(&gateway).await[0]["until"].as_str().map(str::to_owned)?;
        let until: jiff::Timestamp = until.parse().unwrap();
        (until < jiff::Timestamp::now()).then_some(())
    })
    .await;
    for _ in 0..10 {
        refused += usize::from(gateway.client().chat("hi").await.status != 200);
    }
    assert_eq!((refused, uses_of_first(&upstream)), (1, 1), "the one that found it out");
}

#[tokio::test]
async fn a_model_that_a_key_may_not_use_is_left_to_the_others() {
    let told = "Project `proj_x` does not have access to model `m`";
    let first = move |call: &Call| {
        let asked = call.json()["model"] == "m";
        if asked && call.header("authorization") == Some(FIRST) {
            return refusal(403, "model_not_found", told);
        }
        Answer::chat("well")
    };
    let upstream = upstream::with(first).await;
    let gateway = gateway::with(KEYS).up("up", &upstream).start().await;
    for model in ["m", "n"] {
        for _ in 0..8 {
            let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
            let reply = gateway.client().post(CHAT, body.to_string()).send().await;
            assert_eq!(reply.said(), "well");
        }
    }
    assert_eq!(uses_of_first(&upstream), 1 + 4);
    let first = keys(&gateway).await[0].clone();
    let told = (&first["state"], &first["reason"], &first["resting_models"]);
    assert_eq!(told, (&json!("resting"), &json!("model_refused"), &json!(1)), "{first}");
}

#[tokio::test]
async fn a_refusal_as_the_first_event_of_a_stream_disables_the_key() {
    let event = r#"data: {"error":{"message":"Quota.","type":"insufficient_quota","code":429}}"#;
    let events = Answer::events([format!("{event}\n\n")]);
    let upstream = upstream::with(move |call| match call.header("authorization") {
        Some(FIRST) => events.clone(),
        _ => Answer::words(&["well"], false),
    })
    .await;
    let gateway = gateway::with(KEYS).up("up", &upstream).start().await;
    for _ in 0..8 {
        let reply = gateway.client().post(CHAT, stream_body("hi").to_string()).send().await;
        assert!(reply.ok().text().contains("well"));
    }
    assert_eq!(uses_of_first(&upstream), 1);
    is_told(&gateway, "disabled", Some("quota")).await;
}

#[tokio::test]
async fn a_fault_of_ours_is_never_the_callers_401() {
    let answers = [
        refusal(401, "invalid_api_key", "Incorrect API key provided: canary-fake-key-1111."),
        refusal(401, "account_deactivated", "Deactivated: canary-fake-key-1111."),
        refusal(402, "payment_required", "Pay for canary-fake-key-1111."),
        refusal(403, "model_not_found", "No access to model `m` by canary-fake-key-1111."),
        refusal(403, "forbidden", "canary-fake-key-1111 is forbidden."),
        Answer::new(401, "text/html", "<html>canary-fake-key-1111</html>"),
        Answer::new(401, "text/plain", ""),
        Answer::error(401, "canary-fake-key-1111").ending(Ending::Cut),
        quota(),
        Answer::events([
            "data: {\"error\":{\"message\":\"canary-fake-key-1111\",\"code\":401}}\n\n",
        ]),
    ];
    let upstream = upstream::chat("well").await;
    let yaml = format!("{KEYS}\ndefault_provider: p\nretry: {{ budget: 100% }}\n");
    let plan = gateway::with(&yaml).up("up", &upstream).env("RUST_LOG", "trace");
    let gateway = plan.start().await;
    for answer in answers {
        upstream.behave(move |_| answer.clone());
        // The second time both keys are disabled already.
        for _ in 0..2 {
            for body in [chat_body("hi"), stream_body("hi")] {
                let reply = gateway.client().post(CHAT, body.to_string()).send().await;
                assert!(reply.status >= 500, "{reply:?}");
                assert!(!format!("{reply:?} {}", reply.text()).contains("canary"), "{reply:?}");
            }
            let reply = gateway.client().get("/v1/files").await;
            assert!(matches!(reply.status, 200 | 429 | 502), "{reply:?}");
        }
        upstream.behave(|_| Answer::chat("well"));
        for _ in 0..4 {
            assert_eq!(gateway.client().chat("hi").await.said(), "well", "the last resort helps");
        }
    }
    let health = gateway.health().await.to_string();
    let metrics = gateway.metrics().await;
    for (place, text) in [("log", gateway.log()), ("health", health), ("metrics", metrics)] {
        assert!(!text.contains("canary"), "a key in the {place}:\n{text}");
    }
}

#[tokio::test]
async fn what_a_prompt_is_refused_for_comes_back_as_it_is_and_rests_no_key() {
    let told = "Your chosen model requires moderation and your input was flagged.";
    let upstream = upstream::always(refusal(403, "moderation", told)).await;
    let gateway = gateway::with(KEYS).up("up", &upstream).start().await;
    let reply = gateway.client().chat("hi").await;
    assert_eq!((reply.status, &reply.json()["error"]["message"]), (403, &json!(told)));
    assert_eq!(upstream.count(), 1);
    assert!(keys(&gateway).await.iter().all(|key| key["state"] == "in_use"));
}

#[tokio::test]
async fn a_mistake_of_the_callers_comes_back_whole_however_long() {
    for size in [10, 100_000, 300_000] {
        let body = format!(r#"{{"error":{{"message":"{}"}}}}"#, "x".repeat(size));
        let upstream = upstream::always(Answer::new(400, "application/json", body.clone())).await;
        let gateway = gateway::with(KEYS).up("up", &upstream).start().await;
        let reply = gateway.client().chat("hi").await;
        assert_eq!(reply.status, 400);
        assert!(reply.text() == body, "{} of {}", reply.text().len(), body.len());
    }
}

#[tokio::test]
async fn a_disabled_key_stays_so_over_a_reload() {
    let (upstream, gateway) = disabled(quota(), "quota").await;
    gateway.configure(|yaml| yaml.replace("ejection: off", "ejection: off, headers: { X-A: b }"));
    assert!(gateway.reload().await);
    for _ in 0..8 {
        assert_eq!(gateway.client().chat("hi").await.said(), "well");
    }
    assert_eq!(uses_of_first(&upstream), 1);
    is_told(&gateway, "disabled", Some("quota")).await;
}
