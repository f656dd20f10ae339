//! Clients that believe to speak to a cloud, and Vertex's own ways of making vectors.

use serde_json::{Value, json};

use crate::support::answer::Answer;
use crate::support::client::Reply;
use crate::support::dialects::{ALL, Dialect};
use crate::support::gateway::{self, Gateway};
use crate::support::matrix::matrix;
use crate::support::upstream::{self, Upstream};
use Dialect::{Chat, Gemini, Messages, Responses};

/// Where Google's and Anthropic's SDKs for Vertex send a call.
fn vertex(publisher: &str, call: &str) -> String {
    format!("/v1beta1/projects/p/locations/eu/publishers/{publisher}/models/{call}")
}

#[tokio::test]
async fn azures_clients_name_the_model_by_its_deployment() {
    let matrix = matrix().await;
    let client = matrix.gateway.client();
    for provider in ALL {
        let deployment = format!(
            "/openai/deployments/{}/chat/completions?api-version=2024-10-21",
            provider.name()
        );
        for path in [&deployment, "/openai/v1/chat/completions?api-version=preview"] {
            // The deployment counts, whatever the body says.
            let model = if path == deployment { "gpt-4" } else { provider.name() };
            let body = Chat.body(model, "hi", false).to_string();
            let request = client.post(path, body).header("api-key", "any");
            assert_eq!(Chat.read(&request.send().await).text, "one two", "{provider:?}");
            let call = matrix.last(provider);
            assert!(!call.target().contains("api-version"), "{call:?}");
            assert!(!call.text().contains("gpt-4"), "{call:?}");
        }
        let body = Responses.body(provider.name(), "hi", true).to_string();
        let request = client.post("/openai/responses?api-version=2025-04-01-preview", body);
        assert_eq!(Responses.read_stream(&request.send().await).text, "one two", "{provider:?}");
    }
    // A deployment has no files, and nothing that is unknown elsewhere is known here.
    for path in [
        "/openai/deployments/chat/files",
        "/openai/deployments/chat/v1/chat/completions",
        "/openai/v1/v1/chat/completions",
        "/openai/deployments/chat/../../v1/chat/completions",
        "/openai/admin/v1/keys",
    ] {
        let reply = client.post(path, Chat.body("chat", "hi", false).to_string()).send().await;
        assert_eq!(reply.status, 404, "{path}: {reply:?}");
    }
    let models = client.get("/openai/models?api-version=2024-10-21").await.ok();
    assert_eq!(models.json()["object"], "list");
}

#[tokio::test]
async fn googles_clients_for_vertex_reach_every_provider() {
    let matrix = matrix().await;
    for provider in ALL {
        for (stream, verb) in [(false, "generateContent"), (true, "streamGenerateContent?alt=sse")]
        {
            let path = vertex("google", &format!("{}:{verb}", provider.name()));
            let body = Gemini.body("", "hi", stream).to_string();
            let request = matrix.gateway.client().post(&path, body);
            let reply = request.header("authorization", "Bearer any").send().await;
            let told = if stream { Gemini.read_stream(&reply) } else { Gemini.read(&reply) };
            assert_eq!(told.text, "one two", "{provider:?}, stream: {stream}: {reply:?}");
        }
    }
    let path = "/v1/publishers/google/models/nobody:generateContent";
    let reply = matrix.gateway.client().post(path, Gemini.body("", "hi", false).to_string());
    let reply = reply.send().await;
    assert_eq!((reply.status, &reply.json()["error"]["status"]), (404, &json!("NOT_FOUND")));
}

