//! From how many addresses a key or a user may call. Of an address only a hash is kept.

use std::net::IpAddr;

use pingora::proxy::Session;
use sha2::{Digest as _, Sha256};

use super::context::Context;
use super::refusal::Refusal;
use super::{Gateway, edge};
use crate::access::limits::{Now, Seen, Subject};
use crate::access::{Errand, Made, Principal};
use crate::config::OnMaxIps;

const REASON: &str = "called from too many addresses";

/// Refuses a caller that comes from one address too many.
pub fn check(
    ctx: &Context,
    session: &Session,
    gateway: &Gateway,
    principal: &Principal,
) -> Result<(), Refusal> {
    let rules = &ctx.snapshot.rules;
    if let (most @ 1.., Some(subject)) = (principal.max_ips(), principal.subject())
        && is_one_too_many(ctx, session, subject, &principal.id, most)
    {
        if rules.on_max_ips(None) == OnMaxIps::Disable && principal.made() == Made::Store {
            let (id, reason) = (principal.id.to_string(), REASON.to_owned());
            gateway.registry.leave(Errand::DisableKey { id, reason });
        }
        return Err(Refusal::too_many_addresses("API key"));
    }
    let Some(user) = principal.user() else { return Ok(()) };
    let Some(state) = user.state() else { return Ok(()) };
    let most = rules.max_ips(state.max_ips);
    if most > 0 && is_one_too_many(ctx, session, user.subject(), &user.id, most) {
        if rules.on_max_ips(state.on_max_ips) == OnMaxIps::Disable {
            let (id, reason) = (user.id.to_string(), REASON.to_owned());
            gateway.registry.leave(Errand::DisableUser { id, reason });
        }
        return Err(Refusal::too_many_addresses("API key's user"));
    }
    Ok(())
}

fn is_one_too_many(
    ctx: &Context,
    session: &Session,
    subject: &Subject,
    id: &str,
    most: u32,
) -> bool {
    let Some(address) = client(ctx, session) else { return false };
    subject.address_seen(hash(id, address), most, Now::by_clock()) == Seen::TooMany
}

/// Where a request comes from, whether or not that is kept.
pub fn client(ctx: &Context, session: &Session) -> Option<IpAddr> {
    if let Some(known) = ctx.client {
        return Some(known);
    }
    let peer = session.client_addr()?.as_inet()?.ip();
    let trusted = &ctx.snapshot.config.trusted_proxies;
    Some(edge::client(peer, &session.req_header().headers, trusted))
}

/// What is kept of an address: it means something for one key or user only. Of IPv6 the network, since
/// a machine has as many addresses in it as it likes.
pub fn hash(id: &str, address: IpAddr) -> u64 {
    let hasher = Sha256::new().chain_update(id).chain_update([0]);
    let digest: [u8; 32] = match address {
        IpAddr::V4(address) => hasher.chain_update(address.octets()).finalize().into(),
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64;
            hasher.chain_update(network.to_be_bytes()).finalize().into()
        }
    };
    u64::from_be_bytes(digest.first_chunk().copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_is_one_address() {
        let of = |id: &str, text: &str| hash(id, text.parse().unwrap());
        assert_eq!(of("a", "2001:db8::1"), of("a", "2001:db8::ffff"));
        assert_ne!(of("a", "2001:db8::1"), of("a", "2001:db8:0:1::1"));
        assert_ne!(of("a", "192.0.2.1"), of("a", "192.0.2.2"));
        assert_ne!(of("a", "192.0.2.1"), of("b", "192.0.2.1"));
    }
}
