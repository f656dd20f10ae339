//! A call's arguments that come in pieces, each with its place (`streamFunctionCallArguments`).

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Serialize, Serializer};

use crate::protocol::canonical::Json;

use super::answer::PartialArg;

/// The most bytes of names and values.
const MOST_BYTES: usize = 4 << 20;
/// How deep a place may lie: what reads the arguments must be able to.
const DEEPEST: usize = 64;
/// The greatest place in an array.
const GREATEST_PLACE: usize = 9_999;

/// A piece of JSON, whose numbers stay as they were written: not all of them fit what computers count in.
#[derive(Debug, Default)]
enum Node {
    #[default]
    Null,
    Bool(bool),
    Number(Json),
    Text(String),
    List(Vec<Node>),
    Object(Members),
}

/// Members in the order of their coming.
#[derive(Debug, Default)]
struct Members {
    list: Vec<(String, Node)>,
    places: HashMap<String, usize>,
}

/// Arguments under way.
#[derive(Debug)]
pub struct PartialArguments {
    root: Node,
    bytes: usize,
    /// The place of a string whose rest is to come.
    unfinished: Option<String>,
}

impl Default for PartialArguments {
    fn default() -> Self {
        Self { root: Node::Object(Members::default()), bytes: 0, unfinished: None }
    }
}

impl PartialArguments {
    /// Puts a piece into its place; what is wrong with it where it has none.
    pub fn apply(&mut self, piece: &PartialArg) -> Result<(), &'static str> {
        let path = piece.json_path.as_deref().unwrap_or("$");
        self.bytes += path.len()
            + piece.string_value.as_deref().map_or(0, str::len)
            + piece.number_value.map_or(0, |number| number.get().len());
        if self.bytes > MOST_BYTES {
            return Err("too long");
        }
        let steps = steps(path).ok_or("at a place that cannot be read")?;
        let place =
            place(&mut self.root, &steps, &mut self.bytes).ok_or("at a place that does not fit")?;
        let continues = self.unfinished.as_deref() == Some(path);
        match (&piece.string_value, place) {
            (Some(more), Node::Text(text)) if continues => text.push_str(more),
            (_, place) => *place = value(piece)?,
        }
        self.unfinished = (piece.will_continue == Some(true)).then(|| path.to_owned());
        Ok(())
    }

    pub fn into_json(self) -> String {
        serde_json::to_string(&self.root).unwrap_or_default()
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(nodes) => serializer.collect_seq(nodes),
            Self::Object(members) => {
                serializer.collect_map(members.list.iter().map(|(name, node)| (name, node)))
            }
        }
    }
}

impl Members {
    fn entry(&mut self, name: &str) -> Option<&mut Node> {
        let end = self.list.len();
        let place = self.places.get(name).copied().unwrap_or(end);
        if place == end {
            self.places.insert(name.to_owned(), end);
            self.list.push((name.to_owned(), Node::Null));
        }
        self.list.get_mut(place).map(|(_, node)| node)
    }
}

fn value(piece: &PartialArg) -> Result<Node, &'static str> {
    if let Some(text) = &piece.string_value {
        return Ok(Node::Text(text.clone()));
    }
    if let Some(number) = piece.number_value {
        let is_number = number.get().starts_with(|c: char| c == '-' || c.is_ascii_digit());
        let number = is_number.then(|| Node::Number(number.to_owned()));
        return number.ok_or("with a number that is none");
    }
    Ok(piece.bool_value.map_or(Node::Null, Node::Bool))
}

enum Step<'p> {
    Member(Cow<'p, str>),
    Place(usize),
}

/// The steps of a singular query of RFC 9535: `$.a[0]['b']`.
fn steps(path: &str) -> Option<Vec<Step<'_>>> {
    let mut rest = path.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if steps.len() == DEEPEST {
            return None;
        }
        if let Some(name) = rest.strip_prefix('.') {
            let end = name.find(['.', '[']).unwrap_or(name.len());
            let (name, behind) = name.split_at(end);
            steps.push(Step::Member(Cow::Borrowed(name)));
            rest = behind;
        } else {
            let inside = rest.strip_prefix('[')?;
            let first = inside.chars().next()?;
            let (step, behind) = if matches!(first, '\'' | '"') {
                quoted(inside.get(1..)?, first)?
            } else {
                let (digits, behind) = inside.split_once(']')?;
                let place = digits.parse().ok().filter(|place| *place <= GREATEST_PLACE)?;
                (Step::Place(place), behind)
            };
            steps.push(step);
            rest = behind;
        }
    }
    Some(steps)
}

