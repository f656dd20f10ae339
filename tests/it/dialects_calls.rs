//! Every dialect of clients against a provider of each: what the provider is asked, and what the client
//! gets.

use serde_json::{Value, json};

use crate::support::answer::Answer;
use crate::support::client::Reply;
use crate::support::dialects::{ALL, Dialect, FRAMES, messages_in, read_array};
use crate::support::gateway;
use crate::support::matrix::{Matrix, matrix, speak};
use crate::support::upstream::{self, Call};
use Dialect::{Bedrock, Chat, Gemini, Messages, Responses};

/// What a client of any dialect may send that is nobody else's business.
const CLIENTS_OWN: [(&str, &str); 12] = [
    ("accept-encoding", "gzip"),
    ("amz-sdk-invocation-id", "1"),
    ("anthropic-beta", "context-1m-2025-08-07"),
    ("anthropic-dangerous-direct-browser-access", "true"),
    ("cookie", "a=b"),
    ("openai-beta", "assistants=v2"),
    ("openai-organization", "org-1"),
    ("x-app", "cli"),
    ("x-forwarded-for", "10.0.0.1"),
    ("x-goog-api-client", "gl-python/3"),
    ("x-stainless-lang", "python"),
    ("x-amz-user-agent", "aws-sdk"),
];

/// What a provider of any dialect may say that is nobody else's business.
const PROVIDERS_OWN: [(&str, &str); 8] = [
    ("anthropic-ratelimit-requests-remaining", "1"),
    ("openai-processing-ms", "5"),
    ("request-id", "req_up"),
    ("server", "gunicorn"),
    ("x-amzn-requestid", "amazon-1"),
    ("x-goog-trace", "t"),
    ("x-ratelimit-remaining-tokens", "7"),
    ("set-cookie", "c=d"),
];

fn path_at(provider: Dialect, stream: bool) -> &'static str {
    match (provider, stream) {
        (Chat, _) => "/v1/chat/completions",
        (Responses, _) => "/v1/responses",
        (Messages, _) => "/v1/messages",
        (Gemini, true) => "/v1beta/models/up:streamGenerateContent?alt=sse",
        (Gemini, false) => "/v1beta/models/up:generateContent",
        (Bedrock, true) => "/model/up/converse-stream",
        (Bedrock, false) => "/model/up/converse",
    }
}

/// The key stands where the provider looks for it, and nowhere else.
fn has_its_key(provider: Dialect, call: &Call) {
    let key = format!("key-of-{}", provider.name());
    let bearer = format!("Bearer {key}");
    let own = match provider {
        Messages => "x-api-key",
        Gemini => "x-goog-api-key",
        _ => "authorization",
    };
    for name in ["authorization", "x-api-key", "x-goog-api-key", "api-key"] {
        let value = if own == "authorization" { &bearer } else { &key };
        let expected = (name == own).then_some(value.as_str());
        assert_eq!(call.header(name), expected, "{provider:?}: {name} in {call:?}");
    }
}

/// What the body asks for, and of how many tokens the answer may be.
fn asked_in(provider: Dialect, body: &Value) -> (Value, Value) {
    let (text, most) = match provider {
        Chat => (&body["messages"][0]["content"], &body["max_tokens"]),
        Responses => {
            let input = &body["input"];
            let content = input.get(0).map_or(input, |item| &item["content"]);
            (content.get(0).map_or(content, |part| &part["text"]), &body["max_output_tokens"])
        }
        Messages => {
            let content = &body["messages"][0]["content"];
            (content.get(0).map_or(content, |part| &part["text"]), &body["max_tokens"])
        }
        Gemini => {
            let text = &body["contents"][0]["parts"][0]["text"];
            (text, &body["generationConfig"]["maxOutputTokens"])
        }
        Bedrock => {
            let text = &body["messages"][0]["content"][0]["text"];
            (text, &body["inferenceConfig"]["maxTokens"])
        }
    };
    (text.clone(), most.clone())
}

