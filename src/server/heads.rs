//! A deadline for request heads. Pingora bounds each read, and a head may take as many as it has bytes.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::server::ShutdownWatch;
use tokio::time::{Instant, sleep};

use super::http2;
use crate::config::Timeouts;
use crate::proxy::{CONNECTION, Connection};
use crate::snapshot::Snapshot;

/// An HTTP app whose connections are closed when a head does not arrive in time.
pub struct Punctual<A> {
    app: Arc<A>,
    snapshot: Arc<ArcSwap<Snapshot>>,
}

impl<A> Punctual<A> {
    pub fn new(app: A, snapshot: Arc<ArcSwap<Snapshot>>) -> Self {
        Self { app: Arc::new(app), snapshot }
    }
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> HttpServerApp for Punctual<A> {
    /// Called once for each request of a connection. The future is handed on as it is: one around
    /// it would be an allocation and a move more.
    fn process_new_http<'a, 'b, 'f>(
        self: &'a Arc<Self>,
        session: ServerSession,
        shutdown: &'b ShutdownWatch,
    ) -> Pin<Box<dyn Future<Output = Option<ReusedHttpStream>> + Send + 'f>>
    where
        'a: 'f,
        'b: 'f,
        Self: 'f,
    {
        // Streams of an HTTP/2 connection run in tasks of their own, with their heads read.
        let _alone = CONNECTION.try_with(|connection| {
            connection.awaits_head.store(true, Relaxed);
            let Timeouts { request_header: head, client_idle: idle, .. } =
                self.snapshot.load().config.timeouts;
            // Between two requests a connection may be idle first.
            let used = connection.heads.load(Relaxed) > 0;
            connection.wait(if used { idle.saturating_add(head) } else { head });
        });
        self.app.process_new_http(session, shutdown)
    }

    /// Pingora asks for these when a connection is to be HTTP/2.
    fn h2_options(&self) -> Option<H2Options> {
        let _alone = CONNECTION.try_with(|connection| connection.http2.store(true, Relaxed));
        Some(http2::options(&self.snapshot.load().config.limits))
    }

    /// … and for these again once its preface is read.
    fn server_options(&self) -> Option<&HttpServerOptions> {
        let _alone = CONNECTION.try_with(|connection| {
            if connection.http2.load(Relaxed) {
                connection.rest();
            }
        });
        self.app.server_options()
    }

    async fn http_cleanup(&self) {
        self.app.http_cleanup().await;
    }
}

/// Serves a connection, unless a head is late: at first one must be there after `allowed`.
///
/// One timer per connection, set anew only when it fires: one per request would cost more.
pub async fn within<T>(
    allowed: Duration,
    connection: Arc<Connection>,
    serve: impl Future<Output = Option<T>>,
) -> Option<T> {
    let mut serve = pin!(CONNECTION.scope(Arc::clone(&connection), serve));
    let mut look = pin!(sleep(allowed));
    loop {
        tokio::select! {
            biased;
            done = &mut serve => return done,
            () = &mut look => {}
        }
        let now = Instant::now();
        match connection.due() {
            Some(due) if due <= now => return None,
            // Whatever is waited for from now on is not due before that.
            due => look.as_mut().reset(due.map_or(now + allowed, |due| due.min(now + allowed))),
        }
    }
}
