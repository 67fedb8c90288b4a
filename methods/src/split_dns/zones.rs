//! Which names are the cluster's.

use std::collections::HashSet;

use inroads_harness::dns::message::MAX_NAME;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The zones that hold the names of a network's addresses, and of no others: one, or, where its prefix ends
/// within an octet (RFC 1035 §3.5) or, in IPv6, a hexadecimal digit (RFC 3596 §2.5), one for each value that
/// the rest of it takes.
#[must_use]
pub fn reverse_zones(network: IpNet) -> Vec<String> {
    match network {
        IpNet::V4(network) => reverse_zones_v4(network),
        IpNet::V6(network) => reverse_zones_v6(network),
    }
}

fn reverse_zones_v4(network: Ipv4Net) -> Vec<String> {
    let octets = network.prefix_len().div_ceil(8);
    let whole = network.trunc().subnets(8 * octets);
    let labels = |zone: Ipv4Net| {
        let all = zone.network().octets().map(|octet| octet.to_string());
        zone_name(&all[..octets.into()], "in-addr.arpa")
    };
    whole.into_iter().flatten().map(labels).collect()
}

fn reverse_zones_v6(network: Ipv6Net) -> Vec<String> {
    let digits = network.prefix_len().div_ceil(4);
    let whole = network.trunc().subnets(4 * digits);
    let labels = |zone: Ipv6Net| {
        let octets = zone.network().octets().into_iter();
        let all = octets.flat_map(|octet| [octet >> 4, octet & 0xf]);
        let all: Vec<String> = all.map(|digit| format!("{digit:x}")).collect();
        zone_name(&all[..digits.into()], "ip6.arpa")
    };
    whole.into_iter().flatten().map(labels).collect()
}

/// The parts of an address, the last first, and what they stand below.
fn zone_name(parts: &[String], below: &str) -> String {
    let labels = parts.iter().rev().map(String::as_str);
    labels.chain([below]).collect::<Vec<_>>().join(".")
}

/// Zones to tell names by, as names are in messages and in lower case.
pub(super) struct Zones(HashSet<Box<[u8]>>);

impl Zones {
    /// The zones of these domains and networks, or the domain that is none.
    pub(super) fn new(domains: &[String], networks: &[IpNet]) -> Result<Self, String> {
        let reverse = networks.iter().copied().flat_map(reverse_zones);
        let all = domains.iter().cloned().chain(reverse);
        let zones = all.map(|zone| in_message(&zone).ok_or(zone));
        Ok(Self(zones.collect::<Result<_, _>>()?))
    }

    /// Whether a name, as it stands in a message, is in one of the zones.
    pub(super) fn cover(&self, name: &[u8]) -> bool {
        let mut lower = [0; MAX_NAME];
        let Some(lower) = lower.get_mut(..name.len()) else {
            return false;
        };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        let mut rest = &*lower;
        loop {
            if self.0.contains(rest) {
                return true;
            }
            match rest {
                [0, ..] | [] => return false,
                [length, labels @ ..] => {
                    rest = labels.get(usize::from(*length)..).unwrap_or_default();
                }
            }
        }
    }
}

/// A domain as names are in messages (RFC 1035 §3.1), in lower case. `.` is the root, which holds all names.
fn in_message(domain: &str) -> Option<Box<[u8]>> {
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    let mut name = Vec::with_capacity(domain.len() + 2);
    for label in domain.split('.').filter(|_| !domain.is_empty()) {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|length| (1..=MAX_LABEL).contains(length))?;
        name.push(length);
        name.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
    }
    name.push(0);
    (name.len() <= MAX_NAME).then(|| name.into())
}

