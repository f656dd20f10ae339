//! Requests as they are read.

use super::{lenient, read};
use crate::config::{Dialect, Translation};
use crate::protocol::anthropic::{read_count_request, read_request};
use crate::protocol::canonical::{
    Asked, Block, CacheMark, Document, Effort, Format, Image, Invalid, Losses, Reasoning, Request,
    Role, Signature, Source, ToolChoice, ToolResult, ToolUse, Turn,
};

/// A request with these members beside the least.
fn with(members: &str) -> (Request, Vec<String>) {
    let (request, dropped) = read(&format!(
        r#"{{"model":"m","max_tokens":9,"messages":[{{"role":"user","content":"hi"}}]{members}}}"#
    ));
    (request.unwrap(), dropped)
}

/// The blocks of one turn with this content.
fn content(blocks: &str) -> (Vec<Block>, Vec<String>) {
    let (request, dropped) = read(&format!(
        r#"{{"model":"m","messages":[{{"role":"assistant","content":[{blocks}]}}]}}"#
    ));
    (request.unwrap().turns.remove(0).blocks, dropped)
}

fn refused(body: &str) -> Invalid {
    read(body).0.unwrap_err()
}

fn unsupported(invalid: &Invalid) -> &str {
    match invalid {
        Invalid::Unsupported { param, .. } => param,
        Invalid::Request { .. } => panic!("{invalid}"),
    }
}

#[test]
fn the_recorded_requests_are_read_and_nothing_of_them_is_dropped() {
    macro_rules! request {
        ($id:literal) => {
            include_str!(concat!("../../../../tests/fixtures/recorded/", $id, "/request.json"))
        };
    }
    for body in [
        request!("ant-cache-usage"),
        request!("ant-error-400"),
        request!("ant-parallel-tools"),
        request!("ant-redacted-thinking"),
        request!("ant-stop-sequence"),
        request!("ant-stream-text"),
        request!("ant-stream-thinking"),
        request!("ant-stream-tool"),
        request!("ant-unicode"),
    ] {
        let (request, dropped) = read(body);
        assert!(request.unwrap().max_output.is_some());
        assert_eq!(dropped, [""; 0]);
    }
    let (request, dropped) = read(request!("ant-stream-websearch"));
    assert!(request.unwrap().tools.is_empty());
    assert_eq!(dropped, ["tools.web_search_20250305"]);
    let (request, _) = read(request!("ant-cache-usage"));
    let last = request.unwrap().turns.pop().unwrap();
    assert_eq!(last.blocks.last(), Some(&Block::Cache(CacheMark::Short)));
}

#[test]
fn parameters_are_read() {
    let (request, dropped) = with(
        r#","temperature":0.5,"top_p":0.9,"top_k":7,"stop_sequences":["a","b"],"stream":true,
            "service_tier":"standard_only","metadata":{"user_id":"u"},"speed":"standard",
            "anthropic_version":"bedrock-2023-05-31","anthropic_beta":["x"],"diagnostics":null"#,
    );
    assert_eq!(dropped, [""; 0]);
    assert_eq!((request.max_output, request.top_k), (Some(9), Some(7)));
    assert_eq!((request.temperature, request.top_p), (Some(0.5), Some(0.9)));
    assert_eq!(request.stop, ["a", "b"]);
    assert!(request.stream && request.stream_usage);
    assert_eq!(request.service_tier.as_deref(), Some("standard_only"));
    assert_eq!(request.user.as_deref(), Some("u"));
}

#[test]
fn what_has_no_place_is_named() {
    let (_, dropped) = with(
        r#","inference_geo":"us","context_management":{"edits":[]},"mcp_servers":[],"speed":"fast",
            "metadata":{"x":1},"output_config":{"task_budget":{},"effort":"huge"}"#,
    );
    let wanted = [
        "output_config.effort",
        "output_config.task_budget",
        "metadata.x",
        "speed",
        "inference_geo",
        "context_management",
        "mcp_servers",
    ];
    assert_eq!(dropped, wanted);
}

