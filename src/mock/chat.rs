//! `POST /v1/chat/completions`.

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{Answer, Finish, Question, Tool, answer, choose};
use super::ask::{Ask, Outcome, text_of, tokens_of};
use super::reply::{DONE, Reply, event};

/// More choices than this are refused.
const CHOICES: usize = 16;

/// Answers a chat.
pub fn serve(ask: &Ask) -> Outcome {
    let messages = ask.require("messages")?.as_array();
    let Some(messages) = messages.filter(|messages| !messages.is_empty()) else {
        return Err(Reply::bad_request(
            "messages must be a list with a message in it",
            Some("messages"),
        ));
    };
    check_temperature(ask)?;
    let choices = choices(ask)?;
    let answer = answer(&question(ask, messages), ask.words);
    let prompt_tokens = prompt_tokens(ask, messages);
    let usage = usage(prompt_tokens, choices * answer.tokens());
    if ask.flag("stream") {
        return Ok(Reply::stream(events(ask, &answer, choices, &usage)));
    }
    let choice = |index| {
        let message = message(ask, &answer, index);
        json!({"index": index, "message": message, "logprobs": null,
            "finish_reason": finish(&answer)})
    };
    let mut body = head(ask, "chat.completion");
    add(&mut body, "choices", (0..choices).map(choice).collect());
    add(&mut body, "usage", usage);
    Ok(Reply::json(&body))
}

/// How many answers are wanted (`n`).
pub fn choices(ask: &Ask) -> Result<usize, Reply> {
    let choices = ask.count("n").unwrap_or(1);
    if (1..=CHOICES).contains(&choices) {
        return Ok(choices);
    }
    Err(Reply::bad_request(&format!("n must be between 1 and {CHOICES}"), Some("n")))
}

/// Refuses what every server refuses: a temperature that is no number, or out of range.
pub fn check_temperature(ask: &Ask) -> Result<(), Reply> {
    let Some(temperature) = ask.member("temperature") else { return Ok(()) };
    if temperature.as_f64().is_some_and(|value| (0.0..=2.0).contains(&value)) {
        return Ok(());
    }
    Err(Reply::bad_request("temperature must be a number from 0 to 2", Some("temperature")))
}

