//! An answer that breaks off after its beginning has reached the caller: told in-band, and never
//! tried again.

use serde_json::Value;

use crate::support::answer::{self, Answer, Body, Cue, Cues, Ending, content};
use crate::support::client::Reply;
use crate::support::gateway::{self, Gateway};
use crate::support::upstream::{self, Upstream};

const PAIR: &str = r#"
providers:
  - name: p
    kind: vllm
    endpoints: [{ url: "http://@a" }, { url: "http://@b" }]
    health_check: { type: none }
    timeouts: { first_byte: 5s, between_chunks: 300ms }
models:
  - { name: m, targets: [{ provider: p }] }
"#;

/// Two replicas that both answer so.
async fn both(answer: Answer) -> (Upstream, Upstream, Gateway) {
    let (a, b) = (upstream::always(answer.clone()).await, upstream::always(answer).await);
    let gateway = gateway::with(PAIR).up("a", &a).up("b", &b).start().await;
    (a, b, gateway)
}

/// What came before the error event, and the error.
fn told(reply: &Reply) -> (String, Value) {
    let events = reply.events();
    let last = events.last().unwrap_or_else(|| panic!("nothing came: {reply:?}"));
    let last: Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("{reply:?}"));
    (reply.streamed(), last["error"].clone())
}

/// The caller has had two events when `then` happens.
async fn is_told_in_band(then: impl FnOnce(&Cues)) {
    let (cues, feed) = answer::feed();
    let (a, b, gateway) = both(Answer::live(feed)).await;
    cues.send(content("Once"));
    let mut stream = gateway.client().stream("hi").await;
    assert!(stream.data().await.is_some_and(|event| event.contains("Once")));
    cues.send(content(" upon"));
    assert!(stream.data().await.is_some_and(|event| event.contains("upon")));
    then(&cues);
    let reply = stream.rest().await;
    let (text, error) = told(&reply);
    assert_eq!(text, "", "{reply:?}");
    assert_eq!(error["code"], "upstream_error", "{reply:?}");
    assert!(error["message"].is_string() && error["type"].is_string(), "{reply:?}");
    assert!(reply.whole, "the stream has no proper end: {reply:?}");
    assert!(!reply.text().contains("[DONE]"), "a broken stream is not done: {reply:?}");
    assert_eq!(a.count() + b.count(), 1, "tried again");
    let metrics = gateway.metrics().await;
    assert!(!metrics.contains("forebay_failovers_total{"), "{metrics}");
}

#[tokio::test]
async fn a_stream_cut_in_its_middle_is_told_in_band() {
    is_told_in_band(|cues| cues.cue(Cue::Cut)).await;
}

