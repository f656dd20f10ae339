//! A YAML file as a tree that remembers where each part stands.
//!
//! Everything a file could use to grow beyond its size is bounded here: its length, its depth, and
//! what its aliases repeat. No part of this is recursive beyond [`MAX_DEPTH`].

use std::collections::BTreeMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span};

use super::findings::Findings;
use super::overrides::Overrides;
use super::{Location, Problem};

/// No configuration written by hand is larger; a larger one is a mistaken path.
pub(super) const MAX_BYTES: usize = 4 << 20;
const MAX_DEPTH: usize = 32;
// What aliases may repeat in all, counted as a node and its text. It stops a file of a few lines
// from growing to gigabytes, and leaves room for sharing a block among a thousand models.
const MAX_REPEATED: usize = 8 << 20;

/// One value of the file, and where it begins.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub content: Content,
    pub location: Location,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// A value that could not be made out and has been reported: nothing more is said about it.
    Unknown,
}

/// A text, and how it came about.
#[derive(Debug, Clone)]
pub(crate) struct Scalar {
    pub text: String,
    /// Without quotes, so that `null` means nothing and `20` may be a number.
    pub plain: bool,
    /// Holds something of the environment, which may be secret and is never shown.
    pub expanded: bool,
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub name: Scalar,
    pub location: Location,
    pub value: Node,
}

/// Reads another program's file, which may have merge keys (`<<`); they stay in the tree as they are.
///
/// # Errors
///
/// All that is wrong with it as YAML.
pub(crate) fn outline(text: &str) -> Result<Node, Vec<Problem>> {
    let findings = Findings::new(Overrides::default(), Vec::new());
    let tree = build(text, &findings, true);
    let problems = findings.into_problems();
    tree.filter(|_| problems.is_empty()).ok_or(problems)
}

/// Reads a file; `None` when it is not YAML at all, which is then among the findings.
pub(super) fn parse(text: &str, findings: &Findings) -> Option<Node> {
    build(text, findings, false)
}

fn build(text: &str, findings: &Findings, merges: bool) -> Option<Node> {
    if text.len() > MAX_BYTES {
        findings.report(Problem::error(Location::default(), "the file is larger than 4 MiB"));
        return None;
    }
    let mut builder = Builder { merges, ..Builder::new(findings) };
    // Event by event: the parser's own loader is recursive.
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let step = event.map_err(|error| not_yaml(&error, text));
        if let Err(problem) = step.and_then(|(event, span)| builder.event(event, span)) {
            findings.report(problem);
            return None;
        }
    }
    // A file without any value is a configuration of nothing but defaults.
    Some(builder.root.filter(|root| !root.is_null()).unwrap_or_else(Node::nothing))
}

// === impl Node ===

impl Node {
    fn nothing() -> Self {
        Self { content: Content::Map(Vec::new()), location: Location { line: 1, column: 1 } }
    }

    /// Whether nothing was written where a value belongs.
    pub fn is_null(&self) -> bool {
        match &self.content {
            Content::Scalar(scalar) => scalar.is_null(),
            _ => false,
        }
    }

    /// The text, when it is one.
    pub fn as_text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// A key of this map, with its value.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        let Content::Map(entries) = &self.content else { return None };
        entries.iter().find(|entry| entry.name.text == name)
    }

    /// Reports keys that are given twice, here and below.
    pub(super) fn report_duplicates(&self, findings: &Findings) {
        match &self.content {
            Content::Scalar(_) | Content::Unknown => {}
            Content::List(items) => items.iter().for_each(|item| item.report_duplicates(findings)),
            Content::Map(entries) => {
                let mut seen = BTreeMap::new();
                for entry in entries {
                    let name = entry.name.text.as_str();
                    if let Some(first) = seen.insert(name, entry.location) {
                        findings.report(duplicate_key(entry, first));
                    }
                    entry.value.report_duplicates(findings);
                }
            }
        }
    }

    /// How deep it goes and how much it holds.
    fn measure(&self) -> (usize, usize) {
        let below: Vec<_> = match &self.content {
            Content::Scalar(scalar) => vec![(0, scalar.text.len())],
            Content::Unknown => Vec::new(),
            Content::List(items) => items.iter().map(Node::measure).collect(),
            Content::Map(entries) => entries.iter().map(Entry::measure).collect(),
        };
        let depth = below.iter().map(|(depth, _)| depth + 1).max().unwrap_or(1);
        // A node is some hundred bytes of memory, whatever it holds.
        (depth, below.iter().map(|(_, size)| size).sum::<usize>() + 100)
    }
}

// === impl Scalar ===

impl Scalar {
    /// Whether it means that nothing was written.
    pub fn is_null(&self) -> bool {
        let nothing = matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL");
        self.plain && !self.expanded && nothing
    }

    /// The text in backticks, if it may be shown.
    pub fn shown(&self) -> Option<String> {
        let short = self.text.chars().count() <= 60;
        let showable = short && !self.expanded && !self.text.chars().any(char::is_control);
        showable.then(|| format!("`{}`", self.text))
    }
}

// === impl Entry ===

impl Entry {
    /// A key that has no items yet.
    pub fn empty_list(name: &str, location: Location) -> Self {
        let name = Scalar { text: name.to_owned(), plain: true, expanded: false };
        Self { name, location, value: Node { content: Content::List(Vec::new()), location } }
    }

