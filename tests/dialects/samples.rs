//! For each part of a request, one that has it and one that is the same without.

use forebay::config::Dialect;
use forebay::protocol::canonical::Field;
use serde_json::{Value, json};

use crate::asking::MODEL;

/// A request's part, by the difference of two.
pub struct Sample {
    pub client: Dialect,
    pub without: Value,
    pub with: Value,
}

const PIXEL: &str = "data:image/png;base64,iVBORw0KGgo=";

/// The part as a chat says it, or where that cannot, whoever can. What is signed is signed by `provider`.
pub fn sample(field: Field, provider: Dialect) -> Sample {
    match field {
        Field::ThinkingHistory | Field::Signature => signed(field, provider),
        Field::ToolResultImage | Field::ToolResultError => result(field),
        Field::CacheMark => marked(),
        Field::SystemInside => {
            let inside = json!({ "role": "system", "content": "In French." });
            let messages = [said("Hi"), answered("Hello."), said("Go on.")];
            let with = [said("Hi"), answered("Hello."), inside, said("Go on.")];
            chat(json!({ "messages": messages }), json!({ "messages": with }))
        }
        _ => part(field).map_or_else(|| members(field), of_parts),
    }
}

/// A member of the body.
fn members(field: Field) -> Sample {
    let tools = json!([function(json!({})), { "type": "function", "function": { "name": "now" } }]);
    let schema = json!({
        "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"],
        "additionalProperties": false,
    });
    let (without, with) = match field {
        Field::MaxOutput => (json!({}), json!({ "max_completion_tokens": 100 })),
        Field::Temperature => (json!({}), json!({ "temperature": 0.5 })),
        Field::TopP => (json!({}), json!({ "top_p": 0.5 })),
        Field::TopK => (json!({}), json!({ "top_k": 5 })),
        Field::MinP => (json!({}), json!({ "min_p": 0.1 })),
        Field::Stop => (json!({}), json!({ "stop": ["END"] })),
        Field::Seed => (json!({}), json!({ "seed": 7 })),
        Field::Candidates => (json!({}), json!({ "n": 2 })),
        Field::PresencePenalty => (json!({}), json!({ "presence_penalty": 0.5 })),
        Field::FrequencyPenalty => (json!({}), json!({ "frequency_penalty": 0.5 })),
        Field::Logprobs => (json!({}), json!({ "logprobs": true, "top_logprobs": 2 })),
        Field::LogitBias => (json!({}), json!({ "logit_bias": { "50256": -100 } })),
        Field::JsonObject => (json!({}), json!({ "response_format": { "type": "json_object" } })),
        Field::JsonSchema => {
            let named = json!({ "name": "trip", "schema": schema, "strict": true });
            let format = json!({ "type": "json_schema", "json_schema": named });
            (json!({}), json!({ "response_format": format }))
        }
        Field::Effort => (json!({}), json!({ "reasoning_effort": "high" })),
        Field::ThinkingBudget => {
            let thinking = json!({ "type": "enabled", "budget_tokens": 4000 });
            (json!({}), json!({ "thinking": thinking }))
        }
        Field::Verbosity => (json!({}), json!({ "verbosity": "low" })),
        Field::ServiceTier => (json!({}), json!({ "service_tier": "priority" })),
        Field::User => (json!({}), json!({ "user": "u-1" })),
        Field::Metadata => (json!({}), json!({ "metadata": { "team": "search" } })),
        Field::CacheKey => (json!({}), json!({ "prompt_cache_key": "k" })),
        Field::Tools => (json!({}), json!({ "tools": tools })),
        Field::CustomTools => {
            let custom = json!({ "name": "patch", "description": "Edits files." });
            (json!({}), json!({ "tools": [{ "type": "custom", "custom": custom }] }))
        }
        Field::Grammar => {
            let grammar = json!({ "syntax": "lark", "definition": "start: /.+/" });
            let format = json!({ "type": "grammar", "grammar": grammar });
            let tools =
                |custom: Value| json!({ "tools": [{ "type": "custom", "custom": custom }] });
            (tools(json!({ "name": "patch" })), tools(json!({ "name": "patch", "format": format })))
        }
        Field::StrictTools => {
            let tools = |more: Value| json!({ "tools": [function(more)] });
            (
                tools(json!({ "parameters": schema })),
                tools(json!({ "parameters": schema, "strict": true })),
            )
        }
        Field::ToolChoiceNone => chosen(&tools, json!("none")),
        Field::ToolChoiceRequired => chosen(&tools, json!("required")),
        Field::ToolChoiceNamed => {
            chosen(&tools, json!({ "type": "function", "function": { "name": "now" } }))
        }
        Field::OneToolAtATime => {
            (json!({ "tools": tools }), json!({ "tools": tools, "parallel_tool_calls": false }))
        }
        other => unreachable!("{other:?} is no member"),
    };
    chat(without, with)
}

#[expect(clippy::needless_pass_by_value, reason = "callers write it on the spot")]
fn chosen(tools: &Value, choice: Value) -> (Value, Value) {
    (json!({ "tools": tools }), json!({ "tools": tools, "tool_choice": choice }))
}

fn function(more: Value) -> Value {
    let mut function = json!({ "name": "weather" });
    merge(&mut function, more);
    json!({ "type": "function", "function": function })
}

