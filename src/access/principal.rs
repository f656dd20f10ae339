//! A caller that is known, and what it may do.

use std::sync::Arc;

use super::keyring::Digest;
use super::limits::Subject;
use super::user::User;
use crate::config::{Bounds, Rank, RankGiven, glob_matches};

/// A caller that is known.
#[derive(Debug)]
pub struct Principal {
    /// Unlike any other's; what it has made is kept under it.
    pub id: Arc<str>,
    /// The key's name.
    pub name: Arc<str>,
    /// Of the key; nobody's where there is none.
    pub(super) digest: Digest,
    pub(super) owner: Owner,
    pub(super) grants: Arc<Grants>,
    /// `None`: nothing of it is limited.
    pub(super) subject: Option<Arc<Subject>>,
    /// Why it is refused, as an operator has said; `None` when it is not.
    pub(super) disabled: Option<Box<str>>,
    /// Unix milliseconds.
    pub(super) expires_at: Option<i64>,
    /// Addresses the key may be used from; 0 is any number.
    pub(super) max_ips: u32,
    /// As its own record says.
    pub(super) rank: RankGiven,
    pub(super) made: Made,
    /// `privacy: strict` holds for its requests.
    pub(super) strict: bool,
}

/// Where a key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// No key: callers need none.
    Nowhere,
    /// The configuration has it.
    File,
    /// The store has it.
    Store,
}

/// Whom a key belongs to.
#[derive(Clone, Debug, Default)]
pub enum Owner {
    #[default]
    Nobody,
    /// In the words of the configuration.
    Named(Arc<str>),
    User(Arc<User>),
}

/// What may be used, in names and globs (`None` is all), and how much of it at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    models: Option<Box<[Box<str>]>>,
    providers: Option<Box<[Box<str>]>>,
    bounds: Bounds,
}

/// Why a key that is known is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// With the operator's reason, which may be empty.
    Disabled(Box<str>),
    Expired,
    UserDisabled(Box<str>),
    UserExpired,
    /// The key belongs to a user that is not there.
    UserGone,
}

// === impl Principal ===

impl Principal {
    /// A caller without a key.
    pub fn anonymous() -> Self {
        Self {
            id: Arc::from("anonymous"),
            name: Arc::from("anonymous"),
            owner: Owner::Nobody,
            digest: Digest::from([0; 32]),
            grants: Arc::default(),
            subject: None,
            disabled: None,
            expires_at: None,
            max_ips: 0,
            rank: RankGiven::default(),
            made: Made::Nowhere,
            strict: false,
        }
    }

    /// May this caller use a model by this name? Its user must be allowed to as well.
    pub fn may_use(&self, model: &str) -> bool {
        self.grants.allow_model(model) && self.user_allows(|grants| grants.allow_model(model))
    }

    /// May this caller use whatever model a file of its may name?
    pub fn may_use_any_model(&self) -> bool {
        self.grants.allow_any_model() && self.user_allows(Grants::allow_any_model)
    }

    /// May this caller's requests go to the provider of this name?
    pub fn may_use_provider(&self, provider: &str) -> bool {
        self.grants.allow_provider(provider)
            && self.user_allows(|grants| grants.allow_provider(provider))
    }

    /// What one request may ask for: the smaller of what the key and its user may.
    pub fn bounds(&self) -> Bounds {
        let user = self.user().and_then(|user| user.ask(|state| state.grants.bounds));
        self.grants.bounds.and(user.unwrap_or_default())
    }

    fn user_allows(&self, question: impl FnOnce(&Grants) -> bool) -> bool {
        match &self.owner {
            Owner::User(user) => user.ask(|state| question(&state.grants)).unwrap_or(false),
            Owner::Nobody | Owner::Named(_) => true,
        }
    }

    /// The user it belongs to, when that is one of the store's.
    pub fn user(&self) -> Option<&Arc<User>> {
        match &self.owner {
            Owner::User(user) => Some(user),
            Owner::Nobody | Owner::Named(_) => None,
        }
    }

    /// Whom it belongs to: a user's id, or what the configuration calls it. Empty when nobody.
    pub fn owner(&self) -> &str {
        match &self.owner {
            Owner::Nobody => "",
            Owner::Named(name) => name,
            Owner::User(user) => &user.id,
        }
    }

    /// What is counted of it; `None` when nothing of it is limited.
    pub fn subject(&self) -> Option<&Arc<Subject>> {
        self.subject.as_ref()
    }

    /// How it stands among others that wait.
    pub fn rank(&self) -> Rank {
        let user = self.user().and_then(|user| user.ask(|state| state.rank)).unwrap_or_default();
        Rank::of(self.rank, user)
    }

    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    pub fn made(&self) -> Made {
        self.made
    }

