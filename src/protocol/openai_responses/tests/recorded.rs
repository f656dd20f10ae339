//! Answers that providers have given.

use super::{collected, events_of, stream_checker, told, written};
use crate::config::Dialect;
use crate::protocol::canonical::{
    Block, Event, Failure, FailureKind, Response, Stop, ToolKind, ToolUse,
};
use crate::protocol::openai_responses::{read_response, write_response};

macro_rules! recorded {
    ($id:literal) => {
        include_bytes!(concat!("../../../../tests/fixtures/recorded/", $id, "/response.bin"))
    };
}

const TEXT: &[u8] = recorded!("resp-openai-stream-text");
const TOOL: &[u8] = recorded!("resp-openai-stream-tool");
const CUSTOM_TOOL: &[u8] = recorded!("resp-openai-stream-custom-tool");
const CITATIONS: &[u8] = recorded!("resp-openai-stream-citations");
const SEALED: &[u8] = recorded!("resp-openai-stream-encrypted-reasoning");
const PHASE: &[u8] = recorded!("resp-openai-stream-phase");
const RAW_REASONING: &[u8] = recorded!("resp-openrouter-stream-rawcot");
const FAILED: &[u8] = recorded!("resp-openai-stream-failed");

const WHOLE: [(&str, &[u8]); 7] = [
    ("text", TEXT),
    ("tool", TOOL),
    ("custom tool", CUSTOM_TOOL),
    ("citations", CITATIONS),
    ("sealed reasoning", SEALED),
    ("phase", PHASE),
    ("raw reasoning", RAW_REASONING),
];

/// What is sealed differs each time it is told.
fn unsealed(mut response: Response) -> Response {
    for block in &mut response.blocks {
        match block {
            Block::RedactedThinking(signature)
            | Block::Thinking { signature: Some(signature), .. } => signature.data.clear(),
            _ => {}
        }
    }
    response
}

/// The object in the stream's last event, read as a whole answer.
fn object_of(stream: &[u8]) -> Response {
    let text = std::str::from_utf8(stream).unwrap();
    let line = text.lines().rfind(|line| line.starts_with("data: {")).unwrap();
    let event: serde_json::Value = serde_json::from_str(&line[6..]).unwrap();
    read_response(event["response"].to_string().as_bytes()).unwrap()
}

fn text_of(block: &Block) -> &str {
    match block {
        Block::Text { text, .. } | Block::Thinking { text, .. } => text,
        other => panic!("no text: {other:?}"),
    }
}

fn call_of(block: &Block) -> &ToolUse {
    match block {
        Block::ToolUse(call) => call,
        other => panic!("no call: {other:?}"),
    }
}

#[test]
fn a_stream_is_the_same_answer_however_it_is_cut_and_as_a_whole() {
    for (name, stream) in WHOLE {
        let whole = events_of(stream, stream.len());
        for size in [1, 2, 3, 7, 64, 1000] {
            assert_eq!(events_of(stream, size), whole, "{name} in pieces of {size}");
        }
        let response = collected(whole).unwrap();
        assert_eq!(unsealed(response), unsealed(object_of(stream)), "{name}");
    }
}

#[test]
fn what_was_recorded_can_be_told_again() {
    for (name, stream) in WHOLE {
        let events = events_of(stream, stream.len());
        let again = written(&events, told());
        stream_checker::check(&again);
        let response = Response { model: "m".to_owned(), ..collected(events).unwrap() };
        let read = collected(events_of(&again, 5)).unwrap();
        // Other servers' ids get the prefix.
        assert!(read.id.starts_with("resp_") && read.id.ends_with(&response.id), "{name}");
        assert_eq!(Response { id: response.id.clone(), ..read }, response, "{name}");
        let whole = read_response(&write_response(&response, &told())).unwrap();
        assert_eq!(Response { id: response.id.clone(), ..whole }, response, "{name}");
    }
}

#[test]
fn text_and_usage_are_read() {
    let response = collected(events_of(TEXT, 100)).unwrap();
    assert_eq!(response.id, "resp_67e554a21aa88191b65876ac5e5bbe0406c52f0e511c76ed");
    assert_eq!(response.model, "gpt-4o-2024-08-06");
    assert_eq!(response.created, Some(1_743_082_658));
    assert_eq!(response.stop, Stop::EndTurn);
    assert_eq!(response.blocks, [Block::text("The capital of France is Paris.")]);
    let usage = response.usage.unwrap();
    assert_eq!((usage.input, usage.output, usage.reasoning), (278, 9, Some(0)));
}

