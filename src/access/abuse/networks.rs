//! A set of networks that is quick to ask, however many they are.

use std::net::IpAddr;

use ipnet::IpNet;

/// Networks as ranges that neither touch nor overlap, in their order.
#[derive(Debug, Default)]
pub(super) struct NetworkSet {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

impl NetworkSet {
    pub(super) fn new(networks: &[IpNet]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            let (first, last) = (network.network(), network.broadcast());
            // `::ffff:10.0.0.0/104` is 10.0.0.0/8; `::/0` is all of IPv6, and nothing of IPv4.
            match (first.to_canonical(), last.to_canonical()) {
                (IpAddr::V4(first), IpAddr::V4(last)) => {
                    v4.push((u128::from(u32::from(first)), u128::from(u32::from(last))));
                }
                _ => v6.push((bits(first), bits(last))),
            }
        }
        Self { v4: merged(v4), v6: merged(v6) }
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let ranges = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        let bits = bits(address);
        let behind = ranges.partition_point(|(first, _)| *first <= bits);
        let before = behind.checked_sub(1).and_then(|at| ranges.get(at));
        before.is_some_and(|(_, last)| bits <= *last)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

fn merged(mut ranges: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged.shrink_to_fit();
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(networks: &[&str]) -> NetworkSet {
        let networks: Vec<IpNet> =
            networks.iter().map(|network| network.parse().unwrap()).collect();
        NetworkSet::new(&networks)
    }

    fn has(set: &NetworkSet, address: &str) -> bool {
        set.contains(address.parse().unwrap())
    }

    #[test]
    fn a_network_has_its_first_and_its_last_address_and_no_other() {
        let set = set(&["192.0.2.0/25", "2001:db8:1::/48", "198.51.100.7/32"]);
        for inside in ["192.0.2.0", "192.0.2.127", "2001:db8:1:ffff::1", "198.51.100.7"] {
            assert!(has(&set, inside), "{inside}");
        }
        for outside in ["192.0.1.255", "192.0.2.128", "2001:db8:2::", "198.51.100.8", "::"] {
            assert!(!has(&set, outside), "{outside}");
        }
    }

    #[test]
    fn an_address_in_the_clothes_of_ipv6_is_the_same_address() {
        let inner = set(&["10.0.0.0/8"]);
        assert!(has(&inner, "::ffff:10.1.2.3") && !has(&inner, "::ffff:11.1.2.3"));
        let mapped = set(&["::ffff:10.0.0.0/104"]);
        assert!(has(&mapped, "10.1.2.3") && !has(&mapped, "11.1.2.3"));
        let all = set(&["::/0"]);
        assert!(has(&all, "2001:db8::1") && !has(&all, "10.1.2.3"));
        assert!(has(&set(&["0.0.0.0/0"]), "255.255.255.255"));
    }

    #[test]
    fn networks_within_and_beside_each_other_become_one() {
        let set = set(&["10.0.0.0/9", "10.128.0.0/9", "10.1.0.0/16", "::/0", "ffff::/16"]);
        assert_eq!((set.v4.len(), set.v6.len()), (1, 1));
        assert!(has(&set, "10.200.0.1") && !has(&set, "11.0.0.0"));
    }
}
