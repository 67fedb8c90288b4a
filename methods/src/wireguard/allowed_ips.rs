//! Cryptokey routing: which peer an inner address belongs to (paper §2).
//!
//! The same table serves both directions: the destination of an outgoing packet picks the peer, and the
//! source of an incoming one must lead back to the peer that sent it. It knows nothing of keys or
//! sockets, only of prefixes and whatever stands for a peer.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// A longest-prefix-match table from prefixes of both IP versions to `T`.
///
/// A change rebuilds it in *O(n log n)*; a look-up is one binary search. That suits a table that changes
/// when a peer comes or goes and is read for every packet.
#[derive(Debug, Clone)]
pub struct AllowedIps<T> {
    prefixes: BTreeMap<IpNet, T>,
    v4: Intervals<T>,
    v6: Intervals<T>,
}

/// The address space cut where the answer changes: each entry holds from its address to the next one's.
type Intervals<T> = Vec<(u128, Option<T>)>;

impl<T> Default for AllowedIps<T> {
    fn default() -> Self {
        Self {
            prefixes: BTreeMap::new(),
            v4: Vec::new(),
            v6: Vec::new(),
        }
    }
}

impl<T: Copy + PartialEq> AllowedIps<T> {
    /// Gives `prefixes` to `owner`. One that belonged to another moves, as it does with `wg`. Bits behind
    /// a prefix's length do not count.
    pub fn insert(&mut self, prefixes: impl IntoIterator<Item = IpNet>, owner: T) {
        for prefix in prefixes {
            self.prefixes.insert(prefix.trunc(), owner);
        }
        self.rebuild();
    }

    /// Takes every prefix from `owner`.
    pub fn remove(&mut self, owner: T) {
        self.prefixes.retain(|_, o| *o != owner);
        self.rebuild();
    }

    /// The owner of the longest prefix that holds `address`.
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> Option<T> {
        let (intervals, address) = match address {
            IpAddr::V4(v4) => (&self.v4, u128::from(v4.to_bits())),
            IpAddr::V6(v6) => (&self.v6, v6.to_bits()),
        };
        let after = intervals.partition_point(|(start, _)| *start <= address);
        intervals[..after].last()?.1
    }

    fn rebuild(&mut self) {
        let (v4, v6): (Vec<_>, Vec<_>) = self
            .prefixes
            .iter()
            .map(|(prefix, owner)| (*prefix, *owner))
            .partition(|(prefix, _)| matches!(prefix, IpNet::V4(_)));
        self.v4 = intervals(v4);
        self.v6 = intervals(v6);
    }
}

/// Cuts the address space at the borders of `prefixes`, all of one IP version.
fn intervals<T: Copy>(prefixes: Vec<(IpNet, T)>) -> Intervals<T> {
    let mut ranges: Vec<_> = prefixes
        .into_iter()
        .map(|(p, owner)| (bounds(p), owner))
        .collect();
    // An outer prefix before the ones inside it: prefixes nest or are apart, they never overlap otherwise.
    ranges.sort_by_key(|((first, last), _)| (*first, u128::MAX - last));

    let mut cuts: Intervals<T> = Vec::with_capacity(2 * ranges.len());
    let mut open: Vec<(u128, T)> = Vec::new();
    for ((first, last), owner) in ranges {
        close(&mut open, Some(first), &mut cuts);
        cut(&mut cuts, first, Some(owner));
        open.push((last, owner));
    }
    close(&mut open, None, &mut cuts);
    cuts
}

/// Ends the prefixes that end before `until`, innermost first, and hands each rest to the one around it.
fn close<T: Copy>(open: &mut Vec<(u128, T)>, until: Option<u128>, cuts: &mut Intervals<T>) {
    while let Some((last, _)) = open.pop_if(|(last, _)| until.is_none_or(|until| *last < until)) {
        // After the very last address nothing is left to hand on.
        if let Some(next) = last.checked_add(1) {
            cut(cuts, next, open.last().map(|(_, owner)| *owner));
        }
    }
}

/// From `start` on the answer is `owner`; a later word about the same address wins.
fn cut<T>(cuts: &mut Intervals<T>, start: u128, owner: Option<T>) {
    cuts.pop_if(|(at, _)| *at == start);
    cuts.push((start, owner));
}

