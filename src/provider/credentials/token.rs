//! What has been lent, and for how long.

use std::fmt;
use std::time::{Duration, Instant};

use http::HeaderValue;

use super::sigv4::AwsKeys;
use crate::provider::sensitive;

/// The longest that anything lent is taken to last, whatever is said.
const LONGEST: Duration = Duration::from_hours(24);

/// Something lent, with its end.
#[derive(Debug)]
pub struct Token {
    pub grant: Grant,
    /// `None`: it has no end.
    end: Option<End>,
}

/// What a call is made with.
pub enum Grant {
    /// The value of `Authorization`, marked sensitive.
    Bearer(HeaderValue),
    /// Each call is signed.
    Keys(AwsKeys),
}

#[derive(Clone, Copy, Debug)]
struct End {
    /// When another one is to be asked for.
    renewed: Instant,
    over: Instant,
}

// === impl Token ===

impl Token {
    /// Lent now, for `life`; another one is asked for so long `ahead` of its end, or after half of a
    /// shorter life.
    pub fn lent(grant: Grant, life: Duration, ahead: Duration) -> Self {
        let now = Instant::now();
        let life = life.min(LONGEST);
        let renewed = now + life.saturating_sub(ahead.min(life / 2));
        Self { grant, end: Some(End { renewed, over: now + life }) }
    }

    /// Ours until the configuration says something else.
    pub fn lasting(grant: Grant) -> Self {
        Self { grant, end: None }
    }

    /// Whether it can still be used.
    pub fn is_in_force(&self, now: Instant) -> bool {
        self.end.is_none_or(|end| end.over > now)
    }

    /// How long until another one is to be asked for; `None`: never.
    pub fn renewed_in(&self, now: Instant) -> Option<Duration> {
        self.end.map(|end| end.renewed.saturating_duration_since(now))
    }

    /// How long until its end; `None`: it has none.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        self.end.map(|end| end.over.saturating_duration_since(now))
    }
}

// === impl Grant ===

impl Grant {
    /// `None` when `token` cannot stand in a header.
    pub fn bearer(token: &str) -> Option<Self> {
        let graphic = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        graphic.then(|| sensitive(&format!("Bearer {token}"))).flatten().map(Self::Bearer)
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bearer(_) => "Bearer(***)",
            Self::Keys(_) => "Keys(***)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AHEAD: Duration = Duration::from_mins(5);

    fn token(life: u64) -> Token {
        Token::lent(Grant::bearer("t").unwrap(), Duration::from_secs(life), AHEAD)
    }

    #[test]
    fn another_one_is_asked_for_ahead_of_the_end() {
        let now = Instant::now();
        let token = token(3600);
        let renewed = token.renewed_in(now).unwrap().as_secs();
        assert!((3299..=3300).contains(&renewed), "{renewed}");
        assert!(token.is_in_force(now + Duration::from_secs(3599)));
        assert!(!token.is_in_force(now + Duration::from_secs(3601)));
    }

    #[test]
    fn of_a_short_life_half_is_used() {
        let now = Instant::now();
        let renewed = token(60).renewed_in(now).unwrap().as_secs();
        assert!((29..=30).contains(&renewed), "{renewed}");
        assert_eq!(token(0).renewed_in(now + AHEAD), Some(Duration::ZERO));
    }

    #[test]
    fn no_life_is_believed_to_be_endless() {
        let left = token(u64::MAX).left(Instant::now()).unwrap();
        assert!(left <= LONGEST, "{left:?}");
        let lasting = Token::lasting(Grant::bearer("t").unwrap());
        assert!(
            lasting.is_in_force(Instant::now()) && lasting.renewed_in(Instant::now()).is_none()
        );
    }

    #[test]
    fn a_token_is_not_shown_and_no_header_is_made_of_two() {
        let shown = format!("{:?}", token(60));
        assert!(shown.contains("***"), "{shown}");
        let Grant::Bearer(value) = Grant::bearer("canary").unwrap() else { panic!("a bearer") };
        assert!(!format!("{value:?}").contains("canary"));
        for odd in ["", "a b", "a\r\nx: y", "\u{e9}"] {
            assert!(Grant::bearer(odd).is_none(), "{odd:?}");
        }
    }
}
