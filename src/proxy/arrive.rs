//! A request's body on its way in: bounded in size and in time, whole or as a form.

use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use http::{HeaderMap, header};
use pingora::ErrorType;
use pingora::proxy::Session;

use super::body::Part;
use super::buffered::Share;
use super::context::{Body, Context};
use super::refusal::Refusal;
use super::spool::Spool;
use crate::protocol::json::{self, Members};
use crate::protocol::multipart::{Found, Scanner};
use crate::telemetry::Metrics;

/// How much of a form is kept in memory while its model is looked for.
const FORM_HEAD: usize = 64 << 10;
/// What the content type of a form begins with.
const FORM: &[u8] = b"multipart/";

/// A body of JSON of at most so many bytes.
pub async fn read_json(
    session: &mut Session,
    ctx: &Context,
    metrics: &Metrics,
    limit: u64,
) -> Result<(Bytes, Members), Refusal> {
    let limits = &ctx.snapshot.config.limits;
    let headers = &session.req_header().headers;
    if headers.get_all(header::CONTENT_ENCODING).iter().any(|coding| coding != "identity") {
        return Err(Refusal::encoded_body());
    }
    if content_type(headers).is_some_and(|kind| names_another_charset(&kind)) {
        return Err(Refusal::unknown_charset());
    }
    let length = content_length(headers);
    refuse_too_long(length, limit)?;
    let share = Share::begin(metrics, limits.buffered, length)?;
    accept_body(session).await?;
    let total = longest(ctx, limit);
    let bytes = within(total, read_whole(session, ctx, length, limit, share)).await?;
    let members = json::scan(&bytes)?;
    Ok((bytes, members))
}

/// How long a body of at most `limit` bytes may take in all: what its pieces may, and 64 KiB a second.
pub fn longest(ctx: &Context, limit: u64) -> Duration {
    ctx.snapshot.config.timeouts.request_body + Duration::from_secs(limit >> 16)
}

pub async fn within<T>(
    deadline: Duration,
    read: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    let mut read = pin!(read);
    // What has arrived with the head needs no timer.
    if let Some(read) = read.as_mut().now_or_never() {
        return read;
    }
    tokio::time::timeout(deadline, read).await.map_err(|_| Refusal::body_too_slow())?
}

async fn read_whole(
    session: &mut Session,
    ctx: &Context,
    length: Option<u64>,
    limit: u64,
    mut share: Share,
) -> Result<Bytes, Refusal> {
    let first = read_claimed(session, ctx, &mut share).await?;
    let Some(first) = first else { return Ok(Bytes::new()) };
    share.take(first.len())?;
    // Most bodies arrive in one read, and then are not copied at all.
    if length == Some(first.len() as u64) {
        return Ok(share.keep(first));
    }
    // All at once: growing takes up to three times the body. What was declared is within the budget
    // and the limit, and memory that is not written to is not resident.
    let expected = length.unwrap_or(0).max(first.len() as u64);
    let mut whole = BytesMut::with_capacity(usize::try_from(expected).unwrap_or(0));
    whole.extend_from_slice(&first);
    while whole.len() as u64 <= limit {
        let Some(chunk) = read_claimed(session, ctx, &mut share).await? else {
            return Ok(share.keep(whole.freeze()));
        };
        share.take(chunk.len())?;
        whole.extend_from_slice(&chunk);
    }
    Err(Refusal::too_large(limit))
}

/// The next piece of a body; when it is late, what was declared is not claimed any longer.
async fn read_claimed(
    session: &mut Session,
    ctx: &Context,
    share: &mut Share,
) -> Result<Option<Bytes>, Refusal> {
    let mut read = pin!(read_chunk(session, ctx));
    if let Some(due) = share.claim() {
        match tokio::time::timeout_at(due, read.as_mut()).await {
            Ok(read) => return read,
            Err(_) => share.waive(),
        }
    }
    read.await
}

/// Reads a form until its model is known. What was read is kept: in memory while it is short, on
/// disk when a file comes before the model. The scanner comes back when the rest has yet to be read.
pub async fn read_form(
    session: &mut Session,
    ctx: &mut Context,
    metrics: &Metrics,
) -> Result<(String, Option<Scanner>), Refusal> {
    let limit = ctx.snapshot.config.limits.upload;
    let headers = &session.req_header().headers;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let mut scanner = Scanner::new(kind.unwrap_or_default())?;
    let length = content_length(headers);
    refuse_too_long(length, limit)?;
    accept_body(session).await?;
    let mut head: Vec<Part> = Vec::new();
    let mut read = 0;
    while read < FORM_HEAD {
        let Some(chunk) = read_chunk(session, ctx).await? else {
            return Err(Refusal::no_model());
        };
        let mut share = Share::begin(metrics, ctx.snapshot.config.limits.buffered, None)?;
        share.take(chunk.len())?;
        let found = scanner.push(&chunk)?;
        read += chunk.len();
        head.push(Part::Bytes(share.keep(chunk)));
        match found {
            Found::Model { value, span } => {
                head.push(Part::Live);
                ctx.body = Body::Parts { parts: head, length, model: Some(span) };
                return Ok((value, Some(scanner)));
            }
            Found::Absent => return Err(Refusal::no_model()),
            Found::Undecided => {}
        }
    }
    spool_form(session, ctx, scanner, head).await
}

