//! The way in: who asks, for what, with which body, and where it may go.

use std::pin::pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use http::{HeaderMap, HeaderName, Method, header};
use memchr::memmem;
use pingora::ErrorType;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::authenticate::authenticate;
use super::body::{Live, Part};
use super::buffered::Share;
use super::context::{Asked, Body, Context, Framing, Hop};
use super::cut::Cut;
use super::refusal::Refusal;
use super::spool::Spool;
use super::{Gateway, account, cors, cross, heads, hold, objects, standing, tunnel};
use crate::access::percent_decoded;
use crate::config::Dialect;
use crate::protocol::json::{self, Members};
use crate::protocol::multipart::{Found, Scanner};
use crate::protocol::edit::wants_usage;
use crate::protocol::{Operation, anthropic};
use crate::routing::{Call, Endpoint, Local};
use crate::telemetry::Metrics;

/// How much of a form is kept in memory while its model is looked for.
const FORM_HEAD: usize = 64 << 10;
/// What the content type of a form begins with.
const FORM: &[u8] = b"multipart/";

/// Where admission leads.
pub enum Admitted {
    /// To an upstream.
    Forward,
    /// To an answer of our own.
    Local(Local),
    /// To this one.
    Told(Bytes),
    /// To a browser's preflight.
    Preflight(Box<ResponseHeader>),
}

/// Takes a request in, or refuses it before anything of it reaches an upstream.
pub async fn admit(
    session: &mut Session,
    ctx: &mut Context,
    gateway: &Gateway,
) -> Result<Admitted, Refusal> {
    fault!("proxy::admit", |_| Err(Refusal::internal()));
    let request = session.req_header();
    let path = request.uri.path();
    let origin = request.headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    ctx.origin = cors::allowed_origin(ctx, origin);
    if cors::is_preflight(ctx, request) {
        let head = cors::preflight(ctx, request).map_err(|_| Refusal::internal())?;
        return Ok(Admitted::Preflight(Box::new(head)));
    }
    let found = Endpoint::find(&request.method, path).filter(|found| is_shown(ctx, *found));
    let Some(endpoint) = found else { return Err(not_found(ctx, &request.method, path)) };
    ctx.endpoint = Some(endpoint);
    ctx.makes = request.method == http::Method::POST;
    if let Endpoint::Local(local) = endpoint
        && local.needs_no_key()
    {
        return Ok(Admitted::Local(local));
    }
    authenticate(ctx, session, gateway, endpoint)?;
    let mut form = None;
    match endpoint {
        Endpoint::Local(local) => return Ok(Admitted::Local(local)),
        Endpoint::ByModel(call) => form = by_model(session, ctx, gateway, call).await?,
        Endpoint::ByPath { call, stream } => by_path(session, ctx, gateway, call, stream).await?,
        Endpoint::ByDefault(call) => form = by_default(session, ctx, gateway, call).await?,
        Endpoint::Realtime => realtime(session, ctx)?,
    }
    let uri = &session.req_header().uri;
    objects::check(&gateway.owners, ctx, uri.path(), uri.query().unwrap_or_default())?;
    if ctx.course.hops.is_empty() {
        return Err(Refusal::no_default_provider());
    }
    leave_out_providers(ctx)?;
    if let Some(count) = cross::count_here(ctx)? {
        return Ok(Admitted::Told(count));
    }
    account::open(ctx, gateway)?;
    if endpoint == Endpoint::Realtime && is_websocket(session) {
        ctx.hold = Some(tunnel::install(&mut session.downstream_session, gateway.cut.clone()));
    } else if !matches!(ctx.body, Body::None) {
        install(session, ctx, gateway, form);
    }
    Ok(Admitted::Forward)
}

/// Leaves out targets at providers that the caller may not use.
fn leave_out_providers(ctx: &mut Context) -> Result<(), Refusal> {
    let Some(principal) = &ctx.principal else { return Ok(()) };
    ctx.course.hops.retain(|hop| principal.may_use_provider(&hop.upstream.provider.name));
    if ctx.course.hops.is_empty() {
        return Err(Refusal::provider_not_allowed());
    }
    Ok(())
}

