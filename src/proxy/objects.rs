//! Objects that live at a provider: each goes back to where it was made, and to its maker only.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use memchr::memmem;
use serde_json::Value;
use serde_json::value::RawValue;

use super::context::{Body, Context, Hop};
use super::refusal::Refusal;
use super::{Gateway, cross};
use crate::access::limits::Now;
use crate::access::{Origin, Owners, percent_decoded};
use crate::protocol::Operation;
use crate::protocol::framing::sse::Decoder;
use crate::protocol::json::{self, Members, Object};
use crate::routing::Endpoint;

/// Members of a request whose strings name objects.
const REFERENCES: [&str; 17] = [
    "assistant_id",
    "batch_id",
    "container",
    "container_id",
    "conversation",
    "conversation_id",
    "file_id",
    "file_ids",
    "input_file_id",
    "previous_response_id",
    "response_id",
    "thread_id",
    "training_file",
    "upload_id",
    "validation_file",
    "vector_store_id",
    "vector_store_ids",
];
/// What every such name has a part of, or may be written with.
const HINTS: [&[u8]; 5] = [b"_id", b"_file", b"conta", b"conver", b"\\u00"];
/// Where an answer names the objects it tells of: its own, a batch's results, a run's thread, an
/// upload's file, a streamed response.
const NAMES: [&str; 6] =
    ["/id", "/output_file_id", "/error_file_id", "/thread_id", "/file/id", "/response/id"];

/// Ids that a request may have looked up in the store.
const MOST_LOOKED_UP: usize = 1000;

/// Sends a request for known objects where they were made; refuses those of somebody else, in the
/// words of one that does not exist. An id that is not known here may be known to the store, which is
/// asked before anything goes anywhere.
pub async fn check(
    ctx: &mut Context,
    gateway: &Gateway,
    path: &str,
    query: &str,
) -> Result<(), Refusal> {
    let owners = &gateway.owners;
    ctx.deletes = deleted(ctx, path);
    if owners.is_empty() {
        return Ok(());
    }
    let now = Now::by_clock().0;
    let named = named(owners, ctx, path, query, now)?;
    let unknown: Vec<String> =
        named.iter().filter(|id| owners.find(id, now).is_none()).cloned().collect();
    if unknown.len() > MOST_LOOKED_UP {
        return Err(Refusal::too_many_objects(MOST_LOOKED_UP));
    }
    // While the store is known to be away, what is in memory has to do.
    if let Some(store) = gateway.registry.store().filter(|_| !unknown.is_empty()) {
        let looked = owners.look_up(&store, &unknown, now).await;
        looked.map_err(|_| Refusal::objects_away())?;
    }
    named.iter().try_for_each(|id| follow(owners, ctx, id, now))
}

/// The objects that a request names and that are known, or may be known to the store, in the order in
/// which they are followed.
fn named(
    owners: &Owners,
    ctx: &Context,
    path: &str,
    query: &str,
    now: i64,
) -> Result<Vec<String>, Refusal> {
    let mut named = Vec::new();
    let wanted = |id: &str| owners.find(id, now).is_some() || owners.may_be_stored(id);
    // `/v1/files/{id}`, `/v1/threads/{id}/runs/{id}`: every segment that is known counts.
    let values = query.split('&').filter_map(|member| Some(member.split_once('=')?.1));
    for id in path.split('/').skip(3).chain(values) {
        let id = percent_decoded(id);
        if wanted(&id) {
            named.push(id.into_owned());
        }
    }
    if let Body::Json { bytes, members } = &ctx.body {
        named.extend(referred(bytes, wanted)?);
        if ctx.asked.operation == Operation::Responses {
            let ids = [pointed_at(bytes, members), prompted_by(bytes, members)].concat();
            named.extend(ids.into_iter().filter(|id| wanted(id)).take(MOST_LOOKED_UP + 1));
        }
    }
    Ok(named)
}

/// The items of `input` that stand somewhere else: `{"type": "item_reference", "id": …}`, whose type may
/// be left out (<https://platform.openai.com/docs/api-reference/responses/create>).
fn pointed_at(body: &[u8], members: &Members) -> Vec<String> {
    let input = members.raw(body, "input").filter(|input| input.starts_with(b"["));
    let items = input.and_then(|input| serde_json::from_slice::<Vec<&RawValue>>(input).ok());
    let pointed = items.unwrap_or_default().into_iter().filter_map(|item| {
        let mut item = Object::parse(item.get(), "input").ok()?;
        let kind = item.string("type").ok()?;
        // What has a role or a content is all here.
        let bare = !["role", "content", "output"].iter().any(|name| item.has(name));
        let points = kind.map_or(bare, |kind| kind == "item_reference");
        item.string("id").ok()?.filter(|_| points)
    });
    pointed.collect()
}

