//! Chunks: a role, pieces, a reason, usage, `[DONE]`.

use serde_json::Value;

use super::{End, Seen, arguments, events, number, parsed, text};

#[derive(PartialEq, PartialOrd)]
enum Stage {
    Nothing,
    Begun,
    Finished,
    Counted,
    Over,
}

pub fn read(stream: &[u8]) -> Seen {
    let mut seen = Seen::default();
    let mut stage = Stage::Nothing;
    let mut head = None;
    let mut calls: Vec<(String, String)> = Vec::new();
    for event in events(stream) {
        assert!(event.event.is_none(), "chunks have no names");
        assert!(stage < Stage::Over && seen.end != End::Failed, "something follows the end");
        let data = event.data.unwrap();
        if &data[..] == b"[DONE]" {
            assert!(stage >= Stage::Finished, "the end comes before its reason");
            stage = Stage::Over;
            continue;
        }
        let chunk = parsed(&data);
        if let Some(error) = chunk.get("error") {
            assert!(!text(&error["message"]).is_empty() && !text(&error["type"]).is_empty());
            seen.end = End::Failed;
            continue;
        }
        assert_eq!(chunk["object"], "chat.completion.chunk");
        let own = ["id", "model", "created"].map(|name| chunk[name].clone());
        assert!(text(&own[0]).starts_with("chatcmpl-"));
        assert_eq!(head.get_or_insert_with(|| own.clone()), &own, "the head changes");
        let choices = chunk["choices"].as_array().unwrap();
        let Some(choice) = choices.first() else {
            assert!(stage == Stage::Finished, "usage comes once, behind the reason");
            let usage = &chunk["usage"];
            let (read, written) =
                (number(&usage["prompt_tokens"]), number(&usage["completion_tokens"]));
            assert_eq!(number(&usage["total_tokens"]), read + written);
            seen.usage = Some((read, written));
            stage = Stage::Counted;
            continue;
        };
        assert_eq!((choices.len(), number(&choice["index"])), (1, 0));
        assert_eq!(chunk["usage"], Value::Null);
        assert!(stage < Stage::Finished, "a piece follows the reason");
        let delta = choice["delta"].as_object().unwrap();
        assert_eq!(
            delta.contains_key("role"),
            stage == Stage::Nothing,
            "the role comes first, once"
        );
        stage = Stage::Begun;
        piece(delta, &mut calls, &mut seen);
        if let Some(reason) = choice["finish_reason"].as_str() {
            assert!(delta.is_empty(), "the reason comes alone");
            seen.end = match reason {
                "stop" => End::Stop,
                "length" => End::Length,
                "tool_calls" => End::Calls,
                "content_filter" => End::Filtered,
                other => panic!("{other} is no reason"),
            };
            stage = Stage::Finished;
        }
    }
    assert_eq!(
        stage == Stage::Over,
        seen.end != End::Failed,
        "`[DONE]` is the end of what is whole"
    );
    seen.calls = calls.into_iter().map(|(name, told)| (name, arguments(&told))).collect();
    seen
}

fn piece(
    delta: &serde_json::Map<String, Value>,
    calls: &mut Vec<(String, String)>,
    seen: &mut Seen,
) {
    for (name, value) in delta {
        match name.as_str() {
            "content" | "refusal" => seen.text.push_str(text(value)),
            "reasoning_content" => seen.thinking.push_str(text(value)),
            "tool_calls" => value.as_array().unwrap().iter().for_each(|call| more(call, calls)),
            "role" => assert_eq!(value, "assistant"),
            "reasoning" => assert_eq!(Some(value), delta.get("reasoning_content")),
            "reasoning_details" | "annotations" | "images" => assert!(value.is_array()),
            other => panic!("{other} stands in a delta"),
        }
    }
}

fn more(call: &Value, calls: &mut Vec<(String, String)>) {
    let at = usize::try_from(number(&call["index"])).unwrap();
    if let Some(id) = call.get("id") {
        assert_eq!(at, calls.len(), "calls count up");
        assert!(!text(id).is_empty());
        let form = text(&call["type"]);
        calls.push((text(&call[form]["name"]).to_owned(), String::new()));
    }
    let (_, told) = calls.get_mut(at).expect("the call has begun");
    for said in [&call["function"]["arguments"], &call["custom"]["input"]] {
        told.push_str(said.as_str().unwrap_or_default());
    }
}
