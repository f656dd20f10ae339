//! Tools by names a provider takes, and back again in its answer.

use std::collections::{HashMap, HashSet};

use serde_json::value::RawValue;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::free_text::FreeText;
use super::{Block, Delta, Event, Json, Opening, Request, Response, Rules, Tool, ToolChoice};
use super::{ToolKind, ToolUse};

/// What a provider's tools may be called, and which kinds of them it knows.
#[derive(Clone, Copy, Debug)]
pub struct NameLimits {
    /// The most characters of a name; at least 16.
    pub longest: usize,
    /// What a name may have beside ASCII letters and digits; `_` must be among it.
    pub punctuation: &'static str,
    /// A name begins with a letter or `_`.
    pub letter_first: bool,
    /// It knows tools that take free text.
    pub custom_tools: bool,
    /// It knows groups of tools.
    pub namespaces: bool,
}

impl NameLimits {
    /// These limits for a model: not every model of a dialect knows custom tools.
    #[must_use]
    pub fn of_model(self, rules: &Rules) -> Self {
        Self { custom_tools: self.custom_tools && rules.custom_tools, ..self }
    }

    fn allows(&self, c: char) -> bool {
        c.is_ascii_alphanumeric() || self.punctuation.contains(c)
    }

    /// `name` as far as the limits allow it.
    fn fit(&self, name: &str) -> String {
        let mut fit: String = name.chars().map(|c| if self.allows(c) { c } else { '_' }).collect();
        let lettered = fit.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if fit.is_empty() || (self.letter_first && !lettered) {
            fit.insert(0, '_');
        }
        fit
    }
}

/// A tool as the client knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Known {
    namespace: Option<String>,
    name: String,
}

/// The names of one request's tools, there and back.
///
/// Of a tool whose name the provider would refuse, or which stands in a group it does not know, the
/// name is made another one, each its own. A tool that takes free text becomes a function with one
/// string, `input`, where the provider knows only functions.
#[derive(Clone, Debug, Default)]
pub struct Names {
    sent: HashMap<Known, String>,
    /// By a name that stands in groups: the first, in the alphabet's order, that one of it is sent by.
    grouped: HashMap<String, String>,
    /// By what was sent: the tool.
    known: HashMap<Known, Known>,
    /// Names that were sent of tools that take free text and became functions.
    free: HashSet<String>,
    /// Calls of such tools whose text is being told, by their block.
    open: HashMap<u32, FreeText>,
}

impl Names {
    /// Renames the tools of a request, in its tools, its choice and its conversation.
    pub fn flatten(request: &mut Request, limits: NameLimits) -> Self {
        let mut names = Self::default();
        for tool in &mut request.tools {
            let known =
                Known { namespace: tool.namespace.take(), name: std::mem::take(&mut tool.name) };
            let sent = names.assign(&known, limits);
            if limits.namespaces {
                tool.namespace = known.namespace;
            }
            if tool.kind == ToolKind::Custom && !limits.custom_tools {
                names.free.insert(sent.clone());
                make_function(tool);
            }
            tool.name = sent;
        }
        let mut calls: HashMap<String, String> = HashMap::new();
        for turn in &mut request.turns {
            for block in &mut turn.blocks {
                names.flatten_block(block, limits, &mut calls);
            }
        }
        match &mut request.tool_choice {
            Some(ToolChoice::Named(name)) => names.rename(name),
            Some(ToolChoice::Among { names: among, .. }) => {
                for name in among {
                    names.rename(name);
                }
            }
            _ => {}
        }
        names
    }

    /// Nothing was renamed: an answer is as the client knows it.
    pub fn is_identity(&self) -> bool {
        self.free.is_empty() && self.known.iter().all(|(sent, known)| sent == known)
    }

    /// Gives a call in a stream its client's name, and its text if it takes free text.
    pub fn restore(&mut self, event: &mut Event) {
        match event {
            Event::Open { index, block: Opening::ToolUse { name, namespace, kind, .. } } => {
                if self.free.contains(name.as_str()) {
                    *kind = ToolKind::Custom;
                    self.open.insert(*index, FreeText::default());
                }
                self.restore_name(name, namespace);
            }
            Event::Delta { index, delta: Delta::Arguments(json) } => {
                if let Some(text) = self.open.get_mut(index) {
                    *json = text.push(json);
                }
            }
            Event::Close { index } => {
                self.open.remove(index);
            }
            _ => {}
        }
    }

    /// Gives the calls of an answer their client's names, and those that take free text their text.
    pub fn restore_response(&self, response: &mut Response) {
        for block in &mut response.blocks {
            let Block::ToolUse(call) = block else { continue };
            if self.free.contains(&call.name) {
                call.kind = ToolKind::Custom;
                call.arguments = FreeText::default().push(&call.arguments);
            }
            self.restore_name(&mut call.name, &mut call.namespace);
        }
    }

