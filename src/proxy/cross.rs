//! A call that goes to its provider in another dialect than its caller's: its body on the way there, its
//! answer on the way back.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use pingora::http::{RequestHeader, ResponseHeader};

use super::attempt::Attempt;
use super::context::{Asked, Body, Context, Framing};
use super::forward::{edits_of, with_priority};
use super::history;
use super::new_request_id;
use super::refusal::Refusal;
use crate::access::Draft;
use crate::config::{Dialect, Kind};
use crate::protocol::canonical::{self, Failure, FailureKind, Rules, Target, Told};
use crate::protocol::edit::{Usage, unseal};
use crate::protocol::translate::{Back, Call, Route, estimate_count, translate};
use crate::protocol::{Operation, Task, anthropic, bedrock, gemini, json};
use crate::provider::{Spoken, Wrapping, path_of};
use crate::routing::Leg;

/// What Anthropic's API is told when the caller says nothing: the version that all its models take.
const ANTHROPIC_VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");
/// What AWS sends streams in.
pub const FRAMES: &str = "application/vnd.amazon.eventstream";
/// What of a caller's head another dialect's server may see: nothing that is about the caller's own.
const CROSSES: [&str; 7] = [
    "baggage",
    "content-length",
    "content-type",
    "host",
    "traceparent",
    "tracestate",
    "user-agent",
];

/// An attempt that crosses.
pub struct Crossing {
    /// What turns the answer back; taken when it begins.
    pub back: Option<Back>,
    /// Whose dialect it was put into.
    pub provider: Dialect,
    /// What was left out of the request, as a header tells it.
    pub dropped: Option<HeaderValue>,
    /// What the provider calls its failure, where a header says it (AWS).
    error: Option<String>,
    status: u16,
    /// The answer, to be kept for whoever goes on from it.
    pub draft: Option<Draft>,
}

/// How an attempt goes to its provider.
pub struct Way {
    /// The target's path, where it is not the client's own.
    pub path: Option<String>,
    pub query: Option<&'static str>,
    /// The body, where it is not the client's own.
    pub body: Option<Bytes>,
    /// The answer's events come in frames that are not the dialect's own.
    pub chunks: bool,
    pub crossing: Option<Box<Crossing>>,
}

impl Crossing {
    /// Puts the provider's words about its failure into a refusal.
    pub fn explain(&self, refusal: &mut Refusal, body: &[u8]) {
        let status = (self.status >= 400).then_some(self.status);
        let failure = Failure::read(status, self.error.as_deref(), body);
        refusal.code = match failure.kind {
            FailureKind::ContextOverflow => "context_length_exceeded",
            FailureKind::Filtered => "content_filter",
            FailureKind::Invalid => "invalid_request",
            FailureKind::NotFound => "model_not_found",
            FailureKind::TooLarge => "request_too_large",
            _ => refusal.code,
        };
        // A page is not for whoever reads an error of an API.
        if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() {
            refusal.message = failure.message;
        }
        refusal.retry_after = refusal.retry_after.or(failure.retry_after);
    }
}

/// Whether the current attempt is in another dialect than the caller's.
pub fn is_crossing(ctx: &Context) -> bool {
    ctx.course.current.as_ref().is_some_and(|attempt| attempt.crossing.is_some())
}

/// Keeps what of a failure stands in its head.
pub fn note_error(ctx: &mut Context, status: u16, headers: &HeaderMap) {
    let attempt = ctx.course.current.as_mut();
    let Some(crossing) = attempt.and_then(|attempt| attempt.crossing.as_mut()) else { return };
    let name = headers.get("x-amzn-errortype").and_then(|name| name.to_str().ok());
    (crossing.error, crossing.status) = (name.map(str::to_owned), status);
}

/// A provider that did not know the call as it came answers it in its own dialect.
pub fn note_success(ctx: &Context) {
    let Some(attempt) = ctx.course.current.as_ref().filter(|attempt| attempt.across) else {
        return;
    };
    if let Some(dialect) = ctx.asked.operation.dialect() {
        attempt.upstream.provider.speech.found_lacking(dialect);
    }
}

/// How a call is spoken at the attempt's provider.
pub fn spoken(asked: Asked, attempt: &Attempt) -> Spoken {
    let Some(leg) = &attempt.leg else { return Spoken::Same { perhaps: false } };
    let speech = &attempt.upstream.provider.speech;
    match speech.of(asked.operation, leg.upstream_model()) {
        Spoken::Same { perhaps: true } if attempt.across => Spoken::In(Dialect::OpenaiChat),
        spoken => spoken,
    }
}

