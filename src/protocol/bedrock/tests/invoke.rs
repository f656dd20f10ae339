//! Claude's events in frames, and out of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::{collect, read};
use crate::protocol::anthropic;
use crate::protocol::bedrock::invoke::{ChunkReader, ChunkWriter};
use crate::protocol::canonical::{Block, Event, Stop, Usage};
use crate::protocol::framing::eventstream::{Decoder, Kind, write_event, write_exception};

/// Claude's last event as Bedrock frames it.
const MESSAGE_STOP: &str = concat!(
    "AAABOQAAAEvjQU4jCzpldmVudC10eXBlBwAFY2h1bmsNOmNvbnRlbnQtdHlwZQcAEGFwcGxpY2F0aW9uL2pzb24NOm1l",
    "c3NhZ2UtdHlwZQcABWV2ZW50eyJieXRlcyI6ImV5SjBlWEJsSWpvaWJXVnpjMkZuWlY5emRHOXdJaXdpWVcxaGVtOXVM",
    "V0psWkhKdlkyc3RhVzUyYjJOaGRHbHZiazFsZEhKcFkzTWlPbnNpYVc1d2RYUlViMnRsYmtOdmRXNTBJam94TWl3aWIz",
    "VjBjSFYwVkc5clpXNURiM1Z1ZENJNk5Dd2lhVzUyYjJOaGRHbHZia3hoZEdWdVkza2lPalkwTUN3aVptbHljM1JDZVhS",
    "bFRHRjBaVzVqZVNJNk16RXdmWDA9IiwicCI6ImFiYyJ9Fcw1wg==",
);

const RECORDED: [&[u8]; 3] = [
    include_bytes!("../../../../tests/fixtures/recorded/ant-stream-text/response.bin"),
    include_bytes!("../../../../tests/fixtures/recorded/ant-stream-thinking/response.bin"),
    include_bytes!("../../../../tests/fixtures/recorded/ant-stream-tool/response.bin"),
];

fn chunk(event: &str, out: &mut Vec<u8>) {
    let payload = json!({ "bytes": STANDARD.encode(event), "p": "abc" }).to_string();
    write_event("chunk", out, |out| out.extend(payload.bytes())).unwrap();
}

