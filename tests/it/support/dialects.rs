//! The five dialects from both sides: what a client of each sends and reads, and what a provider of
//! each answers.

use aws_smithy_eventstream::frame::{DecodedFrame, MessageFrameDecoder, write_message_to};
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use super::answer::{Answer, Body, EVENT_STREAM};
use super::client::{Client, Reply, Request};

/// What AWS sends streams in.
pub const FRAMES: &str = "application/vnd.amazon.eventstream";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Chat,
    Responses,
    Messages,
    Gemini,
    Bedrock,
}
use Dialect::{Bedrock, Chat, Gemini, Messages, Responses};

pub const ALL: [Dialect; 5] = [Chat, Responses, Messages, Gemini, Bedrock];

/// What a client has read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    pub text: String,
    /// It ended as an answer ends that is whole.
    pub ended: bool,
    /// What the error is called, and what it says.
    pub error: Option<(String, String)>,
    /// Prompt, completion, cached, reasoning: the first two with the others in them.
    pub usage: Option<[u64; 4]>,
}

/// What each provider here says it took, in those terms.
pub const USAGE: [u64; 4] = [100, 50, 64, 30];

// === the client ===

impl Dialect {
    /// Of its provider, and of the model that reaches it.
    pub fn name(self) -> &'static str {
        match self {
            Chat => "chat",
            Responses => "responses",
            Messages => "messages",
            Gemini => "gemini",
            Bedrock => "bedrock",
        }
    }

    pub fn path(self, model: &str, stream: bool) -> String {
        match self {
            Chat => "/v1/chat/completions".to_owned(),
            Responses => "/v1/responses".to_owned(),
            Messages => "/v1/messages".to_owned(),
            Gemini if stream => format!("/v1beta/models/{model}:streamGenerateContent?alt=sse"),
            Gemini => format!("/v1beta/models/{model}:generateContent"),
            Bedrock if stream => format!("/model/{model}/converse-stream"),
            Bedrock => format!("/model/{model}/converse"),
        }
    }

    /// What asks `model` for an answer to `text`, of at most 900 tokens.
    pub fn body(self, model: &str, text: &str, stream: bool) -> Value {
        let messages = json!([{"role": "user", "content": text}]);
        let mut body = match self {
            Chat => json!({"model": model, "messages": messages, "max_completion_tokens": 900}),
            Responses => json!({"model": model, "input": text, "max_output_tokens": 900}),
            Messages => json!({"model": model, "messages": messages, "max_tokens": 900}),
            Gemini => json!({"contents": [{"role": "user", "parts": [{"text": text}]}],
                "generationConfig": {"maxOutputTokens": 900}}),
            Bedrock => json!({"messages": [{"role": "user", "content": [{"text": text}]}],
                "inferenceConfig": {"maxTokens": 900}}),
        };
        if stream && matches!(self, Chat | Responses | Messages) {
            body["stream"] = json!(true);
        }
        if stream && self == Chat {
            body["stream_options"] = json!({"include_usage": true});
        }
        body
    }

    /// Asks the model for an answer.
    pub fn ask(self, client: &Client, model: &str, stream: bool) -> Request {
        self.ask_with(client, model, stream, |_| {})
    }

    /// … in a body that is changed before.
    pub fn ask_with(
        self,
        client: &Client,
        model: &str,
        stream: bool,
        change: impl FnOnce(&mut Value),
    ) -> Request {
        let mut body = self.body(model, "hi", stream);
        change(&mut body);
        client.post(&self.path(model, stream), body.to_string())
    }

    pub fn content_type(self, stream: bool) -> &'static str {
        match self {
            _ if !stream => "application/json",
            Bedrock => FRAMES,
            _ => EVENT_STREAM,
        }
    }

    /// A whole answer, as its client reads it.
    #[track_caller]
    pub fn read(self, reply: &Reply) -> Told {
        assert_eq!((reply.status, reply.whole), (200, true), "{self:?}: {reply:?}");
        let body = reply.json();
        let texts = |list: &Value, text: &dyn Fn(&Value) -> Option<String>| {
            list.as_array().into_iter().flatten().filter_map(text).collect::<String>()
        };
        let string = |value: &Value| value.as_str().map(str::to_owned);
        let (text, end) = match self {
            Chat => {
                let choice = &body["choices"][0];
                (string(&choice["message"]["content"]), string(&choice["finish_reason"]))
            }
            Responses => {
                let part = |part: &Value| string(&part["text"]);
                let item = |item: &Value| Some(texts(&item["content"], &part));
                (Some(texts(&body["output"], &item)), string(&body["status"]))
            }
            Messages => {
                let text = texts(&body["content"], &|part| string(&part["text"]));
                (Some(text), string(&body["stop_reason"]))
            }
            Gemini => {
                let candidate = &body["candidates"][0];
                let text = texts(&candidate["content"]["parts"], &|part| string(&part["text"]));
                (Some(text), string(&candidate["finishReason"]))
            }
            Bedrock => {
                let content = &body["output"]["message"]["content"];
                let text = texts(content, &|part| string(&part["text"]));
                (Some(text), string(&body["stopReason"]))
            }
        };
        let usage = body.get("usage").or_else(|| body.get("usageMetadata"));
        let ended = end.is_some();
        Told { text: text.unwrap_or_default(), ended, error: None, usage: self.usage(usage) }
    }

    /// A stream, as its client reads it.
    #[track_caller]
    pub fn read_stream(self, reply: &Reply) -> Told {
        assert_eq!(reply.status, 200, "{self:?}: {reply:?}");
        let mut told = Told::default();
        if self == Bedrock {
            for (kind, name, event) in messages_in(&reply.body) {
                told.frame(&kind, &name, &event);
            }
            return told;
        }
        let text = reply.text();
        // Gemini's events end with CRLF.
        let text = text.replace("\r\n", "\n");
        for event in text.split("\n\n").filter(|event| !event.trim().is_empty()) {
            let data = event.lines().find_map(|line| line.strip_prefix("data: "));
            let Some(data) = data else {
                assert!(event.starts_with(':'), "{self:?}: not an event: {event}");
                continue;
            };
            if data == "[DONE]" {
                told.ended = true;
                continue;
            }
            let data: Value = serde_json::from_str(data).unwrap_or_else(|_| panic!("{event}"));
            assert!(!told.ended || self == Chat, "{self:?}: {event} comes after the end");
            told.event(self, &data);
        }
        told
    }

    /// A refusal, as its client reads it: what the error is called, and what it says.
    #[track_caller]
    pub fn refused(self, reply: &Reply) -> (String, String) {
        assert!(reply.status >= 400 && reply.whole, "{self:?}: {reply:?}");
        assert_eq!(reply.header("content-type"), Some("application/json"), "{self:?}: {reply:?}");
        assert!(reply.header("x-request-id").is_some(), "{self:?}: {reply:?}");
        let body = reply.json();
        let (kind, error) = match self {
            Chat | Responses => {
                let error = &body["error"];
                assert!(error["type"].is_string(), "{self:?}: {reply:?}");
                assert!(error.get("param").is_some(), "{self:?}: {reply:?}");
                (&error["code"], error)
            }
            Messages => {
                assert_eq!(body["type"], "error", "{reply:?}");
                let id = reply.header("x-request-id");
                assert_eq!(body["request_id"].as_str(), id, "{reply:?}");
                (&body["error"]["type"], &body["error"])
            }
            Gemini => {
                assert_eq!(body["error"]["code"], reply.status, "{reply:?}");
                (&body["error"]["status"], &body["error"])
            }
            Bedrock => {
                let kind = reply.header("x-amzn-errortype").unwrap_or_else(|| panic!("{reply:?}"));
                let said = body["message"].as_str().unwrap_or_else(|| panic!("{reply:?}"));
                // AWS's own servers say more behind a colon, which its clients cut off.
                let kind = kind.split(':').next().unwrap_or_default();
                return (kind.to_owned(), said.to_owned());
            }
        };
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{reply:?}")).to_owned();
        (text(kind), text(&error["message"]))
    }

    fn usage(self, usage: Option<&Value>) -> Option<[u64; 4]> {
        let usage = usage.filter(|usage| usage.is_object())?;
        let count = |path: &str| usage.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        Some(match self {
            Chat => [
                count("/prompt_tokens"),
                count("/completion_tokens"),
                count("/prompt_tokens_details/cached_tokens"),
                count("/completion_tokens_details/reasoning_tokens"),
            ],
            Responses => [
                count("/input_tokens"),
                count("/output_tokens"),
                count("/input_tokens_details/cached_tokens"),
                count("/output_tokens_details/reasoning_tokens"),
            ],
            Messages => [
                count("/input_tokens")
                    + count("/cache_read_input_tokens")
                    + count("/cache_creation_input_tokens"),
                count("/output_tokens"),
                count("/cache_read_input_tokens"),
                count("/output_tokens_details/thinking_tokens"),
            ],
            Gemini => [
                count("/promptTokenCount"),
                count("/candidatesTokenCount") + count("/thoughtsTokenCount"),
                count("/cachedContentTokenCount"),
                count("/thoughtsTokenCount"),
            ],
            Bedrock => [
                count("/inputTokens")
                    + count("/cacheReadInputTokens")
                    + count("/cacheWriteInputTokens"),
                count("/outputTokens"),
                count("/cacheReadInputTokens"),
                0,
            ],
        })
    }
}