/// A part of the user's message.
fn part(field: Field) -> Option<Value> {
    let url = |url: &str| json!({ "type": "image_url", "image_url": { "url": url } });
    Some(match field {
        Field::ImageData => url(PIXEL),
        Field::ImageUrl => url("https://example.com/cat.png"),
        Field::ImageDetail => {
            json!({ "type": "image_url", "image_url": { "url": PIXEL, "detail": "high" } })
        }
        Field::Audio => {
            let audio = json!({ "data": "UklGRg==", "format": "wav" });
            json!({ "type": "input_audio", "input_audio": audio })
        }
        Field::Video => {
            json!({ "type": "video_url", "video_url": { "url": "data:video/mp4;base64,AAAA" } })
        }
        Field::Document => {
            let data = "data:application/pdf;base64,JVBERi0xLjQK";
            json!({ "type": "file", "file": { "file_data": data, "filename": "a.pdf" } })
        }
        Field::DocumentUrl => {
            json!({ "type": "file", "file": { "file_url": "https://example.com/a.pdf" } })
        }
        Field::FileId => json!({ "type": "file", "file": { "file_id": "file-1" } }),
        _ => return None,
    })
}

#[expect(clippy::needless_pass_by_value, reason = "callers write it on the spot")]
fn of_parts(part: Value) -> Sample {
    let text = json!({ "type": "text", "text": "Look:" });
    let messages = |parts: Value| json!({ "messages": [{ "role": "user", "content": parts }] });
    let mut plain = part.clone();
    if let Some(image) = plain.get_mut("image_url").and_then(Value::as_object_mut)
        && image.remove("detail").is_some()
    {
        return chat(messages(json!([text, plain])), messages(json!([text, part])));
    }
    chat(messages(json!([text])), messages(json!([text, part])))
}

/// What a provider said of its reasoning: words that it signed, or what only it can read.
fn signed(field: Field, provider: Dialect) -> Sample {
    if (field, provider) == (Field::Signature, Dialect::Gemini) {
        return signed_call();
    }
    let format = match provider {
        Dialect::OpenaiChat => "unknown",
        Dialect::OpenaiResponses => "openai-responses-v1",
        Dialect::Anthropic => "anthropic-claude-v1",
        Dialect::Gemini => "google-gemini-v1",
        Dialect::Bedrock => "amazon-bedrock-v1",
    };
    let detail = match field {
        Field::ThinkingHistory => json!({
            "type": "reasoning.text", "text": "Two and two.", "signature": "c2lnbmVk",
            "format": format, "index": 0,
        }),
        _ => json!({
            "type": "reasoning.encrypted", "data": "c2VhbGVk", "format": format, "index": 0,
        }),
    };
    let mut thought = answered("4");
    let messages = |answer: Value| json!({ "messages": [said("2+2?"), answer, said("3+3?")] });
    let without = messages(thought.clone());
    thought["reasoning_details"] = json!([detail]);
    chat(without, messages(thought))
}

/// Google signs calls.
fn signed_call() -> Sample {
    let function = json!({ "name": "weather", "arguments": "{}" });
    let mut call = json!({ "id": "gc_1", "type": "function", "function": function });
    let messages = |call: &Value| {
        let answer = json!({ "role": "assistant", "content": null, "tool_calls": [call] });
        let result = json!({ "role": "tool", "tool_call_id": "gc_1", "content": "18" });
        json!({ "messages": [said("Weather?"), answer, result] })
    };
    let without = messages(&call);
    call["extra_content"] = json!({ "google": { "thought_signature": "c2lnbmVk" } });
    chat(without, messages(&call))
}

fn marked() -> Sample {
    let part = json!({ "type": "text", "text": "A long text." });
    let messages = |part: Value| json!({ "messages": [{ "role": "user", "content": [part] }] });
    let mut marked = part.clone();
    marked["prompt_cache_breakpoint"] = json!({ "mode": "explicit" });
    chat(messages(part), messages(marked))
}

/// What a tool gave, as Anthropic's clients tell it.
fn result(field: Field) -> Sample {
    let mut result = json!({
        "type": "tool_result",
        "tool_use_id": "toolu_1",
        "content": [{ "type": "text", "text": "18" }],
    });
    let request = |result: &Value| {
        let call = json!({ "type": "tool_use", "id": "toolu_1", "name": "weather", "input": {} });
        json!({
            "model": MODEL,
            "max_tokens": 1000,
            "messages": [
                said("Weather?"),
                { "role": "assistant", "content": [call] },
                { "role": "user", "content": [result] },
            ],
            "tools": [{ "name": "weather", "input_schema": { "type": "object" } }],
        })
    };
    let without = request(&result);
    if field == Field::ToolResultError {
        result["is_error"] = json!(true);
    } else {
        let data = json!({ "type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo=" });
        result["content"] =
            json!([{ "type": "text", "text": "18" }, { "type": "image", "source": data }]);
    }
    Sample { client: Dialect::Anthropic, without, with: request(&result) }
}

fn chat(without: Value, with: Value) -> Sample {
    let request = |more: Value| {
        let mut request = json!({ "model": MODEL, "messages": [said("Hi")] });
        merge(&mut request, more);
        request
    };
    Sample { client: Dialect::OpenaiChat, without: request(without), with: request(with) }
}

fn said(text: &str) -> Value {
    json!({ "role": "user", "content": text })
}

fn answered(text: &str) -> Value {
    json!({ "role": "assistant", "content": text })
}

fn merge(into: &mut Value, more: Value) {
    let Value::Object(more) = more else { return };
    for (name, value) in more {
        into[name] = value;
    }
}
