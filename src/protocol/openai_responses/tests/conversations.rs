//! Whole conversations: Codex's, those with other providers' signatures, and any.

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::{events_of, read, told, written};
use crate::config::{Dialect, Kind, Translation};
use crate::protocol::canonical::{
    Asked, Block, Effort, Format, Image, Losses, NameLimits, Names, Reasoning, Request, Response,
    Role, Rules, Schema, Signature, Source, Stop, Target, Tool, ToolChoice, ToolKind, ToolResult,
    ToolUse, Turn, replay,
};
use crate::protocol::openai_responses::{read_request, write_request, write_response};

const CODEX: &str = r#"{
    "model": "m", "instructions": "You are a coding agent.", "store": false, "stream": true,
    "tool_choice": "auto", "parallel_tool_calls": false, "prompt_cache_key": "k",
    "include": ["reasoning.encrypted_content"], "reasoning": {"effort": "medium", "summary": "auto"},
    "tools": [
        {"type": "function", "name": "shell", "strict": false,
         "parameters": {"type": "object", "properties": {"command": {"type": "array"}}}},
        {"type": "namespace", "name": "mcp__git__", "description": "Works on a repository.", "tools": [
            {"type": "function", "name": "log", "description": "Says what was done.", "parameters": {"type": "object"}}]},
        {"type": "custom", "name": "apply_patch", "description": "Changes files.",
         "format": {"type": "grammar", "syntax": "lark", "definition": "start: begin end"}},
        {"type": "web_search", "external_web_access": false}
    ],
    "input": [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Rules."}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Environment."}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Mend it."}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}, {"type": "summary_text", "text": "b"}],
         "content": null, "encrypted_content": "gAAAA"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Looking."}]},
        {"type": "function_call", "name": "log", "namespace": "mcp__git__", "arguments": "{\"n\":1}", "call_id": "c1"},
        {"type": "custom_tool_call", "name": "apply_patch", "input": "*** Begin", "call_id": "c2", "status": "completed"},
        {"type": "local_shell_call", "call_id": "c3", "status": "completed", "action": {"type": "exec", "command": ["ls"]}},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "none"}]},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "{\"ok\":true}"},
        {"type": "local_shell_call_output", "call_id": "c3", "output": "a.rs"},
        {"type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "q"}},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Go on."}]}
    ]
}"#;

fn call(id: &str, namespace: Option<&str>, name: &str, kind: ToolKind, arguments: &str) -> Block {
    Block::ToolUse(ToolUse {
        id: id.to_owned(),
        name: name.to_owned(),
        namespace: namespace.map(str::to_owned),
        kind,
        arguments: arguments.to_owned(),
        signature: None,
    })
}

fn result(id: &str, text: &str) -> Block {
    Block::ToolResult(ToolResult {
        id: id.to_owned(),
        name: None,
        blocks: vec![Block::text(text)],
        is_error: false,
    })
}

fn turn(role: Role, blocks: Vec<Block>) -> Turn {
    Turn { role, blocks }
}

