//! Requests as Bedrock takes them.

use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::call;
use crate::config::{Dialect, Kind, Translation};
use crate::protocol::bedrock::{fate, read_request, write_request};
use crate::protocol::canonical::{
    Asked, Block, CacheMark, Document, Effort, Fate, Field, Format, Image, Invalid, Losses, Media,
    Reasoning, Request, Role, Rules, Schema, Signature, Source, Target, Tool, ToolChoice, ToolKind,
    ToolResult, Turn,
};

const CLAUDE: &str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
const CLAUDE_4: &str = "us.anthropic.claude-sonnet-4-20250514-v1:0";
const OPUS_4_6: &str = "us.anthropic.claude-opus-4-6-v1:0";
const OPUS_4_7: &str = "us.anthropic.claude-opus-4-7-v1:0";
const NOVA: &str = "us.amazon.nova-pro-v1:0";
const NOVA_2: &str = "us.amazon.nova-2-lite-v1:0";
const GPT_OSS: &str = "openai.gpt-oss-120b-1:0";

fn losses() -> Losses {
    Losses::new(Dialect::Bedrock, Translation::Lenient)
}

/// What is written, and what was lost, in Converse's words.
fn write(request: &Request, model: &str) -> Result<(Value, Vec<String>), Invalid> {
    let rules = Rules::of(Dialect::Bedrock, Kind::Bedrock, model);
    let mut losses = losses();
    let body = write_request(request, &Target { model, rules: &rules }, &mut losses)?;
    Ok((serde_json::from_slice(&body).unwrap(), losses.dropped().to_vec()))
}

fn written(request: &Request, model: &str) -> Value {
    let (body, lost) = write(request, model).unwrap();
    assert_eq!(lost, [] as [&str; 0]);
    body
}

fn refused(request: &Request) -> Invalid {
    write(request, CLAUDE).unwrap_err()
}

fn read(body: &Value) -> Result<(Request, Vec<String>), Invalid> {
    let mut losses = losses();
    let asked = Asked { model: Some("m"), stream: true };
    let request = read_request(body.to_string().as_bytes(), &asked, &mut losses)?;
    Ok((request, losses.dropped().to_vec()))
}

fn user(blocks: Vec<Block>) -> Turn {
    Turn { role: Role::User, blocks }
}

fn assistant(blocks: Vec<Block>) -> Turn {
    Turn { role: Role::Assistant, blocks }
}

fn asking(blocks: Vec<Block>) -> Request {
    Request { turns: vec![user(blocks)], ..Request::default() }
}

fn hi() -> Request {
    asking(vec![Block::text("hi")])
}

fn result(id: &str, text: &str) -> Block {
    let blocks = if text.is_empty() { vec![] } else { vec![Block::text(text)] };
    Block::ToolResult(ToolResult { id: id.to_owned(), name: None, blocks, is_error: false })
}

fn tool(name: &str, schema: Option<&str>) -> Tool {
    Tool {
        name: name.to_owned(),
        namespace: None,
        description: Some("d".to_owned()),
        kind: ToolKind::Function,
        schema: schema.map(|text| RawValue::from_string(text.to_owned()).unwrap()),
        strict: None,
        grammar: None,
        cache: None,
    }
}

const CITY: &str = r#"{"type":"object","properties":{"c":{"type":"string"}},"required":["c"],"additionalProperties":false}"#;

fn effort(effort: Effort) -> Reasoning {
    Reasoning { effort: Some(effort), ..Reasoning::default() }
}

