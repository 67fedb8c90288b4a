//! Service translation as nftables rules: what kube-proxy does, as a pure function of the API's objects.
//!
//! A new connection to a Service is sent to one of its ready endpoints at random; one that comes from
//! outside the pod network leaves with the node's address, so that its answers come back this way. A
//! Service without endpoints refuses at once. Pods that talk to the outside are masqueraded too.

use ipnet::Ipv4Net;
use nlink::netlink::nftables::{
    BaseChain, Chain, CmpOp, CtState, Expr, Family, FibFlags, FibResult, Field, FilterHook,
    HashKind, Match, MetaKey, NatHook, NumgenKind, Policy, Priority, Register, Rule, Transaction,
    Value,
};

use super::service_ports::{Endpoint, Protocol, ServedPort};

/// The table that holds everything of ours on a node.
pub(crate) const TABLE: &str = "inroads-proxy";

/// The mark of connections whose source address is to be replaced: kube-proxy's own.
const MASQUERADE: u32 = 0x4000;

/// The whole table of the node `node`, as one step of the kernel's: no packet meets half of it. `empty` may
/// delete the table that it replaces.
pub(crate) fn transaction(
    empty: Transaction,
    ports: &[ServedPort],
    node: &str,
    pods: Ipv4Net,
) -> nlink::Result<Transaction> {
    let mut all = empty.add_table(TABLE, Family::Ip);
    for chain in chains(ports)? {
        all = all.add_chain(chain);
    }
    for rule in rules(ports, node, pods)? {
        all = all.add_rule(rule);
    }
    Ok(all)
}

/// All chains. Those that others jump to come first.
fn chains(ports: &[ServedPort]) -> nlink::Result<Vec<Chain>> {
    let plain =
        |name: String| -> nlink::Result<Chain> { Ok(Chain::new(TABLE, name)?.family(Family::Ip)) };
    let mut chains = vec![plain("services".to_owned())?, plain("refusals".to_owned())?];
    for (index, port) in ports
        .iter()
        .enumerate()
        .filter(|(_, port)| !port.endpoints.is_empty())
    {
        for endpoint in 0..port.endpoints.len() {
            chains.push(plain(endpoint_chain(index, endpoint))?);
        }
        chains.push(plain(port_chain(index))?.comment(port.name.clone()));
        chains.push(plain(node_chain(index))?);
    }
    for (name, base) in [
        (
            "nat-prerouting",
            BaseChain::nat(NatHook::Prerouting, Priority::DstNat),
        ),
        (
            "nat-output",
            BaseChain::nat(NatHook::Output, Priority::DstNat),
        ),
        (
            "nat-postrouting",
            BaseChain::nat(NatHook::Postrouting, Priority::SrcNat),
        ),
        (
            "filter-input",
            BaseChain::filter(FilterHook::Input, Priority::Filter).policy(Policy::Accept),
        ),
        (
            "filter-forward",
            BaseChain::filter(FilterHook::Forward, Priority::Filter).policy(Policy::Accept),
        ),
        (
            "filter-output",
            BaseChain::filter(FilterHook::Output, Priority::Filter).policy(Policy::Accept),
        ),
    ] {
        chains.push(plain(name.to_owned())?.base(base));
    }
    Ok(chains)
}

fn rules(ports: &[ServedPort], node: &str, pods: Ipv4Net) -> nlink::Result<Vec<Rule>> {
    let mut rules = vec![
        rule("nat-prerouting").try_jump("services")?,
        rule("nat-output").try_jump("services")?,
        rule("filter-input").try_jump("refusals")?,
        rule("filter-forward").try_jump("refusals")?,
        // As kube-proxy does (kubernetes/kubernetes#74840): a node that sees one direction of a connection only
        // carries no more than its first packet.
        rule("filter-forward")
            .match_ct_state(CtState::INVALID)
            .drop(),
        rule("filter-output").try_jump("refusals")?,
        marked(rule("nat-postrouting")).masquerade(),
        // Pods are known by their own addresses among themselves, and by their node's to the LAN.
        rule("nat-postrouting")
            .match_saddr_v4(pods.network(), pods.prefix_len())
            .then(Match::ne(Field::Ip4Daddr, prefix(pods)))
            .masquerade(),
    ];
    for (index, port) in ports.iter().enumerate() {
        if port.endpoints.is_empty() {
            rules.extend(refusals(port));
        } else {
            rules.extend(entrances(index, port)?);
            rules.extend(by_any_pod(index, port, pods)?);
            rules.extend(by_node_port(index, port, node)?);
            rules.extend(endpoints(index, port));
        }
    }
    Ok(rules)
}

