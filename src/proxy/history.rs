//! Conversations that go on by `previous_response_id` at providers that keep none: what was said before
//! is put before what is said now, and the answer is kept for whoever goes on from it.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use memchr::memmem;
use serde_json::{Value, json};

use super::Gateway;
use super::buffered::Share;
use super::context::{Body, Context, Course, Hop};
use super::refusal::Refusal;
use crate::access::limits::Now;
use crate::access::{Draft, Found, History, Kept, percent_decoded};
use crate::protocol::canonical::Json;
use crate::protocol::openai_responses::{
    echo_with, prepend, stored_input, without_others, without_sealed,
};
use crate::protocol::{Operation, json};
use crate::provider::Spoken;

/// Where single responses lie.
const BELOW: &str = "/v1/responses/";
/// Items of a page, and the most there may be.
const PAGE: usize = 20;
const LONGEST_PAGE: usize = 100;
/// The events that end a stream with a response that can be gone on from.
const LAST_EVENTS: [&[u8]; 2] =
    [b"event: response.completed\ndata: ", b"event: response.incomplete\ndata: "];

/// What a call goes on from, and whether others may go on from its answer.
pub struct Past {
    history: Arc<History>,
    /// What it goes on from, when that was kept here. The call's body has it before its own items.
    earlier: Option<Arc<Kept>>,
    /// The call's own items, where the body has more.
    own: Option<Json>,
    /// What it names, when that was not kept here: its provider may know it.
    unknown: Option<String>,
    /// What its answer repeats of the call, where the body says it no longer.
    echo: Option<Json>,
    /// Its answer is to be kept.
    keeps: bool,
}

// === the way in ===

/// Puts what a call goes on from before its own items, where that was kept here.
pub fn open(ctx: &mut Context, gateway: &Gateway) -> Result<(), Refusal> {
    let makes = ctx.asked.operation == Operation::Responses;
    if !makes && ctx.asked.operation != Operation::InputTokens {
        return Ok(());
    }
    let Body::Json { bytes, members } = &ctx.body else { return Ok(()) };
    let previous = members.string(bytes, "previous_response_id")?.map(Cow::into_owned);
    let declined = members.raw(bytes, "store") == Some(b"false");
    let mut past = Past {
        history: Arc::clone(&gateway.history),
        earlier: None,
        own: None,
        unknown: None,
        echo: None,
        keeps: makes && !declined && keeps(ctx),
    };
    if let Some(id) = previous {
        match find(ctx, gateway, &id) {
            Found::Kept(earlier) => go_on(ctx, gateway, &mut past, earlier)?,
            Found::Others => return Err(Refusal::no_previous_response(&id)),
            Found::Unknown => past.unknown = Some(id),
        }
    }
    ctx.past = Some(Box::new(past));
    Ok(())
}

/// Responses have content, which is not kept of everybody.
fn keeps(ctx: &Context) -> bool {
    ctx.snapshot.config.keeps_responses() && !ctx.privacy.strict
}

fn find(ctx: &Context, gateway: &Gateway, id: &str) -> Found {
    let config = &ctx.snapshot.config;
    let Some(principal) = ctx.principal.as_ref().filter(|_| keeps(ctx)) else {
        return Found::Unknown;
    };
    let keep = i64::try_from(config.responses.keep.as_millis()).unwrap_or(i64::MAX);
    gateway.history.find(&principal.id, id, Now::by_clock().0.saturating_sub(keep))
}

fn go_on(
    ctx: &mut Context,
    gateway: &Gateway,
    past: &mut Past,
    earlier: Arc<Kept>,
) -> Result<(), Refusal> {
    let Body::Json { bytes, .. } = &ctx.body else { return Ok(()) };
    let limits = &ctx.snapshot.config.limits;
    let length = (bytes.len() + earlier.length()) as u64;
    if length > limits.body {
        return Err(Refusal::too_large(limits.body));
    }
    let mut share = Share::begin(&gateway.metrics, limits.buffered, Some(length))?;
    past.own = Some(stored_input(bytes)?);
    let id = Value::from(earlier.id()).to_string();
    let mut said = vec![("previous_response_id", id.as_str())];
    said.extend(past.keeps.then_some(("store", "true")));
    past.echo = Some(echo_with(bytes, &said));
    let whole = Bytes::from(prepend(bytes, earlier.conversation())?);
    share.take(whole.len())?;
    let bytes = share.keep(whole);
    let members = json::scan(&bytes)?;
    ctx.body = Body::Json { bytes, members };
    past.earlier = Some(earlier);
    Ok(())
}

