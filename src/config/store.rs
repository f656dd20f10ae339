//! The `store` section and `redis`: where records and counts are kept.

use std::path::{Path, PathBuf};

use super::read::Value;
use super::{Config, Secret};

/// The folder a package makes for it.
const STATE_FOLDER: &str = "/var/lib/forebay";
const FILE: &str = "forebay.db";
const DATABASES: [&str; 3] = ["sqlite:", "postgres://", "postgresql://"];
const SHORT_PASSPHRASE: usize = 16;

/// Where keys, users, quotas and usage are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Store {
    /// The address of the database, which may hold a password; `None` is the default file.
    pub url: Option<Secret>,
    /// The database holds providers and models as well.
    pub dynamic: bool,
    /// What secrets of providers are encrypted with in the database.
    pub encryption_key: Option<Secret>,
}

// === impl Store ===

impl Store {
    pub(super) fn read(value: Value) -> Option<Self> {
        value.section(|s| Self {
            url: s.read("url", |v| database(v, &DATABASES)),
            dynamic: s.read("dynamic", Value::boolean).unwrap_or_default(),
            encryption_key: s.read("encryption_key", passphrase),
        })
    }

    /// Reads the `redis` section: its `url`.
    pub(super) fn read_redis(value: Value) -> Option<Secret> {
        value.section(|s| s.require("url", |v| database(v, &["redis://", "rediss://"])))?
    }

    /// Whether this text is the address of a database.
    pub(super) fn is_database(url: &str) -> bool {
        DATABASES.iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme))
    }
}

// === impl Config ===

impl Config {
    /// The database to open: the one that was named, or a file when there is a control plane to
    /// fill it. `folder` is where the configuration stands.
    ///
    /// The file is `forebay.db` in `$STATE_DIRECTORY`, else in `/var/lib/forebay` if that can be
    /// written, else in `folder`.
    pub fn store_url(&self, folder: &Path) -> Option<Secret> {
        let named = self.store.as_ref().and_then(|store| store.url.clone());
        let wanted = self.store.is_some() || self.admin.is_some();
        named.or_else(|| wanted.then(|| default_file(self.state_directory.as_deref(), folder)))
    }
}

fn default_file(state: Option<&Path>, folder: &Path) -> Secret {
    Secret::new(format!("sqlite:{}", state_folder(state, folder).join(FILE).display()))
}

/// Where databases are that nobody has named.
pub(super) fn state_folder(state: Option<&Path>, folder: &Path) -> PathBuf {
    let package = Path::new(STATE_FOLDER);
    match state {
        Some(state) => state.to_owned(),
        None if is_writable(package) => package.to_owned(),
        None => std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned()),
    }
}

fn is_writable(folder: &Path) -> bool {
    use nix::unistd::{AccessFlags, access};
    folder.is_dir() && access(folder, AccessFlags::W_OK).is_ok()
}

/// The first folder of systemd's list.
pub(super) fn state_directory(environment: Option<&String>) -> Option<PathBuf> {
    let first = environment?.split(':').next().filter(|folder| !folder.is_empty())?;
    Some(PathBuf::from(first))
}

/// Reads a database's address, which is not repeated: it may hold a password.
fn database(value: Value, schemes: &[&str]) -> Option<Secret> {
    let url = value.secret()?;
    let known = |scheme: &&str| url.expose().starts_with(scheme);
    match schemes.iter().find(|scheme| known(scheme)) {
        Some(scheme) if url.expose().len() == scheme.len() => {
            value.error(format!("`{}` names no database", value.name))
        }
        Some(_) => Some(url),
        None => value.error(format!("`{}` must begin with {}", value.name, schemes.join(" or "))),
    }
}

fn passphrase(value: Value) -> Option<Secret> {
    let key = value.secret()?;
    if key.expose().chars().count() < SHORT_PASSPHRASE {
        let least = format!("`{}` must have at least {SHORT_PASSPHRASE} characters", value.name);
        return value.error(least);
    }
    Some(key)
}
