//! Services and their endpoints, paired: what the rules of a node are made from. A pure function.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;

/// A port of a Service, with the endpoints that are ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServedPort {
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
    /// Whether its node port leads to pods of the same node only, and keeps the client's address
    /// (`externalTrafficPolicy: Local`).
    pub(crate) keeps_to_node: bool,
    /// Whether one client keeps one endpoint.
    pub(crate) sticky: bool,
    /// The ready endpoints.
    pub(crate) endpoints: Vec<Endpoint>,
}

/// A pod that serves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    /// Its address.
    pub(crate) address: Ipv4Addr,
    /// Its port.
    pub(crate) port: u16,
    /// The node it runs on.
    pub(crate) node: Option<String>,
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
) -> Vec<ServedPort> {
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
            rules.push(ServedPort {
                name: format!("{namespace}/{name}:{label}"),
                protocol,
                cluster_ip,
                port: number(port.port),
                node_port: port.node_port.map(number).filter(|port| *port != 0),
                keeps_to_node: spec.external_traffic_policy.as_deref() == Some("Local"),
                sticky: spec.session_affinity.as_deref() == Some("ClientIP"),
                endpoints: endpoints_of(port, slices),
            });
        }
    }
    rules
}

fn endpoints_of(port: &ServicePort, slices: &[&EndpointSlice]) -> Vec<Endpoint> {
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
        for endpoint in slice.endpoints.iter().flatten() {
            let ready = endpoint
                .conditions
                .as_ref()
                .and_then(|conditions| conditions.ready)
                .unwrap_or(true);
            let addresses = endpoint
                .addresses
                .iter()
                .filter_map(|text| text.parse().ok());
            if ready {
                found.extend(addresses.map(|address| Endpoint {
                    address,
                    port: target,
                    node: endpoint.node_name.clone(),
                }));
            }
        }
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

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{from_value, json};

    use super::*;

    pub(crate) fn web() -> Service {
        from_value(json!({
            "metadata": { "namespace": "default", "name": "web" },
            "spec": {
                "clusterIP": "10.96.1.2",
                "ports": [{ "name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080 }],
            },
        }))
        .unwrap()
    }

    pub(crate) fn slice(endpoints: &[(&str, &str, bool)]) -> EndpointSlice {
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|(ip, node, ready)| json!({ "addresses": [ip], "nodeName": node, "conditions": { "ready": ready } }))
            .collect();
        from_value(json!({
            "metadata": { "namespace": "default", "labels": { "kubernetes.io/service-name": "web" } },
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
        }))
        .unwrap()
    }

    #[test]
    fn only_ready_endpoints_are_used_with_their_own_port() {
        let slices = [slice(&[
            ("10.244.1.2", "a", true),
            ("10.244.2.2", "b", false),
        ])];
        let ports = service_ports([&web()], &slices);
        assert_eq!(ports.len(), 1);
        let expected = Endpoint {
            address: Ipv4Addr::new(10, 244, 1, 2),
            port: 8080,
            node: Some("a".into()),
        };
        assert_eq!(ports[0].endpoints, [expected]);
    }

    #[test]
    fn a_headless_service_has_no_rules() {
        let mut headless = web();
        headless.spec.as_mut().unwrap().cluster_ip = Some("None".into());
        assert!(service_ports([&headless], &[]).is_empty());
    }
}
