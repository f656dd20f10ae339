//! `${NAME}`, `${NAME:-default}` and `$$` in any scalar.
//!
//! Scalars are expanded after the file has become a tree, so that a variable can never change the
//! file's structure, whatever it holds.

use std::collections::BTreeMap;

use super::Location;
use super::findings::Findings;
use super::tree::{Content, Node, Scalar};

// A long variable named a million times must not fill the memory.
const MAX_EXPANDED: usize = 16 << 20;

/// Expands every scalar of a tree; what cannot be expanded becomes unknown.
pub(super) fn expand(node: &mut Node, environment: &BTreeMap<String, String>, findings: &Findings) {
    Expander { environment, findings, room: MAX_EXPANDED }.node(node);
}

struct Expander<'a> {
    environment: &'a BTreeMap<String, String>,
    findings: &'a Findings,
    room: usize,
}

// === impl Expander ===

impl Expander<'_> {
    fn node(&mut self, node: &mut Node) {
        match &mut node.content {
            Content::Unknown => {}
            Content::List(items) => items.iter_mut().for_each(|item| self.node(item)),
            Content::Map(entries) => {
                // An entry without a name has been reported, and would be an unknown key besides.
                entries.retain_mut(|entry| self.scalar(&mut entry.name, entry.location));
                for entry in entries {
                    self.node(&mut entry.value);
                }
            }
            Content::Scalar(scalar) => {
                if !self.scalar(scalar, node.location) {
                    node.content = Content::Unknown;
                }
            }
        }
    }

    /// Whether the scalar could be expanded.
    fn scalar(&mut self, scalar: &mut Scalar, location: Location) -> bool {
        if !scalar.text.contains('$') {
            return true;
        }
        let lookup = |name: &str| self.environment.get(name).map(String::as_str);
        match expand_text(&scalar.text, self.room, lookup) {
            Ok(text) => {
                self.room -= text.len();
                scalar.expanded |= scalar.text.contains("${");
                scalar.text = text;
                true
            }
            Err(mistakes) => {
                for mistake in mistakes {
                    self.findings.error(location, mistake);
                }
                false
            }
        }
    }
}

/// Expands one text, or says everything that is wrong with it.
fn expand_text<'a>(
    text: &'a str,
    room: usize,
    lookup: impl Fn(&str) -> Option<&'a str>,
) -> Result<String, Vec<String>> {
    let mut expanded = String::with_capacity(text.len());
    let mut mistakes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        if expanded.len() > room {
            break;
        }
        expanded.push_str(before);
        if let Some(literal) = after.strip_prefix('$') {
            expanded.push('$');
            rest = literal;
        } else if let Some(inside) = after.strip_prefix('{') {
            let Some((variable, after)) = inside.split_once('}') else {
                mistakes.push("`${` without its `}`".to_owned());
                return Err(mistakes);
            };
            match substitute(variable, &lookup) {
                Ok(value) => expanded.push_str(value),
                Err(mistake) => mistakes.push(mistake),
            }
            rest = after;
        } else {
            // A dollar alone is a dollar, as at the end of a regular expression.
            expanded.push('$');
            rest = after;
        }
    }
    expanded.push_str(rest);
    if expanded.len() > room {
        mistakes.push("variables expand to more than 16 MiB".to_owned());
    }
    if mistakes.is_empty() { Ok(expanded) } else { Err(mistakes) }
}

fn substitute<'a>(
    variable: &'a str,
    lookup: impl Fn(&str) -> Option<&'a str>,
) -> Result<&'a str, String> {
    let (name, default) = match variable.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (variable, None),
    };
    if !is_name(name) || default.is_some_and(|default| default.contains("${")) {
        return Err("a variable is written `${NAME}` or `${NAME:-default}`".to_owned());
    }
    match (lookup(name), default) {
        // As in a shell: with `:-`, empty is as good as not set.
        (Some("") | None, Some(default)) => Ok(default),
        (Some(value), _) => Ok(value),
        (None, None) => Err(format!("the environment variable `{name}` is not set")),
    }
}

/// The name in a text that is exactly `${NAME}`.
pub(super) fn single_variable(text: &str) -> Option<&str> {
    text.strip_prefix("${")?.strip_suffix('}').filter(|name| is_name(name))
}

fn is_name(name: &str) -> bool {
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    letters && name.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> Result<String, Vec<String>> {
        expand_text(text, 100, |name| match name {
            "A" => Some("one"),
            "EMPTY" => Some(""),
            "RAW" => Some("${A}$$"),
            _ => None,
        })
    }

    #[test]
    fn a_variable_gives_its_value() {
        let cases = [
            ("plain", "plain"),
            ("${A}", "one"),
            ("x${A}y${A}", "xoneyone"),
            ("${A:-two}", "one"),
            ("${NOT_SET:-two}", "two"),
            ("${NOT_SET:-}", ""),
            ("${EMPTY}", ""),
            ("${EMPTY:-two}", "two"),
            ("$$", "$"),
            ("$${A}", "${A}"),
            ("^gpt-.*$", "^gpt-.*$"),
            ("$A", "$A"),
            ("${RAW}", "${A}$$"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn every_mistake_of_a_text_is_told() {
        let unset = |name| format!("the environment variable `{name}` is not set");
        assert_eq!(expand("${B} ${A} ${C}"), Err(vec![unset("B"), unset("C")]));
        assert_eq!(expand("${A"), Err(vec!["`${` without its `}`".to_owned()]));
        for wrong in ["${}", "${1A}", "${A-x}", "${A B}", "${A:-${B}}"] {
            assert!(expand(wrong).is_err(), "{wrong}");
        }
    }
}
