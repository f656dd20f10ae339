//! Messages: a start, blocks one after the other, a stop and what it came to.

use serde_json::Value;

use super::{End, Seen, arguments, number, parsed, text};
use crate::readable::messages;

#[derive(PartialEq, Eq, Clone, Copy, Debug)]
enum Stage {
    Nothing,
    Between,
    Within,
    Stopped,
    Over,
}

pub fn read(stream: &[u8]) -> Seen {
    let mut seen = Seen::default();
    let mut stage = Stage::Nothing;
    let mut next = 0;
    let mut call: Option<(String, String)> = None;
    for (kind, name, payload) in messages(stream) {
        assert_ne!(stage, Stage::Over, "something follows the end");
        let value = parsed(payload.as_bytes());
        let index = value.get("contentBlockIndex").map(number);
        if kind == "exception" {
            assert!(name.ends_with("Exception") && !text(&value["message"]).is_empty());
            seen.end = End::Failed;
            stage = Stage::Over;
            continue;
        }
        stage = match (name.as_str(), stage) {
            ("messageStart", Stage::Nothing) => {
                assert_eq!(value["role"], "assistant");
                Stage::Between
            }
            ("contentBlockStart", Stage::Between) => {
                assert_eq!(index, Some(next), "blocks count up");
                if let Some(tool) = value["start"].get("toolUse") {
                    assert!(!text(&tool["toolUseId"]).is_empty());
                    call = Some((text(&tool["name"]).to_owned(), String::new()));
                }
                Stage::Within
            }
            // Text and reasoning have no start.
            ("contentBlockDelta", Stage::Between | Stage::Within) => {
                assert_eq!(index, Some(next));
                delta(&value["delta"], call.as_mut(), &mut seen);
                Stage::Within
            }
            ("contentBlockStop", Stage::Within) => {
                assert_eq!(index, Some(next));
                seen.calls.extend(call.take().map(|(name, told)| (name, arguments(&told))));
                next += 1;
                Stage::Between
            }
            ("messageStop", Stage::Between) => {
                seen.end = match text(&value["stopReason"]) {
                    "end_turn" | "stop_sequence" => End::Stop,
                    "max_tokens" => End::Length,
                    "tool_use" => End::Calls,
                    "content_filtered" | "guardrail_intervened" => End::Filtered,
                    other => panic!("{other} is no reason"),
                };
                Stage::Stopped
            }
            ("metadata", Stage::Stopped) => {
                let usage = &value["usage"];
                let count = |name| usage.get(name).map_or(0, number);
                let cached = count("cacheReadInputTokens") + count("cacheWriteInputTokens");
                let read = number(&usage["inputTokens"]) + cached;
                let written = number(&usage["outputTokens"]);
                assert_eq!(number(&usage["totalTokens"]), read + written);
                seen.usage = Some((read, written));
                Stage::Over
            }
            (name, stage) => panic!("{name} in stage {stage:?}"),
        };
    }
    assert_eq!(stage, Stage::Over, "the message has no end");
    seen
}

fn delta(delta: &Value, call: Option<&mut (String, String)>, seen: &mut Seen) {
    let delta = delta.as_object().unwrap();
    assert_eq!(delta.len(), 1, "a delta is one thing");
    for (kind, value) in delta {
        match kind.as_str() {
            "text" => {
                assert_ne!(value, "", "nothing is said");
                seen.text.push_str(text(value));
            }
            "toolUse" => call.as_ref().map(|_| ()).expect("a call is open"),
            "reasoningContent" => {
                seen.thinking.push_str(value.get("text").map_or("", text));
            }
            other => assert_eq!(other, "image"),
        }
    }
    if let (Some((_, told)), Some(tool)) = (call, delta.get("toolUse")) {
        told.push_str(text(&tool["input"]));
    }
}
