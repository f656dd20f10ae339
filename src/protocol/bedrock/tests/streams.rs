//! Streams, read under every cut and written.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{call, collect, read, response};
use crate::config::Dialect;
use crate::protocol::bedrock::{StreamWriter, read_response, write_response, write_stream_refusal};
use crate::protocol::canonical::{
    Annotation, Block, Delta, End, Event, Failure, FailureKind, Image, Opening, Response,
    Signature, Source, Start, Stop, Told, ToolKind, Usage, replay,
};
use crate::protocol::framing::eventstream::{Decoder, Kind, write_event, write_exception};

macro_rules! recorded {
    ($id:literal) => {
        include_bytes!(concat!("../../../../tests/fixtures/recorded/", $id, "/response.bin"))
    };
}

const RECORDED: [&[u8]; 5] = [
    recorded!("bed-stream-empty-delta"),
    recorded!("bed-stream-native-output"),
    recorded!("bed-stream-text"),
    recorded!("bed-stream-thinking"),
    recorded!("bed-stream-tool"),
];

/// A stream of these events.
fn stream(events: &[(&str, Value)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, payload) in events {
        write_event(name, &mut out, |out| out.extend(payload.to_string().bytes())).unwrap();
    }
    out
}

fn start() -> (&'static str, Value) {
    ("messageStart", json!({ "role": "assistant", "p": "abc" }))
}

fn delta(index: u32, delta: &Value) -> (&'static str, Value) {
    ("contentBlockDelta", json!({ "contentBlockIndex": index, "delta": delta, "p": "abc" }))
}

fn close(index: u32) -> (&'static str, Value) {
    ("contentBlockStop", json!({ "contentBlockIndex": index }))
}

fn stop(reason: &str) -> (&'static str, Value) {
    ("messageStop", json!({ "stopReason": reason }))
}

fn metadata() -> (&'static str, Value) {
    let usage = json!({ "inputTokens": 1, "outputTokens": 2, "totalTokens": 3 });
    ("metadata", json!({ "usage": usage, "metrics": { "latencyMs": 1 } }))
}

fn answer(events: &[(&str, Value)]) -> Response {
    collect(read([stream(events)])).unwrap()
}

fn failure(events: &[(&str, Value)]) -> Failure {
    collect(read([stream(events)])).unwrap_err()
}

#[test]
fn recorded_streams_say_the_same_wherever_the_network_cuts() {
    for bytes in RECORDED {
        let whole = read([bytes.to_vec()]);
        collect(whole.clone()).unwrap();
        for size in [1, 2, 3, 7] {
            assert_eq!(read(bytes.chunks(size).map(<[u8]>::to_vec)), whole, "pieces of {size}");
        }
        for at in (0..bytes.len()).step_by(1 + bytes.len() / 800) {
            let (left, right) = bytes.split_at(at);
            assert_eq!(read([left.to_vec(), right.to_vec()]), whole, "cut at {at}");
        }
    }
}

#[test]
fn a_recorded_stream_that_breaks_off_anywhere_never_ends_well_before_its_stop() {
    for bytes in RECORDED {
        let stop = memchr::memmem::find(bytes, b"messageStop").unwrap();
        for at in (0..bytes.len()).step_by(1 + bytes.len() / 800) {
            let events = read([bytes[..at].to_vec()]);
            let ended = matches!(events.last(), Some(Event::End(_)));
            assert!(ended || matches!(events.last(), Some(Event::Failed(_))));
            assert!(!ended || at > stop, "cut at {at}");
        }
    }
}

#[test]
fn text_is_read() {
    let response = collect(read([RECORDED[2].to_vec()])).unwrap();
    let [Block::Text { text, .. }] = &response.blocks[..] else { panic!("{response:?}") };
    assert!(text.starts_with("The capital of France is Paris."));
    assert_eq!(response.usage.map(|it| (it.input, it.output)), Some((13, 82)));
    let response = collect(read([RECORDED[1].to_vec()])).unwrap();
    let json = r#"{"city":"Paris","country":"France","population":2161000}"#;
    assert_eq!(response.blocks, [Block::text(json)]);
}

