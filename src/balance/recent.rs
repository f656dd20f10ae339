//! The last choices of a pool: which replica, why, and what was known.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::choices::Reason;

/// Choices kept.
const KEPT: usize = 16;

/// One choice, as it was made.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    pub replica: SocketAddr,
    pub reason: Reason,
    pub at: Instant,
    /// Requests it had under way, this one included.
    pub in_flight: u32,
    /// Estimated tokens of the prompt, and how many of them were expected to be cached there.
    pub prompt_tokens: u64,
    pub cached_tokens: u64,
}

/// The last choices of a pool, oldest first. Whoever finds it locked goes on without a word: it is to
/// be looked at, and nothing is counted by it.
#[derive(Debug, Default)]
pub struct Recent(Mutex<VecDeque<Choice>>);

impl Recent {
    pub(super) fn note(&self, choice: Choice) {
        let Ok(mut last) = self.0.try_lock() else { return };
        if last.len() >= KEPT {
            last.pop_front();
        }
        last.push_back(choice);
    }

    pub fn all(&self) -> Vec<Choice> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_are_kept() {
        let recent = Recent::default();
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        for port in 0..100 {
            recent.note(Choice {
                replica: at(port),
                reason: Reason::Turn,
                at: Instant::now(),
                in_flight: 1,
                prompt_tokens: 0,
                cached_tokens: 0,
            });
        }
        let kept: Vec<SocketAddr> = recent.all().iter().map(|choice| choice.replica).collect();
        assert_eq!(kept, (84..100).map(at).collect::<Vec<_>>());
    }
}
