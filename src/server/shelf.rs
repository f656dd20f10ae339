//! Follows the store's providers and models, where the configuration lets the store have some.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use log::warn;
use pingora::server::ShutdownWatch;
use pingora::services::ServiceReadyNotifier;
use pingora::services::background::BackgroundService;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::reload::Reloader;
use super::tireless::tireless;

/// How long what the store adds may keep this process from serving what the file has.
const FIRST: Duration = Duration::from_secs(10);
/// How soon the store is asked again for what could not be put into force.
const AGAIN: Duration = Duration::from_secs(1);

/// Puts what the store adds into force, at the start and whenever it changes.
pub struct Follower {
    pub reloader: Arc<Reloader>,
    /// Tells that records of providers or models have changed.
    pub configured: watch::Receiver<()>,
}

#[async_trait]
impl BackgroundService for Follower {
    /// Ready when what the store adds is in force, and after ten seconds in any case.
    async fn start_with_ready_notifier(
        &self,
        mut shutdown: ShutdownWatch,
        ready: ServiceReadyNotifier,
    ) {
        let first = timeout(FIRST, self.reloader.follow_store(true)).await;
        let begun = matches!(first, Ok(Ok(())));
        if !begun {
            warn!("serving without the providers and models of the store");
        }
        ready.notify_ready();
        tokio::select! {
            _told = shutdown.wait_for(|told| *told) => {}
            () = tireless(|| self.follow(begun)) => {}
        }
    }
}

impl Follower {
    async fn follow(&self, begun: bool) {
        let (mut configured, mut begun, mut behind) = (self.configured.clone(), begun, !begun);
        // What changed before this began has been seen by nobody else.
        configured.mark_changed();
        loop {
            if behind {
                tokio::select! {
                    Ok(()) = configured.changed() => {}
                    () = sleep(AGAIN) => {}
                }
            } else if configured.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            configured.mark_unchanged();
            let followed = self.reloader.follow_store(!begun).await.is_ok();
            (begun, behind) = (begun || followed, !followed);
        }
    }
}
