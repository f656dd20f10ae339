//! What servers have sent.

use super::{collect, read, told, validator::validate, write};
use crate::protocol::canonical::{
    Annotation, Block, Event, FailureKind, Response, Stop, ToolUse, Usage,
};
use crate::protocol::fixture;
use crate::protocol::openai_chat::read_response;

macro_rules! recorded {
    ($name:literal) => {
        include_bytes!(concat!("../../../../tests/fixtures/recorded/", $name, "/response.bin"))
            .as_slice()
    };
}

macro_rules! vllm {
    ($name:literal) => {
        fixture::body(include_bytes!(concat!("../../../../tests/fixtures/vllm/", $name, ".http")))
    };
}

const STREAMS: &[(&str, &[u8])] = &[
    ("azure router", recorded!("chat-azure-stream-router")),
    ("compat index", recorded!("chat-compat-stream-toolindex")),
    ("deepseek", recorded!("chat-deepseek-stream-tool")),
    ("groq error", recorded!("chat-groq-stream-error")),
    ("groq tool", recorded!("chat-groq-stream-tool")),
    ("length", recorded!("chat-openai-stream-length-usage")),
    ("text", recorded!("chat-openai-stream-text")),
    ("tool", recorded!("chat-openai-stream-tool")),
    ("web search", recorded!("chat-openai-stream-websearch")),
    ("openrouter", recorded!("chat-openrouter-stream-reasoning")),
];

fn vllm_streams() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("vllm", vllm!("chat_stream")),
        ("vllm continuous", vllm!("chat_stream_continuous")),
        ("vllm killed", vllm!("chat_stream_engine_killed")),
        ("vllm logprobs", vllm!("chat_stream_logprobs")),
        ("vllm n=2", vllm!("chat_stream_n2")),
        ("vllm reasoning", vllm!("chat_stream_reasoning")),
        ("vllm tool auto", vllm!("chat_stream_tool_auto")),
        ("vllm tool forced", vllm!("chat_stream_tool_forced")),
        ("vllm usage", vllm!("chat_stream_usage")),
    ]
}

fn all_streams() -> Vec<(&'static str, Vec<u8>)> {
    let others = STREAMS.iter().map(|(name, stream)| (*name, stream.to_vec()));
    others.chain(vllm_streams()).collect()
}

/// An answer in short: each block's kind with its text or arguments.
fn short(response: &Response) -> Vec<String> {
    let block = |block: &Block| match block {
        Block::Text { text, .. } => format!("text {text}"),
        Block::Thinking { text, signature } => {
            let signed = if signature.is_some() { " signed" } else { "" };
            format!("thinking{signed} {text}")
        }
        Block::ToolUse(ToolUse { id, name, arguments, .. }) => {
            format!("call {id} {name} {arguments}")
        }
        other => format!("{other:?}"),
    };
    response.blocks.iter().map(block).collect()
}

fn answer(stream: &[u8]) -> Response {
    collect(read([stream])).expect("the stream is whole")
}

#[test]
fn it_does_not_matter_how_the_network_cuts_a_stream() {
    for (name, stream) in all_streams() {
        let whole = read([stream.as_slice()]);
        for size in [1, 2, 3, 7, 1000] {
            assert_eq!(read(stream.chunks(size)), whole, "{name} in pieces of {size}");
        }
        // Every cut where it matters most: through the first events, and the last.
        let ends = (0..stream.len().min(250)).chain(stream.len().saturating_sub(250)..stream.len());
        for cut in ends {
            let (before, after) = stream.split_at(cut);
            assert_eq!(read([before, after]), whole, "{name} cut at {cut}");
        }
    }
}

#[test]
fn every_stream_keeps_the_grammar_of_events() {
    for (name, stream) in all_streams() {
        let events = read([stream.as_slice()]);
        assert!(matches!(events.first(), Some(Event::Start(_))), "{name}");
        let is_last = |event: &Event| matches!(event, Event::End(_) | Event::Failed(_));
        assert_eq!(events.iter().position(is_last), Some(events.len() - 1), "{name}");
        let mut open = Vec::new();
        let mut next = 0;
        for event in &events {
            match event {
                Event::Open { index, .. } => {
                    assert_eq!(*index, next, "{name}");
                    next += 1;
                    open.push(*index);
                }
                Event::Delta { index, .. } => assert!(open.contains(index), "{name}"),
                Event::Close { index } => {
                    assert!(open.contains(index), "{name}");
                    open.retain(|it| it != index);
                }
                Event::End(_) => assert!(open.is_empty(), "{name}"),
                _ => {}
            }
        }
    }
}

