//! What Google is asked.

use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use super::{json, lenient, rules};
use crate::config::{Dialect, Translation};
use crate::protocol::canonical::{
    Block, CacheMark, Document, Effort, Fate, Field, Format, Image, Invalid, Json, Losses,
    Reasoning, Request, Role, Schema, Signature, Source, Target, Tool, ToolChoice, ToolKind,
    ToolResult, ToolUse, Turn,
};
use crate::protocol::gemini::{fate, write_request};

const THREE: &str = "gemini-3-flash-preview";
const TWO: &str = "gemini-2.5-flash";

fn write_with(request: &Request, model: &str, losses: &mut Losses) -> Result<Value, Invalid> {
    let rules = rules(model);
    Ok(json(&write_request(request, &Target { model, rules: &rules }, losses)?))
}

/// The body, and what was dropped on the way, in a chat's words.
fn write(request: &Request, model: &str) -> (Value, Vec<String>) {
    let mut losses = Losses::new(Dialect::OpenaiChat, Translation::Lenient);
    let body = write_with(request, model, &mut losses).unwrap();
    (body, losses.dropped().to_vec())
}

fn raw(value: &Value) -> Json {
    to_raw_value(value).unwrap()
}

fn turn(role: Role, blocks: Vec<Block>) -> Turn {
    Turn { role, blocks }
}

fn asking(text: &str) -> Request {
    Request { turns: vec![turn(Role::User, vec![Block::text(text)])], ..Request::default() }
}

fn call(id: &str, arguments: &str) -> Block {
    Block::ToolUse(ToolUse {
        id: id.to_owned(),
        name: "w".to_owned(),
        namespace: None,
        kind: ToolKind::Function,
        arguments: arguments.to_owned(),
        signature: None,
    })
}

fn signed(id: &str, dialect: Dialect) -> Block {
    let signature = Some(Signature { dialect, data: "c2ln".to_owned() });
    match call(id, "{}") {
        Block::ToolUse(call) => Block::ToolUse(ToolUse { signature, ..call }),
        other => other,
    }
}

fn result(id: &str, blocks: Vec<Block>) -> Block {
    Block::ToolResult(ToolResult { id: id.to_owned(), name: None, blocks, is_error: false })
}

fn tool(schema: &Value) -> Tool {
    Tool {
        name: "w".to_owned(),
        namespace: None,
        description: Some("d".to_owned()),
        kind: ToolKind::Function,
        schema: Some(raw(schema)),
        strict: None,
        grammar: None,
        cache: None,
    }
}

