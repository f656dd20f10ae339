//! Schemas of parameters and answers: JSON Schema, and Google's older subset of `OpenAPI`'s.
//!
//! The subset spells types in capitals, has `nullable` instead of a type `null`, and neither references
//! nor constants (<https://ai.google.dev/api/caching#Schema>).

use std::collections::HashSet;

use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value, json};

use crate::protocol::canonical::{Invalid, Json};

/// The most schemas within one that is written out without references.
const MOST: usize = 20_000;
/// How deep they may lie in each other then.
const DEEPEST: usize = 100;

/// A schema in Google's subset, or nearly in it, as JSON Schema.
pub fn to_json_schema(schema: &RawValue, path: &str) -> Result<Json, Invalid> {
    let mut value = parse(schema, path)?;
    from_subset(&mut value);
    raw(&value, path)
}

/// A JSON Schema as Google's newer members take it: all of it but `$schema`.
pub fn plain(schema: &RawValue, path: &str) -> Result<Json, Invalid> {
    if !schema.get().contains("\"$schema\"") {
        return Ok(schema.to_owned());
    }
    let mut value = parse(schema, path)?;
    if let Some(members) = value.as_object_mut() {
        members.shift_remove("$schema");
    }
    raw(&value, path)
}

/// A JSON Schema in Google's subset, for models that know only that.
pub fn to_subset(schema: &RawValue, path: &str) -> Result<Json, Invalid> {
    let value = parse(schema, path)?;
    let mut subset = Subset { root: &value, under_way: Vec::new(), left: MOST, depth: 0 };
    let written = subset.write(&value).ok_or_else(|| {
        Invalid::request(path, "the schema is too large or too deep without its references")
    })?;
    raw(&written, path)
}

/// Whether these are the parameters of a function that has none.
pub fn is_empty(schema: &RawValue) -> bool {
    let Ok(Value::Object(members)) = serde_json::from_str(schema.get()) else { return false };
    let no_members = |value: &Value| value.as_object().is_some_and(Map::is_empty);
    let is_object = members.get("type").is_none_or(|kind| kind == "object");
    let keywords = ["$ref", "anyOf", "oneOf", "allOf", "patternProperties"];
    is_object
        && members.get("properties").is_none_or(no_members)
        && !members.get("additionalProperties").is_some_and(Value::is_object)
        && !keywords.iter().any(|keyword| members.contains_key(*keyword))
}

fn parse(schema: &RawValue, path: &str) -> Result<Value, Invalid> {
    let value = serde_json::from_str::<Value>(schema.get()).ok();
    value
        .filter(Value::is_object)
        .ok_or_else(|| Invalid::request(path, format!("`{path}` must be an object")))
}

fn raw(value: &Value, path: &str) -> Result<Json, Invalid> {
    to_raw_value(value).map_err(|error| Invalid::request(path, error.to_string()))
}

fn from_subset(schema: &mut Value) {
    let Some(members) = schema.as_object_mut() else { return };
    let mut nullable = false;
    for (name, mut value) in std::mem::take(members) {
        let name = keyword(&name);
        match name {
            "type" => lower(&mut value),
            "nullable" => {
                nullable = value == true;
                continue;
            }
            // An order for the answer's members, and a word for strings with an `enum`.
            "propertyOrdering" => continue,
            "format" if value == "enum" => continue,
            "example" => {
                members.insert("examples".to_owned(), json!([value]));
                continue;
            }
            "properties" | "$defs" => {
                if let Some(properties) = value.as_object_mut() {
                    properties.values_mut().for_each(from_subset);
                }
            }
            "items" | "additionalProperties" => from_subset(&mut value),
            "anyOf" | "oneOf" | "allOf" | "prefixItems" => {
                if let Some(schemas) = value.as_array_mut() {
                    schemas.iter_mut().for_each(from_subset);
                }
            }
            // Protobuf writes 64-bit numbers as strings.
            "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties"
            | "maxProperties" => {
                let number = value.as_str().and_then(|text| text.parse::<u64>().ok());
                value = number.map_or(value, Value::from);
            }
            _ => {}
        }
        // `TYPE_UNSPECIFIED` says nothing.
        if name != "type" || !value.is_null() {
            members.insert(name.to_owned(), value);
        }
    }
    if nullable {
        allow_null(members);
    }
}

