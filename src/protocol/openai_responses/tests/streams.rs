//! Streams that are written, and read back.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::stream_checker::{check, parse};
use super::{collected, events_of, told, written};
use crate::config::Dialect;
use crate::protocol::canonical::{
    Annotation, Block, Delta, End, Event, Failure, FailureKind, Image, Opening, Response,
    Signature, Source, Start, Stop, Told, ToolKind, ToolUse, Usage, replay,
};
use crate::protocol::openai_responses::{echo, read_response, write_response};

fn call(id: &str, kind: ToolKind, arguments: &str) -> ToolUse {
    ToolUse {
        id: id.to_owned(),
        name: "f".to_owned(),
        namespace: None,
        kind,
        arguments: arguments.to_owned(),
        signature: None,
    }
}

fn signature(dialect: Dialect, data: &str) -> Signature {
    Signature { dialect, data: data.to_owned() }
}

fn response(blocks: Vec<Block>, stop: Stop) -> Response {
    Response {
        id: "chatcmpl-7".to_owned(),
        model: "upstream".to_owned(),
        created: Some(1),
        blocks,
        stop,
        usage: Some(Usage {
            input: 5,
            cache_read: 2,
            output: 1,
            reasoning: Some(0),
            ..Usage::default()
        }),
    }
}

/// The whole answer of a stream that is written of this one.
fn streamed(response: &Response, told: Told) -> Value {
    check(&written(&replay(response), told))["response"].clone()
}

#[test]
fn hi_is_said_in_nine_events() {
    let stream = written(&replay(&response(vec![Block::text("hi")], Stop::EndTurn)), told());
    let kinds: Vec<_> =
        parse(&stream).iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(
        kinds,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed"
        ]
    );
    let last = check(&stream);
    assert_eq!(last["response"]["id"], "resp_chatcmpl-7");
    assert_eq!(last["response"]["model"], "m");
    assert_eq!(
        last["response"]["output"],
        json!([{
            "type": "message", "id": "msg_chatcmpl-7_0", "status": "completed", "role": "assistant",
            "content": [{"type": "output_text", "text": "hi", "annotations": [], "logprobs": []}]
        }])
    );
    assert_eq!(
        last["response"]["usage"],
        json!({
            "input_tokens": 5, "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
            "output_tokens": 1, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 6
        })
    );
}

#[test]
fn each_event_is_written_at_once_but_a_blocks_end_with_what_comes_behind_it() {
    let events = replay(&response(vec![Block::text("hi"), Block::text("ho")], Stop::EndTurn));
    let mut writer = super::StreamWriter::new(told());
    for event in &events {
        let mut out = Vec::new();
        writer.write(event, &mut out);
        let waits = matches!(event, Event::Close { .. });
        assert_eq!(out.is_empty(), waits, "{event:?}");
    }
    let mut out = Vec::new();
    writer.write(&Event::Ping, &mut out);
    assert!(out.is_empty(), "something follows the end");
}