/// Two calls at once, their results the other way round, and a word behind them.
fn weather() -> Request {
    let schema = json!({ "type": "object", "properties": { "c": { "type": "string" } } });
    Request {
        system: vec![Block::text("Be brief.")],
        turns: vec![
            turn(Role::User, vec![Block::text("Weather in Paris and Rome?")]),
            turn(
                Role::Assistant,
                vec![call("call_1", r#"{"c":"Paris"}"#), call("call_2", r#"{"c":"Rome"}"#)],
            ),
            turn(
                Role::User,
                vec![
                    result("call_2", vec![Block::text("21")]),
                    result("call_1", vec![Block::text("18")]),
                ],
            ),
            turn(Role::User, vec![Block::text("Summarise.")]),
        ],
        tools: vec![tool(&schema)],
        parallel_tools: Some(false),
        temperature: Some(1.4),
        max_output: Some(100),
        stop: vec!["END".to_owned()],
        ..Request::default()
    }
}

#[test]
fn a_conversation_with_calls_is_in_googles_order() {
    let (body, dropped) = write(&weather(), THREE);
    let sentinel = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=";
    let wanted = json!({
        "systemInstruction": { "parts": [{ "text": "Be brief." }] },
        "contents": [
            { "parts": [{ "text": "Weather in Paris and Rome?" }], "role": "user" },
            { "parts": [
                {
                    "functionCall": { "id": "call_1", "name": "w", "args": { "c": "Paris" } },
                    "thoughtSignature": sentinel,
                },
                { "functionCall": { "id": "call_2", "name": "w", "args": { "c": "Rome" } } },
            ], "role": "model" },
            { "parts": [
                { "functionResponse": { "id": "call_1", "name": "w", "response": { "output": "18" } } },
                { "functionResponse": { "id": "call_2", "name": "w", "response": { "output": "21" } } },
                { "text": "Summarise." },
            ], "role": "user" },
        ],
        "tools": [{ "functionDeclarations": [{
            "name": "w",
            "description": "d",
            "parametersJsonSchema": { "type": "object", "properties": { "c": { "type": "string" } } },
        }] }],
        "generationConfig": { "temperature": 1.4, "maxOutputTokens": 100, "stopSequences": ["END"] },
    });
    assert_eq!(body, wanted);
    assert_eq!(dropped, ["parallel_tool_calls"]);
}

#[test]
fn older_models_know_neither_ids_nor_signatures() {
    let (body, _) = write(&weather(), TWO);
    let parts = &body["contents"][1]["parts"];
    assert_eq!(parts[0], json!({ "functionCall": { "name": "w", "args": { "c": "Paris" } } }));
    let parts = &body["contents"][2]["parts"];
    assert_eq!(
        parts[0]["functionResponse"],
        json!({ "name": "w", "response": { "output": "18" } })
    );
}

#[test]
fn only_googles_own_signatures_go_back_to_it() {
    let thinking = |dialect| Block::Thinking {
        text: "hm".to_owned(),
        signature: Some(Signature { dialect, data: "dGg=".to_owned() }),
    };
    let results = || turn(Role::User, vec![result("a", vec![]), result("b", vec![])]);
    let conversation = |dialect| Request {
        turns: vec![
            turn(Role::User, vec![Block::text("?")]),
            turn(
                Role::Assistant,
                vec![thinking(dialect), Block::text("so"), signed("a", dialect), call("b", "{}")],
            ),
            results(),
        ],
        ..Request::default()
    };
    let signatures = |body: &Value| {
        let parts = body["contents"][1]["parts"].as_array().unwrap().clone();
        parts.iter().map(|part| part["thoughtSignature"].clone()).collect::<Vec<_>>()
    };
    let (body, dropped) = write(&conversation(Dialect::Gemini), THREE);
    assert_eq!(signatures(&body), [json!("dGg="), json!("c2ln"), Value::Null]);
    assert_eq!(dropped, [""; 0]);
    let (body, dropped) = write(&conversation(Dialect::Anthropic), THREE);
    let sentinel = json!(crate::protocol::gemini::write_contents::UNSIGNED);
    assert_eq!(signatures(&body), [Value::Null, sentinel, Value::Null]);
    assert_eq!(dropped, ["reasoning_content"]);
    assert!(!body.to_string().contains("hm"));
    let (body, _) = write(&conversation(Dialect::Anthropic), TWO);
    assert_eq!(signatures(&body), [Value::Null, Value::Null, Value::Null]);
}

#[test]
fn steps_one_after_the_other_are_signed_each() {
    let step = |id: &str| {
        [turn(Role::Assistant, vec![call(id, "{}")]), turn(Role::User, vec![result(id, vec![])])]
    };
    let mut turns = asking("?").turns;
    turns.extend(step("a"));
    turns.extend(step("b"));
    let (body, _) = write(&Request { turns, ..Request::default() }, THREE);
    for at in [1, 3] {
        assert!(body["contents"][at]["parts"][0]["thoughtSignature"].is_string());
    }
}

#[test]
fn a_turn_of_nothing_but_foreign_thoughts_is_left_out() {
    let thinking = Block::Thinking { text: "hm".to_owned(), signature: None };
    let redacted =
        Block::RedactedThinking(Signature { dialect: Dialect::Bedrock, data: "x".to_owned() });
    let request = Request {
        turns: vec![
            turn(Role::User, vec![Block::text("a")]),
            turn(Role::Assistant, vec![thinking, redacted]),
            turn(Role::User, vec![Block::text("b")]),
        ],
        ..Request::default()
    };
    let (body, dropped) = write(&request, THREE);
    assert_eq!(
        body["contents"],
        json!([{ "role": "user", "parts": [{ "text": "a" }, { "text": "b" }] }])
    );
    assert_eq!(dropped, ["reasoning_content", "reasoning_details"]);
}

#[test]
fn instructions_in_between_are_marked_and_blanks_left_out() {
    let request = Request {
        turns: vec![
            turn(Role::Assistant, vec![Block::text("hello"), Block::text("")]),
            turn(Role::System, vec![Block::text("be kind")]),
        ],
        ..Request::default()
    };
    let (body, _) = write(&request, THREE);
    let wanted = json!([
        { "role": "user", "parts": [{ "text": "." }] },
        { "role": "model", "parts": [{ "text": "hello" }] },
        { "role": "user", "parts": [{ "text": "<system>\nbe kind\n</system>" }] },
    ]);
    assert_eq!(body["contents"], wanted);
    let (body, _) = write(&asking(""), THREE);
    assert_eq!(body["contents"], json!([{ "role": "user", "parts": [{ "text": "" }] }]));
    let empty = write_with(&Request::default(), THREE, &mut lenient()).unwrap_err();
    assert!(matches!(empty, Invalid::Request { .. }));
}

#[test]
fn pictures_in_results_are_with_them_where_the_model_knows_it() {
    let image = |source| {
        Block::Image(Image { source, media_type: Some("image/png".to_owned()), detail: None })
    };
    let inline = image(Source::Base64("AA==".to_owned()));
    let url = image(Source::Url("https://a/b.png".to_owned()));
    let mut failed = result("a", vec![Block::text("x"), Block::text("y"), inline, url]);
    if let Block::ToolResult(result) = &mut failed {
        result.is_error = true;
    }
    let request = Request {
        turns: vec![
            turn(Role::User, vec![Block::text("?")]),
            turn(Role::Assistant, vec![call("a", "")]),
            turn(Role::User, vec![failed]),
        ],
        ..Request::default()
    };
    let inline = json!({ "inlineData": { "mimeType": "image/png", "data": "AA==" } });
    let url = json!({ "fileData": { "mimeType": "image/png", "fileUri": "https://a/b.png" } });
    let response = json!({ "error": "x\ny" });
    let (body, _) = write(&request, THREE);
    let with = json!({ "id": "a", "name": "w", "response": response, "parts": [inline] });
    assert_eq!(body["contents"][2]["parts"], json!([{ "functionResponse": with }, url]));
    let (body, _) = write(&request, TWO);
    let without = json!({ "name": "w", "response": response });
    assert_eq!(body["contents"][2]["parts"], json!([{ "functionResponse": without }, inline, url]));
}

#[test]
fn files_of_google_cross_and_others_are_refused() {
    let with = |source| {
        let name = None;
        let document = Document { source, media_type: String::new(), name };
        Request {
            turns: vec![turn(Role::User, vec![Block::Document(document)])],
            ..Request::default()
        }
    };
    let (body, _) = write(&with(Source::File("gs://b/a.pdf".to_owned())), THREE);
    let part = json!({ "fileData": { "mimeType": "application/pdf", "fileUri": "gs://b/a.pdf" } });
    assert_eq!(body["contents"][0]["parts"][0], part);
    let (body, _) = write(&with(Source::Text("a".to_owned())), THREE);
    let part = json!({ "inlineData": { "mimeType": "text/plain", "data": "YQ==" } });
    assert_eq!(body["contents"][0]["parts"][0], part);
    let foreign = with(Source::File("file-1".to_owned()));
    let refused = write_with(&foreign, THREE, &mut lenient()).unwrap_err();
    assert!(matches!(refused, Invalid::Unsupported { .. }));
}

#[test]
fn thinking_is_a_budget_or_a_level_and_never_both() {
    let config = |reasoning: Reasoning, model: &str| {
        let (body, dropped) = write(&Request { reasoning, ..asking("?") }, model);
        assert_eq!(dropped, [""; 0]);
        body["generationConfig"]["thinkingConfig"].clone()
    };
    let none = Reasoning::default();
    let effort = |effort| Reasoning { effort: Some(effort), ..none };
    let off = Reasoning { enabled: Some(false), ..none };
    let on = Reasoning { enabled: Some(true), ..none };
    let budget = |tokens| Reasoning { budget: Some(tokens), ..none };
    let (pro, three_pro) = ("gemini-2.5-pro", "gemini-3-pro-preview");
    for (reasoning, model, wanted) in [
        (none, TWO, Value::Null),
        (none, THREE, Value::Null),
        (off, TWO, json!({ "thinkingBudget": 0 })),
        (off, pro, json!({ "thinkingBudget": 128 })),
        (off, THREE, json!({ "thinkingLevel": "minimal" })),
        (off, three_pro, json!({ "thinkingLevel": "low" })),
        (on, TWO, json!({ "thinkingBudget": -1, "includeThoughts": true })),
        (on, THREE, json!({ "includeThoughts": true })),
        (effort(Effort::Medium), TWO, json!({ "thinkingBudget": 8192, "includeThoughts": true })),
        (effort(Effort::Max), THREE, json!({ "thinkingLevel": "high", "includeThoughts": true })),
        (
            effort(Effort::Medium),
            three_pro,
            json!({ "thinkingLevel": "high", "includeThoughts": true }),
        ),
        (budget(99_999), TWO, json!({ "thinkingBudget": 24_576, "includeThoughts": true })),
        (budget(4096), THREE, json!({ "thinkingLevel": "medium", "includeThoughts": true })),
        (
            Reasoning { shown: Some(false), ..effort(Effort::Low) },
            THREE,
            json!({ "thinkingLevel": "low", "includeThoughts": false }),
        ),
    ] {
        assert_eq!(config(reasoning, model), wanted, "{reasoning:?} {model}");
    }
    let request = Request { reasoning: effort(Effort::High), ..asking("?") };
    let (body, dropped) = write(&request, "gemini-2.0-flash");
    assert_eq!(
        (body.get("generationConfig"), dropped),
        (None, vec!["reasoning_effort".to_owned()])
    );
}

#[test]
fn tools_are_chosen_in_googles_words() {
    let schema = json!({ "type": "object", "properties": { "a": {} } });
    let tools = vec![Tool { name: "v".to_owned(), ..tool(&schema) }, tool(&json!({}))];
    let names = vec!["w".to_owned()];
    let calling = |choice, strict, model| {
        let mut tools = tools.clone();
        tools[0].strict = strict;
        let (body, dropped) = write(&Request { tool_choice: choice, tools, ..asking("?") }, model);
        let declared = body["tools"][0]["functionDeclarations"].as_array().unwrap().len();
        let calling = body["toolConfig"]["functionCallingConfig"].clone();
        (calling, declared, dropped)
    };
    let among = |required| Some(ToolChoice::Among { names: names.clone(), required });
    let strict = vec!["tools.function.strict".to_owned()];
    for (choice, is_strict, model, wanted) in [
        (None, None, THREE, (Value::Null, 2, vec![])),
        (Some(ToolChoice::Auto), None, THREE, (json!({ "mode": "AUTO" }), 2, vec![])),
        (Some(ToolChoice::None), None, THREE, (json!({ "mode": "NONE" }), 2, vec![])),
        (Some(ToolChoice::Required), None, THREE, (json!({ "mode": "ANY" }), 2, vec![])),
        (
            Some(ToolChoice::Named("w".to_owned())),
            None,
            THREE,
            (json!({ "mode": "ANY", "allowedFunctionNames": ["w"] }), 2, vec![]),
        ),
        (
            among(true),
            None,
            THREE,
            (json!({ "mode": "ANY", "allowedFunctionNames": ["w"] }), 2, vec![]),
        ),
        (among(false), None, THREE, (json!({ "mode": "AUTO" }), 1, vec![])),
        (None, Some(true), THREE, (json!({ "mode": "VALIDATED" }), 2, vec![])),
        (None, Some(true), TWO, (Value::Null, 2, strict)),
    ] {
        assert_eq!(calling(choice.clone(), is_strict, model), wanted, "{choice:?}");
    }
    let (body, _) = write(&Request { tools: tools.clone(), ..asking("?") }, THREE);
    let declared = &body["tools"][0]["functionDeclarations"];
    assert_eq!(declared[0]["parametersJsonSchema"], schema);
    assert_eq!(declared[1], json!({ "name": "w", "description": "d" }));
    let (body, _) = write(&Request { tools, ..asking("?") }, "gemini-1.5-pro");
    let declared = &body["tools"][0]["functionDeclarations"];
    assert_eq!(declared[0]["parameters"], json!({ "type": "OBJECT", "properties": { "a": {} } }));
}

#[test]
fn a_format_is_asked_for_where_the_model_takes_it() {
    let schema = json!({ "$schema": "x", "type": "object" });
    let format = Format::JsonSchema(Schema {
        name: "n".to_owned(),
        description: None,
        schema: raw(&schema),
        strict: Some(true),
    });
    let request = Request { format, tools: vec![tool(&json!({}))], ..asking("?") };
    let (body, dropped) = write(&request, THREE);
    let wanted = json!({
        "responseMimeType": "application/json",
        "responseJsonSchema": { "type": "object" },
    });
    assert_eq!((&body["generationConfig"], dropped.len()), (&wanted, 0));
    let (body, dropped) = write(&request, TWO);
    assert_eq!((body.get("generationConfig"), dropped), (None, vec!["response_format".to_owned()]));
    let request = Request { tools: Vec::new(), ..request };
    assert_eq!(write(&request, TWO).0["generationConfig"], wanted);
    let subset =
        json!({ "responseMimeType": "application/json", "responseSchema": { "type": "OBJECT" } });
    assert_eq!(write(&request, "gemini-1.5-pro").0["generationConfig"], subset);
}

#[test]
fn details_of_pictures_are_one_for_all_or_none() {
    let with = |details: &[Option<&str>]| {
        let image = |detail: Option<&str>| {
            Block::Image(Image {
                source: Source::Base64(String::new()),
                media_type: None,
                detail: detail.map(str::to_owned),
            })
        };
        let turns = vec![turn(Role::User, details.iter().copied().map(image).collect())];
        let (body, dropped) = write(&Request { turns, ..Request::default() }, THREE);
        (body["generationConfig"]["mediaResolution"].clone(), dropped.len())
    };
    assert_eq!(with(&[None, Some("auto")]), (Value::Null, 0));
    assert_eq!(with(&[Some("low"), Some("low")]), (json!("MEDIA_RESOLUTION_LOW"), 0));
    assert_eq!(with(&[Some("low"), Some("high")]), (Value::Null, 1));
    assert_eq!(with(&[Some("low"), None]), (Value::Null, 1));
    assert_eq!(with(&[None, Some("low")]), (Value::Null, 1));
    assert_eq!(with(&[Some("original")]), (Value::Null, 1));
}

#[test]
fn what_google_does_not_take_is_named() {
    let mut request = Request {
        min_p: Some(0.1),
        seed: Some(1 << 40),
        candidates: Some(2),
        presence_penalty: Some(0.5),
        frequency_penalty: Some(0.5),
        logprobs: Some(1),
        logit_bias: Some(raw(&json!({}))),
        verbosity: Some("low".to_owned()),
        service_tier: Some("scale".to_owned()),
        user: Some("u".to_owned()),
        metadata: vec![("a".to_owned(), "b".to_owned())],
        cache_key: Some("k".to_owned()),
        stop: "abcdef".chars().map(String::from).collect(),
        ..asking("?")
    };
    request.turns[0].blocks.push(Block::Cache(CacheMark::Short));
    let (body, dropped) = write(&request, THREE);
    let wanted = [
        "prompt_cache_breakpoint",
        "presence_penalty",
        "frequency_penalty",
        "stop",
        "seed",
        "service_tier",
        "min_p",
        "n",
        "logprobs",
        "logit_bias",
        "verbosity",
        "user",
        "metadata",
        "prompt_cache_key",
    ];
    assert_eq!(dropped, wanted);
    let config = json!({ "stopSequences": ["a", "b", "c", "d", "e"] });
    assert_eq!(body["generationConfig"], config);
    let (body, dropped) = write(&request, TWO);
    assert_eq!(body["generationConfig"]["presencePenalty"], 0.5);
    assert!(!dropped.contains(&"presence_penalty".to_owned()));
    let tier = |tier: &str| {
        let service_tier = Some(tier.to_owned());
        write(&Request { service_tier, ..asking("?") }, THREE).0["serviceTier"].clone()
    };
    assert_eq!(
        ["auto", "default", "flex"].map(tier),
        [json!(null), json!("standard"), json!("flex")]
    );
}

#[test]
fn nothing_of_a_file_of_others_is_carried() {
    assert!(matches!(fate(Field::FileId), Fate::Refused(_)));
    assert!(Field::ALL.iter().all(|field| !matches!(fate(*field), Fate::Converted(""))));
}
