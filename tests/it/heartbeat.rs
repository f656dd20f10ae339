//! Long silences: a stream is kept alive by comments, and what happens afterwards is still told.

use crate::support::answer::{self, Answer, DONE, Ending, Gate, content};
use crate::support::client::{CHAT, chat_body, stream_body};
use crate::support::dialects::Dialect::Messages;
use crate::support::gateway::{self, Gateway, SPARE};
use crate::support::http2::Http2;
use crate::support::matrix::only;
use crate::support::upstream::{self, Upstream};

fn yaml() -> String {
    format!("heartbeat: 100ms{SPARE}")
}

async fn beating(a: &Upstream) -> (Upstream, Gateway) {
    let b = upstream::always(Answer::words(&["second"], false)).await;
    let gateway = gateway::with(&yaml()).up("a", a).up("b", &b).start().await;
    (b, gateway)
}

#[tokio::test]
async fn comments_come_before_the_first_byte_and_between_chunks() {
    let (cues, feed) = answer::feed();
    let gate = Gate::closed();
    let a = upstream::always(Answer::live(feed).after(&gate)).await;
    let (b, gateway) = beating(&a).await;
    let mut stream = gateway.client().stream("hi").await;
    assert_eq!(stream.status, 200);
    assert_eq!(stream.head.get("content-type"), Some(answer::EVENT_STREAM), "{:?}", stream.head);
    assert!(stream.head.get("x-request-id").is_some(), "{:?}", stream.head);
    for _ in 0..2 {
        assert!(stream.event().await.unwrap().starts_with(':'));
    }
    gate.open();
    cues.send(content("one"));
    assert_eq!(stream.data().await.unwrap(), content("one").trim_end());
    for _ in 0..2 {
        assert!(stream.event().await.unwrap().starts_with(':'));
    }
    cues.send(content(" two"));
    assert_eq!(stream.data().await.unwrap(), content(" two").trim_end());
    cues.send(DONE);
    cues.end();
    assert_eq!(stream.data().await.unwrap(), DONE.trim_end());
    let reply = stream.rest().await;
    assert!(reply.whole && reply.body.is_empty(), "{reply:?}");
    assert_eq!((a.count(), b.count()), (1, 0));
}

#[tokio::test]
async fn no_comment_stands_within_an_event() {
    let (cues, feed) = answer::feed();
    let a = upstream::always(Answer::live(feed)).await;
    let (_b, gateway) = beating(&a).await;
    let event = content("one");
    cues.send(content("zero"));
    let mut stream = gateway.client().stream("hi").await;
    stream.data().await;
    cues.send(event[..20].to_owned());
    // Long enough for several comments, were the time not spent within an event.
    tokio::time::sleep(std::time::Duration::from_millis(350)).await;
    cues.send(event[20..].to_owned());
    assert_eq!(stream.data().await.unwrap(), event.trim_end());
}

#[tokio::test]
async fn a_failure_after_a_comment_goes_on_to_the_other_target() {
    for failure in [
        Answer::error(503, "in trouble"),
        Answer::chat("x").ending(Ending::CutBeforeHead),
        Answer::events(["data: {\"error\":{\"message\":\"no room\",\"code\":503}}\n\n"]),
    ] {
        let gate = Gate::closed();
        let a = upstream::always(failure.after(&gate)).await;
        let (b, gateway) = beating(&a).await;
        let mut stream = gateway.client().stream("hi").await;
        assert!(stream.event().await.unwrap().starts_with(':'));
        gate.open();
        let reply = stream.rest().await;
        assert!(reply.whole, "{reply:?}");
        assert_eq!(reply.streamed(), "second", "{reply:?}");
        assert!(reply.text().ends_with(DONE), "{reply:?}");
        assert_eq!((a.count(), b.count()), (1, 1));
    }
}

#[tokio::test]
async fn a_failure_of_all_after_a_comment_is_told_in_band() {
    let gate = Gate::closed();
    let a = upstream::always(Answer::error(503, "in trouble").after(&gate)).await;
    let (b, gateway) = beating(&a).await;
    b.behave(|_| Answer::error(500, "me too"));
    let mut stream = gateway.client().stream("hi").await;
    assert!(stream.event().await.unwrap().starts_with(':'));
    gate.open();
    let reply = stream.rest().await;
    assert!(reply.whole, "{reply:?}");
    let events = reply.events();
    let error: serde_json::Value = serde_json::from_str(&events[0]).unwrap();
    assert_eq!(error["error"]["code"], "upstream_error", "{reply:?}");
    assert_eq!(events.len(), 1, "{reply:?}");
}

