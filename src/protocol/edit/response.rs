//! The edits of an answer that is not streamed.

use super::choices::Answer;
use super::voice::Voice;
use crate::config::{ResponseEdits, Thinking};
use crate::protocol::json::Splice;
use bytes::Bytes;

/// Applies the edits to a whole chat or completions answer; `None` when there is nothing to change.
///
/// Only the content, text and reasoning members of its choices are rewritten; all other bytes stay.
/// What is no such answer (an error, another endpoint's) is left alone.
#[must_use]
pub fn edit_response(body: &[u8], edits: &ResponseEdits) -> Option<Bytes> {
    if edits.prefix.is_none() && edits.thinking == Thinking::Passthrough {
        return None;
    }
    let json = std::str::from_utf8(body).ok()?;
    let answer = Answer::read(json)?;
    let mut splice = Splice::default();
    for choice in &answer.choices {
        choice.rewrite(json, &mut Voice::default(), edits, true, &mut splice);
    }
    (!splice.is_empty()).then(|| splice.join(body).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::fixture;

    fn edited(body: &str, prefix: Option<&str>, thinking: Thinking) -> String {
        let edits = ResponseEdits { prefix: prefix.map(str::to_owned), thinking };
        let edited = edit_response(body.as_bytes(), &edits);
        edited.map_or("unchanged".into(), |bytes| String::from_utf8(bytes.into()).expect("UTF-8"))
    }

    fn message(inner: &str) -> String {
        format!(r#"{{"id":"x","choices":[ {{"index":0, "message":{{{inner}}} }} ],"n":1.0}}"#)
    }

    /// The edit of one message, written without what stands around it.
    #[track_caller]
    fn becomes(thinking: Thinking, before: &str, after: &str) {
        let expected = if before == after { "unchanged".into() } else { message(after) };
        assert_eq!(edited(&message(before), None, thinking), expected);
    }

    #[test]
    fn the_prefix_stands_before_every_choice() {
        let body =
            fixture::body(include_bytes!("../../../tests/fixtures/vllm/chat_n2_logprobs.http"));
        let body = String::from_utf8(body).expect("UTF-8");
        let expected = body.replace("\"content\":\"Hell\"", "\"content\":\"<think>\\nHell\"");
        assert_ne!(expected, body);
        assert_eq!(edited(&body, Some("<think>\n"), Thinking::Passthrough), expected);
    }

    #[test]
    fn text_completions_are_edited_too() {
        let body = r#"{"choices":[{"text":"<think>a</think>b"},{"text":""},{"text":"c"}]}"#;
        assert_eq!(
            edited(body, Some("P"), Thinking::Strip),
            r#"{"choices":[{"text":"Pb"},{"text":""},{"text":"Pc"}]}"#
        );
        assert_eq!(edited(body, None, Thinking::ReasoningContent), "unchanged");
        assert_eq!(edited(body, None, Thinking::Tag), "unchanged");
    }

    #[test]
    fn strip_removes_members_and_blocks() {
        let strip = |before, after| becomes(Thinking::Strip, before, after);
        strip(r#""content":"a", "reasoning":"r" , "x":1"#, r#""content":"a" , "x":1"#);
        strip(r#""reasoning":"r", "reasoning_content":"r","content":"a""#, r#""content":"a""#);
        strip(r#" "reasoning":null "#, r"  ");
        strip(r#""x":1,"reasoning":"r","y":2,"reasoning_details":[{}]"#, r#""x":1,"y":2"#);
        strip(r#""content":"<think>r</think>\u00e9""#, "\"content\":\"é\"");
        strip(r#""content":"a<think>r""#, r#""content":"a""#);
        strip(r#""content":null,"tool_calls":[]"#, r#""content":null,"tool_calls":[]"#);
    }

    #[test]
    fn tag_moves_reasoning_into_the_content() {
        let tag = |before, after| becomes(Thinking::Tag, before, after);
        tag(r#""content":"a","reasoning":"r""#, r#""content":"<think>r</think>a""#);
        tag(r#""reasoning_content":"r","content":null"#, r#""content":"<think>r</think>""#);
        tag(r#""reasoning":"r""#, r#""content":"<think>r</think>""#);
        tag(r#""role":"x","reasoning":"r""#, r#""role":"x","content":"<think>r</think>""#);
        tag(r#""content":null,"reasoning":null"#, r#""content":null"#);
    }

    #[test]
    fn reasoning_goes_under_one_name() {
        let rename = |before, after| becomes(Thinking::ReasoningContent, before, after);
        rename(r#""content":"a","reasoning":"r\n""#, r#""content":"a","reasoning_content":"r\n""#);
        rename(r#""reasoning":"r","reasoning_content":"r""#, r#""reasoning_content":"r""#);
        rename(r#""reasoning":"r","reasoning_content":null"#, r#""reasoning_content":"r""#);
        rename(r#""reasoning_content":"r""#, r#""reasoning_content":"r""#);
        rename(r#""reasoning":null"#, r#""reasoning_content":null"#);
        rename(r#""content":"<think>r</think>a""#, r#""content":"a","reasoning_content":"r""#);
        rename(
            r#""reasoning":"q","content":"<think>r</think>a""#,
            r#""reasoning_content":"qr","content":"a""#,
        );
        becomes(Thinking::Reasoning, r#""reasoning_content":"r""#, r#""reasoning":"r""#);
    }

    #[test]
    fn what_is_no_text_answer_is_left_alone() {
        for body in [
            r#"{"error":{"message":"<think>"}}"#,
            r#"{"choices":[{"message":{"content":[{"text":"a"}],"reasoning":"r"}},{},7]}"#,
            r#"{"choices":{"message":{"content":"a"}}}"#,
            r#"{"choices":[{"message":{"content":"a"}}]"#,
            "[]",
        ] {
            assert_eq!(edited(body, Some("P"), Thinking::Tag), "unchanged", "{body}");
        }
    }
}
