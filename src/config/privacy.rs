//! The `privacy` section: what is kept about a caller.

use super::read::Value;

/// What is kept about a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Privacy {
    /// Whether logs name the caller's address.
    pub log_client_ip: bool,
    /// Keeps no address, no device header and no content, anywhere.
    pub strict: bool,
}

// === impl Privacy ===

impl Privacy {
    /// `privacy: strict`.
    pub const STRICT: Self = Self { log_client_ip: false, strict: true };

    pub(super) fn read(value: Value) -> Option<Self> {
        if value.node.as_text() == Some("strict") {
            return Some(Self::STRICT);
        }
        if value.node.as_text().is_some() {
            return value.must_be("`strict` or a map");
        }
        let default = Self::default();
        value.section(|s| Self {
            log_client_ip: s.read("log_client_ip", Value::boolean).unwrap_or(default.log_client_ip),
            strict: false,
        })
    }
}

impl Default for Privacy {
    fn default() -> Self {
        Self { log_client_ip: true, strict: false }
    }
}
