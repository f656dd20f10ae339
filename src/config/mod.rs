//! What was said: one YAML file, read into plain typed data, with every mistake named by its place.
//!
//! [`load`] is the one entry. Below it the text becomes a `tree` that remembers places, its scalars
//! `expand` from the environment, each section reads itself from the tree with the kit in `read` and
//! `scalars`, and `check` looks at what no section can see alone.

mod admin;
mod check;
mod cors;
mod dotenv;
mod edits;
mod endpoint;
mod expand;
mod fallback;
mod findings;
mod health;
mod key;
mod limits;
mod listen;
mod load;
mod matcher;
mod metrics;
mod mock;
mod model;
mod names;
mod overrides;
mod pingora;
mod privacy;
mod problem;
mod provider;
mod read;
mod retry;
mod scalars;
mod secret;
mod source;
mod timeouts;
mod tree;
mod unbuilt;
mod units;
mod url;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

pub use self::admin::Admin;
pub use self::cors::Cors;
pub use self::edits::{RequestEdits, ResponseEdits, Thinking, ThinkingHistory};
pub use self::endpoint::{Endpoint, UpstreamTls};
pub use self::health::{Ejection, HealthCheck, Probe};
pub use self::key::Key;
pub use self::limits::Limits;
pub use self::listen::{Listen, ListenTls};
pub use self::load::load;
pub use self::matcher::Matcher;
pub use self::metrics::Metrics;
pub use self::mock::MockOptions;
pub use self::model::{Model, Target};
pub use self::privacy::Privacy;
pub use self::problem::{Location, Problem, Problems, Severity};
pub use self::provider::{ClientAuth, Dialect, Kind, LoadBalancing, Provider};
pub use self::retry::{Retry, RetryOn};
pub use self::secret::Secret;
pub use self::source::Source;
pub use self::timeouts::{ProviderTimeouts, Timeouts};
pub use self::units::Percent;
pub use self::url::{Url, UrlError};

/// One configuration, read and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Pingora's own top-level keys as given (`threads`, `upgrade_sock`, …), `version` included.
    pub pingora: serde_yaml::Mapping,
    /// Where clients are served.
    pub listen: Vec<Listen>,
    /// The control plane; absent means off.
    pub admin: Option<Admin>,
    /// Where requests can go.
    pub providers: Vec<Provider>,
    /// What clients may ask for, in file order.
    pub models: Vec<Model>,
    /// `Proxy` makes `Proxy/llama-70b` mean `llama-70b`.
    pub model_prefix: Option<String>,
    /// The provider of requests that carry no model.
    pub default_provider: Option<String>,
    /// Who may call.
    pub keys: Vec<Key>,
    /// Lets callers in without a key, said on purpose.
    pub anonymous: bool,
    /// Where metrics are served.
    pub metrics: Metrics,
    /// What is kept about a caller.
    pub privacy: Privacy,
    /// Which web pages may call; absent means none.
    pub cors: Option<Cors>,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Bounds on what a client may send and hold.
    pub limits: Limits,
    /// How long a client, and a shutdown, may take.
    pub timeouts: Timeouts,
    /// When another attempt is made.
    pub retry: Retry,
    /// How often a silent stream gets an SSE comment; `None` is off.
    pub heartbeat: Option<Duration>,
}

// === impl Config ===

impl Config {
    /// Where the control socket of a running server is to be.
    pub fn upgrade_sock(&self) -> Option<&str> {
        self.pingora.get("upgrade_sock")?.as_str()
    }

    /// One upstream in front of everything, on loopback: what `forebay run -a KEY -p PORT` serves.
    ///
    /// A caller's own key goes before `key`, every model name is passed on, and nothing is kept.
    pub fn single(upstream: Url, key: Option<Secret>, port: u16) -> Self {
        let openai = Kind::Openai.default_url().is_some_and(|default| default == upstream);
        let kind = if openai { Kind::Openai } else { Kind::OpenaiCompatible };
        let mut provider = Provider::new("upstream", kind, vec![Endpoint::new(upstream)]);
        provider.api_keys.extend(key.filter(|key| !key.expose().is_empty()));
        provider.client_auth = ClientAuth::PreferClient;
        Self {
            listen: vec![Listen::loopback(port)],
            providers: vec![provider],
            models: vec![Model::catch_all("upstream")],
            default_provider: Some("upstream".to_owned()),
            privacy: Privacy::STRICT,
            ..Self::default()
        }
    }

    /// Makes paths absolute: what is read again later must not depend on where the process has gone
    /// meanwhile.
    pub fn anchor(&mut self, folder: &Path) {
        for tls in self.listen.iter_mut().filter_map(|listen| listen.tls.as_mut()) {
            (tls.cert, tls.key) = (folder.join(&tls.cert), folder.join(&tls.key));
        }
        for authority in self.providers.iter_mut().filter_map(|p| p.tls.ca_file.as_mut()) {
            *authority = folder.join(&authority);
        }
    }

    /// The files it names, which belong to it: certificates, their keys, and authorities.
    pub fn files(&self) -> Vec<PathBuf> {
        let listeners = self.listen.iter().filter_map(|listen| listen.tls.as_ref());
        let listeners = listeners.flat_map(|tls| [&tls.cert, &tls.key]);
        let authorities = self.providers.iter().filter_map(|p| p.tls.ca_file.as_ref());
        listeners.chain(authorities).cloned().collect()
    }

    /// Whether callers need no key: it was said so, or there is no key and only loopback listens.
    pub fn open(&self) -> bool {
        self.anonymous || (self.keys.is_empty() && self.listen.iter().all(Listen::is_loopback))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            pingora: serde_yaml::Mapping::new(),
            listen: vec![Listen::loopback(8080)],
            admin: None,
            providers: Vec::new(),
            models: Vec::new(),
            model_prefix: None,
            default_provider: None,
            keys: Vec::new(),
            anonymous: false,
            metrics: Metrics::default(),
            privacy: Privacy::default(),
            cors: None,
            trusted_proxies: Vec::new(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            retry: Retry::default(),
            heartbeat: Some(Duration::from_secs(15)),
        }
    }
}
