//! What a client is told that gets no answer: of a provider's refusals and of ours, in its own dialect.

use serde_json::json;

use crate::support::client::{Client, Reply};
use crate::support::dialects::{ALL, Dialect};
use crate::support::gateway::{self, Gateway};
use crate::support::matrix::{matrix, speak};
use crate::support::upstream::{self, Upstream};
use Dialect::{Bedrock, Chat, Gemini, Messages, Responses};

/// A gateway before one provider. Each request has a key of its own: one that was refused rests.
async fn refusing(provider: Dialect, status: u16) -> (Upstream, Gateway) {
    let answer = provider.failure(status, "The provider says no.").header("retry-after", "7");
    let upstream = upstream::always(answer).await;
    let gateway = many_keys(provider, &upstream).await;
    (upstream, gateway)
}

async fn many_keys(provider: Dialect, upstream: &Upstream) -> Gateway {
    let keys: Vec<String> = (0..16).map(|number| format!("key-{number}")).collect();
    let provider = provider.provider("p", &upstream.address.to_string());
    let provider = provider.replace("[key-of-p]", &format!("[{}]", keys.join(", ")));
    let model = "{ name: m, targets: [{ provider: p, model: up }] }";
    let yaml = format!("retry: {{ attempts: 1 }}\nproviders:\n{provider}models:\n  - {model}\n");
    gateway::with(&yaml).start().await
}

/// What each dialect calls an error: of OpenAI's the code, of the others the kind.
fn called(client: Dialect, status: u16, code: &str) -> &str {
    match (client, status) {
        (Chat | Responses, _) => code,
        (Messages, 400) => "invalid_request_error",
        (Messages, 401) => "authentication_error",
        (Messages, 403) => "permission_error",
        (Messages, 404) => "not_found_error",
        (Messages, 413) => "request_too_large",
        (Messages, 429) => "rate_limit_error",
        (Messages, 529) => "overloaded_error",
        (Messages, _) => "api_error",
        (Gemini, 400 | 413) => "INVALID_ARGUMENT",
        (Gemini, 401) => "UNAUTHENTICATED",
        (Gemini, 403) => "PERMISSION_DENIED",
        (Gemini, 404) => "NOT_FOUND",
        (Gemini, 429) => "RESOURCE_EXHAUSTED",
        (Gemini, 503) => "UNAVAILABLE",
        (Gemini, _) => "INTERNAL",
        (Bedrock, 400 | 413) => "ValidationException",
        (Bedrock, 401) => "UnrecognizedClientException",
        (Bedrock, 403) => "AccessDeniedException",
        (Bedrock, 404) => "ResourceNotFoundException",
        (Bedrock, 429) => "ThrottlingException",
        (Bedrock, 503) => "ServiceUnavailableException",
        (Bedrock, _) => "InternalServerException",
    }
}

#[track_caller]
fn tells(client: Dialect, reply: &Reply, status: u16, code: &str, about: &str) -> String {
    assert_eq!(reply.status, status, "{about}: {reply:?}");
    let (kind, said) = client.refused(reply);
    assert_eq!(kind, called(client, status, code), "{about}: {reply:?}");
    said
}

#[tokio::test]
async fn a_providers_refusal_is_told_in_the_clients_words() {
    for provider in ALL {
        for (theirs, code) in [
            (400, "invalid_request"),
            (404, "model_not_found"),
            (413, "request_too_large"),
            (429, "upstream_error"),
            (500, "upstream_error"),
            (503, "upstream_error"),
            (529, "upstream_error"),
        ] {
            let (upstream, gateway) = refusing(provider, theirs).await;
            for client in ALL.into_iter().filter(|client| *client != provider) {
                for stream in [false, true] {
                    let about = format!("{client:?} from {provider:?}, {theirs}, {stream}");
                    let reply = client.ask(&gateway.client(), "m", stream).send().await;
                    let status = match (client, theirs) {
                        (Messages, 503) => 529,
                        (Messages, theirs) => theirs,
                        (_, 529) => 503,
                        (_, theirs) => theirs,
                    };
                    let said = tells(client, &reply, status, code, &about);
                    assert_eq!(said, "The provider says no.", "{about}");
                    let pause = reply.header("retry-after");
                    let expected = (theirs >= 429).then_some("7");
                    assert!(theirs != 429 || pause == expected, "{about}: {reply:?}");
                    assert_eq!(reply.header("x-forebay-provider"), Some("p"), "{about}");
                }
            }
            assert_eq!(upstream.count(), 8, "{provider:?}, {theirs}");
        }
    }
}

