//! The `timeouts` sections: how long a client, a shutdown, and a provider may take.

use std::time::Duration;

use super::Kind;
use super::read::Value;

/// How long a client, and a shutdown, may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a request's head to arrive.
    pub request_header: Duration,
    /// For the next piece of a request's body to arrive.
    pub request_body: Duration,
    /// For a client to take what is sent to it.
    pub client_write: Duration,
    /// For the next request on an open connection.
    pub client_idle: Duration,
    /// For running requests to end at a stop.
    pub drain: Duration,
    /// Between not being ready any more and not accepting any more, at a stop.
    pub drain_delay: Duration,
    /// For a new process to be ready to take over.
    pub upgrade_ready: Duration,
    /// For running requests to end at an upgrade.
    pub upgrade_drain: Duration,
}

/// How long an exchange with a provider may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProviderTimeouts {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// From the request's end to the answer's first byte.
    pub first_byte: Duration,
    /// Between two pieces of the answer.
    pub between_chunks: Duration,
    /// How long an unused connection is kept.
    pub idle_pool: Duration,
}

// === impl Timeouts ===

impl Timeouts {
    pub(super) fn read(value: Value) -> Option<Self> {
        let default = Self::default();
        value.section(|s| Self {
            request_header: s
                .read("request_header", Value::timeout)
                .unwrap_or(default.request_header),
            request_body: s.read("request_body", Value::timeout).unwrap_or(default.request_body),
            client_write: s.read("client_write", Value::timeout).unwrap_or(default.client_write),
            client_idle: s.read("client_idle", Value::timeout).unwrap_or(default.client_idle),
            drain: s.read("drain", Value::duration).unwrap_or(default.drain),
            drain_delay: s.read("drain_delay", Value::duration).unwrap_or(default.drain_delay),
            upgrade_ready: s.read("upgrade_ready", Value::timeout).unwrap_or(default.upgrade_ready),
            upgrade_drain: s
                .read("upgrade_drain", Value::duration)
                .unwrap_or(default.upgrade_drain),
        })
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            request_header: Duration::from_secs(10),
            request_body: Duration::from_mins(1),
            client_write: Duration::from_mins(1),
            client_idle: Duration::from_secs(75),
            drain: Duration::from_mins(2),
            drain_delay: Duration::ZERO,
            upgrade_ready: Duration::from_mins(1),
            upgrade_drain: Duration::from_mins(10),
        }
    }
}

// === impl ProviderTimeouts ===

impl ProviderTimeouts {
    /// What a provider of this kind gets when nothing is said.
    pub fn by_kind(kind: Kind) -> Self {
        // A vLLM replica is near, and its server drops idle connections after five seconds: a pool
        // that keeps them longer would send requests into closed ones.
        let near = kind == Kind::Vllm;
        Self {
            connect: Duration::from_secs(if near { 1 } else { 5 }),
            first_byte: Duration::from_mins(5),
            between_chunks: Duration::from_mins(5),
            idle_pool: Duration::from_secs(if near { 3 } else { 60 }),
        }
    }

    pub(super) fn read(value: Value, kind: Kind) -> Option<Self> {
        let default = Self::by_kind(kind);
        value.section(|s| Self {
            connect: s.read("connect", Value::timeout).unwrap_or(default.connect),
            first_byte: s.read("first_byte", Value::timeout).unwrap_or(default.first_byte),
            between_chunks: s
                .read("between_chunks", Value::timeout)
                .unwrap_or(default.between_chunks),
            idle_pool: s.read("idle_pool", Value::duration).unwrap_or(default.idle_pool),
        })
    }
}
