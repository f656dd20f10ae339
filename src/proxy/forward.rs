//! Towards the upstream: the head and the body of an attempt.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, header};
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType, OrErr, Result};

use super::attempt::{Attempt, Auth, pass_over};
use super::body::{Part, with_span};
use super::buffered::count;
use super::clock::Patience;
use super::context::{Asked, Body, Context, DROPPED};
use super::cross;
use super::heads;
use super::hold::Prepared;
use super::refusal::Refusal;
use super::respond::again;
use super::sign::sign;
use crate::access;
use crate::config::{ClientAuth, Dialect};
use crate::protocol::Operation;
use crate::protocol::edit::{Edits, edit_request};
use crate::protocol::json::{self, Members, Splice};
use crate::routing::{Endpoint, Leg};
use crate::telemetry::Metrics;

/// Bodies up to this size go out in one write; larger ones in slices of what the client sent, so
/// that no second copy of them exists.
const ONE_WRITE: usize = 64 << 10;
/// Neighbouring slices below this are joined: a system call costs more than copying them.
const SMALL_PIECE: usize = 16 << 10;

/// Writes the head of the current attempt, and lays its body out.
pub fn write_request(
    ctx: &mut Context,
    metrics: &Metrics,
    request: &mut RequestHeader,
) -> Result<()> {
    let Some(attempt) = &ctx.course.current else {
        return Error::e_explain(ErrorType::InternalError, "a request without an attempt");
    };
    fault!("proxy::write_request", |_| Error::e_explain(ErrorType::InternalError, "fault"));
    let way = match cross::find_way(ctx, attempt, &request.headers) {
        Ok(way) => way,
        // What one target's dialect cannot take, another's may.
        Err(refusal) if pass_over(ctx) => return again(refusal.code),
        Err(refusal) => return refuse(ctx, refusal),
    };
    let Some(attempt) = &mut ctx.course.current else { return Ok(()) };
    (attempt.crossing, attempt.chunks) = (way.crossing, way.chunks);
    let Some(attempt) = &ctx.course.current else { return Ok(()) };
    write_head(ctx, attempt, request, way.path.as_deref(), way.query)?;
    let laid_out = match way.body {
        // A second copy, which counts beside the first.
        Some(body) => count(metrics, ctx.snapshot.config.limits.buffered, body)
            .map(|body| Some(laid(&body, &Splice::default()))),
        None => body_of(attempt, &ctx.body, ctx.asked),
    };
    let (parts, length) = match laid_out {
        Ok(Some(body)) => body,
        Ok(None) => {
            sign(attempt, request, &[])?;
            if let Some(hold) = &ctx.hold {
                hold.prepare(prepared(ctx, attempt, Vec::new()));
            }
            return Ok(());
        }
        Err(refusal) => return refuse(ctx, refusal),
    };
    request.remove_header(&header::TRANSFER_ENCODING);
    match length {
        Some(length) => request.insert_header(header::CONTENT_LENGTH, length)?,
        None => request.remove_header(&header::CONTENT_LENGTH).map_or((), drop),
    }
    sign(attempt, request, &parts)?;
    if let Some(hold) = &ctx.hold {
        hold.prepare(prepared(ctx, attempt, parts));
    }
    Ok(())
}

/// What is known of an attempt before it has gone out. A heartbeat may have to tell what was left out of
/// the request before any answer does.
fn prepared(ctx: &Context, attempt: &Attempt, body: Vec<Part>) -> Prepared {
    let dropped = attempt.crossing.as_deref().and_then(|crossing| crossing.dropped.clone());
    let early = dropped.map(|names| (DROPPED.clone(), names));
    Prepared { body, patience: patience(ctx, attempt), early }
}

fn refuse(ctx: &mut Context, refusal: Refusal) -> Result<()> {
    ctx.refusal = Some(refusal);
    Error::e_explain(ErrorType::HTTPStatus(400), "the body cannot be written")
}

