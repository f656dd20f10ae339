//! From the upstream: what its head means, and what the client gets of it.

use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http::{HeaderName, Method, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, OrErr, Result};

use super::attempt::{
    advance, blame_key, is_our_key, is_perhaps, note_allowance, record_answer, record_failure,
    record_success, repeat_across, repeat_by_their_clock,
};
use super::buffered::Kept;
use super::context::{Body, Context, Framing, mark};
use super::cross;
use super::history;
use super::hold::{EVENT_STREAM, is_of_type};
use super::objects::makes_objects;
use super::refusal::{Refusal, write_body, write_event};
use super::retell::{self, begin_translation, first_error, is_invoked, reject};
use super::stream::{
    BrokenOff, FAILURE, Meter, Passed, Stage, WHOLE, edit_translated, edit_whole, error_message,
    keep,
};
use crate::config::ResponseEdits;
use crate::protocol::Operation;
use crate::protocol::canonical::scrub;
use crate::provider::{Fault, pause};
use crate::routing::{Endpoint, Failure, Next, judge};
use crate::telemetry::Metrics;

/// Pingora's name for the error that ends an attempt we mean to repeat.
const ANOTHER_ATTEMPT: ErrorType = ErrorType::Custom("AnotherAttempt");

/// Headers of a provider that stay with us.
const NOT_RETURNED: [&str; 13] = [
    "alt-svc",
    "cf-cache-status",
    "cf-ray",
    "keep-alive",
    "openai-organization",
    "openai-project",
    "proxy-authenticate",
    "proxy-connection",
    "server",
    "set-cookie",
    "strict-transport-security",
    "trailer",
    "x-request-id",
];

/// Whether a header of a provider's is the client's business. Not what is between the provider and
/// us (RFC 9110 §7.6.1), what tells of the provider's insides or our account with it, what a web page
/// may read here, which `cors` says, and what only we say.
fn is_returned(name: &str) -> bool {
    let ours = name.starts_with("x-forebay-") || name.starts_with("access-control-");
    !NOT_RETURNED.contains(&name) && !ours
}

/// The upstream's head: keep it, or try something else.
pub fn judge_head(ctx: &mut Context, metrics: &Metrics, head: &mut ResponseHeader) -> Result<()> {
    fault!("proxy::judge_head", |_| Error::e_explain(ErrorType::InternalError, "fault"));
    let status = head.status.as_u16();
    if head.status.is_informational() && status != 101 {
        return Ok(());
    }
    if let Some(attempt) = &mut ctx.course.current {
        attempt.answered = true;
        attempt.pick.replica().observe_latency(attempt.started.elapsed());
    }
    if let Some(trace) = &ctx.trace {
        trace.answered(status);
    }
    if status == 101 && ctx.endpoint != Some(Endpoint::Realtime) {
        // Nobody asked for that, and what follows it is no HTTP.
        record_failure(ctx, metrics, Failure::Broken);
        return fail_over(ctx, metrics, Failure::Broken, Refusal::upstream_unreachable());
    }
    note_allowance(ctx, &head.headers);
    if status < 300 || status == 304 {
        return begin_answer(ctx, metrics, head);
    }
    // Redirects are not followed, and not passed on either: they name the provider's addresses.
    let failure = Failure::Status(if status < 400 { 502 } else { status });
    let pause = pause(&head.headers, SystemTime::now());
    if status < 400 {
        record_failure(ctx, metrics, failure);
        return fail_over(ctx, metrics, failure, Refusal::upstream_status(502, None, None));
    }
    if status == 403 && may_retry(ctx) && repeat_by_their_clock(ctx, &head.headers) {
        return again(Failure::Key.label());
    }
    if retell::may_be_unknown(status) && is_perhaps(ctx) && may_retry(ctx) {
        if has_words(ctx, head) {
            // Is the call unknown there, or the model?
            ctx.stage = Stage::Unjudged { kept: BytesMut::new(), status, pause };
            return Ok(());
        }
        if repeat_across(ctx) {
            return again(failure.label());
        }
    }
    cross::note_error(ctx, status, &head.headers);
    if is_our_key(ctx) && Fault::may_be(status) {
        if has_words(ctx, head) {
            return await_words(ctx, head, status, pause);
        }
        if let Some(fault) = Fault::of(status, b"") {
            blame(ctx, metrics, fault, pause)?;
            return keep_failure(ctx, head, status, pause);
        }
    }
    if judge(failure, &ctx.snapshot.config.retry, is_our_key(ctx)) == Next::Keep && status < 500 {
        // The client's own mistake, in the provider's own words.
        record_client_error(ctx, metrics, failure);
        return keep_failure(ctx, head, status, pause);
    }
    record_failure(ctx, metrics, failure);
    if may_retry(ctx) && try_next(ctx, metrics, failure) {
        return again(failure.label());
    }
    keep_failure(ctx, head, status, pause)
}

