//! What the contract names and this version does not do: read for mistakes, then said to do nothing.

use super::Store;
use super::read::{Section, Value};

/// Says that a setting changes nothing.
fn warn(value: Value) {
    value.warn(format!("`{}` has no effect in this version", value.name));
}

/// The `audit` section.
pub(super) fn audit(value: Value) -> Option<()> {
    read(value, |s| {
        s.read("enabled", Value::boolean);
        s.read("content", |v| v.one_of(&[("none", ()), ("metadata", ()), ("full", ())]));
        s.read("rotate", |v| v.one_of(&[("daily", ()), ("monthly", ()), ("never", ())]));
        s.read("retention", |v| v.number(0, 10_000));
        s.read("store", database);
    })
}

fn read(value: Value, keys: impl FnOnce(&mut Section)) -> Option<()> {
    warn(value);
    value.section(keys)
}

/// Reads a database's address, which is not repeated: it may hold a password.
fn database(value: Value) -> Option<()> {
    let url = value.secret()?;
    if !Store::is_database(url.expose()) {
        return value.error(format!("`{}` must be the address of a database", value.name));
    }
    Some(())
}
