//! What was said: one YAML file, read into plain typed data, with every mistake named by its place.
//!
//! [`load`] is the one entry. Below it the text becomes a `tree` that remembers places, its scalars
//! `expand` from the environment, each section reads itself from the tree with the kit in `read` and
//! `scalars`, and `check` looks at what no section can see alone.

mod abuse;
mod access_log;
mod admin;
mod admission;
mod allowance;
mod audit;
mod balancing;
mod capabilities;
mod check;
mod cloud;
mod cors;
mod discovery;
mod dotenv;
mod dynamic;
mod edits;
mod endpoint;
mod expand;
mod fallback;
mod findings;
mod glob;
mod health;
mod key;
mod kv_events;
mod limits;
mod listen;
mod load;
mod matcher;
mod metrics;
mod mock;
mod model;
mod names;
mod operation;
mod overrides;
mod pingora;
mod prices;
mod privacy;
mod problem;
mod provider;
mod quotas;
mod read;
mod responses;
mod retry;
mod scalars;
mod secret;
mod source;
mod stamp;
mod store;
mod temporary;
mod timeouts;
mod tracing;
mod tree;
mod units;
mod url;
mod users;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

pub use self::abuse::{
    Abuse, Action, Bounds, ContentRule, FailedKeys, Measure, Moderation, Moderator, Networks,
    OnError, Pace, Patterns, Sites,
};
pub use self::access_log::{AccessLog, LogFormat, Rotate};
pub use self::admin::Admin;
pub use self::admission::{Admission, Priority, PriorityError, Rank, RankGiven};
pub use self::allowance::{
    Allowance, Budget, NANOS_PER_USD, Period, PeriodError, RateLimit, format_usd, parse_usd,
};
pub use self::audit::{
    Audit, AuditContent, AuditSpool, AuditStore, Retention, Rotation, Webhook, WhenFull,
};
pub use self::balancing::LoadBalancing;
pub use self::capabilities::{Capability, ThinkingRule};
pub use self::cloud::{
    AccessKey, Authorization, AwsLogin, AzureLogin, AzureProof, Cloud, GoogleLogin, Login,
};
pub use self::cors::Cors;
pub(crate) use self::discovery::read_endpoints;
pub use self::discovery::{Discovery, Dns, Form, Kubernetes, Port, Srv};
pub use self::edits::{RequestEdits, ResponseEdits, Thinking, ThinkingHistory};
pub use self::endpoint::{Endpoint, UpstreamTls};
pub use self::glob::glob_matches;
pub use self::health::{Ejection, HealthCheck, Probe};
pub use self::key::Key;
pub use self::kv_events::{EventPort, KvEvents};
pub use self::limits::Limits;
pub use self::listen::{Listen, ListenTls};
pub(crate) use self::load::expanded;
pub use self::load::load;
pub use self::matcher::Matcher;
pub use self::metrics::Metrics;
pub use self::mock::MockOptions;
pub use self::model::{Model, Target};
pub use self::operation::{OPERATIONS, Operation};
pub use self::prices::PriceEntry;
pub use self::privacy::Privacy;
pub use self::problem::{Location, Problem, Problems, Severity};
pub use self::provider::{ClientAuth, Dialect, Kind, Provider, Translation};
pub use self::quotas::{QuotaGroup, Quotas};
pub use self::responses::{Objects, Responses};
pub use self::retry::{Retry, RetryOn};
pub use self::secret::Secret;
pub(crate) use self::source::read_text;
pub use self::source::{Dynamic, Source};
pub use self::stamp::Stamp;
pub use self::store::Store;
pub use self::temporary::TemporaryKeys;
pub use self::timeouts::{ProviderTimeouts, Timeouts};
pub use self::tracing::Tracing;
pub(crate) use self::tree::{Content, Entry, Node, outline};
pub use self::units::Percent;
pub use self::url::{Url, UrlError};
pub use self::users::{OnMaxIps, Users};

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
    /// Where keys, users and counts are kept; see [`Config::store_url`] for the database to open.
    pub store: Option<Store>,
    /// Where several nodes count together: an address that may hold a password.
    pub redis: Option<Secret>,
    /// What is written down of each answered request; absent means nothing.
    pub audit: Option<Audit>,
    /// Tokens of each user, by group of models.
    pub quotas: Quotas,
    /// What models cost; these go before the shipped table.
    pub prices: Vec<PriceEntry>,
    /// The file that `prices` named.
    pub prices_file: Option<PathBuf>,
    /// Keys that people make for themselves; absent means none.
    pub temporary_keys: Option<TemporaryKeys>,
    /// What holds for every user who has no word of their own.
    pub users: Users,
    /// The folder the service manager keeps for the state of this service.
    pub state_directory: Option<PathBuf>,
    /// Where metrics are served.
    pub metrics: Metrics,
    /// A line for each request; absent means none but those of the log.
    pub access_log: Option<AccessLog>,
    /// Where spans of requests go; absent means nowhere.
    pub tracing: Option<Tracing>,
    /// Who and what is kept out, slowed down or looked at before it is served.
    pub abuse: Abuse,
    /// What is kept about a caller.
    pub privacy: Privacy,
    /// What is kept of responses whose provider cannot keep them.
    pub responses: Responses,
    /// What is remembered of objects at providers.
    pub objects: Objects,
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
    /// What becomes of what a provider cannot say, unless a model says it.
    pub translation: Translation,
    /// What models take, beside what is known of them; the first whose glob matches counts.
    pub capabilities: Vec<Capability>,
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
        self.providers.iter_mut().for_each(|provider| provider.cloud.anchor(folder));
        self.audit.iter_mut().for_each(|audit| audit.anchor(folder));
        self.prices_file = self.prices_file.take().map(|file| folder.join(file));
        let log = self.access_log.as_mut().and_then(|log| log.to.as_mut());
        if let Some(file) = log {
            *file = folder.join(&file);
        }
    }

    /// The files it names, which belong to it: certificates, their keys, and authorities.
    pub fn files(&self) -> Vec<PathBuf> {
        let listeners = self.listen.iter().filter_map(|listen| listen.tls.as_ref());
        let listeners = listeners.flat_map(|tls| [&tls.cert, &tls.key]);
        let authorities = self.providers.iter().filter_map(|p| p.tls.ca_file.as_ref());
        listeners.chain(authorities).chain(&self.prices_file).cloned().collect()
    }

    /// Whether callers need no key: it was said so, or the file has neither a key nor a `store` for
    /// some, and only loopback listens. The first key that is made ends the latter.
    pub fn open(&self) -> bool {
        let keyless = self.keys.is_empty() && self.store.is_none();
        self.anonymous || (keyless && self.listen.iter().all(Listen::is_loopback))
    }

    /// Whether responses are kept whose provider cannot keep them. They have content.
    pub fn keeps_responses(&self) -> bool {
        self.responses.kept && !self.privacy.strict
    }

    /// Whether keys can be made while it serves: there is a database for them.
    pub fn may_have_keys(&self) -> bool {
        self.store.is_some() || self.admin.is_some()
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
            store: None,
            redis: None,
            audit: None,
            quotas: Quotas::default(),
            prices: Vec::new(),
            prices_file: None,
            temporary_keys: None,
            users: Users::default(),
            state_directory: None,
            metrics: Metrics::default(),
            access_log: None,
            tracing: None,
            abuse: Abuse::default(),
            privacy: Privacy::default(),
            responses: Responses::default(),
            objects: Objects::default(),
            cors: None,
            trusted_proxies: Vec::new(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            retry: Retry::default(),
            heartbeat: Some(Duration::from_secs(15)),
            translation: Translation::default(),
            capabilities: Vec::new(),
        }
    }
}
