//! `router_settings`, `litellm_settings`, `general_settings` and `environment_variables`.

use std::collections::BTreeMap;

use super::super::draft::{Draft, Ejection};
use super::super::settle::{Settled, fall_back, may_be_name};
use super::super::source::Item;
use super::super::words::Words;
use super::super::yaml::{Map, Yaml};
use super::deployment::seconds;

/// The sections, as far as they are there.
#[derive(Default)]
pub struct Settings<'a> {
    router: Option<&'a Item>,
    litellm: Option<&'a Item>,
    pub general: Option<&'a Item>,
}

impl<'a> Settings<'a> {
    pub fn of(root: &'a Item) -> Self {
        Self {
            router: root.get("router_settings"),
            litellm: root.get("litellm_settings"),
            general: root.get("general_settings"),
        }
    }

    /// A setting that both sections may have. The router's counts; the other is then listed.
    fn get(&self, name: &str, words: &Words) -> Option<&'a Item> {
        let (router, litellm) =
            (self.router.and_then(|s| s.get(name)), self.litellm.and_then(|s| s.get(name)));
        if let (Some(_), Some(litellm)) = (router, litellm) {
            litellm.list(words.listing, "`router_settings` says it as well, and that counts");
        }
        router.or(litellm)
    }

    /// Whether `rpm` and `tpm` of a deployment are limits, and no mere weights.
    pub fn enforces_limits(&self) -> bool {
        let Some(router) = self.router else { return false };
        let strategy = router.get("routing_strategy").and_then(Item::text);
        let checks = router.get("optional_pre_call_checks").into_iter().flat_map(Item::items);
        strategy.is_some_and(|strategy| strategy.starts_with("usage-based-routing"))
            || checks.filter_map(Item::text).any(|check| check == "enforce_model_rate_limits")
    }

    /// What holds for every provider: how long it may take, and when it is left out.
    pub fn change_providers(&self, draft: &mut Draft, words: &Words) {
        let timeout = self.router.and_then(|s| s.get("timeout"));
        let request_timeout = self.litellm.and_then(|s| s.get("request_timeout"));
        if let (Some(_), Some(other)) = (timeout, request_timeout) {
            other.list(words.listing, "`router_settings.timeout` says it as well, and that counts");
        }
        let timeout = timeout.or(request_timeout).and_then(|item| seconds(item, words));
        let streamed =
            self.router.and_then(|s| s.get("stream_timeout")).and_then(|item| seconds(item, words));
        let whole = |item: Option<&Item>| {
            let item = item?;
            let number = item
                .taken()
                .and_then(|text| text.parse::<f64>().ok())
                .filter(|n| *n >= 0.0 && *n < 1e6);
            if number.is_none() {
                item.list(words.listing, "not a number");
            }
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and a million"
            )]
            number.map(|number| number.ceil() as u64)
        };
        let after = whole(self.get("allowed_fails", words)).map(|fails| fails + 1);
        let base = whole(self.get("cooldown_time", words)).filter(|base| *base > 0);
        let off = self.get("disable_cooldowns", words).and_then(Item::taken).is_some_and(is_true);
        let verify = self.litellm.and_then(|s| s.get("ssl_verify"));
        let verify = verify.and_then(|item| match item.taken() {
            Some("false" | "False") => Some("false".to_owned()),
            Some("true" | "True") => None,
            _ => {
                item.list(words.listing, "name the authorities in `tls.ca_file` of each provider");
                None
            }
        });
        for provider in &mut draft.providers {
            let (first, between) = std::mem::take(&mut provider.timeouts);
            provider.timeouts =
                (first.or(timeout.clone()), between.or(streamed.clone()).or(timeout.clone()));
            provider.verify = provider.verify.take().or(verify.clone());
            provider.ejection = match (off, after, base) {
                (true, ..) => Some(Ejection::Off),
                (false, None, None) => None,
                (false, after, base) => Some(Ejection::After(after, base)),
            };
        }
    }

    /// `model_group_alias`: other names of models.
    pub fn add_aliases(&self, draft: &mut Draft, words: &Words) {
        let aliases = self.get("model_group_alias", words).into_iter().flat_map(Item::entries);
        for (alias, item) in aliases {
            let group = if item.is_map() { item.take("model") } else { item.taken() };
            if let Some(hidden) = item.get("hidden")
                && hidden.taken().is_some_and(is_true)
            {
                hidden.list(words.listing, "`/v1/models` lists every name");
            }
            if draft.named(alias).is_some() {
                item.list(words.listing, "a model has this name already");
                continue;
            }
            let model = group.and_then(|group| draft.named(&words.text(group)));
            match model.and_then(|model| draft.models.get_mut(model)) {
                Some(model) if may_be_name(alias) => model.aliases.push(words.text(alias)),
                Some(_) => item.list(words.listing, "no name that a model can have"),
                None => item.list(words.listing, "not the name of a model in the result"),
            }
        }
    }

    /// `fallbacks` and `default_fallbacks`.
    pub fn add_fallback(&self, draft: &mut Draft, words: &Words) {
        let mut own: Vec<usize> = Vec::new();
        let mut default: Vec<&Item> = Vec::new();
        let rules =
            self.get("fallbacks", words).into_iter().flat_map(Item::items).flat_map(Item::entries);
        for (name, wishes) in rules {
            if name == "*" {
                default.extend(wishes.items());
                continue;
            }
            let Some(model) = draft.named(&words.text(name)) else {
                wishes.list(
                    words.listing,
                    format!("`{name}` is not the name of a model in the result"),
                );
                continue;
            };
            own.push(model);
            for wish in wishes.items() {
                add(draft, model, wish, words);
            }
        }
        default.extend(self.get("default_fallbacks", words).into_iter().flat_map(Item::items));
        for model in (0..draft.models.len()).filter(|model| !own.contains(model)) {
            for wish in &default {
                let itself =
                    wish.text().and_then(|name| draft.named(&words.text(name))) == Some(model);
                if !itself {
                    add(draft, model, wish, words);
                }
            }
        }
        default.into_iter().for_each(Item::take_all);
    }

    /// What becomes a section of its own.
    pub fn add_sections(&self, draft: &mut Draft, words: &Words) {
        if let Some(strategy) = self.router.and_then(|s| s.get("routing_strategy")) {
            match strategy.taken() {
                Some("simple-shuffle") => {}
                _ => strategy.list(words.listing, "targets take turns by weight; `load_balancing: least_requests` is for the replicas of one provider"),
            }
        }
        if let Some(checks) = self.router.and_then(|s| s.get("optional_pre_call_checks")) {
            for check in checks.items() {
                match check.taken() {
                    Some("enforce_model_rate_limits") => {}
                    _ => check.list(words.listing, "there is no such check"),
                }
            }
        }
        self.retry(draft, words);
        self.redis(draft, words);
        if let Some(drop) = self.litellm.and_then(|s| s.get("drop_params")) {
            match drop.taken() {
                Some(text) if is_true(text) => draft.rest.word("translation", "lenient"),
                Some("false" | "False") => draft.rest.word("translation", "strict"),
                _ => drop.list(words.listing, "neither true nor false"),
            }
        }
        if let Some(size) = self.general.and_then(|s| s.get("max_request_size_mb")) {
            match size
                .taken()
                .and_then(|text| text.parse::<u32>().ok())
                .filter(|size| (1..=512).contains(size))
            {
                Some(size) => {
                    let mut limits = Map::default();
                    limits.word("body", format!("{size}MiB"));
                    draft.rest.put("limits", Yaml::Line(limits));
                }
                None => size.list(
                    words.listing,
                    "not a size from 1 to 512 MiB; see `limits.body` and `limits.buffered`",
                ),
            }
        }
    }

    fn retry(&self, draft: &mut Draft, words: &Words) {
        let Some(retries) = self.get("num_retries", words) else { return };
        match retries.taken().and_then(|text| text.parse::<u32>().ok()) {
            Some(number) => {
                let mut retry = Map::default();
                retry.word("attempts", (number + 1).min(16));
                draft.rest.put("retry", Yaml::Line(retry));
                if number > 15 {
                    retries.list(words.listing, "16 attempts are the most");
                }
            }
            None => retries.list(words.listing, "not a whole number"),
        }
    }

    /// Where nodes count together.
    fn redis(&self, draft: &mut Draft, words: &Words) {
        let Some(router) = self.router else { return };
        let url = match (router.get("redis_url"), router.get("redis_host")) {
            (Some(url), _) => words.secret(url, "litellm_redis_url"),
            (None, Some(host)) => host.taken().map(|host| {
                let password = router.get("redis_password").and_then(|item| words.secret(item, "litellm_redis_password"));
                if let Some(item) = router.get("redis_password").filter(|_| password.is_some()) {
                    item.decide(words.listing, "stands in an address here: percent-encode what is no letter or digit in it");
                }
                let password = password.map(|password| format!(":{password}@")).unwrap_or_default();
                let port = router.take("redis_port").map_or("6379".to_owned(), |port| words.text(port));
                let db = router.take("redis_db").map(|db| format!("/{}", words.text(db))).unwrap_or_default();
                format!("redis://{password}{}:{port}{db}", words.text(host))
            }),
            (None, None) => None,
        };
        if let Some(url) = url {
            let mut redis = Map::default();
            redis.text("url", &url);
            draft.rest.put("redis", Yaml::Line(redis));
        }
    }
}

