//! The `limits` section: what a client may send and hold.

use super::read::Value;

/// Bounds on what a client may send and hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a body that is held, such as a chat request.
    pub body: u64,
    /// Bytes of a body that streams through, such as a file.
    pub upload: u64,
    /// Bytes of bodies that all requests together hold in memory.
    pub buffered: u64,
    /// Bytes of a request's head.
    pub headers: u64,
    /// Connections at once.
    pub connections: usize,
    /// Connections at once from one address.
    pub connections_per_ip: usize,
}

// === impl Limits ===

impl Limits {
    pub(super) fn read(value: Value) -> Option<Self> {
        let default = Self::default();
        value.section(|s| {
            let body = s.read("body", Value::size).unwrap_or(default.body);
            let buffered = s.read("buffered", Value::size).unwrap_or(default.buffered);
            let limits = Self {
                body,
                buffered,
                upload: s.read("upload", Value::size).unwrap_or(default.upload),
                headers: s.read("headers", Value::size).unwrap_or(default.headers),
                connections: s.read("connections", count).unwrap_or(default.connections),
                connections_per_ip: s
                    .read("connections_per_ip", count)
                    .unwrap_or(default.connections_per_ip),
            };
            if body > buffered {
                s.error("`buffered` must not be smaller than `body`")?;
            }
            Some(limits)
        })?
    }
}

fn count(value: Value) -> Option<usize> {
    value.number(1, 10_000_000)
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 32 << 20,
            buffered: 512 << 20,
            upload: 512 << 20,
            headers: 64 << 10,
            connections: 10_000,
            connections_per_ip: 256,
        }
    }
}
