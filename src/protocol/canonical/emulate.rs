//! Holds a model to a JSON Schema by a tool it must call, where it cannot be held to one otherwise.

use std::collections::HashSet;

use serde_json::value::{RawValue, to_raw_value};

use super::{
    Block, Delta, Event, Fate, Field, Format, Invalid, Json, Losses, Opening, Request, Response,
    Schema, Stop, Tool, ToolChoice, ToolKind,
};
use crate::protocol::json::Object;

/// What the tool is called, unless the client has one of that name.
const NAME: &str = "json_tool_call";

/// The member an answer stands in whose schema is not an object's.
const WRAPPER: &str = "value";

/// The most that is held back until it is known whether an answer stands in its wrapper.
const LONGEST_HEAD: usize = 256;

/// A JSON Schema that became a tool, and the way back: the call of that tool is the answer's text.
///
/// With no other tools the model must call this one. With others it must call one of them all, so that
/// it can still work before it answers.
#[derive(Clone, Debug)]
pub struct Emulation {
    name: String,
    wrapped: bool,
    /// The call that is being told as text: its block, and what is taken off of it.
    open: Option<(u32, Unwrap)>,
    /// The answer was called for already; it is told once.
    answered: bool,
    /// Tools of the client's were called.
    others: bool,
    /// Blocks that are not told.
    left_out: Vec<u32>,
}

impl Emulation {
    /// Puts a tool in the place of the schema that the request asks for; `None` where it asks for
    /// none. Where the client demands a call of its own tools there is no text to hold to the schema:
    /// it is given up, as a loss.
    pub fn apply(request: &mut Request, losses: &mut Losses) -> Result<Option<Self>, Invalid> {
        if !matches!(request.format, Format::JsonSchema(_)) {
            return Ok(None);
        }
        let Format::JsonSchema(schema) = std::mem::take(&mut request.format) else {
            return Ok(None);
        };
        let taken: HashSet<&str> = request.tools.iter().map(|tool| tool.name.as_str()).collect();
        let mut name = NAME.to_owned();
        while taken.contains(name.as_str()) {
            name.push('_');
        }
        match &mut request.tool_choice {
            Some(
                ToolChoice::Named(_)
                | ToolChoice::Required
                | ToolChoice::Among { required: true, .. },
            ) => return losses.lose(Field::JsonSchema, Fate::Dropped).map(|()| None),
            Some(ToolChoice::Among { names, required }) => {
                names.push(name.clone());
                *required = true;
            }
            Some(ToolChoice::Auto) | None if !request.tools.is_empty() => {
                request.tool_choice = Some(ToolChoice::Required);
            }
            Some(ToolChoice::Auto | ToolChoice::None) | None => {
                request.tool_choice = Some(ToolChoice::Named(name.clone()));
                request.parallel_tools = Some(false);
            }
        }
        let (tool, wrapped) = tool(name.clone(), schema);
        request.tools.push(tool);
        let (open, left_out) = (None, Vec::new());
        Ok(Some(Self { name, wrapped, open, answered: false, others: false, left_out }))
    }

    /// Makes text of the call in a stream. What is not told is a [`Event::Ping`] then.
    pub fn restore(&mut self, event: &mut Event) {
        match event {
            Event::Open { index, block } => {
                let is_call = matches!(block, Opening::ToolUse { .. });
                if !matches!(block, Opening::ToolUse { name, .. } if *name == self.name) {
                    self.others |= is_call;
                } else if self.answered {
                    self.left_out.push(*index);
                    *event = Event::Ping;
                    return;
                } else {
                    self.answered = true;
                    self.open = Some((*index, Unwrap::new(self.wrapped)));
                    *block = Opening::Text;
                }
                *index = self.told(*index);
            }
            Event::Delta { index, .. } | Event::Close { index }
                if self.left_out.contains(index) =>
            {
                *event = Event::Ping;
            }
            Event::Delta { index, delta } => {
                match (&mut self.open, &*delta) {
                    (Some((open, unwrap)), Delta::Arguments(json)) if open == index => {
                        *delta = Delta::Text(unwrap.push(json));
                    }
                    _ => {}
                }
                *index = self.told(*index);
            }
            Event::Close { index } => *index = self.told(*index),
            Event::End(end) => self.restore_stop(&mut end.stop),
            Event::Start(_) | Event::Ping | Event::Failed(_) => {}
        }
    }

    /// Makes text of the call in a whole answer.
    pub fn restore_response(&mut self, response: &mut Response) {
        response.blocks.retain_mut(|block| {
            let Block::ToolUse(call) = block else { return true };
            if call.name != self.name {
                self.others = true;
                return true;
            }
            let text = Unwrap::new(self.wrapped).push(&call.arguments);
            *block = Block::text(text);
            !std::mem::replace(&mut self.answered, true)
        });
        self.restore_stop(&mut response.stop);
    }

