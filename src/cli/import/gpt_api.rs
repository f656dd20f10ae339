//! The configuration of `GPT_API`: clients that match model names by keyword or exactly, drawn by
//! their `priority`, which is a weight.

use std::collections::BTreeSet;

use serde_json::Value as Json;

use super::draft::{Answers, Draft, Edits, Model, Provider, Target};
use super::settle::{Names, Settled, fall_back, may_be_name, weights};
use super::source::Item;
use super::words::Words;
use super::yaml::Map;

const ANONYMOUS: &str = "decide: GPT_API asks nobody for a key, and this goes on so. Add `keys` and take this line away\n\
    to close the door.";

/// One of `openai_clients`.
struct Client<'a> {
    item: &'a Item,
    /// The provider's name.
    name: String,
    /// As the file has it, which is what `fallback` may mean.
    own_name: String,
    keywords: Vec<String>,
    exact: Vec<String>,
    share: f64,
    edits: Edits,
    fallback: Option<&'a Item>,
}

impl Edits {
    /// What of it another has not, in `GPT_API`'s words.
    fn unlike(&self, other: &Self) -> Vec<&'static str> {
        let unlike = [
            ("special_prefix", self.prefix != other.prefix),
            ("stop", self.stop != other.stop),
            ("max_tokens", self.max_tokens != other.max_tokens),
            ("extra_body", self.extra_body != other.extra_body),
            ("thinking_format", self.thinking != other.thinking),
        ];
        unlike.into_iter().filter_map(|(name, unlike)| unlike.then_some(name)).collect()
    }
}

/// `None` when the file is no such configuration.
pub fn translate(root: &Item, words: &Words) -> Option<Draft> {
    let list = root.get("openai_clients")?;
    let mut draft = Draft {
        listen: "[::]:${SERVER_PORT:-8000}".to_owned(),
        anonymous: Some(ANONYMOUS.to_owned()),
        any_origin: true,
        ..Draft::default()
    };
    let listing = words.listing;
    listing.decide(
        root.location,
        "",
        "GPT_API asks for no key: the result says `anonymous: true`".to_owned(),
    );
    let thinking = thinking_format(root, words);
    strategy(root, words);
    let mut names = Names::default();
    let mut clients = Vec::new();
    for item in list.items() {
        let Some((client, provider)) = read(item, words, &mut names, thinking) else { continue };
        draft.providers.push(provider);
        clients.push(client);
    }
    add_models(&mut draft, &clients, words);
    add_fallback(&mut draft, &clients, words);
    let longest = draft.models.iter().map(|model| model.targets.len() + model.fallback.len()).max();
    if let Some(attempts) = longest.filter(|longest| *longest > 3) {
        let mut retry = Map::default();
        retry.word("attempts", attempts.min(16));
        draft.rest.comment("GPT_API tries every client that matches");
        draft.rest.put("retry", super::yaml::Yaml::Line(retry));
    }
    Some(draft)
}

/// Why nobody asked for what stands at `path`.
pub fn unread(path: &str) -> Option<&'static str> {
    let last = path.rsplit('.').next().unwrap_or(path);
    match last {
        "check_config" | "performance_test" => Some("GPT_API does not read it either"),
        "headers" => {
            Some("GPT_API does not read it either; `headers` of a provider would send them")
        }
        "models_cache" => {
            Some("there is no cache of models to set: `/v1/models` lists what the file names")
        }
        _ => None,
    }
}

fn strategy(root: &Item, words: &Words) {
    let Some(strategy) = root.get("load_balancing").and_then(|section| section.get("strategy"))
    else {
        return;
    };
    match strategy.taken() {
        Some("random") => {}
        Some("deterministic") => strategy.list(words.listing, "conversations do not stay with one client: targets take turns by weight"),
        Some("least_connections") => strategy.list(words.listing, "clients take turns by weight, whatever they have in flight; `load_balancing: least_requests` is for the replicas of one provider"),
        _ => strategy.list(words.listing, "not a strategy of GPT_API: targets take turns by weight"),
    }
}

