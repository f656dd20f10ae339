use super::*;
use crate::protocol::json::ScanError;
use serde_json::json;

fn edited_as(operation: Operation, body: &str, edits: &Edits) -> Result<String, EditError> {
    let body = Bytes::copy_from_slice(body.as_bytes());
    let members = scan(&body).expect("valid");
    let splice = edit_request(operation, &body, &members, edits)?;
    let edited = splice.apply(&body);
    assert_eq!(scan(&edited).map(drop), Ok::<(), ScanError>(()));
    Ok(String::from_utf8(edited.into()).expect("UTF-8"))
}

fn configured(
    operation: Operation,
    request: &RequestEdits,
    body: &str,
) -> Result<String, EditError> {
    edited_as(
        operation,
        body,
        &Edits {
            model: None,
            request,
            include_usage: false,
            chat_cap: ChatCap::MaxTokens,
            priority: None,
        },
    )
}

fn chat(request: &RequestEdits, body: &str) -> String {
    configured(Operation::ChatCompletions, request, body).expect("editable")
}

fn wrong(result: Result<String, EditError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn only_the_model_is_replaced() {
    let request = RequestEdits::default();
    let model = |body: &str| {
        let edits = Edits {
            model: Some("new\"er"),
            request: &request,
            include_usage: false,
            chat_cap: ChatCap::MaxTokens,
            priority: None,
        };
        edited_as(Operation::Other, body, &edits)
    };
    let body = r#" { "x":123456789012345678901234567890, "mod\u0065l" : "a\u0062" ,"y":1.10}"#;
    let expected = r#" { "x":123456789012345678901234567890, "mod\u0065l" : "new\"er" ,"y":1.10}"#;
    assert_eq!(model(body).unwrap(), expected);
    assert_eq!(model("{}").unwrap(), r#"{"model":"new\"er"}"#);
    assert_eq!(model(r#"{"model":null}"#).unwrap(), r#"{"model":"new\"er"}"#);
    assert_eq!(wrong(model(r#"{"model":7}"#)), "`model` must be a string");
    let same = r#"{"model":"new\u0022er"}"#;
    assert_eq!(model(same).unwrap(), same);
}

#[test]
fn a_cap_lowers_what_the_client_asked_for() {
    let request = RequestEdits { max_tokens: Some(100), ..RequestEdits::default() };
    let chat = |body: &str| chat(&request, body);
    assert_eq!(chat(r#"{"max_tokens":101}"#), r#"{"max_tokens":100}"#);
    assert_eq!(chat(r#"{"max_tokens":99}"#), r#"{"max_tokens":99}"#);
    assert_eq!(
        chat(r#"{"max_completion_tokens":500,"max_tokens":7}"#),
        r#"{"max_completion_tokens":100,"max_tokens":7}"#
    );
    assert_eq!(chat(r#"{"a":1}"#), r#"{"a":1,"max_tokens":100}"#);
    assert_eq!(chat(r#"{"max_tokens":null}"#), r#"{"max_tokens":100}"#);
    for odd in ["-1", "1.5", "\"7\"", "1e3"] {
        let body = format!("{{\"max_tokens\":{odd}}}");
        let error = configured(Operation::ChatCompletions, &request, &body).unwrap_err();
        assert_eq!(error.param(), "max_tokens");
    }
}

#[test]
fn each_endpoint_has_its_own_cap() {
    let request = RequestEdits { max_tokens: Some(9), ..RequestEdits::default() };
    let cap = |operation, body: &str| configured(operation, &request, body).unwrap();
    assert_eq!(cap(Operation::Responses, "{}"), r#"{"max_output_tokens":9}"#);
    assert_eq!(
        cap(Operation::Responses, r#"{"max_output_tokens":10}"#),
        r#"{"max_output_tokens":9}"#
    );
    assert_eq!(cap(Operation::Messages, r#"{"max_tokens":10}"#), r#"{"max_tokens":9}"#);
    assert_eq!(cap(Operation::Completions, "{}"), r#"{"max_tokens":9}"#);
    assert_eq!(cap(Operation::Embeddings, "{}"), "{}");
    assert_eq!(cap(Operation::Other, r#"{"max_tokens":10}"#), r#"{"max_tokens":10}"#);
}

#[test]
fn configured_stops_go_before_the_clients_each_once() {
    let stop = vec!["</s>".to_owned(), "\n".to_owned()];
    let request = RequestEdits { stop, ..RequestEdits::default() };
    let chat = |body: &str| chat(&request, body);
    assert_eq!(chat("{}"), r#"{"stop":["</s>","\n"]}"#);
    assert_eq!(chat(r#"{"stop":null}"#), r#"{"stop":["</s>","\n"]}"#);
    assert_eq!(chat(r#"{"stop":"x"}"#), r#"{"stop":["</s>","\n","x"]}"#);
    assert_eq!(chat(r#"{"stop":["x","\u003c/s>","x"]}"#), r#"{"stop":["</s>","\n","x"]}"#);
    let already = r#"{"stop":["\u003c/s>","\n","x"]}"#;
    assert_eq!(chat(already), already);
    for odd in ["7", "[7]", "{}"] {
        let body = format!("{{\"stop\":{odd}}}");
        assert_eq!(
            wrong(configured(Operation::ChatCompletions, &request, &body)),
            "`stop` must be a string or an array of strings"
        );
    }
    let messages = configured(Operation::Messages, &request, r#"{"stop_sequences":["x"]}"#);
    assert_eq!(messages.unwrap(), r#"{"stop_sequences":["</s>","\n","x"]}"#);
    assert_eq!(configured(Operation::Responses, &request, "{}").unwrap(), "{}");
}

fn extra(body: serde_json::Value) -> RequestEdits {
    let serde_json::Value::Object(extra_body) = body else { return RequestEdits::default() };
    RequestEdits { extra_body, ..RequestEdits::default() }
}

#[test]
fn extra_members_never_replace_the_clients() {
    let request = extra(json!({"top_k": 20, "seed": 1, "x": {"y": [1.5]}}));
    assert_eq!(
        chat(&request, r#"{"se\u0065d":null,"top_k": 3}"#),
        r#"{"se\u0065d":null,"top_k": 3,"x":{"y":[1.5]}}"#
    );
    let embeddings = configured(Operation::Embeddings, &extra(json!({"a": "b"})), "{}");
    assert_eq!(embeddings.unwrap(), r#"{"a":"b"}"#);
}

#[test]
fn edits_build_on_extra_members() {
    let body = json!({"max_tokens": 500, "stop": "e", "stream_options": {"a": 1}});
    let stop = vec!["c".to_owned()];
    let request = RequestEdits { max_tokens: Some(100), stop, ..extra(body) };
    let edits = Edits {
        model: None,
        request: &request,
        include_usage: true,
        chat_cap: ChatCap::MaxTokens,
        priority: None,
    };
    let edited = edited_as(Operation::ChatCompletions, r#"{"stream":true}"#, &edits).unwrap();
    let expected = json!({
        "stream": true,
        "max_tokens": 100,
        "stop": ["c", "e"],
        "stream_options": {"a": 1, "include_usage": true},
    });
    assert_eq!(serde_json::from_str::<serde_json::Value>(&edited).unwrap(), expected);
}

#[test]
fn usage_is_asked_for_in_streams_only() {
    let request = RequestEdits::default();
    let edits = Edits {
        model: None,
        request: &request,
        include_usage: true,
        chat_cap: ChatCap::MaxTokens,
        priority: None,
    };
    let ask = |body: &str| edited_as(Operation::ChatCompletions, body, &edits);
    let unchanged = |body: &str| assert_eq!(ask(body).unwrap(), body);
    unchanged("{}");
    unchanged(r#"{"stream":false}"#);
    unchanged(r#"{"stream":true,"stream_options":{"include_usage":true}}"#);
    assert_eq!(
        ask(r#"{"stream":true}"#).unwrap(),
        r#"{"stream":true,"stream_options":{"include_usage":true}}"#
    );
    assert_eq!(
        ask(r#"{"stream_options":null,"stream":true}"#).unwrap(),
        r#"{"stream_options":{"include_usage":true},"stream":true}"#
    );
    assert_eq!(
        ask(r#"{"stream_options": { "a" : 1e2 } ,"stream":true}"#).unwrap(),
        r#"{"stream_options": { "a" : 1e2 ,"include_usage":true} ,"stream":true}"#
    );
    assert_eq!(
        ask(r#"{"stream":true,"stream_options":{"include_usage" : false,"b":0}}"#).unwrap(),
        r#"{"stream":true,"stream_options":{"include_usage" : true,"b":0}}"#
    );
    assert_eq!(wrong(ask(r#"{"stream":1}"#)), "`stream` must be a boolean");
    let odd = ask(r#"{"stream":true,"stream_options":[]}"#);
    assert_eq!(wrong(odd), "`stream_options` must be an object");
    let responses = edited_as(Operation::Responses, r#"{"stream":true}"#, &edits);
    assert_eq!(responses.unwrap(), r#"{"stream":true}"#);
}

#[test]
fn a_client_that_wants_usage_says_so() {
    let wants = |body: &str| wants_usage(body.as_bytes(), &scan(body.as_bytes()).unwrap());
    assert!(wants(r#"{"x":[0], "stream_options":{"include_usage":true}}"#));
    for body in [
        "{}",
        r#"{"stream_options":null}"#,
        r#"{"stream_options":{"include_usage":false}}"#,
        r#"{"stream_options":{"include_usage":"true"}}"#,
        r#"{"include_usage":true}"#,
    ] {
        assert!(!wants(body), "{body}");
    }
}

#[test]
fn old_thinking_is_taken_out_of_assistant_messages() {
    let strip = ThinkingHistory::Strip;
    let request = RequestEdits { thinking_history: strip, ..RequestEdits::default() };
    let messages = |inner: &str| format!(r#"{{"n":1,"messages": [ {inner} ] ,"z":0}}"#);
    let becomes = |before: &str, after: &str| {
        assert_eq!(chat(&request, &messages(before)), messages(after));
    };
    becomes(
        r#"{"role":"assistant","content":"<think>a\nb</think>\n\nc","x":1},{"role":"user","content":"d"}"#,
        r#"{"role":"assistant","content":"\n\nc","x":1},{"role":"user","content":"d"}"#,
    );
    becomes(
        r#"{"content":[{"type":"text","text":"\u003cthink>é</think>a"},{"text":"b","type":"text"},7],"role":"assistant"}"#,
        r#"{"content":[{"type":"text","text":"a"},{"text":"b","type":"text"},7],"role":"assistant"}"#,
    );
    for same in [
        r#"{"role":"user","content":"<think>a</think>"}"#,
        r#"{"role":"assistant","content":"a<think>b"}"#,
        r#"{"role":"assistant","content":[{"type":"image","text":"<think>a</think>"}]}"#,
        r#"{"role":"assistant","content":null,"reasoning":"<think>a</think>"}"#,
        r#""<think>a</think>""#,
    ] {
        becomes(same, same);
    }
    let odd = r#"{"messages":{"role":"assistant","content":"<think>a</think>"}}"#;
    assert_eq!(chat(&request, odd), odd);
    let kept = messages(r#"{"role":"assistant","content":"<think>a</think>"}"#);
    assert_eq!(chat(&RequestEdits::default(), &kept), kept);
}

#[test]
fn members_that_no_edit_concerns_may_have_any_type() {
    let body = r#"{"stop":7,"max_tokens":"many","stream":"yes","stream_options":1,"messages":{}}"#;
    assert_eq!(chat(&RequestEdits::default(), body), body);
}

#[test]
fn a_cap_is_added_under_the_name_the_provider_takes() {
    let request = RequestEdits { max_tokens: Some(9), ..RequestEdits::default() };
    let edits = Edits {
        model: None,
        request: &request,
        include_usage: false,
        chat_cap: ChatCap::MaxCompletionTokens,
        priority: None,
    };
    let chat = |body: &str| edited_as(Operation::ChatCompletions, body, &edits).expect("editable");
    assert_eq!(chat("{}"), r#"{"max_completion_tokens":9}"#);
    assert_eq!(chat(r#"{"max_tokens":50}"#), r#"{"max_tokens":9}"#);
}

#[test]
fn googles_members_are_bounded_in_either_spelling() {
    let stop = vec!["END".to_owned()];
    let request = RequestEdits { max_tokens: Some(9), stop, ..RequestEdits::default() };
    let edits = Edits {
        model: None,
        request: &request,
        include_usage: false,
        chat_cap: ChatCap::MaxTokens,
        priority: None,
    };
    for (body, edited) in [
        ("{}", r#"{"generationConfig":{"maxOutputTokens":9,"stopSequences":["END"]}}"#),
        (
            r#"{"generation_config":{"max_output_tokens":"50","stop_sequences":["a"]}}"#,
            r#"{"generation_config":{"max_output_tokens":9,"stop_sequences":["END","a"]}}"#,
        ),
        (
            r#"{"generationConfig":{"max_output_tokens":5e1,"maxOutputTokens":"7"}}"#,
            r#"{"generationConfig":{"max_output_tokens":9,"maxOutputTokens":"7","stopSequences":["END"]}}"#,
        ),
        (
            r#"{"generationConfig":{"maxOutputTokens":"1"},"generation_config":{}}"#,
            r#"{"generationConfig":{"maxOutputTokens":"1","stopSequences":["END"]},"generation_config":{"maxOutputTokens":9,"stopSequences":["END"]}}"#,
        ),
    ] {
        let got = edited_as(Operation::GenerateContent, body, &edits).expect("editable");
        assert_eq!(got, edited, "{body}");
    }
    let odd = r#"{"generation_config":{"max_output_tokens":"many"}}"#;
    let odd = edited_as(Operation::GenerateContent, odd, &edits);
    assert_eq!(wrong(odd), "`max_output_tokens` must be a whole number that is not negative");
}

#[test]
fn a_cap_holds_for_what_a_model_behind_converse_takes_in_its_own_words() {
    let request = RequestEdits { max_tokens: Some(9), ..RequestEdits::default() };
    let edits = Edits {
        model: None,
        request: &request,
        include_usage: false,
        chat_cap: ChatCap::MaxTokens,
        priority: None,
    };
    let body = r#"{"additionalModelRequestFields":{"max_tokens":500,"top_k":3}}"#;
    assert_eq!(
        edited_as(Operation::Converse, body, &edits).expect("editable"),
        r#"{"additionalModelRequestFields":{"max_tokens":9,"top_k":3},"inferenceConfig":{"maxTokens":9}}"#
    );
}

#[test]
fn a_priority_takes_the_place_of_the_clients_and_of_a_configured_one() {
    let extra = serde_json::json!({"priority": 7}).as_object().cloned().unwrap_or_default();
    let request = RequestEdits { extra_body: extra, ..RequestEdits::default() };
    let edits = Edits {
        model: None,
        request: &request,
        include_usage: false,
        chat_cap: ChatCap::MaxTokens,
        priority: Some(-10),
    };
    for body in [r#"{"model":"m"}"#, r#"{"priority":-1000,"model":"m"}"#] {
        let edited = edited_as(Operation::ChatCompletions, body, &edits).expect("editable");
        let edited: serde_json::Value = serde_json::from_str(&edited).expect("JSON");
        assert_eq!(edited["priority"], -10, "{body}");
    }
}
