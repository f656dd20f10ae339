//! What an import tells besides its result: what has no equivalent, what needs a decision, and which
//! variables are to be set.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Write;

use crate::config::Location;

/// Gathered while a file is translated; whoever translates shares it.
#[derive(Debug, Default)]
pub struct Listing {
    /// Words of the file, which may be the names of variables there.
    reserved: BTreeSet<String>,
    entries: RefCell<Vec<Entry>>,
    variables: RefCell<Vec<Variable>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    location: Location,
    path: String,
    why: String,
    decision: bool,
}

/// A variable the result names, which stands for a secret that was written out.
#[derive(Clone)]
struct Variable {
    name: String,
    value: String,
    location: Location,
}

// === impl Listing ===

impl Listing {
    /// For a file of this text.
    pub fn of(text: &str) -> Self {
        let word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let words = text.split(|letter| !word(letter)).filter(|word| !word.is_empty());
        Self { reserved: words.map(str::to_owned).collect(), ..Self::default() }
    }

    /// Notes what has no equivalent, or only a partial one.
    pub fn add(&self, location: Location, path: &str, why: String) {
        self.note(Entry { location, path: path.to_owned(), why, decision: false });
    }

    /// Notes what was translated in one of several ways.
    pub fn decide(&self, location: Location, path: &str, why: String) {
        self.note(Entry { location, path: path.to_owned(), why, decision: true });
    }

    fn note(&self, entry: Entry) {
        let mut entries = self.entries.borrow_mut();
        // What an anchor repeats is said once.
        if !entries.contains(&entry) {
            entries.push(entry);
        }
    }

    /// A variable for this secret; one secret has one variable.
    pub fn variable(&self, wanted: &str, value: &str, location: Location) -> String {
        let mut variables = self.variables.borrow_mut();
        if let Some(known) =
            variables.iter().find(|known| known.value == value && !value.is_empty())
        {
            return known.name.clone();
        }
        let wanted = variable_name(wanted);
        let taken = |name: &str| {
            self.reserved.contains(name) || variables.iter().any(|known| known.name == name)
        };
        let mut name = wanted.clone();
        let mut number = 2;
        while taken(&name) {
            name = format!("{wanted}_{number}");
            number += 1;
        }
        variables.push(Variable { name: name.clone(), value: value.to_owned(), location });
        name
    }

    /// Notes a variable that the file itself gives a value.
    pub fn set(&self, name: &str, location: Location) {
        let (name, value) = (name.to_owned(), String::new());
        self.variables.borrow_mut().push(Variable { name, value, location });
    }

    /// Whether anything has no equivalent.
    pub fn is_empty(&self) -> bool {
        self.entries.borrow().iter().all(|entry| entry.decision)
    }

    /// All of it, a line each, without any secret; `file` goes before each place.
    pub fn told(&self, file: &str) -> String {
        let mut entries = self.entries.borrow().clone();
        entries.sort();
        let mut told = String::new();
        for Entry { location, path, why, decision } in &entries {
            let subject = if path.is_empty() { "the file" } else { path };
            let word = if *decision { "decide: " } else { "" };
            let _ = writeln!(told, "{file}:{}: {subject}: {word}{why}", location.line);
        }
        for Variable { name, location, .. } in &*self.variables.borrow() {
            let _ = writeln!(told, "{file}:{}: set {name} to what stands here", location.line);
        }
        told
    }

    /// The variables to set, each once.
    pub fn variables(&self) -> Vec<String> {
        self.variables.borrow().iter().map(|variable| variable.name.clone()).collect()
    }
}

impl std::fmt::Debug for Variable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Variable").field(&self.name).finish()
    }
}

fn variable_name(wanted: &str) -> String {
    let mut name = String::new();
    for letter in wanted.chars() {
        match letter {
            letter if letter.is_ascii_alphanumeric() => name.push(letter.to_ascii_uppercase()),
            _ if name.ends_with('_') => {}
            _ => name.push('_'),
        }
    }
    let name = name.trim_matches('_');
    match name.bytes().next() {
        None => "SECRET".to_owned(),
        Some(first) if first.is_ascii_digit() => format!("KEY_{name}"),
        Some(_) => name.to_owned(),
    }
}
