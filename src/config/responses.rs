//! The `responses` and `objects` sections: what is remembered of earlier calls.

use std::time::Duration;

use super::read::Value;

/// What is kept of responses whose provider cannot keep them, as it speaks another dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Responses {
    /// Whether anything is.
    pub kept: bool,
    /// How long after it was made a response can be gone on from.
    pub keep: Duration,
    /// Bytes of all of them together; the oldest go first.
    pub memory: u64,
}

/// What is remembered of objects at providers: who made them, and where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Objects {
    /// How long one is remembered after its maker last asked for it.
    pub keep: Duration,
}

// === impl Responses ===

impl Responses {
    pub(super) fn read(value: Value) -> Option<Self> {
        let default = Self::default();
        value.section(|s| Self {
            kept: s
                .read("store", |v| v.one_of(&[("memory", true), ("off", false)]))
                .unwrap_or(default.kept),
            keep: s.read("keep", Value::timeout).unwrap_or(default.keep),
            memory: s.read("memory", Value::size).unwrap_or(default.memory),
        })
    }
}

impl Default for Responses {
    fn default() -> Self {
        Self { kept: true, keep: Duration::from_hours(1), memory: 64 << 20 }
    }
}

// === impl Objects ===

impl Objects {
    pub(super) fn read(value: Value) -> Option<Self> {
        let default = Self::default();
        value.section(|s| Self { keep: s.read("keep", Value::timeout).unwrap_or(default.keep) })
    }
}

impl Default for Objects {
    fn default() -> Self {
        Self { keep: Duration::from_hours(30 * 24) }
    }
}
