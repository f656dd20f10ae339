//! What clients ask for the answers they get: as little as that takes.

use forebay::config::Dialect;
use serde_json::{Value, json};

use crate::cases::Asks;

/// What answers say the model is called.
pub const MODEL: &str = "the-model";

/// The body of a request that asks for this, with a stream or without.
pub fn body(client: Dialect, asks: Asks, stream: bool) -> Vec<u8> {
    let mut body = match client {
        Dialect::OpenaiChat => json!({
            "model": MODEL,
            "messages": [{ "role": "user", "content": "Hi" }],
            "stream": stream,
        }),
        Dialect::OpenaiResponses => json!({ "model": MODEL, "input": "Hi", "stream": stream }),
        Dialect::Anthropic => json!({
            "model": MODEL,
            "max_tokens": 1000,
            "messages": [{ "role": "user", "content": "Hi" }],
            "stream": stream,
        }),
        Dialect::Gemini => json!({ "contents": [{ "role": "user", "parts": [{ "text": "Hi" }] }] }),
        Dialect::Bedrock => {
            json!({ "messages": [{ "role": "user", "content": [{ "text": "Hi" }] }] })
        }
    };
    if client == Dialect::OpenaiChat && stream {
        body["stream_options"] = json!({ "include_usage": true });
    }
    match asks {
        Asks::Words => {}
        Asks::Object => {
            let name = json!({ "type": "string" });
            let schema = json!({ "type": "object", "properties": { "name": name } });
            ask_for_schema(client, &mut body, &schema);
        }
        Asks::List => {
            let schema = json!({ "type": "array", "items": { "type": "integer" } });
            ask_for_schema(client, &mut body, &schema);
        }
        Asks::FreeText => offer_tool(client, &mut body),
    }
    body.to_string().into_bytes()
}

fn ask_for_schema(client: Dialect, body: &mut Value, schema: &Value) {
    match client {
        Dialect::OpenaiChat => {
            let named = json!({ "name": "answer", "schema": schema });
            body["response_format"] = json!({ "type": "json_schema", "json_schema": named });
        }
        Dialect::OpenaiResponses => {
            let format = json!({ "type": "json_schema", "name": "answer", "schema": schema });
            body["text"] = json!({ "format": format });
        }
        Dialect::Anthropic => {
            let format = json!({ "type": "json_schema", "schema": schema });
            body["output_config"] = json!({ "format": format });
        }
        Dialect::Gemini => {
            body["generationConfig"] = json!({
                "responseMimeType": "application/json",
                "responseJsonSchema": schema,
            });
        }
        Dialect::Bedrock => {
            let structure =
                json!({ "jsonSchema": { "schema": schema.to_string(), "name": "answer" } });
            let format = json!({ "type": "json_schema", "structure": structure });
            body["outputConfig"] = json!({ "textFormat": format });
        }
    }
}

/// A tool that takes free text, where the dialect has such; else a function with one string.
fn offer_tool(client: Dialect, body: &mut Value) {
    let schema = json!({
        "type": "object",
        "properties": { "input": { "type": "string" } },
        "required": ["input"],
    });
    match client {
        Dialect::OpenaiChat => {
            body["tools"] = json!([{ "type": "custom", "custom": { "name": "patch" } }]);
        }
        Dialect::OpenaiResponses => {
            body["tools"] = json!([{ "type": "custom", "name": "patch" }]);
        }
        Dialect::Anthropic => {
            body["tools"] = json!([{ "name": "patch", "input_schema": schema }]);
        }
        Dialect::Gemini => {
            let function = json!({ "name": "patch", "parametersJsonSchema": schema });
            body["tools"] = json!([{ "functionDeclarations": [function] }]);
        }
        Dialect::Bedrock => {
            let spec = json!({ "name": "patch", "inputSchema": { "json": schema } });
            body["toolConfig"] = json!({ "tools": [{ "toolSpec": spec }] });
        }
    }
}
