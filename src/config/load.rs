//! From text to a checked configuration.

use std::path::Path;

use super::abuse::network;
use super::findings::Findings;
use super::names::Noun;
use super::overrides::Overrides;
use super::prices::PriceList;
use super::read::Value;
use super::tree::Node;
use super::{
    Abuse, AccessLog, Admin, Audit, Capability, Config, Cors, Key, Limits, Listen, Metrics, Model,
    Objects, Privacy, Problem, Provider, Quotas, Responses, Retry, Source, Store, TemporaryKeys,
    Timeouts, Tracing, Translation, Users, check, dynamic, expand, pingora, store, tree,
};

/// Parses, expands and checks a configuration; every mistake is found in one run.
///
/// A configuration that can be used comes with its warnings, sorted by place.
///
/// # Errors
///
/// One that cannot be used comes back as all its problems, sorted by place.
pub fn load(source: &Source) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
    let (overrides, problems) = Overrides::read(&source.environment);
    let findings = Findings::new(overrides, problems);
    let config = tree::parse(&source.text, &findings).and_then(|mut tree| {
        expand::expand(&mut tree, &source.environment, &findings);
        tree.report_duplicates(&findings);
        dynamic::merge(&mut tree, &source.dynamic, &source.environment, &findings);
        let folder = source.path.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        let mut config = read(&tree, folder, &findings)?;
        for provider in &mut config.providers {
            provider.cloud.anchor(folder);
            provider.discovery.anchor(folder);
        }
        config.state_directory = store::state_directory(source.environment.get("STATE_DIRECTORY"));
        let mut config = check::check(config, &tree, &findings);
        dynamic::forget_places(&mut config);
        Some(config)
    });
    let problems = dynamic::name(findings.into_problems(), &source.dynamic);
    match config {
        Some(config) if !problems.iter().any(Problem::is_error) => Ok((config, problems)),
        _ => Err(problems),
    }
}

/// Parses and expands a file that is not, or not only, a configuration.
///
/// # Errors
///
/// Everything that is wrong with it, by place.
pub(crate) fn expanded(source: &Source) -> Result<Node, Vec<Problem>> {
    let findings = Findings::new(Overrides::default(), Vec::new());
    let tree = tree::parse(&source.text, &findings).map(|mut tree| {
        expand::expand(&mut tree, &source.environment, &findings);
        tree.report_duplicates(&findings);
        tree
    });
    let problems = findings.into_problems();
    tree.filter(|_| problems.is_empty()).ok_or(problems)
}

fn read(tree: &Node, folder: &Path, findings: &Findings) -> Option<Config> {
    Value { name: "", node: tree, findings }.section(|s| {
        let default = Config::default();
        let prices = s.read("prices", |v| PriceList::read(v, folder)).unwrap_or_default();
        Config {
            listen: s.read("listen", |v| v.some_list(Listen::read)).unwrap_or(default.listen),
            admin: s.read("admin", Admin::read),
            providers: s.read("providers", |v| v.list(Provider::read)).unwrap_or_default(),
            models: s.read("models", |v| v.list(Model::read)).unwrap_or_default(),
            model_prefix: s.read("model_prefix", model_prefix),
            default_provider: s.read("default_provider", |v| v.seeks(Noun::Provider)),
            keys: s.read("keys", |v| v.list(Key::read)).unwrap_or_default(),
            anonymous: s.read("anonymous", Value::boolean).unwrap_or_default(),
            store: s.read("store", Store::read),
            redis: s.read("redis", Store::read_redis),
            audit: s.read("audit", Audit::read),
            quotas: s.read("quotas", Quotas::read).unwrap_or_default(),
            prices_file: prices.file,
            prices: prices.entries,
            temporary_keys: s.read("temporary_keys", TemporaryKeys::read),
            users: s.read("users", Users::read).unwrap_or_default(),
            state_directory: None,
            metrics: s.read("metrics", Metrics::read).unwrap_or_default(),
            access_log: s.switch("access_log", None, AccessLog::read),
            tracing: s.switch("tracing", None, Tracing::read),
            abuse: s.read("abuse", Abuse::read).unwrap_or_default(),
            privacy: s.read("privacy", Privacy::read).unwrap_or_default(),
            responses: s.read("responses", Responses::read).unwrap_or_default(),
            objects: s.read("objects", Objects::read).unwrap_or_default(),
            cors: s.read("cors", Cors::read),
            trusted_proxies: s.read("trusted_proxies", |v| v.list(network)).unwrap_or_default(),
            limits: s.read("limits", Limits::read).unwrap_or_default(),
            timeouts: s.read("timeouts", Timeouts::read).unwrap_or_default(),
            retry: s.read("retry", Retry::read).unwrap_or_default(),
            heartbeat: s.switch("heartbeat", default.heartbeat, Value::timeout),
            translation: s.read("translation", Translation::read).unwrap_or_default(),
            capabilities: s.read("capabilities", |v| v.list(Capability::read)).unwrap_or_default(),
            // Last, so that a hint which lists the known keys begins with the sections.
            pingora: pingora::read(s),
        }
    })
}

fn model_prefix(value: Value) -> Option<String> {
    let prefix = value.name()?;
    if prefix.ends_with('/') {
        return value.must_be_hint("a name without a slash at its end", "the slash is understood");
    }
    Some(prefix)
}
