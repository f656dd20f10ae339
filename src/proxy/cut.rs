//! The moment at which streams must end, because the gateway does.

use std::pin::Pin;
use std::task::Poll;

use pingora::ErrorType;
use tokio::sync::watch;

/// The error that ends a stream when the gateway cannot wait for its end.
pub const SHUTTING_DOWN: ErrorType = ErrorType::Custom("ShuttingDown");

/// Waits for the moment. It comes once: what follows from it goes on being written.
pub struct Cut(Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>);

impl Cut {
    pub fn new(told: watch::Receiver<bool>) -> Self {
        Self(Some(Box::pin(until_told(told))))
    }

    /// For what the gateway waits for.
    pub fn never() -> Self {
        Self(None)
    }

    pub async fn due(&mut self) {
        let moment = &mut self.0;
        std::future::poll_fn(|cx| match moment.as_mut().map(|moment| moment.as_mut().poll(cx)) {
            Some(Poll::Ready(())) => {
                *moment = None;
                Poll::Ready(())
            }
            _ => Poll::Pending,
        })
        .await;
    }
}

/// Resolves when it turns true; never, when nobody is left to tell it.
pub async fn until_told(mut told: watch::Receiver<bool>) {
    if told.wait_for(|told| *told).await.is_err() {
        std::future::pending::<()>().await;
    }
}
