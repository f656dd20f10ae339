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

mod abuse;
mod abuse_content;
mod access_log;
mod admin_api;
mod admin_authorization;
mod admin_concurrency;
mod admin_dynamic;
mod admin_seeds;
mod admission;
mod affinity;
mod audit;
mod bodies;
mod broken_streams;
mod canaries;
mod cli_db;
mod cli_keys;
mod cli_status;
mod cloud_logins;
mod configuration;
mod cors;
mod credentials;
mod crowds;
mod default_deny;
mod deployment;
mod dialects_asks;
mod dialects_calls;
mod dialects_clouds;
mod dialects_edits;
mod dialects_errors;
mod dialects_failover;
mod dialects_keys;
mod dialects_usage;
mod dialects_words;
mod discovery;
mod discovery_kubernetes;
mod drain_http1;
mod drain_http2;
mod drain_streams;
mod drain_websocket;
mod edge;
mod edits;
mod ejection;
mod encrypted_upstreams;
mod failover;
mod faults;
mod fidelity;
mod framing;
mod h2_floods;
mod health;
mod heartbeat;
mod import;
mod keys;
mod kv_events;
mod leaving;
mod limits;
mod limits_requests;
mod limits_tokens;
mod listeners;
mod me;
mod metrics;
mod nodes;
mod objects;
mod objects_remembered;
mod outages;
mod paths;
mod privacy;
mod provider_keys;
mod provider_keys_disabled;
mod provider_keys_limits;
mod quotas;
mod recorded;
mod refusals;
mod reload;
mod reload_causes;
mod reload_refused;
mod request_ids;
mod responses_kept;
mod retries;
mod routing;
mod shutdown;
mod slow_callers;
mod stale_connections;
mod starting;
mod strange_callers;
mod strange_upstreams;
mod stream_edits;
mod streaming;
mod strict_json;
mod systemd;
mod temporary_keys;
mod temporary_users;
mod tracing;
mod upgrade;
mod upgrade_limits;
mod uploads;
mod upstream_errors;
mod usage;
mod usage_sums;
mod websocket;
mod without_model;