impl Told {
    fn event(&mut self, dialect: Dialect, event: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let error = |kind: &Value, message: &Value| Some((text(kind), text(message)));
        match dialect {
            Chat => {
                self.text += &text(&event["choices"][0]["delta"]["content"]);
                self.usage = dialect.usage(event.get("usage")).or(self.usage);
                if let Some(told) = event.get("error") {
                    self.error = error(&told["code"], &told["message"]);
                }
            }
            Responses => match event["type"].as_str().unwrap() {
                "response.output_text.delta" => self.text += &text(&event["delta"]),
                "response.completed" | "response.incomplete" => {
                    self.ended = true;
                    self.usage = dialect.usage(event["response"].get("usage"));
                }
                "error" => self.error = error(&event["code"], &event["message"]),
                _ => {}
            },
            Messages => match event["type"].as_str().unwrap() {
                "content_block_delta" => self.text += &text(&event["delta"]["text"]),
                "message_start" => self.usage = dialect.usage(event["message"].get("usage")),
                "message_delta" => self.usage = dialect.usage(event.get("usage")),
                "message_stop" => self.ended = true,
                "error" => {
                    self.error = error(&event["error"]["type"], &event["error"]["message"]);
                }
                _ => {}
            },
            Gemini => {
                let candidate = &event["candidates"][0];
                for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
                    self.text += &text(&part["text"]);
                }
                self.ended = candidate["finishReason"].is_string();
                self.usage = dialect.usage(event.get("usageMetadata")).or(self.usage);
                if let Some(told) = event.get("error") {
                    self.error = error(&told["status"], &told["message"]);
                }
            }
            Bedrock => panic!("frames, not events"),
        }
    }

    fn frame(&mut self, kind: &str, name: &str, event: &Value) {
        if kind == "exception" {
            let said = event["message"].as_str().unwrap_or_default();
            self.error = Some((name.to_owned(), said.to_owned()));
            return;
        }
        match name {
            "contentBlockDelta" => {
                self.text += event["delta"]["text"].as_str().unwrap_or_default();
            }
            "messageStop" => self.ended = true,
            "metadata" => self.usage = Bedrock.usage(event.get("usage")),
            _ => {}
        }
    }
}

