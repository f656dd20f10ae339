//! Keys that people make for themselves: who may have one, and what is written down of it.

mod addresses;
mod challenge;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use ring::hmac;
use tokio::sync::Semaphore;

use self::addresses::Addresses;
pub use self::challenge::{Challenge, Rejected, Work};
use super::key::{self, KeyRecord, NewKey};
use super::user::{Role, UserRecord};
use crate::config::TemporaryKeys;
use crate::store::{Expected, Kind, Note, Store, StoreError};

/// Under what the store keeps the key that challenges are signed with, in hexadecimal digits.
const SIGNING_KEY: &str = "temporary_signing_key";
/// In whose name they are made.
const MAKER: &str = "temporary-keys";
/// Solutions looked at at once: each takes 19 MiB and a processor for a while.
const LOOKED_AT: usize = 2;

/// Makes temporary keys. One per process.
pub struct Issuer {
    signing: ArcSwapOption<hmac::Key>,
    addresses: Mutex<Addresses>,
    looking: Arc<Semaphore>,
}

/// A key that has been made.
#[derive(Debug)]
pub struct Issued {
    pub key: NewKey,
    pub user: UserRecord,
}

// === impl Issuer ===

impl Issuer {
    /// What challenges are signed with: a random key in the store, so that those of one process hold at
    /// all others. `anew`: what is known of it may be out of date.
    pub async fn signing_key(
        &self,
        store: &Store,
        anew: bool,
    ) -> Result<Arc<hmac::Key>, StoreError> {
        if let Some(known) = self.signing.load_full().filter(|_| !anew) {
            return Ok(known);
        }
        if store.meta(SIGNING_KEY).await?.is_none() {
            let bytes: [u8; 32] = rand::random();
            store.set_meta(SIGNING_KEY, &hex::encode(bytes)).await?;
        }
        // Another node may have been quicker: what stands there holds.
        let text = store.meta(SIGNING_KEY).await?.unwrap_or_default();
        let bytes = hex::decode(text).ok().filter(|bytes| bytes.len() == 32);
        let bytes = bytes.ok_or_else(|| StoreError::Corrupt(SIGNING_KEY.to_owned()))?;
        let key = Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &bytes));
        self.signing.store(Some(Arc::clone(&key)));
        Ok(key)
    }

    /// Counts an attempt from an address, at `now` in Unix milliseconds; or says how long it has to
    /// wait.
    pub fn attempt(&self, address: u64, now: i64) -> Result<(), Duration> {
        self.addresses().attempt(address, now)
    }

    /// Whether `solution` solves the challenge. Not more than two are looked at at once.
    pub async fn is_solved(&self, challenge: &Challenge, solution: String) -> bool {
        let Ok(looking) = Arc::clone(&self.looking).acquire_owned().await else { return false };
        let work = challenge.work();
        let looked = tokio::task::spawn_blocking(move || {
            let _looking = looking;
            work.is_some_and(|work| work.is_solved_by(&solution))
        });
        looked.await.unwrap_or(false)
    }

    /// Makes a user and its key, and writes them to the store. `proof`: what entitles to it once;
    /// `None` for a password.
    pub async fn issue(
        &self,
        store: &Store,
        terms: &TemporaryKeys,
        address: u64,
        proof: Option<&str>,
        now: i64,
    ) -> Result<Issued, NotIssued> {
        let expires_at = now.saturating_add(millis(terms.lifetime));
        let full = |until| NotIssued::TooMany { until };
        self.addresses().take(address, terms.per_address, expires_at, now).map_err(full)?;
        let issued = write(store, terms, proof, now, expires_at).await;
        if issued.is_err() {
            self.addresses().give_back(address, expires_at);
        }
        issued
    }

    fn addresses(&self) -> std::sync::MutexGuard<'_, Addresses> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Issuer {
    fn default() -> Self {
        Self {
            signing: ArcSwapOption::empty(),
            addresses: Mutex::default(),
            looking: Arc::new(Semaphore::new(LOOKED_AT)),
        }
    }
}

/// Why no key was made.
#[derive(Debug, thiserror::Error)]
pub enum NotIssued {
    #[error("the address has as many keys as it may have")]
    TooMany {
        /// Unix milliseconds.
        until: i64,
    },
    #[error("The challenge has been used")]
    Used,
    #[error(transparent)]
    Store(#[from] StoreError),
}

async fn write(
    store: &Store,
    terms: &TemporaryKeys,
    proof: Option<&str>,
    now: i64,
    expires_at: i64,
) -> Result<Issued, NotIssued> {
    // A proof gives its name to the user it makes: whichever node is shown it again finds that one.
    let id = match proof {
        Some(proof) => format!("user_{}", proof.get(..22).unwrap_or(proof)),
        None => key::new_id("user"),
    };
    let mark = id.rsplit('_').next().and_then(|random| random.get(..12)).unwrap_or(&id);
    let user = UserRecord {
        name: format!("temporary-{mark}"),
        role: Role::Temporary,
        enabled: true,
        disabled_reason: None,
        expires_at: Some(expires_at),
        max_ips: Some(terms.max_ips),
        on_max_ips: None,
        allowed_models: terms.allowed_models.clone(),
        allowed_providers: None,
        rate_limit: terms.rate_limit,
        limits: terms.limits.clone(),
        priority: None,
        weight: None,
        quotas: std::collections::BTreeMap::default(),
        quota_epoch: 0,
        tags: Vec::new(),
        note: None,
        created_at: now,
        purge_at: Some(expires_at.saturating_add(millis(terms.purge_after))),
        addresses: Vec::new(),
        id,
    };
    let body = serde_json::to_string(&user).map_err(|_| unwritable())?;
    let note = Note { by: MAKER, before: None, after: Some(&body) };
    let put = store.put(Kind::Users, &user.id, Some(&user.name), &body, Expected::Absent, note);
    match put.await {
        Err(StoreError::Conflict { .. } | StoreError::Taken) => return Err(NotIssued::Used),
        put => put?,
    };
    let key = key::generate();
    if let Err(error) = write_key(store, &user, &key).await {
        // A user without a key is of no use, and is purged in its time if this fails as well.
        let note = Note { by: MAKER, ..Note::default() };
        let _gone = store.delete(Kind::Users, &user.id, Expected::Any, note).await;
        return Err(error.into());
    }
    Ok(Issued { key, user })
}

async fn write_key(store: &Store, user: &UserRecord, made: &NewKey) -> Result<(), StoreError> {
    let record = KeyRecord {
        id: key::new_id("key"),
        name: user.name.clone(),
        hint: made.hint.clone(),
        digest: hex::encode(made.digest),
        user: Some(user.id.clone()),
        created_by: user.id.clone(),
        allowed_models: None,
        allowed_providers: None,
        expires_at: user.expires_at,
        enabled: true,
        disabled_reason: None,
        rate_limit: None,
        limits: crate::config::Allowance::default(),
        priority: None,
        weight: None,
        tags: Vec::new(),
        created_at: user.created_at,
        temporary: true,
        privacy: None,
    };
    let body = serde_json::to_string(&record).map_err(|_| unwritable())?;
    let shown = record.shown();
    let note = Note { by: MAKER, before: None, after: Some(&shown) };
    let handle = Some(record.digest.as_str());
    store.put(Kind::Keys, &record.id, handle, &body, Expected::Absent, note).await.map(drop)
}

fn unwritable() -> StoreError {
    StoreError::Corrupt("a record cannot be written".to_owned())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
