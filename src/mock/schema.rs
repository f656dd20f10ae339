//! A value that fits a JSON schema, roughly: what the mock puts into tool calls and structured
//! answers.

use serde_json::{Map, Value, json};

/// How deep a schema is followed: recursive schemas must end somewhere.
const DEPTH: usize = 8;

/// A value that fits; texts are `text`.
pub fn example(schema: &Value, text: &str) -> Value {
    build(schema, schema, text, DEPTH)
}

fn build(schema: &Value, root: &Value, text: &str, depth: usize) -> Value {
    let Some(depth) = depth.checked_sub(1) else { return Value::Null };
    let member = |name: &str| schema.get(name).filter(|value| !value.is_null());
    let first = |name: &str| member(name).and_then(Value::as_array).and_then(|all| all.first());

    if let Some(target) = member("$ref").and_then(|link| follow(link, root)) {
        return build(target, root, text, depth);
    }
    if let Some(value) = member("const").or_else(|| member("default")).or_else(|| first("enum")) {
        return value.clone();
    }
    if let Some(option) = first("anyOf").or_else(|| first("oneOf")).or_else(|| first("allOf")) {
        return build(option, root, text, depth);
    }
    match kind(schema) {
        "object" => object(schema, root, text, depth),
        "array" => {
            let one = build(member("items").unwrap_or(&Value::Null), root, text, depth);
            let count = member("minItems").and_then(Value::as_u64).unwrap_or(1).clamp(1, 16);
            Value::Array((0..count).map(|_| one.clone()).collect())
        }
        "integer" | "number" => member("minimum").cloned().unwrap_or(json!(1)),
        "boolean" => json!(true),
        "null" => Value::Null,
        _ => json!(text),
    }
}

/// An object with its required members, or with all of them when none is required.
fn object(schema: &Value, root: &Value, text: &str, depth: usize) -> Value {
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return json!({});
    };
    let wanted = |name: &str| required.is_empty() || required.contains(&name);
    let members: Map<String, Value> = properties
        .iter()
        .filter(|(name, _)| wanted(name))
        .map(|(name, schema)| (name.clone(), build(schema, root, text, depth)))
        .collect();
    Value::Object(members)
}

/// The schema's type: the first that is not null when there are several, a guess when there is
/// none.
fn kind(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("null")
        }
        _ if schema.get("properties").is_some() => "object",
        _ if schema.get("items").is_some() => "array",
        _ => "string",
    }
}

/// What `#/$defs/name` points at.
fn follow<'a>(link: &Value, root: &'a Value) -> Option<&'a Value> {
    root.pointer(link.as_str()?.strip_prefix('#')?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_members_and_enums_are_kept() {
        let schema = json!({"type": "object", "required": ["city", "days"], "properties": {
            "city": {"type": "string", "enum": ["Paris", "Rome"]}, "days": {"type": "integer",
            "minimum": 3},
            "note": {"type": "string"}}});
        assert_eq!(example(&schema, "x"), json!({"city": "Paris", "days": 3}));
    }

    #[test]
    fn every_type_has_a_value() {
        let schema = json!({"properties": {"a": {"type": "array", "items": {"type": "number"}},
            "b": {"type": "boolean"},
            "c": {"type": ["null", "string"]}, "d": {"anyOf": [{"type": "integer"},
            {"type": "null"}]},
            "e": {"$ref": "#/$defs/e"}}, "$defs": {"e": {"const": 7}}});
        assert_eq!(example(&schema, "x"), json!({"a": [1], "b": true, "c": "x", "d": 1, "e": 7}));
    }

    #[test]
    fn a_schema_that_holds_itself_ends() {
        let schema = json!({"type": "object", "properties": {"next": {"$ref": "#"}}});
        assert!(example(&schema, "x").to_string().ends_with("null}}}}"));
    }
}
