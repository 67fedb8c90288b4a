//! The hosts of a lab: names, addresses and what each is.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::spec::{NODES, addresses};

/// A host on the office LAN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    pub(super) kind: Kind,
}

/// What a host is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Everyone's default gateway.
    Router,
    /// The office's DNS and web server.
    Office,
    /// A node of the cluster.
    Node {
        control_plane: bool,
        pod_cidr: Ipv4Net,
    },
    /// A laptop, or the neighbour without credentials.
    Plain,
}

/// All hosts of a lab with these laptops.
pub(super) fn all(laptops: &[String]) -> Vec<Host> {
    let host = |name: &str, address, kind| Host {
        name: name.to_owned(),
        address,
        kind,
    };
    let mut hosts = vec![
        host("router", addresses::ROUTER, Kind::Router),
        host("office", addresses::OFFICE, Kind::Office),
        host("neighbour", addresses::NEIGHBOUR, Kind::Plain),
    ];
    hosts.extend(NODES.iter().enumerate().map(|(index, name)| {
        let kind = Kind::Node {
            control_plane: index == 0,
            pod_cidr: pods_of(index),
        };
        host(name, node_address(index), kind)
    }));
    hosts.extend(
        laptops
            .iter()
            .zip(laptop_addresses())
            .map(|(name, address)| host(&laptop_host(name), address, Kind::Plain)),
    );
    hosts
}

/// The name of the host that is the laptop `name`.
pub(crate) fn laptop_host(name: &str) -> String {
    format!("laptop-{name}")
}

/// The address of node number `index`.
pub(crate) fn node_address(index: usize) -> Ipv4Addr {
    nth_after(addresses::FIRST_NODE, index)
}

fn laptop_addresses() -> impl Iterator<Item = Ipv4Addr> {
    (0..).map(|index| nth_after(addresses::FIRST_LAPTOP, index))
}

/// The addresses of the pods of node number `index`: a /24 of the whole.
pub(crate) fn pods_of(index: usize) -> Ipv4Net {
    let mut nets = addresses::PODS.subnets(24).into_iter().flatten();
    nets.nth(index).unwrap_or(addresses::PODS)
}

fn nth_after(first: Ipv4Addr, index: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(first).saturating_add(u32::try_from(index).unwrap_or(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_host_has_a_name_and_an_address_of_its_own_on_the_lan() {
        let laptops: Vec<String> = (0..20).map(|n| format!("l{n}")).collect();
        let hosts = all(&laptops);
        let names: BTreeSet<_> = hosts.iter().map(|host| &host.name).collect();
        let addresses: BTreeSet<_> = hosts.iter().map(|host| host.address).collect();
        assert_eq!((names.len(), addresses.len()), (hosts.len(), hosts.len()));
        assert!(
            addresses
                .iter()
                .all(|address| addresses::LAN.contains(address))
        );
    }

    #[test]
    fn nodes_have_pods_of_their_own() {
        let nets: Vec<Ipv4Net> = (0..NODES.len()).map(pods_of).collect();
        assert!(
            nets.windows(2)
                .all(|pair| !pair[0].contains(&pair[1].network()))
        );
        assert!(nets.iter().all(|net| addresses::PODS.contains(net)));
    }
}