/// An array of Gemini's answers, as a client reads a stream that it has not asked for as events.
#[track_caller]
pub fn read_array(reply: &Reply) -> Told {
    let mut told = Told::default();
    for event in reply.json().as_array().unwrap_or_else(|| panic!("{reply:?}")) {
        told.event(Gemini, event);
    }
    told
}

// === AWS's frames ===

/// A message of an event stream: `kind` is `event` or `exception`.
pub fn frame(kind: &'static str, name: &str, payload: &Value) -> Bytes {
    let header = |name: &'static str, value: &str| {
        Header::new(name, HeaderValue::String(value.to_owned().into()))
    };
    let message = Message::new(payload.to_string())
        .add_header(header(if kind == "event" { ":event-type" } else { ":exception-type" }, name))
        .add_header(header(":content-type", "application/json"))
        .add_header(header(":message-type", kind));
    let mut bytes = Vec::new();
    write_message_to(&message, &mut bytes).unwrap();
    bytes.into()
}

/// The messages of an event stream, each with its kind, its name and its payload.
#[track_caller]
pub fn messages_in(stream: &[u8]) -> Vec<(String, String, Value)> {
    let (mut decoder, mut stream) = (MessageFrameDecoder::new(), BytesMut::from(stream));
    let mut messages = Vec::new();
    while let DecodedFrame::Complete(message) = decoder.decode_frame(&mut stream).unwrap() {
        let header = |name: &str| {
            let header = message.headers().iter().find(|header| header.name().as_str() == name);
            header.map(|it| it.value().as_string().unwrap().as_str().to_owned())
        };
        let name = header(":event-type").or_else(|| header(":exception-type"));
        let payload = serde_json::from_slice(message.payload()).unwrap();
        messages.push((header(":message-type").unwrap(), name.unwrap(), payload));
    }
    assert!(stream.is_empty(), "half a message at the end");
    messages
}

