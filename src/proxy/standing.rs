//! How a caller stands with its limits, in the headers of its dialect.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

use super::context::Context;
use super::respond::seconds;
use crate::access::limits::{Standing, Window};
use crate::config::Dialect;

/// Limit, what remains, and when it begins anew.
type Names = [HeaderName; 3];

static OPENAI: [Names; 2] = [
    [
        HeaderName::from_static("x-ratelimit-limit-requests"),
        HeaderName::from_static("x-ratelimit-remaining-requests"),
        HeaderName::from_static("x-ratelimit-reset-requests"),
    ],
    [
        HeaderName::from_static("x-ratelimit-limit-tokens"),
        HeaderName::from_static("x-ratelimit-remaining-tokens"),
        HeaderName::from_static("x-ratelimit-reset-tokens"),
    ],
];
static ANTHROPIC: [Names; 2] = [
    [
        HeaderName::from_static("anthropic-ratelimit-requests-limit"),
        HeaderName::from_static("anthropic-ratelimit-requests-remaining"),
        HeaderName::from_static("anthropic-ratelimit-requests-reset"),
    ],
    [
        HeaderName::from_static("anthropic-ratelimit-tokens-limit"),
        HeaderName::from_static("anthropic-ratelimit-tokens-remaining"),
        HeaderName::from_static("anthropic-ratelimit-tokens-reset"),
    ],
];

/// Writes how the caller stands, in place of how we stand with the provider. Without a limit of ours the
/// provider's words stay.
pub fn write(ctx: &Context, headers: &mut HeaderMap) {
    let Some(standing) = &ctx.account.standing else { return };
    let theirs = |name: &&HeaderName| {
        let name = name.as_str();
        name.starts_with("x-ratelimit-") || name.starts_with("anthropic-ratelimit-")
    };
    let theirs: Vec<HeaderName> = headers.keys().filter(theirs).cloned().collect();
    for name in theirs {
        headers.remove(name);
    }
    let Standing { requests, tokens } = standing;
    let anthropic = ctx.caller == Dialect::Anthropic;
    let names = if anthropic { &ANTHROPIC } else { &OPENAI };
    for (names, window) in names.iter().zip([requests, tokens]) {
        let ([limit, remaining, reset], Some(window)) = (names, window) else { continue };
        headers.insert(limit, HeaderValue::from(window.limit));
        headers.insert(remaining, HeaderValue::from(window.remaining));
        let moment = if anthropic { moment(window) } else { pause(window.resets_in) };
        if let Ok(moment) = HeaderValue::try_from(moment) {
            headers.insert(reset, moment);
        }
    }
}

/// A pause as OpenAI writes it: `850ms`, `12s`, `6m0s`, `23h5m0s`.
fn pause(pause: Duration) -> String {
    if pause < Duration::from_secs(1) {
        return format!("{}ms", pause.as_millis());
    }
    let all = seconds(pause);
    match (all / 3600, all / 60 % 60, all % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// A moment as Anthropic writes it: RFC 3339.
fn moment(window: &Window) -> String {
    let at = SystemTime::now().checked_add(window.resets_in);
    let at = at.and_then(|at| Timestamp::try_from(at).ok());
    at.map_or_else(String::new, |at| format!("{at:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_written_as_openai_does() {
        for (millis, expected) in [
            (0, "0ms"),
            (850, "850ms"),
            (1_000, "1s"),
            (59_100, "1m0s"),
            (360_000, "6m0s"),
            (83_100_000, "23h5m0s"),
        ] {
            assert_eq!(pause(Duration::from_millis(millis)), expected);
        }
    }
}
