//! What goes on behind the requests: look-ups, health checks, and the providers' lists of models.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use log::info;
use pingora::server::ShutdownWatch;
use pingora::services::ServiceReadyNotifier;
use pingora::services::background::BackgroundService;
use tokio::task::JoinSet;

use crate::snapshot::{Snapshot, Upstream};

/// How often a provider is asked for its models.
const MODELS_INTERVAL: Duration = Duration::from_mins(1);
/// … and how soon again when it did not answer.
const MODELS_AGAIN: Duration = Duration::from_secs(5);
/// How long the first round may keep the gateway from listening.
const FIRST_ROUND: Duration = Duration::from_secs(10);

/// Keeps the providers of a snapshot known. One service for all of them: pingora gives each
/// service a runtime of its own.
pub struct Balance {
    pub snapshot: Arc<ArcSwap<Snapshot>>,
}

#[async_trait]
impl BackgroundService for Balance {
    async fn start_with_ready_notifier(
        &self,
        mut shutdown: ShutdownWatch,
        ready: ServiceReadyNotifier,
    ) {
        let upstreams = self.snapshot.load().upstreams.clone();
        let mut first = JoinSet::new();
        for upstream in upstreams.clone() {
            first.spawn(async move { upstream.pool.refresh().await });
        }
        // Late ones go on in their own time.
        let round = async { while first.join_next().await.is_some() {} };
        let _late = tokio::time::timeout(FIRST_ROUND, round).await;
        ready.notify_ready();

        // Dropped with this future, and with it every task.
        let mut tasks = JoinSet::new();
        for upstream in upstreams {
            let models = Arc::clone(&upstream);
            tasks.spawn(async move { upstream.pool.run().await });
            tasks.spawn(async move { list_models(&models).await });
        }
        let _closed = shutdown.changed().await;
    }
}

/// Asks a provider for its models, again and again. What goes wrong is told once.
async fn list_models(upstream: &Upstream) {
    let mut told = false;
    loop {
        let failed = match upstream.models_question() {
            Some(question) => upstream.catalogue.fetch(&question).await.err(),
            None => None,
        };
        let pause = if failed.is_some() { MODELS_AGAIN } else { MODELS_INTERVAL };
        if let Some(error) = failed.as_ref().filter(|_| !told) {
            info!("provider {} does not list its models: {error}", upstream.provider.name);
        }
        told = failed.is_some();
        tokio::time::sleep(pause).await;
    }
}
