//! What a request asks for and says, looked at before anything of it reaches an upstream.

use std::sync::Arc;

use bytes::Bytes;

use super::context::{Body, Context};
use super::refusal::Refusal;
use super::{Gateway, abuse, account, moderate};
use crate::config::{Action, Bounds, glob_matches};
use crate::ledger::estimate_prompt;
use crate::protocol::json::ScanError;
use crate::protocol::{Piece, texts};
use crate::snapshot::Snapshot;

/// Bodies up to this size are looked at where they are; others on a thread of their own, so that
/// nobody else waits for them.
const SMALL: usize = 64 << 10;

/// What is found in a body.
#[derive(Default)]
struct Found {
    /// The places of the rules that found something, in their order.
    rules: Vec<usize>,
    images: u32,
}

/// Refuses what asks for too much, or says what it must not.
pub async fn inspect(ctx: &mut Context, gateway: &Gateway) -> Result<(), Refusal> {
    let snapshot = Arc::clone(&ctx.snapshot);
    let abuse = &snapshot.config.abuse;
    let Body::Json { bytes, .. } = &ctx.body else { return Ok(()) };
    let bounds = bounds(ctx);
    check_tokens(ctx, gateway, bounds, bytes)?;
    if bounds.max_images > 0 || !abuse.patterns.is_empty() {
        let found = look(&snapshot, bytes).await?;
        if bounds.max_images > 0 && found.images > bounds.max_images {
            abuse::count(gateway, "max_images", "", Action::Refuse.word());
            return Err(Refusal::too_many_images(bounds.max_images));
        }
        apply(ctx, gateway, &found.rules).await?;
    }
    match &abuse.moderation {
        Some(moderation) => moderate::moderate(ctx, gateway, moderation).await,
        None => Ok(()),
    }
}

/// What this request may ask for: the least of what everybody, the key, its user and the model may.
fn bounds(ctx: &Context) -> Bounds {
    let config = &ctx.snapshot.config;
    let leg = ctx.course.hops.first().and_then(|hop| hop.leg.as_ref());
    let model = leg.and_then(|leg| config.models.get(leg.model.index));
    let model = model.map(|model| model.limits.bounds()).unwrap_or_default();
    let principal = ctx.principal.as_ref().map(|who| who.bounds()).unwrap_or_default();
    config.abuse.limits.and(principal).and(model)
}

fn check_tokens(
    ctx: &Context,
    gateway: &Gateway,
    bounds: Bounds,
    bytes: &Bytes,
) -> Result<(), Refusal> {
    let Bounds { max_output_tokens, max_prompt_tokens, .. } = bounds;
    if bounds.is_unlimited() || !account::counts_tokens(ctx) {
        return Ok(());
    }
    if max_output_tokens > 0
        && account::output_asked(ctx)?.is_some_and(|asked| asked > max_output_tokens)
    {
        abuse::count(gateway, "max_output_tokens", "", Action::Refuse.word());
        return Err(Refusal::too_much_output(max_output_tokens));
    }
    if max_prompt_tokens > 0 && estimate_prompt(bytes) > max_prompt_tokens {
        abuse::count(gateway, "max_prompt_tokens", "", Action::Refuse.word());
        return Err(Refusal::too_long_prompt(max_prompt_tokens));
    }
    Ok(())
}

async fn look(snapshot: &Arc<Snapshot>, bytes: &Bytes) -> Result<Found, Refusal> {
    if bytes.len() <= SMALL {
        return Ok(find(snapshot, bytes)?);
    }
    let (snapshot, bytes) = (Arc::clone(snapshot), bytes.clone());
    let found = tokio::task::spawn_blocking(move || find(&snapshot, &bytes)).await;
    Ok(found.map_err(|_| Refusal::internal())??)
}

fn find(snapshot: &Snapshot, bytes: &[u8]) -> Result<Found, ScanError> {
    let (patterns, mut found) = (&snapshot.config.abuse.patterns, Found::default());
    texts(bytes, &mut |piece| match piece {
        Piece::Text(text) => patterns.find(text, &mut found.rules),
        Piece::Image => found.images = found.images.saturating_add(1),
    })?;
    found.rules.sort_unstable();
    Ok(found)
}

/// Does what follows from these rules, the least first; the strictest has the last word.
async fn apply(ctx: &Context, gateway: &Gateway, found: &[usize]) -> Result<(), Refusal> {
    let rules = &ctx.snapshot.config.abuse.rules;
    let asked = ctx.course.hops.first().and_then(|hop| hop.leg.as_ref()).map(|leg| &*leg.asked);
    let mut caught: Vec<_> = found
        .iter()
        .filter_map(|at| rules.get(*at))
        .filter(|rule| match (&rule.models, asked) {
            (Some(globs), Some(asked)) => globs.iter().any(|glob| glob_matches(glob, asked)),
            // Of calls that carry no model nobody knows whom they reach.
            _ => true,
        })
        .collect();
    // One wait is enough: the longest.
    caught.sort_by_key(|rule| (rule.measure.action, rule.measure.delay));
    let longest = caught.iter().rposition(|rule| rule.measure.action == Action::Delay);
    let mut refused = None;
    for (at, rule) in caught.iter().enumerate() {
        let waits = rule.measure.action == Action::Delay;
        if waits && longest != Some(at) {
            abuse::count(gateway, "rule", &rule.name, Action::Delay.word());
            continue;
        }
        let taken = abuse::take(ctx, gateway, "rule", &rule.name, &rule.measure).await;
        refused = taken.err().or(refused);
    }
    refused.map_or(Ok(()), Err)
}
