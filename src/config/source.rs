//! What a configuration is read from: the file's text, and the environment around it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::{dotenv, tree};

/// What is outside the file and takes part: environment variables, `.env`, and the file's path.
#[derive(Clone, Default)]
pub struct Source {
    /// The file, when there is one.
    pub path: Option<PathBuf>,
    /// Its text.
    pub text: String,
    /// Environment variables; the process's own win over those of `.env`.
    pub environment: BTreeMap<String, String>,
    /// What the database has besides the file.
    pub dynamic: Vec<Dynamic>,
}

/// One item that is kept in the database instead of the file.
#[derive(Clone)]
pub struct Dynamic {
    /// The section it belongs to: `providers` or `models`.
    pub section: &'static str,
    /// What the database calls it.
    pub id: String,
    /// The item, in JSON or YAML, as it would stand in the section's list.
    pub text: String,
}

/// What is read when there is no file: the built-in mock model, on loopback.
const NO_FILE: &str = "\
providers: [{ name: mock, kind: mock }]
models: [{ name: mock, targets: [{ provider: mock }] }]
";

// === impl Source ===

impl Source {
    /// Stands in for a file that is not there; the process's environment takes part all the same.
    pub fn without_file() -> Self {
        let environment = process_environment().collect();
        Self { text: NO_FILE.to_owned(), environment, ..Self::default() }
    }

    /// Reads the file, `.env` beside it, and the process's environment.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = read_text(path)?;
        let mut environment = read_dotenv(&path.with_file_name(".env"))?;
        environment.extend(process_environment());
        Ok(Self { path: Some(path.to_owned()), text, environment, dynamic: Vec::new() })
    }
}

impl std::fmt::Debug for Source {
    // The environment holds secrets, and so may the text.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("path", &self.path).finish_non_exhaustive()
    }
}

fn process_environment() -> impl Iterator<Item = (String, String)> {
    // A variable that is not UTF-8 can be named in no file; `std::env::vars` would panic at it.
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text)
}

fn read_dotenv(path: &Path) -> io::Result<BTreeMap<String, String>> {
    let text = match read_text(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
        text => text?,
    };
    let variables = dotenv::parse(&text).map_err(|mistake| invalid(path, &mistake))?;
    Ok(variables.into_iter().collect())
}

/// Reads a text of bounded size: a path such as `/dev/zero` must not fill the memory.
pub(crate) fn read_text(path: &Path) -> io::Result<String> {
    let named = |error: io::Error| invalid_kind(error.kind(), path, &error.to_string());
    let file = File::open(path).map_err(named)?;
    let mut bytes = Vec::new();
    file.take(tree::MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(named)?;
    if bytes.len() > tree::MAX_BYTES {
        return Err(invalid(path, "larger than 4 MiB"));
    }
    String::from_utf8(bytes).map_err(|_| invalid(path, "not UTF-8 text"))
}

fn invalid(path: &Path, mistake: &str) -> io::Error {
    invalid_kind(ErrorKind::InvalidData, path, mistake)
}

fn invalid_kind(kind: ErrorKind, path: &Path, mistake: &str) -> io::Error {
    io::Error::new(kind, format!("{}: {mistake}", path.display()))
}
