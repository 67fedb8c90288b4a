//! Service translation as nftables rules: what kube-proxy does, as a pure function of the API's objects.
//!
//! A new connection to a Service is sent to one of its ready endpoints at random; one that comes from
//! outside the pod network leaves with the node's address, so that its answers come back this way. A
//! Service without endpoints refuses at once. Pods that talk to the outside are masqueraded too.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use nlink::netlink::nftables::{
    BaseChain, Chain, CmpOp, Expr, Family, FibFlags, FibResult, Field, FilterHook, HashKind, Match,
    MetaKey, NatHook, NumgenKind, Policy, Priority, Register, Rule, Transaction, Value,
};

/// The table that holds everything of ours on a node.
pub(crate) const TABLE: &str = "inroads-proxy";

/// The mark of connections whose source address is to be replaced: kube-proxy's own.
const MASQUERADE: u32 = 0x4000;

/// A port of a Service, with the endpoints that are ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServicePortRules {
    /// `namespace/name:port`, for reading the rules.
    pub(crate) name: String,
    /// Its transport.
    pub(crate) protocol: Protocol,
    /// Its virtual address.
    pub(crate) cluster_ip: Ipv4Addr,
    /// Its port there.
    pub(crate) port: u16,
    /// Its port on every node, where it has one.
    pub(crate) node_port: Option<u16>,
    /// Whether one client keeps one endpoint.
    pub(crate) sticky: bool,
    /// The ready endpoints.
    pub(crate) endpoints: Vec<(Ipv4Addr, u16)>,
}

/// The transports that Services have here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// Pairs Services with their endpoints. Headless ones and those of type `ExternalName` need no rules.
pub(crate) fn service_ports<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    slices: &[EndpointSlice],
) -> Vec<ServicePortRules> {
    let mut by_service: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in slices {
        let labels = slice.metadata.labels.as_ref();
        let service = labels.and_then(|labels| labels.get("kubernetes.io/service-name"));
        if let (Some(service), Some(namespace)) = (service, &slice.metadata.namespace) {
            by_service
                .entry((namespace, service))
                .or_default()
                .push(slice);
        }
    }
    let mut rules = Vec::new();
    for service in services {
        let (Some(namespace), Some(name), Some(spec)) = (
            &service.metadata.namespace,
            &service.metadata.name,
            &service.spec,
        ) else {
            continue;
        };
        let Some(cluster_ip) = spec.cluster_ip.as_ref().and_then(|ip| ip.parse().ok()) else {
            continue;
        };
        let slices = by_service
            .get(&(namespace.as_str(), name.as_str()))
            .map_or(&[][..], Vec::as_slice);
        for port in spec.ports.iter().flatten() {
            let Some(protocol) = protocol_of(port.protocol.as_deref()) else {
                continue;
            };
            let label = port.name.clone().unwrap_or_else(|| port.port.to_string());
            rules.push(ServicePortRules {
                name: format!("{namespace}/{name}:{label}"),
                protocol,
                cluster_ip,
                port: number(port.port),
                node_port: port.node_port.map(number).filter(|port| *port != 0),
                sticky: spec.session_affinity.as_deref() == Some("ClientIP"),
                endpoints: endpoints_of(port, slices),
            });
        }
    }
    rules
}

