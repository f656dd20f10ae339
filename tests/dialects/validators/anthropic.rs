//! Events: a message starts, its blocks one after the other, what it came to, and its stop.

use serde_json::Value;

use super::{End, Seen, arguments, events, number, parsed, text};

#[derive(PartialEq, Eq, Clone, Copy, Debug)]
enum Stage {
    Nothing,
    Between,
    Within,
    Summed,
    Over,
}

pub fn read(stream: &[u8]) -> Seen {
    let mut seen = Seen::default();
    let mut stage = Stage::Nothing;
    let mut next = 0;
    let mut block = Block::default();
    for event in events(stream) {
        assert_ne!(stage, Stage::Over, "something follows the end");
        let value = parsed(&event.data.unwrap());
        assert_eq!(text(&value["type"]).as_bytes(), &event.event.expect("events have names")[..]);
        stage = match (text(&value["type"]), stage) {
            ("ping", stage) => stage,
            ("error", _) => {
                assert_eq!(
                    value["error"]["type"].is_string(),
                    value["error"]["message"].is_string()
                );
                seen.end = End::Failed;
                Stage::Over
            }
            ("message_start", Stage::Nothing) => {
                let message = &value["message"];
                assert!(text(&message["id"]).starts_with("msg_"));
                assert_eq!(
                    (&message["role"], &message["content"]),
                    (&"assistant".into(), &Value::Array(vec![]))
                );
                assert!(message["stop_reason"].is_null());
                usage(&message["usage"]);
                Stage::Between
            }
            ("content_block_start", Stage::Between) => {
                assert_eq!(number(&value["index"]), next, "blocks count up");
                block = Block::begin(&value["content_block"]);
                Stage::Within
            }
            ("content_block_delta", Stage::Within) => {
                assert_eq!(number(&value["index"]), next);
                block.more(&value["delta"], &mut seen);
                Stage::Within
            }
            ("content_block_stop", Stage::Within) => {
                assert_eq!(number(&value["index"]), next);
                std::mem::take(&mut block).end(&mut seen);
                next += 1;
                Stage::Between
            }
            ("message_delta", Stage::Between) => {
                seen.end = end(&value["delta"]);
                let explanation = &value["delta"]["stop_details"]["explanation"];
                seen.text.push_str(explanation.as_str().unwrap_or_default());
                seen.usage = Some(usage(&value["usage"]));
                Stage::Summed
            }
            ("message_stop", Stage::Summed) => Stage::Over,
            (kind, stage) => panic!("{kind} in stage {stage:?}"),
        };
    }
    assert_eq!(stage, Stage::Over, "the message does not stop");
    assert!(next > 0 || matches!(seen.end, End::Failed | End::Filtered), "a message has a block");
    seen
}

#[derive(Default)]
struct Block {
    kind: String,
    name: String,
    told: String,
    signed: bool,
}

impl Block {
    fn begin(block: &Value) -> Self {
        let kind = text(&block["type"]).to_owned();
        let empty = match kind.as_str() {
            "text" => block["text"] == "",
            "thinking" => block["thinking"] == "" && block["signature"] == "",
            "tool_use" => block["input"] == serde_json::json!({}) && !text(&block["id"]).is_empty(),
            "redacted_thinking" => !text(&block["data"]).is_empty(),
            other => other == "image",
        };
        assert!(empty, "{block} begins otherwise");
        let name = block["name"].as_str().unwrap_or_default().to_owned();
        Self { kind, name, ..Self::default() }
    }

    fn more(&mut self, delta: &Value, seen: &mut Seen) {
        match (self.kind.as_str(), text(&delta["type"])) {
            ("text", "text_delta") => seen.text.push_str(text(&delta["text"])),
            ("text", "citations_delta") => assert!(delta["citation"]["url"].is_string()),
            ("thinking", "thinking_delta") => {
                assert!(!self.signed, "thinking goes on behind its signature");
                seen.thinking.push_str(text(&delta["thinking"]));
            }
            ("thinking", "signature_delta") => self.signed = true,
            ("tool_use", "input_json_delta") => self.told.push_str(text(&delta["partial_json"])),
            (block, delta) => panic!("{delta} in a block of {block}"),
        }
    }

    fn end(self, seen: &mut Seen) {
        match self.kind.as_str() {
            "thinking" => assert!(self.signed, "thinking ends unsigned"),
            "tool_use" => {
                // The official SDKs take no text for no arguments.
                let told = if self.told.is_empty() { "{}" } else { &self.told };
                seen.calls.push((self.name, arguments(told)));
            }
            _ => {}
        }
    }
}

fn end(delta: &Value) -> End {
    let sequence = &delta["stop_sequence"];
    let reason = text(&delta["stop_reason"]);
    assert!(sequence.is_null() || reason == "stop_sequence", "{sequence} ends {reason}");
    match reason {
        "end_turn" | "stop_sequence" => End::Stop,
        "max_tokens" => End::Length,
        "tool_use" => End::Calls,
        "refusal" => End::Filtered,
        other => panic!("{other} is no reason"),
    }
}

fn usage(usage: &Value) -> (u64, u64) {
    let cached = ["cache_creation_input_tokens", "cache_read_input_tokens"];
    let cached: u64 = cached.iter().map(|name| number(&usage[*name])).sum();
    let written: u64 = usage["cache_creation"].as_object().unwrap().values().map(number).sum();
    assert_eq!(number(&usage["cache_creation_input_tokens"]), written);
    (number(&usage["input_tokens"]) + cached, number(&usage["output_tokens"]))
}
