//! Proof of work: a text is to be found whose Argon2id hash is small.

use argon2::{Algorithm, Argon2, Params, Version};
use ring::hmac;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// How long a challenge may be worked on, in milliseconds.
const LIFETIME: i64 = 30 * 60 * 1000;
const SALT: usize = 16;
const HASH: usize = 32;
/// The longest solution, in bytes.
const LONGEST: usize = 128;

/// A challenge as callers get it and send it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Challenge {
    /// 16 bytes in hexadecimal digits.
    pub salt: String,
    /// The first eight bytes of the hash, as a number with the most significant first, must not be
    /// larger: 16 hexadecimal digits.
    pub target: String,
    /// Unix milliseconds.
    pub expires_at: i64,
    /// Of all this and the caller's address: 64 hexadecimal digits.
    pub signature: String,
}

/// Why a challenge does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    #[error("The challenge has expired")]
    Expired,
    #[error("The challenge was not made here, or not for this address")]
    Forged,
}

/// What has to be worked on.
#[derive(Clone, Debug)]
pub struct Work {
    salt: [u8; SALT],
    target: u64,
}

// === impl Challenge ===

impl Challenge {
    /// A challenge that takes `tries` hashes on average, for an address, at `now` in Unix milliseconds.
    pub fn new(key: &hmac::Key, tries: u32, address: u64, now: i64) -> Self {
        let salt = hex::encode(rand::random::<[u8; SALT]>());
        let target = format!("{:016x}", u64::MAX / u64::from(tries.max(1)));
        let mut challenge =
            Self { salt, target, expires_at: now + LIFETIME, signature: String::new() };
        let signature = hmac::sign(key, challenge.signed(address).as_bytes());
        challenge.signature = hex::encode(signature);
        challenge
    }

    /// Whether it was made here, for this address, and may still be solved.
    pub fn check(&self, key: &hmac::Key, address: u64, now: i64) -> Result<(), Rejected> {
        let signature = hex::decode(&self.signature).map_err(|_| Rejected::Forged)?;
        hmac::verify(key, self.signed(address).as_bytes(), &signature)
            .map_err(|_| Rejected::Forged)?;
        if self.expires_at <= now { Err(Rejected::Expired) } else { Ok(()) }
    }

    /// With what the hash is to be made, for whoever works on it.
    pub fn parameters() -> Value {
        json!({
            "algorithm": "argon2id",
            "version": 19,
            "memory_kib": Params::DEFAULT_M_COST,
            "iterations": Params::DEFAULT_T_COST,
            "parallelism": Params::DEFAULT_P_COST,
            "length": HASH,
        })
    }

    pub fn work(&self) -> Option<Work> {
        let mut salt = [0; SALT];
        hex::decode_to_slice(&self.salt, &mut salt).ok()?;
        Some(Work { salt, target: u64::from_str_radix(&self.target, 16).ok()? })
    }

    fn signed(&self, address: u64) -> String {
        let Self { salt, target, expires_at, signature: _ } = self;
        format!("temporary key 1\n{salt}\n{target}\n{expires_at}\n{address:016x}")
    }
}

// === impl Work ===

impl Work {
    /// Takes tens of milliseconds and 19 MiB.
    pub fn is_solved_by(&self, solution: &str) -> bool {
        if solution.is_empty() || solution.len() > LONGEST {
            return false;
        }
        let Ok(parameters) = Params::new(
            Params::DEFAULT_M_COST,
            Params::DEFAULT_T_COST,
            Params::DEFAULT_P_COST,
            Some(HASH),
        ) else {
            return false;
        };
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters);
        let mut hash = [0; HASH];
        let hashed = argon2.hash_password_into(solution.as_bytes(), &self.salt, &mut hash);
        let first = hash.first_chunk().map(|first| u64::from_be_bytes(*first));
        hashed.is_ok() && first.is_some_and(|first| first <= self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn key() -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[7; 32])
    }

    #[test]
    fn a_challenge_holds_for_its_address_and_its_time() {
        let made = Challenge::new(&key(), 900, 1, NOW);
        assert_eq!(made.check(&key(), 1, NOW), Ok(()));
        assert_eq!(made.check(&key(), 2, NOW), Err(Rejected::Forged));
        assert_eq!(made.check(&key(), 1, NOW + LIFETIME), Err(Rejected::Expired));
        let other = hmac::Key::new(hmac::HMAC_SHA256, &[8; 32]);
        assert_eq!(made.check(&other, 1, NOW), Err(Rejected::Forged));
        for changed in [
            Challenge { target: "ffffffffffffffff".into(), ..made.clone() },
            Challenge { salt: "00".repeat(SALT), ..made.clone() },
            Challenge { expires_at: NOW * 2, ..made.clone() },
            Challenge { signature: String::new(), ..made.clone() },
        ] {
            assert_eq!(changed.check(&key(), 1, NOW), Err(Rejected::Forged));
        }
    }

    #[test]
    fn every_text_solves_what_takes_one_try() {
        let work = Challenge::new(&key(), 1, 1, NOW).work().unwrap();
        assert!(work.is_solved_by("0"));
        assert!(!work.is_solved_by("") && !work.is_solved_by(&"0".repeat(LONGEST + 1)));
        let hopeless = Work { target: 0, ..work };
        assert!(!hopeless.is_solved_by("0"));
    }
}
