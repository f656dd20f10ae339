//! The environment variables that go before the file.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::cloud::Surroundings;
use super::{Listen, Location, Problem, Secret, Store, UpstreamTls};

/// What the environment says over the file.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    /// `FOREBAY_LISTEN`: all listeners.
    listen: Vec<SocketAddr>,
    /// `HOST`: the first listener's address.
    host: Option<IpAddr>,
    /// `PORT`: the first listener's port.
    port: Option<u16>,
    /// `FOREBAY_ADMIN_KEY`, or else `ADMIN_KEY`.
    pub admin_key: Option<Secret>,
    /// `DB_URL`: the store's address.
    db_url: Option<Secret>,
    /// `DB_ROTATION_CHECK_INTERVAL_SEC`: how often the audit looks for rows that are to be archived.
    pub rotation_check: Option<Duration>,
    /// `VERIFY_SSL`: for providers that do not say it.
    verify_tls: Option<bool>,
    /// `PROVIDER_SUFFIX`.
    pub model_prefix: Option<String>,
    /// What clouds put there for their own SDKs.
    pub surroundings: Surroundings,
}

// === impl Overrides ===

impl Overrides {
    /// Reads the variables; what is wrong with them comes back as problems without a place.
    pub fn read(environment: &BTreeMap<String, String>) -> (Self, Vec<Problem>) {
        let mut variables = Variables { environment, problems: Vec::new() };
        let overrides = Self {
            listen: variables.addresses("FOREBAY_LISTEN"),
            host: variables.read("HOST", "an IP address", host),
            port: variables.read("PORT", "a port number", |text| text.parse().ok()),
            admin_key: variables.secret("FOREBAY_ADMIN_KEY").or(variables.secret("ADMIN_KEY")),
            db_url: variables.read("DB_URL", "the address of a database", |text| {
                Store::is_database(text).then(|| Secret::new(text))
            }),
            rotation_check: variables.read(
                "DB_ROTATION_CHECK_INTERVAL_SEC",
                "a number of seconds",
                seconds,
            ),
            verify_tls: variables.read("VERIFY_SSL", "true or false", boolean),
            model_prefix: variables.read(
                "PROVIDER_SUFFIX",
                "a name without a slash at its end",
                prefix,
            ),
            surroundings: Surroundings::read(environment),
        };
        (overrides, variables.problems)
    }

    /// How upstreams prove who they are when the file does not say it.
    pub fn upstream_tls(&self) -> UpstreamTls {
        let default = UpstreamTls::default();
        UpstreamTls { verify: self.verify_tls.unwrap_or(default.verify), ..default }
    }

    /// Changes the store's address; without a store in the file it makes one.
    pub fn change_store(&self, store: &mut Option<Store>) {
        if let Some(url) = &self.db_url {
            store.get_or_insert_default().url = Some(url.clone());
        }
    }

    /// Changes the listeners of the file; whether it did.
    pub fn change_listen(&self, listen: &mut Vec<Listen>) -> bool {
        if !self.listen.is_empty() {
            // What the file says of privacy is no matter of addresses.
            let strict = listen.iter().any(|listen| listen.strict);
            let plain = |address| Listen { strict, ..Listen::plain(address) };
            *listen = self.listen.iter().copied().map(plain).collect();
            return true;
        }
        let Some(first) = listen.first_mut() else { return false };
        let before = first.address;
        first.address.set_ip(self.host.unwrap_or(before.ip()));
        first.address.set_port(self.port.unwrap_or(before.port()));
        first.address != before
    }
}

// === Variables ===

struct Variables<'a> {
    environment: &'a BTreeMap<String, String>,
    problems: Vec<Problem>,
}

impl<'a> Variables<'a> {
    /// A variable's value; an empty one is as good as not set, as compose files pass them on.
    fn given(&self, name: &str) -> Option<&'a str> {
        self.environment.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    fn secret(&self, name: &str) -> Option<Secret> {
        self.given(name).map(Secret::new)
    }

    fn read<T>(&mut self, name: &str, wanted: &str, read: fn(&str) -> Option<T>) -> Option<T> {
        let value = read(self.given(name)?);
        if value.is_none() {
            let message = format!("the environment variable `{name}` must be {wanted}");
            self.problems.push(Problem::error(Location::default(), message));
        }
        value
    }

    fn addresses(&mut self, name: &str) -> Vec<SocketAddr> {
        let wanted = "one or more addresses such as 127.0.0.1:8080, with commas between";
        let read = |text: &str| text.split(',').map(|part| part.trim().parse().ok()).collect();
        self.read(name, wanted, read).unwrap_or_default()
    }
}

fn host(text: &str) -> Option<IpAddr> {
    match text {
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        _ => text.trim_start_matches('[').trim_end_matches(']').parse().ok(),
    }
}

fn seconds(text: &str) -> Option<Duration> {
    text.parse().ok().filter(|seconds| (1..=86_400).contains(seconds)).map(Duration::from_secs)
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn prefix(text: &str) -> Option<String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    (plain && !text.ends_with('/')).then(|| text.to_owned())
}
