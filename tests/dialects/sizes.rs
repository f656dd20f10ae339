//! Long requests: what they cost grows as they do.

use std::time::{Duration, Instant};

use forebay::config::{Dialect, RequestEdits, Translation};
use forebay::protocol::Task;
use forebay::protocol::canonical::{Asked, Target};
use forebay::protocol::translate::{Call, Route, translate};
use serde_json::{Value, json};

use crate::providers::{PROVIDERS, Provider};
use crate::requests::written;
use crate::{asking, crossing};

/// So many items, and how many times fewer the short request has.
const ITEMS: usize = 20_000;
const FEWER: usize = 16;
/// What is linear takes `FEWER` times as long, what is quadratic that squared.
const MOST: u32 = 80;

/// What takes no longer is as quick as it need be, and too short to be compared.
const BRIEF: Duration = Duration::from_millis(200);

/// A conversation of calls and their results, in chat's words; half of its tools are marked.
fn chat(items: usize) -> Vec<u8> {
    let mut messages = vec![json!({"role": "user", "content": "begin"})];
    for number in 0..items / 2 {
        let id = format!("call_{number}");
        let function = json!({"name": "f", "arguments": "{\"a\":1.50}"});
        let calls = json!([{"id": id, "type": "function", "function": function}]);
        messages.push(json!({"role": "assistant", "content": null, "tool_calls": calls}));
        messages.push(json!({"role": "tool", "tool_call_id": id, "content": "done"}));
    }
    messages.push(json!({"role": "user", "content": "end"}));
    let function = json!({"name": "f", "parameters": {"type": "object", "properties": {}}});
    let tools = json!([{"type": "function", "function": function}]);
    json!({"model": "m", "messages": messages, "tools": tools}).to_string().into_bytes()
}

fn tools(items: usize) -> Vec<u8> {
    let tool = |number: usize| {
        let parameters = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        let name = format!("a name that fits nobody/{number}");
        json!({"type": "function", "function": {"name": name, "parameters": parameters}})
    };
    let tools: Vec<Value> = (0..items).map(tool).collect();
    let messages = json!([{"role": "user", "content": "hi"}]);
    json!({"model": "m", "messages": messages, "tools": tools}).to_string().into_bytes()
}

fn took(ask: impl Fn()) -> Duration {
    let begun = Instant::now();
    ask();
    begun.elapsed()
}

/// Asks once for much and a few times for little.
#[track_caller]
fn is_linear(about: &str, ask: impl Fn(usize)) {
    let short = (0..3).map(|_| took(|| ask(ITEMS / FEWER))).min().unwrap();
    let mut long = took(|| ask(ITEMS));
    if long > short * MOST {
        // Somebody else may have had the processor.
        long = long.min(took(|| ask(ITEMS)));
    }
    assert!(
        long < BRIEF || long <= short * MOST,
        "{about}: {short:?} for a {FEWER}th, {long:?} for all"
    );
}

/// The same request in this dialect.
fn said_in(provider: Provider, body: &[u8]) -> Vec<u8> {
    if provider.dialect == Dialect::OpenaiChat {
        return body.to_vec();
    }
    written(Dialect::OpenaiChat, body, provider, Translation::Lenient).unwrap().body
}

#[test]
fn a_request_of_twenty_thousand_items_costs_as_many_times_one_of_few() {
    for (what, make) in [("messages", chat as fn(usize) -> Vec<u8>), ("tools", tools)] {
        for client in PROVIDERS {
            let bodies = [ITEMS / FEWER, ITEMS].map(|items| said_in(client, &make(items)));
            for provider in PROVIDERS {
                let about = format!("{what} of {} for {}", client.name, provider.name);
                is_linear(&about, |items| {
                    let body = &bodies[usize::from(items == ITEMS)];
                    // What is refused is refused as quickly.
                    let _ = written(client.dialect, body, provider, Translation::Lenient);
                });
            }
        }
    }
}

#[test]
fn twenty_thousand_texts_to_embed_cost_as_many_times_a_few() {
    for provider in PROVIDERS {
        is_linear(provider.name, |items| {
            let texts: Vec<String> = (0..items).map(|number| number.to_string()).collect();
            let body = json!({"model": "m", "input": texts}).to_string();
            let (rules, edits) = (provider.rules(), RequestEdits::default());
            let route = Route {
                client: Dialect::OpenaiChat,
                provider: provider.dialect,
                kind: provider.kind,
                asked: Asked { model: Some(asking::MODEL), stream: false },
                target: Target { model: provider.model, rules: &rules },
                translation: Translation::Lenient,
                edits: &edits,
            };
            let call = Call { task: Task::Embed, several: false };
            let _ = translate(body.as_bytes(), call, &route, crossing::told());
        });
    }
}
