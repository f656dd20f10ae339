//! The configuration of `LiteLLM`'s proxy: deployments in groups, and settings in four sections.

mod deployment;
mod groups;
mod settings;
mod vendor;

use std::collections::BTreeMap;

use self::deployment::Providers;
use super::draft::Draft;
use super::settle::Names;
use super::source::Item;
use super::words::Words;
use super::yaml::{Map, Yaml};

const OPEN: &str = "decide: without a master key LiteLLM lets everyone in, as this does. Add `keys` and take this line\n\
    away to close the door.";

/// `None` when the file is no such configuration.
pub fn translate(root: &Item, words: &Words) -> Option<Draft> {
    let list = root.get("model_list")?;
    let mut draft =
        Draft { listen: "0.0.0.0:4000".to_owned(), any_origin: true, ..Draft::default() };
    let credentials: Vec<&Item> =
        root.get("credential_list").into_iter().flat_map(Item::items).collect();
    let mut providers = Providers::default();
    let deployments: Vec<_> = list
        .items()
        .iter()
        .filter_map(|item| deployment::read(item, &credentials, &mut providers, words))
        .collect();
    name_providers(&mut providers);
    draft.providers = providers.list;
    let settings = settings::Settings::of(root);
    settings.change_providers(&mut draft, words);
    groups::add_models(&mut draft, &deployments, &settings, words);
    settings.add_aliases(&mut draft, words);
    settings.add_fallback(&mut draft, words);
    settings.add_sections(&mut draft, words);
    add_prices(&mut draft, &deployments);
    master_key(&mut draft, &settings, root, words);
    settings::environment(root, words, &draft);
    Some(draft)
}

/// Variables the file itself gives values.
pub fn given(root: &Item) -> BTreeMap<String, String> {
    settings::given(root)
}

/// Why nobody asked for what stands at `path`.
pub fn unread(path: &str) -> Option<&'static str> {
    settings::unread(path)
}

/// A provider is called by its host, or its vendor.
fn name_providers(providers: &mut Providers) {
    let mut names = Names::default();
    for provider in &mut providers.list {
        let url = provider.base_url.as_deref().unwrap_or_default();
        let host = url.split_once("://").map_or("", |(_, rest)| rest);
        let host = host.split(['/', ':']).next().unwrap_or_default();
        let label =
            |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c));
        let wanted = match host {
            "" => provider.kind,
            host if label(host) => host.trim_start_matches("api."),
            _ => provider.kind,
        };
        provider.name = names.give(wanted, "provider");
    }
}

fn add_prices(draft: &mut Draft, deployments: &[deployment::Deployment]) {
    let mut rows = Vec::new();
    let mut known: Vec<&str> = Vec::new();
    for deployment in deployments {
        let Some(price) = &deployment.price else { continue };
        if known.contains(&deployment.upstream.as_str()) {
            continue;
        }
        known.push(&deployment.upstream);
        let mut row = Map::default();
        row.text("model", &deployment.upstream);
        row.append(price.clone());
        rows.push(Yaml::Line(row));
    }
    if !rows.is_empty() {
        draft.rest.comment("US dollars per million tokens");
        draft.rest.put("prices", Yaml::List(rows));
    }
}

fn master_key(draft: &mut Draft, settings: &settings::Settings, root: &Item, words: &Words) {
    let key = settings.general.and_then(|general| general.get("master_key"));
    let Some(key) = key.filter(|key| key.text() != Some("")) else {
        draft.anonymous = Some(OPEN.to_owned());
        let why = "no `general_settings.master_key`: LiteLLM lets everyone in, and the result says `anonymous: true`";
        root.decide(words.listing, why);
        return;
    };
    let Some(secret) = words.secret(key, "litellm_master_key") else { return };
    key.decide(words.listing, "goes on as a caller's key; what it does for LiteLLM's management is done with `admin.key` here");
    let mut entry = Map::default();
    entry.comment("LiteLLM's master key, for calls only: give `admin` a key of its own");
    entry.text("name", "master");
    entry.text("key", &secret);
    draft.keys.push(entry);
}
