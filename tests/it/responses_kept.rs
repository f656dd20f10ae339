//! Conversations that go on by `previous_response_id` where the provider speaks another dialect: what
//! was said is kept here, for its caller alone, for a while.

use serde_json::{Value, json};

use crate::support::answer::{Answer, DONE, content, delta};
use crate::support::client::{Client, Reply};
use crate::support::eventually;
use crate::support::gateway::{self, Gateway, Plan};
use crate::support::upstream::{self, Call, Upstream};

const PATH: &str = "/v1/responses";

const TWO_TENANTS: &str = r#"
providers:
  - { name: chat, kind: openai_compatible, dialect: openai_chat, base_url: "http://@chat", health_check: { type: none } }
  - { name: own, kind: openai, base_url: "http://@own/v1", health_check: { type: none } }
models:
  - { name: m, targets: [{ provider: chat, model: up }] }
  - { name: o, targets: [{ provider: own, model: gpt-up }] }
  - { name: both, targets: [{ provider: chat, model: up }, { provider: own, model: gpt-up, weight: 0 }] }
default_provider: own
keys:
  - { name: one, key: client-key-number-one }
  - { name: two, key: client-key-number-two }
"#;

struct House {
    chat: Upstream,
    own: Upstream,
    gateway: Gateway,
    one: Client,
    two: Client,
}

/// Answers chats in the form asked for, with as many words as it was told turns, and with an id of
/// its own.
fn turns(call: &Call) -> Answer {
    let body = call.json();
    let said = format!("turn {}", body["messages"].as_array().unwrap().len());
    let id = format!("chatcmpl-{}", call.index);
    if body["stream"] == true {
        let named = |event: String| event.replace("chatcmpl-1", &id);
        let events = [content(&said), finished()].map(named);
        return Answer::events(events.into_iter().chain([DONE.to_owned()]));
    }
    let message = json!({"role": "assistant", "content": said, "reasoning_content": "hm"});
    let choice = json!({"index": 0, "finish_reason": "stop", "message": message});
    let usage = json!({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10});
    Answer::json(200, &json!({"id": id, "model": "up", "choices": [choice], "usage": usage}))
}

/// The chunk that ends a choice.
fn finished() -> String {
    delta(&json!({})).replace("\"finish_reason\":null", "\"finish_reason\":\"stop\"")
}

/// `OpenAI` itself: makes a response of every call.
fn responses(call: &Call) -> Answer {
    Answer::json(200, &json!({"id": format!("resp_own{}", call.index), "output": []}))
}

async fn house() -> House {
    with("").await
}

async fn with(more: &str) -> House {
    let (chat, own) = (upstream::with(turns).await, upstream::with(responses).await);
    let plan: Plan = gateway::with(&format!("{TWO_TENANTS}{more}"));
    let gateway = plan.up("chat", &chat).up("own", &own).start().await;
    let client = gateway.client();
    let (one, two) = (client.key("client-key-number-one"), client.key("client-key-number-two"));
    House { chat, own, gateway, one, two }
}

async fn ask(client: &Client, body: &Value) -> Reply {
    client.post(PATH, body.to_string()).send().await
}

/// The response in an answer, streamed or not.
fn response(reply: Reply) -> Value {
    let reply = reply.ok();
    if reply.header("content-type") == Some("application/json") {
        return reply.json();
    }
    let text = reply.text();
    let last = text.rsplit("event: response.completed\ndata: ").next().unwrap();
    let last: Value = serde_json::from_str(last.lines().next().unwrap()).unwrap();
    last["response"].clone()
}

/// Begins a conversation; its response.
async fn begin(client: &Client, stream: bool) -> Value {
    response(ask(client, &json!({"model": "m", "input": "hi", "stream": stream})).await)
}

fn on_from(id: &Value) -> Value {
    json!({"model": "m", "input": "more", "previous_response_id": id})
}

/// The roles and texts that a chat provider was sent last.
fn heard(upstream: &Upstream) -> Vec<(String, String)> {
    let body = upstream.calls().last().unwrap().json();
    let text = |content: &Value| match content.as_str() {
        Some(text) => text.to_owned(),
        None => content[0]["text"].as_str().unwrap_or_default().to_owned(),
    };
    let turn =
        |message: &Value| (message["role"].as_str().unwrap().to_owned(), text(&message["content"]));
    body["messages"].as_array().unwrap().iter().map(turn).collect()
}