#[test]
fn every_stream_is_written_as_clients_expect_it_and_reads_the_same_again() {
    for (name, stream) in all_streams() {
        for wants_usage in [false, true] {
            let events = read([stream.as_slice()]);
            let written = write(&events, told(wants_usage));
            validate(&written, wants_usage);
            match (collect(events), collect(read([written.as_slice()]))) {
                (Ok(mut before), Ok(after)) => {
                    assert_eq!(after.model, "asked-for");
                    assert!(after.id.starts_with("chatcmpl-"));
                    (before.id, before.model) = (after.id.clone(), after.model.clone());
                    before.created = before.created.or(Some(1_700_000_000));
                    before.usage = before.usage.filter(|_| wants_usage);
                    assert_eq!(after, before, "{name}");
                }
                (Err(_), Err(_)) => {}
                (before, after) => panic!("{name}: {before:?} became {after:?}"),
            }
        }
    }
}

#[test]
fn a_stream_that_breaks_off_is_never_whole() {
    for (name, stream) in all_streams() {
        let Ok(whole) = collect(read([stream.as_slice()])) else { continue };
        for cut in (0..stream.len()).step_by(stream.len() / 97 + 1) {
            if let Ok(part) = collect(read([&stream[..cut]])) {
                // What may be missing once the reason of the end is told is the usage.
                assert_eq!(
                    (&part.blocks, &part.stop),
                    (&whole.blocks, &whole.stop),
                    "{name} {cut}"
                );
            }
        }
    }
}

#[test]
fn azures_first_chunk_gives_no_id() {
    let response = answer(recorded!("chat-azure-stream-router"));
    assert_eq!(response.id, "chatcmpl-CYPS1lijGoK8gd9lYzY3r9Sx50nbt");
    assert_eq!(response.created, Some(1_762_317_021));
    assert_eq!(short(&response), ["text Capital of Denmark."]);
    let usage = Usage { input: 15, output: 78, reasoning: Some(64), ..Usage::default() };
    assert_eq!(response.usage, Some(usage));
}

#[test]
fn a_call_may_be_numbered_from_one_and_begin_with_nothing() {
    let response = answer(recorded!("chat-compat-stream-toolindex"));
    let call = r#"call toolu_sanitized read_file {"path": "a.txt"}"#;
    assert_eq!(short(&response), ["text Reading it.", call]);
    assert_eq!((response.stop, response.created), (Stop::ToolUse, None));
}

