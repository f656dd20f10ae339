//! The `metrics` section: where metrics are served.

use super::read::Value;

/// Where metrics are served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Serves `/metrics` on the data listeners too.
    pub on_data_listener: bool,
}

// === impl Metrics ===

impl Metrics {
    pub(super) fn read(value: Value) -> Option<Self> {
        value.section(|s| Self {
            on_data_listener: s.read("on_data_listener", Value::boolean).unwrap_or_default(),
        })
    }
}
