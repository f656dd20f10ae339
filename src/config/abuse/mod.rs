//! The `abuse` section: who and what is kept out, slowed down or looked at before it is served.

mod moderation;
mod rules;
mod sources;

use std::time::Duration;

use super::RateLimit;
use super::read::Value;

pub use self::moderation::{Moderation, Moderator, OnError};
pub use self::rules::{Action, ContentRule, Measure, Patterns};
pub(super) use self::sources::network;
pub use self::sources::{Networks, Sites};

/// The longest that anybody is kept waiting on purpose.
pub(super) const LONGEST_DELAY: Duration = Duration::from_mins(1);

/// Who and what is kept out, slowed down or looked at before it is served.
#[derive(Debug, Clone, PartialEq)]
pub struct Abuse {
    /// Networks that may call, and that may not.
    pub networks: Networks,
    /// Web pages that may call, by `Origin`.
    pub origins: Sites,
    /// … and by `Referer`.
    pub referers: Sites,
    /// How quickly the requests of one address may follow each other, whoever's they are.
    pub per_address: Pace,
    /// … of one user, or of a key that is nobody's.
    pub per_user: Pace,
    /// What becomes of those who try keys; `None` is nothing.
    pub failed_keys: Option<FailedKeys>,
    /// What one request may ask for, whoever asks.
    pub limits: Bounds,
    /// Rules over the texts of a request, in the order of the file.
    pub rules: Vec<ContentRule>,
    /// What they look for.
    pub patterns: Patterns,
    /// Who is asked whether a request's texts are harmless.
    pub moderation: Option<Moderation>,
}

/// How quickly requests may follow each other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    /// Requests in 60 seconds from the first of them; 0 is unlimited.
    pub requests_per_minute: u32,
    /// `None` is unlimited.
    pub rate_limit: Option<RateLimit>,
}

/// What becomes of those who try keys: their refusals come late. A key that is good is never late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailedKeys {
    /// So many wrong keys of an address are refused at once.
    pub after: u32,
    /// An address that sends no wrong key for so long begins anew.
    pub within: Duration,
    /// How late the next refusal comes; each further one twice as late …
    pub delay: Duration,
    /// … up to this.
    pub longest: Duration,
}

/// What one request may ask for; 0 is unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Tokens of all its answers together, as the request asks for them.
    pub max_output_tokens: u64,
    /// Tokens of its prompt, as estimated.
    pub max_prompt_tokens: u64,
    /// Images in it.
    pub max_images: u32,
}

// === impl Abuse ===

impl Abuse {
    pub(super) fn read(value: Value) -> Option<Self> {
        value.section(|s| {
            let networks = s.read("networks", Networks::read).unwrap_or_default();
            let origins = s.read("origins", Sites::read).unwrap_or_default();
            let referers = s.read("referers", Sites::read).unwrap_or_default();
            let per_address = s.read("per_address", Pace::read).unwrap_or_default();
            let per_user = s.read("per_user", Pace::read).unwrap_or_default();
            let failed_keys =
                s.switch("failed_keys", Some(FailedKeys::default()), FailedKeys::read);
            let limits = s.read("limits", Bounds::read).unwrap_or_default();
            let rules = s.read("rules", rules::read);
            let moderation = s.read("moderation", Moderation::read);
            let (rules, patterns) = rules.unwrap_or_default();
            Self {
                networks,
                origins,
                referers,
                per_address,
                per_user,
                failed_keys,
                limits,
                rules,
                patterns,
                moderation,
            }
        })
    }
}

impl Default for Abuse {
    fn default() -> Self {
        Self {
            networks: Networks::default(),
            origins: Sites::default(),
            referers: Sites::default(),
            per_address: Pace::default(),
            per_user: Pace::default(),
            failed_keys: Some(FailedKeys::default()),
            limits: Bounds::default(),
            rules: Vec::new(),
            patterns: Patterns::default(),
            moderation: None,
        }
    }
}

// === impl Pace ===

impl Pace {
    fn read(value: Value) -> Option<Self> {
        value.section(|s| Self {
            requests_per_minute: s
                .read("requests_per_minute", Value::small_count)
                .unwrap_or_default(),
            rate_limit: s.read("rate_limit", RateLimit::read),
        })
    }

    /// Whether it limits nothing.
    pub fn is_unlimited(self) -> bool {
        self == Self::default()
    }
}

// === impl FailedKeys ===

impl FailedKeys {
    fn read(value: Value) -> Option<Self> {
        let default = Self::default();
        value.section(|s| Self {
            after: s.read("after", |v| v.number(1, 1_000_000)).unwrap_or(default.after),
            within: s.read("within", Value::timeout).unwrap_or(default.within),
            delay: s.read("delay", delay).unwrap_or(default.delay),
            longest: s.read("longest", delay).unwrap_or(default.longest),
        })
    }
}

impl Default for FailedKeys {
    fn default() -> Self {
        Self {
            after: 20,
            within: Duration::from_mins(1),
            delay: Duration::from_millis(250),
            longest: Duration::from_secs(5),
        }
    }
}

// === impl Bounds ===

impl Bounds {
    fn read(value: Value) -> Option<Self> {
        value.section(|s| Self {
            max_output_tokens: s.read("max_output_tokens", Value::count).unwrap_or_default(),
            max_prompt_tokens: s.read("max_prompt_tokens", Value::count).unwrap_or_default(),
            max_images: s.read("max_images", Value::small_count).unwrap_or_default(),
        })
    }

    /// Whether it limits nothing.
    pub fn is_unlimited(self) -> bool {
        self == Self::default()
    }

    /// What both let through.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        fn smaller<T: Ord + Copy + Default>(a: T, b: T) -> T {
            let none = T::default();
            if a == none || (b != none && b < a) { b } else { a }
        }
        Self {
            max_output_tokens: smaller(self.max_output_tokens, other.max_output_tokens),
            max_prompt_tokens: smaller(self.max_prompt_tokens, other.max_prompt_tokens),
            max_images: smaller(self.max_images, other.max_images),
        }
    }
}

/// Reads how long somebody is kept waiting.
fn delay(value: Value) -> Option<Duration> {
    match value.timeout()? {
        long if long > LONGEST_DELAY => value.must_be("at most 60s"),
        delay => Some(delay),
    }
}
