//! `forebay upgrade`: a new process takes a running server's place.

use std::path::PathBuf;
use std::process::ExitCode;

use super::check::read;
use super::complain;
use super::run::find;
use crate::server::{self, find_control};

#[derive(clap::Args)]
#[group(skip)]
pub struct Arguments {
    /// The running server's configuration [default: ./forebay.yaml, then /etc/forebay/forebay.yaml]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The new binary [default: the path the running server was started from]
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Returns when the new process serves, or the old one goes on.
pub fn upgrade(arguments: &Arguments) -> ExitCode {
    // A file that the new process could not read is better known now, with all its mistakes.
    let Some(path) = find(arguments.config.as_deref()) else {
        complain("no configuration: `-c` names the running server's");
        return ExitCode::from(2);
    };
    let Some(config) = read(&path) else { return ExitCode::from(2) };
    let Some(control) = find_control(config.upgrade_sock()) else {
        complain("no server to upgrade: `upgrade_sock` in the configuration names its socket");
        return ExitCode::from(2);
    };
    let binary = arguments.binary.as_ref().map(std::path::absolute).transpose();
    let upgraded = match binary {
        Ok(binary) => server::upgrade(&control, binary).map_err(|refused| refused.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match upgraded {
        Ok(pid) => {
            complain(format_args!("process {pid} serves"));
            ExitCode::SUCCESS
        }
        Err(why) => {
            complain(format_args!("not upgraded: {why}"));
            ExitCode::FAILURE
        }
    }
}
