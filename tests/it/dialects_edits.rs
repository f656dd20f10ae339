//! What the operator changes on purpose, in requests and answers that cross from one dialect to another.

use serde_json::{Value, json};

use crate::support::answer::Answer;
use crate::support::dialects::{ALL, Dialect};
use crate::support::matrix::Matrix;
use crate::support::upstream::Call;
use Dialect::{Bedrock, Chat, Gemini, Messages, Responses};

/// Where each dialect has the most tokens an answer may have.
fn cap(dialect: Dialect) -> &'static str {
    match dialect {
        Chat | Messages => "/max_tokens",
        Responses => "/max_output_tokens",
        Gemini => "/generationConfig/maxOutputTokens",
        Bedrock => "/inferenceConfig/maxTokens",
    }
}

/// Where a client of each dialect says so.
fn asks_for(client: Dialect, body: &mut Value, tokens: Option<u64>) {
    let (parent, name) = match client {
        Chat => (body, "max_completion_tokens"),
        Responses => (body, "max_output_tokens"),
        Messages => (body, "max_tokens"),
        Gemini => (&mut body["generationConfig"], "maxOutputTokens"),
        Bedrock => (&mut body["inferenceConfig"], "maxTokens"),
    };
    match tokens {
        Some(tokens) => parent[name] = json!(tokens),
        None => drop(parent.as_object_mut().unwrap().remove(name)),
    }
}

/// Where each dialect has the texts an answer ends before; Responses has none.
fn stops(dialect: Dialect) -> Option<&'static str> {
    Some(match dialect {
        Chat => "/stop",
        Responses => return None,
        Messages => "/stop_sequences",
        Gemini => "/generationConfig/stopSequences",
        Bedrock => "/inferenceConfig/stopSequences",
    })
}

async fn sent(
    matrix: &Matrix,
    client: Dialect,
    provider: Dialect,
    change: impl FnOnce(&mut Value),
) -> Value {
    let request = client.ask_with(&matrix.gateway.client(), provider.name(), false, change);
    request.send().await.ok();
    matrix.last(provider).json()
}

#[tokio::test]
async fn a_cap_holds_whoever_asks_whomever() {
    let matrix = Matrix::of("request: { max_tokens: 100 }", "").await;
    for client in ALL {
        for provider in ALL {
            let pair = format!("{client:?} to {provider:?}");
            for (asked, expected) in [(Some(5000), 100), (Some(50), 50), (None, 100)] {
                // Anthropic's own requests have one always.
                if asked.is_none() && client == Messages {
                    continue;
                }
                let change = |body: &mut Value| asks_for(client, body, asked);
                let body = sent(&matrix, client, provider, change).await;
                let native = client == Chat && provider == Chat && asked.is_some();
                let place = if native { "/max_completion_tokens" } else { cap(provider) };
                assert_eq!(body.pointer(place), Some(&json!(expected)), "{pair}: {body}");
            }
        }
    }
}

