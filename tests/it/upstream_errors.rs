//! What a caller is told when no provider can serve it.

use crate::support::answer::{Answer, Ending};
use crate::support::client::{CHAT, stream_body};
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Upstream};

const ONE_KEY: &str = r#"
providers:
  - name: p
    kind: vllm
    base_url: "http://@up"
    health_check: { type: none }
    ejection: off
    api_keys: [provider-key-1]
    timeouts: { connect: 500ms, first_byte: 300ms, between_chunks: 300ms }
models:
  - { name: m, targets: [{ provider: p }] }
"#;

async fn answering(answer: Answer) -> (Upstream, Gateway) {
    let upstream = upstream::always(answer).await;
    let gateway = gateway::with(ONE_KEY).up("up", &upstream).start().await;
    (upstream, gateway)
}

#[tokio::test]
async fn the_last_failure_comes_with_its_status_and_the_providers_own_words() {
    for status in [500, 502, 503, 504, 529] {
        let (_upstream, gateway) = answering(Answer::error(status, "The GPU is on fire.")).await;
        let error = gateway.client().chat("hi").await.refused(status, "upstream_error");
        assert_eq!(error["message"], "The GPU is on fire.");
    }
}

#[tokio::test]
async fn a_limit_is_passed_on_with_its_pause() {
    let answer = Answer::error(429, "Slow down.").header("retry-after", "7");
    let (_upstream, gateway) = answering(answer).await;
    let reply = gateway.client().chat("hi").await;
    reply.refused(429, "upstream_error");
    assert_eq!(reply.header("retry-after"), Some("7"), "{reply:?}");
}

#[tokio::test]
async fn a_failure_that_is_no_json_is_told_in_ours() {
    let page = Answer::new(502, "text/html", "<html>nginx</html>");
    let (_upstream, gateway) = answering(page).await;
    let error = gateway.client().chat("hi").await.refused(502, "upstream_error");
    assert!(!error["message"].as_str().unwrap().contains("nginx"), "{error}");
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_is_502() {
    let port = upstream::refusing();
    let gateway = gateway::with(ONE_KEY).place("up", &port.address()).start().await;
    let reply = gateway.client().chat("hi").await;
    let error = reply.refused(502, "upstream_error");
    let said = error["message"].as_str().unwrap();
    assert!(!said.contains(&port.number.to_string()), "tells an address: {said}");
}

#[tokio::test]
async fn a_provider_that_breaks_off_is_502() {
    for ending in [Ending::CutBeforeHead, Ending::ResetBeforeHead] {
        let (_upstream, gateway) = answering(Answer::chat("x").ending(ending)).await;
        gateway.client().chat("hi").await.refused(502, "upstream_error");
    }
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_502() {
    let (_upstream, gateway) = answering(Answer::raw("SSH-2.0-OpenSSH_9.9\r\n\r\n")).await;
    gateway.client().chat("hi").await.refused(502, "upstream_error");
}

#[tokio::test]
async fn a_silent_provider_is_504() {
    let (_upstream, gateway) = answering(Answer::silence()).await;
    gateway.client().chat("hi").await.refused(504, "upstream_error");
    let stream = gateway.client().post(CHAT, stream_body("hi").to_string()).send().await;
    stream.refused(504, "upstream_error");
}

#[tokio::test]
async fn our_own_key_refused_is_502_and_never_401() {
    for status in [401, 403] {
        let (_upstream, gateway) = answering(Answer::error(status, "Incorrect API key.")).await;
        let reply = gateway.client().chat("hi").await;
        let error = reply.refused(502, "upstream_auth");
        assert!(!error["message"].as_str().unwrap().contains("Incorrect"), "{error}");
    }
}

#[tokio::test]
async fn a_redirect_is_neither_followed_nor_passed_on() {
    let answer = Answer::new(302, "text/plain", "").header("location", "http://10.0.0.1/inside");
    let (upstream, gateway) = answering(answer).await;
    let reply = gateway.client().chat("hi").await;
    reply.refused(502, "upstream_error");
    assert!(!format!("{reply:?}").contains("10.0.0.1"), "{reply:?}");
    assert!(upstream.count() >= 1);
}

#[tokio::test]
async fn a_model_whose_replicas_are_all_ill_is_503_with_a_pause() {
    let upstream = upstream::chat("hello").await;
    upstream.set_healthy(false);
    let check = "{ type: http, interval: 50ms, unhealthy_after: 1 }";
    let yaml = ONE_KEY.replace("{ type: none }", check);
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let reply = crate::support::eventually("a refusal", async || {
        let reply = gateway.client().chat("hi").await;
        (reply.status != 200).then_some(reply)
    })
    .await;
    reply.refused(503, "no_healthy_upstream");
    let pause = reply.header("retry-after").unwrap_or_else(|| panic!("{reply:?}"));
    assert!(pause.parse::<u64>().is_ok_and(|seconds| seconds > 0), "{pause}");
}

#[tokio::test]
async fn messages_callers_hear_of_failures_in_their_dialect() {
    let (_upstream, gateway) = answering(Answer::error(503, "Overloaded.")).await;
    let body = r#"{"model":"m","max_tokens":5,"messages":[]}"#;
    let reply = gateway.client().post("/v1/messages", body).send().await;
    assert_eq!(reply.status, 503, "{reply:?}");
    let body = reply.json();
    assert_eq!(body["type"], "error", "{body}");
    assert_eq!(body["error"]["message"], "Overloaded.", "{body}");
}

#[tokio::test]
async fn a_clients_own_mistake_comes_back_untouched() {
    for status in [400, 404, 409, 413, 422] {
        let odd = r#"{ "error" : {"message":"Too\u0020long", "n": 1e2, "code": 400}, "x":[ ] }"#;
        let answer = Answer::new(status, "application/json", odd);
        let (upstream, gateway) = answering(answer).await;
        let reply = gateway.client().chat("hi").await;
        assert_eq!((reply.status, reply.text().as_str()), (status, odd), "{reply:?}");
        assert_eq!(upstream.count(), 1, "{status} was tried again");
    }
}
