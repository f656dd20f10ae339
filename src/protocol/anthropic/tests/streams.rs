//! Streams as they are read.

use proptest::prelude::*;

use super::{assert_grammar, collect, read_pieces, read_stream, recorded, stream_of};
use crate::config::Dialect;
use crate::protocol::canonical::{
    Block, Event, FailureKind, Response, Signature, Stop, ToolKind, ToolUse, Usage,
};

const RECORDED: &[&[u8]] = &[
    recorded!("ant-stream-text"),
    recorded!("ant-stream-tool"),
    recorded!("ant-stream-tool-noargs"),
    recorded!("ant-stream-thinking"),
    recorded!("ant-stream-refusal"),
    recorded!("ant-stream-websearch"),
];

fn answer(stream: &[u8]) -> Response {
    let events = read_stream(stream);
    assert_grammar(&events);
    collect(&events).unwrap()
}

fn call(id: &str, name: &str, arguments: &str) -> Block {
    Block::ToolUse(ToolUse {
        id: id.to_owned(),
        name: name.to_owned(),
        namespace: None,
        kind: ToolKind::Function,
        arguments: arguments.to_owned(),
        signature: None,
    })
}

#[test]
fn the_recorded_text_is_read() {
    let response = answer(recorded!("ant-stream-text"));
    assert_eq!(response.id, "msg_017A4s3HAsrqf5d2WvBmrpLr");
    assert_eq!(response.model, "claude-sonnet-4-5-20250929");
    assert_eq!(response.blocks, [Block::text("- Captain\n- Scoop")]);
    assert_eq!(response.stop, Stop::EndTurn);
    assert_eq!(response.usage, Some(Usage { input: 17, output: 10, ..Usage::default() }));
}

#[test]
fn a_recorded_call_without_arguments_gets_an_empty_object() {
    let response = answer(recorded!("ant-stream-tool"));
    let fixed = call("toolu_01UmKD1vMphVCN9vw8PEMk1q", "fixed_version", "{}");
    assert_eq!((response.blocks, response.stop), (vec![fixed], Stop::ToolUse));
    let response = answer(recorded!("ant-stream-tool-noargs"));
    let update = call("toolu_01QE1WLsSVp5hy5Q3GmGTmjP", "updateIssueList", "{}");
    assert_eq!(response.blocks, [Block::text("I'll update the issue list for you."), update]);
    assert_eq!(response.usage, Some(Usage { input: 565, output: 48, ..Usage::default() }));
}

#[test]
fn recorded_thinking_is_read_with_its_signature() {
    let response = answer(recorded!("ant-stream-thinking"));
    let [Block::Thinking { text, signature: Some(signature) }, Block::Text { .. }] =
        response.blocks.as_slice()
    else {
        panic!("{:?}", response.blocks)
    };
    assert!(text.starts_with("This is a straightforward question about pedestrian safety."));
    assert_eq!(signature.dialect, Dialect::Anthropic);
    assert!(signature.data.len() > 100);
}

#[test]
fn a_recorded_refusal_keeps_what_was_said_before_it() {
    let response = answer(recorded!("ant-stream-refusal"));
    assert!(matches!(response.blocks.as_slice(), [Block::Thinking { .. }, Block::Text { .. }]));
    assert_eq!(response.stop, Stop::Filtered);
    let usage = response.usage.unwrap();
    assert_eq!((usage.input, usage.output, usage.reasoning), (28, 106, Some(67)));
}

#[test]
fn of_a_recorded_search_the_text_and_its_sources_are_read() {
    let response = answer(recorded!("ant-stream-websearch"));
    assert!(response.blocks.iter().all(|block| matches!(block, Block::Text { .. })));
    let cited = response.blocks.iter().find_map(|block| match block {
        Block::Text { text, annotations } => Some((text, annotations.first()?)),
        _ => None,
    });
    let (text, annotation) = cited.unwrap();
    assert!(text.starts_with("Today (November 15, 2025)"), "{text}");
    assert_eq!(annotation.url, "https://www.wunderground.com/hourly/us/ca/san-francisco");
    assert_eq!((annotation.start, annotation.end), (0, text.chars().count() as u64));
}

#[test]
fn pings_pass() {
    let events = read_stream(recorded!("ant-stream-tool-noargs"));
    assert_eq!(events.iter().filter(|event| **event == Event::Ping).count(), 3);
}

