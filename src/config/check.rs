//! What no section can see alone: names, equal keys, fallback in a circle, doors left open.

use std::collections::{HashMap, HashSet};

use super::findings::Findings;
use super::tree::{Content, Node};
use super::{
    AuditContent, ClientAuth, Config, Key, Kind, Location, Model, Problem, Provider, fallback,
};

const OPEN_DOOR: &str = "add a key under `keys`, or listen on 127.0.0.1 only; \
    `anonymous: true` opens it on purpose";

/// Applies what the environment overrides, checks the whole, and makes its references direct.
pub(super) fn check(mut config: Config, tree: &Node, findings: &Findings) -> Config {
    if let Some(prefix) = &findings.overrides.model_prefix {
        config.model_prefix = Some(prefix.clone());
    }
    findings.overrides.change_store(&mut config.store);
    let overridden = findings.overrides.change_listen(&mut config.listen);
    let listen = tree.entry("listen").filter(|_| !overridden);
    let listen = listen.map(|entry| entry.location).unwrap_or_default();
    fallback::resolve_aliases(&mut config.models);

    findings.names.borrow().check(findings);
    check_fallback(&config.models, findings);
    check_keys(&config.keys, findings);
    check_addresses(&config, listen, findings);
    check_store(&config, tree, findings);
    // Keys that could not be read are keys all the same.
    if !has_items(tree, "keys") {
        check_door(&config, listen, findings);
    }
    config.providers.iter().for_each(|provider| warn_of_no_credential(provider, findings));
    warn_of_ended_keys(&config.keys, findings);
    warn_of_privacy(&config, tree, findings);
    let elsewhere = config.store.as_ref().is_some_and(|store| store.dynamic);
    if !elsewhere && !has_items(tree, "models") {
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

/// Whoever keeps no content keeps no responses.
fn warn_of_privacy(config: &Config, tree: &Node, findings: &Findings) {
    let said =
        tree.entry("responses").filter(|it| config.privacy.strict && has(&it.value, "store"));
    if let Some(entry) = said.filter(|_| config.responses.kept) {
        let message = "`responses` are not kept under `privacy: strict`";
        findings.report(Problem::warning(entry.location, message));
    }
    let audit = config.audit.as_ref().filter(|_| config.privacy.strict);
    if audit.is_some_and(|audit| audit.content != AuditContent::None)
        && let Some(entry) = tree.entry("audit")
    {
        let message = "no `content` is kept under `privacy: strict`";
        findings.report(Problem::warning(entry.location, message));
    }
}

/// What is kept needs a place to be kept in.
fn check_store(config: &Config, tree: &Node, findings: &Findings) {
    let place = |name| tree.entry(name).map(|entry| entry.value.location).unwrap_or_default();
    // One that could not be read is there all the same.
    let written = tree.entry("store").is_some_and(|entry| has(&entry.value, "url"));
    let without_url = config.store.as_ref().is_some_and(|store| store.url.is_none());
    if without_url && !written && !has(tree, "admin") {
        let problem = Problem::error(place("store"), "`url` is missing in `store`");
        findings.report(problem.hint("without it a file is used when there is an `admin` section"));
    }
    if config.may_have_keys() || has(tree, "store") || has(tree, "admin") {
        return;
    }
    if config.temporary_keys.is_some() {
        let message = "`temporary_keys` need a `store` or an `admin` section";
        findings.error(place("temporary_keys"), message);
    }
    if !config.quotas.groups.is_empty() {
        let problem =
            Problem::warning(place("quotas"), "`quotas` are of users, and there are none");
        findings.report(problem.hint("a `store` keeps users"));
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
    // Keys can be made later: until then nobody is let in.
    if config.open() || config.may_have_keys() {
        return;
    }
    let outside = config.listen.iter().find(|listen| !listen.is_loopback());
    let Some(address) = outside.map(|listen| listen.address) else { return };
    let message = format!("{address} can be reached from outside, and no key is needed");
    findings.report(Problem::error(place, message).hint(OPEN_DOOR));
}

fn warn_of_no_credential(provider: &Provider, findings: &Findings) {
    let wants =
        matches!(provider.kind, Kind::Openai | Kind::Azure | Kind::Anthropic | Kind::Gemini);
    if wants
        && provider.cloud.login.is_none()
        && provider.api_keys.is_empty()
        && provider.client_auth == ClientAuth::Replace
    {
        let message = format!("provider `{}` has no `api_keys`", provider.name);
        let problem = Problem::warning(provider.location, message);
        findings.report(problem.hint("give one, or set `client_auth`"));
    }
}

fn warn_of_ended_keys(keys: &[Key], findings: &Findings) {
    let now = jiff::Timestamp::now().as_millisecond();
    let ended = |key: &&Key| key.expires_at.is_some_and(|end| end <= now);
    for key in keys.iter().filter(ended) {
        let message = format!("the key `{}` has expired", key.name);
        findings.report(Problem::warning(key.location, message));
    }
}

fn has(tree: &Node, name: &str) -> bool {
    tree.entry(name).is_some()
}

fn has_items(tree: &Node, name: &str) -> bool {
    let content = tree.entry(name).map(|entry| &entry.value.content);
    matches!(content, Some(Content::List(items)) if !items.is_empty())
}
