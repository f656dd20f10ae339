//! The keys that callers may use, by their digest.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::credential::Credential;
use super::principal::Principal;
use crate::config;

/// Every key of the configuration.
///
/// A key is hashed and its digest looked up: how long that takes tells nothing about how much of a
/// guess was right, and the keys themselves are in no memory but the configuration's.
#[derive(Debug, Default)]
pub struct Keyring {
    by_digest: HashMap<[u8; 32], Arc<Principal>>,
}

impl Keyring {
    pub fn new(keys: &[config::Key]) -> Self {
        let entry = |key: &config::Key| {
            let principal = Principal::new(&key.name, key.allowed_models.clone());
            (key.digest, Arc::new(principal))
        };
        Self { by_digest: keys.iter().map(entry).collect() }
    }

    pub fn find(&self, credential: &Credential) -> Option<&Arc<Principal>> {
        let digest: [u8; 32] = Sha256::digest(credential.expose().as_bytes()).into();
        self.by_digest.get(&digest)
    }
}
