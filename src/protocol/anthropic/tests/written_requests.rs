//! Requests as they are written.

use serde_json::{Value, json, value::RawValue};

use super::write;
use crate::config::{Dialect, Kind, Translation};
use crate::protocol::anthropic::{
    fate, read_count_response, write_count_request, write_count_response,
};
use crate::protocol::canonical::{
    Block, CacheMark, Document, Effort, Fate, Field, Format, Image, Invalid, Losses, Reasoning,
    Request, Role, Rules, Schema, Signature, Source, Target, Tool, ToolChoice, ToolKind,
    ToolResult, ToolUse, Turn,
};

const OLD: &str = "claude-sonnet-4-5";
const NEW: &str = "claude-opus-4-7";
const NEWEST: &str = "claude-opus-5";

fn turn(role: Role, blocks: Vec<Block>) -> Turn {
    Turn { role, blocks }
}

fn user(text: &str) -> Turn {
    turn(Role::User, vec![Block::text(text)])
}

fn asking() -> Request {
    Request { turns: vec![user("hi")], ..Request::default() }
}

fn call(id: &str) -> Block {
    Block::ToolUse(ToolUse {
        id: id.to_owned(),
        name: "f".to_owned(),
        namespace: None,
        kind: ToolKind::Function,
        arguments: r#"{"a": 1}"#.to_owned(),
        signature: None,
    })
}

fn result(id: &str, blocks: Vec<Block>) -> Block {
    Block::ToolResult(ToolResult { id: id.to_owned(), name: None, blocks, is_error: false })
}

fn tool(name: &str) -> Tool {
    Tool {
        name: name.to_owned(),
        namespace: None,
        description: None,
        kind: ToolKind::Function,
        schema: None,
        strict: None,
        grammar: None,
        cache: None,
    }
}

fn thinking(signature: Option<Dialect>) -> Block {
    let signature = signature.map(|dialect| Signature { dialect, data: "s".to_owned() });
    Block::Thinking { text: "hm".to_owned(), signature }
}

