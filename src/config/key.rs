//! The `keys` section: who may call, and which models.

use std::fmt;

use sha2::{Digest, Sha256};

use super::names::Noun;
use super::read::Value;
use super::{
    Allowance, AuditContent, Location, Priority, Privacy, Rank, RankGiven, RateLimit, Secret,
};

/// One caller's key.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// What the caller is called in logs and metrics.
    pub name: String,
    /// SHA-256 of the key; the key itself is not kept.
    pub digest: [u8; 32],
    /// Names and globs (`llama-*`) of the models it may use; `None` is all.
    pub allowed_models: Option<Vec<String>>,
    /// Names and globs of the providers it may use; `None` is all.
    pub allowed_providers: Option<Vec<String>>,
    /// Whose it is: any text, for people.
    pub user: Option<String>,
    /// From when on it is refused, in Unix milliseconds.
    pub expires_at: Option<i64>,
    /// Whether it is let in at all.
    pub enabled: bool,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// How quickly its requests may follow each other; `None` is unlimited.
    pub rate_limit: Option<RateLimit>,
    /// What it may use.
    pub limits: Allowance,
    /// What of its calls' content is written down, unless a model keeps less.
    pub content: Option<AuditContent>,
    /// `privacy: strict` holds for its requests.
    pub strict: bool,
    /// How it stands among others that wait for a replica.
    pub rank: RankGiven,
    /// Where it stands in the file.
    pub location: Location,
}

// === impl Key ===

impl fmt::Debug for Key {
    // Without the digest: that of a short key can be guessed from.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Key");
        shown.field("name", &self.name).field("allowed_models", &self.allowed_models);
        shown.field("enabled", &self.enabled).field("rate_limit", &self.rate_limit);
        shown.field("limits", &self.limits).field("location", &self.location);
        shown.finish_non_exhaustive()
    }
}

impl Key {
    pub(super) fn read(value: Value) -> Option<Self> {
        value.section(|s| {
            let name = s.require("name", |v| v.gives(Noun::Key));
            let key = s.read("key", Value::access_key).map(|key| digest(&key));
            let digest = s.read("key_sha256", read_digest);
            let allowed_models = s.read("allowed_models", |v| v.list(Value::glob));
            let allowed_providers = s.read("allowed_providers", |v| v.list(provider));
            let user = s.read("user", Value::name);
            let expires_at = s.read("expires", Value::moment);
            let enabled = s.read("enabled", Value::boolean).unwrap_or(true);
            let tags = s.read("tags", |v| v.list(Value::name)).unwrap_or_default();
            let rate_limit = s.read("rate_limit", RateLimit::read);
            let limits = s.read("limits", Allowance::read).unwrap_or_default();
            let content = s.read("content", AuditContent::read);
            let strict = s.read("privacy", Privacy::read_strict).unwrap_or_default();
            let priority = s.read("priority", Priority::read);
            let weight = s.read("weight", |v| v.number(1, Rank::MOST_WEIGHT));
            match (s.has("key"), s.has("key_sha256")) {
                (true, true) => s.error("give `key` or `key_sha256`, not both")?,
                (false, false) => s.error("`key` is missing in `keys`")?,
                _ => {}
            }
            let digest = key.or(digest)?;
            Some(Self {
                name: name?,
                digest,
                allowed_models,
                allowed_providers,
                user,
                expires_at,
                enabled,
                tags,
                rate_limit,
                limits,
                content,
                strict,
                rank: RankGiven { priority, weight },
                location: s.location(),
            })
        })?
    }
}

/// Reads a provider's name, which must be known, or a glob.
fn provider(value: Value) -> Option<String> {
    if value.node.as_text().is_some_and(|text| text.contains('*')) {
        return value.glob();
    }
    value.seeks(Noun::Provider)
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
