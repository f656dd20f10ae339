use super::*;
use crate::protocol::canonical::{Collector, End, Role, Start, Stop, ToolResult, Turn, replay};

const CHAT: NameLimits = NameLimits {
    longest: 64,
    punctuation: "_-",
    letter_first: true,
    custom_tools: false,
    namespaces: false,
};

fn tool(namespace: Option<&str>, name: &str, kind: ToolKind) -> Tool {
    Tool {
        name: name.to_owned(),
        namespace: namespace.map(str::to_owned),
        description: Some("Does it.".to_owned()),
        kind,
        schema: None,
        strict: None,
        grammar: None,
        cache: None,
    }
}

fn call(namespace: Option<&str>, name: &str, kind: ToolKind, arguments: &str) -> Block {
    Block::ToolUse(ToolUse {
        id: "c1".to_owned(),
        name: name.to_owned(),
        namespace: namespace.map(str::to_owned),
        kind,
        arguments: arguments.to_owned(),
        signature: None,
    })
}

fn names_of(request: &Request) -> Vec<&str> {
    request.tools.iter().map(|tool| tool.name.as_str()).collect()
}

#[test]
fn groups_become_part_of_the_names_and_come_back() {
    let mut request = Request {
        tools: vec![
            tool(Some("mcp__git"), "log", ToolKind::Function),
            tool(Some("mcp__web__"), "get", ToolKind::Function),
            tool(None, "log", ToolKind::Function),
        ],
        tool_choice: Some(ToolChoice::Named("get".to_owned())),
        ..Request::default()
    };
    let names = Names::flatten(&mut request, CHAT);
    assert_eq!(names_of(&request), ["mcp__git__log", "mcp__web__get", "log"]);
    assert!(request.tools.iter().all(|tool| tool.namespace.is_none()));
    assert_eq!(request.tool_choice, Some(ToolChoice::Named("mcp__web__get".to_owned())));
    let mut response = Response {
        blocks: vec![
            call(None, "mcp__git__log", ToolKind::Function, "{}"),
            call(None, "log", ToolKind::Function, "{}"),
            call(None, "made_up", ToolKind::Function, "{}"),
        ],
        ..Response::default()
    };
    names.restore_response(&mut response);
    assert_eq!(
        response.blocks,
        [
            call(Some("mcp__git"), "log", ToolKind::Function, "{}"),
            call(None, "log", ToolKind::Function, "{}"),
            call(None, "made_up", ToolKind::Function, "{}"),
        ]
    );
}

#[test]
fn names_that_would_be_refused_or_equal_are_made_others() {
    let long = "x".repeat(90);
    let mut request = Request {
        tools: vec![
            tool(None, "a.b", ToolKind::Function),
            tool(None, "a/b", ToolKind::Function),
            tool(None, "7up", ToolKind::Function),
            tool(None, &long, ToolKind::Function),
            tool(Some("a"), "b", ToolKind::Function),
            tool(None, "a__b", ToolKind::Function),
            tool(None, "größe", ToolKind::Function),
        ],
        ..Request::default()
    };
    let before: Vec<_> =
        request.tools.iter().map(|tool| (tool.namespace.clone(), tool.name.clone())).collect();
    let names = Names::flatten(&mut request, CHAT);
    let sent: Vec<String> = request.tools.iter().map(|tool| tool.name.clone()).collect();
    let mut unique = sent.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), sent.len(), "{sent:?}");
    for (name, (namespace, known)) in sent.iter().zip(before) {
        assert!(name.len() <= 64 && name.chars().all(|c| CHAT.allows(c)), "{name}");
        assert!(!name.starts_with(|c: char| c.is_ascii_digit()), "{name}");
        let mut event = Event::Open {
            index: 0,
            block: Opening::ToolUse {
                id: "c".to_owned(),
                name: name.clone(),
                namespace: None,
                kind: ToolKind::Function,
            },
        };
        names.clone().restore(&mut event);
        let Event::Open { block: Opening::ToolUse { name, namespace: group, .. }, .. } = event
        else {
            panic!("another event");
        };
        assert_eq!((group, name), (namespace, known));
    }
    assert_eq!(sent[0], "a_b");
    assert_eq!(sent[4], "a__b");
}

#[test]
fn the_same_tools_have_the_same_names_in_every_request() {
    let request = || Request {
        tools: vec![
            tool(None, &"y".repeat(80), ToolKind::Function),
            tool(None, "ü", ToolKind::Function),
        ],
        ..Request::default()
    };
    let (mut first, mut second) = (request(), request());
    Names::flatten(&mut first, CHAT);
    Names::flatten(&mut second, CHAT);
    assert_eq!(names_of(&first), names_of(&second));
}

