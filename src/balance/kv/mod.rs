//! Exact mode: what vLLM servers themselves tell of their KV caches, where they publish it. It mends the
//! estimate of `Seen`, which is all that a request looks at.

mod event;
mod follow;
mod lesson;
mod truth;
mod wire;

pub use self::follow::{Source, follow};
pub use self::lesson::learn;

use self::lesson::Lessons;
use self::truth::Caches;
use super::replica::Replica;

/// What is known of the caches of a pool's servers, and the prompts that something is to be learned from.
#[derive(Default)]
pub struct Exact {
    caches: Caches,
    lessons: Lessons,
}

impl Exact {
    /// How many blocks of a server's cache are followed. Not for a request's way.
    pub fn told(&self, replica: &Replica) -> usize {
        self.caches.followed(replica)
    }

    /// How many blocks of prompts its server says it has. Not for a request's way.
    pub fn matched(&self, replica: &Replica) -> usize {
        self.caches.matched(replica)
    }

    /// Of how many blocks of prompts it is known what they come to in tokens. Not for a request's way.
    pub fn learned(&self) -> usize {
        self.caches.words()
    }
}