    fn measure(&self) -> (usize, usize) {
        let (depth, size) = self.value.measure();
        (depth, size + self.name.text.len() + 100)
    }
}

// === Builder ===

/// Puts a tree together from the parser's events.
struct Builder<'a> {
    findings: &'a Findings,
    /// Whether merge keys are kept, and no mistake.
    merges: bool,
    open: Vec<Open>,
    /// What each anchor stands for, with its depth and size.
    anchors: BTreeMap<usize, (Node, usize, usize)>,
    repeated: usize,
    documents: usize,
    root: Option<Node>,
}

/// A list or map whose end has not come yet.
struct Open {
    location: Location,
    anchor: usize,
    content: Unfinished,
}

enum Unfinished {
    List(Vec<Node>),
    Map(Vec<Entry>, Option<Node>),
}

impl<'a> Builder<'a> {
    fn new(findings: &'a Findings) -> Self {
        Self {
            findings,
            merges: false,
            open: Vec::new(),
            anchors: BTreeMap::new(),
            repeated: 0,
            documents: 0,
            root: None,
        }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let location = place(span.start);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => self.document(location),
            Event::Alias(anchor) => self.alias(anchor, location),
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                let scalar = Scalar { text: text.into_owned(), plain, expanded: false };
                self.refuse_tag(tag.is_some(), location);
                self.add(Node { content: Content::Scalar(scalar), location }, anchor);
                Ok(())
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), location);
                self.open(Open { location, anchor, content: Unfinished::List(Vec::new()) })
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), location);
                self.open(Open { location, anchor, content: Unfinished::Map(Vec::new(), None) })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.close();
                Ok(())
            }
        }
    }

    fn document(&mut self, location: Location) -> Result<(), Problem> {
        self.documents += 1;
        if self.documents > 1 {
            let problem = Problem::error(location, "a second YAML document begins here");
            return Err(problem.hint("a configuration is one document"));
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, location: Location) -> Result<(), Problem> {
        let Some((node, depth, size)) = self.anchors.get(&anchor) else {
            return Err(Problem::error(location, "this alias stands inside what it repeats"));
        };
        self.repeated += size;
        if self.repeated > MAX_REPEATED {
            return Err(Problem::error(location, "aliases repeat more than 8 MiB"));
        }
        if self.open.len() + depth > MAX_DEPTH {
            return Err(too_deep(location));
        }
        let node = node.clone();
        self.add(node, 0);
        Ok(())
    }

    fn refuse_tag(&self, tagged: bool, location: Location) {
        if tagged {
            let problem = Problem::error(location, "YAML tags (`!…`) have no meaning here");
            self.findings.report(problem.hint("quote a text that begins with `!`"));
        }
    }

    fn open(&mut self, open: Open) -> Result<(), Problem> {
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(open.location));
        }
        self.open.push(open);
        Ok(())
    }

    fn close(&mut self) {
        let Some(Open { location, anchor, content }) = self.open.pop() else { return };
        let content = match content {
            Unfinished::List(items) => Content::List(items),
            Unfinished::Map(entries, _) => Content::Map(entries),
        };
        self.add(Node { content, location }, anchor);
    }

    fn add(&mut self, node: Node, anchor: usize) {
        // Zero is the parser's word for no anchor.
        if anchor > 0 {
            let (depth, size) = node.measure();
            self.anchors.insert(anchor, (node.clone(), depth, size));
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Unfinished::List(items)) => items.push(node),
            Some(Unfinished::Map(entries, key)) => match key.take() {
                None => *key = Some(node),
                Some(key) => entries.extend(entry(key, node, self.findings, self.merges)),
            },
        }
    }
}

fn entry(key: Node, value: Node, findings: &Findings, merges: bool) -> Option<Entry> {
    let location = key.location;
    let Content::Scalar(name) = key.content else {
        findings.report(Problem::error(location, "a key must be text, not a list or map"));
        return None;
    };
    if name.plain && name.text == "<<" && !merges {
        let problem = Problem::error(location, "merge keys (`<<`) are not supported");
        findings.report(problem.hint("repeat a whole value with an anchor: `&name`, then `*name`"));
        return None;
    }
    Some(Entry { name, location, value })
}

fn place(marker: Marker) -> Location {
    Location { line: marker.line(), column: marker.col() + 1 }
}

fn not_yaml(error: &ScanError, text: &str) -> Problem {
    let location = place(*error.marker());
    let problem = Problem::error(location, format!("not valid YAML: {}", error.info()));
    // The most likely cause by far, and nothing in the parser's own words leads to it.
    let line = text.lines().nth(location.line.saturating_sub(1)).unwrap_or_default();
    if line.contains("${") {
        return problem.hint("quote `${…}` inside `{ }` and `[ ]`");
    }
    problem
}

fn too_deep(location: Location) -> Problem {
    Problem::error(location, format!("more than {MAX_DEPTH} levels deep"))
}

fn duplicate_key(entry: &Entry, first: Location) -> Problem {
    let message = match entry.name.shown() {
        Some(name) => format!("duplicate key {name}"),
        None => "duplicate key".to_owned(),
    };
    Problem::error(entry.location, message).hint(format!("first at line {}", first.line))
}
