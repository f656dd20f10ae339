//! Single members of a request, read and written.

use serde_json::json;

use super::{read, write, write_for};
use crate::config::{Dialect, Kind, Translation};
use crate::protocol::canonical::{
    Asked, Block, CacheMark, Document, Effort, Fate, Field, Format, Image, Invalid, Losses, Media,
    Reasoning, Request, Role, Signature, Source, Tool, ToolChoice, ToolKind, ToolResult, ToolUse,
    Turn,
};
use crate::protocol::openai_responses::{fate, read_request};

fn user(blocks: Vec<Block>) -> Turn {
    Turn { role: Role::User, blocks }
}

fn asking(text: &str) -> Request {
    Request {
        model: "m".to_owned(),
        turns: vec![user(vec![Block::text(text)])],
        ..Request::default()
    }
}

fn function(name: &str) -> Tool {
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

#[test]
fn a_text_is_a_turn_of_the_users() {
    let (request, dropped) = read(r#"{"model":"m","input":"hi","instructions":""}"#).unwrap();
    assert_eq!(request.turns, [user(vec![Block::text("hi")])]);
    assert!(request.system.is_empty() && dropped.is_empty());
    assert!(request.stream_usage && !request.stream);
}

#[test]
fn every_parameter_has_its_place() {
    let (request, dropped) = read(
        r#"{"model":"m","input":"x","instructions":"Be brief.","max_output_tokens":100,"temperature":1.4,
        "top_p":0.9,"top_logprobs":2,"parallel_tool_calls":false,"stream":true,"prompt_cache_key":"k",
        "user":"u","metadata":{"b":"1","a":"2"},"service_tier":"flex","store":true,"truncation":"disabled",
        "text":{"format":{"type":"json_schema","name":"n","strict":true,"schema":{"type":"object","maximum":1.0}},
        "verbosity":"low"},"reasoning":{"effort":"high","summary":"auto"},"background":false,
        "include":["reasoning.encrypted_content"],"stream_options":{"include_obfuscation":false}}"#,
    )
    .unwrap();
    assert!(dropped.is_empty(), "{dropped:?}");
    assert_eq!(request.system, [Block::text("Be brief.")]);
    assert_eq!((request.max_output, request.temperature), (Some(100), Some(1.4)));
    assert_eq!((request.top_p, request.logprobs), (Some(0.9), Some(2)));
    assert_eq!((request.parallel_tools, request.stream), (Some(false), true));
    assert_eq!((request.cache_key.as_deref(), request.user.as_deref()), (Some("k"), Some("u")));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(request.metadata, [pair("b", "1"), pair("a", "2")]);
    assert_eq!(request.service_tier.as_deref(), Some("flex"));
    assert_eq!(request.verbosity.as_deref(), Some("low"));
    let shown = Some(true);
    let high = Reasoning { effort: Some(Effort::High), shown, ..Reasoning::default() };
    assert_eq!(request.reasoning, high);
    let Format::JsonSchema(schema) = request.format else { panic!("no schema") };
    assert_eq!(schema.schema.get(), r#"{"type":"object","maximum":1.0}"#);
}

#[test]
fn what_has_no_place_is_named() {
    let (_, dropped) = read(
        r#"{"model":"m","input":[{"role":"user","content":[{"type":"input_text","text":"x","new":1}],"id":"1"},
        {"type":"message","role":"assistant","content":"y","phase":"commentary","status":"completed"}],
        "max_tool_calls":3,"truncation":"auto","text":{"new":1},"reasoning":{"context":"all_turns"},
        "user":"u","safety_identifier":"s","include":["web_search_call.action.sources"],
        "stream_options":{"include_obfuscation":true},"moderation":{"model":"m"},"prompt_cache_options":null}"#,
    )
    .unwrap();
    assert_eq!(
        dropped,
        [
            "input.content.new",
            "input.phase",
            "include",
            "text.new",
            "reasoning.context",
            "truncation",
            "stream_options.include_obfuscation",
            "max_tool_calls",
            "safety_identifier",
            "moderation",
        ]
    );
}

