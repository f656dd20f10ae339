//! Another program's file as a tree in which every leaf is accounted for: what was taken, what was
//! listed, and, at the end, what nobody asked for.

use std::cell::Cell;
use std::collections::BTreeSet;

use super::listing::Listing;
use crate::config::{Content, Location, Node};

/// One value of the file, and whether something became of it.
#[derive(Debug)]
pub struct Item {
    /// `providers[0].api_key`
    pub path: String,
    /// Where it begins; for the value of a key, where the key stands.
    pub location: Location,
    /// Where the value itself stands: for a repeated one, where it stands first.
    origin: Location,
    shape: Shape,
    spoken_for: Cell<bool>,
}

#[derive(Debug)]
enum Shape {
    Nothing,
    Text(String),
    List(Vec<Item>),
    Map(Vec<(String, Item)>),
}

// === impl Item ===

impl Item {
    /// The whole file.
    pub fn root(node: &Node) -> Self {
        Self::new(node, String::new(), node.location)
    }

    fn new(node: &Node, path: String, location: Location) -> Self {
        let shape = match &node.content {
            Content::Scalar(scalar) if scalar.is_null() => Shape::Nothing,
            Content::Unknown => Shape::Nothing,
            Content::Scalar(scalar) => Shape::Text(scalar.text.clone()),
            Content::List(items) => {
                let of = |(index, node): (usize, &Node)| {
                    Self::new(node, format!("{path}[{index}]"), node.location)
                };
                Shape::List(items.iter().enumerate().map(of).collect())
            }
            Content::Map(_) => Shape::Map(entries(node, &path)),
        };
        Self { path, location, origin: node.location, shape, spoken_for: Cell::new(false) }
    }

