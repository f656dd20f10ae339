//! `discovery`: where a provider's replicas are found, when the file does not list them.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::findings::Findings;
use super::overrides::Overrides;
use super::read::{Section, Value};
use super::tree::{self, Content};
use super::{Endpoint, Kind, Problem, Url, dynamic};

/// Where a provider's replicas are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discovery {
    /// In `endpoints`: their names are looked up.
    Dns(Dns),
    /// In the SRV records of a name.
    Srv(Srv),
    /// In a file, which is read again when it changes.
    File(PathBuf),
    /// In the `EndpointSlice`s of a Kubernetes service.
    Kubernetes(Kubernetes),
}

/// Who is asked for names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dns {
    /// Name servers; none means what the system asks.
    pub servers: Vec<SocketAddr>,
}

/// The SRV records of a name: each is a replica, or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Srv {
    /// What is looked up, such as `_vllm._tcp.pool.example.org`.
    pub name: String,
    /// How replicas are spoken to.
    pub form: Form,
    /// Who is asked.
    pub dns: Dns,
}

/// How replicas are spoken to of which only host and port are found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Form {
    /// Whether over TLS.
    pub https: bool,
    /// What their paths begin with: `""` or `/v1`.
    pub path: String,
}

/// The `EndpointSlice`s of a Kubernetes service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubernetes {
    /// The service's namespace; `None` is the gateway's own.
    pub namespace: Option<String>,
    /// The service's name.
    pub service: String,
    /// Which of the service's ports; `None`: it has but one.
    pub port: Option<Port>,
    /// How replicas are spoken to.
    pub form: Form,
    /// The API server.
    pub api: Url,
    /// The file of the token it is called with.
    pub token_file: PathBuf,
    /// The file of the authorities that vouch for it.
    pub ca_file: PathBuf,
    /// The file that names the gateway's own namespace.
    pub namespace_file: PathBuf,
}

/// A port of a service, by its name or its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    /// Its name.
    Name(String),
    /// Its number, as the pods have it.
    Number(u16),
}

/// Where a pod finds what its service account is given
/// (<https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/>).
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Each way's word.
const WORDS: [(&str, Word); 4] = [
    ("dns", Word::Dns),
    ("srv", Word::Srv),
    ("file", Word::File),
    ("kubernetes", Word::Kubernetes),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Dns,
    Srv,
    File,
    Kubernetes,
}

/// Which words each key belongs to.
const KEYS: [(&str, &[Word]); 11] = [
    ("servers", &[Word::Dns, Word::Srv]),
    ("name", &[Word::Srv]),
    ("path", &[Word::File]),
    ("scheme", &[Word::Srv, Word::Kubernetes]),
    ("base_path", &[Word::Srv, Word::Kubernetes]),
    ("namespace", &[Word::Kubernetes]),
    ("service", &[Word::Kubernetes]),
    ("port", &[Word::Kubernetes]),
    ("api", &[Word::Kubernetes]),
    ("token_file", &[Word::Kubernetes]),
    ("ca_file", &[Word::Kubernetes]),
];

// === impl Discovery ===

impl Default for Discovery {
    fn default() -> Self {
        Self::Dns(Dns::default())
    }
}

impl Discovery {
    /// Whether the replicas are those of `endpoints`.
    pub fn is_listed(&self) -> bool {
        matches!(self, Self::Dns(_))
    }