#[test]
fn what_codex_sends_is_read_whole() {
    let (request, dropped) = read(CODEX).unwrap();
    assert_eq!(dropped, ["tools.web_search", "input.web_search_call"]);
    assert_eq!(request.system, [Block::text("You are a coding agent."), Block::text("Rules.")]);
    let sealed = Signature { dialect: Dialect::OpenaiResponses, data: "gAAAA".to_owned() };
    assert_eq!(
        request.turns,
        [
            turn(Role::User, vec![Block::text("Environment.")]),
            turn(Role::User, vec![Block::text("Mend it.")]),
            turn(
                Role::Assistant,
                vec![
                    Block::Thinking { text: "a\n\nb".to_owned(), signature: Some(sealed) },
                    Block::text("Looking."),
                    call("c1", Some("mcp__git__"), "log", ToolKind::Function, r#"{"n":1}"#),
                    call("c2", None, "apply_patch", ToolKind::Custom, "*** Begin"),
                    call(
                        "c3",
                        None,
                        "local_shell",
                        ToolKind::Function,
                        r#"{"type": "exec", "command": ["ls"]}"#
                    ),
                ]
            ),
            turn(
                Role::User,
                vec![result("c1", "none"), result("c2", r#"{"ok":true}"#), result("c3", "a.rs")]
            ),
            turn(Role::User, vec![Block::text("Go on.")]),
        ]
    );
    let names: Vec<_> =
        request.tools.iter().map(|tool| (tool.namespace.as_deref(), tool.name.as_str())).collect();
    assert_eq!(names, [(None, "shell"), (Some("mcp__git__"), "log"), (None, "apply_patch")]);
    assert_eq!(
        request.tools[1].description.as_deref(),
        Some("Says what was done.\n\nmcp__git__: Works on a repository.")
    );
    assert!(request.tools[2].grammar.is_some());
    assert_eq!(request.tool_choice, Some(ToolChoice::Auto));
}

#[test]
fn codex_gets_the_calls_of_a_model_that_knows_only_functions() {
    let (mut request, _) = read(CODEX).unwrap();
    let limits = NameLimits {
        longest: 64,
        punctuation: "_-",
        letter_first: false,
        custom_tools: false,
        namespaces: false,
    };
    let mut names = Names::flatten(&mut request, limits);
    let sent: Vec<_> = request.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(sent, ["shell", "mcp__git__log", "apply_patch"]);
    let answer = Response {
        blocks: vec![
            call("d1", None, "mcp__git__log", ToolKind::Function, "{}"),
            call("d2", None, "apply_patch", ToolKind::Function, r#"{"input":"*** \"End\"\n"}"#),
        ],
        stop: Stop::ToolUse,
        ..Response::default()
    };
    let mut events = replay(&answer);
    for event in &mut events {
        names.restore(event);
    }
    let last = super::stream_checker::check(&written(&events, told()));
    let output = &last["response"]["output"];
    assert_eq!(
        (&output[0]["name"], &output[0]["namespace"]),
        (&"log".into(), &"mcp__git__".into())
    );
    assert_eq!(
        (&output[1]["type"], &output[1]["input"]),
        (&"custom_tool_call".into(), &"*** \"End\"\n".into())
    );
}

#[test]
fn tools_that_come_on_the_way_are_added_once() {
    let (request, dropped) = read(
        r#"{"model":"m","tools":[{"type":"tool_search"},{"type":"function","name":"f","defer_loading":true}],
        "input":[{"type":"tool_search_call","arguments":{"q":"g"},"execution":"server"},
        {"type":"tool_search_output","execution":"server","call_id":null,"tools":[{"type":"function","name":"g"},{"type":"function","name":"f"}]},
        {"type":"additional_tools","role":"developer","tools":[{"type":"function","name":"h"}]},
        {"role":"user","content":"x"}],"tool_choice":{"type":"function","name":"h"}}"#,
    )
    .unwrap();
    let names: Vec<_> = request.tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["f", "g", "h"]);
    assert_eq!(dropped, ["tools.tool_search", "tools.defer_loading", "input.tool_search_call"]);
}

/// The items of an answer as the client sends them back.
fn sent_back(items: &serde_json::Value) -> Vec<Turn> {
    let body = serde_json::json!({ "model": "m", "input": items });
    let (request, dropped) = read(&body.to_string()).unwrap();
    assert!(dropped.is_empty(), "{dropped:?}");
    request.turns
}

#[test]
fn signatures_of_other_providers_go_through_the_client_and_come_back() {
    let signature = |dialect, data: &str| Signature { dialect, data: data.to_owned() };
    let mut signed = ToolUse { kind: ToolKind::Function, ..ToolUse::clone(&unsigned()) };
    signed.signature = Some(signature(Dialect::Gemini, "of the call"));
    let blocks = vec![
        Block::Thinking {
            text: "hm".to_owned(),
            signature: Some(signature(Dialect::Anthropic, "sig+/=")),
        },
        Block::Thinking {
            text: String::new(),
            signature: Some(signature(Dialect::Anthropic, "without words")),
        },
        Block::RedactedThinking(signature(Dialect::Bedrock, "redacted")),
        Block::text("hi"),
        Block::ToolUse(signed),
        Block::ToolUse(ToolUse { id: "c2".to_owned(), ..unsigned() }),
    ];
    let answer = Response { blocks: blocks.clone(), stop: Stop::ToolUse, ..Response::default() };
    let whole: serde_json::Value =
        serde_json::from_slice(&write_response(&answer, &told())).unwrap();
    assert_eq!(sent_back(&whole["output"]), [turn(Role::Assistant, blocks.clone())]);
    let last = super::stream_checker::check(&written(&replay(&answer), told()));
    assert_eq!(sent_back(&last["response"]["output"]), [turn(Role::Assistant, blocks)]);
    // What is damaged on the way is no signature; the words stay.
    let items = serde_json::json!([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}],
        "encrypted_content": "gw1:damaged"}]);
    let words = Block::Thinking { text: "hm".to_owned(), signature: None };
    assert_eq!(sent_back(&items), [turn(Role::Assistant, vec![words])]);
}

