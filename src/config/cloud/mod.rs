//! A provider that belongs to a cloud: where in it the provider is, and how the gateway logs in there.
//!
//! Which of a cloud's ways to log in is taken is settled here, by what the file says and what the
//! cloud's own variables say. What that takes is for `provider::credentials`.

mod aws;
mod azure;
mod google;
mod surroundings;

use std::path::{Path, PathBuf};

pub use self::aws::{AccessKey, Authorization, AwsLogin};
pub use self::azure::{AzureLogin, AzureProof};
pub use self::google::GoogleLogin;
pub(super) use self::surroundings::Surroundings;
use super::read::{Section, Value};
use super::{ClientAuth, Endpoint, Kind, Problem, Secret, Url, dynamic};

/// Where in its cloud a provider is, and how the gateway logs in there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cloud {
    /// Vertex: the project that pays.
    pub project: Option<String>,
    /// Vertex: the location, such as `europe-west4` or `global`. Bedrock: the region.
    pub location: Option<String>,
    /// How a token, or keys to sign with, can be had; `None`: it is called with `api_keys`, or with
    /// what the caller brings.
    pub login: Option<Login>,
}

/// How a token, or keys to sign with, can be had.
#[derive(Debug, Clone, PartialEq)]
pub enum Login {
    /// A token for Google Cloud.
    Google(GoogleLogin),
    /// Keys to sign with for AWS.
    Aws(AwsLogin),
    /// A token of Microsoft Entra.
    Azure(AzureLogin),
}

/// Each key of a login, and the kind whose it is.
const KEYS: [(&str, Kind); 13] = [
    ("project", Kind::Vertex),
    ("location", Kind::Vertex),
    ("credentials_file", Kind::Vertex),
    ("region", Kind::Bedrock),
    ("access_key_id", Kind::Bedrock),
    ("secret_access_key", Kind::Bedrock),
    ("session_token", Kind::Bedrock),
    ("tenant_id", Kind::Azure),
    ("client_id", Kind::Azure),
    ("client_secret", Kind::Azure),
    ("federated_token_file", Kind::Azure),
    ("managed_identity", Kind::Azure),
    ("scope", Kind::Azure),
];

/// Keys that have the gateway send what a file holds, or a secret, somewhere: only who can write the
/// configuration's file may say where.
const OF_THE_FILE: [&str; 3] = ["credentials_file", "federated_token_file", "token_url"];

// === impl Cloud ===

impl Cloud {
    /// Reads what a provider says of its cloud. `kind` is absent when it could not be read: then
    /// nothing is missing, and nothing is out of place.
    pub(super) fn read(s: &mut Section, kind: Option<Kind>, access: Access) -> Self {
        let given = Given::read(s);
        let Some(kind) = kind else { return Self::default() };
        report_misplaced(s, kind);
        let around = &s.value.findings.overrides.surroundings;
        let login = match kind {
            Kind::Vertex => GoogleLogin::of(&given, around, access).map(Login::Google),
            Kind::Bedrock => AwsLogin::of(s, &given, around, access).map(Login::Aws),
            Kind::Azure => AzureLogin::of(s, &given, around, access).map(Login::Azure),
            _ => None,
        };
        match kind {
            Kind::Vertex => {
                if !access.keys {
                    require(s, "project");
                    require(s, "location");
                }
                Self { project: given.project, location: given.location, login }
            }
            Kind::Bedrock => {
                // An address of its own is the region's only name when nothing is signed.
                if !access.keys || !(s.has("base_url") || s.has("endpoints")) {
                    require(s, "region");
                }
                Self { project: None, location: given.region, login }
            }
            _ => Self { login, ..Self::default() },
        }
    }

    /// Where the provider is called when nothing is said.
    pub(super) fn default_url(&self, kind: Kind) -> Option<Url> {
        let host = match (kind, self.location.as_deref()) {
            // https://docs.cloud.google.com/vertex-ai/docs/general/locations: the global endpoint
            // has no location in its name, those of several regions have a domain of their own.
            (Kind::Vertex, None | Some("global")) => "aiplatform.googleapis.com".to_owned(),
            (Kind::Vertex, Some(regions @ ("us" | "eu"))) => {
                format!("aiplatform.{regions}.rep.googleapis.com")
            }
            (Kind::Vertex, Some(location)) => format!("{location}-aiplatform.googleapis.com"),
            (Kind::Bedrock, Some(region)) => {
                format!("bedrock-runtime.{region}.{}", aws::domain(region))
            }
            _ => return None,
        };
        format!("https://{host}").parse().ok()
    }

    /// Files of the configuration stand relative to `folder`.
    pub(super) fn anchor(&mut self, folder: &Path) {
        if let Some(file) = self.login.as_mut().and_then(Login::file_mut) {
            *file = folder.join(&file);
        }
    }
}

// === impl Login ===

