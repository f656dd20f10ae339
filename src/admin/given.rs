//! What an operator sends: one JSON object, read strictly.

use axum::extract::{FromRequest, FromRequestParts, Request};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::refusal::{Answer, Refusal};
use crate::access::key::{LONGEST_NAME, is_sound_name};
use crate::config::{Rank, RateLimit};
use crate::protocol::json;

/// Objects and lists within each other; nothing an operator sends needs more.
const DEEPEST: usize = 32;

/// A JSON object.
#[derive(Debug)]
pub struct Given(pub Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for Given {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Answer<Self> {
        let is_json = is_json(request.headers());
        // Its size and time are bounded already.
        let body = Bytes::from_request(request, state).await.map_err(|_| Refusal::internal())?;
        if body.is_empty() {
            return Err(Refusal::invalid(None, "The body is missing."));
        }
        if !is_json {
            let message = "Send the body as `Content-Type: application/json`.";
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Refusal::new(status, "unsupported_media_type", message));
        }
        read(&body).map(Self)
    }
}

/// A JSON object, or nothing.
#[derive(Debug)]
pub struct Maybe(pub Given);

impl<S: Send + Sync> FromRequest<S> for Maybe {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Answer<Self> {
        let (head, body) = request.into_parts();
        let body = Bytes::from_request(Request::new(body), state).await;
        let body = body.map_err(|_| Refusal::internal())?;
        if body.is_empty() {
            return Ok(Self(Given(Map::new())));
        }
        Given::from_request(Request::from_parts(head, body.into()), state).await.map(Self)
    }
}

impl Maybe {
    /// Its `reason`, and nothing else.
    pub fn reason(self) -> Answer<Option<String>> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Form {
            reason: Option<String>,
        }
        Ok(self.0.form::<Form>()?.reason)
    }
}

/// The query, read strictly.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Answer<Self> {
        let query = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        let wrong = |said: String| {
            // The words after the colon name the member, and repeat no value.
            let said = said.split_once(": ").map_or(said.as_str(), |(_, said)| said).to_owned();
            let member = said.split_once(": ").map(|(member, _)| member);
            Refusal::invalid(member, format!("The query: {said}."))
        };
        query.map(|query| Self(query.0)).map_err(|error| wrong(error.body_text()))
    }
}

/// What stands in the places of a path.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0)).map_err(|_| Refusal::unknown_path())
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    ["application/json", "application/merge-patch+json"]
        .iter()
        .any(|known| kind.eq_ignore_ascii_case(known))
}

fn read(body: &[u8]) -> Answer<Map<String, Value>> {
    let refused = |said: String| {
        Refusal::new(StatusCode::BAD_REQUEST, "invalid_json", format!("The body is {said}."))
    };
    // A name that is given twice, bytes that are no text, and depth without end are refused here.
    json::scan(body).map_err(|error| refused(error.to_string()))?;
    let value: Map<String, Value> =
        serde_json::from_slice(body).map_err(|_| refused("not valid JSON".to_owned()))?;
    if value.values().any(|value| is_deeper(value, DEEPEST)) {
        return Err(refused(format!("nested deeper than {DEEPEST} levels")));
    }
    Ok(value)
}

fn is_deeper(value: &Value, than: usize) -> bool {
    let Some(left) = than.checked_sub(1) else { return true };
    match value {
        Value::Array(values) => values.iter().any(|value| is_deeper(value, left)),
        Value::Object(members) => members.values().any(|value| is_deeper(value, left)),
        _ => false,
    }
}

impl Given {
    /// Gives a member its present name. Both names at once must say the same.
    pub fn rename(&mut self, old: &str, new: &str) -> Answer<()> {
        let Some(value) = self.0.remove(old) else { return Ok(()) };
        if self.0.get(new).is_some_and(|present| *present != value) {
            let message = format!("`{new}` and `{old}` are the same thing: give one of them.");
            return Err(Refusal::invalid(Some(new), message));
        }
        self.0.insert(new.to_owned(), value);
        Ok(())
    }

    /// Leaves out what is only ever shown, so that what was shown can be sent back.
    pub fn without(&mut self, read_only: &[&str]) {
        self.0.retain(|name, _| !read_only.contains(&name.as_str()));
    }

    /// The id in the body, which must be that of the path.
    pub fn check_id(&mut self, id: &str) -> Answer<()> {
        match self.0.get("id") {
            Some(Value::String(given)) if given == id => {}
            None | Some(Value::Null) => {}
            Some(_) => return Err(Refusal::invalid(Some("id"), "`id` is not that of the path.")),
        }
        self.0.remove("id");
        Ok(())
    }

