//! Forebay as its users see it: the real binary, real sockets, scripted upstreams.
//!
//! Each test starts what it needs on ports of its own and waits for events, never for time.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "in a test a panic is the finding, and what the gateway said belongs to it"
)]

mod support;

mod bodies;
mod broken_streams;
mod configuration;
mod cors;
mod credentials;
mod edits;
mod ejection;
mod failover;
mod fidelity;
mod health;
mod heartbeat;
mod leaving;
mod listeners;
mod metrics;
mod paths;
mod privacy;
mod provider_keys;
mod recorded;
mod refusals;
mod request_ids;
mod retries;
mod routing;
mod shutdown;
mod stale_connections;
mod starting;
mod stream_edits;
mod streaming;
mod uploads;
mod upstream_errors;
mod usage;
mod websocket;
mod without_model;
