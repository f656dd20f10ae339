//! A request's spans: one for itself, and one for each attempt. Nothing of what was said stands in them.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::attempt::Attempt;
use super::context::Context;
use crate::audit::Record;
use crate::config::{Kind, Tracing};
use crate::protocol::{Operation, Task};
use crate::routing::Endpoint;
use crate::snapshot::Upstream;
use crate::telemetry::{Attribute, Metrics, Span, SpanContext, SpanKind, Spans};

static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Attempts that are told of: more are made only where connections keep breaking.
const MOST: usize = 32;
/// The longest text that is told, in bytes: names of models may be callers' own.
const LONGEST: usize = 256;

/// A request that is recorded.
pub struct Trace {
    context: SpanContext,
    parent: Option<[u8; 8]>,
    began: SystemTime,
    tries: Vec<Try>,
    spans: Arc<Spans>,
}

/// An attempt, as it went out.
struct Try {
    context: SpanContext,
    began: Instant,
    ended: OnceLock<Instant>,
    status: OnceLock<u16>,
    failure: OnceLock<&'static str>,
    upstream: Arc<Upstream>,
    model: Option<String>,
    replica: std::net::SocketAddr,
}

type Attributes = Vec<(&'static str, Attribute)>;

/// The trace of a request that begins; `None` when it is not recorded. Whoever called may have decided that.
pub fn begin(headers: &HeaderMap, tracing: &Tracing, spans: &Arc<Spans>) -> Option<Box<Trace>> {
    let mut given = headers.get_all(&TRACEPARENT).iter();
    let parent = given.next().filter(|_| given.next().is_none());
    let parent = parent.and_then(|parent| SpanContext::parse(parent.as_bytes()));
    let sampled = match parent {
        Some(parent) => parent.sampled,
        None => rand::random_range(0..100) < tracing.sample.0,
    };
    if !sampled {
        return None;
    }
    Some(Box::new(Trace {
        context: parent.map_or_else(|| SpanContext::root(true), SpanContext::child),
        parent: parent.map(|parent| parent.span),
        began: SystemTime::now(),
        tries: Vec::new(),
        spans: Arc::clone(spans),
    }))
}

// === impl Trace ===

impl Trace {
    /// An attempt goes out.
    pub fn attempt(&mut self, attempt: &Attempt) {
        if let Some(last) = self.tries.last().filter(|last| last.status.get().is_none()) {
            // It went out on a connection that was dead already, or was never sent.
            last.fail("repeated");
        }
        if let Some(last) = self.tries.last() {
            last.ended.get_or_init(Instant::now);
        }
        if self.tries.len() >= MOST {
            return;
        }
        self.tries.push(Try {
            context: self.context.child(),
            began: Instant::now(),
            ended: OnceLock::new(),
            status: OnceLock::new(),
            failure: OnceLock::new(),
            upstream: Arc::clone(&attempt.upstream),
            model: attempt.leg.as_ref().map(|leg| short(leg.upstream_model())),
            replica: attempt.pick.replica().address,
        });
    }

    /// The upstream of the current attempt has answered with this status.
    pub fn answered(&self, status: u16) {
        if let Some(last) = self.tries.last() {
            last.status.get_or_init(|| status);
        }
    }

    /// The current attempt has failed.
    pub fn failed(&self, why: &'static str) {
        if let Some(last) = self.tries.last() {
            last.fail(why);
        }
    }

    /// Tells the upstream where its part belongs.
    pub fn tell(&self, headers: &mut HeaderMap) {
        let context = self.tries.last().map_or(self.context, |last| last.context);
        if let Ok(header) = HeaderValue::try_from(context.header()) {
            headers.insert(&TRACEPARENT, header);
        }
        if self.parent.is_none() {
            // It belongs to a context that could not be read, or to none.
            headers.remove(&TRACESTATE);
        }
    }

    /// The request is over: hands its spans over.
    pub fn finish(self, ctx: &Context, metrics: &Metrics, record: &Record) {
        if matches!(ctx.endpoint, Some(Endpoint::Local(_))) {
            return;
        }
        let now = Instant::now();
        let nanos = |at: Instant| {
            let since = at.saturating_duration_since(ctx.started);
            nanos_of(self.began, since)
        };
        let operation = ctx.endpoint.and_then(|endpoint| endpoint.routed());
        let operation = operation.and_then(|call| operation_name(call.operation));
        let mut spans = Vec::with_capacity(1 + self.tries.len());
        let last = self.tries.len().saturating_sub(1);
        for (place, it) in self.tries.iter().enumerate() {
            let mut attributes = it.attributes(ctx, operation);
            if place > 0 {
                attributes.push(("http.request.resend_count", (place as u64).into()));
            }
            if place == last {
                add_answer(&mut attributes, record);
            }
            let name = match (operation, &it.model) {
                (Some(operation), Some(model)) => format!("{operation} {model}"),
                _ => format!("{} {}", ctx.method, route(ctx)),
            };
            spans.push(Span {
                context: it.context,
                parent: Some(self.context.span),
                name,
                kind: SpanKind::Client,
                began: nanos(it.began),
                ended: nanos(it.ended.get().copied().unwrap_or(now)),
                attributes,
                failed: it.has_failed(),
            });
        }
        let mut attributes = request_attributes(record, operation);
        add_answer(&mut attributes, record);
        spans.push(Span {
            context: self.context,
            parent: self.parent,
            name: format!("{} {}", ctx.method, route(ctx)),
            kind: SpanKind::Server,
            began: nanos(ctx.started),
            ended: nanos(now),
            attributes,
            failed: ctx.outcome.status >= 500,
        });
        self.spans.offer(spans, metrics);
    }
}

// === impl Try ===

impl Try {
    fn fail(&self, why: &'static str) {
        self.failure.get_or_init(|| why);
        self.ended.get_or_init(Instant::now);
    }

    fn has_failed(&self) -> bool {
        self.failure.get().is_some() || self.status.get().is_some_and(|status| *status >= 400)
    }

    fn attributes(&self, ctx: &Context, operation: Option<&'static str>) -> Attributes {
        let provider = &self.upstream.provider;
        let mut attributes: Attributes = vec![
            ("http.request.method", short(ctx.method.as_str()).into()),
            ("forebay.provider", provider.name.clone().into()),
        ];
        if let Some(operation) = operation {
            attributes.push(("gen_ai.operation.name", operation.into()));
            attributes.push(("gen_ai.provider.name", provider_name(self.upstream.kind()).into()));
        }
        if let Some(model) = &self.model {
            attributes.push(("gen_ai.request.model", model.clone().into()));
        }
        // The built-in mock is nowhere.
        let nowhere = self.replica.ip().is_unspecified();
        if !ctx.privacy.strict && !nowhere {
            attributes.push(("server.address", self.replica.ip().to_string().into()));
            attributes.push(("server.port", u64::from(self.replica.port()).into()));
        }
        if let Some(status) = self.status.get() {
            attributes.push(("http.response.status_code", u64::from(*status).into()));
        }
        match (self.failure.get(), self.status.get()) {
            (Some(why), _) => attributes.push(("error.type", (*why).into())),
            (None, Some(status @ 400..)) => {
                attributes.push(("error.type", status.to_string().into()));
            }
            _ => {}
        }
        attributes
    }
}

fn request_attributes(record: &Record, operation: Option<&'static str>) -> Attributes {
    let mut attributes: Attributes = vec![
        ("http.request.method", record.method.into()),
        ("http.route", record.endpoint.into()),
        ("http.response.status_code", u64::from(record.status).into()),
        ("forebay.request_id", record.request_id.to_string().into()),
        ("forebay.attempts", u64::from(record.attempts).into()),
    ];
    if let Some(operation) = operation {
        attributes.push(("gen_ai.operation.name", operation.into()));
        attributes.push(("gen_ai.request.stream", record.stream.into()));
    }
    let client = record.client.map(|client| client.to_string());
    // The name of a model that is nowhere configured is whatever the caller wrote.
    let asked = record.asked_model.as_deref().filter(|_| record.model.is_some());
    for (name, value) in [
        ("gen_ai.request.model", asked),
        ("forebay.provider", record.provider.as_deref()),
        ("forebay.key", record.key.as_deref()),
        ("client.address", client.as_deref()),
    ] {
        if let Some(value) = value {
            attributes.push((name, value.to_owned().into()));
        }
    }
    if let Some(first) = record.first_token {
        attributes.push(("forebay.time_to_first_token", first.as_secs_f64().into()));
    }
    if let Some(code) = record.error {
        attributes.push(("error.type", code.into()));
    }
    attributes
}

/// What the last attempt's answer came to.
fn add_answer(attributes: &mut Attributes, record: &Record) {
    if let Some(stop) = &record.stop {
        let reasons = Attribute::Texts(vec![stop.to_string()]);
        attributes.push(("gen_ai.response.finish_reasons", reasons));
    }
    let Some(spent) = record.spent else { return };
    for (name, count) in [
        ("gen_ai.usage.input_tokens", spent.prompt),
        ("gen_ai.usage.output_tokens", spent.completion),
        ("gen_ai.usage.cache_read.input_tokens", spent.cached),
        ("gen_ai.usage.reasoning.output_tokens", spent.reasoning),
    ] {
        if count > 0 {
            attributes.push((name, count.into()));
        }
    }
}

fn route(ctx: &Context) -> &'static str {
    ctx.endpoint.map_or("other", |endpoint| endpoint.label())
}