/// `None`: pingora's own read timeout, which knows no difference between a first byte and the next,
/// is all that is needed.
fn patience(ctx: &Context, attempt: &Attempt) -> Option<Patience> {
    let timeouts = &attempt.upstream.provider.timeouts;
    let (first_byte, between_chunks) = (timeouts.first_byte, timeouts.between_chunks);
    let heartbeat = heartbeat(ctx);
    let tunnel = matches!(ctx.body, Body::None);
    let needed = heartbeat.is_some() || first_byte != between_chunks || tunnel;
    needed.then_some(Patience { first_byte, between_chunks, heartbeat })
}

/// How long a stream may be silent towards the client; `None` for what has no place for comments.
pub fn heartbeat(ctx: &Context) -> Option<Duration> {
    // Google's own SDK takes a comment for the answer's JSON; AWS's frames have none.
    let comments = !matches!(ctx.caller, Dialect::Gemini | Dialect::Bedrock);
    ctx.snapshot.config.heartbeat.filter(|_| ctx.asked.stream && comments)
}

/// What providers are told of the caller's program where that must not go on.
const OURS: &str = concat!("forebay/", env!("CARGO_PKG_VERSION"));

/// Headers that stay with us.
const NOT_FORWARDED: [&str; 29] = [
    "accept-encoding",
    "api-key",
    "authorization",
    "cf-connecting-ip",
    "client-ip",
    "cookie",
    "expect",
    "fastly-client-ip",
    "forwarded",
    "origin",
    "referer",
    "remote-addr",
    "remote-user",
    "true-client-ip",
    "via",
    "x-api-key",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-forwarded",
    "x-goog-api-key",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-real-ip",
    "x-remote-user",
    "x-request-id",
    "x-rewrite-url",
    "x-url-scheme",
];

/// … and families of them: who somebody was before a proxy, what they asked it for, a signature of
/// theirs, and our own.
const FAMILIES_NOT_FORWARDED: [&str; 5] =
    ["x-amz-", "x-envoy-", "x-forebay-", "x-forwarded-", "x-original-"];

/// Headers that tell a provider what is wanted and nothing of who wants it, where more must not go on.
const DISCREET: [&str; 12] = [
    "accept",
    "anthropic-beta",
    "anthropic-version",
    "connection",
    "content-length",
    "content-type",
    "host",
    "openai-beta",
    "openai-organization",
    "openai-project",
    "transfer-encoding",
    "upgrade",
];

/// Whether a header tells nothing of the caller's device and program.
fn is_discreet(name: &str) -> bool {
    DISCREET.contains(&name) || name.starts_with("sec-websocket-")
}

/// Whether a header of the client's goes on to the provider. Not what is between the client and us,
/// what would tell the provider more than it needs, what some servers take for another method, path
/// or user, or credentials. Which account pays is the gateway's to say when its key is used.
fn is_forwarded(name: &str, our_key: bool) -> bool {
    if name.contains('_') {
        // Proxies spell these two ways, and servers read them as one.
        return false;
    }
    if name.starts_with("x-") && FAMILIES_NOT_FORWARDED.iter().any(|it| name.starts_with(it)) {
        return false;
    }
    !(NOT_FORWARDED.contains(&name) || says_who_pays(name) && our_key)
}

/// Credentials, and what says on whose account a call goes.
fn says_who_pays(name: &str) -> bool {
    const NAMES: [&str; 8] = [
        "api-key",
        "authorization",
        "cookie",
        "openai-organization",
        "openai-project",
        "x-api-key",
        "x-goog-api-key",
        "x-goog-user-project",
    ];
    NAMES.contains(&name)
}