/// The replica works; what it says is about the request.
fn record_client_error(ctx: &Context, metrics: &Metrics, failure: Failure) {
    record_failure(ctx, metrics, failure);
    if let Some(attempt) = &ctx.course.current {
        attempt.upstream.pool.succeeded(&attempt.pick);
    }
}

/// Whether an answer has a body that can be waited for before the client hears of it.
fn has_words(ctx: &Context, head: &ResponseHeader) -> bool {
    let length = head.headers.get(header::CONTENT_LENGTH);
    ctx.hold.is_some()
        && ctx.endpoint != Some(Endpoint::Realtime)
        && ctx.method != Method::HEAD
        && length.is_none_or(|length| length != "0")
}

/// Keeps a failure that may be our key's until what it says is known.
fn await_words(
    ctx: &mut Context,
    head: &mut ResponseHeader,
    status: u16,
    pause: Option<Duration>,
) -> Result<()> {
    match status {
        429 => keep_failure(ctx, head, status, pause)?,
        // Never the client's, whatever becomes of the body.
        401 | 402 => head.set_status(StatusCode::BAD_GATEWAY)?,
        _ => {}
    }
    ctx.refusal = None;
    ctx.stage = Stage::Unjudged { kept: BytesMut::new(), status, pause };
    Ok(())
}

/// Books what is our key's fault, and tries another; else an error, but for a limit, which is the
/// client's to know.
pub(super) fn blame(
    ctx: &mut Context,
    metrics: &Metrics,
    fault: Fault,
    pause: Option<Duration>,
) -> Result<()> {
    let limited = fault == Fault::Limited;
    let failure = if limited { Failure::Status(429) } else { Failure::Key };
    record_failure(ctx, metrics, failure);
    blame_key(ctx, metrics, fault, pause);
    if may_retry(ctx) && try_next(ctx, metrics, failure) {
        return again(failure.label());
    }
    if limited {
        return Ok(());
    }
    ctx.refusal = Some(Refusal::upstream_auth());
    Error::e_explain(ErrorType::HTTPStatus(502), "the upstream refused our key")
}

fn begin_answer(ctx: &mut Context, metrics: &Metrics, head: &mut ResponseHeader) -> Result<()> {
    let event_stream = is_of_type(head, EVENT_STREAM);
    let frames = is_of_type(head, cross::FRAMES);
    cross::note_success(ctx);
    let crossing = ctx.course.current.as_mut().and_then(|attempt| attempt.crossing.as_mut());
    if let Some(back) = crossing.and_then(|crossing| crossing.back.take()) {
        return begin_translation(ctx, metrics, head, back, event_stream || frames);
    }
    if !event_stream && is_heartbeating(ctx) {
        // The client reads events by now.
        return fail_over(ctx, metrics, Failure::Status(502), Refusal::not_streamed());
    }
    let leg = ctx.course.current.as_ref().and_then(|attempt| attempt.leg.as_ref());
    let stage = match leg {
        Some(leg) if head.status.as_u16() != 101 => {
            let withhold = ctx.asked.stream && !ctx.asked.usage;
            // Google streams the elements of an array to those who do not ask for events.
            let array = ctx.asked.stream && ctx.asked.framing == Framing::Array;
            let streamed = event_stream || frames || array;
            Stage::of(ctx.asked.operation, streamed, &leg.model.response, withhold)
        }
        _ => Stage::Pass,
    };
    let chunks = ctx.course.current.as_ref().is_some_and(|attempt| attempt.chunks);
    let stage = stage.framed(chunks, is_invoked(ctx));
    if ctx.asked.stream && (chunks || is_invoked(ctx)) {
        cross::write_type(ctx.asked, true, head)?;
    }
    ctx.stage = match stage {
        Stage::Pass | Stage::Meter(_)
            if makes_objects(ctx) && is_of_type(head, "application/json") =>
        {
            objects_stage(head)
        }
        stage => stage,
    };
    if !matches!(ctx.stage, Stage::Stream(_)) {
        record_success(ctx, metrics);
    }
    if ctx.stage.changes_length() {
        // Before pingora decides about framing: later, it would close the connection instead.
        head.remove_header(&header::CONTENT_LENGTH);
    }
    Ok(())
}