#[test]
fn it_does_not_matter_how_the_network_cuts_a_stream() {
    for stream in RECORDED {
        let whole = read_stream(stream);
        for size in [1, 2, 3, 7, 61] {
            assert_eq!(read_pieces(stream.chunks(size)), whole);
        }
        let step = if stream.len() < 3000 { 1 } else { 97 };
        for cut in (0..stream.len()).step_by(step) {
            let (head, tail) = stream.split_at(cut);
            assert_eq!(read_pieces([head, tail]), whole, "cut at {cut}");
        }
    }
}

#[test]
fn a_stream_that_breaks_off_is_never_whole() {
    for stream in RECORDED {
        let stop = memchr::memmem::find(stream, br#""stop_reason":""#).unwrap();
        for cut in (0..stop).step_by(if stream.len() < 3000 { 1 } else { 41 }) {
            let events = read_stream(&stream[..cut]);
            let Some(Event::Failed(failure)) = events.last() else { panic!("cut at {cut}") };
            assert!(failure.message.contains("broke off"), "{failure:?}");
            assert!(!events.iter().any(|event| matches!(event, Event::End(_))));
        }
    }
}

const START: &str = r#"{"type":"message_start","message":{"id":"msg_1","type":"message","model":"m","content":[],"usage":{"input_tokens":10,"output_tokens":1}}}"#;
const TEXT: &str =
    r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
const OK: &str =
    r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"ok"}}"#;
const CLOSE: &str = r#"{"type":"content_block_stop","index":0}"#;
const ENDED: &str =
    r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}}"#;
const STOP: &str = r#"{"type":"message_stop"}"#;

#[test]
fn the_end_may_lack_its_last_event_and_its_last_blank_line() {
    let response = answer(&stream_of(&[START, TEXT, OK, CLOSE, ENDED]));
    assert_eq!(response.stop, Stop::EndTurn);
    let mut stream = stream_of(&[START, TEXT, OK, CLOSE, ENDED, STOP]);
    stream.truncate(stream.len() - 2);
    assert_eq!(answer(&stream), response);
    // But an open block tells that something is missing.
    let events = read_stream(&stream_of(&[START, TEXT, OK, ENDED]));
    assert!(matches!(events.last(), Some(Event::Failed(_))));
}

#[test]
fn a_second_start_of_the_same_answer_is_passed_over() {
    let again = START.replace(":10", ":99");
    let response = answer(&stream_of(&[START, &again, TEXT, OK, CLOSE, ENDED, STOP]));
    assert_eq!(response.blocks, [Block::text("ok")]);
    assert_eq!(response.usage.map(|usage| usage.input), Some(10));
}

#[test]
fn another_answer_within_one_is_a_failure() {
    let other = START.replace("msg_1", "msg_2");
    let events = read_stream(&stream_of(&[START, TEXT, OK, &other, TEXT, OK, CLOSE, STOP]));
    assert_grammar(&events);
    assert!(matches!(events.last(), Some(Event::Failed(_))));
}

#[test]
fn usage_told_later_replaces_what_it_names() {
    let first = r#"{"type":"message_delta","delta":{},"usage":{"input_tokens":61}}"#;
    let response = answer(&stream_of(&[START, TEXT, OK, CLOSE, first, ENDED, STOP]));
    assert_eq!(response.usage, Some(Usage { input: 61, output: 2, ..Usage::default() }));
    let none = r#"{"type":"message_delta","delta":{"stop_reason":"max_tokens"}}"#;
    let response = answer(&stream_of(&[START, TEXT, OK, CLOSE, ENDED, none, STOP]));
    assert_eq!(response.stop, Stop::MaxTokens);
    assert_eq!(response.usage, Some(Usage { input: 10, output: 2, ..Usage::default() }));
}

#[test]
fn what_is_unknown_is_passed_over() {
    let response = answer(&stream_of(&[
        START,
        r#"{"type":"new","index":"x","delta":[1],"usage":"much"}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"new","text":{}}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"new_delta","text":{}}}"#,
        OK,
        CLOSE,
        &TEXT.replace(":0", ":1"),
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"new_delta","text":[]}}"#,
        &OK.replace(":0", ":1"),
        &CLOSE.replace(":0", ":1"),
        ENDED,
        STOP,
    ]));
    assert_eq!(response.blocks, [Block::text("ok")]);
}

