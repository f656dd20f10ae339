//! How quickly places become free: what a wait is expected from, and what `Retry-After` says.

use std::time::{Duration, Instant};

/// How long what has become free is counted.
const WINDOW: Duration = Duration::from_secs(5);
/// Before so many became free, how long they were taken says more.
const ENOUGH: u32 = 8;

/// The rate at which places become free.
#[derive(Debug, Default)]
pub struct Drain {
    /// Smoothed seconds that a place was taken; 0 before the first.
    held: f64,
    /// Since when somebody waits all the time, and what has become free since then.
    window: Option<(Instant, u32)>,
    /// Places per second of the window before.
    before: Option<f64>,
}

impl Drain {
    /// A place that was taken for `held` is free, and `crowded`: somebody waited for it.
    pub fn note(&mut self, now: Instant, held: Duration, crowded: bool) {
        let held = held.as_secs_f64();
        self.held = if self.held > 0.0 { self.held + (held - self.held) / 16.0 } else { held };
        if !crowded {
            (self.window, self.before) = (None, None);
            return;
        }
        let (since, count) = self.window.get_or_insert((now, 0));
        *count += 1;
        let passed = now.saturating_duration_since(*since);
        if passed >= WINDOW {
            self.before = Some(f64::from(*count) / passed.as_secs_f64());
            self.window = Some((now, 0));
        }
    }

    /// How long until `ahead` more places have become free, with `taken` of them in use; `None` when
    /// nothing is known of it.
    pub fn expect(&self, now: Instant, ahead: usize, taken: u32) -> Option<Duration> {
        let rate = self.rate(now, taken)?;
        let ahead = f64::from(u32::try_from(ahead).unwrap_or(u32::MAX));
        Duration::try_from_secs_f64(ahead / rate).ok()
    }

    fn rate(&self, now: Instant, taken: u32) -> Option<f64> {
        let counted = self.window.and_then(|(since, count)| {
            let passed = now.saturating_duration_since(since).as_secs_f64();
            let late = passed >= WINDOW.as_secs_f64();
            (count >= ENOUGH || late).then(|| f64::from(count.max(1)) / passed.max(0.001))
        });
        // By how long places are taken, all of them become free in that time.
        let by_time = || (self.held > 0.0).then(|| f64::from(taken.max(1)) / self.held.max(0.001));
        counted.or(self.before).or_else(by_time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn before_anybody_waited_it_goes_by_how_long_places_are_taken() {
        let (mut drain, now) = (Drain::default(), Instant::now());
        assert_eq!(drain.expect(now, 1, 4), None);
        drain.note(now, 2 * SECOND, false);
        assert_eq!(drain.expect(now, 4, 4), Some(2 * SECOND));
        assert_eq!(drain.expect(now, 8, 4), Some(4 * SECOND));
    }

    #[test]
    fn while_somebody_waits_what_becomes_free_is_counted() {
        let (mut drain, start) = (Drain::default(), Instant::now());
        let mut now = start;
        for _ in 0..40 {
            now += SECOND / 4;
            drain.note(now, 60 * SECOND, true);
        }
        let expected = drain.expect(now, 20, 4).unwrap();
        assert!((4.0..=6.0).contains(&expected.as_secs_f64()), "{expected:?}");
        drain.note(now, 60 * SECOND, false);
        assert!(drain.expect(now, 20, 4).unwrap() > 60 * SECOND, "nobody waits any more");
    }

    #[test]
    fn servers_that_stand_still_are_expected_to_go_on_doing_so() {
        let (mut drain, start) = (Drain::default(), Instant::now());
        for index in 0..16 {
            drain.note(start + index * SECOND / 8, SECOND, true);
        }
        let soon = drain.expect(start + 2 * SECOND, 8, 4).unwrap();
        let later = drain.expect(start + 60 * SECOND, 8, 4).unwrap();
        assert!(soon < 2 * SECOND && later > 10 * SECOND, "{soon:?} {later:?}");
    }
}
