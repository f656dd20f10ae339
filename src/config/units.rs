//! Durations, sizes and percentages, as they are written: `250ms`, `32MiB`, `20%`.

use std::fmt;
use std::time::Duration;

// Longer is a slip of the hand, and a clock could not count to it.
const LONGEST: Duration = Duration::from_hours(24 * 366);

/// A share of a whole, 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(pub u8);

/// `250ms`, `5s`, `10m`, `1h`, or `0`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let (count, unit) = split(text)?;
    let duration = match unit {
        "ms" => Duration::from_millis(count),
        "s" => Duration::from_secs(count),
        "m" => Duration::from_secs(count.checked_mul(60)?),
        "h" => Duration::from_secs(count.checked_mul(3600)?),
        "" if count == 0 => Duration::ZERO,
        _ => return None,
    };
    (duration <= LONGEST).then_some(duration)
}

/// `64KiB`, `32MiB`, `1GiB`, or plain bytes.
pub(super) fn size(text: &str) -> Option<u64> {
    let (count, unit) = split(text)?;
    let unit = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    count.checked_mul(unit)
}

/// Whether it is a size in units that mean one thing here and another there.
pub(super) fn is_decimal_size(text: &str) -> bool {
    let unit = split(text).map(|(_, unit)| unit.to_ascii_lowercase());
    matches!(unit.as_deref(), Some("b" | "k" | "kb" | "m" | "mb" | "g" | "gb"))
}

/// `20%`.
pub(super) fn percent(text: &str) -> Option<Percent> {
    let (count, unit) = split(text)?;
    let share = u8::try_from(count).ok().filter(|&share| unit == "%" && share <= 100)?;
    Some(Percent(share))
}

fn split(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (count, unit) = text.split_at(end);
    Some((count.parse().ok()?, unit.trim_start()))
}

// === impl Percent ===

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit() {
        let read = |text| duration(text).map(|duration| duration.as_millis());
        assert_eq!(read("250ms"), Some(250));
        assert_eq!(read("5s"), Some(5_000));
        assert_eq!(read("10m"), Some(600_000));
        assert_eq!(read("1h"), Some(3_600_000));
        assert_eq!(read("0"), Some(0));
        for wrong in ["", "5", "s", "-5s", "1.5s", "5 days", "5S", "99999999h", "9999999999999999h"]
        {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_size_is_counted_in_powers_of_two() {
        assert_eq!(size("512"), Some(512));
        assert_eq!(size("64KiB"), Some(65_536));
        assert_eq!(size("32 MiB"), Some(33_554_432));
        assert_eq!(size("1GiB"), Some(1 << 30));
        for wrong in ["", "KiB", "1MB", "1kib", "-1", "1.5MiB", "99999999999999GiB"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
        assert!(is_decimal_size("32MB") && is_decimal_size("4k") && !is_decimal_size("4 apples"));
    }

    #[test]
    fn a_share_is_at_most_everything() {
        assert_eq!(percent("20%"), Some(Percent(20)));
        assert_eq!(percent("100%"), Some(Percent(100)));
        for wrong in ["", "20", "%", "101%", "-1%", "2.5%", "256%"] {
            assert_eq!(percent(wrong), None, "{wrong}");
        }
    }
}
