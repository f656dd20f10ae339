use super::*;
use crate::config::{Dialect, Translation};
use crate::protocol::canonical::{Collector, Start, ToolUse, replay};
use proptest::prelude::*;

fn request(schema: &str) -> Request {
    let schema = Schema {
        name: "answer".to_owned(),
        description: Some("A city.".to_owned()),
        schema: RawValue::from_string(schema.to_owned()).unwrap(),
        strict: Some(true),
    };
    Request { format: Format::JsonSchema(schema), ..Request::default() }
}

fn losses() -> Losses {
    Losses::new(Dialect::OpenaiChat, Translation::Lenient)
}

fn apply(request: &mut Request) -> Option<Emulation> {
    let mut losses = losses();
    let applied = Emulation::apply(request, &mut losses).unwrap();
    assert!(losses.dropped().is_empty());
    applied
}

const CITY: &str = r#"{"type":"object","properties":{"city":{"type":"string"}}}"#;

/// One with a tool of the client's own.
fn with_tool(schema: &str) -> Request {
    let mut own = request(schema);
    apply(&mut own).unwrap();
    own.tools[0].name = "search".to_owned();
    Request { tools: own.tools, ..request(schema) }
}

fn call(name: &str, arguments: &str) -> Block {
    Block::ToolUse(ToolUse {
        id: "c".to_owned(),
        name: name.to_owned(),
        namespace: None,
        kind: ToolKind::Function,
        arguments: arguments.to_owned(),
        signature: None,
    })
}

fn answer(blocks: Vec<Block>) -> Response {
    Response { blocks, stop: Stop::ToolUse, ..Response::default() }
}

#[test]
fn a_schema_becomes_a_tool_that_must_be_called() {
    let mut request = request(CITY);
    apply(&mut request).unwrap();
    assert!(matches!(request.format, Format::Text));
    assert_eq!(request.tool_choice, Some(ToolChoice::Named(NAME.to_owned())));
    assert_eq!(request.parallel_tools, Some(false));
    assert_eq!(request.tools[0].schema.as_ref().unwrap().get(), CITY);
    assert!(request.tools[0].description.as_ref().unwrap().ends_with("A city."));
}

#[test]
fn a_request_without_a_schema_stays_as_it_is() {
    let mut request = Request { format: Format::JsonObject, ..Request::default() };
    assert!(apply(&mut request).is_none());
    assert!(matches!(request.format, Format::JsonObject));
    assert!(request.tools.is_empty());
}

#[test]
fn beside_other_tools_one_of_all_must_be_called() {
    let mut request = with_tool(CITY);
    apply(&mut request).unwrap();
    assert_eq!(request.tool_choice, Some(ToolChoice::Required));
    assert_eq!(request.parallel_tools, None);
    assert_eq!(request.tools.len(), 2);
    let mut request = with_tool(CITY);
    let names = vec!["search".to_owned()];
    request.tool_choice = Some(ToolChoice::Among { names, required: false });
    apply(&mut request).unwrap();
    let names = vec!["search".to_owned(), NAME.to_owned()];
    assert_eq!(request.tool_choice, Some(ToolChoice::Among { names, required: true }));
}

#[test]
fn where_no_tool_may_be_called_the_answer_must_be() {
    let mut request = with_tool(CITY);
    request.tool_choice = Some(ToolChoice::None);
    apply(&mut request).unwrap();
    assert_eq!(request.tool_choice, Some(ToolChoice::Named(NAME.to_owned())));
}

#[test]
fn where_a_call_is_demanded_there_is_no_text_to_hold() {
    let named = ToolChoice::Named("search".to_owned());
    for choice in [named, ToolChoice::Required] {
        let mut request = with_tool(CITY);
        request.tool_choice = Some(choice.clone());
        let mut losses = losses();
        assert!(Emulation::apply(&mut request, &mut losses).unwrap().is_none());
        assert_eq!(losses.dropped(), ["response_format"]);
        assert_eq!((request.tools.len(), request.tool_choice), (1, Some(choice)));
    }
}

#[test]
fn a_tool_of_the_same_name_is_told_apart() {
    let mut request = with_tool(CITY);
    request.tools[0].name = NAME.to_owned();
    apply(&mut request).unwrap();
    assert_ne!(request.tools[0].name, request.tools[1].name);
}