fn endpoints_of(port: &ServicePort, slices: &[&EndpointSlice]) -> Vec<(Ipv4Addr, u16)> {
    let mut found = Vec::new();
    for slice in slices {
        let name = port.name.as_deref().unwrap_or_default();
        let matching = slice
            .ports
            .iter()
            .flatten()
            .find(|p| p.name.as_deref().unwrap_or_default() == name);
        let Some(target) = matching.and_then(|port| port.port).map(number) else {
            continue;
        };
        let ready = slice.endpoints.iter().flatten().filter(|endpoint| {
            endpoint
                .conditions
                .as_ref()
                .and_then(|conditions| conditions.ready)
                .unwrap_or(true)
        });
        found.extend(
            ready
                .flat_map(|endpoint| &endpoint.addresses)
                .filter_map(|a| a.parse().ok())
                .map(|ip| (ip, target)),
        );
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn protocol_of(protocol: Option<&str>) -> Option<Protocol> {
    match protocol.unwrap_or("TCP") {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        _ => None,
    }
}

/// A port number of the API, which has checked that it is one.
fn number(port: i32) -> u16 {
    u16::try_from(port).unwrap_or_default()
}

/// Replaces the whole table in one step of the kernel's: no packet meets half of it.
pub(crate) fn transaction(
    empty: Transaction,
    ports: &[ServicePortRules],
    pods: Ipv4Net,
) -> nlink::Result<Transaction> {
    // Added before it is deleted, so that deleting works the first time too.
    let mut all = empty
        .add_table(TABLE, Family::Ip)
        .del_table(TABLE, Family::Ip)
        .add_table(TABLE, Family::Ip);
    for chain in chains(ports)? {
        all = all.add_chain(chain);
    }
    for rule in rules(ports, pods)? {
        all = all.add_rule(rule);
    }
    Ok(all)
}

/// All chains, those that others jump to first.
fn chains(ports: &[ServicePortRules]) -> nlink::Result<Vec<Chain>> {
    let plain =
        |name: String| -> nlink::Result<Chain> { Ok(Chain::new(TABLE, name)?.family(Family::Ip)) };
    let mut chains = vec![plain("services".to_owned())?, plain("refusals".to_owned())?];
    for (index, port) in ports.iter().enumerate() {
        if !port.endpoints.is_empty() {
            chains.push(plain(port_chain(index))?.comment(port.name.clone()));
        }
        for endpoint in 0..port.endpoints.len() {
            chains.push(plain(endpoint_chain(index, endpoint))?);
        }
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

fn rules(ports: &[ServicePortRules], pods: Ipv4Net) -> nlink::Result<Vec<Rule>> {
    let mut rules = vec![
        rule("nat-prerouting").try_jump("services")?,
        rule("nat-output").try_jump("services")?,
        rule("filter-input").try_jump("refusals")?,
        rule("filter-forward").try_jump("refusals")?,
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
            rules.extend(spread(index, port, pods)?);
        }
    }
    Ok(rules)
}

/// The ways to a Service: its virtual address, and its port on every address of the node.
fn entrances(index: usize, port: &ServicePortRules) -> nlink::Result<Vec<Rule>> {
    let chain = port_chain(index);
    let mut rules = vec![
        to_port(
            rule("services").match_daddr_v4(port.cluster_ip, 32),
            port.protocol,
            port.port,
        )
        .try_jump(&chain)?,
    ];
    if let Some(node_port) = port.node_port {
        // The answer must come back by this node, whichever pod gives it.
        let entrance = mark(to_port(
            to_this_node(rule("services")),
            port.protocol,
            node_port,
        ));
        rules.push(entrance.try_jump(&chain)?);
    }
    Ok(rules)
}

/// One endpoint of several, at random or by the client's address.
fn spread(index: usize, port: &ServicePortRules, pods: Ipv4Net) -> nlink::Result<Vec<Rule>> {
    let chain = port_chain(index);
    let mut rules = vec![mark(
        rule(&chain).then(Match::ne(Field::Ip4Saddr, prefix(pods))),
    )];
    let count = u32::try_from(port.endpoints.len()).unwrap_or(u32::MAX);
    for (endpoint, (address, target)) in port.endpoints.iter().enumerate() {
        let to = endpoint_chain(index, endpoint);
        let index = u32::try_from(endpoint).unwrap_or(u32::MAX);
        // Each takes its share of what the ones before it left: 1/n, 1/(n−1), …, all.
        let choice = if port.sticky {
            by_client(rule(&chain), count, index)
        } else {
            at_random(rule(&chain), count - index)
        };
        rules.push(choice.try_jump(&to)?);
        // A pod that reaches itself by its Service must not see its own address as the client's.
        rules.push(mark(rule(&to).match_saddr_v4(*address, 32)));
        rules.push(to_protocol(rule(&to), port.protocol).dnat(*address, Some(*target)));
    }
    Ok(rules)
}

/// A Service that nobody serves says so at once: a reset for TCP would do as well, but kube-proxy sends
/// ICMP, and a client sees `ECONNREFUSED` either way.
fn refusals(port: &ServicePortRules) -> Vec<Rule> {
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

fn endpoint_chain(index: usize, endpoint: usize) -> String {
    format!("port-{index}-endpoint-{endpoint}")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{from_value, json};

    use super::*;

    const PODS: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 244, 0, 0), 16);

    fn web() -> Service {
        from_value(json!({
            "metadata": { "namespace": "default", "name": "web" },
            "spec": {
                "clusterIP": "10.96.1.2",
                "ports": [{ "name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080 }],
            },
        }))
        .unwrap()
    }

    fn slice(endpoints: &[(&str, bool)]) -> EndpointSlice {
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|(ip, ready)| json!({ "addresses": [ip], "conditions": { "ready": ready } }))
            .collect();
        from_value(json!({
            "metadata": { "namespace": "default", "labels": { "kubernetes.io/service-name": "web" } },
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
        }))
        .unwrap()
    }

    fn text(ports: &[ServicePortRules]) -> Vec<String> {
        rules(ports, PODS)
            .unwrap()
            .iter()
            .map(|rule| rule.nft_syntax().unwrap_or_default())
            .collect()
    }

    #[test]
    fn only_ready_endpoints_are_used_with_their_own_port() {
        let slices = [slice(&[("10.244.1.2", true), ("10.244.2.2", false)])];
        let ports = service_ports([&web()], &slices);
        assert_eq!(ports.len(), 1);
        assert_eq!(ports[0].endpoints, [(Ipv4Addr::new(10, 244, 1, 2), 8080)]);
    }

    #[test]
    fn a_headless_service_has_no_rules() {
        let mut headless = web();
        headless.spec.as_mut().unwrap().cluster_ip = Some("None".into());
        assert!(service_ports([&headless], &[]).is_empty());
    }

    #[test]
    fn a_service_without_endpoints_refuses_on_both_its_addresses() {
        let lines = text(&service_ports([&web()], &[]));
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
            ("10.244.1.2", true),
            ("10.244.2.2", true),
            ("10.244.2.3", true),
        ])];
        let lines = text(&service_ports([&web()], &slices));
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
}
