//! The way out: what is counted and logged, exactly once, whatever happened.

use http::StatusCode;
use pingora::proxy::Session;

use super::account;
use super::attempt::record_usage;
use super::contain::PANICKED;
use super::context::{Context, UnderWay};
use super::hold;
use super::note::record;
use crate::audit::Record;
use crate::protocol::edit::Usage;
use crate::routing::{Endpoint, Local};
use crate::telemetry::{Entry, Metrics, Tokens};

/// nginx's status for a client that left before there was an answer.
pub const CLIENT_GONE: u16 = 499;

/// Gives the client's session back, and settles the request.
pub fn finish(session: &mut Session, ctx: &mut Context) {
    fault!("proxy::finish");
    if let Some(hold) = ctx.hold.take() {
        hold::uninstall(&mut session.downstream_session, &hold);
    }
    if ctx.outcome.status == 0 {
        ctx.outcome.status = CLIENT_GONE;
    }
    let client = &session.downstream_session;
    ctx.note.moved = (client.body_bytes_read() as u64, client.body_bytes_sent() as u64);
    settle(ctx);
}

/// Pingora skips its last phase when a request panics, or when its runtime ends before it does.
impl Drop for Context {
    fn drop(&mut self) {
        if self.unsettled.is_none() {
            return;
        }
        if self.outcome.status == 0 {
            self.outcome.status = StatusCode::INTERNAL_SERVER_ERROR.as_u16();
        }
        let failure = if std::thread::panicking() { PANICKED.as_str() } else { "Abandoned" };
        self.outcome.failure = Some(failure.to_owned());
        settle(self);
    }
}

fn settle(ctx: &mut Context) {
    let Some(under_way) = ctx.unsettled.take() else { return };
    // Read once: a whole answer is searched for it.
    let usage = ctx.stage.usage();
    let bill = account::settle(ctx, usage);
    let metrics = &under_way.metrics;
    count(ctx, metrics, ctx.endpoint.map_or("other", |endpoint| endpoint.label()));
    if ctx.endpoint.is_some() {
        count_stream(ctx, metrics, usage);
    }
    if ctx.note.wanted {
        let record = record(ctx, bill);
        if let Some(trace) = ctx.trace.take() {
            trace.finish(ctx, metrics, &record);
        }
        keep(ctx, &under_way, record);
    }
}

/// The record's last way: to whoever wants one, once per answered request.
fn keep(ctx: &mut Context, under_way: &UnderWay, record: Record) {
    let (logged, access_log) = (Entry::is_wanted(), ctx.snapshot.config.access_log.as_ref());
    if logged || access_log.is_some() {
        let entry = entry(&record);
        if logged {
            entry.write();
        }
        if let Some(access_log) = access_log {
            under_way.access_log.offer(entry.line(access_log.format), &under_way.metrics);
        }
    }
    // The gateway's own health is asked for all the time, and by nobody in particular.
    let health = [Local::Live, Local::Ready, Local::Metrics].map(Endpoint::Local);
    let wanted = ctx.endpoint.is_none_or(|endpoint| !health.contains(&endpoint));
    if let Some(audit) = ctx.note.audit.take().filter(|_| wanted) {
        audit.put(record, ctx.note.kept.take());
    }
}

fn count(ctx: &Context, metrics: &Metrics, endpoint: &'static str) {
    let status = StatusCode::from_u16(ctx.outcome.status).unwrap_or(StatusCode::BAD_GATEWAY);
    metrics.count_request(ctx.counted(), endpoint, status, ctx.started.elapsed().as_secs_f64());
}

fn count_stream(ctx: &Context, metrics: &Metrics, usage: Option<Usage>) {
    let counted = ctx.counted();
    if let Some(usage) = usage {
        record_usage(ctx, &usage);
        let tokens = Tokens {
            prompt: usage.prompt,
            completion: usage.completion,
            cached: usage.cached,
            reasoning: usage.reasoning,
        };
        metrics.count_tokens(counted, tokens);
    }
    let Some(first) = ctx.timing.first_event else { return };
    let waited = first.duration_since(ctx.started).as_secs_f64();
    metrics.observe_first_token(counted, waited);
    let gaps = u32::try_from(ctx.stage.events().saturating_sub(1)).unwrap_or(u32::MAX);
    if let (Some(last), 1..) = (ctx.timing.last_event, gaps) {
        let mean = last.duration_since(first).as_secs_f64() / f64::from(gaps);
        metrics.observe_inter_token(counted, mean);
    }
}

fn entry(record: &Record) -> Entry<'_> {
    // As it is booked: the sum of the lines is that of usage.
    let spent = record.spent.filter(|spent| spent.prompt > 0 || spent.completion > 0);
    Entry {
        at: record.at,
        request_id: &record.request_id,
        method: record.method,
        endpoint: record.endpoint,
        status: record.status,
        client: record.client,
        key: record.key.as_deref(),
        user: record.user.as_deref(),
        model: record.model.as_deref(),
        provider: record.provider.as_deref(),
        attempts: record.attempts,
        duration: record.duration,
        first_token: record.first_token,
        tokens: spent.map(|spent| (spent.prompt, spent.completion)),
        estimated: spent.is_some_and(|spent| spent.estimated),
        cost: record.spent.map(|spent| spent.cost_nanos),
        stop: record.stop.as_deref(),
        stream: record.stream,
        failure: record.failure.as_deref(),
    }
}