    /// The value of a key, unless nothing was written there.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.entries().find(|(key, _)| *key == name).map(|(_, item)| item)
    }

    /// The text of a key, which is thereby taken.
    pub fn take(&self, name: &str) -> Option<&str> {
        self.get(name)?.taken()
    }

    /// The first of several keys that is there.
    pub fn any(&self, names: &[&str]) -> Option<&Self> {
        names.iter().find_map(|name| self.get(name))
    }

    /// The keys that have values.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Self)> {
        let entries = if let Shape::Map(entries) = &self.shape { entries.as_slice() } else { &[] };
        let given = entries.iter().filter(|(_, item)| !matches!(item.shape, Shape::Nothing));
        given.map(|(name, item)| (name.as_str(), item))
    }

    /// The items of a list; a single text stands for a list of one.
    pub fn items(&self) -> &[Self] {
        match &self.shape {
            Shape::List(items) => items,
            Shape::Text(_) => std::slice::from_ref(self),
            Shape::Nothing | Shape::Map(_) => &[],
        }
    }

    pub fn is_map(&self) -> bool {
        matches!(self.shape, Shape::Map(_))
    }

    /// The text, which is not yet taken.
    pub fn text(&self) -> Option<&str> {
        if let Shape::Text(text) = &self.shape { Some(text) } else { None }
    }

    /// The text, which is thereby taken.
    pub fn taken(&self) -> Option<&str> {
        let text = self.text()?;
        self.spoken_for.set(true);
        Some(text)
    }

    /// A whole number, which is thereby taken.
    pub fn whole(&self) -> Option<u32> {
        self.taken()?.parse().ok()
    }

    /// Notes that all of it went into the result.
    pub fn take_all(&self) {
        self.spoken_for.set(true);
        self.children().for_each(Self::take_all);
    }

    /// Notes that it has no equivalent, and why.
    pub fn list(&self, listing: &Listing, why: impl Into<String>) {
        listing.add(self.location, &self.path, why.into());
        self.take_all();
    }

    /// Notes that it was translated in one of several ways.
    pub fn decide(&self, listing: &Listing, why: impl Into<String>) {
        listing.decide(self.location, &self.path, why.into());
    }

    /// Lists what nobody asked for, each subtree once. A value that was taken where an alias repeats
    /// it is spoken for where it stands first as well.
    pub fn list_rest(&self, listing: &Listing, why: impl Fn(&str) -> String + Copy) {
        let mut known = BTreeSet::new();
        self.collect(&mut known);
        self.list_unknown(listing, &known, why);
    }

    fn collect(&self, known: &mut BTreeSet<Location>) {
        if self.spoken_for.get() {
            known.insert(self.origin);
        }
        self.children().for_each(|child| child.collect(known));
    }

    fn list_unknown(
        &self,
        listing: &Listing,
        known: &BTreeSet<Location>,
        why: impl Fn(&str) -> String + Copy,
    ) {
        if matches!(self.shape, Shape::Nothing) || known.contains(&self.origin) {
            return;
        }
        if self.is_unknown(known) {
            listing.add(self.location, &self.path, why(&self.path));
            return;
        }
        self.children().for_each(|child| child.list_unknown(listing, known, why));
    }

    /// Whether nothing in it was taken or listed.
    fn is_unknown(&self, known: &BTreeSet<Location>) -> bool {
        !known.contains(&self.origin) && self.children().all(|child| child.is_unknown(known))
    }

    fn children(&self) -> impl Iterator<Item = &Self> {
        let (list, map): (&[Self], &[(String, Self)]) = match &self.shape {
            Shape::List(items) => (items, &[]),
            Shape::Map(entries) => (&[], entries),
            Shape::Nothing | Shape::Text(_) => (&[], &[]),
        };
        list.iter().chain(map.iter().map(|(_, item)| item))
    }

    /// As JSON, for what is handed on as it is; all of it is taken.
    pub fn json(&self) -> serde_json::Value {
        use serde_json::Value;
        self.spoken_for.set(true);
        match &self.shape {
            Shape::Nothing => Value::Null,
            Shape::Text(text) => plain_json(text),
            Shape::List(items) => Value::Array(items.iter().map(Self::json).collect()),
            Shape::Map(entries) => {
                let member = |(name, item): &(String, Self)| (name.clone(), item.json());
                Value::Object(entries.iter().map(member).collect())
            }
        }
    }
}

/// What an unquoted text means in YAML. A quoted number is taken for a number as well: these files
/// have numbers where numbers belong.
fn plain_json(text: &str) -> serde_json::Value {
    use serde_json::Value;
    match text {
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => match serde_json::from_str(text) {
            Ok(Value::Number(number)) => Value::Number(number),
            _ => Value::String(text.to_owned()),
        },
    }
}

/// The entries of a map, with those of its merge keys behind its own.
fn entries(node: &Node, path: &str) -> Vec<(String, Item)> {
    let mut found: Vec<(String, Item)> = Vec::new();
    let Content::Map(entries) = &node.content else { return found };
    let is_merge = |name: &str, plain: bool| plain && name == "<<";
    for entry in entries.iter().filter(|entry| !is_merge(&entry.name.text, entry.name.plain)) {
        let name = &entry.name.text;
        let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        // The last of two equal keys counts, as in the programs these files are for; the first one
        // is listed at the end, since nobody finds it.
        let item = Item::new(&entry.value, below, entry.location);
        let place = found.iter().position(|(known, _)| known == name).unwrap_or(found.len());
        found.insert(place, (name.clone(), item));
    }
    for entry in entries.iter().filter(|entry| is_merge(&entry.name.text, entry.name.plain)) {
        let merged: Vec<&Node> = match &entry.value.content {
            Content::List(nodes) => nodes.iter().collect(),
            _ => vec![&entry.value],
        };
        for (name, item) in merged.into_iter().flat_map(|node| self::entries(node, path)) {
            if found.iter().all(|(known, _)| *known != name) {
                found.push((name, item));
            }
        }
    }
    found
}