/// The ways to a Service: its virtual address, and its port on every address of the node.
fn entrances(index: usize, port: &ServedPort) -> nlink::Result<Vec<Rule>> {
    let by_address = rule("services").match_daddr_v4(port.cluster_ip, 32);
    let mut rules =
        vec![to_port(by_address, port.protocol, port.port).try_jump(&port_chain(index))?];
    if let Some(node_port) = port.node_port {
        let by_node = to_port(to_this_node(rule("services")), port.protocol, node_port);
        rules.push(by_node.try_jump(&node_chain(index))?);
    }
    Ok(rules)
}

/// To any endpoint. A client from outside the pod network gets the node's address as its source, so that
/// the answer comes back this way.
fn by_any_pod(index: usize, port: &ServedPort, pods: Ipv4Net) -> nlink::Result<Vec<Rule>> {
    let chain = port_chain(index);
    let mut rules = vec![mark(
        rule(&chain).then(Match::ne(Field::Ip4Saddr, prefix(pods))),
    )];
    let all: Vec<usize> = (0..port.endpoints.len()).collect();
    rules.extend(spread(index, &chain, port.sticky, &all)?);
    Ok(rules)
}

/// From a node port: to any endpoint with the node's address as the source, or, where the Service keeps to
/// the node, to the node's own endpoints with the client's; nothing answers where the node has none.
fn by_node_port(index: usize, port: &ServedPort, node: &str) -> nlink::Result<Vec<Rule>> {
    let chain = node_chain(index);
    if !port.keeps_to_node {
        return Ok(vec![
            mark(rule(&chain)),
            rule(&chain).try_jump(&port_chain(index))?,
        ]);
    }
    let here = |endpoint: &Endpoint| endpoint.node.as_deref() == Some(node);
    let own: Vec<usize> = port
        .endpoints
        .iter()
        .enumerate()
        .filter(|(_, e)| here(e))
        .map(|(index, _)| index)
        .collect();
    if own.is_empty() {
        return Ok(vec![rule(&chain).drop()]);
    }
    spread(index, &chain, port.sticky, &own)
}

/// One of several endpoints, at random or by the client's address.
fn spread(index: usize, chain: &str, sticky: bool, among: &[usize]) -> nlink::Result<Vec<Rule>> {
    let count = u32::try_from(among.len()).unwrap_or(u32::MAX);
    let jumps = (0..count).zip(among).map(|(place, endpoint)| {
        // Each takes its share of what the ones before it left: 1/n, 1/(n−1), …, all.
        let choice = if sticky {
            by_client(rule(chain), count, place)
        } else {
            at_random(rule(chain), count - place)
        };
        choice.try_jump(&endpoint_chain(index, *endpoint))
    });
    jumps.collect()
}

fn endpoints(index: usize, port: &ServedPort) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (number, endpoint) in port.endpoints.iter().enumerate() {
        let chain = endpoint_chain(index, number);
        // A pod that reaches itself by its Service must not see its own address as the client's.
        rules.push(mark(rule(&chain).match_saddr_v4(endpoint.address, 32)));
        rules.push(
            to_protocol(rule(&chain), port.protocol).dnat(endpoint.address, Some(endpoint.port)),
        );
    }
    rules
}

/// A Service that nobody serves says so at once: a reset for TCP would do as well, but kube-proxy sends
/// ICMP, and a client sees `ECONNREFUSED` either way.
fn refusals(port: &ServedPort) -> Vec<Rule> {
    let refuse = |rule: Rule| rule.reject_icmp(ICMP_PORT_UNREACHABLE);
    let mut rules = vec![refuse(to_port(
        rule("refusals").match_daddr_v4(port.cluster_ip, 32),
        port.protocol,
        port.port,
    ))];
    if let Some(node_port) = port.node_port {
        rules.push(refuse(to_port(
            to_this_node(rule("refusals")),
            port.protocol,
            node_port,
        )));
    }
    rules
}

/// Destination unreachable, port (RFC 792).
const ICMP_PORT_UNREACHABLE: u8 = 3;

fn rule(chain: &str) -> Rule {
    Rule::new(TABLE, chain).family(Family::Ip)
}

fn to_port(rule: Rule, protocol: Protocol, port: u16) -> Rule {
    match protocol {
        Protocol::Tcp => rule.match_tcp_dport(port),
        Protocol::Udp => rule.match_udp_dport(port),
    }
}

fn to_protocol(rule: Rule, protocol: Protocol) -> Rule {
    let number: u8 = match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    };
    rule.then(Expr::Meta {
        dreg: Register::R0,
        key: MetaKey::L4Proto,
    })
    .then(equals(vec![number]))
}

/// `fib daddr type local`: the packet is for an address of this node.
fn to_this_node(rule: Rule) -> Rule {
    const RTN_LOCAL: u32 = 2;
    rule.then(Expr::Fib {
        dreg: Register::R0,
        result: FibResult::AddrType,
        flags: FibFlags::DADDR,
    })
    .then(equals(RTN_LOCAL.to_ne_bytes().to_vec()))
}

