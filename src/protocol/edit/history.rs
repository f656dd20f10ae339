//! Thinking taken out of the earlier turns of a conversation, so that the model does not read it again.

use super::request::EditError;
use super::thinking::without_thinking;
use crate::protocol::json::cursor::{Cursor, Fault};
use crate::protocol::json::splice::Splice;
use crate::protocol::json::text::{quote, unquote};
use std::ops::Range;

/// Replaces the content strings of assistant messages that hold a closed `<think>` block.
///
/// `messages` is the span of that member's value in `body`.  Strings and `text` parts are looked at;
/// whatever has another shape is the upstream's to judge.
///
/// # Errors
/// When a member that says what to strip stands twice: the upstream may read the other one.
pub fn strip(body: &[u8], messages: &Range<usize>, splice: &mut Splice) -> Result<(), EditError> {
    let Some(json) = body.get(messages.clone()).and_then(|raw| std::str::from_utf8(raw).ok())
    else {
        return Ok(());
    };
    let mut found = Found::default();
    let mut cursor = Cursor::new(json);
    if cursor.peek() != b'[' {
        return Ok(());
    }
    // The body has been scanned: the walk cannot fail.
    let _ = cursor.array(|cursor| message(cursor, &mut found));
    if let Some(name) = found.twice {
        return Err(EditError::twice("messages", name));
    }
    for span in found.texts {
        let text = unquote(json.get(span.clone()).unwrap_or_default());
        if let Some(rest) = without_thinking(&text) {
            splice.replace(span.start + messages.start..span.end + messages.start, quote(&rest));
        }
    }
    Ok(())
}

#[derive(Default)]
struct Found {
    texts: Vec<Range<usize>>,
    /// A name that stood twice in a message or a part.
    twice: Option<&'static str>,
}

/// Collects the spans of a message's texts if it is the assistant's.
fn message(cursor: &mut Cursor, found: &mut Found) -> Result<(), Fault> {
    if cursor.peek() != b'{' {
        return cursor.pass();
    }
    let before = found.texts.len();
    let mut of_assistant = false;
    let (mut roles, mut contents) = (0, 0);
    cursor.object(|cursor, key| {
        let name = unquote(cursor.slice(&key));
        roles += usize::from(name == "role");
        contents += usize::from(name == "content");
        match (&*name, cursor.peek()) {
            ("role", _) => {
                let role = cursor.skip()?;
                of_assistant = unquote(cursor.slice(&role)) == "assistant";
            }
            ("content", b'"') => found.texts.push(cursor.skip()?),
            ("content", b'[') => {
                cursor.array(|cursor| part(cursor, found))?;
            }
            _ => cursor.pass()?,
        }
        Ok(())
    })?;
    found.note_twice([("role", roles), ("content", contents)]);
    if !of_assistant {
        found.texts.truncate(before);
    }
    Ok(())
}

fn part(cursor: &mut Cursor, found: &mut Found) -> Result<(), Fault> {
    if cursor.peek() != b'{' {
        return cursor.pass();
    }
    let before = found.texts.len();
    let mut is_text = false;
    let (mut kinds, mut texts) = (0, 0);
    cursor.object(|cursor, key| {
        let name = unquote(cursor.slice(&key));
        kinds += usize::from(name == "type");
        texts += usize::from(name == "text");
        match (&*name, cursor.peek()) {
            ("type", _) => {
                let kind = cursor.skip()?;
                is_text = unquote(cursor.slice(&kind)) == "text";
            }
            ("text", b'"') => found.texts.push(cursor.skip()?),
            _ => cursor.pass()?,
        }
        Ok(())
    })?;
    found.note_twice([("type", kinds), ("text", texts)]);
    if !is_text {
        found.texts.truncate(before);
    }
    Ok(())
}

impl Found {
    fn note_twice(&mut self, counts: [(&'static str, usize); 2]) {
        let twice = counts.into_iter().find(|(_, count)| *count > 1);
        self.twice = self.twice.or(twice.map(|(name, _)| name));
    }
}
