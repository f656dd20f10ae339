//! The way down, for streams that do not end: at the deadline each is told so in its own dialect,
//! and ended as its protocol ends a message.

use serde_json::{Value, json};

use crate::support::answer::{self, Answer, Cues, EVENT_STREAM, content};
use crate::support::client::Incoming;
use crate::support::gateway::{self, Gateway};
use crate::support::http2::{Http2, Incoming2};
use crate::support::upstream::{self, Upstream};
use crate::support::within;

/// A dialect: its path, what a request has besides a model, and its first event.
struct Dialect {
    path: &'static str,
    asks: Value,
    begins: String,
}

fn dialects() -> [Dialect; 4] {
    let messages = json!([{ "role": "user", "content": "hi" }]);
    let event = |name: &str, data: Value| format!("event: {name}\ndata: {data}\n\n");
    let completion = json!({ "id": "cmpl-1", "object": "text_completion", "created": 1,
        "model": "upstream", "choices": [{ "index": 0, "text": "one", "finish_reason": null }] });
    let response = json!({ "type": "response.created", "sequence_number": 0,
        "response": { "id": "resp_1", "object": "response", "status": "in_progress" } });
    let message = json!({ "type": "message_start", "message": { "id": "msg_1", "type": "message",
        "role": "assistant", "model": "upstream", "content": [],
        "usage": { "input_tokens": 1, "output_tokens": 1 } } });
    [
        Dialect {
            path: "/v1/chat/completions",
            asks: json!({ "messages": messages }),
            begins: content("one"),
        },
        Dialect {
            path: "/v1/completions",
            asks: json!({ "prompt": "hi" }),
            begins: format!("data: {completion}\n\n"),
        },
        Dialect {
            path: "/v1/responses",
            asks: json!({ "input": "hi" }),
            begins: event("response.created", response),
        },
        Dialect {
            path: "/v1/messages",
            asks: json!({ "max_tokens": 9, "messages": messages }),
            begins: event("message_start", message),
        },
    ]
}

impl Dialect {
    fn request(&self) -> String {
        let mut body = json!({ "model": "m", "stream": true });
        body.as_object_mut().unwrap().extend(self.asks.as_object().unwrap().clone());
        body.to_string()
    }

    /// Whether `last` tells of the end as the dialect's clients expect it.
    fn is_told(&self, last: &str) {
        let data = last.lines().find_map(|line| line.strip_prefix("data: "));
        let data: Value = serde_json::from_str(data.unwrap_or_else(|| panic!("{last}"))).unwrap();
        let name = last.lines().find_map(|line| line.strip_prefix("event: "));
        let said = match self.path {
            "/v1/messages" => {
                assert_eq!((name, &data["type"]), (Some("error"), &json!("error")), "{last}");
                assert_eq!(data["error"]["type"], "overloaded_error", "{last}");
                &data["error"]["message"]
            }
            "/v1/responses" => {
                assert_eq!((name, &data["type"]), (Some("error"), &json!("error")), "{last}");
                assert_eq!(data["code"], "overloaded", "{last}");
                &data["message"]
            }
            _ => {
                assert_eq!(name, None, "{last}");
                assert_eq!(data["error"]["code"], "overloaded", "{last}");
                &data["error"]["message"]
            }
        };
        assert!(said.as_str().unwrap().contains("shutting down"), "{last}");
    }
}

/// An upstream that begins every stream and ends none.
async fn beginning() -> (Upstream, Vec<Cues>) {
    let mut feeds = Vec::new();
    let mut kept = Vec::new();
    for dialect in dialects() {
        let (cues, feed) = answer::feed();
        cues.send(dialect.begins);
        feeds.push((dialect.path, feed));
        kept.push(cues);
    }
    let upstream = upstream::with(move |call| {
        let fed = feeds.iter().find(|(path, _)| *path == call.target());
        Answer::live(fed.unwrap_or_else(|| panic!("{call:?}")).1.clone())
    });
    (upstream.await, kept)
}

async fn draining(upstream: &Upstream) -> Gateway {
    let yaml = format!("heartbeat: 100ms\ntimeouts: {{ drain: 500ms }}\n{}", gateway::FRONT);
    gateway::with(&yaml).up("up", upstream).start().await
}

/// The parts of an event stream that are no comments.
fn events(text: &str) -> Vec<&str> {
    let whole = text.strip_suffix("\n\n").unwrap_or_else(|| panic!("cut in an event: {text}"));
    whole.split("\n\n").filter(|event| !event.starts_with(':')).collect()
}

