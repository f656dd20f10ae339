//! Every metric, named once. Label values come from the configuration or from fixed sets, never
//! from a client: their number is bounded.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    Opts, Registry, TextEncoder, core::Collector,
};

/// Seconds, from a fast refusal to a long answer.
const DURATION: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];
/// Seconds between two events of a stream.
const BETWEEN: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// What a replica has to do, by kind: ours, and as its server tells.
const REPLICA_LOADS: [&str; 6] =
    ["requests", "prompt_tokens", "prefill_tokens", "running", "waiting", "kv_use"];

/// The metrics of one process.
pub struct Metrics {
    registry: Registry,
    pub requests: IntCounterVec,
    pub duration: HistogramVec,
    pub first_token: HistogramVec,
    pub inter_token: HistogramVec,
    pub active: IntGauge,
    pub tokens: IntCounterVec,
    pub provider_health: GaugeVec,
    pub provider_latency: GaugeVec,
    pub replica_load: GaugeVec,
    pub replicas: GaugeVec,
    pub discovery_failures: IntCounterVec,
    pub choices: IntCounterVec,
    pub prefix_tokens: IntCounterVec,
    pub attempts: IntCounterVec,
    pub failovers: IntCounterVec,
    pub key_cooldowns: IntCounterVec,
    pub provider_keys: GaugeVec,
    pub queue_depth: GaugeVec,
    pub queue_wait: HistogramVec,
    pub queue_shed: IntCounterVec,
    pub spillovers: IntCounterVec,
    pub connections: IntGauge,
    pub buffered: IntGauge,
    pub shed: IntCounter,
    pub abuse: IntCounterVec,
    pub panics: IntCounter,
    pub audit_rows: IntCounter,
    pub audit_dropped: IntCounter,
    pub audit_untold: IntCounter,
    pub audit_queue: IntGauge,
    pub audit_spool: IntGauge,
    lines: IntCounterVec,
    spans: IntCounterVec,
    reloads: IntCounterVec,
    reload_successful: IntGauge,
    reload_time: Gauge,
}

/// Tokens of one answer, by kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tokens {
    pub prompt: u64,
    pub completion: u64,
    pub cached: u64,
    pub reasoning: u64,
}