/// A keyword by JSON Schema's name, whichever way it is spelled.
fn keyword(name: &str) -> &str {
    match name {
        "any_of" => "anyOf",
        "min_items" => "minItems",
        "max_items" => "maxItems",
        "min_length" => "minLength",
        "max_length" => "maxLength",
        "min_properties" => "minProperties",
        "max_properties" => "maxProperties",
        "property_ordering" => "propertyOrdering",
        "additional_properties" => "additionalProperties",
        "prefix_items" => "prefixItems",
        "defs" => "$defs",
        "ref" => "$ref",
        _ => name,
    }
}

/// `STRING` as `string`; `null` where the type is not said.
fn lower(kind: &mut Value) {
    match kind {
        Value::String(name) if name == "TYPE_UNSPECIFIED" => *kind = Value::Null,
        Value::String(name) => name.make_ascii_lowercase(),
        Value::Array(kinds) => kinds.iter_mut().for_each(lower),
        _ => {}
    }
}

fn allow_null(members: &mut Map<String, Value>) {
    if let Some(kind) = members.get_mut("type") {
        match kind {
            Value::String(_) => *kind = json!([kind, "null"]),
            Value::Array(kinds) if !kinds.iter().any(|kind| kind == "null") => {
                kinds.push(json!("null"));
            }
            _ => {}
        }
    } else if let Some(Value::Array(schemas)) = members.get_mut("anyOf") {
        schemas.push(json!({ "type": "null" }));
    }
    if let Some(Value::Array(values)) = members.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
}

/// Writes a schema in Google's subset.
struct Subset<'s> {
    root: &'s Value,
    /// References being followed: one within itself has no form without it.
    under_way: Vec<&'s str>,
    /// How many more schemas may be written.
    left: usize,
    depth: usize,
}

impl<'s> Subset<'s> {
    fn write(&mut self, schema: &'s Value) -> Option<Value> {
        self.left = self.left.checked_sub(1)?;
        if self.depth == DEEPEST {
            return None;
        }
        self.depth += 1;
        let written = self.write_whole(schema);
        self.depth -= 1;
        written
    }

    fn write_whole(&mut self, schema: &'s Value) -> Option<Value> {
        // `true` allows anything.
        let Some(members) = schema.as_object() else { return Some(json!({})) };
        if let Some(target) = members.get("$ref").and_then(Value::as_str) {
            return self.follow(target);
        }
        let mut written = Map::new();
        for (name, value) in members {
            self.write_member(name, value, &mut written)?;
        }
        if written.get("type").is_some_and(|kind| kind == "ARRAY") {
            written.entry("items").or_insert_with(|| json!({ "type": "STRING" }));
        }
        let known = written.get("properties").and_then(Value::as_object);
        let known: HashSet<String> = known.into_iter().flat_map(Map::keys).cloned().collect();
        if let Some(Value::Array(required)) = written.get_mut("required") {
            required.retain(|name| name.as_str().is_some_and(|name| known.contains(name)));
        }
        Some(Value::Object(written))
    }