#[tokio::test]
async fn a_refusal_of_the_clients_own_dialect_keeps_the_providers_words() {
    for provider in ALL {
        for status in [400, 404] {
            let (_upstream, gateway) = refusing(provider, status).await;
            let expected = provider.failure(status, "The provider says no.");
            let reply = provider.ask(&gateway.client(), "m", false).send().await;
            assert_eq!(reply.status, status, "{provider:?}: {reply:?}");
            let crate::support::answer::Body::Whole(body) = &expected.body else { panic!() };
            assert_eq!(reply.body, body, "{provider:?}: {reply:?}");
            if provider == Bedrock {
                let kind = reply.header("x-amzn-errortype").unwrap();
                let kind = kind.split(':').next().unwrap();
                assert_eq!(kind, called(Bedrock, status, ""), "{reply:?}");
            }
        }
        for status in [429, 500, 503] {
            let (_upstream, gateway) = refusing(provider, status).await;
            let reply = provider.ask(&gateway.client(), "m", true).send().await;
            assert_eq!(reply.status, status, "{provider:?}: {reply:?}");
            let (kind, said) = provider.refused(&reply);
            let known = if provider == Messages && status == 503 { 529 } else { status };
            assert_eq!(kind, called(provider, known, "upstream_error"), "{reply:?}");
            assert_eq!(said, "The provider says no.", "{reply:?}");
        }
    }
}

#[tokio::test]
async fn our_own_key_refused_is_never_the_clients() {
    for provider in ALL {
        for theirs in [401, 403] {
            let (_upstream, gateway) = refusing(provider, theirs).await;
            for client in ALL {
                let about = format!("{client:?} from {provider:?}, {theirs}");
                let reply = client.ask(&gateway.client(), "m", true).send().await;
                let said = tells(client, &reply, 502, "upstream_auth", &about);
                assert!(!said.contains("says no"), "{about}: {reply:?}");
            }
        }
    }
}

#[tokio::test]
async fn googles_400_for_a_bad_key_is_never_the_clients() {
    let answer = crate::support::answer::Answer::json(
        400,
        &json!({"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.",
            "status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID",
                "@type": "type.googleapis.com/google.rpc.ErrorInfo"}]}}),
    );
    let upstream = upstream::always(answer).await;
    let gateway = many_keys(Gemini, &upstream).await;
    for client in ALL {
        let reply = client.ask(&gateway.client(), "m", false).send().await;
        tells(client, &reply, 502, "upstream_auth", &format!("{client:?}"));
    }
}

#[tokio::test]
async fn a_prompt_that_is_too_long_is_told_in_the_words_that_clients_act_on() {
    let chat = "This model's maximum context length is 8192 tokens. However, your messages resulted \
        in 9000 tokens.";
    let google =
        "The input token count (9000) exceeds the maximum number of tokens allowed (8192).";
    let amazon = "prompt is too long: 9000 tokens > 8192 maximum";
    for (provider, said) in [(Chat, chat), (Gemini, google), (Bedrock, amazon), (Messages, amazon)]
    {
        let upstream = upstream::always(provider.failure(400, said)).await;
        let gateway = many_keys(provider, &upstream).await;
        for client in ALL.into_iter().filter(|client| *client != provider) {
            let about = format!("{client:?} from {provider:?}");
            let reply = client.ask(&gateway.client(), "m", true).send().await;
            let told = tells(client, &reply, 400, "context_length_exceeded", &about);
            let expected = if client == Messages { amazon } else { said };
            assert_eq!(told, expected, "{about}");
        }
    }
}

#[tokio::test]
async fn what_is_no_error_of_any_dialect_is_told_all_the_same() {
    for provider in ALL {
        let page = crate::support::answer::Answer::new(502, "text/html", "<html>nginx</html>");
        let upstream = upstream::always(page).await;
        let gateway = many_keys(provider, &upstream).await;
        for client in ALL {
            let reply = client.ask(&gateway.client(), "m", true).send().await;
            let said = tells(client, &reply, 502, "upstream_error", &format!("{client:?}"));
            assert!(!said.contains("nginx"), "{client:?} from {provider:?}: {reply:?}");
        }
    }
}

// === our own ===