fn write_head(
    ctx: &Context,
    attempt: &Attempt,
    request: &mut RequestHeader,
    path: Option<&str>,
    query: Option<&str>,
) -> Result<()> {
    let provider = &attempt.upstream.provider;
    let replica = attempt.pick.replica();
    let model = attempt.leg.as_ref().map_or("", |leg| leg.upstream_model());
    let crossing = attempt.crossing.as_deref();
    // What Google's and Amazon's paths may have behind them is said here, not by the caller.
    let query = if path.is_some() {
        query.map(str::to_owned)
    } else {
        let query = request.uri.query().and_then(access::without_keys);
        query.map(|query| with_model(&query, model))
    };
    let path = path.unwrap_or(request.uri.path());
    let target = provider.target(&replica.url, path, query.as_deref(), model);
    if request.raw_path() != target.as_bytes() {
        let target =
            target.parse().or_err(ErrorType::InternalError, "an invalid request target")?;
        request.set_uri(target);
    }

    let ours = attempt.is_ours();
    // Beside a caller's own key stands nothing that says who we are to the provider.
    let never_ours =
        matches!(attempt.auth, Auth::Callers(_)) || provider.client_auth == ClientAuth::Forward;
    let upgrades = ctx.endpoint == Some(Endpoint::Realtime);
    let discreet = !ctx.privacy.forward_device_headers;
    let unwanted = |name: &&HeaderName| {
        let upgrade = **name == header::UPGRADE || **name == header::CONNECTION;
        let goes = match crossing {
            Some(_) => cross::crosses(name.as_str()),
            None => is_forwarded(name.as_str(), ours),
        };
        !goes || (upgrade && !upgrades) || (discreet && !is_discreet(name.as_str()))
    };
    let unwanted: Vec<HeaderName> = request.headers.keys().filter(unwanted).cloned().collect();
    if let Some(crossing) = crossing {
        cross::write_head(crossing.provider, ctx.asked.stream, request)?;
    }
    let dialect = crossing.map_or(provider.profile.dialect, |crossing| crossing.provider);
    if dialect == Dialect::Anthropic {
        cross::say_version(request)?;
    }
    heads::edit_request(request, |headers| {
        for name in &unwanted {
            headers.remove(name);
        }
        if let Some(offered) = access::subprotocols_without_key(headers) {
            let offered = HeaderValue::try_from(offered);
            let offered = offered.or_err(ErrorType::InternalError, "an invalid subprotocol")?;
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offered);
        }
        if discreet {
            headers.insert(header::USER_AGENT, HeaderValue::from_static(OURS));
        }
        if let Some(host) = &replica.host {
            headers.insert(header::HOST, host.clone());
        }
        headers.insert(&super::REQUEST_ID, ctx.request_id.clone());
        if let Some(trace) = &ctx.trace {
            trace.tell(headers);
        }
        for (name, value) in &provider.headers {
            if never_ours && says_who_pays(name.as_str()) {
                continue;
            }
            headers.insert(name, value.clone());
        }
        match &attempt.auth {
            Auth::None => {}
            Auth::Ours(key) => {
                if let Some((name, value)) = key.header() {
                    headers.insert(name, value);
                }
            }
            Auth::Callers((name, value)) => {
                headers.insert(name, value.clone());
            }
        }
        Ok(())
    })
}

/// `model=` in a query names the provider's model, as it does in a body.
fn with_model(query: &str, model: &str) -> String {
    let member = |member: &str| match member.strip_prefix("model=") {
        Some(_) if !model.is_empty() => {
            let encoded =
                percent_encoding::utf8_percent_encode(model, percent_encoding::NON_ALPHANUMERIC);
            format!("model={encoded}")
        }
        _ => member.to_owned(),
    };
    query.split('&').map(member).collect::<Vec<_>>().join("&")
}

type Laid = (Vec<Part>, Option<u64>);

