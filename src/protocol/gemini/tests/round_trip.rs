//! What is written is read again, whatever it is.

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::{assert_grammar, collected, lenient, read_stream, rules, told, written};
use crate::config::Dialect;
use crate::protocol::canonical::{
    Asked, Block, Document, Effort, Format, Image, Media, Reasoning, Request, Response, Role,
    Schema, Signature, Source, Stop, Target, Told, Tool, ToolChoice, ToolKind, ToolResult, ToolUse,
    Turn, Usage, replay,
};
use crate::protocol::gemini::{read_request, read_response, write_request, write_response};

const MODEL: &str = "gemini-3-flash-preview";

fn words() -> impl Strategy<Value = String> {
    "[a-zä€😀\"\\\\\n ]{1,12}"
}

fn json_text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("{}".to_owned()),
        Just(r#"{"n":12345678901234567890123,"a":[1.50,null]}"#.to_owned()),
        "[a-z]{1,5}".prop_map(|word| format!(r#"{{"{word}": "{word}"}}"#)),
    ]
}

fn signature() -> impl Strategy<Value = Option<Signature>> {
    proptest::option::of("[A-Z]{4}")
        .prop_map(|data| data.map(|data| Signature { dialect: Dialect::Gemini, data }))
}

fn call(id: usize, name: &str, arguments: String, signature: Option<Signature>) -> Block {
    let (id, name, kind) = (format!("c{id}"), name.to_owned(), ToolKind::Function);
    Block::ToolUse(ToolUse { id, name, namespace: None, kind, arguments, signature })
}

fn image() -> impl Strategy<Value = Block> {
    let source = prop_oneof![
        "([A-Za-z0-9+/]{4}){0,3}".prop_map(Source::Base64),
        Just(Source::Url("https://a/b.png".to_owned())),
        Just(Source::File("gs://a/b".to_owned())),
    ];
    source.prop_map(|source| {
        Block::Image(Image { source, media_type: Some("image/png".to_owned()), detail: None })
    })
}

fn user_block() -> impl Strategy<Value = Block> {
    let base64 = || Source::Base64("AA==".to_owned());
    prop_oneof![
        words().prop_map(Block::text),
        image(),
        Just(Block::Audio(Media { source: base64(), media_type: "audio/wav".to_owned() })),
        Just(Block::Video(Media { source: base64(), media_type: "video/mp4".to_owned() })),
        words().prop_map(|text| Block::Document(Document {
            source: Source::Text(text),
            media_type: "text/plain".to_owned(),
            name: None,
        })),
        Just(Block::Document(Document {
            source: base64(),
            media_type: "application/pdf".to_owned(),
            name: None,
        })),
    ]
}

/// A question, an answer, and its calls: arguments, and whether and what they gave.
type Exchange = (Vec<Block>, Vec<Block>, Vec<(String, bool, String)>);

fn exchange() -> impl Strategy<Value = Exchange> {
    let calls = prop::collection::vec((json_text(), any::<bool>(), words()), 0..3);
    let said = proptest::option::of(words()).prop_map(|text| text.map(Block::text));
    (prop::collection::vec(user_block(), 1..3), said, calls)
        .prop_map(|(asked, said, calls)| (asked, said.into_iter().collect(), calls))
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    prop::collection::vec(exchange(), 1..4).prop_map(|exchanges| {
        let mut turns = Vec::new();
        let mut count = 0;
        let mut results = Vec::new();
        for (asked, mut said, calls) in exchanges {
            // Results stand before the next question, in one turn with it.
            let mut blocks = std::mem::take(&mut results);
            blocks.extend(asked);
            turns.push(Turn { role: Role::User, blocks });
            for (at, (arguments, is_error, text)) in calls.into_iter().enumerate() {
                count += 1;
                // Calls that are made together have their signature on the first.
                let data = "SIGN".to_owned();
                let signature = (at == 0).then_some(Signature { dialect: Dialect::Gemini, data });
                said.push(call(count, "f", arguments, signature));
                let (id, name) = (format!("c{count}"), Some("f".to_owned()));
                let blocks = vec![Block::text(text)];
                results.push(Block::ToolResult(ToolResult { id, name, blocks, is_error }));
            }
            if said.is_empty() {
                said.push(Block::text("-"));
            }
            turns.push(Turn { role: Role::Assistant, blocks: said });
        }
        if !results.is_empty() {
            turns.push(Turn { role: Role::User, blocks: results });
        }
        turns
    })
}

fn reasoning() -> impl Strategy<Value = Reasoning> {
    let efforts = vec![Effort::Minimal, Effort::Low, Effort::Medium, Effort::High];
    proptest::option::of((prop::sample::select(efforts), any::<bool>()).prop_map(
        |(effort, shown)| Reasoning {
            effort: Some(effort),
            shown: Some(shown),
            ..Reasoning::default()
        },
    ))
    .prop_map(Option::unwrap_or_default)
}

fn format() -> impl Strategy<Value = Format> {
    let schema = RawValue::from_string(r#"{"type":"object","maximum":1.50}"#.to_owned()).unwrap();
    let schema = Schema { name: "response".to_owned(), description: None, schema, strict: None };
    prop_oneof![Just(Format::Text), Just(Format::JsonObject), Just(Format::JsonSchema(schema))]
}

fn choice() -> impl Strategy<Value = Option<ToolChoice>> {
    let names = vec!["f".to_owned(), "g".to_owned()];
    proptest::option::of(prop_oneof![
        Just(ToolChoice::Auto),
        Just(ToolChoice::None),
        Just(ToolChoice::Required),
        Just(ToolChoice::Named("f".to_owned())),
        Just(ToolChoice::Among { names, required: true }),
    ])
}

prop_compose! {
    fn request()(
        turns in turns(),
        system in prop::collection::vec(words().prop_map(Block::text), 0..3),
        schema in json_text(),
        tool_choice in choice(),
        format in format(),
        reasoning in reasoning(),
        sampling in (proptest::option::of(0u8..=20), proptest::option::of(0u64..100)),
        max_output in proptest::option::of(1u64..100_000),
        stop in prop::collection::vec(words(), 0..5),
        seed in proptest::option::of(any::<i32>()),
    ) -> Request {
        let schema = format!(r#"{{"type": "object", "properties": {{"a": {schema}}}}}"#);
        let tool = |name: &str| Tool {
            name: name.to_owned(),
            namespace: None,
            description: Some("d".to_owned()),
            kind: ToolKind::Function,
            schema: RawValue::from_string(schema.clone()).ok(),
            strict: None,
            grammar: None,
            cache: None,
        };
        Request {
            model: MODEL.to_owned(),
            system,
            turns,
            tools: vec![tool("f"), tool("g")],
            tool_choice,
            max_output,
            temperature: sampling.0.map(|tenths| f64::from(tenths) / 10.0),
            top_k: sampling.1,
            stop,
            seed: seed.map(i64::from),
            format,
            reasoning,
            service_tier: Some("flex".to_owned()),
            stream: true,
            stream_usage: true,
            ..Request::default()
        }
    }
}

fn answer_block(at: usize) -> BoxedStrategy<Block> {
    prop_oneof![
        words().prop_map(Block::text),
        (words(), signature()).prop_map(|(text, signature)| Block::Thinking { text, signature }),
        (json_text(), signature())
            .prop_map(move |(arguments, signature)| call(at, "f", arguments, signature)),
        Just(Block::Image(Image {
            source: Source::Base64("AA==".to_owned()),
            media_type: Some("image/png".to_owned()),
            detail: None,
        })),
    ]
    .boxed()
}

prop_compose! {
    fn response()(
        blocks in (0usize..6).prop_flat_map(|count| (0..count).map(answer_block).collect::<Vec<_>>()),
        max_tokens in any::<bool>(),
        input in 0u64..1000, cache_read in 0u64..1000,
        output in 0u64..1000, reasoning in proptest::option::of(0u64..1000),
    ) -> Response {
        let mut blocks: Vec<Block> = blocks;
        // Neighbours of one kind are one block to Google.
        blocks.dedup_by(|next, last| {
            matches!((next, last), (Block::Text { .. }, Block::Text { .. })
                | (Block::Thinking { .. }, Block::Thinking { signature: None, .. }))
        });
        let called = blocks.iter().any(|block| matches!(block, Block::ToolUse(_)));
        let stop = match (max_tokens, called) {
            (true, _) => Stop::MaxTokens,
            (false, true) => Stop::ToolUse,
            (false, false) => Stop::EndTurn,
        };
        let output = output + reasoning.unwrap_or_default();
        let usage = Usage { input: input + cache_read, cache_read, output, reasoning, ..Usage::default() };
        let (id, model) = ("r1".to_owned(), "asked".to_owned());
        Response { id, model, created: None, blocks, stop, usage: Some(usage) }
    }
}

proptest! {
    #[test]
    fn a_request(request in request()) {
        let rules = rules(MODEL);
        let mut losses = lenient();
        let to = Target { model: MODEL, rules: &rules };
        let body = write_request(&request, &to, &mut losses).unwrap();
        let asked = Asked { model: Some(MODEL), stream: true };
        let again = read_request(&body, &asked, &mut losses).unwrap();
        prop_assert_eq!(format!("{again:?}"), format!("{request:?}"));
        prop_assert!(losses.dropped().is_empty(), "{:?}", losses.dropped());
    }

    #[test]
    fn an_answer(response in response()) {
        let body = write_response(&response, &told());
        prop_assert_eq!(read_response(&body).unwrap(), response);
    }

    #[test]
    fn a_streamed_answer(response in response(), array in any::<bool>(), size in 1usize..50) {
        let stream = written(&replay(&response), &Told { array, ..told() });
        let events = read_stream(&stream, size);
        assert_grammar(&events);
        prop_assert_eq!(collected(&events).unwrap(), response);
    }

    #[test]
    fn whatever_comes_is_read_without_a_panic(
        pieces in prop::collection::vec("[\\[\\]{}\":,a-z0-9 \r\n]{0,20}|data: |\"candidates\"|\"parts\"", 0..30),
        size in 1usize..50,
    ) {
        let stream = pieces.concat();
        assert_grammar(&read_stream(stream.as_bytes(), size));
        let _ = read_response(stream.as_bytes());
        let _ = read_request(stream.as_bytes(), &Asked::default(), &mut lenient());
    }
}
