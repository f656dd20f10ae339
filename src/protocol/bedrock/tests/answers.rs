//! Whole answers, read and written.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{call, response};
use crate::config::Dialect;
use crate::protocol::bedrock::{error_type, read_response, write_refusal, write_response};
use crate::protocol::canonical::{
    Annotation, Block, Failure, FailureKind, Refusal, Response, Signature, Stop, Told, Usage,
};

fn read(value: &Value) -> Response {
    read_response(value.to_string().as_bytes()).unwrap()
}

fn answer(content: &Value, reason: &str) -> Value {
    json!({ "output": { "message": { "role": "assistant", "content": content } },
        "stopReason": reason, "usage": { "inputTokens": 1, "outputTokens": 2, "totalTokens": 3 } })
}

macro_rules! recorded {
    ($id:literal) => {
        include_bytes!(concat!("../../../../tests/fixtures/recorded/", $id, "/response.bin"))
    };
}

#[test]
fn what_was_cached_counts_as_input() {
    let response = read_response(recorded!("bed-cache-usage")).unwrap();
    let usage = Usage {
        input: 3 + 2074 + 297,
        cache_read: 2074,
        cache_write: 297,
        output: 61,
        ..Usage::default()
    };
    assert_eq!(response.usage, Some(usage));
    assert_eq!(response.stop, Stop::EndTurn);
    assert!(matches!(&response.blocks[..], [Block::Text { text, .. }] if text.contains('×')));
}

#[test]
fn an_answer_that_was_cut_short_says_so() {
    let response = read_response(recorded!("bed-max-tokens")).unwrap();
    assert_eq!(response.blocks, [Block::text("The capital of France is")]);
    assert_eq!(response.stop, Stop::MaxTokens);
}

#[test]
fn reasoning_text_and_a_call_keep_their_order() {
    let response = read_response(recorded!("bed-tool-thinking")).unwrap();
    let [thinking, text, tool] = &response.blocks[..] else { panic!("{response:?}") };
    let Block::Thinking { text: thought, signature: Some(signature) } = thinking else {
        panic!("{thinking:?}")
    };
    assert!(thought.starts_with("The user is asking"));
    assert_eq!(signature.dialect, Dialect::Bedrock);
    assert!(signature.data.starts_with("ErcBCkgI"));
    assert_eq!(
        text,
        &Block::text("I'll need to check what country you're from to answer that question.")
    );
    assert_eq!(tool, &call("tooluse_W9DaUFg4Tj2cRPpndqxWSg", "get_user_country", "{}"));
    assert_eq!(response.stop, Stop::ToolUse);
}

#[test]
fn an_error_is_known_by_its_header() {
    let header = "ValidationException:http://internal.amazon.com/coral/com.amazon.bedrock/";
    let failure = Failure::read(Some(400), Some(header), recorded!("bed-error-400"));
    assert_eq!(failure.kind, FailureKind::Invalid);
    assert_eq!(failure.message, "The provided model identifier is invalid.");
    assert_eq!(failure.code.as_deref(), Some("ValidationException"));
}

#[test]
fn arguments_stay_as_they_were_written() {
    let text = r#"{"output":{"message":{"content":[{"toolUse":{"toolUseId":"c","name":"f",
        "input":{"n": 12345678901234567890123, "b":1.0}}},{"toolUse":{"toolUseId":"d","name":"f"}}]}}}"#;
    let response = read_response(text.as_bytes()).unwrap();
    let first = call("c", "f", r#"{"n": 12345678901234567890123, "b":1.0}"#);
    assert_eq!(response.blocks, [first, call("d", "f", "{}")]);
    // It has calls, whatever it says.
    assert_eq!(response.stop, Stop::ToolUse);
}

#[test]
fn what_is_unknown_is_passed_over() {
    let content = json!([
        { "somethingNew": { "a": 1 } },
        { "text": "" },
        { "toolUse": { "toolUseId": "s", "name": "web", "input": {}, "type": "server_tool_use" } },
        { "text": "hi", "more": 1 },
    ]);
    let mut answer = answer(&content, "end_turn");
    answer["trace"] = json!({ "guardrail": {} });
    assert_eq!(read(&answer).blocks, [Block::text("hi")]);
}

