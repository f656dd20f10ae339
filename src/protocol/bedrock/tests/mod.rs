//! Converse, there and back.

mod answers;
mod invoke;
mod requests;
mod streams;

use bytes::Bytes;
use proptest::prelude::*;

use crate::config::Dialect;
use crate::protocol::bedrock::StreamReader;
use crate::protocol::canonical::{Block, Collector, Event, Failure, Image, Response, Signature};
use crate::protocol::canonical::{Source, Stop, ToolKind, ToolUse, Usage};

/// What a reader tells of these pieces of a stream.
fn read(pieces: impl IntoIterator<Item = Vec<u8>>) -> Vec<Event> {
    let (mut reader, mut events) = (StreamReader::new(), Vec::new());
    for piece in pieces {
        reader.push(Bytes::from(piece), &mut events);
    }
    reader.finish(&mut events);
    events
}

/// The answer that the events tell.
fn collect(events: Vec<Event>) -> Result<Response, Failure> {
    let mut collector = Collector::default();
    for event in events {
        if let Some(response) = collector.push(event)? {
            return Ok(response);
        }
    }
    panic!("the events have no end");
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

fn signature() -> impl Strategy<Value = Signature> {
    let dialect = prop_oneof![Just(Dialect::Bedrock), Just(Dialect::Anthropic)];
    (dialect, "[A-Za-z0-9]{4}").prop_map(|(dialect, data)| Signature { dialect, data })
}

/// A block of an answer that Converse can carry.
fn block() -> impl Strategy<Value = Block> {
    let arguments = prop_oneof![
        Just("{}".to_owned()),
        "[a-z\"]{0,9}".prop_map(|text| { serde_json::json!({ "a": [1, text] }).to_string() })
    ];
    prop_oneof![
        "\\PC{1,30}".prop_map(Block::text),
        ("\\PC{1,30}", prop::option::of(signature()))
            .prop_map(|(text, signature)| Block::Thinking { text, signature }),
        signature().prop_map(|signature| Block::Thinking {
            text: String::new(),
            signature: Some(signature)
        }),
        signature().prop_map(Block::RedactedThinking),
        ("[a-z0-9_-]{1,20}", "[a-z_]{1,20}", arguments)
            .prop_map(|(id, name, arguments)| call(&id, &name, &arguments)),
        Just(Block::Image(Image {
            source: Source::Base64("iVBORw0KGgo=".to_owned()),
            media_type: Some("image/png".to_owned()),
            detail: None,
        })),
    ]
}

fn stop() -> impl Strategy<Value = Stop> {
    prop_oneof![
        Just(Stop::EndTurn),
        Just(Stop::Sequence(None)),
        "\\PC{1,9}".prop_map(|text| Stop::Sequence(Some(text))),
        Just(Stop::MaxTokens),
        Just(Stop::Filtered),
    ]
}

/// An answer that Converse can carry: the model of an answer, its id and time have no place there, and
/// one that calls tools ends with that.
fn response() -> impl Strategy<Value = Response> {
    let usage = (0..9u64, 0..9u64, 0..9u64, 0..9u64, 0..9u64);
    (prop::collection::vec(block(), 0..6), stop(), usage).prop_map(
        |(blocks, stop, (fresh, cache_read, cache_write, cache_write_long, output))| {
            let calls = blocks.iter().any(|block| matches!(block, Block::ToolUse(_)));
            let input = fresh + cache_read + cache_write + cache_write_long;
            let usage =
                Usage { input, cache_read, cache_write, cache_write_long, output, reasoning: None };
            let stop = if calls && stop == Stop::EndTurn { Stop::ToolUse } else { stop };
            Response { blocks, stop, usage: Some(usage), ..Response::default() }
        },
    )
}
