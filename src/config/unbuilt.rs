//! What the contract names and this version does not do: read for mistakes, then said to do nothing.

use super::Problem;
use super::read::{Section, Value};

/// Refuses a choice that this version does not have.
pub(super) fn refuse(value: Value) {
    let chosen = value.node.as_text().unwrap_or_default();
    let message = format!("`{}: {chosen}` is not supported by this version", value.name);
    value.findings.report(Problem::error(value.location(), message));
}

/// Says that a setting changes nothing.
pub(super) fn warn(value: Value) {
    value.warn(format!("`{}` has no effect in this version", value.name));
}

/// The `store` section.
pub(super) fn store(value: Value) -> Option<()> {
    read(value, |s| {
        s.require("url", |v| database(v, &["sqlite:", "postgres://", "postgresql://"]));
        s.read("dynamic", Value::boolean);
    })
}

/// The `redis` section.
pub(super) fn redis(value: Value) -> Option<()> {
    read(value, |s| {
        s.require("url", |v| database(v, &["redis://", "rediss://"]));
    })
}

/// The `audit` section.
pub(super) fn audit(value: Value) -> Option<()> {
    read(value, |s| {
        s.read("enabled", Value::boolean);
        s.read("content", |v| v.one_of(&[("none", ()), ("metadata", ()), ("full", ())]));
        s.read("rotate", |v| v.one_of(&[("daily", ()), ("monthly", ()), ("never", ())]));
        s.read("retention", |v| v.number(0, 10_000));
        s.read("store", |v| database(v, &["sqlite:", "postgres://", "postgresql://"]));
    })
}

/// `translation`, of all models or of one.
pub(super) fn translation(value: Value) -> Option<()> {
    warn(value);
    value.one_of(&[("lenient", ()), ("strict", ())])
}

/// The `rate_limit` of a key.
pub(super) fn rate_limit(value: Value) -> Option<()> {
    read(value, |s| {
        s.read("requests_per_second", count);
        s.read("burst_size", count);
    })
}

/// The `limits` of a key.
pub(super) fn limits(value: Value) -> Option<()> {
    read(value, |s| {
        s.read("requests_per_minute", count);
        s.read("tokens_per_minute", count);
        s.read("max_concurrent", count);
        s.read("max_ips", count);
    })
}

fn read(value: Value, keys: impl FnOnce(&mut Section)) -> Option<()> {
    warn(value);
    value.section(keys)
}

fn count(value: Value) -> Option<u64> {
    value.number(0, u64::from(u32::MAX))
}

/// Reads a database's address, which is not repeated: it may hold a password.
fn database(value: Value, schemes: &[&str]) -> Option<()> {
    let url = value.secret()?;
    if !schemes.iter().any(|scheme| url.expose().starts_with(scheme)) {
        return value.error(format!("`{}` must begin with {}", value.name, schemes.join(" or ")));
    }
    Some(())
}
