//! For which models a key rests: a bounded table of what was told of each.

use std::collections::HashMap;
use std::time::Duration;

use super::{LONGEST, milliseconds};

/// Names that callers made up, per key. Those of the configuration are as many as it has.
const MOST_FREE: usize = 64;
/// … but reloads may bring ever others.
const MOST: usize = 1024;
/// The first rest when the provider does not say how long, doubled each time it was too short.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST_GUESS: Duration = Duration::from_mins(1);
/// The first rest of a model that the key may not use.
const FIRST_REFUSAL: Duration = Duration::from_mins(1);

/// The provider's name of a model; empty for what has none.
#[derive(Clone, Copy, Debug)]
pub struct Name<'a> {
    pub model: &'a str,
    /// A caller made it up: it stands nowhere in the configuration.
    pub free: bool,
}

/// How a key stands with a model. Moments are milliseconds on the keys' clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Free,
    /// Usable, and nearly spent.
    Spent,
    /// Told when to come back.
    Limited(u64),
    /// It may not use this model.
    Refused(u64),
    /// Of no use for any model.
    Disabled(u64),
    /// It is lent, and is not there.
    Absent,
}

/// What was told of each model.
#[derive(Debug, Default)]
pub struct Rests {
    models: HashMap<Box<str>, Rest>,
}

#[derive(Debug, Default)]
struct Rest {
    until: u64,
    /// The key may not use the model; else it is limited.
    refused: bool,
    spent_until: u64,
    /// Rests in a row that did not help.
    strikes: u32,
    free: bool,
}

impl Rests {
    pub fn standing(&self, model: &str, now: u64) -> Standing {
        match self.models.get(model) {
            Some(rest) if rest.until > now && rest.refused => Standing::Refused(rest.until),
            Some(rest) if rest.until > now => Standing::Limited(rest.until),
            Some(rest) if rest.spent_until > now => Standing::Spent,
            _ => Standing::Free,
        }
    }

    /// The model is limited for `pause`, or for a guess. The rest that begins by it, if one does:
    /// whoever asked before it began tells nothing new.
    pub fn limit(&mut self, name: Name, pause: Option<Duration>, now: u64) -> Option<Duration> {
        let rest = self.entry(name, now);
        let resting = rest.until > now;
        if resting && (pause.is_none() || rest.refused) {
            return None;
        }
        let pause =
            pause.map_or_else(|| jittered(doubled(FIRST, rest.strikes)), |told| told.min(LONGEST));
        if !resting {
            rest.strikes = rest.strikes.saturating_add(1);
        }
        // A shorter rest ends no longer one.
        rest.until = rest.until.max(now.saturating_add(milliseconds(pause)));
        rest.refused = false;
        (!resting).then_some(pause)
    }

    /// The key may not use the model. The rest that begins by it, if one does.
    pub fn refuse(&mut self, name: Name, now: u64) -> Option<Duration> {
        let rest = self.entry(name, now);
        if rest.until > now && rest.refused {
            return None;
        }
        let pause = backed_off(FIRST_REFUSAL, rest.strikes);
        rest.strikes = rest.strikes.saturating_add(1);
        rest.until = rest.until.max(now.saturating_add(milliseconds(pause)));
        rest.refused = true;
        Some(pause)
    }

    /// The model is nearly spent for so long, or is not any more.
    pub fn spend(&mut self, name: Name, left: Option<Duration>, now: u64) {
        match left {
            Some(left) => {
                let until = now.saturating_add(milliseconds(left.min(LONGEST)));
                self.entry(name, now).spent_until = until;
            }
            None => {
                if let Some(rest) = self.models.get_mut(name.model) {
                    rest.spent_until = 0;
                }
            }
        }
    }

    /// A request for the model went well. That of one which was sent before a rest began ends it not.
    pub fn works(&mut self, model: &str, now: u64) {
        let Some(rest) = self.models.get_mut(model).filter(|rest| rest.until <= now) else {
            return;
        };
        rest.strikes = 0;
        if rest.spent_until <= now {
            self.models.remove(model);
        }
    }

    pub fn clear(&mut self) {
        self.models.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// When the last of what is known here ends.
    pub fn latest(&self) -> u64 {
        let ends = self.models.values().map(|rest| rest.until.max(rest.spent_until));
        ends.max().unwrap_or(0)
    }

    /// How many models it rests for, the last one's end, and whether any of them is limited.
    pub fn resting(&self, now: u64) -> (usize, u64, bool) {
        let resting = self.models.values().filter(|rest| rest.until > now);
        resting.fold((0, 0, false), |(count, last, limited), rest| {
            (count + 1, last.max(rest.until), limited || !rest.refused)
        })
    }

    fn entry(&mut self, name: Name, now: u64) -> &mut Rest {
        if !self.models.contains_key(name.model) {
            self.make_room(name.free, now);
        }
        let rest = self.models.entry(Box::from(name.model)).or_default();
        rest.free = name.free;
        rest
    }

    /// Room for one more: what has ended goes first, then what ends first.
    fn make_room(&mut self, free: bool, now: u64) {
        let ends = |rest: &Rest| rest.until.max(rest.spent_until);
        let free_ones = || self.models.values().filter(|rest| rest.free).count();
        let crowded = free && free_ones() >= MOST_FREE;
        if !crowded && self.models.len() < MOST {
            return;
        }
        let counts = |rest: &Rest| rest.free || !crowded;
        let before = self.models.len();
        self.models.retain(|_, rest| ends(rest) > now || !counts(rest));
        if self.models.len() < before {
            return;
        }
        let first = self.models.iter().filter(|(_, rest)| counts(rest));
        let first = first.min_by_key(|(_, rest)| ends(rest)).map(|(model, _)| model.clone());
        if let Some(first) = first {
            self.models.remove(&first);
        }
    }
}

/// `first`, doubled for each strike, and never longer than the longest.
pub fn backed_off(first: Duration, strikes: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(strikes.min(16))).min(LONGEST)
}