#[test]
fn the_call_becomes_the_answers_text() {
    let mut emulation = apply(&mut request(CITY)).unwrap();
    let mut response = answer(vec![call(NAME, r#"{"city": "Rome"}"#)]);
    emulation.restore_response(&mut response);
    assert_eq!(response.blocks, [Block::text(r#"{"city": "Rome"}"#)]);
    assert_eq!(response.stop, Stop::EndTurn);
}

#[test]
fn calls_of_other_tools_stay_calls() {
    let mut emulation = apply(&mut with_tool(CITY)).unwrap();
    let mut response = answer(vec![call("search", "{}")]);
    emulation.restore_response(&mut response);
    assert_eq!(response, answer(vec![call("search", "{}")]));
}

#[test]
fn an_answer_is_told_once() {
    let blocks = vec![call(NAME, "{\"a\":1}"), call(NAME, "{\"a\":2}"), call("search", "{}")];
    let response = answer(blocks);
    let whole = restored(&mut with_tool(CITY), &response);
    assert_eq!(whole.blocks, [Block::text("{\"a\":1}"), call("search", "{}")]);
    assert_eq!(whole.stop, Stop::ToolUse);
    assert_eq!(streamed(&mut with_tool(CITY), &response), whole);
}

#[test]
fn a_schema_of_no_object_is_wrapped_and_what_it_refers_to_stays_at_the_root() {
    let mut request = request(r##"{"$ref":"#/$defs/T","$defs":{"T":{"type":"array"}}}"##);
    apply(&mut request).unwrap();
    let wrapped: serde_json::Value =
        serde_json::from_str(request.tools[0].schema.as_ref().unwrap().get()).unwrap();
    assert_eq!(wrapped["type"], "object");
    assert_eq!(wrapped["properties"]["value"]["$ref"], "#/$defs/T");
    assert_eq!(wrapped["$defs"]["T"]["type"], "array");
    assert_eq!(wrapped["required"][0], "value");
}

#[test]
fn what_is_wrapped_is_told_without_its_wrapper() {
    for (arguments, text) in [
        (r#"{"value":[1,{"a":"]"}]}"#, r#"[1,{"a":"]"}]"#),
        (r#" { "value" : "x\"}" }"#, r#""x\"}""#),
        (r#"{"value":12}"#, "12"),
        (r#"{"value":null , "more":1}"#, "null"),
        // Not what was asked for: nothing of it is lost.
        (r#"{"values":[1]}"#, r#"{"values":[1]}"#),
        ("[1,2]", "[1,2]"),
        ("{}", "{}"),
        // Cut off by the most tokens.
        (r#"{"value":[1,"#, "[1,"),
    ] {
        let whole =
            restored(&mut request(r#"{"type":"array"}"#), &answer(vec![call(NAME, arguments)]));
        assert_eq!(whole.blocks, [Block::text(text)], "{arguments}");
    }
}

fn restored(request: &mut Request, response: &Response) -> Response {
    let mut response = response.clone();
    apply(request).unwrap().restore_response(&mut response);
    response
}

fn streamed(request: &mut Request, response: &Response) -> Response {
    collect(request, replay(response))
}

fn collect(request: &mut Request, events: Vec<Event>) -> Response {
    let mut emulation = apply(request).unwrap();
    let mut collector = Collector::default();
    let mut events = events.into_iter();
    events
        .find_map(|mut event| {
            emulation.restore(&mut event);
            collector.push(event).unwrap()
        })
        .unwrap()
}

proptest! {
    #[test]
    fn a_stream_gives_the_same_text_however_it_is_cut(
        text in r#"[ ]?\{[ ]?"value"[ ]?:[ ]?("([a-z]|\\")*"|\[[0-9,"]*\]|[0-9]+|[a-z{]*)[ ]?\}?"#,
        size in 1..8usize,
    ) {
        let wanted = restored(&mut request("{}"), &answer(vec![call(NAME, &text)]));
        let block = Opening::ToolUse {
            id: "c".to_owned(), name: NAME.to_owned(), namespace: None, kind: ToolKind::Function,
        };
        let mut events = vec![Event::Start(Start::default()), Event::Open { index: 0, block }];
        for piece in text.as_bytes().chunks(size) {
            let json = String::from_utf8(piece.to_vec()).unwrap();
            events.push(Event::Delta { index: 0, delta: Delta::Arguments(json) });
        }
        events.push(Event::Close { index: 0 });
        let stop = Stop::ToolUse;
        events.push(Event::End(crate::protocol::canonical::End { stop, usage: None }));
        prop_assert_eq!(collect(&mut request("{}"), events), wanted);
    }
}
