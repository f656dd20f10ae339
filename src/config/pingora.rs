//! Pingora's own server keys, at the top level of the file: read lightly and handed on as given.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_yaml::{Mapping, Value as Yaml};

use super::read::{Section, Value};

/// What a key holds.
#[derive(Clone, Copy)]
enum Shape {
    Flag,
    /// A whole number, this at least.
    Count(u64),
    /// A number of things that are made at once, so not too many of them.
    Few,
    /// A whole number, or nothing at all.
    CountOrNull,
    Text,
    Ipv4List,
    Ipv6List,
    Scale,
}

// The fields of pingora 0.9.1's `ServerConf`, in its order.
const KEYS: &[(&str, Shape)] = &[
    ("version", Shape::Count(0)),
    ("daemon", Shape::Flag),
    ("error_log", Shape::Text),
    ("pid_file", Shape::Text),
    ("upgrade_sock", Shape::Text),
    ("user", Shape::Text),
    ("group", Shape::Text),
    ("working_directory", Shape::Text),
    ("threads", Shape::Few),
    ("listener_tasks_per_fd", Shape::Few),
    ("work_stealing", Shape::Flag),
    ("runtime_enable_alt_timer", Shape::Flag),
    ("ca_file", Shape::Text),
    ("grace_period_seconds", Shape::Count(0)),
    ("graceful_shutdown_timeout_seconds", Shape::Count(0)),
    ("client_bind_to_ipv4", Shape::Ipv4List),
    ("client_bind_to_ipv6", Shape::Ipv6List),
    ("upstream_keepalive_pool_size", Shape::Count(0)),
    ("upstream_connect_offload_threadpools", Shape::Count(0)),
    ("upstream_connect_offload_thread_per_pool", Shape::Count(0)),
    ("downstream_tls_offload_threadpools", Shape::Count(0)),
    ("downstream_tls_offload_thread_per_pool", Shape::Count(0)),
    ("upstream_debug_ssl_keylog", Shape::Flag),
    ("max_retries", Shape::Count(0)),
    ("upgrade_sock_connect_accept_max_retries", Shape::Count(0)),
    ("max_blocking_threads", Shape::Count(1)),
    ("blocking_threads_ttl_seconds", Shape::Count(0)),
    ("fast_timeout_to_tokio_threshold_seconds", Shape::CountOrNull),
    ("runtime_metrics_poll_time_histogram", Shape::Flag),
    ("runtime_metrics_poll_time_histogram_scale", Shape::Scale),
    ("runtime_metrics_poll_time_histogram_resolution_micros", Shape::Count(1)),
    ("runtime_metrics_poll_time_histogram_buckets", Shape::Few),
    ("daemon_wait_for_ready", Shape::Flag),
    ("daemon_ready_timeout_seconds", Shape::Count(1)),
    ("daemon_notify_timeout_seconds", Shape::Count(1)),
];

/// Reads pingora's keys from the top level of the file.
pub(super) fn read(section: &mut Section) -> Mapping {
    let mut mapping = Mapping::new();
    for (name, shape) in KEYS {
        if let Some(value) = section.take(name).and_then(|value| shape.read(value)) {
            mapping.insert(Yaml::from(*name), value);
        }
    }
    mapping
}

// === impl Shape ===

impl Shape {
    fn read(self, value: Value) -> Option<Yaml> {
        if let (Self::CountOrNull, true) = (self, value.node.is_null()) {
            return Some(Yaml::Null);
        }
        let value = value.given()?;
        match self {
            Self::Flag => value.boolean().map(Yaml::from),
            Self::Count(least) => value.number(least, u64::from(u32::MAX)).map(Yaml::from),
            Self::Few => value.number(1, 1_024).map(Yaml::from),
            Self::CountOrNull => value.number(0, u64::from(u32::MAX)).map(Yaml::from),
            Self::Text => value.some_text().map(Yaml::from),
            Self::Ipv4List => value.list(address::<Ipv4Addr>).map(Yaml::from),
            Self::Ipv6List => value.list(address::<Ipv6Addr>).map(Yaml::from),
            Self::Scale => value.one_of(&[("linear", "linear"), ("log", "log")]).map(Yaml::from),
        }
    }
}

fn address<T: std::str::FromStr>(value: Value) -> Option<Yaml> {
    let text = value.text()?;
    match text.parse::<T>() {
        Ok(_) => Some(Yaml::from(text)),
        Err(_) => value.must_be("a list of IP addresses of that version"),
    }
}
