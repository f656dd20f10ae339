//! The `admin` section: where the control plane listens, and its key.

use std::net::SocketAddr;

use super::Secret;
use super::read::Value;

/// The control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The key that opens it.
    pub key: Secret,
    /// Serves `/admin/v1` on the data listeners too.
    pub on_data_listener: bool,
}

// === impl Admin ===

impl Admin {
    pub(super) fn read(value: Value) -> Option<Self> {
        value.section(|s| {
            let listen = s.require("listen", Value::address);
            let on_data_listener = s.read("on_data_listener", Value::boolean).unwrap_or_default();
            // The environment's key goes first; the file's is still read, for its mistakes.
            let key = if let Some(outside) = value.findings.overrides.admin_key.clone() {
                s.read("key", Value::access_key);
                Some(outside)
            } else {
                s.require("key", Value::access_key)
            };
            Some(Self { listen: listen?, key: key?, on_data_listener })
        })?
    }
}
