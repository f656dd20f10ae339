//! The keys that callers may use, by their digest.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::credential::Credential;
use super::principal::Principal;
use crate::config;

/// Every key of the configuration.
///
/// A key is hashed and its digest looked up: how long that takes tells nothing about how much of a
/// guess was right, and the keys themselves are in no memory but the configuration's.
#[derive(Debug, Default)]
pub struct Keyring {
    by_digest: HashMap<Digest, Arc<Principal>>,
}

/// The SHA-256 of a key. Comparing digests tells nothing about how much of a guess was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }
}

impl Keyring {
    pub fn new(keys: &[config::Key]) -> Self {
        let entry = |key: &config::Key| {
            let principal = Principal::new(&key.name, key.allowed_models.clone());
            (Digest(key.digest), Arc::new(principal))
        };
        Self { by_digest: keys.iter().map(entry).collect() }
    }

    pub fn find(&self, credential: &Credential) -> Option<&Arc<Principal>> {
        self.by_digest.get(&Digest::of(credential.expose()))
    }
}
