//! Where a proxy request for a pod or a Service goes.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::{
    api::core::v1::{EndpointSubset, Endpoints, Pod, Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::apiserver::{
    kinds::Kind,
    object::Key,
    registry::{PODS, SERVICES},
    rest::Rest,
    route::ProxyTarget,
    status::Status,
};

/// The address and port of a pod; without a port in the request, its first.
pub(super) fn of_pod(
    rest: &Rest,
    namespace: &str,
    wanted: &ProxyTarget<'_>,
) -> Result<SocketAddr, Status> {
    let pod = rest
        .get(&PODS, &Key::new(namespace, wanted.name))?
        .typed::<Pod>();
    let address = pod
        .status
        .as_ref()
        .and_then(|status| status.pod_ip.as_deref());
    let address = address.and_then(|address| address.parse::<IpAddr>().ok());
    let Some(address) = address else {
        let message = format!("address not allowed: pod {} has no IP yet", wanted.name);
        return Err(Status::service_unavailable(message));
    };
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    let port = match wanted.port {
        Some(text) => match text.parse::<u16>() {
            Ok(number) => Some(i32::from(number)),
            Err(_) => ports
                .find(|port| port.name.as_deref() == Some(text))
                .map(|port| port.container_port),
        },
        None => Some(ports.next().map_or(80, |port| port.container_port)),
    };
    let port = port.and_then(|port| u16::try_from(port).ok());
    let port = port.ok_or_else(|| {
        let name = wanted.port.unwrap_or_default();
        Status::bad_request(format!("pod {} has no port {name:?}", wanted.name))
    })?;
    Ok(SocketAddr::new(address, port))
}

/// One of the ready endpoints of a Service, at random.
pub(super) fn of_service(
    rest: &Rest,
    namespace: &str,
    wanted: &ProxyTarget<'_>,
) -> Result<SocketAddr, Status> {
    let name = wanted.name;
    let service = rest
        .get(&SERVICES, &Key::new(namespace, name))?
        .typed::<Service>();
    let port = choose_port(&service, wanted.port)?;
    let endpoints = rest.client("proxy").find::<Endpoints>(namespace, name);
    let subsets = endpoints
        .iter()
        .flat_map(|endpoints| endpoints.subsets.iter().flatten());
    let sockets: Vec<_> = subsets.flat_map(|subset| sockets(subset, &port)).collect();
    if sockets.is_empty() {
        let message = format!("no endpoints available for service \"{name}\"");
        return Err(Status::service_unavailable(message));
    }
    Ok(sockets[rand::random_range(0..sockets.len())])
}

fn choose_port(service: &Service, wanted: Option<&str>) -> Result<ServicePort, Status> {
    let ports = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.clone())
        .unwrap_or_default();
    let matches = |port: &&ServicePort, wanted: &str| {
        port.name.as_deref() == Some(wanted) || wanted.parse() == Ok(port.port)
    };
    let found = match (wanted, ports.as_slice()) {
        (Some(wanted), ports) => ports.iter().find(|port| matches(port, wanted)),
        (None, [only]) => Some(only),
        (None, ports) => ports
            .iter()
            .find(|port| port.name.as_deref().is_none_or(str::is_empty)),
    };
    found.cloned().ok_or_else(|| {
        let (wanted, name) = (wanted.unwrap_or_default(), service.name());
        let message = format!("no service port \"{wanted}\" found for service \"{name}\"");
        Status::service_unavailable(message)
    })
}

fn sockets(subset: &EndpointSubset, wanted: &ServicePort) -> Vec<SocketAddr> {
    let name = wanted.name.clone().unwrap_or_default();
    let mut ports = subset.ports.iter().flatten();
    let found = ports.find(|port| port.name.clone().unwrap_or_default() == name);
    let number = match (found, &wanted.target_port) {
        (Some(port), _) => Some(port.port),
        (None, Some(IntOrString::Int(number))) if subset.ports.is_none() => Some(*number),
        _ => None,
    };
    let Some(port) = number.and_then(|number| u16::try_from(number).ok()) else {
        return Vec::new();
    };
    let addresses = subset.addresses.iter().flatten();
    let parsed = addresses.filter_map(|address| address.ip.parse::<IpAddr>().ok());
    parsed
        .map(|address| SocketAddr::new(address, port))
        .collect()
}