/// Once an answer is out, the client may ask for what it tells of, which must be remembered by then.
/// With a length the last piece is known as such, and the others may pass; chunks are kept until
/// the answer is whole.
fn objects_stage(head: &ResponseHeader) -> Stage {
    if head.headers.contains_key(header::CONTENT_LENGTH) {
        return Stage::Meter(Meter::default());
    }
    Stage::Edit { kept: Kept::default(), edits: ResponseEdits::default(), usage: None }
}

/// Passes a failure on: told anew when it is the provider's, as it is when it is the client's own.
fn keep_failure(
    ctx: &mut Context,
    head: &mut ResponseHeader,
    status: u16,
    pause: Option<Duration>,
) -> Result<()> {
    // After a heartbeat there is no status left to tell it by: it becomes an event.
    let crosses = cross::is_crossing(ctx);
    let ours = status >= 500 || status == 429 || crosses || is_heartbeating(ctx);
    ctx.stage = Stage::Pass;
    if ours {
        let status = if crosses { cross::status_for(ctx.caller, status) } else { status };
        head.set_status(status).or_err(ErrorType::InternalError, "an invalid status")?;
        ctx.stage = Stage::Failure { kept: bytes::BytesMut::new() };
        ctx.refusal = Some(Refusal::upstream_status(status, None, pause));
        head.remove_header(&header::CONTENT_LENGTH);
        head.insert_header(header::CONTENT_TYPE, "application/json")?;
    }
    Ok(())
}

/// Another attempt when there is one, else `refusal`.
pub(super) fn fail_over(
    ctx: &mut Context,
    metrics: &Metrics,
    failure: Failure,
    refusal: Refusal,
) -> Result<()> {
    if may_retry(ctx) && try_next(ctx, metrics, failure) {
        return again(failure.label());
    }
    ctx.refusal = Some(refusal);
    Error::e_explain(ErrorType::HTTPStatus(502), "the upstream failed")
}

/// Ends an attempt whose next one is chosen; `why` it ends.
pub fn again(why: &'static str) -> Result<()> {
    let mut error = Error::explain(ANOTHER_ATTEMPT, why);
    error.as_up();
    error.set_retry(true);
    Err(error)
}

/// Chooses the next attempt after `failure`; false when nothing may help.
pub fn try_next(ctx: &mut Context, metrics: &Metrics, failure: Failure) -> bool {
    let next = judge(failure, &ctx.snapshot.config.retry, is_our_key(ctx));
    let tried = next != Next::Keep && advance(ctx, metrics, Some((failure, next)));
    if tried && matches!(ctx.stage, Stage::Unjudged { .. }) {
        ctx.stage = Stage::Pass;
    }
    tried
}

/// Whether another attempt could still be told from a first one: the client has nothing of an
/// answer yet, and the body is still there to send.
pub fn may_retry(ctx: &Context) -> bool {
    let Some(hold) = &ctx.hold else { return !ctx.head_sent };
    let progress = hold.progress();
    !progress.committed && !progress.spent
}

fn is_heartbeating(ctx: &Context) -> bool {
    ctx.hold.as_ref().is_some_and(|hold| hold.progress().heartbeating)
}

/// The head as the client gets it.
pub fn write_head(ctx: &mut Context, head: &mut ResponseHeader) -> Result<()> {
    fault!("proxy::write_head", |_| Error::e_explain(ErrorType::InternalError, "fault"));
    if head.status.is_informational() && head.status.as_u16() != 101 {
        return Ok(());
    }
    // A provider's own id is what its support asks for; vLLM only repeats ours.
    let id = head.headers.get(&super::REQUEST_ID).filter(|id| *id != ctx.request_id).cloned();
    let crosses = cross::is_crossing(ctx);
    let returned = |name: &str| if crosses { cross::comes_back(name) } else { is_returned(name) };
    let unwanted = |name: &&HeaderName| !returned(name.as_str());
    let unwanted: Vec<HeaderName> = head.headers.keys().filter(unwanted).cloned().collect();
    for name in unwanted {
        head.remove_header(&name);
    }
    if let Some(id) = id {
        head.insert_header("x-forebay-upstream-request-id", id)?;
    }
    if head.status.as_u16() != 101 {
        head.remove_header(&header::UPGRADE);
    }
    if head.status.as_u16() >= 400 && !head.headers.contains_key("x-amzn-errortype") {
        cross::write_error_type(ctx.caller, head.status.as_u16(), "", head)?;
    }
    let pause = match &ctx.stage {
        Stage::Failure { .. } => ctx.refusal.as_ref().and_then(|refusal| refusal.retry_after),
        Stage::Unjudged { status: 429, pause, .. } => *pause,
        _ => None,
    };
    if let Some(pause) = pause {
        head.insert_header(header::RETRY_AFTER, seconds(pause))?;
    }
    ctx.outcome.status = head.status.as_u16();
    ctx.head_sent = true;
    mark(ctx, head)?;
    super::cors::allow(ctx, head)
}