#[test]
fn thinking_and_effort_are_read() {
    let (request, _) =
        with(r#","thinking":{"type":"enabled","budget_tokens":2000,"display":"omitted"}"#);
    let wanted =
        Reasoning { enabled: Some(true), effort: None, budget: Some(2000), shown: Some(false) };
    assert_eq!(request.reasoning, wanted);
    let (request, _) = with(r#","thinking":{"type":"adaptive"},"output_config":{"effort":"max"}"#);
    assert_eq!(request.reasoning.enabled, Some(true));
    assert_eq!(request.reasoning.effort, Some(Effort::Max));
    let (request, _) = with(r#","thinking":{"type":"disabled"}"#);
    assert_eq!(request.reasoning.as_effort(), Some(Effort::None));
    let (request, dropped) = with(r#","thinking":{"type":"between_tools"}"#);
    assert_eq!(request.reasoning.enabled, None);
    assert_eq!(dropped, ["thinking.between_tools"]);
}

#[test]
fn a_format_is_read_where_it_stands_and_where_it_stood() {
    for members in [
        r#","output_config":{"format":{"type":"json_schema","schema":{"type" : "object"}}}"#,
        r#","output_format":{"type":"json_schema","schema":{"type" : "object"}}"#,
    ] {
        let (request, dropped) = with(members);
        let Format::JsonSchema(schema) = request.format else { panic!() };
        assert_eq!(schema.schema.get(), r#"{"type" : "object"}"#);
        assert_eq!((schema.name.as_str(), schema.strict), ("output", Some(true)));
        assert_eq!(dropped, [""; 0]);
    }
}

#[test]
fn tools_are_read_and_those_only_anthropic_has_are_named() {
    let (request, dropped) = with(
        r#","tools":[{"type":"web_search_20250305","name":"web_search"},
            {"type":"custom","name":"f","description":"d","input_schema":{"type":"object","x":1e400},
             "strict":true,"cache_control":{"type":"ephemeral","ttl":"1h"},"defer_loading":true,
             "eager_input_streaming":false,"input_examples":[{}]}],
            "tool_choice":{"type":"any","disable_parallel_tool_use":true}"#,
    );
    let [tool] = request.tools.as_slice() else { panic!() };
    assert_eq!((tool.name.as_str(), tool.description.as_deref()), ("f", Some("d")));
    assert_eq!(tool.schema.as_ref().unwrap().get(), r#"{"type":"object","x":1e400}"#);
    assert_eq!((tool.strict, tool.cache), (Some(true), Some(CacheMark::Long)));
    assert_eq!(request.tool_choice, Some(ToolChoice::Required));
    assert_eq!(request.parallel_tools, Some(false));
    let wanted = ["tools.web_search_20250305", "tools.defer_loading", "tools.input_examples"];
    assert_eq!(dropped, wanted);
}

#[test]
fn a_choice_that_demands_a_tool_of_anthropics_is_refused() {
    let body = |choice: &str, more: &str| {
        format!(
            r#"{{"model":"m","messages":[],"tools":[{{"type":"web_search_20250305","name":"w"}}{more}],
                "tool_choice":{choice}}}"#
        )
    };
    let named = r#"{"type":"tool","name":"w"}"#;
    let other = r#",{"name":"f","input_schema":{}}"#;
    for (choice, more) in [(named, ""), (named, other), (r#"{"type":"any"}"#, "")] {
        assert_eq!(unsupported(&refused(&body(choice, more))), "tool_choice");
    }
    let (request, _) = read(&body(r#"{"type":"auto"}"#, ""));
    assert_eq!(request.unwrap().tool_choice, None);
}

#[test]
fn instructions_are_read_without_claude_codes_first_line() {
    let (request, dropped) = with(
        r#","system":[{"type":"text","text":"x-anthropic-billing-header: cc_version=2.0;",
            "cache_control":{"type":"ephemeral"}},
            {"type":"text","text":"You are Claude Code.","cache_control":{"type":"ephemeral"}}]"#,
    );
    let wanted = [Block::text("You are Claude Code."), Block::Cache(CacheMark::Short)];
    assert_eq!(request.system, wanted);
    assert_eq!(dropped, [""; 0]);
    let (request, _) = with(r#","system":"be brief""#);
    assert_eq!(request.system, [Block::text("be brief")]);
    let inside = r#"{"model":"m","messages":[{"role":"user","content":"a"},
        {"role":"system","content":[{"type":"text","text":"b"}]}]}"#;
    let turn = read(inside).0.unwrap().turns.pop().unwrap();
    assert_eq!(turn, Turn { role: Role::System, blocks: vec![Block::text("b")] });
}

#[test]
fn images_and_documents_are_read() {
    let (blocks, dropped) = content(
        r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iV"}},
           {"type":"image","source":{"type":"url","url":"https://x/y"}},
           {"type":"document","title":"t","context":"c","citations":{"enabled":true},
            "source":{"type":"text","media_type":"text/plain","data":"d"}},
           {"type":"document","source":{"type":"content","content":[{"type":"text","text":"a"},
            {"type":"text","text":"b"}]},"citations":{"enabled":false}},
           {"type":"search_result","source":"https://z","title":"t",
            "content":[{"type":"text","text":"found"}]}"#,
    );
    let image = |source, media_type: Option<&str>| {
        Block::Image(Image { source, media_type: media_type.map(str::to_owned), detail: None })
    };
    let document = |text: &str, name: Option<&str>| {
        Block::Document(Document {
            source: Source::Text(text.to_owned()),
            media_type: "text/plain".to_owned(),
            name: name.map(str::to_owned),
        })
    };
    let wanted = [
        image(Source::Base64("iV".to_owned()), Some("image/png")),
        image(Source::Url("https://x/y".to_owned()), None),
        Block::text("c"),
        document("d", Some("t")),
        document("a\n\nb", None),
        document("https://z\n\nfound", Some("t")),
    ];
    assert_eq!(blocks, wanted);
    assert_eq!(dropped, ["messages.content.citations"]);
}

#[test]
fn calls_and_results_are_read() {
    let (blocks, _) = content(
        r#"{"type":"tool_use","id":"t","name":"f","input":{"n": 12345678901234567890},
            "caller":{"type":"direct"}},
           {"type":"tool_result","tool_use_id":"t","is_error":true,"content":[
            {"type":"text","text":"a","cache_control":{"type":"ephemeral"}},
            {"type":"tool_reference","tool_name":"g"}]},
           {"type":"tool_result","tool_use_id":"u"}"#,
    );
    let result = |id: &str, blocks, is_error| {
        Block::ToolResult(ToolResult { id: id.to_owned(), name: None, blocks, is_error })
    };
    let [Block::ToolUse(ToolUse { arguments, .. }), rest @ ..] = blocks.as_slice() else {
        panic!()
    };
    assert_eq!(arguments, r#"{"n": 12345678901234567890}"#);
    let wanted = [
        result("t", vec![Block::text("a"), Block::text("g")], true),
        Block::Cache(CacheMark::Short),
        result("u", Vec::new(), false),
    ];
    assert_eq!(rest, wanted);
}

#[test]
fn signatures_come_back_to_whom_they_belong() {
    let (blocks, dropped) = content(
        r#"{"type":"thinking","thinking":"a","signature":"Eq"},
           {"type":"thinking","thinking":"b","signature":"forebay"},
           {"type":"redacted_thinking","data":"forebay.openai_responses..gAAA"},
           {"type":"tool_use","id":"t","name":"f","input":{}},
           {"type":"redacted_thinking","data":"forebay.gemini.dA.sig"}"#,
    );
    let signature = |dialect, data: &str| Signature { dialect, data: data.to_owned() };
    let thinking = |text: &str, signature| Block::Thinking { text: text.to_owned(), signature };
    let [first, second, third, Block::ToolUse(call)] = blocks.as_slice() else {
        panic!("{blocks:?}")
    };
    assert_eq!(*first, thinking("a", Some(signature(Dialect::Anthropic, "Eq"))));
    assert_eq!(*second, thinking("b", None));
    assert_eq!(*third, Block::RedactedThinking(signature(Dialect::OpenaiResponses, "gAAA")));
    assert_eq!(call.signature, Some(signature(Dialect::Gemini, "sig")));
    assert_eq!(dropped, [""; 0]);
}

#[test]
fn what_would_falsify_the_conversation_is_refused() {
    for (body, param) in [
        (
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"server_tool_use"}]}]}"#,
            "messages.content",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[{"type":"new"}]}]}]}"#,
            "messages.content",
        ),
        (r#"{"model":"m","messages":[],"container":"c_1"}"#, "container"),
        (r#"{"model":"m","messages":[],"max_tokens":0}"#, "max_tokens"),
    ] {
        assert_eq!(unsupported(&refused(body)), param, "{body}");
    }
}

