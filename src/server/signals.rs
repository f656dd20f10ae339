//! What signals mean.
//!
//! SIGTERM: drain and end. SIGINT: end. SIGUSR2: let a new process take over, as `forebay upgrade`
//! does. SIGQUIT, with which pingora announces an upgrade: nothing ends before a successor serves.
//! SIGHUP: read the configuration again (`lookout`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use log::{error, info};
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;

use super::notify;
use super::succession::Succession;
use crate::snapshot::Snapshot;

/// The signals that are listened for here.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Terminate,
    Interrupt,
    Quit,
    Upgrade,
    HangUp,
}

/// Listens for one signal.
pub struct Ear(Option<Signal>);

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
        let mut asked = self.asked.clone();
        tokio::select! {
            biased;
            () = interrupt.hear() => return ShutdownSignal::FastShutdown,
            () = terminate.hear() => {}
            Ok(_) = asked.wait_for(|asked| *asked) => {}
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

/// These signals end a process that has never listened for them, and this one listens only once its
/// services run.
pub fn survive_early_ones() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    if let Ok(runtime) = runtime {
        let _entered = runtime.enter();
        let _heard = [Kind::HangUp, Kind::Quit, Kind::Upgrade].map(Ear::new);
    }
}

async fn answer_announcements() {
    let mut announced = Ear::new(Kind::Quit);
    loop {
        announced.hear().await;
        info!("SIGQUIT: this process serves until another has taken over (`forebay run -u`)");
    }
}

impl Ear {
    /// Listens from now on.
    pub fn new(kind: Kind) -> Self {
        let signal_kind = match kind {
            Kind::Terminate => SignalKind::terminate(),
            Kind::Interrupt => SignalKind::interrupt(),
            Kind::Quit => SignalKind::quit(),
            Kind::Upgrade => SignalKind::user_defined2(),
            Kind::HangUp => SignalKind::hangup(),
        };
        let signal = signal(signal_kind);
        Self(signal.inspect_err(|error| error!("{kind:?} signals are not heard: {error}")).ok())
    }

    /// Resolves when the signal has come since this was asked last; never, when the system does not
    /// let us listen.
    pub async fn hear(&mut self) {
        let heard = match &mut self.0 {
            Some(signal) => signal.recv().await,
            None => None,
        };
        if heard.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
