//! The configuration of LLM Proxy: providers with a mapping of model names, and master keys.

use super::draft::{Answers, Draft, Model, Provider, Target};
use super::settle::{Names, may_be_name, weights};
use super::source::Item;
use super::words::Words;
use super::yaml::{Map, Yaml};

const OPEN: &str = "decide: there are no master keys, and LLM Proxy lets everyone in then, as this does. Add `keys` and\n\
    take this line away to close the door.";
/// What LLM Proxy allows at once when only a rate is given.
const BURST: &str = "10";

/// One of `providers`, as it may serve models.
struct Served<'a> {
    name: String,
    share: f64,
    /// What is asked for, and what the provider calls it.
    mapping: Vec<(&'a str, String)>,
}

/// `None` when the file is no such configuration.
pub fn translate(root: &Item, words: &Words) -> Option<Draft> {
    let list = root.get("providers")?;
    let mut draft = Draft { listen: listen(root, words), any_origin: true, ..Draft::default() };
    let verify = root.get("verify_ssl").and_then(|item| switch(item, words));
    let timeout = root.any(&["request_timeout", "request_timeout_secs"]);
    let timeout = timeout.and_then(|item| seconds(item, words));
    let mut names = Names::default();
    let mut served = Vec::new();
    for item in list.items() {
        let Some((mut provider, one)) = read(item, words, &mut names) else { continue };
        provider.verify = verify.clone().filter(|verify| verify != "true");
        provider.timeouts = (timeout.clone(), timeout.clone());
        draft.providers.push(provider);
        served.push(one);
    }
    add_models(&mut draft, &served, words);
    add_keys(&mut draft, root, words);
    let prefix = root.any(&["provider_suffix", "PROVIDER_SUFFIX"]);
    draft.model_prefix = prefix
        .and_then(Item::taken)
        .map(|text| words.text(text).trim_end_matches('/').to_owned())
        .filter(|prefix| !prefix.is_empty());
    add_store(&mut draft, root, words);
    Some(draft)
}

fn listen(root: &Item, words: &Words) -> String {
    let server = root.get("server");
    let host = server.and_then(|server| server.get("host"));
    let port = server.and_then(|server| server.get("port"));
    let port =
        port.and_then(Item::taken).map_or("${PORT:-18000}".to_owned(), |port| words.text(port));
    let written = host.and_then(Item::taken).map(|host| words.text(host));
    let host = match written.as_deref() {
        None => "0.0.0.0".to_owned(),
        Some("localhost") => "127.0.0.1".to_owned(),
        Some(address) if address.contains(':') && !address.contains("${") => format!("[{address}]"),
        Some(address) if address.contains("${") || address.parse::<std::net::IpAddr>().is_ok() => {
            address.to_owned()
        }
        Some(_) => {
            if let Some(host) = host {
                host.list(words.listing, "listeners have IP addresses here: `0.0.0.0` was taken");
            }
            "0.0.0.0".to_owned()
        }
    };
    format!("{host}:{port}")
}

/// A switch as LLM Proxy reads it.
fn switch(item: &Item, words: &Words) -> Option<String> {
    let text = item.taken()?;
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some("true".to_owned()),
        "false" | "0" | "no" | "off" => Some("false".to_owned()),
        _ if words.refers(text) => {
            item.decide(words.listing, "the variable must hold `true` or `false`, no other word");
            Some(words.text(text))
        }
        _ => {
            item.list(words.listing, "neither true nor false");
            None
        }
    }
}

/// Seconds as a duration; a reference gets its unit behind it.
fn seconds(item: &Item, words: &Words) -> Option<String> {
    let text = item.taken()?;
    match text.parse::<u32>() {
        Ok(seconds) if seconds > 0 => {
            item.decide(words.listing, "bounds all of an exchange there, and here the wait for its first byte and between two chunks");
            Some(format!("{seconds}s"))
        }
        Err(_) if words.refers(text) => Some(format!("{}s", words.text(text))),
        _ => {
            item.list(words.listing, "not a number of seconds");
            None
        }
    }
}

