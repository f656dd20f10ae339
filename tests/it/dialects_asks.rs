//! What is asked beside answers in words, across dialects: how many tokens a prompt has, vectors, the
//! list of models; and servers that may or may not speak what they are asked.

use serde_json::{Value, json};

use crate::support::answer::Answer;
use crate::support::client::Reply;
use crate::support::dialects::Dialect;
use crate::support::gateway;
use crate::support::matrix::{matrix, speak};
use crate::support::upstream::{self, Call};
use Dialect::{Bedrock, Chat, Gemini, Messages, Responses};

// === how many tokens ===

const COUNTING: [Dialect; 4] = [Responses, Messages, Gemini, Bedrock];

fn count_path(dialect: Dialect, model: &str) -> String {
    match dialect {
        Chat => "/tokenize".to_owned(),
        Responses => "/v1/responses/input_tokens".to_owned(),
        Messages => "/v1/messages/count_tokens".to_owned(),
        Gemini => format!("/v1beta/models/{model}:countTokens"),
        Bedrock => format!("/model/{model}/count-tokens"),
    }
}

fn counting(client: Dialect, model: &str) -> Value {
    let messages = json!([{"role": "user", "content": "hi"}]);
    match client {
        Chat => json!({"model": model, "messages": messages}),
        Responses => json!({"model": model, "input": "hi", "instructions": "Be brief."}),
        Messages => json!({"model": model, "messages": messages, "system": "Be brief."}),
        Gemini => json!({"generateContentRequest": {"model": format!("models/{model}"),
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "contents": [{"role": "user", "parts": [{"text": "hi"}]}]}}),
        Bedrock => json!({"input": {"converse": {"system": [{"text": "Be brief."}],
            "messages": [{"role": "user", "content": [{"text": "hi"}]}]}}}),
    }
}

/// What each dialect's provider says: 42.
fn counted(provider: Dialect) -> Value {
    match provider {
        Chat => json!({"count": 42, "max_model_len": 8192, "tokens": [1]}),
        Responses => json!({"object": "response.input_tokens", "input_tokens": 42}),
        Messages => json!({"input_tokens": 42}),
        Gemini => json!({"totalTokens": 42}),
        Bedrock => json!({"inputTokens": 42}),
    }
}

#[track_caller]
fn count_in(client: Dialect, reply: &Reply) -> u64 {
    assert_eq!(reply.status, 200, "{client:?}: {reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/json"), "{client:?}: {reply:?}");
    let body = reply.json();
    if client == Responses {
        assert_eq!(body["object"], "response.input_tokens", "{reply:?}");
    }
    let name = match client {
        Gemini => "totalTokens",
        Bedrock => "inputTokens",
        _ => "input_tokens",
    };
    body[name].as_u64().unwrap_or_else(|| panic!("{client:?}: {reply:?}"))
}

#[tokio::test]
async fn the_provider_counts_in_its_own_words() {
    let matrix = matrix().await;
    for provider in [Chat, Responses, Messages, Gemini, Bedrock] {
        matrix.upstream(provider).behave(move |_| Answer::json(200, &counted(provider)));
        for client in COUNTING {
            let pair = format!("{client:?} at {provider:?}");
            let path = count_path(client, provider.name());
            let body = counting(client, provider.name()).to_string();
            let reply = matrix.gateway.client().post(&path, body).send().await;
            assert_eq!(count_in(client, &reply), 42, "{pair}: {reply:?}");
            let call = matrix.last(provider);
            assert_eq!(call.target(), count_path(provider, "up"), "{pair}");
            let asked = call.text();
            assert!(asked.contains("Be brief.") && asked.contains("hi"), "{pair}: {asked}");
            assert!(!asked.contains("max_tokens"), "{pair}: {asked}");
        }
    }
}

