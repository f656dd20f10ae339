//! The `quotas` section: how many tokens each user has, by group of models.

use super::names::Noun;
use super::read::Value;
use super::{Period, allowance};

/// Tokens of each user, by group of models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quotas {
    /// When what was used is forgotten.
    pub refresh: Period,
    /// The first group that has a model counts its tokens.
    pub groups: Vec<QuotaGroup>,
}

/// Models whose tokens are counted together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaGroup {
    /// What it is called in users' records and answers.
    pub name: String,
    /// Names and globs of its models.
    pub models: Vec<String>,
    /// Tokens of a user who has no number of their own; 0 is unlimited.
    pub tokens: u64,
}

// === impl Quotas ===

impl Quotas {
    pub(super) fn read(value: Value) -> Option<Self> {
        value.section(|s| Self {
            refresh: s.read("refresh", allowance::period).unwrap_or(Period::Month),
            groups: s.read("groups", |v| v.list(QuotaGroup::read)).unwrap_or_default(),
        })
    }
}

impl Default for Quotas {
    fn default() -> Self {
        Self { refresh: Period::Month, groups: Vec::new() }
    }
}

// === impl QuotaGroup ===

impl QuotaGroup {
    fn read(value: Value) -> Option<Self> {
        value.section(|s| {
            let name = s.require("name", |v| v.gives(Noun::Group));
            let models = s.require("models", |v| v.some_list(Value::glob)).unwrap_or_default();
            let tokens = s.read("tokens", Value::count).unwrap_or_default();
            Some(Self { name: name?, models, tokens })
        })?
    }
}