// === the provider ===

/// An event with a name, which stands in it as its type, too.
fn named(event: &Value) -> Bytes {
    format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap()).into()
}

fn data(event: &Value) -> Bytes {
    format!("data: {event}\n\n").into()
}

fn crlf(event: &Value) -> Bytes {
    format!("data: {event}\r\n\r\n").into()
}

fn chunk(choices: &Value, usage: &Value) -> Bytes {
    data(&json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1,
        "model": "up", "choices": choices, "usage": usage}))
}

fn response(status: &str, output: &Value, usage: &Value) -> Value {
    json!({"id": "resp_1", "object": "response", "created_at": 1, "status": status, "model": "up",
        "error": null, "incomplete_details": null, "output": output, "usage": usage,
        "parallel_tool_calls": true, "tool_choice": "auto", "tools": []})
}

fn item(text: &str) -> Value {
    json!({"id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]})
}

impl Dialect {
    /// A provider of this dialect, for a file.
    pub fn provider(self, name: &str, at: &str) -> String {
        let kind = match self {
            Chat => format!(r#"kind: vllm, dialect: openai_chat, base_url: "http://{at}""#),
            Responses => {
                format!(r#"kind: openai, dialect: openai_responses, base_url: "http://{at}/v1""#)
            }
            Messages => format!(r#"kind: anthropic, base_url: "http://{at}""#),
            Gemini => format!(r#"kind: gemini, base_url: "http://{at}""#),
            Bedrock => format!(r#"kind: bedrock, region: eu-central-1, base_url: "http://{at}""#),
        };
        let rest = "health_check: { type: none }, ejection: off";
        format!("  - {{ name: {name}, {kind}, api_keys: [key-of-{name}], {rest} }}\n")
    }

    /// What this dialect's providers say they took, in [`USAGE`]'s terms: Bedrock tells no reasoning.
    pub fn told_usage(self) -> [u64; 4] {
        let [prompt, completion, cached, reasoning] = USAGE;
        [prompt, completion, cached, if self == Bedrock { 0 } else { reasoning }]
    }

    fn own_usage(self) -> Value {
        match self {
            Chat => json!({"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150,
                "prompt_tokens_details": {"cached_tokens": 64},
                "completion_tokens_details": {"reasoning_tokens": 30}}),
            Responses => json!({"input_tokens": 100, "output_tokens": 50, "total_tokens": 150,
                "input_tokens_details": {"cached_tokens": 64},
                "output_tokens_details": {"reasoning_tokens": 30}}),
            Messages => json!({"input_tokens": 30, "cache_read_input_tokens": 64,
                "cache_creation_input_tokens": 6, "output_tokens": 50,
                "output_tokens_details": {"thinking_tokens": 30}}),
            Gemini => json!({"promptTokenCount": 100, "candidatesTokenCount": 20,
                "thoughtsTokenCount": 30, "cachedContentTokenCount": 64,
                "totalTokenCount": 150}),
            Bedrock => json!({"inputTokens": 30, "outputTokens": 50, "totalTokens": 150,
                "cacheReadInputTokens": 64, "cacheWriteInputTokens": 6}),
        }
    }

    /// A whole answer of a provider's.
    pub fn answer(self, text: &str) -> Answer {
        let usage = self.own_usage();
        let body = match self {
            Chat => json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1,
                "model": "up", "usage": usage, "choices": [{"index": 0, "finish_reason": "stop",
                    "message": {"role": "assistant", "content": text}}]}),
            Responses => response("completed", &json!([item(text)]), &usage),
            Messages => json!({"id": "msg_1", "type": "message", "role": "assistant",
                "model": "up", "content": [{"type": "text", "text": text}],
                "stop_reason": "end_turn", "stop_sequence": null, "usage": usage}),
            Gemini => json!({"candidates": [{"content": {"role": "model",
                    "parts": [{"text": text}]}, "finishReason": "STOP", "index": 0}],
                "usageMetadata": usage, "modelVersion": "up", "responseId": "r1"}),
            Bedrock => json!({"output": {"message": {"role": "assistant",
                    "content": [{"text": text}]}}, "stopReason": "end_turn", "usage": usage,
                "metrics": {"latencyMs": 1}}),
        };
        Answer::json(200, &body)
    }

    /// What a stream begins with.
    pub fn begins(self) -> Vec<Bytes> {
        match self {
            Chat => {
                let choice = json!([{"index": 0, "delta": {"role": "assistant", "content": ""},
                    "finish_reason": null}]);
                vec![chunk(&choice, &Value::Null)]
            }
            Responses => {
                let begun = response("in_progress", &json!([]), &Value::Null);
                let part = json!({"type": "output_text", "text": "", "annotations": []});
                let item = json!({"id": "msg_1", "type": "message", "status": "in_progress",
                    "role": "assistant", "content": []});
                [
                    json!({"type": "response.created", "sequence_number": 0, "response": begun}),
                    json!({"type": "response.output_item.added", "sequence_number": 1,
                        "output_index": 0, "item": item}),
                    json!({"type": "response.content_part.added", "sequence_number": 2,
                        "item_id": "msg_1", "output_index": 0, "content_index": 0, "part": part}),
                ]
                .iter()
                .map(named)
                .collect()
            }
            Messages => {
                let message = json!({"id": "msg_1", "type": "message", "role": "assistant",
                    "model": "up", "content": [], "stop_reason": null, "stop_sequence": null,
                    "usage": {"input_tokens": 30, "cache_read_input_tokens": 64,
                        "cache_creation_input_tokens": 6, "output_tokens": 1}});
                let block = json!({"type": "text", "text": ""});
                let block = json!({"type": "content_block_start", "index": 0,
                    "content_block": block});
                vec![named(&json!({"type": "message_start", "message": message})), named(&block)]
            }
            Gemini => vec![],
            Bedrock => vec![frame("event", "messageStart", &json!({"role": "assistant"}))],
        }
    }

    /// A piece of the text.
    pub fn word(self, word: &str) -> Bytes {
        match self {
            Chat => {
                let delta = json!({"content": word});
                let choice = json!([{"index": 0, "delta": delta, "finish_reason": null}]);
                chunk(&choice, &Value::Null)
            }
            Responses => named(&json!({"type": "response.output_text.delta",
                "sequence_number": 3, "item_id": "msg_1", "output_index": 0,
                "content_index": 0, "delta": word})),
            Messages => named(&json!({"type": "content_block_delta", "index": 0,
                "delta": {"type": "text_delta", "text": word}})),
            Gemini => crlf(&json!({"candidates": [{"content": {"role": "model",
                "parts": [{"text": word}]}, "index": 0}], "modelVersion": "up",
                "responseId": "r1"})),
            Bedrock => frame(
                "event",
                "contentBlockDelta",
                &json!({"contentBlockIndex": 0, "delta": {"text": word}, "p": "abc"}),
            ),
        }
    }

    /// What a stream of this text ends with.
    pub fn ends(self, text: &str) -> Vec<Bytes> {
        let usage = self.own_usage();
        match self {
            Chat => {
                let choice = json!([{"index": 0, "delta": {}, "finish_reason": "stop"}]);
                let last = chunk(&choice, &Value::Null);
                vec![last, chunk(&json!([]), &usage), "data: [DONE]\n\n".into()]
            }
            Responses => {
                let part = json!({"type": "output_text", "text": text, "annotations": []});
                let place = json!({"item_id": "msg_1", "output_index": 0, "content_index": 0,
                    "sequence_number": 9, "item": item(text), "part": part, "text": text,
                    "response": response("completed", &json!([item(text)]), &usage)});
                let event = |(name, members): (&str, &[&str])| {
                    let mut event = json!({"type": name, "sequence_number": 9});
                    for member in members {
                        event[member] = place[member].clone();
                    }
                    named(&event)
                };
                let within = ["item_id", "output_index", "content_index"];
                let of_text = [&within[..], &["text"]].concat();
                let of_part = [&within[..], &["part"]].concat();
                [
                    ("response.output_text.done", &of_text[..]),
                    ("response.content_part.done", &of_part),
                    ("response.output_item.done", &["output_index", "item"]),
                    ("response.completed", &["response"]),
                ]
                .into_iter()
                .map(event)
                .collect()
            }
            Messages => vec![
                named(&json!({"type": "content_block_stop", "index": 0})),
                named(&json!({"type": "message_delta", "usage": usage,
                    "delta": {"stop_reason": "end_turn", "stop_sequence": null}})),
                named(&json!({"type": "message_stop"})),
            ],
            Gemini => vec![crlf(&json!({"candidates": [{"content": {"role": "model",
                "parts": [{"text": ""}]}, "finishReason": "STOP", "index": 0}],
                "usageMetadata": usage, "modelVersion": "up", "responseId": "r1"}))],
            Bedrock => vec![
                frame("event", "contentBlockStop", &json!({"contentBlockIndex": 0})),
                frame("event", "messageStop", &json!({"stopReason": "end_turn"})),
                frame("event", "metadata", &json!({"usage": usage, "metrics": {"latencyMs": 1}})),
            ],
        }
    }

    /// A whole stream of these words.
    pub fn words(self, words: &[&str]) -> Answer {
        let words = (words.concat(), words.iter().map(|word| self.word(word)));
        self.streaming([self.begins(), words.1.collect(), self.ends(&words.0)].concat())
    }

    /// A stream of these events.
    pub fn streaming(self, events: Vec<Bytes>) -> Answer {
        Answer { body: Body::Chunks(events), ..self.streams("") }
    }

    /// An answer of a stream's type, with this body.
    pub fn streams(self, body: &str) -> Answer {
        let kind = if self == Bedrock { FRAMES } else { "text/event-stream" };
        Answer::new(200, kind, body.to_owned())
    }

    /// What a stream that cannot go on says: "no room".
    pub fn failing(self) -> Bytes {
        match self {
            Chat => data(&json!({"error": {"message": "no room", "type": "InternalServerError",
                "param": null, "code": 503}})),
            Responses => named(&json!({"type": "error", "sequence_number": 3,
                "code": "server_is_overloaded", "message": "no room", "param": null})),
            Messages => named(&json!({"type": "error",
                "error": {"type": "overloaded_error", "message": "no room"}})),
            Gemini => crlf(&json!({"error": {"code": 503, "message": "no room",
                "status": "UNAVAILABLE"}})),
            Bedrock => {
                frame("exception", "serviceUnavailableException", &json!({"message": "no room"}))
            }
        }
    }

    /// A provider's refusal of this status.
    pub fn failure(self, status: u16, message: &str) -> Answer {
        let (openai, anthropic, google, amazon) = match status {
            400 => ("", "invalid_request_error", "INVALID_ARGUMENT", "ValidationException"),
            401 => (
                "invalid_api_key",
                "authentication_error",
                "UNAUTHENTICATED",
                "UnrecognizedClientException",
            ),
            403 => ("", "permission_error", "PERMISSION_DENIED", "AccessDeniedException"),
            404 => ("model_not_found", "not_found_error", "NOT_FOUND", "ResourceNotFoundException"),
            413 => ("", "request_too_large", "INVALID_ARGUMENT", "ValidationException"),
            429 => (
                "rate_limit_exceeded",
                "rate_limit_error",
                "RESOURCE_EXHAUSTED",
                "ThrottlingException",
            ),
            503 | 529 => ("", "overloaded_error", "UNAVAILABLE", "ServiceUnavailableException"),
            _ => ("", "api_error", "INTERNAL", "InternalServerException"),
        };
        match self {
            Chat | Responses => {
                let code = if openai.is_empty() { Value::Null } else { json!(openai) };
                Answer::json(
                    status,
                    &json!({"error": {"message": message, "param": null,
                    "type": "invalid_request_error", "code": code}}),
                )
            }
            Messages => Answer::json(
                status,
                &json!({"type": "error", "request_id": "req_up",
                "error": {"type": anthropic, "message": message}}),
            ),
            Gemini => Answer::json(
                status,
                &json!({"error": {"code": status,
                "message": message, "status": google}}),
            ),
            Bedrock => Answer::json(status, &json!({"message": message}))
                .header("x-amzn-errortype", &format!("{amazon}:http://internal.amazon.com/")),
        }
    }
}
