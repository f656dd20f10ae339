//! The `providers` section: where requests can go, and how each place is called.

use std::time::Duration;

use super::names::Noun;
use super::read::{Section, Value};
use super::tree::Entry;
use super::{
    Admission, Cloud, Discovery, Ejection, Endpoint, HealthCheck, KvEvents, LoadBalancing,
    Location, MockOptions, Operation, Problem, ProviderTimeouts, Secret, UpstreamTls, Url, cloud,
    discovery,
};

/// How long a replica's share grows when nothing is said: about what a server's first batches take.
const SLOW_START: Duration = Duration::from_secs(30);

// Headers that frame a request or belong to one connection.
const OURS: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// One upstream service: a cluster of replicas, or a commercial API.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    /// What targets call it.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its replicas; empty only for the built-in mock, and where they are found in another way.
    pub endpoints: Vec<Endpoint>,
    /// Where its replicas are found.
    pub discovery: Discovery,
    /// How long it takes a replica that joins to be given its whole share.
    pub slow_start: Duration,
    /// What operators may call on a replica through the admin API.
    pub operations: Vec<&'static Operation>,
    /// Our keys with it, used in turn; none is empty.
    pub api_keys: Vec<Secret>,
    /// Whose key goes out.
    pub client_auth: ClientAuth,
    /// How a replica is chosen.
    pub load_balancing: LoadBalancing,
    /// Where they tell what they have cached; only with `prefix_affinity`.
    pub kv_events: Option<KvEvents>,
    /// How replicas are asked whether they are well.
    pub health_check: HealthCheck,
    /// How long an exchange with it may take.
    pub timeouts: ProviderTimeouts,
    /// When a replica that fails is left out; `None` is never.
    pub ejection: Option<Ejection>,
    /// How much it has under way at once, and who waits for it; `None`: no bound, and nobody waits.
    pub admission: Option<Admission>,
    /// Azure's API version.
    pub api_version: Option<String>,
    /// Its place in a cloud, and how the gateway logs in there.
    pub cloud: Cloud,
    /// How it proves who it is.
    pub tls: UpstreamTls,
    /// Headers every request to it carries.
    pub headers: Vec<(String, Secret)>,
    /// What it speaks; `None` is what its kind speaks.
    pub dialect: Option<Dialect>,
    /// How the built-in mock behaves; `Some` exactly for kind mock without endpoints.
    pub mock: Option<MockOptions>,
    /// Where it stands in the file.
    pub location: Location,
}

/// What a provider is; decides its defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `OpenAI`'s own API.
    Openai,
    /// Azure `OpenAI`.
    Azure,
    /// Anthropic.
    Anthropic,
    /// Google's Gemini API.
    Gemini,
    /// Google's Vertex AI.
    Vertex,
    /// Amazon Bedrock.
    Bedrock,
    /// A cluster of vLLM servers.
    Vllm,
    /// Anything else that speaks `OpenAI`'s dialect.
    OpenaiCompatible,
    /// A stand-in for trying things out: the built-in one, or one at a URL.
    Mock,
}

/// Each kind's word.
const WORDS: [(&str, Kind); 9] = [
    ("openai", Kind::Openai),
    ("azure", Kind::Azure),
    ("anthropic", Kind::Anthropic),
    ("gemini", Kind::Gemini),
    ("vertex", Kind::Vertex),
    ("bedrock", Kind::Bedrock),
    ("vllm", Kind::Vllm),
    ("openai_compatible", Kind::OpenaiCompatible),
    ("mock", Kind::Mock),
];

/// Whose key goes to the upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// Always ours.
    #[default]
    Replace,
    /// The caller's own, if it sent one.
    PreferClient,
    /// Never ours.
    Forward,
}

/// What a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `OpenAI` chat completions.
    OpenaiChat,
    /// `OpenAI` responses.
    OpenaiResponses,
    /// Anthropic messages.
    Anthropic,
    /// Google Gemini.
    Gemini,
    /// Amazon Bedrock converse.
    Bedrock,
}

/// What becomes of what a caller's dialect has and the provider's has not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Translation {
    /// It is left out, and named in `x-forebay-dropped`.
    #[default]
    Lenient,
    /// The call is refused.
    Strict,
}

// === impl Provider ===

