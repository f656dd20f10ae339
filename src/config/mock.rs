//! The `mock` section of a provider: how the built-in stand-in model behaves.

use std::time::Duration;

use super::read::Value;

/// How the built-in stand-in model behaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MockOptions {
    /// How many tokens it answers with.
    pub tokens: Option<u32>,
    /// How long it waits before the first byte.
    pub delay: Option<Duration>,
    /// How long it waits between two chunks.
    pub interval: Option<Duration>,
    /// How it fails, when it is to fail.
    pub fail: Option<String>,
}

// === impl MockOptions ===

impl MockOptions {
    pub(super) fn read(value: Value) -> Option<Self> {
        value.section(|s| Self {
            tokens: s.read("tokens", |v| v.number(0, 1_000_000)),
            delay: s.read("delay", Value::duration),
            interval: s.read("interval", Value::duration),
            fail: s.read("fail", Value::name),
        })
    }
}