fn unframed(bytes: &[u8], size: usize) -> String {
    let (mut reader, mut out) = (ChunkReader::new(), Vec::new());
    for piece in bytes.chunks(size) {
        reader.push(Bytes::copy_from_slice(piece), &mut out);
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn a_chunk_carries_an_event_of_claudes() {
    let frame = STANDARD.decode(MESSAGE_STOP).unwrap();
    let wanted = concat!(
        "event: message_stop\ndata: {\"type\":\"message_stop\",\"amazon-bedrock-invocationMetrics\":",
        "{\"inputTokenCount\":12,\"outputTokenCount\":4,\"invocationLatency\":640,",
        "\"firstByteLatency\":310}}\n\n",
    );
    for size in [1, 7, 1000] {
        assert_eq!(unframed(&frame, size), wanted);
    }
}

#[test]
fn line_breaks_between_tokens_do_not_break_the_event() {
    let mut frames = Vec::new();
    chunk("{\"type\":\r\n \"ping\"\n}", &mut frames);
    assert_eq!(unframed(&frames, 1000), "event: ping\ndata: {\"type\":   \"ping\" }\n\n");
}

#[test]
fn an_exception_becomes_an_error_and_nothing_comes_behind_it() {
    let mut frames = Vec::new();
    let slow_down = |out: &mut Vec<u8>| out.extend_from_slice(br#"{"message":"slow down"}"#);
    write_exception("throttlingException", &mut frames, slow_down).unwrap();
    chunk(r#"{"type":"message_stop"}"#, &mut frames);
    let text = unframed(&frames, 1000);
    let data = text.strip_prefix("event: error\ndata: ").unwrap().strip_suffix("\n\n").unwrap();
    let error: Value = serde_json::from_str(data).unwrap();
    assert_eq!(error["error"]["type"], "rate_limit_error");
    assert_eq!(error["error"]["message"], "slow down");
}

#[test]
fn what_cannot_be_read_becomes_an_error() {
    for payload in [json!({}), json!({ "bytes": "%" }), json!({ "bytes": "e30=" })] {
        let mut frames = Vec::new();
        let payload = payload.to_string();
        write_event("chunk", &mut frames, |out| out.extend(payload.bytes())).unwrap();
        let text = unframed(&frames, 1000);
        assert!(text.contains("\"api_error\""), "{text}");
    }
    assert!(unframed(b"HTTP/1.1 200 OK\r\n\r\n", 1000).contains("\"api_error\""));
}

#[test]
fn events_are_framed_and_come_out_of_their_frames_as_they_were() {
    let sse = concat!(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\"}}\n\n",
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":",
        "{\"type\":\"text_delta\",\"text\":\"Grüße\"}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    );
    let with_pings = sse.replace(
        "event: message_stop",
        "event: ping\ndata: {\"type\":\"ping\"}\n\n: x\n\nevent: message_stop",
    );
    for size in [1, 5, 1000] {
        let (mut writer, mut out) = (ChunkWriter::new(), Vec::new());
        for piece in with_pings.as_bytes().chunks(size) {
            writer.push(Bytes::copy_from_slice(piece), &mut out);
        }
        assert_eq!(unframed(&out, 1000), sse);
        let mut decoder = Decoder::new();
        decoder.push(out.into());
        assert!(decoder.all(|message| message.unwrap().kind() == Kind::Event("chunk")));
    }
}

#[test]
fn an_error_becomes_an_exception_and_nothing_comes_behind_it() {
    let sse = concat!(
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",",
        "\"message\":\"Overloaded\"}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    );
    let (mut writer, mut out) = (ChunkWriter::new(), Vec::new());
    writer.push(Bytes::from_static(sse.as_bytes()), &mut out);
    let mut decoder = Decoder::new();
    decoder.push(out.into());
    let message = decoder.next().unwrap().unwrap();
    assert_eq!(message.kind(), Kind::Exception("serviceUnavailableException"));
    assert_eq!(&message.payload[..], br#"{"message":"Overloaded"}"#);
    assert!(decoder.next().is_none());
}

#[test]
fn a_models_own_events_in_the_form_of_converse_are_read_in_chunks_too() {
    let mut frames = Vec::new();
    for event in [
        json!({ "messageStart": { "role": "assistant" } }),
        json!({ "contentBlockDelta": { "contentBlockIndex": 0, "delta": { "text": "hi" } } }),
        json!({ "contentBlockStop": { "contentBlockIndex": 0 } }),
        json!({ "messageStop": { "stopReason": "max_tokens" } }),
        json!({ "metadata": { "usage": { "inputTokens": 3, "outputTokens": 1 } },
            "amazon-bedrock-invocationMetrics": { "inputTokenCount": 3 } }),
    ] {
        chunk(&event.to_string(), &mut frames);
    }
    let response = collect(read([frames])).unwrap();
    assert_eq!(response.blocks, [Block::text("hi")]);
    assert_eq!(response.stop, Stop::MaxTokens);
    assert_eq!(response.usage, Some(Usage { input: 3, output: 1, ..Usage::default() }));
}

/// What Anthropic's own reader tells of these bytes.
fn told(bytes: Vec<u8>) -> Vec<Event> {
    let (mut reader, mut events) = (anthropic::StreamReader::new(), Vec::new());
    reader.push(bytes.into(), &mut events);
    reader.finish(&mut events);
    events.retain(|event| *event != Event::Ping);
    events
}

#[test]
fn recorded_streams_say_the_same_after_their_way_through_the_frames() {
    for bytes in RECORDED {
        let (mut writer, mut frames) = (ChunkWriter::new(), Vec::new());
        writer.push(Bytes::from_static(bytes), &mut frames);
        let events = told(unframed(&frames, 100).into_bytes());
        assert!(matches!(events.last(), Some(Event::End(_))));
        assert_eq!(events, told(bytes.to_vec()));
    }
}