fn unsigned() -> ToolUse {
    ToolUse {
        id: "c1".to_owned(),
        name: "f".to_owned(),
        namespace: None,
        kind: ToolKind::Function,
        arguments: "{}".to_owned(),
        signature: None,
    }
}

fn words() -> impl Strategy<Value = String> {
    "[a-zä😀\"\\\\\n ]{0,9}[a-z]"
}

/// A turn of the user's, then one of the assistant's, with the results of its calls behind it.
fn exchange() -> impl Strategy<Value = Vec<Turn>> {
    let image = "[a-zA-Z0-9]{4}".prop_map(|data| {
        Block::Image(Image {
            source: Source::Base64(data),
            media_type: Some("image/png".to_owned()),
            detail: Some("low".to_owned()),
        })
    });
    let asked = proptest::collection::vec(
        prop_oneof![3 => words().prop_map(Block::text), 1 => image],
        1..3,
    );
    let thought = proptest::option::of((words(), "[a-z]{3}").prop_map(|(text, data)| {
        let signature = Some(Signature { dialect: Dialect::OpenaiResponses, data });
        Block::Thinking { text, signature }
    }));
    let said = proptest::option::of(words().prop_map(Block::text));
    let calls = proptest::collection::vec((words(), any::<bool>(), words()), 0..3);
    (asked, thought, said, calls, words()).prop_map(|(asked, thought, said, calls, reply)| {
        let mut blocks: Vec<_> = thought.into_iter().chain(said).collect();
        let mut results = Vec::new();
        for (arguments, custom, output) in calls {
            let kind = if custom { ToolKind::Custom } else { ToolKind::Function };
            let id = format!("c{}", results.len());
            blocks.push(call(&id, None, "f", kind, &format!("{{{arguments}}}")));
            results.push(result(&id, &output));
        }
        if blocks.is_empty() {
            blocks.push(Block::text(reply));
        }
        let mut turns = vec![turn(Role::User, asked), turn(Role::Assistant, blocks)];
        if !results.is_empty() {
            turns.push(turn(Role::User, results));
        }
        turns
    })
}