fn at_random(rule: Rule, among: u32) -> Rule {
    if among == 1 {
        return rule;
    }
    rule.then(Expr::Numgen {
        dreg: Register::R0,
        kind: NumgenKind::Random,
        modulus: among,
        offset: 0,
    })
    .then(equals(0_u32.to_ne_bytes().to_vec()))
}

fn by_client(rule: Rule, among: u32, chosen: u32) -> Rule {
    use nlink::netlink::nftables::PayloadBase;
    const SOURCE_OFFSET: u32 = 12;
    rule.then(Expr::Payload {
        dreg: Register::R1,
        base: PayloadBase::Network,
        offset: SOURCE_OFFSET,
        len: 4,
    })
    .then(Expr::Hash {
        dreg: Register::R0,
        kind: HashKind::Jenkins,
        sreg: Some(Register::R1),
        len: 4,
        modulus: among,
        seed: Some(1),
        offset: 0,
    })
    .then(equals(chosen.to_ne_bytes().to_vec()))
}

fn mark(rule: Rule) -> Rule {
    rule.then(Expr::Immediate {
        dreg: Register::R0,
        data: MASQUERADE.to_ne_bytes().to_vec(),
    })
    .then(Expr::MetaSet {
        key: MetaKey::Mark,
        sreg: Register::R0,
    })
}

fn marked(rule: Rule) -> Rule {
    rule.then(Expr::Meta {
        dreg: Register::R0,
        key: MetaKey::Mark,
    })
    .then(equals(MASQUERADE.to_ne_bytes().to_vec()))
}

fn equals(data: Vec<u8>) -> Expr {
    Expr::Cmp {
        sreg: Register::R0,
        op: CmpOp::Eq,
        data,
    }
}

fn prefix(net: Ipv4Net) -> Value {
    Value::Prefix(net.network().into(), net.prefix_len())
}

fn port_chain(index: usize) -> String {
    format!("port-{index}")
}

fn node_chain(index: usize) -> String {
    format!("port-{index}-by-node")
}

fn endpoint_chain(index: usize, endpoint: usize) -> String {
    format!("port-{index}-endpoint-{endpoint}")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::service_ports::service_ports;
    use super::super::service_ports::tests::{slice, web};
    use super::*;

    const PODS: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 244, 0, 0), 16);

    fn text(ports: &[ServedPort], node: &str) -> Vec<String> {
        rules(ports, node, PODS)
            .unwrap()
            .iter()
            .map(|rule| rule.nft_syntax().unwrap_or_default())
            .collect()
    }

    #[test]
    fn a_service_without_endpoints_refuses_on_both_its_addresses() {
        let lines = text(&service_ports([&web()], &[]), "a");
        let refusing: Vec<_> = lines
            .iter()
            .filter(|line| line.contains("reject"))
            .collect();
        assert_eq!(refusing.len(), 2, "{lines:#?}");
        assert!(
            !lines.iter().any(|line| line.contains("dnat")),
            "{lines:#?}"
        );
    }

    #[test]
    fn every_endpoint_is_a_target_and_the_last_takes_what_is_left() {
        let slices = [slice(&[
            ("10.244.1.2", "a", true),
            ("10.244.2.2", "b", true),
            ("10.244.2.3", "b", true),
        ])];
        let lines = text(&service_ports([&web()], &slices), "a");
        let targets = lines
            .iter()
            .filter(|line| line.contains("dnat to 10.244."))
            .count();
        assert_eq!(targets, 3, "{lines:#?}");
        let random: Vec<_> = lines
            .iter()
            .filter(|line| line.contains("numgen random"))
            .collect();
        assert!(
            random[0].contains("mod 3") && random[1].contains("mod 2"),
            "{lines:#?}"
        );
        assert_eq!(random.len(), 2, "{lines:#?}");
    }

    #[test]
    fn a_node_port_that_keeps_to_its_node_changes_no_address_and_uses_no_other_node() {
        let mut local = web();
        local.spec.as_mut().unwrap().external_traffic_policy = Some("Local".into());
        let slices = [slice(&[
            ("10.244.1.2", "a", true),
            ("10.244.2.2", "b", true),
        ])];
        let ports = service_ports([&local], &slices);
        let by_node = |node: &str| -> Vec<String> {
            let rules = by_node_port(0, &ports[0], node).unwrap();
            rules
                .iter()
                .map(|rule| rule.nft_syntax().unwrap_or_default())
                .collect()
        };
        assert_eq!(by_node("a"), ["jump port-0-endpoint-0"]);
        assert_eq!(by_node("b"), ["jump port-0-endpoint-1"]);
        assert_eq!(by_node("c"), ["drop"]);
    }
}
