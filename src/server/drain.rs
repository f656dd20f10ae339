//! The way down: no new requests, and an end when the last one under way has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use log::{info, warn};
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use prometheus::IntGauge;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::connections::Open;
use super::ear::{Ear, Kind};
use super::keeper::{Desk, Order};
use super::succession::Succession;
use crate::audit::Audit;
use crate::proxy::until_told;
use crate::snapshot::Snapshot;
use crate::telemetry::{AccessLog, Spans};

/// How often what is under way is counted.
const LOOK: Duration = Duration::from_millis(50);

/// How long a stream may take to write its last event.
pub const FAREWELL: Duration = Duration::from_secs(2);

/// How long an idle connection is kept for one more request, whose answer says that it closes, when
/// a successor serves. Longer than the pools of common clients keep theirs (5 s).
pub const LINGER: Duration = Duration::from_secs(10);

/// How long connections may take to end that have nothing under way: to write the rest of an answer
/// that HTTP/2 has queued, and to hear the other side's goodbye.
pub const GOODBYE: Duration = Duration::from_secs(5);

/// Ends the process once nothing is under way. Pingora alone would sit its whole grace period out,
/// which remains the bound for requests that do not end.
pub struct Drain {
    /// Turns true when a signal asks for a stop.
    pub stop: watch::Sender<bool>,
    pub ready: Arc<AtomicBool>,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Requests under way.
    pub active: IntGauge,
    /// Connections that are open.
    pub open: Arc<Open>,
    pub succession: Arc<Succession>,
    /// Who delivers what was counted here.
    pub desk: Arc<Desk>,
    /// Who writes records of what was answered.
    pub audit: Arc<Audit>,
    /// Lines that are to be written before the end.
    pub access_log: Arc<AccessLog>,
    /// Spans that are to be sent before the end.
    pub spans: Arc<Spans>,
    /// Tells idle connections that they may close.
    pub close_idle: watch::Sender<bool>,
    /// Tells streams that they must end.
    pub cut: watch::Sender<bool>,
}

#[async_trait]
impl BackgroundService for Drain {
    async fn start(&self, shutdown: ShutdownWatch) {
        // Listening from the start: a signal that comes while the shutdown is told must count.
        let mut terminate = Ear::new(Kind::Terminate);
        let asked = tokio::select! {
            () = terminate.hear() => true,
            () = until_told(shutdown.clone()) => false,
        };
        if asked {
            // It may have come before pingora's own ears were there.
            self.stop.send_replace(true);
            until_told(shutdown).await;
        }
        let mut interrupt = Ear::new(Kind::Interrupt);
        self.ready.store(false, Relaxed);
        let active = self.active.get();
        if self.succession.has_successor() && !asked {
            info!("draining for a successor: {active} requests under way");
            tokio::select! {
                () = self.drain_patiently() => {}
                () = terminate.hear() => {
                    info!("told to stop: draining faster");
                    self.drain_to_stop().await;
                }
                () = interrupt.hear() => {}
            }
        } else {
            info!("draining: {active} requests under way");
            tokio::select! {
                () = self.drain_to_stop() => {}
                () = interrupt.hear() => {}
            }
        }
        tokio::join!(self.desk.ask(Order::Leave), self.audit.flush(), self.tell_the_rest());
        info!("drained");
        #[expect(
            clippy::disallowed_methods,
            reason = "pingora has no other way to end before its grace period"
        )]
        std::process::exit(0);
    }
}

impl Drain {
    /// Has the last lines and spans go out.
    async fn tell_the_rest(&self) {
        let snapshot = self.snapshot.load_full();
        let lines = async {
            if snapshot.config.access_log.is_some() {
                self.access_log.close().await;
            }
        };
        let spans = async {
            if snapshot.config.tracing.is_some() {
                self.spans.close().await;
            }
        };
        tokio::join!(lines, spans);
    }

    /// A successor serves: idle connections may linger, and what is under way has long.
    async fn drain_patiently(&self) {
        let timeouts = self.snapshot.load().config.timeouts;
        let begun = Instant::now();
        let gone = || self.open.is_empty() && self.open.is_settled();
        let linger = async {
            let _closed = timeout(LINGER, self.until(gone)).await;
            self.close_idle.send_replace(true);
            std::future::pending::<()>().await;
        };
        let done = || {
            self.is_idle()
                && (gone() || begun.elapsed() > LINGER + GOODBYE)
                && self.succession.may_leave()
        };
        tokio::select! {
            () = self.finish(begun + timeouts.upgrade_drain, done) => {}
            () = linger => {}
        }
    }

    /// Nobody takes over: a connection that is idle has nothing to wait for.
    async fn drain_to_stop(&self) {
        self.close_idle.send_replace(true);
        let deadline = Instant::now() + self.snapshot.load().config.timeouts.drain;
        self.finish(deadline, || self.is_idle()).await;
        let closed = || self.is_idle() && self.open.is_empty() && self.open.is_settled();
        let _closed = timeout(GOODBYE, self.until(closed)).await;
    }

    /// Waits until `done`; at the deadline, streams are told that they end.
    async fn finish(&self, deadline: Instant, done: impl Fn() -> bool) {
        tokio::select! {
            biased;
            () = self.until(&done) => return,
            () = sleep_until(deadline) => {}
        }
        self.cut.send_replace(true);
        warn!("{} requests do not end: streams are told so", self.active.get());
        let _told = timeout(FAREWELL, self.until(|| self.is_idle())).await;
    }

    fn is_idle(&self) -> bool {
        self.active.get() == 0
    }

    async fn until(&self, done: impl Fn() -> bool) {
        let mut look = tokio::time::interval(LOOK);
        while !done() {
            look.tick().await;
        }
    }
}
