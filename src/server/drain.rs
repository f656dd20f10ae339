//! The way down: no new requests, and an end when the last one under way has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use log::info;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use prometheus::IntGauge;

/// How often the requests under way are counted.
const LOOK: Duration = Duration::from_millis(50);

/// Ends the process once nothing is under way. Pingora alone would sit its whole grace period out,
/// which remains the bound for requests that do not end.
pub struct Drain {
    pub ready: Arc<AtomicBool>,
    pub active: IntGauge,
}

#[async_trait]
impl BackgroundService for Drain {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        if shutdown.changed().await.is_err() || !*shutdown.borrow() {
            return;
        }
        self.ready.store(false, Relaxed);
        info!("draining: {} requests under way", self.active.get());
        let mut look = tokio::time::interval(LOOK);
        while self.active.get() > 0 {
            look.tick().await;
        }
        info!("drained");
        #[expect(
            clippy::disallowed_methods,
            reason = "pingora has no other way to end before its grace period"
        )]
        std::process::exit(0);
    }
}
