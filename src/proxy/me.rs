//! `GET /v1/me`: what a caller's key may do, and how much of it is left.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Gateway;
use super::context::Context;
use super::models::models;
use super::refusal::Refusal;
use crate::access::limits::{Detail, LimitKind, Now, Subject};
use crate::access::{Made, Principal, User};
use crate::config::format_usd;

/// What the caller is told of itself.
pub fn tell(ctx: &Context, gateway: &Gateway) -> Result<Value, Refusal> {
    let principal = ctx.principal.as_ref().filter(|who| who.made() != Made::Nowhere);
    let Some(principal) = principal else { return Err(Refusal::no_key()) };
    let subjects: Vec<Arc<Subject>> = principal
        .subject()
        .into_iter()
        .chain(principal.user().map(|it| it.subject()))
        .cloned()
        .collect();
    let details = gateway.registry.limits.details(&subjects, Now::by_clock());
    let (quotas, limits): (Vec<&Detail>, Vec<&Detail>) =
        details.iter().partition(|detail| detail.name == LimitKind::Quota.as_str());
    let id = |model: Value| model.get("id").cloned();
    let models: Vec<Value> =
        models(&ctx.snapshot, Some(principal)).into_iter().filter_map(id).collect();
    Ok(json!({
        "key": key(principal),
        "user": principal.user().and_then(|user| person(user)).or_else(|| owner(principal)),
        "expires_at": principal.expires_at().and_then(moment),
        "models": models,
        "limits": limits.into_iter().map(limit).collect::<Vec<_>>(),
        "quotas": self::quotas(principal, &quotas),
    }))
}

fn key(principal: &Principal) -> Value {
    json!({
        "id": principal.id,
        "name": principal.name,
        "allowed_models": principal.grants().models(),
        "allowed_providers": principal.grants().providers(),
    })
}

fn person(user: &User) -> Option<Value> {
    let state = user.state()?;
    Some(json!({
        "id": user.id,
        "name": state.name,
        "role": state.role.as_str(),
        "expires_at": state.expires_at.and_then(moment),
        "allowed_models": state.grants.models(),
        "allowed_providers": state.grants.providers(),
    }))
}

/// In the words of the configuration, a key's user is a name and no more.
fn owner(principal: &Principal) -> Option<Value> {
    Some(principal.owner()).filter(|name| !name.is_empty()).map(|name| json!({ "name": name }))
}

fn limit(detail: &Detail) -> Value {
    let money = detail.name == LimitKind::Budget.as_str();
    // Money is a text: a number would be rounded by who reads it.
    let amount = |amount: u64| if money { json!(format_usd(amount)) } else { json!(amount) };
    let unit = match detail.name {
        _ if money => "usd",
        name if name == LimitKind::TokensPerMinute.as_str() => "tokens",
        _ => "requests",
    };
    json!({
        "of": detail.who.as_str(),
        "name": detail.name,
        "unit": unit,
        "limit": amount(detail.limit),
        "used": amount(detail.used),
        "reserved": amount(detail.reserved),
        "remaining": amount(detail.remaining),
        "resets_at": detail.resets_at.and_then(moment),
    })
}

/// Every group of models, limited or not.
fn quotas(principal: &Principal, limited: &[&Detail]) -> Vec<Value> {
    let Some(user) = principal.user() else { return Vec::new() };
    let terms = user.subject().terms();
    let group = |group: &Arc<str>| {
        let of = |detail: &&&Detail| detail.group.as_ref() == Some(group);
        match limited.iter().find(of) {
            Some(detail) => json!({
                "group": group,
                "limit": detail.limit,
                "used": detail.used,
                "reserved": detail.reserved,
                "remaining": detail.remaining,
                "resets_at": detail.resets_at.and_then(moment),
            }),
            None => json!({ "group": group, "limit": null }),
        }
    };
    terms.quotas.iter().map(|quota| group(&quota.group)).collect()
}

/// A moment as RFC 3339 has it.
pub fn moment(millis: i64) -> Option<String> {
    Some(format!("{:.0}", Timestamp::from_millisecond(millis).ok()?))
}
