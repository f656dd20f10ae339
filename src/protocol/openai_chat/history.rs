//! Thinking taken out of the earlier turns of a conversation, so that the model does not read it again.

use super::thinking::without_thinking;
use crate::protocol::json::cursor::{Cursor, Fault};
use crate::protocol::json::splice::Splice;
use crate::protocol::json::text::{quote, unquote};
use std::ops::Range;

/// Replaces the content strings of assistant messages that hold a closed `<think>` block.
///
/// `messages` is the span of that member's value in `body`.  Strings and `text` parts are looked at;
/// whatever has another shape is the upstream's to judge.
pub fn strip(body: &[u8], messages: &Range<usize>, splice: &mut Splice) {
    let Some(json) = body.get(messages.clone()).and_then(|raw| std::str::from_utf8(raw).ok())
    else {
        return;
    };
    let mut texts = Vec::new();
    let mut cursor = Cursor::new(json);
    if cursor.peek() != b'[' {
        return;
    }
    // The body has been scanned: the walk cannot fail.
    let _ = cursor.array(|cursor| message(cursor, &mut texts));
    for span in texts {
        let text = unquote(json.get(span.clone()).unwrap_or_default());
        if let Some(rest) = without_thinking(&text) {
            splice.replace(span.start + messages.start..span.end + messages.start, quote(&rest));
        }
    }
}

/// Collects the spans of a message's texts if it is the assistant's.
fn message(cursor: &mut Cursor, texts: &mut Vec<Range<usize>>) -> Result<(), Fault> {
    if cursor.peek() != b'{' {
        return cursor.pass();
    }
    let before = texts.len();
    let mut of_assistant = false;
    cursor.object(|cursor, key| {
        match (&*unquote(cursor.slice(&key)), cursor.peek()) {
            ("role", _) => {
                let role = cursor.skip()?;
                of_assistant = unquote(cursor.slice(&role)) == "assistant";
            }
            ("content", b'"') => texts.push(cursor.skip()?),
            ("content", b'[') => {
                cursor.array(|cursor| part(cursor, texts))?;
            }
            _ => cursor.pass()?,
        }
        Ok(())
    })?;
    if !of_assistant {
        texts.truncate(before);
    }
    Ok(())
}

fn part(cursor: &mut Cursor, texts: &mut Vec<Range<usize>>) -> Result<(), Fault> {
    if cursor.peek() != b'{' {
        return cursor.pass();
    }
    let before = texts.len();
    let mut is_text = false;
    cursor.object(|cursor, key| {
        match (&*unquote(cursor.slice(&key)), cursor.peek()) {
            ("type", _) => {
                let kind = cursor.skip()?;
                is_text = unquote(cursor.slice(&kind)) == "text";
            }
            ("text", b'"') => texts.push(cursor.skip()?),
            _ => cursor.pass()?,
        }
        Ok(())
    })?;
    if !is_text {
        texts.truncate(before);
    }
    Ok(())
}
