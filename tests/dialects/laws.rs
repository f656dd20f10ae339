//! What holds of every stream, whoever gets it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use forebay::config::{Dialect, Translation};
use forebay::protocol::canonical::{Block, Collector, Event, Response, Stop, ToolKind, ToolUse};
use forebay::protocol::{anthropic, bedrock, gemini, openai_chat, openai_responses};
use serde_json::{Value, json};

use crate::cases::{Answer, Asks, Case, cases};
use crate::providers::PROVIDERS;
use crate::requests::written;
use crate::validators::{self, End, Seen};
use crate::{DIALECTS, crossing};

/// Every stream × every client, the provider's own dialect included: its reader and writer are held to
/// the same.
fn for_each_cell(check: impl Fn(&Case, &Bytes, Dialect, Vec<u8>)) {
    let mut broken = Vec::new();
    for case in cases() {
        let Some(stream) = case.stream() else { continue };
        for (client, name) in DIALECTS {
            let told = cell(&case, client, [&stream[..]]);
            let check = AssertUnwindSafe(|| check(&case, stream, client, told));
            if let Err(panic) = catch_unwind(check) {
                let said = panic.downcast_ref::<String>().cloned();
                let said = said.or(panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
                broken.push(format!("{} for {name}: {}", case.name, said.unwrap_or_default()));
            }
        }
    }
    assert!(broken.is_empty(), "{} cells:\n{}", broken.len(), broken.join("\n"));
}

fn cell<'p>(case: &Case, client: Dialect, pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<u8> {
    crossing::stream(crossing::back(client, case.provider, case.asks(), true), pieces)
}

#[test]
fn every_stream_is_as_its_client_expects_it() {
    for_each_cell(|case, _, client, told| {
        let seen = validators::read(client, &told);
        let fails = seen.end == End::Failed;
        assert!(fails || seen.usage.is_some() || !tells_usage(case), "no usage is told");
    });
}

/// Whether the provider told usage. (One that is followed is no chat for that, but the same bytes.)
fn tells_usage(case: &Case) -> bool {
    collected(case.provider, case.stream().unwrap()).is_some_and(|answer| answer.usage.is_some())
}

#[test]
fn every_client_understands_the_same() {
    for_each_cell(|case, stream, client, told| {
        if case.asks() != Asks::Words {
            return;
        }
        let seen = validators::read(client, &told);
        let Some(answer) = collected(case.provider, stream) else {
            assert_eq!(seen.end, End::Failed);
            return;
        };
        assert_eq!(seen, meaning(&answer, client));
    });
}

#[test]
fn a_stream_tells_the_same_however_it_is_cut() {
    for_each_cell(|case, stream, client, told| {
        for size in [1, 2, 3, 7] {
            let cut = cell(case, client, stream.chunks(size));
            assert!(cut == told, "cut into pieces of {size}");
        }
    });
}

#[test]
fn a_stream_that_breaks_off_is_never_told_as_if_it_were_whole() {
    for_each_cell(|case, stream, client, told| {
        let whole = validators::read(client, &told);
        // Many places, of all kinds.
        let step = stream.len() / 60 + 1;
        for length in (0..stream.len()).step_by(step) {
            let cut = validators::read(client, &cell(case, client, [&stream[..length]]));
            assert!(whole.text.starts_with(&cut.text), "{length} bytes: {:?}", cut.text);
            // Usage may stand behind the end.
            let cut = Seen { usage: whole.usage, ..cut };
            assert!(cut.end == End::Failed || cut == whole, "{length} bytes: {cut:?}");
        }
    });
}

#[test]
fn a_stream_collects_to_the_whole_answer() {
    let cases = cases();
    let mut pairs = 0;
    for case in &cases {
        let Answer::Whole(body) = &case.answer else { continue };
        let Some(name) = case.name.strip_suffix("-whole") else { continue };
        let stream = cases.iter().find(|it| it.name == name).expect("its stream");
        let whole = read_response(case.provider, body);
        let streamed = collected(case.provider, stream.stream().unwrap()).expect("a whole stream");
        assert_eq!(streamed, whole, "{name}");
        pairs += 1;
    }
    assert_eq!(pairs, DIALECTS.len(), "each dialect has a pair");
}