#[tokio::test]
async fn where_nobody_can_be_asked_the_count_is_estimated() {
    for kind in ["openai_compatible", "azure"] {
        let upstream = upstream::chat("no").await;
        let yaml = format!(
            r#"
providers:
  - {{ name: p, kind: {kind}, dialect: openai_chat, base_url: "http://@up/v1", api_keys: [k],
      health_check: {{ type: none }} }}
models:
  - {{ name: m, targets: [{{ provider: p }}] }}
"#
        );
        let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
        for client in COUNTING {
            let path = count_path(client, "m");
            let body = counting(client, "m").to_string();
            let reply = gateway.client().post(&path, body).send().await;
            let count = count_in(client, &reply);
            assert!((4..40).contains(&count), "{client:?}: {reply:?}");
        }
        assert_eq!(upstream.count(), 0, "{kind}");
    }
}

#[tokio::test]
async fn a_count_that_fails_is_told_in_the_clients_words() {
    let matrix = matrix().await;
    for provider in [Messages, Gemini, Bedrock] {
        matrix.upstream(provider).behave(move |_| provider.failure(500, "The provider says no."));
        for client in COUNTING {
            let path = count_path(client, provider.name());
            let body = counting(client, provider.name()).to_string();
            let reply = matrix.gateway.client().post(&path, body).send().await;
            assert_eq!(reply.status, 500, "{client:?} at {provider:?}: {reply:?}");
            client.refused(&reply);
        }
    }
}

// === vectors ===

const TITAN: &str = "amazon.titan-embed-text-v2:0";
const COHERE: &str = "cohere.embed-v4:0";

/// Vectors by the number of texts, in the provider's words.
fn vectors(provider: Dialect, call: &Call) -> Answer {
    let body = call.json();
    let vector = |index: usize| json!([f64::from(u32::try_from(index).unwrap()), 0.5]);
    let all = |count: usize| (0..count).map(vector).collect::<Vec<_>>();
    Answer::json(
        200,
        &match provider {
            Gemini => match body["requests"].as_array() {
                Some(several) => {
                    let values =
                        all(several.len()).into_iter().map(|values| json!({"values": values}));
                    json!({"embeddings": values.collect::<Vec<_>>()})
                }
                None => json!({"embedding": {"values": vector(0)}}),
            },
            Bedrock if body.get("inputText").is_some() => {
                json!({"embedding": vector(0), "inputTextTokenCount": 3})
            }
            Bedrock => {
                let count = body["texts"].as_array().unwrap().len();
                json!({"id": "e", "response_type": "embeddings_floats", "texts": body["texts"],
                "embeddings": all(count)})
            }
            _ => {
                let count = body["input"].as_array().map_or(1, Vec::len);
                let one = |(index, vector)| json!({"object": "embedding", "index": index, "embedding": vector});
                let data: Vec<Value> = all(count).into_iter().enumerate().map(one).collect();
                json!({"object": "list", "model": "up", "data": data,
                "usage": {"prompt_tokens": 3, "total_tokens": 3}})
            }
        },
    )
}

/// A request of each dialect for vectors of these texts.
fn embedding(client: Dialect, model: &str, texts: &[&str]) -> (String, Value) {
    let content = |text: &str| json!({"parts": [{"text": text}]});
    match client {
        Gemini if texts.len() == 1 => {
            (format!("/v1beta/models/{model}:embedContent"), json!({"content": content(texts[0])}))
        }
        Gemini => {
            let one =
                |text: &&str| json!({"model": format!("models/{model}"), "content": content(text)});
            let requests: Vec<Value> = texts.iter().map(one).collect();
            let path = format!("/v1beta/models/{model}:batchEmbedContents");
            (path, json!({"requests": requests}))
        }
        Bedrock if texts.len() == 1 => {
            (format!("/model/{model}/invoke"), json!({"inputText": texts[0]}))
        }
        Bedrock => {
            let body = json!({"texts": texts, "input_type": "search_document"});
            (format!("/model/{model}/invoke"), body)
        }
        _ => ("/v1/embeddings".to_owned(), json!({"model": model, "input": texts})),
    }
}

