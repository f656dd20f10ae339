//! A provider's API keys, used in turn; one that is limited or refused rests alone.
//!
//! A limit is told per key and model, and that is what rests. A key that is refused, or has nothing
//! left to spend, is disabled; after a back-off one request tries it again.

mod fault;
mod key;
mod rests;
mod told;

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

pub use self::fault::Fault;
pub use self::key::{ApiKey, Disabled, Probe};
pub use self::rests::Name;
use self::rests::Standing;
pub use self::told::{nearly_spent, pause};
use super::credentials::Login;
use super::profile::AuthStyle;
use crate::config::Secret;

/// The longest a key can rest, or be left alone: a mistaken answer must not retire it.
const LONGEST: Duration = Duration::from_hours(1);

/// The keys of one provider, in the order of the configuration.
#[derive(Debug)]
pub struct KeyRing {
    keys: Vec<Arc<ApiKey>>,
    turn: AtomicUsize,
}

/// A key to use now.
#[derive(Debug)]
pub struct Choice {
    pub key: Arc<ApiKey>,
    /// The key is disabled, and this request is the one that tries it.
    pub probe: Option<Probe>,
}

/// How a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyState {
    InUse,
    /// Limited or refused for at least one model.
    Resting,
    Disabled,
    /// Disabled, and a request is trying it now.
    Probing,
    /// It is lent, and none is there.
    Absent,
}

/// What there is to tell of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// Its last four characters.
    pub hint: String,
    pub state: KeyState,
    /// `refused`, `quota`, `revoked` of a disabled one; `limited` or `model_refused` of one that rests;
    /// why no other is lent, of one that is.
    pub reason: Option<&'static str>,
    /// When it is tried again, or the last of its models may use it again.
    pub until: Option<SystemTime>,
    /// Models it rests for.
    pub resting_models: usize,
    /// Until when it is lent.
    pub expires: Option<SystemTime>,
}

impl KeyRing {
    /// `None` when a key cannot stand in a header. Keys that were in the ring `before` are still the
    /// same: they go on resting, and stay disabled.
    pub fn new(keys: &[Secret], auth: AuthStyle, before: Option<&Self>) -> Option<Self> {
        let known = before.map_or(&[][..], |before| &before.keys);
        let key = |secret: &Secret| {
            let header = auth.header(secret.expose())?;
            let same = |key: &&Arc<ApiKey>| {
                key.login().is_none() && key.header().as_ref() == Some(&header)
            };
            if let Some(key) = known.iter().find(same) {
                return Some(Arc::clone(key));
            }
            Some(Arc::new(ApiKey::new(header, secret.hint())))
        };
        let keys = keys.iter().map(key).collect::<Option<_>>()?;
        Some(Self { keys, turn: AtomicUsize::new(0) })
    }

    /// The ring of what one login lends.
    pub fn of_login(login: Arc<Login>, before: Option<&Self>) -> Self {
        let known = before.map_or(&[][..], |before| &before.keys);
        let same = |key: &&Arc<ApiKey>| key.login().is_some_and(|it| Arc::ptr_eq(it, &login));
        let key = known.iter().find(same).cloned();
        let key = key.unwrap_or_else(|| Arc::new(ApiKey::of_login(login)));
        Self { keys: vec![key], turn: AtomicUsize::new(0) }
    }

    /// The login whose keys these are.
    pub fn login(&self) -> Option<&Arc<Login>> {
        self.keys.first()?.login()
    }

    /// Whether what a login would lend is not there.
    pub fn is_absent(&self) -> bool {
        self.login().is_some_and(|login| !login.is_in_force())
    }

    /// Whether this key is one of them.
    pub fn holds(&self, key: &Arc<ApiKey>) -> bool {
        self.keys.iter().any(|known| Arc::ptr_eq(known, key))
    }