const KEYS: &str = "keys:
  - { name: all, key: key-for-everything-0123456789 }
  - { name: some, key: key-for-nothing-at-all-0123456789, allowed_models: [other] }
  - { name: none, key: key-that-is-limited-0123456789, rate_limit: { requests_per_second: 0, \
    burst_size: 0 } }
limits: { body: 64KiB }
";

async fn keyed() -> (Upstream, Gateway) {
    let upstream = upstream::with(|call| speak(Chat, call)).await;
    let provider = Chat.provider("p", &upstream.address.to_string());
    let model = "{ name: m, targets: [{ provider: p, model: up }] }";
    let yaml = format!("{KEYS}providers:\n{provider}models:\n  - {model}\n");
    (upstream, gateway::with(&yaml).start().await)
}

#[tokio::test]
async fn what_we_refuse_is_told_in_the_clients_words() {
    let (upstream, gateway) = keyed().await;
    let client = gateway.client();
    let everything = client.key("key-for-everything-0123456789");
    let nothing = client.key("key-for-nothing-at-all-0123456789");
    let limited = client.key("key-that-is-limited-0123456789");
    let unknown = client.key("sk-unknown");
    for dialect in ALL {
        for stream in [false, true] {
            let about = format!("{dialect:?}, {stream}");
            let ask = |client: &Client, model| dialect.ask(client, model, stream);
            let reply = ask(&client, "m").send().await;
            tells(dialect, &reply, 401, "invalid_api_key", &about);
            let reply = ask(&unknown, "m").send().await;
            tells(dialect, &reply, 401, "invalid_api_key", &about);
            let reply = ask(&nothing, "m").send().await;
            tells(dialect, &reply, 403, "model_not_allowed", &about);
            let reply = ask(&everything, "nowhere").send().await;
            tells(dialect, &reply, 404, "model_not_found", &about);
            let reply = ask(&limited, "m").send().await;
            tells(dialect, &reply, 429, "rate_limit_exceeded", &about);
            assert!(reply.header("retry-after").is_some(), "{about}: {reply:?}");
            let path = dialect.path("m", stream);
            let reply = everything.post(&path, r#"{"model":"m",}"#).send().await;
            tells(dialect, &reply, 400, "invalid_json", &about);
            let reply = everything.post(&path, vec![b' '; 70 << 10]).send().await;
            tells(dialect, &reply, 413, "request_too_large", &about);
        }
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn each_clients_own_way_to_send_a_key_is_understood() {
    let (_upstream, gateway) = keyed().await;
    let key = "key-for-everything-0123456789";
    for (dialect, header) in [
        (Chat, "authorization"),
        (Chat, "api-key"),
        (Responses, "authorization"),
        (Messages, "x-api-key"),
        (Messages, "authorization"),
        (Gemini, "x-goog-api-key"),
        (Bedrock, "authorization"),
    ] {
        let value =
            if header == "authorization" { format!("Bearer {key}") } else { key.to_owned() };
        let request = dialect.ask(&gateway.client(), "m", false).header(header, &value);
        assert_eq!(dialect.read(&request.send().await).text, "one two", "{dialect:?}, {header}");
    }
    let body = Gemini.body("m", "hi", false).to_string();
    let target = format!("/v1beta/models/m:generateContent?key={key}");
    assert_eq!(Gemini.read(&gateway.client().post(&target, body).send().await).text, "one two");
}

#[tokio::test]
async fn google_clients_below_v1_are_refused_in_googles_words() {
    let (_upstream, gateway) = keyed().await;
    for verb in ["generateContent", "streamGenerateContent?alt=sse", "countTokens", "embedContent"]
    {
        let body = Gemini.body("m", "hi", false).to_string();
        let reply = gateway.client().post(&format!("/v1/models/m:{verb}"), body).send().await;
        tells(Gemini, &reply, 401, "", verb);
    }
}

#[tokio::test]
async fn what_is_invoked_is_refused_in_amazons_words() {
    let (_upstream, gateway) = keyed().await;
    let body = r#"{"anthropic_version":"bedrock-2023-05-31","max_tokens":9,"messages":[]}"#;
    for action in ["invoke", "invoke-with-response-stream", "count-tokens"] {
        let target = format!("/model/m/{action}");
        let reply = gateway.client().post(&target, body).send().await;
        tells(Bedrock, &reply, 401, "", action);
    }
}

// === what cannot cross ===

/// A member that each client may send and these providers have nothing for.
fn foreign(client: Dialect) -> (&'static str, serde_json::Value, Dialect) {
    match client {
        Chat => ("logit_bias", json!({"50256": -100}), Messages),
        Responses => ("top_logprobs", json!(3), Bedrock),
        Messages => ("top_k", json!(7), Responses),
        Gemini => (
            "safetySettings",
            json!([{"category": "HARM_CATEGORY_HARASSMENT",
            "threshold": "BLOCK_NONE"}]),
            Chat,
        ),
        Bedrock => ("performanceConfig", json!({"latency": "optimized"}), Messages),
    }
}

#[tokio::test]
async fn what_cannot_cross_is_dropped_and_named() {
    let matrix = matrix().await;
    for client in ALL {
        let (name, value, provider) = foreign(client);
        for stream in [false, true] {
            let change = |body: &mut serde_json::Value| body[name] = value.clone();
            let model = provider.name();
            let request = client.ask_with(&matrix.gateway.client(), model, stream, change);
            let reply = request.send().await.ok();
            let dropped = reply.header("x-forebay-dropped").unwrap_or_default();
            let names: Vec<&str> = dropped.split(", ").collect();
            let told = names.iter().any(|it| it.split('.').next() == Some(name));
            assert!(told, "{client:?} to {provider:?}: {reply:?}");
            let text = matrix.last(provider).text();
            assert!(!text.contains(name), "{client:?} to {provider:?}: {text}");
        }
        // Where nobody else's dialect is spoken, all of it passes.
        let change = |body: &mut serde_json::Value| body[name] = value.clone();
        let request = client.ask_with(&matrix.gateway.client(), client.name(), false, change);
        let reply = request.send().await.ok();
        assert_eq!(reply.header("x-forebay-dropped"), None, "{client:?}: {reply:?}");
        assert_eq!(matrix.last(client).json()[name], value, "{client:?}");
    }
}

#[tokio::test]
async fn what_cannot_cross_is_refused_by_those_who_are_strict() {
    use crate::support::matrix::Matrix;
    for (model, top) in [("", "translation: strict"), ("translation: strict", "")] {
        let matrix = Matrix::of(model, top).await;
        for client in ALL {
            let (name, value, provider) = foreign(client);
            let about = format!("{client:?} to {provider:?}");
            let change = |body: &mut serde_json::Value| body[name] = value.clone();
            let model = provider.name();
            let request = client.ask_with(&matrix.gateway.client(), model, false, change);
            let reply = request.send().await;
            let said = tells(client, &reply, 400, "unsupported_parameter", &about);
            assert!(said.contains(name), "{about}: {said}");
            if matches!(client, Chat | Responses) {
                let param = reply.json()["error"]["param"].as_str().unwrap().to_owned();
                assert_eq!(param.split('.').next(), Some(name), "{about}: {reply:?}");
            }
            assert_eq!(matrix.upstream(provider).count(), 0, "{about}");
            let reply = client.ask(&matrix.gateway.client(), model, false).send().await;
            assert_eq!(client.read(&reply).text, "one two", "{about}");
            matrix.upstream(provider).forget();
        }
    }
}

#[tokio::test]
async fn a_hint_is_left_out_whoever_is_strict() {
    use crate::support::matrix::Matrix;
    let matrix = Matrix::of("", "translation: strict").await;
    let mark = json!({"type": "ephemeral"});
    for provider in ALL {
        let change = |body: &mut serde_json::Value| {
            body["messages"] = json!([{"role": "user", "content":
                [{"type": "text", "text": "hi", "cache_control": mark}]}]);
        };
        let request = Messages.ask_with(&matrix.gateway.client(), provider.name(), false, change);
        let reply = request.send().await;
        assert_eq!(Messages.read(&reply).text, "one two", "{provider:?}");
        let dropped = reply.header("x-forebay-dropped");
        let expected = matches!(provider, Responses | Gemini | Bedrock).then_some("cache_control");
        assert_eq!(dropped, expected, "{provider:?}: {reply:?}");
    }
}

#[tokio::test]
async fn a_model_may_be_lenient_where_the_others_are_strict() {
    use crate::support::matrix::Matrix;
    let matrix = Matrix::of("translation: lenient", "translation: strict").await;
    for client in ALL {
        let (name, value, provider) = foreign(client);
        let change = |body: &mut serde_json::Value| body[name] = value;
        let model = provider.name();
        let request = client.ask_with(&matrix.gateway.client(), model, false, change);
        let reply = request.send().await.ok();
        assert!(reply.header("x-forebay-dropped").is_some(), "{client:?}: {reply:?}");
    }
}
