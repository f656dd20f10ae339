//! What servers are sent.

use serde_json::{Value, json};

use super::requests::{assistant, call, claude, losses, result, user};
use crate::config::{Dialect, Kind};
use crate::protocol::canonical::{
    Block, CacheMark, Effort, Field, Image, Invalid, Media, Reasoning, Request, Rules, Signature,
    Source, Target, Tool, ToolChoice, ToolKind,
};
use crate::protocol::openai_chat::{fate, write_request};

/// The body for a server of this kind, and what of the request was dropped.
fn write(request: &Request, kind: Kind) -> (Value, Vec<String>) {
    let known = Rules::of(Dialect::OpenaiChat, kind, "gpt-5-mini");
    let rules = Rules { stop: true, ..known };
    let mut losses = losses(Dialect::Anthropic);
    let to = Target { model: "m", rules: &rules };
    let body = write_request(request, &to, &mut losses).expect("the request can be written");
    (serde_json::from_slice(&body).unwrap(), losses.dropped().to_vec())
}

#[test]
fn a_conversation_of_anthropics_is_messages() {
    let image = Image {
        source: Source::Base64("AAAA".to_owned()),
        media_type: Some("image/png".to_owned()),
        detail: None,
    };
    let thinking = Block::Thinking { text: "hm".to_owned(), signature: Some(claude("s")) };
    let request = Request {
        system: vec![Block::text("a"), Block::Cache(CacheMark::Short), Block::text("b")],
        turns: vec![
            user(vec![Block::text("x"), Block::text("y")]),
            assistant(vec![thinking, Block::text("ok"), call("1", "f", ""), call("2", "f", "[1")]),
            user(vec![
                result("2", vec![Block::text("no")], true),
                result("1", vec![Block::text("yes"), Block::Image(image)], false),
                Block::text("go on"),
            ]),
        ],
        max_output: Some(9),
        ..Request::default()
    };
    let expected = json!([
        { "role": "system", "content": "a\n\nb" },
        { "role": "user", "content": "x\n\ny" },
        { "role": "assistant", "content": "ok", "reasoning": "hm", "tool_calls": [
            { "id": "1", "type": "function", "function": { "name": "f", "arguments": "{}" } },
            { "id": "2", "type": "function", "function": { "name": "f", "arguments": "{\"_raw\":\"[1\"}" } },
        ]},
        { "role": "tool", "tool_call_id": "1", "content": "yes" },
        { "role": "tool", "tool_call_id": "2", "content": "Error: no" },
        { "role": "user", "content": [
            { "type": "text", "text": "The result of call 1 has also:" },
            { "type": "image_url", "image_url": { "url": "data:image/png;base64,AAAA" } },
            { "type": "text", "text": "go on" },
        ]},
    ]);
    let (body, dropped) = write(&request, Kind::Vllm);
    assert_eq!(body["messages"], expected);
    assert_eq!(body["max_tokens"], 9);
    assert!(dropped.is_empty(), "{dropped:?}");
    assert!(body.get("tools").is_none() && body.get("stream").is_none());
    // OpenAI's own: its roles, its names, parts, and no reasoning of others.
    let (body, dropped) = write(&request, Kind::Openai);
    assert_eq!(body["messages"][0]["role"], "developer");
    assert_eq!(body["messages"][1]["content"].as_array().map(Vec::len), Some(2));
    assert!(body["messages"][2].get("reasoning").is_none());
    assert_eq!(body["max_completion_tokens"], 9);
    assert_eq!(dropped, ["thinking"]);
}

#[test]
fn signatures_go_back_only_to_those_whose_they_are() {
    let own = Signature { dialect: Dialect::OpenaiChat, data: "own".to_owned() };
    let request = |signature: Signature| Request {
        turns: vec![
            user(vec![Block::text("x")]),
            assistant(vec![Block::RedactedThinking(signature), Block::text("y")]),
            user(vec![Block::text("z")]),
        ],
        ..Request::default()
    };
    let (body, dropped) = write(&request(own), Kind::OpenaiCompatible);
    let details = json!([{ "type": "reasoning.encrypted", "data": "own", "index": 0 }]);
    assert_eq!((&body["messages"][1]["reasoning_details"], dropped.len()), (&details, 0));
    let (body, dropped) = write(&request(claude("s")), Kind::OpenaiCompatible);
    assert!(!body.to_string().contains("reasoning_details"));
    assert_eq!(dropped, ["thinking.signature"]);
}

