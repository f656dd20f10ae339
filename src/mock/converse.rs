//! Amazon's calls: `/model/{m}/converse`, `/converse-stream`, `/count-tokens`, and `/invoke` of a model
//! that embeds.

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{Answer, Finish, Question, Tool, answer, choose};
use super::ask::{Ask, Outcome, text_of, tokens_of};
use super::embeddings::vector_for;
use super::frames;
use super::reply::{Body, Reply};

/// Answers with a whole answer.
pub fn serve(ask: &Ask) -> Outcome {
    let answer = said(ask)?;
    let content = match &answer.tool {
        None => json!({"text": answer.text()}),
        Some(name) => {
            let input: Value = serde_json::from_str(&answer.text()).unwrap_or_else(|_| json!({}));
            let id = ask.id("tooluse_");
            json!({"toolUse": {"toolUseId": id, "name": name, "input": input}})
        }
    };
    Ok(Reply::json(&json!({"output": {"message": {"role": "assistant", "content": [content]}},
        "stopReason": stop_reason(&answer), "usage": usage(ask, &answer),
        "metrics": {"latencyMs": 0}})))
}

/// Answers with a stream of frames.
pub fn stream(ask: &Ask) -> Outcome {
    let answer = said(ask)?;
    let mut events: Vec<Bytes> = vec![frames::event("messageStart", &json!({"role": "assistant"}))];
    // Only a tool's block says that it begins.
    if let Some(name) = &answer.tool {
        let start = json!({"toolUse": {"toolUseId": ask.id("tooluse_"), "name": name}});
        let start = json!({"contentBlockIndex": 0, "start": start});
        events.push(frames::event("contentBlockStart", &start));
    }
    for piece in &answer.pieces {
        let delta = match answer.tool {
            None => json!({"text": piece}),
            Some(_) => json!({"toolUse": {"input": piece}}),
        };
        let delta = json!({"contentBlockIndex": 0, "delta": delta});
        events.push(frames::event("contentBlockDelta", &delta));
    }
    let ended = json!({"stopReason": stop_reason(&answer)});
    let metadata = json!({"usage": usage(ask, &answer), "metrics": {"latencyMs": 0}});
    events.push(frames::event("contentBlockStop", &json!({"contentBlockIndex": 0})));
    events.push(frames::event("messageStop", &ended));
    events.push(frames::event("metadata", &metadata));
    Ok(frames::stream(events))
}

/// Counts a conversation's tokens.
pub fn count(ask: &Ask) -> Outcome {
    let Some(converse) = ask.body.pointer("/input/converse") else {
        return Err(refusal(400, "input: only `converse` is counted here"));
    };
    messages(converse)?;
    Ok(Reply::json(&json!({"inputTokens": prompt_tokens(converse)})))
}

/// Answers as a model that embeds: Titan, which is given `inputText`, or Cohere's, given `texts`.
pub fn invoke(ask: &Ask) -> Outcome {
    let wrong =
        || refusal(400, "The model takes `inputText`, or `texts`, and vectors of 1 to 4096.");
    if let Some(text) = ask.text("inputText") {
        let vector = vector_for(text, ask.count("dimensions")).ok_or_else(wrong)?;
        let tokens = tokens_of(text);
        return Ok(Reply::json(&json!({"embedding": vector, "inputTextTokenCount": tokens})));
    }
    let texts = ask.member("texts").and_then(Value::as_array).ok_or_else(wrong)?;
    let vector = |text: &Value| vector_for(text.as_str()?, ask.count("output_dimension"));
    let vectors: Option<Vec<_>> = texts.iter().map(vector).collect();
    let vectors = vectors.filter(|vectors| !vectors.is_empty()).ok_or_else(wrong)?;
    let mut body = json!({"id": ask.id("embd-"), "texts": texts,
        "response_type": "embeddings_floats", "embeddings": vectors});
    if ask.member("embedding_types").is_some() {
        body = json!({"id": ask.id("embd-"), "texts": texts,
            "response_type": "embeddings_by_type", "embeddings": {"float": vectors}});
    }
    Ok(Reply::json(&body))
}

/// A refusal in Amazon's shape, which says its kind in the head.
pub fn refusal(status: u16, message: &str) -> Reply {
    let headers = vec![("x-amzn-errortype", named(status).to_owned())];
    Reply { status, headers, ..Reply::json(&json!({"message": message})) }
}

