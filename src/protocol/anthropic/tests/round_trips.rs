//! Requests that are read again after they were written.

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::lenient;
use crate::config::{Dialect, Kind};
use crate::protocol::anthropic::{read_request, write_request};
use crate::protocol::canonical::{
    Asked, Block, CacheMark, Document, Effort, Format, Image, Reasoning, Request, Role, Rules,
    Schema, Signature, Source, Target, Tool, ToolChoice, ToolKind, ToolResult, ToolUse, Turn,
};

fn text() -> impl Strategy<Value = Block> {
    "[a-z][a-zé\n\" ]{0,8}[a-z]".prop_map(Block::text)
}

fn media() -> impl Strategy<Value = Block> {
    let image = prop_oneof![
        "[A-Za-z]{1,8}".prop_map(|data| (Source::Base64(data), Some("image/png".to_owned()))),
        "https://[a-z]{1,8}".prop_map(|url| (Source::Url(url), None)),
    ];
    let document = prop_oneof![
        "[A-Za-z]{1,8}".prop_map(|data| (Source::Base64(data), "application/pdf")),
        "[a-z]{1,8}".prop_map(|text| (Source::Text(text), "text/plain")),
    ];
    prop_oneof![
        image.prop_map(|(source, media_type)| {
            Block::Image(Image { source, media_type, detail: None })
        }),
        (document, prop::option::of("[a-z]{1,4}")).prop_map(|((source, media_type), name)| {
            Block::Document(Document { source, media_type: media_type.to_owned(), name })
        }),
    ]
}

/// Blocks, some of them marked.
fn marked(blocks: Vec<(Block, bool)>) -> Vec<Block> {
    let mut all = Vec::new();
    for (block, is_marked) in blocks {
        all.push(block);
        all.extend(is_marked.then_some(Block::Cache(CacheMark::Long)));
    }
    all
}

prop_compose! {
    /// What the user says, what the model thinks, says and calls, and what the tools give.
    fn round()(
        said in prop::collection::vec((prop_oneof![text(), media()], prop::bool::weighted(0.1)), 1..3),
        thought in prop::bool::ANY,
        answer in text(),
        calls in prop::collection::vec(("[a-z]{1,4}", "\\{\"a\": \"[a-zé]{0,5}\"\\}", any::<bool>()), 0..3),
        given in prop::collection::vec(prop_oneof![text(), media()], 0..3),
    ) -> (Vec<Turn>, usize) {
        let mut blocks = Vec::new();
        if thought {
            let signature = Signature { dialect: Dialect::Anthropic, data: "Eq".to_owned() };
            blocks.push(Block::Thinking { text: "hm".to_owned(), signature: Some(signature.clone()) });
            blocks.push(Block::RedactedThinking(signature));
        }
        blocks.push(answer);
        let mut results = Vec::new();
        for (place, (name, arguments, is_error)) in calls.into_iter().enumerate() {
            let id = format!("c{place}");
            blocks.push(Block::ToolUse(ToolUse {
                id: id.clone(),
                name,
                namespace: None,
                kind: ToolKind::Function,
                arguments,
                signature: None,
            }));
            let blocks = given.clone();
            results.push(Block::ToolResult(ToolResult { id, name: None, blocks, is_error }));
        }
        let count = results.len();
        let mut turns = vec![
            Turn { role: Role::User, blocks: marked(said) },
            Turn { role: Role::Assistant, blocks },
        ];
        if !results.is_empty() {
            turns.push(Turn { role: Role::User, blocks: results });
            turns.push(Turn { role: Role::Assistant, blocks: vec![Block::text("so")] });
        }
        (turns, count)
    }
}

prop_compose! {
    fn tools()(
        names in prop::collection::vec(("[a-zA-Z0-9_-]{1,9}", prop::option::of("[a-z]{1,9}")), 0..3),
        strict in any::<bool>(), cache in any::<bool>(),
    ) -> Vec<Tool> {
        let schema = r#"{"type":"object","properties":{"n":{"type":"integer"}},"additionalProperties":false}"#;
        names.into_iter().map(|(name, description)| Tool {
            name,
            namespace: None,
            description,
            kind: ToolKind::Function,
            schema: RawValue::from_string(schema.to_owned()).ok(),
            strict: strict.then_some(true),
            grammar: None,
            cache: cache.then_some(CacheMark::Short),
        }).collect()
    }
}