/// `gen_ai.operation.name`, of the known ones.
fn operation_name(operation: Operation) -> Option<&'static str> {
    match (operation, operation.task()?) {
        (Operation::Completions, _) => Some("text_completion"),
        (Operation::GenerateContent, _) => Some("generate_content"),
        (_, Task::Generate) => Some("chat"),
        (_, Task::Embed) => Some("embeddings"),
        (_, Task::Count) => None,
    }
}

/// `gen_ai.provider.name`: a known one, or else the kind's own word.
fn provider_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Azure => "azure.ai.openai",
        Kind::Gemini => "gcp.gemini",
        Kind::Vertex => "gcp.vertex_ai",
        Kind::Bedrock => "aws.bedrock",
        kind => kind.word(),
    }
}

/// As much of a text as is told.
fn short(text: &str) -> String {
    text.get(..text.floor_char_boundary(LONGEST)).unwrap_or_default().to_owned()
}

fn nanos_of(began: SystemTime, since: Duration) -> u64 {
    let since_1970 = began.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from((since_1970 + since).as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Percent;

    fn tracing(sample: u8) -> Tracing {
        Tracing {
            endpoint: "http://127.0.0.1:4318/v1/traces".parse().unwrap(),
            headers: Vec::new(),
            sample: Percent(sample),
            service_name: "s".to_owned(),
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn a_caller_who_has_decided_is_followed() {
        let spans = Arc::default();
        let mut headers = HeaderMap::new();
        assert!(begin(&headers, &tracing(0), &spans).is_none());
        assert!(begin(&headers, &tracing(100), &spans).unwrap().parent.is_none());
        let known = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        headers.insert(&TRACEPARENT, known.parse().unwrap());
        let trace = begin(&headers, &tracing(0), &spans).unwrap();
        assert_eq!(hex::encode(trace.context.trace), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(trace.parent.map(hex::encode).as_deref(), Some("00f067aa0ba902b7"));
        headers.append(&TRACEPARENT, known.parse().unwrap());
        assert!(begin(&headers, &tracing(0), &spans).is_none(), "two contexts are none");
        headers.insert(&TRACEPARENT, known.replace("-01", "-00").parse().unwrap());
        assert!(begin(&headers, &tracing(100), &spans).is_none());
    }

    #[test]
    fn a_text_is_cut_between_letters() {
        assert_eq!(short("m"), "m");
        assert_eq!(short(&"é".repeat(200)).len(), LONGEST);
        assert_eq!(short(&format!("x{}", "é".repeat(200))).len(), LONGEST - 1);
    }
}