    fn write_member(
        &mut self,
        name: &str,
        value: &'s Value,
        written: &mut Map<String, Value>,
    ) -> Option<()> {
        match name {
            "type" => write_type(value, written),
            "const" => write_enum(std::slice::from_ref(value), written),
            "enum" => write_enum(value.as_array().map_or(&[][..], Vec::as_slice), written),
            "exclusiveMinimum" if value.is_number() => {
                written.entry("minimum").or_insert_with(|| value.clone());
            }
            "exclusiveMaximum" if value.is_number() => {
                written.entry("maximum").or_insert_with(|| value.clone());
            }
            "format" => {
                let known = ["date-time", "float", "double", "int32", "int64"];
                if known.iter().any(|format| value == format) {
                    written.insert(name.to_owned(), value.clone());
                }
            }
            "title" | "description" | "nullable" | "maxItems" | "minItems" | "required"
            | "minProperties" | "maxProperties" | "minLength" | "maxLength" | "pattern"
            | "minimum" | "maximum" | "default" => {
                written.insert(name.to_owned(), value.clone());
            }
            "properties" => {
                let mut properties = Map::new();
                for (name, schema) in value.as_object().into_iter().flatten() {
                    properties.insert(name.clone(), self.write(schema)?);
                }
                written.insert(name.to_owned(), Value::Object(properties));
            }
            "items" => {
                written.insert(name.to_owned(), self.write(value)?);
            }
            "anyOf" | "oneOf" => {
                let mut schemas = Vec::new();
                for schema in value.as_array().into_iter().flatten() {
                    if schema.get("type").is_some_and(|kind| kind == "null") {
                        written.insert("nullable".to_owned(), json!(true));
                    } else {
                        schemas.push(self.write(schema)?);
                    }
                }
                written.insert("anyOf".to_owned(), Value::Array(schemas));
            }
            "allOf" => {
                for schema in value.as_array().into_iter().flatten() {
                    let Value::Object(all) = self.write(schema)? else { continue };
                    merge(all, written);
                }
            }
            _ => {}
        }
        Some(())
    }

    fn follow(&mut self, target: &'s str) -> Option<Value> {
        let found = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        let Some(schema) = found.filter(|_| !self.under_way.contains(&target)) else {
            return Some(json!({ "type": "OBJECT" }));
        };
        self.under_way.push(target);
        let written = self.write(schema);
        self.under_way.pop();
        written
    }
}

fn write_type(value: &Value, written: &mut Map<String, Value>) {
    let kinds = value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
    let mut capitals: Vec<Value> = Vec::new();
    for kind in kinds.iter().filter_map(Value::as_str) {
        if kind == "null" {
            written.insert("nullable".to_owned(), json!(true));
        } else {
            capitals.push(json!(kind.to_ascii_uppercase()));
        }
    }
    if let [kind] = capitals.as_slice() {
        written.insert("type".to_owned(), kind.clone());
    } else if !capitals.is_empty() {
        let any = capitals.into_iter().map(|kind| json!({ "type": kind })).collect();
        written.insert("anyOf".to_owned(), any);
    }
}

/// Only strings can be enumerated.
fn write_enum(values: &[Value], written: &mut Map<String, Value>) {
    let mut texts = Vec::new();
    for value in values {
        match value {
            Value::Null => {
                written.insert("nullable".to_owned(), json!(true));
            }
            Value::String(text) => texts.push(json!(text)),
            other => texts.push(json!(other.to_string())),
        }
    }
    written.insert("type".to_owned(), json!("STRING"));
    written.insert("enum".to_owned(), Value::Array(texts));
}

