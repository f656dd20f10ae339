use super::*;
use crate::protocol::edit::edit_response;
use crate::protocol::fixture;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::VecDeque;

macro_rules! recorded {
    ($name:literal) => {
        fixture::chunks(include_bytes!(concat!("../../../tests/fixtures/vllm/", $name, ".http")))
    };
}

const ALL: [Thinking; 5] = [
    Thinking::Passthrough,
    Thinking::Strip,
    Thinking::Tag,
    Thinking::Reasoning,
    Thinking::ReasoningContent,
];

fn thinking(thinking: Thinking) -> StreamOptions {
    let edits = ResponseEdits { prefix: None, thinking };
    StreamOptions { edits, withhold_usage: false }
}

fn prefix(prefix: &str) -> StreamOptions {
    let edits = ResponseEdits { prefix: Some(prefix.into()), ..ResponseEdits::default() };
    StreamOptions { edits, withhold_usage: false }
}

fn withholding() -> StreamOptions {
    StreamOptions { withhold_usage: true, ..StreamOptions::default() }
}

fn run<'c>(
    options: &StreamOptions,
    chunks: impl IntoIterator<Item = &'c [u8]>,
) -> (String, StreamEditor) {
    let mut editor = StreamEditor::new(options.clone());
    let mut out = Vec::new();
    for chunk in chunks {
        editor.push(Bytes::copy_from_slice(chunk), &mut out);
    }
    editor.finish(&mut out);
    (String::from_utf8(out.concat()).unwrap(), editor)
}

fn edited(options: &StreamOptions, stream: &str) -> String {
    run(options, [stream.as_bytes()]).0
}

/// A stream of events with these data.
fn stream(data: &[&str]) -> String {
    data.iter().flat_map(|data| ["data: ", data, "\n\n"]).collect()
}

/// A chunk of choice 0.
fn delta(inner: &str) -> String {
    format!(
        r#"{{"id":"c1","object":"chat.completion.chunk","created":7,"model":"m","choices":[{{"index":0,"delta":{{{inner}}},"finish_reason":null}}]}}"#
    )
}

fn finish(inner: &str) -> String {
    delta(inner).replace("\"finish_reason\":null", "\"finish_reason\":\"stop\"")
}

/// What the client has read: by choice, (content, reasoning, reasoning under the other name).
fn heard(stream: &str) -> Vec<[String; 3]> {
    let mut voices: Vec<[String; 3]> = Vec::new();
    let mut decoder = Decoder::new();
    decoder.push(Bytes::copy_from_slice(stream.as_bytes()));
    for data in decoder.filter_map(|event| event.data).filter(|data| *data != "[DONE]") {
        let chunk: Value = serde_json::from_slice(&data).expect("a chunk");
        for choice in chunk["choices"].as_array().into_iter().flatten() {
            let index = usize::try_from(choice["index"].as_u64().unwrap()).unwrap();
            voices.resize(voices.len().max(index + 1), Default::default());
            let delta = &choice["delta"];
            let text = [&delta["content"], &delta["reasoning"], &delta["reasoning_content"]];
            for (voice, text) in voices[index].iter_mut().zip(text) {
                voice.push_str(text.as_str().unwrap_or_default());
            }
            voices[index][0].push_str(choice["text"].as_str().unwrap_or_default());
        }
    }
    voices
}

fn said(content: &str, reasoning: &str, reasoning_content: &str) -> [String; 3] {
    [content, reasoning, reasoning_content].map(str::to_owned)
}

#[test]
fn without_edits_a_chunk_of_whole_events_is_handed_on_as_it_is() {
    let mut editor = StreamEditor::new(StreamOptions::default());
    for event in recorded!("chat_stream_usage") {
        let event: Bytes = event;
        let mut out = Vec::new();
        editor.push(event.clone(), &mut out);
        let [same] = out.try_into().unwrap();
        assert_eq!((same.as_ptr(), same.len()), (event.as_ptr(), event.len()));
    }
    assert_eq!(editor.usage(), Some(Usage { prompt: 34, completion: 6, cached: 0, reasoning: 0 }));
    assert_eq!(editor.content_events(), 8);
    assert!(editor.done() && editor.judged() && editor.first_error().is_none());
}

#[test]
fn without_edits_events_go_out_when_they_are_complete() {
    let stream = recorded!("chat_stream_usage").concat();
    for size in [1, 7, 100, 1000] {
        let mut editor = StreamEditor::new(StreamOptions::default());
        let mut passed = Vec::new();
        for piece in stream.chunks(size) {
            let mut out = Vec::new();
            editor.push(Bytes::copy_from_slice(piece), &mut out);
            passed.extend(out.concat());
            assert!(passed.is_empty() || passed.ends_with(b"\n\n"), "cut at {size}");
        }
        assert_eq!(passed, stream);
    }
}

