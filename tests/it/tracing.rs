//! Spans of requests, as a collector gets them; and the context that passes through.

use crate::support::answer::{Answer, Ending};
use crate::support::client::{CHAT, chat_body};
use crate::support::gateway::{self, FRONT, SPARE};
use crate::support::otlp::{Span, exported};
use crate::support::until;
use crate::support::upstream::{self, Upstream};

const TRACING: &str = r#"
tracing: { endpoint: "http://@collector", headers: { Authorization: "Basic collector-canary" }, service_name: edge }
"#;
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

async fn collector() -> Upstream {
    upstream::with(|_| Answer::new(200, "application/x-protobuf", "")).await
}

fn servers(spans: &[Span]) -> Vec<Span> {
    spans.iter().filter(|span| span.kind == 2).cloned().collect()
}

fn is(span: &Span, name: &str, value: &str) {
    assert_eq!(span.attributes.get(name).map(String::as_str), Some(value), "{name} of {span:?}");
}

#[tokio::test]
async fn a_request_and_each_of_its_attempts_has_a_span() {
    let (one, two, collector) = (
        upstream::always(Answer::error(503, "no")).await,
        upstream::chat("hi").await,
        collector().await,
    );
    let yaml = format!("{SPARE}{TRACING}");
    let plan = gateway::with(&yaml).up("a", &one).up("b", &two).up("collector", &collector);
    let gateway = plan.start().await;
    let request = gateway.client().post(CHAT, chat_body("hi").to_string());
    let request = request.header("traceparent", PARENT).header("tracestate", "vendor=1");
    request.header("x-request-id", "the-id").send().await.ok();

    let spans = exported(&collector, "three spans", |spans| spans.len() == 3).await;
    for span in &spans {
        assert_eq!((span.service.as_str(), span.scope.as_str()), ("edge", "forebay"));
        assert_eq!(span.trace, "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(span.began > 1_700_000_000_000_000_000 && span.ended >= span.began, "{span:?}");
        assert_eq!(span.flags & 1, 1);
    }
    let root = &servers(&spans)[0];
    assert_eq!(
        (root.name.as_str(), root.parent.as_str()),
        ("POST /v1/chat/completions", "00f067aa0ba902b7")
    );
    assert_eq!(root.status, 0);
    for (name, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/v1/chat/completions"),
        ("http.response.status_code", "200"),
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.request.model", "m"),
        ("gen_ai.usage.input_tokens", "7"),
        ("gen_ai.usage.output_tokens", "3"),
        ("gen_ai.response.finish_reasons", "stop"),
        ("forebay.provider", "two"),
        ("forebay.attempts", "2"),
        ("forebay.request_id", "the-id"),
        ("client.address", "127.0.0.1"),
    ] {
        is(root, name, value);
    }
    let mut attempts: Vec<&Span> = spans.iter().filter(|span| span.kind == 3).collect();
    attempts.sort_by_key(|span| span.began);
    let [first, second] = attempts[..] else { panic!("{spans:?}") };
    for span in [first, second] {
        assert_eq!((span.name.as_str(), &span.parent), ("chat m", &root.id));
        is(span, "gen_ai.provider.name", "vllm");
        assert!(span.began >= root.began && span.ended <= root.ended);
    }
    assert_eq!((first.status, second.status), (2, 0));
    is(first, "forebay.provider", "one");
    is(first, "error.type", "server_error");
    is(first, "http.response.status_code", "503");
    is(first, "server.port", &one.address.port().to_string());
    assert!(first.ended <= second.began);
    is(second, "http.request.resend_count", "1");
    is(second, "gen_ai.usage.output_tokens", "3");

    // Each upstream is told of its own attempt.
    for (upstream, span) in [(&one, first), (&two, second)] {
        let told = format!("00-{}-{}-01", span.trace, span.id);
        assert_eq!(upstream.call().header("traceparent"), Some(told.as_str()));
        assert_eq!(upstream.call().header("tracestate"), Some("vendor=1"));
    }
    let call = collector.call();
    assert_eq!(call.target(), "/v1/traces");
    assert_eq!(call.header("content-type"), Some("application/x-protobuf"));
    assert_eq!(call.header("authorization"), Some("Basic collector-canary"));
    gateway.counts("forebay_spans_total{outcome=\"exported\"}", 3).await;
}

#[tokio::test]
async fn without_a_context_a_trace_begins_here() {
    let (upstream, collector) = (upstream::chat("hi").await, collector().await);
    let yaml = format!("{FRONT}{TRACING}");
    let plan = gateway::with(&yaml).up("up", &upstream).up("collector", &collector);
    let gateway = plan.start().await;
    for given in
        [None, Some("00-nonsense"), Some("00-00000000000000000000000000000000-00f067aa0ba902b7-01")]
    {
        let mut request = gateway.client().post(CHAT, chat_body("hi").to_string());
        if let Some(given) = given {
            request = request.header("traceparent", given).header("tracestate", "vendor=1");
        }
        request.send().await.ok();
    }
    gateway.client().get("/health").await.ok();
    gateway.client().post(CHAT, "{").send().await;
    gateway.client().post(CHAT, r#"{"model":"missing"}"#).send().await;
    let spans = exported(&collector, "five requests", |spans| servers(spans).len() == 5).await;
    assert_eq!(
        spans.len(),
        8,
        "three of them had an attempt, and health is nobody's business: {spans:?}"
    );
    let roots = servers(&spans);
    assert!(roots.iter().all(|span| span.parent.is_empty()));
    let mut traces: Vec<&str> = roots.iter().map(|span| span.trace.as_str()).collect();
    traces.sort_unstable();
    traces.dedup();
    assert_eq!(traces.len(), 5);
    for call in upstream.calls() {
        let told = call.header("traceparent").unwrap();
        assert!(traces.contains(&&told[3..35]), "{told}");
        assert_eq!(call.header("tracestate"), None, "it belongs to a context that was none");
    }
    let missing = roots.iter().find(|span| span.attributes["http.response.status_code"] == "404");
    is(missing.unwrap(), "error.type", "model_not_found");
}

#[tokio::test]
async fn what_is_not_recorded_passes_as_it_came() {
    let (upstream, collector) = (upstream::chat("hi").await, collector().await);
    let without = gateway::front(&upstream).await;
    let yaml = format!("{FRONT}{}", TRACING.replace("service_name", "sample: 0%, service_name"));
    let plan = gateway::with(&yaml).up("up", &upstream).up("collector", &collector);
    let unsampled = plan.start().await;
    let off = PARENT.replace("-01", "-00");
    for (gateway, context) in [(&without, PARENT), (&unsampled, off.as_str())] {
        upstream.forget();
        let request = gateway.client().post(CHAT, chat_body("hi").to_string());
        let request = request.header("traceparent", context).header("tracestate", "vendor=1");
        request.send().await.ok();
        assert_eq!(upstream.call().header("traceparent"), Some(context));
        assert_eq!(upstream.call().header("tracestate"), Some("vendor=1"));
    }
    unsampled.client().post(CHAT, chat_body("hi").to_string()).send().await.ok();
    // A caller who records has its call recorded here.
    let request = unsampled.client().post(CHAT, chat_body("hi").to_string());
    request.header("traceparent", PARENT).send().await.ok();
    let spans = exported(&collector, "one request", |spans| !spans.is_empty()).await;
    assert_eq!(spans.len(), 2, "{spans:?}");
}

#[tokio::test]
async fn neither_content_nor_keys_stand_in_a_span_and_no_address_where_privacy_is_strict() {
    let (upstream, collector) = (upstream::chat("answer-canary").await, collector().await);
    let keys = "keys: [{ name: team, key: client-canary-1 }]\n";
    for strict in [false, true] {
        collector.forget();
        let privacy = if strict { "privacy: strict\n" } else { "" };
        let yaml = format!("{FRONT}{TRACING}{keys}{privacy}");
        let plan = gateway::with(&yaml).up("up", &upstream).up("collector", &collector);
        let gateway = plan.start().await;
        let client = gateway.client().key("client-canary-1");
        let prompt = r#"{"model":"m","messages":[{"role":"user","content":"prompt-canary"}]}"#;
        upstream.behave(|_| Answer::chat("answer-canary"));
        client.post(CHAT, prompt).header("user-agent", "device-canary").send().await.ok();
        upstream.behave(|_| Answer::error(400, "answer-canary"));
        client.post(CHAT, prompt).send().await;
        client.post(CHAT, r#"{"model":"prompt-canary"}"#).send().await;
        client.get("/v1/files/file-canary?after=query-canary").await;
        let spans = exported(&collector, "four requests", |spans| servers(spans).len() == 4).await;
        let told = format!("{spans:?}");
        assert!(!told.contains("canary"), "{told}");
        assert!(told.contains("\"forebay.key\": \"team\""), "{told}");
        assert_eq!(told.contains("127.0.0.1"), !strict, "{told}");
        assert!(!gateway.log().contains("collector-canary"));
    }
}

#[tokio::test]
async fn a_collector_that_is_away_or_silent_holds_nobody_up() {
    let (upstream, collector) = (upstream::chat("hi").await, collector().await);
    let yaml =
        format!("{FRONT}{}", TRACING.replace("service_name", "timeout: 500ms, service_name"));
    let plan = gateway::with(&yaml).up("up", &upstream).up("collector", &collector);
    let gateway = plan.start().await;
    collector.behave(|_| Answer::silence());
    gateway.client().chat("hi").await.ok();
    until("it is told", || gateway.log().contains("traces do not reach")).await;
    gateway.counts("forebay_spans_total{outcome=\"failed\"}", 2).await;
    for _ in 0..20 {
        gateway.client().chat("hi").await.ok();
    }
    // One that asks to come again is asked again.
    collector.forget();
    collector.behave(|call| match call.index {
        0 => Answer::new(503, "text/plain", "later"),
        _ => Answer::new(200, "application/x-protobuf", ""),
    });
    until("it is told", || gateway.log().contains("traces reach")).await;
    assert!(collector.count() >= 2);
    collector.behave(|_| Answer::chat("").ending(Ending::ResetBeforeHead));
    gateway.client().chat("hi").await.ok();
}

#[tokio::test]
async fn the_last_spans_are_sent_before_the_end() {
    let (upstream, collector) = (upstream::chat("hi").await, collector().await);
    let yaml = format!("{FRONT}{TRACING}");
    let plan = gateway::with(&yaml).up("up", &upstream).up("collector", &collector);
    let mut gateway = plan.start().await;
    gateway.client().chat("hi").await.ok();
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
    let spans = exported(&collector, "they are there", |spans| !spans.is_empty()).await;
    assert_eq!(spans.len(), 2);
}

#[tokio::test]
async fn tracing_begins_and_ends_with_a_reload() {
    let (upstream, collector) = (upstream::chat("hi").await, collector().await);
    let plan = gateway::with(FRONT).up("up", &upstream);
    let gateway = plan.start().await;
    gateway.client().chat("hi").await.ok();
    let section = TRACING.replace("@collector", &collector.address.to_string());
    gateway.configure(|yaml| format!("{yaml}{section}"));
    assert!(gateway.reload().await);
    gateway.client().chat("hi").await.ok();
    let spans = exported(&collector, "one request", |spans| !spans.is_empty()).await;
    assert_eq!(spans.len(), 2, "{spans:?}");
    gateway.configure(|yaml| yaml.replace(&section, ""));
    assert!(gateway.reload().await);
    gateway.client().chat("hi").await.ok();
    assert_eq!(upstream.calls().last().unwrap().header("traceparent"), None);
}
