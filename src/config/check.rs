//! What no section can see alone: names, equal keys, fallback in a circle, doors left open.

use std::collections::{HashMap, HashSet};

use super::findings::Findings;
use super::tree::{Content, Node};
use super::{ClientAuth, Config, Key, Kind, Location, Model, Problem, Provider, fallback};

const OPEN_DOOR: &str = "add a key under `keys`, or listen on 127.0.0.1 only; \
    `anonymous: true` opens it on purpose";

/// Applies what the environment overrides, checks the whole, and makes its references direct.
pub(super) fn check(mut config: Config, tree: &Node, findings: &Findings) -> Config {
    if let Some(prefix) = &findings.overrides.model_prefix {
        config.model_prefix = Some(prefix.clone());
    }
    let overridden = findings.overrides.change_listen(&mut config.listen);
    let listen = tree.entry("listen").filter(|_| !overridden);
    let listen = listen.map(|entry| entry.location).unwrap_or_default();
    fallback::resolve_aliases(&mut config.models);

    findings.names.borrow().check(findings);
    check_fallback(&config.models, findings);
    check_keys(&config.keys, findings);
    check_addresses(&config, listen, findings);
    // Keys that could not be read are keys all the same.
    if !has_items(tree, "keys") {
        check_door(&config, listen, findings);
    }
    config.providers.iter().for_each(|provider| warn_of_no_credential(provider, findings));
    if !has_items(tree, "models") {
        let problem = Problem::warning(tree.location, "there are no `models` to ask for");
        findings.report(problem.hint("name at least one, with a target"));
    }
    config
}

fn check_fallback(models: &[Model], findings: &Findings) {
    for circle in fallback::circles(models) {
        let again = circle.first().copied();
        let names = circle.iter().copied().chain(again).filter_map(|model| model.name.as_deref());
        let names: Vec<&str> = names.take(12).collect();
        let place = again.map(|model| model.location).unwrap_or_default();
        findings.error(place, format!("fallback runs in a circle: {}", names.join(" -> ")));
    }
}

fn check_keys(keys: &[Key], findings: &Findings) {
    let mut seen: HashMap<[u8; 32], &Key> = HashMap::new();
    for key in keys {
        if let Some(first) = seen.insert(key.digest, key) {
            let message = format!("`{}` and `{}` are the same key", first.name, key.name);
            let problem = Problem::error(key.location, message);
            findings.report(problem.hint("a key belongs to one name"));
        }
    }
}

fn check_addresses(config: &Config, place: Location, findings: &Findings) {
    let mut seen = HashSet::new();
    for address in config.listen.iter().map(|listen| listen.address) {
        // Port 0 is any free port, so it can be had twice.
        if address.port() > 0 && !seen.insert(address) {
            findings.error(place, format!("two listeners on {address}"));
        }
    }
}

fn check_door(config: &Config, place: Location, findings: &Findings) {
    if config.open() {
        return;
    }
    let outside = config.listen.iter().find(|listen| !listen.is_loopback());
    let Some(address) = outside.map(|listen| listen.address) else { return };
    let message = format!("{address} can be reached from outside, and no key is needed");
    findings.report(Problem::error(place, message).hint(OPEN_DOOR));
}

fn warn_of_no_credential(provider: &Provider, findings: &Findings) {
    let wants = matches!(provider.kind, Kind::Openai | Kind::Azure);
    if wants && provider.api_keys.is_empty() && provider.client_auth == ClientAuth::Replace {
        let message = format!("provider `{}` has no `api_keys`", provider.name);
        let problem = Problem::warning(provider.location, message);
        findings.report(problem.hint("give one, or set `client_auth`"));
    }
}

fn has_items(tree: &Node, name: &str) -> bool {
    let content = tree.entry(name).map(|entry| &entry.value.content);
    matches!(content, Some(Content::List(items)) if !items.is_empty())
}