fn bounds(prefix: IpNet) -> (u128, u128) {
    match prefix {
        IpNet::V4(v4) => (
            v4.network().to_bits().into(),
            v4.broadcast().to_bits().into(),
        ),
        IpNet::V6(v6) => (v6.network().to_bits(), v6.broadcast().to_bits()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_longest_prefix_wins_and_its_rest_falls_back() {
        let mut table = AllowedIps::default();
        table.insert(nets(&["10.0.0.0/8", "0.0.0.0/0"]), 'a');
        table.insert(nets(&["10.1.0.0/16", "10.1.2.3/32"]), 'b');
        assert_eq!(table.lookup(ip("10.0.255.255")), Some('a'));
        assert_eq!(table.lookup(ip("10.1.0.0")), Some('b'));
        assert_eq!(table.lookup(ip("10.1.255.255")), Some('b'));
        assert_eq!(table.lookup(ip("10.2.0.0")), Some('a'));
        assert_eq!(table.lookup(ip("255.255.255.255")), Some('a'));
        assert_eq!(table.lookup(ip("::1")), None);
    }

    #[test]
    fn the_ends_of_the_address_space_belong_to_it() {
        let mut table = AllowedIps::default();
        table.insert(nets(&["::/0", "255.255.255.255/32", "0.0.0.0/32"]), 1);
        assert_eq!(
            table.lookup(ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")),
            Some(1)
        );
        assert_eq!(table.lookup(ip("::")), Some(1));
        assert_eq!(table.lookup(ip("255.255.255.255")), Some(1));
        assert_eq!(table.lookup(ip("0.0.0.0")), Some(1));
        assert_eq!(table.lookup(ip("0.0.0.1")), None);
        assert_eq!(table.lookup(ip("255.255.255.254")), None);
    }

    #[test]
    fn a_prefix_belongs_to_the_last_who_was_given_it() {
        let mut table = AllowedIps::default();
        table.insert(nets(&["10.0.0.1/24"]), 'a');
        table.insert(nets(&["10.0.0.0/24"]), 'b');
        assert_eq!(table.lookup(ip("10.0.0.9")), Some('b'));
        table.remove('b');
        assert_eq!(table.lookup(ip("10.0.0.9")), None);
    }

    proptest! {
        #[test]
        fn it_agrees_with_asking_every_prefix(
            inserts in prop::collection::vec((prefix(), 0..5u8), 0..40),
            removed in prop::option::of(0..5u8),
            asked in prop::collection::vec(address(), 1..40),
        ) {
            let mut table = AllowedIps::default();
            let mut naive = BTreeMap::new();
            for (prefix, owner) in inserts {
                table.insert([prefix], owner);
                naive.insert(prefix.trunc(), owner);
            }
            if let Some(removed) = removed {
                table.remove(removed);
                naive.retain(|_, owner| *owner != removed);
            }
            let borders = naive.keys().flat_map(|p: &IpNet| [p.network(), p.broadcast()]);
            for address in borders.collect::<Vec<_>>().into_iter().chain(asked) {
                let longest = naive
                    .iter()
                    .filter(|(prefix, _)| prefix.contains(&address))
                    .max_by_key(|(prefix, _)| prefix.prefix_len());
                prop_assert_eq!(table.lookup(address), longest.map(|(_, owner)| *owner));
            }
        }
    }

    /// Few distinct bits, so that prefixes nest and touch.
    fn prefix() -> impl Strategy<Value = IpNet> {
        prop_oneof![
            (address_v4(), 0..=32u8).prop_map(|(a, len)| Ipv4Net::new(a, len).unwrap().into()),
            (address_v6(), 0..=128u8).prop_map(|(a, len)| Ipv6Net::new(a, len).unwrap().into()),
        ]
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            address_v4().prop_map(IpAddr::V4),
            address_v6().prop_map(IpAddr::V6)
        ]
    }

    fn address_v4() -> impl Strategy<Value = Ipv4Addr> {
        const PATTERNS: [u32; 4] = [0, u32::MAX, 0x0a00_0000, 0x0a01_0100];
        (0..PATTERNS.len(), 0..4u32).prop_map(|(i, low)| Ipv4Addr::from(PATTERNS[i] ^ low))
    }

    fn address_v6() -> impl Strategy<Value = Ipv6Addr> {
        const PATTERNS: [u128; 4] = [0, u128::MAX, 0xfd00 << 112, 0xfd00 << 112 | 0x100 << 64];
        (0..PATTERNS.len(), 0..4u128).prop_map(|(i, low)| Ipv6Addr::from(PATTERNS[i] ^ low))
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }
}