/// A name up to its closing quote and bracket, and what is behind them.
fn quoted(text: &str, quote: char) -> Option<(Step<'_>, &str)> {
    let mut name = String::new();
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if !escaped && c == '\\' {
            escaped = true;
        } else if !escaped && c == quote {
            let behind = text.get(at + 1..)?.strip_prefix(']')?;
            return Some((Step::Member(Cow::Owned(name)), behind));
        } else {
            name.push(c);
            escaped = false;
        }
    }
    None
}

/// The value at a place, made where it is not there yet.
/// What is made before it counts as `bytes`, too.
fn place<'n>(root: &'n mut Node, steps: &[Step], bytes: &mut usize) -> Option<&'n mut Node> {
    let mut node = root;
    for step in steps {
        node = match step {
            Step::Member(name) => {
                if matches!(node, Node::Null) {
                    *node = Node::Object(Members::default());
                }
                let Node::Object(members) = node else { return None };
                members.entry(name)?
            }
            Step::Place(place) => {
                if matches!(node, Node::Null) {
                    *node = Node::List(Vec::new());
                }
                let Node::List(nodes) = node else { return None };
                if nodes.len() <= *place {
                    *bytes += (place + 1 - nodes.len()) * size_of::<Node>();
                    nodes.resize_with(place + 1, Node::default);
                }
                nodes.get_mut(*place)?
            }
        };
    }
    Some(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assemble(pieces: &str) -> Result<String, &'static str> {
        let pieces: Vec<PartialArg> = serde_json::from_str(pieces).unwrap();
        let mut arguments = PartialArguments::default();
        for piece in &pieces {
            arguments.apply(piece)?;
        }
        Ok(arguments.into_json())
    }

    #[test]
    fn pieces_come_together_at_their_places() {
        let pieces = r#"[
            {"jsonPath":"$.location","stringValue":"Bos","willContinue":true},
            {"jsonPath":"$.location","stringValue":"ton","willContinue":true},
            {"jsonPath":"$.location","stringValue":""},
            {"jsonPath":"$.days[1].n","numberValue":2},
            {"jsonPath":"$.days[0]","nullValue":"NULL_VALUE"},
            {"jsonPath":"$['a.b']['it\\'s']","boolValue":true}]"#;
        let whole = r#"{"location":"Boston","days":[null,{"n":2}],"a.b":{"it's":true}}"#;
        assert_eq!(assemble(pieces).unwrap(), whole);
        assert_eq!(assemble("[]").unwrap(), "{}");
    }

    #[test]
    fn a_number_stays_as_it_was_written() {
        let pieces = r#"[{"jsonPath":"$.id","numberValue":12345678901234567890123},
            {"jsonPath":"$.a","numberValue":1.10},{"jsonPath":"$.b","numberValue":1e400},
            {"jsonPath":"$.c","numberValue":0.1234567890123456789}]"#;
        let whole =
            r#"{"id":12345678901234567890123,"a":1.10,"b":1e400,"c":0.1234567890123456789}"#;
        assert_eq!(assemble(pieces).unwrap(), whole);
        assemble(r#"[{"jsonPath":"$.a","numberValue":"x"}]"#).unwrap_err();
    }

    #[test]
    fn a_string_that_is_told_anew_is_replaced() {
        let pieces =
            r#"[{"jsonPath":"$.a","stringValue":"x"},{"jsonPath":"$.a","stringValue":"y"}]"#;
        assert_eq!(assemble(pieces).unwrap(), r#"{"a":"y"}"#);
    }

    #[test]
    fn arrays_do_not_grow_without_bound() {
        let piece = |n| format!(r#"{{"jsonPath":"$.a[{n}][9999]","boolValue":true}}"#);
        let pieces: Vec<_> = (0..100).map(piece).collect();
        assert_eq!(assemble(&format!("[{}]", pieces.join(","))), Err("too long"));
    }

    #[test]
    fn a_place_that_is_none_is_refused() {
        for path in ["a", "$a", "$[", "$[x]", "$['a'", "$[99999]", "$.a.b"] {
            let pieces = format!(
                r#"[{{"jsonPath":"$.a","stringValue":"x"}},{{"jsonPath":"{path}","stringValue":"y"}}]"#
            );
            assert!(assemble(&pieces).is_err(), "{path}");
        }
        let deep = format!("$.b{}", ".x".repeat(DEEPEST));
        assemble(&format!(r#"[{{"jsonPath":"{deep}","stringValue":"y"}}]"#)).unwrap_err();
    }
}