/// Nothing there, or nothing that this method does. What is hidden has no methods either.
fn not_found(ctx: &Context, method: &Method, path: &str) -> Refusal {
    let shown = |method: &Method| {
        Endpoint::find(method, path).is_none_or(|endpoint| is_shown(ctx, endpoint))
    };
    let methods: Vec<Method> = Endpoint::methods(path).into_iter().filter(shown).collect();
    if methods.is_empty() {
        return Refusal::unknown_path(method.as_str(), path);
    }
    Refusal::wrong_method(method.as_str(), methods)
}

/// Metrics are for operators, and temporary keys for nobody, unless the configuration says otherwise.
fn is_shown(ctx: &Context, endpoint: Endpoint) -> bool {
    match endpoint {
        Endpoint::Local(Local::Metrics) => ctx.snapshot.config.metrics.on_data_listener,
        Endpoint::Local(Local::Operators) => {
            let admin = &ctx.snapshot.config.admin;
            admin.as_ref().is_some_and(|admin| admin.on_data_listener)
        }
        Endpoint::Local(Local::MakeKey | Local::Challenge) => {
            ctx.snapshot.config.temporary_keys.is_some()
        }
        _ => true,
    }
}

/// Whose dialect the caller speaks, as far as its refusals go.
pub fn caller(path: &str, headers: &HeaderMap) -> Dialect {
    static ANTHROPIC: HeaderName = HeaderName::from_static("anthropic-version");
    static GEMINI: HeaderName = HeaderName::from_static("x-goog-api-key");
    if path.starts_with("/model/") {
        return Dialect::Bedrock;
    }
    if path.starts_with("/v1/messages") || headers.contains_key(&ANTHROPIC) {
        return Dialect::Anthropic;
    }
    if path.starts_with("/v1beta/") || headers.contains_key(&GEMINI) {
        return Dialect::Gemini;
    }
    if path.starts_with("/v1/responses") {
        return Dialect::OpenaiResponses;
    }
    Dialect::OpenaiChat
}

async fn by_model(
    session: &mut Session,
    ctx: &mut Context,
    gateway: &Gateway,
    call: Call,
) -> Result<Option<Scanner>, Refusal> {
    ctx.asked.operation = call.operation;
    let mut form = None;
    let model = if is_form(&session.req_header().headers) {
        let total = longest(ctx, ctx.snapshot.config.limits.upload);
        let (model, scanner) = within(total, read_form(session, ctx, &gateway.metrics)).await?;
        form = scanner;
        model
    } else {
        let (bytes, members) =
            read_json(session, ctx, &gateway.metrics, ctx.snapshot.config.limits.body).await?;
        let model = members.string(&bytes, "model")?.ok_or_else(Refusal::no_model)?.into_owned();
        let stream = members.boolean(&bytes, "stream")?.unwrap_or(false);
        let usage = wants_usage(&bytes, &members);
        ctx.asked = Asked { operation: call.operation, stream, usage, ..Asked::default() };
        ctx.body = Body::Json { bytes, members };
        model
    };
    plan(ctx, &model)?;
    Ok(form)
}

/// A call whose path names the model, and says whether it asks for a stream.
async fn by_path(
    session: &mut Session,
    ctx: &mut Context,
    gateway: &Gateway,
    call: Call,
    stream: bool,
) -> Result<(), Refusal> {
    let uri = &session.req_header().uri;
    let model = Endpoint::model_in(uri.path()).ok_or_else(Refusal::no_model)?;
    let model = percent_decoded(model).into_owned();
    let framing = framing(call.operation, uri.query().unwrap_or_default());
    let (bytes, members) =
        read_json(session, ctx, &gateway.metrics, ctx.snapshot.config.limits.body).await?;
    ctx.asked = Asked { operation: call.operation, stream, usage: true, framing };
    // Texts to embed: Titan's name of them, or Cohere's.
    let embeds = ["inputText", "texts"].iter().any(|name| members.find(name).is_some());
    ctx.body = Body::Json { bytes, members };
    if call.operation == Operation::Invoke && embeds && !stream {
        ctx.asked.operation = Operation::InvokeEmbed;
    } else if call.operation == Operation::Invoke {
        unwrap(session, ctx, &model)?;
    }
    plan(ctx, &model)
}

