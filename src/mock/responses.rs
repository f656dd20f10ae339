//! `POST /v1/responses`.

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{Answer, Finish, Question, Tool, answer, choose};
use super::ask::{Ask, Outcome, text_of, tokens_of};
use super::chat::{add, check_temperature};
use super::reply::{Reply, named_event};

/// Answers with a response: a message, or a function call.
pub fn serve(ask: &Ask) -> Outcome {
    let input = ask.require("input")?;
    if !input.is_string() && !input.is_array() {
        return Err(Reply::bad_request("input must be text or a list of items", Some("input")));
    }
    check_temperature(ask)?;
    let answer = answer(&question(ask, input), ask.words);
    if ask.flag("stream") {
        return Ok(Reply::stream(events(ask, input, &answer)));
    }
    Ok(Reply::json(&finished(ask, input, &answer)))
}

/// Counts a prompt's tokens.
pub fn count(ask: &Ask) -> Outcome {
    let tokens = prompt_tokens(ask, ask.require("input")?);
    Ok(Reply::json(&json!({"object": "response.input_tokens", "input_tokens": tokens})))
}

fn prompt_tokens(ask: &Ask, input: &Value) -> usize {
    tokens_of(&text_of(input)) + ask.text("instructions").map_or(0, tokens_of)
}

fn question(ask: &Ask, input: &Value) -> Question {
    let items = input.as_array().map(Vec::as_slice).unwrap_or_default();
    let is =
        |item: &Value, member: &str, value: &str| item.get(member).is_some_and(|is| is == value);
    // A tool that has answered is not called again: an agent's loop must end.
    let answered = items.last().filter(|item| is(item, "type", "function_call_output"));
    let user = items.iter().rev().find(|item| is(item, "role", "user"));
    let prompt = answered.and_then(|item| item.get("output")).or(user).unwrap_or(input);
    Question {
        prompt: text_of(prompt),
        tool: if answered.is_some() { None } else { tool(ask) },
        format: format(ask),
        limit: ask.count("max_output_tokens"),
        stop: Vec::new(),
    }
}

fn tool(ask: &Ask) -> Option<Tool> {
    let choice = ask.member("tool_choice");
    if choice.is_some_and(|choice| choice == "none") {
        return None;
    }
    let wanted = choice.and_then(|choice| choice.get("name")).and_then(Value::as_str);
    let tools = ask.member("tools")?.as_array()?;
    let is_function = |tool: &&Value| tool.get("type").is_some_and(|kind| kind == "function");
    choose(&tools.iter().filter(is_function).collect::<Vec<_>>(), "parameters", wanted)
}

fn format(ask: &Ask) -> Option<Value> {
    let format = ask.member("text")?.get("format")?;
    match format.get("type")?.as_str()? {
        "json_object" => Some(json!({})),
        "json_schema" => format.get("schema").cloned(),
        _ => None,
    }
}

/// The response as it is while it is being made.
fn begun(ask: &Ask) -> Value {
    json!({"id": ask.id("resp_"), "object": "response", "created_at": ask.now, "model": ask.model,
        "status": "in_progress", "background": false, "error": null, "incomplete_details": null,
        "instructions": ask.member("instructions"),
        "max_output_tokens": ask.member("max_output_tokens"),
        "metadata": ask.member("metadata").cloned().unwrap_or_else(|| json!({})), "output": [],
        "parallel_tool_calls": true, "previous_response_id": ask.member("previous_response_id"),
        "temperature": ask.member("temperature").cloned().unwrap_or_else(|| json!(1.0)),
        "top_p": 1.0,
        "text": {"format": {"type": "text"}}, "truncation": "disabled", "usage": null, "user": null,
        "tool_choice": ask.member("tool_choice").cloned().unwrap_or_else(|| json!("auto")),
        "tools": ask.member("tools").cloned().unwrap_or_else(|| json!([]))})
}

/// The response when it is done.
fn finished(ask: &Ask, input: &Value, answer: &Answer) -> Value {
    let mut response = begun(ask);
    let (status, details) = match answer.finish {
        Finish::Length => ("incomplete", json!({"reason": "max_output_tokens"})),
        Finish::Stop | Finish::Tool => ("completed", Value::Null),
    };
    let asked = prompt_tokens(ask, input);
    let answered = answer.tokens();
    add(&mut response, "status", json!(status));
    add(&mut response, "incomplete_details", details);
    add(&mut response, "output", json!([item(ask, answer, Some(&answer.text()))]));
    add(
        &mut response,
        "usage",
        json!({"input_tokens": asked, "output_tokens": answered, "total_tokens": asked + answered,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0}}),
    );
    response
}

