//! The audit's clerk, for as long as the process lives; another one when the configuration wants that.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::sync::{Mutex, watch};

use super::tireless::tireless;
use crate::audit::{Audit, Clerk, ClerkGiven};
use crate::config::Config;
use crate::snapshot::Snapshot;

/// The service.
pub struct Clerks {
    pub audit: Arc<Audit>,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Tells that another configuration is in force.
    pub swapped: watch::Receiver<()>,
    /// Where the configuration stands.
    pub folder: PathBuf,
}

#[async_trait]
impl BackgroundService for Clerks {
    /// It goes on to the end of the process: what is under way is still to be written down.
    async fn start(&self, _shutdown: ShutdownWatch) {
        let Some(orders) = self.audit.orders() else { return };
        let orders = Mutex::new(orders);
        let mut swapped = self.swapped.clone();
        loop {
            swapped.mark_unchanged();
            let given = self.given(&self.snapshot.load().config);
            self.audit.set_enabled(given.is_some());
            let changed = async {
                while self.given(&self.snapshot.load().config) == given {
                    if swapped.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
            };
            let Some(given) = given.clone() else {
                changed.await;
                continue;
            };
            let stop = watch::Sender::new(false);
            let clerk = Clerk::new(&self.audit, given);
            let work = tireless(|| clerk.work(&orders, stop.subscribe()));
            let told = async {
                changed.await;
                stop.send_replace(true);
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = work => {}
                () = told => {}
            }
            clerk.finish();
        }
    }
}

impl Clerks {
    fn given(&self, config: &Config) -> Option<ClerkGiven> {
        let audit = config.audit.clone()?;
        let spool = config.audit_spool(&self.folder)?;
        Some(ClerkGiven { audit, url: config.audit_url(&self.folder), spool })
    }
}