#[test]
fn tools_and_choices_are_what_the_server_takes() {
    let tool = |name: &str, kind| Tool {
        name: name.to_owned(),
        namespace: None,
        description: None,
        kind,
        schema: None,
        strict: None,
        grammar: None,
        cache: None,
    };
    let mut custom = tool("c", ToolKind::Custom);
    let flat = r#"{"type":"grammar","syntax":"lark","definition":"start: X"}"#;
    custom.grammar = serde_json::from_str(flat).ok();
    let request = Request {
        turns: vec![user(vec![Block::text("x")])],
        tools: vec![tool("a", ToolKind::Function), tool("b", ToolKind::Function), custom],
        tool_choice: Some(ToolChoice::Among { names: vec!["b".to_owned()], required: true }),
        parallel_tools: Some(false),
        ..Request::default()
    };
    let (body, _) = write(&request, Kind::Openai);
    assert_eq!(body["tools"].as_array().map(Vec::len), Some(3));
    let grammar =
        json!({ "type": "grammar", "grammar": { "syntax": "lark", "definition": "start: X" } });
    assert_eq!(body["tools"][2]["custom"]["format"], grammar);
    assert_eq!(body["tool_choice"]["allowed_tools"]["mode"], "required");
    assert_eq!(body["parallel_tool_calls"], false);
    let (body, _) = write(&request, Kind::Vllm);
    assert_eq!(body["tools"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&body["tools"][0]["function"]["name"], &body["tool_choice"]),
        (&json!("b"), &json!("required"))
    );
    // Without tools nothing is said of them: servers refuse a choice among none.
    let request = Request { tools: Vec::new(), ..request };
    let (body, _) = write(&request, Kind::Vllm);
    assert!(
        ["tools", "tool_choice", "parallel_tool_calls"].iter().all(|it| body.get(it).is_none())
    );
}

#[test]
fn reasoning_is_asked_for_in_the_servers_words() {
    let asked = |reasoning, kind| {
        let turns = vec![user(vec![Block::text("x")])];
        let (body, dropped) = write(&Request { turns, reasoning, ..Request::default() }, kind);
        (body["reasoning_effort"].as_str().map(str::to_owned), body, dropped)
    };
    let effort = |effort| Reasoning { effort: Some(effort), ..Reasoning::default() };
    let budget = Reasoning { budget: Some(30_000), enabled: Some(true), ..Reasoning::default() };
    assert_eq!(asked(effort(Effort::Minimal), Kind::Vllm).0.as_deref(), Some("low"));
    assert_eq!(asked(effort(Effort::Max), Kind::Vllm).0.as_deref(), Some("high"));
    // The highest that the model knows.
    assert_eq!(asked(effort(Effort::Max), Kind::Openai).0.as_deref(), Some("high"));
    assert_eq!(asked(budget, Kind::Vllm).0.as_deref(), Some("high"));
    assert_eq!(asked(Reasoning::default(), Kind::Vllm).0, None);
    let off = asked(Reasoning { enabled: Some(false), ..Reasoning::default() }, Kind::Vllm);
    assert_eq!(off.0.as_deref(), Some("none"));
    assert_eq!(off.1["chat_template_kwargs"]["enable_thinking"], false);
}

#[test]
fn what_a_server_does_not_take_is_named() {
    let request = Request {
        turns: vec![user(vec![Block::text("x")])],
        top_k: Some(1),
        min_p: Some(0.5),
        candidates: Some(2),
        logprobs: Some(0),
        verbosity: Some("low".to_owned()),
        service_tier: Some("standard_only".to_owned()),
        cache_key: Some("k".to_owned()),
        metadata: vec![("a".to_owned(), "b".to_owned())],
        stop: ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec(),
        ..Request::default()
    };
    let (body, dropped) = write(&request, Kind::Openai);
    assert_eq!(body["stop"].as_array().map(Vec::len), Some(4));
    assert_eq!(
        (&body["service_tier"], &body["prompt_cache_key"]),
        (&json!("default"), &json!("k"))
    );
    assert_eq!(dropped, ["top_k", "min_p", "stop_sequences", "n", "logprobs", "metadata"]);
    let (body, dropped) = write(&request, Kind::Vllm);
    assert_eq!((&body["top_k"], body["stop"].as_array().map(Vec::len)), (&json!(1), Some(5)));
    let expected = ["n", "logprobs", "verbosity", "prompt_cache_key", "service_tier", "metadata"];
    assert_eq!(dropped, expected);
}

#[test]
fn content_that_cannot_be_sent_is_refused() {
    let file = Source::File("file-1".to_owned());
    let video =
        Media { source: Source::Url("https://v".to_owned()), media_type: "video/mp4".to_owned() };
    for block in
        [Block::Image(Image { source: file, media_type: None, detail: None }), Block::Video(video)]
    {
        let request = Request { turns: vec![user(vec![block])], ..Request::default() };
        let rules = Rules::of(Dialect::OpenaiChat, Kind::Openai, "gpt-4o");
        let to = Target { model: "m", rules: &rules };
        let refused = write_request(&request, &to, &mut losses(Dialect::Gemini)).unwrap_err();
        assert!(matches!(refused, Invalid::Unsupported { .. }));
    }
}

#[test]
fn a_stream_asks_for_its_usage() {
    let turns = vec![user(vec![Block::text("x")])];
    let (body, _) = write(&Request { turns, stream: true, ..Request::default() }, Kind::Vllm);
    assert_eq!(
        (&body["stream"], &body["stream_options"]),
        (&json!(true), &json!({ "include_usage": true }))
    );
}

#[test]
fn every_field_has_a_fate() {
    for field in Field::ALL {
        let _ = fate(*field);
    }
}