#[tokio::test]
async fn a_stream_reset_in_its_middle_is_told_in_band() {
    is_told_in_band(|cues| cues.cue(Cue::Reset)).await;
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_told_in_band() {
    is_told_in_band(|_| {}).await;
}

#[tokio::test]
async fn a_stream_cut_within_an_event_is_told_in_band() {
    let (cues, feed) = answer::feed();
    let (a, b, gateway) = both(Answer::live(feed)).await;
    cues.send(content("Once"));
    let mut stream = gateway.client().stream("hi").await;
    stream.data().await;
    let half = content(" upon");
    cues.send(half[..half.len() / 2].to_owned());
    cues.cue(Cue::Cut);
    let reply = stream.rest().await;
    let events = reply.events();
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap_or_else(|error| {
        panic!("the error event cannot be read ({error}): {reply:?}");
    });
    assert_eq!(last["error"]["code"], "upstream_error", "{reply:?}");
    assert!(reply.whole, "{reply:?}");
    assert_eq!(a.count() + b.count(), 1, "tried again");
}

#[tokio::test]
async fn messages_and_responses_are_told_in_their_own_words() {
    let event = |name: &str| format!("event: {name}\ndata: {{\"type\":\"{name}\"}}\n\n");
    for (path, first) in [("/v1/messages", "message_start"), ("/v1/responses", "response.created")]
    {
        let (cues, feed) = answer::feed();
        let (_a, _b, gateway) = both(Answer::live(feed)).await;
        let body = r#"{"model":"m","stream":true,"max_tokens":5,"messages":[],"input":"hi"}"#;
        cues.send(event(first));
        let mut stream = gateway.client().post(path, body).open().await;
        assert!(stream.event().await.is_some_and(|event| event.contains(first)));
        cues.cue(Cue::Cut);
        let reply = stream.rest().await;
        let text = reply.text();
        let last = text.trim_end().rsplit("\n\n").next().unwrap();
        assert!(last.starts_with("event: error\ndata: {"), "{path}: {reply:?}");
        let data: Value = serde_json::from_str(last.split("data: ").nth(1).unwrap()).unwrap();
        assert_eq!(data["type"], "error", "{path}: {reply:?}");
        assert!(reply.whole, "{path}: {reply:?}");
    }
}

#[tokio::test]
async fn an_answer_cut_in_its_middle_is_cut_and_not_tried_again() {
    let (a, b, gateway) = both(Answer::chat("Once upon a time").ending(Ending::Cut)).await;
    let reply = gateway.client().chat("hi").await;
    assert!(!reply.whole || reply.status == 502, "half an answer passes for a whole: {reply:?}");
    if reply.status == 200 {
        // Another attempt is right as long as the client has nothing; its head tells how many there
        // were by then, and none may follow it.
        let by_then = reply.header("x-forebay-attempts").unwrap_or_default();
        assert_eq!((a.count() + b.count()).to_string(), by_then, "tried again");
    }
}

#[tokio::test]
async fn an_error_event_in_the_middle_passes_as_the_provider_wrote_it() {
    let error = "data: {\"error\":{\"message\":\"CUDA\",\"code\":500}}\n\n";
    let pieces = [content("Once"), error.to_owned(), answer::DONE.to_owned()];
    let whole = pieces.concat();
    let (a, b, gateway) = both(Answer::events(pieces)).await;
    let reply = gateway.client().stream("hi").await.rest().await.ok();
    assert_eq!(reply.text(), whole);
    assert_eq!(a.count() + b.count(), 1, "tried again");
}

#[tokio::test]
async fn a_replica_that_breaks_streams_is_ejected_like_one_that_refuses_them() {
    let (a, b) = (upstream::chat("x").await, upstream::chat("x").await);
    let (cues, feed) = answer::feed();
    a.behave(move |_| Answer::live(feed.clone()));
    b.behave(|_| Answer::words(&["well"], false));
    let yaml = PAIR.replace("health_check", "ejection: { after: 3 }\n    health_check");
    let gateway = gateway::with(&yaml).up("a", &a).up("b", &b).start().await;
    for _ in 0..12 {
        let before = a.count();
        cues.send(content("Once"));
        let mut stream = gateway.client().stream("hi").await;
        stream.data().await;
        if a.count() > before {
            cues.cue(Cue::Cut);
        }
        stream.rest().await;
    }
    assert_eq!(gateway.health_of(&a).await, "ejected", "{} breaks", a.count());
}

#[tokio::test]
async fn a_download_cut_in_its_middle_is_cut_and_not_tried_again() {
    let (cues, feed) = answer::feed();
    let download = Answer { body: Body::Live(feed), ..Answer::new(200, "audio/mpeg", "") };
    let (a, b) = (upstream::always(download.clone()).await, upstream::always(download).await);
    let yaml = format!("{PAIR}\ndefault_provider: p\n");
    let gateway = gateway::with(&yaml).up("a", &a).up("b", &b).start().await;
    cues.send("first");
    let mut incoming = gateway.client().request("GET", "/v1/files/file-1/content").open().await;
    assert_eq!(incoming.piece().await.unwrap(), "first");
    cues.send("second");
    cues.cue(Cue::Cut);
    let reply = incoming.rest().await;
    assert!(!reply.whole, "half a file passes for a whole: {reply:?}");
    assert_eq!(reply.text(), "second");
    assert_eq!(a.count() + b.count(), 1, "tried again");
}

#[tokio::test]
async fn an_answer_that_falls_silent_in_its_middle_is_cut() {
    let (cues, feed) = answer::feed();
    let half = Answer { body: Body::Live(feed), ..Answer::new(200, "application/json", "") };
    let (a, b, gateway) = both(half).await;
    cues.send("{\"half\":");
    let reply = gateway.client().chat("hi").await;
    assert!(!reply.whole, "half an answer passes for a whole: {reply:?}");
    assert_eq!(a.count() + b.count(), 1, "tried again");
    drop(cues);
}