impl Tokens {
    /// Each kind's label, and how many.
    pub(super) fn by_kind(self) -> [(&'static str, u64); 4] {
        let Self { prompt, completion, cached, reasoning } = self;
        [
            ("prompt", prompt),
            ("completion", completion),
            ("cached", cached),
            ("reasoning", reasoning),
        ]
    }
}

/// Registers metrics as it makes them; keeps the first thing that went wrong.
struct Maker {
    registry: Registry,
    failed: Result<(), prometheus::Error>,
}

impl Metrics {
    /// Fails only when two metrics share a name: a mistake in this file.
    #[expect(clippy::too_many_lines, reason = "a list")]
    pub fn new() -> Result<Self, prometheus::Error> {
        let mut make = Maker { registry: Registry::new(), failed: Ok(()) };
        let metrics = Self {
            requests: make.counters(
                "forebay_requests_total",
                "Requests answered.",
                &["endpoint", "model", "provider", "status"],
            )?,
            duration: make.histograms(
                "forebay_request_duration_seconds",
                "From the request's head to the last byte of its answer.",
                &["endpoint", "model", "provider"],
                &DURATION,
            )?,
            first_token: make.histograms(
                "forebay_time_to_first_token_seconds",
                "From the request's head to the first event of a stream.",
                &["model", "provider"],
                &DURATION,
            )?,
            inter_token: make.histograms(
                "forebay_inter_token_seconds",
                "Mean time between the events of a stream, one observation per stream.",
                &["model", "provider"],
                &BETWEEN,
            )?,
            active: make.gauge("forebay_active_requests", "Requests under way.")?,
            tokens: make.counters(
                "forebay_tokens_total",
                "Tokens as the upstream counted them.",
                &["model", "provider", "type"],
            )?,
            provider_health: make.gauges(
                "forebay_provider_health",
                "1: takes requests; 0: failed its checks or is left out.",
                &["provider", "endpoint"],
            )?,
            provider_latency: make.gauges(
                "forebay_provider_latency_seconds",
                "Smoothed time to the response head.",
                &["provider", "endpoint"],
            )?,
            replica_load: make.gauges(
                "forebay_replica_load",
                "What a replica has to do: requests, prompt_tokens, prefill_tokens of ours; \
                 running, waiting, kv_use as its server tells.",
                &["provider", "endpoint", "kind"],
            )?,
            replicas: make.gauges(
                "forebay_replicas",
                "Replicas by how they are: healthy, unhealthy, ejected, joining, draining.",
                &["provider", "state"],
            )?,
            discovery_failures: make.counters(
                "forebay_discovery_failures_total",
                "Looks for a provider's replicas that failed; the last ones stay.",
                &["provider"],
            )?,
            choices: make.counters(
                "forebay_replica_choices_total",
                "Replicas chosen among several, by why.",
                &["provider", "reason"],
            )?,
            prefix_tokens: make.counters(
                "forebay_prefix_tokens_total",
                "Tokens of prompts: prompt and expected (to be cached) as estimated, cached as told.",
                &["provider", "kind"],
            )?,
            attempts: make.counters(
                "forebay_upstream_attempts_total",
                "Attempts at providers, by how they ended.",
                &["provider", "outcome"],
            )?,
            failovers: make.counters(
                "forebay_failovers_total",
                "Requests that went on from one provider to another, or to another replica or key.",
                &["from", "to"],
            )?,
            key_cooldowns: make.counters(
                "forebay_key_cooldowns_total",
                "Provider keys put to rest after a limit or a refusal.",
                &["provider"],
            )?,
            provider_keys: make.gauges(
                "forebay_provider_keys",
                "Provider keys by how they are: in_use, resting, disabled, probing.",
                &["provider", "state"],
            )?,
            queue_depth: make.gauges(
                "forebay_queue_depth",
                "Requests that wait for a place at one of a provider's replicas.",
                &["provider"],
            )?,
            queue_wait: make.histograms(
                "forebay_queue_wait_seconds",
                "How long those that waited for a place did, whatever became of them.",
                &["provider"],
                &DURATION,
            )?,
            queue_shed: make.counters(
                "forebay_queue_shed_total",
                "Requests that got no place: full, wait, kv_cache, displaced, timeout.",
                &["provider", "reason"],
            )?,
            spillovers: make.counters(
                "forebay_queue_spillovers_total",
                "Requests that went on to another target, since they would have had to wait.",
                &["from", "to"],
            )?,
            connections: make.gauge("forebay_connections", "Client connections.")?,
            buffered: make.gauge("forebay_buffered_bytes", "Request bodies held in memory.")?,
            shed: make.counter("forebay_requests_shed_total", "Refused for want of memory.")?,
            abuse: make.counters(
                "forebay_abuse_total",
                "Requests that a check of `abuse` caught, by check, rule and what was done.",
                &["check", "rule", "action"],
            )?,
            panics: make.counter("forebay_panics_total", "Panics: mistakes in the gateway.")?,
            audit_rows: make.counter("forebay_audit_rows_total", "Audit rows written.")?,
            audit_dropped: make
                .counter("forebay_audit_dropped_total", "Audit rows for which there was no place.")?,
            audit_untold: make.counter(
                "forebay_audit_webhook_dropped_total",
                "Audit rows that the webhook was not told of.",
            )?,
            audit_queue: make.gauge("forebay_audit_queue", "Audit rows that are to be written.")?,
            audit_spool: make.gauge(
                "forebay_audit_spool_bytes",
                "Audit rows on the disk, which wait for their database.",
            )?,
            lines: make.counters(
                "forebay_access_log_lines_total",
                "Lines of the access log: written, dropped (what they go to is full, away or stalled).",
                &["outcome"],
            )?,
            spans: make.counters(
                "forebay_spans_total",
                "Spans of requests: exported, failed (the collector did not take them), dropped \
                 (too many waited).",
                &["outcome"],
            )?,
            reloads: make.counters(
                "forebay_config_reloads_total",
                "Attempts to put another configuration into force.",
                &["outcome"],
            )?,
            reload_successful: make.gauge(
                "forebay_config_last_reload_successful",
                "1: the last one was, or there was none yet; 0: it failed, and nothing changed.",
            )?,
            reload_time: make.time(
                "forebay_config_last_reload_success_timestamp_seconds",
                "When the configuration in force was loaded.",
            )?,
            registry: make.registry.clone(),
        };
        make.build_info()?;
        make.failed.map(|()| metrics)
    }