/// Says another endpoint's refusal as Amazon does.
pub fn phrase(reply: &Reply) -> Reply {
    let Body::Whole(body) = &reply.body else { return reply.clone() };
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let Some(message) = said.pointer("/error/message").and_then(Value::as_str) else {
        return reply.clone();
    };
    let mut refusal = refusal(reply.status, message);
    refusal.headers.extend(reply.headers.iter().cloned());
    refusal
}

fn named(status: u16) -> &'static str {
    match status {
        401 | 403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        429 => "ThrottlingException",
        503 => "ServiceUnavailableException",
        500.. => "InternalServerException",
        _ => "ValidationException",
    }
}

fn said(ask: &Ask) -> Result<Answer, Reply> {
    let messages = messages(&ask.body)?;
    Ok(answer(&question(ask, messages), ask.words))
}

fn messages(request: &Value) -> Result<&[Value], Reply> {
    let messages = request.get("messages").and_then(Value::as_array);
    match messages {
        Some(messages) if !messages.is_empty() => Ok(messages),
        _ => Err(refusal(400, "messages: at least one message is required")),
    }
}

fn question(ask: &Ask, messages: &[Value]) -> Question {
    let is_user = |message: &&Value| message.get("role").is_some_and(|role| role == "user");
    let user = messages.iter().rfind(is_user);
    let content = user.and_then(|user| user.get("content")).and_then(Value::as_array);
    // A tool that has answered is not called again: an agent's loop must end.
    let mut results = content.into_iter().flatten().filter_map(|block| block.get("toolResult"));
    let told = results.next().map(|result| result.get("content").map(text_of).unwrap_or_default());
    let config = |name: &str| ask.member("inferenceConfig")?.get(name).filter(|it| !it.is_null());
    let stops = config("stopSequences").and_then(Value::as_array).into_iter().flatten();
    let limit = config("maxTokens").and_then(Value::as_u64);
    let answered = told.is_some();
    Question {
        prompt: told.unwrap_or_else(|| user.map(text_of).unwrap_or_default()),
        tool: if answered { None } else { tool(ask) },
        format: format(ask),
        limit: limit.and_then(|limit| usize::try_from(limit).ok()),
        stop: stops.filter_map(Value::as_str).map(str::to_owned).collect(),
    }
}

fn tool(ask: &Ask) -> Option<Tool> {
    let config = ask.member("toolConfig")?;
    let wanted = config.pointer("/toolChoice/tool/name").and_then(Value::as_str);
    let tools = config.get("tools")?.as_array()?;
    let tools: Vec<&Value> = tools.iter().filter_map(|tool| tool.get("toolSpec")).collect();
    let mut tool = choose(&tools, "inputSchema", wanted)?;
    tool.parameters = tool.parameters.get("json").cloned().unwrap_or_default();
    Some(tool)
}

/// The schema is text.
fn format(ask: &Ask) -> Option<Value> {
    let format = ask.body.pointer("/outputConfig/textFormat")?;
    format.get("type").filter(|kind| **kind == "json_schema")?;
    let schema = format.pointer("/structure/jsonSchema/schema")?.as_str()?;
    serde_json::from_str(schema).ok()
}

fn prompt_tokens(request: &Value) -> usize {
    let system = request.get("system").map(text_of).unwrap_or_default();
    let tools = request.pointer("/toolConfig/tools");
    let tools = tools.map(|tools| tokens_of(&tools.to_string())).unwrap_or_default();
    let messages = request.get("messages").and_then(Value::as_array).into_iter().flatten();
    let texts: usize = messages.map(|message| 1 + tokens_of(&text_of(message))).sum();
    tokens_of(&system) + tools + texts
}

fn usage(ask: &Ask, answer: &Answer) -> Value {
    let (input, output) = (prompt_tokens(&ask.body), answer.tokens());
    json!({"inputTokens": input, "outputTokens": output, "totalTokens": input + output})
}

fn stop_reason(answer: &Answer) -> &'static str {
    match answer.finish {
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        Finish::Tool => "tool_use",
    }
}

#[cfg(test)]
mod tests {
    use super::super::ask::tests::ask;
    use super::super::frames::tests::read;
    use super::*;

    fn hello(extra: &Value) -> Ask {
        let mut body = json!({"messages": [{"role": "user", "content": [{"text": "hello"}]}]});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        ask(body)
    }

    fn weather() -> Value {
        let schema =
            json!({"json": {"type": "object", "properties": {"city": {"type": "string"}}}});
        json!({"tools": [{"toolSpec": {"name": "weather", "inputSchema": schema}}]})
    }

