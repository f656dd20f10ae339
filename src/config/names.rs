//! Names that sections give and others seek: given once, sought only when given.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use super::findings::Findings;
use super::tree::Scalar;
use super::{Location, Problem, dynamic};

// Beyond this many the nearest is not looked for: it would take longer than reading the file.
const MAX_COMPARED: usize = 1_000;
const MAX_LISTED: usize = 12;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Noun {
    Provider,
    /// Aliases are names of their model.
    Model,
    Key,
    /// A group of models with a quota.
    Group,
    Price,
}

/// Names given and sought while sections were read.
#[derive(Debug, Default)]
pub(super) struct Names {
    given: Vec<Name>,
    sought: Vec<Name>,
}

#[derive(Debug)]
struct Name {
    noun: Noun,
    scalar: Scalar,
    location: Location,
}

// === impl Noun ===

impl Noun {
    fn word(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Model => "model",
            Self::Key => "key",
            Self::Group => "group",
            Self::Price => "price of",
        }
    }
}

// === impl Names ===

impl Names {
    /// Notes that something is called this.
    pub fn give(&mut self, noun: Noun, scalar: &Scalar, location: Location) {
        self.given.push(Name { noun, scalar: scalar.clone(), location });
    }

    /// Notes that something is asked for by this name.
    pub fn seek(&mut self, noun: Noun, scalar: &Scalar, location: Location) {
        self.sought.push(Name { noun, scalar: scalar.clone(), location });
    }

    /// Reports names given twice, and names sought but not given.
    pub fn check(&self, findings: &Findings) {
        let mut known: BTreeMap<(Noun, &str), Location> = BTreeMap::new();
        for name in &self.given {
            match known.entry(name.id()) {
                Slot::Vacant(slot) => drop(slot.insert(name.location)),
                Slot::Occupied(slot) => findings.report(name.duplicate(*slot.get())),
            }
        }
        for name in self.sought.iter().filter(|name| !known.contains_key(&name.id())) {
            if findings.is_full() {
                return;
            }
            findings.report(self.unknown(name));
        }
    }

    fn unknown(&self, sought: &Name) -> Problem {
        let word = sought.noun.word();
        let known = self.given.iter().filter(|name| name.noun == sought.noun);
        let known: Vec<&str> = known.filter_map(Name::showable).collect();
        let problem = Problem::error(sought.location, format!("unknown {}", sought.described()));
        if known.is_empty() {
            return problem.hint(format!("this file names no {word}"));
        }
        problem.hint(suggest(sought.showable().unwrap_or_default(), &known))
    }
}

// === impl Name ===

impl Name {
    fn id(&self) -> (Noun, &str) {
        (self.noun, &self.scalar.text)
    }

    fn showable(&self) -> Option<&str> {
        (!self.scalar.expanded).then_some(self.scalar.text.as_str())
    }

    fn described(&self) -> String {
        match self.scalar.shown() {
            Some(shown) => format!("{} {shown}", self.noun.word()),
            None => self.noun.word().to_owned(),
        }
    }

    fn duplicate(&self, first: Location) -> Problem {
        let problem = Problem::error(self.location, format!("duplicate {}", self.described()));
        problem.hint(dynamic::first_at(first))
    }
}

/// Says which of the known names was meant, or which there are.
pub(super) fn suggest(given: &str, known: &[&str]) -> String {
    if let Some(nearest) = nearest(given, known) {
        return format!("did you mean `{nearest}`?");
    }
    let listed: Vec<_> = known.iter().take(MAX_LISTED).map(|name| format!("`{name}`")).collect();
    let more = if known.len() > MAX_LISTED { ", …" } else { "" };
    format!("known: {}{more}", listed.join(", "))
}

/// The name a hurried hand most likely meant.
fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let length = given.chars().count();
    if length > 100 || known.len() > MAX_COMPARED {
        return None;
    }
    let given = given.to_ascii_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&given, &name.to_ascii_lowercase());
    let nearest = known.iter().map(|name| (distance(name), *name)).min()?;
    // One slip in three letters is a slip; more is another word.
    (nearest.0 <= (length / 3).max(1)).then_some(nearest.1)
}
