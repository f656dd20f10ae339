//! The texts of a request, in whatever dialect: what a model gets to read of it.
//!
//! No dialect is asked what its members mean. Each string is a text, but for those whose names say
//! that no model reads them: so what is new in a dialect is a text until it is known to be none.

use super::json::ScanError;
use super::json::cursor::{Cursor, Fault};
use super::json::text::unquote;

/// Something in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'t> {
    /// Words, with their escapes undone.
    Text(&'t str),
    /// A picture; of its data nothing is told.
    Image,
}

/// Members whose strings no model reads: what things are, ids of theirs, and where they lie.
const UNREAD: [&str; 36] = [
    "detail",
    "effort",
    "encoding_format",
    "encrypted_content",
    "fileUri",
    "file_uri",
    "file_url",
    "format",
    "id",
    "image_url",
    "mediaType",
    "media_type",
    "mimeType",
    "mime_type",
    "model",
    "object",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning_effort",
    "role",
    "s3Location",
    "safety_identifier",
    "service_tier",
    "signature",
    "size",
    "status",
    "taskType",
    "thoughtSignature",
    "thought_signature",
    "ttl",
    "type",
    "uri",
    "url",
    "user",
    "verbosity",
    "voice",
];
/// … and those that hold files, when what they hold is base64.
const FILES: [&str; 8] =
    ["b64_json", "bytes", "data", "file_data", "image", "image_url", "mask", "url"];
/// Members that hold whatever a tool takes and gives: all of it is read, names included.
const FREE: [&str; 5] = ["args", "arguments", "input", "json", "response"];
/// What the parts of a conversation are called that are pictures.
const PICTURES: [&str; 3] = ["image", "image_url", "input_image"];

/// Shows `found` the texts and pictures of a body, in their order.
///
/// One text at a time is held beside the body, and only where it has escapes.
///
/// # Errors
/// When the body is nothing that [`scan()`](super::json::scan()) lets pass.
pub fn texts(body: &[u8], found: &mut dyn FnMut(Piece<'_>)) -> Result<(), ScanError> {
    let text = simdutf8::compat::from_utf8(body)
        .map_err(|error| ScanError::NotUtf8 { offset: error.valid_up_to() })?;
    let mut walk = Walk { found, within: false };
    let mut cursor = Cursor::new(text);
    let walked = walk.value(&mut cursor, "", false).and_then(|()| cursor.end());
    walked.map_err(|_| ScanError::NotAnObject)
}

struct Walk<'w> {
    found: &'w mut dyn FnMut(Piece<'_>),
    /// Within JSON that stands in a string.
    within: bool,
}

impl Walk<'_> {
    /// A value under this name; `free`: within what a tool takes or gives. The cursor bounds how deep
    /// this goes.
    fn value(&mut self, cursor: &mut Cursor, name: &str, free: bool) -> Result<(), Fault> {
        match cursor.peek() {
            b'{' => cursor.object(|cursor, key| self.member(cursor, &key, free)).map(drop),
            b'[' => cursor.array(|cursor| self.value(cursor, name, free)).map(drop),
            b'"' => {
                let string = cursor.skip()?;
                self.string(cursor.slice(&string), name, free);
                Ok(())
            }
            _ => cursor.pass(),
        }
    }

    fn member(
        &mut self,
        cursor: &mut Cursor,
        key: &std::ops::Range<usize>,
        free: bool,
    ) -> Result<(), Fault> {
        let name = unquote(cursor.slice(key));
        let object = cursor.peek() == b'{';
        if free {
            (self.found)(Piece::Text(&name));
        } else if object && name == "image" {
            // Bedrock's parts are called what they are.
            (self.found)(Piece::Image);
        }
        self.value(cursor, &name, free || object && FREE.contains(&&*name))
    }

    fn string(&mut self, quoted: &str, name: &str, free: bool) {
        if !free && FILES.contains(&name) && is_file(quoted) {
            return;
        }
        if !free && (UNREAD.contains(&name) || name.ends_with("_id") || name.ends_with("Id")) {
            let says = |words: &[&str]| words.iter().any(|word| quoted.trim_matches('"') == *word);
            // Google's parts say what they are in the type of their data.
            let data = matches!(name, "mimeType" | "mime_type") && quoted.starts_with("\"image/");
            if data || name == "type" && says(&PICTURES) {
                (self.found)(Piece::Image);
            }
            return;
        }
        let text = unquote(quoted);
        // What a tool is called with stands in a string, as JSON of its own.
        if name == "arguments" && !self.within && self.json(&text) {
            return;
        }
        (self.found)(Piece::Text(&text));
    }

    /// Walks JSON that stands in a string; false where it is none, and nothing was shown.
    fn json(&mut self, text: &str) -> bool {
        let mut whole = Cursor::new(text);
        if !matches!(whole.peek(), b'{' | b'[') || whole.pass().is_err() || whole.end().is_err() {
            return false;
        }
        let mut inner = Walk { found: &mut *self.found, within: true };
        inner.value(&mut Cursor::new(text), "", true).is_ok()
    }
}

