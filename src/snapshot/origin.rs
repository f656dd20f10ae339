//! Where a configuration came from, and how the last attempt to replace it ended.

use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use sha2::{Digest as _, Sha256};

/// Digits of a version: enough to tell the files of one installation apart.
const DIGITS: usize = 12;

/// Where a configuration came from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The beginning of the file's SHA-256, as `sha256sum` shows it; `None` without a file.
    pub version: Option<String>,
    pub loaded_at: SystemTime,
    /// What the file says and only an upgrade puts into force.
    pub waiting: Vec<String>,
}

/// The last attempt to replace the configuration; `None` before the first.
pub type LastReload = ArcSwapOption<Reload>;

/// One attempt to replace the configuration.
#[derive(Clone, Debug)]
pub struct Reload {
    pub at: SystemTime,
    /// Why it failed, a line for each mistake; empty when it did not.
    pub mistakes: Vec<String>,
}

impl Origin {
    /// A file with this text, read now.
    pub fn of(text: &str) -> Self {
        let mut version = hex::encode(Sha256::digest(text));
        version.truncate(DIGITS);
        Self { version: Some(version), ..Self::default() }
    }
}

impl Default for Origin {
    fn default() -> Self {
        Self { version: None, loaded_at: SystemTime::now(), waiting: Vec::new() }
    }
}
