//! All of a laptop that a way into a cluster may change: what is compared to find out what it did change.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use nlink::netlink::types::route::RouteProtocol;
use nlink::netlink::{Connection, Nftables, Route};
use serde::{Deserialize, Serialize};

/// Addresses that are nobody's (RFC 5737): where a packet to one of them goes, all unrelated traffic goes.
const ELSEWHERE: [Ipv4Addr; 3] = [
    Ipv4Addr::new(192, 0, 2, 1),
    Ipv4Addr::new(198, 51, 100, 1),
    Ipv4Addr::new(203, 0, 113, 1),
];

/// `RT_TABLE_LOCAL` of rtnetlink.h.
const LOCAL_TABLE: u32 = 255;

/// Files that name resolution reads.
const FILES: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"];

/// What a host's network is like: lines of text by section. Counters and ages, which change by themselves, are left
/// out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot(BTreeMap<String, BTreeSet<String>>);

/// The section of where unrelated traffic goes.
pub const ELSEWHERE_SECTION: &str = "way elsewhere";

impl Snapshot {
    /// Takes one of the network that this process sees.
    ///
    /// # Errors
    /// Where a part of it cannot be read. Of nftables nothing is kept where the kernel does not show it to this user,
    /// who could not change it either.
    pub async fn take() -> io::Result<Self> {
        let links = Connection::<Route>::new().map_err(io::Error::other)?;
        let mut all = Self::default();
        let names: BTreeMap<u32, String> = all.links(&links).await?;
        all.routes(&links, &names).await?;
        let rules = links.get_rules().await.map_err(io::Error::other)?;
        for rule in rules {
            // Its table may be given by a number or by an attribute; all of it stands in the text.
            all.add("rule", format!("{rule:?}"));
        }
        all.nftables().await;
        for file in FILES {
            let text = match std::fs::read_to_string(file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                text => text?,
            };
            for line in text.lines() {
                all.add(file, line.to_owned());
            }
        }
        Ok(all)
    }

    /// What is there now and was not, and what was and is not: one clause for each, nothing where both are equal.
    #[must_use]
    pub fn changes(&self, now: &Self) -> Vec<String> {
        let sections: BTreeSet<&String> = self.0.keys().chain(now.0.keys()).collect();
        let none = BTreeSet::new();
        let mut changes = Vec::new();
        for section in sections {
            let before = self.0.get(section).unwrap_or(&none);
            let after = now.0.get(section).unwrap_or(&none);
            for gone in before.difference(after) {
                changes.push(format!("{section} gone: {gone}"));
            }
            for new in after.difference(before) {
                changes.push(format!("{section} new: {new}"));
            }
        }
        changes
    }

    /// One section alone.
    #[must_use]
    pub fn only(&self, section: &str) -> Self {
        let lines = self.0.get(section).cloned();
        Self(
            lines
                .map(|lines| (section.to_owned(), lines))
                .into_iter()
                .collect(),
        )
    }

    /// How much there is of each section.
    #[must_use]
    pub fn extent(&self) -> String {
        let mut text = String::new();
        for (section, lines) in &self.0 {
            let separator = if text.is_empty() { "" } else { ", " };
            write!(text, "{separator}{section}: {}", lines.len()).expect("writing to a string");
        }
        text
    }

    fn add(&mut self, section: &str, line: String) {
        self.0.entry(section.to_owned()).or_default().insert(line);
    }

    async fn links(&mut self, links: &Connection<Route>) -> io::Result<BTreeMap<u32, String>> {
        let mut names = BTreeMap::new();
        for link in links.get_links().await.map_err(io::Error::other)? {
            let name = link.name_or("?").to_owned();
            let mtu = link.mtu().unwrap_or_default();
            self.add("link", format!("{name} mtu {mtu}"));
            names.insert(link.ifindex(), name);
        }
        for address in links.get_addresses().await.map_err(io::Error::other)? {
            if let Some(ip) = address.primary_address() {
                let link = named(&names, Some(address.ifindex()));
                self.add(
                    "address",
                    format!("{ip}/{} on {link}", address.prefix_len()),
                );
            }
        }
        Ok(names)
    }

