//! `networks`, `origins` and `referers`: where requests come from.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::Problem;
use crate::config::read::Value;

/// How many may be listed.
const MOST: usize = 100_000;

/// Networks that may call, and that may not; what is in both may not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    /// Empty: all but those below.
    pub allow: Vec<IpNet>,
    /// These do not.
    pub block: Vec<IpNet>,
}

/// Web pages that may call, and that may not: hosts, or whole origins, in small letters, in which `*`
/// stands for anything; what is in both may not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sites {
    /// Empty: all but those below. Requests of no page at all may come all the same.
    pub allow: Vec<String>,
    /// These do not.
    pub block: Vec<String>,
}

// === impl Networks ===

impl Networks {
    pub(super) fn read(value: Value) -> Option<Self> {
        value.section(|s| Self {
            allow: s.read("allow", |v| bounded(v, network)).unwrap_or_default(),
            block: s.read("block", |v| bounded(v, network)).unwrap_or_default(),
        })
    }
}

// === impl Sites ===

impl Sites {
    pub(super) fn read(value: Value) -> Option<Self> {
        value.section(|s| Self {
            allow: s.read("allow", |v| bounded(v, site)).unwrap_or_default(),
            block: s.read("block", |v| bounded(v, site)).unwrap_or_default(),
        })
    }

    /// Whether it keeps nobody out.
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.block.is_empty()
    }
}

/// Reads a network; a single address is a network of one.
pub(in crate::config) fn network(value: Value) -> Option<IpNet> {
    let wanted = "a network or an address";
    let text = &value.scalar(wanted)?.text;
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.ok().or_else(|| value.must_be_hint(wanted, "such as 10.0.0.0/8 or ::1"))
}

/// Reads a host or an origin.
fn site(value: Value) -> Option<String> {
    let text = value.name()?.to_ascii_lowercase();
    let rest = text.split_once("://").map_or(text.as_str(), |(_, rest)| rest);
    if rest.is_empty() || rest.contains(['/', '@', '?', '#', ' ']) {
        let hint = "such as chat.example.org, *.example.org or https://chat.example.org:8443";
        return value.must_be_hint("a host or an origin", hint);
    }
    Some(text)
}

fn bounded<T>(value: Value, read: impl Fn(Value) -> Option<T>) -> Option<Vec<T>> {
    let list = value.list(read)?;
    if list.len() > MOST {
        let message = format!("`{}` has more than {MOST} entries", value.name);
        return value.report(Problem::error(value.location(), message));
    }
    Some(list)
}
