//! `forebay mock`: a stand-in LLM server.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use super::cannot_start;
use crate::mock::{Fail, Options};
use crate::server;

#[derive(clap::Args)]
#[group(skip)]
pub struct Arguments {
    /// The port, on loopback
    #[arg(short, long, default_value_t = 9001)]
    port: u16,
    /// The names of its models; others are unknown to it [default: mock, and every other name]
    #[arg(short, long, value_delimiter = ',')]
    models: Vec<String>,
    /// The length of its answers, in tokens
    #[arg(long)]
    tokens: Option<u32>,
    /// Milliseconds before the first byte
    #[arg(long, value_name = "MS", default_value_t = 0)]
    delay: u64,
    /// Milliseconds between the chunks of a stream
    #[arg(long, value_name = "MS", default_value_t = 0)]
    interval: u64,
    /// Fail: a status (`500`), every third time (`429:3`), `hang`, `cut:N` after N chunks, `first-event`
    #[arg(long)]
    fail: Option<Fail>,
    /// A key that callers need
    #[arg(long, env = "FOREBAY_MOCK_KEY", hide_env_values = true)]
    key: Option<String>,
}

pub fn mock(arguments: &Arguments) -> ExitCode {
    let mut options = Options::default();
    if !arguments.models.is_empty() {
        options.models.clone_from(&arguments.models);
        options.strict_models = true;
    }
    options.tokens = arguments.tokens.unwrap_or(options.tokens);
    options.delay = Duration::from_millis(arguments.delay);
    options.interval = Duration::from_millis(arguments.interval);
    options.fail.clone_from(&arguments.fail);
    options.key.clone_from(&arguments.key);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port));
    cannot_start(server::run_mock(address, options))
}
