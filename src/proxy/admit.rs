//! The way in: who asks, for what, with which body, and where it may go.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, header};
use memchr::memmem;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use super::arrive::{
    accept_body, content_length, content_type, is_form, longest, read_form, read_json,
    refuse_too_long, within,
};
use super::authenticate::authenticate;
use super::body::{Live, Part};
use super::buffered::count;
use super::context::{Asked, Body, Context, Framing, Hop};
use super::cut::Cut;
use super::refusal::Refusal;
use super::{
    Gateway, abuse, account, cors, cross, heads, history, hold, inspect, note, objects, standing,
    tunnel,
};
use crate::access::percent_decoded;
use crate::audit::Record;
use crate::config::{Audit, Dialect, WhenFull};
use crate::protocol::edit::wants_usage;
use crate::protocol::json;
use crate::protocol::multipart::Scanner;
use crate::protocol::{Operation, anthropic};
use crate::routing::clouds::{self, Plain};
use crate::routing::{Call, Endpoint, Local};

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
    abuse::check_source(ctx, session, gateway)?;
    let (plain, said) = rewrite(session)?.unzip();
    let request = session.req_header();
    let path = request.uri.path();
    if plain.is_some() {
        ctx.caller = caller(path, &request.headers);
    }
    let origin = request.headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    ctx.origin = cors::allowed_origin(ctx, origin);
    if cors::is_preflight(ctx, request) {
        let head = cors::preflight(ctx, request).map_err(|_| Refusal::internal())?;
        return Ok(Admitted::Preflight(Box::new(head)));
    }
    let found = Endpoint::find(&request.method, path).filter(|found| is_shown(ctx, *found));
    // A deployment is asked for what needs a model.
    let named = plain.as_ref().is_some_and(|plain| plain.model.is_some());
    let found = found.filter(|found| !named || matches!(found, Endpoint::ByModel(_)));
    let Some(endpoint) = found else {
        return Err(not_found(ctx, &request.method, said.as_deref().unwrap_or(path)));
    };
    ctx.endpoint = Some(endpoint);
    ctx.makes = request.method == http::Method::POST;
    if let Endpoint::Local(local) = endpoint
        && local.needs_no_key()
    {
        return Ok(Admitted::Local(local));
    }
    if let Err(refusal) = authenticate(ctx, session, gateway, endpoint) {
        let wrong = refusal == Refusal::unknown_key();
        let late = if wrong { abuse::after_wrong_key(ctx, session, gateway).await } else { None };
        return Err(late.unwrap_or(refusal));
    }
    abuse::check_user(ctx, gateway)?;
    let mut form = None;
    match endpoint {
        Endpoint::Local(local) => return Ok(Admitted::Local(local)),
        Endpoint::ByModel(call) => form = by_model(session, ctx, gateway, call, plain).await?,
        Endpoint::ByPath { call, stream } => by_path(session, ctx, gateway, call, stream).await?,
        Endpoint::ByDefault(call) => {
            let uri = &session.req_header().uri;
            let told = history::tell(ctx, gateway, uri.path(), uri.query().unwrap_or_default())?;
            if let Some(told) = told {
                return Ok(Admitted::Told(told));
            }
            form = by_default(session, ctx, gateway, call).await?;
        }
        Endpoint::Realtime => realtime(session, ctx)?,
    }
    let uri = &session.req_header().uri;
    history::open(ctx, gateway)?;
    objects::check(ctx, gateway, uri.path(), uri.query().unwrap_or_default()).await?;
    history::settle(ctx, gateway)?;
    if ctx.course.hops.is_empty() {
        return Err(Refusal::no_default_provider());
    }
    leave_out_providers(ctx)?;
    if ctx.note.wanted {
        note::ask(ctx);
    }
    let strict = |audit: &Audit| audit.when_full == WhenFull::Strict;
    if ctx.snapshot.config.audit.as_ref().is_some_and(strict) && !gateway.audit.has_room() {
        return Err(Refusal::unaudited());
    }
    inspect::inspect(ctx, gateway).await?;
    account::open(ctx, gateway)?;
    if let Some(count) = cross::count_here(ctx)? {
        return Ok(Admitted::Told(count));
    }
    if endpoint == Endpoint::Realtime && is_websocket(session) {
        ctx.hold = Some(tunnel::install(&mut session.downstream_session, gateway.cut_off()));
    } else if !matches!(ctx.body, Body::None) {
        install(session, ctx, gateway, form);
    }
    Ok(Admitted::Forward)
}