    /// A call that is told as text is no call to wait for.
    fn restore_stop(&self, stop: &mut Stop) {
        if *stop == Stop::ToolUse && self.answered && !self.others {
            *stop = Stop::EndTurn;
        }
    }

    /// The index of a block among those that are told.
    fn told(&self, index: u32) -> u32 {
        let before = self.left_out.iter().filter(|left_out| **left_out < index).count();
        index - u32::try_from(before).unwrap_or(index)
    }
}

/// The tool that takes what the schema describes, and whether it takes it wrapped.
fn tool(name: String, schema: Schema) -> (Tool, bool) {
    let Schema { description, schema, .. } = schema;
    let wrapped = !is_object(&schema);
    let mut says = "Gives the answer. Call it when the answer is ready.".to_owned();
    if let Some(description) = description {
        says = format!("{says}\n\n{description}");
    }
    let tool = Tool {
        name,
        namespace: None,
        description: Some(says),
        kind: ToolKind::Function,
        schema: Some(if wrapped { wrap(&schema) } else { schema }),
        strict: None,
        grammar: None,
        cache: None,
    };
    (tool, wrapped)
}

/// Does the schema describe an object? Tools take nothing else.
fn is_object(schema: &RawValue) -> bool {
    let Ok(mut schema) = Object::parse(schema.get(), "schema") else { return false };
    let has_properties = schema.has("properties");
    schema.take("type").map_or(has_properties, |kind| kind.get() == "\"object\"")
}

/// A schema of an object with the one member `value`. What the schema refers to stays at the root.
fn wrap(schema: &RawValue) -> Json {
    let mut definitions = String::new();
    if let Ok(mut schema) = Object::parse(schema.get(), "schema") {
        for name in ["$defs", "definitions"] {
            if let Some(defined) = schema.take(name) {
                definitions = format!(r#"{definitions},"{name}":{}"#, defined.get());
            }
        }
    }
    let text = format!(
        r#"{{"type":"object","properties":{{"{WRAPPER}":{}}},"required":["{WRAPPER}"],"additionalProperties":false{definitions}}}"#,
        schema.get(),
    );
    RawValue::from_string(text)
        .or_else(|_| to_raw_value(&serde_json::json!({ "type": "object" })))
        .unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Takes the wrapper off, as its text comes in pieces.
#[derive(Clone, Debug)]
enum Unwrap {
    /// There is none, or it is not what was asked for: the text passes.
    Off,
    /// The text so far, not long enough to know.
    Head(String),
    /// Within the wrapped value.
    Value(Place),
    /// Behind it.
    Done,
}

/// Where in a JSON value its text stands.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    depth: u32,
    in_string: bool,
    escaped: bool,
}

impl Unwrap {
    fn new(wrapped: bool) -> Self {
        if wrapped { Self::Head(String::new()) } else { Self::Off }
    }

    /// What of the next piece belongs to the answer.
    fn push(&mut self, piece: &str) -> String {
        match self {
            Self::Off => piece.to_owned(),
            Self::Done => String::new(),
            Self::Value(place) => {
                let end = place.end(piece);
                if end.is_some() {
                    *self = Self::Done;
                }
                piece.get(..end.unwrap_or(piece.len())).unwrap_or_default().to_owned()
            }
            Self::Head(head) => {
                head.push_str(piece);
                let text = std::mem::take(head);
                match behind_head(&text) {
                    Some("") if text.len() <= LONGEST_HEAD => *head = text,
                    Some(value) if !value.is_empty() => {
                        *self = Self::Value(Place::default());
                        return self.push(value);
                    }
                    _ => {
                        *self = Self::Off;
                        return text;
                    }
                }
                String::new()
            }
        }
    }
}

/// What stands behind `{"value":`, empty where that is not over yet; `None` where it is something else.
fn behind_head(text: &str) -> Option<&str> {
    let mut rest = text;
    for part in ["{", "\"value\"", ":"] {
        rest = rest.trim_ascii_start();
        if rest.len() < part.len() {
            return part.starts_with(rest).then_some("");
        }
        rest = rest.strip_prefix(part)?;
    }
    Some(rest.trim_ascii_start())
}

impl Place {
    /// Where in `text` the value ends, if it does.
    fn end(&mut self, text: &str) -> Option<usize> {
        for (at, byte) in text.bytes().enumerate() {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => {
                        self.in_string = false;
                        if self.depth == 0 {
                            return Some(at + 1);
                        }
                    }
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                // Behind a number or a word, or the wrapper's own end.
                b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t' if self.depth == 0 => {
                    return Some(at);
                }
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
#[path = "emulate_tests.rs"]
mod tests;
