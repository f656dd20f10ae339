//! Counts the connections of clients.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use prometheus::IntGauge;

/// An app, with its connections counted.
pub struct Counted<A> {
    app: Arc<A>,
    open: IntGauge,
}

/// One open connection.
struct Open<'a>(&'a IntGauge);

impl<A> Counted<A> {
    pub fn new(app: A, open: IntGauge) -> Self {
        Self { app: Arc::new(app), open }
    }
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> ServerApp for Counted<A> {
    async fn process_new(
        self: &Arc<Self>,
        session: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        self.open.inc();
        let _open = Open(&self.open);
        self.app.process_new(session, shutdown).await
    }

    async fn cleanup(&self) {
        self.app.cleanup().await;
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
