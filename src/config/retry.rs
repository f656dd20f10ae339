//! The `retry` section: when another attempt is made.

use super::Percent;
use super::read::Value;

/// When another attempt is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Attempts per request, the first included.
    pub attempts: u32,
    /// At most this share of all requests is made again.
    pub budget: Percent,
    /// After what.
    pub on: RetryOn,
}

/// After what another attempt is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryOn {
    /// No connection came about.
    pub connect: bool,
    /// No first byte came in time.
    pub timeout: bool,
    /// The upstream answered with one of these.
    pub statuses: Vec<u16>,
}

// === impl Retry ===

impl Retry {
    /// More attempts than this nobody can ask for.
    pub const MOST_ATTEMPTS: u32 = 16;

    pub(super) fn read(value: Value) -> Option<Self> {
        let default = Self::default();
        value.section(|s| Self {
            attempts: s
                .read("attempts", |v| v.number(1, Self::MOST_ATTEMPTS))
                .unwrap_or(default.attempts),
            budget: s.read("budget", Value::percent).unwrap_or(default.budget),
            on: s.read("on", RetryOn::read).unwrap_or(default.on),
        })
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 3, budget: Percent(20), on: RetryOn::default() }
    }
}

// === impl RetryOn ===

impl RetryOn {
    fn read(value: Value) -> Option<Self> {
        let mut on = Self { connect: false, timeout: false, statuses: Vec::new() };
        for reason in value.list(Reason::read)? {
            match reason {
                Reason::Connect => on.connect = true,
                Reason::Timeout => on.timeout = true,
                Reason::Status(status) => on.statuses.push(status),
            }
        }
        on.statuses.sort_unstable();
        on.statuses.dedup();
        Some(on)
    }
}

enum Reason {
    Connect,
    Timeout,
    Status(u16),
}

impl Reason {
    fn read(value: Value) -> Option<Self> {
        match value.scalar("a reason")?.text.as_str() {
            "connect" => Some(Self::Connect),
            "timeout" => Some(Self::Timeout),
            text => match text.parse() {
                Ok(status @ 400..=599) => Some(Self::Status(status)),
                _ => value.must_be("`connect`, `timeout`, or a status from 400 to 599"),
            },
        }
    }
}

impl Default for RetryOn {
    fn default() -> Self {
        Self { connect: true, timeout: true, statuses: vec![424, 429, 500, 502, 503, 504, 529] }
    }
}
