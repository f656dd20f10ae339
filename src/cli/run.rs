//! `forebay run`: serve.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use log::{info, warn};

use super::cannot_start;
use super::check::{compile, load_aloud, read_file};
use crate::config::{Config, Secret, Source, Url};
use crate::server::{self, Given};
use crate::snapshot::Origin;

/// Where a configuration is looked for when none is named.
const PLACES: [&str; 2] = ["forebay.yaml", "/etc/forebay/forebay.yaml"];
/// The upstream of `-a` when none is named.
const OPENAI: &str = "https://api.openai.com/v1";

#[derive(clap::Args)]
#[group(skip)]
pub struct Arguments {
    /// The configuration [default: ./forebay.yaml, then /etc/forebay/forebay.yaml]
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["api_key", "port", "upstream"])]
    config: Option<PathBuf>,
    /// Go to the background
    #[arg(short, long)]
    daemon: bool,
    /// Take the sockets over from a running server
    #[arg(short, long)]
    upgrade: bool,
    /// Only test the configuration
    #[arg(short, long)]
    test: bool,
    /// Front one upstream with this key, without a configuration; a caller's own key goes first
    #[arg(short, long, value_name = "KEY", env = "FOREBAY_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// The port for that, on loopback
    #[arg(short, long)]
    port: Option<u16>,
    /// The upstream for that [default: OpenAI]
    #[arg(long, value_name = "URL")]
    upstream: Option<Url>,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    let Some(given) = configuration(arguments) else { return ExitCode::from(2) };
    if arguments.test {
        return compile(given.config, "the configuration");
    }
    let options = server::Options { daemon: arguments.daemon, upgrade: arguments.upgrade };
    cannot_start(server::run(given, options))
}

/// What to serve; `None` when that has been said to be wrong.
fn configuration(arguments: &Arguments) -> Option<Given> {
    if arguments.port.is_some() || arguments.upstream.is_some() {
        return single(arguments).map(without_file);
    }
    if let Some(path) = find(arguments.config.as_deref()) {
        return read_file(&path);
    }
    if arguments.api_key.is_some() {
        return single(arguments).map(without_file);
    }
    warn!("no configuration: serving the built-in model `mock`; see `forebay run --help`");
    load_aloud(&Source::without_file()).map(without_file)
}

fn without_file(config: Config) -> Given {
    Given { config, origin: Origin::default(), file: None }
}

/// The configuration that is named, or the first that is where one is looked for.
pub fn find(named: Option<&Path>) -> Option<PathBuf> {
    let found = || PLACES.iter().map(Path::new).find(|path| path.exists());
    named.or_else(found).map(Path::to_owned)
}

fn single(arguments: &Arguments) -> Option<Config> {
    let upstream = match &arguments.upstream {
        Some(url) => url.clone(),
        None => OPENAI.parse().ok()?,
    };
    info!("in front of {upstream}");
    let key = arguments.api_key.clone().map(Secret::new);
    Some(Config::single(upstream, key, arguments.port.unwrap_or(8080)))
}