/// Has a call that goes on from what nobody here knows go to those only who may have made it: whoever
/// is spoken to in another dialect never saw the caller's ids.
pub fn settle(ctx: &mut Context, gateway: &Gateway) -> Result<(), Refusal> {
    let Some(id) = ctx.past.as_ref().and_then(|past| past.unknown.as_deref()) else {
        return Ok(());
    };
    if gateway.owners.find(id, Now::by_clock().0).is_some() {
        return Ok(());
    }
    let operation = ctx.asked.operation;
    let may_know = |hop: &Hop| {
        hop.leg.as_ref().is_none_or(|leg| {
            let spoken = hop.upstream.provider.speech.of(operation, leg.upstream_model());
            matches!(spoken, Spoken::Same { .. })
        })
    };
    if !ctx.course.hops.iter().any(may_know) {
        return known(ctx);
    }
    ctx.course.hops.retain(may_know);
    Ok(())
}

/// Refuses a call that goes on from what is not known here; where nothing is ever kept, the
/// translation says so.
fn known(ctx: &Context) -> Result<(), Refusal> {
    let unknown = ctx.past.as_ref().and_then(|past| past.unknown.as_deref());
    match unknown.filter(|_| ctx.snapshot.config.keeps_responses()) {
        Some(id) => Err(Refusal::no_previous_response(id)),
        None => Ok(()),
    }
}

// === an attempt ===

/// The call's answer as it is to be kept, for an attempt in another dialect with this body.
pub fn draft(ctx: &Context, body: &[u8]) -> Result<Option<Draft>, Refusal> {
    known(ctx)?;
    let past = ctx.past.as_ref().filter(|past| past.keeps);
    let Some((past, principal)) = past.zip(ctx.principal.as_ref()) else { return Ok(None) };
    let own = match &past.own {
        Some(own) => own.clone(),
        None => stored_input(body)?,
    };
    let most = ctx.snapshot.config.responses.memory;
    Ok(past.history.draft(&principal.id, past.earlier.as_deref(), own, most))
}

/// What the answer repeats of the call, where that is not what its body says.
pub fn echo(ctx: &Context, body: &[u8]) -> Option<Json> {
    let past = ctx.past.as_ref()?;
    let said = || past.keeps.then(|| echo_with(body, &[("store", "true")]));
    past.echo.clone().or_else(said)
}

/// The body for a provider of the caller's own dialect, where it cannot be the caller's as it came:
/// without reasoning that is not that provider's.
pub fn readable(ctx: &Context, body: &[u8]) -> Option<Vec<u8>> {
    match ctx.past.as_ref()?.earlier {
        Some(_) => without_others(body),
        None => without_sealed(body),
    }
}

// === the way out ===

/// Keeps the answer of an attempt in another dialect, before its caller can go on from it. `events`:
/// it is written as a stream, of which these are the last bytes.
pub fn keep(course: &mut Course, written: &[u8], events: bool) {
    let crossing = course.current.as_mut().and_then(|attempt| attempt.crossing.as_mut());
    let Some(crossing) = crossing.filter(|crossing| crossing.draft.is_some()) else { return };
    let response = if events { last_response(written) } else { Some(written) };
    if let (Some(response), Some(draft)) = (response, crossing.draft.take()) {
        draft.finish(response, Now::by_clock().0);
    }
}

/// The response in the event that ends a stream.
fn last_response(events: &[u8]) -> Option<&[u8]> {
    let behind = |last: &&[u8]| Some(memmem::rfind(events, last)? + last.len());
    let data = events.get(LAST_EVENTS.iter().find_map(behind)?..)?;
    let data = data.get(..memchr::memchr(b'\n', data)?)?;
    json::scan(data).ok()?.raw(data, "response")
}

// === what is kept, asked for ===

