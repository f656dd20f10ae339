//! A gateway with a provider of each dialect behind it, each asked for by the model of its name.

use super::dialects::{ALL, Dialect};
use super::gateway::{self, Gateway, Plan};
use super::upstream::{self, Upstream};

pub struct Matrix {
    pub gateway: Gateway,
    upstreams: Vec<Upstream>,
}

/// Each answers "one two", as a stream where it is asked for one.
pub async fn matrix() -> Matrix {
    Matrix::of("", "").await
}

/// What `dialect`'s provider says to a call.
pub fn speak(dialect: Dialect, call: &upstream::Call) -> super::answer::Answer {
    if streams(call) { dialect.words(&["one", " two"]) } else { dialect.answer("one two") }
}

/// Whether a stream is asked for.
pub fn streams(call: &upstream::Call) -> bool {
    let body = call.json_body().unwrap_or_default();
    body["stream"] == true || call.target().to_lowercase().contains("stream")
}

impl Matrix {
    /// `model` stands in each model, and `top` at the top of the file.
    pub async fn of(model: &str, top: &str) -> Self {
        let mut upstreams = Vec::new();
        for dialect in ALL {
            upstreams.push(upstream::with(move |call| speak(dialect, call)).await);
        }
        let gateway = plan(model, top, &upstreams).start().await;
        Self { gateway, upstreams }
    }

    pub fn upstream(&self, dialect: Dialect) -> &Upstream {
        &self.upstreams[ALL.iter().position(|it| *it == dialect).unwrap()]
    }

    /// The last call to a provider.
    pub fn last(&self, dialect: Dialect) -> std::sync::Arc<upstream::Call> {
        let mut calls = self.upstream(dialect).calls();
        calls.pop().unwrap_or_else(|| panic!("{dialect:?} was not called"))
    }
}

fn plan(model: &str, top: &str, upstreams: &[Upstream]) -> Plan {
    let mut yaml = format!("{top}\nproviders:\n");
    for (dialect, upstream) in ALL.iter().zip(upstreams) {
        yaml += &dialect.provider(dialect.name(), &upstream.address.to_string());
    }
    yaml += "models:\n";
    for name in ALL.map(Dialect::name) {
        let target = format!("targets: [{{ provider: {name}, model: up }}]");
        let model = if model.is_empty() { String::new() } else { format!(", {model}") };
        yaml.extend(["  - { name: ", name, ", ", &target, &model, " }\n"]);
    }
    gateway::with(&yaml)
}

/// A gateway whose model `m` is served by `first`, and by `second` where that cannot.
pub async fn spare(first: Dialect, a: &Upstream, second: Dialect, b: &Upstream) -> Gateway {
    let providers = first.provider("one", &a.address.to_string())
        + &second.provider("two", &b.address.to_string());
    let targets = "[{ provider: one, model: up }, { provider: two, model: up, weight: 0 }]";
    let yaml = format!("providers:\n{providers}models:\n  - {{ name: m, targets: {targets} }}\n");
    gateway::with(&yaml).start().await
}

/// A gateway whose model `m` is served by this one alone.
pub async fn only(dialect: Dialect, upstream: &Upstream, top: &str) -> Gateway {
    only_at(dialect, &upstream.address.to_string(), top).start().await
}

pub fn only_at(dialect: Dialect, at: &str, top: &str) -> Plan {
    let provider = dialect.provider("p", at);
    let target = "{ name: m, targets: [{ provider: p, model: up }] }";
    gateway::with(&format!("{top}\nproviders:\n{provider}models:\n  - {target}\n"))
}