fn read<'a>(item: &'a Item, words: &Words, names: &mut Names) -> Option<(Provider, Served<'a>)> {
    let listing = words.listing;
    if let Some(enabled) = item.any(&["is_enabled", "enabled"])
        && enabled.taken().is_some_and(|text| text == "false")
    {
        item.list(listing, "the provider is disabled, so it was left out");
        return None;
    }
    let own_name =
        item.any(&["name", "id", "provider_key"]).and_then(Item::taken).unwrap_or_default();
    let Some(base) = item.any(&["api_base", "base_url"]).filter(|base| base.text().is_some())
    else {
        item.list(listing, "a provider without `api_base` cannot be called");
        return None;
    };
    let mut provider = Provider { name: names.give(own_name, "provider"), ..Provider::default() };
    if provider.name != own_name {
        provider.comments.push(format!("called `{}` there", own_name.escape_debug()));
    }
    let url = words.text(base.taken().unwrap_or_default()).trim_end_matches('/').to_owned();
    provider.kind = kind(item, &url, words)?;
    let path = url.split_once("://").map_or("/", |(_, rest)| rest);
    if !url.contains("${") && !path.contains('/') {
        base.decide(
            listing,
            "without a path it means `/v1` here; LLM Proxy calls `/chat/completions` there",
        );
    }
    provider.base_url = Some(url);
    if let Some(key) = item.get("api_key").filter(|key| key.text() != Some("")) {
        provider.api_keys.extend(words.secret(key, &format!("{own_name}_api_key")));
    }
    let share = match item.get("weight") {
        None => 1.0,
        Some(item) => item.whole().map_or_else(
            || {
                item.list(listing, "not a whole number: taken for 1");
                1.0
            },
            f64::from,
        ),
    };
    let mut mapping = Vec::new();
    match item.get("model_mapping") {
        Some(map) if map.is_map() => {
            map.take_all();
            for (asked, upstream) in map.entries() {
                match upstream.text() {
                    Some(text) => mapping.push((asked, words.text(text))),
                    None => upstream.list(listing, "not the name of a model"),
                }
            }
        }
        Some(other) => other.list(listing, "not a map of model names"),
        None => {}
    }
    if mapping.is_empty() {
        item.decide(listing, "without `model_mapping` it serves no model, there as well");
    }
    Some((provider.clone(), Served { name: provider.name, share, mapping }))
}

/// What the provider is; `None` when it cannot be called and has been listed.
fn kind(item: &Item, url: &str, words: &Words) -> Option<&'static str> {
    let written = item.any(&["type", "provider_type"]);
    let own =
        if url.starts_with("https://api.openai.com") { "openai" } else { "openai_compatible" };
    match written.and_then(Item::taken).unwrap_or("openai") {
        // Azure is called as anything else there: with a bearer token, below the address as it is.
        "openai" | "azure" | "openai_compatible" | "response_api" => Some(own),
        "anthropic" | "claude" => Some("anthropic"),
        "gemini" => Some("gemini"),
        "gcp-vertex" => {
            let why = "name its project, location and credentials in a provider of kind `vertex`: this one was left out";
            item.list(words.listing, why);
            None
        }
        _ => {
            written
                .unwrap_or(item)
                .list(words.listing, "not a type of LLM Proxy: called as OpenAI's dialect has it");
            Some(own)
        }
    }
}

/// A model for each name that a provider maps; patterns behind them.
fn add_models(draft: &mut Draft, served: &[Served], words: &Words) {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in served.iter().flat_map(|served| &served.mapping) {
        if !names.contains(name) {
            names.push(name);
        }
    }
    let (patterns, names): (Vec<&str>, Vec<&str>) =
        names.into_iter().partition(|name| is_pattern(name));
    for name in names {
        let answers = if may_be_name(name) {
            Answers::Name(words.text(name))
        } else {
            Answers::Match("exact", vec![words.text(name)])
        };
        let fits = |asked: &str| asked == name || matches(asked, name);
        draft.models.extend(model(answers, served, fits));
    }
    for pattern in patterns {
        draft.models.extend(model(pattern_match(pattern, words), served, |asked| asked == pattern));
    }
}

fn model(answers: Answers, served: &[Served], fits: impl Fn(&str) -> bool) -> Option<Model> {
    let found: Vec<(&Served, &String)> = served
        .iter()
        .filter_map(|one| Some((one, &one.mapping.iter().find(|(asked, _)| fits(asked))?.1)))
        .collect();
    let weights = weights(&found.iter().map(|(one, _)| one.share).collect::<Vec<_>>());
    let target = |((one, upstream), weight): (&(&Served, &String), u32)| Target {
        provider: one.name.clone(),
        model: Some((*upstream).clone()),
        weight,
    };
    let targets: Vec<Target> = found.iter().zip(weights).map(target).collect();
    (!targets.is_empty()).then(|| Model::new(answers, targets))
}

/// `*` stands for anything, and what looks like a regular expression is one, of the whole name.
fn is_pattern(name: &str) -> bool {
    name.contains('*') || is_regex(name)
}

fn is_regex(name: &str) -> bool {
    name.contains(".*") || name.contains(".+") || name.contains(['[', '(', '|', '^', '$', '\\'])
}

fn expression(pattern: &str) -> String {
    if is_regex(pattern) {
        return format!("^(?:{})$", pattern.trim_start_matches('^').trim_end_matches('$'));
    }
    format!("^{}$", regex::escape(pattern).replace("\\*", ".*"))
}

fn matches(pattern: &str, name: &str) -> bool {
    is_pattern(pattern)
        && regex::Regex::new(&expression(pattern)).is_ok_and(|expression| expression.is_match(name))
}

fn pattern_match(pattern: &str, words: &Words) -> Answers {
    match pattern.strip_suffix('*') {
        Some(prefix) if !is_pattern(prefix) && !is_regex(pattern) => {
            Answers::Match("prefix", vec![words.text(prefix)])
        }
        _ => Answers::Match("regex", vec![words.text(&expression(pattern))]),
    }
}

