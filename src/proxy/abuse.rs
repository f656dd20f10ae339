//! Who is kept out before anything of a request is read, and who is made to wait.

use std::time::Duration;

use pingora::proxy::Session;

use super::context::Context;
use super::refusal::Refusal;
use super::{Gateway, address};
use crate::access::abuse::KeptOut;
use crate::access::{Errand, Made};
use crate::config::{Action, Measure};
use crate::routing::{Endpoint, Local};

/// Refuses what comes from where nothing may come from, or too often. Only whether this process lives may
/// be asked from everywhere.
pub fn check_source(ctx: &Context, session: &Session, gateway: &Gateway) -> Result<(), Refusal> {
    let guard = &ctx.snapshot.guard;
    if !guard.is_wary() {
        return Ok(());
    }
    let request = session.req_header();
    let endpoint = Endpoint::find(&request.method, request.uri.path());
    if matches!(endpoint, Some(Endpoint::Local(Local::Live | Local::Ready))) {
        return Ok(());
    }
    let from = address::client(ctx, session);
    if let Err(why) = guard.check(from, &request.headers) {
        count(gateway, why.word(), "", Action::Refuse.word());
        return Err(match why {
            KeptOut::Network => Refusal::network_blocked(),
            KeptOut::Origin | KeptOut::Referer => Refusal::site_blocked(),
        });
    }
    let pace = ctx.snapshot.config.abuse.per_address;
    let Some(from) = from.filter(|_| !pace.is_unlimited()) else { return Ok(()) };
    gateway.registry.watch.address(from, pace).map_err(|wait| {
        count(gateway, "per_address", "", Action::Refuse.word());
        Refusal::too_many_requests("address", wait)
    })
}

/// Refuses a user that asks too often, or a key that is nobody's. Who needs no key has no name to count
/// under but the address.
pub fn check_user(ctx: &Context, gateway: &Gateway) -> Result<(), Refusal> {
    let pace = ctx.snapshot.config.abuse.per_user;
    let principal = ctx.principal.as_ref().filter(|it| it.made() != Made::Nowhere);
    let Some(principal) = principal.filter(|_| !pace.is_unlimited()) else { return Ok(()) };
    let id = Some(principal.owner()).filter(|owner| !owner.is_empty()).unwrap_or(&principal.id);
    gateway.registry.watch.user(id, pace).map_err(|wait| {
        count(gateway, "per_user", "", Action::Refuse.word());
        Refusal::too_many_requests("user", wait)
    })
}

/// Makes an address wait that has sent many wrong keys. A key that is good never comes here: who shares
/// an address with somebody who tries keys is served as ever.
pub async fn after_wrong_key(
    ctx: &Context,
    session: &Session,
    gateway: &Gateway,
) -> Option<Refusal> {
    let terms = ctx.snapshot.config.abuse.failed_keys?;
    let delay = gateway.registry.watch.failed(address::client(ctx, session)?, &terms);
    if delay.is_zero() {
        return None;
    }
    count(gateway, "failed_keys", "", Action::Delay.word());
    wait(gateway, delay).await.err()
}

/// Does what follows from what a check found. `rule` is a name of the configuration.
pub async fn take(
    ctx: &Context,
    gateway: &Gateway,
    check: &'static str,
    rule: &str,
    measure: &Measure,
) -> Result<(), Refusal> {
    let action = measure.action;
    count(gateway, check, rule, action.word());
    let key = ctx.principal.as_ref().map_or("", |principal| &*principal.name);
    let (id, named) = (ctx.request_id(), if rule.is_empty() { "" } else { " " });
    log::warn!("abuse: {check}{named}{rule} ({}): request_id={id} key={key}", action.word());
    match action {
        Action::Log => Ok(()),
        Action::Delay => wait(gateway, measure.delay).await,
        Action::Refuse => Err(Refusal::content(measure)),
        Action::Disable => {
            disable(ctx, gateway, check, rule);
            Err(Refusal::content(measure))
        }
    }
}

/// Has the caller's user disabled, or its key where that is nobody's. What the file says stays.
fn disable(ctx: &Context, gateway: &Gateway, check: &str, rule: &str) {
    let Some(principal) = &ctx.principal else { return };
    let reason = if rule.is_empty() { check.to_owned() } else { format!("{check} {rule}") };
    if let Some(user) = principal.user() {
        gateway.registry.leave(Errand::DisableUser { id: user.id.to_string(), reason });
    } else if principal.made() == Made::Store {
        gateway.registry.leave(Errand::DisableKey { id: principal.id.to_string(), reason });
    }
}

/// Waits; where too many wait already, the request is refused.
async fn wait(gateway: &Gateway, delay: Duration) -> Result<(), Refusal> {
    let Some(_slot) = gateway.registry.watch.slot() else {
        return Err(Refusal::too_many_attempts(delay));
    };
    tokio::time::sleep(delay).await;
    Ok(())
}

/// Counts what a check caught.
pub fn count(gateway: &Gateway, check: &str, rule: &str, action: &str) {
    gateway.metrics.abuse.with_label_values(&[check, rule, action]).inc();
}