fn schema(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

/// What is written, and what was dropped.
fn sent(request: &Request, model: &str) -> (Value, Vec<String>) {
    let (written, dropped) = write(request, model);
    (written.unwrap(), dropped)
}

fn messages(turns: Vec<Turn>, model: &str) -> Value {
    let request = Request { turns, ..Request::default() };
    sent(&request, model).0["messages"].clone()
}

#[test]
fn the_least_has_a_bound_of_the_answer() {
    let (body, dropped) = sent(&asking(), OLD);
    let message = json!({"role": "user", "content": [{"type": "text", "text": "hi"}]});
    assert_eq!(body, json!({"model": OLD, "max_tokens": 32_000, "messages": [message]}));
    assert_eq!(dropped, [""; 0]);
}

#[test]
fn parameters_are_carried_as_far_as_the_model_takes_them() {
    let request = Request {
        max_output: Some(100),
        temperature: Some(1.5),
        top_k: Some(5),
        stop: vec!["a".to_owned(), " ".to_owned()],
        service_tier: Some("default".to_owned()),
        user: Some("u-1".to_owned()),
        stream: true,
        ..asking()
    };
    let (mut body, dropped) = sent(&request, OLD);
    body["messages"].take();
    assert_eq!(
        body,
        json!({"model": OLD, "max_tokens": 100, "messages": null, "temperature": 1.0, "top_k": 5,
            "stop_sequences": ["a"], "service_tier": "standard_only",
            "metadata": {"user_id": "u-1"}, "stream": true})
    );
    assert_eq!(dropped, ["stop"]);
    let (body, dropped) = sent(&request, NEW);
    assert_eq!((body.get("temperature"), body.get("top_k")), (None, None));
    assert_eq!(dropped, ["temperature", "top_k", "stop"]);
}

#[test]
fn what_it_does_not_know_is_named() {
    let request = Request {
        min_p: Some(0.1),
        seed: Some(1),
        candidates: Some(2),
        presence_penalty: Some(0.5),
        frequency_penalty: Some(0.0),
        logprobs: Some(3),
        verbosity: Some("low".to_owned()),
        metadata: vec![("a".to_owned(), "b".to_owned())],
        cache_key: Some("k".to_owned()),
        service_tier: Some("flex".to_owned()),
        user: Some("jane@example.org".to_owned()),
        ..asking()
    };
    let (_, dropped) = sent(&request, OLD);
    let wanted = [
        "min_p",
        "seed",
        "n",
        "presence_penalty",
        "logprobs",
        "verbosity",
        "metadata",
        "prompt_cache_key",
        "service_tier",
        "user",
    ];
    assert_eq!(dropped, wanted);
}

#[test]
fn a_user_is_told_only_if_the_name_is_opaque() {
    for (name, is_told) in [
        ("u", true),
        ("@here", true),
        ("user_1234567", true),
        ("1234", true),
        ("+49 (30) 123 456", false),
        ("jane@example.org", false),
        (&"x".repeat(257), false),
    ] {
        let request = Request { user: Some(name.to_owned()), ..asking() };
        assert_eq!(sent(&request, OLD).0.get("metadata").is_some(), is_told, "{name}");
    }
}

#[test]
fn temperature_and_top_p_are_not_sent_together() {
    let request = Request { temperature: Some(0.3), top_p: Some(0.5), ..asking() };
    let (body, dropped) = sent(&request, OLD);
    assert_eq!((&body["temperature"], body.get("top_p")), (&json!(0.3), None));
    assert_eq!(dropped, ["top_p"]);
    let (body, dropped) = sent(&request, "claude-3-5-sonnet");
    assert_eq!((&body["top_p"], dropped.len()), (&json!(0.5), 0));
}

#[test]
fn sampling_gives_way_to_thinking() {
    let reasoning = Reasoning { effort: Some(Effort::Low), ..Reasoning::default() };
    let request = Request {
        reasoning,
        temperature: Some(0.3),
        top_p: Some(0.97),
        top_k: Some(5),
        ..asking()
    };
    let (body, dropped) = sent(&request, OLD);
    assert_eq!(body["thinking"], json!({"type": "enabled", "budget_tokens": 1024}));
    assert_eq!((body.get("temperature"), &body["top_p"]), (None, &json!(0.97)));
    assert_eq!(dropped, ["temperature", "top_k"]);
}

#[test]
fn a_conversation_is_put_in_order() {
    let turns = vec![
        turn(Role::Assistant, vec![Block::text("hello")]),
        user(" "),
        turn(Role::Assistant, vec![Block::text("a"), call("c:1"), call("c2")]),
        turn(Role::User, vec![result("c2", vec![Block::text("two"), Block::text("")])]),
        turn(Role::User, vec![Block::text("so?"), result("c:1", Vec::new())]),
        turn(Role::System, vec![Block::text("be brief")]),
        turn(Role::Assistant, vec![Block::text("well  \n")]),
    ];
    let id = |place: usize| {
        let messages = messages(turns.clone(), OLD);
        messages[1]["content"][place]["id"].as_str().unwrap().to_owned()
    };
    let use_of = |id: &str| json!({"type": "tool_use", "id": id, "name": "f", "input": {"a": 1}});
    let text = |text: &str| json!({"type": "text", "text": text});
    assert!(id(2).starts_with("c_1_"));
    assert_eq!(
        messages(turns.clone(), OLD),
        json!([
            {"role": "user", "content": [text(".")]},
            {"role": "assistant", "content": [text("hello"), text("a"), use_of(&id(2)), use_of("c2")]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": id(2)},
                {"type": "tool_result", "tool_use_id": "c2", "content": [text("two")]},
                text("so?"), text("<system>\nbe brief\n</system>"),
            ]},
            {"role": "assistant", "content": [text("well")]},
        ])
    );
}

