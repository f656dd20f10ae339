//! Where servers differ.

use super::{collect, read, told, write};
use crate::config::Dialect;
use crate::protocol::canonical::{
    Annotation, Block, Event, Failure, FailureKind, Opening, Response, Signature, Stop, ToolKind,
};
use crate::protocol::openai_chat::{read_response, write_response};

/// A stream of chunks with these choices, and its end.
fn stream(choices: &[&str]) -> String {
    let chunk = |choice: &&str| {
        format!(r#"data: {{"id":"c","created":1,"model":"m","choices":[{choice}]}}"#) + "\n\n"
    };
    choices.iter().map(chunk).collect::<String>() + "data: [DONE]\n\n"
}

/// A stream with these deltas, and a finish.
fn deltas(deltas: &[&str], finish: &str) -> String {
    let choice = |delta: &&str| format!(r#"{{"index":0,"delta":{{{delta}}}}}"#);
    let mut choices: Vec<String> = deltas.iter().map(choice).collect();
    choices.push(format!(r#"{{"index":0,"delta":{{}},"finish_reason":"{finish}"}}"#));
    stream(&choices.iter().map(String::as_str).collect::<Vec<_>>())
}

fn answer(stream: &str) -> Response {
    collect(read([stream.as_bytes()])).expect("the stream is whole")
}

/// The calls of an answer: id, name, arguments.
fn calls(response: &Response) -> Vec<(&str, &str, &str)> {
    let uses = response.blocks.iter().filter_map(|block| match block {
        Block::ToolUse(call) => Some(call),
        _ => None,
    });
    uses.map(|call| (&*call.id, &*call.name, &*call.arguments)).collect()
}

#[test]
fn calls_are_told_apart_however_they_are_numbered() {
    let usual = deltas(
        &[
            r#""tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":""}}]"#,
            r#""tool_calls":[{"index":1,"id":"b","function":{"name":"g","arguments":"{"}}]"#,
            r#""tool_calls":[{"index":0,"function":{"arguments":"{}"}}]"#,
            r#""tool_calls":[{"index":1,"function":{"arguments":"}"}}]"#,
        ],
        "tool_calls",
    );
    let repeated = deltas(
        &[
            r#""tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}]"#,
            r#""tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"}"}}]"#,
            r#""tool_calls":[{"index":1,"id":"b","function":{"name":"g","arguments":"{}"}}]"#,
        ],
        "tool_calls",
    );
    let all_zero = deltas(
        &[
            r#""tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]"#,
            r#""tool_calls":[{"index":0,"id":"b","function":{"name":"g","arguments":"{}"}}]"#,
        ],
        "tool_calls",
    );
    let new_ids = deltas(
        &[
            r#""tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}]"#,
            r#""tool_calls":[{"index":0,"id":"x","function":{"name":"","arguments":"}"}}]"#,
            r#""tool_calls":[{"index":1,"id":"b","function":{"name":"g","arguments":"{"}}]"#,
            r#""tool_calls":[{"index":1,"id":"y","function":{"name":null,"arguments":"}"}}]"#,
        ],
        "tool_calls",
    );
    let unnumbered = deltas(
        &[
            r#""tool_calls":[{"id":"a","function":{"name":"f","arguments":"{"}}]"#,
            r#""tool_calls":[{"function":{"arguments":"}"}}]"#,
            r#""tool_calls":[{"id":"b","function":{"name":"g","arguments":"{"}}]"#,
            r#""tool_calls":[{"id":"b","function":{"name":"g","arguments":"}"}}]"#,
        ],
        "tool_calls",
    );
    let late = deltas(
        &[
            r#""tool_calls":[{"index":0,"id":null,"function":{"name":"f","arguments":"{"}}]"#,
            r#""tool_calls":[{"index":0,"id":"a","function":{"arguments":"}"}}]"#,
            r#""tool_calls":[{"index":1,"id":"b","function":{"arguments":"{"}}]"#,
            r#""tool_calls":[{"index":1,"function":{"name":"g","arguments":"}"}}]"#,
        ],
        "tool_calls",
    );
    for stream in [usual, repeated, all_zero, new_ids, unnumbered, late] {
        let response = answer(&stream);
        assert_eq!(calls(&response), [("a", "f", "{}"), ("b", "g", "{}")], "{stream}");
        assert_eq!(response.stop, Stop::ToolUse);
    }
}

#[test]
fn one_id_for_two_calls_stays_as_it_is() {
    let stream = deltas(
        &[
            r#""tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]"#,
            r#""tool_calls":[{"index":1,"id":"a","function":{"name":"g","arguments":"{}"}}]"#,
        ],
        "tool_calls",
    );
    assert_eq!(calls(&answer(&stream)), [("a", "f", "{}"), ("a", "g", "{}")]);
}

#[test]
fn a_tool_without_arguments_gets_an_empty_object() {
    let stream =
        deltas(&[r#""tool_calls":[{"index":0,"id":"a","function":{"name":"f"}}]"#], "tool_calls");
    assert_eq!(calls(&answer(&stream)), [("a", "f", "{}")]);
    let whole = br#"{"choices":[{"message":{"tool_calls":[
        {"id":"a","function":{"name":"f","arguments":""}},
        {"id":"a","function":{"name":"g","arguments":{"x": 1}}}]},"finish_reason":"tool_calls"}]}"#;
    let whole = read_response(whole).unwrap();
    assert_eq!(calls(&whole), [("a", "f", "{}"), ("a", "g", r#"{"x": 1}"#)]);
}

#[test]
fn a_call_that_is_given_no_id_has_one_that_does_not_change() {
    let deltas = deltas(
        &[
            r#""tool_calls":[{"index":0,"id":"","function":{"name":"f","arguments":"{}"}}]"#,
            r#""tool_calls":[{"index":1,"function":{"name":"g","arguments":"{}"}}]"#,
        ],
        "tool_calls",
    );
    let (first, again) = (answer(&deltas), answer(&deltas));
    let ids: Vec<_> = calls(&first).into_iter().map(|call| call.0).collect();
    assert_eq!(calls(&first), calls(&again));
    assert!(ids[0].starts_with("call_") && ids[0].len() == 29 && ids[0] != ids[1], "{ids:?}");
}

#[test]
fn arguments_without_a_name_are_bounded() {
    let piece = format!(r#"{{"index":0,"function":{{"arguments":"{}"}}}}"#, "x".repeat(300_000));
    let piece = format!(r#""tool_calls":[{piece}]"#);
    let stream = deltas(&[piece.as_str(); 4], "tool_calls");
    collect(read([stream.as_bytes()])).unwrap_err();
}

#[test]
fn a_custom_tools_text_is_no_json() {
    let stream = deltas(
        &[
            r#""tool_calls":[{"index":0,"id":"a","type":"custom","custom":{"name":"f","input":""}}]"#,
            r#""tool_calls":[{"index":0,"custom":{"input":"*** Begin"}}]"#,
        ],
        "tool_calls",
    );
    let response = answer(&stream);
    assert_eq!(calls(&response), [("a", "f", "*** Begin")]);
    assert!(matches!(&response.blocks[0], Block::ToolUse(it) if it.kind == ToolKind::Custom));
}

#[test]
fn empty_texts_between_arguments_open_nothing() {
    let stream = deltas(
        &[
            r#""role":"assistant","content":"","reasoning_content":null,"tool_calls":null"#,
            r#""content":"","tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":""}}]"#,
            r#""content":"","tool_calls":[{"index":0,"function":{"arguments":"{}"}}]"#,
            r#""content":"""#,
        ],
        "tool_calls",
    );
    assert_eq!(answer(&stream).blocks.len(), 1);
}

#[test]
fn the_last_chunk_may_have_words_and_the_usage() {
    let stream = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n\
        data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"b\"},\
        \"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n";
    let response = answer(stream);
    assert_eq!(response.blocks, [Block::text("ab")]);
    assert_eq!(response.usage.map(|usage| usage.total()), Some(3));
}

#[test]
fn usage_and_moderation_may_come_behind_the_finish() {
    let stream = deltas(&[r#""content":"a""#], "stop").replace(
        "data: [DONE]",
        "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n\
         data: {\"id\":\"c\",\"choices\":[],\"moderation\":{\"input\":{}},\"usage\":null}\n\n\
         data: [DONE]",
    );
    assert_eq!(answer(&stream).usage.map(|usage| usage.total()), Some(3));
}

#[test]
fn every_reason_to_stop_is_known() {
    for (reason, stop) in [
        ("stop", Stop::EndTurn),
        ("eos_token", Stop::EndTurn),
        ("abort", Stop::EndTurn),
        ("length", Stop::MaxTokens),
        ("model_length", Stop::MaxTokens),
        ("content_filter", Stop::Filtered),
        // Calls that nobody has seen are no calls.
        ("tool_calls", Stop::EndTurn),
    ] {
        assert_eq!(answer(&deltas(&[r#""content":"a""#], reason)).stop, stop, "{reason}");
    }
    let stopped = |member: &str| {
        let choice = format!(r#"{{"index":0,"delta":{{}},"finish_reason":"stop",{member}}}"#);
        answer(&stream(&[&choice])).stop
    };
    let sequence = Stop::Sequence(Some("END".to_owned()));
    assert_eq!(stopped(r#""stop_reason":"END""#), sequence);
    assert_eq!(stopped(r#""matched_stop":"END""#), sequence);
    assert_eq!(stopped(r#""stop_reason":128009"#), Stop::EndTurn);
    assert_eq!(stopped(r#""stop_reason":null"#), Stop::EndTurn);
}

#[test]
fn an_answer_of_calls_that_says_stop_ends_with_the_calls() {
    let call = r#""tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]"#;
    assert_eq!(answer(&deltas(&[call], "stop")).stop, Stop::ToolUse);
    assert_eq!(answer(&deltas(&[call], "length")).stop, Stop::MaxTokens);
}

#[test]
fn errors_of_all_shapes_end_a_stream() {
    for (error, kind) in [
        (r#"{"error":{"message":"no","type":"server_error","code":null}}"#, FailureKind::Server),
        (r#"{"error":{"message":"no","type":"BadRequestError","code":400}}"#, FailureKind::Invalid),
        (r#"{"error":{"object":"error","message":"no","code":503}}"#, FailureKind::Overloaded),
        (r#"{"error":"no","error_type":"generation"}"#, FailureKind::Server),
        (r#"{"object":"error","message":"no","type":"x","code":429}"#, FailureKind::RateLimit),
        (
            r#"{"id":"c","choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}],
            "error":{"code":502,"message":"no"}}"#,
            FailureKind::Server,
        ),
    ] {
        let error = error.replace('\n', "");
        for before in ["", "data: {\"id\":\"c\",\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"]
        {
            let stream = format!("{before}data: {error}\n\ndata: [DONE]\n\n");
            let failure = collect(read([stream.as_bytes()])).unwrap_err();
            assert_eq!((failure.message.as_str(), failure.kind), ("no", kind), "{error}");
        }
    }
}

#[test]
fn an_event_called_error_is_one() {
    let stream = "event: error\ndata: {\"message\":\"no\"}\n\ndata: [DONE]\n\n";
    assert_eq!(collect(read([stream.as_bytes()])).unwrap_err().message, "no");
}

#[test]
fn an_answer_told_once_more_at_the_end_is_not_read_twice() {
    let stream = stream(&[
        r#"{"index":0,"delta":{"content":"a"}}"#,
        r#"{"index":0,"message":{"content":"a"},"finish_reason":"stop"}"#,
    ]);
    assert_eq!(answer(&stream).blocks, [Block::text("a")]);
}

#[test]
fn what_is_no_stream_is_a_failure() {
    for stream in
        ["", "data: [DONE]\n\n", "data: <html>\n\n", "data: 1\n\n", "data: {\"id\":\"c\"}\n\n"]
    {
        collect(read([stream.as_bytes()])).unwrap_err();
    }
    let large = format!("data: {}\n\n", "x".repeat(2 << 20));
    collect(read(large.as_bytes().chunks(1 << 16))).unwrap_err();
}

#[test]
fn mistrals_parts_are_words_and_reasoning() {
    let stream = deltas(
        &[
            r#""content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]}]"#,
            r#""content":[{"type":"text","text":"a"}]"#,
            r#""content":"b""#,
        ],
        "stop",
    );
    let thinking = Block::Thinking { text: "hm".to_owned(), signature: None };
    assert_eq!(answer(&stream).blocks, [thinking, Block::text("ab")]);
}

#[test]
fn details_of_two_numbers_are_two_blocks() {
    let stream = deltas(
        &[
            r#""reasoning":"a","reasoning_details":[{"type":"reasoning.text","text":"a","index":0}]"#,
            r#""reasoning_details":[{"type":"reasoning.text","signature":"s","format":"anthropic-claude-v1","index":0}]"#,
            r#""reasoning_details":[{"type":"reasoning.encrypted","data":"e","format":"anthropic-claude-v1","index":1}]"#,
            r#""reasoning":"b","reasoning_details":[{"type":"reasoning.summary","summary":"b","index":2}]"#,
        ],
        "stop",
    );
    let signed = |data: &str| Signature { dialect: Dialect::Anthropic, data: data.to_owned() };
    let expected = [
        Block::Thinking { text: "a".to_owned(), signature: Some(signed("s")) },
        Block::RedactedThinking(signed("e")),
        Block::Thinking { text: "b".to_owned(), signature: None },
    ];
    assert_eq!(answer(&stream).blocks, expected);
}

#[test]
fn a_citations_place_is_counted_from_its_own_block() {
    let mut text = Block::text("größer");
    let annotation =
        Annotation { url: "https://a".to_owned(), title: Some("t".to_owned()), start: 1, end: 3 };
    if let Block::Text { annotations, .. } = &mut text {
        annotations.push(annotation);
    }
    let blocks = vec![Block::text("äöü"), Block::Refusal("no".to_owned()), text.clone()];
    let response = Response { blocks, ..Response::default() };
    let body: serde_json::Value =
        serde_json::from_slice(&write_response(&response, &told(false))).unwrap();
    let citation = &body["choices"][0]["message"]["annotations"][0]["url_citation"];
    assert_eq!(
        (citation["start_index"].as_u64(), citation["end_index"].as_u64()),
        (Some(4), Some(6))
    );
    let events = crate::protocol::canonical::replay(&response);
    assert_eq!(collect(read([write(&events, told(false)).as_slice()])).unwrap().blocks[2], text);
}

#[test]
fn after_a_failure_there_is_no_done() {
    let events = [
        Event::Start(crate::protocol::canonical::Start::default()),
        Event::Open { index: 0, block: Opening::Text },
        Event::Failed(Failure::cut_off()),
        Event::Close { index: 0 },
    ];
    let written = String::from_utf8(write(&events, told(true))).unwrap();
    assert!(!written.contains("[DONE]"));
    let last = written.trim_end().rsplit("\n\n").next().unwrap();
    assert!(last.starts_with("data: {\"error\":{\"message\":\"The provider's stream broke off"));
}

#[test]
fn an_answer_without_an_id_or_a_time_is_given_ours() {
    let body: serde_json::Value =
        serde_json::from_slice(&write_response(&Response::default(), &told(false))).unwrap();
    assert_eq!(body["id"], "chatcmpl-0123abc");
    assert_eq!(body["created"], 1_700_000_000_u64);
    assert_eq!(body["choices"][0]["message"]["content"], "");
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
}

#[test]
fn a_ping_is_a_comment() {
    assert_eq!(write(&[Event::Ping], told(false)), b": ping\n\n");
}
