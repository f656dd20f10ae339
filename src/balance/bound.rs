//! Bounded load: however much a replica is wanted, it gets no more than a bit above its share.

/// How much more than its share a session's own replica may have under way (consistent hashing with bounded
/// loads, Mirrokni et al. 2016).
pub const OF_SESSIONS: f64 = 1.25;
/// So few requests crowd no server; a bound below would send sessions away from an idle one.
const NEVER_MANY: f64 = 4.0;

/// How many requests a replica of this weight may have under way, when one more is added to `all` of
/// a pool of that weight in all, and it may have `factor` times its share.
pub fn most(factor: f64, all: f64, weight: f64, weights: f64) -> f64 {
    let share = (all + 1.0) * weight / weights.max(1.0);
    (share * factor).floor().max(NEVER_MANY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_gets_a_quarter_more_than_its_share() {
        for (all, weight, weights, expected) in [
            (0.0, 1.0, 4.0, 4.0),
            (31.0, 1.0, 4.0, 10.0),
            (99.0, 1.0, 2.0, 62.0),
            (99.0, 3.0, 4.0, 93.0),
        ] {
            let found = most(OF_SESSIONS, all, weight, weights);
            assert!((found - expected).abs() < 0.01, "{all} {weight} {weights}: {found}");
        }
    }
}