/// Once the client has part of an answer there is no other attempt, and nobody needs the request's
/// body any more.
fn let_go(ctx: &mut Context) {
    let committed = |ctx: &Context| ctx.hold.as_ref().is_some_and(|it| it.progress().committed);
    if !matches!(ctx.body, Body::None) && committed(ctx) {
        ctx.body = Body::None;
    }
}

/// The next bytes of the answer.
pub fn write_chunk(
    ctx: &mut Context,
    metrics: &Metrics,
    body: &mut Option<Bytes>,
    end: bool,
) -> Result<()> {
    let_go(ctx);
    fault!("proxy::response_chunk", |_| Error::e_explain(ErrorType::InternalError, "fault"));
    let heartbeating = matches!(ctx.stage, Stage::Failure { .. }) && is_heartbeating(ctx);
    let objects = end && makes_objects(ctx);
    let buffered = ctx.snapshot.config.limits.buffered;
    match &mut ctx.stage {
        Stage::Pass => Ok(()),
        Stage::Meter(meter) => {
            if let Some(chunk) = body {
                meter.push(chunk);
            }
            if objects {
                ctx.told = meter.whole();
            }
            Ok(())
        }
        Stage::Translate { kept, back, as_stream, edits, usage } => {
            keep_whole(kept, (metrics, buffered), body.take(), &mut ctx.refusal)?;
            if end {
                let whole = kept.take();
                match back.whole(&whole, *as_stream) {
                    Ok((written, read)) => {
                        history::keep(&mut ctx.course, &written, *as_stream);
                        *usage = read.map(cross::usage);
                        *body = Some(edit_translated(written, *as_stream, edits));
                    }
                    Err(unreadable) => return reject(ctx, metrics, &unreadable, &whole),
                }
            }
            Ok(())
        }
        Stage::Edit { kept, edits, usage } => {
            keep_whole(kept, (metrics, buffered), body.take(), &mut ctx.refusal)?;
            if end {
                let (whole, read) = edit_whole(kept.take(), edits);
                (*body, *usage) = (Some(whole.clone()), read);
                ctx.told = objects.then_some(whole);
            }
            Ok(())
        }
        Stage::Failure { kept } => {
            body.take().map(|chunk| keep(kept, &chunk, FAILURE));
            if end && let Some(mut refusal) = ctx.refusal.take() {
                let crossing = ctx.course.current.as_ref().and_then(|it| it.crossing.as_deref());
                if let Some(crossing) = crossing {
                    let known = refusal.retry_after;
                    crossing.explain(&mut refusal, kept);
                    // Google says in the body when to come back; the head is still waiting.
                    if let (None, Some(pause), Some(hold)) = (known, refusal.retry_after, &ctx.hold)
                    {
                        hold.come_back_in(seconds(pause));
                    }
                } else if let Some(said) = error_message(kept) {
                    refusal.message = said;
                }
                ctx.outcome.code = Some(refusal.code);
                *body = Some(if heartbeating {
                    write_event(ctx.caller, &refusal, ctx.request_id())
                } else {
                    write_body(ctx.caller, &refusal, ctx.request_id())
                });
            }
            Ok(())
        }
        Stage::Unjudged { .. } => write_unjudged(ctx, metrics, body, end),
        Stage::Stream(_) => write_events(ctx, metrics, body, end),
    }
}

/// Keeps a chunk of an answer that is needed whole. `refusal`: what to tell where those of others take all
/// the memory there is.
fn keep_whole(
    kept: &mut Kept,
    (metrics, limit): (&Metrics, u64),
    chunk: Option<Bytes>,
    refusal: &mut Option<Refusal>,
) -> Result<()> {
    let Some(chunk) = chunk else { return Ok(()) };
    match kept.push(metrics, limit, &chunk, WHOLE) {
        Ok(true) => Ok(()),
        Ok(false) => Error::e_explain(ErrorType::InternalError, "an answer too long to be kept"),
        Err(refused) => {
            *refusal = Some(refused);
            Error::e_explain(ErrorType::InternalError, "no memory is left for the answer")
        }
    }
}