    /// Notes that a first configuration is in force.
    pub fn note_start(&self) {
        for outcome in ["ok", "failed"] {
            self.reloads.with_label_values(&[outcome]);
        }
        self.note_load();
    }

    /// Counts lines of the access log that were `written` or `dropped`.
    pub fn count_lines(&self, outcome: &'static str, count: u64) {
        self.lines.with_label_values(&[outcome]).inc_by(count);
    }

    /// Counts spans that were `exported`, have `failed` to be, or were `dropped`.
    pub fn count_spans(&self, outcome: &'static str, count: u64) {
        self.spans.with_label_values(&[outcome]).inc_by(count);
    }

    /// Counts an attempt to put another configuration into force.
    pub fn note_reload(&self, good: bool) {
        self.reloads.with_label_values(&[if good { "ok" } else { "failed" }]).inc();
        if good {
            self.note_load();
        } else {
            self.reload_successful.set(0);
        }
    }

    fn note_load(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.reload_successful.set(1);
        self.reload_time.set(now.as_secs_f64());
    }

    /// Forgets what was told of replicas, some of which are none any more.
    pub fn forget_replicas(&self) {
        self.provider_health.reset();
        self.provider_latency.reset();
        self.replica_load.reset();
        self.replicas.reset();
        self.provider_keys.reset();
        self.queue_depth.reset();
    }

    /// Forgets what was told of one replica, which is none any more.
    pub fn forget_replica(&self, provider: &str, address: &str) {
        // Where nothing was told there is nothing to forget.
        self.provider_health.remove_label_values(&[provider, address]).ok();
        self.provider_latency.remove_label_values(&[provider, address]).ok();
        for kind in REPLICA_LOADS {
            self.replica_load.remove_label_values(&[provider, address, kind]).ok();
        }
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            log::error!("cannot write the metrics: {error}");
        }
        text
    }
}

impl Maker {
    fn register<M: Collector + Clone + 'static>(&mut self, metric: M) -> M {
        if let Err(error) = self.registry.register(Box::new(metric.clone())) {
            self.failed = Err(error);
        }
        metric
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        Ok(self.register(IntCounterVec::new(Opts::new(name, help), labels)?))
    }

    fn counter(&mut self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        Ok(self.register(IntCounter::new(name, help)?))
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<GaugeVec, prometheus::Error> {
        Ok(self.register(GaugeVec::new(Opts::new(name, help), labels)?))
    }

    fn gauge(&mut self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        Ok(self.register(IntGauge::new(name, help)?))
    }

    fn time(&mut self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        Ok(self.register(Gauge::new(name, help)?))
    }

    fn histograms(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec, prometheus::Error> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        Ok(self.register(HistogramVec::new(options, labels)?))
    }

    fn build_info(&mut self) -> Result<(), prometheus::Error> {
        let options = Opts::new("forebay_build_info", "1, with the version as a label.")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        let gauge: Gauge = Gauge::with_opts(options)?;
        self.register(gauge).set(1.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_request_shows_in_the_text() {
        let metrics = Metrics::new().unwrap();
        metrics.requests.with_label_values(&["/v1/chat/completions", "m", "p", "200"]).inc();
        metrics.tokens.with_label_values(&["m", "p", "completion"]).inc_by(5);
        let text = String::from_utf8(metrics.render()).unwrap();
        assert!(text.contains(r#"forebay_requests_total{endpoint="/v1/chat/completions",model="m",provider="p",status="200"} 1"#));
        assert!(
            text.contains(r#"forebay_tokens_total{model="m",provider="p",type="completion"} 5"#)
        );
        assert!(text.contains("forebay_build_info"));
    }
}
