//! The harness: upstreams that misbehave on cue, the gateway as a process, clients in full control.

pub mod answer;
pub mod certificate;
pub mod client;
pub mod databases;
pub mod dialects;
pub mod dns;
pub mod fixture;
pub mod frames;
pub mod gateway;
pub mod http1;
pub mod http2;
pub mod matrix;
pub mod otlp;
pub mod port;
pub mod publisher;
pub mod relay;
pub mod secrets;
pub mod tunnel;
pub mod upstream;
pub mod vault;

use std::time::{Duration, Instant};

/// How long anything may take before it counts as not happening.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// What `future` comes to; panics with `what` when that takes too long.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("{what}: nothing within {PATIENCE:?}"))
}

/// Waits for `found` to find something.
pub async fn eventually<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = found().await {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for `is_so`.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    eventually(what, async || is_so().then_some(())).await;
}