impl Provider {
    /// A provider with everything by its kind's defaults.
    pub fn new(name: &str, kind: Kind, endpoints: Vec<Endpoint>) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            mock: (kind == Kind::Mock && endpoints.is_empty()).then(MockOptions::default),
            endpoints,
            discovery: Discovery::default(),
            slow_start: if kind == Kind::Vllm { SLOW_START } else { Duration::ZERO },
            operations: Vec::new(),
            api_keys: Vec::new(),
            client_auth: ClientAuth::default(),
            load_balancing: LoadBalancing::default(),
            kv_events: None,
            health_check: HealthCheck::by_kind(kind),
            timeouts: ProviderTimeouts::by_kind(kind),
            ejection: Some(Ejection::default()),
            admission: None,
            api_version: (kind == Kind::Azure).then(|| "v1".to_owned()),
            cloud: Cloud::default(),
            tls: UpstreamTls::default(),
            headers: Vec::new(),
            dialect: None,
            location: Location::default(),
        }
    }

    /// Whether nothing sets the two apart but their place in the file.
    pub fn is_like(&self, other: &Self) -> bool {
        *self == Self { location: self.location, ..other.clone() }
    }

    /// Whether the replicas are the same, and are chosen and watched in the same way.
    pub fn has_replicas_of(&self, other: &Self) -> bool {
        self.watches_as(other)
            && self.endpoints == other.endpoints
            && self.discovery == other.discovery
            && self.slow_start == other.slow_start
            && self.load_balancing == other.load_balancing
            && self.kv_events == other.kv_events
    }

    /// Whether replicas are called and watched in the same way, wherever they are found: what is known
    /// of one goes on being true.
    pub fn watches_as(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.health_check == other.health_check
            && self.ejection == other.ejection
            && self.tls == other.tls
    }

    pub(super) fn read(value: Value) -> Option<Self> {
        value.section(|s| {
            let name = s.require("name", |v| v.gives(Noun::Provider)).unwrap_or_default();
            let kind = s.require("kind", Kind::read);
            let endpoints = Endpoint::read_all(s, kind);
            let found = s.read("discovery", Discovery::read);
            // Without its kind a provider cannot be used, but is still read for its mistakes.
            let mut provider = Self::new(&name, kind.unwrap_or(Kind::OpenaiCompatible), endpoints);
            provider.location = s.location();
            provider.find_replicas(s, found);
            provider.tls = value.findings.overrides.upstream_tls();
            provider.read_access(s);
            provider.read_replicas(s);
            provider.read_kind(s, kind);
            provider.read_cloud(s, kind);
            provider.warn_of_unchecked(s);
            provider
        })
    }

    /// How it is called: credentials, headers, TLS.
    fn read_access(&mut self, s: &mut Section) {
        let keys = s.read("api_keys", |v| v.one_or_many(api_key)).unwrap_or_default();
        self.api_keys = keys.into_iter().filter(|key| !key.expose().is_empty()).collect();
        self.client_auth = s.read("client_auth", ClientAuth::read).unwrap_or_default();
        self.headers = s.read("headers", |v| v.map(header)).unwrap_or_default();
        if let Some(tls) = s.read("tls", UpstreamTls::read) {
            self.tls = tls;
        }
    }

    /// How a replica is chosen, watched, waited for and left out.
    fn read_replicas(&mut self, s: &mut Section) {
        let kind = self.kind;
        self.load_balancing = s.read("load_balancing", LoadBalancing::read).unwrap_or_default();
        if let Some(check) = s.read("health_check", |v| HealthCheck::read(v, kind)) {
            self.health_check = check;
        }
        if let Some(timeouts) = s.read("timeouts", |v| ProviderTimeouts::read(v, kind)) {
            self.timeouts = timeouts;
        }
        self.ejection = s.switch("ejection", self.ejection, Ejection::read);
        self.kv_events = s.switch("kv_events", None, KvEvents::read);
        if self.kv_events.is_some() && self.load_balancing != LoadBalancing::PrefixAffinity {
            s.error::<()>("`kv_events` is only for `load_balancing: prefix_affinity`");
        }
        self.admission = s.switch("admission", None, |v| Admission::read(v, kind));
        if let Some(time) = s.read("slow_start", Value::duration) {
            self.slow_start = time;
        }
        self.operations = s.read("operations", |v| v.list(Operation::read)).unwrap_or_default();
    }

    /// Takes over where its replicas are found.
    fn find_replicas(&mut self, s: &Section, found: Option<Discovery>) {
        let Some(found) = found else { return };
        if !found.is_listed() {
            for name in ["base_url", "endpoints"].into_iter().filter(|name| s.has(name)) {
                let problem = format!("`{name}` is for `discovery` of type `dns` only");
                s.value.findings.error(s.location_of(name), problem);
            }
            if !discovery::tells_models(self.kind) {
                let problem =
                    "this `discovery` is only for kinds `vllm`, `openai_compatible` and `mock`";
                s.value.findings.error(s.location_of("discovery"), problem);
            }
            // A default address is none of its own, and a mock that is found is not built in.
            self.endpoints.clear();
            self.mock = None;
        }
        self.discovery = found;
    }

    /// Whether the provider is built into this process.
    pub fn is_built_in(&self) -> bool {
        self.kind == Kind::Mock && self.endpoints.is_empty() && self.discovery.is_listed()
    }

    /// Whether each replica is asked which models it has: one of a cluster may have others than the
    /// next. What a commercial API has does not differ by address.
    pub fn asks_each_for_models(&self) -> bool {
        let several = self.endpoints.len() > 1 || !self.discovery.is_listed();
        let own = self.kind == Kind::Vllm;
        own || (several && discovery::tells_models(self.kind))
    }

    /// What only some kinds have. Without a kind nothing is said to be out of place.
    fn read_kind(&mut self, s: &mut Section, kind: Option<Kind>) {
        self.dialect = s.read("dialect", Dialect::read);
        let version = s.read("api_version", Value::name);
        self.api_version = version.or(self.api_version.take());
        let mock = s.read("mock", MockOptions::read);
        if s.has("api_version") && kind.is_some_and(|kind| kind != Kind::Azure) {
            s.error::<()>("`api_version` is only for kind `azure`");
        }
        if s.has("mock") && kind.is_some() && self.mock.is_none() {
            s.error::<()>("`mock` is only for kind `mock` without `base_url` and `endpoints`");
        }
        self.mock = self.mock.take().map(|default| mock.unwrap_or(default));
    }

    /// Where in its cloud it is, and how the gateway logs in there.
    fn read_cloud(&mut self, s: &mut Section, kind: Option<Kind>) {
        let access =
            cloud::Access { keys: !self.api_keys.is_empty(), client_auth: self.client_auth };
        self.cloud = Cloud::read(s, kind, access);
        if self.endpoints.is_empty() {
            self.endpoints = cloud::endpoints(s, &self.cloud, kind);
        }
    }

    fn warn_of_unchecked(&self, s: &Section) {
        let encrypted = self.endpoints.iter().any(|endpoint| endpoint.url.https);
        if encrypted && !self.tls.verify {
            s.value.warn(format!("`{}` is called without checking its certificate", self.name));
        }
    }
}

