//! What Google was recorded to answer.

use super::{collected, json, read_every_way};
use crate::config::Dialect;
use crate::protocol::canonical::{Block, Failure, FailureKind, Image, Response, Source, Stop};
use crate::protocol::gemini::{read_response, write_response};

macro_rules! recorded {
    ($id:literal) => {
        include_bytes!(concat!("../../../../tests/fixtures/recorded/", $id, "/response.bin"))
    };
}

fn texts(response: &Response) -> Vec<&str> {
    fn text(block: &Block) -> Option<&str> {
        match block {
            Block::Text { text, .. } => Some(text),
            _ => None,
        }
    }
    response.blocks.iter().filter_map(text).collect()
}

fn usage(response: &Response) -> (u64, u64, u64, Option<u64>) {
    let usage = response.usage.unwrap();
    (usage.input, usage.cache_read, usage.output, usage.reasoning)
}

#[test]
fn cached_tokens_are_within_the_prompt() {
    let response = read_response(recorded!("gem-cached")).unwrap();
    assert_eq!(texts(&response), ["Paris."]);
    assert_eq!(response.stop, Stop::EndTurn);
    assert_eq!(response.id, "_VQYaqvRGbW6qtsPg4TDoAg");
    assert_eq!(usage(&response), (3520, 3512, 44, Some(42)));
}

#[test]
fn sources_stand_where_their_words_are_in_characters() {
    let response = read_response(recorded!("gem-grounding")).unwrap();
    let [Block::Text { text, annotations }] = response.blocks.as_slice() else { panic!() };
    assert_eq!(annotations.len(), 6);
    let recorded = json(recorded!("gem-grounding"));
    let supports = &recorded["candidates"][0]["groundingMetadata"]["groundingSupports"];
    for (annotation, support) in annotations.iter().zip(supports.as_array().unwrap()) {
        let start = usize::try_from(annotation.start).unwrap();
        let length = usize::try_from(annotation.end).unwrap() - start;
        let words: String = text.chars().skip(start).take(length).collect();
        assert_eq!(words, support["segment"]["text"]);
    }
    assert_eq!(annotations[2].title.as_deref(), Some("weather.gov"));
    assert_eq!(usage(&response), (136, 0, 414, Some(213)));
    // A client of Google's gets them at the same bytes.
    let again = json(&write_response(&response, &super::told()));
    let written = &again["candidates"][0]["groundingMetadata"]["groundingSupports"];
    for (written, support) in written.as_array().unwrap().iter().zip(supports.as_array().unwrap()) {
        assert_eq!(written["segment"]["startIndex"], support["segment"]["startIndex"]);
        assert_eq!(written["segment"]["endIndex"], support["segment"]["endIndex"]);
    }
}

#[test]
fn thoughts_that_took_all_tokens_leave_an_empty_answer() {
    let response = read_response(recorded!("gem-max-tokens-empty")).unwrap();
    assert_eq!((response.blocks.as_slice(), response.stop.clone()), (&[][..], Stop::MaxTokens));
    assert_eq!(usage(&response), (15, 0, 2, Some(2)));
}

#[test]
fn calls_without_ids_get_some_and_the_first_is_signed() {
    let response = read_response(recorded!("gem-parallel-tools")).unwrap();
    let calls = response.blocks.iter().map(|block| match block {
        Block::ToolUse(call) => call,
        other => panic!("{other:?}"),
    });
    let calls: Vec<_> = calls.collect();
    let ids: Vec<_> = calls.iter().map(|call| call.id.as_str()).collect();
    let seed = "call_wOd8abGuO5rgz7IP5tLEGA";
    assert_eq!(ids, [format!("{seed}_1"), format!("{seed}_2"), format!("{seed}_3")]);
    assert!(calls.iter().all(|call| call.name == "generate_topic" && call.arguments == "{}"));
    let signed: Vec<_> = calls.iter().map(|call| call.signature.is_some()).collect();
    assert_eq!(signed, [true, false, false]);
    assert_eq!(calls[0].signature.as_ref().unwrap().dialect, Dialect::Gemini);
    assert_eq!(response.stop, Stop::ToolUse);
}

#[test]
fn a_blocked_prompt_is_a_refusal() {
    let response = read_response(recorded!("gem-prompt-blocked")).unwrap();
    let words = "The prompt violated Prompt Injection and Jailbreak filters.";
    assert_eq!(response.blocks, [Block::Refusal(words.to_owned())]);
    assert_eq!(response.stop, Stop::Filtered);
    assert_eq!(response.created, Some(1_779_900_825));
    assert_eq!(response.usage, None);
}

#[test]
fn a_filtered_answer_is_empty() {
    let response = read_response(recorded!("gem-safety")).unwrap();
    assert_eq!((response.blocks.len(), response.stop), (0, Stop::Filtered));
}

