//! The kit sections read themselves with: a value, and a map of named values.
//!
//! A reader takes a [`Value`] and gives `Some`, or reports what is wrong and gives `None`. Whoever
//! asked then goes on with a default: the mistake is on record, and a configuration with a mistake
//! is never handed out.

use super::findings::Findings;
use super::names::{self, Noun};
use super::tree::{Content, Entry, Node, Scalar};
use super::{Location, Problem};

/// One value of the file, under the name it has there.
#[derive(Clone, Copy)]
pub(super) struct Value<'a> {
    pub name: &'a str,
    pub node: &'a Node,
    pub findings: &'a Findings,
}

/// A map whose keys are known: each is read once by its name, and the others are mistakes.
pub(super) struct Section<'a> {
    pub value: Value<'a>,
    entries: &'a [Entry],
    known: Vec<&'static str>,
}

// === impl Value ===

impl<'a> Value<'a> {
    /// Where it stands.
    pub fn location(self) -> Location {
        self.node.location
    }

    /// Reads a map by its keys.
    pub fn section<T>(self, read: impl FnOnce(&mut Section<'a>) -> T) -> Option<T> {
        let entries = self.entries()?;
        let mut section = Section { value: self, entries, known: Vec::new() };
        let read = read(&mut section);
        section.report_unknown();
        Some(read)
    }

    /// Reads a map whose keys are free.
    pub fn map<T>(self, read: impl Fn(&'a Entry, Value<'a>) -> Option<T>) -> Option<Vec<T>> {
        let of = |entry: &'a Entry| {
            // Messages repeat a value's name, and nothing that came from the environment.
            let name = if entry.name.expanded { self.name } else { &entry.name.text };
            Value { name, node: &entry.value, ..self }
        };
        Some(self.entries()?.iter().filter_map(|entry| read(entry, of(entry))).collect())
    }

    /// Reads a list, item by item; items with mistakes are left out.
    pub fn list<T>(self, read: impl Fn(Value<'a>) -> Option<T>) -> Option<Vec<T>> {
        match &self.node.content {
            Content::List(items) => {
                let of = |node: &'a Node| Value { node, ..self }.given().and_then(&read);
                Some(items.iter().filter_map(of).collect())
            }
            _ => self.must_be("a list"),
        }
    }

    /// Reads a list of at least one.
    pub fn some_list<T>(self, read: impl Fn(Value<'a>) -> Option<T>) -> Option<Vec<T>> {
        let items = self.list(read)?;
        match &self.node.content {
            Content::List(written) if written.is_empty() => {
                self.error(format!("`{}` is empty", self.name))
            }
            _ => Some(items),
        }
    }

    /// Reads a list, or a single item that stands for a list of one.
    pub fn one_or_many<T>(self, read: impl Fn(Value<'a>) -> Option<T>) -> Option<Vec<T>> {
        match &self.node.content {
            Content::Scalar(_) => Some(read(self).into_iter().collect()),
            _ => self.list(read),
        }
    }

    /// Reads one of a closed set of words.
    pub fn one_of<T: Copy>(self, words: &[(&str, T)]) -> Option<T> {
        let scalar = self.scalar("one word")?;
        if let Some((_, meant)) = words.iter().find(|(word, _)| *word == scalar.text) {
            return Some(*meant);
        }
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let message = match scalar.shown() {
            Some(shown) => format!("`{}` cannot be {shown}", self.name),
            None => format!("`{}` has an unknown value", self.name),
        };
        // The nearest word is of the given one's making, so it is as secret.
        let given = if scalar.expanded { "" } else { &scalar.text };
        self.report(Problem::error(self.location(), message).hint(names::suggest(given, &words)))
    }

    /// Reads a name that others can seek.
    pub fn gives(self, noun: Noun) -> Option<String> {
        let name = self.name()?;
        let scalar = self.scalar("a name")?;
        self.findings.names.borrow_mut().give(noun, scalar, self.location());
        Some(name)
    }

    /// Reads a name that is given elsewhere in the file.
    pub fn seeks(self, noun: Noun) -> Option<String> {
        let name = self.name()?;
        let scalar = self.scalar("a name")?;
        self.findings.names.borrow_mut().seek(noun, scalar, self.location());
        Some(name)
    }

    /// The scalar itself; `wanted` says what is missing when it is not one.
    pub fn scalar(self, wanted: &str) -> Option<&'a Scalar> {
        match &self.node.content {
            Content::Scalar(scalar) => Some(scalar),
            _ => self.must_be(wanted),
        }
    }

    /// The value, unless nothing was written: for that is a mistake, and often one line too few.
    pub fn given(self) -> Option<Self> {
        if self.node.is_null() {
            return self.error(format!("`{}` has no value", self.name));
        }
        Some(self)
    }

    /// Reports that it is not what it has to be.
    pub fn must_be<T>(self, wanted: &str) -> Option<T> {
        let problem = self.must_be_problem(wanted)?;
        self.report(problem)
    }

    /// Reports that it is not what it has to be, and what to do about it.
    pub fn must_be_hint<T>(self, wanted: &str, hint: impl Into<String>) -> Option<T> {
        let problem = self.must_be_problem(wanted)?;
        self.report(problem.hint(hint))
    }

    /// Reports a mistake in it.
    pub fn error<T>(self, message: impl Into<String>) -> Option<T> {
        self.report(Problem::error(self.location(), message))
    }

    /// Reports something that is likely not as meant.
    pub fn warn(self, message: impl Into<String>) {
        self.findings.report(Problem::warning(self.location(), message));
    }

    /// Reports a problem; gives `None`, as a reader has to after that.
    pub fn report<T>(self, problem: Problem) -> Option<T> {
        self.findings.report(problem);
        None
    }

    fn entries(self) -> Option<&'a [Entry]> {
        match &self.node.content {
            Content::Map(entries) => Some(entries),
            _ => self.must_be("a map of keys and values"),
        }
    }

    fn must_be_problem(self, wanted: &str) -> Option<Problem> {
        let found = match &self.node.content {
            Content::Unknown => return None,
            Content::List(_) => ", not a list".to_owned(),
            Content::Map(_) => ", not a map".to_owned(),
            Content::Scalar(scalar) => match scalar.shown() {
                Some(shown) => format!(", not {shown}"),
                None => String::new(),
            },
        };
        let subject = if self.name.is_empty() { "the file" } else { &format!("`{}`", self.name) };
        Some(Problem::error(self.location(), format!("{subject} must be {wanted}{found}")))
    }
}

// === impl Section ===

impl<'a> Section<'a> {
    /// Where it stands.
    pub fn location(&self) -> Location {
        self.value.location()
    }