#[test]
fn a_stream_that_breaks_off_leaves_no_half_event() {
    let whole = stream(&[&delta("\"content\":\"a <thi\"")]);
    let half = &b"data: {\"choices\":[{\"del"[..];
    for options in [StreamOptions::default(), thinking(Thinking::Strip)] {
        let mut editor = StreamEditor::new(options);
        let mut out = Vec::new();
        editor.push(Bytes::from(whole.clone()), &mut out);
        editor.push(Bytes::copy_from_slice(half), &mut out);
        editor.break_off(&mut out);
        let out = String::from_utf8(out.concat()).unwrap();
        assert!(out.ends_with("\n\n") && !out.contains("\"del\n"), "{out}");
        assert!(out.contains("<thi"), "held text goes out: {out}");
    }
}

#[test]
fn untouched_events_are_slices_of_the_input() {
    let chunk = Bytes::from(stream(&[&delta("\"role\":\"assistant\""), "[DONE]"]));
    let mut out = Vec::new();
    StreamEditor::new(thinking(Thinking::Tag)).push(chunk.clone(), &mut out);
    assert_eq!(out.concat(), chunk);
    assert_eq!(out[0].as_ptr(), chunk.as_ptr());
}

#[test]
fn withheld_is_the_chunk_that_has_nothing_but_usage() {
    for chunks in [recorded!("chat_stream_usage"), recorded!("chat_stream_continuous")] {
        let mut expected = chunks.clone();
        expected.remove(chunks.len() - 2);
        let (out, editor) = run(&withholding(), [&chunks.concat()[..]]);
        assert_eq!(out.as_bytes(), expected.concat());
        assert!(editor.usage().is_some());
    }
    let moderation = r#"{"choices":[],"usage":null,"moderation":{}}"#;
    let riding = r#"{"choices":[{"index":0,"delta":{}}],"usage":{"prompt_tokens":1}}"#;
    let stream = stream(&[moderation, riding]);
    assert_eq!(edited(&withholding(), &stream), stream);
}

#[test]
fn streams_of_other_apis_are_read_and_never_edited() {
    let options = StreamOptions { withhold_usage: true, ..prefix("P") };
    for (chunks, tokens) in [(recorded!("messages_stream"), 6), (recorded!("responses_stream"), 6)]
    {
        let (out, editor) = run(&options, [&chunks.concat()[..]]);
        assert_eq!(out.as_bytes(), chunks.concat());
        assert_eq!(editor.usage().unwrap().completion, tokens);
        assert!(editor.done());
    }
}

#[test]
fn a_terminal_event_is_known_without_its_event_line() {
    let done = |stream: &str| run(&StreamOptions::default(), [stream.as_bytes()]).1.done();
    assert!(done("data: {\"type\" : \"message_stop\"}\n\n"));
    assert!(done("event: response.incomplete\ndata: {}\n\n"));
    assert!(done("data: [DONE]"));
    assert!(!done("data: {\"type\":\"ping\",\"x\":\"message_stop\"}\n\n"));
    assert!(!done("data: {\"id\":1,\"type\":\"message_stop\"}\n\n: [DONE]\n\n"));
}

#[test]
fn the_first_data_event_is_judged_and_no_later_one() {
    let error = r#"{"error": {"message": "no", "type": "InternalServerError", "code": 500}}"#;
    let (_, editor) = run(&StreamOptions::default(), [stream(&[error, "[DONE]"]).as_bytes()]);
    let found = editor.first_error().unwrap();
    assert_eq!((found.status, &found.body[..]), (Some(500), error.as_bytes()));
    let (_, editor) = run(&StreamOptions::default(), [stream(&[&delta(""), error]).as_bytes()]);
    assert!(editor.judged() && editor.first_error().is_none());
    let (_, editor) = run(&StreamOptions::default(), [&b": waiting\n\n"[..]]);
    assert!(!editor.judged());
}

#[test]
fn the_prefix_stands_before_the_first_words_of_each_choice() {
    let chunks = recorded!("chat_stream_n2");
    let stream = String::from_utf8(chunks.concat()).unwrap();
    let expected = stream.replace("\"content\":\"H\"", "\"content\":\"<think>\\nH\"");
    assert_eq!(expected.matches("<think>").count(), 2);
    assert_eq!(edited(&prefix("<think>\n"), &stream), expected);
}

