//! What goes back: a status and a body, whole or as a stream of events.

use std::fmt::Write as _;

use bytes::Bytes;
use serde_json::{Value, json};

/// How most event streams end.
pub const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// An answer, before it is put on a socket.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The `content-type`.
    pub content_type: &'static str,
    /// Other headers.
    pub headers: Vec<(&'static str, String)>,
    /// What follows the head.
    pub body: Body,
}

/// A body, whole or in pieces.
#[derive(Debug, Clone)]
pub enum Body {
    /// Sent with a `content-length`.
    Whole(Bytes),
    /// Sent chunk by chunk, each chunk one event.
    Stream(Vec<Bytes>),
}

impl Reply {
    /// A body of this type.
    pub fn whole(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status: 200, content_type, headers: Vec::new(), body: Body::Whole(body.into()) }
    }

    /// A JSON body.
    pub fn json(value: &Value) -> Self {
        Self::whole("application/json", value.to_string())
    }

    /// An event stream.
    pub fn stream(events: Vec<Bytes>) -> Self {
        let content_type = "text/event-stream; charset=utf-8";
        Self { status: 200, content_type, headers: Vec::new(), body: Body::Stream(events) }
    }

    /// A refusal in the common shape, with vLLM's numeric code.
    pub fn refusal(status: u16, kind: &str, message: &str, param: Option<&str>) -> Self {
        let error = json!({"message": message, "type": kind, "param": param, "code": status});
        Self { status, ..Self::json(&json!({"error": error})) }
    }

    /// A request that cannot be understood.
    pub fn bad_request(message: &str, param: Option<&str>) -> Self {
        Self::refusal(400, "BadRequestError", message, param)
    }

    /// A request without a member it must have.
    pub fn missing(name: &str) -> Self {
        Self::bad_request(&format!("Field required: {name}"), Some(name))
    }

    /// A path that does not exist.
    pub fn no_such_path() -> Self {
        Self { status: 404, ..Self::json(&json!({"detail": "Not Found"})) }
    }

    /// A thing of the caller's that does not exist.
    pub fn no_such(what: &str, id: &str) -> Self {
        Self::refusal(404, "NotFoundError", &format!("No such {what}: {id}"), Some("id"))
    }

    /// A path that exists, asked in the wrong way.
    pub fn wrong_method(allow: String) -> Self {
        let refusal = json!({"detail": "Method Not Allowed"});
        Self { status: 405, headers: vec![("allow", allow)], ..Self::json(&refusal) }
    }
}

/// One event: `data:` and a line of JSON.
pub fn event(data: &Value) -> Bytes {
    Bytes::from(format!("data: {data}\n\n"))
}

/// One event with a name, which is also its `type` member.
pub fn named_event(data: &Value) -> Bytes {
    let name = data.get("type").and_then(Value::as_str).unwrap_or("message");
    let mut text = String::with_capacity(256);
    // Writing to a string cannot fail.
    let _ = write!(text, "event: {name}\ndata: {data}\n\n");
    Bytes::from(text)
}

/// A list of things, the last of which is the last there is.
pub fn list(data: &[Value]) -> Value {
    let id = |thing: Option<&Value>| thing.and_then(|thing| thing.get("id")).cloned();
    let (first, last) = (id(data.first()), id(data.last()));
    json!({"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": false})
}

#[cfg(test)]
impl Reply {
    /// The body as JSON, for tests.
    pub fn value(&self) -> Value {
        let Body::Whole(body) = &self.body else { panic!("a stream: {:?}", self.body) };
        serde_json::from_slice(body).unwrap()
    }

    /// The events' data as JSON, without `[DONE]`, for tests.
    pub fn events(&self) -> Vec<Value> {
        let Body::Stream(events) = &self.body else { panic!("no stream: {:?}", self.body) };
        let data = |event: &Bytes| {
            let text = String::from_utf8(event.to_vec()).unwrap();
            let data =
                text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap().to_owned();
            (data != "[DONE]").then(|| serde_json::from_str(&data).unwrap())
        };
        events.iter().filter_map(data).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_named_after_its_type() {
        let event = named_event(&json!({"type": "message_stop"}));
        assert_eq!(event, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    }

    #[test]
    fn a_refusal_names_the_parameter() {
        let refusal = Reply::missing("messages");
        assert_eq!(refusal.status, 400);
        assert_eq!(refusal.value().pointer("/error/param"), Some(&json!("messages")));
    }
}
