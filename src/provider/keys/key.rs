//! One key: the header it is sent in, and what is known of it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};

use super::fault::Fault;
use super::rests::{Name, Rests, Standing, backed_off};
use super::{KeyState, KeyStatus, milliseconds, now};
use crate::provider::credentials::{Login, Signer};
use crate::provider::profile::AuthStyle;
use crate::provider::sensitive;

/// The first back-off of a disabled key, doubled each time a probe fails.
const BACK_OFF: Duration = Duration::from_mins(1);
/// What keys are hashed with for their marks: no digest of a key elsewhere is the same.
const MARKED: &[u8] = b"forebay provider key\0";
/// Bytes of the digest in a mark.
const MARK: usize = 16;

/// One key, or what a login has lent in place of one.
pub struct ApiKey {
    credential: Credential,
    /// The last four characters, for logs; of a login, what it lends.
    pub hint: String,
    mark: Arc<str>,
    /// When a disabled key is due to be tried again, in milliseconds on the keys' clock; 0: in use.
    /// A copy of what the lock guards, so that a key in use costs no lock.
    disabled_until: AtomicU64,
    /// A request is trying it.
    probing: AtomicBool,
    /// When the last thing that is known of a model ends: until then the lock is worth taking.
    uneasy_until: AtomicU64,
    /// Something is known of some model.
    noted: AtomicBool,
    story: Mutex<Story>,
}

enum Credential {
    /// As a call carries it.
    Header((HeaderName, HeaderValue)),
    /// Whatever it has lent last.
    Login(Arc<Login>),
}

#[derive(Default)]
struct Story {
    disabled: Option<Disabled>,
    /// Back-offs in a row after which it was refused again.
    strikes: u32,
    rests: Rests,
}

/// Why a key is disabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disabled {
    Refused,
    /// Its account has nothing left to spend.
    Quota,
    Revoked,
}

/// The one request that tries a disabled key. Dropped without an outcome it leaves the next one to.
#[derive(Debug)]
pub struct Probe(Arc<ApiKey>);

impl ApiKey {
    pub(super) fn new(header: (HeaderName, HeaderValue), hint: String) -> Self {
        let mark = Sha256::new().chain_update(MARKED).chain_update(header.1.as_bytes()).finalize();
        let mark = hex::encode(mark.get(..MARK).unwrap_or_default());
        Self::of(Credential::Header(header), hint, mark.into())
    }

    pub(super) fn of_login(login: Arc<Login>) -> Self {
        let hint = login.kind().to_owned();
        let mark = format!("login/{hint}").into();
        Self::of(Credential::Login(login), hint, mark)
    }

    fn of(credential: Credential, hint: String, mark: Arc<str>) -> Self {
        Self {
            credential,
            hint,
            mark,
            disabled_until: AtomicU64::new(0),
            probing: AtomicBool::new(false),
            uneasy_until: AtomicU64::new(0),
            noted: AtomicBool::new(false),
            story: Mutex::default(),
        }
    }

    /// What tells it from the provider's other keys, in every process and after a restart: the
    /// beginning of a digest, or which login it is. No secret.
    pub fn mark(&self) -> &Arc<str> {
        &self.mark
    }

    /// The header that a call carries now; `None` when it is signed, or nothing is lent.
    pub fn header(&self) -> Option<(HeaderName, HeaderValue)> {
        match &self.credential {
            Credential::Header(header) => Some(header.clone()),
            Credential::Login(login) => login.bearer(),
        }
    }

    /// What signs a call now; `None` when it carries a header, or nothing is lent.
    pub fn signer(&self) -> Option<Signer> {
        self.login()?.signer()
    }

    /// Where it comes from, when it is not of the configuration.
    pub fn login(&self) -> Option<&Arc<Login>> {
        match &self.credential {
            Credential::Login(login) => Some(login),
            Credential::Header(_) => None,
        }
    }

    /// Books that a request for `model` went well: a disabled key is in use again. True when it was
    /// disabled.
    pub fn works(&self, model: &str) -> bool {
        let disabled = self.disabled_until.load(Relaxed) != 0;
        if !disabled && !self.noted.load(Relaxed) {
            return false;
        }
        let mut story = self.story();
        if disabled {
            (story.disabled, story.strikes) = (None, 0);
            self.disabled_until.store(0, Relaxed);
            self.probing.store(false, Relaxed);
        }
        story.rests.works(model, now());
        self.publish(&story.rests);
        disabled
    }

    /// Books what an answer said of this key. `pause`: how long the provider asked it to wait. The
    /// rest or back-off that begins by it, if one does.
    pub fn fails(&self, fault: Fault, name: Name, pause: Option<Duration>) -> Option<Duration> {
        if let (Fault::Key(_), Some(login)) = (fault, self.login()) {
            login.refused();
        }
        let (mut story, now) = (self.story(), now());
        let begun = match fault {
            Fault::Limited => story.rests.limit(name, pause, now),
            Fault::Model => story.rests.refuse(name, now),
            Fault::Key(reason) => self.disable(&mut story, reason, now),
        };
        self.publish(&story.rests);
        begun
    }

