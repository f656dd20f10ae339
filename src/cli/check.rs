//! `forebay check`: every mistake of a configuration, with its place and a hint.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::complain;
use crate::config::{Config, Problems, Source, load};
use crate::server::{self, ConfigFile, Given};
use crate::snapshot::Origin;

#[derive(clap::Args)]
#[group(skip)]
pub struct Arguments {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = "forebay.yaml")]
    config: PathBuf,
}

pub fn check(arguments: &Arguments) -> ExitCode {
    let Some(config) = read(&arguments.config) else { return ExitCode::from(2) };
    compile(config, &arguments.config.display().to_string())
}

/// Finds what only shows when a configuration is put together: files, headers, certificates.
pub fn compile(config: Config, name: &str) -> ExitCode {
    match server::check(config) {
        Ok(()) => {
            complain(format_args!("{name}: fine"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(format_args!("{name}: error: {error}"));
            ExitCode::from(2)
        }
    }
}

/// Reads a configuration and prints what is wrong with it; `None` when it cannot be used.
pub fn read(path: &Path) -> Option<Config> {
    read_file(path).map(|given| given.config)
}

/// … to be served, and read again.
pub fn read_file(path: &Path) -> Option<Given> {
    let file = ConfigFile::note(path);
    let source =
        Source::read(path).map_err(|error| complain(Problems::unreadable(path, &error))).ok()?;
    let config = load_aloud(&source)?;
    Some(Given { config, origin: Origin::of(&source.text), file: Some(file) })
}

/// Loads a configuration and prints what is wrong with it; `None` when it cannot be used.
pub fn load_aloud(source: &Source) -> Option<Config> {
    let (config, problems) = match load(source) {
        Ok((config, warnings)) => (Some(config), warnings),
        Err(problems) => (None, problems),
    };
    if !problems.is_empty() {
        complain(Problems::new(source.path.as_deref(), problems));
    }
    config
}
