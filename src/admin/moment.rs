//! Moments: Unix milliseconds within, RFC 3339 outside.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// A moment as operators write it: RFC 3339, a date (its first moment in UTC), or Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Moment(pub i64);

impl Moment {
    /// Reads a text.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(moment) = text.parse::<Timestamp>() {
            return Some(Self(moment.as_millisecond()));
        }
        if let Ok(date) = text.parse::<Date>() {
            let start = date.to_zoned(TimeZone::UTC).ok()?;
            return Some(Self(start.timestamp().as_millisecond()));
        }
        Self::of_ms(text.parse().ok()?)
    }

    fn of_ms(ms: i64) -> Option<Self> {
        Timestamp::from_millisecond(ms).ok().map(|_| Self(ms))
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl Visitor<'_> for Reader {
    type Value = Moment;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a moment such as 2030-01-31T12:00:00Z, or a date")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Moment, E> {
        Moment::parse(text)
            .ok_or_else(|| E::custom("expected a moment such as 2030-01-31T12:00:00Z"))
    }

    fn visit_i64<E: Error>(self, ms: i64) -> Result<Moment, E> {
        Moment::of_ms(ms).ok_or_else(|| E::custom("expected Unix milliseconds"))
    }

    fn visit_u64<E: Error>(self, ms: u64) -> Result<Moment, E> {
        i64::try_from(ms).map_err(E::custom).and_then(|ms| self.visit_i64(ms))
    }
}

/// A moment as RFC 3339 has it, to the millisecond.
pub fn in_words(ms: i64) -> Option<String> {
    Some(format!("{:.3}", Timestamp::from_millisecond(ms).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_in_each_of_its_forms() {
        for text in [
            "\"2030-01-31T00:00:00Z\"",
            "\"2030-01-31\"",
            "\"2030-01-31T01:00:00+01:00\"",
            "\"1896048000000\"",
            "1896048000000",
        ] {
            let moment: Moment = serde_json::from_str(text).unwrap();
            assert_eq!(in_words(moment.0).unwrap(), "2030-01-31T00:00:00.000Z", "{text}");
        }
        for text in ["\"soon\"", "true", "\"\"", "99999999999999999999", "9999999999999999"] {
            assert!(serde_json::from_str::<Moment>(text).is_err(), "{text}");
        }
    }
}