#[test]
fn deepseek_reasons_calls_and_counts_in_the_last_chunk() {
    let response = answer(recorded!("chat-deepseek-stream-tool"));
    let [thinking, call] = &short(&response)[..] else { panic!("{response:?}") };
    assert!(thinking.starts_with("thinking The user"), "{thinking}");
    assert!(call.ends_with(r#"weather {"location": "San Francisco"}"#), "{call}");
    let usage = response.usage.unwrap();
    assert_eq!((usage.input, usage.cache_read, usage.output), (339, 320, 83));
}

#[test]
fn groq_calls_in_one_piece() {
    let response = answer(recorded!("chat-groq-stream-tool"));
    assert_eq!(short(&response), ["call tk85n1k4m weather {}"]);
    assert_eq!(response.usage.unwrap().input, 210);
}

#[test]
fn an_error_within_a_stream_is_a_failure() {
    let failure = collect(read([recorded!("chat-groq-stream-error")])).unwrap_err();
    assert_eq!(failure.message, "Tool choice is required, but model did not call a tool");
    assert_eq!((failure.status, failure.code.as_deref()), (Some(400), Some("tool_use_failed")));
    assert_eq!(failure.kind, FailureKind::Invalid);
    let killed = collect(read([vllm!("chat_stream_engine_killed").as_slice()])).unwrap_err();
    assert_eq!(killed.kind, FailureKind::Server);
}

#[test]
fn a_stream_may_end_before_any_text() {
    let response = answer(recorded!("chat-openai-stream-length-usage"));
    assert_eq!((response.stop, response.blocks.len()), (Stop::MaxTokens, 0));
    assert_eq!(response.usage.unwrap().reasoning, Some(100));
}

#[test]
fn openai_calls_piece_by_piece() {
    let response = answer(recorded!("chat-openai-stream-tool"));
    let calls = short(&response);
    assert_eq!(calls.len(), response.blocks.len());
    assert!(calls[0].starts_with("call call_Vz0Sie91Ap56nH0ThKGrZXT7 get_weather {\"city\":"));
}

#[test]
fn reasoning_has_its_signature_and_is_not_told_twice() {
    let response = answer(recorded!("chat-openrouter-stream-reasoning"));
    let thinking = "thinking signed This is a simple arithmetic question. 2+2 equals 4.";
    assert_eq!(short(&response), [thinking, "text 2 + 2 = 4"]);
    let Block::Thinking { signature: Some(signature), .. } = &response.blocks[0] else { panic!() };
    assert_eq!(signature.dialect, crate::config::Dialect::Anthropic);
    assert_eq!(response.usage.unwrap().reasoning, Some(13));
}

#[test]
fn comments_of_a_stream_that_has_begun_are_pings() {
    let events = read([recorded!("chat-openrouter-stream-reasoning")]);
    let pings = events.iter().filter(|event| **event == Event::Ping).count();
    assert!(pings > 0);
    assert!(matches!(events[0], Event::Start(_)));
}

#[test]
fn vllms_streams_are_read() {
    assert_eq!(short(&answer(&vllm!("chat_stream")))[0].get(..8), Some("text Hel"));
    assert!(answer(&vllm!("chat_stream_usage")).usage.is_some());
    assert!(answer(&vllm!("chat_stream_continuous")).usage.is_some_and(|it| it.output > 1));
    let reasoning = short(&answer(&vllm!("chat_stream_reasoning")));
    assert!(reasoning[0].starts_with("thinking "), "{reasoning:?}");
    // A call that was demanded by name ends with `stop` there.
    let forced = answer(&vllm!("chat_stream_tool_forced"));
    assert!(matches!(forced.blocks.last(), Some(Block::ToolUse(_))));
    assert!(matches!(forced.stop, Stop::ToolUse | Stop::MaxTokens));
    // Of two answers the first is read.
    let two = vllm!("chat_stream_n2");
    let events = read([two.as_slice()]);
    assert!(events.iter().filter(|event| matches!(event, Event::Open { .. })).count() <= 2);
}

#[test]
fn whole_answers_are_read() {
    let read = |body: &[u8]| read_response(body).expect("the answer is read");
    let text = read(recorded!("chat-openai-text"));
    assert_eq!(text.id, "chatcmpl-C4Gm9xikLXbgE8He0BHWeoM03aa72");
    assert_eq!((text.stop.clone(), text.blocks.len()), (Stop::EndTurn, 1));
    assert_eq!(text.usage.unwrap().reasoning, Some(320));
    let azure = read(recorded!("chat-azure-text"));
    assert!(short(&azure)[0].contains("you’re curious"));
    let cached = read(recorded!("chat-openai-cached"));
    assert_eq!(cached.usage.unwrap().cache_read, 4012);
    let json = read(recorded!("chat-openai-json-mode"));
    assert!(short(&json)[0].starts_with("text {\"name\":\"Alex Smith\""));
    assert_eq!(read(recorded!("chat-openai-length")).stop, Stop::MaxTokens);
    let calls = read(recorded!("chat-openai-parallel-tools"));
    let expected = [
        r#"call call_HMKxpFuWMpNPfuK5352En5En delete_file {"path": ".env"}"#,
        r#"call call_CAES42XVgl0EvrUmnIoHkMSS create_file {"path": "test.txt"}"#,
    ];
    assert_eq!(short(&calls), expected);
    assert_eq!(calls.stop, Stop::ToolUse);
    let reasoning = read(&vllm!("chat_reasoning"));
    assert!(short(&reasoning)[0].starts_with("thinking "));
    assert!(matches!(read(&vllm!("chat_tool_forced")).blocks.last(), Some(Block::ToolUse(_))));
}

#[test]
fn an_answer_is_the_same_whole_and_in_a_stream() {
    for (whole, stream) in [
        (vllm!("chat_reasoning"), vllm!("chat_stream_reasoning")),
        (vllm!("chat_tool_forced"), vllm!("chat_stream_tool_forced")),
    ] {
        let (mut whole, mut stream) = (read_response(&whole).unwrap(), answer(&stream));
        for response in [&mut whole, &mut stream] {
            (response.usage, response.created) = (None, None);
            response.id.clear();
            for block in &mut response.blocks {
                if let Block::ToolUse(call) = block {
                    call.id.clear();
                }
            }
        }
        assert_eq!(whole, stream);
    }
}

#[test]
fn an_error_is_no_answer() {
    let error = read_response(recorded!("chat-openai-error-400")).unwrap_err();
    assert!(error.0.starts_with("Unsupported parameter: 'max_tokens'"), "{error}");
    read_response(b"<html>").unwrap_err();
    read_response(br#"{"choices":[]}"#).unwrap_err();
}

#[test]
fn citations_keep_their_places() {
    let response = answer(recorded!("chat-openai-stream-websearch"));
    let Block::Text { text, annotations } = &response.blocks[0] else { panic!() };
    for Annotation { start, end, .. } in annotations {
        assert!(start <= end && *end <= text.chars().count() as u64);
    }
}
