//! JSON schemas as Anthropic takes them.

use std::borrow::Cow;

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use crate::protocol::canonical::Json;
use crate::protocol::json::Object;

/// What a schema that constrains an answer may not have
/// (<https://docs.anthropic.com/en/docs/build-with-claude/structured-outputs>). It goes into the
/// description, where the model still reads it.
const UNENFORCED: &[&str] = &[
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "maxItems",
    "uniqueItems",
    "contains",
    "minProperties",
    "maxProperties",
    "patternProperties",
    "propertyNames",
    "dependentRequired",
    "dependentSchemas",
    "not",
    "if",
    "then",
    "else",
];

/// The formats of strings that it can hold a model to.
const FORMATS: &[&str] =
    &["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

/// A tool's schema, whose root must say that it is an object.
pub fn parameters(schema: Option<&Json>) -> Cow<'_, RawValue> {
    let Some(schema) = schema else { return Cow::Owned(empty()) };
    let Ok(mut object) = Object::parse(schema.get(), "schema") else {
        return Cow::Owned(empty());
    };
    if object.take("type").is_some_and(|kind| kind.get() == "\"object\"") {
        return Cow::Borrowed(schema);
    }
    // As text: numbers keep their spelling.
    let rest = object.text().unwrap_or_else(|| "{}".to_owned());
    let rest = rest.strip_prefix('{').unwrap_or_default();
    let comma = if rest == "}" { "" } else { "," };
    let text = format!(r#"{{"type":"object"{comma}{rest}"#);
    RawValue::from_string(text).map_or_else(|_| Cow::Borrowed(&**schema), Cow::Owned)
}

/// A schema that the model is held to: without what cannot be enforced, and with no members but
/// those it names.
pub fn enforceable(schema: &RawValue) -> Cow<'_, RawValue> {
    let Ok(value) = serde_json::from_str::<Value>(schema.get()) else {
        return Cow::Borrowed(schema);
    };
    let mut restricted = value.clone();
    restrict(&mut restricted);
    if restricted == value {
        return Cow::Borrowed(schema);
    }
    to_raw_value(&restricted).map_or_else(|_| Cow::Borrowed(schema), Cow::Owned)
}

fn empty() -> Box<RawValue> {
    let text = r#"{"type":"object","properties":{}}"#.to_owned();
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// `serde_json` bounds how deep a value can be.
fn restrict(schema: &mut Value) {
    let Some(members) = schema.as_object_mut() else { return };
    members.remove("$schema");
    for group in ["properties", "$defs", "definitions"] {
        let named = members.get_mut(group).and_then(Value::as_object_mut);
        named.into_iter().flat_map(Map::values_mut).for_each(restrict);
    }
    if let Some(items) = members.get_mut("items") {
        restrict(items);
    }
    if !members.contains_key("anyOf")
        && let Some(choices) = members.remove("oneOf")
    {
        members.insert("anyOf".to_owned(), choices);
    }
    for group in ["anyOf", "allOf"] {
        let choices = members.get_mut(group).and_then(Value::as_array_mut);
        choices.into_iter().flatten().for_each(restrict);
    }
    let removed = remove_unenforced(members);
    describe(members, &removed);
    if is_object(members) {
        members.insert("additionalProperties".to_owned(), false.into());
    }
}

fn is_object(members: &Map<String, Value>) -> bool {
    match members.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
        Some(kind) => kind == "object",
        None => members.contains_key("properties"),
    }
}

fn remove_unenforced(members: &mut Map<String, Value>) -> Vec<(&'static str, Value)> {
    let mut removed = Vec::new();
    for name in UNENFORCED {
        removed.extend(members.shift_remove(*name).map(|value| (*name, value)));
    }
    if members.get("minItems").and_then(Value::as_u64).is_some_and(|least| least > 1) {
        removed.extend(members.shift_remove("minItems").map(|value| ("minItems", value)));
    }
    let format = members.get("format").and_then(Value::as_str);
    if format.is_some_and(|format| !FORMATS.contains(&format)) {
        removed.extend(members.shift_remove("format").map(|value| ("format", value)));
    }
    removed
}

fn describe(members: &mut Map<String, Value>, removed: &[(&str, Value)]) {
    if removed.is_empty() {
        return;
    }
    let said: Vec<_> = removed.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let said = format!("{{{}}}", said.join(", "));
    let description = match members.get("description").and_then(Value::as_str) {
        Some(description) => format!("{description}\n\n{said}"),
        None => said,
    };
    members.insert("description".to_owned(), description.into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn raw(text: &str) -> Json {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn parameters_are_left_as_they_are_if_they_are_an_objects() {
        let text = r#"{ "type":"object", "properties":{"n":{"maximum":1e400}} }"#;
        let schema = raw(text);
        assert_eq!(parameters(Some(&schema)).get(), text);
    }

    #[test]
    fn parameters_say_that_they_are_an_object() {
        let none = r#"{"type":"object","properties":{}}"#;
        assert_eq!(parameters(None).get(), none);
        assert_eq!(parameters(Some(&raw("true"))).get(), none);
        assert_eq!(parameters(Some(&raw("{}"))).get(), r#"{"type":"object"}"#);
        assert_eq!(parameters(Some(&raw(r#"{"type":null}"#))).get(), r#"{"type":"object"}"#);
    }

    #[test]
    fn what_cannot_be_enforced_becomes_words() {
        let schema = raw(r##"{"$schema":"x","type":"object","properties":{
                "a":{"type":"integer","minimum":1,"description":"An a."},
                "b":{"type":"array","minItems":2,"maxItems":3,"items":{"type":"string","format":"byte"}},
                "c":{"oneOf":[{"type":["object","null"],"properties":{}},{"$ref":"#/$defs/d"}]},
                "minimum":{"type":"array","minItems":1}},
                "$defs":{"d":{"type":"string","format":"uuid","minLength":36}},
                "required":["a"]}"##);
        let restricted: Value = serde_json::from_str(enforceable(&schema).get()).unwrap();
        let wanted = json!({"type":"object","properties":{
            "a":{"type":"integer","description":"An a.\n\n{minimum: 1}"},
            "b":{"type":"array","description":"{maxItems: 3, minItems: 2}",
                "items":{"type":"string","description":"{format: \"byte\"}"}},
            "c":{"anyOf":[{"type":["object","null"],"properties":{},"additionalProperties":false},
                {"$ref":"#/$defs/d"}]},
            "minimum":{"type":"array","minItems":1}},
            "$defs":{"d":{"type":"string","format":"uuid","description":"{minLength: 36}"}},
            "required":["a"],"additionalProperties":false});
        assert_eq!(restricted, wanted);
    }
}