fn turn(role: &str, text: &str) -> (String, String) {
    (role.to_owned(), text.to_owned())
}

#[tokio::test]
async fn a_conversation_goes_on_where_it_was_kept() {
    let house = house().await;
    for stream in [false, true] {
        let first = begin(&house.one, stream).await;
        assert_eq!(first["store"], true, "{first}");
        let mut next = on_from(&first["id"]);
        next["stream"] = json!(stream);
        next["instructions"] = json!("Be brief.");
        let second = response(ask(&house.one, &next).await);
        assert_eq!(second["previous_response_id"], first["id"], "{second}");
        assert_ne!(second["id"], first["id"]);
        let (hi, more) = (turn("user", "hi"), turn("user", "more"));
        let brief = turn("system", "Be brief.");
        let expected = [brief, hi.clone(), turn("assistant", "turn 1"), more.clone()];
        assert_eq!(heard(&house.chat), expected);
        // Instructions were for one call; all that was said goes on.
        let third = response(ask(&house.one, &on_from(&second["id"])).await);
        assert_eq!(third["status"], "completed");
        let expected =
            [hi, turn("assistant", "turn 1"), more.clone(), turn("assistant", "turn 4"), more];
        assert_eq!(heard(&house.chat), expected);
    }
}

#[tokio::test]
async fn a_tools_result_goes_on_from_its_call() {
    let house = house().await;
    house.chat.behave(|call| {
        if call.json()["messages"].as_array().unwrap().len() > 1 {
            return turns(call);
        }
        let function = json!({"name": "f", "arguments": "{\"a\":1}"});
        let calls = json!([{"id": "call_1", "type": "function", "function": function}]);
        let message = json!({"role": "assistant", "content": null, "tool_calls": calls});
        let choice = json!({"index": 0, "finish_reason": "tool_calls", "message": message});
        Answer::json(200, &json!({"id": "chatcmpl-x", "model": "up", "choices": [choice]}))
    });
    let tool = json!({"type": "function", "name": "f", "parameters": {"type": "object"}});
    let first = json!({"model": "m", "input": "hi", "tools": [tool]});
    let first = response(ask(&house.one, &first).await);
    let result = json!([{"type": "function_call_output", "call_id": "call_1", "output": "7"}]);
    let next = json!({"model": "m", "input": result, "tools": [tool], "previous_response_id": first["id"]});
    response(ask(&house.one, &next).await);
    let body = house.chat.calls().last().unwrap().json();
    let messages = body["messages"].as_array().unwrap();
    assert_eq!(messages[1]["tool_calls"][0]["id"], "call_1", "{body}");
    assert_eq!(messages[2]["tool_call_id"], "call_1", "{body}");
}

#[tokio::test]
async fn what_is_kept_is_its_callers_alone() {
    let house = house().await;
    let first = begin(&house.one, false).await;
    let calls = [house.chat.count(), house.own.count()];
    let refused = ask(&house.two, &on_from(&first["id"])).await;
    let error = refused.refused(404, "previous_response_not_found");
    assert_eq!(error["param"], "previous_response_id");
    let both = json!({"model": "both", "input": "x", "previous_response_id": first["id"]});
    ask(&house.two, &both).await.refused(404, "previous_response_not_found");
    let path = format!("{PATH}/{}", first["id"].as_str().unwrap());
    for (method, path) in [
        ("GET", path.clone()),
        ("DELETE", path.clone()),
        ("GET", format!("{path}/input_items")),
        ("POST", format!("{path}/cancel")),
    ] {
        let reply = house.two.request(method, &path).send().await;
        reply.refused(404, "not_found");
    }
    assert_eq!([house.chat.count(), house.own.count()], calls);
    ask(&house.one, &on_from(&first["id"])).await.ok();
}

