//! Requests as clients send them, and what is written read again.

use super::*;

#[test]
fn a_recorded_request_is_written_as_it_was_read() {
    for (text, model) in [
        (include_str!("../../../../tests/fixtures/recorded/bed-stream-text/request.json"), NOVA),
        (include_str!("../../../../tests/fixtures/recorded/bed-stream-tool/request.json"), NOVA),
        (include_str!("../../../../tests/fixtures/recorded/bed-max-tokens/request.json"), NOVA),
        (
            include_str!("../../../../tests/fixtures/recorded/bed-stream-thinking/request.json"),
            CLAUDE_4,
        ),
        (
            include_str!("../../../../tests/fixtures/recorded/bed-tool-thinking/request.json"),
            CLAUDE_4,
        ),
        (
            include_str!(
                "../../../../tests/fixtures/recorded/bed-stream-native-output/request.json"
            ),
            CLAUDE,
        ),
    ] {
        let mut body: Value = serde_json::from_str(text).unwrap();
        let (request, lost) = read(&body).unwrap();
        assert_eq!(lost, [] as [&str; 0]);
        for empty in ["system", "inferenceConfig"] {
            let is_empty = body[empty] == json!([]) || body[empty] == json!({});
            if is_empty {
                body.as_object_mut().unwrap().remove(empty);
            }
        }
        assert_eq!(written(&request, model), body);
    }
}

#[test]
fn a_recorded_request_with_marks_and_an_image_is_read() {
    let text = include_str!("../../../../tests/fixtures/recorded/bed-cache-usage/request.json");
    let (request, lost) = read(&serde_json::from_str(text).unwrap()).unwrap();
    assert_eq!(lost, [] as [&str; 0]);
    let blocks: Vec<&Block> = request.turns.iter().flat_map(|turn| &turn.blocks).collect();
    assert!(blocks.iter().any(|block| matches!(block, Block::Image(_))));
    assert!(blocks.iter().any(|block| matches!(block, Block::Cache(_))));
}

#[test]
fn what_is_not_known_is_named() {
    let body = json!({
        "messages": [{ "role": "user", "name": "x", "content": [
            { "text": "hi", "more": 1 },
            { "image": { "format": "png", "source": { "bytes": "AA==", "b": 1 }, "a": 1 } },
        ] }],
        "system": [{ "text": "s" }],
        "inferenceConfig": { "topK": 1 },
        "toolConfig": { "tools": [
            { "toolSpec": { "name": "f", "inputSchema": { "json": {}, "x": 1 }, "y": 1 } },
            { "systemTool": { "name": "w" } },
        ] },
        "additionalModelRequestFields": { "anthropic_beta": ["a"], "thinking": { "z": 1 } },
        "additionalModelResponseFieldPaths": ["/stop_sequence", "/other"],
        "performanceConfig": { "latency": "optimized" },
        "unknown": 1,
        "nothing": null,
    });
    let wanted = [
        "messages.content.more",
        "messages.content.image.source.b",
        "messages.content.image.a",
        "messages.name",
        "inferenceConfig.topK",
        "toolConfig.tools.toolSpec.inputSchema.x",
        "toolConfig.tools.toolSpec.y",
        "toolConfig.tools.systemTool",
        "additionalModelRequestFields.thinking.z",
        "additionalModelRequestFields.anthropic_beta",
        "performanceConfig.latency",
        "additionalModelResponseFieldPaths",
        "unknown",
    ];
    assert_eq!(read(&body).unwrap().1, wanted);
}

#[test]
fn what_says_only_what_is_so_anyway_is_not_named() {
    let body = json!({
        "modelId": "m",
        "messages": [{ "role": "user", "content": [{ "text": "hi" }] }],
        "additionalModelResponseFieldPaths": ["/stop_sequence"],
        "performanceConfig": { "latency": "standard" },
    });
    let (request, lost) = read(&body).unwrap();
    assert_eq!(lost, [] as [&str; 0]);
    assert_eq!((request.model.as_str(), request.stream), ("m", true));
}

#[test]
fn what_would_falsify_the_conversation_is_refused() {
    let with = |name: &str, value: Value| {
        let mut body = json!({ "messages": [] });
        body[name] = value;
        body
    };
    let content = |block: Value| with("messages", json!([{ "role": "user", "content": [block] }]));
    for body in [
        with("guardrailConfig", json!({ "guardrailIdentifier": "g" })),
        with("promptVariables", json!({ "a": { "text": "b" } })),
        content(json!({ "somethingNew": {} })),
        content(json!({ "toolUse": { "toolUseId": "c", "name": "w", "type": "server_tool_use" } })),
    ] {
        assert!(matches!(read(&body), Err(Invalid::Unsupported { .. })), "{body}");
    }
}

