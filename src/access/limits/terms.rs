//! Who is limited, on what terms, and what a request claims and uses.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::{Allowance, Period, RateLimit};

/// A moment: milliseconds since 1970 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now(pub i64);

/// What a limit is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    Key,
    User,
    Model,
}

/// The limits of one subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// `None`: as quick as one likes. Nothing per second and no burst blocks.
    pub rate: Option<RateLimit>,
    pub allowance: Allowance,
    /// Tokens per group of models. A request names one by its place ([`Claim::quota_group`]).
    pub quotas: Vec<Quota>,
    /// Nothing is refused, rates, minutes and concurrency are not looked at; what is used of budget
    /// and quotas is counted all the same.
    pub exempt: bool,
}

/// So many tokens for a group of models in each period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    pub group: Arc<str>,
    /// 0: unlimited, and not counted.
    pub tokens: u64,
    pub refresh: Period,
    /// How often it was given anew by hand: each time it is counted from the beginning.
    pub epoch: u32,
}

/// The worst a request may come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Prompt and longest answer.
    pub tokens: u64,
    /// Nanodollars.
    pub cost_nanos: u64,
    /// The quota it counts towards: a place in [`Terms::quotas`].
    pub quota_group: Option<u16>,
}

/// What a request came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Prompt and answer.
    pub tokens: u64,
    /// Nanodollars.
    pub cost_nanos: u64,
}

// === impl Now ===

impl Now {
    /// The moment by this machine's clock.
    pub fn by_clock() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

// === impl Who ===

impl Who {
    /// As users read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::User => "user",
            Self::Model => "model",
        }
    }

    /// What ids of counters begin with.
    pub(super) fn letter(self) -> char {
        match self {
            Self::Key => 'k',
            Self::User => 'u',
            Self::Model => 'm',
        }
    }
}

// === impl Terms ===

impl Terms {
    /// Whether nothing is limited, so that nothing need be counted. `max_ips` is looked at elsewhere.
    pub fn is_unlimited(&self) -> bool {
        let allowance = &self.allowance;
        let counted = allowance.budget.as_ref().is_some_and(|budget| budget.nanos > 0)
            || self.quotas.iter().any(|quota| quota.tokens > 0);
        let limited = self.rate.is_some()
            || allowance.requests_per_minute > 0
            || allowance.tokens_per_minute > 0
            || allowance.max_concurrent > 0;
        !(counted || (limited && !self.exempt))
    }
}