#[tokio::test]
async fn what_is_not_kept_cannot_be_gone_on_from() {
    let house = house().await;
    let unknown = on_from(&json!("resp_of_long_ago"));
    let error = ask(&house.one, &unknown).await.refused(404, "previous_response_not_found");
    assert_eq!(error["type"], "invalid_request_error", "{error}");
    let once = json!({"model": "m", "input": "hi", "store": false});
    let once = response(ask(&house.one, &once).await);
    assert_eq!(once["store"], false);
    ask(&house.one, &on_from(&once["id"])).await.refused(404, "previous_response_not_found");
    let count = json!({"model": "m", "input": "hi", "previous_response_id": "resp_of_long_ago"});
    let counted = house.one.post("/v1/responses/input_tokens", count.to_string()).send().await;
    counted.refused(404, "previous_response_not_found");
    assert_eq!(house.chat.count(), 1);
    // What broke off is no response.
    house.chat.behave(|_| Answer::events([content("half")]));
    let broken = ask(&house.one, &json!({"model": "m", "input": "hi", "stream": true})).await;
    let text = broken.text();
    let id = text.split("\"id\":\"resp_").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let next = on_from(&json!(format!("resp_{id}")));
    ask(&house.one, &next).await.refused(404, "previous_response_not_found");
}

