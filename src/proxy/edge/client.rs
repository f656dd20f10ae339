//! Whose address a request comes from.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

/// Whose address a request comes from. Only proxies that are trusted may say that they speak for
/// somebody: going back through `X-Forwarded-For`, the first one that is none of them.
pub fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
    let peer = peer.to_canonical();
    if !is_trusted(&peer) {
        return peer;
    }
    let lines = headers.get_all("x-forwarded-for").iter().rev();
    let said = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.rsplit(','));
    let mut last = peer;
    for said in said {
        let Some(address) = address(said.trim()) else { break };
        last = address.to_canonical();
        if !is_trusted(&last) {
            break;
        }
    }
    last
}

/// An address, in brackets or with a port as some proxies write it.
fn address(said: &str) -> Option<IpAddr> {
    let with_port = || said.parse::<SocketAddr>().ok().map(|address| address.ip());
    let bracketed = || said.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    said.parse().ok().or_else(with_port).or_else(bracketed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(peer: &str, said: &[&str]) -> String {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for line in said {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        client(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_speak_for_others() {
        assert_eq!(from("192.0.2.1", &["198.51.100.1"]), "192.0.2.1");
        assert_eq!(from("10.0.0.1", &["198.51.100.1, 203.0.113.9"]), "203.0.113.9");
        assert_eq!(from("10.0.0.1", &["198.51.100.1", "10.0.0.2"]), "198.51.100.1");
        assert_eq!(from("::ffff:10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(from("10.0.0.1", &["spoofed, x"]), "10.0.0.1");
        assert_eq!(from("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn an_address_has_many_spellings_and_a_zone_is_none() {
        for (said, expected) in [
            ("198.51.100.1:4711", "198.51.100.1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("::ffff:198.51.100.1", "198.51.100.1"),
            ("fe80::1%eth0", "10.0.0.1"),
            ("unknown", "10.0.0.1"),
            ("_hidden", "10.0.0.1"),
            ("", "10.0.0.1"),
        ] {
            assert_eq!(from("10.0.0.1", &[said]), expected, "{said}");
        }
        let hops = vec!["10.1.1.1"; 1000].join(", ");
        assert_eq!(from("10.0.0.1", &[&format!("198.51.100.1, {hops}")]), "198.51.100.1");
    }
}