#[test]
fn the_answer_repeats_the_request() {
    let body = br#"{
        "model": "m", "input": "x", "instructions": "Be\n brief.", "temperature": 0.5,
        "tools": [ {"type": "function", "name": "f", "parameters": {"maximum": 12345678901234567890123}} ],
        "reasoning": {"effort": "low"}, "metadata": {"a": "b"}, "store": true, "top_p": null
    }"#;
    let told = Told { echo: Some(echo(body)), ..told() };
    let stream = written(&replay(&response(vec![Block::text("hi")], Stop::EndTurn)), told.clone());
    let text = std::str::from_utf8(&stream).unwrap();
    assert!(text.contains(r#""tools":[{"type":"function","name":"f","parameters":{"maximum":12345678901234567890123}}]"#));
    for event in parse(&stream) {
        let Some(object) = event.get("response") else { continue };
        assert_eq!(object["instructions"], "Be\n brief.");
        assert_eq!(object["temperature"], 0.5);
        assert_eq!(object["top_p"], 1.0);
        assert_eq!(object["tool_choice"], "auto");
        assert_eq!(object["metadata"], json!({"a": "b"}));
        assert_eq!(object["parallel_tool_calls"], true);
        assert_eq!(object["text"], json!({"format": {"type": "text"}}));
        assert_eq!(object.get("input"), None);
    }
    let whole: Value =
        serde_json::from_slice(&write_response(&response(Vec::new(), Stop::EndTurn), &told))
            .unwrap();
    assert_eq!(whole["instructions"], "Be\n brief.");
    assert_eq!((&whole["object"], &whole["error"]), (&json!("response"), &Value::Null));
}

#[test]
fn several_calls_may_be_open_at_once() {
    let open = |index, kind| Event::Open {
        index,
        block: Opening::ToolUse {
            id: format!("call_{index}"),
            name: "f".to_owned(),
            namespace: (index == 1).then(|| "ns".to_owned()),
            kind,
        },
    };
    let more = |index, text: &str| Event::Delta { index, delta: Delta::Arguments(text.to_owned()) };
    let events = [
        Event::Start(Start::default()),
        open(0, ToolKind::Function),
        open(1, ToolKind::Function),
        more(1, "{\"b\""),
        more(0, "{\"a\""),
        open(2, ToolKind::Custom),
        more(2, "free"),
        more(1, ":1}"),
        more(1, ""),
        Event::Close { index: 1 },
        more(0, ":2}"),
        Event::Close { index: 2 },
        Event::Close { index: 0 },
        Event::End(End { stop: Stop::ToolUse, usage: None }),
    ];
    let stream = written(&events, told());
    let output = check(&stream)["response"]["output"].clone();
    assert_eq!(output[0]["arguments"], r#"{"a":2}"#);
    assert_eq!(output[1]["arguments"], r#"{"b":1}"#);
    assert_eq!((&output[1]["namespace"], &output[1]["call_id"]), (&json!("ns"), &json!("call_1")));
    assert_eq!(
        (&output[2]["type"], &output[2]["input"]),
        (&json!("custom_tool_call"), &json!("free"))
    );
    assert!(output[2]["id"].as_str().unwrap().starts_with("ctc_"));
    assert_eq!(output[0].get("namespace"), None);
    let read = collected(events_of(&stream, 9)).unwrap();
    assert_eq!(read, collected(events.to_vec()).map(|it| with_told(it, &read)).unwrap());
}

/// Ids, times and the model are the client's.
fn with_told(response: Response, told: &Response) -> Response {
    Response { id: told.id.clone(), model: told.model.clone(), created: told.created, ..response }
}

#[test]
fn reasoning_is_told_as_what_the_client_asked_for() {
    let thinking = Block::Thinking {
        text: "hm".to_owned(),
        signature: Some(signature(Dialect::Anthropic, "sig")),
    };
    let answer = response(vec![thinking], Stop::EndTurn);
    let item = streamed(&answer, told())["output"][0].clone();
    assert_eq!(item["content"], json!([{"type": "reasoning_text", "text": "hm"}]));
    assert_eq!(item["summary"], json!([]));
    assert!(item["encrypted_content"].as_str().unwrap().starts_with("gw1:"));
    let summaries = Told { echo: Some(echo(br#"{"reasoning":{"summary":"auto"}}"#)), ..told() };
    let item = streamed(&answer, summaries)["output"][0].clone();
    assert_eq!(item["summary"], json!([{"type": "summary_text", "text": "hm"}]));
    assert_eq!(item.get("content"), None);
}

#[test]
fn a_call_that_is_signed_is_followed_by_its_signature() {
    let mut signed = call("c1", ToolKind::Function, "{}");
    signed.signature = Some(signature(Dialect::Gemini, "sig"));
    let answer = response(vec![Block::ToolUse(signed), Block::text("x")], Stop::ToolUse);
    let output = streamed(&answer, told())["output"].clone();
    let kinds: Vec<_> = output.as_array().unwrap().iter().map(|item| &item["type"]).collect();
    assert_eq!(kinds, ["function_call", "reasoning", "message"]);
    let whole: Value = serde_json::from_slice(&write_response(&answer, &told())).unwrap();
    assert_eq!(whole["output"], output);
}

#[test]
fn what_ends_an_answer_early_is_said() {
    for (stop, reason) in
        [(Stop::MaxTokens, "max_output_tokens"), (Stop::Filtered, "content_filter")]
    {
        let answer = response(vec![Block::text("w"), Block::text("x")], stop);
        let stream = written(&replay(&answer), told());
        let last = check(&stream);
        assert_eq!(last["type"], "response.incomplete");
        let whole: Value = serde_json::from_slice(&write_response(&answer, &told())).unwrap();
        for output in [&last["response"]["output"], &whole["output"]] {
            let items = output.as_array().unwrap().iter();
            let statuses: Vec<&Value> = items.map(|item| &item["status"]).collect();
            assert_eq!(statuses, ["completed", "incomplete"], "{output}");
        }
        let text = String::from_utf8(stream.clone()).unwrap();
        let done = text.lines().rfind(|line| line.contains("response.output_item.done\""));
        assert!(done.unwrap().contains(r#""status":"incomplete""#), "{done:?}");
        assert_eq!(last["response"]["incomplete_details"], json!({"reason": reason}));
        let read = collected(events_of(&stream, 50)).unwrap();
        assert_eq!(read.stop, answer.stop);
        assert_eq!(read_response(&write_response(&answer, &told())).unwrap().stop, answer.stop);
    }
}

#[test]
fn a_failure_is_an_error_and_a_failed_answer() {
    let failure = Failure {
        kind: FailureKind::ContextOverflow,
        message: "too long".to_owned(),
        ..Failure::cut_off()
    };
    let start = Event::Start(Start { id: "r".to_owned(), ..Start::default() });
    let open = Event::Open { index: 0, block: Opening::Text };
    let text = Event::Delta { index: 0, delta: Delta::Text("so".to_owned()) };
    let events = [start, open, text, Event::Failed(failure.clone()), Event::End(End::default())];
    let stream = written(&events, told());
    let last = check(&stream);
    assert_eq!(last["type"], "response.failed");
    assert_eq!(
        last["response"]["error"],
        json!({"code": "context_length_exceeded", "message": "too long"})
    );
    let read = collected(events_of(&stream, 50)).unwrap_err();
    assert_eq!((read.kind, read.message), (failure.kind, failure.message.clone()));
    // Before anything else.
    let last = check(&written(&[Event::Failed(failure)], told()));
    assert_eq!(last["type"], "response.failed");
}

#[test]
fn a_ping_is_a_comment() {
    assert_eq!(written(&[Event::Ping], told()), b": ping\n\n");
}

#[test]
fn an_answer_without_end_is_ended() {
    let mut writer = super::StreamWriter::new(told());
    let mut out = Vec::new();
    writer.write(&Event::Open { index: 0, block: Opening::Text }, &mut out);
    let more = Event::Delta { index: 0, delta: Delta::Text("x".repeat(1 << 20)) };
    for _ in 0..20 {
        out.clear();
        writer.write(&more, &mut out);
        if out.is_empty() {
            return;
        }
    }
    panic!("all of it was kept");
}

#[test]
fn what_is_no_answer_is_not_an_empty_one() {
    for (body, said) in [
        ("{}", "failed"),
        (r#"{"error":{"message":"out of memory"}}"#, "out of memory"),
        (r#"{"status":"failed","output":[],"error":{"message":"no luck"}}"#, "no luck"),
        (r#"{"status":"queued","output":[]}"#, "queued"),
        ("<html>", "expected value"),
        (r#"{"output":[{"type":"message","content":"text"}]}"#, "invalid type"),
    ] {
        let unreadable = read_response(body.as_bytes()).unwrap_err().to_string();
        assert!(unreadable.contains(said), "{body}: {unreadable}");
    }
    // What is unknown is passed over.
    let body = r#"{"output":[{"type":"new","content":7},{"type":"message","new":1,"content":[{"type":"new"}]}]}"#;
    assert_eq!(read_response(body.as_bytes()).unwrap(), Response::default());
}

#[test]
fn an_image_is_a_generated_one() {
    let image = Image {
        source: Source::Base64("aGk=".to_owned()),
        media_type: Some("image/webp".to_owned()),
        detail: None,
    };
    let answer = response(vec![Block::Image(image)], Stop::EndTurn);
    let stream = written(&replay(&answer), told());
    check(&stream);
    assert_eq!(collected(events_of(&stream, 33)).unwrap().blocks, answer.blocks);
}

/// Streams of servers that leave out some of the events.
#[test]
fn what_was_not_told_in_pieces_is_told_when_it_is_done() {
    let done = json!([
        {"type":"response.created","response":{"id":"r","model":"m"}},
        {"type":"response.output_item.added","output_index":0,"item":{"type":"message","content":[]}},
        {"type":"response.content_part.done","output_index":0,"content_index":0,
            "part":{"type":"output_text","text":"a"}},
        {"type":"response.output_text.done","output_index":0,"content_index":1,"text":"b"},
        {"type":"response.output_item.done","output_index":0,"item":{"type":"message","content":[
            {"type":"output_text","text":"a"},{"type":"output_text","text":"b"},
            {"type":"refusal","refusal":"no"}]}},
        {"type":"response.output_item.done","output_index":1,
            "item":{"type":"function_call","call_id":"c","name":"f","arguments":""}},
        {"type":"response.output_item.added","output_index":2,
            "item":{"type":"function_call","call_id":"d","name":"g","arguments":""}},
        {"type":"response.function_call_arguments.done","output_index":2,"arguments":"{\"x\":1}"},
        {"type":"response.output_item.done","output_index":2,
            "item":{"type":"function_call","call_id":"d","name":"g","arguments":"{\"x\":1}"}},
        {"type":"response.whatever","delta":{"not":"text"}},
        {"type":"response.completed","response":{"id":"r","status":"completed","output":[]}},
    ]);
    let events = done.as_array().unwrap().iter();
    let stream = events.map(|event| format!("data:{event}\n\n")).collect::<Vec<_>>().concat();
    let read = collected(events_of(stream.as_bytes(), 11)).unwrap();
    let g = ToolUse { name: "g".to_owned(), ..call("d", ToolKind::Function, r#"{"x":1}"#) };
    assert_eq!(
        read.blocks,
        [
            Block::text("a"),
            Block::text("b"),
            Block::Refusal("no".to_owned()),
            Block::ToolUse(call("c", ToolKind::Function, "{}")),
            Block::ToolUse(g),
        ]
    );
    assert_eq!(read.stop, Stop::ToolUse);
}

#[test]
fn an_answer_that_comes_whole_at_the_end_is_read() {
    let stream = concat!(
        "event: response.completed\n",
        r#"data: {"type":"response.completed","response":{"id":"r","model":"m","status":"completed","#,
        r#""output":[{"type":"message","content":[{"type":"output_text","text":"hi"}]}]}}"#,
    );
    // Even without the blank line behind it.
    let read = collected(events_of(stream.as_bytes(), 8)).unwrap();
    assert_eq!((read.id.as_str(), read.blocks), ("r", vec![Block::text("hi")]));
}

#[test]
fn parts_of_a_summary_are_told_apart() {
    let event = |kind: &str, part: u32, text: &str| {
        let event = json!({"type": format!("response.reasoning_{kind}"), "output_index": 0,
            "summary_index": part, "content_index": part, "delta": text});
        format!("data: {event}\n\n")
    };
    let stream = [
        event("summary_text.delta", 0, "a"),
        event("summary_text.delta", 0, "b"),
        event("text.delta", 0, "raw"),
        event("summary_text.delta", 1, "c"),
        "data: {\"type\":\"response.completed\",\"response\":{}}\n\n".to_owned(),
    ];
    let read = collected(events_of(stream.concat().as_bytes(), 8)).unwrap();
    assert_eq!(read.blocks, [Block::Thinking { text: "ab\n\nc".to_owned(), signature: None }]);
}

#[test]
fn what_cannot_be_read_fails_and_is_the_end() {
    for stream in [
        "data: {\n\n",
        "data: {\"type\":\"response.output_text.delta\",\"delta\":7}\n\n",
        "data: {\"error\":{\"message\":\"no\",\"code\":400}}\n\n",
        "{\"error\":{\"message\":\"no\"}}",
        "data: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"no\",\"param\":null}\n\n",
        "data: [DONE]\n\n",
        "",
    ] {
        let events = events_of(format!("{stream}data: {{}}\n\n").as_bytes(), 1000);
        let failures = events.iter().filter(|event| matches!(event, Event::Failed(_))).count();
        assert_eq!(failures, 1, "{stream}: {events:?}");
        assert!(matches!(events.last(), Some(Event::Failed(_))), "{stream}: {events:?}");
    }
}

#[test]
fn an_event_of_megabytes_is_read_and_one_that_is_not_needed_is_passed_over() {
    let large = "x".repeat(3 << 20);
    let usage = json!({"input_tokens":3,"output_tokens":4});
    let response = json!({"output":[],"instructions":large,"usage":usage});
    let completed = json!({"type":"response.completed","response":response});
    let created = json!({"type":"response.created","response":{"instructions":large}});
    let text = json!({"type":"response.output_text.delta","output_index":0,"delta":"hi"});
    let picture = "response.image_generation_call.partial_image";
    // It is no JSON, and would fail if it were read.
    let stream = format!(
        "event: response.created\ndata: {created}\n\ndata: {text}\n\n\
         event: {picture}\ndata: {{\"type\":\"{picture}\",{large}\n\n\
         event: response.completed\ndata: {completed}\n\n"
    );
    let read = collected(events_of(stream.as_bytes(), 100_000)).unwrap();
    let usage = Usage { input: 3, output: 4, ..Usage::default() };
    assert_eq!((read.blocks, read.usage), (vec![Block::text("hi")], Some(usage)));
    let misplaced = json!({"type":"response.output_text.delta","output_index":large});
    let stream = format!("data: {text}\n\ndata: {misplaced}\n\n");
    let failure = collected(events_of(stream.as_bytes(), 100_000)).unwrap_err();
    assert!(failure.message.len() < 1000, "{}", failure.message.len());
    let stream = format!("data: {text}\n\ndata: {}", "x".repeat(33 << 20));
    let failure = collected(events_of(stream.as_bytes(), 1 << 20)).unwrap_err();
    assert!(failure.message.contains("larger"), "{}", failure.message);
}

fn words() -> impl Strategy<Value = String> {
    "[a-zäß😀\"\\\\\n]{1,12}"
}

fn block() -> impl Strategy<Value = Block> {
    let own = || {
        proptest::option::of(
            "[a-zA-Z0-9=]{1,9}".prop_map(|data| signature(Dialect::OpenaiResponses, &data)),
        )
    };
    let annotation = (words(), 0_u64..9, 0_u64..9).prop_map(|(url, start, end)| Annotation {
        title: Some(url.clone()),
        url,
        start,
        end,
    });
    prop_oneof![
        (words(), proptest::collection::vec(annotation, 0..3))
            .prop_map(|(text, annotations)| Block::Text { text, annotations }),
        (words(), own()).prop_map(|(text, signature)| Block::Thinking { text, signature }),
        "[a-z]{1,9}"
            .prop_map(|data| Block::RedactedThinking(signature(Dialect::OpenaiResponses, &data))),
        words().prop_map(Block::Refusal),
        (words(), words(), proptest::option::of("[a-z]{1,5}"), any::<bool>()).prop_map(
            |(id, arguments, namespace, custom)| {
                let kind = if custom { ToolKind::Custom } else { ToolKind::Function };
                // Arguments of nothing but white space become an empty object.
                let arguments = format!("{{{arguments}");
                Block::ToolUse(ToolUse { namespace, ..call(&id, kind, &arguments) })
            }
        ),
    ]
}

fn answer() -> impl Strategy<Value = Response> {
    let usage = (0_u64..1000, 0_u64..1000, 0_u64..1000, 0_u64..1000, 0_u64..1000).prop_map(
        |(input, cache_read, cache_write, output, reasoning)| Usage {
            input,
            cache_read,
            cache_write,
            cache_write_long: 0,
            output,
            reasoning: Some(reasoning),
        },
    );
    let early = prop_oneof![Just(None), Just(Some(Stop::MaxTokens)), Just(Some(Stop::Filtered))];
    (proptest::collection::vec(block(), 0..5), early, proptest::option::of(usage)).prop_map(
        |(blocks, early, usage)| {
            let called = blocks.iter().any(|block| matches!(block, Block::ToolUse(_)));
            let stop = early.unwrap_or(if called { Stop::ToolUse } else { Stop::EndTurn });
            Response {
                usage,
                id: "resp_1".to_owned(),
                model: "m".to_owned(),
                ..response(blocks, stop)
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// All but signatures of other providers, which come back from clients only, wrapped as they are.
    #[test]
    fn what_is_written_is_read_again(answer in answer(), size in 1_usize..400, summaries: bool) {
        let asked = if summaries { r#"{"reasoning":{"summary":"detailed"}}"# } else { "{}" };
        let told = Told { echo: Some(echo(asked.as_bytes())), ..told() };
        let mut events = replay(&answer);
        if let Some(Event::Start(start)) = events.first_mut() {
            // It is told at the end.
            start.usage = None;
        }
        let stream = written(&events, told.clone());
        check(&stream);
        prop_assert_eq!(&events_of(&stream, size), &events);
        prop_assert_eq!(read_response(&write_response(&answer, &told)).unwrap(), answer);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), size in 1_usize..50) {
        let events = events_of(&bytes, size);
        prop_assert!(matches!(events.last(), Some(Event::Failed(_))));
    }

    /// What servers send in another order, or twice, still is a stream of balanced blocks.
    #[test]
    fn whatever_the_order_blocks_are_balanced(
        picks in proptest::collection::vec((0_usize..14, 0_u64..3, 0_u64..3), 0..40),
    ) {
        let mut stream = String::new();
        for (kind, item, part) in picks {
            let kinds = [
                "output_item.added", "output_item.done", "content_part.added", "content_part.done",
                "output_text.delta", "output_text.done", "refusal.delta", "refusal.done",
                "reasoning_text.delta", "reasoning_summary_text.delta",
                "function_call_arguments.delta", "function_call_arguments.done",
                "output_text.annotation.added", "created",
            ];
            let types = ["message", "reasoning", "function_call"];
            let event = json!({
                "type": format!("response.{}", kinds[kind]), "output_index": item, "content_index": part,
                "summary_index": part, "delta": "d", "text": "t", "refusal": "r", "arguments": "{}",
                "part": {"type": "output_text", "text": "t"},
                "annotation": {"type": "url_citation", "url": "u"},
                "item": {"type": types[usize::try_from(part).unwrap()], "name": "f", "call_id": "c",
                    "content": [{"type": "output_text", "text": "x"}]},
            });
            stream.extend(["data: ", &event.to_string(), "\n\n"]);
        }
        stream.push_str("data: {\"type\":\"response.completed\",\"response\":{}}\n\n");
        let events = events_of(stream.as_bytes(), 64);
        let mut open = Vec::new();
        let mut next = 0;
        for (place, event) in events.iter().enumerate() {
            prop_assert_eq!(matches!(event, Event::Start(_)), place == 0);
            prop_assert_eq!(matches!(event, Event::End(_)), place + 1 == events.len());
            match event {
                Event::Open { index, .. } => {
                    prop_assert_eq!(*index, next);
                    next += 1;
                    open.push(*index);
                }
                Event::Delta { index, .. } => prop_assert!(open.contains(index)),
                Event::Close { index } => {
                    prop_assert!(open.contains(index));
                    open.retain(|it| it != index);
                }
                _ => {}
            }
        }
        prop_assert!(open.is_empty());
    }
}
