//! The `match` of a model: which names it answers to besides exact ones.

use regex::{Regex, RegexBuilder};

use super::read::Value;

// A matcher is tried on every request, so it stays small.
const MAX_REGEX: usize = 1 << 20;
const WAYS: [&str; 5] = ["exact", "prefix", "suffix", "keyword", "regex"];

/// Which names a model answers to; the first match in file order wins.
#[derive(Debug, Clone)]
pub enum Matcher {
    /// Any of these names.
    Exact(Vec<String>),
    /// Names that begin with any of these.
    Prefix(Vec<String>),
    /// Names that end with any of these.
    Suffix(Vec<String>),
    /// Names that contain any of these.
    Keyword(Vec<String>),
    /// Names in which this finds something.
    Regex(Regex),
}

// === impl Matcher ===

impl Matcher {
    pub(super) fn read(value: Value) -> Option<Self> {
        value.section(|s| {
            s.allow(&WAYS);
            let given = WAYS.iter().filter(|way| s.has(way)).count();
            if given != 1 {
                return s.error(format!("`match` takes exactly one of `{}`", WAYS.join("`, `")));
            }
            None.or(s.read("exact", names).map(Self::Exact))
                .or(s.read("prefix", names).map(Self::Prefix))
                .or(s.read("suffix", names).map(Self::Suffix))
                .or(s.read("keyword", names).map(Self::Keyword))
                .or(s.read("regex", regex).map(Self::Regex))
        })?
    }
}

fn names(value: Value) -> Option<Vec<String>> {
    match value.node.as_text() {
        Some(name) => Some(vec![name.to_owned()]),
        None => value.some_list(Value::text),
    }
}

fn regex(value: Value) -> Option<Regex> {
    let text = value.some_text()?;
    match RegexBuilder::new(&text).size_limit(MAX_REGEX).build() {
        Ok(regex) => Some(regex),
        Err(regex::Error::CompiledTooBig(_)) => value.error("`regex` is too large"),
        Err(error) => {
            // The last line says what is wrong; those before it draw the expression.
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
            value.error(format!("`regex` is not a regular expression: {reason}"))
        }
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b))
            | (Self::Prefix(a), Self::Prefix(b))
            | (Self::Suffix(a), Self::Suffix(b))
            | (Self::Keyword(a), Self::Keyword(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}