    /// Reads a key that may be absent.
    pub fn read<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Value<'a>) -> Option<T>,
    ) -> Option<T> {
        read(self.take(name)?.given()?)
    }

    /// Reads a key that must be there.
    pub fn require<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Value<'a>) -> Option<T>,
    ) -> Option<T> {
        match self.take(name) {
            Some(value) => read(value.given()?),
            None => self.error(format!("`{name}` is missing{}", self.inside())),
        }
    }

    /// Reads a key whose value may be `off` (or `0`), which is `None` then.
    pub fn switch<T>(
        &mut self,
        name: &'static str,
        default: Option<T>,
        read: impl FnOnce(Value<'a>) -> Option<T>,
    ) -> Option<T> {
        let Some(value) = self.take(name).and_then(Value::given) else { return default };
        match value.node.as_text() {
            Some("off" | "0") => None,
            _ => read(value).or(default),
        }
    }

    /// The value of a key as it stands, even when nothing was written.
    pub fn take(&mut self, name: &'static str) -> Option<Value<'a>> {
        self.known.push(name);
        let entry = self.entries.iter().find(|entry| entry.name.text == name)?;
        Some(Value { name, node: &entry.value, ..self.value })
    }

    /// Lets keys be there unread.
    pub fn allow(&mut self, names: &[&'static str]) {
        self.known.extend(names);
    }

    /// Whether a key is there.
    pub fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.name.text == name)
    }

    /// Where a key's value stands, or the section when it is absent.
    pub fn location_of(&self, name: &str) -> Location {
        let entry = self.entries.iter().find(|entry| entry.name.text == name);
        entry.map_or(self.location(), |entry| entry.value.location)
    }

    /// Reports a mistake that is none of a single key.
    pub fn error<T>(&self, message: impl Into<String>) -> Option<T> {
        self.value.error(message)
    }

    fn report_unknown(&self) {
        let unknown = |entry: &&Entry| !self.known.contains(&entry.name.text.as_str());
        for Entry { name, location, .. } in self.entries.iter().filter(unknown) {
            if self.value.findings.is_full() {
                return;
            }
            let problem = match name.shown() {
                Some(shown) => format!("unknown key {shown}{}", self.inside()),
                None => format!("unknown key{}", self.inside()),
            };
            let given = if name.expanded { "" } else { &name.text };
            let hint = names::suggest(given, &self.known);
            self.value.findings.report(Problem::error(*location, problem).hint(hint));
        }
    }

    fn inside(&self) -> String {
        match self.value.name {
            "" => String::new(),
            name => format!(" in `{name}`"),
        }
    }
}
