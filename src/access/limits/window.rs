//! When windows begin and end.

use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

use super::terms::Now;
use crate::config::Period;

/// A window, in Unix seconds: from `start`, up to and without `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub start: i64,
    pub end: i64,
}

/// The end of what never ends: 9999-12-29, which everybody can write down, also with time added.
const NEVER: i64 = 253_402_041_600;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// A clock that steps back less than this, seconds, does not reopen the window before.
const STEP_BACK: i64 = 30;

impl Span {
    const FOREVER: Self = Self { start: 0, end: NEVER };

    /// The minute of `now`.
    pub(super) fn minute(now: Now) -> Self {
        Self::fixed(MINUTE, seconds(now))
    }

    /// The window of `period` that `now` is in.
    pub(super) fn of(period: &Period, now: Now) -> Self {
        let now = seconds(now);
        let found = match period {
            Period::Hour => Some(Self::fixed(HOUR, now)),
            Period::Day => Some(Self::fixed(DAY, now)),
            Period::Week => week(now),
            Period::Month => month(now),
            Period::Total => None,
            Period::Cron(_) => cron(period, now),
        };
        found.unwrap_or(Self::FOREVER)
    }

    /// Whether `now` is in it.
    pub(super) fn holds(self, now: Now) -> bool {
        let now = seconds(now);
        now < self.end && now >= self.start.saturating_sub(STEP_BACK)
    }

    /// Whether another one comes after it.
    pub(super) fn ends(self) -> bool {
        self.end < NEVER
    }

    /// Milliseconds until it ends.
    pub(super) fn left(self, now: Now) -> u64 {
        u64::try_from(self.end.saturating_mul(1000).saturating_sub(now.0)).unwrap_or(0)
    }

    fn fixed(length: i64, now: i64) -> Self {
        let start = now.saturating_sub(now.rem_euclid(length));
        Self { start, end: start.saturating_add(length) }
    }
}

fn seconds(now: Now) -> i64 {
    now.0.div_euclid(1000)
}

fn zoned(now: i64) -> Option<Zoned> {
    Some(Timestamp::from_second(now).ok()?.to_zoned(TimeZone::UTC))
}

fn week(now: i64) -> Option<Span> {
    let days = zoned(now)?.weekday().since(Weekday::Monday);
    let start = now - now.rem_euclid(DAY) - i64::from(days) * DAY;
    Some(Span { start, end: start + 7 * DAY })
}

fn month(now: i64) -> Option<Span> {
    let first = zoned(now)?.first_of_month().ok()?.start_of_day().ok()?;
    let next = first.checked_add(1.month()).ok()?;
    Some(Span { start: first.timestamp().as_second(), end: next.timestamp().as_second() })
}

fn cron(period: &Period, now: i64) -> Option<Span> {
    let (schedule, at) = (period.schedule()?, zoned(now)?);
    let before = schedule.find_previous_occurrence(&at, true).ok()?;
    let after = schedule.find_next_occurrence(&at, false).ok()?;
    Some(Span { start: before.timestamp().as_second(), end: after.timestamp().as_second() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Now {
        Now(text.parse::<Timestamp>().unwrap().as_millisecond())
    }

    fn shown(period: &Period, now: &str) -> String {
        let Span { start, end } = Span::of(period, at(now));
        let shown = |second| Timestamp::from_second(second).unwrap().to_string();
        format!("{} {}", shown(start), shown(end))
    }

    #[test]
    fn windows_begin_by_the_clock() {
        let now = "2026-02-28T13:45:12.999Z";
        let cron = |text: &str| Period::Cron(text.to_owned());
        for (period, expected) in [
            (Period::Hour, "2026-02-28T13:00:00Z 2026-02-28T14:00:00Z"),
            (Period::Day, "2026-02-28T00:00:00Z 2026-03-01T00:00:00Z"),
            (Period::Week, "2026-02-23T00:00:00Z 2026-03-02T00:00:00Z"),
            (Period::Month, "2026-02-01T00:00:00Z 2026-03-01T00:00:00Z"),
            (Period::Total, "1970-01-01T00:00:00Z 9999-12-29T00:00:00Z"),
            (cron("0 6 * * 1"), "2026-02-23T06:00:00Z 2026-03-02T06:00:00Z"),
            (cron("45 13 * * *"), "2026-02-28T13:45:00Z 2026-03-01T13:45:00Z"),
            (cron("0 0 29 2 *"), "2024-02-29T00:00:00Z 2028-02-29T00:00:00Z"),
        ] {
            assert_eq!(shown(&period, now), expected, "{period:?}");
        }
        let monday = "2026-03-02T00:00:00Z";
        assert!(shown(&Period::Week, monday).starts_with(monday));
    }

    #[test]
    fn the_end_is_the_next_windows_start() {
        let span = Span::minute(at("2026-02-28T13:45:59.999Z"));
        assert!(span.holds(at("2026-02-28T13:45:59.999Z")));
        assert!(!span.holds(at("2026-02-28T13:46:00Z")));
        assert_eq!(span.left(at("2026-02-28T13:45:59.999Z")), 1);
    }

    #[test]
    fn a_small_step_back_reopens_nothing() {
        let span = Span::minute(at("2026-02-28T13:46:00Z"));
        assert!(span.holds(at("2026-02-28T13:45:45Z")));
        assert!(!span.holds(at("2026-02-28T13:40:00Z")));
    }

    #[test]
    fn no_moment_is_out_of_reach() {
        for now in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX] {
            for period in [Period::Hour, Period::Day, Period::Week, Period::Month, Period::Total] {
                let span = Span::of(&period, Now(now));
                assert!(span.start < span.end, "{period:?} {now}");
            }
        }
    }
}