/// The body of one attempt, and its length where it is known. `None`: pingora's own business.
fn body_of(attempt: &Attempt, body: &Body, asked: Asked) -> Result<Option<Laid>, Refusal> {
    match body {
        Body::None => Ok(None),
        Body::Json { bytes, members } => {
            let Some(leg) = &attempt.leg else { return Ok(Some(laid(bytes, &Splice::default()))) };
            let splice = edits_of(attempt, leg, asked, bytes, members)?;
            Ok(Some(laid(bytes, &splice)))
        }
        Body::Parts { parts, length, model } => {
            let named = attempt.leg.as_ref().map(Leg::upstream_model);
            match (model, named) {
                (Some(span), Some(name)) => {
                    let change = name.len() as u64;
                    let old = span.end.saturating_sub(span.start);
                    let length = length.map(|length| length.saturating_sub(old) + change);
                    let name = Bytes::copy_from_slice(name.as_bytes());
                    Ok(Some((with_span(parts, span, name), length)))
                }
                _ => Ok(Some((parts.clone(), *length))),
            }
        }
    }
}

/// What the configuration changes in a body of the provider's own dialect.
pub fn edits_of(
    attempt: &Attempt,
    leg: &Leg,
    asked: Asked,
    bytes: &Bytes,
    members: &Members,
) -> Result<Splice, Refusal> {
    let metered = matches!(asked.operation, Operation::ChatCompletions | Operation::Completions);
    let edits = Edits {
        model: Some(leg.upstream_model()),
        request: &leg.model.request,
        include_usage: asked.stream && metered && !asked.usage,
        chat_cap: attempt.upstream.provider.profile.chat_cap,
        priority: attempt.priority.filter(|_| takes_priority(asked.operation)),
    };
    Ok(edit_request(asked.operation, bytes, members, &edits)?)
}

/// Calls of vLLM's that have a `priority`, in the bodies of their own dialect.
fn takes_priority(operation: Operation) -> bool {
    use Operation::{ChatCompletions, Completions, Embeddings, Responses};
    matches!(operation, ChatCompletions | Completions | Embeddings | Responses)
}

/// A body that was put into another dialect, with the attempt's priority.
pub fn with_priority(attempt: &Attempt, body: Bytes) -> Bytes {
    let Some(priority) = attempt.priority else { return body };
    let Ok(members) = json::scan(&body) else { return body };
    let (mut splice, priority) = (Splice::default(), priority.to_string());
    match members.find("priority") {
        Some(member) => splice.replace(member.value.clone(), priority),
        None => splice.insert_member(&members, "priority", priority.as_bytes()),
    }
    splice.apply(&body)
}

fn laid(bytes: &Bytes, splice: &Splice) -> Laid {
    let length = splice.len(bytes);
    if length == 0 {
        return (Vec::new(), Some(0));
    }
    let parts = if length <= ONE_WRITE {
        vec![Part::Bytes(splice.apply(bytes))]
    } else {
        joined(splice.pieces(bytes)).into_iter().map(Part::Bytes).collect()
    };
    (parts, Some(length as u64))
}

/// Small neighbours become one piece.
fn joined(pieces: Vec<Bytes>) -> Vec<Bytes> {
    let mut out: Vec<Bytes> = Vec::with_capacity(pieces.len());
    let mut small = BytesMut::new();
    for piece in pieces {
        if piece.len() + small.len() < SMALL_PIECE {
            small.extend_from_slice(&piece);
            continue;
        }
        if !small.is_empty() {
            out.push(small.split().freeze());
        }
        out.push(piece);
    }
    if !small.is_empty() {
        out.push(small.freeze());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_small_neighbours_are_joined() {
        let big = Bytes::from(vec![b'x'; SMALL_PIECE]);
        let pieces = vec![
            Bytes::from_static(b"{"),
            Bytes::from_static(b"a"),
            big.clone(),
            Bytes::from_static(b"}"),
        ];
        let joined = joined(pieces);
        assert_eq!(joined.iter().map(Bytes::len).collect::<Vec<_>>(), [2, SMALL_PIECE, 1]);
        assert_eq!(joined[1].as_ptr(), big.as_ptr(), "the large piece is not copied");
    }

    #[test]
    fn a_query_names_the_providers_model() {
        assert_eq!(with_model("model=a&x=1", "meta/b"), "model=meta%2Fb&x=1");
        assert_eq!(with_model("x=1", "b"), "x=1");
    }
}
