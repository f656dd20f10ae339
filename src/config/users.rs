//! The `users` section: what holds for every user who has no word of their own.

use serde::{Deserialize, Serialize};

use super::read::Value;

/// What holds for every user who has no word of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Users {
    /// Addresses a user may call from; 0 is unlimited.
    pub max_ips: u32,
    /// What happens at one address too many.
    pub on_max_ips: OnMaxIps,
}

/// What happens at one address too many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnMaxIps {
    /// The request is refused; known addresses go on.
    #[default]
    Refuse,
    /// The user is disabled, with the reason.
    Disable,
}

// === impl Users ===

impl Users {
    pub(super) fn read(value: Value) -> Option<Self> {
        value.section(|s| Self {
            max_ips: s.read("max_ips", Value::small_count).unwrap_or_default(),
            on_max_ips: s.read("on_max_ips", OnMaxIps::read).unwrap_or_default(),
        })
    }
}

// === impl OnMaxIps ===

impl OnMaxIps {
    fn read(value: Value) -> Option<Self> {
        value.one_of(&[("refuse", Self::Refuse), ("disable", Self::Disable)])
    }
}