#[test]
fn tool_calls_have_no_words_to_put_a_prefix_before() {
    let chunks = recorded!("chat_stream_tool_auto").concat();
    let (out, _) = run(&prefix("P"), [&chunks[..]]);
    assert_eq!(out.as_bytes(), chunks);
}

#[test]
fn completions_have_text_instead() {
    let stream = String::from_utf8(recorded!("completions_stream").concat()).unwrap();
    let expected = stream.replace("\"text\":\" fox\"", "\"text\":\"P fox\"");
    assert_eq!(edited(&prefix("P"), &stream), expected);
    for unchanged in [Thinking::Tag, Thinking::Reasoning] {
        assert_eq!(edited(&thinking(unchanged), &stream), stream);
    }
    let open = r#"{"object":"text_completion","choices":[{"index":0,"text":"a<thi"}]}"#;
    assert_eq!(
        edited(&thinking(Thinking::Strip), &self::stream(&[open, "[DONE]"])),
        self::stream(&[
            &open.replace("<thi", ""),
            r#"{"object":"text_completion","choices":[{"index":0,"text":"<thi","logprobs":null,"finish_reason":null}]}"#,
            "[DONE]",
        ])
    );
}

#[test]
fn recorded_reasoning_goes_where_it_is_wanted() {
    let stream = recorded!("chat_stream_reasoning").concat();
    let reasoning = "The user asks something. I will answer in one sentence.\n";
    let content = "\n\nHello! I am a tiny model. The quick brown fox jumps over the lazy dog.";
    let tagged = format!("<think>{reasoning}</think>{content}");
    for (mode, expected) in [
        (Thinking::Passthrough, said(content, reasoning, "")),
        (Thinking::Reasoning, said(content, reasoning, "")),
        (Thinking::ReasoningContent, said(content, "", reasoning)),
        (Thinking::Strip, said(content, "", "")),
        (Thinking::Tag, said(&tagged, "", "")),
    ] {
        let (out, editor) = run(&thinking(mode), [&stream[..]]);
        assert_eq!(heard(&out), [expected], "{mode:?}");
        assert_eq!(editor.usage().unwrap().reasoning, 38);
    }
}

#[test]
fn tagged_reasoning_is_tagged_again_as_reasoning() {
    let stream = recorded!("chat_stream_reasoning").concat();
    let tagged = run(&thinking(Thinking::Tag), [&stream[..]]).0;
    let back = run(&thinking(Thinking::Reasoning), [tagged.as_bytes()]).0;
    assert_eq!(heard(&back), heard(std::str::from_utf8(&stream).unwrap()));
}

#[test]
fn a_tag_may_come_letter_by_letter() {
    let text = "a<b><think>c</ d</think>e<think";
    let mut chunks: Vec<String> = text
        .chars()
        .map(|char| delta(&format!("\"content\":{}", json!(char.to_string()))))
        .collect();
    chunks.push(finish(""));
    chunks.push("[DONE]".into());
    let chunks: Vec<&str> = chunks.iter().map(String::as_str).collect();
    let out = edited(&thinking(Thinking::Reasoning), &stream(&chunks));
    assert_eq!(heard(&out), [said("a<b>e<think", "c</ d", "")]);
    assert_eq!(out.matches("data:").count(), chunks.len());
    assert!(out.contains(&finish("\"content\":\"<think\"")));
}

