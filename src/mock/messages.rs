//! `POST /v1/messages` and `/v1/messages/count_tokens`: Anthropic's shape.

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{Answer, Finish, Question, Tool, answer, choose};
use super::ask::{Ask, Outcome, text_of, tokens_of};
use super::reply::{Body, Reply, named_event};

/// Answers a message.
pub fn serve(ask: &Ask) -> Outcome {
    let messages = messages(ask)?;
    let Some(limit) = ask.count("max_tokens").filter(|limit| *limit > 0) else {
        return Err(refusal(400, "max_tokens: Field required"));
    };
    let mut question = question(ask, messages);
    question.limit = Some(limit);
    let answer = answer(&question, ask.words);
    if ask.flag("stream") {
        return Ok(Reply::stream(events(ask, messages, &answer)));
    }
    let mut message = begun(ask, &usage(ask, messages, answer.tokens()));
    if let Some(members) = message.as_object_mut() {
        members.insert("content".to_owned(), json!([block(ask, &answer)]));
        members.insert("stop_reason".to_owned(), json!(stop_reason(&answer)));
    }
    Ok(Reply::json(&message))
}

/// Counts a message's tokens.
pub fn count(ask: &Ask) -> Outcome {
    let messages = messages(ask)?;
    Ok(Reply::json(&json!({"input_tokens": prompt_tokens(ask, messages)})))
}

/// A refusal in Anthropic's shape.
pub fn refusal(status: u16, message: &str) -> Reply {
    let kind = match status {
        400 | 405 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        _ => "api_error",
    };
    let error = json!({"type": "error", "error": {"type": kind, "message": message}});
    Reply { status, ..Reply::json(&error) }
}

/// Says another endpoint's refusal as Anthropic does.
pub fn phrase(reply: &Reply) -> Reply {
    let Body::Whole(body) = &reply.body else { return reply.clone() };
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    match said.pointer("/error/message").and_then(Value::as_str) {
        Some(message) if said.get("type").is_none() => {
            Reply { headers: reply.headers.clone(), ..refusal(reply.status, message) }
        }
        _ => reply.clone(),
    }
}

fn messages(ask: &Ask) -> Result<&[Value], Reply> {
    let messages = ask.member("messages").and_then(Value::as_array);
    match messages {
        Some(messages) if !messages.is_empty() => Ok(messages),
        _ => Err(refusal(400, "messages: at least one message is required")),
    }
}

fn question(ask: &Ask, messages: &[Value]) -> Question {
    let user = messages
        .iter()
        .rev()
        .find(|message| message.get("role").is_some_and(|role| role == "user"));
    let parts = user.and_then(|user| user.get("content")).and_then(Value::as_array);
    // A tool that has answered is not called again: an agent's loop must end.
    let is_result = |part: &Value| part.get("type").is_some_and(|kind| kind == "tool_result");
    let answered = parts.is_some_and(|parts| parts.iter().any(is_result));
    let stops = ask.member("stop_sequences").and_then(Value::as_array);
    Question {
        prompt: user.map(text_of).unwrap_or_default(),
        tool: if answered { None } else { tool(ask) },
        stop: stops.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
        ..Question::default()
    }
}

fn tool(ask: &Ask) -> Option<Tool> {
    let choice = ask.member("tool_choice");
    if choice.and_then(|choice| choice.get("type")).is_some_and(|kind| kind == "none") {
        return None;
    }
    let wanted = choice.and_then(|choice| choice.get("name")).and_then(Value::as_str);
    let tools = ask.member("tools")?.as_array()?;
    choose(&tools.iter().collect::<Vec<_>>(), "input_schema", wanted)
}

fn prompt_tokens(ask: &Ask, messages: &[Value]) -> usize {
    let system = ask.member("system").map(|system| tokens_of(&text_of(system))).unwrap_or_default();
    let tools = ask.member("tools").map(|tools| tokens_of(&tools.to_string())).unwrap_or_default();
    let texts: usize = messages.iter().map(|message| 1 + tokens_of(&text_of(message))).sum();
    system + tools + texts
}

