//! A provider's API keys, used in turn; one that is limited or refused rests alone.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue};

use super::profile::AuthStyle;
use super::sensitive;
use crate::config::Secret;

/// The longest rest a provider's `Retry-After` can impose: a mistaken one must not retire a key.
const LONGEST_REST: Duration = Duration::from_hours(1);

/// One key, as the header it is sent in.
pub struct ApiKey {
    pub header: (HeaderName, HeaderValue),
    /// The last four characters, for logs.
    pub hint: String,
    /// Milliseconds on the ring's clock; 0: in use.
    rests_until: AtomicU64,
    /// It rests because it is limited, not because it was refused.
    limited: AtomicBool,
}

/// The keys of one provider.
#[derive(Debug)]
pub struct KeyRing {
    keys: Vec<Arc<ApiKey>>,
    turn: AtomicUsize,
    started: Instant,
}

impl KeyRing {
    /// `None` when a key cannot stand in a header. Keys that were in the ring `before` are still the
    /// same: they go on resting.
    pub fn new(keys: &[Secret], auth: AuthStyle, before: Option<&Self>) -> Option<Self> {
        let known = before.map_or(&[][..], |before| &before.keys);
        let key = |secret: &Secret| {
            let header = auth.header(secret.expose())?;
            if let Some(key) = known.iter().find(|key| key.header == header) {
                return Some(Arc::clone(key));
            }
            let (rests_until, limited) = (AtomicU64::new(0), AtomicBool::new(false));
            Some(Arc::new(ApiKey { header, hint: secret.hint(), rests_until, limited }))
        };
        let keys = keys.iter().map(key).collect::<Option<_>>()?;
        // Rests are told by the ring's clock.
        let started = before.map_or_else(Instant::now, |before| before.started);
        Some(Self { keys, turn: AtomicUsize::new(0), started })
    }

    /// Whether this key is one of them.
    pub fn holds(&self, key: &Arc<ApiKey>) -> bool {
        self.keys.iter().any(|known| Arc::ptr_eq(known, key))
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The next rested key in turn that is not among `tried`. With `refused_too`, one that was refused
    /// is better than none; one that is limited has been told when to come back.
    pub fn pick(&self, tried: &[Arc<ApiKey>], refused_too: bool) -> Option<Arc<ApiKey>> {
        let now = self.now();
        let first = self.turn.fetch_add(1, Relaxed) % self.keys.len().max(1);
        let in_turn = self.keys.iter().cycle().skip(first).take(self.keys.len());
        let mut fresh = in_turn.filter(|key| !tried.iter().any(|other| Arc::ptr_eq(other, key)));
        let until = |key: &&Arc<ApiKey>| key.rests_until.load(Relaxed);
        if !refused_too {
            return fresh.find(|key| until(key) <= now).cloned();
        }
        let usable = |key: &&Arc<ApiKey>| until(key) <= now || !key.limited.load(Relaxed);
        fresh.filter(usable).min_by_key(until).cloned()
    }

    /// Lets a key rest for `pause`, or as long as it rests already.
    pub fn rest(&self, key: &ApiKey, pause: Duration, limited: bool) {
        let pause = u64::try_from(pause.min(LONGEST_REST).as_millis()).unwrap_or(0);
        key.limited.store(limited, Relaxed);
        key.rests_until.fetch_max(self.now().saturating_add(pause), Relaxed);
    }

    /// How long until the first key is rested; `None` when one is, or there is none at all.
    pub fn rested_in(&self) -> Option<Duration> {
        let first = self.keys.iter().map(|key| key.rests_until.load(Relaxed)).min()?;
        first.checked_sub(self.now()).filter(|left| *left > 0).map(Duration::from_millis)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({})", self.hint)
    }
}

impl AuthStyle {
    /// The header that carries `key`, marked sensitive.
    pub fn header(self, key: &str) -> Option<(HeaderName, HeaderValue)> {
        match self {
            Self::Bearer => {
                Some((http::header::AUTHORIZATION, sensitive(&format!("Bearer {key}"))?))
            }
            Self::ApiKey => Some((HeaderName::from_static("api-key"), sensitive(key)?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(keys: &[&str]) -> KeyRing {
        renewed(keys, None)
    }

    fn renewed(keys: &[&str], before: Option<&KeyRing>) -> KeyRing {
        let keys: Vec<Secret> = keys.iter().map(|key| Secret::from((*key).to_owned())).collect();
        KeyRing::new(&keys, AuthStyle::Bearer, before).unwrap()
    }

    #[test]
    fn a_key_that_stays_goes_on_resting_and_one_that_goes_is_forgotten() {
        let before = ring(&["aaaa-aaaa-aaaa-1111", "bbbb-bbbb-bbbb-2222"]);
        let (first, second) = (before.pick(&[], false).unwrap(), before.pick(&[], false).unwrap());
        before.rest(&first, Duration::from_mins(1), true);
        let after = renewed(&["cccc-cccc-cccc-3333", "aaaa-aaaa-aaaa-1111"], Some(&before));
        assert!(after.holds(&first) && !after.holds(&second));
        for _ in 0..4 {
            assert_eq!(after.pick(&[], false).unwrap().hint, "…3333");
        }
    }

    #[test]
    fn keys_take_turns() {
        let ring = ring(&["aaaa-aaaa-aaaa-1111", "bbbb-bbbb-bbbb-2222"]);
        let first = ring.pick(&[], false).unwrap();
        let second = ring.pick(&[], false).unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
    }

    #[test]
    fn a_resting_key_is_passed_over() {
        let ring = ring(&["aaaa-aaaa-aaaa-1111", "bbbb-bbbb-bbbb-2222"]);
        let limited = ring.pick(&[], false).unwrap();
        ring.rest(&limited, Duration::from_mins(1), true);
        for _ in 0..4 {
            assert!(!Arc::ptr_eq(&ring.pick(&[], false).unwrap(), &limited));
        }
        let other = ring.pick(&[], false).unwrap();
        assert!(ring.pick(&[other], false).is_none());
    }

    #[test]
    fn a_refused_key_is_the_last_resort_and_a_limited_one_is_none() {
        let ring = ring(&["aaaa-aaaa-aaaa-1111"]);
        let only = ring.pick(&[], false).unwrap();
        ring.rest(&only, Duration::from_mins(1), false);
        assert!(ring.pick(&[], false).is_none());
        assert!(ring.pick(&[], true).is_some());
        ring.rest(&only, Duration::ZERO, true);
        assert!(ring.pick(&[], true).is_none(), "a shorter rest ends no longer one");
    }

    #[test]
    fn a_key_never_shows_in_debug_output() {
        let ring = ring(&["aaaa-aaaa-aaaa-1111"]);
        assert!(!format!("{ring:?}").contains("aaaa"));
        let key = ring.pick(&[], false).unwrap();
        assert!(!format!("{:?}", key.header).contains("aaaa"));
    }
}
