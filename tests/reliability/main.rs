//! What Forebay promises about staying up, each promise with its figure, measured on the real process.
//!
//! `tools/reliability` runs these one after the other and prints what each measured.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "in a test a panic is the finding, what was measured belongs to it, and \
              its threads and variables are none of the server's"
)]

#[expect(dead_code, reason = "the harness serves the integration tests as well")]
#[path = "../it/support/mod.rs"]
mod support;

mod callers;
mod frames;
mod memory;
mod model;
mod sheet;
mod tool;
mod traffic;

mod failing_replica;
mod handover;
mod http2_floods;
mod outages;
mod overload;
mod retry_storm;
mod slow_clients;
mod stale_connections;
mod stalled_readers;
mod steady_traffic;
