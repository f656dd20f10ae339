//! Whole answers.

use serde_json::{Value, json};

use super::{recorded, told};
use crate::config::Dialect;
use crate::protocol::anthropic::{read_response, write_response};
use crate::protocol::canonical::{
    Block, FailureKind, Response, Signature, Stop, ToolKind, ToolUse, Usage,
};

fn written(response: &Response) -> Value {
    serde_json::from_slice(&write_response(response, &told())).unwrap()
}

#[test]
fn recorded_answers_are_read() {
    let response = read_response(recorded!("ant-unicode")).unwrap();
    assert_eq!(response.blocks, [Block::text("Hello! 👋 How can I help you today?")]);
    assert_eq!(response.usage, Some(Usage { input: 8, output: 16, ..Usage::default() }));
    let response = read_response(recorded!("ant-stop-sequence")).unwrap();
    assert_eq!(response.stop, Stop::Sequence(Some("Paris".to_owned())));
    let response = read_response(recorded!("ant-cache-usage")).unwrap();
    let usage =
        Usage { input: 1532, cache_read: 1111, cache_write: 418, output: 33, ..Usage::default() };
    assert_eq!(response.usage, Some(usage));
}

#[test]
fn recorded_parallel_calls_are_read_in_their_order() {
    let response = read_response(recorded!("ant-parallel-tools")).unwrap();
    let names = response.blocks.iter().filter_map(|block| match block {
        Block::ToolUse(call) => Some(call.arguments.as_str()),
        _ => None,
    });
    let names: Vec<_> = names.collect();
    let wanted = ["Alice", "Bob", "Charlie", "Daisy"].map(|it| format!(r#"{{"name": "{it}"}}"#));
    assert_eq!(names, wanted);
    assert_eq!(response.stop, Stop::ToolUse);
}

#[test]
fn recorded_redacted_thinking_is_anthropics_alone() {
    let response = read_response(recorded!("ant-redacted-thinking")).unwrap();
    let Some(Block::RedactedThinking(signature)) = response.blocks.first() else { panic!() };
    assert_eq!(signature.dialect, Dialect::Anthropic);
}

#[test]
fn a_recorded_error_is_no_answer() {
    use crate::protocol::canonical::Failure;
    read_response(recorded!("ant-error-400")).unwrap_err();
    let failure = Failure::read(Some(400), None, recorded!("ant-error-400"));
    assert_eq!(failure.kind, FailureKind::Invalid);
    for body in ["", "{}", "[]", r#"{"type":"message","content":[{"type":"text","text":1}]}"#] {
        read_response(body.as_bytes()).unwrap_err();
    }
}

#[test]
fn what_is_written_has_all_that_clients_look_for() {
    let response = Response {
        id: "chatcmpl-1".to_owned(),
        model: "theirs".to_owned(),
        blocks: vec![Block::text("hi")],
        usage: Some(Usage { input: 30, cache_read: 10, output: 5, ..Usage::default() }),
        ..Response::default()
    };
    assert_eq!(
        written(&response),
        json!({
            "id": "msg_chatcmpl-1", "type": "message", "role": "assistant", "model": "mine",
            "content": [{"type": "text", "text": "hi"}],
            "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {
                "input_tokens": 20, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 10,
                "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
                "output_tokens": 5
            }
        })
    );
    let empty = written(&Response::default());
    assert_eq!(empty["id"], "msg_4f2a");
    assert_eq!(empty["content"], json!([{"type": "text", "text": ""}]));
    assert_eq!(empty["usage"]["input_tokens"], 0);
    let refused = written(&Response { stop: Stop::Filtered, ..Response::default() });
    assert_eq!(refused["content"], json!([]));
    assert_eq!(refused["stop_reason"], "refusal");
    assert_eq!(refused["stop_details"]["type"], "refusal");
}

#[test]
fn calls_end_an_answer_with_tool_use_whatever_its_provider_says() {
    let call = ToolUse {
        id: "call_1".to_owned(),
        name: "f".to_owned(),
        namespace: None,
        kind: ToolKind::Function,
        arguments: String::new(),
        signature: Some(Signature { dialect: Dialect::Gemini, data: "s".to_owned() }),
    };
    let response = Response { blocks: vec![Block::ToolUse(call)], ..Response::default() };
    let written = written(&response);
    assert_eq!(written["stop_reason"], "tool_use");
    let call = json!({"type": "tool_use", "id": "call_1", "name": "f", "input": {}});
    // Gemini's signature of the call goes along in a block that clients send back. It stands before the
    // call: clients cut off thinking that ends a turn.
    assert_eq!(written["content"][0]["type"], "redacted_thinking");
    assert_eq!(written["content"][1], call);
}
