//! Weighted turns: which target goes first, in exact proportion and evenly spread.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The longest cycle kept. Weights that would need more are scaled down to it.
const LONGEST_CYCLE: u64 = 1024;

/// The order in which weighted targets take the first place (nginx's smooth weighted round robin,
/// worked out once for a whole cycle, so that a turn is one atomic add).
#[derive(Debug)]
pub struct Schedule {
    cycle: Vec<usize>,
    turn: AtomicUsize,
}

impl Schedule {
    /// Targets of weight 0 never come first.
    pub fn new(weights: &[u32]) -> Self {
        let weights = scaled(weights);
        let total: i64 = weights.iter().sum();
        let mut credit = vec![0_i64; weights.len()];
        let mut cycle = Vec::new();
        for _ in 0..total {
            for (credit, weight) in credit.iter_mut().zip(&weights) {
                *credit += weight;
            }
            // The first of the richest: ties go by file order.
            let richest = credit.iter().enumerate().rev().max_by_key(|(_, credit)| **credit);
            let Some(chosen) = richest.map(|(index, _)| index) else { break };
            if let Some(credit) = credit.get_mut(chosen) {
                *credit -= total;
            }
            cycle.push(chosen);
        }
        Self { cycle, turn: AtomicUsize::new(0) }
    }

    /// The target whose turn it is; `None` when none has a weight.
    pub fn next(&self) -> Option<usize> {
        let turn = self.turn.fetch_add(1, Relaxed);
        self.cycle.get(turn.checked_rem(self.cycle.len())?).copied()
    }
}

/// Weights divided by what they share, and scaled into the longest cycle; a weight never becomes 0.
fn scaled(weights: &[u32]) -> Vec<i64> {
    let shared = weights.iter().fold(0, |a, b| gcd(a, *b)).max(1);
    let total: u64 = weights.iter().map(|weight| u64::from(weight / shared)).sum();
    let scale = |weight: u32| {
        let weight = u64::from(weight / shared);
        if total <= LONGEST_CYCLE || weight == 0 {
            return weight;
        }
        (weight.saturating_mul(LONGEST_CYCLE) / total).max(1)
    };
    weights.iter().map(|weight| i64::try_from(scale(*weight)).unwrap_or(1)).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(weights: &[u32], count: usize) -> Vec<usize> {
        let schedule = Schedule::new(weights);
        (0..count).filter_map(|_| schedule.next()).collect()
    }

    #[test]
    fn turns_are_in_proportion_and_spread() {
        assert_eq!(turns(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(turns(&[10, 10], 4), [0, 1, 0, 1]);
    }

    #[test]
    fn weight_0_never_comes_first() {
        assert_eq!(turns(&[0, 3], 3), [1, 1, 1]);
        assert!(turns(&[0, 0], 3).is_empty());
    }

    #[test]
    fn huge_weights_keep_their_proportion_in_a_bounded_cycle() {
        let schedule = Schedule::new(&[3_000_000_001, 1_000_000_000]);
        assert!(schedule.cycle.len() <= 1024);
        let first = schedule.cycle.iter().filter(|index| **index == 0).count();
        assert!((767..=769).contains(&first), "{first}");
    }
}