fn thinking_format(item: &Item, words: &Words) -> Option<&'static str> {
    let format = item.get("thinking_format")?;
    match format.taken() {
        Some("passthrough") => None,
        Some("think_tag") => Some("tag"),
        Some("reasoning") => Some("reasoning"),
        Some("reasoning_content") => Some("reasoning_content"),
        _ => {
            format.list(words.listing, "not a format of GPT_API");
            None
        }
    }
}

fn read<'a>(
    item: &'a Item,
    words: &Words,
    names: &mut Names,
    thinking: Option<&'static str>,
) -> Option<(Client<'a>, Provider)> {
    let listing = words.listing;
    let Some(base_url) = item.get("base_url").filter(|url| url.text().is_some()) else {
        item.list(listing, "a client without `base_url` cannot be called");
        return None;
    };
    let own_name = item.take("name").unwrap_or_default().to_owned();
    let name = names.give(&own_name, "client");
    let mut provider = Provider { name: name.clone(), ..Provider::default() };
    if name != own_name {
        provider.comments.push(format!("called `{}` there", own_name.escape_debug()));
    }
    address(base_url, &mut provider, words);
    let key = item.get("api_key");
    if let Some(key) = key.filter(|key| key.text() != Some("")) {
        provider.api_keys.extend(words.secret(key, &format!("{own_name}_api_key")));
    } else {
        key.map(Item::take_all);
        provider.forward = true;
        provider.comments.push("without a key there, the caller's own goes out".to_owned());
    }
    let (mut keywords, mut exact) = (Vec::new(), Vec::new());
    match item.get("model_match") {
        None => item.decide(listing, "without `model_match` it is never asked"),
        Some(matcher) => {
            let values = || matcher.get("value").into_iter().flat_map(Item::items);
            match matcher.take("type") {
                Some("keyword") => {
                    keywords.extend(values().filter_map(Item::taken).map(|text| words.text(text)));
                }
                Some("exact") => {
                    exact.extend(values().filter_map(Item::taken).map(|text| words.text(text)));
                }
                _ => matcher.list(
                    listing,
                    "neither `keyword` nor `exact`, so it matches nothing, there as well",
                ),
            }
        }
    }
    let share = match item.get("priority") {
        None => 0.0,
        Some(item) => item.whole().map_or_else(
            || {
                item.list(listing, "not a whole number: taken for 0, which is a last resort");
                0.0
            },
            f64::from,
        ),
    };
    let thinking =
        if item.get("thinking_format").is_some() { thinking_format(item, words) } else { thinking };
    let edits = edits(item, words, thinking);
    let client = Client {
        item,
        name,
        own_name,
        keywords,
        exact,
        share,
        edits,
        fallback: item.get("fallback"),
    };
    Some((client, provider))
}

fn address(item: &Item, provider: &mut Provider, words: &Words) {
    let written = item.taken().unwrap_or_default();
    // The README's own example has Markdown links for addresses.
    let link =
        written.strip_prefix('[').and_then(|text| text.split_once("](")?.1.strip_suffix(')'));
    let url = words.text(link.unwrap_or(written)).trim_end_matches('/').to_owned();
    if link.is_some() {
        item.decide(words.listing, "a Markdown link: its address was taken");
    }
    provider.kind =
        if url.starts_with("https://api.openai.com") { "openai" } else { "openai_compatible" };
    let path = url.split_once("://").map_or("", |(_, rest)| rest);
    if !words.refers(written) && !path.contains('/') {
        item.decide(
            words.listing,
            "without a path it means `/v1` here; GPT_API calls `/chat/completions` there",
        );
    }
    provider.base_url = Some(url);
}

