//! The `temporary_keys` section: keys that people make for themselves.

use std::time::Duration;

use super::read::Value;
use super::{Allowance, RateLimit, Secret};

const HOUR: Duration = Duration::from_hours(1);
const MOST_WORK: u32 = 1_000_000;

/// Keys that people make for themselves, and that end by themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemporaryKeys {
    /// Who knows it may have one.
    pub password: Option<Secret>,
    /// How many hashes have to be tried for one, on average.
    pub proof_of_work: Option<u32>,
    /// How long one lasts.
    pub lifetime: Duration,
    /// Addresses that one may be used from; 0 is unlimited.
    pub max_ips: u32,
    /// How many one address may have at once; 0 is unlimited.
    pub per_address: u32,
    /// How long one is remembered after its end.
    pub purge_after: Duration,
    /// What one may use.
    pub limits: Allowance,
    /// How quickly its requests may follow each other.
    pub rate_limit: Option<RateLimit>,
    /// Names and globs of the models it may use; `None` is all.
    pub allowed_models: Option<Vec<String>>,
}

// === impl TemporaryKeys ===

impl TemporaryKeys {
    pub(super) fn read(value: Value) -> Option<Self> {
        value.section(|s| {
            let keys = Self {
                password: s.read("password", Value::access_key),
                proof_of_work: s.read("proof_of_work", work),
                lifetime: s.read("lifetime", Value::timeout).unwrap_or(24 * HOUR),
                max_ips: s.read("max_ips", Value::small_count).unwrap_or(2),
                per_address: s.read("per_address", Value::small_count).unwrap_or(2),
                purge_after: s.read("purge_after", Value::duration).unwrap_or(48 * HOUR),
                limits: s.read("limits", Allowance::read).unwrap_or_default(),
                rate_limit: s.read("rate_limit", RateLimit::read),
                allowed_models: s.read("allowed_models", |v| v.list(Value::glob)),
            };
            if !s.has("password") && !s.has("proof_of_work") {
                s.error::<()>("`temporary_keys` needs a `password` or a `proof_of_work`");
            }
            keys
        })
    }
}

/// Reads how much work a key costs: a word, or a number of tries.
fn work(value: Value) -> Option<u32> {
    if value.node.as_text().is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_digit())) {
        return value.number(1, MOST_WORK);
    }
    value.one_of(&[("low", 200), ("medium", 900), ("high", 1_900), ("extreme", 4_000)])
}