/// The texts an answer ends before (`stop`): one or several.
pub fn stops(ask: &Ask) -> Vec<String> {
    match ask.member("stop") {
        Some(Value::String(stop)) => vec![stop.clone()],
        Some(Value::Array(stops)) => {
            stops.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

/// The tokens of a chat and of its answer.
pub fn usage(prompt: usize, completion: usize) -> Value {
    json!({"prompt_tokens": prompt, "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0}})
}

/// Puts a member into an object.
pub fn add(object: &mut Value, name: &str, value: Value) {
    if let Some(members) = object.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
}

fn question(ask: &Ask, messages: &[Value]) -> Question {
    let role = |message: &Value, role: &str| message.get("role").is_some_and(|name| name == role);
    let last_user = messages.iter().rev().find(|message| role(message, "user"));
    // A tool that has answered is not called again: an agent's loop must end.
    let answered = messages.last().is_some_and(|message| role(message, "tool"));
    let prompt = if answered { messages.last() } else { last_user };
    Question {
        prompt: prompt.map(text_of).unwrap_or_default(),
        tool: if answered { None } else { tool(ask) },
        format: format(ask),
        limit: ask.count("max_completion_tokens").or_else(|| ask.count("max_tokens")),
        stop: stops(ask),
    }
}

fn tool(ask: &Ask) -> Option<Tool> {
    let choice = ask.member("tool_choice");
    if choice.is_some_and(|choice| choice == "none") {
        return None;
    }
    let wanted = choice.and_then(|choice| choice.pointer("/function/name")).and_then(Value::as_str);
    let tools = ask.member("tools")?.as_array()?;
    let functions: Vec<&Value> = tools.iter().filter_map(|tool| tool.get("function")).collect();
    choose(&functions, "parameters", wanted)
}

fn format(ask: &Ask) -> Option<Value> {
    let format = ask.member("response_format")?;
    match format.get("type")?.as_str()? {
        "json_object" => Some(json!({})),
        "json_schema" => format.pointer("/json_schema/schema").cloned(),
        _ => None,
    }
}

fn prompt_tokens(ask: &Ask, messages: &[Value]) -> usize {
    let tools = ask.member("tools").map(|tools| tokens_of(&tools.to_string())).unwrap_or_default();
    let texts: usize = messages.iter().map(|message| 1 + tokens_of(&text_of(message))).sum();
    texts + tools
}

fn head(ask: &Ask, object: &str) -> Value {
    json!({"id": ask.id("chatcmpl-"), "object": object, "created": ask.now, "model": ask.model,
        "system_fingerprint": "forebay-mock"})
}

fn finish(answer: &Answer) -> &'static str {
    match answer.finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::Tool => "tool_calls",
    }
}

fn message(ask: &Ask, answer: &Answer, index: usize) -> Value {
    let text = answer.text();
    let Some(name) = &answer.tool else {
        return json!({"role": "assistant", "content": text, "refusal": null});
    };
    let call = json!({"id": call_id(ask, index), "type": "function",
        "function": {"name": name, "arguments": text}});
    json!({"role": "assistant", "content": null, "refusal": null, "tool_calls": [call]})
}

/// Each choice makes its own call.
fn call_id(ask: &Ask, index: usize) -> String {
    format!("{}{index}", ask.id("call_"))
}

fn events(ask: &Ask, answer: &Answer, choices: usize, usage: &Value) -> Vec<Bytes> {
    let with_usage = ask
        .member("stream_options")
        .and_then(|options| options.get("include_usage"))
        .is_some_and(|wanted| wanted == true);
    let chunk = |index: usize, delta: Value, finish: Option<&str>| {
        let mut chunk = head(ask, "chat.completion.chunk");
        let choice =
            json!({"index": index, "delta": delta, "logprobs": null, "finish_reason": finish});
        add(&mut chunk, "choices", json!([choice]));
        if with_usage {
            add(&mut chunk, "usage", Value::Null);
        }
        event(&chunk)
    };

    let mut events = Vec::with_capacity(choices * (answer.tokens() + 2) + 2);
    events.extend((0..choices).map(|index| chunk(index, opening(ask, answer, index), None)));
    for piece in &answer.pieces {
        events.extend((0..choices).map(|index| chunk(index, delta(answer, piece), None)));
    }
    events.extend((0..choices).map(|index| chunk(index, json!({}), Some(finish(answer)))));
    if with_usage {
        let mut last = head(ask, "chat.completion.chunk");
        add(&mut last, "choices", json!([]));
        add(&mut last, "usage", usage.clone());
        events.push(event(&last));
    }
    events.push(DONE);
    events
}

/// The first delta of a choice: the role and, for a call, the name of the function.
fn opening(ask: &Ask, answer: &Answer, index: usize) -> Value {
    let Some(name) = &answer.tool else { return json!({"role": "assistant", "content": ""}) };
    let call = json!({"index": 0, "id": call_id(ask, index), "type": "function",
        "function": {"name": name, "arguments": ""}});
    json!({"role": "assistant", "content": null, "tool_calls": [call]})
}

fn delta(answer: &Answer, piece: &str) -> Value {
    if answer.tool.is_none() {
        return json!({"content": piece});
    }
    json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
}

#[cfg(test)]
mod tests {
    use super::super::ask::tests::ask;
    use super::*;

    fn hello(extra: &Value) -> Ask {
        let mut body = json!({"messages": [{"role": "user", "content": "hello"}]});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        ask(body)
    }

    fn weather() -> Value {
        let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}});
        json!([{"type": "function", "function": {"name": "weather", "parameters": parameters}}])
    }

    #[test]
    fn a_chat_is_answered_with_usage() {
        let body = serve(&hello(&json!({}))).unwrap().value();
        assert!(body["choices"][0]["message"]["content"].as_str().unwrap().contains("hello"));
        assert_eq!(body["choices"][0]["finish_reason"], "stop");
        assert_eq!(body["usage"]["total_tokens"], 2 + 16);
    }

    #[test]
    fn a_stream_says_the_same_as_the_whole() {
        let whole = serve(&hello(&json!({"n": 2}))).unwrap().value();
        let events = serve(&hello(&json!({"n": 2, "stream": true}))).unwrap().events();
        for index in 0..2 {
            let deltas = events.iter().filter(|event| event["choices"][0]["index"] == index);
            let text: String = deltas
                .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
                .collect();
            assert_eq!(whole["choices"][index]["message"]["content"], text);
        }
        assert!(events.iter().all(|event| event.get("usage").is_none()));
    }

    #[test]
    fn usage_is_the_last_event_when_asked_for() {
        let options = json!({"stream": true, "stream_options": {"include_usage": true}});
        let events = serve(&hello(&options)).unwrap().events();
        let last = events.last().unwrap();
        assert_eq!(
            (&last["choices"], &last["usage"]["completion_tokens"]),
            (&json!([]), &json!(16))
        );
    }

    #[test]
    fn a_tool_is_called_unless_it_has_answered() {
        let called = serve(&hello(&json!({"tools": weather()}))).unwrap().value();
        let call = &called["choices"][0]["message"]["tool_calls"][0]["function"];
        assert_eq!(call, &json!({"name": "weather", "arguments": r#"{"city":"hello"}"#}));
        let messages =
            json!([{"role": "user", "content": "hi"}, {"role": "tool", "content": "sunny"}]);
        let told =
            serve(&hello(&json!({"tools": weather(), "messages": messages}))).unwrap().value();
        assert!(told["choices"][0]["message"]["content"].as_str().unwrap().contains("sunny"));
        let unwanted = serve(&hello(&json!({"tools": weather(), "tool_choice": "none"}))).unwrap();
        assert_eq!(unwanted.value()["choices"][0]["finish_reason"], "stop");
    }

    #[test]
    fn streamed_arguments_add_up() {
        let events = serve(&hello(&json!({"tools": weather(), "stream": true}))).unwrap().events();
        let part = |event: &Value| {
            event
                .pointer("/choices/0/delta/tool_calls/0/function/arguments")?
                .as_str()
                .map(str::to_owned)
        };
        let parts: Vec<String> = events.iter().filter_map(part).collect();
        assert!(parts.len() > 2);
        assert_eq!(parts.concat(), r#"{"city":"hello"}"#);
        assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
    }

    #[test]
    fn nonsense_is_refused() {
        for (body, param) in [
            (json!({}), "messages"),
            (json!({"messages": []}), "messages"),
            (json!({"messages": "hi"}), "messages"),
            (json!({"messages": [{}], "n": 0}), "n"),
            (json!({"messages": [{}], "temperature": "hot"}), "temperature"),
        ] {
            let refusal = serve(&ask(body)).unwrap_err();
            assert_eq!((refusal.status, &refusal.value()["error"]["param"]), (400, &json!(param)));
        }
    }
}
