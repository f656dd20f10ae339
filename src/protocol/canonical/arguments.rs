//! What a tool is called with: a raw string, as models write it.

use serde_json::value::RawValue;

/// The arguments of a call as the model wrote them: not parsed, and maybe not well-formed.
pub type Arguments = String;

/// The arguments as the JSON object most dialects want: the text itself when it is one, an empty
/// object for none, and anything else as the text under `_raw`, so that nothing of it is lost.
pub fn object_or_wrapped(arguments: &str) -> Box<RawValue> {
    let text = arguments.trim();
    let text = if text.is_empty() { "{}" } else { text };
    if text.starts_with('{')
        && let Ok(object) = RawValue::from_string(text.to_owned())
    {
        return object;
    }
    let wrapped = serde_json::value::to_raw_value(&serde_json::json!({ "_raw": arguments }));
    wrapped.unwrap_or_else(|_| RawValue::NULL.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_stays_as_it_is_written() {
        let text = r#"{"n": 12345678901234567890123, "b":1, "a":2}"#;
        assert_eq!(object_or_wrapped(text).get(), text);
    }

    #[test]
    fn none_is_an_empty_object_and_what_is_none_is_kept_as_text() {
        assert_eq!(object_or_wrapped("").get(), "{}");
        assert_eq!(object_or_wrapped(" \n").get(), "{}");
        assert_eq!(object_or_wrapped("[1]").get(), r#"{"_raw":"[1]"}"#);
        assert_eq!(object_or_wrapped(r#"{"a":"#).get(), r#"{"_raw":"{\"a\":"}"#);
    }
}