fn usage(ask: &Ask, messages: &[Value], output: usize) -> Value {
    json!({"input_tokens": prompt_tokens(ask, messages), "output_tokens": output,
        "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0})
}

fn begun(ask: &Ask, usage: &Value) -> Value {
    json!({"id": ask.id("msg_"), "type": "message", "role": "assistant", "model": ask.model,
        "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage})
}

fn block(ask: &Ask, answer: &Answer) -> Value {
    let text = answer.text();
    let Some(name) = &answer.tool else { return json!({"type": "text", "text": text}) };
    let input: Value = serde_json::from_str(&text).unwrap_or_else(|_| json!({}));
    json!({"type": "tool_use", "id": ask.id("toolu_"), "name": name, "input": input})
}

fn stop_reason(answer: &Answer) -> &'static str {
    match answer.finish {
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        Finish::Tool => "tool_use",
    }
}

fn events(ask: &Ask, messages: &[Value], answer: &Answer) -> Vec<Bytes> {
    let start = match &answer.tool {
        None => json!({"type": "text", "text": ""}),
        Some(name) => {
            json!({"type": "tool_use", "id": ask.id("toolu_"), "name": name, "input": {}})
        }
    };
    let delta = |piece: &String| match answer.tool {
        None => json!({"type": "text_delta", "text": piece}),
        Some(_) => json!({"type": "input_json_delta", "partial_json": piece}),
    };
    let stop = json!({"stop_reason": stop_reason(answer), "stop_sequence": null});

    let mut events = vec![
        json!({"type": "message_start", "message": begun(ask, &usage(ask, messages, 0))}),
        json!({"type": "content_block_start", "index": 0, "content_block": start}),
    ];
    events.extend(
        answer
            .pieces
            .iter()
            .map(|piece| json!({"type": "content_block_delta", "index": 0, "delta": delta(piece)})),
    );
    events.push(json!({"type": "content_block_stop", "index": 0}));
    events.push(json!({"type": "message_delta", "delta": stop,
        "usage": usage(ask, messages, answer.tokens())}));
    events.push(json!({"type": "message_stop"}));
    events.iter().map(named_event).collect()
}

#[cfg(test)]
mod tests {
    use super::super::ask::tests::ask;
    use super::*;

    fn hello(extra: &Value) -> Ask {
        let mut body =
            json!({"max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        ask(body)
    }

    #[test]
    fn a_message_is_answered() {
        let body = serve(&hello(&json!({}))).unwrap().value();
        assert!(body["content"][0]["text"].as_str().unwrap().contains("hello"));
        assert_eq!(
            (&body["stop_reason"], &body["usage"]["output_tokens"]),
            (&json!("end_turn"), &json!(16))
        );
    }

    #[test]
    fn a_stream_begins_and_ends_as_it_should() {
        let events = serve(&hello(&json!({"stream": true, "max_tokens": 2}))).unwrap().events();
        let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!(
            kinds,
            [
                "message_start",
                "content_block_start",
                "content_block_delta",
                "content_block_delta",
                "content_block_stop",
                "message_delta",
                "message_stop"
            ]
        );
        assert_eq!(events[5]["delta"]["stop_reason"], "max_tokens");
    }

    #[test]
    fn a_tool_is_used_until_it_has_answered() {
        let tools = json!([{"name": "weather", "input_schema": {"properties": {"city": {}}}}]);
        let used = serve(&hello(&json!({"tools": tools}))).unwrap().value();
        assert_eq!(used["content"][0]["input"], json!({"city": "hello"}));
        let messages =
            json!([{"role": "user", "content": [{"type": "tool_result", "content": "sunny"}]}]);
        let told = serve(&hello(&json!({"tools": tools, "messages": messages}))).unwrap().value();
        assert!(told["content"][0]["text"].as_str().unwrap().contains("sunny"));
    }

    #[test]
    fn refusals_have_anthropics_shape() {
        let refusal =
            serve(&ask(json!({"messages": [{"role": "user", "content": "hi"}]}))).unwrap_err();
        assert_eq!(refusal.value()["error"]["type"], "invalid_request_error");
        assert_eq!(phrase(&Reply::missing("messages")).value()["type"], "error");
    }

    #[test]
    fn tokens_are_counted() {
        let counted = count(&hello(&json!({"system": "be brief"}))).unwrap().value();
        assert_eq!(counted, json!({"input_tokens": 4}));
    }
}