#[test]
fn only_the_rewritten_members_change() {
    let before = r#"{ "id":1.0, "choices" : [ {"delta" : { "reasoning" : "r\u00e9" , "role":"x" } ,"logprobs":{"content":[{"token":"<think>"}]}, "index":3}],"usage":null}"#;
    let after = before.replace("\"reasoning\" :", "\"reasoning_content\" :");
    let out = edited(&thinking(Thinking::ReasoningContent), &stream(&[before]));
    assert_eq!(out, stream(&[&after]));
    let out = edited(&thinking(Thinking::Strip), &stream(&[before]));
    assert_eq!(out, stream(&[&before.replace(r#""reasoning" : "r\u00e9" , "#, "")]));
}

#[test]
fn held_text_goes_out_before_the_finish_the_done_the_error_and_the_end() {
    let strip = thinking(Thinking::Strip);
    let open = delta(r#""content":"a<thi""#);
    let cut = delta(r#""content":"a""#);
    let rest = r#"{"id":"c1","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"content":"<thi"},"logprobs":null,"finish_reason":null}]}"#;
    let error = r#"{"error":{"message":"x"}}"#;
    let bare = r#"{"choices":[{"index":0,"finish_reason":"stop"}]}"#;
    assert_eq!(
        edited(&strip, &stream(&[&open, &finish("")])),
        stream(&[&cut, &finish(r#""content":"<thi""#)])
    );
    for last in ["[DONE]", error] {
        assert_eq!(edited(&strip, &stream(&[&open, last])), stream(&[&cut, rest, last]));
    }
    assert_eq!(
        edited(&strip, &stream(&[&open, bare])),
        stream(&[
            &cut,
            &rest.replace(
                r#""id":"c1","object":"chat.completion.chunk","created":7,"model":"m","#,
                ""
            ),
            bare
        ])
    );
    assert_eq!(edited(&strip, &stream(&[&open])), stream(&[&cut, rest]));
    let azure = r#"{"choices":[],"created":0,"id":"","model":"","prompt_filter_results":[]}"#;
    assert_eq!(edited(&strip, &stream(&[&open, azure])), stream(&[&cut, azure, rest]));
}

#[test]
fn a_stream_broken_off_keeps_its_last_words() {
    let strip = thinking(Thinking::Strip);
    let open = delta(r#""content":"a<thi""#);
    let cut = delta(r#""content":"a""#);
    let rest = r#"{"id":"c1","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"content":"<thi"},"logprobs":null,"finish_reason":null}]}"#;
    assert_eq!(
        edited(&strip, &format!("data: {open}")),
        format!("data: {cut}\n\ndata: {rest}\n\n")
    );
    assert_eq!(
        edited(&strip, &format!("data: {open}\n\ndata: {{\"id\":\"c")),
        format!("data: {cut}\n\ndata: {rest}\n\ndata: {{\"id\":\"c")
    );
}

#[test]
fn an_open_tag_is_closed_once() {
    let tag = thinking(Thinking::Tag);
    let reasoning = delta(r#""reasoning_content":"r""#);
    let opened = delta(r#""content":"<think>r""#);
    let closed = delta(r#""content":"</think>""#);
    let closed = closed.replace("\"finish_reason\"", "\"logprobs\":null,\"finish_reason\"");
    assert_eq!(
        edited(&tag, &stream(&[&reasoning, &finish(r#""content":"a""#), "[DONE]"])),
        stream(&[&opened, &finish(r#""content":"</think>a""#), "[DONE]"])
    );
    assert_eq!(
        edited(&tag, &stream(&[&reasoning, &finish(r#""tool_calls":[]"#)])),
        stream(&[&opened, &finish(r#""tool_calls":[],"content":"</think>""#)])
    );
    assert_eq!(edited(&tag, &stream(&[&reasoning])), stream(&[&opened, &closed]));
}

#[test]
fn line_endings_and_other_lines_of_an_edited_event_stay() {
    let before = "id: 1\r\ndata:{\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\r\n: c\r\n\r\n";
    assert_eq!(edited(&prefix("P"), before), before.replace("\"a\"", "\"Pa\""));
    let lines = "event: e\ndata: {\"choices\":\ndata: [{\"delta\":{\"content\":\"a\"}}]}\n\n";
    assert_eq!(edited(&prefix("P"), lines), lines.replace("\"a\"", "\"Pa\""));
}

#[test]
fn what_cannot_be_read_passes_as_it_is() {
    let huge = format!("data: \"{}\"", "x".repeat(2 << 20));
    for odd in ["data: {\"choices\":[{]}\n\n", "data: nonsense\n\n", ": comment\n\n", "\n", &huge] {
        let stream = odd.to_owned();
        assert_eq!(edited(&thinking(Thinking::Strip), &stream), stream);
    }
    let open = stream(&[&delta(r#""content":"<""#)]);
    let stream = open + &huge;
    let out = edited(&thinking(Thinking::Strip), &stream);
    assert_eq!(run(&thinking(Thinking::Strip), stream.as_bytes().chunks(1000)).0, out);
    assert!(out.contains("x\"\n\ndata: {\"id\":\"c1\""), "the event broken off is ended first");
}

#[test]
fn as_many_choices_as_openai_allows_are_edited() {
    let choice = |index: usize| format!(r#"{{"index":{index},"delta":{{"content":"a"}}}}"#);
    let choices: Vec<String> = (0..130).map(choice).collect();
    let chunk = format!("{{\"choices\":[{}]}}", choices.join(","));
    let out = edited(&prefix("P"), &stream(&[&chunk]));
    assert_eq!(out.matches("\"Pa\"").count(), 128);
}

/// Every way to cut in two, or every n-th, and byte by byte.
fn cuts_do_not_matter(options: &StreamOptions, stream: &[u8], step: usize) {
    let expected = run(options, [stream]).0;
    for at in (0..=stream.len()).step_by(step) {
        assert_eq!(run(options, [&stream[..at], &stream[at..]]).0, expected, "cut at {at}");
    }
    assert_eq!(run(options, stream.chunks(1)).0, expected);
}

#[test]
fn recorded_streams_are_edited_alike_under_every_cut() {
    let streams = [
        recorded!("chat_stream_n2"),
        recorded!("chat_stream_logprobs"),
        recorded!("chat_stream_continuous"),
        recorded!("chat_stream_engine_killed"),
        recorded!("completions_stream"),
        recorded!("messages_stream"),
    ];
    for stream in streams {
        for mode in ALL {
            let options = StreamOptions { withhold_usage: true, ..thinking(mode) };
            cuts_do_not_matter(&options, &stream.concat(), 1);
        }
    }
}

#[test]
fn recorded_reasoning_is_edited_alike_under_every_cut() {
    let stream = recorded!("chat_stream_reasoning").concat();
    let edits = ResponseEdits { prefix: Some("<think>".into()), thinking: Thinking::Tag };
    // Its 80 events are all alike: every seventh place hits each place of such an event.
    cuts_do_not_matter(&StreamOptions { edits, withhold_usage: true }, &stream, 7);
}

#[derive(Clone, Debug)]
struct Turn {
    reasoning: Vec<String>,
    content: Vec<String>,
}

fn turn() -> impl Strategy<Value = Turn> {
    let word = || {
        prop::sample::select(vec![
            "<think>", "</think>", "<", "<th", "ink>", "é", "\n", "\"", "a", "",
        ])
    };
    let words = move || prop::collection::vec(word().prop_map(str::to_owned), 0..8);
    (words(), words()).prop_map(|(reasoning, content)| Turn { reasoning, content })
}

fn chunk(index: usize, delta: &Value, finish: &Value) -> String {
    let choice = json!({"index": index, "delta": delta, "finish_reason": finish});
    format!("data: {}\n\n", json!({"id": "c", "choices": [choice]}))
}

proptest! {
    /// The streamed answer, put together, is the whole answer; however it is cut, and whether or
    /// not it says that it has finished.
    #[test]
    fn a_stream_says_what_the_whole_answer_says(
        turns in prop::collection::vec(turn(), 1..3),
        mode in prop::sample::select(ALL.to_vec()),
        prefix in prop::option::of(prop::sample::select(vec!["<think>\n".to_owned(), "P".into()])),
        finishes in any::<bool>(),
        done in any::<bool>(),
        size in 1_usize..400,
    ) {
        let mut queues = Vec::new();
        let mut whole = Vec::new();
        for (index, turn) in turns.iter().enumerate() {
            let mut queue = VecDeque::from([json!({"role": "assistant", "content": ""})]);
            queue.extend(turn.reasoning.iter().map(|text| json!({"reasoning": text})));
            queue.extend(turn.content.iter().map(|text| json!({"content": text})));
            queues.push(queue);
            let message =
                json!({"content": turn.content.concat(), "reasoning": turn.reasoning.concat()});
            whole.push(json!({"index": index, "delta": message, "finish_reason": "stop"}));
        }
        // A word of each choice in turn: that is how choices come.
        let mut stream = String::new();
        while queues.iter().any(|queue| !queue.is_empty()) {
            for (index, queue) in queues.iter_mut().enumerate() {
                if let Some(delta) = queue.pop_front() {
                    stream += &chunk(index, &delta, &Value::Null);
                }
            }
        }
        if finishes {
            for index in 0..turns.len() {
                stream += &chunk(index, &json!({}), &json!("stop"));
            }
        }
        if done {
            stream += "data: [DONE]\n\n";
        }
        let edits = ResponseEdits { prefix, thinking: mode };
        let whole = json!({"choices": whole}).to_string().into_bytes();
        let answer = edit_response(&whole, &edits).unwrap_or(whole.into());
        let expected = heard(&format!("data: {}\n\n", std::str::from_utf8(&answer).unwrap()));
        let options = StreamOptions { edits, withhold_usage: false };
        let (out, _) = run(&options, stream.as_bytes().chunks(size));
        prop_assert_eq!(&heard(&out), &expected);
        prop_assert_eq!(out, edited(&options, &stream));
    }
}
