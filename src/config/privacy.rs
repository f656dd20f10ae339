//! The `privacy` section: what is kept about a caller, and what providers are told of it.

use super::read::Value;

/// What is kept about a caller, and what providers are told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each says one thing, and all combine")]
pub struct Privacy {
    /// Whether the caller's address is written down.
    pub log_client_ip: bool,
    /// Whether the caller's `User-Agent` is.
    pub log_user_agent: bool,
    /// Whether providers get the headers that tell of the caller's device and program.
    pub forward_device_headers: bool,
    /// Keeps no address, no device header and no content, anywhere.
    pub strict: bool,
}

// === impl Privacy ===

impl Privacy {
    /// `privacy: strict`.
    pub const STRICT: Self = Self {
        log_client_ip: false,
        log_user_agent: false,
        forward_device_headers: false,
        strict: true,
    };

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
            log_user_agent: s
                .read("log_user_agent", Value::boolean)
                .unwrap_or(default.log_user_agent),
            forward_device_headers: s
                .read("forward_device_headers", Value::boolean)
                .unwrap_or(default.forward_device_headers),
            strict: false,
        })
    }

    /// Reads what one listener or key may say: `strict`.
    pub(super) fn read_strict(value: Value) -> Option<bool> {
        value.one_of(&[("strict", true)])
    }
}

impl Default for Privacy {
    fn default() -> Self {
        Self {
            log_client_ip: true,
            log_user_agent: true,
            forward_device_headers: true,
            strict: false,
        }
    }
}