    /// The word that stands for it in the file.
    pub fn word(&self) -> &'static str {
        let own = match self {
            Self::Dns(_) => Word::Dns,
            Self::Srv(_) => Word::Srv,
            Self::File(_) => Word::File,
            Self::Kubernetes(_) => Word::Kubernetes,
        };
        WORDS.iter().find(|(_, word)| *word == own).map_or("", |(text, _)| text)
    }

    /// Takes a path as from the folder of the configuration's file.
    pub(super) fn anchor(&mut self, folder: &Path) {
        if let Self::File(path) = self {
            *path = folder.join(&path);
        }
    }

    pub(super) fn read(value: Value) -> Option<Self> {
        value.section(|s| {
            let word = s.require("type", |v| v.one_of(&WORDS));
            let dns = Dns { servers: s.read("servers", |v| v.list(server)).unwrap_or_default() };
            let form = Form::read(s);
            let path = s.read("path", Value::path);
            let name = s.read("name", srv_name);
            let kubernetes = Kubernetes::read(s, form.clone());
            let word = word?;
            report_misplaced(s, word);
            Some(match word {
                Word::Dns => Self::Dns(dns),
                Word::Srv => Self::Srv(Srv { name: wanted(s, "name", name)?, form, dns }),
                Word::File => Self::File(wanted(s, "path", path)?),
                Word::Kubernetes => {
                    let service = wanted(s, "service", kubernetes.service.as_deref())?.to_owned();
                    Self::Kubernetes(kubernetes.of(service))
                }
            })
        })?
    }
}

fn report_misplaced(s: &Section, word: Word) {
    let stray = KEYS.into_iter().filter(|(name, words)| s.has(name) && !words.contains(&word));
    for (name, words) in stray {
        let whose = |word: &Word| {
            let word = WORDS.iter().find(|(_, it)| it == word).map_or("", |(text, _)| text);
            format!("`{word}`")
        };
        let whose: Vec<String> = words.iter().map(whose).collect();
        let message = format!("`{name}` is only for type {}", whose.join(" and "));
        s.value.findings.error(s.location_of(name), message);
    }
    // What a file holds is sent or shown elsewhere: only who can write the configuration says which.
    if dynamic::is_dynamic(s.location()) && matches!(word, Word::File | Word::Kubernetes) {
        s.error::<()>("this `discovery` can be set only in the configuration's file");
    }
}

/// A key that one type needs. One that was there and could not be read has been reported.
fn wanted<T>(s: &Section, name: &str, value: Option<T>) -> Option<T> {
    if value.is_none() && !s.has(name) {
        return s.error(format!("`{name}` is missing in `discovery`"));
    }
    value
}

/// Reads a name server: an address, with a port or without.
fn server(value: Value) -> Option<SocketAddr> {
    let wanted = "an IP address, with a port or without";
    let text = &value.scalar(wanted)?.text;
    let plain = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
    text.parse().or_else(|_| plain()).ok().or_else(|| value.must_be(wanted))
}

fn srv_name(value: Value) -> Option<String> {
    let name = value.name()?;
    let labels = name.trim_end_matches('.').split('.');
    let fits = |label: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !label.is_empty() && label.len() < 64 && label.bytes().all(allowed)
    };
    if name.len() > 253 || !labels.clone().all(fits) {
        return value.must_be_hint("a name of DNS", "such as _vllm._tcp.pool.example.org");
    }
    Some(name.to_ascii_lowercase())
}

// === impl Form ===

impl Form {
    fn read(s: &mut Section) -> Self {
        let schemes = [("http", false), ("https", true)];
        Self {
            https: s.read("scheme", |v| v.one_of(&schemes)).unwrap_or_default(),
            path: s.read("base_path", base_path).unwrap_or_default(),
        }
    }

    /// A replica's address in full.
    pub fn url(&self, host: &str, port: u16) -> Url {
        Url { https: self.https, host: host.to_owned(), port, path: self.path.clone() }
    }
}

fn base_path(value: Value) -> Option<String> {
    let text = value.text()?;
    let url: Result<Url, _> = format!("http://x{text}").parse();
    let path = url.ok().filter(|_| text.starts_with('/')).map(|url| url.path);
    path.or_else(|| value.must_be("a path that begins with a slash"))
}

// === impl Kubernetes ===

/// What was said of a service, before it is known to be one.
struct GivenService {
    service: Option<String>,
    namespace: Option<String>,
    port: Option<Port>,
    form: Form,
    api: Url,
    token_file: PathBuf,
    ca_file: PathBuf,
}

