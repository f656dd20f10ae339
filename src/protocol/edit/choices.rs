//! The choices of a chat or completions answer, whole or one chunk of it, as spans to be rewritten.

use super::voice::{Kind, Voice};
use crate::config::{ResponseEdits, Thinking};
use crate::protocol::json::Splice;
use crate::protocol::json::cursor::{Cursor, Fault};
use crate::protocol::json::text::{quote, unquote};
use std::borrow::Cow;
use std::ops::Range;

/// What an edit needs to know of an answer.
#[derive(Debug, Default)]
pub struct Answer {
    pub choices: Vec<Choice>,
    /// It tells of an error.
    pub error: bool,
}

/// One of `choices`.
#[derive(Debug, Default)]
pub struct Choice {
    pub index: u64,
    /// It has a finish reason: nothing more will come for this index.
    pub finished: bool,
    /// Where its text is; `None` when it has no place for any.
    speech: Option<Speech>,
}

#[derive(Debug)]
enum Speech {
    /// The object at `delta` or `message`: its members in order, and its closing brace.
    Message { fields: Vec<Field>, end: usize },
    /// The value of `text`.
    Text(Range<usize>),
}

#[derive(Debug)]
struct Field {
    name: Name,
    key: Range<usize>,
    value: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Content,
    Reasoning,
    ReasoningContent,
    /// `OpenRouter`'s list of reasoning blocks: the same text once more.
    ReasoningDetails,
    Other,
}

impl Answer {
    /// `None` when it is not JSON, or not an object.
    pub fn read(json: &str) -> Option<Self> {
        let mut answer = Self::default();
        let mut cursor = Cursor::new(json);
        let read = cursor.object(|cursor, key| {
            match (&*unquote(cursor.slice(&key)), cursor.peek()) {
                ("choices", b'[') => {
                    cursor.array(|cursor| {
                        answer.choices.push(Choice::read(cursor)?);
                        Ok(())
                    })?;
                }
                ("error", b'{' | b'"') => {
                    answer.error = true;
                    cursor.skip()?;
                }
                _ => cursor.pass()?,
            }
            Ok(())
        });
        read.and_then(|_| cursor.end()).ok().map(|()| answer)
    }
}

impl Choice {
    fn read(cursor: &mut Cursor) -> Result<Self, Fault> {
        let mut choice = Self::default();
        if cursor.peek() != b'{' {
            cursor.skip()?;
            return Ok(choice);
        }
        cursor.object(|cursor, key| {
            match (&*unquote(cursor.slice(&key)), cursor.peek()) {
                ("index", _) => {
                    let span = cursor.skip()?;
                    choice.index = cursor.slice(&span).parse().unwrap_or(0);
                }
                ("delta" | "message", b'{') => choice.speech = message(cursor)?,
                ("text", b'"') => choice.speech = Some(Speech::Text(cursor.skip()?)),
                ("finish_reason", b'"') => {
                    choice.finished = true;
                    cursor.skip()?;
                }
                _ => cursor.pass()?,
            }
            Ok(())
        })?;
        Ok(choice)
    }

    pub fn has_speech(&self) -> bool {
        self.speech.is_some()
    }

    /// Lets the voice say this choice's text and puts what it says in its place.
    pub fn rewrite(
        &self,
        json: &str,
        voice: &mut Voice,
        edits: &ResponseEdits,
        last: bool,
        splice: &mut Splice,
    ) {
        if voice.is_idle(edits) {
            return;
        }
        match &self.speech {
            None => {}
            Some(Speech::Text(span)) => {
                voice.kind = Kind::Text;
                let text = string(json, span);
                let said = voice.say(edits, "", &text, last);
                if said.content != text {
                    splice.replace(span.clone(), quote(&said.content));
                }
            }
            Some(Speech::Message { fields, end }) => {
                voice.kind = Kind::Message;
                Message { json, fields, end: *end, splice }.rewrite(voice, edits, last);
            }
        }
    }
}

