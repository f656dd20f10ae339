//! `prefix_affinity`: what a prompt would wait for at a replica, against what is cached of it there.

// Chosen by simulation (`benches/replicas.rs`, `benches/routers`), with traffic from a quarter of what the servers can
// take up to beyond it.
/// What one more request under way slows another down by, in tokens of prefill: its decoding takes
/// a part of each step.
const RUNNING: f64 = 8.0;
/// What waits before its prefill begins waits for a place besides.
const WAITING: f64 = 50.0;
/// What is not cached is worked out by the server at the expense of all that are there, and takes the place of
/// something cached: it counts twice.
const MISSED: f64 = 2.0;
/// How much more than its share of the requests under way a replica may have, however much it has cached.
pub const SHARE: f64 = 1.5;
/// From here on a KV cache is so full that a new request may have to wait for room.
const FULL: f64 = 0.9;
/// What it waits when there is no room at all, in tokens.
const NO_ROOM: f64 = 4096.0;

/// What is known of a replica that could take a request.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Standing {
    /// Requests under way there, others' included.
    pub requests: f64,
    /// Of these, not begun.
    pub waiting: f64,
    /// Tokens of prompts before it.
    pub prefill: f64,
    /// How full its KV cache is.
    pub kv_use: f64,
    /// How much it takes of all, by configuration.
    pub weight: f64,
    /// Of the request's prompt, tokens that are likely to be cached there.
    pub cached: u64,
}

impl Standing {
    /// What a prompt of so many tokens costs there: the tokens worked out before its first one, and those that it
    /// takes itself, which others wait for.
    pub fn cost(&self, prompt: u64) -> f64 {
        let crowd = self.requests * RUNNING + self.waiting * WAITING;
        let pressure = ((self.kv_use - FULL) / (1.0 - FULL)).clamp(0.0, 1.0) * NO_ROOM;
        (self.prefill + crowd) / self.weight.max(1.0) + pressure + MISSED * own(prompt, self.cached)
    }
}

#[expect(clippy::cast_precision_loss, reason = "prompts are shorter than 2^52 tokens")]
fn own(prompt: u64, cached: u64) -> f64 {
    prompt.saturating_sub(cached) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing() -> Standing {
        Standing { weight: 1.0, ..Standing::default() }
    }

    #[test]
    fn a_cached_prefix_is_worth_a_short_wait_and_no_long_one() {
        let home = Standing { cached: 3000, requests: 10.0, ..standing() };
        let other = Standing { requests: 2.0, ..standing() };
        assert!(home.cost(4000) < other.cost(4000));
        let crowded = Standing { requests: 60.0, waiting: 12.0, prefill: 8000.0, ..home };
        assert!(crowded.cost(4000) > other.cost(4000));
    }

    #[test]
    fn a_full_cache_costs_and_a_half_full_one_does_not() {
        let half = Standing { kv_use: 0.5, ..standing() };
        let full = Standing { kv_use: 0.99, ..standing() };
        assert!(half.cost(100) <= standing().cost(100));
        assert!(full.cost(100) > half.cost(100) + 3000.0);
    }

    #[test]
    fn what_has_more_weight_bears_more() {
        let small = Standing { requests: 10.0, ..standing() };
        let large = Standing { weight: 2.0, ..small };
        assert!(large.cost(100) < small.cost(100));
    }
}
