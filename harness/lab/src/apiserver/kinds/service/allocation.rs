//! Giving cluster IPs and node ports to Services.
//!
//! What is taken is read from the Services themselves; writes are made one at a time, so two of them
//! cannot be given the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};

use super::{NONE, has_node_ports};
use crate::apiserver::{
    admission::{ServiceNetwork, Surroundings},
    field::{Path, Problems},
    registry::SERVICES,
};

/// Keeps what was given to `old`, where `new` does not say otherwise.
pub(super) fn keep(new: &mut ServiceSpec, old: &ServiceSpec) {
    let (new_type, old_type) = (new.type_.clone(), old.type_.clone());
    let external = |ty: &Option<String>| ty.as_deref() == Some("ExternalName");
    if external(&new_type) {
        if new.cluster_ip == old.cluster_ip {
            (new.cluster_ip, new.cluster_ips) = (None, None);
            (new.ip_families, new.ip_family_policy) = (None, None);
        }
        return;
    }
    if !external(&old_type) && new.cluster_ip.as_deref().unwrap_or_default().is_empty() {
        new.cluster_ip.clone_from(&old.cluster_ip);
        new.cluster_ips.clone_from(&old.cluster_ips);
    }
    let wants_node_ports = new_type.as_deref().is_some_and(has_node_ports);
    let same = |port: &ServicePort, other: &ServicePort| {
        (port.port, &port.protocol) == (other.port, &other.protocol)
    };
    for port in new.ports.iter_mut().flatten() {
        let before = old.ports.iter().flatten().find(|before| same(before, port));
        let before = before.and_then(|before| before.node_port);
        if wants_node_ports {
            port.node_port = port.node_port.filter(|port| *port != 0).or(before);
        } else if port.node_port == before {
            port.node_port = None;
        }
    }
}

/// Gives the Service what it lacks, and refuses what it asks for and cannot have.
pub(super) fn allocate(
    spec: &mut ServiceSpec,
    own: (&str, &str),
    around: &Surroundings<'_>,
    problems: &mut Problems,
) {
    let ty = spec.type_.clone().unwrap_or_default();
    if ty == "ExternalName" {
        return;
    }
    let taken = Taken::by_others(own, around);
    allocate_address(spec, &taken, around.network, problems);
    if has_node_ports(&ty) && spec.allocate_load_balancer_node_ports != Some(false) {
        allocate_ports(spec, &taken, around.network, problems);
    }
}

struct Taken {
    addresses: BTreeSet<String>,
    ports: BTreeSet<i32>,
}

impl Taken {
    fn by_others(own: (&str, &str), around: &Surroundings<'_>) -> Self {
        let mut taken = Self {
            addresses: BTreeSet::new(),
            ports: BTreeSet::new(),
        };
        for service in around.store.list(&SERVICES, None).objects {
            if (service.namespace(), service.name()) == own {
                continue;
            }
            let spec = service.typed::<Service>().spec.clone().unwrap_or_default();
            taken.addresses.extend(spec.cluster_ip);
            taken.ports.extend(
                spec.ports
                    .iter()
                    .flatten()
                    .filter_map(|port| port.node_port),
            );
        }
        taken
    }
}

fn allocate_address(
    spec: &mut ServiceSpec,
    taken: &Taken,
    network: &ServiceNetwork,
    problems: &mut Problems,
) {
    let path = Path::new("spec");
    let stated = spec
        .cluster_ip
        .take()
        .or(spec.cluster_ips.iter().flatten().next().cloned());
    let address = match stated.filter(|address| !address.is_empty()) {
        Some(none) if none == NONE => none,
        Some(address) => {
            if let Err(why) = check_address(&address, taken, network) {
                let why = format!("failed to allocate IP {address}: {why}");
                problems.invalid(&path.field("clusterIPs"), [&address], why);
            }
            address
        }
        None => match free_address(taken, network) {
            Some(address) => address.to_string(),
            None => {
                let why = "failed to allocate a serviceIP: range is full";
                return problems.invalid(&path.field("clusterIPs"), "", why);
            }
        },
    };
    spec.cluster_ips = Some(vec![address.clone()]);
    spec.cluster_ip = Some(address);
}

fn check_address(address: &str, taken: &Taken, network: &ServiceNetwork) -> Result<(), String> {
    let parsed: Ipv4Addr = address
        .parse()
        .or(Err("must be a valid IP address".to_owned()))?;
    if !network.cidr.contains(&parsed) {
        return Err(format!(
            "the provided IP ({address}) is not in the valid range. The range of valid IPs is {}",
            network.cidr
        ));
    }
    if taken.addresses.contains(address) {
        return Err("provided IP is already allocated".to_owned());
    }
    Ok(())
}

/// A random address: one that was just given up should not soon mean another Service.
fn free_address(taken: &Taken, network: &ServiceNetwork) -> Option<Ipv4Addr> {
    let first = u32::from(network.cidr.network()) + 1;
    let count = u32::from(network.cidr.broadcast())
        .checked_sub(first)
        .filter(|count| *count > 0)?;
    let start = rand::random_range(0..count);
    let addresses = (0..count).map(|step| Ipv4Addr::from(first + (start + step) % count));
    let free = |address: &Ipv4Addr| {
        *address != network.api_server
            && *address != network.cluster_dns
            && !taken.addresses.contains(&address.to_string())
    };
    addresses.into_iter().find(free)
}

fn allocate_ports(
    spec: &mut ServiceSpec,
    taken: &Taken,
    network: &ServiceNetwork,
    problems: &mut Problems,
) {
    let path = Path::new("spec");
    let ports_path = path.field("ports");
    // One number may serve several ports of a Service that differ in protocol.
    let mut own: BTreeMap<i32, BTreeSet<Option<String>>> = BTreeMap::new();
    let ports = spec.ports.get_or_insert_default();
    for (index, port) in ports.iter().enumerate() {
        let Some(number) = port.node_port.filter(|number| *number != 0) else {
            continue;
        };
        let port_path = ports_path.index(index);
        let path = port_path.field("nodePort");
        let in_range = u16::try_from(number).is_ok_and(|it| network.node_ports.contains(&it));
        if !in_range {
            let (first, last) = (network.node_ports.start(), network.node_ports.end());
            let why = format!(
                "provided port is not in the valid range. The range of valid ports is \
                 {first}-{last}"
            );
            problems.invalid(&path, number, why);
        } else if taken.ports.contains(&number) {
            problems.invalid(&path, number, "provided port is already allocated");
        } else if !own.entry(number).or_default().insert(port.protocol.clone()) {
            problems.duplicate(&path, number);
        }
    }
    for (index, port) in ports.iter_mut().enumerate() {
        if port.node_port.is_some_and(|number| number != 0) {
            continue;
        }
        let free = free_port(network, |number| {
            !taken.ports.contains(&number) && !own.contains_key(&number)
        });
        match free {
            Some(number) => {
                own.entry(number).or_default().insert(port.protocol.clone());
                port.node_port = Some(number);
            }
            None => {
                let port_path = ports_path.index(index);
                let why = "failed to allocate a nodePort: range is full";
                problems.invalid(&port_path.field("nodePort"), 0, why);
            }
        }
    }
}

fn free_port(network: &ServiceNetwork, is_free: impl Fn(i32) -> bool) -> Option<i32> {
    let ports: Vec<_> = network.node_ports.clone().map(i32::from).collect();
    let start = rand::random_range(0..ports.len().max(1));
    let (before, after) = ports.split_at_checked(start)?;
    after
        .iter()
        .chain(before)
        .copied()
        .find(|number| is_free(*number))
}
