//! A deadline for request heads. Pingora bounds each read, and a head may take as many as it has bytes.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::server::ShutdownWatch;

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
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let serve = self.app.process_new_http(session, shutdown);
        // Streams of an HTTP/2 connection run in tasks of their own, with their heads read.
        let Ok(connection) = CONNECTION.try_with(Arc::clone) else { return serve.await };
        connection.begun.store(true, Relaxed);
        connection.awaits_head.store(true, Relaxed);
        let before = connection.heads.load(Relaxed);
        // Between two requests a connection may be idle first.
        let Timeouts { request_header: head, client_idle: idle, .. } =
            self.snapshot.load().config.timeouts;
        let allowed = if before == 0 { head } else { idle.saturating_add(head) };
        tokio::pin!(serve);
        tokio::select! {
            biased;
            reused = &mut serve => return reused,
            () = tokio::time::sleep(allowed) => {}
        }
        if connection.heads.load(Relaxed) == before { None } else { serve.await }
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
                connection.begun.store(true, Relaxed);
            }
        });
        self.app.server_options()
    }

    async fn http_cleanup(&self) {
        self.app.http_cleanup().await;
    }
}

/// Serves a connection, unless it says nothing for `allowed`.
pub async fn within<T>(
    allowed: Duration,
    connection: Arc<Connection>,
    serve: impl Future<Output = Option<T>>,
) -> Option<T> {
    let serve = CONNECTION.scope(Arc::clone(&connection), serve);
    tokio::pin!(serve);
    tokio::select! {
        biased;
        done = &mut serve => return done,
        () = tokio::time::sleep(allowed) => {}
    }
    if connection.begun.load(Relaxed) { serve.await } else { None }
}