#[test]
fn a_cited_text_says_where_it_comes_from() {
    let content = json!([{ "citationsContent": {
        "content": [{ "text": "Grüße" }],
        "citations": [
            { "title": "T", "location": { "web": { "url": "https://a.example", "domain": "a" } } },
            { "title": "D", "location": { "documentChar": { "documentIndex": 0 } } },
        ],
    } }]);
    let (url, title) = ("https://a.example".to_owned(), Some("T".to_owned()));
    let annotations = vec![Annotation { url, title, start: 0, end: 5 }];
    let wanted = Block::Text { text: "Grüße".to_owned(), annotations };
    assert_eq!(read(&answer(&content, "end_turn")).blocks, [wanted]);
}

#[test]
fn every_reason_to_stop_is_known() {
    let content = json!([{ "text": "x" }]);
    for (reason, stop) in [
        ("end_turn", Stop::EndTurn),
        ("tool_use", Stop::ToolUse),
        ("max_tokens", Stop::MaxTokens),
        ("model_context_window_exceeded", Stop::MaxTokens),
        ("stop_sequence", Stop::Sequence(None)),
        ("guardrail_intervened", Stop::Filtered),
        ("content_filtered", Stop::Filtered),
        ("malformed_tool_use", Stop::EndTurn),
        ("something_new", Stop::EndTurn),
    ] {
        assert_eq!(read(&answer(&content, reason)).stop, stop, "{reason}");
    }
    let mut stopped = answer(&content, "stop_sequence");
    stopped["additionalModelResponseFields"] = json!({ "stop_sequence": "END" });
    assert_eq!(read(&stopped).stop, Stop::Sequence(Some("END".to_owned())));
    stopped["additionalModelResponseFields"] = json!({ "stop_sequence": null });
    assert_eq!(read(&stopped).stop, Stop::Sequence(None));
}

#[test]
fn a_malformed_output_that_says_nothing_is_no_answer() {
    let empty = answer(&json!([]), "malformed_model_output");
    read_response(empty.to_string().as_bytes()).unwrap_err();
    for body in ["", "[]", "{}", r#"{"output":{}}"#, "<html>"] {
        read_response(body.as_bytes()).unwrap_err();
    }
}

#[test]
fn an_answer_is_written_as_aws_writes_it() {
    let signature = Signature { dialect: Dialect::Bedrock, data: "sig".to_owned() };
    let response = Response {
        blocks: vec![
            Block::Thinking { text: "hm".to_owned(), signature: Some(signature) },
            Block::text("hi"),
            Block::Refusal("no".to_owned()),
            call("c", "f", r#"{"a": 1}"#),
            call("d", "f", "oops"),
        ],
        stop: Stop::Sequence(Some("END".to_owned())),
        usage: Some(Usage { input: 7, cache_read: 2, output: 3, ..Usage::default() }),
        ..Response::default()
    };
    let written = write_response(&response, &Told::default());
    let wanted = concat!(
        r#"{"output":{"message":{"role":"assistant","content":["#,
        r#"{"reasoningContent":{"reasoningText":{"text":"hm","signature":"sig"}}},"#,
        r#"{"text":"hi"},{"text":"no"},"#,
        r#"{"toolUse":{"toolUseId":"c","name":"f","input":{"a": 1}}},"#,
        r#"{"toolUse":{"toolUseId":"d","name":"f","input":{"_raw":"oops"}}}]}},"#,
        r#""stopReason":"stop_sequence","#,
        r#""usage":{"inputTokens":5,"outputTokens":3,"totalTokens":10,"cacheReadInputTokens":2},"#,
        r#""metrics":{"latencyMs":0},"additionalModelResponseFields":{"stop_sequence":"END"}}"#,
    );
    assert_eq!(String::from_utf8(written).unwrap(), wanted);
}

#[test]
fn a_refusal_is_told_by_its_header_and_a_message() {
    let refusal = Refusal {
        status: 404,
        code: "model_not_found",
        message: "There is no \"m\".",
        param: None,
        request_id: "r",
    };
    assert_eq!(write_refusal(&refusal), br#"{"message":"There is no \"m\"."}"#);
    assert_eq!(error_type(404, "model_not_found"), "ResourceNotFoundException");
    assert_eq!(error_type(429, "insufficient_quota"), "ServiceQuotaExceededException");
    assert_eq!(error_type(400, ""), "ValidationException");
    // What a client reads of it is the same kind of failure.
    for status in [400, 401, 403, 404, 408, 429, 500, 503] {
        let kind = Failure::read(None, Some(error_type(status, "")), b"{}").kind;
        assert_eq!(kind, FailureKind::of_status(status), "{status}");
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(response in response()) {
        let written = write_response(&response, &Told::default());
        prop_assert_eq!(read_response(&written).unwrap(), response);
    }
}
