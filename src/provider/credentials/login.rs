//! One provider's login: what it is asked for with, and what has been lent by it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::sync::{Mutex, MutexGuard, Notify};

use super::request::Unobtained;
use super::sigv4::Signer;
use super::token::{Grant, Token};
use super::{Step, check};
use crate::config;

/// A clock that is wrong by less is not what a signature was refused for.
const EXACT: i64 = 60;

/// A login, with the token in force. Requests read it without a lock.
pub struct Login {
    pub given: config::Login,
    region: String,
    token: ArcSwapOption<Token>,
    trouble: ArcSwapOption<Trouble>,
    skew: Skew,
    wanted: Notify,
    asking: Mutex<()>,
}

/// The last token that was asked for did not come.
#[derive(Debug, PartialEq)]
struct Trouble {
    why: Arc<Unobtained>,
    /// Nothing was in force when that was told.
    absent: bool,
}

/// How far the clock of those who read signatures is ahead of ours.
#[derive(Debug, Default)]
pub struct Skew(AtomicI64);

// === impl Login ===

impl Login {
    /// `region` is what is signed for. What has been lent `before` stays, where nothing has changed.
    ///
    /// # Errors
    ///
    /// A file that is named is not there, or holds no credentials.
    pub fn new(
        given: &config::Login,
        region: &str,
        before: Option<&Arc<Self>>,
    ) -> Result<Arc<Self>, Unobtained> {
        let same = |before: &&Arc<Self>| before.given == *given && before.region == region;
        if let Some(before) = before.filter(same) {
            return Ok(Arc::clone(before));
        }
        check(given)?;
        let login = Self {
            given: given.clone(),
            region: region.to_owned(),
            token: ArcSwapOption::empty(),
            trouble: ArcSwapOption::empty(),
            skew: Skew::default(),
            wanted: Notify::new(),
            asking: Mutex::default(),
        };
        // Keys that need not be asked for are there at once.
        let read = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
        if let Ok(Step::Done(token)) = Step::first(given, read, SystemTime::now()) {
            login.lend(token);
        }
        Ok(Arc::new(login))
    }

    /// What is in force; `None`: nothing was lent yet, or it is over.
    pub fn token(&self) -> Option<Arc<Token>> {
        self.token.load_full().filter(|token| token.is_in_force(Instant::now()))
    }

    /// Whether there is anything to call with.
    pub fn is_in_force(&self) -> bool {
        let token = self.token.load();
        token.as_ref().is_some_and(|token| token.is_in_force(Instant::now()))
    }

    /// The header that a call carries, marked sensitive; `None` while there is no token, or when calls
    /// are signed.
    pub fn bearer(&self) -> Option<(HeaderName, HeaderValue)> {
        match &self.token()?.grant {
            Grant::Bearer(value) => Some((header::AUTHORIZATION, value.clone())),
            Grant::Keys(_) => None,
        }
    }

    /// Signs calls; `None` while there are no keys, or when calls carry a token.
    pub fn signer(self: &Arc<Self>) -> Option<Signer> {
        match &self.token()?.grant {
            Grant::Keys(keys) => Some(Signer::new(keys.clone(), Arc::clone(self))),
            Grant::Bearer(_) => None,
        }
    }

    /// Puts a token into force. True when there was trouble before.
    pub fn lend(&self, token: Token) -> bool {
        self.token.store(Some(Arc::new(token)));
        self.trouble.swap(None).is_some()
    }

    /// Books why none came; what is in force stays. True when that is news.
    pub fn fails(&self, why: Unobtained) -> bool {
        let trouble = Trouble { why: Arc::new(why), absent: !self.is_in_force() };
        let news = self.trouble.load().as_deref() != Some(&trouble);
        if news {
            self.trouble.store(Some(Arc::new(trouble)));
        }
        news
    }

    /// Why the last token that was asked for did not come, if it did not.
    pub fn trouble(&self) -> Option<Arc<Unobtained>> {
        self.trouble.load().as_ref().map(|trouble| Arc::clone(&trouble.why))
    }

    /// The provider refused what is in force: another one is wanted.
    pub fn refused(&self) {
        self.wanted.notify_one();
    }

    /// Waits for the provider to refuse what is in force.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Held while a token is asked for: one at a time.
    pub async fn asking(&self) -> MutexGuard<'_, ()> {
        self.asking.lock().await
    }

    /// What it lends, for logs.
    pub fn kind(&self) -> &'static str {
        match self.given {
            config::Login::Google(_) => "google",
            config::Login::Aws(_) => "aws",
            config::Login::Azure(_) => "entra",
        }
    }

    pub fn skew(&self) -> &Skew {
        &self.skew
    }

    pub(super) fn region(&self) -> &str {
        &self.region
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("token", &self.token.load()).finish_non_exhaustive()
    }
}

// === impl Skew ===

impl Skew {
    /// Learns from the `Date` of an answer that refused a signature. True when our clock was wrong, so
    /// that a signature by the other one may do.
    pub fn learn(&self, headers: &HeaderMap) -> bool {
        self.learn_at(headers, SystemTime::now())
    }

    fn learn_at(&self, headers: &HeaderMap, now: SystemTime) -> bool {
        let date = headers.get(header::DATE).and_then(|date| date.to_str().ok());
        let Some(date) = date.and_then(|date| httpdate::parse_http_date(date).ok()) else {
            return false;
        };
        let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        let ahead = match date.duration_since(now) {
            Ok(ahead) => seconds(ahead),
            Err(behind) => seconds(behind.duration()).saturating_neg(),
        };
        let before = self.0.load(Relaxed);
        let wrong = ahead.saturating_sub(before).saturating_abs() > EXACT;
        if wrong {
            self.0.store(ahead, Relaxed);
        }
        wrong
    }

    /// What the other clock shows.
    pub fn now(&self) -> SystemTime {
        self.of(SystemTime::now())
    }

    fn of(&self, now: SystemTime) -> SystemTime {
        let ahead = self.0.load(Relaxed);
        let span = Duration::from_secs(ahead.unsigned_abs());
        let moved = if ahead < 0 { now.checked_sub(span) } else { now.checked_add(span) };
        moved.unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_wrong_is_learned_of_once() {
        let now = httpdate::parse_http_date("Fri, 20 Nov 2026 12:00:00 GMT").unwrap();
        let told = |date: &'static str| {
            HeaderMap::from_iter([(header::DATE, HeaderValue::from_static(date))])
        };
        let skew = Skew::default();
        assert!(!skew.learn_at(&HeaderMap::new(), now));
        assert!(!skew.learn_at(&told("soon"), now));
        assert!(!skew.learn_at(&told("Fri, 20 Nov 2026 12:00:30 GMT"), now));
        assert_eq!(skew.of(now), now);
        let ahead = told("Fri, 20 Nov 2026 12:10:00 GMT");
        assert!(skew.learn_at(&ahead, now));
        assert_eq!(skew.of(now), now + Duration::from_mins(10));
        assert!(!skew.learn_at(&ahead, now), "it is known, and was not the reason");
        assert!(skew.learn_at(&told("Fri, 20 Nov 2026 11:00:00 GMT"), now));
        assert_eq!(skew.of(now), now - Duration::from_hours(1));
    }
}
