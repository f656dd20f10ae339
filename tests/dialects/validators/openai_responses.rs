//! Numbered events: the response is created, its items come and are done, and it ends once.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{End, Seen, arguments, events, number, parsed, text};

/// An item that is not done.
#[derive(Default)]
struct Item {
    id: Value,
    part_is_open: bool,
    said: String,
    is_said: bool,
}

pub fn read(stream: &[u8]) -> Seen {
    let mut seen = Seen::default();
    let mut open: BTreeMap<u64, Item> = BTreeMap::new();
    let mut done: Vec<(u64, Value)> = Vec::new();
    let mut begun = None;
    for (at, event) in events(stream).into_iter().enumerate() {
        assert_eq!(seen.end, End::Missing, "something follows the end");
        let value = parsed(&event.data.unwrap());
        let kind = text(&value["type"]).to_owned();
        assert_eq!(kind.as_bytes(), &event.event.expect("events have names")[..]);
        assert_eq!(number(&value["sequence_number"]), at as u64, "numbers have no gaps");
        let response = &value["response"];
        match kind.as_str() {
            "response.created" => {
                assert!(at == 0 && response["status"] == "in_progress");
                assert!(text(&response["id"]).starts_with("resp_"));
                begun = Some(response["id"].clone());
            }
            "response.in_progress" => assert!(at == 1 && response["usage"].is_null()),
            "error" => assert!(!text(&value["message"]).is_empty()),
            "response.failed" => {
                assert_eq!(response["status"], "failed");
                assert!(!text(&response["error"]["message"]).is_empty());
                seen.end = End::Failed;
            }
            "response.completed" | "response.incomplete" => {
                assert!(open.is_empty(), "an item is open at the end");
                assert_eq!(begun.as_ref(), Some(&response["id"]));
                done.sort_by_key(|(at, _)| *at);
                let items: Vec<Value> = done.iter().map(|(_, item)| item.clone()).collect();
                assert_eq!(response["output"], Value::Array(items));
                end(&kind, response, &mut seen);
            }
            "response.output_item.added" => {
                let at = number(&value["output_index"]);
                assert_eq!(at, (open.len() + done.len()) as u64, "items count up");
                let id = value["item"]["id"].clone();
                assert!(begun.is_some() && !text(&id).is_empty());
                open.insert(at, Item { id, ..Item::default() });
            }
            "response.output_item.done" => {
                let at = number(&value["output_index"]);
                let item = open.remove(&at).expect("the item is open");
                assert_eq!(item.id, value["item"]["id"]);
                assert!(!item.part_is_open && (item.said.is_empty() || item.is_said));
                assert_eq!(said_of(&value["item"]), item.said, "the item is what was said");
                done.push((at, value["item"].clone()));
            }
            kind => {
                let item = open.get_mut(&number(&value["output_index"])).expect("the item is open");
                assert_eq!(item.id, value["item_id"]);
                item.follow(kind, &value);
            }
        }
    }
    for (_, item) in &done {
        take(item, &mut seen);
    }
    seen
}

impl Item {
    fn follow(&mut self, kind: &str, value: &Value) {
        let kind = kind.strip_prefix("response.").unwrap();
        match kind.rsplit_once('.').unwrap() {
            ("content_part" | "reasoning_summary_part", "added") => {
                assert!(!self.part_is_open && self.said.is_empty());
                self.part_is_open = true;
            }
            ("content_part" | "reasoning_summary_part", "done") => {
                assert!(self.part_is_open && self.is_said);
                assert_eq!(part(&value["part"]), self.said);
                self.part_is_open = false;
            }
            ("output_text.annotation", "added") => assert!(self.part_is_open && !self.is_said),
            (what, "delta") => {
                assert!(!self.is_said, "something is said behind the last");
                assert_ne!(value["delta"], "", "nothing is said");
                assert_eq!(
                    self.part_is_open,
                    !what.ends_with("arguments") && !what.ends_with("input")
                );
                self.said.push_str(text(&value["delta"]));
            }
            (_, "done") => {
                let names = ["text", "refusal", "arguments", "input"];
                let told = names.iter().find_map(|name| value.get(*name)).expect("what was said");
                assert_eq!(told, &self.said);
                self.is_said = true;
            }
            (what, how) => panic!("{what} {how}"),
        }
    }
}

fn part(part: &Value) -> &str {
    part.get("text").or(part.get("refusal")).map_or("", text)
}

fn said_of(item: &Value) -> &str {
    match text(&item["type"]) {
        "message" => part(&item["content"][0]),
        "reasoning" => {
            part(item.get("content").unwrap_or(&item["summary"]).get(0).unwrap_or(&Value::Null))
        }
        "function_call" => text(&item["arguments"]),
        "custom_tool_call" => text(&item["input"]),
        other => panic!("an item of type {other}"),
    }
}

/// What clients take from an item: they take it when it is done.
fn take(item: &Value, seen: &mut Seen) {
    let said = said_of(item);
    match text(&item["type"]) {
        "message" => seen.text.push_str(said),
        "reasoning" => seen.thinking.push_str(said),
        _ => {
            assert!(!text(&item["call_id"]).is_empty());
            seen.calls.push((text(&item["name"]).to_owned(), arguments(said)));
        }
    }
}

fn end(kind: &str, response: &Value, seen: &mut Seen) {
    let has_calls =
        response["output"].as_array().unwrap().iter().any(|it| it.get("call_id").is_some());
    seen.end = match (kind, response["incomplete_details"]["reason"].as_str()) {
        ("response.completed", None) if has_calls => End::Calls,
        ("response.completed", None) => End::Stop,
        ("response.incomplete", Some("max_output_tokens")) => End::Length,
        ("response.incomplete", Some("content_filter")) => End::Filtered,
        (kind, reason) => panic!("{kind} by {reason:?}"),
    };
    assert_eq!(response["status"], kind.strip_prefix("response.").unwrap());
    let usage = &response["usage"];
    if !usage.is_null() {
        let (read, written) = (number(&usage["input_tokens"]), number(&usage["output_tokens"]));
        assert_eq!(number(&usage["total_tokens"]), read + written);
        assert!(number(&usage["input_tokens_details"]["cached_tokens"]) <= read);
        assert!(number(&usage["output_tokens_details"]["reasoning_tokens"]) <= written);
        seen.usage = Some((read, written));
    }
}
