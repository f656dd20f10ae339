//! What is asked for, and which answer is right.

use std::fmt::Write as _;

use bytes::Bytes;
use memchr::memmem;

use super::answers;

/// The key that clients of the gateway have.
pub const KEY: &str = "sk-bench-000000000000000000000000";
/// What the gateway puts before the text of an edited stream.
pub const PREFIX: &str = "Forebay: ";
/// Events of a stream beside its chunks: its usage, and its end.
const AROUND_CHUNKS: usize = 2;
/// Events of a stream of Anthropic's with as much text beside as many: five around its pieces, where
/// chunks have two.
const AROUND_MESSAGE: usize = 3;

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
    /// A short chat with a row of the audit, beside one without
    Audited,
    /// A short chat that is put into Anthropic's dialect, beside one that is not
    Translated,
    /// A stream whose events come one by one out of Anthropic's dialect, beside one that does not
    TranslatedStream,
    /// A prompt whose replica is chosen by its prefix, beside one whose replicas take turns
    Prefix,
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

    /// Those that are measured against the same call untranslated.
    pub const TRANSLATED: [Self; 2] = [Self::Translated, Self::TranslatedStream];

    /// Those that are measured against the same call with another of the gateway's settings.
    pub const CHOSEN: [Self; 1] = [Self::Prefix];

    /// Whether both sides are the gateway's.
    pub fn is_of_gateway(self) -> bool {
        Self::TRANSLATED.contains(&self) || Self::CHOSEN.contains(&self)
    }

    pub fn title(self) -> &'static str {
        match self {
            Self::Chat | Self::Translated => "chat, 1 KB, plain answer",
            Self::Prompt => "chat, 256 KB, plain answer",
            Self::Stream => "stream of 128 events, one by one",
            Self::Tagged => "… with `thinking: tag` and `prefix`",
            Self::Burst => "stream of 128 events, in a burst",
            Self::Idle => "an open, silent stream",
            Self::Limited => "chat, 1 KB, with a key, a user, three limits and a quota",
            Self::Audited => "chat, 1 KB, with `audit: { content: metadata }`",
            Self::Prefix => "chat, 16 KB, plain answer",
            Self::TranslatedStream => "each event of a stream, one by one",
        }
    }

    /// The most that it may cost: as a ratio, or of memory in KiB more.
    pub fn limit(self) -> Option<f64> {
        match self {
            Self::Chat => Some(1.35),
            Self::Prompt | Self::Tagged => Some(1.6),
            Self::Stream => Some(1.25),
            Self::Idle => Some(16.0),
            Self::Translated => Some(1.5),
            Self::TranslatedStream => Some(2.0),
            Self::Prefix => Some(1.2),
            Self::Limited => Some(1.15),
            Self::Audited => Some(1.1),
            Self::Burst => None,
        }
    }

    /// Of how many parts a time is told: the request, or the events that the upstream writes.
    pub fn parts(self, side: Side) -> usize {
        match (self, side) {
            (Self::TranslatedStream, Side::Bare) => answers::CHUNKS + AROUND_CHUNKS,
            (Self::TranslatedStream, Side::Gateway) => answers::CHUNKS + AROUND_MESSAGE,
            _ => 1,
        }
    }

    /// Requests in one round: some tenths of a second of processor time.
    pub fn requests(self) -> usize {
        match self {
            Self::Chat | Self::Limited | Self::Audited | Self::Translated => 20_000,
            Self::Prefix => 10_000,
            Self::Prompt => 4000,
            Self::Stream | Self::Tagged | Self::TranslatedStream => 640,
            Self::Burst => 1600,
            Self::Idle => 1000,
        }
    }

    /// Connections that ask at the same time. Streams that wait need more of them, or the machine
    /// would sleep most of the time, and waking it is what would be measured.
    pub fn connections(self) -> usize {
        let one_by_one = matches!(self, Self::Stream | Self::Tagged | Self::TranslatedStream);
        if one_by_one { 64 } else { 16 }
    }

    /// Its answer is a stream.
    fn streams(self) -> bool {
        !matches!(
            self,
            Self::Chat
                | Self::Prompt
                | Self::Limited
                | Self::Audited
                | Self::Translated
                | Self::Prefix
        )
    }

    /// Tokens that the upstream counts for one answer.
    pub fn tokens(self) -> usize {
        if self.streams() { answers::CHUNKS } else { answers::PLAIN_TOKENS }
    }

    /// The request, as an SDK would send it.
    pub fn request(self, side: Side) -> Bytes {
        let named = match (self, side) {
            (Self::Translated | Self::TranslatedStream, Side::Gateway) => "claude",
            (Self::Prefix, Side::Bare) => "turns",
            (Self::Prefix, Side::Gateway) => "prefix",
            (Self::Tagged, _) => "think",
            (Self::Burst, _) => "burst",
            (Self::Idle, _) => "idle",
            _ => "chat",
        };
        let bytes = match self {
            Self::Prompt => 256 << 10,
            Self::Prefix => 16 << 10,
            _ => 1 << 10,
        };
        let body = body(named, bytes, self.streams());
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
            (Self::Tagged | Self::Translated | Self::TranslatedStream, Side::Gateway) => None,
            (Self::Tagged, Side::Bare) => Some(answers::stream_body(true)),
            _ if self.streams() => Some(answers::stream_body(false)),
            _ => Some(Bytes::from_static(answers::PLAIN.as_bytes())),
        }
    }

    /// Whether an answer in the gateway's own words says what it should.
    pub fn is_answered_by(self, body: &[u8]) -> bool {
        match self {
            Self::Tagged => is_tagged(body),
            _ => is_translated(body, self.streams()),
        }
    }
}