/// Takes a call of a cloud's clients for the call it stands for; with the path as it came.
fn rewrite(session: &mut Session) -> Result<Option<(Plain, String)>, Refusal> {
    let request = session.req_header();
    let path = request.uri.path();
    let Some(plain) = clouds::plain(path, request.uri.query()) else { return Ok(None) };
    let target = match &plain.query {
        Some(query) => format!("{}?{query}", plain.path),
        None => plain.path.clone(),
    };
    let target = target.parse();
    let target = target.map_err(|_| Refusal::unknown_path(request.method.as_str(), path))?;
    let said = path.to_owned();
    session.req_header_mut().set_uri(target);
    Ok(Some((plain, said)))
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
    match clouds::is_anthropics(path) {
        Some(true) => return Dialect::Anthropic,
        Some(false) => return Dialect::Gemini,
        None => {}
    }
    if path.starts_with("/model/") {
        return Dialect::Bedrock;
    }
    if path.starts_with("/v1/messages") || headers.contains_key(&ANTHROPIC) {
        return Dialect::Anthropic;
    }
    let google = path.starts_with("/v1beta/") || headers.contains_key(&GEMINI);
    // Google's SDK for Python calls some models below `/v1`.
    if google || path.starts_with("/v1/models/") && Endpoint::model_in(path).is_some() {
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
    plain: Option<Plain>,
) -> Result<Option<Scanner>, Refusal> {
    ctx.asked.operation = call.operation;
    let mut form = None;
    let wrapped = plain.as_ref().and_then(|plain| plain.wrapped);
    let named = plain.and_then(|plain| plain.model);
    let model = if is_form(&session.req_header().headers) {
        let total = longest(ctx, ctx.snapshot.config.limits.upload);
        let (model, scanner) = within(total, read_form(session, ctx, &gateway.metrics)).await?;
        form = scanner;
        named.unwrap_or(model)
    } else {
        let (bytes, members) =
            read_json(session, ctx, &gateway.metrics, ctx.snapshot.config.limits.body).await?;
        let model = match named {
            Some(model) => Some(model),
            None => members.string(&bytes, "model")?.map(Cow::into_owned),
        };
        let stream = wrapped == Some(true) || members.boolean(&bytes, "stream")?.unwrap_or(false);
        let usage = wants_usage(&bytes, &members);
        ctx.asked = Asked { operation: call.operation, stream, usage, ..Asked::default() };
        ctx.body = Body::Json { bytes, members };
        let Some(model) = model else { return without_model(ctx, call).map(|()| None) };
        if wrapped.is_some() {
            unwrap(session, ctx, gateway, &model)?;
        }
        model
    };
    plan(ctx, &model)?;
    Ok(form)
}

/// A call that names no model where the API has one of its own for that: the default provider's, for
/// who may use any.
fn without_model(ctx: &mut Context, call: Call) -> Result<(), Refusal> {
    let any = ctx.principal.as_ref().is_some_and(|who| who.may_use_any_model());
    let optional = call.label == "/v1/moderations" || call.label.starts_with("/v1/images/");
    let default = ctx.snapshot.default_upstream.clone().filter(|_| any && optional);
    let upstream = default.ok_or_else(Refusal::no_model)?;
    ctx.course.hops = vec![Hop { upstream, leg: None }];
    Ok(())
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
        unwrap(session, ctx, gateway, &model)?;
        ctx.asked.operation = Operation::Messages;
    }
    plan(ctx, &model)
}

/// What clouds have of Anthropic's is Claude: the body is a Messages body, but for what the path says.
fn unwrap(
    session: &mut Session,
    ctx: &mut Context,
    gateway: &Gateway,
    model: &str,
) -> Result<(), Refusal> {
    let Body::Json { bytes, members } = &ctx.body else { return Ok(()) };
    let unwrapped = anthropic::from_cloud(bytes, members, model, ctx.asked.stream)?;
    let bytes = unwrapped.splice.apply(bytes);
    let bytes = count(&gateway.metrics, ctx.snapshot.config.limits.buffered, bytes)?;
    let members = json::scan(&bytes)?;
    ctx.body = Body::Json { bytes, members };
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
    let Some((model, bare)) = found else {
        ctx.note.refused_model = Some(Record::bounded(name));
        return Err(Refusal::model_not_found(name));
    };
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
        ctx.note.refused_model = Some(Record::bounded(name));
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
    // The models of a batch stand in a file that was sent before it.
    let any = ctx.principal.as_ref().is_some_and(|who| who.may_use_any_model());
    if !any && ctx.makes && session.req_header().uri.path() == "/v1/batches" {
        return Err(Refusal::batch_not_allowed());
    }
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
    let cut = if ctx.asked.stream { gateway.cut_off() } else { Cut::never() };
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
