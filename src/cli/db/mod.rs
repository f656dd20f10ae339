//! `forebay db`: the store of a configuration.

mod export;
mod forms;
mod import;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use super::{check, complain};
use crate::server::{ConfigFile, Given};
use crate::store::{Store, StoreError};

#[derive(clap::Args)]
#[group(skip)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Bring the store's schema up to date (a start does so too) and say which one it is
    Migrate(Migrate),
    /// Print what the store holds as YAML: users, keys (their digests), providers and models
    Export(export::Arguments),
    /// Bring users, keys, providers and models of a file into the store
    Import(import::Arguments),
}

#[derive(clap::Args)]
#[group(skip)]
struct Migrate {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = "forebay.yaml")]
    config: PathBuf,
}

pub fn db(arguments: &Arguments) -> ExitCode {
    match &arguments.action {
        Action::Migrate(migrate) => with_store(&migrate.config, async |store| {
            complain(format_args!("schema {}", store.schema().await?));
            Ok(())
        }),
        Action::Export(arguments) => export::export(arguments),
        Action::Import(arguments) => import::import(arguments),
    }
}

/// Does something with the store of a configuration, on a runtime of its own.
fn with_store(config: &Path, work: impl AsyncFnOnce(&Store) -> Result<(), StoreError>) -> ExitCode {
    let Some(Given { config, file, .. }) = check::read_file(config) else {
        return ExitCode::from(2);
    };
    let here = std::env::current_dir().unwrap_or_default();
    let Some(url) = config.store_url(file.as_ref().map_or(&here, ConfigFile::folder)) else {
        complain(
            "this configuration has no store: add `store: {}` for a file of its own, or a `url`",
        );
        return ExitCode::from(2);
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format_args!("no runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(async {
        let store = Store::open(&url).await?;
        let done = work(&store).await;
        store.close().await;
        done
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error);
            ExitCode::FAILURE
        }
    }
}