#[test]
fn a_whole_answer_told_as_a_stream_means_the_same() {
    for case in cases() {
        let Answer::Whole(body) = &case.answer else { continue };
        for (client, name) in DIALECTS {
            let mut back = crossing::back(client, case.provider, case.asks(), true);
            let (told, _) = back.whole(body, true).unwrap();
            let meant = meaning(&read_response(case.provider, body), client);
            assert_eq!(validators::read(client, &told), meant, "{} for {name}", case.name);
        }
    }
}

/// What a client understands of an answer.
fn meaning(answer: &Response, client: Dialect) -> Seen {
    let mut seen = Seen::default();
    for block in &answer.blocks {
        match block {
            Block::Text { text, .. } | Block::Refusal(text) => seen.text.push_str(text),
            Block::Thinking { text, .. } => seen.thinking.push_str(text),
            Block::ToolUse(call) => seen.calls.push((call.name.clone(), arguments(call, client))),
            _ => {}
        }
    }
    seen.end = match &answer.stop {
        Stop::EndTurn | Stop::Sequence(_) => End::Stop,
        Stop::MaxTokens => End::Length,
        Stop::ToolUse => End::Calls,
        Stop::Filtered => End::Filtered,
    };
    seen.usage = answer.usage.map(|usage| (usage.input, usage.output));
    if matches!(client, Dialect::Anthropic | Dialect::Bedrock) {
        // There a stream always tells usage.
        seen.usage.get_or_insert((0, 0));
    }
    seen
}

/// What a tool is called with, as this client's dialect has it.
fn arguments(call: &ToolUse, client: Dialect) -> Value {
    let has_custom_tools = matches!(client, Dialect::OpenaiChat | Dialect::OpenaiResponses);
    let text = || Value::String(call.arguments.clone());
    match call.kind {
        ToolKind::Custom if !has_custom_tools => json!({ "input": text() }),
        ToolKind::Custom => text(),
        // A call of Google's has an object, even if the model broke off.
        ToolKind::Function if client == Dialect::Gemini => {
            serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({ "_raw": text() }))
        }
        ToolKind::Function => serde_json::from_str(&call.arguments).unwrap_or_else(|_| text()),
    }
}

fn read_response(dialect: Dialect, body: &[u8]) -> Response {
    match dialect {
        Dialect::OpenaiChat => openai_chat::read_response(body),
        Dialect::OpenaiResponses => openai_responses::read_response(body),
        Dialect::Anthropic => anthropic::read_response(body),
        Dialect::Gemini => gemini::read_response(body),
        Dialect::Bedrock => bedrock::read_response(body),
    }
    .expect("an answer")
}

/// The answer that a stream comes to; none if it fails.
fn collected(dialect: Dialect, stream: &Bytes) -> Option<Response> {
    macro_rules! events {
        ($room:ident) => {{
            let (mut reader, mut events) = ($room::StreamReader::new(), Vec::new());
            reader.push(stream.clone(), &mut events);
            reader.finish(&mut events);
            events
        }};
    }
    let events: Vec<Event> = match dialect {
        Dialect::OpenaiChat => events!(openai_chat),
        Dialect::OpenaiResponses => events!(openai_responses),
        Dialect::Anthropic => events!(anthropic),
        Dialect::Gemini => events!(gemini),
        Dialect::Bedrock => events!(bedrock),
    };
    let mut collector = Collector::default();
    events.into_iter().find_map(|event| collector.push(event).ok().flatten())
}

// === the way there and back ===

/// What a model of Google's answers: a call that it has signed.
const SIGNED_CALL: &[u8] = br#"{"candidates":[{"content":{"role":"model","parts":[
    {"functionCall":{"name":"f","args":{"a":1},"id":"call-1"},"thoughtSignature":"c2lnbmVk"}]},
    "finishReason":"STOP"}],"responseId":"r"}"#;

