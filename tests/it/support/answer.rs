//! What a scripted upstream answers, and how it misbehaves.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::{Mutex, Semaphore, mpsc};

/// One scripted answer.
#[derive(Clone)]
pub struct Answer {
    pub gate: Option<Gate>,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Body,
    pub ending: Ending,
}

#[derive(Clone)]
pub enum Body {
    /// With a content-length.
    Whole(Bytes),
    /// Each piece a chunk of its own.
    Chunks(Vec<Bytes>),
    /// Chunks as the test sends them.
    Live(Feed),
    /// The whole message as it goes over the wire.
    Raw(Bytes),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Properly, and the connection stays open.
    KeepAlive,
    /// Properly, and then the connection closes without having said so.
    QuietClose,
    /// After the body, before its end: the connection closes.
    Cut,
    /// … or is reset.
    Reset,
    /// Before any of it: the connection closes.
    CutBeforeHead,
    /// Before any of it: the connection is reset.
    ResetBeforeHead,
    /// Never.
    Silence,
    /// After the head, everything received goes back.
    Echo,
}

/// Holds an answer back until it is opened.
#[derive(Clone)]
pub struct Gate(Arc<Semaphore>);

/// What a test sends as the body of an answer.
#[derive(Clone)]
pub struct Feed(Arc<Mutex<mpsc::UnboundedReceiver<Cue>>>);

/// The test's end of a feed.
pub struct Cues(mpsc::UnboundedSender<Cue>);

pub enum Cue {
    Bytes(Bytes),
    End,
    Cut,
    Reset,
}

// === impl Answer ===

impl Answer {
    pub fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            gate: None,
            status,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body: Body::Whole(body.into()),
            ending: Ending::KeepAlive,
        }
    }

    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    /// A chat completion, with a usage of 7 and 3 tokens.
    pub fn chat(text: &str) -> Self {
        Self::json(
            200,
            &json!({
                "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "upstream",
                "choices": [{"index": 0, "finish_reason": "stop",
                    "message": {"role": "assistant", "content": text}}],
                "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
            }),
        )
    }

    /// An error in OpenAI's shape.
    pub fn error(status: u16, message: &str) -> Self {
        let error = json!({"message": message, "type": "upstream_type", "param": null, "code": 42});
        Self::json(status, &json!({ "error": error }))
    }

    /// An event stream, each of these a chunk.
    pub fn events<T: Into<Bytes>>(pieces: impl IntoIterator<Item = T>) -> Self {
        let pieces = pieces.into_iter().map(Into::into).collect();
        Self { body: Body::Chunks(pieces), ..Self::new(200, EVENT_STREAM, "") }
    }

    /// A stream of these words as chat chunks, with its usage when asked for by `usage`, and `[DONE]`.
    pub fn words(words: &[&str], usage: bool) -> Self {
        let mut events = vec![delta(&json!({"role": "assistant", "content": ""}))];
        events.extend(words.iter().map(|word| content(word)));
        if usage {
            events.push(usage_event());
        }
        events.push(DONE.to_owned());
        Self::events(events)
    }

    /// An event stream whose events the test sends.
    pub fn live(feed: Feed) -> Self {
        Self { body: Body::Live(feed), ..Self::new(200, EVENT_STREAM, "") }
    }

    /// A whole message, to be sent as it is.
    pub fn raw(bytes: impl Into<Bytes>) -> Self {
        Self { body: Body::Raw(bytes.into()), ..Self::new(200, "", "") }
    }

    /// No answer at all.
    pub fn silence() -> Self {
        Self::chat("").ending(Ending::Silence)
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn ending(self, ending: Ending) -> Self {
        Self { ending, ..self }
    }

    #[must_use]
    pub fn after(self, gate: &Gate) -> Self {
        Self { gate: Some(gate.clone()), ..self }
    }
}

pub const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";
pub const DONE: &str = "data: [DONE]\n\n";

/// A chat chunk with this delta, as an event.
pub fn delta(delta: &serde_json::Value) -> String {
    let chunk = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "upstream",
        "choices": [{"index": 0, "delta": delta, "finish_reason": null}],
    });
    format!("data: {chunk}\n\n")
}

/// A chat chunk with this content, as an event.
pub fn content(text: &str) -> String {
    delta(&json!({ "content": text }))
}

/// The chunk that carries nothing but usage.
pub fn usage_event() -> String {
    let chunk = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "upstream",
        "choices": [],
        "usage": {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16},
    });
    format!("data: {chunk}\n\n")
}

// === impl Gate ===

impl Gate {
    pub fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// Lets everything through, from now on.
    pub fn open(&self) {
        self.0.add_permits(1 << 20);
    }

    /// Lets this many more through.
    pub fn let_through(&self, count: usize) {
        self.0.add_permits(count);
    }

    pub async fn pass(&self) {
        self.0.acquire().await.unwrap().forget();
    }
}

// === feeds ===

pub fn feed() -> (Cues, Feed) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Cues(sender), Feed(Arc::new(Mutex::new(receiver))))
}

impl Cues {
    pub fn send(&self, bytes: impl Into<Bytes>) {
        self.cue(Cue::Bytes(bytes.into()));
    }

    pub fn end(&self) {
        self.cue(Cue::End);
    }

    pub fn cue(&self, cue: Cue) {
        assert!(self.0.send(cue).is_ok(), "the upstream is gone");
    }
}

impl Feed {
    pub async fn next(&self) -> Cue {
        // A test that drops its end has nothing more to say.
        self.0.lock().await.recv().await.unwrap_or(Cue::End)
    }
}
