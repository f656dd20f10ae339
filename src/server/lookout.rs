//! Watches the configuration's files, and listens for SIGHUP.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use log::{info, warn};
use pingora::server::ShutdownWatch;
use pingora::services::ServiceReadyNotifier;
use pingora::services::background::BackgroundService;
use tokio::time::{MissedTickBehavior, interval};

use super::ear::{Ear, Kind};
use super::reload::Reloader;
use super::tireless::tireless;
use crate::config::Stamp;

/// How often the files are looked at. Looking works on every file system, and a switched symlink far
/// up the path is seen like any other change.
const LOOK: Duration = Duration::from_secs(1);

/// Reloads when there is a reason to.
pub struct Lookout {
    pub reloader: Arc<Reloader>,
}

#[async_trait]
impl BackgroundService for Lookout {
    /// Ready once it hears: whoever knows that this process serves may send a signal.
    async fn start_with_ready_notifier(
        &self,
        mut shutdown: ShutdownWatch,
        ready: ServiceReadyNotifier,
    ) {
        let hangup = tokio::sync::Mutex::new(Ear::new(Kind::HangUp));
        ready.notify_ready();
        tokio::select! {
            _told = shutdown.wait_for(|told| *told) => {}
            () = tireless(|| self.watch(&hangup)) => {}
        }
    }
}

impl Lookout {
    async fn watch(&self, hangup: &tokio::sync::Mutex<Ear>) {
        let mut hangup = hangup.lock().await;
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = Stamp::default();
        loop {
            tokio::select! {
                () = hangup.hear() => self.hang_up().await,
                _now = look.tick(), if self.reloader.has_file() => {
                    let (now, news) = self.reloader.look().await;
                    // A file that still changes is being written.
                    if news && now == seen {
                        info!("the configuration's files have changed");
                        let _booked = self.reloader.reload().await;
                    }
                    seen = now;
                }
            }
        }
    }

    async fn hang_up(&self) {
        if self.reloader.has_file() {
            info!("SIGHUP: reloading");
            let _booked = self.reloader.reload().await;
        } else {
            warn!("SIGHUP: there is no configuration file to read again");
        }
    }
}