#[test]
fn what_is_malformed_is_told_by_its_name() {
    let message = |value: Value| json!({ "messages": [value] });
    let content = |block: Value| message(json!({ "role": "user", "content": [block] }));
    for (body, wanted) in [
        (json!([]), "body"),
        (json!({}), "messages"),
        (json!({ "messages": {} }), "messages"),
        (message(json!({ "content": [] })), "messages.role"),
        (message(json!({ "role": "model" })), "messages.role"),
        (message(json!({ "role": "user", "content": "hi" })), "messages.content"),
        (content(json!({ "text": 1 })), "messages.content.text"),
        (content(json!({ "image": { "format": "png" } })), "messages.content.image.source"),
        (
            content(json!({ "image": { "format": "tiff", "source": { "bytes": "" } } })),
            "messages.content.image.format",
        ),
        (content(json!({ "toolUse": { "name": "f" } })), "messages.content.toolUse.toolUseId"),
        (
            content(json!({ "toolUse": { "toolUseId": "c", "name": "f", "input": [] } })),
            "messages.content.toolUse.input",
        ),
        (
            json!({ "messages": [], "inferenceConfig": { "maxTokens": -1 } }),
            "inferenceConfig.maxTokens",
        ),
        (
            json!({ "messages": [], "additionalModelRequestFields": { "reasoning_effort": "?" } }),
            "additionalModelRequestFields.reasoning_effort",
        ),
    ] {
        let Err(Invalid::Request { param, message }) = read(&body) else { panic!("{body}") };
        assert_eq!(param, wanted, "{body}");
        assert!(message.contains(&format!("`{wanted}`")), "{message}");
    }
    let read = read_request(b"\xff", &Asked::default(), &mut losses());
    assert!(matches!(read, Err(Invalid::Request { .. })));
}

