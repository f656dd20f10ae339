//! Which schemas `OpenAI` holds a model to.

use std::collections::HashSet;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Whether `strict` may be said of a schema: each object names all of its members, and requires them
/// (<https://platform.openai.com/docs/guides/structured-outputs#supported-schemas>). Anthropic's strict
/// schemas may leave members optional, which `OpenAI` refuses.
pub(in crate::protocol) fn may_be_strict(schema: &RawValue) -> bool {
    serde_json::from_str(schema.get()).is_ok_and(|schema| is_closed(&schema))
}

/// `serde_json` bounds how deep a value can be.
fn is_closed(schema: &Value) -> bool {
    let Some(members) = schema.as_object() else { return false };
    let named = ["properties", "$defs", "definitions"].iter().filter_map(|name| members.get(*name));
    let choices = ["anyOf", "allOf"].iter().filter_map(|name| members.get(*name)?.as_array());
    (!is_object(members) || requires_all(members))
        && named.filter_map(Value::as_object).flat_map(Map::values).all(is_closed)
        && choices.flatten().all(is_closed)
        && members.get("items").is_none_or(is_closed)
}

fn is_object(members: &Map<String, Value>) -> bool {
    match members.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
        Some(kind) => kind == "object",
        None => members.contains_key("properties"),
    }
}

fn requires_all(members: &Map<String, Value>) -> bool {
    let required = members.get("required").and_then(Value::as_array);
    let required: HashSet<&str> =
        required.into_iter().flatten().filter_map(Value::as_str).collect();
    let is_required = |name: &String| required.contains(name.as_str());
    let properties = members.get("properties").and_then(Value::as_object);
    members.get("additionalProperties") == Some(&Value::Bool(false))
        && properties.is_none_or(|properties| properties.keys().all(is_required))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(schema: &str) -> bool {
        may_be_strict(&RawValue::from_string(schema.to_owned()).unwrap())
    }

    #[test]
    fn a_schema_that_requires_all_of_its_members_may_be_strict() {
        assert!(may(
            r#"{"type":"object","properties":{"a":{"type":["string","null"]},"b":{"anyOf":[
                {"type":"object","properties":{},"additionalProperties":false},{"$ref":"x"}]}},
                "required":["a","b"],"additionalProperties":false}"#
        ));
    }

    #[test]
    fn one_with_an_optional_or_an_unnamed_member_may_not() {
        let optional = r#"{"type":"object","properties":{"a":{}},"additionalProperties":false}"#;
        let open = r#"{"type":"object","properties":{"a":{}},"required":["a"]}"#;
        let within = r#"{"type":"array","items":{"type":"object","properties":{}}}"#;
        assert_eq!([optional, open, within].map(may), [false; 3]);
    }
}
