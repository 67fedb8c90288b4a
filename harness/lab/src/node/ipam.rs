//! Addresses for the pods of one node.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// The pods' gateway: the first address of the node's range.
pub(crate) fn gateway(range: Ipv4Net) -> Ipv4Addr {
    range.hosts().next().unwrap_or(range.network())
}

/// Gives out addresses, each to one pod at a time, going round so that an address rests before it is
/// used again: a client that still talks to the old pod must not meet a new one.
#[derive(Debug)]
pub(crate) struct Ipam {
    range: Ipv4Net,
    used: BTreeSet<Ipv4Addr>,
    last: Ipv4Addr,
}

impl Ipam {
    pub(crate) fn new(range: Ipv4Net) -> Self {
        Self {
            range,
            used: BTreeSet::new(),
            last: gateway(range),
        }
    }

    /// The next free address; `None` when all are in use.
    pub(crate) fn take(&mut self) -> Option<Ipv4Addr> {
        let (gateway, last) = (gateway(self.range), self.last);
        let after = self.range.hosts().filter(|address| *address > last);
        let before = self
            .range
            .hosts()
            .filter(|address| *address <= last && *address > gateway);
        let free = after
            .chain(before)
            .find(|address| !self.used.contains(address))?;
        self.used.insert(free);
        self.last = free;
        Some(free)
    }

    /// Takes an address back.
    pub(crate) fn give_back(&mut self, address: Ipv4Addr) {
        self.used.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_round_and_run_out() {
        let mut ipam = Ipam::new("10.244.1.0/29".parse().unwrap());
        let taken: Vec<_> = std::iter::from_fn(|| ipam.take()).collect();
        assert_eq!(
            taken.len(),
            5,
            "eight, less the network, the broadcast address and the gateway"
        );
        assert!(!taken.contains(&Ipv4Addr::new(10, 244, 1, 1)));
        ipam.give_back(taken[1]);
        ipam.give_back(taken[3]);
        assert_eq!(ipam.take(), Some(taken[1]));
        ipam.give_back(taken[1]);
        assert_eq!(
            ipam.take(),
            Some(taken[3]),
            "the one given back last is not the next to be used"
        );
    }
}