#[test]
fn what_a_tool_gave_is_read_whatever_its_form() {
    let body = json!({ "messages": [{ "role": "user", "content": [{ "toolResult": {
        "toolUseId": "c", "status": "error", "content": [
            { "json": { "a": 1 } },
            { "text": "t" },
            { "document": { "name": "d", "format": "txt", "source": { "content": [{ "text": "x" }] } } },
            { "searchResult": { "source": "u", "title": "T", "content": [{ "text": "found" }] } },
        ] } }] }] });
    let (request, lost) = read(&body).unwrap();
    assert_eq!(lost, [] as [&str; 0]);
    let document = Block::Document(Document {
        source: Source::Text("x".to_owned()),
        media_type: "text/plain".to_owned(),
        name: Some("d".to_owned()),
    });
    let blocks =
        vec![Block::text(r#"{"a":1}"#), Block::text("t"), document, Block::text("T\nu\nfound")];
    let wanted = ToolResult { id: "c".to_owned(), name: None, blocks, is_error: true };
    assert_eq!(request.turns[0].blocks, [Block::ToolResult(wanted)]);
}

#[test]
fn earlier_citations_and_guarded_words_are_text() {
    let body = json!({ "messages": [{ "role": "user", "content": [
        { "guardContent": { "text": { "text": "g", "qualifiers": ["query"] } } },
        { "citationsContent": { "content": [{ "text": "a" }, { "text": "b" }], "citations": [] } },
    ] }] });
    let (request, lost) = read(&body).unwrap();
    assert_eq!(request.turns[0].blocks, [Block::text("g"), Block::text("ab")]);
    let named = ["messages.content.guardContent", "messages.content.citationsContent.citations"];
    assert_eq!(lost, named);
}

#[test]
fn the_parameters_of_each_family_are_read() {
    let fields = |fields: Value| {
        read(&json!({ "messages": [], "additionalModelRequestFields": fields })).unwrap().0
    };
    let read = fields(json!({ "thinking": { "type": "adaptive", "display": "omitted" },
        "output_config": { "effort": "xhigh" }, "top_k": 7,
        "tool_choice": { "disable_parallel_tool_use": true } }));
    let reasoning = Reasoning {
        enabled: Some(true),
        effort: Some(Effort::Xhigh),
        budget: None,
        shown: Some(false),
    };
    assert_eq!(
        (read.reasoning, read.top_k, read.parallel_tools),
        (reasoning, Some(7), Some(false))
    );
    let read = fields(json!({ "inferenceConfig": { "topK": 3 },
        "reasoningConfig": { "type": "enabled", "maxReasoningEffort": "low" } }));
    assert_eq!((read.top_k, read.reasoning.effort), (Some(3), Some(Effort::Low)));
    let read = fields(json!({ "reasoning_effort": "high" }));
    assert_eq!(read.reasoning, effort(Effort::High));
    let body = json!({ "messages": [], "outputConfig": { "effort": "medium" } });
    assert_eq!(super::read(&body).unwrap().0.reasoning, effort(Effort::Medium));
    let schema = json!({ "output_config": { "format": { "type": "json_schema", "schema": {} } } });
    assert!(matches!(fields(schema).format, Format::JsonSchema(_)));
}

fn text() -> impl Strategy<Value = Block> {
    "[a-zä ]{0,9}[a-z]".prop_map(Block::text)
}

fn image() -> Block {
    Block::Image(Image {
        source: Source::Base64("iVBORw0KGgo=".to_owned()),
        media_type: Some("image/png".to_owned()),
        detail: None,
    })
}

/// One exchange: what the user says, and what is answered, with calls or without.
fn exchange() -> impl Strategy<Value = (Vec<Block>, Vec<Block>, usize)> {
    let said = prop_oneof![
        3 => text(),
        1 => Just(image()),
        1 => Just(Block::Audio(Media {
            source: Source::File("s3://b/k".to_owned()), media_type: "audio/wav".to_owned() })),
    ];
    let signature = Signature { dialect: Dialect::Bedrock, data: "c2ln".to_owned() };
    let thought = prop_oneof![
        Just(Block::RedactedThinking(signature.clone())),
        "[a-z]{0,5}"
            .prop_map(move |text| { Block::Thinking { text, signature: Some(signature.clone()) } }),
    ];
    let answered = (prop::option::of(thought), prop::collection::vec(text(), 1..3));
    let answered = answered.prop_map(|(thought, texts)| thought.into_iter().chain(texts).collect());
    (prop::collection::vec(said, 1..4), answered, 0..3usize)
}

fn conversation() -> impl Strategy<Value = Vec<Turn>> {
    let exchanges = prop::collection::vec(exchange(), 0..4);
    (exchanges, prop::collection::vec(text(), 1..3)).prop_map(|(exchanges, last)| {
        let (mut turns, mut results, mut count) = (Vec::new(), Vec::new(), 0);
        for (said, mut answered, calls) in exchanges {
            turns.push(user([std::mem::take(&mut results), said].concat()));
            for _ in 0..calls {
                let id = format!("c{count}");
                answered.push(call(&id, "f", r#"{"n": 1.0}"#));
                results.push(result(&id, "x"));
                count += 1;
            }
            turns.push(assistant(answered));
        }
        turns.push(user([results, last].concat()));
        turns
    })
}

prop_compose! {
    /// A request that Converse can say all of, to Claude 4.5.
    fn request()(
        turns in conversation(),
        marked in any::<bool>(),
        most in prop::option::of(3000..9000u64),
        temperature in prop::option::of((0..=8u8).prop_map(|it| f64::from(it) / 8.0)),
        thinks in any::<bool>(),
        choice in 0..4,
        one in prop::option::of(Just(false)),
        schema in any::<bool>(),
        stop in prop::collection::vec("[a-z]{1,3}", 0..3),
        tier in prop::option::of(prop_oneof![Just("flex"), Just("priority")]),
    ) -> Request {
        let mut system = vec![Block::text("s")];
        let mut tools = vec![tool("f", Some(CITY)), tool("g", Some(r#"{"type":"object","additionalProperties":false}"#))];
        if marked {
            system.push(Block::Cache(CacheMark::Long));
            tools[1].cache = Some(CacheMark::Short);
        }
        let format = Format::JsonSchema(Schema {
            name: "n".to_owned(),
            description: None,
            schema: RawValue::from_string(CITY.to_owned()).unwrap(),
            strict: None,
        });
        let signed = |block: &Block| matches!(block, Block::Thinking { .. } | Block::RedactedThinking(_));
        let thinks = thinks && choice < 2 && turns.iter().filter(|it| it.role == Role::Assistant)
            .all(|turn| turn.blocks.first().is_some_and(signed));
        // Who turns thinking on by a budget reads it.
        let (enabled, shown) = (Some(true), Some(true));
        let budget = Reasoning { enabled, budget: Some(2000), shown, ..Reasoning::default() };
        Request {
            model: "m".to_owned(),
            stream: true,
            stream_usage: true,
            system,
            turns,
            tools,
            tool_choice: match choice {
                0 => None,
                1 => Some(ToolChoice::Auto),
                2 => Some(ToolChoice::Required),
                _ => Some(ToolChoice::Named("g".to_owned())),
            },
            parallel_tools: one,
            max_output: most,
            temperature: temperature.filter(|_| !thinks),
            top_k: temperature.filter(|_| !thinks).map(|_| 5),
            reasoning: if thinks { budget } else { Reasoning::default() },
            format: if schema { format } else { Format::Text },
            stop,
            service_tier: tier.map(str::to_owned),
            metadata: vec![("k".to_owned(), "v".to_owned())],
            ..Request::default()
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(request in request()) {
        let rules = Rules::of(Dialect::Bedrock, Kind::Bedrock, CLAUDE);
        let (to, mut losses) = (Target { model: CLAUDE, rules: &rules }, losses());
        let body = write_request(&request, &to, &mut losses).unwrap();
        let asked = Asked { model: Some("m"), stream: true };
        let again = read_request(&body, &asked, &mut losses).unwrap();
        prop_assert_eq!(losses.dropped(), [] as [&str; 0]);
        prop_assert_eq!(format!("{again:#?}"), format!("{request:#?}"));
    }
}
