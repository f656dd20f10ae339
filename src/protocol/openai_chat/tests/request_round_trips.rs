//! Requests that are written are read again.

use proptest::prelude::*;

use super::requests::{assistant, call, losses, user};
use crate::config::{Dialect, Kind, Translation};
use crate::protocol::canonical::{
    Arrange, Asked, Block, Effort, Format, Image, Losses, Merge, Reasoning, ReasoningField,
    Request, Rules, Schema, Source, Target, Tool, ToolChoice, ToolKind, ToolResult, Turn, arrange,
};
use crate::protocol::openai_chat::{read_request, write_request};

fn words() -> impl Strategy<Value = String> {
    "\\PC{1,10}"
}

fn image() -> impl Strategy<Value = Block> {
    let details = prop::sample::select(vec![None, Some("low"), Some("high")]);
    (any::<bool>(), details).prop_map(|(url, detail)| {
        let (source, media_type) = if url {
            (Source::Url("https://example.com/ä".to_owned()), None)
        } else {
            (Source::Base64("AAAA".to_owned()), Some("image/webp".to_owned()))
        };
        Block::Image(Image { source, media_type, detail: detail.map(str::to_owned) })
    })
}

fn said() -> impl Strategy<Value = Vec<Block>> {
    let block = prop_oneof![3 => words().prop_map(Block::text), 1 => image()];
    prop::collection::vec(block, 1..4)
}

/// The user's words, then what the assistant thinks and says, and the names of the tools it calls with
/// what they give.
type Round = (Vec<Block>, Option<String>, Option<String>, Vec<(String, String)>);

fn round() -> impl Strategy<Value = Round> {
    let calls = prop::collection::vec(("[a-z]{1,6}", words()), 0..3);
    (said(), prop::option::of(words()), prop::option::of(words()), calls)
}

fn conversation() -> impl Strategy<Value = Vec<Turn>> {
    (prop::collection::vec(round(), 0..3), said()).prop_map(|(rounds, last)| {
        let mut turns = Vec::new();
        let mut results: Vec<Block> = Vec::new();
        let mut count = 0;
        for (said, thinking, text, calls) in rounds {
            results.extend(said);
            turns.push(user(std::mem::take(&mut results)));
            let thinking = thinking.map(|text| Block::Thinking { text, signature: None });
            let text = text.or_else(|| calls.is_empty().then(|| "x".to_owned()));
            let mut blocks: Vec<_> = thinking.into_iter().chain(text.map(Block::text)).collect();
            for (name, said) in calls {
                count += 1;
                let id = format!("call_{count}");
                blocks.push(call(&id, &name, r#"{"a": 1.50}"#));
                let blocks = vec![Block::text(said)];
                let (name, is_error) = (Some(name), false);
                results.push(Block::ToolResult(ToolResult { id, name, blocks, is_error }));
            }
            turns.push(assistant(blocks));
        }
        results.extend(last);
        turns.push(user(results));
        turns
    })
}

fn json_text(text: &str) -> Box<serde_json::value::RawValue> {
    serde_json::from_str(text).unwrap()
}

fn tools() -> impl Strategy<Value = (Vec<Tool>, Option<ToolChoice>, Option<bool>)> {
    let tool = ("[a-zA-Z0-9_-]{1,10}", prop::option::of(words()), any::<bool>(), any::<bool>());
    let tool = tool.prop_map(|(name, description, custom, more)| Tool {
        name,
        namespace: None,
        description,
        kind: if custom { ToolKind::Custom } else { ToolKind::Function },
        schema: (more && !custom)
            .then(|| json_text(r#"{"type": "object", "x": 1e2, "additionalProperties": false}"#)),
        strict: (more && !custom).then_some(true),
        grammar: (more && custom).then(|| {
            json_text(r#"{"type":"grammar","grammar":{"syntax":"regex","definition":"."}}"#)
        }),
        cache: None,
    });
    (prop::collection::vec(tool, 1..3), 0..5_u8, any::<bool>()).prop_map(|(tools, choice, one)| {
        let name = tools[0].name.clone();
        let choice = match choice {
            0 => None,
            1 => Some(ToolChoice::Auto),
            2 => Some(ToolChoice::None),
            3 => Some(ToolChoice::Named(name)),
            _ => Some(ToolChoice::Among { names: vec![name], required: true }),
        };
        (tools, choice, one.then_some(false))
    })
}

fn request() -> impl Strategy<Value = Request> {
    let tools = prop_oneof![Just((Vec::new(), None, None)), tools()];
    let number = || prop::option::of((0..20_u8).prop_map(|it| f64::from(it) / 10.0));
    let numbers = (number(), number(), number(), number(), prop::option::of(any::<i64>()));
    let effort =
        prop::option::of(prop::sample::select(vec![Effort::None, Effort::Low, Effort::Max]));
    let rest = (effort, 0..3_u8, any::<bool>(), prop::option::of(words()));
    let system = prop::option::of(words());
    let turns = (system, conversation(), tools);
    (turns, numbers, rest, prop::collection::vec(words(), 0..4)).prop_map(
        |((system, turns, (tools, tool_choice, parallel_tools)), numbers, rest, stop)| {
            let (temperature, top_p, presence_penalty, frequency_penalty, seed) = numbers;
            let (effort, format, stream, user) = rest;
            let enabled = (effort == Some(Effort::None)).then_some(false);
            let shown = effort.and_then(|effort| (effort != Effort::None).then_some(true));
            Request {
                model: "m".to_owned(),
                system: system.map(Block::text).into_iter().collect(),
                turns,
                tools,
                tool_choice,
                parallel_tools,
                max_output: seed.map(i64::unsigned_abs),
                temperature,
                top_p,
                stop,
                seed,
                presence_penalty,
                frequency_penalty,
                logit_bias: stream.then(|| json_text(r#"{"50256": -100}"#)),
                format: match format {
                    0 => Format::Text,
                    1 => Format::JsonObject,
                    _ => Format::JsonSchema(Schema {
                        name: "n".to_owned(),
                        description: user.clone(),
                        schema: json_text(r#"{"type": "object", "additionalProperties": false}"#),
                        strict: Some(stream),
                    }),
                },
                reasoning: Reasoning { enabled, effort, budget: None, shown },
                verbosity: user.as_ref().map(|_| "low".to_owned()),
                service_tier: user.as_ref().map(|_| "flex".to_owned()),
                cache_key: user.clone(),
                user,
                stream,
                stream_usage: stream,
                ..Request::default()
            }
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(request in request()) {
        let rules = Rules {
            reasoning_field: ReasoningField::ReasoningContent,
            sampling: true,
            penalties: true,
            stop: true,
            efforts: Rules::of(Dialect::OpenaiChat, Kind::Openai, "gpt-6").efforts,
            ..Rules::of(Dialect::OpenaiChat, Kind::Openai, "gpt-5-mini")
        };
        let mut losses = Losses::new(Dialect::OpenaiChat, Translation::Strict);
        let body = write_request(&request, &Target { model: "m", rules: &rules }, &mut losses).unwrap();
        let mut again = read_request(&body, &Asked::default(), &mut losses).unwrap();
        // Results and the words behind them are messages apart; there they are one turn.
        let together = Arrange { merge: Merge::Everything, ..Arrange::default() };
        again.turns = arrange(&again.turns, together).unwrap();
        prop_assert_eq!(format!("{again:#?}"), format!("{request:#?}"));
    }

    #[test]
    fn nothing_a_client_sends_is_a_panic(body in "\\PC{0,60}") {
        let _ = read_request(body.as_bytes(), &Asked::default(), &mut losses(Dialect::OpenaiChat));
    }
}
