//! What must hold of every stream that is written, checked event by event.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;

use crate::protocol::framing::sse::Decoder;

/// An item on its way.
#[derive(Default)]
struct Open {
    id: String,
    part: Option<Value>,
    words: String,
    words_done: bool,
}

/// Checks a whole stream, and gives its last event.
pub fn check(stream: &[u8]) -> Value {
    let events = parse(stream);
    let mut open: BTreeMap<u64, Open> = BTreeMap::new();
    let mut done: BTreeMap<u64, Value> = BTreeMap::new();
    let mut ended = None;
    for (number, event) in events.iter().enumerate() {
        assert!(ended.is_none(), "something follows the end: {event}");
        assert_eq!(event["sequence_number"], number as u64, "a gap before {event}");
        let kind = event["type"].as_str().unwrap();
        let index = event["output_index"].as_u64();
        match (number, kind) {
            (0, _) => assert!(matches!(kind, "response.created" | "error"), "{kind} comes first"),
            (1, _) => {
                assert!(matches!(kind, "response.in_progress" | "response.failed"), "{kind}");
            }
            _ => assert!(!matches!(kind, "response.created" | "response.in_progress"), "twice"),
        }
        match kind {
            "response.created" | "response.in_progress" => {
                assert_eq!(event["response"]["status"], "in_progress");
                assert_eq!(event["response"]["output"], Value::Array(Vec::new()));
            }
            "response.output_item.added" => {
                let index = index.unwrap();
                assert_eq!(index, (open.len() + done.len()) as u64, "indices count up");
                let id = event["item"]["id"].as_str().unwrap().to_owned();
                open.insert(index, Open { id, ..Open::default() });
            }
            "response.output_item.done" => {
                let item = open.remove(&index.unwrap()).expect("it was announced");
                assert_eq!(event["item"]["id"], item.id);
                assert!(item.part.is_none(), "its part is not done");
                assert!(item.words.is_empty() || item.words_done, "its words are not done");
                check_item(&event["item"], &item.words);
                done.insert(index.unwrap(), event["item"].clone());
            }
            "error" => {
                assert!(event["error"]["message"].is_string() && event["message"].is_string());
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                let status = kind.strip_prefix("response.").unwrap();
                assert_eq!(event["response"]["status"], status);
                if kind != "response.failed" {
                    assert!(open.is_empty(), "items are open at the end");
                    let output: Vec<_> = done.values().cloned().collect();
                    assert_eq!(event["response"]["output"], Value::Array(output));
                }
                assert_eq!(&event["response"]["id"], id_of(&events, event));
                ended = Some(event.clone());
            }
            _ => {
                let item = open.get_mut(&index.unwrap()).expect("its item is open");
                assert_eq!(event["item_id"], item.id, "{event}");
                check_part(kind, event, item);
            }
        }
    }
    ended.expect("an end")
}

fn id_of<'e>(events: &'e [Value], last: &'e Value) -> &'e Value {
    let created = events.iter().find(|event| event["type"] == "response.created");
    &created.unwrap_or(last)["response"]["id"]
}

fn check_part(kind: &str, event: &Value, item: &mut Open) {
    let name = kind.strip_prefix("response.").unwrap();
    match name {
        "content_part.added" | "reasoning_summary_part.added" => {
            assert!(item.part.is_none(), "a part is open");
            item.part = Some(event["part"]["type"].clone());
        }
        "content_part.done" | "reasoning_summary_part.done" => {
            assert_eq!(item.part.take().as_ref(), Some(&event["part"]["type"]));
            assert!(item.words_done);
            let words = event["part"].get("text").unwrap_or(&event["part"]["refusal"]);
            assert_eq!(words, &item.words);
        }
        "output_text.annotation.added" => assert!(item.part.is_some()),
        _ if name.strip_suffix(".delta").is_some() => {
            assert!(!item.words_done, "words after the last");
            let of_call = name.contains("arguments") || name.contains("input");
            assert_eq!(item.part.is_some(), !of_call, "a part is begun before its words");
            assert_ne!(event["delta"], "", "nothing is said");
            item.words.push_str(event["delta"].as_str().unwrap());
        }
        _ => {
            let member = match name {
                "output_text.done" | "reasoning_text.done" | "reasoning_summary_text.done" => {
                    "text"
                }
                "refusal.done" => "refusal",
                "function_call_arguments.done" => "arguments",
                "custom_tool_call_input.done" => "input",
                _ => panic!("an unknown event: {name}"),
            };
            assert_eq!(event[member], item.words);
            item.words_done = true;
        }
    }
}

/// An item that is done has all that was said of it.
fn check_item(item: &Value, words: &str) {
    let said = match item["type"].as_str().unwrap() {
        "message" => {
            assert_eq!(item["role"], "assistant");
            let part = &item["content"][0];
            part.get("text").unwrap_or(&part["refusal"]).clone()
        }
        "reasoning" => {
            let part = item.get("content").unwrap_or(&item["summary"]).get(0);
            part.map_or(Value::from(""), |part| part["text"].clone())
        }
        "function_call" => item["arguments"].clone(),
        "custom_tool_call" => item["input"].clone(),
        "image_generation_call" => Value::from(""),
        other => panic!("an item of type {other}"),
    };
    assert_eq!(said, words);
    let ended = item["status"] == "completed" || item["status"] == "incomplete";
    assert!(item["type"] == "reasoning" || ended);
}

/// The events, each with the name it is sent under.
pub fn parse(stream: &[u8]) -> Vec<Value> {
    let mut decoder = Decoder::new();
    decoder.push(Bytes::copy_from_slice(stream));
    let mut events = Vec::new();
    for event in decoder.by_ref() {
        let Some(data) = event.data else { continue };
        let value: Value = serde_json::from_slice(&data).expect("JSON");
        assert_eq!(
            value["type"].as_str().unwrap().as_bytes(),
            event.event.expect("a name").as_ref()
        );
        events.push(value);
    }
    assert!(decoder.finish().is_none(), "the last event is whole");
    events
}
