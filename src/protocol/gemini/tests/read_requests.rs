//! What clients of Google's ask.

use serde_json::{Value, json};

use super::lenient;
use crate::config::{Dialect, Translation};
use crate::protocol::canonical::{
    Asked, Block, Effort, Format, Image, Invalid, Losses, Reasoning, Request, Role, Signature,
    Source, ToolChoice, ToolUse,
};
use crate::protocol::gemini::read_request;

fn read_with(body: &Value, losses: &mut Losses) -> Result<Request, Invalid> {
    let asked = Asked { model: Some("m"), stream: true };
    read_request(body.to_string().as_bytes(), &asked, losses)
}

/// The request, and what was dropped of it.
fn read(body: &Value) -> (Request, Vec<String>) {
    let mut losses = lenient();
    let request = read_with(body, &mut losses).unwrap();
    (request, losses.dropped().to_vec())
}

fn refused(body: &Value) -> Invalid {
    read_with(body, &mut lenient()).unwrap_err()
}

/// A body with nothing but a question and this.
fn with(name: &str, value: Value) -> Value {
    let mut body = json!({ "contents": [{ "parts": [{ "text": "hi" }] }] });
    body[name] = value;
    body
}

fn conversation(contents: &Value) -> Vec<Block> {
    let (request, dropped) = read(&json!({ "contents": contents }));
    assert_eq!(dropped, [""; 0]);
    request.turns.into_iter().flat_map(|turn| turn.blocks).collect()
}