/// Whether a stream is edited as the gateway was told to.
fn is_tagged(body: &[u8]) -> bool {
    let has = |text: &str| memmem::find(body, text.as_bytes()).is_some();
    has(r#""<think> water""#)
        && has(&format!("</think>{PREFIX} water"))
        && !has("reasoning_content")
        && !has("\"usage\"")
        && memmem::find_iter(body, "data: ").count() > answers::CHUNKS
        && body.ends_with(answers::DONE)
}

/// Whether an answer of Anthropic's is one that a client of `OpenAI`'s reads.
fn is_translated(body: &[u8], stream: bool) -> bool {
    let count = |text: &str| memmem::find_iter(body, text.as_bytes()).count();
    if stream {
        return count(r#""delta":{"content":" water"}"#) == answers::CHUNKS - 2
            && count(r#""finish_reason":"stop""#) == 1
            && count("event: ") == 0
            && body.ends_with(answers::DONE);
    }
    count(r#""content":"It holds water for the turbines.""#) == 1
        && count(r#""finish_reason":"stop""#) == 1
        && count(r#""completion_tokens":8"#) == 1
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
pub fn configuration(listen: &str, upstreams: [&str; 2], threads: usize, callers: &str) -> String {
    let [upstream, second] = upstreams;
    let both = format!("[{{ url: \"http://{upstream}\" }}, {{ url: \"http://{second}\" }}]");
    let target =
        |name: &str| format!("[{{ provider: cluster, model: bench/{name}-70b-instruct }}]");
    let (chat, think) = (target("chat"), target("think"));
    let (burst, idle) = (target("burst"), target("idle"));
    let claude = "[{ provider: anthropic, model: claude-sonnet-4-5 }]";
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
  - {{ name: turns, kind: vllm, endpoints: {both} }}
  - {{ name: prefix, kind: vllm, endpoints: {both}, load_balancing: prefix_affinity }}
  - name: anthropic
    kind: anthropic
    base_url: \"http://{upstream}\"
    api_keys: [sk-ant-bench-0000]
models:
  - {{ name: chat, targets: {chat} }}
  - {{ name: turns, targets: [{{ provider: turns, model: bench/chat-70b-instruct }}] }}
  - {{ name: prefix, targets: [{{ provider: prefix, model: bench/chat-70b-instruct }}] }}
  - {{ name: claude, targets: {claude} }}
  - {{ name: burst, targets: {burst} }}
  - {{ name: idle, targets: {idle} }}
  - {{ name: think, targets: {think}, response: {{ thinking: tag, prefix: \"{PREFIX}\" }} }}
limits: {{ connections_per_ip: 10000 }}
metrics: {{ on_data_listener: true }}
"
    )
}
