//! Items that are kept in the database instead of the file: read by the same readers, behind the
//! file's own, and named by their ids where the file's are named by their places.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::findings::Findings;
use super::tree::{self, Content, Entry, Node, Scalar};
use super::{Config, Dynamic, Location, Problem, expand};

/// Lines of the items begin beyond any line of a file: each has so many to itself.
const LINES: usize = 1 << 32;

/// Puts the items behind those of the file, which has been expanded already.
pub(super) fn merge(
    file: &mut Node,
    items: &[Dynamic],
    environment: &BTreeMap<String, String>,
    findings: &Findings,
) {
    for (number, item) in (1..).zip(items) {
        let place = Location { line: number * LINES, column: 0 };
        let Some(mut node) = parse(&item.text, place, findings) else { continue };
        resolve_keys(&mut node, environment, findings);
        let Content::Map(sections) = &mut file.content else { return };
        if !sections.iter().any(|entry| entry.name.text == item.section) {
            sections.push(Entry::empty_list(item.section, place));
        }
        let mut entries = sections.iter_mut();
        let entry = entries.find(|entry| entry.name.text == item.section);
        // Something else than a list is a mistake of the file, which is told there.
        if let Some(Content::List(list)) = entry.map(|entry| &mut entry.value.content) {
            list.push(node);
        }
    }
}

/// Names the items in what is wrong with them: their places are of no file.
pub(super) fn name(problems: Vec<Problem>, items: &[Dynamic]) -> Vec<Problem> {
    let named = |problem: Problem| match item_of(problem.location, items) {
        Some(item) => Problem {
            message: format!("{} \"{}\" (store): {}", item.section, item.id, problem.message),
            location: Location::default(),
            ..problem
        },
        None => problem,
    };
    problems.into_iter().map(named).collect()
}

/// Takes the places of the items, which lead nowhere, out of a configuration.
pub(super) fn forget_places(config: &mut Config) {
    let models = config.models.iter_mut();
    let models = models.flat_map(|model| {
        let targets = model.targets.iter_mut().map(|target| &mut target.location);
        targets.chain([&mut model.location])
    });
    let providers = config.providers.iter_mut().map(|provider| &mut provider.location);
    for location in models.chain(providers).filter(|location| is_dynamic(**location)) {
        *location = Location::default();
    }
}

/// Where something stands that is there already.
pub(super) fn first_at(location: Location) -> String {
    if is_dynamic(location) {
        return "first in the store".to_owned();
    }
    format!("first at line {}", location.line)
}

/// Whether what stands here is of the database.
pub(super) fn is_dynamic(location: Location) -> bool {
    location.line >= LINES
}

fn item_of(location: Location, items: &[Dynamic]) -> Option<&Dynamic> {
    items.get((location.line / LINES).checked_sub(1)?)
}

/// Reads JSON as such, which YAML's parser would for the most part; all else as YAML.
fn parse(text: &str, place: Location, findings: &Findings) -> Option<Node> {
    if text.len() > tree::MAX_BYTES {
        findings.error(place, "larger than 4 MiB");
        return None;
    }
    if let Ok(json) = serde_json::from_str(text) {
        return Some(of_json(json, place));
    }
    let inside = Findings::new(super::overrides::Overrides::default(), Vec::new());
    let node = tree::parse(text, &inside).map(|mut node| {
        node.report_duplicates(&inside);
        move_to(&mut node, place);
        node
    });
    for problem in inside.into_problems() {
        let line = Location { line: place.line + problem.location.line, ..problem.location };
        findings.report(Problem { location: line, ..problem });
    }
    node
}

fn of_json(json: Json, location: Location) -> Node {
    let scalar =
        |text: String, plain: bool| Content::Scalar(Scalar { text, plain, expanded: false });
    let content = match json {
        Json::String(text) => scalar(text, false),
        Json::Array(items) => {
            Content::List(items.into_iter().map(|item| of_json(item, location)).collect())
        }
        Json::Object(members) => {
            let entry = |(name, value)| Entry {
                name: Scalar { text: name, plain: false, expanded: false },
                location,
                value: of_json(value, location),
            };
            // `null` is JSON's word for absent.
            let given = members.into_iter().filter(|(_, value)| !value.is_null());
            Content::Map(given.map(entry).collect())
        }
        other => scalar(other.to_string(), true),
    };
    Node { content, location }
}

fn move_to(node: &mut Node, place: Location) {
    node.location = place;
    match &mut node.content {
        Content::List(items) => items.iter_mut().for_each(|item| move_to(item, place)),
        Content::Map(entries) => {
            for entry in entries {
                entry.location = place;
                move_to(&mut entry.value, place);
            }
        }
        Content::Scalar(_) | Content::Unknown => {}
    }
}

/// Looks up API keys that are exactly `${NAME}`. All else stays as it is: a secret that came through
/// the control plane may hold any dollar.
fn resolve_keys(item: &mut Node, environment: &BTreeMap<String, String>, findings: &Findings) {
    let Content::Map(entries) = &mut item.content else { return };
    let keys = entries.iter_mut().find(|entry| entry.name.text == "api_keys");
    let Some(keys) = keys.map(|entry| &mut entry.value) else { return };
    let keys = match &mut keys.content {
        Content::List(keys) => keys.as_mut_slice(),
        _ => std::slice::from_mut(keys),
    };
    for key in keys {
        let name = key.as_text().and_then(expand::single_variable).map(str::to_owned);
        let Some(name) = name else { continue };
        key.content = if let Some(text) = environment.get(&name) {
            Content::Scalar(Scalar { text: text.clone(), plain: false, expanded: true })
        } else {
            let message = format!("the environment variable `{name}` is not set");
            findings.error(key.location, message);
            Content::Unknown
        };
    }
}