/// What both say of members is joined; else the first counts.
fn merge(from: Map<String, Value>, into: &mut Map<String, Value>) {
    for (name, value) in from {
        match (into.get_mut(&name), value) {
            (Some(Value::Object(known)), Value::Object(more)) => known.extend(more),
            (Some(Value::Array(known)), Value::Array(more)) => known.extend(more),
            (Some(_), _) => {}
            (None, value) => {
                into.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(with: fn(&RawValue, &str) -> Result<Json, Invalid>, schema: &Value) -> Value {
        let schema = to_raw_value(schema).unwrap();
        serde_json::from_str(with(&schema, "s").unwrap().get()).unwrap()
    }

    #[test]
    fn googles_subset_becomes_json_schema() {
        let subset = json!({
            "type": "OBJECT",
            "property_ordering": ["n", "s"],
            "properties": {
                "n": { "type": "INTEGER", "format": "int32", "nullable": true },
                "s": { "type": "STRING", "format": "enum", "enum": ["a", "b"], "nullable": true },
                "l": { "type": "ARRAY", "min_items": "1", "items": { "type": "NUMBER" } },
                "any_of": { "anyOf": [{ "type": "BOOLEAN" }], "nullable": true },
                "x": { "type": "TYPE_UNSPECIFIED" },
                // Names of members are no keywords.
                "type": { "type": "STRING", "example": "X" },
            },
            "required": ["n"],
        });
        let schema = json!({
            "type": "object",
            "properties": {
                "n": { "type": ["integer", "null"], "format": "int32" },
                "s": { "type": ["string", "null"], "enum": ["a", "b", null] },
                "l": { "type": "array", "minItems": 1, "items": { "type": "number" } },
                "any_of": { "anyOf": [{ "type": "boolean" }, { "type": "null" }] },
                "x": {},
                "type": { "type": "string", "examples": ["X"] },
            },
            "required": ["n"],
        });
        assert_eq!(convert(to_json_schema, &subset), schema);
        assert_eq!(convert(to_json_schema, &schema), schema);
    }

    #[test]
    fn json_schema_becomes_googles_subset() {
        let schema = json!({
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "object",
            "additionalProperties": false,
            "$defs": { "P": { "type": "object", "properties": { "next": { "$ref": "#/$defs/P" } } } },
            "properties": {
                "p": { "$ref": "#/$defs/P" },
                "n": { "type": ["integer", "null"], "exclusiveMinimum": 0 },
                "c": { "const": 3 },
                "l": { "type": "array" },
                "u": { "oneOf": [{ "type": "string", "format": "uri" }, { "type": "null" }] },
                "a": { "allOf": [{ "type": "object", "properties": { "x": { "type": "string" } } }] },
            },
            "required": ["p", "gone"],
        });
        let subset = json!({
            "type": "OBJECT",
            "properties": {
                "p": { "type": "OBJECT", "properties": { "next": { "type": "OBJECT" } } },
                "n": { "nullable": true, "type": "INTEGER", "minimum": 0 },
                "c": { "type": "STRING", "enum": ["3"] },
                "l": { "type": "ARRAY", "items": { "type": "STRING" } },
                "u": { "nullable": true, "anyOf": [{ "type": "STRING" }] },
                "a": { "type": "OBJECT", "properties": { "x": { "type": "STRING" } } },
            },
            "required": ["p"],
        });
        assert_eq!(convert(to_subset, &schema), subset);
    }

    #[test]
    fn references_that_multiply_are_refused() {
        let mut schema = json!({ "$ref": "#/$defs/d0", "$defs": {} });
        for n in 0..40 {
            let next = json!({ "$ref": format!("#/$defs/d{}", n + 1) });
            schema["$defs"][format!("d{n}")] = json!({ "properties": { "a": next, "b": next } });
        }
        to_subset(&to_raw_value(&schema).unwrap(), "s").unwrap_err();
        for n in 0..5000 {
            schema["$defs"][format!("d{n}")] = json!({ "$ref": format!("#/$defs/d{}", n + 1) });
        }
        to_subset(&to_raw_value(&schema).unwrap(), "s").unwrap_err();
    }

    #[test]
    fn a_schema_of_the_newer_kind_passes_as_it_is_written() {
        let schema = RawValue::from_string(r#"{ "maximum": 1e400 }"#.to_owned()).unwrap();
        assert_eq!(plain(&schema, "s").unwrap().get(), schema.get());
        assert_eq!(
            convert(plain, &json!({ "$schema": "x", "type": "object" })),
            json!({ "type": "object" })
        );
    }

    #[test]
    fn parameters_of_a_function_without_any_are_told() {
        let empty = |schema: Value| is_empty(&to_raw_value(&schema).unwrap());
        assert!(empty(json!({})));
        assert!(empty(
            json!({ "type": "object", "properties": {}, "additionalProperties": false })
        ));
        assert!(!empty(json!({ "type": "object", "properties": { "a": {} } })));
        assert!(!empty(json!({ "type": "object", "additionalProperties": { "type": "string" } })));
        assert!(!empty(json!({ "$ref": "#/$defs/x" })));
    }
}