#[test]
fn a_stream_of_text_is_one_block_and_the_last_usage_counts() {
    let response = collected(&read_every_way(recorded!("gem-stream-text"))).unwrap();
    assert_eq!(texts(&response), ["The capital of France is Paris.\n"]);
    assert_eq!(usage(&response), (13, 0, 8, None));
    assert_eq!(response.model, "gemini-2.0-flash-exp");
}

#[test]
fn thoughts_come_before_the_text_that_has_their_signature() {
    let response = collected(&read_every_way(recorded!("gem-stream-thinking"))).unwrap();
    let [Block::Thinking { text, signature }, Block::Text { text: answer, .. }] =
        response.blocks.as_slice()
    else {
        panic!()
    };
    assert!(text.starts_with("**Clarifying User Goals**"));
    assert!(answer.starts_with("This is a great question!"));
    assert!(signature.as_ref().unwrap().data.starts_with("CiIB0e2Kb6Syj1a9"));
}

#[test]
fn a_call_ends_a_turn_though_google_says_stop_in_a_later_piece() {
    let response = collected(&read_every_way(recorded!("gem-stream-tool-signature"))).unwrap();
    let [Block::ToolUse(call)] = response.blocks.as_slice() else { panic!() };
    assert_eq!((call.name.as_str(), call.arguments.as_str()), ("get_country", "{}"));
    assert_eq!(call.id, "call_QUVVadTSNJ6_qtsPvN7J8Q0_1");
    assert!(call.signature.as_ref().unwrap().data.starts_with("EpwICpkIAXLI2nxl"));
    assert_eq!(response.stop, Stop::ToolUse);
    assert_eq!(usage(&response), (29, 0, 212, Some(202)));
}

#[test]
fn vertex_says_when_it_answered() {
    let response = collected(&read_every_way(recorded!("gem-vertex-stream-flex"))).unwrap();
    assert_eq!(texts(&response), ["OK"]);
    assert_eq!(response.created, Some(1_774_116_715));
    assert_eq!(usage(&response), (5, 0, 101, Some(100)));
}

#[test]
fn a_limit_says_how_long_to_wait() {
    let failure = Failure::read(Some(429), None, recorded!("gem-error-429"));
    assert_eq!(failure.kind, FailureKind::RateLimit);
    assert_eq!(failure.retry_after.unwrap().as_millis(), 34_400);
}

/// A stream read is its answer read: the pieces put together by hand.
#[test]
fn a_streamed_answer_and_a_whole_one_are_the_same() {
    for stream in [
        &recorded!("gem-stream-text")[..],
        recorded!("gem-stream-thinking"),
        recorded!("gem-stream-tool-signature"),
        recorded!("gem-vertex-stream-flex"),
    ] {
        let streamed = collected(&read_every_way(stream)).unwrap();
        let lines = std::str::from_utf8(stream).unwrap().lines();
        let pieces: Vec<_> =
            lines.filter_map(|line| Some(json(line.strip_prefix("data: ")?.as_bytes()))).collect();
        let parts: Vec<_> = pieces
            .iter()
            .filter_map(|piece| piece["candidates"][0]["content"]["parts"].as_array())
            .flatten()
            .cloned()
            .collect();
        let mut whole = pieces.last().unwrap().clone();
        whole["candidates"][0]["content"]["parts"] = parts.into();
        assert_eq!(read_response(whole.to_string().as_bytes()).unwrap(), streamed);
    }
}

#[test]
fn a_picture_is_a_block_and_a_thought_of_one_is_none() {
    let body = br#"{"candidates":[{"content":{"parts":[
        {"inlineData":{"mimeType":"image/png","data":"AA=="},"thought":true},
        {"text":"Here:"},
        {"inlineData":{"mimeType":"image/png","data":"AQ=="},"thoughtSignature":"s"}]},
        "finishReason":"STOP"}]}"#;
    let response = read_response(body).unwrap();
    let image = Image {
        source: Source::Base64("AQ==".to_owned()),
        media_type: Some("image/png".to_owned()),
        detail: None,
    };
    assert_eq!(response.blocks, [Block::text("Here:"), Block::Image(image)]);
}

#[test]
fn what_is_no_answer_cannot_be_read() {
    for body in [
        "",
        "[]",
        "{}",
        r#"{"candidates":[]}"#,
        r#"{"error":{"code":400,"message":"no","status":"INVALID_ARGUMENT"}}"#,
        r#"{"candidates":[{"finishReason":"MALFORMED_FUNCTION_CALL"}]}"#,
    ] {
        read_response(body.as_bytes()).unwrap_err();
    }
    // Words of an answer that went wrong are an answer.
    let body = br#"{"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"OTHER"}]}"#;
    assert_eq!(read_response(body).unwrap().stop, Stop::EndTurn);
    let body = br#"{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}"#;
    assert_eq!(read_response(body).unwrap().stop, Stop::EndTurn);
}