fn edits(item: &Item, words: &Words, thinking: Option<&'static str>) -> Edits {
    let mut edits = Edits { strip_thinking: true, thinking, ..Edits::default() };
    if let Some(most) = item.get("max_tokens") {
        match most.taken().and_then(|text| text.parse::<u32>().ok()).filter(|most| *most > 0) {
            Some(tokens) => edits.max_tokens = Some(tokens.to_string()),
            None => most.list(words.listing, "not a number of tokens"),
        }
    }
    let stop = item.get("stop").into_iter().flat_map(Item::items);
    edits.stop = stop
        .filter_map(Item::taken)
        .filter(|text| !text.is_empty())
        .map(|text| words.text(text))
        .collect();
    edits.prefix =
        item.take("special_prefix").filter(|text| !text.is_empty()).map(|text| words.text(text));
    if let Some(extra) = item.get("extra_body") {
        let given = match extra.text() {
            Some(text) => serde_json::from_str(text).ok(),
            None => Some(extra.json()),
        };
        match given {
            Some(Json::Object(members)) => {
                extra.take_all();
                edits.extra_body = members
                    .into_iter()
                    .map(|(name, value)| (words.text(&name), escape(value, words)))
                    .collect();
            }
            _ => extra.list(words.listing, "not a JSON object, so GPT_API does not send it either"),
        }
    }
    edits
}

/// A JSON value whose texts mean what they say.
fn escape(value: Json, words: &Words) -> Json {
    match value {
        Json::String(text) => Json::String(words.text(&text)),
        Json::Array(items) => {
            Json::Array(items.into_iter().map(|item| escape(item, words)).collect())
        }
        Json::Object(members) => Json::Object(
            members
                .into_iter()
                .map(|(name, value)| (words.text(&name), escape(value, words)))
                .collect(),
        ),
        other => other,
    }
}

/// A model for each exact name, and one for each set of keywords that the same clients match.
fn add_models(draft: &mut Draft, clients: &[Client], words: &Words) {
    let mut exact: Vec<&String> = Vec::new();
    for name in clients.iter().flat_map(|client| &client.exact) {
        if !exact.contains(&name) {
            exact.push(name);
        }
    }
    for name in exact {
        add_model(draft, clients, name, words);
    }
    // A longer keyword first: what holds it holds the shorter ones within it as well.
    let keywords: BTreeSet<&String> = clients.iter().flat_map(|client| &client.keywords).collect();
    let mut keywords: Vec<&String> = keywords.into_iter().collect();
    keywords.sort_by_key(|keyword| std::cmp::Reverse(keyword.len()));
    let mut groups: Vec<(Vec<usize>, Vec<String>)> = Vec::new();
    for keyword in keywords {
        let matched = matched(clients, keyword, false);
        match groups.last_mut() {
            Some((known, texts)) if *known == matched => texts.push(keyword.clone()),
            _ => groups.push((matched, vec![keyword.clone()])),
        }
    }
    let ambiguous = groups.len() > 1;
    for (matched, mut texts) in groups {
        texts.reverse();
        let answers = Answers::Match("keyword", texts);
        let model = model(answers, clients, &matched, None, words);
        draft.models.push(model);
    }
    if ambiguous && let Some(client) = clients.iter().find(|client| !client.keywords.is_empty()) {
        let place = client.item.get("model_match").unwrap_or(client.item);
        place.decide(words.listing, "a name that holds keywords of several clients goes to the clients of the first that stands in the result: order the models as you mean it");
    }
}

/// The model of an exact name.
fn add_model(draft: &mut Draft, clients: &[Client], name: &str, words: &Words) {
    let answers = if may_be_name(name) {
        Answers::Name(name.to_owned())
    } else {
        Answers::Match("exact", vec![name.to_owned()])
    };
    let named = matches!(answers, Answers::Name(_));
    let matched = matched(clients, name, true);
    draft.models.push(model(answers, clients, &matched, named.then_some(name), words));
}

/// The clients that match a name, or, for a keyword, every name that holds it.
fn matched(clients: &[Client], name: &str, exactly: bool) -> Vec<usize> {
    let fits = |client: &Client| {
        let keyword = client.keywords.iter().any(|keyword| name.contains(keyword.as_str()));
        keyword || (exactly && client.exact.iter().any(|known| known == name))
    };
    let matched = clients.iter().enumerate().filter(|(_, client)| fits(client));
    matched.map(|(index, _)| index).collect()
}

