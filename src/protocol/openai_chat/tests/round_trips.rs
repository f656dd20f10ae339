//! What is written is read again.

use proptest::prelude::*;

use super::{collect, read, told, validator::validate, write};
use crate::config::Dialect;
use crate::protocol::canonical::{
    Annotation, Block, Delta, Event, Image, Response, Signature, Source, Stop, ToolKind, ToolUse,
    Usage, replay,
};
use crate::protocol::openai_chat::{read_response, write_response};

fn signature() -> impl Strategy<Value = Signature> {
    let dialects = [
        Dialect::Anthropic,
        Dialect::Gemini,
        Dialect::Bedrock,
        Dialect::OpenaiResponses,
        Dialect::OpenaiChat,
    ];
    (proptest::sample::select(dialects.to_vec()), "[a-zA-Z0-9+/]{1,12}=")
        .prop_map(|(dialect, data)| Signature { dialect, data })
}

fn words() -> impl Strategy<Value = String> {
    "\\PC{1,12}"
}

fn annotation() -> impl Strategy<Value = Annotation> {
    (0..5_u64, 5..9_u64).prop_map(|(start, end)| {
        let url = "https://example.com/ä".to_owned();
        Annotation { url, title: Some("T".to_owned()), start, end }
    })
}

fn text() -> impl Strategy<Value = Block> {
    (words(), prop::collection::vec(annotation(), 0..2))
        .prop_map(|(text, annotations)| Block::Text { text, annotations })
}

fn thinking() -> impl Strategy<Value = Block> {
    prop_oneof![
        (words(), prop::option::of(signature()))
            .prop_map(|(text, signature)| Block::Thinking { text, signature }),
        signature().prop_map(|it| Block::Thinking { text: String::new(), signature: Some(it) }),
        signature().prop_map(Block::RedactedThinking),
    ]
}

fn call() -> impl Strategy<Value = Block> {
    let arguments = prop_oneof![Just("{}"), Just(r#"{"a": [1, "ü"]}"#), Just(r#"{"broken"#)];
    let google = "[a-z]{1,5}".prop_map(|data| Signature { dialect: Dialect::Gemini, data });
    ("[a-z]{1,8}", "[a-z_]{1,8}", any::<bool>(), arguments, prop::option::of(google)).prop_map(
        |(id, name, custom, arguments, signature)| {
            let kind = if custom { ToolKind::Custom } else { ToolKind::Function };
            let arguments = arguments.to_owned();
            Block::ToolUse(ToolUse { id, name, namespace: None, kind, arguments, signature })
        },
    )
}

fn image() -> impl Strategy<Value = Block> {
    let data = Image {
        source: Source::Base64("AAAA".to_owned()),
        media_type: Some("image/png".to_owned()),
        detail: None,
    };
    let url = "https://example.com/a.png".to_owned();
    let url = Image { source: Source::Url(url), media_type: None, detail: None };
    prop_oneof![Just(Block::Image(data)), Just(Block::Image(url))]
}

fn stop() -> impl Strategy<Value = Stop> {
    prop_oneof![
        Just(Stop::EndTurn),
        Just(Stop::MaxTokens),
        Just(Stop::Filtered),
        words().prop_map(|sequence| Stop::Sequence(Some(sequence))),
    ]
}

fn usage() -> impl Strategy<Value = Usage> {
    (0..9_u64, 0..9_u64, 0..9_u64, prop::option::of(0..9_u64)).prop_map(
        |(input, cache_read, output, reasoning)| Usage {
            input,
            cache_read,
            cache_write: 1,
            cache_write_long: 0,
            output,
            reasoning,
        },
    )
}

fn response(blocks: impl Strategy<Value = Vec<Block>>) -> impl Strategy<Value = Response> {
    (blocks, stop(), prop::option::of(usage())).prop_map(|(blocks, stop, usage)| {
        let has_calls = blocks.iter().any(|block| matches!(block, Block::ToolUse(_)));
        let stop = if has_calls && stop == Stop::EndTurn { Stop::ToolUse } else { stop };
        Response {
            id: "chatcmpl-1".to_owned(),
            model: "asked-for".to_owned(),
            created: Some(7),
            blocks,
            stop,
            usage,
        }
    })
}

/// Blocks in any order; neighbours of one kind are one block to whoever reads them.
fn in_turns() -> impl Strategy<Value = Vec<Block>> {
    let block = prop_oneof![text(), thinking(), call(), image(), words().prop_map(Block::Refusal),];
    prop::collection::vec(block, 0..7).prop_map(|mut blocks: Vec<Block>| {
        blocks.dedup_by(|next, before| {
            matches!(
                (next, before),
                (Block::Text { .. }, Block::Text { .. }) | (Block::Refusal(_), Block::Refusal(_))
            )
        });
        blocks
    })
}

/// Blocks in the one order that a whole answer has.
fn in_order() -> impl Strategy<Value = Vec<Block>> {
    let many = |block| prop::collection::vec(block, 0..3);
    let one = |block| prop::collection::vec(block, 0..2);
    (
        many(thinking().boxed()),
        one(text().boxed()),
        one(words().prop_map(Block::Refusal).boxed()),
        many(image().boxed()),
        many(call().boxed()),
    )
        .prop_map(|(a, b, c, d, e)| [a, b, c, d, e].concat())
}

/// The same events in smaller pieces.
fn cut(events: Vec<Event>) -> Vec<Event> {
    let pieces = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
    let mut smaller = Vec::new();
    for event in events {
        let Event::Delta { index, delta } = event else {
            smaller.push(event);
            continue;
        };
        let deltas: Vec<Delta> = match &delta {
            Delta::Text(text) => pieces(text).into_iter().map(Delta::Text).collect(),
            Delta::Thinking(text) => pieces(text).into_iter().map(Delta::Thinking).collect(),
            Delta::Arguments(text) => pieces(text).into_iter().map(Delta::Arguments).collect(),
            _ => vec![delta],
        };
        smaller.extend(deltas.into_iter().map(|delta| Event::Delta { index, delta }));
    }
    smaller
}

proptest! {
    #[test]
    fn a_stream(response in response(in_turns()), small in any::<bool>(), size in 1..40_usize) {
        let events = replay(&response);
        let events = if small { cut(events) } else { events };
        let written = write(&events, told(true));
        validate(&written, true);
        let again = collect(read(written.chunks(size))).unwrap();
        prop_assert_eq!(again, response);
    }

    #[test]
    fn a_whole_answer(response in response(in_order())) {
        let again = read_response(&write_response(&response, &told(false))).unwrap();
        prop_assert_eq!(again, response);
    }

    #[test]
    fn nothing_a_server_sends_is_a_panic(pieces in prop::collection::vec(
        prop_oneof![
            Just("data: ".to_owned()), Just("\n\n".to_owned()), Just("[DONE]".to_owned()),
            Just(r#"{"choices":[{"delta":{"content":"a"}}]}"#.to_owned()),
            Just(r#"{"choices":[{"delta":{"tool_calls":[{"index":1}]}}]}"#.to_owned()),
            Just(r#"{"choices":[{"delta":{"tool_calls":[{"function":{"name":"f"}}]},"finish_reason":"x"}]}"#.to_owned()),
            "\\PC{0,6}",
        ], 0..12,
    )) {
        let stream = pieces.concat();
        let events = read([stream.as_bytes()]);
        let is_last = |event: &Event| matches!(event, Event::End(_) | Event::Failed(_));
        prop_assert_eq!(events.iter().position(is_last), Some(events.len() - 1));
    }
}