#[test]
fn instructions_inside_stay_where_the_model_takes_them() {
    let turns = vec![user("a"), turn(Role::System, vec![Block::text("b")])];
    let roles = |model| {
        let messages = messages(turns.clone(), model);
        messages.as_array().unwrap().iter().map(|it| it["role"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(roles(NEWEST), ["user", "system"]);
    assert_eq!(roles(OLD), ["user"]);
}

#[test]
fn a_turn_begun_for_the_model_is_refused_where_it_cannot_go_on() {
    let turns = vec![user("a"), turn(Role::Assistant, vec![Block::text("b")])];
    let request = Request { turns, ..Request::default() };
    let (written, _) = write(&request, NEW);
    assert!(matches!(written, Err(Invalid::Unsupported { param, .. }) if param == "messages"));
    write(&request, OLD).0.unwrap();
}

#[test]
fn a_call_without_its_result_is_refused() {
    let turns = vec![user("a"), turn(Role::Assistant, vec![call("c")]), user("b")];
    let (written, _) = write(&Request { turns, ..Request::default() }, OLD);
    assert!(matches!(written, Err(Invalid::Request { param, .. }) if param == "messages"));
}

#[test]
fn only_what_anthropic_signed_goes_back_to_it() {
    let blocks = vec![
        thinking(Some(Dialect::Anthropic)),
        thinking(Some(Dialect::Gemini)),
        thinking(None),
        Block::RedactedThinking(Signature {
            dialect: Dialect::OpenaiResponses,
            data: "x".to_owned(),
        }),
        Block::text("a"),
    ];
    let turns = vec![user("a"), turn(Role::Assistant, blocks), user("b")];
    let (body, dropped) = sent(&Request { turns, ..Request::default() }, OLD);
    assert_eq!(
        body["messages"][1]["content"],
        json!([{"type": "thinking", "thinking": "hm", "signature": "s"},
            {"type": "text", "text": "a"}])
    );
    assert_eq!(dropped, ["reasoning_details", "reasoning_content"]);
}

#[test]
fn a_turn_of_nothing_but_foreign_thinking_leaves_no_gap() {
    let turns =
        vec![user("a"), turn(Role::Assistant, vec![thinking(Some(Dialect::Gemini))]), user("b")];
    let text = |text: &str| json!({"type": "text", "text": text});
    let wanted = json!([{"role": "user", "content": [text("a"), text("b")]}]);
    assert_eq!(messages(turns, OLD), wanted);
}

#[test]
fn a_budget_gives_way_where_anthropic_refuses_it() {
    let reasoning = Reasoning { effort: Some(Effort::High), ..Reasoning::default() };
    let under_way = |first: Block| Request {
        turns: vec![
            user("a"),
            turn(Role::Assistant, vec![first, call("c")]),
            turn(Role::User, vec![result("c", Vec::new())]),
        ],
        reasoning,
        ..Request::default()
    };
    let (body, dropped) = sent(&under_way(Block::text("x")), OLD);
    assert_eq!((body.get("thinking"), dropped), (None, vec!["reasoning_effort".to_owned()]));
    let (body, dropped) = sent(&under_way(thinking(Some(Dialect::Anthropic))), OLD);
    assert_eq!((&body["thinking"]["type"], dropped.len()), (&json!("enabled"), 0));
    let (body, _) = sent(&under_way(Block::text("x")), "claude-sonnet-4-6");
    assert_eq!(body["thinking"]["type"], "adaptive");
    let forced = Request {
        tools: vec![tool("f")],
        tool_choice: Some(ToolChoice::Required),
        reasoning,
        ..asking()
    };
    assert_eq!(sent(&forced, OLD).0.get("thinking"), None);
}

#[test]
fn tools_are_written_with_a_schema_of_an_object() {
    let full = Tool {
        description: Some("d".to_owned()),
        schema: Some(schema(r#"{"type":"object","properties":{"a":{"minimum":1.00}}}"#)),
        strict: Some(false),
        ..tool("f")
    };
    let strict = Tool {
        schema: Some(schema(r#"{"type":"object","properties":{"a":{"minimum":1}}}"#)),
        strict: Some(true),
        cache: Some(CacheMark::Long),
        ..tool("g")
    };
    let request = Request { tools: vec![full, strict], ..asking() };
    let rules = Rules::of(Dialect::Anthropic, Kind::Anthropic, OLD);
    let mut losses = Losses::new(Dialect::OpenaiChat, Translation::Lenient);
    let target = Target { model: OLD, rules: &rules };
    let body = super::super::write_request(&request, &target, &mut losses).unwrap();
    let body = String::from_utf8(body).unwrap();
    let tools = concat!(
        r#""tools":[{"name":"f","description":"d","#,
        r#""input_schema":{"type":"object","properties":{"a":{"minimum":1.00}}}},"#,
        r#"{"name":"g","input_schema":{"type":"object","properties":{"a":{"description":"{minimum: 1}"}},"#,
        r#""additionalProperties":false},"strict":true,"cache_control":{"type":"ephemeral","ttl":"1h"}}]"#,
    );
    assert!(body.contains(tools), "{body}");
    let (body, dropped) = sent(&request, "claude-3-7-sonnet");
    assert_eq!(body["tools"][1].get("strict"), None);
    assert_eq!(dropped, ["tools.function.strict"]);
}

#[test]
fn choices_are_written() {
    let names = |names: &[&str], required| ToolChoice::Among {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        required,
    };
    for (choice, parallel, wanted, tools) in [
        (None, None, Value::Null, 2),
        (None, Some(true), Value::Null, 2),
        (None, Some(false), json!({"type": "auto", "disable_parallel_tool_use": true}), 2),
        (Some(ToolChoice::Auto), None, json!({"type": "auto"}), 2),
        (Some(ToolChoice::None), Some(false), json!({"type": "none"}), 2),
        (
            Some(ToolChoice::Required),
            Some(false),
            json!({"type": "any", "disable_parallel_tool_use": true}),
            2,
        ),
        (Some(ToolChoice::Named("g".to_owned())), None, json!({"type": "tool", "name": "g"}), 2),
        (Some(names(&["g"], true)), None, json!({"type": "any"}), 1),
        (Some(names(&["g", "f"], false)), None, json!({"type": "auto"}), 2),
    ] {
        let request = Request {
            tools: vec![tool("f"), tool("g")],
            tool_choice: choice,
            parallel_tools: parallel,
            ..asking()
        };
        let (body, dropped) = sent(&request, OLD);
        assert_eq!((&body["tool_choice"], dropped.len()), (&wanted, 0));
        assert_eq!(body["tools"].as_array().unwrap().len(), tools);
    }
    // A choice among no tools is refused there.
    let request = Request { tool_choice: Some(ToolChoice::None), ..asking() };
    assert_eq!(sent(&request, OLD).0.get("tool_choice"), None);
    let request = Request { tool_choice: Some(ToolChoice::Required), ..asking() };
    assert_eq!(sent(&request, OLD).1, ["tool_choice"]);
}

#[test]
fn a_format_is_enforced_where_the_model_can_and_asked_for_where_it_cannot() {
    let format = Format::JsonSchema(Schema {
        name: "x".to_owned(),
        description: None,
        schema: schema(r#"{"type":"object","properties":{}}"#),
        strict: Some(true),
    });
    let (body, _) = sent(&Request { format, ..asking() }, NEW);
    let enforced = json!({"type": "object", "properties": {}, "additionalProperties": false});
    assert_eq!(body["output_config"]["format"], json!({"type": "json_schema", "schema": enforced}));
    let (body, dropped) = sent(&Request { format: Format::JsonObject, ..asking() }, NEW);
    assert!(body["system"][0]["text"].as_str().unwrap().contains("JSON"));
    assert_eq!(dropped, [""; 0]);
}

#[test]
fn of_more_than_four_cache_marks_the_last_are_sent() {
    let marked = |text: &str| [Block::text(text), Block::Cache(CacheMark::Short)];
    let blocks = ["a", "b", "c", "d"].iter().flat_map(|text| marked(text)).collect();
    let request = Request {
        system: marked("s").to_vec(),
        turns: vec![turn(Role::User, blocks)],
        ..Request::default()
    };
    let (body, dropped) = sent(&request, OLD);
    assert_eq!(body["system"], json!([{"type": "text", "text": "s"}]));
    let content = body["messages"][0]["content"].as_array().unwrap();
    let mark = json!({"type": "ephemeral"});
    assert!(content.iter().all(|block| block["cache_control"] == mark));
    assert_eq!(dropped, ["prompt_cache_breakpoint"]);
}

#[test]
fn media_are_written_or_refused() {
    let image = |source, media_type: Option<&str>| {
        Block::Image(Image { source, media_type: media_type.map(str::to_owned), detail: None })
    };
    let document = |source, media_type: &str| {
        let (media_type, name) = (media_type.to_owned(), Some("n".to_owned()));
        Block::Document(Document { source, media_type, name })
    };
    let base64 = |data: &str| Source::Base64(data.to_owned());
    let blocks = vec![
        image(base64("/9j/4"), None),
        image(base64("x"), Some("image/jpg")),
        image(Source::Url("https://x".to_owned()), None),
        document(base64("JVB"), "application/pdf"),
        document(base64("w6Q="), "text/markdown"),
        document(Source::Url("https://y".to_owned()), "application/pdf"),
    ];
    let source = |source: Value| json!({"type": "image", "source": source});
    let titled = |source: Value| json!({"type": "document", "source": source, "title": "n"});
    let jpeg = |data: &str| json!({"type": "base64", "media_type": "image/jpeg", "data": data});
    assert_eq!(
        messages(vec![turn(Role::User, blocks)], OLD)[0]["content"],
        json!([
            source(jpeg("/9j/4")),
            source(jpeg("x")),
            source(json!({"type": "url", "url": "https://x"})),
            titled(json!({"type": "base64", "media_type": "application/pdf", "data": "JVB"})),
            titled(json!({"type": "text", "media_type": "text/plain", "data": "ä"})),
            titled(json!({"type": "url", "url": "https://y"})),
        ])
    );
    for block in [
        image(base64("x"), Some("image/tiff")),
        image(Source::File("file-1".to_owned()), None),
        document(base64("x"), "application/msword"),
        document(Source::File("file-1".to_owned()), "application/pdf"),
    ] {
        let turns = vec![turn(Role::User, vec![block])];
        let (written, _) = write(&Request { turns, ..Request::default() }, OLD);
        assert!(matches!(written, Err(Invalid::Unsupported { .. })));
    }
}

#[test]
fn a_count_is_asked_for_with_what_makes_up_the_prompt_and_nothing_else() {
    let reasoning = Reasoning { effort: Some(Effort::High), ..Reasoning::default() };
    let request = Request {
        system: vec![Block::text("s")],
        tools: vec![tool("f")],
        reasoning,
        temperature: Some(0.1),
        stream: true,
        user: Some("u".to_owned()),
        ..asking()
    };
    let rules = Rules::of(Dialect::Anthropic, Kind::Anthropic, NEW);
    let mut losses = Losses::new(Dialect::OpenaiChat, Translation::Lenient);
    let target = Target { model: NEW, rules: &rules };
    let body = write_count_request(&request, &target, &mut losses).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let names: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, ["model", "tools", "system", "messages", "thinking", "output_config"]);
    assert_eq!(read_count_response(&write_count_response(7)), Ok(7));
    read_count_response(b"{}").unwrap_err();
}

#[test]
fn every_field_has_a_fate_and_files_of_others_are_refused() {
    for field in Field::ALL {
        fate(*field);
    }
    assert!(matches!(fate(Field::FileId), Fate::Refused(_)));
}
