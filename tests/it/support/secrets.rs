//! Keys that a test uses, and the look at the end of it at all that the gateway has written.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::gateway::ADMIN_KEY;

/// What is shorter stands in a text by chance.
const SHORTEST: usize = 12;
/// Files that a test has written, in which keys are as they should be.
const WRITTEN_BY_TESTS: [&str; 6] = ["yaml", "env", "json", "pem", "crt", "key"];
/// Members of a configuration whose values are secrets.
const SECRET: [&str; 5] = ["key", "api_keys", "password", "secret_access_key", "client_secret"];

static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Notes a key that must be written nowhere.
pub fn note(key: &str) {
    if key.len() >= SHORTEST {
        SEEN.lock().unwrap().insert(key.to_owned());
    }
}

/// Notes the keys of a configuration.
pub fn note_all(yaml: &str) {
    let Ok(whole) = serde_yaml::from_str::<serde_yaml::Value>(yaml) else { return };
    walk(&whole, false);
}

fn walk(value: &serde_yaml::Value, secret: bool) {
    match value {
        serde_yaml::Value::Mapping(map) => {
            for (name, value) in map {
                // The files of a certificate are called so as well.
                let files = name.as_str() == Some("tls");
                let named = name.as_str().is_some_and(|name| SECRET.contains(&name));
                if !files {
                    walk(value, named);
                }
            }
        }
        serde_yaml::Value::Sequence(list) => list.iter().for_each(|value| walk(value, secret)),
        serde_yaml::Value::String(text) if secret && !text.contains('$') => note(text),
        _ => {}
    }
}

/// Everything below a folder that the gateway has written.
pub fn written(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        let ours = path.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            let end = name.rsplit('.').next().unwrap_or_default();
            WRITTEN_BY_TESTS.contains(&end) || name.starts_with("forebay-new")
        });
        if kind.is_dir() {
            found.extend(written(&path));
        } else if kind.is_file() && !ours {
            found.extend(std::fs::read(&path).map(|bytes| (path, bytes)));
        }
    }
    found
}

/// Looks for every key that was used in everything that was written.
#[track_caller]
pub fn look(folder: &Path) {
    let seen = SEEN.lock().unwrap().clone();
    let keys = seen.iter().map(String::as_str).chain([ADMIN_KEY]);
    nowhere(folder, &keys.collect::<Vec<_>>());
}

/// Makes sure that none of these stands in anything that was written.
#[track_caller]
pub fn nowhere(folder: &Path, canaries: &[&str]) {
    for (path, bytes) in written(folder) {
        for canary in canaries {
            if let Some(at) = memchr::memmem::find(&bytes, canary.as_bytes()) {
                let around = bytes.get(at.saturating_sub(200)..(at + 200).min(bytes.len()));
                let around = String::from_utf8_lossy(around.unwrap_or_default()).into_owned();
                panic!("`{canary}` stands in {}:\n{around}", path.display());
            }
        }
    }
}
