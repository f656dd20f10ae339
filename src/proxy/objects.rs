//! Objects that live at a provider: each goes back to where it was made, and to its maker only.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::attempt::Auth;
use super::context::{Body, Context, Hop};
use super::refusal::Refusal;
use crate::access::{Origin, Owners};
use crate::protocol::framing::sse::Decoder;
use crate::protocol::openai_chat::Operation;
use crate::routing::Endpoint;

/// Members of a request that name an object.
const REFERENCES: [&str; 6] = [
    "assistant_id",
    "conversation",
    "input_file_id",
    "previous_response_id",
    "thread_id",
    "training_file",
];
/// Where an answer names the objects it tells of: its own, a batch's results, a streamed response.
const NAMES: [&str; 4] = ["/id", "/output_file_id", "/error_file_id", "/response/id"];

/// Sends a request for known objects where they were made; refuses those of somebody else, in the
/// words of one that does not exist.
pub fn check(owners: &Owners, ctx: &mut Context, path: &str) -> Result<(), Refusal> {
    if !makes_objects(ctx) {
        return Ok(());
    }
    // `/v1/files/{id}`, `/v1/threads/{id}/runs/{id}`: every segment that is known counts.
    for id in path.split('/').skip(3) {
        follow(owners, ctx, id)?;
    }
    referred(&ctx.body).iter().try_for_each(|id| follow(owners, ctx, id))
}

fn referred(body: &Body) -> Vec<String> {
    let Body::Json { bytes, members } = body else { return Vec::new() };
    let named = REFERENCES.iter().filter_map(|name| members.string(bytes, name).ok().flatten());
    named.map(Cow::into_owned).collect()
}

fn follow(owners: &Owners, ctx: &mut Context, id: &str) -> Result<(), Refusal> {
    let Some(origin) = owners.find(id) else { return Ok(()) };
    if ctx.principal.as_ref().is_none_or(|principal| *principal.name != *origin.owner) {
        return Err(Refusal::unknown_object(id));
    }
    let mut upstreams = ctx.snapshot.upstreams.iter();
    let made_at = upstreams.find(|upstream| *upstream.provider.name == *origin.provider);
    // A provider that is gone from the configuration has taken its objects along.
    let upstream = made_at.cloned().ok_or_else(|| Refusal::unknown_object(id))?;
    match ctx.course.hops.as_mut_slice() {
        // A call by model keeps its order, but only among the hops that know the object.
        hops if hops.iter().any(|hop| hop.leg.is_some()) => {
            ctx.course.hops.retain(|hop| Arc::ptr_eq(&hop.upstream, &upstream));
        }
        _ => ctx.course.hops = vec![Hop { upstream, leg: None }],
    }
    ctx.course.pinned = origin.key;
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

/// Remembers the objects that a good answer tells of as the caller's. A list tells of everybody's,
/// and has no `id`.
pub fn remember(owners: &Owners, ctx: &Context) {
    if !makes_objects(ctx) || !(200..300).contains(&ctx.outcome.status) {
        return;
    }
    let (Some(principal), Some(attempt)) = (&ctx.principal, &ctx.course.current) else { return };
    let Some(told) = ctx.stage.whole().or_else(|| first_event(ctx.first_chunk.as_ref()?)) else {
        return;
    };
    let Ok(told) = serde_json::from_slice::<Value>(&told) else { return };
    let origin = Origin {
        owner: Arc::from(principal.name.as_str()),
        provider: Arc::from(attempt.upstream.provider.name.as_str()),
        key: match &attempt.auth {
            Auth::Ours(key) => Some(Arc::clone(key)),
            Auth::None | Auth::Callers(_) => None,
        },
    };
    for id in NAMES.iter().filter_map(|place| told.pointer(place)?.as_str()) {
        owners.remember(id, origin.clone());
    }
}

fn first_event(chunk: &Bytes) -> Option<Bytes> {
    let mut decoder = Decoder::new();
    decoder.push(chunk.clone());
    decoder.next()?.data
}
