//! What of the API's objects makes records.

use std::net::IpAddr;

use hickory_proto::rr::Name;
use k8s_openapi::api::core::v1::{
    EndpointPort as ListedPort, EndpointSubset, Endpoints, Service, ServicePort,
};
use k8s_openapi::api::discovery::v1::{Endpoint as ApiEndpoint, EndpointPort, EndpointSlice};

use super::absolute;

/// How a Service is found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// At virtual addresses (§2.3).
    ClusterIp(Vec<IpAddr>),
    /// At the addresses of its endpoints (§2.4).
    Headless,
    /// Under another name (§2.5).
    External(Name),
}

impl Kind {
    /// Nothing where the Service has no address yet, or an address for a name: CoreDNS has no record then.
    pub(super) fn of(service: &Service) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        if spec.type_.as_deref() == Some("ExternalName") {
            let target = spec.external_name.as_deref()?;
            return match target.parse::<IpAddr>() {
                Ok(_) => None,
                Err(_) => absolute(target).map(Self::External),
            };
        }
        let first = spec.cluster_ip.as_deref().unwrap_or_default();
        let all = spec.cluster_ips.as_deref().unwrap_or_default();
        if first == "None" || all.first().is_some_and(|ip| ip == "None") {
            return Some(Self::Headless);
        }
        let listed = all.iter().map(String::as_str);
        let mut addresses: Vec<IpAddr> = listed.filter_map(|ip| ip.parse().ok()).collect();
        if addresses.is_empty() {
            addresses.extend(first.parse::<IpAddr>().ok());
        }
        (!addresses.is_empty()).then_some(Self::ClusterIp(addresses))
    }
}

/// A port that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    /// Empty where it has none.
    pub(super) name: String,
    /// In lower case.
    pub(super) protocol: String,
    pub(super) number: u16,
}

impl Port {
    fn new(name: Option<&str>, protocol: Option<&str>, number: i32) -> Option<Self> {
        Some(Self {
            name: name.unwrap_or_default().to_owned(),
            protocol: protocol.unwrap_or("TCP").to_ascii_lowercase(),
            number: u16::try_from(number).ok().filter(|number| *number > 0)?,
        })
    }

    fn of_service(port: &ServicePort) -> Option<Self> {
        Self::new(port.name.as_deref(), port.protocol.as_deref(), port.port)
    }

    fn of_slice(port: &EndpointPort) -> Option<Self> {
        Self::new(port.name.as_deref(), port.protocol.as_deref(), port.port?)
    }

    fn of_list(port: &ListedPort) -> Option<Self> {
        Self::new(port.name.as_deref(), port.protocol.as_deref(), port.port)
    }
}

/// The ports of a Service.
pub(super) fn ports(service: &Service) -> Vec<Port> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    ports
        .into_iter()
        .flatten()
        .filter_map(Port::of_service)
        .collect()
}

/// A ready endpoint at one of its addresses.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) address: IpAddr,
    /// Its name below its Service (§2.1, _hostname_).
    pub(super) hostname: String,
    /// Whether it was given that name, and did not get it from its address.
    pub(super) is_named: bool,
    pub(super) ports: Vec<Port>,
}

/// The ready endpoints of a slice (§2.1, _ready_). Not knowing counts as ready, as the API has it; for a
/// Service that publishes addresses that are not ready, the slice calls them ready.
pub(super) fn endpoints(slice: &EndpointSlice) -> Vec<Endpoint> {
    let ports: Vec<Port> = slice
        .ports
        .iter()
        .flatten()
        .filter_map(Port::of_slice)
        .collect();
    let is_ready = |endpoint: &&ApiEndpoint| {
        let conditions = endpoint.conditions.as_ref();
        conditions.and_then(|conditions| conditions.ready) != Some(false)
    };
    let all = slice.endpoints.iter().flatten().filter(is_ready);
    all.flat_map(|endpoint| {
        // A slice may also hold names, which make no records.
        let addresses = endpoint
            .addresses
            .iter()
            .filter_map(|text| text.parse().ok());
        addresses.map(|address| Endpoint {
            address,
            hostname: hostname(endpoint.hostname.as_deref(), address),
            is_named: is_named(endpoint.hostname.as_deref()),
            ports: ports.clone(),
        })
    })
    .collect()
}

/// The ready endpoints of the older kind of object, which has its Service's name. For a Service that publishes
/// addresses that are not ready, they stand among those that are.
pub(super) fn listed_endpoints(listed: &Endpoints) -> Vec<Endpoint> {
    let subsets = listed.subsets.iter().flatten();
    subsets.flat_map(endpoints_of_subset).collect()
}

fn endpoints_of_subset(subset: &EndpointSubset) -> Vec<Endpoint> {
    let ports = subset.ports.iter().flatten();
    let ports: Vec<Port> = ports.filter_map(Port::of_list).collect();
    let ready = subset.addresses.iter().flatten();
    ready
        .filter_map(|endpoint| {
            let address = endpoint.ip.parse().ok()?;
            Some(Endpoint {
                address,
                hostname: hostname(endpoint.hostname.as_deref(), address),
                is_named: is_named(endpoint.hostname.as_deref()),
                ports: ports.clone(),
            })
        })
        .collect()
}

/// The Service that a slice belongs to: namespace and name.
pub(super) fn service_of(slice: &EndpointSlice) -> Option<(&str, &str)> {
    let name = slice
        .metadata
        .labels
        .as_ref()?
        .get("kubernetes.io/service-name")?;
    Some((slice.metadata.namespace.as_deref()?, name))
}

fn is_named(own: Option<&str>) -> bool {
    own.is_some_and(|hostname| !hostname.is_empty())
}

/// Its own, or one made of its address, as CoreDNS makes it.
fn hostname(own: Option<&str>, address: IpAddr) -> String {
    match own {
        Some(hostname) if !hostname.is_empty() => hostname.to_owned(),
        _ => address.to_string().replace(['.', ':'], "-"),
    }
}
