//! Files, batches, responses: each goes back to where it was made, and to its maker only.

use serde_json::json;

use crate::support::answer::Answer;
use crate::support::client::{Client, Reply};
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Call, Upstream};

const TWO_TENANTS: &str = r#"
providers:
  - { name: one, kind: vllm, base_url: "http://@a", health_check: { type: none }, api_keys: [key-of-one-1, key-of-one-2] }
  - { name: two, kind: vllm, base_url: "http://@b", health_check: { type: none } }
models:
  - { name: m, targets: [{ provider: two }] }
default_provider: one
keys:
  - { name: maker, key: client-key-of-the-maker }
  - { name: other, key: client-key-of-another }
"#;

/// Makes an object of every call: its id says what, and where.
fn maker(place: &'static str) -> impl Fn(&Call) -> Answer + Send + Sync + 'static {
    move |call| {
        let kind = call.target().split(['/', '?']).nth(2).unwrap_or_default().to_owned();
        let made = json!({"id": format!("{kind}_{place}_{}", call.index), "object": kind});
        if call.json_body().is_some_and(|body| body["stream"] == true) {
            let created = json!({"type": "response.created", "response": made});
            let done = json!({"type": "response.completed", "response": made});
            return Answer::events(
                [created, done].map(|data| format!("event: x\ndata: {data}\n\n")),
            );
        }
        Answer::json(200, &made)
    }
}

async fn two_tenants() -> (Upstream, Upstream, Gateway) {
    let (a, b) = (upstream::with(maker("a")).await, upstream::with(maker("b")).await);
    let gateway = gateway::with(TWO_TENANTS).up("a", &a).up("b", &b).start().await;
    (a, b, gateway)
}

fn callers(gateway: &Gateway) -> (Client, Client) {
    let client = gateway.client();
    (client.key("client-key-of-the-maker"), client.key("client-key-of-another"))
}

fn made(reply: Reply) -> String {
    reply.ok().json()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_object_goes_to_its_maker_and_to_nobody_else() {
    let (a, _b, gateway) = two_tenants().await;
    let (maker, other) = callers(&gateway);
    let id = made(maker.post("/v1/files", "{}").send().await);
    maker.get(&format!("/v1/files/{id}")).await.ok();
    maker.get(&format!("/v1/files/{id}/content")).await.ok();
    let before = a.count();
    for target in [
        format!("/v1/files/{id}"),
        format!("/v1/files/{id}?x=1"),
        format!("/v1/files/{id}/"),
        format!("/v1/files/{id}/content"),
        format!("/v1/threads/{id}/runs"),
    ] {
        for method in ["GET", "DELETE", "POST"] {
            let reply = other.request(method, &target).send().await;
            assert_eq!(reply.status, 404, "{method} {target}: {reply:?}");
        }
    }
    assert_eq!(a.count(), before, "{:?}", a.calls().last());
}

#[tokio::test]
async fn an_object_cannot_be_reached_by_another_spelling() {
    let (a, _b, gateway) = two_tenants().await;
    let (maker, other) = callers(&gateway);
    let id = made(maker.post("/v1/files", "{}").send().await);
    let before = a.count();
    let spelled = [
        id.replacen('f', "%66", 1),
        id.replacen('_', "%5F", 1),
        id.replacen('_', "%5f", 1),
        id.bytes().map(|byte| format!("%{byte:02x}")).collect::<Vec<_>>().concat(),
    ];
    for spelling in spelled {
        let reply = other.get(&format!("/v1/files/{spelling}")).await;
        assert!(matches!(reply.status, 400 | 404), "{spelling}: {reply:?}");
    }
    assert_eq!(a.count(), before, "{:?}", a.calls().last());
}

#[tokio::test]
async fn an_object_goes_back_with_the_key_that_made_it() {
    let (a, _b, gateway) = two_tenants().await;
    let (maker, _other) = callers(&gateway);
    for _ in 0..3 {
        let index = a.count();
        let id = made(maker.post("/v1/batches", "{}").send().await);
        for _ in 0..4 {
            maker.get(&format!("/v1/batches/{id}")).await.ok();
        }
        let key = |call: &Call| call.header("authorization").map(str::to_owned);
        let keys: Vec<_> = a.calls()[index..].iter().map(|call| key(call)).collect();
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    }
}

#[tokio::test]
async fn a_response_is_found_where_its_model_is_served() {
    let (a, b, gateway) = two_tenants().await;
    let (maker, other) = callers(&gateway);
    let plain = maker.post("/v1/responses", r#"{"model":"m","input":"hi"}"#).send().await;
    let id = made(plain);
    let body = r#"{"model":"m","input":"hi","stream":true}"#;
    let streamed = maker.post("/v1/responses", body).send().await.ok();
    let streamed = streamed.text().split("\"id\":\"").nth(1).unwrap().to_owned();
    let streamed = streamed.split('"').next().unwrap().to_owned();
    for id in [id, streamed] {
        maker.get(&format!("/v1/responses/{id}")).await.ok();
        let last = b.calls().last().unwrap().clone();
        assert_eq!(last.target(), format!("/v1/responses/{id}"), "{last:?}");
        other.get(&format!("/v1/responses/{id}")).await.refused(404, "not_found");
        let follow = json!({"model": "m", "input": "more", "previous_response_id": id});
        maker.post("/v1/responses", follow.to_string()).send().await.ok();
        let refused = other.post("/v1/responses", follow.to_string()).send().await;
        assert_eq!(refused.status, 404, "{refused:?}");
    }
    assert_eq!(a.count(), 0, "{:?}", a.calls());
}

#[tokio::test]
async fn an_object_named_within_a_request_is_its_makers_only() {
    let (a, b, gateway) = two_tenants().await;
    let (maker, other) = callers(&gateway);
    let id = made(maker.post("/v1/files", "{}").send().await);
    let file = json!({"type": "input_file", "file_id": id});
    let chat = json!({"type": "file", "file": {"file_id": id}});
    let calls = [a.count(), b.count()];
    for (path, body) in [
        ("/v1/batches", json!({"input_file_id": id, "endpoint": "/v1/responses"})),
        ("/v1/fine_tuning/jobs", json!({"training_file": id, "model": "m"})),
        ("/v1/responses", json!({"model": "m", "input": [{"role": "user", "content": [file]}]})),
        (
            "/v1/chat/completions",
            json!({"model": "m", "messages": [{"role": "user", "content": [chat]}]}),
        ),
        ("/v1/vector_stores", json!({"file_ids": [id]})),
        ("/v1/threads", json!({"tool_resources": {"code_interpreter": {"file_ids": [id]}}})),
    ] {
        let reply = other.post(path, body.to_string()).send().await;
        assert_eq!(reply.status, 404, "{path} {body}: {reply:?}");
    }
    assert_eq!([a.count(), b.count()], calls);
}

#[tokio::test]
async fn an_object_nobody_knows_is_asked_for_at_the_default_provider() {
    let (a, _b, gateway) = two_tenants().await;
    let (_maker, other) = callers(&gateway);
    other.get("/v1/files/file-of-old").await.ok();
    assert_eq!(a.call().target(), "/v1/files/file-of-old");
}

#[tokio::test]
async fn an_object_is_its_makers_from_the_moment_it_is_told_of() {
    let (a, _b, gateway) = two_tenants().await;
    let (maker, other) = callers(&gateway);
    let (mut makers, mut others) = (maker.connect().await, other.connect().await);
    let make = maker.post("/v1/files", "{}");
    for turn in 0..100 {
        // Asked for with the very next packet, over a connection that is open already.
        let id = made(make.over(&mut makers).await);
        let stolen = other.request("GET", &format!("/v1/files/{id}")).over(&mut others).await;
        assert_eq!(stolen.status, 404, "object {turn}: {stolen:?}");
    }
    assert_eq!(a.count(), 100);
}

#[tokio::test]
async fn a_response_points_only_at_what_is_its_callers() {
    let (_a, b, gateway) = two_tenants().await;
    let (maker, other) = callers(&gateway);
    let ask = json!({"model": "m", "input": "hi"}).to_string();
    let id = made(maker.post("/v1/responses", ask).send().await);
    let before = b.count();
    for named in [
        json!({"input": [{"role": "user", "content": "x"}, {"type": "item_reference", "id": id}]}),
        json!({"input": [{"id": id}]}),
        json!({"input": "x", "prompt": {"id": id, "version": "2"}}),
    ] {
        let mut body = named.clone();
        body["model"] = json!("m");
        let body = body.to_string();
        let reply = other.post("/v1/responses", body.clone()).send().await;
        assert_eq!(reply.status, 404, "{named}: {reply:?}");
        maker.post("/v1/responses", body).send().await.ok();
    }
    assert_eq!(b.count(), before + 3);
    // An item that is all here has whatever id its client gave it.
    let whole = json!({"model": "m", "input": [{"type": "message", "role": "user", "id": id,
        "content": "x"}]});
    other.post("/v1/responses", whole.to_string()).send().await.ok();
}