impl Login {
    /// The file of credentials that has to be there.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Google(login) => login.file.as_deref(),
            Self::Azure(AzureLogin { proof: AzureProof::File(file), .. })
            | Self::Aws(AwsLogin::WebIdentity { token_file: file, .. }) => Some(file),
            Self::Azure(_) | Self::Aws(_) => None,
        }
    }

    fn file_mut(&mut self) -> Option<&mut PathBuf> {
        match self {
            Self::Google(login) => login.file.as_mut(),
            Self::Azure(AzureLogin { proof: AzureProof::File(file), .. })
            | Self::Aws(AwsLogin::WebIdentity { token_file: file, .. }) => Some(file),
            Self::Azure(_) | Self::Aws(_) => None,
        }
    }
}

/// Who pays for a provider's calls, as far as its `api_keys` and `client_auth` say it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Access {
    /// It is called with API keys, and needs no login.
    pub keys: bool,
    pub client_auth: ClientAuth,
}

impl Access {
    /// Whether a login would be used at all.
    fn wants_login(self) -> bool {
        !self.keys && self.client_auth != ClientAuth::Forward
    }
}

/// What was said, whatever kind it is for. An empty secret is none: `${NAME:-}` of a variable that is
/// not set.
#[derive(Default)]
struct Given {
    project: Option<String>,
    location: Option<String>,
    credentials_file: Option<PathBuf>,
    region: Option<String>,
    access_key_id: Option<Secret>,
    secret_access_key: Option<Secret>,
    session_token: Option<Secret>,
    tenant_id: Option<String>,
    client_id: Option<String>,
    client_secret: Option<Secret>,
    federated_token_file: Option<PathBuf>,
    managed_identity: bool,
    scope: Option<String>,
    token_url: Option<Url>,
}

impl Given {
    fn read(s: &mut Section) -> Self {
        let given = Self {
            project: s.read("project", word),
            location: s.read("location", label),
            credentials_file: s.read("credentials_file", Value::path),
            region: s.read("region", label),
            access_key_id: s.read("access_key_id", credential),
            secret_access_key: s.read("secret_access_key", credential),
            session_token: s.read("session_token", credential),
            tenant_id: s.read("tenant_id", word),
            client_id: s.read("client_id", word),
            client_secret: s.read("client_secret", secret),
            federated_token_file: s.read("federated_token_file", Value::path),
            managed_identity: s.read("managed_identity", Value::boolean).unwrap_or_default(),
            scope: s.read("scope", Value::name),
            token_url: s.read("token_url", Value::url),
        };
        if dynamic::is_dynamic(s.location()) {
            for name in OF_THE_FILE.into_iter().filter(|name| s.has(name)) {
                let message = format!("`{name}` can be set only in the configuration's file");
                s.value.findings.error(s.location_of(name), message);
            }
        }
        given
    }
}

/// Reports a key that a provider of another kind has.
fn report_misplaced(s: &Section, kind: Kind) {
    for (name, whose) in KEYS.into_iter().filter(|(name, whose)| *whose != kind && s.has(name)) {
        let message = format!("`{name}` is only for kind `{}`", whose.word());
        let problem = Problem::error(s.location_of(name), message);
        // The two clouds have different words for it.
        let other = match (name, kind) {
            ("region", Kind::Vertex) => Some("`location` says where Vertex is"),
            ("location", Kind::Bedrock) => Some("`region` says where Bedrock is"),
            _ => None,
        };
        s.value.findings.report(match other {
            Some(hint) => problem.hint(hint),
            None => problem,
        });
    }
    let clouds = [Kind::Vertex, Kind::Bedrock, Kind::Azure];
    if s.has("token_url") && !clouds.contains(&kind) {
        let message = "`token_url` is only for kinds `vertex`, `bedrock` and `azure`";
        s.value.findings.error(s.location_of("token_url"), message);
    }
}

/// Reports a key that is missing; one that is there and cannot be read is on record already.
fn require(s: &Section, name: &'static str) {
    if !s.has(name) {
        s.error::<()>(format!("`{name}` is missing in `providers`"));
    }
}

/// Reads what becomes part of a host's name.
fn label(value: Value) -> Option<String> {
    let text = value.some_text()?;
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.len() > 60 || !text.bytes().all(plain) {
        return value.must_be("small letters, digits and hyphens");
    }
    Some(text)
}

/// Reads what becomes part of a path.
fn word(value: Value) -> Option<String> {
    let text = value.some_text()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    let climbs = text.bytes().all(|byte| byte == b'.');
    if text.len() > 200 || climbs || !text.bytes().all(plain) {
        return value.must_be("letters, digits, hyphens and dots");
    }
    Some(text)
}

/// Reads a secret; an empty one is none.
fn secret(value: Value) -> Option<Secret> {
    value.secret().filter(|secret| !secret.expose().is_empty())
}

/// Reads a secret that goes into headers; an empty one is none.
fn credential(value: Value) -> Option<Secret> {
    let secret = secret(value)?;
    if !secret.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        return value.error(format!("`{}` holds characters that no header can carry", value.name));
    }
    Some(secret)
}

/// The endpoints of a provider that says none.
pub(super) fn endpoints(s: &Section, cloud: &Cloud, kind: Option<Kind>) -> Vec<Endpoint> {
    if s.has("base_url") || s.has("endpoints") {
        return Vec::new();
    }
    kind.and_then(|kind| cloud.default_url(kind)).map(Endpoint::new).into_iter().collect()
}
