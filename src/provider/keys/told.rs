//! What a provider's headers tell of its limits: how long to wait, and what is left.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName};
use jiff::Timestamp;

use super::LONGEST;

/// A key with less than one in so many of its limit left is nearly spent.
const NEARLY: u64 = 20;
/// How long it is so when the provider does not say.
const UNTOLD: Duration = Duration::from_secs(10);

/// The headers of one limit.
struct Limit {
    most: HeaderName,
    remaining: HeaderName,
    reset: HeaderName,
}

macro_rules! limit {
    ($most:literal, $remaining:literal, $reset:literal) => {
        Limit {
            most: HeaderName::from_static($most),
            remaining: HeaderName::from_static($remaining),
            reset: HeaderName::from_static($reset),
        }
    };
}

/// `OpenAI`'s, which most others send as well.
static OPENAI: [Limit; 2] = [
    limit!(
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests"
    ),
    limit!("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
];
static ANTHROPIC: [Limit; 4] = [
    limit!(
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset"
    ),
    limit!(
        "anthropic-ratelimit-tokens-limit",
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-reset"
    ),
    limit!(
        "anthropic-ratelimit-input-tokens-limit",
        "anthropic-ratelimit-input-tokens-remaining",
        "anthropic-ratelimit-input-tokens-reset"
    ),
    limit!(
        "anthropic-ratelimit-output-tokens-limit",
        "anthropic-ratelimit-output-tokens-remaining",
        "anthropic-ratelimit-output-tokens-reset"
    ),
];

/// How long a provider asks to wait: `retry-after-ms`, `Retry-After` in seconds or as a date (RFC
/// 9110 §10.2.3), or the reset of the limit that is used up.
pub fn pause(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    if let Some(milliseconds) = text(headers, "retry-after-ms").and_then(|ms| ms.parse().ok()) {
        return Some(Duration::from_millis(milliseconds));
    }
    if let Some(value) = text(headers, "retry-after") {
        if let Some(seconds) = decimal(value) {
            return Some(seconds);
        }
        if let Ok(date) = httpdate::parse_http_date(value) {
            return Some(date.duration_since(now).unwrap_or_default());
        }
    }
    let limits = || OPENAI.iter().chain(&ANTHROPIC);
    let reset = |limit: &Limit| reset(headers, &limit.reset, now);
    let empty = |limit: &&Limit| number(headers, &limit.remaining) == Some(0);
    // Used up is what has nothing left. Where nothing says so, the first to come back may help.
    let used_up = limits().filter(empty).filter_map(reset).max();
    used_up.or_else(|| limits().filter_map(reset).min()).map(|pause| pause.min(LONGEST))
}

/// For how long a key is nearly spent, when an answer's headers say that it is.
pub fn nearly_spent(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let left = |limit: &Limit| {
        let remaining = number(headers, &limit.remaining)?;
        let nearly = || {
            let most = number(headers, &limit.most)?;
            Some(remaining.saturating_mul(NEARLY) < most)
        };
        if remaining > 0 && nearly() != Some(true) {
            return None;
        }
        Some(reset(headers, &limit.reset, now).unwrap_or(UNTOLD).min(LONGEST))
    };
    let of = |limits: &'static [Limit]| limits.iter().filter_map(left).max();
    of(&OPENAI).or_else(|| of(&ANTHROPIC)).filter(|left| !left.is_zero())
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    Some(headers.get(name)?.to_str().ok()?.trim())
}

/// A moment as RFC 3339 has it (Anthropic), a span like `6m0s` or `20ms` (`OpenAI`), or seconds.
fn reset(headers: &HeaderMap, name: &HeaderName, now: SystemTime) -> Option<Duration> {
    let value = headers.get(name)?.to_str().ok()?.trim();
    if let Some(left) = decimal(value).or_else(|| span(value)) {
        return Some(left);
    }
    let moment = SystemTime::from(value.parse::<Timestamp>().ok()?);
    Some(moment.duration_since(now).unwrap_or_default())
}

/// Seconds, with a fraction or without.
fn decimal(value: &str) -> Option<Duration> {
    if !value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    Duration::try_from_secs_f64(value.parse().ok()?).ok()
}

/// A span as Go writes one: numbers, each with its unit.
fn span(value: &str) -> Option<Duration> {
    let mut left = value;
    let mut sum = Duration::ZERO;
    while !left.is_empty() {
        let digits = left.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let (number, rest) = left.split_at(digits);
        let letters = rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(letters);
        let seconds = match unit {
            "d" => 86400.0,
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        let number: f64 = number.parse().ok()?;
        sum = sum.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
        left = rest;
    }
    (!value.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> SystemTime {
        httpdate::parse_http_date("Fri, 20 Nov 2026 12:00:00 GMT").unwrap()
    }

    fn headers(given: &[(&'static str, &str)]) -> HeaderMap {
        given
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn a_pause_is_read_in_every_form() {
        let read = |name, value| pause(&headers(&[(name, value)]), now());
        assert_eq!(read("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(read("retry-after", "0.5"), Some(Duration::from_millis(500)));
        assert_eq!(read("retry-after-ms", "250"), Some(Duration::from_millis(250)));
        let date = read("retry-after", "Fri, 20 Nov 2026 12:00:30 GMT");
        assert_eq!(date, Some(Duration::from_secs(30)));
        let past = read("retry-after", "Fri, 20 Nov 2026 11:00:30 GMT");
        assert_eq!(past, Some(Duration::ZERO));
        for odd in ["soon", "", "-1", "NaN", "1e400", "999999999999999999999999999999999999999999"]
        {
            assert_eq!(read("retry-after", odd), None, "{odd}");
        }
    }

    #[test]
    fn a_reset_is_read_as_every_provider_writes_it() {
        let read = |value| pause(&headers(&[("x-ratelimit-reset-requests", value)]), now());
        assert_eq!(read("1s"), Some(Duration::from_secs(1)));
        assert_eq!(read("6m0s"), Some(Duration::from_mins(6)));
        assert_eq!(read("20ms"), Some(Duration::from_millis(20)));
        assert_eq!(read("7.66s"), Some(Duration::from_millis(7660)));
        assert_eq!(read("59m59s"), Some(Duration::from_secs(3599)));
        assert_eq!(read("1h1m1s"), Some(LONGEST));
        assert_eq!(read("12"), Some(Duration::from_secs(12)));
        assert_eq!(read("2026-11-20T12:00:09Z"), Some(Duration::from_secs(9)));
        assert_eq!(read("2026-11-20T13:00:09+01:00"), Some(Duration::from_secs(9)));
        for odd in ["", "s", "1", "5 apples", "1x", "ms20", "..s", "1e999s"] {
            let read = read(odd);
            assert!(read.is_none() || odd == "1", "{odd}: {read:?}");
        }
    }

    #[test]
    fn the_limit_that_is_used_up_says_how_long() {
        let both = [
            ("x-ratelimit-remaining-requests", "40"),
            ("x-ratelimit-reset-requests", "1s"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "30s"),
        ];
        assert_eq!(pause(&headers(&both), now()), Some(Duration::from_secs(30)));
        let neither = [("x-ratelimit-reset-requests", "1s"), ("x-ratelimit-reset-tokens", "30s")];
        assert_eq!(pause(&headers(&neither), now()), Some(Duration::from_secs(1)));
        let told = [("retry-after", "3"), ("x-ratelimit-reset-tokens", "30s")];
        assert_eq!(pause(&headers(&told), now()), Some(Duration::from_secs(3)));
        assert_eq!(pause(&headers(&[]), now()), None);
    }

    #[test]
    fn nearly_spent_is_under_one_in_twenty_or_nothing() {
        let read = |limit, remaining| {
            let given = headers(&[
                ("x-ratelimit-limit-tokens", limit),
                ("x-ratelimit-remaining-tokens", remaining),
                ("x-ratelimit-reset-tokens", "6m0s"),
            ]);
            nearly_spent(&given, now())
        };
        assert_eq!(read("1000", "50"), None);
        assert_eq!(read("1000", "49"), Some(Duration::from_mins(6)));
        assert_eq!(read("1000", "0"), Some(Duration::from_mins(6)));
        assert_eq!(read("?", "0"), Some(Duration::from_mins(6)));
        assert_eq!(read("?", "1"), None);
        assert_eq!(nearly_spent(&headers(&[]), now()), None);
        let untold = headers(&[("x-ratelimit-remaining-requests", "0")]);
        assert_eq!(nearly_spent(&untold, now()), Some(UNTOLD));
    }

    #[test]
    fn anthropics_headers_are_read_too() {
        let given = headers(&[
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "49"),
            ("anthropic-ratelimit-requests-reset", "2026-11-20T12:00:01Z"),
            ("anthropic-ratelimit-input-tokens-limit", "100000"),
            ("anthropic-ratelimit-input-tokens-remaining", "1000"),
            ("anthropic-ratelimit-input-tokens-reset", "2026-11-20T12:00:40Z"),
        ]);
        assert_eq!(nearly_spent(&given, now()), Some(Duration::from_secs(40)));
        let past = headers(&[
            ("anthropic-ratelimit-tokens-remaining", "0"),
            ("anthropic-ratelimit-tokens-reset", "2026-11-20T11:00:00Z"),
        ]);
        assert_eq!(nearly_spent(&past, now()), None);
    }
}
