//! The edits of a request: its model, its caps, and what the configuration adds to it.

use super::bounds::{Places, models_own_caps, whole, wrong_object};
use super::{history, named};
use crate::config::{Dialect, RequestEdits, ThinkingHistory};
use crate::protocol::Operation;
use crate::protocol::json::cursor::{Cursor, Fault};
use crate::protocol::json::scan::{Members, WrongType, scan, scan_within};
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
    /// vLLM's `priority`, of which the lower comes first; `None` leaves the client's.
    pub priority: Option<i64>,
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
/// - `model` is replaced, or inserted when there is none and no path names it.
/// - `max_tokens` caps the member the client used, or is inserted when it used none.
/// - `stop` goes before the client's own stops, each once.
/// - `extra_body` adds the members that the client did not set.
/// - `thinking_history: strip` takes `<think>…</think>` out of earlier assistant messages.
/// - `priority` is replaced, or inserted when there is none.
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
        quoted: false,
        written: Vec::new(),
        splice: Splice::default(),
    };
    draft.model(operation, edits.model)?;
    let places = Places::of(operation, edits.chat_cap);
    draft.bound_wherever(&places, edits.request)?;
    if edits.include_usage {
        draft.ask_for_usage(operation)?;
    }
    if let Some(priority) = edits.priority {
        draft.set("priority", priority.to_string());
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

    pub(super) fn wrong(param: &str, expected: &str) -> Self {
        let message = format!("`{param}` must be {expected}");
        Self::InvalidRequest { param: param.to_owned(), message }
    }
}

impl From<WrongType> for EditError {
    fn from(wrong: WrongType) -> Self {
        Self::wrong(&wrong.name, wrong.expected)
    }
}

/// A request being edited.  What `extra_body` sets counts as the client's where it set nothing.
struct Draft<'a> {
    body: &'a Bytes,
    members: &'a Members,
    extra: &'a serde_json::Map<String, serde_json::Value>,
    /// Numbers may stand in quotes.
    quoted: bool,
    /// Members set by an edit that `extra_body` may name too.
    written: Vec<&'static str>,
    splice: Splice,
}

impl Draft<'_> {
    fn model(&mut self, operation: Operation, model: Option<&str>) -> Result<(), EditError> {
        let Some(model) = model else { return Ok(()) };
        match operation.dialect() {
            // The path names it.
            Some(Dialect::Bedrock) => return Ok(()),
            Some(Dialect::Gemini) => {
                named::rename(operation, self.body, self.members, model, &mut self.splice);
                return Ok(());
            }
            _ => {}
        }
        if self.members.string(self.body, "model")?.as_deref() != Some(model) {
            self.set("model", quote(model));
        }
        Ok(())
    }

    /// Caps the answer, and adds stops, where the dialect has them.
    fn bound_wherever(&mut self, places: &Places, request: &RequestEdits) -> Result<(), EditError> {
        let Some(&default) = places.within.first() else { return self.bound(places, request) };
        if request.max_tokens.is_none() && request.stop.is_empty() {
            return Ok(());
        }
        let given = |name: &&str| self.given(name).is_some();
        let used: Vec<&'static str> = places.within.iter().copied().filter(given).collect();
        // A server may read either of two names: both are bounded.
        for outer in used.iter().copied().chain(used.is_empty().then_some(default)) {
            self.within(outer, |inner| inner.bound(places, request))?;
        }
        let also = places.also.filter(|also| self.given(also).is_some());
        if let (Some(outer), Some(cap)) = (also, request.max_tokens) {
            self.within(outer, |inner| inner.lower(models_own_caps(), cap).map(drop))?;
        }
        Ok(())
    }

    fn bound(&mut self, places: &Places, request: &RequestEdits) -> Result<(), EditError> {
        if let (Some(cap), Some(&default)) = (request.max_tokens, places.caps.first())
            && !self.lower(places.caps, cap)?
        {
            self.set(default, cap.to_string());
        }
        self.stop(places.stop, &request.stop)
    }

    /// Edits an object of the request's.
    fn within(
        &mut self,
        outer: &'static str,
        edit: impl FnOnce(&mut Draft) -> Result<(), EditError>,
    ) -> Result<(), EditError> {
        let raw = self.given(outer).map_or_else(|| "{}".to_owned(), Cow::into_owned);
        let raw = Bytes::from(raw);
        let members = scan(&raw).map_err(|error| wrong_object(outer, &error))?;
        let none = serde_json::Map::new();
        let (written, splice) = (Vec::new(), Splice::default());
        let mut inner =
            Draft { body: &raw, members: &members, extra: &none, quoted: true, written, splice };
        edit(&mut inner)?;
        if !inner.splice.is_empty() {
            let edited = String::from_utf8(inner.splice.join(&raw))
                .map_err(|_| EditError::wrong(outer, "an object"))?;
            self.set(outer, edited);
        }
        Ok(())
    }

    /// Lowers caps that are there to `cap`; whether there are any.
    fn lower(&mut self, names: &[&'static str], cap: u64) -> Result<bool, EditError> {
        let mut any = false;
        for &name in names {
            let Some(raw) = self.given(name) else { continue };
            let asked = if self.quoted {
                whole(name, raw.as_bytes())?
            } else {
                let expected = "a whole number that is not negative";
                raw.parse().map_err(|_| EditError::wrong(name, expected))?
            };
            any = true;
            if asked > cap {
                self.set(name, cap.to_string());
            }
        }
        Ok(any)
    }

    /// Adds the configuration's stops before the client's, in each member that has some.
    fn stop(&mut self, names: &[&'static str], configured: &[String]) -> Result<(), EditError> {
        let Some(&default) = names.first().filter(|_| !configured.is_empty()) else {
            return Ok(());
        };
        let given = |name: &&str| self.given(name).is_some();
        let used: Vec<&'static str> = names.iter().copied().filter(given).collect();
        for name in used.iter().copied().chain(used.is_empty().then_some(default)) {
            self.stop_by(name, configured)?;
        }
        Ok(())
    }

    fn stop_by(&mut self, name: &'static str, configured: &[String]) -> Result<(), EditError> {
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
        let options = scan(&raw).map_err(|error| wrong_object("stream_options", &error))?;
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
