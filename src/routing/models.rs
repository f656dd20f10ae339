//! What clients may ask for: names, aliases and rules, compiled for look-up.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::schedule::Schedule;
use crate::config::{self, Matcher, RequestEdits, ResponseEdits, Translation};

/// Every model of a configuration.
#[derive(Debug)]
pub struct Models {
    all: Vec<Arc<Model>>,
    exact: HashMap<String, usize>,
    rules: Vec<(Matcher, usize)>,
    prefix: Option<String>,
}

/// One entry of `models`.
#[derive(Debug)]
pub struct Model {
    /// Its place among all of the configuration.
    pub index: usize,
    /// Its name, or its rule in words: a metric label.
    pub label: String,
    /// What clients call it; empty for a rule.
    pub names: Vec<String>,
    pub targets: Vec<Target>,
    pub(super) schedule: Schedule,
    /// Models to try next, by name.
    pub fallback: Vec<String>,
    pub request: RequestEdits,
    pub response: ResponseEdits,
    /// What becomes of what a target's dialect does not have.
    pub translation: Translation,
}

/// One provider that serves a model.
#[derive(Debug)]
pub struct Target {
    /// Index into the configuration's providers.
    pub provider: usize,
    /// The provider's own name of it; `None` passes the client's on.
    pub model: Option<String>,
    pub weight: u32,
}

/// A target names a provider that is not there.
#[derive(Debug, thiserror::Error)]
#[error("no provider is called `{0}`")]
pub struct Unresolved(pub String);

impl Models {
    pub fn new(given: &config::Config) -> Result<Self, Unresolved> {
        let providers: HashMap<&str, usize> =
            given.providers.iter().enumerate().map(|(index, p)| (p.name.as_str(), index)).collect();
        let mut models = Vec::with_capacity(given.models.len());
        let (mut exact, mut rules) = (HashMap::new(), Vec::new());
        for (index, model) in given.models.iter().enumerate() {
            let names: Vec<String> = model.name.iter().chain(&model.aliases).cloned().collect();
            exact.extend(names.iter().map(|name| (name.clone(), index)));
            match &model.matcher {
                // Names in a list rank with names, before every rule.
                Some(Matcher::Exact(listed)) => {
                    exact.extend(listed.iter().map(|name| (name.clone(), index)));
                }
                Some(rule) => rules.push((rule.clone(), index)),
                None => {}
            }
            models.push(Arc::new(compile(index, model, names, &providers, given.translation)?));
        }
        Ok(Self { all: models, exact, rules, prefix: given.model_prefix.clone() })
    }

    /// The entry that serves `name`, and the name without the configured prefix.
    pub fn find<'n>(&self, name: &'n str) -> Option<(&Arc<Model>, &'n str)> {
        let bare = self.without_prefix(name);
        let rule =
            || self.rules.iter().find(|(rule, _)| matches(rule, bare)).map(|(_, index)| index);
        let index = self.exact.get(bare).or_else(rule)?;
        Some((self.all.get(*index)?, bare))
    }

    pub fn all(&self) -> &[Arc<Model>] {
        &self.all
    }

    fn without_prefix<'n>(&self, name: &'n str) -> &'n str {
        let Some(prefix) = &self.prefix else { return name };
        name.strip_prefix(prefix.as_str()).and_then(|rest| rest.strip_prefix('/')).unwrap_or(name)
    }
}

impl Target {
    /// What the provider calls the model a client asked for as `asked`.
    pub fn model<'a>(&'a self, asked: &'a str) -> &'a str {
        self.model.as_deref().unwrap_or(asked)
    }
}

fn compile(
    index: usize,
    model: &config::Model,
    mut names: Vec<String>,
    providers: &HashMap<&str, usize>,
    translation: Translation,
) -> Result<Model, Unresolved> {
    let target = |target: &config::Target| {
        let provider = providers.get(target.provider.as_str()).copied();
        let provider = provider.ok_or_else(|| Unresolved(target.provider.clone()))?;
        Ok(Target { provider, model: target.model.clone(), weight: target.weight })
    };
    let targets = model.targets.iter().map(target).collect::<Result<Vec<_>, _>>()?;
    let weights: Vec<u32> = targets.iter().map(|target| target.weight).collect();
    if let Some(Matcher::Exact(listed)) = &model.matcher {
        names.extend(listed.iter().cloned());
    }
    Ok(Model {
        index,
        label: label(model).into_owned(),
        names,
        targets,
        schedule: Schedule::new(&weights),
        fallback: model.fallback.clone(),
        request: model.request.clone(),
        response: model.response.clone(),
        translation: model.translation.unwrap_or(translation),
    })
}

/// A label from the configuration alone, since a rule matches whatever a client makes up.
fn label(model: &config::Model) -> Cow<'_, str> {
    if let Some(name) = &model.name {
        return Cow::Borrowed(name);
    }
    let first = |kind: &str, listed: &[String]| format!("{kind}:{}", listed.join("|"));
    Cow::Owned(match &model.matcher {
        Some(Matcher::Exact(listed)) => first("exact", listed),
        Some(Matcher::Prefix(listed)) => first("prefix", listed),
        Some(Matcher::Suffix(listed)) => first("suffix", listed),
        Some(Matcher::Keyword(listed)) => first("keyword", listed),
        Some(Matcher::Regex(regex)) => format!("regex:{regex}"),
        None => String::new(),
    })
}

fn matches(rule: &Matcher, name: &str) -> bool {
    match rule {
        Matcher::Exact(listed) => listed.iter().any(|exact| exact == name),
        Matcher::Prefix(listed) => listed.iter().any(|prefix| name.starts_with(prefix.as_str())),
        Matcher::Suffix(listed) => listed.iter().any(|suffix| name.ends_with(suffix.as_str())),
        Matcher::Keyword(listed) => listed.iter().any(|keyword| name.contains(keyword.as_str())),
        Matcher::Regex(regex) => regex.is_match(name),
    }
}