/// The one output item: with its text when it is done, without while it is being made.
fn item(ask: &Ask, answer: &Answer, text: Option<&str>) -> Value {
    let status = if text.is_some() { "completed" } else { "in_progress" };
    if let Some(name) = &answer.tool {
        return json!({"id": ask.id("fc_"), "type": "function_call", "status": status, "name": name,
            "call_id": ask.id("call_"), "arguments": text.unwrap_or_default()});
    }
    let content: Vec<Value> = text.map(part).into_iter().collect();
    json!({"id": ask.id("msg_"), "type": "message", "role": "assistant", "status": status,
        "content": content})
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn events(ask: &Ask, input: &Value, answer: &Answer) -> Vec<Bytes> {
    let text = answer.text();
    let message = answer.tool.is_none();
    let id = ask.id(if message { "msg_" } else { "fc_" });
    let kind = if message { "response.output_text" } else { "response.function_call_arguments" };
    let place = |name: &str, extra: Value| {
        let mut event = json!({"type": name, "item_id": id, "output_index": 0});
        if message {
            add(&mut event, "content_index", json!(0));
        }
        for (name, value) in extra.as_object().into_iter().flatten() {
            add(&mut event, name, value.clone());
        }
        event
    };

    let mut events = vec![
        json!({"type": "response.created", "response": begun(ask)}),
        json!({"type": "response.in_progress", "response": begun(ask)}),
        json!({"type": "response.output_item.added", "output_index": 0,
            "item": item(ask, answer, None)}),
    ];
    if message {
        events.push(place("response.content_part.added", json!({"part": part("")})));
    }
    for piece in &answer.pieces {
        events.push(place(&format!("{kind}.delta"), json!({"delta": piece})));
    }
    if message {
        events.push(place("response.output_text.done", json!({"text": text, "logprobs": []})));
        events.push(place("response.content_part.done", json!({"part": part(&text)})));
    } else {
        let done = json!({"arguments": text, "name": answer.tool});
        events.push(place("response.function_call_arguments.done", done));
    }
    let item = item(ask, answer, Some(&text));
    events.push(json!({"type": "response.output_item.done", "output_index": 0, "item": item}));
    let last =
        if answer.finish == Finish::Length { "response.incomplete" } else { "response.completed" };
    events.push(json!({"type": last, "response": finished(ask, input, answer)}));
    events
        .iter_mut()
        .enumerate()
        .for_each(|(number, event)| add(event, "sequence_number", json!(number)));
    events.iter().map(named_event).collect()
}

#[cfg(test)]
mod tests {
    use super::super::ask::tests::ask;
    use super::*;

    #[test]
    fn an_input_is_answered_with_a_message() {
        let body = serve(&ask(json!({"input": "hello"}))).unwrap().value();
        assert!(body["output"][0]["content"][0]["text"].as_str().unwrap().contains("hello"));
        assert_eq!(
            (&body["status"], &body["usage"]["total_tokens"]),
            (&json!("completed"), &json!(17))
        );
    }

    #[test]
    fn events_are_numbered_and_end_with_the_response() {
        let events = serve(&ask(json!({"input": "hello", "stream": true}))).unwrap().events();
        for (number, event) in events.iter().enumerate() {
            assert_eq!(event["sequence_number"], number);
        }
        let text: String = events.iter().filter_map(|event| event["delta"].as_str()).collect();
        assert_eq!(events.last().unwrap()["response"]["output"][0]["content"][0]["text"], text);
    }

    #[test]
    fn a_function_is_called_until_it_has_answered() {
        let tools = json!([{"type": "function", "name": "weather",
            "parameters": {"properties": {"city": {}}}}]);
        let called = serve(&ask(json!({"input": "Rome", "tools": tools}))).unwrap().value();
        assert_eq!(called["output"][0]["arguments"], r#"{"city":"Rome"}"#);
        let items = json!([{"role": "user", "content": "Rome"}, {"type": "function_call_output",
            "output": "sunny"}]);
        let told = serve(&ask(json!({"input": items, "tools": tools}))).unwrap().value();
        assert!(told["output"][0]["content"][0]["text"].as_str().unwrap().contains("sunny"));
    }

    #[test]
    fn a_limit_leaves_it_incomplete() {
        let body = serve(&ask(json!({"input": "hello", "max_output_tokens": 2}))).unwrap().value();
        assert_eq!(body["incomplete_details"]["reason"], "max_output_tokens");
    }
}
