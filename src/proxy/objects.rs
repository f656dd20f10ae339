//! Objects that live at a provider: each goes back to where it was made, and to its maker only.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::attempt::Auth;
use super::context::{Body, Context, Hop};
use super::refusal::Refusal;
use crate::access::{LONGEST_ID, Origin, Owners, percent_decoded};
use crate::protocol::framing::sse::Decoder;
use crate::protocol::json::short_strings;
use crate::protocol::openai_chat::Operation;
use crate::routing::Endpoint;

/// Where an answer names the objects it tells of: its own, a batch's results, a streamed response.
const NAMES: [&str; 4] = ["/id", "/output_file_id", "/error_file_id", "/response/id"];

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
    // A file may be named anywhere in a request: in a message's parts, a tool's resources. Whatever
    // string is an object's id is taken for it.
    let Body::Json { bytes, .. } = &ctx.body else { return Ok(()) };
    let bytes = bytes.clone();
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    short_strings(text, LONGEST_ID).try_for_each(|id| follow(owners, ctx, &id))
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

/// Remembers the objects that a good answer tells of as the caller's, before the caller can read of
/// them. A list tells of everybody's, and has no `id`.
pub fn remember(owners: &Owners, ctx: &mut Context) {
    let Some(told) = ctx.told.take() else { return };
    if !(200..300).contains(&ctx.outcome.status) {
        return;
    }
    let (Some(principal), Some(attempt)) = (&ctx.principal, &ctx.course.current) else { return };
    let read = |json: &[u8]| serde_json::from_slice::<Value>(json).ok();
    let Some(told) = read(&told).or_else(|| read(&first_event(&told)?)) else { return };
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
