//! Calls that name no model: files, batches, assistants go to the default provider.

use crate::support::answer::Answer;
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Upstream};

const DEFAULT: &str = r#"
providers:
  - { name: p, kind: vllm, base_url: "http://@up", health_check: { type: none }, api_keys: [provider-key-1] }
models:
  - { name: m, targets: [{ provider: p, model: theirs }] }
default_provider: p
"#;

async fn default() -> (Upstream, Gateway) {
    let upstream = upstream::always(Answer::new(200, "application/json", "{\"ok\": 1e0}")).await;
    let gateway = gateway::with(DEFAULT).up("up", &upstream).start().await;
    (upstream, gateway)
}

#[tokio::test]
async fn their_method_path_query_and_body_are_passed_on() {
    let (upstream, gateway) = default().await;
    for (method, target, body) in [
        ("GET", "/v1/files?limit=2&after=file-1%20x", ""),
        ("GET", "/v1/files/file-1/content", ""),
        ("DELETE", "/v1/files/file-1", ""),
        ("POST", "/v1/batches", " {\"input_file_id\": \"file-1\"}"),
        ("POST", "/v1/batches/batch_1/cancel", ""),
        ("GET", "/v1/assistants", ""),
        ("POST", "/v1/threads/thread_1/runs", "{ }"),
        ("POST", "/v1/vector_stores", "{}"),
        ("GET", "/v1/conversations/conv_1/items", ""),
        ("POST", "/v1/fine_tuning/jobs", "{\"model\":\"m\"}"),
        ("GET", "/v1/containers", ""),
        ("POST", "/v1/evals", "{}"),
        ("GET", "/v1/responses/resp_1?include=x", ""),
        ("DELETE", "/v1/responses/resp_1", ""),
        ("GET", "/v1/videos", ""),
        ("GET", "/v1/videos/video_1/content", ""),
        ("POST", "/v1/uploads", "{}"),
        // Of these the API has a model of its own.
        ("POST", "/v1/moderations", "{\"input\":\"x\"}"),
        ("POST", "/v1/images/generations", "{\"prompt\":\"x\"}"),
    ] {
        let index = upstream.count();
        let request = gateway.client().request(method, target);
        let request = request.header("content-type", "application/json").body(body);
        let reply = request.send().await.ok();
        assert_eq!(reply.text(), "{\"ok\": 1e0}");
        let call = upstream.calls()[index].clone();
        assert_eq!((call.head.word(0), call.target()), (method, target));
        assert_eq!(call.text(), body, "{target}");
        assert_eq!(call.header("authorization"), Some("Bearer provider-key-1"), "{call:?}");
        assert_eq!(reply.header("x-forebay-provider"), Some("p"), "{reply:?}");
    }
}

#[tokio::test]
async fn without_a_default_provider_they_are_404() {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::front(&upstream).await;
    for (method, path) in [("GET", "/v1/files"), ("POST", "/v1/batches")] {
        let reply = gateway.client().request(method, path).send().await;
        reply.refused(404, "not_found");
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_batch_is_for_keys_that_may_use_any_model() {
    // Its models stand in a file, which passes unread.
    let keys = "keys:\n  - { name: all, key: fake-key-of-all }\n  \
        - { name: star, key: fake-key-of-star, allowed_models: [m, \"*\"] }\n  \
        - { name: some, key: fake-key-of-some, allowed_models: [m] }\n";
    let upstream = upstream::always(Answer::new(200, "application/json", "{}")).await;
    let gateway = gateway::with(&format!("{DEFAULT}{keys}")).up("up", &upstream).start().await;
    for (key, status) in
        [("fake-key-of-all", 200), ("fake-key-of-star", 200), ("fake-key-of-some", 403)]
    {
        let client = gateway.client().key(key);
        let made = client.post("/v1/batches", r#"{"input_file_id":"file-1"}"#).send().await;
        assert_eq!(made.status, status, "{made:?}");
        client.get("/v1/batches").await.ok();
    }
    let client = gateway.client().key("fake-key-of-some");
    let made = client.post("/v1/batches", "{}").send().await;
    made.refused(403, "model_not_allowed");
}

#[tokio::test]
async fn a_file_streams_through() {
    let (upstream, gateway) = default().await;
    let file = "f".repeat(300_000);
    let body = format!(
        "--x\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
         --x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.jsonl\"\r\n\r\n{file}\r\n--x--\r\n"
    );
    for chunked in [false, true] {
        let request = gateway.client().request("POST", "/v1/files").body(body.clone());
        let request = request.header("content-type", "multipart/form-data; boundary=x");
        let request = if chunked { request.chunked(10_000) } else { request };
        request.send().await.ok();
        let call = upstream.calls().last().unwrap().clone();
        assert_eq!(call.text(), body);
        let kind = call.header("content-type");
        assert_eq!(kind, Some("multipart/form-data; boundary=x"), "{call:?}");
    }
}

#[tokio::test]
async fn a_file_comes_back_as_it_is() {
    let (upstream, gateway) = default().await;
    let bytes: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    let answer = Answer::new(200, "application/octet-stream", bytes.clone());
    upstream.behave(move |_| answer.clone().header("content-disposition", "attachment"));
    let reply = gateway.client().get("/v1/files/file-1/content").await.ok();
    assert_eq!(reply.body, bytes);
    assert_eq!(reply.header("content-disposition"), Some("attachment"), "{reply:?}");
}

#[tokio::test]
async fn their_streams_pass_event_by_event() {
    let (cues, feed) = crate::support::answer::feed();
    let upstream = upstream::always(Answer::live(feed)).await;
    let gateway = gateway::with(DEFAULT).up("up", &upstream).start().await;
    let event = "event: thread.run.created\ndata: {}";
    cues.send(format!("{event}\n\n"));
    let request = gateway.client().post("/v1/threads/runs", r#"{"stream":true}"#);
    let mut stream = request.open().await;
    assert_eq!(stream.event().await.unwrap(), event);
    cues.end();
    assert!(stream.rest().await.whole);
}