fn doubled(first: Duration, strikes: u32) -> Duration {
    backed_off(first, strikes).min(LONGEST_GUESS)
}

/// Up to a quarter more or less, so that those who were limited together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let share = 192 + u32::from(rand::random::<u8>()) / 2;
    (pause * share / 256).min(LONGEST_GUESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000;
    const M: Name = Name { model: "m", free: false };

    fn seconds(until: u64) -> u64 {
        until.saturating_sub(NOW) / 1000
    }

    #[test]
    fn a_limit_is_of_one_model() {
        let mut rests = Rests::default();
        assert_eq!(rests.limit(M, Some(Duration::from_secs(7)), NOW), Some(Duration::from_secs(7)));
        assert_eq!(rests.standing("m", NOW), Standing::Limited(NOW + 7000));
        assert_eq!(rests.standing("n", NOW), Standing::Free);
        assert_eq!(rests.standing("m", NOW + 7000), Standing::Free);
        assert_eq!(rests.resting(NOW), (1, NOW + 7000, true));
    }

    #[test]
    fn a_pause_is_at_most_an_hour_and_a_shorter_one_ends_no_longer_one() {
        let mut rests = Rests::default();
        rests.limit(M, Some(Duration::from_hours(30)), NOW);
        rests.limit(M, Some(Duration::from_secs(1)), NOW + 5);
        assert_eq!(rests.standing("m", NOW + 10), Standing::Limited(NOW + 3_600_000));
    }

    #[test]
    fn without_a_pause_rests_grow_up_to_a_minute_until_one_helped() {
        let mut rests = Rests::default();
        let mut now = NOW;
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            let pause = rests.limit(M, None, now).unwrap().as_secs_f64();
            let expected = f64::from(expected);
            assert!((expected * 0.74..=(expected * 1.26).min(60.0)).contains(&pause), "{pause}");
            // Those that were under way tell nothing new.
            assert_eq!(rests.limit(M, None, now + 1), None);
            now = rests.latest();
        }
        rests.works("m", now);
        assert!(rests.limit(M, None, now).unwrap() < Duration::from_secs(2));
    }

    #[test]
    fn an_answer_to_an_earlier_request_ends_no_rest() {
        let mut rests = Rests::default();
        rests.limit(M, Some(Duration::from_secs(7)), NOW);
        rests.works("m", NOW + 1);
        assert_eq!(rests.standing("m", NOW + 1), Standing::Limited(NOW + 7000));
        rests.works("m", NOW + 7000);
        assert!(rests.is_empty());
    }

    #[test]
    fn a_refused_model_is_left_alone_for_ever_longer() {
        let mut rests = Rests::default();
        let mut now = NOW;
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(rests.refuse(M, now), Some(Duration::from_mins(minutes)));
            assert_eq!(rests.refuse(M, now), None);
            now = rests.latest();
        }
        assert!(!rests.resting(now - 1).2);
    }

    #[test]
    fn a_nearly_spent_model_is_so_until_it_is_told_otherwise() {
        let mut rests = Rests::default();
        rests.spend(M, Some(Duration::from_secs(9)), NOW);
        rests.works("m", NOW + 1);
        assert_eq!(rests.standing("m", NOW + 1), Standing::Spent);
        assert_eq!(seconds(rests.latest()), 9);
        rests.spend(M, None, NOW + 2);
        assert_eq!(rests.standing("m", NOW + 2), Standing::Free);
    }

    #[test]
    fn made_up_names_displace_each_other_and_no_configured_one() {
        let mut rests = Rests::default();
        rests.limit(M, Some(Duration::from_secs(1)), NOW);
        for name in 0..10_000 {
            let name = format!("made-up-{name}");
            rests.refuse(Name { model: &name, free: true }, NOW);
        }
        assert_eq!(rests.models.len(), MOST_FREE + 1);
        assert_eq!(rests.standing("m", NOW), Standing::Limited(NOW + 1000));
        for name in 0..10_000 {
            let name = format!("of-a-reload-{name}");
            rests.refuse(Name { model: &name, free: false }, NOW);
        }
        assert_eq!(rests.models.len(), MOST);
    }
}
