//! Pingora's own settings, from the keys of the same file, with our defaults.

use std::time::Duration;

use pingora::server::configuration::ServerConf;
use serde_yaml::{Mapping, Value};

use super::Unstartable;
use super::drain::{FAREWELL, GOODBYE, LINGER};
use crate::config::{Config, Retry, Timeouts};

/// Tries pingora may make beyond ours: a dead pooled connection is tried again without counting.
const SPARE_TRIES: usize = 8;

/// Pingora's configuration for `config`.
pub fn pingora(config: &Config) -> Result<ServerConf, Unstartable> {
    let said = |key: &str| config.pingora.contains_key(key);
    let invalid = |error: String| Unstartable::Settings(error);
    let text = serde_yaml::to_string(&with_version(config.pingora.clone()));
    let text = text.map_err(|error| invalid(error.to_string()))?;
    let mut conf = ServerConf::from_yaml(&text).map_err(|error| invalid(error.to_string()))?;
    if !said("threads") {
        conf.threads = std::thread::available_parallelism().map_or(1, usize::from);
    }
    if !said("grace_period_seconds") {
        // Our own drain ends the process before; this is the bound should it not.
        let bound = longest_drain(&config.timeouts);
        conf.grace_period_seconds = Some(bound.saturating_add(2 * (FAREWELL + GOODBYE)).as_secs());
    }
    if !said("graceful_shutdown_timeout_seconds") {
        conf.graceful_shutdown_timeout_seconds = Some(1);
    }
    // Ours are bounded by the configuration in force, which may change.
    conf.max_retries = usize::try_from(Retry::MOST_ATTEMPTS).unwrap_or(1) + SPARE_TRIES;
    Ok(conf)
}

/// How long a stop may take at most.
pub fn longest_drain(timeouts: &Timeouts) -> Duration {
    // It may be asked for late in the drain for a successor.
    timeouts.drain.saturating_add(timeouts.upgrade_drain).saturating_add(LINGER)
}

/// Pingora's configuration for a server that has none.
pub fn plain() -> ServerConf {
    ServerConf {
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    }
}

/// Pingora wants to be told which version of its format it reads.
fn with_version(mut mapping: Mapping) -> Mapping {
    mapping.entry(Value::from("version")).or_insert(Value::from(1));
    mapping
}