/// A failure that may be our key's: nothing of it goes out before it is whole, or too long to be.
fn write_unjudged(
    ctx: &mut Context,
    metrics: &Metrics,
    body: &mut Option<Bytes>,
    end: bool,
) -> Result<()> {
    let Stage::Unjudged { kept, status, pause } = &mut ctx.stage else { return Ok(()) };
    let (status, pause, chunk) = (*status, *pause, body.take());
    let fits = chunk.as_ref().is_none_or(|chunk| keep(kept, chunk, FAILURE));
    if fits && !end {
        return Ok(());
    }
    let mut kept = std::mem::take(kept);
    let unknown = retell::may_be_unknown(status) && !retell::is_about_a_model(&kept);
    if unknown && may_retry(ctx) && repeat_across(ctx) {
        return again(Failure::Status(status).label());
    }
    if let Some(fault) = Fault::of(status, &kept) {
        blame(ctx, metrics, fault, pause)?;
        ctx.refusal = Some(Refusal::upstream_status(status, None, pause));
        ctx.stage = Stage::Failure { kept };
    } else {
        // The client's own mistake, in the provider's own words.
        record_client_error(ctx, metrics, Failure::Status(status));
        if !is_heartbeating(ctx) && !cross::is_crossing(ctx) {
            kept.extend_from_slice(&chunk.filter(|_| !fits).unwrap_or_default());
            *body = Some(Bytes::from(scrub(&kept).into_owned()));
            ctx.stage = Stage::Pass;
            return Ok(());
        }
        ctx.refusal = Some(Refusal::upstream_status(status, None, None));
        ctx.stage = Stage::Failure { kept };
    }
    write_chunk(ctx, metrics, body, end)
}

/// A failure whose words broke off: what is there of them, and its status, are judged. Whether the
/// request is tried again; `None` when it is another failure than our key's.
pub fn judge_broken_off(ctx: &mut Context, metrics: &Metrics) -> Option<bool> {
    let Stage::Unjudged { kept, status, pause } = &ctx.stage else { return None };
    let (status, pause, fault) = (*status, *pause, Fault::of(*status, kept)?);
    if blame(ctx, metrics, fault, pause).is_ok() {
        ctx.refusal = Some(Refusal::upstream_status(status, None, pause));
    }
    Some(ctx.course.has_next())
}

fn write_events(
    ctx: &mut Context,
    metrics: &Metrics,
    body: &mut Option<Bytes>,
    end: bool,
) -> Result<()> {
    if ctx.timing.first_event.is_none() && makes_objects(ctx) {
        ctx.told.clone_from(body);
    }
    let Stage::Stream(stream) = &mut ctx.stage else { return Ok(()) };
    match stream.push(body.take(), end) {
        Passed::Bytes(bytes) => {
            if let Some(bytes) = bytes.as_ref().filter(|_| ctx.stage.is_done()) {
                history::keep(&mut ctx.course, bytes, true);
            }
            *body = bytes;
            note_events(ctx);
            if end {
                match &ctx.stage {
                    Stage::Stream(stream) if stream.has_failed() => {
                        ctx.outcome.code = Some("upstream_error");
                        ctx.outcome.failure = Some("the stream broke off".to_owned());
                        record_failure(ctx, metrics, Failure::Broken);
                    }
                    _ => record_success(ctx, metrics),
                }
            }
            Ok(())
        }
        Passed::FirstError { status, body: said } => first_error(ctx, metrics, status, &said),
    }
}

/// Times the events of a stream.
fn note_events(ctx: &mut Context) {
    if ctx.stage.events() == 0 {
        return;
    }
    let now = Instant::now();
    if ctx.timing.first_event.is_none() {
        ctx.timing.first_event = Some(now);
        record_answer(ctx);
    }
    ctx.timing.last_event = Some(now);
}

/// What a stream still holds when it breaks off, because of `refusal`.
pub fn break_off(ctx: &mut Context, refusal: &Refusal) -> BrokenOff {
    match &mut ctx.stage {
        Stage::Stream(stream) => stream.break_off(|| refusal.as_failure()),
        _ => BrokenOff::default(),
    }
}

/// Whether a failure can be told in the stream: the client reads events.
pub fn is_streaming(ctx: &Context) -> bool {
    matches!(ctx.stage, Stage::Stream(_))
        || (ctx.asked.stream && ctx.asked.operation != Operation::Other && is_heartbeating(ctx))
}

/// Whole seconds, rounded up: a client that comes back early is only refused again.
pub fn seconds(pause: Duration) -> u64 {
    pause.as_secs() + u64::from(pause.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_told_in_whole_seconds_rounded_up() {
        assert_eq!(seconds(Duration::from_millis(1200)), 2);
        assert_eq!(seconds(Duration::from_secs(3)), 3);
    }
}
