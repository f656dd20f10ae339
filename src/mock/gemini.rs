//! Google's calls: `…:generateContent`, `:streamGenerateContent`, `:countTokens`, `:embedContent` and
//! `:batchEmbedContents`.

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::{Answer, Finish, Question, Tool, answer, choose};
use super::ask::{Ask, Outcome, text_of, tokens_of};
use super::embeddings::vector_for;
use super::reply::{Body, Reply};

/// Answers with a whole answer.
pub fn serve(ask: &Ask) -> Outcome {
    let answer = said(ask)?;
    let part = part(&answer, &answer.text());
    Ok(Reply::json(&chunk(ask, &[part], Some(&answer))))
}

/// Answers with a stream: of events for those who ask for them, else of an array's elements.
pub fn stream(ask: &Ask) -> Outcome {
    let answer = said(ask)?;
    let mut chunks: Vec<Value> = if answer.tool.is_some() {
        // A call comes whole.
        vec![chunk(ask, &[part(&answer, &answer.text())], None)]
    } else {
        let pieces = answer.pieces.iter();
        pieces.map(|piece| chunk(ask, &[part(&answer, piece)], None)).collect()
    };
    chunks.push(chunk(ask, &[json!({"text": ""})], Some(&answer)));
    if ask.events {
        return Ok(Reply::stream(chunks.iter().map(event).collect()));
    }
    let last = chunks.len() - 1;
    let element = |(index, chunk): (usize, &Value)| {
        let (before, after) =
            (if index == 0 { "[" } else { "," }, if index == last { "]" } else { "" });
        Bytes::from(format!("{before}{chunk}{after}\r\n"))
    };
    let elements = chunks.iter().enumerate().map(element).collect();
    Ok(Reply { content_type: "application/json", ..Reply::stream(elements) })
}

/// Counts a prompt's tokens.
pub fn count(ask: &Ask) -> Outcome {
    let request = ask.member("generateContentRequest").unwrap_or(&ask.body);
    contents(request)?;
    Ok(Reply::json(&json!({"totalTokens": prompt_tokens(request)})))
}

/// Answers with the vector of one text.
pub fn embed(ask: &Ask) -> Outcome {
    Ok(Reply::json(&json!({"embedding": embedding(&ask.body)?})))
}

/// Answers with the vectors of several texts.
pub fn embed_all(ask: &Ask) -> Outcome {
    let requests = ask.member("requests").and_then(Value::as_array);
    let Some(requests) = requests.filter(|requests| !requests.is_empty()) else {
        return Err(refusal(400, "requests: at least one is required"));
    };
    let embeddings: Vec<Value> = requests.iter().map(embedding).collect::<Result<_, _>>()?;
    Ok(Reply::json(&json!({"embeddings": embeddings})))
}

/// A refusal in Google's shape.
pub fn refusal(status: u16, message: &str) -> Reply {
    let error = json!({"error": {"code": status, "message": message, "status": named(status)}});
    Reply { status, ..Reply::json(&error) }
}

/// Says another endpoint's refusal as Google does.
pub fn phrase(reply: &Reply) -> Reply {
    let Body::Whole(body) = &reply.body else { return reply.clone() };
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    match said.pointer("/error/message").and_then(Value::as_str) {
        Some(message) if said.pointer("/error/status").is_none() => {
            Reply { headers: reply.headers.clone(), ..refusal(reply.status, message) }
        }
        _ => reply.clone(),
    }
}

/// One event. Google ends its lines with CRLF.
pub fn event(data: &Value) -> Bytes {
    Bytes::from(format!("data: {data}\r\n\r\n"))
}

fn named(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    }
}

fn said(ask: &Ask) -> Result<Answer, Reply> {
    let contents = contents(&ask.body)?;
    Ok(answer(&question(ask, contents), ask.words))
}

fn contents(request: &Value) -> Result<&[Value], Reply> {
    let contents = request.get("contents").and_then(Value::as_array);
    match contents {
        Some(contents) if !contents.is_empty() => Ok(contents),
        _ => Err(refusal(400, "* GenerateContentRequest.contents: contents is not specified")),
    }
}

fn question(ask: &Ask, contents: &[Value]) -> Question {
    // Without a role it is the user who speaks.
    let is_user = |content: &&Value| content.get("role").is_none_or(|role| role == "user");
    let user = contents.iter().rfind(is_user);
    // A tool that has answered is not called again: an agent's loop must end.
    let told = contents.last().and_then(|content| parts(content).find_map(function_response));
    let config = |name: &str| ask.member("generationConfig")?.get(name).filter(|it| !it.is_null());
    let stops = config("stopSequences").and_then(Value::as_array).into_iter().flatten();
    let limit = config("maxOutputTokens").and_then(Value::as_u64);
    let answered = told.is_some();
    Question {
        prompt: told.unwrap_or_else(|| user.map(text_in).unwrap_or_default()),
        tool: if answered { None } else { tool(ask) },
        format: format(config("responseMimeType"), &config),
        limit: limit.and_then(|limit| usize::try_from(limit).ok()),
        stop: stops.filter_map(Value::as_str).map(str::to_owned).collect(),
    }
}