fn vectors_in(client: Dialect, reply: &Reply, several: bool) -> Vec<Value> {
    assert_eq!(reply.status, 200, "{client:?}: {reply:?}");
    let body = reply.json();
    let list = |value: &Value| value.as_array().unwrap_or_else(|| panic!("{reply:?}")).clone();
    match client {
        Gemini if several => {
            list(&body["embeddings"]).iter().map(|it| it["values"].clone()).collect()
        }
        Gemini => vec![body["embedding"]["values"].clone()],
        Bedrock if several => list(&body["embeddings"]),
        Bedrock => vec![body["embedding"].clone()],
        _ => {
            assert_eq!(body["object"], "list", "{reply:?}");
            list(&body["data"]).iter().map(|it| it["embedding"].clone()).collect()
        }
    }
}

#[tokio::test]
async fn vectors_are_made_wherever_they_are_asked_for() {
    let yaml = ["openai", "gemini", "bedrock"].map(|kind| {
        let region = if kind == "bedrock" { "region: eu-central-1, " } else { "" };
        format!(
            "  - {{ name: {kind}, kind: {kind}, {region}base_url: \"http://@{kind}\", \
             api_keys: [k], health_check: {{ type: none }} }}\n"
        )
    });
    let yaml = format!(
        "providers:\n{}models:\n  - {{ name: openai, targets: [{{ provider: openai, model: e }}] }}\n  \
         - {{ name: gemini, targets: [{{ provider: gemini, model: e }}] }}\n  \
         - {{ name: titan, targets: [{{ provider: bedrock, model: \"{TITAN}\" }}] }}\n  \
         - {{ name: cohere, targets: [{{ provider: bedrock, model: \"{COHERE}\" }}] }}\n",
        yaml.concat()
    );
    let openai = upstream::with(|call| vectors(Chat, call)).await;
    let gemini = upstream::with(|call| vectors(Gemini, call)).await;
    let bedrock = upstream::with(|call| vectors(Bedrock, call)).await;
    let plan = gateway::with(&yaml).up("openai", &openai).up("gemini", &gemini);
    let gateway = plan.up("bedrock", &bedrock).start().await;
    for client in [Chat, Gemini, Bedrock] {
        for (model, upstream, one, several) in [
            ("openai", &openai, "/v1/embeddings", Some("/v1/embeddings")),
            (
                "gemini",
                &gemini,
                "/v1beta/models/e:embedContent",
                Some("/v1beta/models/e:batchEmbedContents"),
            ),
            ("titan", &bedrock, "/model/amazon.titan-embed-text-v2%3A0/invoke", None),
            (
                "cohere",
                &bedrock,
                "/model/cohere.embed-v4%3A0/invoke",
                Some("/model/cohere.embed-v4%3A0/invoke"),
            ),
        ] {
            // Titan's own words are not Cohere's, and what is Amazon's passes as it came.
            let same = client == Bedrock && matches!(model, "titan" | "cohere");
            for (texts, target) in [(&["a"][..], Some(one)), (&["a", "b"][..], several)] {
                let Some(target) = target else { continue };
                if same && (model == "titan") != (texts.len() == 1) {
                    continue;
                }
                let about = format!("{client:?} at {model}: {texts:?}");
                let (path, body) = embedding(client, model, texts);
                let reply = gateway.client().post(&path, body.to_string()).send().await;
                let found = vectors_in(client, &reply, texts.len() > 1);
                assert_eq!(found.len(), texts.len(), "{about}: {reply:?}");
                assert_eq!(found[0], json!([0.0, 0.5]), "{about}: {reply:?}");
                let call = upstream.calls().pop().unwrap();
                assert_eq!(call.target(), target, "{about}");
            }
        }
    }
    let labels = |model, provider| {
        format!(r#"forebay_tokens_total{{model="{model}",provider="{provider}",type="prompt"}}"#)
    };
    gateway.counts(&labels("openai", "openai"), 18).await;
    gateway.counts(&labels("titan", "bedrock"), 9).await;
}

#[tokio::test]
async fn several_texts_are_not_taken_where_only_one_can_be() {
    let upstream = upstream::with(|call| vectors(Bedrock, call)).await;
    let yaml = format!(
        "providers:\n{}models:\n  - {{ name: m, targets: [{{ provider: p, model: \"{TITAN}\" }}] }}\n",
        Bedrock.provider("p", &upstream.address.to_string())
    );
    let gateway = gateway::with(&yaml).start().await;
    let (path, body) = embedding(Chat, "m", &["a", "b"]);
    let reply = gateway.client().post(&path, body.to_string()).send().await;
    reply.refused(400, "unsupported_parameter");
    assert_eq!(upstream.count(), 0);
}

// === the models ===

#[tokio::test]
async fn models_are_listed_in_the_shape_of_whoever_asks() {
    let matrix = matrix().await;
    let client = matrix.gateway.client();
    let openai = client.get("/v1/models").await.ok().json();
    assert_eq!(openai["object"], "list", "{openai}");
    assert_eq!(openai["data"][0]["id"], "chat", "{openai}");
    assert_eq!(openai["data"][0]["object"], "model", "{openai}");
    let asked = client.request("GET", "/v1/models").header("anthropic-version", "2023-06-01");
    let anthropic = asked.send().await.ok().json();
    let ids: Vec<&Value> =
        anthropic["data"].as_array().unwrap().iter().map(|it| &it["id"]).collect();
    assert_eq!(ids, ["chat", "responses", "messages", "gemini", "bedrock"]);
    assert_eq!(anthropic["data"][0]["type"], "model", "{anthropic}");
    assert!(anthropic["data"][0]["display_name"].is_string(), "{anthropic}");
    assert!(anthropic["data"][0]["created_at"].is_string(), "{anthropic}");
    assert_eq!(anthropic["has_more"], false, "{anthropic}");
    assert_eq!(anthropic["first_id"], "chat", "{anthropic}");
    assert_eq!(anthropic["last_id"], "bedrock", "{anthropic}");
    for asked in [
        client.request("GET", "/v1beta/models"),
        client.request("GET", "/v1beta/models?pageSize=50"),
        client.request("GET", "/v1/models").header("x-goog-api-key", "any"),
    ] {
        let gemini = asked.send().await.ok().json();
        assert_eq!(gemini["models"].as_array().unwrap().len(), 5, "{gemini}");
        assert_eq!(gemini["models"][0]["name"], "models/chat", "{gemini}");
        let methods = gemini["models"][0]["supportedGenerationMethods"].as_array().unwrap();
        assert!(methods.contains(&json!("generateContent")), "{gemini}");
    }
}

#[tokio::test]
async fn one_model_is_shown_in_the_shape_of_whoever_asks() {
    let matrix = matrix().await;
    let client = matrix.gateway.client();
    let openai = client.get("/v1/models/chat").await.ok().json();
    assert_eq!((&openai["id"], &openai["object"]), (&json!("chat"), &json!("model")));
    let asked = client.request("GET", "/v1/models/chat").header("anthropic-version", "2023-06-01");
    let anthropic = asked.send().await.ok().json();
    assert_eq!((&anthropic["id"], &anthropic["type"]), (&json!("chat"), &json!("model")));
    let gemini = client.get("/v1beta/models/chat").await.ok().json();
    assert_eq!(gemini["name"], "models/chat");
    let missing = client.get("/v1beta/models/none").await;
    assert_eq!((missing.status, Gemini.refused(&missing).0.as_str()), (404, "NOT_FOUND"));
    let asked = client.request("GET", "/v1/models/none").header("anthropic-version", "2023-06-01");
    let missing = asked.send().await;
    assert_eq!((missing.status, Messages.refused(&missing).0.as_str()), (404, "not_found_error"));
}

// === what a server may speak ===

/// vLLM of an age that speaks chat alone.
fn chat_only(call: &Call) -> Answer {
    match call.target() {
        "/v1/chat/completions" => speak(Chat, call),
        _ => Answer::json(404, &json!({"detail": "Not Found"})),
    }
}

#[tokio::test]
async fn a_server_without_a_call_is_asked_in_chat_and_that_is_remembered() {
    for (kind, client, path) in [
        ("vllm", Messages, "/v1/messages"),
        ("vllm", Responses, "/v1/responses"),
        ("openai_compatible", Responses, "/v1/responses"),
    ] {
        let upstream = upstream::with(chat_only).await;
        let yaml = gateway::FRONT.replace("kind: vllm", &format!("kind: {kind}"));
        let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
        for stream in [true, false] {
            let reply = client.ask(&gateway.client(), "m", stream).send().await.ok();
            let told = if stream { client.read_stream(&reply) } else { client.read(&reply) };
            assert_eq!(
                (told.text.as_str(), told.ended),
                ("one two", true),
                "{client:?}: {reply:?}"
            );
            assert_eq!(reply.header("x-forebay-attempts"), Some("1"), "{client:?}: {reply:?}");
        }
        let calls = upstream.calls();
        let targets: Vec<&str> = calls.iter().map(|call| call.target()).collect();
        let chat = "/v1/chat/completions";
        assert_eq!(targets, [path, chat, chat], "{client:?}");
        // The other call may be there all the same.
        let other = if client == Messages { Responses } else { Messages };
        other.ask(&gateway.client(), "m", false).send().await.ok();
        if kind == "vllm" {
            let calls = upstream.calls();
            assert_eq!(calls[3].target(), other.path("", false), "{client:?}");
        }
    }
}

#[tokio::test]
async fn a_server_that_speaks_messages_is_asked_as_the_client_asks() {
    let upstream = upstream::with(|call| match call.target() {
        "/v1/messages" => speak(Messages, call),
        _ => speak(Chat, call),
    })
    .await;
    let gateway = gateway::front(&upstream).await;
    for stream in [false, true] {
        let reply = Messages.ask(&gateway.client(), "m", stream).send().await.ok();
        let told = if stream { Messages.read_stream(&reply) } else { Messages.read(&reply) };
        assert_eq!((told.text.as_str(), told.ended), ("one two", true), "{reply:?}");
    }
    let calls = upstream.calls();
    let targets: Vec<&str> = calls.iter().map(|call| call.target()).collect();
    assert_eq!(targets, ["/v1/messages", "/v1/messages"]);
}

#[tokio::test]
async fn a_model_that_is_not_there_does_not_make_a_server_lack_a_call() {
    let upstream = upstream::with(|call| match call.target() {
        "/v1/messages" => Messages.failure(404, "The model `m` does not exist."),
        _ => Answer::json(404, &json!({"detail": "Not Found"})),
    })
    .await;
    let gateway = gateway::front(&upstream).await;
    let reply = Messages.ask(&gateway.client(), "m", false).send().await;
    // As the provider said it: its own words, and its own id.
    let said: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!((reply.status, &said["error"]["type"]), (404, &json!("not_found_error")));
    upstream.behave(|call| match call.target() {
        "/v1/messages" => speak(Messages, call),
        _ => speak(Chat, call),
    });
    upstream.forget();
    Messages.ask(&gateway.client(), "m", false).send().await.ok();
    assert_eq!(upstream.call().target(), "/v1/messages");
}

#[tokio::test]
async fn a_count_that_vllm_has_no_call_for_is_asked_of_its_tokenizer() {
    let upstream = upstream::with(|call| match call.target() {
        "/tokenize" => Answer::json(200, &counted(Chat)),
        _ => Answer::json(404, &json!({"detail": "Not Found"})),
    })
    .await;
    let gateway = gateway::front(&upstream).await;
    for client in COUNTING {
        let path = count_path(client, "m");
        let reply = gateway.client().post(&path, counting(client, "m").to_string()).send().await;
        assert_eq!(count_in(client, &reply), 42, "{client:?}: {reply:?}");
    }
}
