//! The members of one object of Google's, whose names clients spell in either of two ways.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::protocol::canonical::{Invalid, Losses};
use crate::protocol::json::{Mistyped, Object};

/// An object, and its place in the body. Members are asked for in camelCase, and found in
/// `snake_case` too, as <https://protobuf.dev/programming-guides/json/> has it.
pub struct Members<'j> {
    object: Object<'j>,
    path: String,
}

impl<'j> Members<'j> {
    /// Reads `text`, which stands at `path` (empty: the body).
    pub fn parse(text: &'j str, path: &str) -> Result<Self, Invalid> {
        let named = if path.is_empty() { "body" } else { path };
        let object = Object::parse(text, named)
            .map_err(|mistyped| Invalid::request(path, mistyped.to_string()))?;
        Ok(Self { object, path: path.to_owned() })
    }

    /// Its own place.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The place of a member.
    pub fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    pub fn has(&self, name: &str) -> bool {
        self.object.has(name)
    }

    pub fn take(&mut self, name: &str) -> Option<&'j RawValue> {
        self.object.take(name).or_else(|| self.object.take(&snake(name)?))
    }

    pub fn read<T: Deserialize<'j>>(
        &mut self,
        name: &str,
        expected: &'static str,
    ) -> Result<Option<T>, Invalid> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let read = serde_json::from_str(value.get());
        read.map(Some).map_err(|_| self.mistyped(name, expected))
    }

    pub fn string(&mut self, name: &str) -> Result<Option<String>, Invalid> {
        self.read(name, "a string")
    }

    pub fn boolean(&mut self, name: &str) -> Result<Option<bool>, Invalid> {
        self.read(name, "true or false")
    }

    pub fn number(&mut self, name: &str) -> Result<Option<f64>, Invalid> {
        self.read(name, "a number")
    }

    /// A whole number, however it is spelled: `40`, `40.0`, `"40"`.
    pub fn integer(&mut self, name: &str) -> Result<Option<i64>, Invalid> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let text = value.get().trim_matches('"');
        let integer = text.parse().ok().or_else(|| {
            let number: f64 = text.parse().ok()?;
            let whole = number.fract() == 0.0 && number.abs() < 1e15;
            #[expect(clippy::cast_possible_truncation, reason = "it was just seen to be whole")]
            whole.then_some(number as i64)
        });
        integer.map(Some).ok_or_else(|| self.mistyped(name, "a whole number"))
    }

    pub fn unsigned(&mut self, name: &str) -> Result<Option<u64>, Invalid> {
        let Some(integer) = self.integer(name)? else { return Ok(None) };
        let unsigned = u64::try_from(integer);
        let expected = "a whole number, not below 0";
        unsigned.map(Some).map_err(|_| self.mistyped(name, expected))
    }

    pub fn object(&mut self, name: &str) -> Result<Option<Self>, Invalid> {
        let Some(value) = self.take(name) else { return Ok(None) };
        Self::parse(value.get(), &self.at(name)).map(Some)
    }

    /// The elements of an array. Where protobuf has a list a lone element is taken for one.
    pub fn array(&mut self, name: &str) -> Result<Vec<&'j RawValue>, Invalid> {
        let Some(value) = self.take(name) else { return Ok(Vec::new()) };
        if !value.get().starts_with('[') {
            return Ok(vec![value]);
        }
        serde_json::from_str(value.get()).map_err(|_| self.mistyped(name, "an array"))
    }

    /// Names what nobody took.
    pub fn drop_rest(&self, losses: &mut Losses) -> Result<(), Invalid> {
        self.object.rest().try_for_each(|name| losses.drop_member(&self.at(name)))
    }

    pub fn mistyped(&self, name: &str, expected: &'static str) -> Invalid {
        let path = self.at(name);
        let message = Mistyped::new(&path, expected).to_string();
        Invalid::request(path, message)
    }
}

/// `functionCall` as `function_call`; nothing where both are the same.
fn snake(name: &str) -> Option<String> {
    if !name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut snake = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    Some(snake)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Dialect, Translation};

    #[test]
    fn both_spellings_are_found_and_the_rest_is_named_as_written() {
        let text = r#"{"topK":40.0,"max_output_tokens":"7","frobnicate_it":1,"x":null}"#;
        let mut members = Members::parse(text, "generationConfig").unwrap();
        assert_eq!(members.integer("topK"), Ok(Some(40)));
        assert_eq!(members.unsigned("maxOutputTokens"), Ok(Some(7)));
        let mut losses = Losses::new(Dialect::Gemini, Translation::Lenient);
        members.drop_rest(&mut losses).unwrap();
        assert_eq!(losses.dropped(), ["generationConfig.frobnicate_it"]);
    }

    #[test]
    fn a_wrong_type_is_named_with_its_place() {
        let mut members = Members::parse(r#"{"topK":1.5}"#, "generationConfig").unwrap();
        let Err(Invalid::Request { param, message }) = members.integer("topK") else { panic!() };
        assert_eq!(param, "generationConfig.topK");
        assert_eq!(message, "`generationConfig.topK` must be a whole number");
    }
}