#[test]
fn an_empty_refusal_is_one_and_its_explanation_is_told() {
    let refused = r#"{"type":"message_delta","delta":{"stop_reason":"refusal","stop_details":{"type":"refusal","category":"bio","explanation":"Not this."}}}"#;
    let ping = r#"{"type":"ping"}"#;
    let response = answer(&stream_of(&[START, ping, refused, STOP]));
    assert_eq!(response.blocks, [Block::Refusal("Not this.".to_owned())]);
    assert_eq!(response.stop, Stop::Filtered);
    let response = answer(&stream_of(&[START, ping, &refused.replace("Not this.", ""), STOP]));
    assert_eq!((response.blocks, response.stop), (Vec::new(), Stop::Filtered));
}

#[test]
fn blocks_that_stand_in_the_start_are_read() {
    let start = r#"{"type":"message_start","message":{"id":"msg_1","type":"message","model":"m","content":[{"type":"code_execution_tool_result","content":{}},{"type":"tool_use","id":"t","name":"f","input":{"a": 1}}],"stop_reason":"tool_use"}}"#;
    let response = answer(&stream_of(&[start, STOP]));
    assert_eq!(response.blocks, [call("t", "f", r#"{"a": 1}"#)]);
    assert_eq!(response.stop, Stop::ToolUse);
}

#[test]
fn arguments_that_stand_in_a_blocks_start_are_read() {
    let start = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{"a":1}}}"#;
    let response = answer(&stream_of(&[START, start, CLOSE, ENDED, STOP]));
    assert_eq!(response.blocks, [call("t", "f", r#"{"a":1}"#)]);
}

#[test]
fn thinking_that_only_anthropic_can_read_comes_whole() {
    let start = r#"{"type":"content_block_start","index":0,"content_block":{"type":"redacted_thinking","data":"Ev"}}"#;
    let response = answer(&stream_of(&[START, start, CLOSE, ENDED, STOP]));
    let signature = Signature { dialect: Dialect::Anthropic, data: "Ev".to_owned() };
    assert_eq!(response.blocks, [Block::RedactedThinking(signature)]);
}

#[test]
fn an_error_in_a_stream_is_a_failure_of_its_kind() {
    let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}"#;
    for stream in [stream_of(&[error]), stream_of(&[START, TEXT, OK, error, OK, STOP])] {
        let events = read_stream(&stream);
        let Some(Event::Failed(failure)) = events.last() else { panic!("{events:?}") };
        assert_eq!(failure.kind, FailureKind::Overloaded);
        assert_eq!(failure.message, "Overloaded");
    }
}

#[test]
fn what_cannot_be_read_is_a_failure() {
    for broken in ["{", "no", r#"{"type":"content_block_delta","index":0,"delta":7}"#] {
        let events = read_stream(&stream_of(&[START, TEXT, broken, OK, CLOSE, ENDED, STOP]));
        assert_grammar(&events);
        assert!(matches!(events.last(), Some(Event::Failed(_))), "{broken}");
    }
    let vast = format!("data: {{\"type\":\"ping\",\"x\":\"{}\"}}\n\n", "x".repeat(2 << 20));
    assert!(matches!(read_stream(vast.as_bytes()).as_slice(), [Event::Failed(_)]));
}

#[test]
fn blocks_that_are_never_closed_are_bounded() {
    let starts: Vec<_> = (0..1000).map(|index| TEXT.replace(":0", &format!(":{index}"))).collect();
    let mut data = vec![START];
    data.extend(starts.iter().map(String::as_str));
    let events = read_stream(&stream_of(&data));
    assert!(events.len() < 100);
    assert!(matches!(events.last(), Some(Event::Failed(_))));
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let events = read_stream(&bytes);
        prop_assert!(matches!(events.last(), Some(Event::Failed(_))));
    }

    #[test]
    fn no_order_of_events_breaks_the_grammar(
        order in prop::collection::vec(0usize..9, 0..30), wire in prop::collection::vec(0u8..3, 30),
    ) {
        let call = r#"{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#;
        let json = r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#;
        let ping = r#"{"type":"ping"}"#;
        let kinds = [START, TEXT, OK, CLOSE, call, json, ping, ENDED, STOP];
        let data: Vec<String> = order.iter().zip(&wire).map(|(kind, wire)| {
            kinds[*kind].replace("\"index\":0", &format!("\"index\":{wire}"))
        }).collect();
        let data: Vec<_> = data.iter().map(String::as_str).collect();
        assert_grammar(&read_stream(&stream_of(&data)));
    }
}
