//! What is asked for, and which answer is right.

use std::fmt::Write as _;

use bytes::Bytes;
use memchr::memmem;

use super::answers;

/// The key that clients of the gateway have.
pub const KEY: &str = "sk-bench-000000000000000000000000";
/// What the gateway puts before the text of an edited stream.
pub const PREFIX: &str = "Forebay: ";

/// One kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Workload {
    /// A short chat, answered in one piece
    Chat,
    /// A long prompt, answered in one piece
    Prompt,
    /// A stream whose events come one by one
    Stream,
    /// The same, with its thinking tagged and a prefix
    Tagged,
    /// A stream whose events come as fast as they are taken
    Burst,
    /// Memory, with many streams open and silent
    Idle,
    /// A short chat of a caller with limits, beside one of a caller without a key
    Limited,
}

/// Through which proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Bare,
    Gateway,
}

impl Workload {
    /// Those whose processor time is measured.
    pub const TIMED: [Self; 5] =
        [Self::Chat, Self::Prompt, Self::Stream, Self::Tagged, Self::Burst];

    pub fn title(self) -> &'static str {
        match self {
            Self::Chat => "chat, 1 KB, plain answer",
            Self::Prompt => "chat, 256 KB, plain answer",
            Self::Stream => "stream of 128 events, one by one",
            Self::Tagged => "… with `thinking: tag` and `prefix`",
            Self::Burst => "stream of 128 events, in a burst",
            Self::Idle => "an open, silent stream",
            Self::Limited => "chat, 1 KB, with a key, a user, three limits and a quota",
        }
    }

    /// Requests in one round: some tenths of a second of processor time.
    pub fn requests(self) -> usize {
        match self {
            Self::Chat | Self::Limited => 20_000,
            Self::Prompt => 4000,
            Self::Stream | Self::Tagged => 640,
            Self::Burst => 1600,
            Self::Idle => 1000,
        }
    }

    /// Connections that ask at the same time. Streams that wait need more of them, or the machine
    /// would sleep most of the time, and waking it is what would be measured.
    pub fn connections(self) -> usize {
        if matches!(self, Self::Stream | Self::Tagged) { 64 } else { 16 }
    }

    /// Tokens that the upstream counts for one answer.
    pub fn tokens(self) -> usize {
        match self {
            Self::Chat | Self::Prompt | Self::Limited => answers::PLAIN_TOKENS,
            Self::Stream | Self::Tagged | Self::Burst | Self::Idle => answers::CHUNKS,
        }
    }

    /// The request, as an SDK would send it.
    pub fn request(self) -> Bytes {
        let (model, size) = match self {
            Self::Chat | Self::Stream | Self::Limited => ("chat", 1 << 10),
            Self::Prompt => ("chat", 256 << 10),
            Self::Tagged => ("think", 1 << 10),
            Self::Burst => ("burst", 1 << 10),
            Self::Idle => ("idle", 1 << 10),
        };
        let stream = !matches!(self, Self::Chat | Self::Prompt | Self::Limited);
        let body = body(model, size, stream);
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway.example.org\r\n\
             accept: application/json\r\ncontent-type: application/json\r\n\
             user-agent: OpenAI/Python 2.8.0\r\nauthorization: Bearer {KEY}\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        Bytes::from(head + &body)
    }

    /// The body of the one right answer; `None` when the gateway may choose its words.
    pub fn expected(self, side: Side) -> Option<Bytes> {
        match (self, side) {
            (Self::Chat | Self::Prompt | Self::Limited, _) => {
                Some(Bytes::from_static(answers::PLAIN.as_bytes()))
            }
            (Self::Tagged, Side::Gateway) => None,
            (Self::Tagged, Side::Bare) => Some(answers::stream_body(true)),
            _ => Some(answers::stream_body(false)),
        }
    }
}

/// Whether a stream is edited as the gateway was told to.
pub fn is_tagged(body: &[u8]) -> bool {
    let has = |text: &str| memmem::find(body, text.as_bytes()).is_some();
    has(r#""<think> water""#)
        && has(&format!("</think>{PREFIX} water"))
        && !has("reasoning_content")
        && !has("\"usage\"")
        && memmem::find_iter(body, "data: ").count() > answers::CHUNKS
        && body.ends_with(answers::DONE)
}

/// A conversation of about `size` bytes, in turns of less than a kilobyte.
fn body(model: &str, size: usize, stream: bool) -> String {
    let turn =
        r#"The forebay holds water for the turbines.\nIt is \"full\" by dawn, and "#.repeat(11);
    let mut body = String::from(r#"{"messages":["#);
    while body.len() + turn.len() < size {
        let written = write!(body, r#"{{"role":"user","content":"{turn}"}},"#);
        written.expect("text can be written to text");
    }
    let stream = if stream { r#","stream":true"# } else { "" };
    body + r#"{"role":"user","content":"go on"}],"model":""#
        + model
        + r#"","temperature":0.7,"max_tokens":512"#
        + stream
        + "}"
}

/// Who may call the gateway: one key of the file.
pub fn one_key() -> String {
    format!("keys: [{{ name: bench, key: {KEY} }}]\n")
}

/// Anybody; a key is none of ours then.
pub const ANYBODY: &str = "anonymous: true\n";

/// The keys and users of this store, with a quota for everyone.
pub fn stored(store: &str) -> String {
    let group = r#"{ name: all, models: ["*"], tokens: 1000000000000 }"#;
    format!("store: {{ url: \"{store}\" }}\nquotas: {{ refresh: monthly, groups: [{group}] }}\n")
}

/// The gateway's configuration.
pub fn configuration(listen: &str, upstream: &str, threads: usize, callers: &str) -> String {
    let target =
        |name: &str| format!("[{{ provider: cluster, model: bench/{name}-70b-instruct }}]");
    let (chat, think) = (target("chat"), target("think"));
    let (burst, idle) = (target("burst"), target("idle"));
    format!(
        "version: 1
threads: {threads}
listen:
  - address: {listen}
{callers}providers:
  - name: cluster
    kind: vllm
    endpoints: [{{ url: \"http://{upstream}\" }}]
    health_check: {{ type: http, path: /health }}
models:
  - {{ name: chat, targets: {chat} }}
  - {{ name: burst, targets: {burst} }}
  - {{ name: idle, targets: {idle} }}
  - {{ name: think, targets: {think}, response: {{ thinking: tag, prefix: \"{PREFIX}\" }} }}
limits: {{ connections_per_ip: 10000 }}
metrics: {{ on_data_listener: true }}
"
    )
}
