//! The way down: no new requests, and an end when the last one under way has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use log::{info, warn};
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use prometheus::IntGauge;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How often the requests under way are counted.
const LOOK: Duration = Duration::from_millis(50);

/// How long a stream may take to write its last event.
pub const FAREWELL: Duration = Duration::from_secs(2);

/// Ends the process once nothing is under way. Pingora alone would sit its whole grace period out,
/// which remains the bound for requests that do not end.
pub struct Drain {
    pub ready: Arc<AtomicBool>,
    pub active: IntGauge,
    /// How long requests under way may take to end.
    pub deadline: Duration,
    /// Tells streams that they must end.
    pub cut: watch::Sender<bool>,
}

#[async_trait]
impl BackgroundService for Drain {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        if until_told(&mut shutdown).await.is_err() {
            return;
        }
        self.ready.store(false, Relaxed);
        info!("draining: {} requests under way", self.active.get());
        if tokio::time::timeout(self.deadline, self.until_idle()).await.is_err() {
            warn!("{} requests do not end: streams are told so", self.active.get());
            self.cut.send_replace(true);
            let _told = tokio::time::timeout(FAREWELL, self.until_idle()).await;
        }
        info!("drained");
        #[expect(
            clippy::disallowed_methods,
            reason = "pingora has no other way to end before its grace period"
        )]
        std::process::exit(0);
    }
}

impl Drain {
    async fn until_idle(&self) {
        let mut look = tokio::time::interval(LOOK);
        while self.active.get() > 0 {
            look.tick().await;
        }
    }
}

/// Waits for the shutdown. A hang-up, which ends a process that does not listen for it, is none.
async fn until_told(shutdown: &mut ShutdownWatch) -> Result<(), watch::error::RecvError> {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        return shutdown.wait_for(|told| *told).await.map(drop);
    };
    loop {
        tokio::select! {
            told = shutdown.wait_for(|told| *told) => return told.map(drop),
            _ = hangup.recv() => warn!("SIGHUP: this version does not reload its configuration"),
        }
    }
}
