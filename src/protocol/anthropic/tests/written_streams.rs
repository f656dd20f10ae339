//! Streams as they are written.

use proptest::prelude::*;
use serde_json::Value;

use super::{assert_grammar, collect, read_stream, recorded, told};
use crate::config::Dialect;
use crate::protocol::anthropic::StreamWriter;
use crate::protocol::canonical::{
    Block, Delta, End, Event, Failure, Image, Opening, Response, Signature, Source, Start, Stop,
    ToolKind, Usage, replay,
};
use crate::protocol::framing::sse::Decoder;

fn write_events(events: &[Event]) -> Vec<u8> {
    let (mut writer, mut out) = (StreamWriter::new(told()), Vec::new());
    for event in events {
        writer.write(event, &mut out);
    }
    out
}

/// The data of a stream's events, each of which is named as its data is typed.
fn data_of(stream: &[u8]) -> Vec<Value> {
    let mut decoder = Decoder::new();
    decoder.push(bytes::Bytes::copy_from_slice(stream));
    let mut data = Vec::new();
    for event in decoder.by_ref() {
        let value: Value = serde_json::from_slice(&event.data.unwrap()).unwrap();
        assert_eq!(event.event.as_deref(), value["type"].as_str().map(str::as_bytes));
        data.push(value);
    }
    assert_eq!(decoder.pending(), 0);
    data
}

/// Holds a stream to what Anthropic's clients expect of one that is whole, or one that fails.
fn assert_valid(stream: &[u8]) {
    let (mut begun, mut open, mut next, mut stopped, mut over) = (false, None, 0, false, false);
    for data in data_of(stream) {
        assert!(!over, "{data} follows the end");
        let kind = data["type"].as_str().unwrap();
        assert!(begun || matches!(kind, "message_start" | "error" | "ping"), "{data}");
        assert!(!stopped || matches!(kind, "message_stop" | "error" | "ping"), "{data}");
        match kind {
            "message_start" => {
                assert!(!std::mem::replace(&mut begun, true));
                assert!(data["message"]["usage"]["input_tokens"].is_u64());
                assert_eq!(data["message"]["content"], Value::Array(Vec::new()));
            }
            "content_block_start" => {
                assert_eq!((open, data["index"].as_u64()), (None, Some(next)));
                open = Some(next);
                next += 1;
            }
            "content_block_delta" => assert_eq!(data["index"].as_u64(), open.or(Some(u64::MAX))),
            "content_block_stop" => {
                assert_eq!(data["index"].as_u64(), open.take().or(Some(u64::MAX)));
            }
            "message_delta" => {
                assert_eq!(open, None);
                assert!(data["delta"]["stop_reason"].is_string());
                assert!(data["usage"]["output_tokens"].is_u64());
                stopped = true;
            }
            "message_stop" => {
                assert!(stopped);
                over = true;
            }
            "error" => over = true,
            "ping" => {}
            other => panic!("{other}"),
        }
    }
    assert!(over, "no end");
}

