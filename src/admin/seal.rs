//! Providers' secrets as they lie in the store: encrypted, each bound to what it belongs to.

use std::fmt;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::config::{Config, Secret};

/// What a sealed text begins with; the number is the way it was sealed.
const MARK: &str = "sealed:1:";
const SALT: &[u8] = b"forebay store";
const PURPOSE: &[&[u8]] = &[b"provider secrets"];

/// Seals and opens: ChaCha20-Poly1305 under a key that HKDF-SHA256 makes of `store.encryption_key`,
/// or of the admin key where none is given.
pub struct Seal(LessSafeKey);

/// Why a text cannot be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("there is no `store.encryption_key`, and no admin key in its place")]
    NoKey,
    #[error("it was encrypted with another key (`store.encryption_key`, or the admin key)")]
    OtherKey,
    #[error("there are no random numbers to be had")]
    NoRandomness,
}

impl Seal {
    pub fn of(config: &Config) -> Result<Self, SealError> {
        let given = config.store.as_ref().and_then(|store| store.encryption_key.as_ref());
        let admin = config.admin.as_ref().map(|admin| &admin.key);
        Self::new(given.or(admin).ok_or(SealError::NoKey)?)
    }

    pub fn new(passphrase: &Secret) -> Result<Self, SealError> {
        let root = Salt::new(HKDF_SHA256, SALT).extract(passphrase.expose().as_bytes());
        let mut bytes = [0; 32];
        let expanded = root.expand(PURPOSE, Length(bytes.len()));
        let filled = expanded.and_then(|key| key.fill(&mut bytes));
        filled.map_err(|_| SealError::NoKey)?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, &bytes).map_err(|_| SealError::NoKey)?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Whether a text is a sealed one.
    pub fn is_sealed(text: &str) -> bool {
        text.starts_with(MARK)
    }

    /// Seals a text for `owner`: it opens for no other.
    pub fn seal(&self, owner: &str, text: &str) -> Result<String, SealError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| SealError::NoRandomness)?;
        let mut bytes = text.as_bytes().to_vec();
        let aad = Aad::from(owner.as_bytes());
        let unique = Nonce::assume_unique_for_key(nonce);
        let sealed = self.0.seal_in_place_append_tag(unique, aad, &mut bytes);
        sealed.map_err(|_| SealError::NoRandomness)?;
        Ok(format!("{MARK}{}{}", hex::encode(nonce), hex::encode(bytes)))
    }

    /// Opens what was sealed for `owner`.
    pub fn open(&self, owner: &str, sealed: &str) -> Result<Secret, SealError> {
        let text = sealed.strip_prefix(MARK).ok_or(SealError::OtherKey)?;
        let mut bytes = hex::decode(text).map_err(|_| SealError::OtherKey)?;
        let (nonce, rest) = bytes.split_at_mut_checked(NONCE_LEN).ok_or(SealError::OtherKey)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::OtherKey)?;
        let plain = self.0.open_in_place(nonce, Aad::from(owner.as_bytes()), rest);
        let plain = plain.map_err(|_| SealError::OtherKey)?;
        let text = std::str::from_utf8(plain).map_err(|_| SealError::OtherKey)?;
        Ok(Secret::new(text))
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal")
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(passphrase: &str) -> Seal {
        Seal::new(&Secret::new(passphrase)).unwrap()
    }

    #[test]
    fn a_secret_opens_with_its_key_for_its_owner_only() {
        let ours = seal("a passphrase of the tests");
        let sealed = ours.seal("providers/a", "fake-upstream-key").unwrap();
        assert!(Seal::is_sealed(&sealed) && !sealed.contains("fake"));
        assert_eq!(ours.open("providers/a", &sealed).unwrap().expose(), "fake-upstream-key");
        assert_eq!(ours.open("providers/b", &sealed), Err(SealError::OtherKey));
        let other = seal("another passphrase of the tests");
        assert_eq!(other.open("providers/a", &sealed), Err(SealError::OtherKey));
    }

    #[test]
    fn the_same_secret_never_looks_the_same() {
        let ours = seal("a passphrase of the tests");
        assert_ne!(ours.seal("a", "fake").unwrap(), ours.seal("a", "fake").unwrap());
    }

    #[test]
    fn what_was_changed_does_not_open() {
        let ours = seal("a passphrase of the tests");
        let sealed = ours.seal("a", "fake").unwrap();
        let last = sealed.chars().last().unwrap();
        let changed =
            sealed.strip_suffix(last).unwrap().to_owned() + if last == '0' { "1" } else { "0" };
        for wrong in [changed.as_str(), "", "sealed:1:", "sealed:1:zz", "sealed:1:00"] {
            assert_eq!(ours.open("a", wrong), Err(SealError::OtherKey), "{wrong}");
        }
    }

    #[test]
    fn the_stores_own_key_goes_before_the_admin_key() {
        let mut config = Config::default();
        assert_eq!(Seal::of(&config).unwrap_err(), SealError::NoKey);
        config.admin = Some(crate::config::Admin {
            listen: "127.0.0.1:1".parse().unwrap(),
            key: Secret::new("the admin key"),
            on_data_listener: false,
        });
        let by_admin = Seal::of(&config).unwrap().seal("a", "fake").unwrap();
        assert!(seal("the admin key").open("a", &by_admin).is_ok());
        config.store = Some(crate::config::Store {
            url: None,
            dynamic: true,
            encryption_key: Some(Secret::new("the key of the store")),
        });
        let by_store = Seal::of(&config).unwrap().seal("a", "fake").unwrap();
        assert!(seal("the key of the store").open("a", &by_store).is_ok());
    }
}
