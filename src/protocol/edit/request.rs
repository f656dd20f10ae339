//! The edits of a request: its model, its caps, and what the configuration adds to it.

use super::history;
use crate::config::{RequestEdits, ThinkingHistory};
use crate::protocol::Operation;
use crate::protocol::json::cursor::{Cursor, Fault};
use crate::protocol::json::scan::{Members, ScanError, WrongType, scan, scan_within};
use crate::protocol::json::splice::Splice;
use crate::protocol::json::text::{quote, unquote};
use bytes::Bytes;
use std::borrow::Cow;

/// The edits of one attempt.
#[derive(Clone, Copy, Debug)]
pub struct Edits<'a> {
    /// The name the target knows the model by; `None` leaves the client's.
    pub model: Option<&'a str>,
    /// What the configuration asks for.
    pub request: &'a RequestEdits,
    /// Ask the upstream for usage in a stream.
    pub include_usage: bool,
    /// The member that caps a chat whose client set no cap.
    pub chat_cap: ChatCap,
}

/// What a provider calls the cap of a chat's output. It takes either from a client that knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChatCap {
    /// `max_tokens`, which every server knows.
    MaxTokens,
    /// `max_completion_tokens`: `OpenAI`'s reasoning models refuse the older name
    /// (<https://platform.openai.com/docs/api-reference/chat/create>).
    MaxCompletionTokens,
}

/// Why a request cannot be edited, for the client: its own member is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// `invalid_request`, status 400.
    #[error("{message}")]
    InvalidRequest {
        /// The member.
        param: String,
        /// What is wrong with it, naming it.
        message: String,
    },
}

/// The edits of one attempt as splices of the original body; `members` are those of `body`.
///
/// - `model` is replaced, or inserted when there is none.
/// - `max_tokens` caps the member the client used, or is inserted when it used none.
/// - `stop` goes before the client's own stops, each once.
/// - `extra_body` adds the members that the client did not set.
/// - `thinking_history: strip` takes `<think>…</think>` out of earlier assistant messages.
/// - `include_usage` asks for usage, in streams of chat and completions only.
///
/// # Errors
/// When a member that an edit must read has the wrong type.  Members that none of the edits asked
/// for concerns are not looked at.
pub fn edit_request(
    operation: Operation,
    body: &Bytes,
    members: &Members,
    edits: &Edits,
) -> Result<Splice, EditError> {
    let mut draft = Draft {
        body,
        members,
        extra: &edits.request.extra_body,
        written: Vec::new(),
        splice: Splice::default(),
    };
    draft.model(edits.model)?;
    let places = Places::of(operation, edits.chat_cap);
    match places.within {
        None => draft.bound(&places, edits.request)?,
        Some(outer) => draft.bound_within(outer, &places, edits.request)?,
    }
    if edits.include_usage {
        draft.ask_for_usage(operation)?;
    }
    draft.add_extra();
    if edits.request.thinking_history == ThinkingHistory::Strip
        && let Some(messages) = members.find("messages")
    {
        history::strip(body, &messages.value, &mut draft.splice)?;
    }
    Ok(draft.splice)
}

/// Did the client itself ask for usage in the stream?
#[must_use]
pub fn wants_usage(body: &[u8], members: &Members) -> bool {
    let Some(member) = members.find("stream_options") else { return false };
    scan_within(body, member.value.clone())
        .is_ok_and(|options| matches!(options.boolean(body, "include_usage"), Ok(Some(true))))
}

impl EditError {
    /// The member that is not what it should be.
    #[must_use]
    pub fn param(&self) -> &str {
        let Self::InvalidRequest { param, .. } = self;
        param
    }

    /// Readers disagree on which of the two counts.
    pub(super) fn twice(param: &str, name: &str) -> Self {
        let message = format!("`{param}` has `{name}` more than once");
        Self::InvalidRequest { param: param.to_owned(), message }
    }