/// The longest label (RFC 1035 §2.3.4).
const MAX_LABEL: u8 = 63;

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use hickory_proto::rr::Name;
    use hickory_proto::serialize::binary::BinEncodable as _;
    use proptest::prelude::*;

    use super::*;

    fn zones(network: &str) -> Vec<String> {
        reverse_zones(network.parse().unwrap())
    }

    fn wire(name: &Name) -> Vec<u8> {
        name.to_bytes().unwrap()
    }

    fn cover(zones: &Zones, name: &str) -> bool {
        zones.cover(&wire(&Name::from_ascii(name).unwrap()))
    }

    #[test]
    fn a_network_has_the_zones_of_its_addresses() {
        assert_eq!(zones("10.244.0.0/16"), ["244.10.in-addr.arpa"]);
        assert_eq!(zones("0.0.0.0/0"), ["in-addr.arpa"]);
        assert_eq!(zones("192.0.2.1/32"), ["1.2.0.192.in-addr.arpa"]);
        assert_eq!(
            zones("192.0.2.6/31"),
            ["6.2.0.192.in-addr.arpa", "7.2.0.192.in-addr.arpa"]
        );
        let services = zones("10.96.0.0/12");
        assert_eq!(services.len(), 16);
        assert_eq!(services[0], "96.10.in-addr.arpa");
        assert_eq!(services[15], "111.10.in-addr.arpa");
        assert_eq!(
            zones("10.100.7.9/12"),
            services,
            "the bits behind the prefix do not count"
        );
        assert_eq!(zones("fd00:96::/32"), ["6.9.0.0.0.0.d.f.ip6.arpa"]);
        assert_eq!(zones("fd00:96::/30").len(), 4);
        assert_eq!(zones("::/0"), ["ip6.arpa"]);
    }

    #[test]
    fn a_zone_holds_itself_and_what_is_below_whatever_the_case() {
        let zones = Zones::new(&["Cluster.Local".to_owned()], &[]).unwrap();
        for ours in [
            "cluster.local.",
            "web.default.svc.CLUSTER.local.",
            "_http._tcp.x.cluster.local.",
        ] {
            assert!(cover(&zones, ours), "{ours}");
        }
        for others in [
            "local.",
            "mycluster.local.",
            "cluster.local.office.test.",
            ".",
        ] {
            assert!(!cover(&zones, others), "{others}");
        }
        let all = Zones::new(&[".".to_owned()], &[]).unwrap();
        assert!(cover(&all, "www.office.test."), "the root holds all");
        for broken in ["a..b", "..", &"x".repeat(64), &"a.".repeat(128)] {
            assert_eq!(
                Zones::new(&[broken.to_owned()], &[]).err().as_deref(),
                Some(broken)
            );
        }
    }

    fn near(network: IpNet, noise: u128) -> IpAddr {
        match network {
            IpNet::V4(network) => {
                let noise = u32::try_from(noise & u128::from(u32::MAX)).unwrap();
                Ipv4Addr::from(u32::from(network.addr()) ^ noise).into()
            }
            IpNet::V6(network) => Ipv6Addr::from(u128::from(network.addr()) ^ noise).into(),
        }
    }

    proptest! {
        /// Addresses that differ from the network's in few bits are the ones that a wrong border gets wrong.
        #[test]
        fn the_zones_hold_the_networks_addresses_and_no_others(
            address: IpAddr,
            prefix in 0_u8..=128,
            bits in proptest::collection::vec(0_u32..128, 0..3),
            noise: u128,
        ) {
            let prefix = if address.is_ipv4() { prefix % 33 } else { prefix };
            let network = IpNet::new(address, prefix).unwrap();
            let zones = Zones::new(&[], &[network]).unwrap();
            let few = bits.iter().fold(0, |noise, bit| noise ^ (1_u128 << bit));
            for address in [address, near(network, few), near(network, noise)] {
                prop_assert_eq!(zones.cover(&wire(&address.into())), network.contains(&address), "{}", address);
            }
        }

        #[test]
        fn no_name_makes_it_panic(name in proptest::collection::vec(any::<u8>(), 0..300)) {
            let zones = Zones::new(&["cluster.local".to_owned()], &[]).unwrap();
            let _ = zones.cover(&name);
        }
    }
}
