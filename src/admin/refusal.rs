//! Why an operator's request is refused, in the words and the shape of `OpenAI`'s errors.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, StatusCode, header};
use serde_json::json;

/// A refusal. No secret ever stands in its words.
#[derive(Debug)]
pub struct Refusal(Box<Words>);

#[derive(Debug)]
struct Words {
    status: StatusCode,
    code: &'static str,
    message: String,
    param: Option<String>,
    /// What is wrong with a configuration, a line for each.
    mistakes: Vec<String>,
    header: Option<(HeaderName, HeaderValue)>,
}

/// What handlers answer.
pub type Answer<T = Response> = Result<T, Refusal>;

impl Refusal {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        let words =
            Words { status, code, message, param: None, mistakes: Vec::new(), header: None };
        Self(Box::new(words))
    }

    /// The body, or a part of it, is not as it must be.
    pub fn invalid(param: Option<&str>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message).about(param)
    }

    /// The configuration would not hold with what is asked for.
    pub fn mistakes(mistakes: Vec<String>) -> Self {
        let message = format!("The configuration would not hold: {}", mistakes.join("; "));
        let mut refusal = Self::new(StatusCode::BAD_REQUEST, "invalid_configuration", message);
        refusal.0.mistakes = mistakes;
        refusal
    }

    /// A user's quota for a group of models that the configuration does not have.
    pub fn unknown_group(group: &str, known: &[&str]) -> Self {
        let hint = match nearest(group, known) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("known: {}", known.join(", ")),
        };
        let message = format!("`quotas` of the configuration has no group `{group}` ({hint}).");
        Self::invalid(Some("quotas"), message)
    }

    pub fn not_found(noun: &str, id: &str) -> Self {
        let message = format!("There is no {noun} `{id}`.");
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub fn unknown_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is nothing here.")
    }

    pub fn wrong_method(allowed: &str) -> Self {
        let message = format!("This takes only {allowed}.");
        let refusal = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
        refusal.with(HeaderValue::from_str(allowed).ok().map(|allowed| (header::ALLOW, allowed)))
    }

    /// Something by this id or name is there already.
    pub fn taken(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "already_exists", message)
    }

    pub fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// `If-Match` names another version than the one there is.
    pub fn stale(current: Option<i64>) -> Self {
        let message = match current {
            Some(version) => format!("It has been changed: its version is {version}."),
            None => "It is not there any more.".to_owned(),
        };
        Self::new(StatusCode::PRECONDITION_FAILED, "version_mismatch", message)
    }

    /// `If-Match` holds what no `ETag` of ours is.
    pub fn no_version() -> Self {
        let message = "`If-Match` holds no version: send one `ETag` as it came, in its quotes.";
        Self::new(StatusCode::PRECONDITION_FAILED, "version_mismatch", message)
    }

    pub fn no_key() -> Self {
        Self::unauthorized("Send the admin key as `Authorization: Bearer …`.")
    }

    pub fn unknown_key() -> Self {
        Self::unauthorized("The key is not known, or not in force.")
    }

    fn unauthorized(message: &str) -> Self {
        let refusal = Self::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message);
        refusal.with(Some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))))
    }

    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "not_permitted", message)
    }

    /// More than the caller may give.
    pub fn beyond(param: &str, message: impl Into<String>) -> Self {
        Self::forbidden(message).about(Some(param))
    }

    /// Too many wrong keys; `seconds` until another may be tried.
    pub fn slow_down(seconds: u64) -> Self {
        let message = "Too many wrong keys came from your address.";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", message).after(seconds)
    }

    /// The store cannot be reached.
    pub fn store_away() -> Self {
        let message = "The store cannot be reached; nothing was changed.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_away", message).after(1)
    }

    /// Somebody else is changing the store for long.
    pub fn store_busy() -> Self {
        let message = "The store is busy with another change; nothing was changed.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_busy", message).after(1)
    }

    pub fn no_store() -> Self {
        let message = "No store is configured; see `store.url`.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_away", message)
    }

    pub fn no_audit() -> Self {
        let message = "No audit is kept; see `audit`.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_away", message)
    }

    pub fn too_large(most: usize) -> Self {
        let message = format!("The body is larger than {most} bytes.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", message)
    }

    pub fn too_slow() -> Self {
        let message = "The body did not come in time.";
        Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
    }

    pub fn internal() -> Self {
        let message = "Something went wrong here.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", message)
    }

    /// `serde_json`'s words, without the values they repeat, about the member at `path`; they name an
    /// unknown field, and the known ones of which one was likely meant.
    pub fn unreadable(path: &str, error: &serde_json::Error) -> Self {
        let said = in_plain_words(&without_value(&error.to_string()));
        let path = path.trim_matches('.');
        let mut names = said.split('`').skip(1).step_by(2);
        let given = names.next();
        if said.starts_with("missing field") {
            let member = joined(path, given.unwrap_or_default());
            return Self::invalid(Some(&member), format!("`{member}` is missing."));
        }
        if !said.starts_with("unknown field") {
            if path.is_empty() {
                return Self::invalid(None, sentence(&said));
            }
            return Self::invalid(Some(path), format!("`{path}`: {said}."));
        }
        let known: Vec<&str> = names.collect();
        let given = given.unwrap_or_default();
        let hint = match nearest(given, &known) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("known: {}", known.join(", ")),
        };
        let above = path.strip_suffix(given).unwrap_or(path).trim_end_matches('.');
        let member = joined(above, given);
        Self::invalid(Some(&member), format!("Unknown field `{member}` ({hint})."))
    }

    fn after(self, seconds: u64) -> Self {
        self.with(Some((RETRY_AFTER, HeaderValue::from(seconds.max(1)))))
    }

    fn about(mut self, param: Option<&str>) -> Self {
        self.0.param = param.map(str::to_owned);
        self
    }

    fn with(mut self, header: Option<(HeaderName, HeaderValue)>) -> Self {
        self.0.header = header;
        self
    }

    fn kind(&self) -> &'static str {
        match self.0.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            500.. => "server_error",
            _ => "invalid_request_error",
        }
    }
}

