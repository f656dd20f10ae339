//! What clients send.

use serde_json::{Value, json};

use super::requests::{assistant, call, claude, losses, result, user};
use crate::config::{Dialect, Kind};
use crate::protocol::canonical::{
    Asked, Block, CacheMark, Image, Invalid, Media, Request, Role, Rules, Signature, Source,
    Target, ToolChoice, ToolKind, Turn,
};
use crate::protocol::openai_chat::{read_request, write_request};

/// A request as it is read, and what of it was dropped.
fn read(body: &Value) -> (Request, Vec<String>) {
    let mut losses = losses(Dialect::OpenaiChat);
    let body = body.to_string();
    let request = read_request(body.as_bytes(), &Asked::default(), &mut losses);
    (request.expect("the request is valid"), losses.dropped().to_vec())
}

fn refused(body: &Value) -> Invalid {
    let body = body.to_string();
    let mut losses = losses(Dialect::OpenaiChat);
    read_request(body.as_bytes(), &Asked::default(), &mut losses).expect_err("it is refused")
}

fn with(messages: &Value) -> Value {
    json!({ "model": "m", "messages": messages })
}

#[test]
fn instructions_at_the_head_stand_apart() {
    let (request, dropped) = read(&with(&json!([
        { "role": "developer", "content": "a" },
        { "role": "system", "content": [{ "type": "text", "text": "b", "cache_control": { "type": "ephemeral" } }] },
        { "role": "user", "content": "hi", "name": "ann" },
        { "role": "system", "content": "c" },
    ])));
    let marked = Block::Cache(CacheMark::Short);
    assert_eq!(request.system, [Block::text("a"), Block::text("b"), marked]);
    let inside = Turn { role: Role::System, blocks: vec![Block::text("c")] };
    assert_eq!(request.turns, [user(vec![Block::text("hi")]), inside]);
    assert_eq!(dropped, ["messages.name"]);
}

#[test]
fn results_of_one_turns_calls_are_one_turn() {
    let (request, dropped) = read(&with(&json!([
        { "role": "user", "content": "hi" },
        { "role": "assistant", "content": "", "refusal": null, "annotations": [], "audio": null,
          "function_call": null, "tool_calls": [
            { "index": 0, "id": "a", "type": "function", "function": { "name": "f", "arguments": "" } },
            { "id": "b", "type": "custom", "custom": { "name": "g", "input": "x" } },
        ]},
        { "role": "tool", "tool_call_id": "a", "content": "1" },
        { "role": "tool", "tool_call_id": "b", "content": [{ "type": "text", "text": "2" }] },
        { "role": "user", "content": "go on" },
    ])));
    let mut custom = call("b", "g", "x");
    if let Block::ToolUse(call) = &mut custom {
        call.kind = ToolKind::Custom;
    }
    let results = vec![
        result("a", vec![Block::text("1")], false),
        result("b", vec![Block::text("2")], false),
    ];
    assert_eq!(
        request.turns[1..],
        [
            assistant(vec![call("a", "f", "{}"), custom]),
            user(results),
            user(vec![Block::text("go on")])
        ]
    );
    assert!(dropped.is_empty());
}

