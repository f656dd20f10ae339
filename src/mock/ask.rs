//! One call as the pure rooms see it: its parsed body, and the facts that come from outside (clock,
//! counter, options).

use serde_json::Value;

use super::reply::Reply;

/// A reply, or the reply that says why there is none.
pub type Outcome = Result<Reply, Reply>;

/// A call with a JSON body.
pub struct Ask {
    /// The body: an object, or null where the endpoint has none.
    pub body: Value,
    /// The model the caller named, or the mock's first.
    pub model: String,
    /// Words in a reply.
    pub words: usize,
    /// What makes this call's ids unique.
    pub serial: Serial,
    /// Seconds since 1970.
    pub now: u64,
    /// A stream is wanted as events where there is another way.
    pub events: bool,
}

impl Ask {
    /// A member of the body; a null counts as absent, as it does for every real server.
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.body.get(name).filter(|value| !value.is_null())
    }

    /// A member that must be there.
    pub fn require(&self, name: &str) -> Result<&Value, Reply> {
        self.member(name).ok_or_else(|| Reply::missing(name))
    }

    /// A member that is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.member(name)?.as_str()
    }

    /// A member that is a count.
    pub fn count(&self, name: &str) -> Option<usize> {
        self.member(name)?.as_u64().and_then(|count| usize::try_from(count).ok())
    }

    /// Whether a member is `true`.
    pub fn flag(&self, name: &str) -> bool {
        self.member(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// An id with this prefix.
    pub fn id(&self, prefix: &str) -> String {
        self.serial.id(prefix)
    }
}

/// The number of a call, and the mock it was made to: two mocks never make the same id.
#[derive(Debug, Clone, Copy)]
pub struct Serial {
    /// Taken from the clock when the mock started.
    pub mock: u32,
    /// Counts this mock's calls.
    pub call: u32,
}

impl Serial {
    /// An id with this prefix.
    pub fn id(self, prefix: &str) -> String {
        format!("{prefix}{:08x}{:08x}", self.mock, self.call)
    }
}

/// All text in a message's `content`, a prompt, or an input: a string, or parts with `text` or
/// `content` in them.
pub fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts: Vec<String> = parts.iter().map(text_of).filter(|t| !t.is_empty()).collect();
            texts.join(" ")
        }
        Value::Object(part) => {
            part.get("text").or_else(|| part.get("content")).map(text_of).unwrap_or_default()
        }
        _ => String::new(),
    }
}

/// How many tokens a text counts for: its words.
pub fn tokens_of(text: &str) -> usize {
    text.split_whitespace().count()
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::*;

    /// An ask with this body, as `app` would make it.
    pub fn ask(body: Value) -> Ask {
        let serial = Serial { mock: 1, call: 2 };
        Ask { body, model: "mock".to_owned(), words: 16, serial, now: 1_700_000_000, events: false }
    }

    #[test]
    fn text_is_found_in_strings_and_parts() {
        assert_eq!(text_of(&json!("hello")), "hello");
        let parts =
            json!([{"type": "text", "text": "see"}, {"type": "image_url"}, {"text": "this"}]);
        assert_eq!(text_of(&parts), "see this");
        assert_eq!(text_of(&json!([{"role": "user", "content": [{"text": "deep"}]}])), "deep");
        assert_eq!(text_of(&json!(null)), "");
    }

    #[test]
    fn a_null_member_is_absent() {
        let ask = ask(json!({"n": null, "stream": true}));
        assert!(ask.require("n").is_err());
        assert!(ask.flag("stream"));
    }
}