    fn wrong(param: &str, expected: &str) -> Self {
        let message = format!("`{param}` must be {expected}");
        Self::InvalidRequest { param: param.to_owned(), message }
    }
}

impl From<WrongType> for EditError {
    fn from(wrong: WrongType) -> Self {
        Self::wrong(&wrong.name, wrong.expected)
    }
}

/// Where a request says how long its answer may be.
struct Places {
    /// The object they stand in; the request itself if none.
    within: Option<&'static str>,
    /// Members that cap the answer; the first is written where the client used none.
    caps: &'static [&'static str],
    stop: Option<&'static str>,
}

impl Places {
    fn of(operation: Operation, chat_cap: ChatCap) -> Self {
        let (within, caps, stop): (_, &[&str], _) = match operation {
            Operation::ChatCompletions => match chat_cap {
                ChatCap::MaxTokens => {
                    (None, &["max_tokens", "max_completion_tokens"], Some("stop"))
                }
                ChatCap::MaxCompletionTokens => {
                    (None, &["max_completion_tokens", "max_tokens"], Some("stop"))
                }
            },
            Operation::Completions => (None, &["max_tokens"], Some("stop")),
            Operation::Messages | Operation::Invoke => {
                (None, &["max_tokens"], Some("stop_sequences"))
            }
            Operation::Responses => (None, &["max_output_tokens"], None),
            Operation::GenerateContent => {
                (Some("generationConfig"), &["maxOutputTokens"], Some("stopSequences"))
            }
            Operation::Converse => (Some("inferenceConfig"), &["maxTokens"], Some("stopSequences")),
            _ => (None, &[], None),
        };
        Self { within, caps, stop }
    }
}

/// A request being edited.  What `extra_body` sets counts as the client's where it set nothing.
struct Draft<'a> {
    body: &'a Bytes,
    members: &'a Members,
    extra: &'a serde_json::Map<String, serde_json::Value>,
    /// Members set by an edit that `extra_body` may name too.
    written: Vec<&'static str>,
    splice: Splice,
}