#[tokio::test]
async fn a_kept_response_can_be_asked_for_and_deleted() {
    let house = house().await;
    for stream in [false, true] {
        let first = begin(&house.one, stream).await;
        let id = first["id"].as_str().unwrap().to_owned();
        let path = format!("{PATH}/{id}");
        assert_eq!(house.one.get(&path).await.ok().json(), first);
        let input = json!([{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]);
        let second = json!({"model": "m", "input": input, "previous_response_id": id});
        let second = response(ask(&house.one, &second).await);
        let items = format!("{PATH}/{}/input_items", second["id"].as_str().unwrap());
        let list = house.one.get(&items).await.ok().json();
        let texts = |list: &Value| -> Vec<String> {
            let items = list["data"].as_array().unwrap().iter();
            items.map(|item| item["content"][0]["text"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(texts(&list), ["b", "a"], "the last one first");
        assert_eq!((&list["has_more"], &list["first_id"]), (&json!(false), &list["data"][0]["id"]));
        let page = house.one.get(&format!("{items}?order=asc&limit=1")).await.ok().json();
        assert_eq!((texts(&page), &page["has_more"]), (vec!["a".to_owned()], &json!(true)));
        let after = page["last_id"].as_str().unwrap();
        let rest = house.one.get(&format!("{items}?order=asc&after={after}")).await.ok().json();
        assert_eq!(texts(&rest), ["b"]);
        house.one.get(&format!("{items}?limit=0")).await.refused(400, "invalid_request");
        let cancelled = house.one.post(&format!("{path}/cancel"), "").send().await;
        cancelled.refused(400, "invalid_request");
        let deleted = house.one.request("DELETE", &path).send().await.ok().json();
        assert_eq!(deleted, json!({"id": id, "object": "response", "deleted": true}));
        ask(&house.one, &on_from(&first["id"])).await.refused(404, "previous_response_not_found");
        // What went on from it has all of it.
        ask(&house.one, &on_from(&second["id"])).await.ok();
        let heard = heard(&house.chat);
        assert_eq!((&heard[0], &heard[1].0), (&turn("user", "hi"), &"assistant".to_owned()));
        assert_eq!(house.own.count(), usize::from(stream));
        // Nobody here knows it now: the provider for such requests is asked.
        house.one.get(&path).await.ok();
    }
}

#[tokio::test]
async fn a_conversation_goes_on_at_a_provider_of_the_callers_own_dialect() {
    let house = house().await;
    let first = begin(&house.one, false).await;
    assert_eq!(first["output"][0]["type"], "reasoning", "{first}");
    let next =
        json!({"model": "o", "input": "more", "previous_response_id": first["id"], "x": 1.50});
    ask(&house.one, &next).await.ok();
    let sent = house.own.call().json();
    let kinds: Vec<&str> =
        sent["input"].as_array().unwrap().iter().map(|it| it["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["message", "message", "message"], "reasoning of others is left out: {sent}");
    assert_eq!(sent["input"][1]["content"][0]["text"], "turn 1");
    assert_eq!((&sent["model"], sent.get("previous_response_id")), (&json!("gpt-up"), None));
    // A caller that keeps the items itself brings back what nobody there can read.
    let sealed = json!({"type": "reasoning", "summary": [], "encrypted_content": "gw1:eyJ9"});
    let says = json!({"role": "user", "content": "hi"});
    let next = json!({"model": "o", "input": [sealed, says]});
    ask(&house.one, &next).await.ok();
    let sent = house.own.calls().last().unwrap().json();
    assert_eq!(sent, json!({"model": "gpt-up", "input": [says]}));
}

#[tokio::test]
async fn what_is_unknown_here_is_asked_only_of_those_who_may_have_made_it() {
    let house = house().await;
    let body = r#"{"model":"both", "previous_response_id" : "resp_of_before", "input":"x"}"#;
    house.one.post(PATH, body).send().await.ok();
    assert_eq!(house.own.call().text(), body.replace("both", "gpt-up"));
    assert_eq!(house.chat.count(), 0);
    // What was made there is known by its maker, and goes there again.
    let next = body.replace("resp_of_before", "resp_own0");
    house.one.post(PATH, next.clone()).send().await.ok();
    assert_eq!(house.two.post(PATH, next).send().await.status, 404);
    assert_eq!((house.own.count(), house.chat.count()), (2, 0));
}

#[tokio::test]
async fn earlier_turns_count_as_tokens() {
    let house = house().await;
    let long = json!({"model": "m", "input": "word ".repeat(1000)});
    let first = response(ask(&house.one, &long).await);
    let count = async |body: Value| {
        let reply = house.one.post("/v1/responses/input_tokens", body.to_string()).send().await;
        reply.ok().json()["input_tokens"].as_u64().unwrap()
    };
    let alone = count(json!({"model": "m", "input": "more"})).await;
    let with = count(on_from(&first["id"])).await;
    assert!(with > alone + 500, "{with} {alone}");
}

#[tokio::test]
async fn nothing_is_kept_where_that_is_switched_off_or_privacy_is_strict() {
    for more in ["responses: { store: off }\n", "privacy: strict\n"] {
        let house = with(more).await;
        for stream in [false, true] {
            let first = begin(&house.one, stream).await;
            assert_eq!(first["store"], false, "{first}");
            let refused = ask(&house.one, &on_from(&first["id"])).await;
            refused.refused(400, "unsupported_parameter");
        }
        assert_eq!(house.chat.count(), 2);
    }
}

#[tokio::test]
async fn what_is_kept_is_kept_for_its_time() {
    let house = with("responses: { keep: 1s }\n").await;
    let first = begin(&house.one, false).await;
    ask(&house.one, &on_from(&first["id"])).await.ok();
    eventually("its time is over", async || {
        let reply = ask(&house.one, &on_from(&first["id"])).await;
        (reply.status == 404).then_some(())
    })
    .await;
    // A reload that switches it off forgets what there was.
    let second = begin(&house.one, false).await;
    house.gateway.configure(|yaml| yaml.replace("keep: 1s", "store: off"));
    assert!(house.gateway.reload().await);
    let refused = ask(&house.one, &on_from(&second["id"])).await;
    refused.refused(400, "unsupported_parameter");
}

#[tokio::test]
async fn what_is_kept_is_bounded_by_bytes() {
    let house = with("responses: { memory: 64KiB }\n").await;
    let large = json!({"model": "m", "input": "x".repeat(20 << 10)});
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(response(ask(&house.one, &large).await)["id"].clone());
    }
    ask(&house.one, &on_from(&ids[0])).await.refused(404, "previous_response_not_found");
    ask(&house.one, &on_from(&ids[3])).await.ok();
    // One that would not fit is answered, and not kept; nor does it take from what is.
    let huge = json!({"model": "m", "input": "x".repeat(80 << 10)});
    let huge = response(ask(&house.one, &huge).await);
    ask(&house.one, &on_from(&huge["id"])).await.refused(404, "previous_response_not_found");
    ask(&house.one, &on_from(&ids[3])).await.ok();
}

#[tokio::test]
async fn a_conversation_is_not_longer_than_a_body_may_be() {
    let house = with("limits: { body: 64KiB }\n").await;
    let large = json!({"model": "m", "input": "x".repeat(40 << 10)});
    let first = response(ask(&house.one, &large).await);
    let next =
        json!({"model": "m", "input": "y".repeat(40 << 10), "previous_response_id": first["id"]});
    ask(&house.one, &next).await.refused(413, "request_too_large");
    ask(&house.one, &on_from(&first["id"])).await.ok();
    house.gateway.counts("forebay_buffered_bytes", 0).await;
}