#[tokio::test]
async fn stops_are_put_before_the_clients_own() {
    let matrix = Matrix::of(r#"request: { stop: ["</s>"] }"#, "").await;
    for client in ALL {
        let Some(own) = stops(client) else { continue };
        for provider in ALL {
            let Some(place) = stops(provider) else { continue };
            let change = |body: &mut Value| {
                let (parent, name) = own.rsplit_once('/').unwrap();
                body.pointer_mut(parent).unwrap()[name] = json!(["END"]);
            };
            let body = sent(&matrix, client, provider, change).await;
            let told = body.pointer(place);
            assert_eq!(told, Some(&json!(["</s>", "END"])), "{client:?} to {provider:?}: {body}");
        }
    }
}

#[tokio::test]
async fn extra_members_are_added_where_the_request_has_none() {
    let extra = "request: { extra_body: { future_member: { a: 1 } } }";
    let matrix = Matrix::of(extra, "").await;
    for client in ALL {
        for provider in ALL {
            let body = sent(&matrix, client, provider, |_| {}).await;
            let added = &body["future_member"];
            assert_eq!(added, &json!({"a": 1}), "{client:?} to {provider:?}: {body}");
        }
        let own = |body: &mut Value| body["future_member"] = json!(2);
        let body = sent(&matrix, client, client, own).await;
        assert_eq!(body["future_member"], 2, "{client:?}: {body}");
    }
}

#[tokio::test]
async fn thinking_of_earlier_turns_is_stripped() {
    let matrix = Matrix::of("request: { thinking_history: strip }", "").await;
    let history = |client: Dialect| {
        move |body: &mut Value| match client {
            Messages => {
                body["messages"] = json!([{"role": "user", "content": "a"},
                    {"role": "assistant", "content": [
                        {"type": "thinking", "thinking": "secretly", "signature": "c2ln"},
                        {"type": "text", "text": "openly"}]},
                    {"role": "user", "content": "b"}]);
            }
            Gemini => {
                body["contents"] = json!([{"role": "user", "parts": [{"text": "a"}]},
                    {"role": "model", "parts": [{"text": "secretly", "thought": true},
                        {"text": "openly"}]},
                    {"role": "user", "parts": [{"text": "b"}]}]);
            }
            Bedrock => {
                body["messages"] = json!([{"role": "user", "content": [{"text": "a"}]},
                    {"role": "assistant", "content": [
                        {"reasoningContent": {"reasoningText": {"text": "secretly"}}},
                        {"text": "openly"}]},
                    {"role": "user", "content": [{"text": "b"}]}]);
            }
            _ => {
                body["messages"] = json!([{"role": "user", "content": "a"},
                    {"role": "assistant", "content": "<think>secretly</think>openly"},
                    {"role": "user", "content": "b"}]);
            }
        }
    };
    for client in [Chat, Messages, Gemini, Bedrock] {
        for provider in ALL.into_iter().filter(|it| client == Chat || *it != client) {
            let body = sent(&matrix, client, provider, history(client)).await.to_string();
            assert!(!body.contains("secretly"), "{client:?} to {provider:?}: {body}");
            assert!(body.contains("openly"), "{client:?} to {provider:?}: {body}");
        }
    }
}

#[tokio::test]
async fn a_chats_answer_begins_with_the_prefix_whoever_gave_it() {
    let matrix = Matrix::of(r#"response: { prefix: "Well: " }"#, "").await;
    for provider in ALL {
        for stream in [false, true] {
            let request = Chat.ask(&matrix.gateway.client(), provider.name(), stream);
            let reply = request.send().await.ok();
            let told = if stream { Chat.read_stream(&reply) } else { Chat.read(&reply) };
            assert_eq!(told.text, "Well: one two", "{provider:?}: {reply:?}");
            assert!(told.ended, "{provider:?}: {reply:?}");
        }
    }
}

// === thinking ===

/// "deep", and then "so".
fn thinks(provider: Dialect, call: &Call) -> Answer {
    let stream = crate::support::matrix::streams(call);
    let event = |event: Value| format!("data: {event}\n\n");
    let named =
        |event: Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    match (provider, stream) {
        (Messages, false) => Answer::json(
            200,
            &json!({"id": "msg_1", "type": "message",
            "role": "assistant", "model": "up", "stop_reason": "end_turn", "content": [
                {"type": "thinking", "thinking": "deep", "signature": "c2ln"},
                {"type": "text", "text": "so"}],
            "usage": {"input_tokens": 1, "output_tokens": 2}}),
        ),
        (Messages, true) => Answer::events([
            named(json!({"type": "message_start", "message": {"id": "msg_1", "type": "message",
                "role": "assistant", "model": "up", "content": [],
                "usage": {"input_tokens": 1, "output_tokens": 1}}})),
            named(json!({"type": "content_block_start", "index": 0,
                "content_block": {"type": "thinking", "thinking": "", "signature": ""}})),
            named(json!({"type": "content_block_delta", "index": 0,
                "delta": {"type": "thinking_delta", "thinking": "deep"}})),
            named(json!({"type": "content_block_delta", "index": 0,
                "delta": {"type": "signature_delta", "signature": "c2ln"}})),
            named(json!({"type": "content_block_stop", "index": 0})),
            named(json!({"type": "content_block_start", "index": 1,
                "content_block": {"type": "text", "text": ""}})),
            named(json!({"type": "content_block_delta", "index": 1,
                "delta": {"type": "text_delta", "text": "so"}})),
            named(json!({"type": "content_block_stop", "index": 1})),
            named(json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"},
                "usage": {"output_tokens": 2}})),
            named(json!({"type": "message_stop"})),
        ]),
        (Gemini, false) => Answer::json(
            200,
            &json!({"candidates": [{"finishReason": "STOP",
            "content": {"role": "model", "parts": [{"text": "deep", "thought": true},
                {"text": "so"}]}}]}),
        ),
        (Gemini, true) => Answer::events([
            event(json!({"candidates": [{"content": {"role": "model",
                "parts": [{"text": "deep", "thought": true}]}}]})),
            event(json!({"candidates": [{"content": {"role": "model",
                "parts": [{"text": "so"}]}, "finishReason": "STOP"}]})),
        ]),
        _ => panic!("{provider:?} does not think here"),
    }
}

/// The content of a chat's answer, and what of thinking stands in which member.
fn thought(body: &str, stream: bool) -> (String, Value) {
    let events: Vec<Value> = if stream {
        let data = body.lines().filter_map(|line| line.strip_prefix("data: "));
        data.filter_map(|data| serde_json::from_str(data).ok()).collect()
    } else {
        vec![serde_json::from_str(body).unwrap()]
    };
    let (mut content, mut thinking) = (String::new(), json!({}));
    for event in events {
        let choice = &event["choices"][0];
        let message = choice.get("message").unwrap_or(&choice["delta"]);
        content += message["content"].as_str().unwrap_or_default();
        for name in ["reasoning", "reasoning_content"] {
            if let Some(text) = message[name].as_str() {
                let so_far = thinking[name].as_str().unwrap_or_default().to_owned();
                thinking[name] = json!(so_far + text);
            }
        }
    }
    (content, thinking)
}

#[tokio::test]
async fn thinking_is_shown_to_a_chat_as_the_operator_says() {
    for (thinking, content, member) in [
        ("strip", "so", json!({})),
        ("tag", "<think>deep</think>so", json!({})),
        ("reasoning", "so", json!({"reasoning": "deep"})),
        ("reasoning_content", "so", json!({"reasoning_content": "deep"})),
    ] {
        let matrix = Matrix::of(&format!("response: {{ thinking: {thinking} }}"), "").await;
        for provider in [Messages, Gemini] {
            matrix.upstream(provider).behave(move |call| thinks(provider, call));
            for stream in [false, true] {
                let about = format!("{thinking} from {provider:?}, {stream}");
                let request = Chat.ask(&matrix.gateway.client(), provider.name(), stream);
                let reply = request.send().await.ok();
                let told = thought(&reply.text(), stream);
                let written = told.0.replace('\n', "");
                assert_eq!((written.as_str(), &told.1), (content, &member), "{about}: {reply:?}");
            }
        }
    }
}