/// The client's next request: what it was told, as its SDK sends it back, and what the call came to.
fn next_turn(client: Dialect, told: &Value) -> Value {
    let schema = json!({"type": "object", "properties": {"a": {"type": "integer"}}});
    match client {
        Dialect::OpenaiChat => {
            let message = &told["choices"][0]["message"];
            let id = &message["tool_calls"][0]["id"];
            json!({"model": "m", "messages": [{"role": "user", "content": "hi"}, message,
                {"role": "tool", "tool_call_id": id, "content": "done"}],
                "tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]})
        }
        Dialect::OpenaiResponses => {
            let mut input = vec![json!({"role": "user", "content": "hi"})];
            input.extend(told["output"].as_array().unwrap().iter().cloned());
            let call = input.iter().find(|item| item["type"] == "function_call").unwrap();
            input.push(json!({"type": "function_call_output", "call_id": call["call_id"],
                "output": "done"}));
            json!({"model": "m", "input": input,
                "tools": [{"type": "function", "name": "f", "parameters": schema}]})
        }
        Dialect::Anthropic => {
            let content = told["content"].as_array().unwrap();
            let call = content.iter().find(|block| block["type"] == "tool_use").unwrap();
            let result =
                json!({"type": "tool_result", "tool_use_id": call["id"], "content": "done"});
            json!({"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": "hi"},
                {"role": "assistant", "content": content}, {"role": "user", "content": [result]}],
                "tools": [{"name": "f", "input_schema": schema}]})
        }
        Dialect::Bedrock => {
            let message = &told["output"]["message"];
            let blocks = message["content"].as_array().unwrap();
            let call = blocks.iter().find_map(|block| block.get("toolUse")).unwrap();
            let result = json!({"toolUseId": call["toolUseId"], "content": [{"text": "done"}]});
            json!({"messages": [{"role": "user", "content": [{"text": "hi"}]}, message,
                {"role": "user", "content": [{"toolResult": result}]}],
                "toolConfig": {"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": schema}}}]}})
        }
        Dialect::Gemini => unreachable!("the call is its own"),
    }
}

#[test]
fn what_signs_a_call_comes_back_to_its_provider_from_every_client() {
    let google = PROVIDERS.into_iter().find(|it| it.dialect == Dialect::Gemini).unwrap();
    for (client, name) in DIALECTS.into_iter().filter(|(client, _)| *client != Dialect::Gemini) {
        let back = crossing::back(client, Dialect::Gemini, Asks::Words, false);
        let told: Value =
            serde_json::from_slice(&crossing::whole(back, SIGNED_CALL).unwrap()).unwrap();
        let body = next_turn(client, &told).to_string();
        let asked = written(client, body.as_bytes(), google, Translation::Lenient);
        let asked = asked.unwrap_or_else(|why| panic!("{name}: {why}"));
        let asked: Value = serde_json::from_slice(&asked.body).unwrap();
        let parts = asked["contents"][1]["parts"].as_array().unwrap();
        let call = parts.iter().find(|part| part.get("functionCall").is_some()).unwrap();
        assert_eq!(call["thoughtSignature"], "c2lnbmVk", "{name}: {asked}");
        // Nobody else is sent what it cannot read.
        for other in PROVIDERS.into_iter().filter(|it| it.dialect != Dialect::Gemini) {
            let Ok(asked) = written(client, body.as_bytes(), other, Translation::Lenient) else {
                continue;
            };
            let text = String::from_utf8(asked.body).unwrap();
            let leaks = ["c2lnbmVk", "forebay", "Zm9yZWJheS5", "gw1:"];
            let leak = leaks.iter().find(|mark| text.contains(**mark));
            assert!(leak.is_none() || other.dialect == client, "{name} to {}: {text}", other.name);
        }
    }
}
