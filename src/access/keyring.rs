//! The keys that callers may use, by their digest: those of the configuration.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::credential::Credential;
use super::directory::counted;
use super::limits::{Subject, Terms, Who};
use super::principal::{Grants, Made, Owner, Principal};
use crate::config;

/// Every key of the configuration.
///
/// A key is hashed and its digest looked up: how long that takes tells nothing about how much of a
/// guess was right, and the keys themselves are in no memory but the configuration's.
#[derive(Debug, Default)]
pub struct Keyring {
    by_digest: HashMap<Digest, Arc<Principal>>,
    /// What is counted on, with the terms it is to have from when these keys are in force.
    terms: Vec<(Arc<Subject>, Arc<Terms>)>,
}

/// The SHA-256 of a key. Comparing digests tells nothing about how much of a guess was right.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

// === impl Digest ===

impl Digest {
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    /// Which of `parts` it belongs in.
    pub(super) fn part(&self, parts: usize) -> usize {
        usize::from(self.0.last().copied().unwrap_or(0)) % parts
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let first = self.0.first_chunk().copied().unwrap_or_default();
        state.write_u64(u64::from_le_bytes(first));
    }
}

impl std::fmt::Debug for Digest {
    // That of a short key can be guessed from.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

// === impl Keyring ===

impl Keyring {
    /// `before` is what was in force until now: what was counted of its keys stays, and its limits
    /// hold until [`Self::enforce`].
    pub fn new(keys: &[config::Key], before: Option<&Self>) -> Self {
        let before: HashMap<&str, &Arc<Principal>> = before
            .iter()
            .flat_map(|before| before.by_digest.values())
            .map(|principal| (&*principal.name, principal))
            .collect();
        let mut keyring = Self::default();
        for key in keys {
            let known = before.get(key.name.as_str()).and_then(|before| before.subject.as_ref());
            let terms = Arc::new(Terms {
                rate: key.rate_limit,
                allowance: key.limits.clone(),
                quotas: Vec::new(),
                exempt: false,
            });
            let principal = Arc::new(principal(key, &terms, known));
            keyring.terms.extend(known.map(|known| (Arc::clone(known), terms)));
            keyring.by_digest.insert(Digest(key.digest), principal);
        }
        keyring
    }

    /// Puts the limits of these keys into force.
    pub fn enforce(&self) {
        for (subject, terms) in &self.terms {
            subject.set_terms(Arc::clone(terms));
        }
    }

    /// Looks for a key, which may have expired or be disabled: that is [`Principal::refused`]'s to say.
    pub fn find(&self, digest: &Digest) -> Option<&Arc<Principal>> {
        self.by_digest.get(digest)
    }

    pub fn is_empty(&self) -> bool {
        self.by_digest.is_empty()
    }
}

impl Credential {
    pub fn digest(&self) -> Digest {
        Digest::of(self.expose())
    }
}

fn principal(key: &config::Key, terms: &Arc<Terms>, known: Option<&Arc<Subject>>) -> Principal {
    // No id of the store's has such a form.
    let id: Arc<str> = Arc::from(format!("file/{}", key.name));
    let grants = Grants::new(key.allowed_models.as_deref(), key.allowed_providers.as_deref())
        .within(key.limits.bounds());
    Principal {
        subject: counted(Who::Key, Arc::clone(&id), terms, known),
        id,
        digest: Digest(key.digest),
        name: Arc::from(key.name.as_str()),
        owner: key.user.as_deref().map_or(Owner::Nobody, |user| Owner::Named(Arc::from(user))),
        grants: Arc::new(grants),
        disabled: (!key.enabled).then(Box::default),
        expires_at: key.expires_at,
        max_ips: key.limits.max_ips,
        rank: key.rank,
        made: Made::File,
        strict: key.strict,
    }
}
