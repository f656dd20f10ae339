//! `forebay health`: is the server on this machine ready? For containers without a shell.

use std::path::PathBuf;
use std::process::ExitCode;

use super::check::{load_aloud, read};
use super::complain;
use super::run::find;
use crate::config::{Source, Url};
use crate::server;

#[derive(clap::Args)]
#[group(skip)]
pub struct Arguments {
    /// The server's configuration, for its address [default: ./forebay.yaml, then
    /// /etc/forebay/forebay.yaml]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What to ask instead
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    url: Option<Url>,
}

pub fn health(arguments: &Arguments) -> ExitCode {
    let Some(url) = arguments.url.clone().or_else(|| configured(arguments)) else {
        return ExitCode::from(2);
    };
    match server::probe(&url) {
        Ok(()) => {
            complain(format_args!("{url}: ready"));
            ExitCode::SUCCESS
        }
        Err(why) => {
            complain(format_args!("{url}: not ready: {why}"));
            ExitCode::FAILURE
        }
    }
}

/// Where the configured server listens; `None` when the configuration has been said to be wrong.
fn configured(arguments: &Arguments) -> Option<Url> {
    let config = match find(arguments.config.as_deref()) {
        Some(path) => read(&path),
        None => load_aloud(&Source::without_file()),
    }?;
    server::address(&config.listen)
}
