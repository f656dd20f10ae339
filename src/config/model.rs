//! The `models` section: what clients may ask for, and where it is served.

use super::names::Noun;
use super::read::{Section, Value};
use super::{
    Allowance, AuditContent, Location, Matcher, RateLimit, RequestEdits, ResponseEdits, Translation,
};

/// Something clients may ask for; it has either a name or a matcher.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Model {
    /// The name it is asked for by.
    pub name: Option<String>,
    /// Other names for it.
    pub aliases: Vec<String>,
    /// The names it answers to, when it has none of its own.
    pub matcher: Option<Matcher>,
    /// Where it is served.
    pub targets: Vec<Target>,
    /// Models to try next, in order, by their own names (never by an alias).
    pub fallback: Vec<String>,
    /// What is changed in its requests.
    pub request: RequestEdits,
    /// What is changed in its responses.
    pub response: ResponseEdits,
    /// How quickly requests for it may follow each other, of all callers together.
    pub rate_limit: Option<RateLimit>,
    /// What all callers together may use of it.
    pub limits: Allowance,
    /// What becomes of what its providers cannot say; `None` is as for all models.
    pub translation: Option<Translation>,
    /// What of its calls' content is written down, unless a key keeps less.
    pub content: Option<AuditContent>,
    /// Where it stands in the file.
    pub location: Location,
}

/// One place a model is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The provider's name.
    pub provider: String,
    /// What the provider calls the model; `None` passes the client's name on.
    pub model: Option<String>,
    /// Its share of the requests; 0 is only for when the others cannot serve.
    pub weight: u32,
    /// Where it stands in the file.
    pub location: Location,
}

// === impl Model ===

impl Model {
    /// A model that answers to every name and passes it on.
    pub fn catch_all(provider: &str) -> Self {
        Self {
            matcher: Some(Matcher::Prefix(vec![String::new()])),
            targets: vec![Target::new(provider)],
            ..Self::default()
        }
    }

    pub(super) fn read(value: Value) -> Option<Self> {
        value.section(|s| {
            let model = Self {
                name: s.read("name", |v| v.gives(Noun::Model)),
                aliases: s
                    .read("aliases", |v| v.list(|alias| alias.gives(Noun::Model)))
                    .unwrap_or_default(),
                matcher: s.read("match", Matcher::read),
                targets: s.require("targets", |v| v.some_list(Target::read)).unwrap_or_default(),
                fallback: s
                    .read("fallback", |v| v.list(|model| model.seeks(Noun::Model)))
                    .unwrap_or_default(),
                request: s.read("request", RequestEdits::read).unwrap_or_default(),
                response: s.read("response", ResponseEdits::read).unwrap_or_default(),
                rate_limit: s.read("rate_limit", RateLimit::read),
                limits: s.read("limits", limits).unwrap_or_default(),
                translation: s.read("translation", Translation::read),
                content: s.read("content", AuditContent::read),
                location: s.location(),
            };
            report_identity(s);
            model
        })
    }
}

/// Reads what all callers together may use.
fn limits(value: Value) -> Option<Allowance> {
    let limits = Allowance::read(value)?;
    if limits.max_ips > 0 {
        value.warn("`max_ips` is for keys and users, and has no effect on a model");
    }
    Some(limits)
}

fn report_identity(s: &Section) {
    let mistake = match (s.has("name"), s.has("match")) {
        (true, true) => "a model has a `name` or a `match`, not both",
        (false, false) => "a model needs a `name` or a `match`",
        (false, true) if s.has("aliases") => "`aliases` belong to a model with a `name`",
        _ => return,
    };
    s.error::<()>(mistake);
}

// === impl Target ===

impl Target {
    /// This provider, under the client's name, with weight 1.
    pub fn new(provider: &str) -> Self {
        Self {
            provider: provider.to_owned(),
            model: None,
            weight: 1,
            location: Location::default(),
        }
    }

    fn read(value: Value) -> Option<Self> {
        value.section(|s| {
            let model = s.read("model", Value::name);
            let weight = s.read("weight", |v| v.number(0, 1_000)).unwrap_or(1);
            let provider = s.require("provider", |v| v.seeks(Noun::Provider))?;
            Some(Self { provider, model, weight, location: s.location() })
        })?
    }
}