#[test]
fn a_tool_of_free_text_becomes_a_function_with_one_string() {
    let grammar = r#"{"type":"grammar","syntax":"lark","definition":"start: \"x\""}"#;
    let mut patch = tool(None, "apply_patch", ToolKind::Custom);
    patch.grammar = Some(RawValue::from_string(grammar.to_owned()).unwrap());
    let mut request = Request {
        tools: vec![patch],
        turns: vec![Turn {
            role: Role::Assistant,
            blocks: vec![call(None, "apply_patch", ToolKind::Custom, "*** \"x\"\n")],
        }],
        ..Request::default()
    };
    let mut names = Names::flatten(&mut request, CHAT);
    assert_eq!(request.tools[0].kind, ToolKind::Function);
    assert_eq!(
        request.tools[0].description.as_deref(),
        Some("Does it.\n\n`input` must match this grammar (lark):\nstart: \"x\"")
    );
    let schema: Value =
        serde_json::from_str(request.tools[0].schema.as_ref().unwrap().get()).unwrap();
    assert_eq!(schema["required"], json!(["input"]));
    let sent = r#"{"input":"*** \"x\"\n"}"#;
    assert_eq!(request.turns[0].blocks[0], call(None, "apply_patch", ToolKind::Function, sent));
    // And the answer, as a stream and as a whole.
    let mut response = Response {
        blocks: vec![call(None, "apply_patch", ToolKind::Function, sent)],
        stop: Stop::ToolUse,
        ..Response::default()
    };
    let mut collector = Collector::default();
    let mut collected = None;
    for mut event in replay(&response) {
        names.restore(&mut event);
        collected = collected.or(collector.push(event).unwrap());
    }
    names.restore_response(&mut response);
    assert_eq!(response.blocks, [call(None, "apply_patch", ToolKind::Custom, "*** \"x\"\n")]);
    assert_eq!(collected, Some(response));
}

#[test]
fn interleaved_calls_of_free_text_are_told_apart() {
    let mut request = Request {
        tools: vec![tool(None, "a", ToolKind::Custom), tool(None, "b", ToolKind::Function)],
        ..Request::default()
    };
    let mut names = Names::flatten(&mut request, CHAT);
    let open = |index, name: &str| Event::Open {
        index,
        block: Opening::ToolUse {
            id: format!("c{index}"),
            name: name.to_owned(),
            namespace: None,
            kind: ToolKind::Function,
        },
    };
    let more = |index, json: &str| Event::Delta { index, delta: Delta::Arguments(json.to_owned()) };
    let mut events = vec![
        Event::Start(Start::default()),
        open(0, "a"),
        open(1, "b"),
        open(2, "a"),
        more(0, r#"{"input":"x"#),
        more(2, r#"{"input"#),
        more(1, r#"{"input":"#),
        more(2, r#"":"z"}"#),
        more(0, r#"y"}"#),
        more(1, "7}"),
        Event::Close { index: 0 },
        Event::Close { index: 1 },
        Event::Close { index: 2 },
        Event::End(End::default()),
    ];
    for event in &mut events {
        names.restore(event);
    }
    let mut collector = Collector::default();
    let whole = events.into_iter().find_map(|event| collector.push(event).unwrap()).unwrap();
    let said: Vec<_> = whole
        .blocks
        .iter()
        .map(|block| match block {
            Block::ToolUse(call) => (call.kind, call.arguments.as_str()),
            _ => panic!("no call"),
        })
        .collect();
    assert_eq!(
        said,
        [(ToolKind::Custom, "xy"), (ToolKind::Function, r#"{"input":7}"#), (ToolKind::Custom, "z")]
    );
}

#[test]
fn what_the_provider_knows_itself_stays() {
    let limits = NameLimits { custom_tools: true, namespaces: true, ..CHAT };
    let mut request = Request {
        tools: vec![
            tool(Some("ns"), "f", ToolKind::Function),
            tool(Some("other"), "f", ToolKind::Function),
            tool(None, "free", ToolKind::Custom),
        ],
        turns: vec![Turn {
            role: Role::Assistant,
            blocks: vec![call(Some("ns"), "f", ToolKind::Function, "{}")],
        }],
        ..Request::default()
    };
    let names = Names::flatten(&mut request, limits);
    assert!(names.is_identity());
    assert_eq!(names_of(&request), ["f", "f", "free"]);
    assert_eq!(request.tools[1].namespace.as_deref(), Some("other"));
    assert_eq!(request.tools[2].kind, ToolKind::Custom);
    assert_eq!(request.turns[0].blocks[0], call(Some("ns"), "f", ToolKind::Function, "{}"));
}

#[test]
fn a_result_has_the_name_of_its_call() {
    let result = Block::ToolResult(ToolResult {
        id: "c1".to_owned(),
        name: Some("log".to_owned()),
        blocks: vec![Block::text("ok")],
        is_error: false,
    });
    let mut request = Request {
        tools: vec![tool(None, "log", ToolKind::Function)],
        turns: vec![
            Turn {
                role: Role::Assistant,
                blocks: vec![call(Some("git"), "log", ToolKind::Function, "{}")],
            },
            Turn { role: Role::User, blocks: vec![result] },
        ],
        ..Request::default()
    };
    Names::flatten(&mut request, CHAT);
    let Block::ToolResult(result) = &request.turns[1].blocks[0] else { panic!("no result") };
    assert_eq!(result.name.as_deref(), Some("git__log"));
}
