//! Streams that come apart, and streams for clients.

use serde_json::{Value, json};

use super::{assert_grammar, collected, json, read_every_way, read_stream, told, written};
use crate::config::Dialect;
use crate::protocol::canonical::{
    Annotation, Block, Delta, End, Event, Failure, FailureKind, Opening, Response, Signature,
    Start, Stop, Told, ToolKind, ToolUse, Usage, replay,
};

/// Server-sent events of these pieces.
fn events(pieces: &[Value]) -> Vec<u8> {
    pieces.iter().flat_map(|piece| format!("data: {piece}\r\n\r\n").into_bytes()).collect()
}

fn saying(parts: &Value) -> Value {
    json!({ "candidates": [{ "content": { "role": "model", "parts": parts }, "index": 0 }] })
}

fn stop() -> Value {
    json!({ "candidates": [{ "finishReason": "STOP", "index": 0 }] })
}

fn failure(events: &[Event]) -> &Failure {
    match events.last() {
        Some(Event::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

#[test]
fn arguments_that_come_in_pieces_are_told_whole() {
    let call = |call: Value| saying(&json!([{ "functionCall": call }]));
    let path = "$.location";
    let stream = events(&[
        saying(&json!([{
            "functionCall": { "name": "getWeather", "willContinue": true },
            "thoughtSignature": "sig",
        }])),
        call(json!({
            "partialArgs": [{ "jsonPath": path, "stringValue": "Bos", "willContinue": true }],
            "willContinue": true,
        })),
        call(json!({
            "partialArgs": [{ "jsonPath": path, "stringValue": "ton" }],
            "willContinue": true,
        })),
        call(json!({})),
        saying(&json!([{ "functionCall": { "name": "other", "args": { "n": 1 } } }])),
        stop(),
    ]);
    let response = collected(&read_every_way(&stream)).unwrap();
    let [Block::ToolUse(first), Block::ToolUse(second)] = response.blocks.as_slice() else {
        panic!()
    };
    assert_eq!(first.arguments, r#"{"location":"Boston"}"#);
    assert_eq!(first.signature.as_ref().unwrap().data, "sig");
    assert_eq!(second.arguments, r#"{"n":1}"#);
    assert_eq!(response.stop, Stop::ToolUse);
    let bad = call(json!({ "name": "f", "partialArgs": [{ "jsonPath": "?" }] }));
    assert!(failure(&read_every_way(&events(&[bad]))).message.contains("argument"));
}

#[test]
fn a_stream_without_an_end_was_cut_off() {
    let begun = events(&[saying(&json!([{ "text": "a" }]))]);
    assert_eq!(failure(&read_every_way(&begun)), &Failure::cut_off());
    assert_eq!(failure(&read_every_way(b"")), &Failure::cut_off());
    let torn = [&events(&[stop()])[..], b"data: {\"candid"].concat();
    assert_eq!(failure(&read_every_way(&torn)), &Failure::cut_off());
}

#[test]
fn whatever_is_cut_off_a_stream_it_does_not_end() {
    let stream =
        events(&[saying(&json!([{ "text": "ä" }, { "functionCall": { "name": "f" } }])), stop()]);
    // Without its last empty line it is whole still.
    let whole = stream.len() - "\r\n\r\n".len();
    for length in 0..whole {
        let events = read_stream(&stream[..length], 5);
        assert_grammar(&events);
        failure(&events);
    }
    assert!(matches!(read_stream(&stream[..whole], 5).last(), Some(Event::End(_))));
}

#[test]
fn an_error_is_read_wherever_it_stands() {
    let error =
        json!({ "error": { "code": 503, "message": "overloaded", "status": "UNAVAILABLE" } });
    let pretty = serde_json::to_string_pretty(&error).unwrap();
    let text = saying(&json!([{ "text": "a" }]));
    for stream in [
        events(&[text.clone(), error.clone()]),
        [events(std::slice::from_ref(&text)), pretty.clone().into_bytes()].concat(),
        [events(std::slice::from_ref(&text)), format!("[{pretty}]\n").into_bytes()].concat(),
        format!("[{text}\n,\r\n{pretty}\n]").into_bytes(),
        pretty.clone().into_bytes(),
        format!("[{pretty}]").into_bytes(),
    ] {
        let events = read_every_way(&stream);
        let failure = failure(&events);
        assert_eq!((failure.kind, failure.status), (FailureKind::Overloaded, Some(503)));
        assert_eq!(failure.message, "overloaded");
    }
}

#[test]
fn nothing_is_told_behind_the_end() {
    let stream = [events(&[json!({ "error": { "code": 500 } })]), events(&[stop()])].concat();
    assert_eq!(read_every_way(&stream).len(), 1);
    assert!(failure(&read_every_way(b"data: nonsense\n\n")).message.contains("cannot be read"));
    assert!(failure(&read_every_way(b"<html>\n\n")).message.contains("broke off"));
}

#[test]
fn an_array_in_pieces_is_a_stream() {
    let pieces = [saying(&json!([{ "text": "a]}\"" }])), saying(&json!([{ "text": "b" }])), stop()];
    let array = Value::from(pieces.to_vec());
    for array in [array.to_string(), serde_json::to_string_pretty(&array).unwrap()] {
        assert_eq!(read_every_way(array.as_bytes()), read_every_way(&events(&pieces)));
    }
}

#[test]
fn sources_of_a_stream_are_told_once_and_in_characters() {
    let grounding = json!({
        "groundingChunks": [{ "web": { "uri": "https://a", "title": "A" } }],
        "groundingSupports": [
            { "segment": { "startIndex": 3, "endIndex": 5 }, "groundingChunkIndices": [0] },
            { "segment": { "startIndex": 5, "endIndex": 7 }, "groundingChunkIndices": [0, 7] },
        ],
    });
    let mut first = saying(&json!([{ "text": "€äb" }]));
    first["candidates"][0]["groundingMetadata"] = grounding.clone();
    let mut last = saying(&json!([{ "text": "c" }]));
    last["candidates"][0]["groundingMetadata"] = grounding;
    last["candidates"][0]["finishReason"] = json!("STOP");
    let response = collected(&read_every_way(&events(&[first, last]))).unwrap();
    let source = |start, end| Annotation {
        url: "https://a".to_owned(),
        title: Some("A".to_owned()),
        start,
        end,
    };
    let annotations = vec![source(1, 2), source(2, 4)];
    assert_eq!(response.blocks, [Block::Text { text: "€äbc".to_owned(), annotations }]);
}

#[test]
fn citations_are_sources_too() {
    let mut piece = saying(&json!([{ "text": "hm", "thought": true }, { "text": "abc" }]));
    piece["candidates"][0]["citationMetadata"] =
        json!({ "citationSources": [{ "startIndex": 1, "endIndex": 3, "uri": "u" }, {}] });
    let response = collected(&read_every_way(&events(&[piece, stop()]))).unwrap();
    let Some(Block::Text { annotations, .. }) = response.blocks.last() else { panic!() };
    let cited = Annotation { url: "u".to_owned(), title: None, start: 1, end: 3 };
    assert_eq!(annotations.as_slice(), [cited]);
}

#[test]
fn only_the_first_candidate_is_told() {
    let piece = json!({ "candidates": [
        { "index": 1, "content": { "parts": [{ "text": "no" }] } },
        { "index": 0, "content": { "parts": [{ "text": "yes" }] }, "finishReason": "STOP" },
    ]});
    let response = collected(&read_every_way(&events(&[piece]))).unwrap();
    assert_eq!(response.blocks, [Block::text("yes")]);
}

/// What a client of Google's sees of a stream, each piece as it is, held to what its libraries want.
fn pieces(stream: &[u8], array: bool) -> Vec<Value> {
    let text = std::str::from_utf8(stream).unwrap();
    let pieces: Vec<Value> = if array {
        serde_json::from_str(text).unwrap()
    } else {
        let lines = text.split("\r\n").filter(|line| !line.is_empty());
        lines.map(|line| json(line.strip_prefix("data: ").unwrap().as_bytes())).collect()
    };
    let finished = |piece: &Value| piece.pointer("/candidates/0/finishReason").is_some();
    let failed = pieces.last().unwrap().get("error").is_some();
    for (at, piece) in pieces.iter().enumerate() {
        let is_last = at + 1 == pieces.len();
        if is_last && failed {
            continue;
        }
        assert_eq!(finished(piece), is_last);
        assert_eq!(piece["candidates"][0]["content"]["role"], "model");
        assert_eq!(piece["candidates"][0]["content"]["parts"].as_array().unwrap().len(), 1);
        assert_eq!(piece["modelVersion"], "asked");
        assert_eq!(piece.get("usageMetadata").is_some(), is_last);
    }
    pieces
}

fn sample() -> Response {
    let signed = |data: &str| Signature { dialect: Dialect::Gemini, data: data.to_owned() };
    let call = |id: &str, arguments: &str, signature| ToolUse {
        id: id.to_owned(),
        name: "f".to_owned(),
        namespace: None,
        kind: ToolKind::Function,
        arguments: arguments.to_owned(),
        signature,
    };
    let source = Annotation { url: "u".to_owned(), title: None, start: 1, end: 3 };
    Response {
        id: "r".to_owned(),
        model: "asked".to_owned(),
        created: None,
        blocks: vec![
            Block::Thinking { text: "hm".to_owned(), signature: Some(signed("c2ln")) },
            Block::Text { text: "1€2".to_owned(), annotations: vec![source] },
            Block::ToolUse(call("a", r#"{"n": 10000000000000000000001}"#, Some(signed("cw==")))),
            Block::ToolUse(call("b", "{}", None)),
        ],
        stop: Stop::ToolUse,
        usage: Some(Usage {
            input: 9,
            cache_read: 2,
            output: 7,
            reasoning: Some(3),
            ..Usage::default()
        }),
    }
}

#[test]
fn a_stream_for_a_client_reads_the_same() {
    for array in [false, true] {
        let told = Told { array, ..told() };
        // Sources of a text that is not the last come too late to be told.
        let mut sample = sample();
        for response in [
            Response {
                blocks: sample.blocks.drain(..2).collect(),
                stop: Stop::EndTurn,
                ..sample.clone()
            },
            {
                let mut whole = self::sample();
                whole.blocks[1] = Block::text("1€2");
                whole
            },
        ] {
            let stream = written(&replay(&response), &told);
            pieces(&stream, array);
            let events = read_every_way(&stream);
            assert_eq!(collected(&events).unwrap(), response);
        }
    }
}

#[test]
fn a_call_is_told_whole_and_in_its_turn() {
    let kind = ToolKind::Function;
    let open = |index, id: &str| Event::Open {
        index,
        block: Opening::ToolUse { id: id.to_owned(), name: "f".to_owned(), namespace: None, kind },
    };
    let more = |index, text: &str| Event::Delta { index, delta: Delta::Arguments(text.to_owned()) };
    let events = [
        Event::Start(Start::default()),
        open(0, "a"),
        open(1, "b"),
        more(1, "[1]"),
        more(0, r#"{"x":"#),
        more(0, "1}"),
        Event::Close { index: 1 },
        Event::Ping,
        Event::Close { index: 0 },
        Event::End(End { stop: Stop::ToolUse, usage: Some(Usage::default()) }),
    ];
    let pieces = pieces(&written(&events, &told()), false);
    let call =
        |at: usize| pieces[at].pointer("/candidates/0/content/parts/0/functionCall").unwrap();
    assert_eq!(*call(0), json!({ "id": "a", "name": "f", "args": { "x": 1 } }));
    assert_eq!(*call(1), json!({ "id": "b", "name": "f", "args": { "_raw": "[1]" } }));
    assert_eq!(pieces.len(), 3);
    assert_eq!(pieces[2]["candidates"][0]["finishReason"], "STOP");
    assert_eq!(pieces[0]["responseId"], "1d");
}

#[test]
fn text_is_told_at_once() {
    let mut writer = super::StreamWriter::new(told());
    let mut out = Vec::new();
    writer.write(&Event::Start(Start::default()), &mut out);
    writer.write(&Event::Open { index: 0, block: Opening::Text }, &mut out);
    assert_eq!(out, b"");
    writer.write(&Event::Delta { index: 0, delta: Delta::Text("a".to_owned()) }, &mut out);
    let piece = r#"{"candidates":[{"content":{"parts":[{"text":"a"}],"role":"model"},"index":0}],"modelVersion":"asked","responseId":"1d"}"#;
    assert_eq!(std::str::from_utf8(&out).unwrap(), format!("data: {piece}\r\n\r\n"));
}

#[test]
fn a_failure_ends_a_stream_without_a_good_end() {
    let refused =
        Failure { message: "no".to_owned(), kind: FailureKind::Overloaded, ..Failure::cut_off() };
    let text = Event::Delta { index: 0, delta: Delta::Text("a".to_owned()) };
    let begun =
        [Event::Start(Start::default()), Event::Open { index: 0, block: Opening::Text }, text];
    for (array, begun) in [(false, &begun[..]), (true, &begun[..]), (true, &[])] {
        let events = [begun, &[Event::Failed(refused.clone()), Event::Ping]].concat();
        let stream = written(&events, &Told { array, ..told() });
        let pieces = pieces(&stream, array);
        let error = json!({ "code": 503, "message": "no", "status": "UNAVAILABLE" });
        assert_eq!(pieces.last().unwrap()["error"], error);
        let read = read_every_way(&stream);
        let failure = failure(&read);
        assert_eq!((failure.kind, failure.message.as_str()), (FailureKind::Overloaded, "no"));
    }
}

#[test]
fn others_signatures_reach_the_client_as_base64() {
    use base64::Engine;
    let signature = Signature { dialect: Dialect::Anthropic, data: "x.y".to_owned() };
    let blocks = vec![
        Block::Thinking { text: "hm".to_owned(), signature: Some(signature.clone()) },
        Block::RedactedThinking(signature),
        Block::Refusal("no".to_owned()),
    ];
    let response = Response { blocks, usage: Some(Usage::default()), ..Response::default() };
    let pieces = pieces(&written(&replay(&response), &told()), false);
    let part = |at: usize| pieces[at].pointer("/candidates/0/content/parts/0").unwrap();
    for at in [1, 2] {
        assert_eq!((&part(at)["thought"], &part(at)["text"]), (&json!(true), &json!("")));
        let data = part(at)["thoughtSignature"].as_str().unwrap();
        base64::engine::general_purpose::STANDARD.decode(data).unwrap();
    }
    assert_eq!(*part(3), json!({ "text": "no" }));
}