/// Reads a message; `None` when its content is neither text nor null: such parts are not edited.
fn message(cursor: &mut Cursor) -> Result<Option<Speech>, Fault> {
    let mut fields = Vec::with_capacity(4);
    let mut editable = true;
    let end = cursor.object(|cursor, key| {
        let name = match &*unquote(cursor.slice(&key)) {
            "content" => Name::Content,
            "reasoning" => Name::Reasoning,
            "reasoning_content" => Name::ReasoningContent,
            "reasoning_details" => Name::ReasoningDetails,
            _ => Name::Other,
        };
        editable &= name != Name::Content || matches!(cursor.peek(), b'"' | b'n');
        let value = cursor.skip()?;
        fields.push(Field { name, key, value });
        Ok(())
    })?;
    Ok(editable.then_some(Speech::Message { fields, end }))
}

/// A message being rewritten.
struct Message<'a> {
    json: &'a str,
    fields: &'a [Field],
    end: usize,
    splice: &'a mut Splice,
}

impl<'a> Message<'a> {
    fn rewrite(&mut self, voice: &mut Voice, edits: &ResponseEdits, last: bool) {
        let content = self.text(Name::Content);
        // Some servers write the same text under both names.
        let (reasoning, alias) = (self.text(Name::Reasoning), self.text(Name::ReasoningContent));
        let reasoning = if reasoning.is_empty() { alias } else { reasoning };
        let said = voice.say(edits, &reasoning, &content, last);
        let occupied = match edits.thinking {
            Thinking::Passthrough => true,
            Thinking::Strip => self.remove(|name| {
                matches!(name, Name::Reasoning | Name::ReasoningContent | Name::ReasoningDetails)
            }),
            Thinking::Tag => {
                self.remove(|name| matches!(name, Name::Reasoning | Name::ReasoningContent))
            }
            Thinking::Reasoning => {
                self.put_reasoning(Name::Reasoning, Name::ReasoningContent, &said.reasoning)
            }
            Thinking::ReasoningContent => {
                self.put_reasoning(Name::ReasoningContent, Name::Reasoning, &said.reasoning)
            }
        };
        self.put(Name::Content, &said.content, occupied);
    }

    /// Makes `target` the only member that holds reasoning.  Does the message have members then?
    fn put_reasoning(&mut self, target: Name, other: Name, text: &str) -> bool {
        if self.field(target).is_none()
            && let Some(field) = self.field(other)
        {
            self.splice.replace(field.key.clone(), quote(target.as_str()));
            return self.put(other, text, true);
        }
        let occupied = self.remove(|name| name == other);
        self.put(target, text, occupied)
    }

    /// Makes a member say `text`.  `occupied`, and the answer: does the message have members?
    fn put(&mut self, name: Name, text: &str, occupied: bool) -> bool {
        match self.field(name) {
            Some(_) if self.text(name) == text => {}
            Some(field) => self.splice.replace(field.value.clone(), quote(text)),
            None if text.is_empty() => return occupied,
            None => {
                let value = quote(text);
                self.splice.insert_at(self.end, occupied, name.as_str(), value.as_bytes());
            }
        }
        true
    }

    /// Takes members out, with the commas that go with them.  Does any stay?
    fn remove(&mut self, unwanted: impl Fn(Name) -> bool) -> bool {
        let stays = |field: &&Field| !unwanted(field.name);
        let (Some(first), Some(last)) = (self.fields.first(), self.fields.last()) else {
            return false;
        };
        let Some(kept) = self.fields.iter().find(stays) else {
            self.splice.replace(first.key.start..last.value.end, "");
            return false;
        };
        if kept.key != first.key {
            self.splice.replace(first.key.start..kept.key.start, "");
        }
        for pair in self.fields.windows(2) {
            if let [before, field] = pair
                && unwanted(field.name)
                && field.key.start > kept.key.start
            {
                self.splice.replace(before.value.end..field.value.end, "");
            }
        }
        true
    }

    fn field(&self, name: Name) -> Option<&'a Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The text of a string member; empty when it is absent, null or something else.
    fn text(&self, name: Name) -> Cow<'a, str> {
        self.field(name).map_or("".into(), |field| string(self.json, &field.value))
    }
}

impl Name {
    fn as_str(self) -> &'static str {
        match self {
            Self::Content => "content",
            Self::Reasoning => "reasoning",
            Self::ReasoningContent => "reasoning_content",
            Self::ReasoningDetails | Self::Other => "",
        }
    }
}

/// What the string at `span` says; empty when there is none.
fn string<'j>(json: &'j str, span: &Range<usize>) -> Cow<'j, str> {
    let raw = json.get(span.clone()).unwrap_or_default();
    if raw.starts_with('"') { unquote(raw) } else { "".into() }
}