    /// All routes of all tables, and which of them traffic elsewhere takes.
    async fn routes(
        &mut self,
        links: &Connection<Route>,
        names: &BTreeMap<u32, String>,
    ) -> io::Result<()> {
        for route in links.get_routes().await.map_err(io::Error::other)? {
            // The kernel makes them of the addresses, for IPv6 a moment later.
            if route.table_id() == LOCAL_TABLE && route.protocol() == RouteProtocol::Kernel {
                continue;
            }
            let to = route.destination().copied();
            let mut line = format!(
                "{}/{} table {} {:?} by {}",
                to.map_or("default".to_owned(), |to| to.to_string()),
                route.dst_len(),
                route.table_id(),
                route.route_type(),
                named(names, route.oif()),
            );
            if let Some(gateway) = route.gateway() {
                write!(line, " via {gateway}").expect("writing to a string");
            }
            if let Some(metric) = route.priority() {
                write!(line, " metric {metric}").expect("writing to a string");
            }
            let leads_elsewhere = |address: &Ipv4Addr| match to {
                None => route.is_ipv4(),
                Some(IpAddr::V4(network)) => ipnet::Ipv4Net::new(network, route.dst_len())
                    .is_ok_and(|network| network.contains(address)),
                Some(IpAddr::V6(_)) => false,
            };
            if ELSEWHERE.iter().any(leads_elsewhere) {
                self.add(ELSEWHERE_SECTION, line.clone());
            }
            self.add("route", line);
        }
        for address in ELSEWHERE {
            let from = source(address);
            let from = from.map_or_else(|error| error.to_string(), |from| from.to_string());
            self.add(ELSEWHERE_SECTION, format!("{address} from {from}"));
        }
        Ok(())
    }

    async fn nftables(&mut self) {
        let Ok(nftables) = Connection::<Nftables>::new() else {
            return;
        };
        for table in nftables.list_tables().await.unwrap_or_default() {
            self.add(
                "nftables",
                format!("table {:?} {}", table.family, table.name),
            );
            let rules = nftables.list_rules(&table.name, table.family).await;
            for rule in rules.unwrap_or_default() {
                let text = format!("rule {} {} {}", rule.table, rule.chain, rule.handle);
                self.add("nftables", text);
            }
        }
        for chain in nftables.list_chains().await.unwrap_or_default() {
            self.add(
                "nftables",
                format!("chain {} {} {:?}", chain.table, chain.name, chain.hook),
            );
        }
    }
}

/// The address that this host has for the rest of the world: its own on the LAN. None where it has no way there.
#[must_use]
pub fn lan_address() -> Option<IpAddr> {
    source(ELSEWHERE[0]).ok()
}

/// The address that a packet to `address` would come from.
fn source(address: Ipv4Addr) -> io::Result<IpAddr> {
    // Connecting a socket for datagrams sends nothing: it asks the kernel for the way.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(SocketAddr::from((address, 9)))?;
    Ok(socket.local_addr()?.ip())
}

fn named(names: &BTreeMap<u32, String>, link: Option<u32>) -> &str {
    link.and_then(|link| names.get(&link))
        .map_or("no link", String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_and_what_went_is_told_by_section() {
        let mut before = Snapshot::default();
        before.add("route", "a".to_owned());
        before.add("route", "b".to_owned());
        let mut after = before.clone();
        assert!(before.changes(&after).is_empty());
        after.0.get_mut("route").unwrap().remove("a");
        after.add("link", "tun".to_owned());
        assert_eq!(before.changes(&after), ["link new: tun", "route gone: a"]);
        assert_eq!(
            before.only("link").changes(&after.only("link")),
            ["link new: tun"]
        );
    }

    #[tokio::test]
    async fn two_of_a_host_that_nothing_happens_to_are_equal_and_hold_its_loopback() {
        let first = Snapshot::take().await.unwrap();
        let second = Snapshot::take().await.unwrap();
        assert_eq!(first.changes(&second), Vec::<String>::new());
        assert!(
            first.0["address"]
                .iter()
                .any(|line| line.starts_with("127.0.0.1/8"))
        );
        assert!(first.0[ELSEWHERE_SECTION].len() >= ELSEWHERE.len());
    }
}