/// Finds an attempt's way, and puts the body into the provider's dialect where it has another one.
pub fn find_way(ctx: &Context, attempt: &Attempt, headers: &HeaderMap) -> Result<Way, Refusal> {
    let asked = ctx.asked;
    let own = Way { path: None, query: None, body: None, chunks: false, crossing: None };
    let (Some(leg), Some(client), Some(task)) =
        (&attempt.leg, asked.operation.dialect(), asked.operation.task())
    else {
        return Ok(own);
    };
    let provider = &attempt.upstream.provider;
    let model = leg.upstream_model();
    match spoken(asked, attempt) {
        Spoken::Same { .. } => {
            let wrapping = provider.speech.wrapping(client, task, model);
            // Who invokes a model asks by a path of Amazon's, whoever serves it.
            let invoked = client == Dialect::Anthropic && asked.framing == Framing::Frames;
            let by_path = matches!(client, Dialect::Gemini | Dialect::Bedrock);
            let wrapped = matches!(wrapping, Wrapping::Bedrock | Wrapping::Vertex);
            let several = asked.operation == Operation::EmbedContents;
            let path = || path_of(client, task, model, asked.stream, several, wrapping);
            let body = own_body(ctx, attempt, leg, client, wrapped)?;
            let body = body.map(|body| wrap(wrapping, task, body, &betas(headers))).transpose()?;
            let events = client == Dialect::Gemini && asked.framing == Framing::Events;
            Ok(Way {
                path: (by_path || invoked || wrapped).then(path),
                query: (events && asked.stream).then_some("alt=sse"),
                body,
                chunks: wrapping == Wrapping::Bedrock && asked.stream,
                crossing: None,
            })
        }
        Spoken::In(dialect) => {
            let Body::Json { bytes, .. } = &ctx.body else { return Ok(own) };
            let said = &ctx.snapshot.config.capabilities;
            let rules = Rules::of(dialect, provider.profile.kind, model).with(said, model);
            let route = Route {
                client,
                provider: dialect,
                kind: provider.profile.kind,
                asked: canonical::Asked { model: Some(&leg.asked), stream: asked.stream },
                target: Target { model, rules: &rules },
                translation: leg.model.translation,
                edits: &leg.model.request,
            };
            let call = Call { task, several: asked.operation == Operation::EmbedContents };
            let draft = history::draft(ctx, bytes)?;
            let told = Told { echo: history::echo(ctx, bytes), ..told(ctx, &leg.asked) };
            let translated = translate(bytes, call, &route, told)?;
            let wrapping = provider.speech.wrapping(dialect, task, model);
            let path =
                path_of(dialect, task, model, translated.stream, translated.several, wrapping);
            let query = (dialect == Dialect::Gemini && translated.stream).then_some("alt=sse");
            let dropped = translated.dropped.join(", ");
            let dropped = HeaderValue::try_from(dropped).ok().filter(|names| !names.is_empty());
            let crossing = Crossing {
                back: Some(translated.back),
                provider: dialect,
                dropped,
                error: None,
                status: 0,
                draft,
            };
            Ok(Way {
                path: Some(path),
                query,
                body: Some(with_priority(
                    attempt,
                    wrap(wrapping, task, translated.body.into(), &[])?,
                )),
                chunks: wrapping == Wrapping::Bedrock && asked.stream,
                crossing: Some(Box::new(crossing)),
            })
        }
    }
}

/// Betas of Anthropic's API that a request asks for.
fn betas(headers: &HeaderMap) -> Vec<&str> {
    let listed = headers.get_all("anthropic-beta").iter().filter_map(|list| list.to_str().ok());
    listed.flat_map(|list| list.split(',')).map(str::trim).filter(|it| !it.is_empty()).collect()
}

/// Puts a Messages body into a cloud's wrapping.
fn wrap(wrapping: Wrapping, task: Task, body: Bytes, betas: &[&str]) -> Result<Bytes, Refusal> {
    let splice = match (wrapping, task) {
        // Vertex's count names the model in its body, as Anthropic's does.
        (Wrapping::None | Wrapping::Predict, _) | (Wrapping::Vertex, Task::Count) => {
            return Ok(body);
        }
        (Wrapping::Bedrock, _) => anthropic::for_bedrock(&json::scan(&body)?, betas),
        (Wrapping::Vertex, _) => anthropic::for_vertex(&json::scan(&body)?),
    };
    Ok(splice.apply(&body))
}

/// The body for a provider of the caller's own dialect, where it is not the caller's as it came, or is
/// `wanted` whole: without what other providers have sealed, which means nothing to this one.
fn own_body(
    ctx: &Context,
    attempt: &Attempt,
    leg: &Leg,
    client: Dialect,
    wanted: bool,
) -> Result<Option<Bytes>, Refusal> {
    let Body::Json { bytes, members } = &ctx.body else { return Ok(None) };
    if ctx.asked.operation == Operation::GeminiCount
        && attempt.upstream.provider.profile.kind == Kind::Vertex
        && let Some(body) = gemini::count_for_vertex(bytes)
    {
        return Ok(Some(body.into()));
    }
    let kind = attempt.upstream.provider.profile.kind;
    let cut = unseal(client, kind, bytes, members);
    let cut = cut.or_else(|| history::readable(ctx, bytes).map(Bytes::from));
    let (asked, edited) = (ctx.asked, cut.as_ref().unwrap_or(bytes));
    if cut.is_none() {
        let edit = || edits_of(attempt, leg, asked, bytes, members);
        return wanted.then(|| edit().map(|splice| splice.apply(bytes))).transpose();
    }
    let members = json::scan(edited)?;
    Ok(Some(edits_of(attempt, leg, asked, edited, &members)?.apply(edited)))
}

