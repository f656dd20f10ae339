//! Forebay: a gateway in front of LLM servers.
//!
//! The rooms, in the order a request meets them. Each uses only rooms further down
//! (`tests/architecture.rs` holds that).

/// A place where tests make things go wrong: `FAILPOINTS=name=1*panic` in the environment, in the
/// words of the `fail` crate. Release builds have none. Cargo gives its feature to benchmarks too,
/// which measure the gateway and not this.
macro_rules! fault {
    ($($point:tt)*) => {
        #[cfg(debug_assertions)]
        {
            fail::fail_point!($($point)*);
        }
    };
}

/// Who calls, and may they.
pub mod access;
/// Door 2: the control plane.
pub mod admin;
/// What happened: one record for each answered request.
pub mod audit;
/// Which of a provider's replicas takes the next request.
pub mod balance;
/// Arguments to actions.
pub mod cli;
/// What was said: the configuration file.
pub mod config;
/// What was used, and what it costs.
pub mod ledger;
/// A stand-in LLM server.
pub mod mock;
/// The wire formats: bytes in, bytes out.
pub mod protocol;
/// Where and how a provider is called.
pub mod provider;
/// Door 1: the data plane, a request's way through pingora's phases.
pub mod proxy;
/// Names to targets.
pub mod routing;
/// Pingora's server, put together.
pub mod server;
/// A configuration, compiled; what every request reads.
pub mod snapshot;
/// Where records and counts are kept: SQLite or PostgreSQL, and Redis for what several nodes share.
pub mod store;
/// What operators are told.
pub mod telemetry;