impl Draft<'_> {
    fn model(&mut self, model: Option<&str>) -> Result<(), EditError> {
        let Some(model) = model else { return Ok(()) };
        if self.members.string(self.body, "model")?.as_deref() != Some(model) {
            self.set("model", quote(model));
        }
        Ok(())
    }

    /// Caps the answer, and adds stops.
    fn bound(&mut self, places: &Places, request: &RequestEdits) -> Result<(), EditError> {
        self.cap(places.caps, request.max_tokens)?;
        self.stop(places.stop, &request.stop)
    }

    /// The same in an object of the request's.
    fn bound_within(
        &mut self,
        outer: &'static str,
        places: &Places,
        request: &RequestEdits,
    ) -> Result<(), EditError> {
        if request.max_tokens.is_none() && request.stop.is_empty() {
            return Ok(());
        }
        let wrong = || EditError::wrong(outer, "an object");
        let raw = self.given(outer).map_or_else(|| "{}".to_owned(), Cow::into_owned);
        let raw = Bytes::from(raw);
        let members = scan(&raw).map_err(|error| match error {
            ScanError::Duplicate(name) => EditError::twice(outer, &name),
            _ => wrong(),
        })?;
        let none = serde_json::Map::new();
        let (written, splice) = (Vec::new(), Splice::default());
        let mut inner = Draft { body: &raw, members: &members, extra: &none, written, splice };
        inner.bound(places, request)?;
        if !inner.splice.is_empty() {
            let bounded = String::from_utf8(inner.splice.join(&raw)).map_err(|_| wrong())?;
            self.set(outer, bounded);
        }
        Ok(())
    }

    fn cap(&mut self, names: &[&'static str], cap: Option<u64>) -> Result<(), EditError> {
        let (Some(cap), Some(&default)) = (cap, names.first()) else { return Ok(()) };
        let mut capped = false;
        for &name in names {
            let Some(raw) = self.given(name) else { continue };
            let Ok(asked) = raw.parse::<u64>() else {
                return Err(EditError::wrong(name, "a whole number that is not negative"));
            };
            capped = true;
            if asked > cap {
                self.set(name, cap.to_string());
            }
        }
        if !capped {
            self.set(default, cap.to_string());
        }
        Ok(())
    }

    fn stop(&mut self, name: Option<&'static str>, configured: &[String]) -> Result<(), EditError> {
        let Some(name) = name else { return Ok(()) };
        if configured.is_empty() {
            return Ok(());
        }
        let given = self.given(name).map(Cow::into_owned);
        let own = match &given {
            None => Vec::new(),
            Some(raw) => strings(raw)
                .ok_or_else(|| EditError::wrong(name, "a string or an array of strings"))?,
        };
        let mut stops: Vec<&str> = Vec::new();
        for stop in configured.iter().map(String::as_str).chain(own.iter().map(|own| &**own)) {
            if !stops.contains(&stop) {
                stops.push(stop);
            }
        }
        if !stops.iter().eq(own.iter()) {
            let stops: Vec<String> = stops.into_iter().map(quote).collect();
            self.set(name, format!("[{}]", stops.join(",")));
        }
        Ok(())
    }

    fn ask_for_usage(&mut self, operation: Operation) -> Result<(), EditError> {
        let streams = matches!(operation, Operation::ChatCompletions | Operation::Completions)
            && self.members.boolean(self.body, "stream")? == Some(true);
        if !streams {
            return Ok(());
        }
        let wrong = || EditError::wrong("stream_options", "an object");
        let Some(raw) = self.given("stream_options") else {
            self.set("stream_options", r#"{"include_usage":true}"#.to_owned());
            return Ok(());
        };
        let raw = Bytes::from(raw.into_owned());
        let options = scan(&raw).map_err(|error| match error {
            ScanError::Duplicate(name) => EditError::twice("stream_options", &name),
            _ => wrong(),
        })?;
        let mut splice = Splice::default();
        match options.find("include_usage") {
            None => splice.insert_member(&options, "include_usage", b"true"),
            Some(member) if raw.get(member.value.clone()) == Some(b"true") => return Ok(()),
            Some(member) => splice.replace(member.value.clone(), "true"),
        }
        let options = String::from_utf8(splice.join(&raw)).map_err(|_| wrong())?;
        self.set("stream_options", options);
        Ok(())
    }

    fn add_extra(&mut self) {
        for (name, value) in self.extra {
            if self.members.find(name).is_none() && !self.written.contains(&name.as_str()) {
                let value = value.to_string();
                self.splice.insert_member(self.members, name, value.as_bytes());
            }
        }
    }

    /// A member's JSON text, from the client or else from `extra_body`; `None` when null.
    fn given(&self, name: &str) -> Option<Cow<'_, str>> {
        let raw = match self.members.raw(self.body, name) {
            Some(raw) => Cow::Borrowed(std::str::from_utf8(raw).ok()?),
            None => Cow::Owned(self.extra.get(name)?.to_string()),
        };
        (raw != "null").then_some(raw)
    }

    fn set(&mut self, name: &'static str, value: String) {
        if let Some(member) = self.members.find(name) {
            self.splice.replace(member.value.clone(), value);
            return;
        }
        self.splice.insert_member(self.members, name, value.as_bytes());
        self.written.push(name);
    }
}

/// The strings of a JSON string or array of strings; `None` when it is neither.
fn strings(raw: &str) -> Option<Vec<Cow<'_, str>>> {
    let mut cursor = Cursor::new(raw);
    let mut strings = Vec::new();
    let mut string = |cursor: &mut Cursor| {
        if cursor.peek() != b'"' {
            return Err(Fault::Syntax { at: cursor.position(), expected: "a string" });
        }
        let span = cursor.skip()?;
        strings.push(unquote(raw.get(span).unwrap_or_default()));
        Ok(())
    };
    if cursor.peek() == b'[' { cursor.array(string).map(drop) } else { string(&mut cursor) }
        .ok()?;
    Some(strings)
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
