//! Door 2, the control plane: what operators ask.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use http::{Response, StatusCode, header};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;

use crate::snapshot::Snapshot;
use crate::telemetry;

/// `/metrics` and `/health` on the admin listener.
pub struct Metrics {
    snapshot: Arc<ArcSwap<Snapshot>>,
    metrics: Arc<telemetry::Metrics>,
}

impl Metrics {
    pub fn new(snapshot: Arc<ArcSwap<Snapshot>>, metrics: Arc<telemetry::Metrics>) -> Self {
        Self { snapshot, metrics }
    }
}

#[async_trait]
impl ServeHttp for Metrics {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        let get = request.method == http::Method::GET;
        let (status, kind, body) = match request.uri.path() {
            "/metrics" if get => {
                self.snapshot.load().note_health(&self.metrics);
                let kind = "text/plain; version=0.0.4; charset=utf-8";
                (StatusCode::OK, kind, self.metrics.render())
            }
            "/health" if get => {
                (StatusCode::OK, "application/json", br#"{"status":"ok"}"#.to_vec())
            }
            _ => {
                let body = br#"{"error":{"message":"There is nothing here.","type":"invalid_request_error","param":null,"code":"not_found"}}"#;
                (StatusCode::NOT_FOUND, "application/json", body.to_vec())
            }
        };
        let length = header::HeaderValue::from(body.len());
        let mut response = Response::new(body);
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        response.headers_mut().insert(header::CONTENT_LENGTH, length);
        response
    }
}
