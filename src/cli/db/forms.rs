//! Keys and users as a file has them: an export's, or a `forebay.yaml`'s.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::export::MOMENTS;
use crate::access::key::{LONGEST_NAME, is_sound_name};
use crate::access::{KeyPrivacy, KeyRecord, Role, UserRecord};
use crate::config::{Allowance, OnMaxIps, Priority, Rank, RateLimit, Secret};

/// A key as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyForm {
    id: Option<String>,
    name: Option<String>,
    key: Option<String>,
    #[serde(alias = "digest")]
    key_sha256: Option<String>,
    hint: Option<String>,
    user: Option<String>,
    created_by: Option<String>,
    allowed_models: Option<Vec<String>>,
    allowed_providers: Option<Vec<String>>,
    expires_at: Option<i64>,
    #[serde(alias = "is_enabled")]
    enabled: Option<bool>,
    disabled_reason: Option<String>,
    rate_limit: Option<RateLimit>,
    #[serde(default)]
    limits: Allowance,
    priority: Option<Priority>,
    weight: Option<u32>,
    #[serde(default)]
    tags: Vec<String>,
    created_at: Option<i64>,
    #[serde(default)]
    temporary: bool,
    privacy: Option<KeyPrivacy>,
}

/// A user as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserForm {
    id: Option<String>,
    name: Option<String>,
    #[serde(default)]
    role: Role,
    #[serde(alias = "is_enabled")]
    enabled: Option<bool>,
    disabled_reason: Option<String>,
    expires_at: Option<i64>,
    max_ips: Option<u32>,
    on_max_ips: Option<OnMaxIps>,
    allowed_models: Option<Vec<String>>,
    allowed_providers: Option<Vec<String>>,
    rate_limit: Option<RateLimit>,
    #[serde(default)]
    limits: Allowance,
    priority: Option<Priority>,
    weight: Option<u32>,
    #[serde(default)]
    quotas: BTreeMap<String, u64>,
    quota_epoch: Option<u32>,
    #[serde(default)]
    tags: Vec<String>,
    note: Option<String>,
    created_at: Option<i64>,
    purge_at: Option<i64>,
    #[serde(default)]
    addresses: Vec<String>,
}

/// The digest a key is found by, in hexadecimal digits.
pub fn digest_of(item: &Value) -> Option<String> {
    let text = |name: &str| item.get(name).and_then(Value::as_str);
    let given = text("key_sha256").or(text("digest")).map(str::to_ascii_lowercase);
    given.or_else(|| text("key").map(|key| hex::encode(Sha256::digest(key))))
}

/// Reads a key; `before` is the record with its id or digest.
pub fn key(item: Value, before: Option<&KeyRecord>, now: i64) -> Result<KeyRecord, String> {
    let form: KeyForm = read(item)?;
    let digest = match (&form.key, form.key_sha256) {
        (Some(_), Some(_)) => return Err("give `key` or `key_sha256`, not both".to_owned()),
        (Some(key), None) if !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic()) => {
            hex::encode(Sha256::digest(key))
        }
        (Some(_), None) => {
            return Err("`key` holds nothing, or what no header can carry".to_owned());
        }
        (None, Some(digest)) => digest.to_ascii_lowercase(),
        (None, None) => return Err("`key` or `key_sha256` is missing".to_owned()),
    };
    let mut bytes = [0; 32];
    if hex::decode_to_slice(&digest, &mut bytes).is_err() {
        return Err("`key_sha256` must be 64 hexadecimal digits".to_owned());
    }
    if bytes == <[u8; 32]>::from(Sha256::digest("")) {
        return Err("`key_sha256` is that of an empty key".to_owned());
    }
    let id = form.id.or_else(|| before.map(|before| before.id.clone()));
    let id = id.unwrap_or_else(|| format!("key_{}", digest.get(..22).unwrap_or_default()));
    let name = name(form.name, &id)?;
    globs(form.allowed_models.as_deref())?;
    globs(form.allowed_providers.as_deref())?;
    weight(form.weight)?;
    let enabled = form.enabled.unwrap_or(true);
    let hint = form.hint.or_else(|| form.key.map(|key| Secret::new(key).hint()));
    Ok(KeyRecord {
        hint: hint
            .or_else(|| before.map(|before| before.hint.clone()))
            .unwrap_or_else(|| "…".to_owned()),
        user: form.user,
        created_by: form
            .created_by
            .or_else(|| before.map(|it| it.created_by.clone()))
            .unwrap_or_else(|| "import".to_owned()),
        allowed_models: form.allowed_models,
        allowed_providers: form.allowed_providers,
        expires_at: form.expires_at,
        enabled,
        disabled_reason: form.disabled_reason.filter(|_| !enabled).or_else(|| disabled(enabled)),
        rate_limit: form.rate_limit,
        limits: form.limits,
        priority: form.priority,
        weight: form.weight,
        tags: form.tags,
        created_at: form.created_at.or(before.map(|before| before.created_at)).unwrap_or(now),
        temporary: form.temporary,
        privacy: form.privacy,
        id,
        name,
        digest,
    })
}

