//! Keys that are made here, and what is kept of one.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::config::{Allowance, Priority, RankGiven, RateLimit, Secret};

/// What every key of ours begins with.
pub const PREFIX: &str = "sk-fb-";
/// Digits of 32 bytes to the base of 62.
const RANDOM: usize = 43;
/// Digits of a CRC-32 to the base of 62.
const CHECK: usize = 6;
/// Bytes of a name or an id.
pub const LONGEST_NAME: usize = 200;
/// No digit has to be escaped anywhere, and a double click selects all of them.
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A key that has just been made. Whoever asked for it sees `secret` once.
#[derive(Debug)]
pub struct NewKey {
    pub secret: Secret,
    /// SHA-256 of the secret: all that is kept.
    pub digest: [u8; 32],
    /// The last characters, to tell keys apart by.
    pub hint: String,
}

/// What is kept of a key: the JSON body of its record.
///
/// Members that are not known are left alone: during an upgrade the older process reads what the newer
/// one has written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    pub id: String,
    /// What the caller is called in logs and metrics.
    pub name: String,
    /// The last characters of the key.
    pub hint: String,
    /// SHA-256 of the key in 64 hexadecimal digits.
    pub digest: String,
    /// The id of the user it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Who made it: an operator's name, or a user's id.
    #[serde(default)]
    pub created_by: String,
    /// Names and globs (`llama-*`); `None` is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_models: Option<Vec<String>>,
    /// Names and globs; `None` is all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_providers: Option<Vec<String>>,
    /// Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<i64>,
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The operator's words; a caller is told them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled_reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    #[serde(default)]
    pub limits: Allowance,
    /// Who goes first when replicas are busy; `None` is its user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// Its part among others of its priority; `None` is its user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    #[serde(default)]
    pub tags: Vec<String>,
    /// Unix milliseconds.
    #[serde(default)]
    pub created_at: i64,
    /// A user has made it for itself, and it goes with that user.
    #[serde(default)]
    pub temporary: bool,
    /// `None` is what the configuration says of everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<KeyPrivacy>,
}

/// What is kept of who calls with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyPrivacy {
    /// No address, no device header and no content, anywhere.
    Strict,
}

fn yes() -> bool {
    true
}

/// Makes a key of 32 random bytes, and a checksum that tells a mistyped key from a wrong one.
pub fn generate() -> NewKey {
    let mut text = String::with_capacity(PREFIX.len() + RANDOM + CHECK);
    text.push_str(PREFIX);
    push_digits(&mut text, rand::random::<[u8; 32]>(), RANDOM);
    let check = crc32fast::hash(text.as_bytes());
    push_digits(&mut text, check.to_be_bytes(), CHECK);
    let secret = Secret::new(text);
    NewKey { digest: Sha256::digest(secret.expose()).into(), hint: secret.hint(), secret }
}

/// Whether this has the form of a key of ours, checksum included.
pub fn looks_like_ours(key: &str) -> bool {
    let Some(random) = key.strip_prefix(PREFIX) else { return false };
    if random.len() != RANDOM + CHECK || !random.bytes().all(|byte| DIGITS.contains(&byte)) {
        return false;
    }
    let Some((body, check)) = key.split_at_checked(key.len() - CHECK) else { return false };
    let mut expected = String::with_capacity(CHECK);
    push_digits(&mut expected, crc32fast::hash(body.as_bytes()).to_be_bytes(), CHECK);
    check == expected
}

/// A new id for a record: 128 random bits, after a word that says of what.
pub fn new_id(kind: &str) -> String {
    let mut id = String::with_capacity(kind.len() + 23);
    id.push_str(kind);
    id.push('_');
    push_digits(&mut id, rand::random::<u128>().to_be_bytes(), 22);
    id
}

/// Whether a key or a user may be called this, or be known by it as an id: counters and rows of usage
/// are kept under ids, and their names are bounded.
pub fn is_sound_name(text: &str) -> bool {
    (1..=LONGEST_NAME).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Appends a number to the base of 62 in `count` digits, the most significant first.
fn push_digits<const N: usize>(text: &mut String, mut number: [u8; N], count: usize) {
    let start = text.len();
    for _ in 0..count {
        let mut rest = 0_u32;
        for byte in &mut number {
            rest = (rest << 8) | u32::from(*byte);
            *byte = u8::try_from(rest / 62).unwrap_or(0);
            rest %= 62;
        }
        let digit = DIGITS.get(rest as usize).copied().unwrap_or(b'0');
        text.insert(start, char::from(digit));
    }
}

impl KeyRecord {
    /// Its digest in bytes; `None` when it is none.
    pub fn digest(&self) -> Option<[u8; 32]> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(&self.digest, &mut bytes).ok()?;
        Some(bytes)
    }

    /// How it stands among others that wait, as far as it says.
    pub fn rank(&self) -> RankGiven {
        RankGiven { priority: self.priority, weight: self.weight }
    }

    /// A copy for eyes and audits: the digest, from which a key of few bits could be guessed, left
    /// out.
    pub fn shown(&self) -> String {
        let shown = Self { digest: String::new(), ..self.clone() };
        serde_json::to_string(&shown).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_key_is_long_random_and_checked() {
        let (a, b) = (generate(), generate());
        assert_ne!(a.secret, b.secret);
        for made in [&a, &b] {
            let text = made.secret.expose();
            assert_eq!(text.len(), PREFIX.len() + RANDOM + CHECK);
            assert!(looks_like_ours(text));
            assert_eq!(made.digest, <[u8; 32]>::from(Sha256::digest(text)));
            assert_eq!(made.hint.chars().count(), 5);
        }
    }

    #[test]
    fn a_mistyped_key_is_told_from_one_of_ours() {
        let made = generate();
        let text = made.secret.expose();
        for place in PREFIX.len()..text.len() {
            let mut mistyped = text.as_bytes().to_vec();
            mistyped[place] = if mistyped[place] == b'x' { b'y' } else { b'x' };
            assert!(!looks_like_ours(std::str::from_utf8(&mistyped).unwrap()), "{place}");
        }
        for other in ["", "sk-fb-", "sk-proj-0123456789", &text[..text.len() - 1], "sk-fb-é"] {
            assert!(!looks_like_ours(other), "{other}");
        }
    }

    #[test]
    fn digits_are_those_of_the_number() {
        let digits = |number: u32, count| {
            let mut text = String::new();
            push_digits(&mut text, number.to_be_bytes(), count);
            text
        };
        assert_eq!(digits(0, 2), "00");
        assert_eq!(digits(61, 2), "0z");
        assert_eq!(digits(62 * 62, 3), "100");
        assert_eq!(digits(u32::MAX, 6).len(), 6);
    }

    #[test]
    fn a_record_needs_little_and_ignores_what_it_does_not_know() {
        let little = r#"{"id":"key_1","name":"a","hint":"…abcd","digest":"00","new_member":1}"#;
        let record: KeyRecord = serde_json::from_str(little).unwrap();
        assert!(record.enabled && record.limits.is_unlimited() && record.digest().is_none());
        assert!(!record.shown().contains("\"00\""));
    }
}
