//! What was used since the store was told last: sums by hour, key, user, model and provider.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::UsageDelta;

const SHARDS: usize = 16;
/// Distinct sums that are kept; beyond that, models are no longer told apart.
const MANY: usize = 10_000;
/// … and beyond that, nothing but the hour is.
const TOO_MANY: usize = 2 * MANY;
/// What stands for all that is not told apart.
const OTHER: &str = "other";

/// Sums of what was used, for the store. Bounded, whatever is used by whomever.
#[derive(Debug)]
pub struct UsageBook {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    distinct: AtomicUsize,
}

/// Sums by their hash; those that share one stand side by side.
type Shard = HashMap<u64, Vec<UsageDelta>>;

/// Who used what, and when. Empty where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UsedBy<'a> {
    /// Hours since 1970.
    pub hour: i64,
    /// The key's id.
    pub key: &'a str,
    /// The user's id.
    pub user: &'a str,
    /// The model, by its name in the configuration.
    pub model: &'a str,
    /// The provider that answered.
    pub provider: &'a str,
}

/// How much was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Requests.
    pub requests: u64,
    /// Tokens of prompts, cached ones included.
    pub prompt: u64,
    /// Tokens of answers, reasoning included.
    pub completion: u64,
    /// Tokens of prompts that the provider had in its cache.
    pub cached: u64,
    /// Tokens of thinking.
    pub reasoning: u64,
    /// Nanodollars.
    pub cost_nanos: u64,
}

// === impl UsageBook ===

impl UsageBook {
    /// An empty book.
    pub fn new() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: RandomState::new(), distinct: AtomicUsize::new(0) }
    }

    /// Adds what was used.
    pub fn add(&self, by: UsedBy<'_>, used: Used) {
        if self.try_add(by, used, MANY) {
            return;
        }
        let by = UsedBy { model: OTHER, provider: "", ..by };
        if self.try_add(by, used, TOO_MANY) {
            return;
        }
        self.try_add(UsedBy { key: OTHER, user: "", ..by }, used, usize::MAX);
    }

    /// Takes everything out, to be written.
    pub fn take(&self) -> Vec<UsageDelta> {
        let mut taken = Vec::new();
        for shard in &self.shards {
            let shard = std::mem::take(&mut *locked(shard));
            let before = taken.len();
            taken.extend(shard.into_values().flatten());
            self.distinct.fetch_sub(taken.len() - before, Ordering::Relaxed);
        }
        taken
    }

    /// Puts back what could not be written.
    pub fn give_back(&self, deltas: Vec<UsageDelta>) {
        for delta in deltas {
            self.add(UsedBy::of(&delta), Used::of(&delta));
        }
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.distinct.load(Ordering::Relaxed) == 0
    }

    /// Adds to a sum, or begins one if fewer than `most` are there.
    fn try_add(&self, by: UsedBy<'_>, used: Used, most: usize) -> bool {
        let hash = self.hasher.hash_one(by);
        let shard = usize::try_from(hash % SHARDS as u64).unwrap_or_default();
        let Some(shard) = self.shards.get(shard) else { return false };
        let mut shard = locked(shard);
        if let Some(sum) = shard.get_mut(&hash).and_then(|sums| by.among(sums)) {
            used.add_to(sum);
            return true;
        }
        // Counted under the shard's lock only: some more than `most` may be begun at once.
        if self.distinct.load(Ordering::Relaxed) >= most {
            return false;
        }
        let mut sum = by.nothing();
        used.add_to(&mut sum);
        shard.entry(hash).or_default().push(sum);
        self.distinct.fetch_add(1, Ordering::Relaxed);
        true
    }
}

/// A panic while adding leaves a sum that lacks one part of a request, which is no reason to end.
fn locked(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for UsageBook {
    fn default() -> Self {
        Self::new()
    }
}

// === impl UsedBy ===

impl<'a> UsedBy<'a> {
    fn of(delta: &'a UsageDelta) -> Self {
        let UsageDelta { hour, key, user, model, provider, .. } = delta;
        Self { hour: *hour, key, user, model, provider }
    }

    fn among<'s>(&self, sums: &'s mut [UsageDelta]) -> Option<&'s mut UsageDelta> {
        sums.iter_mut().find(|sum| UsedBy::of(sum) == *self)
    }

    fn nothing(self) -> UsageDelta {
        UsageDelta {
            hour: self.hour,
            key: self.key.to_owned(),
            user: self.user.to_owned(),
            model: self.model.to_owned(),
            provider: self.provider.to_owned(),
            requests: 0,
            prompt: 0,
            completion: 0,
            cached: 0,
            reasoning: 0,
            cost_nanos: 0,
        }
    }
}

// === impl Used ===

impl Used {
    fn of(delta: &UsageDelta) -> Self {
        Self {
            requests: delta.requests,
            prompt: delta.prompt,
            completion: delta.completion,
            cached: delta.cached,
            reasoning: delta.reasoning,
            cost_nanos: delta.cost_nanos,
        }
    }

    fn add_to(self, sum: &mut UsageDelta) {
        let parts = [
            (&mut sum.requests, self.requests),
            (&mut sum.prompt, self.prompt),
            (&mut sum.completion, self.completion),
            (&mut sum.cached, self.cached),
            (&mut sum.reasoning, self.reasoning),
            (&mut sum.cost_nanos, self.cost_nanos),
        ];
        for (sum, part) in parts {
            *sum = sum.saturating_add(part);
        }
    }
}