/// Reads a user; `before` is the record with its id or name.
pub fn user(item: Value, before: Option<&UserRecord>, now: i64) -> Result<UserRecord, String> {
    let form: UserForm = read(item)?;
    let id =
        form.id.or_else(|| before.map(|before| before.id.clone())).or_else(|| form.name.clone());
    let id = id.ok_or("`id` or `name` is missing")?;
    let name = name(form.name, &id)?;
    globs(form.allowed_models.as_deref())?;
    globs(form.allowed_providers.as_deref())?;
    weight(form.weight)?;
    let enabled = form.enabled.unwrap_or(true);
    Ok(UserRecord {
        role: form.role,
        enabled,
        disabled_reason: form.disabled_reason.filter(|_| !enabled).or_else(|| disabled(enabled)),
        expires_at: form.expires_at,
        max_ips: form.max_ips,
        on_max_ips: form.on_max_ips,
        allowed_models: form.allowed_models,
        allowed_providers: form.allowed_providers,
        rate_limit: form.rate_limit,
        limits: form.limits,
        priority: form.priority,
        weight: form.weight,
        quotas: form.quotas,
        quota_epoch: form.quota_epoch.or(before.map(|before| before.quota_epoch)).unwrap_or(0),
        tags: form.tags,
        note: form.note,
        created_at: form.created_at.or(before.map(|before| before.created_at)).unwrap_or(now),
        purge_at: form.purge_at,
        addresses: form.addresses,
        id,
        name,
    })
}

fn weight(weight: Option<u32>) -> Result<(), String> {
    if weight.is_none_or(|weight| (1..=Rank::MOST_WEIGHT).contains(&weight)) {
        return Ok(());
    }
    Err(format!("`weight` must be a whole number from 1 to {}", Rank::MOST_WEIGHT))
}

fn disabled(enabled: bool) -> Option<String> {
    (!enabled).then(|| "disabled by an operator".to_owned())
}

fn read<T: serde::de::DeserializeOwned>(item: Value) -> Result<T, String> {
    let Value::Object(mut members) = item else { return Err("must be a map".to_owned()) };
    if let Some(expires) = members.remove("expires") {
        members.insert("expires_at".to_owned(), expires);
    }
    moments(&mut members)?;
    // Values are not repeated: a key may stand in the wrong place.
    serde_json::from_value(Value::Object(members)).map_err(|error| {
        let said = error.to_string();
        match (said.find('"'), said.rfind('"')) {
            (Some(from), Some(to)) if to > from => {
                format!(
                    "{}…{}",
                    said.get(..from).unwrap_or_default(),
                    said.get(to + 1..).unwrap_or_default()
                )
            }
            _ => said,
        }
    })
}

fn moments(members: &mut Map<String, Value>) -> Result<(), String> {
    for name in MOMENTS {
        let Some(text) = members.get(name).and_then(Value::as_str) else { continue };
        let moment = text.parse::<Timestamp>().ok().or_else(|| {
            let date = text.parse::<Date>().ok()?;
            Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
        });
        let moment =
            moment.ok_or_else(|| format!("`{name}` must be a date or a moment as in RFC 3339"))?;
        members.insert(name.to_owned(), json!(moment.as_millisecond()));
    }
    Ok(())
}

fn name(given: Option<String>, id: &str) -> Result<String, String> {
    if !is_sound_name(id) || id.contains('/') {
        return Err(format!("an id has 1 to {LONGEST_NAME} bytes, and no slash"));
    }
    let name = given.unwrap_or_else(|| id.to_owned());
    let sound = is_sound_name(&name);
    sound.then_some(name).ok_or_else(|| format!("a name has 1 to {LONGEST_NAME} bytes"))
}

fn globs(globs: Option<&[String]>) -> Result<(), String> {
    if globs.unwrap_or_default().iter().any(|glob| glob.trim().is_empty()) {
        return Err("an empty name among those allowed".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_file_is_known_by_its_digest() {
        let item = json!({"name": "a", "key": "fake-key-of-somebody-1", "expires": "2030-01-31"});
        let made = key(item.clone(), None, 5).unwrap();
        assert_eq!(Some(made.digest.clone()), digest_of(&item));
        assert_eq!((made.hint.as_str(), made.created_at), ("…dy-1", 5));
        assert_eq!(made.expires_at, Some(1_896_048_000_000));
        assert!(made.id.starts_with("key_") && made.enabled);
        let again = json!({"name": "a", "key_sha256": made.digest.to_uppercase(), "expires_at": 1_896_048_000_000_i64});
        assert_eq!(key(again, Some(&made), 9).unwrap(), made);
    }

    #[test]
    fn mistakes_are_told_without_values() {
        for (item, said) in [
            (json!({"name": "a"}), "`key` or `key_sha256` is missing"),
            (json!({"name": "a", "key": ""}), "`key` holds nothing"),
            (json!({"name": "a", "key_sha256": "abc"}), "64 hexadecimal digits"),
            (
                json!({"name": "a", "key": "fake-key-1", "enabled": "fake-key-2"}),
                "invalid type: string …, expected",
            ),
            (json!({"name": "a", "key": "fake-key-1", "colour": 1}), "unknown field `colour`"),
            (json!({"name": "", "key": "fake-key-1"}), "a name has"),
            (json!({"name": "a", "key": "fake-key-1", "expires": "soon"}), "`expires_at` must be"),
            (json!([]), "must be a map"),
        ] {
            let why = key(item, None, 0).unwrap_err();
            assert!(why.contains(said) && !why.contains("fake"), "{why}");
        }
    }
}
