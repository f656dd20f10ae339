//! A multipart form, read as it arrives: fields are kept, of the file only what is wanted.

use bytes::{Buf as _, BytesMut};
use memchr::memmem;

use super::reply::Reply;

/// The most a field, and the head of a part, may hold.
const FIELD: usize = 64 * 1024;

/// A form, while it arrives and when it is complete.
#[derive(Debug)]
pub struct Form {
    /// What divides the parts: a line break, two dashes and the boundary.
    divider: Vec<u8>,
    /// What has arrived and is not understood yet: at most a part's head, or the beginning of a
    /// divider.
    buffer: BytesMut,
    place: Place,
    /// The most of the file that is kept; 0 keeps nothing of any size.
    keep: usize,
    fields: Vec<(String, Vec<u8>)>,
    file: Option<File>,
}

/// The file in a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// As the caller named it.
    pub name: String,
    /// How many bytes it has.
    pub size: usize,
    /// The bytes, if they were to be kept.
    pub content: Vec<u8>,
}

/// Where in the form the next byte belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the first divider.
    Preamble,
    /// Right after a divider: a line break begins a part, two dashes end the form.
    Divided,
    /// In the head of a part.
    Head,
    /// In the value of the last field.
    Field,
    /// In the file.
    File,
    /// After the last divider.
    End,
}

impl Form {
    /// A form with this `content-type`, of whose file so many bytes are kept: a larger one is
    /// refused, unless that is 0.
    pub fn new(content_type: &str, keep: usize) -> Result<Self, Reply> {
        let multipart =
            content_type.trim_start().to_ascii_lowercase().starts_with("multipart/form-data");
        let boundary = parameter(content_type, "boundary").filter(|b| multipart && !b.is_empty());
        let Some(boundary) = boundary else {
            return Err(Reply::bad_request(
                "A multipart/form-data body with a boundary is needed",
                None,
            ));
        };
        // The first divider may open the body: the line break before it is made up.
        let buffer = BytesMut::from("\r\n");
        let divider = format!("\r\n--{boundary}").into_bytes();
        Ok(Self { divider, buffer, place: Place::Preamble, keep, fields: Vec::new(), file: None })
    }