fn model(
    answers: Answers,
    clients: &[Client],
    matched: &[usize],
    upstream: Option<&str>,
    words: &Words,
) -> Model {
    let mut matched: Vec<&Client> =
        matched.iter().filter_map(|index| clients.get(*index)).collect();
    matched.sort_by(|a, b| b.share.total_cmp(&a.share));
    let weights = weights(&matched.iter().map(|client| client.share).collect::<Vec<_>>());
    let target = |(client, weight): (&&Client, u32)| Target {
        provider: client.name.clone(),
        model: upstream.map(str::to_owned),
        weight,
    };
    let mut model = Model::new(answers, matched.iter().zip(weights).map(target).collect());
    if let Some((first, others)) = matched.split_first() {
        model.edits = first.edits.clone();
        for other in others.iter().filter(|other| other.edits != first.edits) {
            let why = format!(
                "what it changes in requests and answers differs from `{}`, with which it shares names: both get what `{0}` says, because models have `request` and `response` here, and targets have not",
                first.own_name
            );
            words.listing.add(other.item.location, &other.item.path, why);
            for name in other.edits.unlike(&first.edits) {
                if let Some(item) = other.item.get(name) {
                    let why = format!("not where it shares a name with `{}`", first.own_name);
                    item.list(words.listing, why);
                }
            }
            model.comments.push(format!(
                "decide: `request` and `response` are those of `{}`; `{}` has others",
                first.name, other.name
            ));
        }
    }
    model
}

/// `fallback` is the name of a model in `GPT_API`'s code, and that of a client in its README.
fn add_fallback(draft: &mut Draft, clients: &[Client], words: &Words) {
    let wishes: Vec<(&Client, &Item, Wish)> = clients
        .iter()
        .filter_map(|client| {
            let item = client.fallback?;
            let wish = words.text(item.taken()?);
            let meant = meant(draft, clients, &wish, words);
            if meant.is_none() {
                item.list(
                    words.listing,
                    "neither a model that a client serves nor the name of a client",
                );
            }
            Some((client, item, meant?))
        })
        .collect();
    // Before any of them adds a target.
    let users: Vec<Vec<usize>> =
        wishes.iter().map(|(client, ..)| users(draft, &client.name)).collect();
    for ((client, item, wish), users) in wishes.iter().zip(users) {
        let alone = users.len() == 1;
        for user in users {
            match wish {
                Wish::Model(name) => match fall_back(draft, user, name) {
                    Settled::Added => {}
                    Settled::Inlined => item.decide(words.listing, "runs in a circle, in which GPT_API never ends: the other's clients are a last resort here instead"),
                    // Names that it serves besides have this fallback.
                    Settled::Itself if !alone => {}
                    Settled::Itself => item.list(words.listing, "a model cannot fall back on itself"),
                    Settled::Unknown => item.list(words.listing, "no model can have this name"),
                },
                Wish::Client(provider) if *provider == client.name => {
                    item.list(words.listing, "a client cannot fall back on itself");
                }
                Wish::Client(provider) => last_resort(draft, user, provider),
            }
        }
    }
}

enum Wish {
    Model(String),
    /// By the provider's name.
    Client(String),
}

/// What a `fallback` means; the model of a name that only keywords match is made for it.
fn meant(draft: &mut Draft, clients: &[Client], wish: &str, words: &Words) -> Option<Wish> {
    let served = !matched(clients, wish, true).is_empty();
    if served && draft.named(wish).is_none() {
        add_model(draft, clients, wish, words);
    }
    if served {
        return Some(Wish::Model(wish.to_owned()));
    }
    let client = clients.iter().find(|client| client.own_name == wish)?;
    let exact = client.exact.iter().find(|name| draft.named(name).is_some());
    Some(match exact {
        Some(name) => Wish::Model(name.clone()),
        None => Wish::Client(client.name.clone()),
    })
}

fn users(draft: &Draft, provider: &str) -> Vec<usize> {
    let served = |model: &Model| model.targets.iter().any(|target| target.provider == provider);
    let users = draft.models.iter().enumerate().filter(|(_, model)| served(model));
    users.map(|(index, _)| index).collect()
}

/// A client that answers to keywords takes the name that was asked for.
fn last_resort(draft: &mut Draft, user: usize, provider: &str) {
    let Some(model) = draft.models.get_mut(user) else { return };
    if model.targets.iter().all(|target| target.provider != provider) {
        let upstream = model.name().map(str::to_owned);
        model.targets.push(Target { provider: provider.to_owned(), model: upstream, weight: 0 });
    }
}
