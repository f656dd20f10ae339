//! What must hold of every dialect's readers, whatever they are given.

use bytes::Bytes;
use forebay::config::{Dialect, Kind, RequestEdits, Translation};
use forebay::protocol::Task;
use forebay::protocol::canonical::{
    Asked, Event, Failure, Invalid, Response, Rules, Target, Told, Unreadable, replay,
};
use forebay::protocol::framing::{eventstream, sse};
use forebay::protocol::translate::{Call, Route, translate};
use forebay::protocol::{anthropic, bedrock, gemini, openai_chat, openai_responses};
use forebay::protocol::{write_refusal, write_stream_refusal};
use serde_json::value::RawValue;

/// Who may be asked, and models of each.
const PROVIDERS: [(Dialect, Kind, &str); 7] = [
    (Dialect::OpenaiChat, Kind::Openai, "gpt-5"),
    (Dialect::OpenaiChat, Kind::Vllm, "qwen3"),
    (Dialect::OpenaiResponses, Kind::Openai, "gpt-4.1"),
    (Dialect::Anthropic, Kind::Anthropic, "claude-3-5-sonnet"),
    (Dialect::Anthropic, Kind::Anthropic, "claude-opus-4-8"),
    (Dialect::Gemini, Kind::Gemini, "gemini-3-flash"),
    (Dialect::Bedrock, Kind::Bedrock, "us.amazon.nova-pro-v1:0"),
];

const CLIENTS: [Dialect; 5] = [
    Dialect::OpenaiChat,
    Dialect::OpenaiResponses,
    Dialect::Anthropic,
    Dialect::Gemini,
    Dialect::Bedrock,
];

/// The first byte says what the rest is read as, and for a stream the size of its pieces: `0`–`2` a
/// request (for an answer, a count, an embedding), `4` a whole answer, `3` a stream. Of AWS's frames, whose
/// checksums no fuzzer hits, `5` has a line for each: an event's type, and its payload.
pub fn read(dialect: Dialect, input: &[u8]) {
    let [mode, rest @ ..] = input else { return };
    match mode & 7 {
        0 => request(dialect, Task::Generate, rest),
        1 => request(dialect, Task::Count, rest),
        2 => request(dialect, Task::Embed, rest),
        3 => stream(dialect, rest, usize::from(mode >> 3) + 1),
        5 if dialect == Dialect::Bedrock => {
            stream(dialect, &framed(rest), usize::from(mode >> 3) + 1);
        }
        _ => response(dialect, rest),
    }
}

/// A request that can be written is JSON, and strict writes the same or refuses.
fn request(client: Dialect, task: Task, body: &[u8]) {
    for (provider, kind, model) in PROVIDERS {
        let (rules, edits) = (Rules::of(provider, kind, model), RequestEdits::default());
        let write = |translation| {
            let route = Route {
                client,
                provider,
                kind,
                asked: Asked { model: Some("m"), stream: false },
                target: Target { model, rules: &rules },
                translation,
                edits: &edits,
            };
            translate(body, Call { task, several: false }, &route, told())
        };
        let (lenient, strict) = (write(Translation::Lenient), write(Translation::Strict));
        match (lenient, strict) {
            (Ok(lenient), strict) => {
                is_json(&lenient.body);
                assert_eq!(strict.is_ok(), lenient.dropped.is_empty());
                assert!(strict.is_err() || strict.is_ok_and(|it| it.body == lenient.body));
            }
            (Err(Invalid::Request { message, .. }), strict) => {
                assert!(!message.is_empty() && strict.is_err());
            }
            (Err(Invalid::Unsupported { .. }), strict) => assert!(strict.is_err()),
        }
    }
}

/// An answer that can be read can be told to everybody, whole and as a stream.
fn response(provider: Dialect, body: &[u8]) {
    let Ok(response) = read_response(provider, body) else { return };
    for client in CLIENTS {
        is_json(&write_response(client, &response));
        is_stream(client, &written(client, &replay(&response)));
    }
}

/// A stream cut in any two ways gives the same events, in the order that is promised, and everybody can
/// be told of them.
fn stream(provider: Dialect, stream: &[u8], size: usize) {
    let events = events(provider, stream, stream.len().max(1));
    assert_eq!(self::events(provider, stream, size), events);
    in_order(&events);
    for client in CLIENTS {
        is_stream(client, &written(client, &events));
    }
}

/// A failure can be read whatever its body, and told to everybody.
#[allow(dead_code, reason = "each target uses its part of these")]
pub fn failure(input: &[u8]) {
    let [status, name, body @ ..] = input else { return };
    let status = 400 + u16::from(*status);
    let names =
        [None, Some("ThrottlingException:http://x"), Some("#"), Some("validationException")];
    let failure = Failure::read(Some(status), names[usize::from(*name) % names.len()], body);
    assert!(!failure.message.is_empty());
    for client in CLIENTS {
        let refusal = failure.refusal("req");
        is_json(&write_refusal(client, &refusal));
        is_stream(client, &write_stream_refusal(client, &refusal));
    }
}

