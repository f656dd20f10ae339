//! The `keys` section: who may call, and which models.

use std::fmt;

use sha2::{Digest, Sha256};

use super::names::Noun;
use super::read::Value;
use super::{Location, Secret, unbuilt};

/// One caller's key.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// What the caller is called in logs and metrics.
    pub name: String,
    /// SHA-256 of the key; the key itself is not kept.
    pub digest: [u8; 32],
    /// Names and globs (`llama-*`) of the models it may use; `None` is all.
    pub allowed_models: Option<Vec<String>>,
    /// Where it stands in the file.
    pub location: Location,
}

// === impl Key ===

impl fmt::Debug for Key {
    // Without the digest: that of a short key can be guessed from.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, digest: _, allowed_models, location } = self;
        let mut shown = f.debug_struct("Key");
        shown.field("name", name).field("allowed_models", allowed_models);
        shown.field("location", location).finish_non_exhaustive()
    }
}

impl Key {
    pub(super) fn read(value: Value) -> Option<Self> {
        value.section(|s| {
            let name = s.require("name", |v| v.gives(Noun::Key));
            let key = s.read("key", Value::access_key).map(|key| digest(&key));
            let digest = s.read("key_sha256", read_digest);
            let allowed_models = s.read("allowed_models", |v| v.list(Value::name));
            s.read("rate_limit", unbuilt::rate_limit);
            s.read("limits", unbuilt::limits);
            match (s.has("key"), s.has("key_sha256")) {
                (true, true) => s.error("give `key` or `key_sha256`, not both")?,
                (false, false) => s.error("`key` is missing in `keys`")?,
                _ => {}
            }
            let digest = key.or(digest)?;
            Some(Self { name: name?, digest, allowed_models, location: s.location() })
        })?
    }
}

fn digest(key: &Secret) -> [u8; 32] {
    Sha256::digest(key.expose()).into()
}

fn read_digest(value: Value) -> Option<[u8; 32]> {
    let wanted = "the SHA-256 of a key";
    let text = &value.scalar(wanted)?.text;
    let mut bytes = [0; 32];
    if hex::decode_to_slice(text, &mut bytes).is_err() {
        // Not repeated: a hurried hand may have put the key itself here.
        return value.error("`key_sha256` must be 64 hexadecimal digits");
    }
    if bytes == digest(&Secret::new("")) {
        return value.error("`key_sha256` is that of an empty key, which would let everyone in");
    }
    Some(bytes)
}