async fn ask(matrix: &Matrix, client: Dialect, provider: Dialect, stream: bool) -> Reply {
    let mut request = client.ask(&matrix.gateway.client(), provider.name(), stream);
    for (name, value) in CLIENTS_OWN {
        request = request.header(name, value);
    }
    request.header("traceparent", "00-1-2-01").send().await
}

#[tokio::test]
async fn each_provider_is_asked_in_its_own_words() {
    let matrix = matrix().await;
    for client in ALL {
        for provider in ALL {
            for stream in [false, true] {
                let pair = format!("{client:?} to {provider:?}, stream: {stream}");
                ask(&matrix, client, provider, stream).await.ok();
                let call = matrix.last(provider);
                assert_eq!(call.head.word(0), "POST", "{pair}");
                assert_eq!(call.target(), path_at(provider, stream), "{pair}");
                has_its_key(provider, &call);
                let host = matrix.upstream(provider).address.to_string();
                assert_eq!(call.header("host"), Some(host.as_str()), "{pair}");
                let length = call.body_len().to_string();
                assert_eq!(call.header("content-length"), Some(length.as_str()), "{pair}");
                let kind = call.header("content-type");
                assert_eq!(kind, Some("application/json"), "{pair}");
                assert!(call.header("x-request-id").is_some(), "{pair}");
                let version = (provider == Messages).then_some("2023-06-01");
                assert_eq!(call.header("anthropic-version"), version, "{pair}");
                let body = call.json();
                let expected = (json!("hi"), json!(900));
                let asked = asked_in(provider, &body);
                if client != provider {
                    assert_eq!(asked, expected, "{pair}: {body}");
                }
                let model = (!matches!(provider, Gemini | Bedrock)).then(|| json!("up"));
                assert_eq!(body.get("model"), model.as_ref(), "{pair}: {body}");
                let streamed = body.get("stream").is_some_and(|stream| stream == true);
                let in_body = stream && matches!(provider, Chat | Responses | Messages);
                assert_eq!(streamed, in_body, "{pair}: {body}");
                if provider == Chat && stream {
                    assert_eq!(body["stream_options"], json!({"include_usage": true}), "{pair}");
                }
            }
        }
    }
}

#[tokio::test]
async fn what_is_the_clients_own_does_not_cross() {
    let matrix = matrix().await;
    for client in ALL {
        for provider in ALL.into_iter().filter(|provider| *provider != client) {
            for stream in [false, true] {
                let pair = format!("{client:?} to {provider:?}, stream: {stream}");
                ask(&matrix, client, provider, stream).await.ok();
                let call = matrix.last(provider);
                for (name, _) in CLIENTS_OWN {
                    assert_eq!(call.header(name), None, "{pair}: {call:?}");
                }
                assert_eq!(call.header("traceparent"), Some("00-1-2-01"), "{pair}: {call:?}");
                let accept = match (provider, stream) {
                    (_, false) => "application/json",
                    (Bedrock, true) => FRAMES,
                    _ => "text/event-stream",
                };
                assert_eq!(call.header("accept"), Some(accept), "{pair}: {call:?}");
            }
        }
    }
}

