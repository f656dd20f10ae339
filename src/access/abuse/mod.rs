//! Who is kept out or slowed down, whatever key they have: networks, web pages, and who asks too often.

mod networks;
mod sites;
mod table;
mod watch;

use http::HeaderMap;
use http::header::{ORIGIN, REFERER};
use std::net::IpAddr;

use self::networks::NetworkSet;
use self::sites::SiteSet;
pub use self::watch::{Slot, Watch};
use crate::config::Abuse;

/// What a configuration says of where requests come from, compiled.
#[derive(Debug, Default)]
pub struct Guard {
    allow: Option<NetworkSet>,
    block: Option<NetworkSet>,
    origins: SiteSet,
    referers: SiteSet,
    /// Something of a request has to be looked at before its key.
    wary: bool,
}

/// Why a request is kept out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptOut {
    Network,
    Origin,
    Referer,
}

// === impl Guard ===

impl Guard {
    pub fn new(abuse: &Abuse) -> Self {
        let set = |list: &[_]| (!list.is_empty()).then(|| NetworkSet::new(list));
        let (allow, block) = (set(&abuse.networks.allow), set(&abuse.networks.block));
        let quiet = allow.is_none()
            && block.is_none()
            && abuse.origins.is_empty()
            && abuse.referers.is_empty()
            && abuse.per_address.is_unlimited();
        Self {
            allow,
            block,
            origins: SiteSet::new(&abuse.origins),
            referers: SiteSet::new(&abuse.referers),
            wary: !quiet,
        }
    }

    /// Whether anything of a request has to be looked at before its key.
    pub fn is_wary(&self) -> bool {
        self.wary
    }

    /// Whether a request may come from there. An address that is not known is in no network.
    pub fn check(&self, address: Option<IpAddr>, headers: &HeaderMap) -> Result<(), KeptOut> {
        let within = |set: &NetworkSet| address.is_some_and(|address| set.contains(address));
        if self.block.as_ref().is_some_and(within) {
            return Err(KeptOut::Network);
        }
        if self.allow.as_ref().is_some_and(|allow| !within(allow)) {
            return Err(KeptOut::Network);
        }
        if !self.origins.lets_in(headers.get_all(ORIGIN)) {
            return Err(KeptOut::Origin);
        }
        if !self.referers.lets_in(headers.get_all(REFERER)) {
            return Err(KeptOut::Referer);
        }
        Ok(())
    }
}

// === impl KeptOut ===

impl KeptOut {
    /// The word for it in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Origin => "origin",
            Self::Referer => "referer",
        }
    }
}