#[test]
fn what_lies_elsewhere_is_refused_whatever_the_setting() {
    for (member, param) in [
        (r#""previous_response_id":"resp_1""#, "previous_response_id"),
        (r#""conversation":{"id":"conv_1"}"#, "conversation"),
        (r#""prompt":{"id":"pmpt_1"}"#, "prompt"),
        (r#""background":true"#, "background"),
        (r#""input":[{"type":"item_reference","id":"msg_1"}]"#, "input.type"),
        (r#""input":[{"type":"compaction","encrypted_content":"x"}]"#, "input.type"),
        (r#""input":[{"type":"computer_call","call_id":"x"}]"#, "input.type"),
        (r#""input":[{"role":"user","content":[{"type":"hologram"}]}]"#, "input.content.type"),
        (r#""text":{"format":{"type":"yaml"}}"#, "text.format.type"),
    ] {
        let refused = read(&format!(r#"{{"model":"m","input":"x",{member}}}"#)).unwrap_err();
        let Invalid::Unsupported { param: named, .. } = refused else {
            panic!("{member}: {refused}")
        };
        assert_eq!(named, param);
    }
}

#[test]
fn a_malformed_request_is_told_what_is_wrong() {
    for (body, message) in [
        ("[]", "`body` must be an object"),
        (r#"{"input":"x"}"#, "`model` is missing"),
        (r#"{"model":"m"}"#, "`input` is missing"),
        (r#"{"model":"m","input":7}"#, "`input` must be a string or an array of items"),
        (r#"{"model":"m","input":["x"]}"#, "`input` must be an object"),
        (r#"{"model":"m","input":"x","temperature":"hot"}"#, "`temperature` must be a number"),
        (
            r#"{"model":"m","input":"x","reasoning":{"effort":1}}"#,
            "`reasoning.effort` must be a string",
        ),
        (
            r#"{"model":"m","input":"x","metadata":{"a":1}}"#,
            "`metadata` must be an object of strings",
        ),
        (
            r#"{"model":"m","input":[{"role":"user"}]}"#,
            "`input.content` must be a string or an array",
        ),
        (
            r#"{"model":"m","input":[{"role":"tool","content":"x"}]}"#,
            "`input.role` must be user, assistant, system or developer",
        ),
        (
            r#"{"model":"m","input":[{"type":"function_call_output","output":"x"}]}"#,
            "`input.call_id` is missing",
        ),
        (r#"{"model":"m","input":"x","tools":[{"type":"function"}]}"#, "`tools.name` is missing"),
        (
            r#"{"model":"m","input":"x","tools":[{"type":"function","name":"f","parameters":[]}]}"#,
            "`tools.parameters` must be an object",
        ),
        (
            r#"{"model":"m","input":"x","tool_choice":{"type":"function","name":"g"}}"#,
            "`tool_choice` names `g`, which is not in `tools`",
        ),
        (r#"{"model":"m","input":"x","tool_choice":"required"}"#, "`tool_choice` requires `tools`"),
    ] {
        let refused = read(body).unwrap_err();
        assert!(matches!(refused, Invalid::Request { .. }), "{body}");
        assert_eq!(refused.to_string(), message, "{body}");
    }
}

#[test]
fn strict_refuses_what_would_be_dropped() {
    let mut losses = Losses::new(Dialect::OpenaiResponses, Translation::Strict);
    let body = br#"{"model":"m","input":"x","truncation":"auto"}"#;
    let refused = read_request(body, &Asked::default(), &mut losses).unwrap_err();
    assert!(matches!(refused, Invalid::Unsupported { ref param, .. } if param == "truncation"));
}

#[test]
fn images_files_and_sounds_are_read() {
    let (request, dropped) = read(
        r#"{"model":"m","input":[{"role":"user","content":[
        {"type":"input_image","image_url":"data:image/PNG;base64,aGk=","detail":"auto"},
        {"type":"input_image","image_url":"https://x.y/z.png","detail":"high",
         "prompt_cache_breakpoint":{"mode":"explicit","ttl":"12h"}},
        {"type":"input_file","filename":"a.csv","file_data":"data:text/csv;base64,aGk="},
        {"type":"input_file","file_url":"https://x.y/a.docx?v=1"},
        {"type":"input_file","file_id":"file-1"},
        {"type":"input_audio","input_audio":{"data":"aGk=","format":"wav"}}]}]}"#,
    )
    .unwrap();
    assert!(dropped.is_empty(), "{dropped:?}");
    let base64 = || Source::Base64("aGk=".to_owned());
    let document = |source, media_type: &str, name: Option<&str>| {
        let (media_type, name) = (media_type.to_owned(), name.map(str::to_owned));
        Block::Document(Document { source, media_type, name })
    };
    let docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
    assert_eq!(
        request.turns[0].blocks,
        [
            Block::Image(Image {
                source: base64(),
                media_type: Some("image/png".to_owned()),
                detail: None
            }),
            Block::Image(Image {
                source: Source::Url("https://x.y/z.png".to_owned()),
                media_type: None,
                detail: Some("high".to_owned())
            }),
            Block::Cache(CacheMark::Long),
            document(base64(), "text/csv", Some("a.csv")),
            document(Source::Url("https://x.y/a.docx?v=1".to_owned()), docx, None),
            document(Source::File("file-1".to_owned()), "application/pdf", None),
            Block::Audio(Media { source: base64(), media_type: "audio/wav".to_owned() }),
        ]
    );
}

#[test]
fn hosted_tools_are_named_and_kept_out() {
    let tools =
        r#""tools":[{"type":"web_search"},{"type":"function","name":"f"},{"type":"local_shell"}]"#;
    let body =
        |choice: &str| format!(r#"{{"model":"m","input":"x",{tools},"tool_choice":{choice}}}"#);
    let (request, dropped) = read(&body(r#""auto""#)).unwrap();
    assert_eq!(request.tools.len(), 1);
    assert_eq!(dropped, ["tools.web_search", "tools.local_shell"]);
    for choice in [
        r#"{"type":"web_search"}"#,
        r#"{"type":"allowed_tools","mode":"required","tools":[{"type":"web_search"}]}"#,
        r#"{"type":"mcp","server_label":"x"}"#,
    ] {
        let refused = read(&body(choice)).unwrap_err();
        assert!(
            matches!(refused, Invalid::Unsupported { ref param, .. } if param == "tool_choice")
        );
    }
    let only =
        r#"{"model":"m","input":"x","tools":[{"type":"web_search"}],"tool_choice":"required"}"#;
    assert!(matches!(read(only), Err(Invalid::Unsupported { .. })));
    let only = r#"{"model":"m","input":"x","tools":[{"type":"web_search"}],"tool_choice":"auto"}"#;
    assert_eq!(read(only).unwrap().0.tool_choice, None);
}

#[test]
fn a_choice_among_several_is_read() {
    let (request, dropped) = read(
        r#"{"model":"m","input":"x","tools":[{"type":"function","name":"f"},{"type":"custom","name":"g"}],
        "tool_choice":{"type":"allowed_tools","mode":"auto","tools":[{"type":"function","name":"f"},
        {"type":"custom","name":"g"},{"type":"web_search"}]}}"#,
    )
    .unwrap();
    let names = vec!["f".to_owned(), "g".to_owned()];
    assert_eq!(request.tool_choice, Some(ToolChoice::Among { names, required: false }));
    assert_eq!(dropped, ["tool_choice.tools.web_search"]);
}

#[test]
fn a_request_is_written_with_what_the_api_knows() {
    let mut request = asking("hi");
    request.system = vec![Block::text("A"), Block::text("B")];
    request.max_output = Some(4);
    request.stop = vec!["x".to_owned()];
    request.top_k = Some(5);
    request.seed = Some(-3);
    request.candidates = Some(2);
    request.user = Some("u".repeat(65));
    request.cache_key = Some("k".to_owned());
    request.service_tier = Some("standard_only".to_owned());
    request.metadata = (0..20).map(|n| (format!("k{n}"), "v".to_owned())).collect();
    request.reasoning = Reasoning { budget: Some(4096), shown: Some(true), ..Reasoning::default() };
    request.verbosity = Some("low".to_owned());
    request.format = Format::JsonObject;
    request.stream = true;
    let (mut body, dropped) = write(&request, Kind::Openai).unwrap();
    assert_eq!(dropped, ["top_k", "seed", "stop", "n", "metadata"]);
    let user = body["user"].take();
    assert_eq!(user.as_str().map(str::len), Some(64));
    assert_eq!(body["metadata"].take().as_object().map(serde_json::Map::len), Some(16));
    assert_eq!(
        body,
        json!({
            "model": "gpt-5", "instructions": "A\n\nB",
            "input": [{"type": "message", "role": "user", "content": "hi"}],
            "max_output_tokens": 16, "text": {"format": {"type": "json_object"}, "verbosity": "low"},
            "reasoning": {"effort": "medium", "summary": "auto"},
            "include": ["reasoning.encrypted_content"], "prompt_cache_key": "k", "user": null,
            "metadata": null, "service_tier": "default", "store": false, "stream": true
        })
    );
    let (body, dropped) = write(&request, Kind::Vllm).unwrap();
    assert_eq!(dropped, ["n", "metadata"]);
    assert_eq!(
        (&body["top_k"], &body["seed"], &body["stop"]),
        (&json!(5), &json!(-3), &json!(["x"]))
    );
    assert_eq!(body["max_output_tokens"], 4);
    assert_eq!(body["reasoning"], json!({"effort": "medium"}));
    assert_eq!(body.get("include"), None);
}

#[test]
fn a_model_that_does_not_think_is_not_told_how_hard_to() {
    let mut request = asking("hi");
    request.reasoning.effort = Some(Effort::High);
    let (body, dropped) = write_for(&request, Kind::Openai, "gpt-4o").unwrap();
    assert_eq!(dropped, ["reasoning_effort"]);
    assert_eq!((body.get("reasoning"), body.get("include")), (None, None));
    request.reasoning = Reasoning { enabled: Some(false), ..Reasoning::default() };
    assert!(write_for(&request, Kind::Openai, "gpt-4o").unwrap().1.is_empty());
}

#[test]
fn a_model_that_takes_no_temperature_gets_none() {
    let mut request = asking("hi");
    (request.temperature, request.top_p) = (Some(0.5), Some(1.0));
    let (body, dropped) = write(&request, Kind::Openai).unwrap();
    assert_eq!(dropped, ["temperature"]);
    assert_eq!((body.get("temperature"), body.get("top_p")), (None, None));
    let (body, dropped) = write(&request, Kind::Vllm).unwrap();
    assert!(dropped.is_empty());
    assert_eq!((&body["temperature"], &body["top_p"]), (&json!(0.5), &json!(1.0)));
}

#[test]
fn tools_are_written_flat_and_not_strict_unless_they_are() {
    let mut strict = function("g");
    strict.strict = Some(true);
    let mut custom = function("sql");
    custom.kind = ToolKind::Custom;
    let nested = r#"{"type":"grammar","grammar":{"definition":"x+","syntax":"regex"}}"#;
    custom.grammar = serde_json::value::RawValue::from_string(nested.to_owned()).ok();
    let mut request = asking("hi");
    request.tools = vec![function("f"), strict, custom];
    request.tool_choice = Some(ToolChoice::Named("sql".to_owned()));
    request.parallel_tools = Some(false);
    let (body, _) = write(&request, Kind::Openai).unwrap();
    let empty = json!({"type": "object", "properties": {}});
    let closed = json!({"type": "object", "properties": {}, "additionalProperties": false});
    assert_eq!(
        body["tools"],
        json!([
            {"type": "function", "name": "f", "parameters": empty, "strict": false},
            {"type": "function", "name": "g", "parameters": closed, "strict": true},
            {"type": "custom", "name": "sql",
             "format": {"type": "grammar", "syntax": "regex", "definition": "x+"}}
        ])
    );
    assert_eq!(body["tool_choice"], json!({"type": "custom", "name": "sql"}));
    assert_eq!(body["parallel_tool_calls"], false);
    let names = vec!["g".to_owned()];
    request.tool_choice = Some(ToolChoice::Among { names, required: true });
    let (body, _) = write(&request, Kind::Openai).unwrap();
    assert_eq!(
        body["tool_choice"],
        json!({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]})
    );
    let (body, _) = write(&request, Kind::Vllm).unwrap();
    assert_eq!(
        (body["tools"].as_array().map(Vec::len), &body["tool_choice"]),
        (Some(1), &json!("required"))
    );
    request.tools.clear();
    let (body, _) = write(&request, Kind::Vllm).unwrap();
    assert_eq!(
        (body.get("tools"), body.get("tool_choice"), body.get("parallel_tool_calls")),
        (None, None, None)
    );
}

#[test]
fn reasoning_goes_to_whom_can_read_it() {
    let signed = |dialect| Some(Signature { dialect, data: "seal".to_owned() });
    let thinking = |signature| Block::Thinking { text: "hm".to_owned(), signature };
    let mut request = asking("hi");
    let own = vec![thinking(signed(Dialect::OpenaiResponses)), Block::text("ho")];
    request.turns.push(Turn { role: Role::Assistant, blocks: own });
    request.turns.push(user(vec![Block::text("on")]));
    let (body, dropped) = write(&request, Kind::Openai).unwrap();
    assert!(dropped.is_empty());
    assert_eq!(
        body["input"][1],
        json!({"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "seal"})
    );
    assert_eq!(body["input"][2], json!({"type": "message", "role": "assistant", "content": "ho"}));
    let (body, _) = write(&request, Kind::Vllm).unwrap();
    assert_eq!(
        body["input"][1],
        json!({"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]})
    );
    // Another's.
    request.turns[1].blocks[0] = thinking(signed(Dialect::Anthropic));
    let (body, dropped) = write(&request, Kind::Openai).unwrap();
    assert_eq!(dropped, ["reasoning_content"]);
    assert!(!body.to_string().contains("seal"));
    request.turns[1].blocks[0] = Block::RedactedThinking(signed(Dialect::Anthropic).unwrap());
    let (body, dropped) = write(&request, Kind::Openai).unwrap();
    assert_eq!(dropped, ["reasoning_details"]);
    assert_eq!(body["input"].as_array().map(Vec::len), Some(3));
}

#[test]
fn what_tools_gave_is_written_with_its_images_and_errors() {
    let call = |id: &str, kind| {
        Block::ToolUse(ToolUse {
            id: id.to_owned(),
            name: "f".to_owned(),
            namespace: None,
            kind,
            arguments: String::new(),
            signature: None,
        })
    };
    let result = |id: &str, blocks, is_error| {
        Block::ToolResult(ToolResult { id: id.to_owned(), name: None, blocks, is_error })
    };
    let image = Block::Image(Image {
        source: Source::Base64("aGk=".to_owned()),
        media_type: Some("image/png".to_owned()),
        detail: None,
    });
    let long = "x".repeat(70);
    let mut request = asking("hi");
    let calls = vec![
        call("a", ToolKind::Function),
        call("b", ToolKind::Custom),
        call(&long, ToolKind::Function),
    ];
    request.turns.push(Turn { role: Role::Assistant, blocks: calls });
    request.turns.push(user(vec![
        result("b", vec![Block::text("no")], true),
        result("a", vec![Block::text("see"), image], false),
        result(&long, Vec::new(), false),
        Block::text("go on"),
    ]));
    let (body, _) = write(&request, Kind::Openai).unwrap();
    let input = body["input"].as_array().unwrap();
    assert_eq!(
        input[1],
        json!({"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"})
    );
    assert_eq!(
        input[2],
        json!({"type": "custom_tool_call", "call_id": "b", "name": "f", "input": ""})
    );
    assert_eq!(
        input[4],
        json!({"type": "function_call_output", "call_id": "a", "output": [
            {"type": "input_text", "text": "see"},
            {"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "auto"}]})
    );
    assert_eq!(
        input[5],
        json!({"type": "custom_tool_call_output", "call_id": "b", "output": "Error: no"})
    );
    assert_eq!((&input[6]["output"], &input[6]["call_id"]), (&json!(""), &input[3]["call_id"]));
    assert!(input[3]["call_id"].as_str().unwrap().len() <= 64);
    assert_eq!(input[7], json!({"type": "message", "role": "user", "content": "go on"}));
}

#[test]
fn files_are_written_by_their_contents_or_refused() {
    let document = |source, media_type: &str, name: Option<&str>| {
        let (media_type, name) = (media_type.to_owned(), name.map(str::to_owned));
        Block::Document(Document { source, media_type, name })
    };
    let base64 = || Source::Base64("aGk=".to_owned());
    let mut request = asking("hi");
    request.turns[0].blocks.extend([
        document(base64(), "application/pdf", Some("Paper")),
        document(Source::Text("words".to_owned()), "text/plain", None),
        document(Source::Url("https://x.y/z.pdf".to_owned()), "application/pdf", None),
        Block::Audio(Media { source: base64(), media_type: "audio/mpeg".to_owned() }),
        Block::Cache(CacheMark::Short),
    ]);
    let (body, dropped) = write(&request, Kind::Openai).unwrap();
    assert_eq!(dropped, ["prompt_cache_breakpoint"]);
    assert_eq!(
        body["input"][0]["content"],
        json!([
            {"type": "input_text", "text": "hi"},
            {"type": "input_file", "filename": "Paper.pdf", "file_data": "data:application/pdf;base64,aGk="},
            {"type": "input_text", "text": "words"},
            {"type": "input_file", "file_url": "https://x.y/z.pdf"},
            {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}}
        ])
    );
    for refused in [
        document(Source::File("file-1".to_owned()), "application/pdf", None),
        Block::Video(Media { source: base64(), media_type: "video/mp4".to_owned() }),
        Block::Audio(Media { source: base64(), media_type: "audio/flac".to_owned() }),
    ] {
        let mut request = asking("hi");
        request.turns[0].blocks.push(refused);
        assert!(matches!(write(&request, Kind::Openai), Err(Invalid::Unsupported { .. })));
    }
}

#[test]
fn instructions_inside_have_the_role_the_model_knows() {
    let mut request = asking("hi");
    request.turns.push(Turn { role: Role::System, blocks: vec![Block::text("Now in French.")] });
    let role = |kind| write(&request, kind).unwrap().0["input"][1]["role"].clone();
    assert_eq!(role(Kind::Openai), "developer");
    assert_eq!(role(Kind::Vllm), "system");
}

#[test]
fn content_is_refused_and_parameters_are_not() {
    for field in Field::ALL {
        if let Fate::Refused(_) = fate(*field) {
            assert!(matches!(field, Field::Video | Field::FileId), "{field:?}");
        }
    }
}