/// What is invoked is Claude: the body is a Messages body, but for what the path says.
fn unwrap(session: &mut Session, ctx: &mut Context, model: &str) -> Result<(), Refusal> {
    let Body::Json { bytes, members } = &ctx.body else { return Ok(()) };
    let unwrapped = anthropic::from_bedrock(bytes, members, model, ctx.asked.stream)?;
    let bytes = unwrapped.splice.apply(bytes);
    let members = json::scan(&bytes)?;
    ctx.body = Body::Json { bytes, members };
    ctx.asked.operation = Operation::Messages;
    if !unwrapped.betas.is_empty() {
        let betas = unwrapped.betas.join(",");
        let set = session.req_header_mut().insert_header("anthropic-beta", betas);
        set.map_err(|_| Refusal::wrong_type("anthropic_beta", "names of betas"))?;
    }
    Ok(())
}

/// How the clients of these calls read a stream.
fn framing(operation: Operation, query: &str) -> Framing {
    match operation {
        Operation::Converse | Operation::Invoke => Framing::Frames,
        Operation::GenerateContent if !query.split('&').any(|member| member == "alt=sse") => {
            Framing::Array
        }
        _ => Framing::Events,
    }
}

/// The targets of a model, if the caller may use it.
fn plan(ctx: &mut Context, name: &str) -> Result<(), Refusal> {
    fault!("proxy::plan", |_| Err(Refusal::internal()));
    if name.chars().any(char::is_control) {
        return Err(Refusal::wrong_type("model", "a name without control characters"));
    }
    let snapshot = &ctx.snapshot;
    let found = snapshot.models.find(name);
    let Some((model, bare)) = found else { return Err(Refusal::model_not_found(name)) };
    // A fallback serves another model, which the caller must be allowed as well.
    let may_use = |name: &str| ctx.principal.as_ref().is_some_and(|who| who.may_use(name));
    let hop = |leg: crate::routing::Leg| {
        if !may_use(&leg.asked) {
            return None;
        }
        let upstream = snapshot.upstream(leg.provider()?)?.clone();
        Some(Hop { upstream, leg: Some(leg) })
    };
    if !may_use(bare) {
        return Err(Refusal::model_not_allowed(name));
    }
    ctx.course.hops = snapshot.models.plan(model, bare).into_iter().filter_map(hop).collect();
    Ok(())
}

/// A call without a model goes to `default_provider`. A model that stands in it all the same, as in
/// an assistant, must be one the caller may use.
async fn by_default(
    session: &mut Session,
    ctx: &mut Context,
    gateway: &Gateway,
    call: Call,
) -> Result<Option<Scanner>, Refusal> {
    ctx.asked.operation = call.operation;
    let default = ctx.snapshot.default_upstream.clone();
    ctx.course.hops = default.map(|upstream| Hop { upstream, leg: None }).into_iter().collect();
    let headers = &session.req_header().headers;
    let length = content_length(headers);
    if session.is_body_empty() {
        return Ok(None);
    }
    if is_form(&session.req_header().headers) {
        let kind = content_type(&session.req_header().headers);
        let form = Scanner::new(kind.as_deref().unwrap_or_default())?;
        refuse_too_long(length, ctx.snapshot.config.limits.upload)?;
        accept_body(session).await?;
        ctx.body = Body::Parts { parts: vec![Part::Live], length, model: None };
        return Ok(Some(form));
    }
    // Everything else is JSON, whatever its content type says: servers read it as JSON all the same.
    let (bytes, members) =
        read_json(session, ctx, &gateway.metrics, ctx.snapshot.config.limits.body).await?;
    let allowed = |name: &str| ctx.principal.as_ref().is_some_and(|who| who.may_use(name));
    let mut refused = members.string(&bytes, "model")?.filter(|model| !allowed(model));
    // A run of an evaluation or a session names its model further down.
    if refused.is_none() && memmem::find(&bytes, b"model").is_some() {
        json::strings_below(&bytes, &["model"], |model| {
            if refused.is_none() && !allowed(model) {
                refused = Some(model.to_owned().into());
            }
        })?;
    }
    if let Some(model) = refused {
        return Err(Refusal::model_not_allowed(&model));
    }
    ctx.asked.stream = members.boolean(&bytes, "stream")?.unwrap_or(false);
    ctx.body = Body::Json { bytes, members };
    Ok(None)
}

