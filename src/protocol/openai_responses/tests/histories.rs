//! Conversations that go on by `previous_response_id`.

use serde_json::{Value, json};

use super::read;
use crate::config::Dialect;
use crate::protocol::canonical::{Block, Response, Role, Signature, Turn};
use crate::protocol::openai_responses::{
    echo_with, prepend, stored_input, stored_output, without_others, without_sealed,
};

fn value(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
fn a_conversation_goes_on_with_what_was_kept() {
    let first = br#"{"model":"m","instructions":"Once.","input":"My name is Ann."}"#;
    let sealed = Signature { dialect: Dialect::Anthropic, data: "sig".to_owned() };
    let thinking = Block::Thinking { text: "hm".to_owned(), signature: Some(sealed) };
    let said = vec![thinking, Block::text("Hello Ann.")];
    let answer = Response { id: "resp_1".to_owned(), blocks: said.clone(), ..Response::default() };
    let kept = [stored_input(first).unwrap(), stored_output(&answer)];
    let next = br#"{"model":"m","previous_response_id":"resp_1",
        "input":[{"role":"user","content":"What is my name?"}],"temperature":0.5}"#;
    let body = prepend(next, kept.iter().map(|kept| &**kept)).unwrap();
    let (request, dropped) = read(std::str::from_utf8(&body).unwrap()).unwrap();
    assert!(dropped.is_empty());
    assert!(request.system.is_empty(), "instructions are of one call");
    assert_eq!(request.temperature, Some(0.5));
    let user = |text: &str| Turn { role: Role::User, blocks: vec![Block::text(text)] };
    let assistant = Turn { role: Role::Assistant, blocks: said };
    assert_eq!(request.turns, [user("My name is Ann."), assistant, user("What is my name?")]);
    // And what is kept of the second call is all of it.
    let items = value(stored_input(&body).unwrap().get().as_bytes());
    assert_eq!(items.as_array().map(Vec::len), Some(4));
}

#[test]
fn what_is_put_together_keeps_its_spelling() {
    let body =
        "{\"input\" : \"x\\n\", \"t\\\"\": 1.50, \"n\":null,\n\"big\":12345678901234567890123}";
    let written = prepend(body.as_bytes(), []).unwrap();
    assert_eq!(
        String::from_utf8(written).unwrap(),
        r#"{"t\"":1.50,"big":12345678901234567890123,"input":[{"type":"message","role":"user","content":"x\n"}]}"#
    );
}

#[test]
fn what_is_no_request_is_refused() {
    prepend(b"[]", []).unwrap_err();
    prepend(br#"{"input":7}"#, []).unwrap_err();
    stored_input(br#"{"model":"m"}"#).unwrap_err();
    let kept = stored_input(br#"{"input":"x"}"#).unwrap();
    let body = serde_json::value::RawValue::from_string("{}".to_owned()).unwrap();
    prepend(br#"{"input":"x"}"#, [&*kept, &*body]).unwrap_err();
}

#[test]
fn reasoning_that_is_anothers_is_taken_out() {
    let own = json!({"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"});
    let others = json!({"type": "reasoning", "summary": [], "encrypted_content": "gw1:eyJ9"});
    let says = json!({"role": "user", "content": "what is gw1: ?"});
    let body = json!({"model": "m", "input": [own, others, says], "stream": true}).to_string();
    let without = without_sealed(body.as_bytes()).unwrap();
    assert_eq!(value(&without), json!({"model": "m", "stream": true, "input": [own, says]}));
    assert_eq!(without_sealed(&without), None);
    assert_eq!(without_sealed(b"{}"), None);
}

#[test]
fn of_reasoning_that_was_kept_only_what_the_provider_encrypted_is_left() {
    let own = json!({"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"});
    let others = json!({"type": "reasoning", "summary": [], "encrypted_content": "gw1:eyJ9"});
    let told = json!({"type": "reasoning", "id": "rs_1", "summary": [], "content": []});
    let says = json!({"role": "user", "content": "reasoning"});
    let body = json!({"input": [own, others, told, says], "model": "m"}).to_string();
    let without = without_others(body.as_bytes()).unwrap();
    assert_eq!(value(&without), json!({"model": "m", "input": [own, says]}));
    assert_eq!(without_others(&without), None);
}

#[test]
fn an_answer_repeats_what_is_said_for_the_request() {
    let body = br#"{"store":null,"user":"u","previous_response_id":"x"}"#;
    let echo = echo_with(body, &[("store", "true"), ("previous_response_id", "\"resp_1\"")]);
    let echo = value(echo.get().as_bytes());
    assert_eq!(echo["store"], true);
    assert_eq!((&echo["user"], &echo["previous_response_id"]), (&json!("u"), &json!("resp_1")));
}