#[test]
fn recorded_requests_lose_what_is_googles_alone() {
    macro_rules! request {
        ($id:literal) => {{
            let path = include_bytes!(concat!(
                "../../../../tests/fixtures/recorded/",
                $id,
                "/request.json"
            ));
            serde_json::from_slice::<Value>(path).unwrap()
        }};
    }
    let (request, dropped) = read(&request!("gem-parallel-tools"));
    assert_eq!(dropped, [""; 0]);
    assert_eq!(request.tools.len(), 2);
    let schema = request.tools[0].schema.as_ref().unwrap().get();
    assert_eq!(schema, r#"{"additionalProperties":false,"properties":{},"type":"object"}"#);
    let names = vec!["generate_topic".to_owned(), "final_result".to_owned()];
    assert_eq!(request.tool_choice, Some(ToolChoice::Among { names, required: true }));
    assert_eq!(read(&request!("gem-grounding")).1, ["tools.googleSearch"]);
    assert_eq!(read(&request!("gem-prompt-blocked")).1, ["modelArmorConfig"]);
    let (request, dropped) = read(&request!("gem-stream-thinking"));
    assert_eq!((request.reasoning.shown, dropped), (Some(true), vec![]));
    let (request, _) = read(&request!("gem-max-tokens-empty"));
    assert_eq!(request.max_output, Some(5));
    assert_eq!(request.system, [Block::text("You are a helpful chatbot.")]);
    let stored = refused(&request!("gem-cached"));
    assert!(matches!(stored, Invalid::Unsupported { ref param, .. } if param == "cachedContent"));
}

#[test]
fn both_spellings_are_one() {
    let camel = json!({
        "contents": [
            { "role": "user", "parts": [
                { "inlineData": { "mimeType": "image/png", "data": "AA==" } },
                { "fileData": { "mimeType": "application/pdf", "fileUri": "https://a/b" } },
            ] },
            { "role": "model", "parts": [{ "functionCall": { "name": "f", "args": {} } }] },
            { "role": "user", "parts": [
                { "functionResponse": { "name": "f", "response": { "output": "x" } } },
            ] },
        ],
        "systemInstruction": { "parts": [{ "text": "s" }] },
        "toolConfig": { "functionCallingConfig": { "mode": "ANY", "allowedFunctionNames": ["f"] } },
        "generationConfig": { "maxOutputTokens": 3, "topK": 4, "stopSequences": ["x"] },
    });
    let snake = camel
        .to_string()
        .replace("inlineData", "inline_data")
        .replace("mimeType", "mime_type")
        .replace("fileData", "file_data")
        .replace("fileUri", "file_uri")
        .replace("functionCall\"", "function_call\"")
        .replace("functionResponse", "function_response")
        .replace("systemInstruction", "system_instruction")
        .replace("toolConfig", "tool_config")
        .replace("functionCallingConfig", "function_calling_config")
        .replace("allowedFunctionNames", "allowed_function_names")
        .replace("generationConfig", "generation_config")
        .replace("maxOutputTokens", "max_output_tokens")
        .replace("topK", "top_k")
        .replace("stopSequences", "stop_sequences");
    let snake: Value = serde_json::from_str(&snake).unwrap();
    assert_ne!(camel, snake);
    let (one, other) = (read(&camel), read(&snake));
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
    assert_eq!(one.0.tool_choice, Some(ToolChoice::Named("f".to_owned())));
    assert!(one.0.stream && one.0.stream_usage);
}

#[test]
fn results_find_their_calls_by_name_and_order() {
    let blocks = conversation(&json!([
        { "role": "model", "parts": [
            { "functionCall": { "name": "f", "args": { "n": 1 } } },
            { "functionCall": { "name": "g" } },
            { "functionCall": { "name": "f", "id": "own" } },
        ] },
        { "role": "function", "parts": [
            { "functionResponse": { "name": "g", "response": { "result": { "a": 1 } } } },
            { "functionResponse": { "name": "f", "response": { "error": "no" } } },
            { "functionResponse": { "name": "f", "id": "own", "response": { "a": 1, "b": 2 } } },
        ] },
    ]));
    let ids: Vec<_> = blocks
        .iter()
        .map(|block| match block {
            Block::ToolUse(call) => (call.id.as_str(), call.arguments.as_str()),
            Block::ToolResult(result) => {
                let [Block::Text { text, .. }] = result.blocks.as_slice() else { panic!() };
                assert_eq!(result.is_error, text == "no");
                (result.id.as_str(), text.as_str())
            }
            other => panic!("{other:?}"),
        })
        .collect();
    let wanted = [
        ("gm_0_0", r#"{"n":1}"#),
        ("gm_0_1", "{}"),
        ("own", "{}"),
        ("gm_0_1", r#"{"a":1}"#),
        ("gm_0_0", "no"),
        ("own", r#"{"a":1,"b":2}"#),
    ];
    assert_eq!(ids, wanted);
    let orphan = json!([{ "parts": [{ "functionResponse": { "name": "f", "response": {} } }] }]);
    assert!(matches!(refused(&json!({ "contents": orphan })), Invalid::Request { .. }));
}

#[test]
fn a_streamed_answer_kept_in_pieces_is_one_turn() {
    let (request, _) = read(&json!({ "contents": [
        { "role": "user", "parts": [{ "text": "a" }, { "text": "b" }] },
        { "role": "model", "parts": [{ "text": "hm", "thought": true }] },
        { "role": "model", "parts": [{ "text": "m", "thought": true }] },
        { "role": "model", "parts": [{ "text": "one ", "thoughtSignature": "c2ln" }] },
        { "role": "model", "parts": [{ "text": "two" }] },
        { "role": "model", "parts": [{ "text": "" }] },
        { "role": "user", "parts": [{ "text": "c" }] },
    ]}));
    let signature = Signature { dialect: Dialect::Gemini, data: "c2ln".to_owned() };
    let turns: Vec<_> = request.turns.into_iter().map(|turn| (turn.role, turn.blocks)).collect();
    let wanted = [
        (Role::User, vec![Block::text("a"), Block::text("b")]),
        (
            Role::Assistant,
            vec![
                Block::Thinking { text: "hmm".to_owned(), signature: Some(signature) },
                Block::text("one two"),
            ],
        ),
        (Role::User, vec![Block::text("c")]),
    ];
    assert_eq!(turns, wanted);
}

#[test]
fn signatures_of_others_come_back_as_theirs() {
    let signature = Signature { dialect: Dialect::Anthropic, data: "x".to_owned() };
    let response = crate::protocol::canonical::Response {
        blocks: vec![
            Block::Thinking { text: "hm".to_owned(), signature: Some(signature.clone()) },
            Block::RedactedThinking(signature.clone()),
            Block::Thinking { text: "m".to_owned(), signature: None },
            Block::ToolUse(ToolUse {
                id: "c".to_owned(),
                name: "f".to_owned(),
                namespace: None,
                kind: crate::protocol::canonical::ToolKind::Function,
                arguments: "{}".to_owned(),
                signature: Some(Signature { dialect: Dialect::Gemini, data: "Zw==".to_owned() }),
            }),
        ],
        ..Default::default()
    };
    let body = super::json(&crate::protocol::gemini::write_response(&response, &super::told()));
    let content = &body["candidates"][0]["content"];
    assert_eq!(conversation(&json!([content])), response.blocks);
}

#[test]
fn media_are_told_apart() {
    let blob = |kind: &str, data: &str| json!({ "inlineData": { "mimeType": kind, "data": data } });
    let file = |uri: &str| json!({ "fileData": { "fileUri": uri } });
    let blocks = conversation(&json!([{ "parts": [
        // In the alphabet for URLs, as the Python client sends it.
        { "inlineData": { "mimeType": "image/png", "data": "-_8" } },
        blob("audio/wav", "AA=="),
        blob("text/csv", "YSxi"),
        blob("application/pdf", "AA=="),
        file("gs://b/a.mp4"),
        file("https://www.youtube.com/watch?v=x"),
        file("https://a/b.PDF?x=1"),
    ] }]));
    let kinds: Vec<_> = blocks
        .iter()
        .map(|block| match block {
            Block::Image(image) => ("image", &image.source, image.media_type.as_deref().unwrap()),
            Block::Audio(audio) => ("audio", &audio.source, audio.media_type.as_str()),
            Block::Video(video) => ("video", &video.source, video.media_type.as_str()),
            Block::Document(document) => ("doc", &document.source, document.media_type.as_str()),
            other => panic!("{other:?}"),
        })
        .collect();
    let base64 = |data: &str| Source::Base64(data.to_owned());
    let wanted = [
        ("image", &base64("+/8="), "image/png"),
        ("audio", &base64("AA=="), "audio/wav"),
        ("doc", &Source::Text("a,b".to_owned()), "text/csv"),
        ("doc", &base64("AA=="), "application/pdf"),
        ("video", &Source::File("gs://b/a.mp4".to_owned()), "video/mp4"),
        ("video", &Source::Url("https://www.youtube.com/watch?v=x".to_owned()), "video/mp4"),
        ("doc", &Source::Url("https://a/b.PDF?x=1".to_owned()), "application/pdf"),
    ];
    assert_eq!(kinds, wanted);
}

#[test]
fn one_resolution_is_for_all_pictures() {
    let image = json!({ "inlineData": { "mimeType": "image/png", "data": "" } });
    let mut close = image.clone();
    close["mediaResolution"] = json!({ "level": "MEDIA_RESOLUTION_HIGH" });
    let body = json!({
        "contents": [{ "parts": [image, close] }],
        "generationConfig": { "mediaResolution": "MEDIA_RESOLUTION_LOW" },
    });
    let (request, _) = read(&body);
    let details = request.turns[0].blocks.iter().map(|block| match block {
        Block::Image(Image { detail, .. }) => detail.as_deref(),
        other => panic!("{other:?}"),
    });
    assert_eq!(details.collect::<Vec<_>>(), [Some("low"), Some("high")]);
}

#[test]
fn thinking_is_read_in_all_its_ways() {
    let read = |config: Value| {
        let (request, _) = read(&with("generationConfig", json!({ "thinkingConfig": config })));
        request.reasoning
    };
    let none = Reasoning::default();
    for (config, reasoning) in [
        (json!({}), none),
        (json!({ "thinkingBudget": 0 }), Reasoning { enabled: Some(false), ..none }),
        (json!({ "thinkingBudget": -1 }), Reasoning { enabled: Some(true), ..none }),
        (json!({ "thinkingBudget": 512 }), Reasoning { budget: Some(512), ..none }),
        (
            json!({ "thinkingLevel": "LOW", "includeThoughts": true }),
            Reasoning { effort: Some(Effort::Low), shown: Some(true), ..none },
        ),
        (json!({ "thinking_level": "THINKING_LEVEL_UNSPECIFIED" }), none),
    ] {
        assert_eq!(read(config.clone()), reasoning, "{config}");
    }
}

#[test]
fn formats_are_read_in_all_their_ways() {
    let format = |config: Value| read(&with("generationConfig", config)).0.format;
    assert!(matches!(format(json!({ "responseMimeType": "text/plain" })), Format::Text));
    let object = format(json!({ "responseMimeType": "application/json" }));
    assert!(matches!(object, Format::JsonObject));
    for (name, schema) in [
        ("responseSchema", json!({ "type": "OBJECT" })),
        ("responseJsonSchema", json!({ "type": "object" })),
        ("_responseJsonSchema", json!({ "type": "object" })),
    ] {
        let config = json!({ "responseMimeType": "application/json", name: schema });
        let Format::JsonSchema(schema) = format(config) else { panic!("{name}") };
        assert_eq!(schema.schema.get(), r#"{"type":"object"}"#);
    }
    let words =
        json!({ "responseMimeType": "text/x.enum", "responseSchema": { "type": "STRING" } });
    let (request, dropped) = read(&with("generationConfig", words));
    assert!(matches!(request.format, Format::Text));
    assert_eq!(dropped, ["generationConfig.responseMimeType"]);
}

#[test]
fn everything_else_that_is_said_is_named() {
    let mut body = with("safetySettings", json!([]));
    body["labels"] = json!({ "team": "a" });
    body["store"] = json!(false);
    body["frobnicate"] = json!(1);
    body["serviceTier"] = json!("flex");
    body["tools"] = json!([
        { "codeExecution": {} },
        { "functionDeclarations": [{ "name": "f", "response": {}, "behavior": "BLOCKING" }] },
    ]);
    body["toolConfig"] =
        json!({ "functionCallingConfig": { "mode": "VALIDATED" }, "retrievalConfig": {} });
    body["generationConfig"] = json!({
        "speechConfig": {}, "candidateCount": 2, "responseLogprobs": true, "logprobs": 3,
        "responseModalities": ["TEXT", "IMAGE"], "mediaResolution": "MEDIA_RESOLUTION_MEDIUM",
    });
    body["contents"][0]["parts"][0]["videoMetadata"] = json!({});
    let (request, dropped) = read(&body);
    let wanted = [
        "contents.parts.videoMetadata",
        "tools.codeExecution",
        "tools.functionDeclarations.response",
        "toolConfig.retrievalConfig",
        "toolConfig.functionCallingConfig.mode",
        "generationConfig.responseModalities",
        "generationConfig.mediaResolution",
        "generationConfig.speechConfig",
        "safetySettings",
        "frobnicate",
    ];
    assert_eq!(dropped, wanted);
    assert_eq!((request.candidates, request.logprobs), (Some(2), Some(3)));
    assert_eq!(request.metadata, [("team".to_owned(), "a".to_owned())]);
    assert_eq!(request.service_tier.as_deref(), Some("flex"));
    let mut strict = Losses::new(Dialect::Gemini, Translation::Strict);
    read_with(&body, &mut strict).unwrap_err();
}

#[test]
fn what_would_falsify_the_conversation_is_refused() {
    let part = |part: Value| json!({ "contents": [{ "role": "model", "parts": [part] }] });
    for body in [
        part(json!({ "executableCode": { "code": "1" } })),
        part(json!({ "codeExecutionResult": {} })),
        part(json!({ "frobnicated": {} })),
        part(json!({})),
        with("cachedContent", json!("cachedContents/x")),
        with("generationConfig", json!({ "responseModalities": ["AUDIO"] })),
        with("generationConfig", json!({ "responseModalities": ["IMAGE"] })),
        with("systemInstruction", json!({ "parts": [{ "inlineData": {} }] })),
    ] {
        let refused = refused(&body);
        assert!(matches!(refused, Invalid::Unsupported { .. }), "{body}: {refused}");
    }
}

#[test]
fn what_is_malformed_is_named() {
    for (body, place) in [
        (json!([]), ""),
        (json!({}), "contents"),
        (json!({ "contents": [{ "role": "assistant", "parts": [] }] }), "contents.role"),
        (json!({ "contents": [{ "parts": [{ "text": 1 }] }] }), "contents.parts.text"),
        (with("generationConfig", json!({ "topK": "x" })), "generationConfig.topK"),
        (
            with("generationConfig", json!({ "maxOutputTokens": -1 })),
            "generationConfig.maxOutputTokens",
        ),
        (
            with("tools", json!([{ "functionDeclarations": [{}] }])),
            "tools.functionDeclarations.name",
        ),
        (
            with("toolConfig", json!({ "functionCallingConfig": { "mode": "SOME" } })),
            "toolConfig.functionCallingConfig.mode",
        ),
        (with("labels", json!({ "a": 1 })), "labels"),
        (
            json!({ "contents": [{ "parts": [{ "functionCall": { "name": "f" } }] }] }),
            "contents.parts.functionCall",
        ),
        (
            json!({ "contents": [{ "parts": [{ "fileData": { "fileUri": "https://a/b" } }] }] }),
            "contents.parts.fileData.mimeType",
        ),
    ] {
        let Invalid::Request { param, .. } = refused(&body) else { panic!("{body}") };
        assert_eq!(param, place, "{body}");
    }
}
