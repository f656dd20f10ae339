//! What is noted of a request on its way, for the record of it.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, Method, header};
use memchr::memmem::Finder;

use super::account::Bill;
use super::context::{Body, Context};
use crate::audit::{Audit, Kept, Record, Spent};
use crate::config::Dialect;
use crate::protocol::Operation;

/// Where an answer tells why it ends: at its end, or in a short event.
const END: usize = 4 << 10;
/// The longest such word, in bytes.
const LONGEST_STOP: usize = 32;
/// The end of each dialect's member for it; the one search that all of them share.
static MEMBER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("eason\":"));
/// What each dialect's images have in their names.
static IMAGE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("image"));

/// Notes, from the head to the end.
#[derive(Default)]
pub struct Note {
    /// There will be a record.
    pub wanted: bool,
    /// Who gets it, beside the access log.
    pub audit: Option<Arc<Audit>>,
    /// What is kept of the call's content.
    pub kept: Option<Box<Kept>>,
    user_agent: Option<HeaderValue>,
    /// The name of a model that was refused.
    pub refused_model: Option<Arc<str>>,
    tools: bool,
    images: bool,
    stop: Option<Arc<str>>,
    /// Bytes of bodies: of the request, of the answer.
    pub moved: (u64, u64),
}

// === impl Note ===

impl Note {
    /// Notes what the head tells of a device.
    pub fn head(&mut self, headers: &HeaderMap) {
        self.user_agent = headers.get(header::USER_AGENT).cloned();
    }

    /// Notes what the request has in it.
    pub fn body(&mut self, body: &Body) {
        let Body::Json { bytes, members } = body else { return };
        let given = |name: &str| members.raw(bytes, name);
        let tools = ["tools", "toolConfig", "functions"].into_iter().filter_map(given);
        self.tools = tools.into_iter().any(|given| !matches!(given, b"[]" | b"{}" | b"null"));
        self.images = IMAGE.find(bytes).is_some();
    }

    /// Notes why an answer ends, when this part of it says so.
    pub fn answer(&mut self, bytes: &[u8]) {
        let end = bytes.get(bytes.len().saturating_sub(END)..).unwrap_or(bytes);
        let told = MEMBER.find_iter(end).filter_map(|at| {
            let (before, found) = end.split_at(at);
            stop(before, found)
        });
        // A stream says the same again, or once per choice.
        if let Some(stop) = told.last().filter(|stop| self.stop.as_deref() != Some(stop)) {
            self.stop = Some(Arc::from(stop));
        }
    }
}

/// Notes what is asked, and keeps of it what the configuration says.
pub fn ask(ctx: &mut Context) {
    ctx.note.body(&ctx.body);
    let Body::Json { bytes, members } = &ctx.body else { return };
    // A listener or a key may be private where nothing else is.
    if ctx.note.audit.is_none() || ctx.privacy.strict {
        return;
    }
    let leg = ctx.course.hops.first().and_then(|hop| hop.leg.as_ref());
    let [key, model] = ctx.snapshot.contents(ctx.principal.as_deref(), leg);
    let draw = rand::random_range(0..100);
    let kept = Kept::begin(&ctx.snapshot.config, key, model, draw);
    ctx.note.kept = kept.map(|mut kept| {
        kept.ask(bytes, members);
        kept
    });
}

/// Notes what of an answer goes out.
pub fn answer(ctx: &mut Context, part: &[u8]) {
    ctx.note.answer(part);
    let streamed = ctx.asked.stream && ctx.outcome.status < 300;
    if let Some(kept) = &mut ctx.note.kept {
        kept.stream = ctx.asked.operation.dialect().filter(|_| streamed);
        kept.answer(part);
    }
}

/// The word behind `…eason":`, when that is how a dialect says why an answer ends.
fn stop<'a>(before: &[u8], found: &'a [u8]) -> Option<&'a str> {
    let known: [&[u8]; 5] =
        [b"\"finish_r", b"\"stop_r", b"\"finishR", b"\"stopR", b"\"incomplete_details\":{\"r"];
    known.iter().find(|known| before.ends_with(known))?;
    let value = found.get(MEMBER.needle().len()..)?.trim_ascii_start().strip_prefix(b"\"")?;
    let end = memchr::memchr(b'"', value).filter(|end| (1..=LONGEST_STOP).contains(end))?;
    let word = std::str::from_utf8(value.get(..end)?).ok()?;
    word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)).then_some(word)
}