/// Each of these streams, one of a dialect, ends with one more event that tells of the stop.
async fn are_told(gateway: &mut Gateway, streams: Vec<Incoming>) {
    gateway.signal("TERM");
    for (stream, dialect) in streams.into_iter().zip(dialects()) {
        let reply = stream.rest().await;
        assert!(reply.whole, "a bare cut: {reply:?}");
        let text = reply.text();
        let [last] = events(&text)[..] else { panic!("{reply:?}") };
        dialect.is_told(last);
    }
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_stream_that_has_begun_is_told() {
    let (upstream, _cues) = beginning().await;
    let mut gateway = draining(&upstream).await;
    let mut streams: Vec<Incoming> = Vec::new();
    for dialect in dialects() {
        let mut stream = gateway.client().post(dialect.path, dialect.request()).open().await;
        assert_eq!(stream.data().await.unwrap(), dialect.begins.trim_end());
        streams.push(stream);
    }
    are_told(&mut gateway, streams).await;
}

#[tokio::test]
async fn a_stream_of_heartbeats_is_told() {
    let upstream = upstream::always(Answer::silence()).await;
    let mut gateway = draining(&upstream).await;
    let mut streams: Vec<Incoming> = Vec::new();
    for dialect in dialects() {
        let mut stream = gateway.client().post(dialect.path, dialect.request()).open().await;
        assert_eq!(stream.head.get("content-type"), Some(EVENT_STREAM));
        assert!(stream.event().await.unwrap().starts_with(':'));
        streams.push(stream);
    }
    are_told(&mut gateway, streams).await;
    assert_eq!(upstream.count(), 4, "tried again for nobody");
}

/// Everything up to the stream's end; a reset is a failure.
async fn rest(mut stream: Incoming2) -> String {
    let mut whole = Vec::new();
    while let Some(piece) = stream.piece().await {
        whole.extend_from_slice(&piece.expect("a stream's proper end"));
    }
    String::from_utf8(whole).unwrap()
}

#[tokio::test]
async fn a_stream_that_has_begun_is_told_over_http2() {
    let (upstream, _cues) = beginning().await;
    let mut gateway = draining(&upstream).await;
    let mut http2 = Http2::connect(gateway.address).await;
    let mut streams = Vec::new();
    for dialect in dialects() {
        let mut stream = http2.post(dialect.path, dialect.request()).await;
        let first = stream.piece().await.unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&first), dialect.begins);
        streams.push(stream);
    }
    gateway.signal("TERM");
    for (stream, dialect) in streams.into_iter().zip(dialects()) {
        let text = rest(stream).await;
        let [last] = events(&text)[..] else { panic!("{text}") };
        dialect.is_told(last);
    }
    drop(http2);
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_stream_of_heartbeats_is_told_over_http2() {
    let upstream = upstream::always(Answer::silence()).await;
    let mut gateway = draining(&upstream).await;
    let mut http2 = Http2::connect(gateway.address).await;
    let mut streams = Vec::new();
    for dialect in dialects() {
        let mut stream = http2.post(dialect.path, dialect.request()).await;
        let first = stream.piece().await.unwrap().unwrap();
        assert!(first.starts_with(b":"), "{first:?}");
        streams.push(stream);
    }
    gateway.signal("TERM");
    for (stream, dialect) in streams.into_iter().zip(dialects()) {
        let text = rest(stream).await;
        let [last] = events(&text)[..] else { panic!("{text}") };
        dialect.is_told(last);
    }
    drop(http2);
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert_eq!(upstream.count(), 4, "tried again for nobody");
}

#[tokio::test]
async fn a_stream_without_a_byte_yet_is_refused() {
    let upstream = upstream::always(Answer::silence()).await;
    let yaml = format!("heartbeat: off\ntimeouts: {{ drain: 300ms }}\n{}", gateway::FRONT);
    let mut gateway = gateway::with(&yaml).up("up", &upstream).start().await;
    let mut waiting = Vec::new();
    for (index, dialect) in dialects().iter().enumerate() {
        waiting.push(gateway.client().post(dialect.path, dialect.request()).begin().await);
        upstream.wait_for(index).await;
    }
    gateway.signal("TERM");
    for mut connection in waiting {
        let reply = within("a refusal", connection.reply()).await;
        assert_eq!((reply.status, reply.whole), (503, true), "{reply:?}");
        assert!(reply.header("retry-after").is_some(), "{reply:?}");
        assert_eq!(reply.header("connection"), Some("close"), "{reply:?}");
    }
    assert_eq!(gateway.ended().await.code(), Some(0));
}
