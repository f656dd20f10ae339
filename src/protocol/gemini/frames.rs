//! A stream cut into its JSON texts, whichever way it has them.
//!
//! With `alt=sse` they are server-sent events, without it the elements of one array that comes in
//! pieces. An error may stand between events as it is, over several lines and without `data:`.

use bytes::{Buf, Bytes, BytesMut};

use crate::protocol::framing::sse;
use crate::protocol::framing::whole::{TooLong, WholeEvents};

/// The most bytes of one text in an array. Pictures come in one piece, in base64.
const LONGEST: usize = 32 << 20;

#[derive(Debug, Default)]
pub struct Frames {
    form: Form,
    events: WholeEvents,
    values: Values,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Form {
    /// Nothing has come but white space.
    #[default]
    Unknown,
    Events,
    Values,
}

impl Frames {
    pub fn push(&mut self, mut chunk: Bytes) {
        if self.form == Form::Unknown {
            // White space, and a byte order mark.
            let blank = |byte: &u8| byte.is_ascii_whitespace() || b"\xef\xbb\xbf".contains(byte);
            let start = chunk.iter().position(|byte| !blank(byte)).unwrap_or(chunk.len());
            chunk.advance(start);
            match chunk.first() {
                None => return,
                Some(b'[' | b'{') => self.form = Form::Values,
                Some(_) => self.form = Form::Events,
            }
        }
        match self.form {
            Form::Values => self.values.push(&chunk),
            Form::Unknown | Form::Events => self.events.push(chunk),
        }
    }

    /// The next text that is whole.
    pub fn next(&mut self) -> Option<Result<Bytes, TooLong>> {
        if self.form == Form::Values {
            return self.values.next();
        }
        for event in self.events.by_ref() {
            match event {
                Ok(event) => {
                    if let Some(text) = text(&event) {
                        return Some(Ok(text));
                    }
                }
                Err(too_long) => return Some(Err(too_long)),
            }
        }
        None
    }

    /// What is left at the end of the stream: a text without the blank line behind it, or a torn one.
    pub fn finish(&mut self) -> Option<Bytes> {
        if self.form == Form::Values {
            return self.values.finish();
        }
        text(&self.events.finish()?)
    }
}

fn text(event: &sse::Event) -> Option<Bytes> {
    match &event.data {
        // Google sends no end mark, but others that speak its dialect do.
        Some(data) if data.is_empty() || data.as_ref() == b"[DONE]" => None,
        Some(data) => Some(data.clone()),
        None => {
            let raw = event.raw.trim_ascii();
            let is_json = raw.starts_with(b"{") || raw.starts_with(b"[");
            is_json.then(|| event.raw.slice_ref(raw))
        }
    }
}

/// The objects of an array, or one behind the other; what stands between them is passed over.
#[derive(Debug, Default)]
struct Values {
    /// What was pushed and not cut yet: the object under way, and what may be behind it.
    carry: BytesMut,
    /// How far `carry` has been looked at.
    seen: usize,
    depth: usize,
    place: Place,
}

#[derive(Clone, Copy, Debug, Default)]
enum Place {
    #[default]
    Outside,
    InString,
    /// Behind a backslash.
    Escaped,
}

impl Values {
    fn push(&mut self, chunk: &Bytes) {
        self.carry.extend_from_slice(chunk);
    }

