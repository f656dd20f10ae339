//! The one place where a failure becomes a response.

use bytes::Bytes;
use http::{Method, header};
use pingora::http::ResponseHeader;
use pingora::proxy::{FailToProxy, Session};
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::attempt::{record_failure, repeat};
use super::body::{BAD_FORM, MODEL_NOT_ALLOWED, UPLOAD_TOO_LARGE};
use super::contain::PANICKED;
use super::context::{Context, Framing};
use super::cross;
use super::cut::SHUTTING_DOWN;
use super::hold::{self, SILENT_UPSTREAM};
use super::local;
use super::new_request_id;
use super::refusal::{Refusal, write_body, write_element, write_event};
use super::respond::{break_off, is_streaming, judge_broken_off, may_retry, seconds, try_next};
use super::stream::BrokenOff;
use crate::config::Dialect;
use crate::routing::Failure;
use crate::telemetry::Metrics;

/// How long an unread body may go on arriving after a refusal, so that the client gets to read it.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(5);
/// What is likely to have arrived with the head.
pub const SHORT_BODY: u64 = 64 << 10;
/// How much of an unread body is read at once, and the pause between such pieces: what nobody wants
/// must not take the processor from those who are served. 13 MB/s.
const PIECE: usize = 64 << 10;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

/// No connection came about: true when another attempt may help.
pub fn after_connect(ctx: &mut Context, metrics: &Metrics) -> bool {
    fault!("proxy::after_connect");
    // Nothing was sent: the body is whole, unless an earlier attempt has spent it.
    after_failure(ctx, metrics, Failure::Connect)
}

/// An attempt broke off: true when another one may help.
pub fn after_attempt(ctx: &mut Context, metrics: &Metrics, error: &Error, reused: bool) -> bool {
    // What panicked once would again.
    if error.etype == PANICKED {
        return false;
    }
    // Decided already, where the answer was judged.
    if ctx.course.has_next() {
        return true;
    }
    if ctx.refusal.is_some() {
        return false;
    }
    let Some(failure) = blame(error) else {
        // The client's own doing, or its leaving.
        let told = [
            UPLOAD_TOO_LARGE,
            BAD_FORM,
            MODEL_NOT_ALLOWED,
            SHUTTING_DOWN,
            ErrorType::ReadTimedout,
            // Pingora would not send the client's head on.
            ErrorType::InvalidHTTPHeader,
            // Of what was spooled: pingora takes it for the client's, whose body it is.
            ErrorType::FileReadError,
        ];
        let ours = told.contains(&error.etype);
        ctx.outcome.client_gone = error.esource == ErrorSource::Downstream && !ours;
        return false;
    };
    if let Some(again) = judge_broken_off(ctx, metrics) {
        return again;
    }
    // Whoever is still asked has no reason to answer.
    let unfinished = ctx.hold.as_ref().is_some_and(|hold| hold.progress().unfinished);
    if failure == Failure::Timeout && unfinished {
        ctx.refusal = Some(Refusal::body_too_slow());
        return false;
    }
    if reused && failure == Failure::Broken && repeat_on_new_connection(ctx) {
        return true;
    }
    after_failure(ctx, metrics, failure)
}

fn after_failure(ctx: &mut Context, metrics: &Metrics, failure: Failure) -> bool {
    record_failure(ctx, metrics, failure);
    let retry = may_retry(ctx) && try_next(ctx, metrics, failure);
    if !retry {
        ctx.course.failure = Some(failure);
    }
    retry
}

/// A pooled connection that was dead already says nothing about the replica: the same attempt goes
/// out once more, on a new connection.
fn repeat_on_new_connection(ctx: &mut Context) -> bool {
    if !may_retry(ctx) || ctx.course.current.as_ref().is_none_or(|attempt| attempt.answered) {
        return false;
    }
    repeat(ctx, |attempt| attempt.fresh = true)
}

/// Whose failure it was, when it was the upstream's.
fn blame(error: &Error) -> Option<Failure> {
    if error.etype == SILENT_UPSTREAM {
        return Some(Failure::Timeout);
    }
    if error.esource != ErrorSource::Upstream {
        return None;
    }
    Some(match error.etype {
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Failure::Timeout,
        _ => Failure::Broken,
    })
}

/// The request has failed for good: says so, if there is still somebody to tell.
pub async fn rescue(session: &mut Session, ctx: &mut Context, error: &Error) -> FailToProxy {
    fault!("proxy::rescue");
    let refusal = ctx.refusal.take().unwrap_or_else(|| explain(ctx, error));
    let refused = error.etype == ErrorType::InvalidHTTPHeader && ctx.course.attempts == 0;
    ctx.outcome.code = Some(refusal.code);
    ctx.outcome.failure = Some(if refused { refusal.code.to_owned() } else { name(error) });
    if ctx.outcome.client_gone {
        ctx.outcome.status = 499;
        return FailToProxy { error_code: 0, can_reuse_downstream: false };
    }
    let progress = ctx.hold.as_ref().map(|hold| hold.progress()).unwrap_or_default();
    let begun = match ctx.hold {
        Some(_) => progress.committed || progress.heartbeating,
        None => ctx.head_sent,
    };
    let told = if begun {
        tell_in_band(session, ctx, &refusal).await
    } else {
        // The client's own session again: the held one has no say over its connection.
        if let Some(hold) = ctx.hold.take() {
            hold::uninstall(&mut session.downstream_session, &hold);
        }
        session.set_keepalive(None);
        answer(session, ctx, &refusal).await
    };
    if told.is_err() {
        ctx.outcome.client_gone = true;
    }
    FailToProxy { error_code: refusal.status, can_reuse_downstream: false }
}