fn add_keys(draft: &mut Draft, root: &Item, words: &Words) {
    let listing = words.listing;
    let mut names = Names::default();
    let list = root.any(&["master_keys", "credentials"]);
    for item in list.into_iter().flat_map(Item::items) {
        let own_name = item.any(&["name", "id"]).and_then(Item::taken).unwrap_or_default();
        let Some(secret) =
            item.any(&["key", "credential_key"]).filter(|key| key.text() != Some(""))
        else {
            item.list(listing, "a master key without `key`");
            continue;
        };
        let name = names.give(own_name, "key");
        let mut key = Map::default();
        if name != own_name {
            key.comment(format!("called `{}` there", own_name.escape_debug()));
        }
        key.text("name", &name);
        let Some(secret) = words.secret(secret, &format!("master_key_{own_name}")) else {
            continue;
        };
        key.text("key", &secret);
        if let Some(enabled) = item.any(&["is_enabled", "enabled"])
            && let Some(enabled) = switch(enabled, words).filter(|enabled| enabled != "true")
        {
            key.word("enabled", enabled);
        }
        if let Some(allowed) = item.get("allowed_models") {
            let models: Vec<String> =
                allowed.items().iter().filter_map(|item| glob(item, words)).collect();
            let given = !allowed.items().is_empty();
            allowed.take_all();
            if given && !models.iter().any(|model| model == "*") {
                key.put("allowed_models", super::draft::row(&models));
            }
        }
        if let Some(limit) = item.get("rate_limit") {
            rate_limit(limit, &mut key, words);
        }
        draft.keys.push(key);
    }
    if draft.keys.is_empty() {
        draft.anonymous = Some(OPEN.to_owned());
        let place = list.unwrap_or(root);
        place.decide(
            listing,
            "no master keys: LLM Proxy lets everyone in, and the result says `anonymous: true`",
        );
    }
}

/// An entry of `allowed_models` as a name with stars.
fn glob(item: &Item, words: &Words) -> Option<String> {
    let text = item.taken()?;
    if !is_regex(text) {
        return Some(words.text(text));
    }
    let glob = text
        .trim_start_matches('^')
        .trim_end_matches('$')
        .replace(".*", "*")
        .replace(".+", "*")
        .replace("\\.", ".");
    if glob.contains(['[', ']', '(', ')', '{', '}', '|', '^', '$', '\\', '+', '?']) {
        item.list(
            words.listing,
            "a regular expression: models are allowed by name here, with `*` for any text",
        );
        return None;
    }
    Some(words.text(&glob))
}

fn rate_limit(item: &Item, key: &mut Map, words: &Words) {
    let mut limit = Map::default();
    let number = |item: &Item| {
        item.taken()
            .filter(|text| text.parse::<u32>().is_ok() || words.refers(text))
            .map(|text| words.text(text))
    };
    // The database has one number for the rate.
    let rate = if item.text().is_some() { Some(item) } else { item.get("requests_per_second") };
    let Some(rate) = rate.and_then(number) else {
        item.list(words.listing, "not a rate");
        return;
    };
    let burst = match item.get("burst_size") {
        Some(burst) => number(burst).or_else(|| {
            burst.list(words.listing, "not a whole number");
            None
        }),
        None => (rate != "0").then(|| BURST.to_owned()),
    };
    // Here both are 0, or none is.
    let (rate, burst) = match burst.as_deref() {
        Some("0") if rate != "0" => {
            item.list(words.listing, "a burst of 0 beside a rate: it was left out");
            (rate, None)
        }
        Some(burst) if rate == "0" && burst != "0" => {
            item.list(words.listing, "a rate of 0 blocks the key, whatever the burst");
            (rate, None)
        }
        _ => (rate, burst),
    };
    let blocks = rate == "0" && burst.as_deref().unwrap_or("0") == "0";
    limit.put("requests_per_second", number_word(rate));
    if let Some(burst) = burst {
        limit.put("burst_size", number_word(burst));
    }
    if blocks {
        key.comment("no request at all");
    }
    key.put("rate_limit", Yaml::Line(limit));
}

fn number_word(text: String) -> Yaml {
    if text.contains("${") { Yaml::Text(text) } else { Yaml::Word(text) }
}

/// Not of the YAML itself: variables that people put there.
fn add_store(draft: &mut Draft, root: &Item, words: &Words) {
    if let Some(url) = root.any(&["db_url", "database_url"]) {
        url.list(words.listing, "LLM Proxy's own tables cannot be read: give Forebay a database of its own with `store.url`, and bring providers and keys over with this command and `forebay db import`");
    }
    if let Some(key) = root.get("admin_key")
        && let Some(secret) = words.secret(key, "admin_key")
    {
        let mut admin = Map::default();
        admin.text("listen", "127.0.0.1:9090");
        admin.text("key", &secret);
        draft.rest.put("admin", Yaml::Line(admin));
    }
}
