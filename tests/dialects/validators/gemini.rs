//! Pieces of one answer; the last has a reason and usage, and nothing marks the end but that.

use super::{End, Seen, events, number, parsed, text};

pub fn read(stream: &[u8]) -> Seen {
    let lines = stream.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    assert!(lines.clone().all(|line| line.ends_with(b"\r")), "lines end with CRLF");
    // Google's Python client takes any line that is not empty and no data for JSON.
    assert!(lines.filter(|line| *line != b"\r").all(|line| line.starts_with(b"data: ")));
    let mut seen = Seen::default();
    let mut id = None;
    for event in events(stream) {
        assert_eq!(seen.end, End::Missing, "something follows the end");
        let piece = parsed(&event.data.unwrap());
        if let Some(error) = piece.get("error") {
            assert!(number(&error["code"]) >= 400 && !text(&error["status"]).is_empty());
            assert!(!text(&error["message"]).is_empty());
            seen.end = End::Failed;
            continue;
        }
        assert!(!text(&piece["modelVersion"]).is_empty());
        let own = text(&piece["responseId"]).to_owned();
        assert_eq!(id.get_or_insert_with(|| own.clone()), &own, "the id changes");
        let candidate = &piece["candidates"][0];
        assert_eq!(candidate["content"]["role"], "model");
        for part in candidate["content"]["parts"].as_array().unwrap() {
            if let Some(call) = part.get("functionCall") {
                assert!(call["args"].is_object() && !text(&call["id"]).is_empty());
                seen.calls.push((text(&call["name"]).to_owned(), call["args"].clone()));
            } else if part.get("inlineData").is_none() {
                let thought = part.get("thought").is_some_and(|thought| thought == true);
                let to = if thought { &mut seen.thinking } else { &mut seen.text };
                to.push_str(text(&part["text"]));
            }
        }
        let Some(reason) = candidate.get("finishReason") else {
            assert!(piece.get("usageMetadata").is_none(), "usage comes with the end");
            continue;
        };
        seen.end = match text(reason) {
            "STOP" if seen.calls.is_empty() => End::Stop,
            "STOP" => End::Calls,
            "MAX_TOKENS" => End::Length,
            "SAFETY" => End::Filtered,
            other => panic!("{other} is no reason of ours"),
        };
        if let Some(usage) = piece.get("usageMetadata") {
            let count = |name| usage.get(name).map_or(0, number);
            let read = number(&usage["promptTokenCount"]);
            let written = count("candidatesTokenCount") + count("thoughtsTokenCount");
            assert_eq!(number(&usage["totalTokenCount"]), read + written);
            seen.usage = Some((read, written));
        }
    }
    seen
}
