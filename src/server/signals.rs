//! What signals mean.
//!
//! SIGTERM: drain and end. SIGINT: end. SIGUSR2: let a new process take over, as `forebay upgrade`
//! does. SIGQUIT, with which pingora announces an upgrade: nothing ends before a successor serves.
//! SIGHUP: read the configuration again (`lookout`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use log::info;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::sync::watch;
use tokio::time::sleep;

use super::ear::{Ear, Kind};
use super::notify;
use super::succession::Succession;
use crate::proxy::until_told;
use crate::snapshot::Snapshot;

/// Tells pingora when to shut down.
pub struct Signals {
    pub ready: Arc<AtomicBool>,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub succession: Arc<Succession>,
    /// Turns true when SIGTERM was heard elsewhere.
    pub asked: watch::Receiver<bool>,
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let mut terminate = Ear::new(Kind::Terminate);
        let mut interrupt = Ear::new(Kind::Interrupt);
        tokio::select! {
            biased;
            () = interrupt.hear() => return ShutdownSignal::FastShutdown,
            () = terminate.hear() => {}
            () = until_told(self.asked.clone()) => {}
            () = self.succession.succeeded() => return ShutdownSignal::GracefulTerminate,
            () = answer_announcements() => {}
        }
        tokio::select! {
            () = self.step_aside() => ShutdownSignal::GracefulTerminate,
            () = interrupt.hear() => ShutdownSignal::FastShutdown,
        }
    }
}

impl Signals {
    /// Load balancers see first that this server goes, and may take their time to act on it.
    async fn step_aside(&self) {
        self.ready.store(false, Relaxed);
        self.succession.stop();
        notify::stopping();
        sleep(self.snapshot.load().config.timeouts.drain_delay).await;
    }
}

async fn answer_announcements() {
    let mut announced = Ear::new(Kind::Quit);
    loop {
        announced.hear().await;
        info!("SIGQUIT: this process serves until another has taken over (`forebay run -u`)");
    }
}
