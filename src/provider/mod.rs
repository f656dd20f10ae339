//! Where and how a provider is called: its paths, its credentials, its patience for retries.

mod budget;
mod keys;
mod profile;

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

pub use self::budget::Budget;
pub use self::keys::{
    ApiKey, Choice, Disabled, Fault, KeyRing, KeyState, KeyStatus, Name, Probe, nearly_spent, pause,
};
pub use self::profile::{AuthStyle, PROFILES, Profile};
use crate::config::{self, ClientAuth, ProviderTimeouts, Url};

/// A configured provider, ready for use: everything about it but its replicas.
pub struct Provider {
    pub name: String,
    pub profile: &'static Profile,
    pub endpoints: Vec<Url>,
    /// The `Host` of each endpoint.
    hosts: Vec<HeaderValue>,
    /// The name, as a header has it.
    pub label: HeaderValue,
    pub keys: KeyRing,
    pub client_auth: ClientAuth,
    /// Extra request headers, marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub timeouts: ProviderTimeouts,
    pub api_version: Option<String>,
    pub budget: Arc<Budget>,
}

/// A header that the configuration reader let through and HTTP does not.
#[derive(Debug, thiserror::Error)]
#[error("provider `{provider}`: {what} cannot stand in an HTTP header")]
pub struct InvalidHeader {
    provider: String,
    what: String,
}

impl Provider {
    /// `before` is what the same provider was until now: its keys go on resting, and its retries on
    /// being counted.
    pub fn new(given: &config::Provider, before: Option<&Self>) -> Result<Self, InvalidHeader> {
        let invalid = |what: String| InvalidHeader { provider: given.name.clone(), what };
        let profile = Profile::of(given.kind);
        let keys = KeyRing::new(&given.api_keys, profile.auth, before.map(|before| &before.keys))
            .ok_or_else(|| invalid("one of `api_keys`".to_owned()))?;
        let mut headers = Vec::with_capacity(given.headers.len());
        for (name, value) in &given.headers {
            let parsed = HeaderName::try_from(name.as_str()).ok();
            let parsed = parsed.zip(sensitive(value.expose()));
            headers.push(parsed.ok_or_else(|| invalid(format!("`headers.{name}`")))?);
        }
        let endpoints: Vec<Url> =
            given.endpoints.iter().map(|endpoint| endpoint.url.clone()).collect();
        let host = |url: &Url| HeaderValue::try_from(url.authority()).ok();
        let hosts: Option<Vec<HeaderValue>> = endpoints.iter().map(host).collect();
        Ok(Self {
            label: HeaderValue::try_from(&given.name)
                .map_err(|_| invalid("its name".to_owned()))?,
            name: given.name.clone(),
            profile,
            hosts: hosts.ok_or_else(|| invalid("the host of an endpoint".to_owned()))?,
            endpoints,
            keys,
            client_auth: given.client_auth,
            headers,
            timeouts: given.timeouts,
            api_version: given.api_version.clone(),
            budget: before.map(|before| Arc::clone(&before.budget)).unwrap_or_default(),
        })
    }

    /// The `Host` that an endpoint is asked for.
    pub fn host(&self, endpoint: usize) -> Option<&HeaderValue> {
        self.hosts.get(endpoint)
    }

    /// The request target on this provider: `path` is the client's canonical path (`/v1/…`),
    /// `model` the provider's name of the model.
    pub fn target(&self, endpoint: usize, path: &str, query: Option<&str>, model: &str) -> String {
        let base = self.endpoints.get(endpoint).map_or("", |url| url.path.as_str());
        self.profile.target(base, path, query, model, self.api_version.as_deref())
    }
}

/// A header value that `Debug` does not print.
pub(crate) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
