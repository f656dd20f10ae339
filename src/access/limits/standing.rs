//! How a caller stands with its limits: for headers, for refusals, for `GET /v1/me`.

use std::sync::Arc;
use std::time::Duration;

use super::terms::Who;

/// The tightest windows of a request's subjects, for headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Of `requests_per_minute`; where no subject has one, of `rate_limit`.
    pub requests: Option<Window>,
    /// Of `tokens_per_minute` and of the quota.
    pub tokens: Option<Window>,
}

/// A limit as headers tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub limit: u64,
    /// What could still be claimed; open reservations are taken off.
    pub remaining: u64,
    /// Until the window begins anew, or the bucket is full.
    pub resets_in: Duration,
}

/// One limit of one subject, for `GET /v1/me`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    pub who: Who,
    /// The limit's name in the configuration: `requests_per_minute`, `budget`, `quota`, …
    pub name: &'static str,
    /// A quota's group of models.
    pub group: Option<Arc<str>>,
    /// Requests, tokens or nanodollars.
    pub limit: u64,
    /// Settled in this window, on all nodes as far as is known here; for `max_concurrent` and
    /// `rate_limit` what is taken now.
    pub used: u64,
    /// Claimed by requests under way at this node.
    pub reserved: u64,
    /// What could still be claimed; open reservations are taken off.
    pub remaining: u64,
    /// Unix milliseconds; `None`: never, or nothing that resets.
    pub resets_at: Option<i64>,
}

/// Why a request is refused. Of several limits it is the one that takes longest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the limit of this {} is reached: {}", who.as_str(), limit.as_str())]
pub struct Exceeded {
    pub limit: LimitKind,
    pub who: Who,
    /// Until another try may help: to the window's end, to the bucket's next token; 1 s where a
    /// request under way may give back what is missing, and where other nodes may.
    pub retry_after: Duration,
    /// Of the limit: requests, tokens, nanodollars, requests at once.
    pub cap: u64,
    /// What could still have been claimed. A claim above `cap` is never let in.
    pub remaining: u64,
    pub standing: Standing,
}

/// A kind of limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitKind {
    /// `rate_limit` of 0 and 0.
    Blocked,
    Rate,
    RequestsPerMinute,
    TokensPerMinute,
    Concurrency,
    Budget,
    Quota,
}

// === impl LimitKind ===

impl LimitKind {
    /// The limit's name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blocked | Self::Rate => "rate_limit",
            Self::RequestsPerMinute => "requests_per_minute",
            Self::TokensPerMinute => "tokens_per_minute",
            Self::Concurrency => "max_concurrent",
            Self::Budget => "budget",
            Self::Quota => "quota",
        }
    }
}

// === impl Standing ===

impl Standing {
    pub(super) fn note_requests(&mut self, window: Window) {
        tighten(&mut self.requests, window);
    }

    pub(super) fn note_tokens(&mut self, window: Window) {
        tighten(&mut self.tokens, window);
    }
}

/// Keeps the tighter of two windows.
fn tighten(kept: &mut Option<Window>, window: Window) {
    let tighter = kept.is_none_or(|kept| {
        (window.remaining, std::cmp::Reverse(window.resets_in))
            < (kept.remaining, std::cmp::Reverse(kept.resets_in))
    });
    if tighter {
        *kept = Some(window);
    }
}
