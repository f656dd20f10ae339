//! The command line: one file per subcommand.

mod check;
mod client;
mod db;
mod health;
mod import;
mod key;
mod mock;
mod record;
mod run;
mod status;
mod upgrade;
mod usage;
mod user;

use std::convert::Infallible;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use fail::FailScenario;

use crate::server::Unstartable;

/// A gateway in front of LLM servers.
#[derive(Parser)]
#[command(
    name = "forebay",
    version,
    about,
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::Arguments,
}

#[derive(Subcommand)]
enum Command {
    /// Serve (what is done without a subcommand)
    Run(run::Arguments),
    /// Validate a configuration: every mistake, with its place and a hint
    Check(check::Arguments),
    /// Hand a running server's sockets to a new process; returns when that one serves
    Upgrade(upgrade::Arguments),
    /// Ask the server on this machine whether it is ready
    Health(health::Arguments),
    /// The running server on one screen: models, replicas, health, keys
    Status(status::Arguments),
    /// Keys of the store: made, shown, changed, revoked
    Key(key::Arguments),
    /// Users of the store, and their quotas
    User(user::Arguments),
    /// What was used: requests, tokens and money, by hour, day, month, key, user, model, provider
    Usage(usage::Arguments),
    /// Print another gateway's configuration as a `forebay.yaml`; list what has no equivalent
    Import(import::Arguments),
    /// The store: its schema
    Db(db::Arguments),
    /// A stand-in LLM server, for trying things out and for tests
    Mock(mock::Arguments),
    /// Print a completion script for a shell
    Completions { shell: clap_complete::Shell },
}

/// Reads the arguments and does what they say. Exit codes: 0 fine, 1 failed, 2 wrong usage or
/// configuration.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log();
    // What tests make go wrong; a release build has no such points, and does not look.
    let _faults = (cfg!(debug_assertions) && fail::has_failpoints()).then(FailScenario::setup);
    match arguments.command.unwrap_or(Command::Run(arguments.run)) {
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Upgrade(arguments) => upgrade::upgrade(&arguments),
        Command::Health(arguments) => health::health(&arguments),
        Command::Status(arguments) => status::status(&arguments),
        Command::Key(arguments) => key::key(&arguments),
        Command::User(arguments) => user::user(&arguments),
        Command::Usage(arguments) => usage::usage(&arguments),
        Command::Import(arguments) => import::import(&arguments),
        Command::Db(arguments) => db::db(&arguments),
        Command::Mock(arguments) => mock::mock(&arguments),
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "forebay", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
    }
}

/// `RUST_LOG` as usual, but never below info: pingora's debug lines print request headers, and with
/// them keys.
fn start_log() {
    let environment = env_logger::Env::default().default_filter_or("warn,forebay=info");
    env_logger::Builder::from_env(environment).init();
    log::set_max_level(log::max_level().min(log::LevelFilter::Info));
}

/// Says why a server did not start. What cannot be used is a mistake in the configuration; an
/// address that is taken is not.
fn cannot_start(why: Result<Infallible, Unstartable>) -> ExitCode {
    let Err(error) = why;
    complain(format_args!("cannot start: {error}"));
    match error {
        Unstartable::Address { .. }
        | Unstartable::Metrics(_)
        | Unstartable::Running(_)
        | Unstartable::Predecessor { .. } => ExitCode::FAILURE,
        _ => ExitCode::from(2),
    }
}

/// Says what is wrong, on standard error.
#[expect(clippy::print_stderr, reason = "this is where the command line talks")]
fn complain(what: impl std::fmt::Display) {
    eprintln!("{what}");
}