#[tokio::test]
async fn anthropics_clients_for_vertex_reach_every_provider() {
    let matrix = matrix().await;
    for provider in ALL {
        for (stream, verb) in [(false, "rawPredict"), (true, "streamRawPredict")] {
            let path = vertex("anthropic", &format!("{}:{verb}", provider.name()));
            let mut body = Messages.body("", "hi", stream);
            body.as_object_mut().unwrap().remove("model");
            body["anthropic_version"] = json!("vertex-2023-10-16");
            let request = matrix.gateway.client().post(&path, body.to_string());
            let reply = request.header("anthropic-beta", "a-beta").send().await;
            let told = if stream { Messages.read_stream(&reply) } else { Messages.read(&reply) };
            assert_eq!(told.text, "one two", "{provider:?}, stream: {stream}: {reply:?}");
            assert_eq!(reply.header("x-forebay-dropped"), None, "{provider:?}: {reply:?}");
        }
    }
    let call = matrix.last(Messages);
    assert_eq!(call.target(), "/v1/messages");
    assert_eq!(call.header("anthropic-version"), Some("2023-06-01"), "{call:?}");
    let body = call.json();
    assert_eq!((&body["model"], &body["stream"]), (&json!("up"), &json!(true)), "{body}");
    assert!(body.get("anthropic_version").is_none(), "{body}");
    let path = vertex("anthropic", "nobody:rawPredict");
    let reply = matrix.gateway.client().post(&path, r#"{"messages":[]}"#).send().await;
    assert_eq!((reply.status, &reply.json()["type"]), (404, &json!("error")), "{reply:?}");
}

#[tokio::test]
async fn claudes_tokens_are_counted_for_clients_of_vertex() {
    let upstream = upstream::always(Answer::json(200, &json!({"input_tokens": 7}))).await;
    let gateway = only("kind: anthropic", "up", &upstream).await;
    let body = json!({"model": "m", "anthropic_version": "vertex-2023-10-16",
        "messages": [{"role": "user", "content": "hi"}]});
    let path = vertex("anthropic", "count-tokens:rawPredict");
    let reply = gateway.client().post(&path, body.to_string()).send().await.ok();
    assert_eq!(reply.json(), json!({"input_tokens": 7}));
    assert_eq!(upstream.call().target(), "/v1/messages/count_tokens");
    let body = json!({"messages": [{"role": "user", "content": "hi"}], "model": "up"});
    assert_eq!(upstream.call().json(), body);
}

// === vectors ===

const OLD: &str = "text-embedding-005";
const NEW: &str = "gemini-embedding-2";

/// A gateway whose model `m` is `model` at a provider of this kind.
async fn only(kind: &str, model: &str, upstream: &Upstream) -> Gateway {
    let yaml = format!(
        "providers:\n  - {{ name: p, {kind}, base_url: \"http://@up\", api_keys: [key-of-p], \
         health_check: {{ type: none }} }}\nmodels:\n  - {{ name: m, targets: [{{ provider: p, model: {model} }}] }}\n"
    );
    gateway::with(&yaml).up("up", upstream).start().await
}

const VERTEX: &str = "kind: vertex, project: p, location: eu";

fn predictions(count: usize) -> Answer {
    let one = |number: usize| {
        let value = [0.5, 1.5][number];
        json!({"embeddings": {"values": [value],
            "statistics": {"token_count": 2.0, "truncated": false}}})
    };
    let all: Vec<Value> = (0..count).map(one).collect();
    Answer::json(200, &json!({"predictions": all, "metadata": {"billableCharacterCount": 4}}))
}

async fn embed(gateway: &Gateway, path: &str, body: &Value) -> Reply {
    gateway.client().post(path, body.to_string()).send().await
}

#[tokio::test]
async fn vertex_is_asked_for_vectors_by_predict() {
    let upstream =
        upstream::with(|call| predictions(call.json()["instances"].as_array().map_or(0, Vec::len)))
            .await;
    let gateway = only(VERTEX, OLD, &upstream).await;
    let part = |text: &str| json!({"parts": [{"text": text}]});
    let one = json!({"model": "models/m", "content": part("a"), "taskType": "RETRIEVAL_QUERY"});
    let other = json!({"model": "models/m", "content": part("b"), "taskType": "RETRIEVAL_QUERY"});
    let query = |text: &str| json!({"content": text, "task_type": "RETRIEVAL_QUERY"});
    let both = json!({"instances": [query("a"), query("b")]});
    for (path, body, asked, answered) in [
        (
            "/v1/embeddings",
            json!({"model": "m", "input": ["a", "b"], "dimensions": 3}),
            json!({"instances": [{"content": "a"}, {"content": "b"}],
                "parameters": {"outputDimensionality": 3}}),
            json!({"object": "list", "model": "m", "usage": {"prompt_tokens": 4, "total_tokens": 4},
                "data": [{"object": "embedding", "index": 0, "embedding": [0.5]},
                    {"object": "embedding", "index": 1, "embedding": [1.5]}]}),
        ),
        (
            "/v1beta/models/m:embedContent",
            one.clone(),
            json!({"instances": [query("a")]}),
            json!({"embedding": {"values": [0.5]},
                "usageMetadata": {"promptTokenCount": 2, "totalTokenCount": 2}}),
        ),
        (
            "/v1beta/models/m:batchEmbedContents",
            json!({"requests": [one, other]}),
            both.clone(),
            json!({"embeddings": [{"values": [0.5]}, {"values": [1.5]}],
                "usageMetadata": {"promptTokenCount": 4, "totalTokenCount": 4}}),
        ),
    ] {
        let reply = embed(&gateway, path, &body).await.ok();
        assert_eq!(reply.json(), answered, "{path}");
        assert_eq!(upstream.call().json(), asked, "{path}");
        let place =
            "/v1/projects/p/locations/eu/publishers/google/models/text-embedding-005:predict";
        assert_eq!(upstream.call().target(), place, "{path}");
        upstream.forget();
    }
    // Who asks as Vertex does is passed on as it is.
    let reply = embed(&gateway, &vertex("google", "m:predict"), &both).await.ok();
    assert_eq!(reply.json()["metadata"]["billableCharacterCount"], 4);
    assert_eq!(upstream.call().text(), both.to_string());
}

#[tokio::test]
async fn vertexes_newer_models_embed_one_text_at_a_time() {
    let vector = json!({"embedding": {"values": [0.5]}});
    let upstream = upstream::always(Answer::json(200, &vector)).await;
    let gateway = only(VERTEX, NEW, &upstream).await;
    let one = json!({"model": "m", "input": "a"});
    let reply = embed(&gateway, "/v1/embeddings", &one).await.ok();
    assert_eq!(reply.json()["data"][0]["embedding"], json!([0.5]));
    let place =
        "/v1/projects/p/locations/eu/publishers/google/models/gemini-embedding-2:embedContent";
    assert_eq!(upstream.call().target(), place);
    let two = json!({"model": "m", "input": ["a", "b"]});
    embed(&gateway, "/v1/embeddings", &two).await.refused(400, "unsupported_parameter");
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn clients_of_vertex_get_vectors_from_others() {
    let two = json!({"data": [{"embedding": [0.5]}, {"embedding": [1.5]}],
        "usage": {"prompt_tokens": 4, "total_tokens": 4}});
    let upstream = upstream::always(Answer::json(200, &two)).await;
    let gateway = only("kind: vllm", "up", &upstream).await;
    let body = json!({"instances": [{"content": "a"}, {"content": "b"}],
        "parameters": {"outputDimensionality": 1}});
    let reply = embed(&gateway, &vertex("google", "m:predict"), &body).await.ok();
    let all = reply.json();
    assert_eq!(all["predictions"][1]["embeddings"]["values"], json!([1.5]), "{all}");
    assert_eq!(all["predictions"][0]["embeddings"]["statistics"]["token_count"], 4, "{all}");
    assert_eq!(upstream.call().json()["input"], json!(["a", "b"]));
    assert_eq!(upstream.call().json()["dimensions"], 1);
}

#[tokio::test]
async fn googles_bodies_name_the_model_that_their_path_names() {
    let upstream = upstream::always(Answer::json(200, &json!({"totalTokens": 3}))).await;
    let contents = json!([{"parts": [{"text": "hi"}]}]);
    let request = json!({"model": "models/m", "contents": contents});
    for (kind, path, body, asked) in [
        (
            "kind: gemini",
            "/v1beta/models/m:countTokens",
            json!({"generateContentRequest": request}),
            json!({"generateContentRequest": {"model": "models/up", "contents": contents}}),
        ),
        // Vertex knows no request within a request.
        (
            VERTEX,
            "/v1beta/models/m:countTokens",
            json!({"generateContentRequest": request}),
            json!({"contents": contents}),
        ),
        (
            "kind: gemini",
            "/v1beta/models/m:batchEmbedContents",
            json!({"requests": [{"model": "models/m", "content": {}}]}),
            json!({"requests": [{"model": "models/up", "content": {}}]}),
        ),
        (
            "kind: gemini",
            "/v1beta/models/m:embedContent",
            json!({"model": "models/m", "content": {}}),
            json!({"model": "models/up", "content": {}}),
        ),
    ] {
        let gateway = only(kind, "up", &upstream).await;
        embed(&gateway, path, &body).await.ok();
        assert_eq!(upstream.call().json(), asked, "{kind} {path}");
        upstream.forget();
    }
}