fn parts(content: &Value) -> impl Iterator<Item = &Value> {
    content.get("parts").and_then(Value::as_array).into_iter().flatten()
}

/// The text of a content's parts.
fn text_in(content: &Value) -> String {
    content.get("parts").map(text_of).unwrap_or_default()
}

/// What a function has answered.
fn function_response(part: &Value) -> Option<String> {
    let response = part.get("functionResponse")?.get("response")?;
    let text = ["output", "result"].iter().find_map(|name| response.get(name)?.as_str());
    Some(text.map_or_else(|| response.to_string(), str::to_owned))
}

fn tool(ask: &Ask) -> Option<Tool> {
    let choice = ask.member("toolConfig").and_then(|config| config.get("functionCallingConfig"));
    let choice = |path: &str| choice.and_then(|choice| choice.pointer(path));
    if choice("/mode").is_some_and(|mode| mode == "NONE") {
        return None;
    }
    let wanted = choice("/allowedFunctionNames/0").and_then(Value::as_str);
    let tools = ask.member("tools")?.as_array()?.iter();
    let declared = tools.filter_map(|tool| tool.get("functionDeclarations")?.as_array());
    let declared: Vec<&Value> = declared.flatten().collect();
    let tool = choose(&declared, "parametersJsonSchema", wanted)?;
    if !tool.parameters.is_null() {
        return Some(tool);
    }
    let tool = choose(&declared, "parameters", wanted)?;
    Some(Tool { parameters: in_small_letters(tool.parameters), ..tool })
}

fn format<'a>(kind: Option<&Value>, config: &dyn Fn(&str) -> Option<&'a Value>) -> Option<Value> {
    kind.filter(|kind| **kind == "application/json")?;
    let own = || config("responseSchema").map(|schema| in_small_letters(schema.clone()));
    let schema = config("responseJsonSchema").cloned().or_else(own);
    Some(schema.unwrap_or_else(|| json!({})))
}

/// Google's own schemas name the types in capitals.
fn in_small_letters(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(members) => {
            for (name, value) in members.iter_mut() {
                match value.as_str() {
                    Some(kind) if name == "type" => *value = json!(kind.to_ascii_lowercase()),
                    _ => *value = in_small_letters(value.take()),
                }
            }
        }
        Value::Array(values) => {
            for value in values {
                *value = in_small_letters(value.take());
            }
        }
        _ => {}
    }
    schema
}

fn prompt_tokens(request: &Value) -> usize {
    let system = request.get("systemInstruction").map(text_in).unwrap_or_default();
    let tools = request.get("tools").map(|tools| tokens_of(&tools.to_string())).unwrap_or_default();
    let contents = request.get("contents").and_then(Value::as_array).into_iter().flatten();
    let texts: usize = contents.map(|content| 1 + tokens_of(&text_in(content))).sum();
    tokens_of(&system) + tools + texts
}

/// A part of the answer: a piece of its text, or the function it calls.
fn part(answer: &Answer, text: &str) -> Value {
    let Some(name) = &answer.tool else { return json!({"text": text}) };
    let args: Value = serde_json::from_str(text).unwrap_or_else(|_| json!({}));
    json!({"functionCall": {"name": name, "args": args}})
}

/// An answer or a piece of one; the last says why it ended, and what it took.
fn chunk(ask: &Ask, parts: &[Value], ended: Option<&Answer>) -> Value {
    let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
    let prompt = prompt_tokens(&ask.body);
    let mut usage = json!({"promptTokenCount": prompt, "totalTokenCount": prompt});
    if let Some(answer) = ended {
        let length = answer.finish == Finish::Length;
        let reason = if length { "MAX_TOKENS" } else { "STOP" };
        super::chat::add(&mut candidate, "finishReason", json!(reason));
        let answered = answer.tokens();
        usage = json!({"promptTokenCount": prompt, "candidatesTokenCount": answered,
            "totalTokenCount": prompt + answered});
    }
    json!({"candidates": [candidate], "usageMetadata": usage, "modelVersion": ask.model,
        "responseId": ask.id("gemini-")})
}

fn embedding(request: &Value) -> Result<Value, Reply> {
    let Some(content) = request.get("content").filter(|content| content.is_object()) else {
        return Err(refusal(400, "content is required"));
    };
    let length = request.get("outputDimensionality").and_then(Value::as_u64);
    let length = length.map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    let Some(values) = vector_for(&text_in(content), length) else {
        return Err(refusal(400, "outputDimensionality is out of range"));
    };
    Ok(json!({"values": values}))
}

#[cfg(test)]
mod tests {
    use super::super::ask::tests::ask;
    use super::*;

