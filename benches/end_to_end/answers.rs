//! What the upstream says: answers in the form in which vLLM, and for a call that is translated
//! Anthropic, were recorded to give them.

use std::fmt::Write as _;

use bytes::Bytes;

/// Chunks of one stream, not counting the one about usage.
pub const CHUNKS: usize = 128;
/// How many of them reason, in a stream that does.
const REASONING: usize = 50;

/// What [`PLAIN`] says it has cost; a stream says one token for each chunk.
pub const PLAIN_TOKENS: usize = 8;

/// The end of every stream.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

/// The heads are uvicorn's.
pub const JSON_HEAD: &str = "HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
    server: uvicorn\r\ncontent-type: application/json\r\n";
pub const STREAM_HEAD: &str = "HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
    server: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
    x-request-id: 5f2b6a1e9c3d4870a1b2c3d4e5f60718\r\ntransfer-encoding: chunked\r\n\r\n";

pub const PLAIN: &str = r#"{"id":"chatcmpl-b0f44de5105cca1d","object":"chat.completion","created":1795231976,"model":"bench/chat-70b-instruct","choices":[{"index":0,"message":{"role":"assistant","content":"It holds water for the turbines.","refusal":null,"annotations":null,"audio":null,"function_call":null,"reasoning":null},"logprobs":null,"finish_reason":"stop","stop_reason":null,"token_ids":null}],"usage":{"prompt_tokens":234,"total_tokens":242,"completion_tokens":8,"prompt_tokens_details":null},"prompt_logprobs":null}"#;

const USAGE: &str = r#""choices":[],"usage":{"prompt_tokens":234,"total_tokens":362,"completion_tokens":128,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":50}}"#;

/// The same answer as Anthropic gives it.
pub const MESSAGE: &str = r#"{"model":"claude-sonnet-4-5","id":"msg_014p7gG3wDgGV9EUtLvnow3U","type":"message","role":"assistant","content":[{"type":"text","text":"It holds water for the turbines."}],"stop_reason":"end_turn","stop_sequence":null,"stop_details":null,"usage":{"input_tokens":234,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},"output_tokens":8,"service_tier":"standard","inference_geo":"global"}}"#;

/// What its stream says around its text: each the type of an event, and the event's other members.
const MESSAGE_START: (&str, &str) = (
    "message_start",
    r#""message":{"model":"claude-sonnet-4-5","id":"msg_014p7gG3wDgGV9EUtLvnow3U","type":"message","role":"assistant","content":[],"stop_reason":null,"stop_sequence":null,"stop_details":null,"usage":{"input_tokens":234,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},"output_tokens":1,"service_tier":"standard","inference_geo":"global"}}"#,
);
const BLOCK_START: (&str, &str) =
    ("content_block_start", r#""index":0,"content_block":{"type":"text","text":""}"#);
const BLOCK_DELTA: (&str, &str) =
    ("content_block_delta", r#""index":0,"delta":{"type":"text_delta","text":" water"}"#);
const BLOCK_STOP: (&str, &str) = ("content_block_stop", r#""index":0"#);
const MESSAGE_DELTA: (&str, &str) = (
    "message_delta",
    r#""delta":{"stop_reason":"end_turn","stop_sequence":null,"stop_details":null},"usage":{"input_tokens":234,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":128}"#,
);

/// The events of one stream, in order, each as the data of an event stream.
pub fn events(reasoning: bool, usage: bool) -> Vec<String> {
    let spoken = (1..CHUNKS - 1).map(|count| {
        let member = if reasoning && count <= REASONING { "reasoning_content" } else { "content" };
        let delta = format!(r#"{{"{member}":" water"}}"#);
        event(&choice(&delta, r#""finish_reason":null"#))
    });
    let first = choice(r#"{"role":"assistant","content":""}"#, r#""finish_reason":null"#);
    let last = choice(r#"{"content":""}"#, r#""finish_reason":"stop","stop_reason":null"#);
    let mut events = vec![event(&first)];
    events.extend(spoken);
    events.push(event(&last));
    if usage {
        events.push(event(USAGE));
    }
    events.push(String::from_utf8_lossy(DONE).into_owned());
    events
}

/// The same text in as many pieces as Anthropic's events.
pub fn message_events() -> Vec<String> {
    let event = |(kind, members): (&str, &str)| {
        format!("event: {kind}\ndata: {{\"type\":\"{kind}\",{members}}}\n\n")
    };
    let mut events = vec![event(MESSAGE_START), event(BLOCK_START)];
    events.extend((1..CHUNKS - 1).map(|_| event(BLOCK_DELTA)));
    events.extend([BLOCK_STOP, MESSAGE_DELTA].map(event));
    events.push("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n".to_owned());
    events
}

/// A stream's body, as a client sees it that did not ask for usage.
pub fn stream_body(reasoning: bool) -> Bytes {
    Bytes::from(events(reasoning, false).concat())
}

/// Each event as a chunk of its own, then the last chunk of all: what is written, write by write.
pub fn writes(events: &[String]) -> Vec<Bytes> {
    let mut writes: Vec<Bytes> =
        events.iter().map(|event| format!("{:x}\r\n{event}\r\n", event.len()).into()).collect();
    writes.push(Bytes::from_static(b"0\r\n\r\n"));
    writes
}

/// A whole answer of known length.
pub fn whole(body: &str) -> Bytes {
    let mut answer = String::from(JSON_HEAD);
    let written = write!(answer, "content-length: {}\r\n\r\n{body}", body.len());
    written.expect("text can be written to text");
    answer.into()
}

fn choice(delta: &str, finish: &str) -> String {
    format!(
        r#""choices":[{{"index":0,"delta":{delta},"logprobs":null,{finish},"token_ids":null}}]"#
    )
}

fn event(members: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-b0f44de5105cca1d\",\"object\":\"chat.completion.chunk\",\
         \"created\":1795231976,\"model\":\"bench/chat-70b-instruct\",{members}}}\n\n"
    )
}