fn framed(lines: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let end = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
        let (name, payload) = line.split_at(end);
        let Ok(name) = str::from_utf8(name) else { continue };
        let fill = |out: &mut Vec<u8>| out.extend_from_slice(payload);
        let _ = match name.ends_with("Exception") {
            true => eventstream::write_exception(name, &mut stream, fill),
            false => eventstream::write_event(name, &mut stream, fill),
        };
    }
    stream
}

fn in_order(events: &[Event]) {
    let (mut begun, mut ended, mut opened, mut open) = (false, false, 0, Vec::new());
    for event in events {
        assert!(!ended, "something follows the end");
        match event {
            Event::Start(_) => assert!(!std::mem::replace(&mut begun, true), "begun twice"),
            Event::Open { index, .. } => {
                assert_eq!((*index, begun), (opened, true));
                opened += 1;
                open.push(*index);
            }
            Event::Delta { index, .. } => assert!(open.contains(index), "no such block"),
            Event::Close { index } => {
                assert!(open.contains(index), "no such block");
                open.retain(|known| known != index);
            }
            Event::Ping => {}
            Event::End(_) => {
                assert!(begun && open.is_empty(), "ended before its blocks");
                ended = true;
            }
            Event::Failed(failure) => {
                assert!(!failure.message.is_empty());
                ended = true;
            }
        }
    }
    assert!(ended, "no end");
}

/// What models write within it may have half a surrogate, which is JSON all the same.
fn is_json(body: &[u8]) {
    serde_json::from_slice::<&RawValue>(body).expect("JSON");
}

/// Each event's data is JSON, and nothing is left over.
fn is_stream(client: Dialect, stream: &[u8]) {
    if client == Dialect::Bedrock {
        let mut decoder = eventstream::Decoder::new();
        decoder.push(Bytes::copy_from_slice(stream));
        for message in decoder.by_ref() {
            is_json(&message.expect("a message").payload);
        }
        assert!(decoder.is_between_messages());
        return;
    }
    let mut decoder = sse::Decoder::new();
    decoder.push(Bytes::copy_from_slice(stream));
    for data in decoder.by_ref().filter(|event| !event.oversized).filter_map(|event| event.data) {
        if &data[..] != b"[DONE]" {
            is_json(&data);
        }
    }
    assert!(decoder.finish().is_none());
}

fn told() -> Told {
    Told { model: "m".to_owned(), id: "1".to_owned(), stream_usage: true, ..Told::default() }
}

fn read_response(dialect: Dialect, body: &[u8]) -> Result<Response, Unreadable> {
    match dialect {
        Dialect::OpenaiChat => openai_chat::read_response(body),
        Dialect::OpenaiResponses => openai_responses::read_response(body),
        Dialect::Anthropic => anthropic::read_response(body),
        Dialect::Gemini => gemini::read_response(body),
        Dialect::Bedrock => bedrock::read_response(body),
    }
}

fn write_response(dialect: Dialect, response: &Response) -> Vec<u8> {
    match dialect {
        Dialect::OpenaiChat => openai_chat::write_response(response, &told()),
        Dialect::OpenaiResponses => openai_responses::write_response(response, &told()),
        Dialect::Anthropic => anthropic::write_response(response, &told()),
        Dialect::Gemini => gemini::write_response(response, &told()),
        Dialect::Bedrock => bedrock::write_response(response, &told()),
    }
}

/// The events of a stream that came in pieces of this size.
fn events(dialect: Dialect, stream: &[u8], size: usize) -> Vec<Event> {
    macro_rules! read {
        ($room:ident) => {{
            let (mut reader, mut events) = ($room::StreamReader::new(), Vec::new());
            for piece in stream.chunks(size) {
                reader.push(Bytes::copy_from_slice(piece), &mut events);
            }
            reader.finish(&mut events);
            events
        }};
    }
    match dialect {
        Dialect::OpenaiChat => read!(openai_chat),
        Dialect::OpenaiResponses => read!(openai_responses),
        Dialect::Anthropic => read!(anthropic),
        Dialect::Gemini => read!(gemini),
        Dialect::Bedrock => read!(bedrock),
    }
}

fn written(dialect: Dialect, events: &[Event]) -> Vec<u8> {
    macro_rules! write {
        ($room:ident) => {{
            let (mut writer, mut out) = ($room::StreamWriter::new(told()), Vec::new());
            for event in events {
                writer.write(event, &mut out);
            }
            out
        }};
    }
    match dialect {
        Dialect::OpenaiChat => write!(openai_chat),
        Dialect::OpenaiResponses => write!(openai_responses),
        Dialect::Anthropic => write!(anthropic),
        Dialect::Gemini => write!(gemini),
        Dialect::Bedrock => write!(bedrock),
    }
}
