//! A deadline for request heads. Pingora bounds each read, and a head may take as many as it has bytes.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::server::ShutdownWatch;

use crate::config::Timeouts;
use crate::proxy::{CONNECTION, Connection};

/// An HTTP app whose connections are closed when a head does not arrive in time.
pub struct Punctual<A> {
    app: Arc<A>,
    head: Duration,
    idle: Duration,
}

impl<A> Punctual<A> {
    pub fn new(app: A, timeouts: &Timeouts) -> Self {
        Self { app: Arc::new(app), head: timeouts.request_header, idle: timeouts.client_idle }
    }
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> HttpServerApp for Punctual<A> {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let serve = self.app.process_new_http(session, shutdown);
        // Streams of an HTTP/2 connection run in tasks of their own, with their heads read.
        let Ok(connection) = CONNECTION.try_with(Arc::clone) else { return serve.await };
        connection.begun.store(true, Relaxed);
        let before = connection.heads.load(Relaxed);
        // Between two requests a connection may be idle first.
        let allowed = if before == 0 { self.head } else { self.idle.saturating_add(self.head) };
        tokio::pin!(serve);
        tokio::select! {
            biased;
            reused = &mut serve => return reused,
            () = tokio::time::sleep(allowed) => {}
        }
        if connection.heads.load(Relaxed) == before { None } else { serve.await }
    }

    /// Pingora asks for these when a connection turns out to be HTTP/2.
    fn h2_options(&self) -> Option<H2Options> {
        let _alone = CONNECTION.try_with(|connection| connection.begun.store(true, Relaxed));
        self.app.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.app.server_options()
    }

    async fn http_cleanup(&self) {
        self.app.http_cleanup().await;
    }
}

/// Serves a connection, unless it says nothing for `allowed`.
pub async fn within<T>(allowed: Duration, serve: impl Future<Output = Option<T>>) -> Option<T> {
    let connection = Arc::new(Connection::default());
    let serve = CONNECTION.scope(Arc::clone(&connection), serve);
    tokio::pin!(serve);
    tokio::select! {
        biased;
        done = &mut serve => return done,
        () = tokio::time::sleep(allowed) => {}
    }
    if connection.begun.load(Relaxed) { serve.await } else { None }
}