    fn events(reply: &Reply) -> Vec<(String, Value)> {
        let Body::Stream(frames) = &reply.body else { panic!("no stream: {reply:?}") };
        frames.iter().map(read).collect()
    }

    #[test]
    fn a_message_is_answered_with_usage() {
        let body = serve(&hello(&json!({"inferenceConfig": {"maxTokens": 100}}))).unwrap().value();
        let text = body["output"]["message"]["content"][0]["text"].as_str().unwrap();
        assert!(text.contains("hello"), "{text}");
        assert_eq!(body["stopReason"], "end_turn");
        assert_eq!(body["usage"], json!({"inputTokens": 2, "outputTokens": 16, "totalTokens": 18}));
    }

    #[test]
    fn a_stream_says_the_same_as_the_whole() {
        let whole = serve(&hello(&json!({}))).unwrap().value();
        let events = events(&stream(&hello(&json!({}))).unwrap());
        let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names[..2], ["messageStart", "contentBlockDelta"]);
        assert_eq!(names[names.len() - 3..], ["contentBlockStop", "messageStop", "metadata"]);
        let text: String =
            events.iter().filter_map(|(_, event)| event["delta"]["text"].as_str()).collect();
        assert_eq!(whole["output"]["message"]["content"][0]["text"], text);
        assert_eq!(events.last().unwrap().1["usage"], whole["usage"]);
    }

    #[test]
    fn a_tool_is_called_unless_it_has_answered() {
        let called = serve(&hello(&json!({"toolConfig": weather()}))).unwrap().value();
        let call = &called["output"]["message"]["content"][0]["toolUse"];
        assert_eq!((&call["name"], &call["input"]), (&json!("weather"), &json!({"city": "hello"})));
        assert_eq!(called["stopReason"], "tool_use");
        let events = events(&stream(&hello(&json!({"toolConfig": weather()}))).unwrap());
        assert_eq!(events[1].1["start"]["toolUse"]["name"], "weather");
        let input = events.iter().filter_map(|(_, it)| it["delta"]["toolUse"]["input"].as_str());
        assert_eq!(input.collect::<String>(), r#"{"city":"hello"}"#);
        let told = json!([{"role": "user", "content": [{"toolResult": {"toolUseId": "t",
            "content": [{"text": "sunny"}]}}]}]);
        let told = serve(&hello(&json!({"toolConfig": weather(), "messages": told}))).unwrap();
        assert!(told.value()["output"]["message"]["content"][0]["text"].is_string());
    }

    #[test]
    fn a_schema_shapes_the_answer() {
        let schema = json!({"properties": {"a": {"type": "integer"}}}).to_string();
        let format = json!({"textFormat": {"type": "json_schema",
            "structure": {"jsonSchema": {"schema": schema}}}});
        let body = serve(&hello(&json!({"outputConfig": format}))).unwrap().value();
        assert_eq!(body["output"]["message"]["content"][0]["text"], r#"{"a":1}"#);
    }

    #[test]
    fn tokens_are_counted_and_texts_become_vectors() {
        let converse = json!({"messages": [{"role": "user", "content": [{"text": "hello"}]}],
            "system": [{"text": "be brief"}]});
        let counted = count(&ask(json!({"input": {"converse": converse}}))).unwrap().value();
        assert_eq!(counted, json!({"inputTokens": 4}));
        let titan = invoke(&ask(json!({"inputText": "a b", "dimensions": 8}))).unwrap().value();
        assert_eq!(titan["embedding"].as_array().unwrap().len(), 8);
        assert_eq!(titan["inputTextTokenCount"], 2);
        let cohere = invoke(&ask(json!({"texts": ["a b", "c"], "output_dimension": 8}))).unwrap();
        assert_eq!(cohere.value()["embeddings"][0], titan["embedding"]);
    }

    #[test]
    fn nonsense_is_refused_in_amazons_shape() {
        for refused in [
            serve(&ask(json!({}))),
            stream(&ask(json!({}))),
            count(&ask(json!({}))),
            invoke(&ask(json!({}))),
        ] {
            let refused = refused.unwrap_err();
            assert_eq!(refused.status, 400);
            assert_eq!(refused.headers, [("x-amzn-errortype", "ValidationException".to_owned())]);
            assert!(refused.value()["message"].is_string());
        }
        let limited = phrase(&Reply::refusal(429, "x", "slow down", None));
        assert_eq!(limited.headers[0].1, "ThrottlingException");
    }
}
