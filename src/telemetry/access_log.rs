//! One line per request, on the log target `access` at level info.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// The log target: `RUST_LOG=access=info` turns it on.
const TARGET: &str = "access";

/// A finished request. No content, and no key but its name.
#[derive(Default)]
pub struct Entry<'a> {
    pub request_id: &'a str,
    pub method: &'a str,
    pub endpoint: &'a str,
    pub status: u16,
    /// Absent when the configuration says so.
    pub client: Option<IpAddr>,
    pub key: Option<&'a str>,
    pub model: Option<&'a str>,
    pub provider: Option<&'a str>,
    pub attempts: u32,
    pub duration: Duration,
    pub first_token: Option<Duration>,
    pub tokens: Option<(u64, u64)>,
    /// Why it failed, when it did.
    pub failure: Option<&'a str>,
}

impl Entry<'_> {
    pub fn is_wanted() -> bool {
        log::log_enabled!(target: TARGET, log::Level::Info)
    }

    pub fn write(&self) {
        log::info!(target: TARGET, "{self}");
    }
}

impl fmt::Display for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { request_id, method, endpoint, status, attempts, duration, .. } = self;
        write!(f, "{method} {endpoint} {status} request_id={request_id}")?;
        write!(f, " duration_ms={} attempts={attempts}", duration.as_millis())?;
        field(f, "client", self.client)?;
        field(f, "key", self.key)?;
        field(f, "model", self.model)?;
        field(f, "provider", self.provider)?;
        field(f, "ttft_ms", self.first_token.map(|took| took.as_millis()))?;
        field(f, "prompt_tokens", self.tokens.map(|(prompt, _)| prompt))?;
        field(f, "completion_tokens", self.tokens.map(|(_, completion)| completion))?;
        self.failure.map_or(Ok(()), |why| write!(f, " failure={why:?}"))
    }
}

fn field(f: &mut fmt::Formatter<'_>, name: &str, value: Option<impl fmt::Display>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, " {name}={value}"))
}
