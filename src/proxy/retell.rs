//! An answer on its way into the caller's dialect: how it begins, and what may be wrong with one that had
//! a good status.

use bytes::Bytes;
use http::{StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};

use super::attempt::{is_our_key, record_failure, record_success};
use super::context::{Context, Framing};
use super::cross;
use super::refusal::Refusal;
use super::respond::{blame, fail_over};
use super::stream::{Stage, error_message};
use crate::protocol::Operation;
use crate::protocol::canonical::Unreadable;
use crate::protocol::translate::Back;
use crate::provider::Fault;
use crate::routing::Failure;
use crate::telemetry::Metrics;

/// Whether a provider that does not know a call says so with this status.
pub fn may_be_unknown(status: u16) -> bool {
    matches!(status, 404 | 405 | 501)
}

/// Whether a refusal is about the model: the call is known, then.
pub fn is_about_a_model(said: &[u8]) -> bool {
    memchr::memmem::find(&said.to_ascii_lowercase(), b"model").is_some()
}

/// An answer that is put into the caller's dialect.
pub fn begin_translation(
    ctx: &mut Context,
    metrics: &Metrics,
    head: &mut ResponseHeader,
    back: Back,
    streamed: bool,
) -> Result<()> {
    let asked = ctx.asked;
    let leg = ctx.course.current.as_ref().and_then(|attempt| attempt.leg.as_ref());
    let chat = asked.operation == Operation::ChatCompletions;
    let edits = leg.filter(|_| chat).map(|leg| leg.model.response.clone()).unwrap_or_default();
    let chunks = ctx.course.current.as_ref().is_some_and(|attempt| attempt.chunks);
    let stage = Stage::across(back, streamed && asked.stream, asked.stream, &edits);
    ctx.stage = stage.framed(chunks, is_invoked(ctx));
    if !matches!(ctx.stage, Stage::Stream(_)) {
        record_success(ctx, metrics);
    }
    head.set_status(StatusCode::OK)?;
    head.remove_header(&header::CONTENT_LENGTH);
    cross::write_type(asked, asked.stream, head)
}

/// Whether the caller reads Claude's events in Bedrock's frames.
pub fn is_invoked(ctx: &Context) -> bool {
    ctx.asked.operation == Operation::Messages && ctx.asked.framing == Framing::Frames
}

/// An error before anything of an answer, in an answer that had a good status.
pub fn first_error(
    ctx: &mut Context,
    metrics: &Metrics,
    status: Option<u16>,
    said: &Bytes,
) -> Result<()> {
    let ours = status.filter(|_| is_our_key(ctx));
    let fault = ours.and_then(|status| Fault::of(status, said));
    let mut refusal = Refusal::upstream_status(status.unwrap_or(502), error_message(said), None);
    let attempt = ctx.course.current.as_ref();
    if let Some(crossing) = attempt.and_then(|attempt| attempt.crossing.as_deref()) {
        crossing.explain(&mut refusal, said);
        refusal.status = cross::status_for(ctx.caller, refusal.status);
    }
    if let Some(fault) = fault {
        blame(ctx, metrics, fault, None)?;
        ctx.refusal = Some(refusal);
        return Error::e_explain(ErrorType::HTTPStatus(502), "the upstream failed");
    }
    let failure = Failure::Status(status.unwrap_or(502));
    // Without a status it may be about the request: tried elsewhere, and nobody is blamed.
    if status.is_some() {
        record_failure(ctx, metrics, failure);
    }
    fail_over(ctx, metrics, failure, refusal)
}

/// A whole answer that is none: a failure in a good answer's clothes, or not what its dialect promises.
/// Nothing of it has gone out. A caller can provoke some of these, so the replica is not blamed.
pub fn reject(
    ctx: &mut Context,
    metrics: &Metrics,
    unreadable: &Unreadable,
    whole: &[u8],
) -> Result<()> {
    if let Some(failure) = cross::failure_in(whole) {
        let status = failure.status.unwrap_or(failure.kind.status());
        return first_error(ctx, metrics, Some(status), &Bytes::copy_from_slice(whole));
    }
    log::warn!("{}: an answer that cannot be read, {} bytes", ctx.provider_label(), whole.len());
    log::debug!("{unreadable}");
    fail_over(ctx, metrics, Failure::Status(502), Refusal::unreadable())
}
