//! Objects that live at a provider: each goes back to where it was made, and to its maker only.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use memchr::memmem;
use serde_json::Value;

use super::attempt::Auth;
use super::context::{Body, Context, Hop};
use super::refusal::Refusal;
use crate::access::{Origin, Owners, percent_decoded};
use crate::protocol::framing::sse::Decoder;
use crate::protocol::json;
use crate::protocol::Operation;
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

/// Sends a request for known objects where they were made; refuses those of somebody else, in the
/// words of one that does not exist.
pub fn check(owners: &Owners, ctx: &mut Context, path: &str, query: &str) -> Result<(), Refusal> {
    if owners.is_empty() {
        return Ok(());
    }
    // `/v1/files/{id}`, `/v1/threads/{id}/runs/{id}`: every segment that is known counts.
    for id in path.split('/').skip(3) {
        follow(owners, ctx, &percent_decoded(id))?;
    }
    for (_, id) in query.split('&').filter_map(|member| member.split_once('=')) {
        follow(owners, ctx, &percent_decoded(id))?;
    }
    let Body::Json { bytes, .. } = &ctx.body else { return Ok(()) };
    let known = referred(owners, bytes)?;
    known.iter().try_for_each(|id| follow(owners, ctx, id))
}

/// The known objects that a body names: strings that are, or stand below, a member by such a name,
/// at any depth, as in a message's parts or a tool's resources.
fn referred(owners: &Owners, body: &[u8]) -> Result<BTreeSet<String>, Refusal> {
    let mut known = BTreeSet::new();
    // Most bodies name none, and are not read a second time.
    if HINTS.iter().any(|hint| memmem::find(body, hint).is_some()) {
        json::strings_below(body, &REFERENCES, |id| {
            if !known.contains(id) && owners.find(id).is_some() {
                known.insert(id.to_owned());
            }
        })?;
    }
    Ok(known)
}

fn follow(owners: &Owners, ctx: &mut Context, id: &str) -> Result<(), Refusal> {
    let Some(origin) = owners.find(id) else { return Ok(()) };
    if ctx.principal.as_ref().is_none_or(|principal| principal.id != origin.owner) {
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
            if ctx.course.hops.is_empty() {
                return Err(Refusal::unknown_object(id));
            }
        }
        _ => ctx.course.hops = vec![Hop { upstream, leg: None }],
    }
    ctx.course.pinned = origin.key;
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
    // Seeing an object makes nobody its maker; what a known one tells of belongs to its own.
    let made = ctx.makes || ctx.course.owned;
    if !made || !(200..300).contains(&ctx.outcome.status) {
        return;
    }
    let (Some(principal), Some(attempt)) = (&ctx.principal, &ctx.course.current) else { return };
    let read = |json: &[u8]| serde_json::from_slice::<Value>(json).ok();
    let Some(told) = read(&told).or_else(|| read(&first_event(&told)?)) else { return };
    let origin = Origin {
        owner: Arc::clone(&principal.id),
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