fn api_key(value: Value) -> Option<Secret> {
    let key = value.secret()?;
    if !key.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        return value.error("an API key holds whitespace or characters that no header can carry");
    }
    Some(key)
}

fn header(entry: &Entry, value: Value) -> Option<(String, Secret)> {
    let name = entry.name.text.to_ascii_lowercase();
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let problem = if name.is_empty() || !name.bytes().all(token) {
        Problem::error(entry.location, "not the name of a header")
    } else if OURS.contains(&name.as_str()) {
        let problem = Problem::error(entry.location, format!("`headers` cannot set `{name}`"));
        problem.hint("the gateway sets it for each request")
    } else {
        return Some((entry.name.text.clone(), value.given()?.secret()?));
    };
    value.report(problem)
}

// === impl Kind ===

impl Kind {
    /// Where it is when nothing is said.
    pub fn default_url(self) -> Option<Url> {
        match self {
            Self::Openai => "https://api.openai.com/v1".parse().ok(),
            Self::Anthropic => "https://api.anthropic.com".parse().ok(),
            Self::Gemini => "https://generativelanguage.googleapis.com".parse().ok(),
            _ => None,
        }
    }
}

impl Kind {
    /// Whether it can be called only where the file says.
    pub(super) fn needs_endpoint(self) -> bool {
        matches!(self, Self::Azure | Self::Vllm | Self::OpenaiCompatible)
    }

    /// The word that stands for it in the file.
    pub fn word(self) -> &'static str {
        WORDS.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }

    fn read(value: Value) -> Option<Self> {
        value.one_of(&WORDS)
    }
}

// === impl ClientAuth ===

impl ClientAuth {
    fn read(value: Value) -> Option<Self> {
        value.one_of(&[
            ("replace", Self::Replace),
            ("prefer_client", Self::PreferClient),
            ("forward", Self::Forward),
        ])
    }
}

// === impl Dialect ===

const DIALECTS: [(&str, Dialect); 5] = [
    ("openai_chat", Dialect::OpenaiChat),
    ("openai_responses", Dialect::OpenaiResponses),
    ("anthropic", Dialect::Anthropic),
    ("gemini", Dialect::Gemini),
    ("bedrock", Dialect::Bedrock),
];

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::OpenaiChat, Self::OpenaiResponses, Self::Anthropic, Self::Gemini, Self::Bedrock];

    /// The word that stands for it in the file.
    pub fn word(self) -> &'static str {
        DIALECTS.iter().find(|(_, dialect)| *dialect == self).map_or("", |(word, _)| word)
    }

    /// The one that a word stands for.
    pub fn of_word(word: &str) -> Option<Self> {
        DIALECTS.iter().find(|(known, _)| *known == word).map(|(_, dialect)| *dialect)
    }

    fn read(value: Value) -> Option<Self> {
        value.one_of(&DIALECTS)
    }
}

// === impl Translation ===

impl Translation {
    pub(super) fn read(value: Value) -> Option<Self> {
        value.one_of(&[("lenient", Self::Lenient), ("strict", Self::Strict)])
    }
}
