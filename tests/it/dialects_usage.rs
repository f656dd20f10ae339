//! What an answer took, as the accounts have it: what the provider said, in one way of counting, where
//! cached tokens are part of the prompt and reasoning is part of the answer.

use serde_json::{Value, json};

use crate::support::answer::Answer;
use crate::support::dialects::{ALL, Dialect, USAGE};
use crate::support::gateway::Gateway;
use crate::support::matrix::{matrix, only};
use crate::support::upstream;
use crate::support::vault::{limit, me};
use Dialect::{Bedrock, Chat, Gemini, Messages};

const KINDS: [&str; 4] = ["prompt", "completion", "cached", "reasoning"];

async fn counts(gateway: &Gateway, model: &str, provider: &str, expected: [u64; 4]) {
    for (kind, tokens) in KINDS.iter().zip(expected) {
        let labels = format!(r#"model="{model}",provider="{provider}",type="{kind}""#);
        gateway.counts(&format!("forebay_tokens_total{{{labels}}}"), tokens).await;
    }
}

#[tokio::test]
async fn what_the_provider_said_is_counted_whoever_asked() {
    let matrix = matrix().await;
    for provider in ALL {
        let mut calls = 0;
        for client in ALL {
            for stream in [false, true] {
                let name = provider.name();
                client.ask(&matrix.gateway.client(), name, stream).send().await.ok();
                calls += 1;
                let total = provider.told_usage().map(|tokens| tokens * calls);
                counts(&matrix.gateway, name, name, total).await;
            }
        }
    }
}

#[tokio::test]
async fn what_the_provider_said_is_told_to_the_client() {
    let matrix = matrix().await;
    for provider in ALL {
        for client in ALL.into_iter().filter(|client| *client != provider) {
            for stream in [false, true] {
                let pair = format!("{client:?} from {provider:?}, {stream}");
                let request = client.ask(&matrix.gateway.client(), provider.name(), stream);
                let reply = request.send().await.ok();
                let told = if stream { client.read_stream(&reply) } else { client.read(&reply) };
                let usage = told.usage.unwrap_or_else(|| panic!("{pair}: {reply:?}"));
                let [prompt, completion, cached, mut reasoning] = provider.told_usage();
                // Amazon has no word for it.
                if client == Bedrock {
                    reasoning = 0;
                }
                assert_eq!(usage, [prompt, completion, cached, reasoning], "{pair}: {reply:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_chat_client_that_asks_for_no_usage_gets_none_and_it_is_counted() {
    let matrix = matrix().await;
    for provider in ALL {
        let name = provider.name();
        let change =
            |body: &mut Value| drop(body.as_object_mut().unwrap().remove("stream_options"));
        let request = Chat.ask_with(&matrix.gateway.client(), name, true, change);
        let reply = request.send().await.ok();
        assert!(!reply.text().contains(r#""usage":{"#), "{provider:?}: {reply:?}");
        let told = Chat.read_stream(&reply);
        assert!(told.usage.is_none() && told.ended, "{provider:?}: {reply:?}");
        counts(&matrix.gateway, name, name, provider.told_usage()).await;
    }
}

#[tokio::test]
async fn a_schema_in_the_clothes_of_a_tool_is_counted_once() {
    let answer = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "up",
        "content": [{"type": "tool_use", "id": "toolu_1", "name": "answer", "input": {"a": 1}}],
        "stop_reason": "tool_use", "usage": {"input_tokens": 9, "output_tokens": 4}});
    let upstream = upstream::always(Answer::json(200, &answer)).await;
    let gateway = only(Messages, &upstream, "").await;
    let change = |body: &mut Value| {
        body["response_format"] = json!({"type": "json_schema", "json_schema": {"name": "answer",
            "schema": {"type": "object", "properties": {"a": {"type": "integer"}}}}});
    };
    Chat.ask_with(&gateway.client(), "m", false, change).send().await.ok();
    counts(&gateway, "m", "p", [9, 4, 0, 0]).await;
}

#[tokio::test]
async fn a_long_answer_of_googles_or_amazons_own_is_counted_too() {
    let text = "word ".repeat(30_000);
    for dialect in [Gemini, Bedrock] {
        let upstream = upstream::always(dialect.answer(&text)).await;
        let gateway = only(dialect, &upstream, "").await;
        let reply = dialect.ask(&gateway.client(), "m", false).send().await.ok();
        assert_eq!(dialect.read(&reply).text, text);
        counts(&gateway, "m", "p", dialect.told_usage()).await;
    }
}

#[tokio::test]
async fn an_attempt_that_failed_costs_no_tokens() {
    for provider in ALL {
        let upstream = upstream::always(provider.streaming(vec![provider.failing()])).await;
        let gateway = only(provider, &upstream, "").await;
        for client in ALL {
            assert_ne!(client.ask(&gateway.client(), "m", true).send().await.status, 200);
        }
        assert!(!gateway.metrics().await.contains("forebay_tokens_total{"), "{provider:?}");
    }
}

#[tokio::test]
async fn the_tokens_of_a_minute_are_those_of_the_provider_whoever_asked() {
    let key = "key-of-the-file-0123456789";
    let top =
        format!("keys: [{{ name: filed, key: {key}, limits: {{ tokens_per_minute: 100000 }} }}]");
    let [prompt, completion, ..] = USAGE;
    for provider in ALL {
        let upstream = upstream::with(move |call| crate::support::matrix::speak(provider, call));
        let upstream = upstream.await;
        let gateway = only(provider, &upstream, &top).await;
        let mut used = 0;
        for client in ALL {
            for stream in [false, true] {
                client.ask(&gateway.client().key(key), "m", stream).send().await.ok();
                used += prompt + completion;
                let settled = |me: &Value| limit(me, "tokens_per_minute")["used"] == used;
                me(&gateway, key, settled).await;
            }
        }
    }
}