fn tool() -> impl Strategy<Value = Tool> {
    (words(), proptest::option::of(words()), any::<bool>(), any::<bool>()).prop_map(
        |(name, description, custom, strict)| {
            let json = |text: &str| RawValue::from_string(text.to_owned()).ok();
            let format = r#"{"type":"grammar","syntax":"regex","definition":"x"}"#;
            Tool {
                name,
                namespace: None,
                description,
                kind: if custom { ToolKind::Custom } else { ToolKind::Function },
                schema: json(r#"{"type":"object","maximum":1.50,"additionalProperties":false}"#)
                    .filter(|_| !custom),
                strict: (!custom).then_some(strict),
                grammar: json(format).filter(|_| custom),
                cache: None,
            }
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    let turns = proptest::collection::vec(exchange(), 1..3).prop_map(|exchanges| {
        let mut turns = exchanges.concat();
        // Each call has an id of its own.
        let mut count = 0;
        let mut renamed: Vec<String> = Vec::new();
        for block in turns.iter_mut().flat_map(|turn| &mut turn.blocks) {
            match block {
                Block::ToolUse(call) => {
                    count += 1;
                    call.id = format!("call_{count}");
                    renamed.push(call.id.clone());
                }
                Block::ToolResult(result) => result.id = renamed.remove(0),
                _ => {}
            }
        }
        turns
    });
    let tools = proptest::collection::vec(tool(), 0..3).prop_map(|mut tools| {
        tools.sort_by(|one, other| one.name.cmp(&other.name));
        tools.dedup_by(|one, other| one.name == other.name);
        tools
    });
    let numbers = (
        proptest::option::of(16_u64..9999),
        proptest::option::of((0_u32..200).prop_map(|n| f64::from(n) / 100.0)),
        any::<bool>(),
        0_usize..5,
        proptest::option::of(any::<bool>()),
    );
    (turns, tools, numbers, proptest::option::of(words())).prop_map(
        |(turns, tools, (max_output, temperature, stream, choice, parallel), text)| {
            let named = tools.first().map(|tool| ToolChoice::Named(tool.name.clone()));
            let among = tools
                .first()
                .map(|tool| ToolChoice::Among { names: vec![tool.name.clone()], required: true });
            let choices = [None, Some(ToolChoice::Auto), Some(ToolChoice::Required), named, among];
            let has_tools = !tools.is_empty();
            Request {
                model: "gpt-5".to_owned(),
                system: text.iter().map(Block::text).collect(),
                turns,
                tool_choice: choices[choice].clone().filter(|_| has_tools),
                parallel_tools: parallel.filter(|_| has_tools),
                tools,
                max_output,
                temperature,
                top_p: temperature.map(|it| it / 2.0),
                format: match &text {
                    Some(name) => Format::JsonSchema(Schema {
                        name: name.clone(),
                        description: None,
                        schema: RawValue::from_string(
                            "{\"a\": 1e3, \"type\": \"string\"}".to_owned(),
                        )
                        .unwrap(),
                        strict: Some(stream),
                    }),
                    None => Format::Text,
                },
                reasoning: Reasoning {
                    effort: text.is_some().then_some(Effort::Low),
                    shown: stream.then_some(true),
                    ..Reasoning::default()
                },
                verbosity: text.is_some().then(|| "high".to_owned()),
                user: text.clone(),
                metadata: text.iter().map(|text| (text.clone(), "v".to_owned())).collect(),
                cache_key: text,
                service_tier: Some("flex".to_owned()),
                stream,
                stream_usage: true,
                ..Request::default()
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Names of results come with the calls, and are not told twice.
    #[test]
    fn a_request_that_is_written_is_read_again(request in request()) {
        let known = Rules::of(Dialect::OpenaiResponses, Kind::Openai, "gpt-5");
        let rules = Rules { sampling: true, ..known };
        let mut losses = Losses::new(Dialect::OpenaiResponses, Translation::Strict);
        let target = Target { model: "gpt-5", rules: &rules };
        let body = write_request(&request, &target, &mut losses).unwrap();
        let read = read_request(&body, &Asked::default(), &mut losses).unwrap();
        prop_assert_eq!(format!("{read:#?}"), format!("{request:#?}"));
    }

    #[test]
    fn no_body_makes_the_reader_panic(text in "[\\[\\]{}:,\"a-z0-9\\\\]{0,60}") {
        let _ = read(&text);
        let _ = read(&format!("{{\"model\":\"m\",\"input\":{text}}}"));
        let _ = events_of(format!("data: {text}\n\n").as_bytes(), 3);
    }
}