#[tokio::test]
async fn a_mistake_of_the_callers_after_a_comment_is_told_in_band() {
    let gate = Gate::closed();
    let a = upstream::always(Answer::error(400, "Too long.").after(&gate)).await;
    let (b, gateway) = beating(&a).await;
    let mut stream = gateway.client().stream("hi").await;
    assert!(stream.event().await.unwrap().starts_with(':'));
    gate.open();
    let reply = stream.rest().await;
    assert!(reply.whole, "{reply:?}");
    let error: serde_json::Value = serde_json::from_str(&reply.events()[0]).unwrap();
    assert_eq!(error["error"]["message"], "Too long.", "{reply:?}");
    assert_eq!(b.count(), 0);
}

#[tokio::test]
async fn answers_that_are_no_streams_get_no_comments() {
    let gate = Gate::closed();
    let a = upstream::always(Answer::chat("hello").after(&gate)).await;
    let (_b, gateway) = beating(&a).await;
    let mut waiting = gateway.client().post(CHAT, chat_body("hi").to_string()).begin().await;
    a.wait_for(0).await;
    tokio::time::sleep(std::time::Duration::from_millis(350)).await;
    gate.open();
    assert_eq!(waiting.reply().await.ok().said(), "hello");
}

#[tokio::test]
async fn no_comments_where_they_are_off() {
    let gate = Gate::closed();
    let upstream = upstream::always(Answer::words(&["a"], false).after(&gate)).await;
    let yaml = format!("{}\nheartbeat: off\n", gateway::FRONT);
    let gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let mut waiting = gateway.client().post(CHAT, stream_body("hi").to_string()).begin().await;
    upstream.wait_for(0).await;
    tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    gate.open();
    let reply = waiting.reply().await.ok();
    assert!(reply.text().lines().all(|line| !line.starts_with(':')), "a comment: {reply:?}");
}

#[tokio::test]
async fn comments_keep_http2_streams_alive_too() {
    let (cues, feed) = answer::feed();
    let gate = Gate::closed();
    let a = upstream::always(Answer::live(feed).after(&gate)).await;
    let (_b, gateway) = beating(&a).await;
    let mut http2 = Http2::connect(gateway.address).await;
    let mut stream = http2.post(CHAT, stream_body("hi").to_string()).await;
    let first = stream.piece().await.unwrap().unwrap();
    assert!(first.starts_with(b":"), "{first:?}");
    gate.open();
    cues.send(content("one"));
    cues.send(DONE);
    cues.end();
    let reply = stream.rest().await;
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(text.contains(&content("one")) && text.ends_with(DONE), "{text}");
}

#[tokio::test]
async fn comments_do_not_stop_the_clock_of_the_first_byte() {
    let a = upstream::always(Answer::silence()).await;
    let b = upstream::always(Answer::words(&["second"], false)).await;
    let patience = "timeouts: { first_byte: 400ms }, ejection: off";
    let yaml = yaml().replace("ejection: off", patience);
    let gateway = gateway::with(&yaml).up("a", &a).up("b", &b).start().await;
    let mut stream = gateway.client().stream("hi").await;
    assert!(stream.event().await.unwrap().starts_with(':'));
    let reply = stream.rest().await;
    assert_eq!(reply.streamed(), "second", "{reply:?}");
    assert_eq!((a.count(), b.count()), (1, 1));
}

#[tokio::test]
async fn a_caller_who_leaves_during_comments_ends_the_call() {
    let a = upstream::always(Answer::silence()).await;
    let (b, gateway) = beating(&a).await;
    let mut stream = gateway.client().stream("hi").await;
    assert!(stream.event().await.unwrap().starts_with(':'));
    drop(stream);
    let call = a.call();
    crate::support::until("the upstream is let go", || call.gone().is_some()).await;
    gateway.counts("forebay_active_requests", 0).await;
    assert_eq!(b.count(), 0, "tried again for nobody");
}

#[tokio::test]
async fn what_was_left_out_is_told_though_a_comment_comes_first() {
    let gate = Gate::closed();
    let silent = Messages.words(&["one", " two"]).after(&gate);
    let upstream = upstream::always(silent).await;
    let gateway = only(Messages, &upstream, "heartbeat: 100ms").await;
    let mut body = stream_body("hi");
    body["logit_bias"] = serde_json::json!({"50256": -100});
    let mut stream = gateway.client().post(CHAT, body.to_string()).open().await;
    assert!(stream.event().await.unwrap().starts_with(':'));
    assert_eq!(stream.head.get("x-forebay-dropped"), Some("logit_bias"), "{:?}", stream.head);
    gate.open();
    let reply = stream.rest().await;
    assert_eq!(reply.streamed(), "one two", "{reply:?}");
}