fn add(draft: &mut Draft, model: usize, wish: &Item, words: &Words) {
    let Some(name) = wish.taken() else {
        wish.list(words.listing, "a fallback is the name of a model here");
        return;
    };
    match fall_back(draft, model, &words.text(name)) {
        Settled::Added => {}
        Settled::Inlined => wish.decide(words.listing, "fallback runs in a circle: the other model's targets are a last resort of this one instead"),
        Settled::Itself => wish.list(words.listing, "a model cannot fall back on itself"),
        Settled::Unknown => wish.list(words.listing, "not the name of a model in the result"),
    }
}

fn is_true(text: &str) -> bool {
    matches!(text, "true" | "True" | "TRUE")
}

/// Variables the file itself sets, as far as a reference can hold their values.
pub fn given(root: &Item) -> BTreeMap<String, String> {
    let section = root.get("environment_variables");
    let entries = section.into_iter().flat_map(Item::entries);
    let texts = entries.filter_map(|(name, item)| Some((name, item.text()?)));
    let plain = texts.filter(|(_, text)| !text.contains(['$', '{', '}']));
    plain.map(|(name, text)| (name.to_owned(), text.to_owned())).collect()
}

/// Variables the file itself sets: those that the result names are to be set, the others are listed.
pub fn environment(root: &Item, words: &Words, draft: &Draft) {
    let Some(section) = root.get("environment_variables") else { return };
    let document = draft.document("");
    for (name, item) in section.entries() {
        if document.contains(&format!("${{{name}:-")) {
            item.taken();
        } else if document.contains(&format!("${{{name}}}")) && item.text().is_some() {
            item.taken();
            words.listing.set(name, item.location);
        } else {
            item.list(words.listing, "nothing in the result depends on this variable");
        }
    }
}