/// A failure that came as an answer of a good status: chat servers' `error`, a response that failed.
pub fn failure_in(answer: &[u8]) -> Option<Failure> {
    #[derive(serde::Deserialize)]
    struct Answer<'a> {
        #[serde(borrow)]
        error: Option<&'a serde_json::value::RawValue>,
    }
    let answer_of: Answer = serde_json::from_slice(answer).ok()?;
    answer_of.error.filter(|error| error.get() != "null")?;
    Some(Failure::read(None, None, answer))
}

/// What the answer tells beside what the provider says.
fn told(ctx: &Context, model: &str) -> Told {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Told {
        model: model.to_owned(),
        // Not the request's: a caller may give the same to many.
        id: new_request_id().to_str().unwrap_or_default().to_owned(),
        created: now.map_or(0, |now| now.as_secs()),
        array: ctx.asked.framing == Framing::Array,
        ..Told::default()
    }
}

/// Whether a header of the caller's may go along into another dialect.
pub fn crosses(name: &str) -> bool {
    CROSSES.contains(&name)
}

/// Whether a provider's header means something to a caller of another dialect; or to pingora, which has
/// said by now how the answer's end is told.
pub fn comes_back(name: &str) -> bool {
    matches!(name, "cache-control" | "content-type" | "date" | "retry-after" | "transfer-encoding")
}

/// What the provider's dialect wants in a head beside credentials.
pub fn write_head(
    dialect: Dialect,
    stream: bool,
    request: &mut RequestHeader,
) -> pingora::Result<()> {
    request.insert_header(header::CONTENT_TYPE, "application/json")?;
    let accept = match (dialect, stream) {
        (Dialect::Bedrock, true) => FRAMES,
        (_, true) => "text/event-stream",
        _ => "application/json",
    };
    request.insert_header(header::ACCEPT, accept)
}

/// Anthropic's API refuses requests that do not say which version of it they mean.
pub fn say_version(request: &mut RequestHeader) -> pingora::Result<()> {
    if request.headers.contains_key("anthropic-version") {
        return Ok(());
    }
    request.insert_header("anthropic-version", ANTHROPIC_VERSION)
}

/// The content type of an answer in the caller's dialect.
pub fn write_type(asked: Asked, stream: bool, head: &mut ResponseHeader) -> pingora::Result<()> {
    let kind = match asked.framing {
        Framing::Events if stream => "text/event-stream; charset=utf-8",
        Framing::Frames if stream => FRAMES,
        _ => "application/json",
    };
    head.insert_header(header::CONTENT_TYPE, kind)?;
    if stream {
        head.insert_header(header::CACHE_CONTROL, "no-cache")?;
    }
    Ok(())
}

/// Marks a refusal for callers that read its kind in the head.
pub fn write_error_type(
    caller: Dialect,
    status: u16,
    code: &str,
    head: &mut ResponseHeader,
) -> pingora::Result<()> {
    if caller == Dialect::Bedrock {
        head.insert_header("x-amzn-errortype", bedrock::error_type(status, code))?;
    }
    Ok(())
}

/// The status that says in the caller's dialect what the provider said in its own.
pub fn status_for(caller: Dialect, status: u16) -> u16 {
    match (caller, status) {
        (Dialect::Anthropic, 503) => 529,
        (Dialect::Anthropic, 424) => 502,
        (Dialect::Anthropic, status) => status,
        // Only Anthropic has it.
        (_, 529) => 503,
        // Bedrock: the model failed, or took too long.
        (Dialect::Bedrock, status) => status,
        (_, 424) => 502,
        (_, status) => status,
    }
}

/// What an answer took, as accounts have it.
pub fn usage(usage: canonical::Usage) -> Usage {
    Usage {
        prompt: usage.input,
        completion: usage.output,
        cached: usage.cache_read,
        reasoning: usage.reasoning.unwrap_or(0),
    }
}

/// How many tokens the prompt has, by estimate, where nobody at the provider can be asked.
pub fn count_here(ctx: &Context) -> Result<Option<Bytes>, Refusal> {
    let operation = ctx.asked.operation;
    let (Some(Task::Count), Some(client)) = (operation.task(), operation.dialect()) else {
        return Ok(None);
    };
    let hop = ctx.course.hops.first();
    let Some((hop, leg)) = hop.and_then(|hop| Some((hop, hop.leg.as_ref()?))) else {
        return Ok(None);
    };
    let provider = &hop.upstream.provider;
    let spoken = provider.speech.of(operation, leg.upstream_model());
    let asks = spoken != Spoken::In(Dialect::OpenaiChat) || provider.profile.kind == Kind::Vllm;
    let Body::Json { bytes, .. } = &ctx.body else { return Ok(None) };
    if asks {
        return Ok(None);
    }
    let asked = canonical::Asked { model: Some(&leg.asked), stream: false };
    Ok(Some(estimate_count(client, bytes, &asked)?.into()))
}