/// Puts the whole form on disk: it can be sent again from there, as often as needed.
async fn spool_form(
    session: &mut Session,
    ctx: &mut Context,
    mut scanner: Scanner,
    head: Vec<Part>,
) -> Result<(String, Option<Scanner>), Refusal> {
    let limit = ctx.snapshot.config.limits.upload;
    let mut spool = Spool::create().await.map_err(|error| spool_failed(&error))?;
    for part in &head {
        if let Part::Bytes(bytes) = part {
            spool.write(bytes).await.map_err(|error| spool_failed(&error))?;
        }
    }
    let mut model = None;
    while let Some(chunk) = read_chunk(session, ctx).await? {
        // To the end: a second model is refused wherever it stands.
        match scanner.push(&chunk)? {
            Found::Model { value, span } => model = Some((value, span)),
            Found::Absent => return Err(Refusal::no_model()),
            Found::Undecided => {}
        }
        spool.write(&chunk).await.map_err(|error| spool_failed(&error))?;
        if spool.len() > limit {
            return Err(Refusal::too_large(limit));
        }
    }
    let (value, span) = model.ok_or_else(Refusal::no_model)?;
    let (file, length) = spool.finish().await.map_err(|error| spool_failed(&error))?;
    let parts = vec![Part::File(file, 0..length)];
    ctx.body = Body::Parts { parts, length: Some(length), model: Some(span) };
    Ok((value, None))
}

fn spool_failed(error: &std::io::Error) -> Refusal {
    log::error!("cannot spool an upload: {error}");
    Refusal::internal()
}

/// Answers `Expect: 100-continue`: from here on the body is wanted.
pub async fn accept_body(session: &mut Session) -> Result<(), Refusal> {
    let expects = session.req_header().headers.contains_key(header::EXPECT);
    if expects && session.write_continue_response().await.is_err() {
        return Err(Refusal::client_gone());
    }
    Ok(())
}

/// The next piece of the body; it may take `timeouts.request_body` to arrive. HTTP/2 has empty
/// pieces, which are none.
async fn read_chunk(session: &mut Session, ctx: &Context) -> Result<Option<Bytes>, Refusal> {
    let deadline = ctx.snapshot.config.timeouts.request_body;
    let read = async {
        loop {
            let read = session.downstream_session.read_request_body().await;
            if !matches!(&read, Ok(Some(bytes)) if bytes.is_empty()) {
                fault!("proxy::read_body", |_| Err(Refusal::client_gone()));
                return read.map_err(|error| match error.etype {
                    ErrorType::ReadTimedout => Refusal::body_too_slow(),
                    // Pingora's own name for a body whose chunks are none.
                    ErrorType::Custom("InvalidChunk" | "InvalidTrailerEnd") => {
                        Refusal::bad_framing()
                    }
                    _ => Refusal::client_gone(),
                });
            }
        }
    };
    within(deadline, read).await
}

pub fn refuse_too_long(length: Option<u64>, limit: u64) -> Result<(), Refusal> {
    if length.is_some_and(|length| length > limit) {
        Err(Refusal::too_large(limit))
    } else {
        Ok(())
    }
}

pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

pub fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(|kind| kind.as_bytes().trim_ascii());
    let start = kind.and_then(|kind| kind.get(..FORM.len()));
    start.is_some_and(|start| start.eq_ignore_ascii_case(FORM))
}

pub fn content_type(headers: &HeaderMap) -> Option<String> {
    Some(headers.get(header::CONTENT_TYPE)?.to_str().ok()?.trim().to_ascii_lowercase())
}

/// Whether a content type, in small letters, says that its text is no UTF-8. `us-ascii` is.
fn names_another_charset(kind: &str) -> bool {
    let parameters = kind.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let mut charsets = parameters.filter(|(name, _)| name.trim() == "charset");
    let is_utf8 = |charset: &str| matches!(charset, "utf-8" | "utf8" | "us-ascii" | "ascii");
    charsets.any(|(_, charset)| !is_utf8(charset.trim().trim_matches('"')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_utf_8_is_read() {
        for kind in ["application/json", "text/plain; charset=\"utf-8\"", "a/b;charset=utf8", ""] {
            assert!(!names_another_charset(kind), "{kind}");
        }
        for kind in ["application/json; charset=utf-16", "a/b; x=y; charset = latin1", "a;charset="]
        {
            assert!(names_another_charset(kind), "{kind}");
        }
    }
}
