//! What the caller sends reaches the upstream, what the upstream says reaches the caller, and
//! neither is told more than is its business.

use crate::support::answer::Answer;
use crate::support::client::{CHAT, chat_body};
use crate::support::gateway;
use crate::support::upstream;

const RENAMED: &str = r#"
providers:
  - { name: p, kind: vllm, base_url: "http://@up", health_check: { type: none }, api_keys: [provider-key-1], headers: { X-Extra: "on" } }
models:
  - { name: m, targets: [{ provider: p, model: "meta/Llama \"3\"" }] }
  - { name: same, targets: [{ provider: p }] }
default_provider: p
"#;
/// As JSON has it.
const THEIRS: &str = r#""meta/Llama \"3\"""#;

#[tokio::test]
async fn every_byte_of_a_request_arrives_but_the_model() {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::with(RENAMED).up("up", &upstream).start().await;
    let bodies = [
        r#"{"model":"m","messages":[]}"#,
        "  {\n\t\"model\" :\r\n \"m\" , \"messages\":[ ]  }\n\n",
        r#"{"n":1e2,"big":123456789012345678901234567890,"f":1.10,"z":-0.0,"model":"m","e":1E+3}"#,
        r#"{"unknown":{"model":"m","deep":[{"model":"m"}]},"model":"m","null":null,"":{}}"#,
        r#"{"model":"\u006d","text":"\u00e9\ud83d\ude00\/\"\\ é😀","messages":[]}"#,
        r#"{"mod\u0065l":"m","messages":[{"role":"user","content":"model\":\"m"}]}"#,
        r#"{"messages":[],"stream":false,"stream_options":null,"tools":[{"x":true}],"model":"m"}"#,
    ];
    for (index, body) in bodies.iter().enumerate() {
        gateway.client().post(CHAT, body.to_string()).send().await.ok();
        let sent = upstream.calls()[index].text();
        let expected = match *body {
            escaped if escaped.contains(r#""\u006d""#) => escaped.replace(r#""\u006d""#, THEIRS),
            key if key.contains(r#""mod\u0065l":"m""#) => {
                key.replace(r#""mod\u0065l":"m""#, &format!(r#""mod\u0065l":{THEIRS}"#))
            }
            nested if nested.contains("unknown") => {
                nested.replace(r#"},"model":"m","null""#, &format!(r#"}},"model":{THEIRS},"null""#))
            }
            plain => plain.replace("\"m\"", THEIRS),
        };
        assert_eq!(sent, expected);
        let length = upstream.calls()[index].header("content-length").map(str::to_owned);
        assert_eq!(length, Some(expected.len().to_string()));
    }
}

#[tokio::test]
async fn a_request_whose_model_has_the_same_name_arrives_untouched() {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::with(RENAMED).up("up", &upstream).start().await;
    for path in [
        CHAT,
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/rerank",
        "/rerank",
        "/v1/score",
        "/score",
        "/classify",
        "/tokenize",
        "/detokenize",
        "/v1/moderations",
        "/v1/images/generations",
        "/v1/audio/speech",
        "/v1/videos",
    ] {
        let body = " {\"input\" : [1, 2e0],\"model\":\"same\" }\n";
        let index = upstream.count();
        gateway.client().post(path, body).send().await.ok();
        let call = upstream.calls()[index].clone();
        assert_eq!((call.head.word(0), call.target()), ("POST", path));
        assert_eq!(call.text(), body, "{path}");
    }
}

#[tokio::test]
async fn a_json_answer_comes_back_byte_for_byte() {
    let odd = "{ \"id\":\"x\",\n\"n\": 1e2, \"big\":123456789012345678901234567890, \"model\": \"upstream\",\"a\\u0062\":\"\\u00e9\\/\",\"usage\":null}\n";
    let answer = Answer::new(200, "application/json; charset=utf-8", odd);
    let upstream = upstream::always(answer.header("x-model-load", "7")).await;
    let gateway = gateway::with(RENAMED).up("up", &upstream).start().await;
    for path in [CHAT, "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/messages"] {
        let reply = gateway.client().post(path, r#"{"model":"m"}"#).send().await.ok();
        assert_eq!(reply.text(), odd, "{path}");
        let length = odd.len().to_string();
        assert_eq!(reply.header("content-length"), Some(length.as_str()), "{reply:?}");
        assert_eq!(reply.header("content-type"), Some("application/json; charset=utf-8"));
        assert_eq!(reply.header("x-model-load"), Some("7"), "{reply:?}");
    }
}

#[tokio::test]
async fn answers_that_are_no_json_come_back_byte_for_byte() {
    let bytes: Vec<u8> =
        (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let upstream = upstream::always(Answer::new(200, "audio/mpeg", bytes.clone())).await;
    let gateway = gateway::with(RENAMED).up("up", &upstream).start().await;
    let reply = gateway.client().post("/v1/audio/speech", r#"{"model":"m"}"#).send().await.ok();
    assert_eq!(reply.body, bytes);
    assert_eq!(reply.header("content-type"), Some("audio/mpeg"));
}

#[tokio::test]
async fn the_upstream_learns_nothing_of_the_caller_it_need_not_know() {
    let upstream = upstream::chat("hello").await;
    let keyed = format!("{RENAMED}\nkeys: [{{ name: a, key: client-key-canary }}]\n");
    let gateway = gateway::with(&keyed).up("up", &upstream).start().await;
    let request = gateway.client().key("client-key-canary").post(CHAT, r#"{"model":"m"}"#);
    let request = request
        .header("cookie", "session=canary")
        .header("x-forwarded-for", "203.0.113.7")
        .header("x-forwarded-host", "canary.example")
        .header("x-forwarded-proto", "https")
        .header("x-real-ip", "203.0.113.7")
        .header("forwarded", "for=203.0.113.7")
        .header("origin", "https://canary.example")
        .header("referer", "https://canary.example/page")
        .header("openai-organization", "org-canary")
        .header("accept-encoding", "gzip, br")
        .header("user-agent", "client/1.0")
        .header("openai-beta", "assistants=v2")
        .header("x-custom", "kept");
    request.send().await.ok();
    let call = upstream.call();
    let seen = format!("{:?}", call.head);
    assert!(!seen.contains("canary") && !seen.contains("203.0.113.7"), "{seen}");
    assert_eq!(call.header("host"), Some(upstream.address.to_string().as_str()), "{seen}");
    assert_eq!(call.header("authorization"), Some("Bearer provider-key-1"), "{seen}");
    assert_eq!(call.header("x-extra"), Some("on"), "{seen}");
    assert_eq!(call.header("accept-encoding"), None, "{seen}");
    assert_eq!(call.header("x-custom"), Some("kept"), "{seen}");
    assert_eq!(call.header("openai-beta"), Some("assistants=v2"), "{seen}");
    for name in ["connection", "keep-alive", "te", "upgrade", "transfer-encoding"] {
        assert_eq!(call.header(name), None, "{name}: {seen}");
    }
}

#[tokio::test]
async fn hop_by_hop_headers_and_those_they_name_stay_here() {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::with(RENAMED).up("up", &upstream).start().await;
    let request = gateway.client().post(CHAT, r#"{"model":"m"}"#);
    let request = request.header("connection", "keep-alive, x-hop").header("x-hop", "1");
    request.header("te", "trailers").header("proxy-authorization", "Basic x").send().await.ok();
    let call = upstream.call();
    for name in ["x-hop", "te", "proxy-authorization"] {
        assert_eq!(call.header(name), None, "{name}: {call:?}");
    }
}

#[tokio::test]
async fn the_caller_learns_nothing_of_the_provider_it_need_not_know() {
    let answer = Answer::chat("hello")
        .header("server", "uvicorn")
        .header("set-cookie", "__cf_bm=canary; path=/")
        .header("set-cookie", "second=canary")
        .header("openai-organization", "org-canary")
        .header("openai-project", "proj-canary")
        .header("cf-ray", "canary")
        .header("alt-svc", "h3=\":443\"")
        .header("strict-transport-security", "max-age=1")
        .header("openai-processing-ms", "5")
        .header("x-ratelimit-remaining-requests", "9");
    let upstream = upstream::always(answer).await;
    let gateway = gateway::with(RENAMED).up("up", &upstream).start().await;
    let reply = gateway.client().post(CHAT, r#"{"model":"m"}"#).send().await.ok();
    let seen = format!("{:?}", reply.head);
    assert!(!seen.contains("canary") && !seen.contains("uvicorn"), "{seen}");
    for name in ["server", "set-cookie", "alt-svc", "strict-transport-security"] {
        assert_eq!(reply.header(name), None, "{name}: {seen}");
    }
    assert_eq!(reply.header("openai-processing-ms"), Some("5"), "{seen}");
}

#[tokio::test]
async fn the_callers_key_in_the_query_goes_no_further() {
    let upstream = upstream::chat("hello").await;
    let keyed = format!("{RENAMED}\nkeys: [{{ name: a, key: client-key-canary }}]\n");
    let gateway = gateway::with(&keyed).up("up", &upstream).start().await;
    let target = format!("{CHAT}?a=1&key=client-key-canary&b=%20x");
    gateway.client().post(&target, chat_body("hi").to_string()).send().await.ok();
    assert_eq!(upstream.call().target(), "/v1/chat/completions?a=1&b=%20x");
}

#[tokio::test]
async fn an_empty_answer_and_a_204_pass() {
    let upstream = upstream::always(Answer::new(200, "application/json", "")).await;
    let gateway = gateway::with(RENAMED).up("up", &upstream).start().await;
    let reply = gateway.client().post(CHAT, r#"{"model":"m"}"#).send().await.ok();
    assert_eq!(reply.body.len(), 0, "{reply:?}");
    upstream.behave(|_| Answer::raw("HTTP/1.1 204 No Content\r\n\r\n"));
    let reply = gateway.client().request("DELETE", "/v1/files/file-1").send().await;
    assert_eq!((reply.status, reply.whole), (204, true), "{reply:?}");
}