#[test]
fn the_older_form_of_calls_is_read() {
    let (request, _) = read(&json!({
        "model": "m",
        "functions": [{ "name": "f", "parameters": { "type": "object" } }],
        "function_call": { "name": "f" },
        "messages": [
            { "role": "user", "content": "hi" },
            { "role": "assistant", "content": null, "function_call": { "name": "f", "arguments": "{\"a\":1}" } },
            { "role": "function", "name": "f", "content": "1" },
        ],
    }));
    let [_, Turn { blocks: calls, .. }, Turn { blocks: results, .. }] = &request.turns[..] else {
        panic!("{request:?}")
    };
    assert_eq!(calls[..], [call("call_fn_0", "f", r#"{"a":1}"#)]);
    assert!(matches!(&results[0], Block::ToolResult(result) if result.id == "call_fn_0"));
    assert_eq!(request.tools[0].name, "f");
    assert_eq!(request.tool_choice, Some(ToolChoice::Named("f".to_owned())));
}

#[test]
fn reasoning_comes_back_by_any_of_its_names() {
    let thinking = |text: &str, signature: Option<Signature>| Block::Thinking {
        text: text.to_owned(),
        signature,
    };
    let blocks = |message: Value| {
        let mut message = message;
        message["role"] = "assistant".into();
        let (request, dropped) = read(&with(&json!([message, { "role": "user", "content": "x" }])));
        assert!(dropped.is_empty(), "{dropped:?}");
        request.turns[0].blocks.clone()
    };
    for name in ["reasoning", "reasoning_content"] {
        assert_eq!(blocks(json!({ name: "hm" })), [thinking("hm", None)]);
    }
    let both = json!({ "reasoning": "hm", "reasoning_content": "hm", "content": "a" });
    assert_eq!(blocks(both), [thinking("hm", None), Block::text("a")]);
    // Pieces of a stream, handed back one by one.
    let pieces = json!({ "reasoning": "abc", "reasoning_details": [
        { "type": "reasoning.text", "text": "a", "index": 0 },
        { "type": "reasoning.text", "text": "b", "index": 0 },
        { "type": "reasoning.text", "signature": "s", "format": "anthropic-claude-v1", "index": 0 },
        { "type": "reasoning.encrypted", "data": "e", "format": "anthropic-claude-v1", "index": 1 },
        { "type": "reasoning.text", "text": "c", "signature": "t", "format": "anthropic-claude-v1", "index": 2 },
    ]});
    let expected = [
        thinking("ab", Some(claude("s"))),
        Block::RedactedThinking(claude("e")),
        thinking("c", Some(claude("t"))),
    ];
    assert_eq!(blocks(pieces), expected);
    let bare = json!({ "reasoning_content": "ab", "reasoning_details": [
        { "type": "reasoning.text", "signature": "s", "format": "anthropic-claude-v1" } ]});
    assert_eq!(blocks(bare), [thinking("ab", Some(claude("s")))]);
    let lite = json!({ "reasoning_content": "ab", "thinking_blocks": [
        { "type": "thinking", "thinking": "ab", "signature": "s" },
        { "type": "redacted_thinking", "data": "e" } ]});
    let expected = [thinking("ab", Some(claude("s"))), Block::RedactedThinking(claude("e"))];
    assert_eq!(blocks(lite), expected);
}

#[test]
fn googles_signature_of_a_call_comes_back() {
    let (request, dropped) = read(&with(&json!([
        { "role": "assistant", "tool_calls": [{ "id": "a", "function": { "name": "f", "arguments": "{}" },
          "extra_content": { "google": { "thought_signature": "s" } } }] },
    ])));
    let Block::ToolUse(call) = &request.turns[0].blocks[0] else { panic!() };
    let signature = Signature { dialect: Dialect::Gemini, data: "s".to_owned() };
    assert_eq!((call.signature.as_ref(), dropped.len()), (Some(&signature), 0));
}

#[test]
fn parts_of_all_kinds_are_read() {
    let (request, _) = read(&with(&json!([{ "role": "user", "content": [
        { "type": "image_url", "image_url": { "url": "data:image/png;base64,AAAA", "detail": "low" } },
        { "type": "image_url", "image_url": "https://example.com/a" },
        { "type": "input_audio", "input_audio": { "data": "AAAA", "format": "wav" } },
        { "type": "video_url", "video_url": { "url": "https://example.com/v" } },
        { "type": "file", "file": { "filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA" } },
        { "type": "file", "file": { "file_data": "data:text/plain;base64,aGk=" } },
        { "type": "file", "file": { "file_id": "file-1" } },
        { "type": "text", "text": "hi", "prompt_cache_breakpoint": { "mode": "explicit", "ttl": "30m" } },
    ]}])));
    let blocks = &request.turns[0].blocks;
    let image = Image {
        source: Source::Base64("AAAA".to_owned()),
        media_type: Some("image/png".to_owned()),
        detail: Some("low".to_owned()),
    };
    assert_eq!(blocks[0], Block::Image(image));
    assert!(matches!(&blocks[1], Block::Image(it) if matches!(it.source, Source::Url(_))));
    assert!(
        matches!(&blocks[2], Block::Audio(Media { media_type, .. }) if media_type == "audio/wav")
    );
    assert!(matches!(&blocks[3], Block::Video(_)));
    assert!(matches!(&blocks[4], Block::Document(it) if it.name.as_deref() == Some("a.pdf")));
    assert!(
        matches!(&blocks[5], Block::Document(it) if it.source == Source::Text("hi".to_owned()))
    );
    assert!(
        matches!(&blocks[6], Block::Document(it) if it.source == Source::File("file-1".to_owned()))
    );
    assert_eq!(blocks[7..], [Block::text("hi"), Block::Cache(CacheMark::Long)]);
}

#[test]
fn what_nobody_else_knows_is_named() {
    let (_, dropped) = read(&json!({
        "model": "m", "messages": [{ "role": "user", "content": "hi" }],
        "store": true, "prediction": { "type": "content", "content": "x" }, "repetition_penalty": 1.1,
        "stream_options": { "include_obfuscation": true, "other": 1 }, "web_search_options": {},
        "tools": [{ "type": "web_search" }],
    }));
    let expected = [
        "tools.web_search",
        "stream_options.include_obfuscation",
        "stream_options.other",
        "store",
        "prediction",
        "repetition_penalty",
        "web_search_options",
    ];
    assert_eq!(dropped, expected);
}

#[test]
fn what_says_only_what_is_so_anyway_is_not() {
    let (request, dropped) = read(&json!({
        "model": "m", "messages": [{ "role": "user", "content": "hi" }], "store": false, "n": 1,
        "logprobs": false, "parallel_tool_calls": true, "modalities": ["text"], "stop": null,
        "stream": false, "stream_options": { "include_obfuscation": false }, "logit_bias": {},
        "response_format": { "type": "text" }, "top_k": -1, "audio": null, "metadata": null,
    }));
    assert!(dropped.is_empty(), "{dropped:?}");
    assert!(request.candidates.is_none() && request.logprobs.is_none() && request.top_k.is_none());
}

#[test]
fn what_would_falsify_the_call_is_refused() {
    for (body, param) in [
        (json!({ "modalities": ["text", "audio"] }), "modalities"),
        (json!({ "audio": { "voice": "x" } }), "audio"),
        (
            json!({ "messages": [{ "role": "assistant", "audio": { "id": "x" } }] }),
            "messages.audio",
        ),
        (
            json!({ "messages": [{ "role": "user", "content": [{ "type": "hologram" }] }] }),
            "messages.content",
        ),
    ] {
        let mut whole = with(&json!([{ "role": "user", "content": "hi" }]));
        for (name, value) in body.as_object().unwrap() {
            whole[name] = value.clone();
        }
        let Invalid::Unsupported { param: found, .. } = refused(&whole) else { panic!("{body}") };
        assert_eq!(found, param);
    }
}

#[test]
fn what_is_malformed_is_refused_in_words() {
    for (body, message) in [
        (json!({ "messages": [] }), "`messages` must have at least one message"),
        (
            json!({ "messages": [{ "role": "king", "content": "" }] }),
            "`messages[0].role` \"king\" is not known",
        ),
        (json!({ "messages": [{ "role": "user" }] }), "`messages[0].content` is missing"),
        (
            json!({ "messages": [{ "role": "user", "content": 1 }] }),
            "`messages[0].content` must be a string or an array of parts",
        ),
        (
            json!({ "messages": [{ "role": "tool", "content": "" }] }),
            "`messages[0].tool_call_id` is missing",
        ),
        (json!({ "temperature": "warm" }), "`temperature` must be a number"),
        (json!({ "stop": 1 }), "`stop` must be a string or an array of strings"),
        (json!({ "reasoning_effort": "huge" }), "`reasoning_effort` \"huge\" is not known"),
        (
            json!({ "stream_options": { "include_usage": 1 } }),
            "`stream_options.include_usage` must be true or false",
        ),
        (
            json!({ "tools": [{ "type": "function", "function": {} }] }),
            "`tools.function.name` is missing",
        ),
        (
            json!({ "response_format": { "type": "xml" } }),
            "`response_format.type` \"xml\" is not known",
        ),
    ] {
        let mut whole = with(&json!([{ "role": "user", "content": "hi" }]));
        for (name, value) in body.as_object().unwrap() {
            whole[name] = value.clone();
        }
        let Invalid::Request { message: found, .. } = refused(&whole) else { panic!("{body}") };
        assert_eq!(found, message);
    }
    let message = refused(&json!({ "messages": [] })).to_string();
    assert_eq!(message, "`model` is missing");
}

#[test]
fn recorded_requests_are_read_and_written() {
    macro_rules! recorded {
        ($($name:literal)*) => {[$((
            $name,
            include_bytes!(concat!("../../../../tests/fixtures/recorded/", $name, "/request.json")).as_slice(),
        )),*]};
    }
    for (name, body) in recorded!(
        "chat-azure-text" "chat-groq-stream-error" "chat-openai-cached" "chat-openai-json-mode"
        "chat-openai-length" "chat-openai-parallel-tools"
        "chat-openai-stream-length-usage" "chat-openai-stream-text" "chat-openai-stream-tool"
        "chat-openai-stream-websearch" "chat-openai-text" "chat-openrouter-stream-reasoning"
    ) {
        let mut losses = losses(Dialect::OpenaiChat);
        let request = read_request(body, &Asked::default(), &mut losses).expect(name);
        let rules = Rules::of(Dialect::OpenaiChat, Kind::Openai, "gpt-4o");
        let to = Target { model: "m", rules: &rules };
        write_request(&request, &to, &mut losses).expect(name);
    }
}