/// All that is known of a request that is over.
pub fn record(ctx: &Context, bill: Option<Bill>) -> Record {
    let text = |label: &str| (!label.is_empty()).then(|| Arc::from(label));
    let attempt = ctx.course.current.as_ref();
    let leg = attempt.and_then(|attempt| attempt.leg.as_ref());
    let asked = ctx.course.hops.first().and_then(|hop| hop.leg.as_ref());
    let privacy = ctx.privacy;
    // A name that is none of the configuration's is a caller's own words.
    let tells = |name: &str| !privacy.strict || name == ctx.model_label();
    let asked = asked.map(|leg| &*leg.asked).filter(|name| tells(name)).map(Record::bounded);
    let refused = ctx.note.refused_model.clone().filter(|_| !privacy.strict);
    let served = leg.map(|leg| (leg.upstream_model(), &*leg.asked));
    let served = served.filter(|(served, asked)| served != asked || tells(served));
    let dialect = ctx.asked.operation.dialect().unwrap_or(ctx.caller);
    let spoken = attempt.map(|attempt| attempt.crossing.as_ref().map_or(dialect, |it| it.provider));
    let agent = ctx.note.user_agent.as_ref().filter(|_| privacy.log_user_agent);
    let duration = ctx.started.elapsed();
    let began = SystemTime::now().checked_sub(duration).unwrap_or(SystemTime::UNIX_EPOCH);
    let at = began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let failure = ctx.outcome.failure.as_deref().filter(|_| !privacy.strict);
    let (bytes_in, bytes_out) = ctx.note.moved;
    Record {
        at: i64::try_from(at.as_millis()).unwrap_or(i64::MAX),
        request_id: Arc::from(ctx.request_id()),
        method: method(&ctx.method),
        endpoint: ctx.endpoint.map_or("other", |endpoint| endpoint.label()),
        principal: ctx.principal.as_ref().map(|principal| Arc::clone(&principal.id)),
        key: ctx.principal.as_ref().map(|principal| Arc::clone(&principal.name)),
        user: ctx.principal.as_ref().and_then(|principal| text(principal.owner())),
        client_dialect: dialect.word(),
        provider_dialect: spoken.map(Dialect::word),
        asked_model: asked.or(refused),
        model: text(ctx.model_label()),
        served_model: served.map(|(served, _)| Record::bounded(served)),
        provider: text(ctx.provider_label()),
        replica: attempt.map(|attempt| attempt.pick.replica().address),
        attempts: ctx.course.attempts,
        status: ctx.outcome.status,
        client_gone: ctx.outcome.client_gone || ctx.outcome.status == super::finish::CLIENT_GONE,
        error: error(ctx),
        failure: failure.map(Arc::from),
        stop: stop_of(ctx),
        spent: bill.map(spent),
        queued: attempt.map(|attempt| attempt.started.duration_since(ctx.started)),
        first_token: ctx.first_token(),
        duration,
        bytes_in,
        bytes_out,
        client: ctx.client.as_ref().map(IpAddr::to_canonical),
        user_agent: agent.and_then(|agent| agent.to_str().ok()).map(Record::bounded),
        stream: ctx.asked.stream,
        tools: ctx.note.tools,
        images: ctx.note.images,
    }
}

/// The code the caller was told, or would have been.
fn error(ctx: &Context) -> Option<&'static str> {
    let status = ctx.outcome.status;
    ctx.outcome.code.or(match status {
        super::finish::CLIENT_GONE => Some("client_gone"),
        // In the provider's own words.
        400.. => Some("upstream_error"),
        _ => None,
    })
}

/// The responses API says nothing of an answer that came to its own end.
fn stop_of(ctx: &Context) -> Option<Arc<str>> {
    let whole = ctx.asked.operation == Operation::Responses
        && ctx.outcome.status == 200
        && ctx.outcome.failure.is_none()
        && !ctx.outcome.client_gone
        && ctx.stage.is_done();
    ctx.note.stop.clone().or_else(|| whole.then(|| Arc::from("completed")))
}

fn spent(bill: Bill) -> Spent {
    let Bill { usage, cost_nanos, estimated } = bill;
    Spent {
        prompt: usage.prompt,
        completion: usage.completion,
        cached: usage.cached,
        reasoning: usage.reasoning,
        cost_nanos,
        estimated,
    }
}

/// A method's name; those nobody has heard of share one.
fn method(method: &Method) -> &'static str {
    let known = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    known.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json;

    fn said(answer: &str) -> Option<String> {
        let mut note = Note::default();
        note.answer(answer.as_bytes());
        note.stop.map(|stop| stop.to_string())
    }

    #[test]
    fn every_dialect_tells_why_an_answer_ends() {
        for (answer, stop) in [
            (r#"{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}"#, Some("stop")),
            (r#"{"finish_reason": "length", "stop_reason": null}"#, Some("length")),
            (r#"data: {"delta":{"stop_reason":"end_turn"}}"#, Some("end_turn")),
            (r#"{"candidates":[{"finishReason":"MAX_TOKENS"}]}"#, Some("MAX_TOKENS")),
            (r#"{"stopReason":"tool_use"}"#, Some("tool_use")),
            (r#"{"incomplete_details":{"reason":"max_output_tokens"}}"#, Some("max_output_tokens")),
            (r#"{"choices":[{"delta":{"content":"x"},"finish_reason":null}]}"#, None),
            (r#"{"content":"\"finish_reason\":\"stop\""}"#, None),
            (r#"{"reason":"stop"}"#, None),
            (r#"{"finish_reason":"a word with spaces"}"#, None),
            (r#"{"finish_reason":"st"#, None),
        ] {
            assert_eq!(said(answer).as_deref(), stop, "{answer}");
        }
    }

    #[test]
    fn a_request_tells_whether_it_has_tools_and_images() {
        for (body, tools, images) in [
            (r#"{"messages":[]}"#, false, false),
            (r#"{"tools":[]}"#, false, false),
            (r#"{"tools":[{"type":"function"}]}"#, true, false),
            (r#"{"toolConfig":{"tools":[{}]}}"#, true, false),
            (r#"{"messages":[{"content":[{"type":"image_url"}]}]}"#, false, true),
        ] {
            let bytes = bytes::Bytes::from_static(body.as_bytes());
            let members = json::scan(&bytes).unwrap();
            let mut note = Note::default();
            note.body(&Body::Json { bytes, members });
            assert_eq!((note.tools, note.images), (tools, images), "{body}");
        }
    }
}
