//! The `tracing` section: where the spans of requests go.

use std::time::Duration;

use super::read::Value;
use super::tree::Entry;
use super::{Percent, Problem, Secret, Url};

/// Where OTLP over HTTP is taken, below the collector's address.
const TRACES: &str = "/v1/traces";
/// What belongs to the message itself.
const OURS: [&str; 5] =
    ["connection", "content-length", "content-type", "host", "transfer-encoding"];

/// Spans of requests, sent to a collector (OTLP over HTTP, protobuf).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracing {
    /// The collector, with the path that takes traces.
    pub endpoint: Url,
    /// What it is sent beside them.
    pub headers: Vec<(String, Secret)>,
    /// Of requests whose caller has not decided.
    pub sample: Percent,
    /// What this service is called there.
    pub service_name: String,
    /// How long the collector may take for one batch.
    pub timeout: Duration,
}

// === impl Tracing ===

impl Tracing {
    pub(super) fn read(value: Value) -> Option<Self> {
        if cfg!(not(feature = "otlp")) {
            return value.error("this program was built without `tracing` (the feature `otlp`)");
        }
        value.section(|s| {
            let endpoint = s.require("endpoint", Value::url);
            let headers = s.read("headers", |v| v.map(header)).unwrap_or_default();
            let sample = s.read("sample", Value::percent).unwrap_or(Percent(100));
            let service_name = s.read("service_name", Value::name);
            let timeout = s.read("timeout", Value::timeout).unwrap_or(Duration::from_secs(10));
            let mut endpoint = endpoint?;
            if !endpoint.path.ends_with(TRACES) {
                endpoint.path.push_str(TRACES);
            }
            let service_name = service_name.unwrap_or_else(|| "forebay".to_owned());
            Some(Self { endpoint, headers, sample, service_name, timeout })
        })?
    }
}

fn header(entry: &Entry, value: Value) -> Option<(String, Secret)> {
    let name = entry.name.text.to_ascii_lowercase();
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return value.report(Problem::error(entry.location, "not the name of a header"));
    }
    if OURS.contains(&name.as_str()) {
        let message = format!("`headers` cannot set `{name}`");
        return value.report(Problem::error(entry.location, message));
    }
    Some((name, value.given()?.secret()?))
}