/// An event, and the stream's proper end. Anything but an event stream can only be broken off.
async fn tell_in_band(session: &mut Session, ctx: &mut Context, refusal: &Refusal) -> Result<()> {
    if !is_streaming(ctx) {
        return Ok(());
    }
    let BrokenOff { bytes, told } = break_off(ctx, refusal);
    let mut bytes = bytes.map(Vec::from).unwrap_or_default();
    if !told {
        let array = ctx.asked.framing == Framing::Array;
        let last = if array { write_element } else { write_event };
        bytes.extend_from_slice(&last(ctx.caller, refusal, ctx.request_id()));
    }
    session.write_response_body(Some(bytes.into()), true).await
}

/// An error's source and kind. Its context is left out: pingora puts bytes of what a peer said there.
pub fn name(error: &Error) -> String {
    format!("{} {}", error.esource.as_str(), error.etype.as_str())
}

/// What went wrong, for the client.
fn explain(ctx: &Context, error: &Error) -> Refusal {
    if error.etype == PANICKED {
        return Refusal::internal();
    }
    if error.etype == UPLOAD_TOO_LARGE {
        return Refusal::too_large(ctx.snapshot.config.limits.upload);
    }
    if error.etype == BAD_FORM {
        return Refusal::bad_form();
    }
    if error.etype == MODEL_NOT_ALLOWED {
        return Refusal::form_not_allowed();
    }
    if error.etype == SHUTTING_DOWN {
        return Refusal::shutting_down();
    }
    if error.etype == ErrorType::ReadTimedout && error.esource == ErrorSource::Downstream {
        return Refusal::body_too_slow();
    }
    if error.etype == ErrorType::InvalidHTTPHeader && error.esource == ErrorSource::Downstream {
        return Refusal::ambiguous("head");
    }
    match ctx.course.failure.or_else(|| blame(error)) {
        Some(Failure::Connect | Failure::Broken) => Refusal::upstream_unreachable(),
        Some(Failure::Timeout) => Refusal::upstream_timeout(),
        Some(Failure::Status(status)) => Refusal::upstream_status(status, None, None),
        Some(Failure::Key) => Refusal::upstream_auth(),
        None => Refusal::internal(),
    }
}

/// Answers a request that goes no further. The connection lives on if the body was read.
pub async fn refuse(session: &mut Session, ctx: &mut Context, refusal: &Refusal) {
    ctx.outcome.code = Some(refusal.code);
    ctx.outcome.failure = Some(refusal.code.to_owned());
    if answer(session, ctx, refusal).await.is_err() {
        ctx.outcome.client_gone = true;
        session.set_keepalive(None);
    }
}

/// The whole answer to a head that pingora refuses with `status` before any phase, in place of its
/// own, which says nothing. Who asked, and for what, is not known.
pub fn answer_unread(status: u16) -> Bytes {
    let (reason, refusal) = match status {
        405 => ("Method Not Allowed", Refusal::wrong_method("CONNECT", vec![Method::GET])),
        _ => ("Bad Request", Refusal::malformed()),
    };
    let id = new_request_id();
    let id = id.to_str().unwrap_or_default();
    let body = write_body(Dialect::OpenaiChat, &refusal, id);
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", refusal.status);
    for method in &refusal.allow {
        head.extend(["allow: ", method.as_str(), "\r\n"]);
    }
    head.extend(["content-type: application/json\r\nx-request-id: ", id, "\r\n"]);
    head.extend(["content-length: ", &body.len().to_string(), "\r\nconnection: close\r\n\r\n"]);
    [head.as_bytes(), &body].concat().into()
}

/// A short body is read before the answer, so that the connection can live on; a longer one, or one
/// whose end is not known, after it: who is refused learns it at once.
async fn answer(session: &mut Session, ctx: &mut Context, refusal: &Refusal) -> Result<()> {
    let length = session.req_header().headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let short = length.is_some_and(|length| length <= SHORT_BODY);
    // A client that waits for `100 Continue` sends nothing more once it is refused.
    let waits = session.req_header().headers.contains_key(header::EXPECT)
        && session.response_written().is_none();
    if refusal.close || waits {
        session.set_keepalive(None);
    } else if short || session.downstream_session.is_body_done() {
        drain(session).await;
        return write(session, ctx, refusal).await;
    }
    write(session, ctx, refusal).await?;
    if !waits {
        drain(session).await;
    }
    Ok(())
}

/// Reads what the client still sends, for a while: closing with unread bytes resets the connection,
/// and the client may never see why.
pub async fn drain(session: &mut Session) {
    let all = async {
        let mut read = 0;
        while let Some(piece) = session.downstream_session.read_request_body().await? {
            read += piece.len();
            if read >= PIECE {
                read = 0;
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok::<_, Box<Error>>(())
    };
    if !matches!(tokio::time::timeout(DRAIN, all).await, Ok(Ok(()))) {
        session.set_keepalive(None);
    }
}

async fn write(session: &mut Session, ctx: &mut Context, refusal: &Refusal) -> Result<()> {
    let body = write_body(ctx.caller, refusal, ctx.request_id());
    let mut head = ResponseHeader::build(refusal.status, Some(8))?;
    head.insert_header(header::CONTENT_TYPE, "application/json")?;
    cross::write_error_type(ctx.caller, refusal.status, refusal.code, &mut head)?;
    if let Some(pause) = refusal.retry_after {
        head.insert_header(header::RETRY_AFTER, seconds(pause))?;
    }
    if !refusal.allow.is_empty() {
        let methods: Vec<&str> = refusal.allow.iter().map(Method::as_str).collect();
        head.insert_header(header::ALLOW, methods.join(", "))?;
    }
    local::write(session, ctx, head, body).await
}