impl Refusal {
    /// The whole answer.
    pub fn into_bytes(self) -> http::Response<Bytes> {
        let kind = self.kind();
        let Words { status, code, message, param, mistakes, header } = *self.0;
        let mut error = json!({ "message": message, "type": kind, "param": param, "code": code });
        if let (false, Some(members)) = (mistakes.is_empty(), error.as_object_mut()) {
            members.insert("mistakes".to_owned(), json!(mistakes));
        }
        let body = Bytes::from(json!({ "error": error }).to_string());
        let mut response = http::Response::new(body);
        *response.status_mut() = status;
        let json = HeaderValue::from_static("application/json");
        let headers = response.headers_mut();
        headers.extend([(header::CONTENT_TYPE, json)].into_iter().chain(header));
        response
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.into_bytes().map(Body::from)
    }
}

/// Without the text it repeats, which may be a key in the wrong place, and without the place, which
/// says nothing of a body that was put together anew.
fn without_value(said: &str) -> String {
    let placeless = |said: &str| said.split(" at line ").next().unwrap_or_default().to_owned();
    let Some((before, value)) = said.split_once('"') else { return placeless(said) };
    // As `Debug` writes a text: quotes within it are escaped.
    let mut escaped = false;
    let end = value.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    let after = end.and_then(|end| value.get(end + 1..)).unwrap_or_default();
    placeless(&format!("{}{after}", before.trim_end()))
}

/// Types by the names an operator has for them.
fn in_plain_words(said: &str) -> String {
    let (what, expected) = said.split_once(", expected ").unwrap_or((said, ""));
    let expected = match expected {
        "" => return said.to_owned(),
        "u64" | "u32" => "a whole number that is not negative",
        "a sequence" => "a list",
        other => other,
    };
    format!("{what}, expected {expected}")
}

fn joined(path: &str, member: &str) -> String {
    if path.is_empty() { member.to_owned() } else { format!("{path}.{member}") }
}

/// The known name a hurried hand most likely meant.
fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let length = given.chars().count();
    let distance = |name: &str| strsim::damerau_levenshtein(given, name);
    let nearest = known.iter().map(|name| (distance(name), *name)).min()?;
    (length <= 100 && nearest.0 <= (length / 3).max(1)).then_some(nearest.1)
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}.", letters.as_str())
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Form {
        #[serde(rename = "allowed_models")]
        _models: Vec<String>,
        #[serde(rename = "weight")]
        _weight: u32,
    }

    fn refused(body: &str) -> Refusal {
        let body = serde_json::from_str::<serde_json::Value>(body).unwrap();
        let error = serde_path_to_error::deserialize::<_, Form>(body).unwrap_err();
        Refusal::unreadable(&error.path().to_string(), error.inner())
    }

    #[test]
    fn an_unknown_field_is_named_with_the_one_that_was_likely_meant() {
        let refusal = refused(r#"{"alowed_models": []}"#);
        assert_eq!(refusal.0.param.as_deref(), Some("alowed_models"));
        assert!(
            refusal.0.message.contains("did you mean `allowed_models`?"),
            "{}",
            refusal.0.message
        );
        let refusal = refused(r#"{"colour": 1}"#);
        assert!(
            refusal.0.message.contains("known: allowed_models, weight"),
            "{}",
            refusal.0.message
        );
    }

    #[test]
    fn a_value_is_never_repeated() {
        for value in [r#"fake-key \"` 1234"#, r"fake-key\\", r#"\" fake-key \\\" at line"#] {
            let refusal = refused(&format!(r#"{{"weight": "{value}", "allowed_models": []}}"#));
            let said =
                "`weight`: invalid type: string, expected a whole number that is not negative.";
            assert_eq!(refusal.0.message, said, "{value}");
            assert_eq!(refusal.0.param.as_deref(), Some("weight"));
        }
    }
}
