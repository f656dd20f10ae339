//! Where and how a provider is called: its paths, its credentials, its patience for retries.

mod budget;
mod credentials;
mod keys;
mod profile;
mod speech;

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

pub use self::budget::Budget;
pub use self::credentials::{
    Asking, Grant, Login, Signer, Skew, Step, Token, TokenRequest, Unobtained, Unsignable,
};
pub use self::keys::{
    ApiKey, Choice, Disabled, Fault, KeyRing, KeyState, KeyStatus, Name, Probe, nearly_spent, pause,
};
pub use self::profile::{AuthStyle, PROFILES, Place, Profile};
pub use self::speech::{Speech, Spoken, Wrapping, path_of};
use crate::config::{self, ClientAuth, ProviderTimeouts, Url};

/// A configured provider, ready for use: everything about it but its replicas.
pub struct Provider {
    pub name: String,
    pub profile: &'static Profile,
    pub speech: Speech,
    /// The name, as a header has it.
    pub label: HeaderValue,
    /// What it is called with. One that is logged in to has a single key in it: the token, or the keys to
    /// sign with, in force.
    pub keys: KeyRing,
    pub client_auth: ClientAuth,
    /// Extra request headers, marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub timeouts: ProviderTimeouts,
    pub api_version: Option<String>,
    /// Vertex: the project that pays.
    pub project: Option<String>,
    /// Vertex: the location. Bedrock: the region.
    pub location: Option<String>,
    pub budget: Arc<Budget>,
}

/// A header that the configuration reader let through and HTTP does not.
#[derive(Debug, thiserror::Error)]
#[error("provider `{provider}`: {what} cannot stand in an HTTP header")]
pub struct InvalidHeader {
    provider: String,
    what: String,
}

/// A provider that cannot be called as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum Uncallable {
    #[error(transparent)]
    Header(#[from] InvalidHeader),
    #[error("provider `{provider}`: {source}")]
    Credentials { provider: String, source: Unobtained },
}

impl Provider {
    /// `before` is what the same provider was until now: its keys go on resting, and its retries on
    /// being counted.
    pub fn new(given: &config::Provider, before: Option<&Self>) -> Result<Self, Uncallable> {
        let invalid = |what: String| InvalidHeader { provider: given.name.clone(), what };
        let profile = Profile::of(given.kind);
        let known = before.map(|before| &before.keys);
        let keys = match log_in(given, known)? {
            Some(login) => KeyRing::of_login(login, known),
            None => KeyRing::new(&given.api_keys, profile.auth, known)
                .ok_or_else(|| invalid("one of `api_keys`".to_owned()))?,
        };
        let mut headers = Vec::with_capacity(given.headers.len());
        for (name, value) in &given.headers {
            let parsed = HeaderName::try_from(name.as_str()).ok();
            let parsed = parsed.zip(sensitive(value.expose()));
            headers.push(parsed.ok_or_else(|| invalid(format!("`headers.{name}`")))?);
        }
        Ok(Self {
            label: HeaderValue::try_from(&given.name)
                .map_err(|_| invalid("its name".to_owned()))?,
            name: given.name.clone(),
            profile,
            speech: Speech::new(given, profile),
            keys,
            client_auth: given.client_auth,
            headers,
            timeouts: given.timeouts,
            api_version: given.api_version.clone(),
            project: given.cloud.project.clone(),
            location: given.cloud.location.clone(),
            budget: before.map(|before| Arc::clone(&before.budget)).unwrap_or_default(),
        })
    }

    /// How it is logged in to; `None` when it is called with API keys, or with the caller's.
    pub fn login(&self) -> Option<&Arc<Login>> {
        self.keys.login()
    }

    /// The request target at one of this provider's replicas: `path` is what clients of its dialect
    /// send (`/v1/…`), `model` the provider's name of the model.
    pub fn target(&self, at: &Url, path: &str, query: Option<&str>, model: &str) -> String {
        let place = Place {
            base: &at.path,
            model,
            api_version: self.api_version.as_deref(),
            project: self.project.as_deref(),
            location: self.location.as_deref(),
        };
        self.profile.target(path, query, &place)
    }
}

fn log_in(
    given: &config::Provider,
    known: Option<&KeyRing>,
) -> Result<Option<Arc<Login>>, Uncallable> {
    let Some(login) = &given.cloud.login else { return Ok(None) };
    let region = given.cloud.location.as_deref().unwrap_or_default();
    let login = Login::new(login, region, known.and_then(KeyRing::login));
    let unusable = |source| Uncallable::Credentials { provider: given.name.clone(), source };
    login.map(Some).map_err(unusable)
}

/// A header value that `Debug` does not print.
pub(crate) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