    /// The key with this mark.
    pub fn marked(&self, mark: &str) -> Option<&Arc<ApiKey>> {
        self.keys.iter().find(|key| **key.mark() == *mark)
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether there is one to choose.
    pub fn is_choice(&self) -> bool {
        self.keys.len() > 1
    }

    /// The next key in turn that may be used for `model` (the provider's name of it, empty without
    /// one) and is not among `tried`; nearly spent ones last. A disabled key whose back-off has
    /// passed is tried by one request at a time that `may_probe`: one that can still go elsewhere.
    pub fn pick(&self, model: &str, tried: &[Arc<ApiKey>], may_probe: bool) -> Option<Choice> {
        let now = now();
        let mut spent = None;
        for key in self.in_turn().filter(|key| !is_among(tried, key)) {
            match key.standing(model, now) {
                Standing::Free => return Some(Choice { key: Arc::clone(key), probe: None }),
                Standing::Spent => spent = spent.or(Some(key)),
                Standing::Disabled(due) if may_probe && due <= now => {
                    if let Some(probe) = Probe::claim(key) {
                        return Some(Choice { key: Arc::clone(key), probe: Some(probe) });
                    }
                }
                Standing::Limited(_)
                | Standing::Refused(_)
                | Standing::Disabled(_)
                | Standing::Absent => {}
            }
        }
        spent.map(|key| Choice { key: Arc::clone(key), probe: None })
    }

    /// Where [`Self::pick`] finds none: a key that was refused is better than no answer, since the
    /// provider then says what is wrong. One that is limited has been told when to come back.
    pub fn last_resort(&self, model: &str, tried: &[Arc<ApiKey>]) -> Option<Choice> {
        let now = now();
        let due = |key: &&Arc<ApiKey>| match key.standing(model, now) {
            Standing::Free | Standing::Spent => Some(0),
            Standing::Refused(until) | Standing::Disabled(until) => Some(until),
            Standing::Limited(_) | Standing::Absent => None,
        };
        let fresh = self.in_turn().filter(|key| !is_among(tried, key));
        let usable = fresh.filter_map(|key| Some((due(&key)?, key)));
        let (due, key) = usable.min_by_key(|(due, _)| *due)?;
        let probe = (1..=now).contains(&due).then(|| Probe::claim(key)).flatten();
        Some(Choice { key: Arc::clone(key), probe })
    }

    /// A key for a question of our own: in use, if one is.
    pub fn any(&self) -> Option<&Arc<ApiKey>> {
        let now = now();
        let trouble = |key: &Arc<ApiKey>| match key.standing("", now) {
            Standing::Free | Standing::Spent => Some(0),
            Standing::Limited(until) | Standing::Refused(until) | Standing::Disabled(until) => {
                Some(until)
            }
            Standing::Absent => None,
        };
        let usable = self.keys.iter().filter_map(|key| Some((trouble(key)?, key)));
        usable.min_by_key(|(until, _)| *until).map(|(_, key)| key)
    }

    /// How long until the first key may be used for `model`; `None` when one may, or there is none
    /// at all.
    pub fn rested_in(&self, model: &str) -> Option<Duration> {
        let now = now();
        let until = |key: &Arc<ApiKey>| match key.standing(model, now) {
            Standing::Free | Standing::Spent => Some(0),
            Standing::Limited(until) | Standing::Refused(until) | Standing::Disabled(until) => {
                Some(until)
            }
            Standing::Absent => None,
        };
        let first = self.keys.iter().filter_map(until).min()?;
        first.checked_sub(now).filter(|left| *left > 0).map(Duration::from_millis)
    }

    /// How each key is, in the order of the configuration.
    pub fn states(&self) -> Vec<KeyStatus> {
        let (now, time) = (now(), SystemTime::now());
        self.keys.iter().map(|key| key.status(now, time)).collect()
    }

    /// Has key `n`, counted from 0, tried again at once: what it rests for is forgotten, and a
    /// disabled one gets its probe with the next request. False when there is no such key.
    pub fn recheck(&self, n: usize) -> bool {
        let key = self.keys.get(n);
        key.inspect(|key| key.recheck(now())).is_some()
    }

    fn in_turn(&self) -> impl Iterator<Item = &Arc<ApiKey>> {
        let most = self.keys.len();
        let first = self.turn.fetch_add(1, Relaxed) % most.max(1);
        self.keys.iter().cycle().skip(first).take(most)
    }
}

impl KeyState {
    /// Every state there is.
    pub const ALL: [Self; 5] =
        [Self::InUse, Self::Resting, Self::Disabled, Self::Probing, Self::Absent];

    /// The state in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InUse => "in_use",
            Self::Resting => "resting",
            Self::Disabled => "disabled",
            Self::Probing => "probing",
            Self::Absent => "absent",
        }
    }
}

fn is_among(tried: &[Arc<ApiKey>], key: &Arc<ApiKey>) -> bool {
    tried.iter().any(|other| Arc::ptr_eq(other, key))
}

/// Milliseconds on a clock that only goes on, and began before any key's story did.
fn now() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    // 0 stands for no moment at all.
    milliseconds(START.elapsed()).saturating_add(1)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