fn reasoning() -> impl Strategy<Value = Reasoning> {
    let on =
        |effort, shown| Reasoning { enabled: Some(true), effort, budget: None, shown: Some(shown) };
    prop_oneof![
        Just(Reasoning::default()),
        Just(Reasoning { enabled: Some(false), ..Reasoning::default() }),
        any::<bool>().prop_map(move |shown| on(None, shown)),
        any::<bool>().prop_map(move |shown| on(Some(Effort::Medium), shown)),
    ]
}

prop_compose! {
    /// What Anthropic's newest models take.
    fn request()(
        system in prop::collection::vec(text(), 0..3),
        rounds in prop::collection::vec(round(), 0..3),
        tools in tools(),
        choice in prop_oneof![
            Just(None), Just(Some(ToolChoice::Auto)), Just(Some(ToolChoice::None)),
            Just(Some(ToolChoice::Required)), Just(Some(ToolChoice::Named("x".to_owned()))),
        ],
        one_at_a_time in any::<bool>(),
        max_output in 1u64..100_000,
        stop in prop::collection::vec("[a-z]{1,3}", 0..3),
        reasoning in reasoning(),
        has_format in any::<bool>(),
        user in prop::option::of("[a-z]{1,9}"),
        stream in any::<bool>(),
    ) -> Request {
        let mut turns: Vec<Turn> = Vec::new();
        for (place, (round, _)) in rounds.into_iter().enumerate() {
            let renamed = |mut turn: Turn| {
                for block in &mut turn.blocks {
                    match block {
                        Block::ToolUse(call) => call.id = format!("{}-{place}", call.id),
                        Block::ToolResult(result) => result.id = format!("{}-{place}", result.id),
                        _ => {}
                    }
                }
                turn
            };
            turns.extend(round.into_iter().map(renamed));
        }
        turns.push(Turn { role: Role::User, blocks: vec![Block::text("go on")] });
        let schema = r#"{"type":"object","properties":{},"additionalProperties":false}"#;
        let format = Format::JsonSchema(Schema {
            name: "output".to_owned(),
            description: None,
            schema: RawValue::from_string(schema.to_owned()).unwrap(),
            strict: Some(true),
        });
        let has_tools = !tools.is_empty();
        let choice = choice.filter(|_| has_tools);
        let asks = choice.is_some() && choice != Some(ToolChoice::None);
        Request {
            model: "claude-opus-5".to_owned(),
            system,
            turns,
            tools,
            tool_choice: choice,
            parallel_tools: (asks && one_at_a_time).then_some(false),
            max_output: Some(max_output),
            stop,
            reasoning,
            format: if has_format { format } else { Format::Text },
            user,
            stream,
            stream_usage: true,
            ..Request::default()
        }
    }
}

/// Marks beyond the fourth are left out; here there are none.
fn marks(request: &Request) -> usize {
    let blocks = request.turns.iter().flat_map(|turn| &turn.blocks);
    let marked = blocks.filter(|block| matches!(block, Block::Cache(_))).count();
    marked + request.tools.iter().filter(|tool| tool.cache.is_some()).count()
}

proptest! {
    #[test]
    fn a_request_is_read_as_it_was_written(request in request()) {
        prop_assume!(marks(&request) <= 4);
        let rules = Rules::of(Dialect::Anthropic, Kind::Anthropic, &request.model);
        let target = Target { model: &request.model, rules: &rules };
        let mut losses = lenient();
        let body = write_request(&request, &target, &mut losses).unwrap();
        let again = read_request(&body, &Asked::default(), &mut losses).unwrap();
        prop_assert_eq!(losses.dropped(), [""; 0]);
        // Boxes of raw JSON have no `Eq`.
        prop_assert_eq!(format!("{again:?}"), format!("{request:?}"));
    }
}
