//! Finding a request again: its id, and the headers that say where it went.

use crate::support::client::{CHAT, chat_body};
use crate::support::gateway;
use crate::support::upstream;

#[tokio::test]
async fn a_sane_request_id_is_kept_and_passed_on() {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::front(&upstream).await;
    let request = gateway.client().post(CHAT, chat_body("hi").to_string());
    let reply = request.header("x-request-id", "Job-7_a.b:c").send().await.ok();
    assert_eq!(reply.header("x-request-id"), Some("Job-7_a.b:c"), "{reply:?}");
    assert_eq!(reply.head.count("x-request-id"), 1, "{reply:?}");
    assert_eq!(upstream.call().header("x-request-id"), Some("Job-7_a.b:c"));
}

#[tokio::test]
async fn any_other_request_id_is_replaced() {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::front(&upstream).await;
    let long = "x".repeat(129);
    for id in ["", "a b", "a\"b", "<script>", "é", &long] {
        let request = gateway.client().post(CHAT, chat_body("hi").to_string());
        let reply = request.header("x-request-id", id).send().await.ok();
        let given = reply.header("x-request-id").unwrap_or_else(|| panic!("{id}: {reply:?}"));
        assert_ne!(given, id);
        assert!(given.len() >= 16 && given.bytes().all(|byte| byte.is_ascii_graphic()), "{given}");
    }
}

#[tokio::test]
async fn requests_without_an_id_get_different_ones() {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::front(&upstream).await;
    let first = gateway.client().chat("hi").await.ok();
    let second = gateway.client().get("/nope").await;
    let ids = [first.header("x-request-id").unwrap(), second.header("x-request-id").unwrap()];
    assert_ne!(ids[0], ids[1]);
}

#[tokio::test]
async fn an_answer_says_where_it_came_from() {
    let upstream = upstream::chat("hello").await;
    let yaml = gateway::FRONT.replace("provider: p }", "provider: p, model: meta/llama }");
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let reply = gateway.client().chat("hi").await.ok();
    assert_eq!(reply.header("x-forebay-provider"), Some("p"), "{reply:?}");
    assert_eq!(reply.header("x-forebay-model"), Some("meta/llama"), "{reply:?}");
    assert_eq!(reply.header("x-forebay-attempts"), Some("1"), "{reply:?}");
}

#[tokio::test]
async fn a_refusal_of_our_own_names_no_provider() {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::front(&upstream).await;
    let reply = gateway.client().post(CHAT, r#"{"model":"nope"}"#).send().await;
    assert_eq!(reply.header("x-forebay-provider"), None, "{reply:?}");
    assert_eq!(reply.header("x-forebay-attempts"), None, "{reply:?}");
}

#[tokio::test]
async fn the_providers_own_request_id_is_told_beside_ours() {
    let answer = crate::support::answer::Answer::chat("hello").header("x-request-id", "theirs-1");
    let upstream = upstream::always(answer).await;
    let gateway = gateway::front(&upstream).await;
    let request = gateway.client().post(CHAT, chat_body("hi").to_string());
    let reply = request.header("x-request-id", "ours-1").send().await.ok();
    assert_eq!(reply.header("x-request-id"), Some("ours-1"), "{reply:?}");
    assert_eq!(reply.header("x-forebay-upstream-request-id"), Some("theirs-1"), "{reply:?}");
}