    /// Reads it as a form.
    pub fn form<T: DeserializeOwned>(self) -> Answer<T> {
        serde_path_to_error::deserialize(Value::Object(self.0))
            .map_err(|error| Refusal::unreadable(&error.path().to_string(), error.inner()))
    }
}

/// RFC 7396: what is null goes, objects are merged, all else takes the place of what was.
pub fn merge(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, value) in patch {
        match value {
            Value::Null => {
                target.remove(&name);
            }
            Value::Object(patch) => {
                let mut merged = match target.remove(&name) {
                    Some(Value::Object(members)) => members,
                    _ => Map::new(),
                };
                merge(&mut merged, patch);
                target.insert(name, Value::Object(merged));
            }
            value => {
                target.insert(name, value);
            }
        }
    }
}

/// An id: it stands in a path, in logs, and in the names of counters.
pub fn check_id(id: &str) -> Answer<()> {
    let is_free = !id.starts_with("file/") && ![".", ".."].contains(&id);
    if is_sound_name(id) && !id.contains(char::is_whitespace) && is_free {
        return Ok(());
    }
    let message = format!(
        "An id has 1 to {LONGEST_NAME} bytes, none of them whitespace, and is not `.`, `..` or `file/…`."
    );
    Err(Refusal::invalid(Some("id"), message))
}

/// What a key or user is called.
pub fn check_name(name: &str) -> Answer<()> {
    if is_sound_name(name) {
        return Ok(());
    }
    let message =
        format!("A name has 1 to {LONGEST_NAME} bytes, none of them a control character.");
    Err(Refusal::invalid(Some("name"), message))
}

/// A rate of which both numbers are 0, or neither.
pub fn check_rate(rate: Option<RateLimit>) -> Answer<()> {
    if rate.is_none_or(RateLimit::is_sound) {
        return Ok(());
    }
    let message = "Only one of the two is 0: 0 and 0 block; otherwise both are at least 1.";
    Err(Refusal::invalid(Some("rate_limit"), message))
}

/// A weight among others.
pub fn check_weight(weight: Option<u32>) -> Answer<()> {
    if weight.is_none_or(|weight| (1..=Rank::MOST_WEIGHT).contains(&weight)) {
        return Ok(());
    }
    let message = format!("`weight` must be a whole number from 1 to {}.", Rank::MOST_WEIGHT);
    Err(Refusal::invalid(Some("weight"), message))
}

/// Names and globs, of which none is empty.
pub fn check_globs(name: &str, globs: Option<&[String]>) -> Answer<()> {
    if globs.is_some_and(|globs| globs.iter().any(|glob| glob.trim().is_empty())) {
        return Err(Refusal::invalid(Some(name), format!("`{name}` holds an empty name.")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn merged(target: &Value, patch: &Value) -> Value {
        // The RFC's examples are of any values; ours are objects, so they stand in one.
        let (target, patch) = (json!({ "a": target }), json!({ "a": patch }));
        let mut target = target.as_object().unwrap().clone();
        merge(&mut target, patch.as_object().unwrap().clone());
        target.remove("a").unwrap_or(Value::Null)
    }

    #[test]
    fn the_examples_of_rfc_7396_come_out_as_written() {
        for (target, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"a": "foo"}), json!("bar"), json!("bar")),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            assert_eq!(merged(&target, &patch), result, "{target} {patch}");
        }
    }

    #[test]
    fn an_id_is_bounded_by_its_bytes() {
        // Two counters would share a name that had to be cut.
        for id in ["", "a b", "file/a", ".", "..", &"a".repeat(201), &"ä".repeat(101), "a\u{7}"] {
            assert!(check_id(id).is_err(), "{id}");
        }
        for id in ["a", &"a".repeat(200), &"ä".repeat(100), "a/b:c", "..."] {
            assert!(check_id(id).is_ok(), "{id}");
        }
        assert!(check_name("Ada Lovelace").is_ok() && check_name(&"ä".repeat(101)).is_err());
    }

    #[test]
    fn what_readers_would_read_differently_is_refused() {
        for body in
            ["", "[]", "{\"a\":1,\"a\":2}", "{\"a\":1} x", "{\"a\":1e999}", "nul", "\u{feff}{}"]
        {
            assert!(read(body.as_bytes()).is_err(), "{body}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(40), "]".repeat(40));
        assert!(read(deep.as_bytes()).is_err());
        let endless = format!("{{\"a\":{}", "[".repeat(500_000));
        assert!(read(endless.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_do_any_harm(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _refused = read(&body);
        }
    }
}