#[test]
fn reasoning_begins_without_a_word_and_ends_with_its_signature() {
    let response = collect(read([RECORDED[3].to_vec()])).unwrap();
    let [Block::Thinking { text, signature: Some(signature) }, Block::Text { text: said, .. }] =
        &response.blocks[..]
    else {
        panic!("{response:?}")
    };
    assert!(text.starts_with("The user has greeted me") && text.ends_with("them today."));
    assert!(signature.data.starts_with("Eu0CCkgI"));
    assert_eq!(said, "Hello! It's nice to meet you. How can I help you today?");
}

#[test]
fn two_calls_follow_the_text() {
    let response = collect(read([RECORDED[4].to_vec()])).unwrap();
    let name = "get_current_weather";
    let calls = [
        call("tooluse_JZ11QcxSQ3m3xacMQKVIKw", name, r#"{"location":"Seattle"}"#),
        call("tooluse_-hxBEEwGRc-VQqC2i7SFqg", name, r#"{"location":"San Francisco"}"#),
    ];
    assert_eq!(response.blocks[1..], calls);
    assert_eq!(response.stop, Stop::ToolUse);
}

#[test]
fn an_empty_delta_begins_no_block_and_indices_may_skip() {
    let response = collect(read([RECORDED[0].to_vec()])).unwrap();
    let [Block::Thinking { signature: None, .. }, Block::Text { text, .. }] = &response.blocks[..]
    else {
        panic!("{response:?}")
    };
    assert_eq!(text, "Hello! How can I help you today?");
    let events = read([RECORDED[0].to_vec()]);
    let opened = events.iter().filter_map(|event| match event {
        Event::Open { index, .. } => Some(*index),
        _ => None,
    });
    assert_eq!(opened.collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn the_end_waits_for_the_usage_wherever_it_comes() {
    let hi = delta(0, &json!({ "text": "hi" }));
    let usage = Some(Usage { input: 1, output: 2, ..Usage::default() });
    for events in [
        vec![start(), hi.clone(), close(0), stop("end_turn"), metadata()],
        vec![start(), hi.clone(), metadata(), close(0), stop("end_turn")],
    ] {
        assert_eq!(answer(&events).usage, usage);
    }
    let response = answer(&[start(), hi.clone(), close(0), stop("end_turn")]);
    assert_eq!((response.usage, response.stop), (None, Stop::EndTurn));
    assert_eq!(failure(&[start(), hi.clone(), metadata()]), Failure::cut_off());
    assert_eq!(failure(&[start(), hi]), Failure::cut_off());
    assert_eq!(failure(&[]), Failure::cut_off());
}

#[test]
fn a_call_without_arguments_gets_an_empty_object() {
    let tool = json!({ "toolUse": { "toolUseId": "c", "name": "f" } });
    let begin = ("contentBlockStart", json!({ "contentBlockIndex": 1, "start": tool }));
    let empty = delta(1, &json!({ "toolUse": { "input": "" } }));
    for between in [vec![], vec![empty]] {
        let mut events = vec![start(), begin.clone()];
        events.extend(between);
        events.extend([close(1), stop("end_turn"), metadata()]);
        let response = answer(&events);
        assert_eq!(response.blocks, [call("c", "f", "{}")]);
        assert_eq!(response.stop, Stop::ToolUse);
    }
}

#[test]
fn blocks_that_nobody_closed_are_closed_at_the_end() {
    let events = [
        start(),
        ("contentBlockStart", json!({ "contentBlockIndex": 0, "start": {} })),
        delta(0, &json!({ "reasoningContent": { "text": "hm" } })),
        delta(0, &json!({ "text": "hi" })),
        stop("end_turn"),
        metadata(),
    ];
    let events = read([stream(&events)]);
    let opened = events.iter().filter(|event| matches!(event, Event::Open { .. })).count();
    let closed = events.iter().filter(|event| matches!(event, Event::Close { .. })).count();
    assert_eq!((opened, closed), (2, 2));
    let thinking = Block::Thinking { text: "hm".to_owned(), signature: None };
    assert_eq!(collect(events).unwrap().blocks, [thinking, Block::text("hi")]);
}

#[test]
fn what_only_the_provider_can_read_comes_whole() {
    let events = [
        start(),
        delta(0, &json!({ "reasoningContent": { "redactedContent": "AQID" } })),
        close(0),
        stop("end_turn"),
        metadata(),
    ];
    let signature = Signature { dialect: Dialect::Bedrock, data: "AQID".to_owned() };
    assert_eq!(answer(&events).blocks, [Block::RedactedThinking(signature)]);
}

#[test]
fn an_image_comes_with_its_format() {
    let begin = json!({ "contentBlockIndex": 0, "start": { "image": { "format": "png" } } });
    let events = [
        start(),
        ("contentBlockStart", begin),
        delta(0, &json!({ "image": { "source": { "bytes": "iVBORw0KGgo=" } } })),
        close(0),
        stop("end_turn"),
        metadata(),
    ];
    let source = Source::Base64("iVBORw0KGgo=".to_owned());
    let image = Image { source, media_type: Some("image/png".to_owned()), detail: None };
    assert_eq!(answer(&events).blocks, [Block::Image(image)]);
}

#[test]
fn a_citation_is_of_its_whole_block() {
    let web = json!({ "citation": { "title": "T", "location": { "web": { "url": "u" } } } });
    let events = [
        start(),
        delta(0, &json!({ "text": "Grü" })),
        delta(0, &web),
        delta(0, &json!({ "text": "ße" })),
        close(0),
        stop("end_turn"),
    ];
    let annotation = Annotation { url: "u".into(), title: Some("T".into()), start: 0, end: 5 };
    let wanted = Block::Text { text: "Grüße".to_owned(), annotations: vec![annotation] };
    assert_eq!(answer(&events).blocks, [wanted]);
}

#[test]
fn tools_of_the_services_own_are_passed_over() {
    let tool = json!({ "toolUse": { "toolUseId": "s", "name": "w", "type": "server_tool_use" } });
    let result = json!({ "toolResult": { "toolUseId": "s", "type": "w" } });
    let events = [
        start(),
        ("contentBlockStart", json!({ "contentBlockIndex": 0, "start": tool })),
        delta(0, &json!({ "toolUse": { "input": "{}" } })),
        close(0),
        ("contentBlockStart", json!({ "contentBlockIndex": 1, "start": result })),
        delta(1, &json!({ "toolResult": [{ "text": "x" }] })),
        close(1),
        delta(2, &json!({ "text": "hi" })),
        ("somethingNew", json!({})),
        stop("end_turn"),
    ];
    let response = answer(&events);
    assert_eq!((response.blocks, response.stop), (vec![Block::text("hi")], Stop::EndTurn));
}

#[test]
fn an_exception_ends_the_stream() {
    let mut bytes = stream(&[start(), delta(0, &json!({ "text": "hi" }))]);
    let slow_down = |out: &mut Vec<u8>| out.extend_from_slice(br#"{"message":"slow down"}"#);
    write_exception("throttlingException", &mut bytes, slow_down).unwrap();
    bytes.extend(stream(&[stop("end_turn"), metadata()]));
    let events = read([bytes]);
    let Some(Event::Failed(failure)) = events.last() else { panic!("{events:?}") };
    assert_eq!(failure.kind, FailureKind::RateLimit);
    assert_eq!(failure.message, "slow down");
    for (name, kind) in [
        ("internalServerException", FailureKind::Server),
        ("serviceUnavailableException", FailureKind::Overloaded),
        ("validationException", FailureKind::Invalid),
        ("modelStreamErrorException", FailureKind::Server),
        ("modelTimeoutException", FailureKind::Timeout),
    ] {
        let failure = self::failure(&[start(), (name, json!({ "message": "m" }))]);
        assert_eq!((failure.kind, failure.message.as_str()), (kind, "m"), "{name}");
    }
}

#[test]
fn what_cannot_be_read_fails_the_stream() {
    let says =
        |failure: &Failure| failure.message.starts_with("The provider's stream cannot be read");
    assert!(says(&collect(read([b"data: {}\n\ndata: {}\n\n".to_vec()])).unwrap_err()));
    assert!(says(&failure(&[start(), ("contentBlockDelta", json!([1]))])));
    assert!(says(&failure(&[("chunk", json!({ "bytes": "!" }))])));
    let many = (0..5000).map(|index| {
        let tool = json!({ "toolUse": { "toolUseId": "c", "name": "f" } });
        ("contentBlockStart", json!({ "contentBlockIndex": index, "start": tool }))
    });
    assert!(says(&failure(&many.collect::<Vec<_>>())));
    let nothing = failure(&[start(), stop("malformed_model_output"), metadata()]);
    assert_eq!(nothing.kind, FailureKind::Server);
}

#[test]
fn an_answer_and_its_stream_say_the_same() {
    let content = json!([
        { "reasoningContent": { "reasoningText": { "text": "hm", "signature": "s" } } },
        { "text": "hi" },
        { "toolUse": { "toolUseId": "c", "name": "f", "input": { "a": 1 } } },
    ]);
    let usage = metadata().1["usage"].clone();
    let whole = json!({ "output": { "message": { "content": content } },
        "stopReason": "tool_use", "usage": usage });
    let tool = json!({ "toolUse": { "toolUseId": "c", "name": "f" } });
    let events = [
        start(),
        delta(0, &json!({ "reasoningContent": { "text": "hm" } })),
        delta(0, &json!({ "reasoningContent": { "signature": "s" } })),
        close(0),
        delta(1, &json!({ "text": "hi" })),
        close(1),
        ("contentBlockStart", json!({ "contentBlockIndex": 2, "start": tool })),
        delta(2, &json!({ "toolUse": { "input": "{\"a\"" } })),
        delta(2, &json!({ "toolUse": { "input": ":1}" } })),
        close(2),
        stop("tool_use"),
        metadata(),
    ];
    assert_eq!(answer(&events), read_response(whole.to_string().as_bytes()).unwrap());
}

/// Writes the events, and holds what is written to what a client of Converse may rely on.
fn write(events: &[Event]) -> Vec<u8> {
    let mut writer = StreamWriter::new(Told::default());
    let mut out = Vec::new();
    for event in events {
        writer.write(event, &mut out);
    }
    let mut decoder = Decoder::new();
    decoder.push(out.clone().into());
    let (mut open, mut next, mut names) = (None, 0, Vec::new());
    for message in decoder {
        let message = message.unwrap();
        let Kind::Event(name) = message.kind() else {
            names.push("exception".to_owned());
            continue;
        };
        names.push(name.to_owned());
        let payload: Value = serde_json::from_slice(&message.payload).unwrap();
        let index = payload["contentBlockIndex"].as_u64();
        match name {
            "contentBlockStart" => {
                assert_eq!((open, index), (None, Some(next)));
                open = index;
                next += 1;
            }
            "contentBlockDelta" => {
                if open.is_none() {
                    let delta = &payload["delta"];
                    assert!(delta["text"].is_string() || delta["reasoningContent"].is_object());
                    open = Some(next);
                    next += 1;
                }
                assert_eq!(index, open);
            }
            "contentBlockStop" => assert_eq!(index, open.take()),
            "messageStart" => assert_eq!(payload["role"], "assistant"),
            "messageStop" => assert_eq!(open, None),
            "metadata" => assert!(payload["usage"]["totalTokens"].is_u64()),
            name => panic!("{name}"),
        }
    }
    assert_eq!(names.first().map(String::as_str), Some("messageStart"));
    let count = |wanted: &str| names.iter().filter(|name| *name == wanted).count();
    assert_eq!(count("messageStart"), 1);
    if names.last().is_some_and(|name| name == "exception") {
        assert_eq!((count("exception"), count("messageStop"), count("metadata")), (1, 0, 0));
    } else {
        assert_eq!((count("messageStop"), count("metadata")), (1, 1));
        assert!(names.ends_with(&["messageStop".to_owned(), "metadata".to_owned()]));
    }
    out
}

#[test]
fn a_recorded_stream_is_written_as_it_was_read() {
    for bytes in RECORDED {
        let events = read([bytes.to_vec()]);
        assert_eq!(read([write(&events)]), events);
    }
}

#[test]
fn interleaved_calls_are_told_one_after_the_other() {
    let open = |index: u32| Event::Open {
        index,
        block: Opening::ToolUse {
            id: format!("c{index}"),
            name: "f".to_owned(),
            namespace: None,
            kind: ToolKind::Function,
        },
    };
    let more = |index, text: &str| Event::Delta { index, delta: Delta::Arguments(text.to_owned()) };
    let events = [
        Event::Start(Start::default()),
        open(0),
        open(1),
        more(1, "{\"b\""),
        more(0, "{\"a\""),
        Event::Ping,
        more(1, ":1}"),
        more(0, ":1}"),
        Event::End(End { stop: Stop::ToolUse, usage: None }),
    ];
    let response = collect(read([write(&events)])).unwrap();
    assert_eq!(response.blocks, [call("c0", "f", r#"{"a":1}"#), call("c1", "f", r#"{"b":1}"#)]);
}

#[test]
fn a_failure_is_an_exception_and_nothing_comes_behind_it() {
    let failed = Failure::read(Some(429), None, br#"{"message":"slow down"}"#);
    let text = Event::Open { index: 0, block: Opening::Text };
    let hi = Event::Delta { index: 0, delta: Delta::Text("hi".to_owned()) };
    let written = write(&[
        Event::Start(Start::default()),
        text,
        hi,
        Event::Failed(failed.clone()),
        Event::End(End::default()),
    ]);
    let exception = write_stream_refusal(&failed.refusal(""));
    assert!(written.ends_with(&exception));
    let mut decoder = Decoder::new();
    decoder.push(exception.into());
    let message = decoder.next().unwrap().unwrap();
    assert_eq!(message.kind(), Kind::Exception("throttlingException"));
    assert_eq!(&message.payload[..], br#"{"message":"slow down"}"#);
}

#[test]
fn a_signature_of_another_provider_comes_back_as_it_was_in_pieces_too() {
    let piece = |data: &str| {
        let signature = Signature { dialect: Dialect::Anthropic, data: data.to_owned() };
        Event::Delta { index: 0, delta: Delta::Signature(signature) }
    };
    let events = [
        Event::Start(Start::default()),
        Event::Open { index: 0, block: Opening::Thinking },
        piece("Eq"),
        piece("QB"),
        Event::Close { index: 0 },
        Event::End(End::default()),
    ];
    let signature = Some(Signature { dialect: Dialect::Anthropic, data: "EqQB".to_owned() });
    let wanted = Block::Thinking { text: String::new(), signature };
    assert_eq!(collect(read([write(&events)])).unwrap().blocks, [wanted]);
}

#[test]
fn what_converse_has_no_place_for_is_left_out_and_the_stream_stays_whole() {
    let annotation = Annotation { url: "u".to_owned(), ..Annotation::default() };
    let blocks = vec![
        Block::text(""),
        Block::Text { text: "hi".to_owned(), annotations: vec![annotation] },
        Block::Refusal("no".to_owned()),
        Block::Thinking { text: String::new(), signature: None },
        Block::Image(Image { source: Source::Url("u".to_owned()), media_type: None, detail: None }),
    ];
    let events = replay(&Response { blocks, ..Response::default() });
    let response = collect(read([write(&events)])).unwrap();
    assert_eq!(response.blocks, [Block::text("hi"), Block::text("no")]);
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(response in response(), size in 1..200usize) {
        let events = replay(&response);
        let written = write(&events);
        let pieces = written.chunks(size).map(<[u8]>::to_vec);
        prop_assert_eq!(collect(read(pieces)).unwrap(), response.clone());
        let whole = write_response(&response, &Told::default());
        prop_assert_eq!(read_response(&whole).unwrap(), response);
    }

    #[test]
    fn any_bytes_are_read_without_harm_and_with_one_end(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let events = read([bytes]);
        prop_assert_eq!(events.len(), 1);
    }
}
