//! Forebay as its users see it: the real binary, real sockets, scripted upstreams.
//!
//! Each test starts what it needs on ports of its own and waits for events, never for time.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is the finding"
)]

mod support;

mod bodies;
mod broken_streams;
mod credentials;
mod ejection;
mod failover;
mod fidelity;
mod health;
mod heartbeat;
mod leaving;
mod paths;
mod provider_keys;
mod recorded;
mod refusals;
mod request_ids;
mod retries;
mod stale_connections;
mod streaming;
mod upstream_errors;
