//! What a provider's words may not carry along, and what goes back to whom: keys, failures in a good
//! answer's clothes, seals, and the price of a stream that its caller left.

use serde_json::{Value, json};

use crate::support::answer::{Answer, Body, feed};
use crate::support::dialects::{ALL, Dialect};
use crate::support::gateway::{self, Gateway};
use crate::support::matrix::{Matrix, only};
use crate::support::upstream::{self, Upstream};
use crate::support::vault::{STORE, Vault, known, limit, me};
use Dialect::{Bedrock, Chat, Gemini, Messages, Responses};

const QUOTED: &str = "sk-proj-a-key-of-ours-0123456789";

#[tokio::test]
async fn no_key_that_a_provider_quotes_reaches_a_client() {
    let said = format!("Incorrect API key provided: {QUOTED}.");
    for provider in ALL {
        let upstream = upstream::always(provider.failure(400, &said)).await;
        let gateway = only(provider, &upstream, "").await;
        for client in ALL {
            for stream in [false, true] {
                let reply = client.ask(&gateway.client(), "m", stream).send().await;
                let about = format!("{client:?} from {provider:?}, stream: {stream}: {reply:?}");
                assert_ne!(reply.status, 200, "{about}");
                assert!(!reply.text().contains(QUOTED), "{about}");
            }
        }
    }
}

#[tokio::test]
async fn a_failure_in_a_good_answers_clothes_is_told_as_one() {
    let error = json!({"error": {"message": "no room", "type": "server_error", "code": 503}});
    let upstream = upstream::always(Answer::json(200, &error)).await;
    let gateway = only(Chat, &upstream, "").await;
    for client in [Responses, Messages, Gemini, Bedrock] {
        for stream in [false, true] {
            let reply = client.ask(&gateway.client(), "m", stream).send().await;
            let about = format!("{client:?}, stream: {stream}: {reply:?}");
            assert!(reply.status >= 500, "{about}");
            assert!(reply.text().contains("no room"), "{about}");
        }
    }
}

// === seals ===

/// What each client keeps of another provider's sealed thought, and where its blocks stand.
fn sealed_turn(client: Dialect) -> Value {
    let base64 = "Zm9yZWJheS5vcGVuYWlfcmVzcG9uc2VzLi5zZWFsZWQ=";
    match client {
        Messages => json!([
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "forebay.gemini..sealed"},
                {"type": "text", "text": "said"}]},
            {"role": "user", "content": "more"},
        ]),
        Bedrock => json!([
            {"role": "user", "content": [{"text": "hi"}]},
            {"role": "assistant", "content": [
                {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "forebay.gemini..sealed"}}},
                {"text": "said"}]},
            {"role": "user", "content": [{"text": "more"}]},
        ]),
        _ => json!([
            {"role": "user", "parts": [{"text": "hi"}]},
            {"role": "model", "parts": [{"text": "said", "thoughtSignature": base64}]},
            {"role": "user", "parts": [{"text": "more"}]},
        ]),
    }
}

#[tokio::test]
async fn seals_of_others_are_cut_out_beside_every_other_edit() {
    let matrix = Matrix::of("request: { max_tokens: 100, stop: [END] }", "").await;
    for (client, turns, cap) in [
        (Messages, "messages", "/max_tokens"),
        (Bedrock, "messages", "/inferenceConfig/maxTokens"),
        (Gemini, "contents", "/generationConfig/maxOutputTokens"),
    ] {
        let change = |body: &mut Value| body[turns] = sealed_turn(client);
        let request = client.ask_with(&matrix.gateway.client(), client.name(), false, change);
        request.send().await.ok();
        let text = matrix.last(client).text();
        assert!(!text.contains("forebay") && !text.contains("Zm9yZWJheS"), "{client:?}: {text}");
        assert!(text.contains("said") && text.contains("END"), "{client:?}: {text}");
        let body = matrix.last(client).json();
        assert_eq!(body.pointer(cap), Some(&json!(100)), "{client:?}: {body}");
        assert_eq!(body[turns].as_array().unwrap().len(), 3, "{client:?}: {body}");
    }
}

// === a stream that its caller left ===

async fn charged(provider: Dialect, upstream: &Upstream) -> (Gateway, String) {
    let given = provider.provider("p", &upstream.address.to_string());
    let target = "{ name: m, targets: [{ provider: p, model: up }] }";
    let yaml = format!("{STORE}providers:\n{given}models:\n  - {target}\n");
    let gateway = gateway::with(&yaml).start().await;
    let vault = Vault::of(&gateway).await;
    let key = vault.key("key_a", json!({"limits": {"tokens_per_minute": 100_000}})).await;
    known(&gateway, &key).await;
    (gateway, key)
}

#[tokio::test]
async fn a_stream_its_caller_leaves_is_charged_whoever_served_it() {
    for provider in ALL {
        let (cues, feed) = feed();
        let answer = Answer { body: Body::Live(feed), ..provider.streams("") };
        let upstream = upstream::always(answer).await;
        let (gateway, key) = charged(provider, &upstream).await;
        let client = gateway.client().key(&key);
        for event in provider.begins() {
            cues.send(event);
        }
        for _ in 0..20 {
            cues.send(provider.word("a word of some letters "));
        }
        let asked = Chat.ask(&client, "m", true);
        let mut stream = asked.open().await;
        let mut read = Vec::new();
        while read.windows(12).filter(|it| it == b"some letters").count() < 20 {
            read.extend_from_slice(&stream.piece().await.expect("more of the stream"));
        }
        drop(stream);
        // Twenty times twenty-three letters, and the prompt.
        let told = me(&gateway, &key, |me| limit(me, "tokens_per_minute")["reserved"] == 0).await;
        let used = limit(&told, "tokens_per_minute")["used"].as_u64().unwrap();
        assert!((100..400).contains(&used), "{provider:?}: {told}");
    }
}
