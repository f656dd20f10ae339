//! Who asks: the caller's key, looked up in the configuration, then in the directory of the store.

use std::sync::Arc;

use pingora::proxy::Session;

use super::context::Context;
use super::refusal::Refusal;
use super::{Gateway, address};
use crate::access::limits::Now;
use crate::access::{Credential, Digest, Lookup, Made, Principal, Role};
use crate::config::Privacy;
use crate::routing::{Endpoint, Local};

/// Finds out who asks, and refuses who may not.
pub fn authenticate(
    ctx: &mut Context,
    session: &Session,
    gateway: &Gateway,
    endpoint: Endpoint,
) -> Result<(), Refusal> {
    let request = session.req_header();
    let found = Credential::find(&request.headers, request.uri.query());
    let credential = found.map_err(|_| Refusal::ambiguous_key())?;
    let internal = endpoint == Endpoint::Local(Local::HealthDetailed);
    let Some(credential) = credential else {
        // Said on purpose, `anonymous` opens calls, not what is for operators.
        if is_open(ctx, gateway) && !(internal && ctx.snapshot.config.anonymous) {
            ctx.principal = Some(Arc::clone(&ctx.snapshot.anonymous));
            return Ok(());
        }
        return Err(Refusal::no_key());
    };
    let digest = credential.digest();
    if let Some(principal) = find(ctx, gateway, &digest)? {
        if internal && !sees_insides(&principal) {
            return Err(Refusal::not_for_this_key());
        }
        keep_private(ctx, &principal);
        address::check(ctx, session, gateway, &principal)?;
        ctx.principal = Some(principal);
        return Ok(());
    }
    let operator = ctx.snapshot.is_operator(&digest);
    ctx.principal = if operator && internal {
        // The operators' key opens what is for operators, and no call.
        Some(Arc::clone(&ctx.snapshot.anonymous))
    } else if operator || (internal && ctx.snapshot.config.anonymous) {
        return Err(Refusal::unknown_key());
    } else if !has_keys(ctx, gateway) && is_open(ctx, gateway) {
        // None of our keys: then it is the caller's own with a provider.
        ctx.own_key = Some(credential);
        Some(Arc::clone(&ctx.snapshot.anonymous))
    } else {
        return Err(Refusal::unknown_key());
    };
    Ok(())
}

/// A key that is known; `None` for one that is not.
fn find(
    ctx: &mut Context,
    gateway: &Gateway,
    digest: &Digest,
) -> Result<Option<Arc<Principal>>, Refusal> {
    let now = Now::by_clock().0;
    if let Some(principal) = ctx.snapshot.keyring.find(digest).cloned() {
        keep_private(ctx, &principal);
        return match principal.refused(now) {
            Some(why) => Err(Refusal::refused_key(&why)),
            None => Ok(Some(principal)),
        };
    }
    match gateway.registry.find(digest, now) {
        Lookup::Known(principal) => Ok(Some(principal)),
        Lookup::Refused(why) => Err(Refusal::refused_key(&why)),
        Lookup::Unknown => Ok(None),
        // The operators' key needs no store.
        Lookup::Away if ctx.snapshot.is_operator(digest) => Ok(None),
        Lookup::Away => Err(Refusal::keys_away()),
    }
}

/// Nothing is kept of who calls with a private key, though it may be refused.
fn keep_private(ctx: &mut Context, principal: &Principal) {
    if principal.is_private() {
        (ctx.privacy, ctx.client) = (Privacy::STRICT, None);
    }
}

/// Whether callers need no key: it was said so, or only loopback listens and there has never been one.
fn is_open(ctx: &Context, gateway: &Gateway) -> bool {
    ctx.snapshot.config.anonymous || (ctx.snapshot.open && gateway.registry.is_open())
}

/// With keys of ours about, an unknown one is more likely a mistyped one of them than a provider's,
/// which it would be sent to.
fn has_keys(ctx: &Context, gateway: &Gateway) -> bool {
    !ctx.snapshot.keyring.is_empty() || gateway.registry.keys_made()
}

/// Replicas and their addresses are for the keys that operators wrote down, and for administrators.
fn sees_insides(principal: &Principal) -> bool {
    let admin = || principal.user()?.state().map(|state| state.role == Role::Admin);
    principal.made() == Made::File || admin().unwrap_or(false)
}