/// A template of a prompt that is kept at the provider.
fn prompted_by(body: &[u8], members: &Members) -> Vec<String> {
    let prompt = members.raw(body, "prompt").and_then(|prompt| std::str::from_utf8(prompt).ok());
    let mut prompt = prompt.and_then(|prompt| Object::parse(prompt, "prompt").ok());
    prompt.as_mut().and_then(|prompt| prompt.string("id").ok()?).into_iter().collect()
}

/// What a body names as objects: strings that are, or stand below, a member by such a name, at any
/// depth, as in a message's parts or a tool's resources.
fn referred(body: &[u8], wanted: impl Fn(&str) -> bool) -> Result<BTreeSet<String>, Refusal> {
    let mut referred = BTreeSet::new();
    // Most bodies name none, and are not read a second time.
    if HINTS.iter().any(|hint| memmem::find(body, hint).is_some()) {
        json::strings_below(body, &REFERENCES, |id| {
            // One more than is looked up is enough to refuse it.
            let full = referred.len() > MOST_LOOKED_UP;
            if !full && !referred.contains(id) && wanted(id) {
                referred.insert(id.to_owned());
            }
        })?;
    }
    Ok(referred)
}

/// The object that a request is to delete: `/v1/files/{id}`, and not what lies below another object,
/// which may only be taken out of it.
fn deleted(ctx: &Context, path: &str) -> Option<String> {
    let mut segments = path.split('/').skip(3).filter(|segment| !segment.is_empty());
    let id = segments.next().filter(|_| ctx.method == Method::DELETE)?;
    segments.next().is_none().then(|| percent_decoded(id).into_owned())
}

fn follow(owners: &Owners, ctx: &mut Context, id: &str, now: i64) -> Result<(), Refusal> {
    let Some(origin) = owners.find(id, now) else { return Ok(()) };
    if ctx.principal.as_ref().is_none_or(|principal| principal.id != origin.owner) {
        return Err(Refusal::unknown_object(id));
    }
    let mut upstreams = ctx.snapshot.upstreams.iter();
    let made_at = upstreams.find(|upstream| *upstream.provider.name == *origin.provider);
    // A provider that is gone from the configuration has taken its objects along.
    let upstream = made_at.cloned().ok_or_else(|| Refusal::unknown_object(id))?;
    owners.see(id, now);
    match ctx.course.hops.as_mut_slice() {
        // A call by model keeps its order, but only among the hops that know the object.
        hops if hops.iter().any(|hop| hop.leg.is_some()) => {
            ctx.course.hops.retain(|hop| Arc::ptr_eq(&hop.upstream, &upstream));
            if ctx.course.hops.is_empty() {
                return Err(Refusal::unknown_object(id));
            }
        }
        _ => ctx.course.hops = vec![Hop { upstream: Arc::clone(&upstream), leg: None }],
    }
    let key = origin.key.and_then(|mark| upstream.provider.keys.marked(&mark).cloned());
    ctx.course.pinned = key;
    ctx.course.owned = true;
    Ok(())
}

/// Whether an answer to this request tells of objects worth remembering: it makes one, or shows one.
pub fn makes_objects(ctx: &Context) -> bool {
    match ctx.endpoint {
        Some(Endpoint::ByDefault(_)) => true,
        Some(Endpoint::ByModel(call)) => {
            call.operation == Operation::Responses || call.label == "/v1/videos"
        }
        _ => false,
    }
}

/// Remembers the objects that a good answer tells of as the caller's, before the caller can read of
/// them. A list tells of everybody's, and has no `id`.
pub fn remember(owners: &Owners, ctx: &mut Context) {
    let Some(told) = ctx.told.take() else { return };
    // Seeing an object makes nobody its maker; what a known one tells of belongs to its own. What was
    // said in another dialect is no object of the caller's.
    let made = (ctx.makes || ctx.course.owned) && !cross::is_crossing(ctx);
    if !made || !(200..300).contains(&ctx.outcome.status) {
        return;
    }
    let (Some(principal), Some(attempt)) = (&ctx.principal, &ctx.course.current) else { return };
    let read = |json: &[u8]| serde_json::from_slice::<Value>(json).ok();
    let Some(told) = read(&told).or_else(|| read(&first_event(&told)?)) else { return };
    let origin = Origin {
        owner: Arc::clone(&principal.id),
        provider: Arc::from(attempt.upstream.provider.name.as_str()),
        key: attempt.key().map(|key| Arc::clone(key.mark())),
    };
    let now = Now::by_clock().0;
    for id in NAMES.iter().filter_map(|place| told.pointer(place)?.as_str()) {
        owners.remember(id, origin.clone(), now);
    }
}

/// Forgets the object that a request has deleted.
pub fn forget(owners: &Owners, ctx: &mut Context) {
    if (200..300).contains(&ctx.outcome.status)
        && let Some(id) = ctx.deletes.take()
    {
        owners.forget(&id);
    }
}

fn first_event(chunk: &Bytes) -> Option<Bytes> {
    let mut decoder = Decoder::new();
    decoder.push(chunk.clone());
    decoder.next()?.data
}