/// Why nobody asked for what stands at `path`.
pub fn unread(path: &str) -> Option<&'static str> {
    let (section, rest) = path.split_once('.').unwrap_or((path, ""));
    let name = rest.split(['.', '[']).next().unwrap_or_default();
    match (section, name) {
        (_, "cache" | "cache_params" | "caching_groups" | "cache_responses" | "cache_kwargs") => {
            Some("there is no cache of answers")
        }
        (_, "success_callback" | "failure_callback" | "callbacks" | "service_callbacks")
        | ("callback_settings", _) => Some(
            "there are no callbacks: `/metrics` is for Prometheus, and the access log for the rest",
        ),
        (_, "context_window_fallbacks" | "content_policy_fallbacks") => {
            Some("fallback does not depend on what was wrong with a request")
        }
        (_, "retry_policy" | "model_group_retry_policy" | "allowed_fails_policy") => {
            Some("one rule for all failures: see `retry.on` and `ejection`")
        }
        (_, "enable_pre_call_checks" | "enable_pre_call_check") => {
            Some("nobody knows beforehand whether a prompt fits: its model says so")
        }
        (_, "set_verbose" | "json_logs" | "debug_level") => Some("`RUST_LOG` says what is logged"),
        (_, "turn_off_message_logging" | "redact_user_api_key_info") => {
            Some("prompts, answers and keys are not logged in any case")
        }
        ("general_settings", name)
            if name.starts_with("database_") || name == "store_model_in_db" =>
        {
            Some(
                "LiteLLM's own tables cannot be read: `store.url` names a database of Forebay's own, and `forebay key create` makes keys",
            )
        }
        (
            "general_settings",
            "alerting"
            | "alerting_args"
            | "alerting_threshold"
            | "alert_types"
            | "alert_to_webhook_url",
        ) => Some("there are no alerts: let Prometheus give them"),
        (
            "general_settings",
            "background_health_checks" | "health_check_interval" | "health_check_details",
        ) => Some("replicas are checked by `health_check` of their provider"),
        ("general_settings", "use_x_forwarded_for") => {
            Some("`trusted_proxies` names whose word is believed")
        }
        ("general_settings", "max_parallel_requests" | "global_max_parallel_requests") => Some(
            "requests at once are limited for a key, a user or a model, with `limits.max_concurrent`",
        ),
        (section, _)
            if path.ends_with(".credential_info") && section.starts_with("credential_list[") =>
        {
            Some("a comment says as much")
        }
        (
            "guardrails" | "mcp_servers" | "mcp_tools" | "search_tools" | "vector_store_registry",
            _,
        ) => Some("there is no such thing here"),
        (section, _) if section.starts_with("model_list[") => unread_of_model(path),
        _ => None,
    }
}

fn unread_of_model(path: &str) -> Option<&'static str> {
    let mut parts = path.split('.').skip(1);
    match (parts.next(), parts.next()) {
        (Some("model_info"), Some("access_groups")) => {
            Some("`allowed_models` of a key names models, by pattern if need be")
        }
        (Some("model_info"), _) => Some("describes the model; nothing here depends on it"),
        (Some("litellm_params"), Some("max_parallel_requests")) => Some(
            "requests at once are limited for a key, a user or a model, with `limits.max_concurrent`",
        ),
        (Some("litellm_params"), Some("max_retries" | "num_retries")) => {
            Some("`retry` is for all models")
        }
        (Some("litellm_params"), Some("tags")) => Some("targets are not chosen by tags"),
        (
            Some("litellm_params"),
            Some("azure_ad_token" | "tenant_id" | "client_id" | "client_secret"),
        ) => Some("Azure is called with a key; a token would end"),
        (Some("litellm_params"), Some("drop_params" | "additional_drop_params")) => {
            Some("`translation` is for all models")
        }
        (Some("litellm_params"), Some("mock_response")) => {
            Some("a provider of kind `mock` answers by itself")
        }
        _ => None,
    }
}
