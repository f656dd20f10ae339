//! Tells of requests that are over: a line in the access log, and spans for a collector.

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;

#[cfg(feature = "otlp")]
use super::exporter::Exporter;
use super::log_writer::LogWriter;
use super::tireless::tireless;

/// One service for both: pingora gives each service a runtime of its own.
pub struct Teller {
    pub writer: LogWriter,
    #[cfg(feature = "otlp")]
    pub exporter: Exporter,
}

#[async_trait]
impl BackgroundService for Teller {
    /// Not ended by a shutdown: requests still end, and the drain asks for the last lines and spans.
    async fn start(&self, _shutdown: ShutdownWatch) {
        let lines = tireless(|| self.writer.run());
        #[cfg(feature = "otlp")]
        tokio::join!(lines, tireless(|| self.exporter.run()));
        #[cfg(not(feature = "otlp"))]
        lines.await;
    }
}
