//! Bytes as text that can be read and compared, and nothing of them lost.

use bytes::Bytes;
use forebay::config::Dialect;
use forebay::protocol::framing::eventstream::{Decoder, Kind};

/// Objects and arrays of this many bytes stand in one line.
const SHORT: usize = 96;

/// The bytes of a client's stream. A carriage return is shown; AWS's messages are a line each.
pub fn stream(client: Dialect, bytes: &[u8]) -> String {
    if client != Dialect::Bedrock {
        let text = std::str::from_utf8(bytes).expect("UTF-8");
        return text.replace('\r', "␍");
    }
    let mut lines = String::new();
    for (kind, name, payload) in messages(bytes) {
        lines.extend([kind, " ", &name, " ", &payload, "\n"]);
    }
    lines
}

/// AWS's messages: `event` or `exception`, of which type, and the payload.
pub fn messages(bytes: &[u8]) -> Vec<(&'static str, String, String)> {
    let mut decoder = Decoder::new();
    decoder.push(Bytes::copy_from_slice(bytes));
    let mut messages = Vec::new();
    for message in decoder.by_ref() {
        let message = message.expect("a message that can be read");
        let (kind, name) = match message.kind() {
            Kind::Event(name) => ("event", name),
            Kind::Exception(name) => ("exception", name),
            Kind::Error { code, .. } => ("error", code),
        };
        assert_eq!(message.header(":content-type"), Some("application/json"));
        let payload = std::str::from_utf8(&message.payload).expect("UTF-8").to_owned();
        messages.push((kind, name.to_owned(), payload));
    }
    assert!(decoder.is_between_messages(), "the last message is cut");
    messages
}

/// JSON without the blanks between its tokens.
pub fn compact(text: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let is_told = |letter: &char| match letter {
        _ if escaped => {
            escaped = false;
            true
        }
        '\\' => {
            escaped = true;
            true
        }
        '"' => {
            in_string = !in_string;
            true
        }
        letter => in_string || !letter.is_whitespace(),
    };
    text.chars().filter(is_told).collect()
}

/// JSON in lines: every byte of it, and blanks between. What is short stands in one line.
pub fn json(text: &str) -> String {
    let mut out = String::new();
    value(text.trim(), 0, &mut out);
    out.push('\n');
    out
}

fn value(text: &str, depth: usize, out: &mut String) {
    let inner = text.strip_prefix(['{', '[']);
    let Some(inner) = inner.filter(|_| text.len() > SHORT) else { return out.push_str(text) };
    let (inner, end) = inner.split_at(inner.len() - 1);
    let indent = |depth: usize| "  ".repeat(depth);
    out.push_str(&text[..1]);
    for (at, member) in members(inner).into_iter().enumerate() {
        out.push_str(if at == 0 { "\n" } else { ",\n" });
        out.push_str(&indent(depth + 1));
        let name = if end == "}" { name_length(member) } else { 0 };
        let (name, member) = member.split_at(name);
        out.push_str(name);
        value(member, depth + 1, out);
    }
    out.push('\n');
    out.push_str(&indent(depth));
    out.push_str(end);
}

/// What stands between the commas of this level.
fn members(text: &str) -> Vec<&str> {
    let (mut depth, mut in_string, mut escaped, mut from) = (0, false, false, 0);
    let mut members = Vec::new();
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => {
                members.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    members.push(&text[from..]);
    members
}

/// How long `"name":` is.
fn name_length(member: &str) -> usize {
    let mut escaped = false;
    let end = member.bytes().skip(1).position(|byte| match byte {
        _ if escaped => {
            escaped = false;
            false
        }
        b'\\' => {
            escaped = true;
            false
        }
        byte => byte == b'"',
    });
    end.map_or(0, |end| end + 3)
}