/// An answer as it is after it was written: some things have another shape here.
fn as_written(mut response: Response) -> Response {
    response.model = "mine".to_owned();
    response.created = None;
    if !response.id.starts_with("msg_") {
        let id = if response.id.is_empty() { "4f2a" } else { &response.id };
        response.id = format!("msg_{id}");
    }
    let calls = response.blocks.iter().any(|block| matches!(block, Block::ToolUse(_)));
    if matches!(response.stop, Stop::EndTurn | Stop::ToolUse) {
        response.stop = if calls { Stop::ToolUse } else { Stop::EndTurn };
    }
    for block in &mut response.blocks {
        match block {
            Block::Text { text, annotations } => {
                for annotation in annotations {
                    (annotation.start, annotation.end) = (0, text.chars().count() as u64);
                }
            }
            Block::ToolUse(call) => {
                call.signature = None;
                call.namespace = None;
                call.kind = ToolKind::Function;
                if call.arguments.is_empty() {
                    call.arguments = "{}".to_owned();
                }
            }
            _ => {}
        }
    }
    let refusal: String = response
        .blocks
        .iter()
        .filter_map(|block| match block {
            Block::Refusal(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    response.blocks.retain(|block| !matches!(block, Block::Image(_) | Block::Refusal(_)));
    // A refusal comes last; one that a filter ended the answer with is known as one.
    if !refusal.is_empty() && response.stop == Stop::Filtered {
        response.blocks.push(Block::Refusal(refusal));
    } else if !refusal.is_empty() {
        response.blocks.push(Block::text(refusal));
    }
    if response.blocks.is_empty() && response.stop != Stop::Filtered {
        response.blocks.push(Block::text(""));
    }
    response.usage = Some(response.usage.unwrap_or_default());
    response
}

#[test]
fn recorded_streams_are_the_same_after_they_were_written() {
    for stream in [
        &recorded!("ant-stream-text")[..],
        recorded!("ant-stream-tool"),
        recorded!("ant-stream-tool-noargs"),
        recorded!("ant-stream-thinking"),
        recorded!("ant-stream-refusal"),
        recorded!("ant-stream-websearch"),
    ] {
        let events = read_stream(stream);
        let written = write_events(&events);
        assert_valid(&written);
        let again = collect(&read_stream(&written)).unwrap();
        assert_eq!(again, as_written(collect(&events).unwrap()));
    }
}

#[test]
fn a_stream_is_written_as_anthropic_writes_it() {
    let events = read_stream(recorded!("ant-stream-tool-noargs"));
    // A ping comes where it likes; a call is told only with its first piece.
    let types = |stream: &[u8]| -> Vec<String> {
        let types = data_of(stream).into_iter().map(|it| it["type"].to_string());
        types.filter(|kind| kind != "\"ping\"").collect()
    };
    assert_eq!(types(&write_events(&events)), types(recorded!("ant-stream-tool-noargs")));
}

#[test]
fn every_event_is_written_at_once() {
    let mut writer = StreamWriter::new(told());
    for event in read_stream(recorded!("ant-stream-thinking")) {
        let mut out = Vec::new();
        writer.write(&event, &mut out);
        assert!(!out.is_empty(), "{event:?}");
    }
}

#[test]
fn an_answer_of_nothing_has_an_empty_block_and_a_refused_one_has_none() {
    let end = |stop| Event::End(End { stop, usage: None });
    let written = write_events(&[Event::Start(Start::default()), end(Stop::EndTurn)]);
    assert_valid(&written);
    assert_eq!(collect(&read_stream(&written)).unwrap().blocks, [Block::text("")]);
    let written = write_events(&[Event::Start(Start::default()), end(Stop::Filtered)]);
    assert_valid(&written);
    assert_eq!(collect(&read_stream(&written)).unwrap().blocks, []);
}

#[test]
fn a_failure_ends_a_stream_without_a_normal_end() {
    let open = Event::Open { index: 0, block: Opening::Text };
    let failed = Event::Failed(Failure::cut_off());
    let written = write_events(&[
        Event::Start(Start::default()),
        open,
        failed,
        Event::End(End::default()),
        Event::Ping,
    ]);
    assert_valid(&written);
    let data = data_of(&written);
    assert_eq!(data.len(), 3);
    assert_eq!(data[2]["error"]["type"], "api_error");
}

#[test]
fn thinking_nobody_signed_gets_a_signature_that_reads_as_none() {
    let events = [
        Event::Start(Start::default()),
        Event::Open { index: 0, block: Opening::Thinking },
        Event::Delta { index: 0, delta: Delta::Thinking("hm".to_owned()) },
        Event::Close { index: 0 },
        Event::End(End::default()),
    ];
    let written = write_events(&events);
    let signed = data_of(&written).into_iter().any(|it| it["delta"]["type"] == "signature_delta");
    assert!(signed);
    let thinking = Block::Thinking { text: "hm".to_owned(), signature: None };
    assert_eq!(collect(&read_stream(&written)).unwrap().blocks, [thinking]);
}

#[test]
fn an_image_is_a_whole_block() {
    let source = Source::Base64("iVBO".to_owned());
    let image = Image { source, media_type: Some("image/png".to_owned()), detail: None };
    let response = Response { blocks: vec![Block::Image(image)], ..Response::default() };
    let written = write_events(&replay(&response));
    assert_valid(&written);
    let data = data_of(&written);
    assert_eq!(data[1]["content_block"]["source"]["data"], "iVBO");
}

fn block() -> impl Strategy<Value = Opening> {
    let call = ("[a-z]{1,4}", "[a-z]{1,4}").prop_map(|(id, name)| Opening::ToolUse {
        id,
        name,
        namespace: None,
        kind: ToolKind::Function,
    });
    prop_oneof![
        Just(Opening::Text),
        Just(Opening::Thinking),
        Just(Opening::Refusal),
        "[a-z]{1,9}".prop_map(|data| Opening::RedactedThinking(signature(data))),
        call,
    ]
}

fn signature(data: String) -> Signature {
    Signature { dialect: Dialect::Gemini, data }
}

fn delta(block: &Opening, text: &str) -> Option<Delta> {
    let text = text.to_owned();
    Some(match block {
        Opening::Text => Delta::Text(text),
        Opening::Thinking | Opening::ToolUse { .. } if text.starts_with('s') => {
            Delta::Signature(signature(text))
        }
        Opening::Thinking => Delta::Thinking(text),
        Opening::Refusal => Delta::Refusal(text),
        Opening::ToolUse { .. } => Delta::Arguments(text),
        Opening::RedactedThinking(_) | Opening::Image(_) => return None,
    })
}

prop_compose! {
    /// The events of an answer, its blocks told one after the other or in turns.
    fn events()(
        blocks in prop::collection::vec(block(), 0..5),
        turns in prop::collection::vec((0usize..5, "[a-zé\"\n]{1,5}"), 0..20),
        input in 0u64..1000, output in 0u64..1000, interleaved in any::<bool>(),
        stop in prop_oneof![
            Just(Stop::EndTurn), Just(Stop::MaxTokens), Just(Stop::Filtered), Just(Stop::ToolUse),
            Just(Stop::Sequence(Some("x".to_owned()))),
        ],
    ) -> Vec<Event> {
        let usage = Some(Usage { input, output, reasoning: Some(output / 2), ..Usage::default() });
        let mut events = vec![Event::Start(Start { id: "r".to_owned(), ..Start::default() })];
        let deltas = |index: u32, block: &Opening| -> Vec<Event> {
            let own = turns.iter().filter(|(turn, _)| *turn == index as usize);
            own.filter_map(|(_, text)| delta(block, text))
                .map(|delta| Event::Delta { index, delta }).collect()
        };
        if interleaved {
            events.extend((0..).zip(&blocks).map(|(index, it)| Event::Open { index, block: it.clone() }));
            for (turn, text) in &turns {
                let delta = blocks.get(*turn).and_then(|block| delta(block, text));
                let index = u32::try_from(*turn).unwrap();
                events.extend(delta.map(|delta| Event::Delta { index, delta }));
            }
            events.extend((0..).zip(&blocks).map(|(index, _)| Event::Close { index }));
        } else {
            for (index, block) in (0..).zip(&blocks) {
                events.push(Event::Open { index, block: block.clone() });
                events.extend(deltas(index, block));
                events.push(Event::Close { index });
            }
        }
        events.push(Event::End(End { stop, usage }));
        events
    }
}

proptest! {
    #[test]
    fn whatever_is_told_is_written_validly_and_read_as_it_was(events in events()) {
        assert_grammar(&events);
        let written = write_events(&events);
        assert_valid(&written);
        let again = read_stream(&written);
        assert_grammar(&again);
        prop_assert_eq!(collect(&again).unwrap(), as_written(collect(&events).unwrap()));
    }

    #[test]
    fn a_whole_answer_is_read_as_it_was_written(events in events()) {
        use crate::protocol::anthropic::{read_response, write_response};
        let mut response = collect(&events).unwrap();
        for block in &mut response.blocks {
            // What is no object is wrapped in one.
            if let Block::ToolUse(call) = block {
                call.arguments = r#"{"a":1}"#.to_owned();
            }
        }
        let again = read_response(&write_response(&response, &told())).unwrap();
        prop_assert_eq!(again, as_written(response));
    }
}