    fn hello(extra: &Value) -> Ask {
        let mut body = json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}]});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        ask(body)
    }

    fn weather() -> Value {
        let parameters = json!({"type": "OBJECT", "properties": {"city": {"type": "STRING"}}});
        json!([{"functionDeclarations": [{"name": "weather", "parameters": parameters}]}])
    }

    #[test]
    fn contents_are_answered_with_usage() {
        let body = serve(&hello(&json!({}))).unwrap().value();
        let candidate = &body["candidates"][0];
        assert!(candidate["content"]["parts"][0]["text"].as_str().unwrap().contains("hello"));
        assert_eq!(candidate["finishReason"], "STOP");
        assert_eq!(body["usageMetadata"]["totalTokenCount"], 2 + 16);
    }

    #[test]
    fn a_stream_says_the_same_as_the_whole_as_events_or_as_an_array() {
        let whole = serve(&hello(&json!({}))).unwrap().value();
        let text = |chunks: &[Value]| {
            let text = |chunk: &Value| {
                chunk["candidates"][0]["content"]["parts"][0]["text"].as_str().unwrap().to_owned()
            };
            json!(chunks.iter().map(text).collect::<String>())
        };
        let events = stream(&Ask { events: true, ..hello(&json!({})) }).unwrap().events();
        assert_eq!(whole["candidates"][0]["content"]["parts"][0]["text"], text(&events));
        assert_eq!(events.last().unwrap()["candidates"][0]["finishReason"], "STOP");
        assert_eq!(events.last().unwrap()["usageMetadata"], whole["usageMetadata"]);
        let Body::Stream(elements) = stream(&hello(&json!({}))).unwrap().body else { panic!() };
        let array: Vec<Value> = serde_json::from_slice(&elements.concat()).unwrap();
        assert_eq!(array, events);
    }

    #[test]
    fn a_tool_is_called_unless_it_has_answered() {
        let called = serve(&hello(&json!({"tools": weather()}))).unwrap().value();
        let call = &called["candidates"][0]["content"]["parts"][0]["functionCall"];
        assert_eq!(call, &json!({"name": "weather", "args": {"city": "hello"}}));
        let told = json!([{"parts": [{"functionResponse": {"name": "weather",
            "response": {"output": "sunny"}}}]}]);
        let told = serve(&hello(&json!({"tools": weather(), "contents": told}))).unwrap().value();
        let text = told["candidates"][0]["content"]["parts"][0]["text"].as_str().unwrap();
        assert!(text.contains("sunny"), "{text}");
        let config = json!({"functionCallingConfig": {"mode": "NONE"}});
        let unwanted = serve(&hello(&json!({"tools": weather(), "toolConfig": config}))).unwrap();
        assert!(unwanted.value()["candidates"][0]["content"]["parts"][0]["text"].is_string());
    }

    #[test]
    fn the_config_bounds_and_shapes_the_answer() {
        let bounded = json!({"generationConfig": {"maxOutputTokens": 3}});
        let body = serve(&hello(&bounded)).unwrap().value();
        assert_eq!(body["candidates"][0]["finishReason"], "MAX_TOKENS");
        let shaped = json!({"generationConfig": {"responseMimeType": "application/json",
            "responseSchema": {"type": "OBJECT", "properties": {"a": {"type": "INTEGER"}}}}});
        let body = serve(&hello(&shaped)).unwrap().value();
        assert_eq!(body["candidates"][0]["content"]["parts"][0]["text"], r#"{"a":1}"#);
    }

    #[test]
    fn tokens_are_counted_and_texts_become_vectors() {
        let request = json!({"contents": [{"parts": [{"text": "hello"}]}],
            "systemInstruction": {"parts": [{"text": "be brief"}]}});
        let whole = ask(json!({"generateContentRequest": request.clone()}));
        assert_eq!(count(&whole).unwrap().value(), json!({"totalTokens": 4}));
        assert_eq!(count(&ask(request)).unwrap().value(), json!({"totalTokens": 4}));
        let one = json!({"content": {"parts": [{"text": "a"}]}, "outputDimensionality": 8});
        let embedded = embed(&ask(one.clone())).unwrap().value();
        assert_eq!(embedded["embedding"]["values"].as_array().unwrap().len(), 8);
        let all = embed_all(&ask(json!({"requests": [one.clone(), one]}))).unwrap().value();
        assert_eq!(all["embeddings"][1], embedded["embedding"]);
    }

    #[test]
    fn nonsense_is_refused_in_googles_shape() {
        for refused in [
            serve(&ask(json!({}))),
            count(&ask(json!({}))),
            embed(&ask(json!({}))),
            embed_all(&ask(json!({"requests": []}))),
        ] {
            let refused = refused.unwrap_err();
            assert_eq!(refused.value()["error"]["status"], "INVALID_ARGUMENT");
            assert_eq!(refused.value()["error"]["code"], refused.status);
        }
        let limited = phrase(&Reply::refusal(429, "x", "slow down", None)).value();
        assert_eq!(limited["error"]["status"], "RESOURCE_EXHAUSTED");
    }
}