    /// Takes what has arrived.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), Reply> {
        self.buffer.extend_from_slice(chunk);
        while self.step()? {}
        Ok(())
    }

    /// Says whether the form has ended as it should.
    pub fn finish(&self) -> Result<(), Reply> {
        if self.place == Place::End { Ok(()) } else { Err(broken("it ends in the middle")) }
    }

    /// A field's value.
    pub fn field(&self, name: &str) -> Option<&str> {
        let (_, value) = self.fields.iter().find(|(known, _)| known == name)?;
        std::str::from_utf8(value).ok()
    }

    /// The file.
    pub fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// Takes the file out.
    pub fn take_file(&mut self) -> Option<File> {
        self.file.take()
    }

    /// Understands one more piece; false when more bytes are needed for that.
    fn step(&mut self) -> Result<bool, Reply> {
        match self.place {
            Place::Preamble | Place::Field | Place::File => self.content(),
            Place::Divided => self.divided(),
            Place::Head => self.head(),
            Place::End => {
                self.buffer.clear();
                Ok(false)
            }
        }
    }

    /// Content goes on until the next divider, of which the beginning may have arrived already.
    fn content(&mut self) -> Result<bool, Reply> {
        let found = memmem::find(&self.buffer, &self.divider);
        let certain = found.unwrap_or((self.buffer.len() + 1).saturating_sub(self.divider.len()));
        let content = self.buffer.split_to(certain);
        self.keep(&content)?;
        if found.is_none() {
            return Ok(false);
        }
        self.buffer.advance(self.divider.len());
        self.place = Place::Divided;
        Ok(true)
    }

    fn divided(&mut self) -> Result<bool, Reply> {
        let Some(next) = self.buffer.get(..2) else { return Ok(false) };
        self.place = match next {
            b"\r\n" => Place::Head,
            b"--" => Place::End,
            _ => return Err(broken("a divider is followed by something else")),
        };
        // The line break stays: it may be the first half of the empty line that ends the head.
        Ok(true)
    }

    fn head(&mut self) -> Result<bool, Reply> {
        let Some(end) = memmem::find(&self.buffer, b"\r\n\r\n") else {
            return if self.buffer.len() > FIELD {
                Err(broken("a head is too long"))
            } else {
                Ok(false)
            };
        };
        let head = self.buffer.split_to(end + 4);
        let head = String::from_utf8_lossy(&head);
        let is_disposition =
            |line: &&str| line.to_ascii_lowercase().starts_with("content-disposition:");
        let Some(disposition) = head.lines().find(is_disposition) else {
            return Err(broken("a part has no content-disposition"));
        };
        let name = parameter(disposition, "name").unwrap_or_default();
        let Some(filename) = parameter(disposition, "filename") else {
            self.fields.push((name, Vec::new()));
            self.place = Place::Field;
            return Ok(true);
        };
        self.file = Some(File { name: filename, size: 0, content: Vec::new() });
        self.place = Place::File;
        Ok(true)
    }

    fn keep(&mut self, content: &[u8]) -> Result<(), Reply> {
        match (self.place, self.fields.last_mut(), self.file.as_mut()) {
            (Place::Field, Some((_, value)), _) => {
                if value.len() + content.len() > FIELD {
                    return Err(broken("a field is too long"));
                }
                value.extend_from_slice(content);
            }
            (Place::File, _, Some(file)) => {
                file.size += content.len();
                if self.keep > 0 && file.size > self.keep {
                    return Err(Reply::refusal(
                        413,
                        "RequestTooLarge",
                        "The file is too large",
                        Some("file"),
                    ));
                }
                if self.keep > 0 {
                    file.content.extend_from_slice(content);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn broken(why: &str) -> Reply {
    Reply::bad_request(&format!("The form cannot be read: {why}"), None)
}

/// A parameter of a header: `name=value` or `name="value"`.
fn parameter(header: &str, name: &str) -> Option<String> {
    let mut rest = header;
    loop {
        let (_, after) = rest.split_once(';')?;
        let after = after.trim_start();
        let (key, value) = after.split_once('=')?;
        let (value, following) = match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => value.split_at(value.find(';').unwrap_or(value.len())),
        };
        if key.trim().eq_ignore_ascii_case(name) {
            return Some(value.trim().replace("\\\"", "\""));
        }
        rest = following;
    }
}

/// Divides at the closing quotation mark; one behind a backslash does not close.
fn unquote(text: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    let closes = |character: char| {
        let close = character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
        close
    };
    let end = text.find(closes)?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=\"xyz\"";
    const BODY: &[u8] = b"\
        --xyz\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n\
        --xyz\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a \\\"b\\\".wav\"\r\n\
        Content-Type: audio/wav\r\n\r\none\r\n--xy\r\ntwo\r\n--xyz--\r\n";

    #[test]
    fn it_is_the_same_however_it_is_cut() {
        for size in 1..BODY.len() {
            let mut form = Form::new(TYPE, 100).unwrap();
            BODY.chunks(size).for_each(|chunk| form.push(chunk).unwrap());
            form.finish().unwrap();
            assert_eq!(form.field("model"), Some("whisper"), "cut at {size}");
            let content = b"one\r\n--xy\r\ntwo".to_vec();
            let file = File { name: "a \"b\".wav".to_owned(), size: content.len(), content };
            assert_eq!(form.take_file(), Some(file), "cut at {size}");
        }
    }

    #[test]
    fn a_large_file_is_counted_and_not_held() {
        let mut form = Form::new(TYPE, 0).unwrap();
        form.push(
            b"--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n",
        )
        .unwrap();
        for _ in 0..100 {
            form.push(&[b'a'; 10_000]).unwrap();
            assert!(form.buffer.len() < 10);
        }
        form.push(b"\r\n--xyz--").unwrap();
        assert_eq!(form.file().map(|file| (file.size, file.content.len())), Some((1_000_000, 0)));
    }

    #[test]
    fn what_is_no_form_is_refused() {
        assert!(Form::new("application/json", 0).is_err());
        assert!(Form::new("multipart/form-data", 0).is_err());
        let mut unfinished = Form::new(TYPE, 0).unwrap();
        unfinished.push(&BODY[..50]).unwrap();
        assert!(unfinished.finish().is_err());
        let mut headless = Form::new(TYPE, 0).unwrap();
        assert!(headless.push(b"--xyz\r\n\r\nvalue\r\n--xyz--").is_err());
    }

    #[test]
    fn a_file_larger_than_what_is_kept_is_refused() {
        assert_eq!(Form::new(TYPE, 5).unwrap().push(BODY).unwrap_err().status, 413);
    }
}