#[tokio::test]
async fn each_client_is_answered_in_its_own_words() {
    let matrix = matrix().await;
    for provider in ALL {
        matrix.upstream(provider).behave(move |call| {
            let answer = speak(provider, call).header("x-request-id", "id-of-the-provider");
            PROVIDERS_OWN.iter().fold(answer, |answer, (name, value)| answer.header(name, value))
        });
    }
    for client in ALL {
        for provider in ALL {
            for stream in [false, true] {
                let pair = format!("{client:?} from {provider:?}, stream: {stream}");
                let reply = ask(&matrix, client, provider, stream).await.ok();
                let told = if stream { client.read_stream(&reply) } else { client.read(&reply) };
                assert_eq!(told.text, "one two", "{pair}: {reply:?}");
                assert!(told.ended && told.error.is_none(), "{pair}: {reply:?}");
                let kind = reply.header("content-type").unwrap();
                let kind = kind.split(';').next();
                let expected = client.content_type(stream).split(';').next();
                assert_eq!(kind, expected, "{pair}: {reply:?}");
                let header = |name: &str| reply.header(name);
                let ends = ["content-length", "transfer-encoding"].map(header);
                assert_eq!(ends.iter().flatten().count(), 1, "{pair}: {reply:?}");
                assert_eq!(header("x-forebay-provider"), Some(provider.name()), "{pair}");
                assert_eq!(header("x-forebay-model"), Some("up"), "{pair}");
                assert_eq!(header("x-forebay-attempts"), Some("1"), "{pair}");
                assert_ne!(header("x-request-id"), Some("id-of-the-provider"), "{pair}");
                let theirs = header("x-forebay-upstream-request-id");
                assert_eq!(theirs, Some("id-of-the-provider"), "{pair}");
                assert_eq!(header("x-forebay-dropped"), None, "{pair}: {reply:?}");
                if client != provider {
                    for (name, _) in PROVIDERS_OWN {
                        assert_eq!(header(name), None, "{pair}: {reply:?}");
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_client_hears_the_name_it_asked_for_and_not_the_providers() {
    let matrix = matrix().await;
    for client in [Chat, Responses, Messages, Gemini] {
        for provider in ALL.into_iter().filter(|provider| *provider != client) {
            for stream in [false, true] {
                let reply = ask(&matrix, client, provider, stream).await.ok();
                let name = if client == Gemini { "modelVersion" } else { "model" };
                let named = format!(r#""{name}":"{}""#, provider.name());
                let text = reply.text().replace(": ", ":");
                assert!(text.contains(&named), "{client:?} from {provider:?}: {reply:?}");
                assert!(!text.contains(r#":"up""#), "{client:?} from {provider:?}: {reply:?}");
            }
        }
    }
}

// === the other ways to ask ===

#[tokio::test]
async fn google_streams_an_array_to_those_who_do_not_ask_for_events() {
    let matrix = matrix().await;
    for provider in ALL.into_iter().filter(|provider| *provider != Gemini) {
        let target = format!("/v1beta/models/{}:streamGenerateContent", provider.name());
        let body = Gemini.body("", "hi", true).to_string();
        let reply = matrix.gateway.client().post(&target, body).send().await.ok();
        assert_eq!(reply.header("content-type"), Some("application/json"), "{reply:?}");
        let told = read_array(&reply);
        assert_eq!((told.text.as_str(), told.ended), ("one two", true), "{provider:?}: {reply:?}");
        assert_eq!(matrix.last(provider).target(), path_at(provider, true));
    }
}

#[tokio::test]
async fn an_array_of_googles_own_passes_as_it_is() {
    let array = r#"[{"candidates":[{"content":{"parts":[{"text":"one"}]},"index":0}]}
,
{"candidates":[{"content":{"parts":[{"text":" two"}]},"finishReason":"STOP","index":0}],
"usageMetadata":{"promptTokenCount":4,"candidatesTokenCount":2,"totalTokenCount":6}}]"#;
    let upstream = upstream::always(Answer::new(200, "application/json", array)).await;
    let gateway = crate::support::matrix::only(Gemini, &upstream, "").await;
    let body = Gemini.body("", "hi", true).to_string();
    let target = "/v1beta/models/m:streamGenerateContent";
    let reply = gateway.client().post(target, body.clone()).send().await.ok();
    assert_eq!(reply.text(), array);
    assert_eq!(upstream.call().target(), "/v1beta/models/up:streamGenerateContent");
    assert_eq!(upstream.call().text(), body);
    let metric =
        |kind: &str| format!(r#"forebay_tokens_total{{model="m",provider="p",type="{kind}"}}"#);
    gateway.counts(&metric("prompt"), 4).await;
    gateway.counts(&metric("completion"), 2).await;
}

#[tokio::test]
async fn google_clients_may_ask_below_v1_too() {
    let matrix = matrix().await;
    for provider in ALL {
        for (verb, stream) in [("generateContent", false), ("streamGenerateContent?alt=sse", true)]
        {
            let target = format!("/v1/models/{}:{verb}", provider.name());
            let body = Gemini.body("", "hi", stream).to_string();
            let reply = matrix.gateway.client().post(&target, body).send().await.ok();
            let told = if stream { Gemini.read_stream(&reply) } else { Gemini.read(&reply) };
            assert_eq!(told.text, "one two", "{provider:?}: {reply:?}");
            assert_eq!(matrix.last(provider).target(), path_at(provider, stream));
        }
    }
}

#[tokio::test]
async fn a_model_that_is_invoked_takes_and_gives_claudes_words() {
    let matrix = matrix().await;
    let body = json!({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 900,
        "anthropic_beta": ["context-1m-2025-08-07"],
        "messages": [{"role": "user", "content": "hi"}]});
    for provider in [Chat, Responses, Messages, Gemini] {
        for (action, stream) in [("invoke", false), ("invoke-with-response-stream", true)] {
            let pair = format!("{action} at {provider:?}");
            let target = format!("/model/{}/{action}", provider.name());
            let reply = matrix.gateway.client().post(&target, body.to_string()).send().await.ok();
            let call = matrix.last(provider);
            assert_eq!(call.target(), path_at(provider, stream), "{pair}");
            has_its_key(provider, &call);
            let asked = call.json();
            assert_eq!(asked.get("anthropic_version"), None, "{pair}: {asked}");
            assert_eq!(asked.get("anthropic_beta"), None, "{pair}: {asked}");
            let beta = (provider == Messages).then_some("context-1m-2025-08-07");
            assert_eq!(call.header("anthropic-beta"), beta, "{pair}");
            if !stream {
                assert_eq!(Messages.read(&reply).text, "one two", "{pair}: {reply:?}");
                continue;
            }
            assert_eq!(reply.header("content-type"), Some(FRAMES), "{pair}: {reply:?}");
            let mut events = Vec::new();
            for (kind, name, payload) in messages_in(&reply.body) {
                assert_eq!((kind.as_str(), name.as_str()), ("event", "chunk"), "{pair}");
                events.push(unpacked(&payload));
            }
            let kinds: Vec<&str> = events.iter().filter_map(|it| it["type"].as_str()).collect();
            assert_eq!(kinds.first(), Some(&"message_start"), "{pair}: {kinds:?}");
            assert_eq!(kinds.last(), Some(&"message_stop"), "{pair}: {kinds:?}");
            let texts = events.iter().filter_map(|event| event["delta"]["text"].as_str());
            assert_eq!(texts.collect::<String>(), "one two", "{pair}");
        }
    }
}

fn unpacked(payload: &Value) -> Value {
    use base64::Engine as _;
    let bytes = payload["bytes"].as_str().unwrap();
    let bytes = base64::engine::general_purpose::STANDARD.decode(bytes).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

#[tokio::test]
async fn claude_at_amazon_is_invoked_and_no_words_of_it_are_changed() {
    let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "c",
        "content": [{"type": "text", "text": "one two"}], "stop_reason": "end_turn",
        "new_member": 1, "usage": {"input_tokens": 3, "output_tokens": 2}});
    let answer = message.clone();
    let upstream = upstream::with(move |_| Answer::json(200, &answer)).await;
    let plan = gateway::with(
        r#"
providers:
  - { name: p, kind: bedrock, dialect: anthropic, region: eu-central-1, base_url: "http://@up",
      api_keys: [k], health_check: { type: none } }
models:
  - { name: m, targets: [{ provider: p, model: up }] }
"#,
    );
    let gateway = plan.up("up", &upstream).start().await;
    let body = json!({"model": "m", "max_tokens": 9, "future_member": [1],
        "messages": [{"role": "user", "content": "hi"}]});
    let request = gateway.client().post("/v1/messages", body.to_string());
    let request = request.header("anthropic-version", "2023-06-01");
    let reply = request.header("anthropic-beta", "a-1, b-2").send().await.ok();
    assert_eq!(reply.json(), message);
    let call = upstream.call();
    assert_eq!(call.target(), "/model/up/invoke");
    let asked = call.json();
    assert_eq!(asked["anthropic_version"], "bedrock-2023-05-31", "{asked}");
    assert_eq!(asked["anthropic_beta"], json!(["a-1", "b-2"]), "{asked}");
    assert_eq!(asked["future_member"], json!([1]), "{asked}");
    assert!(asked.get("model").is_none() && asked.get("stream").is_none(), "{asked}");
}

#[tokio::test]
async fn a_vertex_provider_is_asked_below_its_project() {
    let upstream = upstream::with(|call| {
        if call.target().contains("anthropic") {
            speak(Messages, call)
        } else {
            speak(Gemini, call)
        }
    })
    .await;
    let yaml = r#"
providers:
  - { name: p, kind: vertex, project: proj, location: europe-west4, base_url: "http://@up",
      api_keys: [key-of-p], health_check: { type: none } }
models:
  - { name: g, targets: [{ provider: p, model: gemini-3 }] }
  - { name: c, targets: [{ provider: p, model: claude-sonnet-4-5 }] }
"#;
    let gateway = gateway::with(yaml).up("up", &upstream).start().await;
    let place = "/v1/projects/proj/locations/europe-west4/publishers";
    for client in ALL {
        for (model, target) in [
            ("g", "google/models/gemini-3:streamGenerateContent"),
            ("c", "anthropic/models/claude-sonnet-4-5:streamRawPredict"),
        ] {
            let reply = client.ask(&gateway.client(), model, true).send().await.ok();
            assert_eq!(client.read_stream(&reply).text, "one two", "{client:?}: {reply:?}");
            let call = upstream.calls().pop().unwrap();
            let path = call.target().split('?').next().unwrap();
            assert_eq!(path, format!("{place}/{target}"), "{client:?}");
            assert_eq!(call.header("x-goog-api-key"), Some("key-of-p"), "{client:?}");
            if model == "c" {
                let asked = call.json();
                assert_eq!(asked["anthropic_version"], "vertex-2023-10-16", "{client:?}: {asked}");
                assert!(asked.get("model").is_none(), "{client:?}: {asked}");
            }
        }
    }
}

#[tokio::test]
async fn an_azure_provider_is_asked_with_its_key_and_version() {
    let upstream = upstream::with(|call| speak(Chat, call)).await;
    let yaml = r#"
providers:
  - { name: p, kind: azure, dialect: openai_chat, base_url: "http://@up", api_version: "2024-10-21",
      api_keys: [key-of-p], health_check: { type: none } }
models:
  - { name: m, targets: [{ provider: p, model: deployed }] }
"#;
    let gateway = gateway::with(yaml).up("up", &upstream).start().await;
    for client in ALL {
        let reply = client.ask(&gateway.client(), "m", false).send().await.ok();
        assert_eq!(client.read(&reply).text, "one two", "{client:?}: {reply:?}");
        let call = upstream.calls().pop().unwrap();
        let target = "/openai/deployments/deployed/chat/completions?api-version=2024-10-21";
        assert_eq!(call.target(), target, "{client:?}");
        assert_eq!(call.header("api-key"), Some("key-of-p"), "{client:?}");
        assert_eq!(call.header("authorization"), None, "{client:?}");
        assert_eq!(call.json()["max_completion_tokens"], 900, "{client:?}");
    }
}