impl Kubernetes {
    fn read(s: &mut Section, form: Form) -> GivenService {
        let around = &s.value.findings.overrides.surroundings;
        let account = |name: &str| Path::new(ACCOUNT).join(name);
        GivenService {
            service: s.read("service", object_name),
            namespace: s.read("namespace", object_name),
            port: s.read("port", Port::read),
            form,
            // Where it is known within a cluster, when its variables are not there: a check elsewhere.
            api: s.read("api", Value::url).or_else(|| around.kubernetes.clone()).unwrap_or_else(
                || Form { https: true, path: String::new() }.url("kubernetes.default.svc", 443),
            ),
            token_file: s.read("token_file", Value::path).unwrap_or_else(|| account("token")),
            ca_file: s.read("ca_file", Value::path).unwrap_or_else(|| account("ca.crt")),
        }
    }
}

impl GivenService {
    fn of(self, service: String) -> Kubernetes {
        Kubernetes {
            namespace: self.namespace,
            service,
            port: self.port,
            form: self.form,
            api: self.api,
            token_file: self.token_file,
            ca_file: self.ca_file,
            namespace_file: Path::new(ACCOUNT).join("namespace"),
        }
    }
}

/// Reads the name of an object: it goes into a URL.
fn object_name(value: Value) -> Option<String> {
    let name = value.name()?;
    let allowed = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
    };
    if name.len() > 253 || !name.bytes().all(allowed) {
        return value.must_be("a name of lower-case letters, digits, `-` and `.`");
    }
    Some(name)
}

impl Port {
    fn read(value: Value) -> Option<Self> {
        let text = value.name()?;
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return value.number(1, u16::MAX).map(Self::Number);
        }
        Some(Self::Name(text))
    }
}

// === a file of replicas ===

/// Reads a file of replicas: a list of URLs, or of maps of `url` and `weight`, in YAML or JSON.
///
/// # Errors
///
/// Everything that is wrong with it, by place.
pub(crate) fn read_endpoints(text: &str) -> Result<Vec<Endpoint>, Vec<Problem>> {
    let findings = Findings::new(Overrides::default(), Vec::new());
    let endpoints = tree::parse(text, &findings).and_then(|tree| {
        tree.report_duplicates(&findings);
        if tree.is_null() {
            return Some(Vec::new());
        }
        let list = Value { name: "endpoints", node: &tree, findings: &findings };
        list.list(|value| match value.node.content {
            Content::Scalar(_) => value.url().map(Endpoint::new),
            _ => Endpoint::read(value),
        })
    });
    let problems = findings.into_problems();
    endpoints.filter(|_| !problems.iter().any(Problem::is_error)).ok_or(problems)
}

/// Whether replicas of this kind tell which models each of them has.
pub(super) fn tells_models(kind: Kind) -> bool {
    matches!(kind, Kind::Vllm | Kind::OpenaiCompatible | Kind::Mock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_replicas_is_a_list_of_urls_and_weights() {
        let yaml = "- http://10.0.0.1:8000\n- { url: \"http://10.0.0.2:8000/v1\", weight: 3 }\n";
        let json = r#"["http://10.0.0.1:8000", {"url": "http://10.0.0.2:8000/v1", "weight": 3}]"#;
        for text in [yaml, json] {
            let read = read_endpoints(text).unwrap();
            let shown: Vec<_> = read.iter().map(|it| (it.url.to_string(), it.weight)).collect();
            let expected = [("http://10.0.0.1:8000", 1), ("http://10.0.0.2:8000/v1", 3)];
            assert_eq!(shown, expected.map(|(url, weight)| (url.to_owned(), weight)));
        }
        assert_eq!(read_endpoints("[]"), Ok(Vec::new()));
    }

    #[test]
    fn what_is_wrong_with_a_file_of_replicas_is_told_by_its_place() {
        for (text, place) in [
            ("- ftp://a", "1:3"),
            ("- { url: \"http://a\", wait: 1 }", "1:22"),
            ("a: b", "1:1"),
            ("- { url: \"http://a\"", "2:1"),
        ] {
            let problems = read_endpoints(text).unwrap_err();
            assert_eq!(problems[0].location.to_string(), place, "{problems:?}");
        }
    }
}
