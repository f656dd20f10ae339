//! Hears one kind of signal.

use log::error;
use tokio::signal::unix::{Signal, SignalKind, signal};

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

/// These signals end a process that has never listened for them, and this one listens only once its
/// services run.
pub fn survive_early_ones() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
    if let Ok(runtime) = runtime {
        let _entered = runtime.enter();
        let _heard = [Kind::HangUp, Kind::Quit, Kind::Upgrade].map(Ear::new);
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