    /// Whether nothing of who calls is kept.
    pub fn is_private(&self) -> bool {
        self.strict
    }

    /// Addresses the key may be used from; 0 is any number.
    pub fn max_ips(&self) -> u32 {
        self.max_ips
    }

    /// Unix milliseconds; the earlier of the key's and its user's.
    pub fn expires_at(&self) -> Option<i64> {
        let user = self.user().and_then(|user| user.ask(|state| state.expires_at)).flatten();
        self.expires_at.into_iter().chain(user).min()
    }

    /// Why it may not call at `now`, in Unix milliseconds.
    pub fn refused(&self, now: i64) -> Option<Why> {
        if let Some(reason) = &self.disabled {
            return Some(Why::Disabled(reason.clone()));
        }
        if self.expires_at.is_some_and(|expires_at| expires_at <= now) {
            return Some(Why::Expired);
        }
        let asked = self.user()?.ask(|state| {
            if !state.enabled {
                let reason = state.disabled_reason.clone().unwrap_or_default();
                return Some(Why::UserDisabled(reason));
            }
            state.has_expired(now).then_some(Why::UserExpired)
        });
        asked.unwrap_or(Some(Why::UserGone))
    }
}

// === impl Grants ===

impl Grants {
    pub fn new(models: Option<&[String]>, providers: Option<&[String]>) -> Self {
        let kept = |list: &[String]| list.iter().map(|glob| Box::from(glob.as_str())).collect();
        let bounds = Bounds::default();
        Self { models: models.map(kept), providers: providers.map(kept), bounds }
    }

    /// … and so much in one request.
    #[must_use]
    pub fn within(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    pub fn allow_model(&self, model: &str) -> bool {
        allow(self.models.as_deref(), model)
    }

    /// Whether no list of models bounds it.
    pub fn allow_any_model(&self) -> bool {
        let all = |glob: &str| !glob.is_empty() && glob.bytes().all(|byte| byte == b'*');
        self.models.as_deref().is_none_or(|globs| globs.iter().any(|glob| all(glob)))
    }

    pub fn allow_provider(&self, provider: &str) -> bool {
        allow(self.providers.as_deref(), provider)
    }

    /// Names and globs of models; `None` is all.
    pub fn models(&self) -> Option<&[Box<str>]> {
        self.models.as_deref()
    }

    /// Names and globs of providers; `None` is all.
    pub fn providers(&self) -> Option<&[Box<str>]> {
        self.providers.as_deref()
    }
}

fn allow(globs: Option<&[Box<str>]>, name: &str) -> bool {
    globs.is_none_or(|globs| globs.iter().any(|glob| glob_matches(glob, name)))
}

/// Whether everything `inner` lets through is let through by `outer` as well. Errs on the side of no: a
/// glob is within another one that matches it letter for letter, its own `*` included.
pub fn globs_within(inner: Option<&[String]>, outer: Option<&[String]>) -> bool {
    let Some(outer) = outer else { return true };
    let covered = |glob: &String| outer.iter().any(|wide| glob_matches(wide, glob));
    inner.is_some_and(|inner| inner.iter().all(covered))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_list_allows_all_and_an_empty_one_nothing() {
        assert!(Grants::new(None, None).allow_model("x"));
        assert!(!Grants::new(Some(&[]), None).allow_model("x"));
        assert!(!Grants::new(None, Some(&["a".to_owned()])).allow_provider("b"));
        for (models, any) in [
            (None, true),
            (Some(&["*"][..]), true),
            (Some(&["a", "**"]), true),
            (Some(&["a*"]), false),
            (Some(&[]), false),
        ] {
            let models =
                models.map(|it| it.iter().map(|&glob| glob.to_owned()).collect::<Vec<_>>());
            assert_eq!(Grants::new(models.as_deref(), None).allow_any_model(), any, "{models:?}");
        }
    }

    #[test]
    fn grants_lie_within_others_or_do_not() {
        let list = |globs: &[&str]| globs.iter().map(|&glob| glob.to_owned()).collect::<Vec<_>>();
        for (inner, outer, expected) in [
            (&["llama-*"][..], &["*"][..], true),
            (&["llama-70b"], &["llama-*"], true),
            (&["llama-*"], &["llama-*"], true),
            (&["llama-7*"], &["llama-*"], true),
            (&["*"], &["llama-*"], false),
            (&["llama-70b", "x"], &["llama-*"], false),
            (&[], &["llama-*"], true),
        ] {
            let (inner, outer) = (list(inner), list(outer));
            assert_eq!(globs_within(Some(&inner), Some(&outer)), expected, "{inner:?} {outer:?}");
        }
        assert!(!globs_within(None, Some(&list(&["a"]))) && globs_within(None, None));
    }
}
