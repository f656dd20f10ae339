//! `forebay check`: every mistake of a configuration, with its place and a hint.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::complain;
use crate::config::{Config, Problems, Source, load};
use crate::server;

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
    let source = Source::read(path)
        .map_err(|error| complain(format_args!("cannot read {}: {error}", path.display())))
        .ok()?;
    load_aloud(&source)
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
