//! Why an operator's request is refused, in the words and the shape of `OpenAI`'s errors.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, StatusCode, header};
use serde_json::json;

/// The shortest text of a value that is repeated nowhere: a secret in the wrong place.
const HIDDEN: char = '"';

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

    /// `serde_json`'s words, without the values they repeat; they name an unknown field, and the
    /// known ones of which one was likely meant.
    pub fn unreadable(error: &serde_json::Error) -> Self {
        let said = error.to_string();
        // What stands in quotes is a value, and may be a key in the wrong place.
        let said = match (said.find(HIDDEN), said.rfind(HIDDEN)) {
            (Some(from), Some(to)) if to > from => {
                let before = said.get(..from).unwrap_or_default().trim_end();
                format!("{before}{}", said.get(to + 1..).unwrap_or_default())
            }
            _ => said,
        };
        // Of a body that was put together anew, the place says nothing.
        let said = said.split(" at line ").next().unwrap_or_default();
        let mut names = said.split('`').skip(1).step_by(2);
        let given = names.next();
        if !said.starts_with("unknown field") {
            return Self::invalid(given.filter(|_| said.contains("field")), sentence(said));
        }
        let known: Vec<&str> = names.collect();
        let given = given.unwrap_or_default();
        let hint = match nearest(given, &known) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("known: {}", known.join(", ")),
        };
        Self::invalid(Some(given), format!("Unknown field `{given}` ({hint})."))
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
        Refusal::unreadable(&serde_json::from_str::<Form>(body).unwrap_err())
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
        let refusal = refused(r#"{"weight": "fake-key \"` 1234", "allowed_models": []}"#);
        assert_eq!(refusal.0.message, "Invalid type: string, expected u32.");
    }
}
