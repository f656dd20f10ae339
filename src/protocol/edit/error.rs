//! Errors that an upstream puts into a stream it has answered `200` to.

use crate::protocol::json::cursor::{Cursor, Fault};
use crate::protocol::json::text::unquote;
use bytes::Bytes;

/// An error object that came as an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamError {
    /// The HTTP status it stands for, where it says so: by number (`code`, `status`,
    /// `status_code`), else by the name of its type or code.
    pub status: Option<u16>,
    /// The event's data: the JSON as the upstream wrote it.
    pub body: Bytes,
}

impl StreamError {
    /// Reads an event's data; `None` when it tells of no error.
    ///
    /// `{"error":{…}}` as `OpenAI`, Anthropic and vLLM write it, `{"error":"…"}` (TGI), and the flat
    /// `{"object":"error",…}` (`SGLang`).
    pub fn read(data: &Bytes) -> Option<Self> {
        let mut cursor = Cursor::new(std::str::from_utf8(data).ok()?);
        let mut signs = Signs::default();
        signs.object(&mut cursor, true).ok()?;
        let status = signs.number.or(signs.name);
        signs.error.then(|| Self { status, body: data.clone() })
    }
}

/// What was found in an error object.
#[derive(Default)]
struct Signs {
    error: bool,
    number: Option<u16>,
    name: Option<u16>,
}

impl Signs {
    fn object(&mut self, cursor: &mut Cursor, outer: bool) -> Result<(), Fault> {
        cursor.object(|cursor, key| {
            let name = unquote(cursor.slice(&key));
            let first = cursor.peek();
            if outer && name == "error" && first == b'{' {
                self.error = true;
                return self.object(cursor, false);
            }
            let value = cursor.skip()?;
            let value = unquote(cursor.slice(&value));
            match &*name {
                "error" if outer && first == b'"' => self.error = true,
                "object" | "type" if outer && value == "error" => self.error = true,
                "code" | "status" | "status_code" | "type" => {
                    self.number = self.number.or_else(|| status_of_number(&value));
                    self.name = self.name.or_else(|| status_of_name(&value));
                }
                _ => {}
            }
            Ok(())
        })?;
        Ok(())
    }
}

fn status_of_number(value: &str) -> Option<u16> {
    value.parse().ok().filter(|status| (400..=599).contains(status))
}

/// The names of `OpenAI`, Anthropic and vLLM.
fn status_of_name(value: &str) -> Option<u16> {
    Some(match value {
        "invalid_request_error" | "BadRequestError" | "Bad Request" => 400,
        "authentication_error" | "invalid_api_key" | "AuthenticationError" => 401,
        "billing_error" => 402,
        "permission_error" | "PermissionDeniedError" => 403,
        "not_found_error" | "model_not_found" | "NotFoundError" => 404,
        "request_too_large" => 413,
        "rate_limit_error"
        | "rate_limit_exceeded"
        | "insufficient_quota"
        | "RateLimitError"
        | "requests"
        | "tokens" => 429,
        "server_error" | "api_error" | "InternalServerError" => 500,
        "service_unavailable_error" | "server_is_overloaded" | "Service Unavailable" => 503,
        "timeout_error" | "timeout" => 504,
        "overloaded_error" => 529,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The status, or 0 for an error that tells none; `None` for no error.
    fn status(data: &'static str) -> Option<u16> {
        let error = StreamError::read(&Bytes::from_static(data.as_bytes()));
        error.map(|error| error.status.unwrap_or(0))
    }

    #[test]
    fn the_status_is_read_from_a_number_or_a_name() {
        for (data, expected) in [
            (r#"{"error":{"type":"InternalServerError","code":503}}"#, 503),
            (r#"{"error":{"code":"401"}}"#, 401),
            (r#"{"error":{"type":"invalid_request_error","status_code":422}}"#, 422),
            (r#"{"type":"error","error":{"type":"overloaded_error"}}"#, 529),
            (r#"{"error":{"code":200,"type":"new"}}"#, 0),
        ] {
            assert_eq!(status(data), Some(expected), "{data}");
        }
    }

    #[test]
    fn an_error_has_many_shapes() {
        assert_eq!(status(r#"{"error":"overloaded","error_type":"overloaded"}"#), Some(0));
        assert_eq!(status(r#"{"object":"error","message":"x","code":400}"#), Some(400));
    }

    #[test]
    fn other_events_are_no_errors() {
        assert_eq!(status(r#"{"id":"x","error":null,"choices":[]}"#), None);
        assert_eq!(status(r#"{"type":"response.created","response":{"error":{}}}"#), None);
        assert_eq!(status("[DONE]"), None);
    }
}
