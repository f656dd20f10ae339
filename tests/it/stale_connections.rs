//! Pooled connections that a server has closed: no caller ever notices.

use crate::support::answer::{Answer, Ending};
use crate::support::client::{CHAT, chat_body};
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Upstream};

async fn twenty_calls(gateway: &Gateway, body: &str) {
    for turn in 0..20 {
        let reply = gateway.client().post(CHAT, body.to_owned()).send().await;
        assert_eq!(reply.status, 200, "call {turn}: {reply:?}");
        assert_eq!(reply.said(), "hello", "call {turn}");
        assert_eq!(reply.header("x-forebay-attempts"), Some("1"), "call {turn}: {reply:?}");
    }
}

/// Answers the first call on each connection; hangs up on the second instead of answering it.
async fn once_per_connection(ending: Ending) -> Upstream {
    let served = std::sync::Mutex::new(std::collections::HashSet::new());
    upstream::with(move |call| {
        let first = served.lock().unwrap().insert(call.connection);
        if first { Answer::chat("hello") } else { Answer::chat("x").ending(ending) }
    })
    .await
}

#[tokio::test]
async fn a_server_that_closes_after_each_answer_without_saying_so_costs_no_call() {
    let upstream = upstream::always(Answer::chat("hello").ending(Ending::QuietClose)).await;
    let gateway = gateway::front(&upstream).await;
    twenty_calls(&gateway, &chat_body("hi").to_string()).await;
}

#[tokio::test]
async fn a_connection_that_dies_under_a_second_call_is_replaced() {
    for ending in [Ending::CutBeforeHead, Ending::ResetBeforeHead] {
        let upstream = once_per_connection(ending).await;
        let gateway = gateway::front(&upstream).await;
        twenty_calls(&gateway, &chat_body("hi").to_string()).await;
        assert!(upstream.count() > 20, "no connection was used twice: nothing was tested");
        assert_eq!(gateway.health_of(&upstream).await, "healthy", "{ending:?}");
        let broken = r#"forebay_upstream_attempts_total{provider="p",outcome="broken"}"#;
        gateway.counts(broken, 0).await;
    }
}

#[tokio::test]
async fn a_long_body_survives_a_dead_connection() {
    let upstream = once_per_connection(Ending::ResetBeforeHead).await;
    let gateway = gateway::front(&upstream).await;
    let body = chat_body(&"x".repeat(300_000)).to_string();
    twenty_calls(&gateway, &body).await;
    for call in upstream.calls().iter().filter(|call| call.is_whole()) {
        assert_eq!(call.text(), body);
    }
}

#[tokio::test]
async fn connections_are_used_again() {
    let upstream = upstream::chat("hello").await;
    let gateway = gateway::front(&upstream).await;
    twenty_calls(&gateway, &chat_body("hi").to_string()).await;
    // One more was opened to ask for the models.
    assert!(upstream.connections() <= 3, "{} connections for 20 calls", upstream.connections());
}

#[tokio::test]
async fn streams_leave_their_connection_in_the_pool() {
    let upstream = upstream::always(Answer::words(&["a", "b"], true)).await;
    let gateway = gateway::front(&upstream).await;
    for _ in 0..10 {
        let reply = gateway.client().stream("hi").await.rest().await.ok();
        assert_eq!(reply.streamed(), "ab");
    }
    assert!(upstream.connections() <= 3, "{} connections", upstream.connections());
}