    fn restore_name(&self, name: &mut String, namespace: &mut Option<String>) {
        let sent = Known { namespace: namespace.take(), name: std::mem::take(name) };
        let known = self.known.get(&sent).cloned().unwrap_or(sent);
        (*namespace, *name) = (known.namespace, known.name);
    }

    fn flatten_block(
        &mut self,
        block: &mut Block,
        limits: NameLimits,
        calls: &mut HashMap<String, String>,
    ) {
        match block {
            Block::ToolUse(call) => {
                self.flatten_call(call, limits);
                calls.insert(call.id.clone(), call.name.clone());
            }
            Block::ToolResult(result) => {
                let Some(name) = &mut result.name else { return };
                match calls.get(&result.id) {
                    Some(sent) => name.clone_from(sent),
                    None => self.rename(name),
                }
            }
            _ => {}
        }
    }

    fn flatten_call(&mut self, call: &mut ToolUse, limits: NameLimits) {
        let known =
            Known { namespace: call.namespace.take(), name: std::mem::take(&mut call.name) };
        call.name = self.assign(&known, limits);
        if limits.namespaces {
            call.namespace = known.namespace;
        }
        if call.kind == ToolKind::Custom && !limits.custom_tools {
            call.kind = ToolKind::Function;
            call.arguments = json!({ "input": call.arguments }).to_string();
        }
    }

    /// The name a tool is sent by, its own if that is possible and free.
    fn assign(&mut self, known: &Known, limits: NameLimits) -> String {
        if let Some(sent) = self.sent.get(known) {
            return sent.clone();
        }
        let full = match &known.namespace {
            Some(namespace) if !limits.namespaces => {
                let joint = if namespace.ends_with("__") { "" } else { "__" };
                format!("{namespace}{joint}{}", known.name)
            }
            _ => known.name.clone(),
        };
        let group = known.namespace.clone().filter(|_| limits.namespaces);
        let fit = limits.fit(&full);
        let mut sent = fit.clone();
        let mut count = 0;
        while sent.chars().count() > limits.longest || self.is_taken(group.as_ref(), &sent) {
            let kept: String =
                fit.chars().take(limits.longest.saturating_sub(DIGITS + 1)).collect();
            sent = format!("{kept}_{}", digest(known, count));
            count += 1;
        }
        self.sent.insert(known.clone(), sent.clone());
        let first = self.grouped.entry(known.name.clone()).or_insert_with(|| sent.clone());
        if sent < *first {
            first.clone_from(&sent);
        }
        let as_sent = Known { namespace: group, name: sent.clone() };
        self.known.insert(as_sent, known.clone());
        sent
    }

    /// Is another tool sent by this name? In two groups there may be two of one name.
    fn is_taken(&self, group: Option<&String>, name: &str) -> bool {
        self.known.contains_key(&Known { namespace: group.cloned(), name: name.to_owned() })
    }

    /// A name that stands without its group: of the tool without one, or else of any.
    fn rename(&self, name: &mut String) {
        let plain = Known { namespace: None, name: name.clone() };
        if let Some(sent) = self.sent.get(&plain).or_else(|| self.grouped.get(name)) {
            name.clone_from(sent);
        }
    }
}

/// Hexadecimal digits of a name that had to be cut, or would have been another one's.
const DIGITS: usize = 8;

fn digest(known: &Known, count: u32) -> String {
    let text = format!("{:?} {} {count}", known.namespace, known.name);
    let mut digits = hex::encode(Sha256::digest(text));
    digits.truncate(DIGITS);
    digits
}

/// Makes a tool that takes free text a function with one string. What the text must look like is told
/// in its description, as nothing else can hold the model to it.
fn make_function(tool: &mut Tool) {
    tool.kind = ToolKind::Function;
    tool.schema = input_schema();
    tool.strict = None;
    let Some(grammar) = tool.grammar.take() else { return };
    let rule = format!("`input` must match this {}", grammar_text(&grammar));
    tool.description = Some(match tool.description.take() {
        Some(description) if !description.is_empty() => format!("{description}\n\n{rule}"),
        _ => rule,
    });
}

fn input_schema() -> Option<Json> {
    let schema = json!({
        "type": "object",
        "properties": { "input": { "type": "string" } },
        "required": ["input"],
        "additionalProperties": false,
    });
    serde_json::value::to_raw_value(&schema).ok()
}

/// The grammar as words: `OpenAI` writes it into the format (responses), or one level below (chat).
fn grammar_text(format: &RawValue) -> String {
    let value: Value = serde_json::from_str(format.get()).unwrap_or_default();
    let value = value.get("grammar").unwrap_or(&value);
    let member = |name| value.get(name).and_then(Value::as_str);
    match (member("syntax"), member("definition")) {
        (Some("regex"), Some(definition)) => format!("regular expression:\n{definition}"),
        (Some(syntax), Some(definition)) => format!("grammar ({syntax}):\n{definition}"),
        (None, Some(definition)) => format!("grammar:\n{definition}"),
        _ => format!("format:\n{}", format.get()),
    }
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
