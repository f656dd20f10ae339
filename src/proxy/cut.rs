//! The moment at which streams must end, because the gateway does.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

use pingora::ErrorType;
use tokio::sync::watch;
use tokio::task::unconstrained;

/// The error that ends a stream when the gateway cannot wait for its end.
pub const SHUTTING_DOWN: ErrorType = ErrorType::Custom("ShuttingDown");

/// Waits for the moment. It comes once: what follows from it goes on being written.
pub struct Cut(Option<Awaited>);

struct Awaited {
    moment: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
    /// False once the gateway has begun to end. Before that the moment cannot have come, and looking
    /// for it with every event of a stream would cost more than this.
    ready: Arc<AtomicBool>,
    /// Whom the moment wakes.
    waker: Option<Waker>,
}

impl Cut {
    pub fn new(told: watch::Receiver<bool>, ready: Arc<AtomicBool>) -> Self {
        Self(Some(Awaited { moment: Box::pin(until_told(told)), ready, waker: None }))
    }

    /// For what the gateway waits for.
    pub fn never() -> Self {
        Self(None)
    }

    pub async fn due(&mut self) {
        std::future::poll_fn(|cx| {
            let Some(awaited) = &mut self.0 else { return Poll::Pending };
            if awaited.poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.0 = None;
            Poll::Ready(())
        })
        .await;
    }
}

impl Awaited {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let known = self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if known && self.ready.load(Relaxed) {
            return Poll::Pending;
        }
        let told = pin!(unconstrained(self.moment.as_mut())).poll(cx);
        if told.is_pending() {
            self.waker = Some(cx.waker().clone());
        }
        told
    }
}

/// Resolves when it turns true; never, when nobody is left to tell it.
pub async fn until_told(mut told: watch::Receiver<bool>) {
    if told.wait_for(|told| *told).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    fn poll(cut: &mut Cut, who: &Arc<Woken>) -> Poll<()> {
        let waker = Waker::from(Arc::clone(who));
        pin!(cut.due()).poll(&mut Context::from_waker(&waker))
    }

    #[test]
    fn whoever_waited_last_is_woken_and_then_told_once() {
        let (told, ready) = (watch::Sender::new(false), Arc::new(AtomicBool::new(true)));
        let mut cut = Cut::new(told.subscribe(), Arc::clone(&ready));
        let (first, second) = (Arc::<Woken>::default(), Arc::<Woken>::default());
        for who in [&first, &first, &second, &second] {
            assert!(poll(&mut cut, who).is_pending());
        }
        ready.store(false, Relaxed);
        assert!(poll(&mut cut, &second).is_pending(), "it drains, and may go on");
        told.send_replace(true);
        assert_eq!(second.0.load(Relaxed), 1);
        assert!(poll(&mut cut, &second).is_ready());
        assert!(poll(&mut cut, &second).is_pending(), "it was told");
    }
}
