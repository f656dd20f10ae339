//! What time means to an attempt: how long the upstream may be silent, and when the client needs a
//! sign of life.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep};

/// How one attempt behaves towards the client while it waits.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long the upstream may be silent before its first byte.
    pub first_byte: Duration,
    /// … and between two of them.
    pub between_chunks: Duration,
    /// How long a stream may be silent towards the client.
    pub heartbeat: Option<Duration>,
}

/// When this attempt was last heard of, and what is due next.
#[derive(Default)]
pub struct Clock {
    patience: Option<Patience>,
    /// The upstream's last byte, or the attempt's start.
    heard: Option<Instant>,
    /// The last byte written to the client.
    written: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Whom the timer wakes.
    waker: Option<Waker>,
}

/// What a clock found due.
pub enum Due {
    Heartbeat,
    Silence,
}

impl Clock {
    /// An attempt begins.
    pub fn start(&mut self, patience: Option<Patience>) {
        self.patience = patience;
        if patience.is_some() {
            let now = Instant::now();
            (self.heard, self.written) = (Some(now), self.written.or(Some(now)));
        }
        self.timer = None;
    }

    /// Something of the upstream's is written to the client.
    pub fn answered(&mut self) {
        if self.patience.is_some() {
            let now = Instant::now();
            (self.heard, self.written) = (Some(now), Some(now));
        }
    }

    /// Part of the request goes out: nobody waits for an answer yet.
    pub fn asked(&mut self) {
        self.heard = self.heard.map(|_| Instant::now());
    }

    /// A heartbeat is written to the client.
    pub fn beaten(&mut self) {
        self.written = Some(Instant::now());
    }

    /// When the client next needs a heartbeat and when the upstream has been silent too long.
    fn deadlines(&self, committed: bool) -> Option<(Option<Instant>, Instant)> {
        let patience = self.patience?;
        let allowed = if committed { patience.between_chunks } else { patience.first_byte };
        let beat = patience.heartbeat.and_then(|pause| Some(self.written? + pause));
        Some((beat, self.heard? + allowed))
    }

    /// Resolves when something is due; never, without patience. The timer is set anew only when it
    /// fires: moving it with every event of a stream would cost more than the event.
    pub fn poll_due(&mut self, committed: bool, cx: &mut Context<'_>) -> Poll<Due> {
        loop {
            if let Some(timer) = &mut self.timer {
                // Polling costs more than a look: once is enough for the timer to know whom to wake.
                let known = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
                if known && !timer.is_elapsed() {
                    return Poll::Pending;
                }
                if pin!(unconstrained(timer.as_mut())).poll(cx).is_pending() {
                    self.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
            let Some((beat, silence)) = self.deadlines(committed) else { return Poll::Pending };
            let now = Instant::now();
            if now >= silence {
                return Poll::Ready(Due::Silence);
            }
            if beat.is_some_and(|beat| now >= beat) {
                return Poll::Ready(Due::Heartbeat);
            }
            let next = beat.map_or(silence, |beat| beat.min(silence));
            (self.timer, self.waker) = (Some(Box::pin(tokio::time::sleep_until(next))), None);
        }
    }

    /// From now on the upstream is allowed another silence than before its first byte.
    pub fn commit(&mut self) {
        self.timer = None;
    }
}
