//! Browsers: which pages may call, and the preflight that asks.

use http::header;
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};

use super::context::Context;

/// How long a browser may remember the answer to its preflight, in seconds.
const REMEMBER: u32 = 600;
/// What a page may read of an answer, besides what every page may.
const EXPOSED: &str =
    "x-request-id, x-forebay-provider, x-forebay-model, x-forebay-attempts, retry-after";

/// Whether a request is a preflight this configuration answers.
pub fn is_preflight(ctx: &Context, request: &RequestHeader) -> bool {
    ctx.snapshot.config.cors.is_some()
        && request.method == http::Method::OPTIONS
        && request.headers.contains_key(header::ORIGIN)
        && request.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The origin a page at `origin` is told it may call from; `None`: it may not.
pub fn allowed_origin(ctx: &Context, origin: Option<&str>) -> Option<String> {
    let cors = ctx.snapshot.config.cors.as_ref()?;
    let origin = origin?;
    if cors.allow_origins.iter().any(|allowed| allowed == "*") {
        return Some("*".to_owned());
    }
    cors.allow_origins.iter().any(|allowed| allowed == origin).then(|| origin.to_owned())
}

/// The answer to a preflight.
pub fn preflight(ctx: &Context, request: &RequestHeader) -> Result<ResponseHeader> {
    let mut head = ResponseHeader::build(204, Some(8))?;
    allow(ctx, &mut head)?;
    if ctx.origin.is_some() {
        head.insert_header(header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, PATCH, DELETE")?;
        head.insert_header(header::ACCESS_CONTROL_MAX_AGE, REMEMBER)?;
        if let Some(wanted) = request.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            head.insert_header(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone())?;
        }
    }
    Ok(head)
}

/// Marks an answer as readable for the page that asked.
pub fn allow(ctx: &Context, head: &mut ResponseHeader) -> Result<()> {
    if ctx.snapshot.config.cors.is_none() {
        return Ok(());
    }
    head.insert_header(header::VARY, "origin")?;
    if let Some(origin) = &ctx.origin {
        head.insert_header(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.as_str())?;
        head.insert_header(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED)?;
    }
    Ok(())
}