/// Answers a request for a response that is kept here. `None`: it is another's to answer.
pub fn tell(
    ctx: &Context,
    gateway: &Gateway,
    path: &str,
    query: &str,
) -> Result<Option<Bytes>, Refusal> {
    let Some(rest) = path.strip_prefix(BELOW) else { return Ok(None) };
    let (id, below) = rest.split_once('/').unwrap_or((rest, ""));
    let id = percent_decoded(id);
    let kept = match find(ctx, gateway, &id) {
        Found::Kept(kept) => kept,
        Found::Others => return Err(Refusal::unknown_object(&id)),
        Found::Unknown => return Ok(None),
    };
    let told = match (&ctx.method, below) {
        (&Method::GET, "") => kept.response(),
        (&Method::GET, "input_items") => input_items(&kept, query)?.to_string().into(),
        (&Method::DELETE, "") => {
            gateway.history.forget(&kept);
            json!({"id": id, "object": "response", "deleted": true}).to_string().into()
        }
        (&Method::POST, "cancel") => return Err(Refusal::not_in_background(&id)),
        _ => return Err(Refusal::unknown_object(&id)),
    };
    Ok(Some(told))
}

/// A page of the items a response was asked with.
fn input_items(kept: &Kept, query: &str) -> Result<Value, Refusal> {
    let asked = |wanted: &str| {
        let members = query.split('&').filter_map(|member| member.split_once('='));
        members.filter(|(name, _)| *name == wanted).map(|(_, value)| percent_decoded(value)).next()
    };
    let limit = match asked("limit").map(|limit| limit.parse::<usize>()) {
        None => PAGE,
        Some(Ok(limit)) if (1..=LONGEST_PAGE).contains(&limit) => limit,
        Some(_) => return Err(Refusal::wrong_type("limit", "a number from 1 to 100")),
    };
    let items: Vec<Value> = serde_json::from_str(kept.input()).unwrap_or_default();
    let mut items: Vec<Value> =
        (0..).zip(items).map(|(place, item)| listed(item, place, kept.id())).collect();
    if asked("order").as_deref() != Some("asc") {
        items.reverse();
    }
    if let Some(after) = asked("after") {
        let place = items.iter().position(|item| id_of(item) == after);
        items.drain(..place.map_or(0, |place| place + 1));
    }
    let more = items.len() > limit;
    items.truncate(limit);
    let (first, last) = (items.first().map(id_of), items.last().map(id_of));
    Ok(json!({
        "object": "list", "first_id": first, "last_id": last, "has_more": more, "data": items,
    }))
}

fn id_of(item: &Value) -> &str {
    item.get("id").and_then(Value::as_str).unwrap_or_default()
}

/// An item as a list has it: with an id and a type, and its text as a part.
fn listed(mut item: Value, place: usize, response: &str) -> Value {
    let Some(members) = item.as_object_mut() else { return item };
    let kind = members.entry("type").or_insert_with(|| json!("message"));
    let is_message = kind == "message";
    let prefix = if is_message { "msg" } else { "item" };
    let own = response.strip_prefix("resp_").unwrap_or(response);
    let id = members.entry("id").or_insert(Value::Null);
    if id.is_null() {
        *id = json!(format!("{prefix}_{own}_in_{place}"));
    }
    let kind = match members.get("role").and_then(Value::as_str) {
        Some("assistant") => "output_text",
        _ => "input_text",
    };
    if let Some(content) =
        members.get_mut("content").filter(|content| is_message && content.is_string())
    {
        *content = json!([{"type": kind, "text": content.take()}]);
    }
    item
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_response_is_taken_from_the_event_that_ends_the_stream() {
        let event = |kind: &str, said: &str| {
            let response = json!({"id": "resp_1", "output": [said]});
            let data = json!({"type": kind, "sequence_number": 7, "response": response});
            format!("event: {kind}\ndata: {data}\n\n")
        };
        let told = "event: response.completed\ndata: {}";
        let begun = event("response.created", told);
        assert_eq!(last_response(begun.as_bytes()), None);
        for kind in ["response.completed", "response.incomplete"] {
            let stream = format!("{begun}{}", event(kind, told));
            let response = last_response(stream.as_bytes()).unwrap();
            let response: Value = serde_json::from_slice(response).unwrap();
            assert_eq!(response["output"], json!([told]));
        }
        assert_eq!(last_response(event("response.failed", "").as_bytes()), None);
    }

    #[test]
    fn items_are_listed_with_ids_and_parts() {
        let says = listed(json!({"role": "user", "content": "hi"}), 0, "resp_1");
        let part = json!([{"type": "input_text", "text": "hi"}]);
        let expected =
            json!({"type": "message", "role": "user", "id": "msg_1_in_0", "content": part});
        assert_eq!(says, expected);
        let call =
            json!({"type": "function_call_output", "call_id": "c", "output": "x", "id": "fc"});
        assert_eq!(listed(call.clone(), 1, "resp_1"), call);
    }
}