/// A WebSocket: pingora passes the upgraded connection on, the query says where to. It must say so
/// in one way: a server may take the last of two names, and undo escapes in them.
fn realtime(session: &mut Session, ctx: &mut Context) -> Result<(), Refusal> {
    // Are the bytes behind the head its body, or the first frames?
    if is_websocket(session) && !session.is_body_empty() {
        return Err(Refusal::ambiguous("body"));
    }
    let query = session.req_header().uri.query().unwrap_or_default();
    let members = query.split('&').map(|member| member.split_once('=').unwrap_or((member, "")));
    let mut models = members.filter(|(name, _)| {
        let name = percent_decoded(name);
        name == "model" || name == "deployment"
    });
    let named = models.next().filter(|(name, _)| *name == "model");
    let (_, model) = named.ok_or_else(Refusal::no_model)?;
    if models.next().is_some() {
        return Err(Refusal::wrong_type("model", "named once"));
    }
    let model = percent_decoded(model).into_owned();
    plan(ctx, &model)
}

/// Whether a request asks for the one protocol pingora switches to.
fn is_websocket(session: &Session) -> bool {
    let asked = session.req_header().headers.get(header::UPGRADE);
    session.is_upgrade_req()
        && asked.is_some_and(|asked| asked.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn install(session: &mut Session, ctx: &mut Context, gateway: &Gateway, form: Option<Scanner>) {
    // Only where a stream is one of events: elsewhere `stream` may mean anything.
    let events = ctx.asked.stream && ctx.asked.operation.has_event_stream();
    let head = events.then(|| early_head(ctx)).flatten();
    let live = Live {
        left: ctx.snapshot.config.limits.upload,
        pause: ctx.snapshot.config.timeouts.request_body,
        form,
        principal: ctx
            .principal
            .clone()
            .filter(|_| ctx.course.hops.iter().all(|hop| hop.leg.is_none())),
    };
    let cut = if ctx.asked.stream { Cut::new(gateway.cut.clone()) } else { Cut::never() };
    ctx.hold = Some(hold::install(
        &mut session.downstream_session,
        live,
        head,
        cut,
        gateway.ready.clone(),
    ));
}

/// The head a heartbeat commits a stream with when the upstream has not sent one yet.
fn early_head(ctx: &Context) -> Option<Box<ResponseHeader>> {
    let mut head = ResponseHeader::build(200, Some(8)).ok()?;
    head.insert_header(header::CONTENT_TYPE, "text/event-stream; charset=utf-8").ok()?;
    head.insert_header(header::CACHE_CONTROL, "no-cache").ok()?;
    head.insert_header("x-request-id", ctx.request_id.clone()).ok()?;
    if ctx.account.standing.is_some() {
        heads::edit(&mut head, |headers| standing::write(ctx, headers)).ok()?;
    }
    cors::allow(ctx, &mut head).ok()?;
    Some(Box::new(head))
}

// === bodies ===

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
fn longest(ctx: &Context, limit: u64) -> Duration {
    ctx.snapshot.config.timeouts.request_body + Duration::from_secs(limit >> 16)
}

async fn within<T>(
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
async fn read_form(
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
async fn accept_body(session: &mut Session) -> Result<(), Refusal> {
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

fn refuse_too_long(length: Option<u64>, limit: u64) -> Result<(), Refusal> {
    if length.is_some_and(|length| length > limit) {
        Err(Refusal::too_large(limit))
    } else {
        Ok(())
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(|kind| kind.as_bytes().trim_ascii());
    let start = kind.and_then(|kind| kind.get(..FORM.len()));
    start.is_some_and(|start| start.eq_ignore_ascii_case(FORM))
}

fn content_type(headers: &HeaderMap) -> Option<String> {
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
