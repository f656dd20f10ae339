//! `rules`: phrases and regular expressions over the texts of a request, and what follows from them.

use std::time::Duration;

use regex::{RegexBuilder, RegexSet, RegexSetBuilder};

use super::delay;
use crate::config::Problem;
use crate::config::read::{Section, Value};

/// What all rules together may look for.
const MOST_PATTERNS: usize = 10_000;
/// Bytes of one phrase or expression.
const LONGEST: usize = 4 << 10;
/// Bytes of one expression, compiled.
const ONE: usize = 1 << 20;
/// Bytes of all of them, compiled.
const ALL: usize = 64 << 20;
/// Bytes that one thread keeps of their automaton.
const CACHE: usize = 8 << 20;

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentRule {
    /// What it is called in logs and metrics.
    pub name: String,
    /// What follows from it.
    pub measure: Measure,
    /// Names and globs of the models it holds for; `None` is all.
    pub models: Option<Vec<String>>,
}

/// What follows from a rule, or from what a moderator says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measure {
    /// What is done.
    pub action: Action,
    /// The status of a refusal: 400 or 403.
    pub status: u16,
    /// The words of a refusal; `None` is ours.
    pub message: Option<String>,
    /// How long a request waits before it goes on.
    pub delay: Duration,
}

/// What is done with a request, from the least to the most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// It is told in the log, without its content.
    Log,
    /// It waits.
    Delay,
    /// It is refused.
    #[default]
    Refuse,
    /// It is refused, and its user is disabled: in the store, or the store's key of no user.
    Disable,
}

/// All that rules look for, compiled into one.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    set: RegexSet,
    /// To which rule each belongs.
    rules: Vec<usize>,
}

/// Reads the rules, and compiles what they look for.
pub(super) fn read(value: Value) -> Option<(Vec<ContentRule>, Patterns)> {
    let read = value.list(rule)?;
    let (mut rules, mut patterns, mut of) = (Vec::new(), Vec::new(), Vec::new());
    for (rule, looks_for) in read {
        of.extend(std::iter::repeat_n(rules.len(), looks_for.len()));
        patterns.extend(looks_for);
        rules.push(rule);
    }
    if patterns.len() > MOST_PATTERNS {
        return value.error(format!("`rules` look for more than {MOST_PATTERNS} things"));
    }
    let set = RegexSetBuilder::new(&patterns).size_limit(ALL).dfa_size_limit(CACHE).build();
    match set {
        Ok(set) => Some((rules, Patterns { set, rules: of })),
        Err(_) => value.error("`rules` are too large together"),
    }
}

fn rule(value: Value) -> Option<(ContentRule, Vec<String>)> {
    value.section(|s| {
        let name = s.require("name", Value::name);
        let phrases = s.read("phrases", |v| v.one_or_many(phrase)).unwrap_or_default();
        let expressions = s.read("regex", |v| v.one_or_many(expression)).unwrap_or_default();
        let models = s.read("models", |v| v.one_or_many(Value::glob));
        let measure = Measure::read(s);
        if !s.has("phrases") && !s.has("regex") {
            s.error::<()>("a rule needs `phrases` or a `regex`")?;
        }
        let looks_for = phrases.into_iter().chain(expressions).collect();
        Some((ContentRule { name: name?, measure, models }, looks_for))
    })?
}

/// A phrase as an expression: whole words, in letters of any case, with any white space between them.
fn phrase(value: Value) -> Option<String> {
    let text = bounded(value)?;
    let words: Vec<String> = text.split_whitespace().map(regex::escape).collect();
    if words.is_empty() {
        return value.error(format!("`{}` holds an empty phrase", value.name));
    }
    // Where words have no spaces between them, as in Chinese, a phrase may stand anywhere.
    let edge = |letter: Option<char>| {
        if letter.is_some_and(|it| it.is_ascii_alphanumeric()) { r"(?-u:\b)" } else { "" }
    };
    let text = text.trim();
    let (first, last) = (edge(text.chars().next()), edge(text.chars().next_back()));
    Some(format!("(?i){first}{}{last}", words.join(r"\s+")))
}

fn expression(value: Value) -> Option<String> {
    let text = bounded(value)?;
    match RegexBuilder::new(&text).size_limit(ONE).build() {
        Ok(regex) if regex.is_match("") => {
            value.error(format!("`{}` finds something in every text", value.name))
        }
        Ok(_) => Some(text),
        Err(regex::Error::CompiledTooBig(_)) => {
            value.error(format!("`{}` is too large", value.name))
        }
        Err(error) => {
            // The last line says what is wrong; those before it draw the expression.
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
            let message = format!("`{}` is not a regular expression: {reason}", value.name);
            value.report(Problem::error(value.location(), message))
        }
    }
}

fn bounded(value: Value) -> Option<String> {
    match value.some_text()? {
        long if long.len() > LONGEST => {
            value.error(format!("`{}` holds more than {LONGEST} bytes", value.name))
        }
        text => Some(text),
    }
}

// === impl Measure ===

impl Measure {
    /// Reads what follows, from the section that says on what.
    pub(super) fn read(s: &mut Section) -> Self {
        let default = Self::default();
        let measure = Self {
            action: s.read("action", Action::read).unwrap_or_default(),
            status: s
                .read("status", |v| v.one_of(&[("400", 400), ("403", 403)]))
                .unwrap_or(default.status),
            message: s.read("message", message),
            delay: s.read("delay", delay).unwrap_or(default.delay),
        };
        let refuses = measure.action >= Action::Refuse;
        if measure.action != Action::Delay && s.has("delay") {
            s.error::<()>("`delay` needs `action: delay`");
        }
        if !refuses && (s.has("status") || s.has("message")) {
            s.error::<()>("`status` and `message` are of refusals");
        }
        measure
    }
}

impl Default for Measure {
    fn default() -> Self {
        let delay = Duration::from_secs(2);
        Self { action: Action::default(), status: 400, message: None, delay }
    }
}

fn message(value: Value) -> Option<String> {
    match value.some_text()? {
        long if long.len() > LONGEST => value.error("`message` holds more than 4096 bytes"),
        text => Some(text),
    }
}

// === impl Action ===

impl Action {
    fn read(value: Value) -> Option<Self> {
        let all = [Self::Refuse, Self::Log, Self::Delay, Self::Disable];
        value.one_of(&all.map(|action| (action.word(), action)))
    }

    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Delay => "delay",
            Self::Refuse => "refuse",
            Self::Disable => "disable",
        }
    }
}

// === impl Patterns ===

impl Patterns {
    /// Whether they look for nothing.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Notes in `found` the places of the rules that find something in a text.
    pub fn find(&self, text: &str, found: &mut Vec<usize>) {
        // Most texts are fine, and that is told sooner than what is wrong with the others.
        if !self.set.is_match(text) {
            return;
        }
        for rule in self.set.matches(text).iter().filter_map(|at| self.rules.get(at)) {
            if !found.contains(rule) {
                found.push(*rule);
            }
        }
    }
}

impl PartialEq for Patterns {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules && self.set.patterns() == other.set.patterns()
    }
}
