//! `moderation`: who is asked whether a request's texts are harmless, before anybody else sees them.

use std::time::Duration;

use super::rules::Measure;
use crate::config::names::Noun;
use crate::config::read::Value;
use crate::config::{Secret, Url};

/// The most categories that can have a threshold.
const MOST: usize = 100;

/// An endpoint that speaks OpenAI's `/v1/moderations`, and what follows from its word.
#[derive(Debug, Clone, PartialEq)]
pub struct Moderation {
    /// Where it is.
    pub at: Moderator,
    /// The model asked; `None` leaves it to the endpoint.
    pub model: Option<String>,
    /// Sent as a bearer token.
    pub key: Option<Secret>,
    /// How long it may take in all.
    pub timeout: Duration,
    /// What becomes of a request that it does not judge.
    pub on_error: OnError,
    /// Categories, and the score from which each counts, 0 to 1. Empty: what it flags counts.
    pub categories: Vec<(String, f64)>,
    /// Bytes of texts that are sent; a longer request counts as one that is not judged.
    pub limit: u64,
    /// What follows when something counts.
    pub measure: Measure,
}

/// Where a moderator is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moderator {
    /// What stands before `/moderations`.
    Url(Url),
    /// A provider of this configuration, with its address and its keys.
    Provider(String),
}

/// What becomes of a request that no moderator has judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnError {
    /// It goes on.
    Open,
    /// It is refused.
    #[default]
    Closed,
}

// === impl Moderation ===

impl Moderation {
    pub(super) fn read(value: Value) -> Option<Self> {
        value.section(|s| {
            let url = s.read("url", Value::url).map(Moderator::Url);
            let provider = s.read("provider", |v| v.seeks(Noun::Provider)).map(Moderator::Provider);
            let model = s.read("model", Value::some_text);
            let key = s.read("key", Value::secret).filter(|key| !key.expose().is_empty());
            let timeout = s.read("timeout", timeout).unwrap_or(Duration::from_secs(3));
            let on_error = s.read("on_error", OnError::read).unwrap_or_default();
            let categories = s.read("categories", categories).unwrap_or_default();
            let limit = s.read("limit", Value::size).unwrap_or(1 << 20);
            let measure = Measure::read(s);
            match (s.has("url"), s.has("provider")) {
                (true, true) => s.error("give `url` or `provider`, not both")?,
                (false, false) => s.error("`url` is missing in `moderation`")?,
                (false, true) if s.has("key") => s.error("a `provider` has keys of its own")?,
                _ => {}
            }
            let at = url.or(provider)?;
            Some(Self { at, model, key, timeout, on_error, categories, limit, measure })
        })?
    }
}

fn timeout(value: Value) -> Option<Duration> {
    match value.timeout()? {
        long if long > Duration::from_mins(1) => value.must_be("at most 60s"),
        timeout => Some(timeout),
    }
}

fn categories(value: Value) -> Option<Vec<(String, f64)>> {
    let read = value.map(|entry, value| Some((entry.name.text.clone(), score(value)?)))?;
    if read.len() > MOST {
        return value.error(format!("`{}` has more than {MOST} entries", value.name));
    }
    Some(read)
}

fn score(value: Value) -> Option<f64> {
    let wanted = "a score from 0 to 1";
    let score = value.scalar(wanted)?.text.parse::<f64>().ok();
    score.filter(|score| (0.0..=1.0).contains(score)).or_else(|| value.must_be(wanted))
}

// === impl OnError ===

impl OnError {
    fn read(value: Value) -> Option<Self> {
        value.one_of(&[("open", Self::Open), ("closed", Self::Closed)])
    }
}