    fn next(&mut self) -> Option<Result<Bytes, TooLong>> {
        if self.depth == 0 {
            let start = memchr::memchr(b'{', &self.carry).unwrap_or(self.carry.len());
            self.carry.advance(start);
            self.seen = 0;
        }
        while let Some(rest) = self.carry.get(self.seen..).filter(|rest| !rest.is_empty()) {
            let found = match self.place {
                Place::Outside => memchr::memchr3(b'{', b'}', b'"', rest),
                Place::InString => memchr::memchr2(b'"', b'\\', rest),
                Place::Escaped => Some(0),
            };
            let Some(at) = found else {
                self.seen = self.carry.len();
                break;
            };
            self.seen += at + 1;
            match (self.place, rest.get(at)) {
                (Place::Outside, Some(b'"')) | (Place::Escaped, _) => self.place = Place::InString,
                (Place::InString, Some(b'"')) => self.place = Place::Outside,
                (Place::InString, _) => self.place = Place::Escaped,
                (Place::Outside, Some(b'{')) => self.depth += 1,
                (Place::Outside, _) => self.depth = self.depth.saturating_sub(1),
            }
            if self.depth == 0 {
                return Some(Ok(self.carry.split_to(std::mem::take(&mut self.seen)).freeze()));
            }
        }
        (self.carry.len() > LONGEST).then_some(Err(TooLong))
    }

    fn finish(&mut self) -> Option<Bytes> {
        let rest = self.carry.split().freeze();
        (!rest.is_empty()).then_some(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The texts of a stream that comes `size` bytes at a time.
    fn cut(stream: &[u8], size: usize) -> Vec<String> {
        let mut frames = Frames::default();
        let mut texts = Vec::new();
        for chunk in stream.chunks(size) {
            frames.push(Bytes::copy_from_slice(chunk));
            while let Some(text) = frames.next() {
                texts.push(text.unwrap());
            }
        }
        texts.extend(frames.finish());
        texts.iter().map(|text| String::from_utf8(text.to_vec()).unwrap()).collect()
    }

    #[test]
    fn every_form_and_every_cut_give_the_same_texts() {
        let texts = [r#"{"a":"}\"{\\"}"#, r#"{"b":{"c":[{}]}}"#];
        let [a, b] = texts;
        for stream in [
            format!("data: {a}\r\n\r\ndata: {b}\r\n\r\n"),
            format!("\u{feff}data:{a}\n\n: ping\n\n\n\ndata: {b}\n\ndata: [DONE]\n\n"),
            format!("data: {a}\r\n\r\n{b}\n"),
            format!("[{a}\n,\r\n{b}\n]\n"),
            format!("\r\n [ {a},{b} ]"),
            format!("{a}{b}"),
        ] {
            for size in [1, 2, 3, 7, 1000] {
                assert_eq!(cut(stream.as_bytes(), size), texts, "{size} {stream}");
            }
        }
    }

    #[test]
    fn an_error_over_several_lines_is_one_text() {
        let error = "{\n  \"error\": {\n    \"code\": 503\n  }\n}";
        for end in ["", "\n", "\r\n\r\n"] {
            let stream = format!("data: {{}}\r\n\r\n{error}{end}");
            let texts = cut(stream.as_bytes(), 5);
            assert_eq!(texts.iter().map(|text| text.trim()).collect::<Vec<_>>(), ["{}", error]);
        }
    }

    #[test]
    fn a_picture_of_megabytes_is_one_text() {
        let picture = format!(r#"{{"data":"{}"}}"#, "A".repeat(3 << 20));
        for stream in [
            format!("data: {{}}\r\n\r\ndata: {picture}\r\n\r\ndata: {{}}\r\n\r\n"),
            format!("[{{}}\r\n,{picture},{{}}]"),
        ] {
            for size in [65_536, stream.len()] {
                let texts = cut(stream.as_bytes(), size);
                assert!(texts == ["{}", picture.as_str(), "{}"]);
            }
        }
    }

    #[test]
    fn a_text_without_end_is_refused() {
        for begin in ["data: {\"a\":\"", "[{\"a\":\""] {
            let mut frames = Frames::default();
            frames.push(Bytes::from(begin));
            let piece = Bytes::from(vec![b'a'; 1 << 20]);
            let mut pieces = 0;
            loop {
                frames.push(piece.clone());
                pieces += 1;
                match frames.next() {
                    None => assert!(pieces < 40),
                    Some(Err(TooLong)) => break,
                    Some(Ok(_)) => panic!("a text"),
                }
            }
        }
    }
}
