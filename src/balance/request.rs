//! What a request lets a policy choose by. Worked out only when the policy in force asks.

use sha2::{Digest, Sha256};

/// A request to be given a replica.
pub trait Request {
    /// Estimated tokens of its prompt.
    fn tokens(&self) -> u64 {
        0
    }

    /// The provider's name of the model it is for; `None` when it is for none.
    fn model(&self) -> Option<&str> {
        None
    }

    /// Stands for the session it belongs to; `None` when it names none.
    fn session(&self) -> Option<u64> {
        None
    }

    /// Its prompt; `None` when it has none that a server would cache.
    fn prompt(&self) -> Option<Prompt<'_>> {
        None
    }

    /// The JSON body that asks vLLM's `/tokenize` for the prompt's tokens; `None` when the prompt cannot be asked
    /// for, or is longer than `most` bytes.
    fn tokens_question(&self, most: usize) -> Option<Vec<u8>> {
        let _ = most;
        None
    }
}

/// A request of which nothing is known.
pub struct Unknown;

impl Request for Unknown {}

/// What stands for a session of that name: the same on every node, and after a restart.
pub fn session_of(name: &[u8]) -> u64 {
    let digest = Sha256::digest(name);
    digest.first_chunk().copied().map_or(0, u64::from_le_bytes)
}

/// A prompt as it was sent, in the order in which chat templates lay it out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prompt<'p> {
    /// The provider's name of the model. Adapters have names of their own, and caches of their own.
    pub model: &'p str,
    /// Sets its cache apart from others' (vLLM's `cache_salt`).
    pub salt: &'p [u8],
    /// Tools, system prompt, turns: each as its bytes stand in the request, the last without its end.
    pub parts: [&'p [u8]; 3],
}