#[test]
fn what_is_malformed_is_named() {
    for (body, said) in [
        ("[]", "`body` must be an object"),
        (r#"{"messages":[]}"#, "`model` is required"),
        (r#"{"model":"m"}"#, "`messages` is required"),
        (
            r#"{"model":"m","messages":[],"max_tokens":"9"}"#,
            "`max_tokens` must be a whole number, not below 0",
        ),
        (r#"{"model":"m","messages":[1]}"#, "`messages` must be an object"),
        (
            r#"{"model":"m","messages":[{"role":"tool","content":"a"}]}"#,
            "`messages.role` must be `user`, `assistant` or `system`",
        ),
        (r#"{"model":"m","messages":[{"role":"user"}]}"#, "`messages.content` is required"),
        (
            r#"{"model":"m","messages":[{"role":"user","content":7}]}"#,
            "`messages.content` must be a string or an array of blocks",
        ),
        (
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":1}]}]}"#,
            "`messages.content.text` must be a string",
        ),
        (r#"{"model":"m","messages":[],"tools":[{"name":1}]}"#, "`tools.name` must be a string"),
        (
            r#"{"model":"m","messages":[],"tool_choice":{"type":"x"}}"#,
            "`tool_choice.type` must be `auto`, `any`, `tool` or `none`",
        ),
        (
            r#"{"model":"m","messages":[],"thinking":{"type":1}}"#,
            "`thinking.type` must be a string",
        ),
        (
            r#"{"model":"m","messages":[],"system":[{"type":"image"}]}"#,
            "`system.type` must be `text`",
        ),
    ] {
        let invalid = refused(body);
        assert!(matches!(invalid, Invalid::Request { .. }), "{body}");
        assert_eq!(invalid.to_string(), said);
    }
}

#[test]
fn the_path_may_name_the_model_and_ask_for_a_stream() {
    let asked = Asked { model: Some("m"), stream: true };
    let body = br#"{"anthropic_version":"bedrock-2023-05-31","messages":[]}"#;
    let request = read_request(body, &asked, &mut lenient()).unwrap();
    assert_eq!((request.model.as_str(), request.stream), ("m", true));
    let request = read_count_request(br#"{"model":"n","messages":[]}"#, &asked, &mut lenient());
    assert_eq!(request.unwrap().model, "n");
}

#[test]
fn strict_refuses_what_is_unknown() {
    let mut losses = Losses::new(Dialect::Anthropic, Translation::Strict);
    let body = br#"{"model":"m","messages":[{"role":"user","content":"a","name":"x"}]}"#;
    let invalid = read_request(body, &Asked::default(), &mut losses).unwrap_err();
    assert_eq!(unsupported(&invalid), "messages.name");
}