    /// Books how much of its limits is left: nearly nothing for so long, or enough.
    pub fn spends<'n>(&self, left: Option<Duration>, name: impl FnOnce() -> Name<'n>) {
        if left.is_none() && !self.noted.load(Relaxed) {
            return;
        }
        let name = name();
        let mut story = self.story();
        story.rests.spend(name, left, now());
        self.publish(&story.rests);
    }

    pub(super) fn standing(&self, model: &str, now: u64) -> Standing {
        if self.login().is_some_and(|login| !login.is_in_force()) {
            return Standing::Absent;
        }
        match self.disabled_until.load(Relaxed) {
            0 if self.uneasy_until.load(Relaxed) <= now => Standing::Free,
            0 => self.story().rests.standing(model, now),
            due => Standing::Disabled(due),
        }
    }

    pub(super) fn status(&self, now: u64, time: SystemTime) -> KeyStatus {
        let story = self.story();
        let (resting_models, last, limited) = story.rests.resting(now);
        let disabled = story.disabled.zip(Some(self.disabled_until.load(Relaxed)));
        let (state, reason, until) = match disabled {
            Some((reason, due)) if self.probing.load(Relaxed) => {
                (KeyState::Probing, Some(reason.as_str()), due)
            }
            Some((reason, due)) => (KeyState::Disabled, Some(reason.as_str()), due),
            None if resting_models > 0 => {
                (KeyState::Resting, Some(if limited { "limited" } else { "model_refused" }), last)
            }
            None => (KeyState::InUse, None, 0),
        };
        let until = (until > 0).then(|| time + Duration::from_millis(until.saturating_sub(now)));
        let known = KeyStatus {
            hint: self.hint.clone(),
            state,
            reason,
            until,
            resting_models,
            expires: None,
        };
        self.login().map_or(known.clone(), |login| lent(login, known, time))
    }

    pub(super) fn recheck(&self, now: u64) {
        let mut story = self.story();
        story.rests.clear();
        self.publish(&story.rests);
        if story.disabled.is_some() {
            self.disabled_until.store(now, Relaxed);
        }
    }

    /// Only what comes once the key is due again counts: what was under way before says nothing new.
    fn disable(&self, story: &mut Story, reason: Disabled, now: u64) -> Option<Duration> {
        if story.disabled.is_some() && self.disabled_until.load(Relaxed) > now {
            return None;
        }
        let pause = backed_off(first_back_off(), story.strikes);
        story.strikes = story.strikes.saturating_add(1);
        story.disabled = Some(reason);
        self.disabled_until.store(now.saturating_add(milliseconds(pause)), Relaxed);
        self.probing.store(false, Relaxed);
        Some(pause)
    }

    fn publish(&self, rests: &Rests) {
        self.noted.store(!rests.is_empty(), Relaxed);
        self.uneasy_until.store(rests.latest(), Relaxed);
    }

    fn story(&self) -> MutexGuard<'_, Story> {
        self.story.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// … of what a login has lent: until when it is good, and why there is no other.
fn lent(login: &Login, known: KeyStatus, time: SystemTime) -> KeyStatus {
    let left = login.token().map(|token| token.left(Instant::now()));
    let trouble = login.trouble().map(|why| why.word());
    let state = if left.is_none() { KeyState::Absent } else { known.state };
    let reason = if left.is_none() { trouble } else { known.reason.or(trouble) };
    KeyStatus { state, reason, expires: left.flatten().map(|left| time + left), ..known }
}

fn first_back_off() -> Duration {
    fault!("provider::back_off", |_| Duration::from_millis(200));
    BACK_OFF
}

impl Disabled {
    /// The reason in one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Quota => "quota",
            Self::Revoked => "revoked",
        }
    }
}

impl Probe {
    /// `None` while another request tries the key.
    pub(super) fn claim(key: &Arc<ApiKey>) -> Option<Self> {
        let claimed = key.probing.compare_exchange(false, true, Relaxed, Relaxed).is_ok();
        claimed.then(|| Self(Arc::clone(key)))
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.probing.store(false, Relaxed);
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
            Self::XApiKey => Some((HeaderName::from_static("x-api-key"), sensitive(key)?)),
            Self::XGoogApiKey => Some((HeaderName::from_static("x-goog-api-key"), sensitive(key)?)),
        }
    }

    /// The header for what a caller of any dialect brought along: a token of a login goes where logins'
    /// tokens do, wherever the caller's own dialect puts it.
    pub fn callers_header(self, key: &str) -> Option<(HeaderName, HeaderValue)> {
        let token = match self {
            Self::Bearer => true,
            // Entra's tokens are JWTs, and keys are not.
            Self::ApiKey => key.starts_with("eyJ"),
            // https://code.claude.com/docs/en/authentication: what `claude setup-token` prints.
            Self::XApiKey => key.starts_with("sk-ant-oat"),
            // Access tokens of Google's, and JWTs that service accounts sign themselves.
            Self::XGoogApiKey => key.starts_with("ya29.") || key.starts_with("eyJ"),
        };
        if token { Self::Bearer.header(key) } else { self.header(key) }
    }
}
