//! A provider in trouble: the request goes to another replica, key or target, and the caller never
//! learns of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use serde_json::json;

use crate::support::answer::{Answer, Ending};
use crate::support::client::{CHAT, chat_body};
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Upstream};

const REPLICAS: &str = r#"
providers:
  - name: p
    kind: vllm
    endpoints: [{ url: "http://@a" }, { url: "http://@b" }]
    health_check: { type: none }
    timeouts: { connect: 1s, first_byte: 400ms, between_chunks: 5s }
models:
  - { name: m, targets: [{ provider: p }] }
"#;

/// Two replicas; whichever is asked first answers with `first`, everything later is well.
async fn replicas(first: Answer) -> (Upstream, Upstream, Gateway) {
    let turn = Arc::new(AtomicUsize::new(0));
    let behave = move || {
        let (turn, first) = (Arc::clone(&turn), first.clone());
        move |_: &upstream::Call| match turn.fetch_add(1, SeqCst) {
            0 => first.clone(),
            _ => Answer::chat("well"),
        }
    };
    let (a, b) = (upstream::with(behave()).await, upstream::with(behave()).await);
    let gateway = gateway::with(REPLICAS).up("a", &a).up("b", &b).start().await;
    (a, b, gateway)
}

/// `first` costs the caller nothing.
async fn goes_to_the_other(first: Answer) {
    let (a, b, gateway) = replicas(first).await;
    let reply = gateway.client().chat("hi").await;
    assert_eq!(reply.said(), "well");
    assert_eq!(reply.header("x-forebay-attempts"), Some("2"), "{reply:?}");
    assert_eq!((a.count(), b.count()), (1, 1), "not one call at each replica");
    assert_eq!(a.call().body(), b.call().body());
    gateway.counts(r#"forebay_failovers_total{from="p",to="p"}"#, 1).await;
}

#[tokio::test]
async fn a_failure_status_goes_to_the_other_replica() {
    for status in [500, 502, 503, 504] {
        goes_to_the_other(Answer::error(status, "in trouble")).await;
    }
}

#[tokio::test]
async fn a_limit_without_keys_goes_to_the_other_replica() {
    goes_to_the_other(Answer::error(429, "busy")).await;
}

#[tokio::test]
async fn a_connection_cut_before_the_answer_goes_to_the_other_replica() {
    goes_to_the_other(Answer::chat("x").ending(Ending::CutBeforeHead)).await;
}

#[tokio::test]
async fn a_connection_reset_before_the_answer_goes_to_the_other_replica() {
    goes_to_the_other(Answer::chat("x").ending(Ending::ResetBeforeHead)).await;
}

#[tokio::test]
async fn half_a_head_goes_to_the_other_replica() {
    let half = Answer::raw("HTTP/1.1 200 OK\r\ncontent-ty").ending(Ending::Cut);
    goes_to_the_other(half).await;
}

#[tokio::test]
async fn no_http_goes_to_the_other_replica() {
    goes_to_the_other(Answer::raw("+PONG\r\n\r\n").ending(Ending::Cut)).await;
}

#[tokio::test]
async fn silence_goes_to_the_other_replica() {
    goes_to_the_other(Answer::silence()).await;
}

#[tokio::test]
async fn a_redirect_goes_to_the_other_replica() {
    goes_to_the_other(Answer::new(307, "text/plain", "").header("location", "http://x/")).await;
}

#[tokio::test]
async fn an_error_as_the_first_event_of_a_200_goes_to_the_other_replica() {
    let error =
        json!({"error": {"message": "no room", "type": "InternalServerError", "code": 503}});
    let (a, b, gateway) = replicas(Answer::events([format!("data: {error}\n\n")])).await;
    let reply = gateway.client().stream("hi").await.rest().await;
    assert_eq!(reply.said(), "well");
    assert_eq!((a.count(), b.count()), (1, 1));
}

#[tokio::test]
async fn an_error_as_the_first_event_is_seen_however_it_is_cut() {
    let error =
        json!({"error": {"message": "no room", "type": "InternalServerError", "code": 503}});
    let event = format!(": hello\n\ndata: {error}\n\n");
    for size in [1, 7, 30] {
        let pieces: Vec<Vec<u8>> = event.as_bytes().chunks(size).map(<[u8]>::to_vec).collect();
        let (_a, _b, gateway) = replicas(Answer::events(pieces)).await;
        let reply = gateway.client().stream("hi").await.rest().await;
        assert_eq!(reply.said(), "well", "in pieces of {size}");
    }
}

#[tokio::test]
async fn a_stream_that_ends_before_its_first_event_goes_to_the_other_replica() {
    for ending in [Ending::Cut, Ending::Reset] {
        let nothing = Answer::events::<&str>([]).ending(ending);
        let (a, b, gateway) = replicas(nothing).await;
        let reply = gateway.client().stream("hi").await.rest().await;
        assert_eq!(reply.said(), "well", "{ending:?}");
        assert_eq!((a.count(), b.count()), (1, 1), "{ending:?}");
    }
}

#[tokio::test]
async fn a_refused_connection_goes_to_the_other_replica() {
    let good = upstream::chat("well").await;
    let port = upstream::refusing();
    let plan = gateway::with(REPLICAS).place("a", &port.address()).up("b", &good);
    let gateway = plan.start().await;
    let mut attempts = Vec::new();
    for _ in 0..4 {
        let reply = gateway.client().chat("hi").await;
        assert_eq!(reply.said(), "well");
        attempts.push(reply.header("x-forebay-attempts").unwrap().to_owned());
    }
    assert!(attempts.contains(&"2".to_owned()), "{attempts:?}");
    assert_eq!(good.count(), 4);
}

// === other targets ===

const TARGETS: &str = r#"
providers:
  - { name: one, kind: vllm, base_url: "http://@a", health_check: { type: none }, api_keys: [key-of-one] }
  - { name: two, kind: vllm, base_url: "http://@b", health_check: { type: none }, api_keys: [key-of-two] }
models:
  - name: m
    targets: [{ provider: one, model: big-one }, { provider: two, model: big-two, weight: 0 }]
"#;

#[tokio::test]
async fn another_target_gets_its_own_model_and_key() {
    let a = upstream::always(Answer::error(503, "in trouble")).await;
    let b = upstream::chat("well").await;
    let gateway = gateway::with(TARGETS).up("a", &a).up("b", &b).start().await;
    let reply = gateway.client().chat("hi").await;
    assert_eq!(reply.said(), "well");
    assert_eq!(reply.header("x-forebay-provider"), Some("two"), "{reply:?}");
    assert_eq!(reply.header("x-forebay-model"), Some("big-two"), "{reply:?}");
    assert_eq!(a.call().json()["model"], "big-one");
    assert_eq!(b.call().json()["model"], "big-two");
    assert_eq!(a.call().header("authorization"), Some("Bearer key-of-one"));
    assert_eq!(b.call().header("authorization"), Some("Bearer key-of-two"));
    assert_eq!(b.call().header("host"), Some(b.address.to_string().as_str()));
    gateway.counts(r#"forebay_failovers_total{from="one",to="two"}"#, 1).await;
}

#[tokio::test]
async fn our_key_refused_by_one_provider_goes_to_another() {
    for status in [401, 403] {
        let a = upstream::always(Answer::error(status, "who are you?")).await;
        let b = upstream::chat("well").await;
        let gateway = gateway::with(TARGETS).up("a", &a).up("b", &b).start().await;
        assert_eq!(gateway.client().chat("hi").await.said(), "well");
    }
}

#[tokio::test]
async fn when_every_target_fails_the_last_one_is_told_of() {
    let a = upstream::always(Answer::error(500, "first")).await;
    let b = upstream::always(Answer::error(503, "second")).await;
    let gateway = gateway::with(TARGETS).up("a", &a).up("b", &b).start().await;
    let error = gateway.client().chat("hi").await.refused(503, "upstream_error");
    assert_eq!(error["message"], "second");
}

#[tokio::test]
async fn a_failure_inside_a_200_that_nobody_mends_has_its_true_status() {
    let error =
        json!({"error": {"message": "no room", "type": "InternalServerError", "code": 503}});
    let upstream = upstream::always(Answer::events([format!("data: {error}\n\n")])).await;
    let gateway = gateway::front(&upstream).await;
    let reply = gateway.client().stream("hi").await.rest().await;
    let told = reply.refused(503, "upstream_error");
    assert_eq!(told["message"], "no room");
}

#[tokio::test]
async fn a_call_without_a_body_fails_over_too() {
    let yaml = format!("{REPLICAS}\ndefault_provider: p\n");
    let (a, b) = (upstream::chat("well").await, upstream::refusing());
    let gateway = gateway::with(&yaml).up("a", &a).place("b", &b.address()).start().await;
    for _ in 0..4 {
        let reply = gateway.client().get("/v1/files?limit=2").await;
        assert_eq!(reply.said(), "well");
    }
}

#[tokio::test]
async fn two_hundred_requests_with_one_replica_in_trouble_all_succeed() {
    let (a, b) = (upstream::always(Answer::error(500, "x")).await, upstream::chat("well").await);
    let yaml = format!("{REPLICAS}\nretry: {{ budget: 100% }}\n");
    let gateway = gateway::with(&yaml).up("a", &a).up("b", &b).start().await;
    let mut connection = gateway.client().connect().await;
    let request = gateway.client().post(CHAT, chat_body("hi").to_string());
    for _ in 0..200 {
        assert_eq!(request.over(&mut connection).await.said(), "well");
    }
    assert_eq!(a.count(), 5, "ejected after five failures in a row");
}

#[tokio::test]
async fn a_head_without_a_first_event_in_time_goes_to_the_other_replica() {
    let (_cues, feed) = crate::support::answer::feed();
    let (a, b, gateway) = replicas(Answer::live(feed)).await;
    let reply = gateway.client().stream("hi").await.rest().await;
    assert_eq!(reply.said(), "well");
    assert_eq!((a.count(), b.count()), (1, 1));
}