#[test]
fn a_whole_conversation_becomes_what_converse_takes() {
    let request = Request {
        system: vec![Block::text("Be brief.")],
        turns: vec![
            user(vec![Block::text("Weather in Paris and Rome?")]),
            assistant(vec![
                call("call_1", "w", r#"{"c":"Paris"}"#),
                call("call_2", "w", r#"{"c":"Rome"}"#),
            ]),
            user(vec![result("call_2", "21")]),
            user(vec![result("call_1", "18"), Block::text("Summarise.")]),
        ],
        tools: vec![tool("w", Some(CITY))],
        parallel_tools: Some(false),
        temperature: Some(1.4),
        max_output: Some(100),
        stop: vec!["END".to_owned()],
        ..Request::default()
    };
    let result = |id: &str, text: &str| {
        json!({ "toolResult":
            { "toolUseId": id, "content": [{ "text": text }], "status": "success" } })
    };
    let call = |id: &str, city: &str| json!({ "toolUse": { "toolUseId": id, "name": "w", "input": { "c": city } } });
    let schema: Value = serde_json::from_str(CITY).unwrap();
    let wanted = json!({
        "system": [{ "text": "Be brief." }],
        "messages": [
            { "role": "user", "content": [{ "text": "Weather in Paris and Rome?" }] },
            { "role": "assistant", "content": [call("call_1", "Paris"), call("call_2", "Rome")] },
            { "role": "user", "content":
                [result("call_1", "18"), result("call_2", "21"), { "text": "Summarise." }] },
        ],
        "inferenceConfig": { "maxTokens": 100, "temperature": 1.0, "stopSequences": ["END"] },
        "toolConfig": { "tools": [{ "toolSpec":
            { "name": "w", "description": "d", "inputSchema": { "json": schema } } }] },
        "additionalModelRequestFields":
            { "tool_choice": { "type": "auto", "disable_parallel_tool_use": true } },
        "additionalModelResponseFieldPaths": ["/stop_sequence"],
    });
    assert_eq!(written(&request, CLAUDE), wanted);
}

#[test]
fn text_stands_before_calls_and_blank_text_nowhere() {
    let request = Request {
        turns: vec![
            user(vec![Block::text(" "), Block::text("hi")]),
            assistant(vec![call("c", "f", "{}"), Block::text("I look."), Block::text("\n")]),
            user(vec![result("c", ""), Block::text("")]),
        ],
        system: vec![Block::text(" ")],
        tools: vec![tool("f", None)],
        ..Request::default()
    };
    let body = written(&request, CLAUDE);
    assert_eq!(body["system"], Value::Null);
    assert_eq!(body["messages"][0]["content"], json!([{ "text": "hi" }]));
    let kinds = |turn: usize| {
        let content = body["messages"][turn]["content"].as_array().unwrap().iter();
        content.map(|it| it.as_object().unwrap().keys().next().unwrap().clone()).collect::<Vec<_>>()
    };
    assert_eq!(kinds(1), ["text", "toolUse"]);
    assert_eq!(kinds(2), ["toolResult"]);
    assert_eq!(
        body["messages"][2]["content"][0]["toolResult"]["content"],
        json!([{ "text": "." }])
    );
}

#[test]
fn a_history_with_calls_has_tools_even_where_the_caller_names_none() {
    let mut request = Request {
        turns: vec![
            user(vec![Block::text("hi")]),
            assistant(vec![call("c", "f", "{}"), call("d", "f", "{}"), call("e", "g", "{}")]),
            user(vec![result("c", "1"), result("d", "2"), result("e", "3")]),
        ],
        ..Request::default()
    };
    let stub = |name: &str| json!({ "toolSpec": { "name": name, "inputSchema": { "json": { "type": "object" } } } });
    let wanted = json!({ "tools": [stub("f"), stub("g")] });
    assert_eq!(written(&request, CLAUDE)["toolConfig"], wanted);
    // The tools stay, and that they may not be called cannot be said.
    request.tools = vec![tool("f", Some(CITY))];
    request.tool_choice = Some(ToolChoice::None);
    let (body, lost) = write(&request, CLAUDE).unwrap();
    assert_eq!(body["toolConfig"]["tools"].as_array().unwrap().len(), 1);
    assert_eq!(body["toolConfig"]["toolChoice"], Value::Null);
    assert_eq!(lost, ["toolConfig.toolChoice"]);
}

#[test]
fn tools_that_may_not_be_called_are_left_out() {
    let tools = vec![tool("f", Some(CITY))];
    let request = Request { tools, tool_choice: Some(ToolChoice::None), ..hi() };
    assert_eq!(written(&request, CLAUDE)["toolConfig"], Value::Null);
}

#[test]
fn a_choice_of_tools_is_said() {
    let names = vec!["g".to_owned()];
    let among = |required| ToolChoice::Among { names: names.clone(), required };
    for (choice, wanted, tools) in [
        (ToolChoice::Auto, json!({ "auto": {} }), 2),
        (ToolChoice::Required, json!({ "any": {} }), 2),
        (ToolChoice::Named("f".to_owned()), json!({ "tool": { "name": "f" } }), 2),
        (among(false), json!({ "auto": {} }), 1),
        (among(true), json!({ "any": {} }), 1),
    ] {
        let tools_of = vec![tool("f", Some(CITY)), tool("g", None)];
        let request = Request { tools: tools_of, tool_choice: Some(choice), ..hi() };
        let config = &written(&request, CLAUDE)["toolConfig"];
        assert_eq!(config["toolChoice"], wanted);
        assert_eq!(config["tools"].as_array().unwrap().len(), tools);
    }
}

#[test]
fn one_tool_at_a_time_is_said_in_two_shapes_and_to_claude_alone() {
    let tools = || vec![tool("f", Some(CITY)), tool("g", None)];
    let mut request = Request { tools: tools(), parallel_tools: Some(false), ..hi() };
    let field = |request: &Request| {
        written(request, CLAUDE)["additionalModelRequestFields"]["tool_choice"].clone()
    };
    assert_eq!(field(&request), json!({ "type": "auto", "disable_parallel_tool_use": true }));
    request.tool_choice = Some(ToolChoice::Required);
    assert_eq!(field(&request), json!({ "disable_parallel_tool_use": true }));
    assert_eq!(write(&request, NOVA).unwrap().1, ["parallel_tool_calls"]);
    request.tool_choice = Some(ToolChoice::Named("f".to_owned()));
    assert_eq!(write(&request, NOVA).unwrap().1, [] as [&str; 0]);
    request.tools.clear();
    assert_eq!(field(&request), Value::Null);
}

#[test]
fn a_schemas_root_is_an_object_and_nova_gets_no_more_than_it_takes() {
    let schema = |text: Option<&str>, model: &str| {
        let request = Request { tools: vec![tool("f", text)], ..hi() };
        written(&request, model)["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"]
            .clone()
    };
    let empty = json!({ "type": "object", "properties": {} });
    assert_eq!(schema(None, CLAUDE), empty);
    assert_eq!(schema(Some("true"), CLAUDE), empty);
    assert_eq!(schema(Some("{ }"), CLAUDE), json!({ "type": "object" }));
    let typed = json!({ "type": "object", "properties": { "a": {} } });
    assert_eq!(schema(Some(r#"{"properties":{"a":{}}}"#), CLAUDE), typed);
    let text = r##"{"$schema":"x","title":"t","type":"object","properties":{"a":{"$ref":"#/$defs/A"}},
        "required":["a"],"additionalProperties":false,"$defs":{"A":{}}}"##;
    assert_eq!(schema(Some(text), CLAUDE), serde_json::from_str::<Value>(text).unwrap());
    let members = schema(Some(text), NOVA);
    let members: Vec<_> = members.as_object().unwrap().keys().collect();
    assert_eq!(members, ["type", "properties", "required", "$defs"]);
}

#[test]
fn a_description_of_nothing_is_left_out() {
    let mut blank = tool("f", None);
    blank.description = Some(" ".to_owned());
    let request = Request { tools: vec![blank], ..hi() };
    let spec = &written(&request, CLAUDE)["toolConfig"]["tools"][0]["toolSpec"];
    assert_eq!(spec["description"], Value::Null);
}

#[test]
fn images_are_sent_as_bytes_and_addresses_are_refused() {
    let image = |source, media_type: Option<&str>| {
        let media_type = media_type.map(str::to_owned);
        asking(vec![Block::Image(Image { source, media_type, detail: None })])
    };
    let bytes = || Source::Base64("iVBORw0KGgo=".to_owned());
    for media_type in [Some("image/png"), None] {
        let body = written(&image(bytes(), media_type), CLAUDE);
        let wanted = json!({ "image": { "format": "png", "source": { "bytes": "iVBORw0KGgo=" } } });
        assert_eq!(body["messages"][0]["content"], json!([wanted]));
    }
    let of_url = refused(&image(Source::Url("https://a.example/b.png".to_owned()), None));
    assert!(matches!(of_url, Invalid::Unsupported { ref why, .. } if why.contains("not fetched")));
    let of_file = refused(&image(Source::File("file-1".to_owned()), Some("image/png")));
    assert!(matches!(of_file, Invalid::Unsupported { .. }));
    let of_kind = refused(&image(bytes(), Some("image/tiff")));
    assert!(matches!(of_kind, Invalid::Unsupported { .. }));
    let s3 = image(Source::File("s3://b/k.png".to_owned()), Some("image/png"));
    let source = &written(&s3, CLAUDE)["messages"][0]["content"][0]["image"]["source"];
    assert_eq!(source, &json!({ "s3Location": { "uri": "s3://b/k.png" } }));
}

#[test]
fn a_document_has_a_name_that_is_allowed_and_words_beside_it() {
    let paper = |name: &str, media_type: &str, source| {
        let (name, media_type) = (Some(name.to_owned()), media_type.to_owned());
        Block::Document(Document { source, media_type, name })
    };
    let pdf = || paper("re.port.pdf", "application/pdf", Source::Base64("JVBERg==".to_owned()));
    let json = paper("a.json", "application/json", Source::Base64("e30=".to_owned()));
    let text = paper("n", "text/plain", Source::Text("words".to_owned()));
    let body = written(&asking(vec![pdf(), pdf(), json, text]), CLAUDE);
    let document = |format: &str, name: &str, source: Value| json!({ "document": { "format": format, "name": name, "source": source } });
    let wanted = json!([
        document("pdf", "re-port", json!({ "bytes": "JVBERg==" })),
        document("pdf", "re-port (2)", json!({ "bytes": "JVBERg==" })),
        document("txt", "a-json", json!({ "bytes": "e30=" })),
        document("txt", "n", json!({ "text": "words" })),
        { "text": "." },
    ]);
    assert_eq!(body["messages"][0]["content"], wanted);
    let zip = paper("a.zip", "application/zip", Source::Base64(String::new()));
    assert!(matches!(refused(&asking(vec![zip])), Invalid::Unsupported { .. }));
}

#[test]
fn audio_and_video_have_formats() {
    let media = |kind: &str| Media {
        source: Source::Base64("AA==".to_owned()),
        media_type: kind.to_owned(),
    };
    let blocks = vec![Block::Audio(media("audio/wav")), Block::Video(media("video/mp4"))];
    let body = written(&asking(blocks), NOVA_2);
    let content = &body["messages"][0]["content"];
    assert_eq!(content[0]["audio"]["format"], "wav");
    assert_eq!(content[1]["video"]["format"], "mp4");
}

#[test]
fn reasoning_of_others_is_not_sent() {
    let signed = |dialect| Some(Signature { dialect, data: "sig".to_owned() });
    let thought = |signature| Block::Thinking { text: "hm".to_owned(), signature };
    let request = |thought| Request {
        turns: vec![
            user(vec![Block::text("a")]),
            assistant(vec![thought, Block::text("b")]),
            user(vec![Block::text("c")]),
        ],
        ..Request::default()
    };
    let own = written(&request(thought(signed(Dialect::Bedrock))), CLAUDE);
    let reasoning = json!({ "reasoningContent":
        { "reasoningText": { "text": "hm", "signature": "sig" } } });
    assert_eq!(own["messages"][1]["content"][0], reasoning);
    for (thought, lost) in [
        (thought(signed(Dialect::Anthropic)), "reasoningContent.signature"),
        (thought(None), "reasoningContent"),
    ] {
        let (body, lost_too) = write(&request(thought), CLAUDE).unwrap();
        assert_eq!(body["messages"][1]["content"], json!([{ "text": "b" }]));
        assert_eq!(lost_too, [lost]);
    }
    // A turn that was nothing else is none, and its neighbours are one.
    let mut alone = request(Block::RedactedThinking(signed(Dialect::Gemini).unwrap()));
    alone.turns[1].blocks.pop();
    let (body, _) = write(&alone, CLAUDE).unwrap();
    assert_eq!(body["messages"].as_array().unwrap().len(), 1);
}

#[test]
fn each_family_is_told_to_think_in_its_own_words() {
    let fields = |reasoning: Reasoning, model: &str| {
        let request = Request { reasoning, ..hi() };
        written(&request, model)["additionalModelRequestFields"].clone()
    };
    let budget = |tokens| json!({ "thinking": { "type": "enabled", "budget_tokens": tokens } });
    let off = json!({ "thinking": { "type": "disabled" } });
    let shown = |word: &str| {
        json!({ "thinking": { "type": "adaptive", "display": "summarized" },
            "output_config": { "effort": word } })
    };
    let adaptive = |word: &str| json!({ "thinking": { "type": "adaptive" }, "output_config": { "effort": word } });
    let nova = |word: &str| json!({ "reasoningConfig": { "type": "enabled", "maxReasoningEffort": word } });
    assert_eq!(fields(effort(Effort::Medium), CLAUDE), budget(4096));
    let said = Reasoning { budget: Some(2000), ..Reasoning::default() };
    assert_eq!(fields(said, CLAUDE), budget(2000));
    let on = Reasoning { enabled: Some(true), ..Reasoning::default() };
    assert_eq!(fields(on, CLAUDE), budget(16_384));
    assert_eq!(fields(on, OPUS_4_6), json!({ "thinking": { "type": "adaptive" } }));
    assert_eq!(fields(effort(Effort::None), CLAUDE), off);
    assert_eq!(fields(effort(Effort::High), OPUS_4_6), adaptive("high"));
    assert_eq!(fields(effort(Effort::Minimal), OPUS_4_7), shown("low"));
    let hidden = Reasoning { shown: Some(false), ..effort(Effort::Max) };
    assert_eq!(fields(hidden, OPUS_4_7), adaptive("max"));
    assert_eq!(fields(effort(Effort::None), OPUS_4_7), off);
    assert_eq!(fields(effort(Effort::Max), NOVA_2), nova("high"));
    let nova_off = json!({ "reasoningConfig": { "type": "disabled" } });
    assert_eq!(fields(effort(Effort::None), NOVA_2), nova_off);
    assert_eq!(fields(effort(Effort::Minimal), GPT_OSS), json!({ "reasoning_effort": "low" }));
    assert_eq!(fields(effort(Effort::None), GPT_OSS), json!({ "reasoning_effort": "low" }));
    assert_eq!(fields(effort(Effort::None), NOVA), Value::Null);
    let request = Request { reasoning: effort(Effort::Low), ..hi() };
    assert_eq!(write(&request, NOVA).unwrap().1, ["additionalModelRequestFields.output_config"]);
}

#[test]
fn a_budget_leaves_room_for_the_answer() {
    let asked = |most| Request { reasoning: effort(Effort::High), max_output: Some(most), ..hi() };
    let (body, _) = write(&asked(4096), CLAUDE).unwrap();
    assert_eq!(body["additionalModelRequestFields"]["thinking"]["budget_tokens"], 2048);
    let budget = Reasoning { budget: Some(9000), ..Reasoning::default() };
    let (body, _) = write(&Request { reasoning: budget, ..asked(4096) }, CLAUDE).unwrap();
    assert_eq!(body["additionalModelRequestFields"]["thinking"]["budget_tokens"], 4095);
    let (body, lost) = write(&asked(1024), CLAUDE).unwrap();
    assert_eq!(body["additionalModelRequestFields"], Value::Null);
    assert_eq!(lost, ["additionalModelRequestFields.output_config"]);
    // Nova's hardest thinking takes no bound.
    let (body, _) = write(&asked(4096), NOVA_2).unwrap();
    assert_eq!(
        body["additionalModelRequestFields"]["reasoningConfig"]["maxReasoningEffort"],
        "medium"
    );
    assert_eq!(body["inferenceConfig"]["maxTokens"], 4096);
}

#[test]
fn while_it_thinks_claude_takes_no_other_draws_and_no_demanded_call() {
    let request = Request {
        reasoning: effort(Effort::Low),
        temperature: Some(0.5),
        top_p: Some(0.9),
        top_k: Some(5),
        ..hi()
    };
    let (body, lost) = write(&request, CLAUDE).unwrap();
    assert_eq!(body["inferenceConfig"], Value::Null);
    let names = [
        "inferenceConfig.temperature",
        "inferenceConfig.topP",
        "additionalModelRequestFields.top_k",
    ];
    assert_eq!(lost, names);
    let request = Request {
        reasoning: effort(Effort::Low),
        tools: vec![tool("f", None)],
        tool_choice: Some(ToolChoice::Required),
        ..hi()
    };
    let (body, lost) = write(&request, CLAUDE).unwrap();
    assert_eq!(body["additionalModelRequestFields"], Value::Null);
    assert_eq!(lost, ["additionalModelRequestFields.output_config"]);
    let wanted = json!({ "output_config": { "effort": "low" } });
    assert_eq!(written(&request, OPUS_4_6)["additionalModelRequestFields"], wanted);
}

#[test]
fn claude_does_not_begin_to_think_between_a_call_and_its_answer() {
    let thought = Block::Thinking {
        text: "hm".to_owned(),
        signature: Some(Signature { dialect: Dialect::Bedrock, data: "s".to_owned() }),
    };
    let request = |begins: Vec<Block>| Request {
        reasoning: effort(Effort::Low),
        turns: vec![
            user(vec![Block::text("a")]),
            assistant([begins, vec![call("c", "f", "{}")]].concat()),
            user(vec![result("c", "1")]),
        ],
        ..Request::default()
    };
    let thinks = |request: &Request| {
        write(request, CLAUDE).unwrap().0["additionalModelRequestFields"]["thinking"].is_object()
    };
    assert!(thinks(&request(vec![thought])));
    assert!(!thinks(&request(vec![])));
}

#[test]
fn what_a_model_refuses_is_dropped_and_named() {
    let request = Request {
        temperature: Some(0.5),
        top_p: Some(0.9),
        top_k: Some(5),
        stop: vec!["END".to_owned()],
        ..hi()
    };
    let (body, lost) = write(&request, OPUS_4_7).unwrap();
    assert_eq!(body["inferenceConfig"], json!({ "stopSequences": ["END"] }));
    assert_eq!(lost.len(), 3);
    let (body, lost) = write(&request, CLAUDE).unwrap();
    assert_eq!(body["inferenceConfig"]["temperature"], 0.5);
    assert_eq!(lost, ["inferenceConfig.topP"]);
    let (body, lost) = write(&request, NOVA).unwrap();
    assert_eq!(body["additionalModelRequestFields"], json!({ "inferenceConfig": { "topK": 5 } }));
    assert_eq!(lost, [] as [&str; 0]);
    let (body, lost) = write(&request, GPT_OSS).unwrap();
    assert_eq!(body["inferenceConfig"], json!({ "temperature": 0.5, "topP": 0.9 }));
    assert_eq!(lost, ["inferenceConfig.stopSequences", "additionalModelRequestFields.top_k"]);
}

#[test]
fn marks_for_the_cache_stand_behind_what_they_mark() {
    let cache = || Block::Cache(CacheMark::Short);
    let long = || Block::Cache(CacheMark::Long);
    let mut marked = tool("f", None);
    marked.cache = Some(CacheMark::Short);
    let request = Request {
        system: vec![Block::text("s"), long()],
        turns: vec![user(vec![Block::text("a"), cache(), cache(), Block::text("b"), long()])],
        tools: vec![marked],
        ..Request::default()
    };
    let point = json!({ "cachePoint": { "type": "default" } });
    let hour = json!({ "cachePoint": { "type": "default", "ttl": "1h" } });
    let (body, _) = write(&request, CLAUDE).unwrap();
    assert_eq!(body["system"][1], hour);
    assert_eq!(body["messages"][0]["content"][1], point);
    assert_eq!(body["messages"][0]["content"][2], json!({ "text": "b" }));
    assert_eq!(body["messages"][0]["content"][3], hour);
    // Four are the most: the first, that of the tools, is left out.
    assert_eq!(body["toolConfig"]["tools"].as_array().unwrap().len(), 1);
    let (body, _) = write(&request, CLAUDE_4).unwrap();
    assert_eq!(body["system"][1], point);
    let (body, lost) = write(&request, GPT_OSS).unwrap();
    assert!(!body.to_string().contains("cachePoint"));
    assert_eq!(lost, ["cachePoint"]);
}

#[test]
fn json_is_asked_for_by_a_schema_or_an_instruction() {
    let schema = Schema {
        name: "city".to_owned(),
        description: Some("A city.".to_owned()),
        schema: RawValue::from_string(CITY.to_owned()).unwrap(),
        strict: Some(true),
    };
    let request = Request { format: Format::JsonSchema(schema), ..hi() };
    let wanted = json!({ "textFormat": { "type": "json_schema", "structure": { "jsonSchema":
        { "schema": CITY, "name": "city", "description": "A city." } } } });
    assert_eq!(written(&request, CLAUDE)["outputConfig"], wanted);
    let (body, lost) = write(&request, NOVA).unwrap();
    assert_eq!(
        (&body["outputConfig"], lost),
        (&Value::Null, vec!["outputConfig.textFormat".into()])
    );
    let request = Request { format: Format::JsonObject, ..hi() };
    let said = written(&request, CLAUDE)["system"][0]["text"].clone();
    assert!(said.as_str().unwrap().contains("JSON"));
}

#[test]
fn what_has_no_place_is_named_and_a_lenient_call_goes_on() {
    let request = Request {
        min_p: Some(0.1),
        seed: Some(1),
        candidates: Some(2),
        presence_penalty: Some(0.1),
        logprobs: Some(0),
        logit_bias: Some(RawValue::from_string("{}".to_owned()).unwrap()),
        verbosity: Some("low".to_owned()),
        user: Some("u".to_owned()),
        cache_key: Some("k".to_owned()),
        service_tier: Some("scale".to_owned()),
        metadata: vec![("k".to_owned(), "ä".to_owned())],
        ..hi()
    };
    let (body, lost) = write(&request, CLAUDE).unwrap();
    assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), ["messages"]);
    assert_eq!(lost.len(), 11);
    let rules = Rules::of(Dialect::Bedrock, Kind::Bedrock, CLAUDE);
    let mut strict = Losses::new(Dialect::OpenaiChat, Translation::Strict);
    let to = Target { model: CLAUDE, rules: &rules };
    write_request(&request, &to, &mut strict).unwrap_err();
    for field in Field::ALL {
        // Nothing is refused but content.
        let content = [Field::ImageUrl, Field::DocumentUrl, Field::FileId];
        assert_eq!(matches!(fate(*field), Fate::Refused(_)), content.contains(field), "{field:?}");
    }
}

#[test]
fn a_tier_has_converses_name() {
    for (tier, wanted) in [
        ("auto", Value::Null),
        ("flex", json!({ "type": "flex" })),
        ("standard_only", json!({ "type": "default" })),
    ] {
        let request = Request { service_tier: Some(tier.to_owned()), ..hi() };
        assert_eq!(written(&request, CLAUDE)["serviceTier"], wanted);
    }
}

#[test]
fn instructions_inside_become_marked_words_of_the_users() {
    let system = Turn { role: Role::System, blocks: vec![Block::text("Now rhyme.")] };
    let request =
        Request { turns: vec![user(vec![Block::text("hi")]), system], ..Request::default() };
    let wanted = json!([{ "text": "hi" }, { "text": "<system>\nNow rhyme.\n</system>" }]);
    assert_eq!(written(&request, CLAUDE)["messages"][0]["content"], wanted);
}

#[path = "read_requests.rs"]
mod reading;
#[path = "valid_requests.rs"]
mod valid;