#[test]
fn a_call_is_read() {
    let response = collected(events_of(TOOL, 100)).unwrap();
    assert_eq!(response.stop, Stop::ToolUse);
    let call = call_of(&response.blocks[0]);
    assert_eq!(
        (call.name.as_str(), call.arguments.as_str()),
        ("get_capital", r#"{"country":"France"}"#)
    );
    assert!(call.id.starts_with("call_"), "{}", call.id);
    let whole = read_response(recorded!("resp-openai-tool")).unwrap();
    assert_eq!(call_of(&whole.blocks[0]).arguments, r#"{"location":"Seattle, WA"}"#);
    assert_eq!(whole.stop, Stop::ToolUse);
}

#[test]
fn a_whole_answer_is_read() {
    let response = read_response(recorded!("resp-openai-text")).unwrap();
    assert_eq!(response.blocks, [Block::text("This is a test.")]);
    assert_eq!(response.usage.map(|usage| (usage.input, usage.total())), Some((22, 28)));
}

#[test]
fn a_call_with_free_text_is_read() {
    let response = collected(events_of(CUSTOM_TOOL, 100)).unwrap();
    let call = call_of(&response.blocks[0]);
    assert_eq!(call.kind, ToolKind::Custom);
    assert_eq!(call.arguments, "SELECT * FROM users WHERE age > 25");
}

#[test]
fn citations_are_read_and_searches_passed_over() {
    let response = collected(events_of(CITATIONS, 100)).unwrap();
    let [Block::Text { text, annotations }] = response.blocks.as_slice() else {
        panic!("{response:?}");
    };
    assert_eq!((annotations[0].start, annotations[0].end), (77, 162));
    assert_eq!(
        annotations[0].title.as_deref(),
        Some("Mount Columbia | mountain, Alberta, Canada | Britannica")
    );
    assert!(text.contains("Mount Columbia"));
}

#[test]
fn sealed_reasoning_keeps_its_words_and_its_seal() {
    let response = collected(events_of(SEALED, 100)).unwrap();
    let Block::Thinking { text, signature: Some(signature) } = &response.blocks[0] else {
        panic!("{response:?}");
    };
    assert!(text.starts_with("**Calculating step-by-step"));
    // The one of the item that is done, not of the one that begins.
    assert!(signature.data.starts_with("gAAAAABpPDIVOKrs"));
    assert_eq!(signature.dialect, Dialect::OpenaiResponses);
    assert_eq!(call_of(&response.blocks[1]).name, "calculator");
    // And without words.
    let response = collected(events_of(PHASE, 100)).unwrap();
    assert!(matches!(&response.blocks[0], Block::RedactedThinking(_)));
    assert_eq!(
        text_of(&response.blocks[1]),
        "I’ll check the capital lookup tool for “PotatoLand.”"
    );
}

#[test]
fn reasoning_that_is_done_after_the_answer_stands_before_it() {
    let response = collected(events_of(RAW_REASONING, 100)).unwrap();
    assert!(text_of(&response.blocks[0]).starts_with("The user asks: \"What is 2+2?\""));
    assert_eq!(text_of(&response.blocks[1]), "4");
    assert_eq!(response.usage.and_then(|usage| usage.reasoning), Some(22));
}

#[test]
fn a_stream_that_fails_says_why_and_nothing_after() {
    for size in [1, 100, FAILED.len()] {
        let events = events_of(FAILED, size);
        assert!(matches!(events[0], Event::Start(_)));
        let Event::Failed(failure) = &events[1] else { panic!("{events:?}") };
        assert_eq!(failure.kind, FailureKind::Quota);
        assert!(failure.message.starts_with("You exceeded your current quota"));
        assert_eq!(events.len(), 2);
    }
}

#[test]
fn a_stream_that_is_cut_off_fails_wherever_it_is_cut() {
    for (name, stream) in WHOLE {
        let end = memchr::memmem::rfind(stream, b"\"type\":\"response.completed\"").unwrap();
        for cut in (0..end).step_by(97) {
            let events = events_of(&stream[..cut], 512);
            let Some(Event::Failed(failure)) = events.last() else { panic!("{name} at {cut}") };
            assert_eq!(failure.kind, FailureKind::Server);
        }
    }
    let events = events_of(&TEXT[..300], 512);
    assert!(matches!(events.last(), Some(Event::Failed(_))));
}

#[test]
fn an_error_answer_is_read() {
    let failure = Failure::read(Some(400), None, recorded!("resp-openai-error-400"));
    assert_eq!(failure.kind, FailureKind::Invalid);
    assert_eq!(failure.param.as_deref(), Some("temperature"));
}
