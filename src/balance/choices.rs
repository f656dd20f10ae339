//! Why replicas were chosen, counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Why a replica was chosen among several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It was its turn, or drawn by lot.
    Turn,
    /// It had the least to do.
    LeastLoad,
    /// Its session is at home there.
    Session,
    /// … and would be elsewhere, where there is too much to do.
    Overflow,
    /// It knows more of the prompt than any other.
    Prefix,
    /// Another knows more of the prompt, and would take longer.
    Spread,
    /// After a failure elsewhere, or with nothing better left.
    Again,
}

/// How many choices there were of each reason, and what was hoped of them.
#[derive(Debug, Default)]
pub struct Choices {
    reasons: [Count; Reason::ALL.len()],
    prompt: Count,
    expected: Count,
    cached: Count,
}

/// A count that is also told as what came since it was last told.
#[derive(Debug, Default)]
struct Count {
    all: AtomicU64,
    told: AtomicU64,
}

impl Reason {
    /// All there are, in the order they are counted in.
    pub const ALL: [Self; 7] = [
        Self::Turn,
        Self::LeastLoad,
        Self::Session,
        Self::Overflow,
        Self::Prefix,
        Self::Spread,
        Self::Again,
    ];

    /// Its label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Turn => "turn",
            Self::LeastLoad => "least_load",
            Self::Session => "session",
            Self::Overflow => "overflow",
            Self::Prefix => "prefix",
            Self::Spread => "spread",
            Self::Again => "again",
        }
    }
}

impl Choices {
    pub(super) fn count(&self, reason: Reason) {
        let index = Reason::ALL.iter().position(|one| *one == reason);
        if let Some(count) = index.and_then(|index| self.reasons.get(index)) {
            count.add(1);
        }
    }

    /// Counts a prompt's estimated tokens, and how many of them are expected to be cached.
    pub(super) fn expect(&self, prompt: u64, cached: u64) {
        self.prompt.add(prompt);
        self.expected.add(cached);
    }

    /// Counts the tokens that a server said were cached.
    pub(super) fn found(&self, cached: u64) {
        self.cached.add(cached);
    }

    /// Choices so far, by reason.
    pub fn all(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().zip(self.reasons.iter().map(Count::all))
    }

    /// The part of the prompts' tokens that was expected to be cached where they were sent; `None`
    /// before the first prompt.
    pub fn expected_share(&self) -> Option<f64> {
        let (expected, prompt) = (self.expected.all(), self.prompt.all());
        #[expect(clippy::cast_precision_loss, reason = "a share for people to read")]
        (prompt > 0).then(|| expected as f64 / prompt as f64)
    }

    /// Choices since this was last asked, by reason: each is told to one asker.
    pub fn news(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().zip(self.reasons.iter().map(Count::news))
    }

    /// … and tokens, by what is known of them.
    pub fn token_news(&self) -> [(&'static str, u64); 3] {
        [
            ("prompt", self.prompt.news()),
            ("expected", self.expected.news()),
            ("cached", self.cached.news()),
        ]
    }
}

impl Count {
    fn add(&self, more: u64) {
        self.all.fetch_add(more, Relaxed);
    }

    fn all(&self) -> u64 {
        self.all.load(Relaxed)
    }

    fn news(&self) -> u64 {
        let all = self.all();
        all.saturating_sub(self.told.fetch_max(all, Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_choice_is_news_once() {
        let choices = Choices::default();
        choices.count(Reason::Prefix);
        choices.count(Reason::Prefix);
        let prefix = |mut of: Box<dyn Iterator<Item = (Reason, u64)> + '_>| {
            of.find(|(reason, _)| *reason == Reason::Prefix).unwrap().1
        };
        assert_eq!(prefix(Box::new(choices.news())), 2);
        assert_eq!(prefix(Box::new(choices.news())), 0);
        assert_eq!(prefix(Box::new(choices.all())), 2);
    }

    #[test]
    fn a_share_is_told_once_there_was_a_prompt() {
        let choices = Choices::default();
        assert_eq!(choices.expected_share(), None);
        choices.expect(400, 100);
        assert_eq!(choices.expected_share(), Some(0.25));
    }
}