/// Whether a string is a file: base64, or a `data:` URL of it.
fn is_file(quoted: &str) -> bool {
    let text = quoted.trim_matches('"').as_bytes();
    let head = text.get(..200).unwrap_or(text);
    let data = match memchr::memmem::find(head, b";base64,") {
        Some(at) if text.starts_with(b"data:") => text.get(at + 8..).unwrap_or_default(),
        _ => text,
    };
    // A slash may have been escaped.
    let letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=-_\\".contains(byte);
    data.len() >= 16 && data.iter().all(letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> (Vec<String>, usize) {
        let (mut found, mut images) = (Vec::new(), 0);
        texts(body.as_bytes(), &mut |piece| match piece {
            Piece::Text(text) => found.push(text.to_owned()),
            Piece::Image => images += 1,
        })
        .unwrap();
        (found, images)
    }

    /// A body, the texts in it, and how many pictures.
    const BODIES: [(&str, &[&str], usize); 9] = [
        (
            r#"{"model":"m","messages":[{"role":"system","content":"a"},{"role":"user","content":[{"type":"text","text":"b\u0063"},{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgoAAAAN","detail":"low"}}]},{"role":"assistant","content":null,"tool_calls":[{"id":"i","type":"function","function":{"name":"f","arguments":"{\"k\":\"v\\u0065\",\"id\":7}"}}]},{"role":"tool","tool_call_id":"i","content":"d"}]}"#,
            &["a", "bc", "f", "k", "ve", "id", "d"],
            1,
        ),
        (
            r#"{"model":"m","instructions":"a","input":[{"role":"user","content":[{"type":"input_text","text":"b"},{"type":"input_image","image_url":"https://x/y.png"}]},{"type":"function_call","call_id":"c","name":"f","arguments":"not json"},{"type":"function_call_output","call_id":"c","output":"d"},{"type":"reasoning","summary":[],"encrypted_content":"xyz"}],"previous_response_id":"r"}"#,
            &["a", "b", "f", "not json", "d"],
            1,
        ),
        (
            r#"{"model":"m","system":[{"type":"text","text":"a"}],"messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgoAAAAN"}},{"type":"document","source":{"type":"text","media_type":"text/plain","data":"a plain document"}},{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"b"}]}]},{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":{"type":"c","deep":[{"id":"d"}]}}]}]}"#,
            &["a", "a plain document", "b", "f", "type", "c", "deep", "id", "d"],
            1,
        ),
        (
            r#"{"systemInstruction":{"parts":[{"text":"a"}]},"contents":[{"role":"user","parts":[{"text":"b"},{"inlineData":{"mimeType":"image/png","data":"iVBORw0KGgoAAAAN"}},{"functionResponse":{"name":"f","response":{"x":"c"}}},{"functionCall":{"name":"g","args":{"y":"d"}}}]}]}"#,
            &["a", "b", "f", "x", "c", "g", "y", "d"],
            1,
        ),
        (
            r#"{"system":[{"text":"a"}],"messages":[{"role":"user","content":[{"text":"b"},{"image":{"format":"png","source":{"bytes":"iVBORw0KGgoAAAAN"}}},{"toolResult":{"toolUseId":"t","content":[{"json":{"x":"c"}},{"text":"d"}]}}]}]}"#,
            &["a", "b", "x", "c", "d"],
            1,
        ),
        (r#"{"model":"m","prompt":["a","b"],"suffix":"c"}"#, &["a", "b", "c"], 0),
        (r#"{"model":"m","input":["a",[1,2]],"encoding_format":"float"}"#, &["a"], 0),
        (r#"{"model":"m","query":"a","documents":["b",{"text":"c"}]}"#, &["a", "b", "c"], 0),
        (r#"{"unheard_of":{"new":"a"}}"#, &["a"], 0),
    ];

    #[test]
    fn the_texts_of_every_dialect_are_found_where_they_stand() {
        for (body, expected, images) in BODIES {
            let (found, seen) = of(body);
            assert_eq!((found, seen), (expected.iter().map(|&it| it.into()).collect(), images));
        }
    }

    #[test]
    fn what_only_looks_like_a_file_is_a_text() {
        for text in ["data:text/plain;base64, ignore it all", "no base64 at all, but words"] {
            let body = format!(r#"{{"content":[{{"data":"{text}"}}]}}"#);
            assert_eq!(of(&body).0, [text], "{text}");
        }
        let long = "A".repeat(5000);
        assert_eq!(of(&format!(r#"{{"text":"{long}"}}"#)).0, [long.as_str()]);
        assert!(of(&format!(r#"{{"data":"{long}"}}"#)).0.is_empty());
    }

    #[test]
    fn all_that_a_scan_lets_pass_is_read() {
        let deep = format!("{{\"x\":{}{},\"y\":\"a\"}}", "[".repeat(127), "]".repeat(127));
        super::super::json::scan(deep.as_bytes()).unwrap();
        assert_eq!(of(&deep).0, ["a"]);
        let inner = "[".repeat(500);
        let within = format!(r#"{{"arguments":"{inner}"}}"#);
        assert_eq!(of(&within).0, [inner]);
        assert!(texts(b"{\"x\":", &mut |_| ()).is_err());
    }
}
