//! Whether a pod can run on a node at all.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    api::core::v1::{Node, Pod, PodSpec, Taint, Toleration},
    apimachinery::pkg::api::resource::Quantity,
};

use super::{Cluster, Host, affinity};
use crate::{
    apiserver::{kinds, quantity},
    controllers::pods,
};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
const DEFAULT_POD_LIMIT: f64 = 110.0;

/// Nothing, or what is in the way, worded to follow a number of nodes.
pub(super) fn check(pod: &Pod, host: &Host, cluster: &Cluster) -> Result<(), String> {
    let spec = pod.spec.clone().unwrap_or_default();
    if let Some(taint) =
        untolerated_taint(&host.node, spec.tolerations.as_deref().unwrap_or_default())
    {
        let value = taint.value.unwrap_or_default();
        return Err(format!(
            "node(s) had untolerated taint {{{}: {value}}}",
            taint.key
        ));
    }
    if !matches_node(&spec, &host.node) {
        return Err("node(s) didn't match Pod's node affinity/selector".to_owned());
    }
    if let Some(resource) = lacking_resource(&spec, host) {
        return Err(match resource.as_str() {
            "pods" => "Too many pods".to_owned(),
            resource => format!("Insufficient {resource}"),
        });
    }
    if ports_collide(&spec, host) {
        return Err("node(s) didn't have free ports for the requested pod ports".to_owned());
    }
    affinity::check(pod, host, cluster)
}

/// The node's selector and the required part of its affinity.
pub(in crate::controllers) fn matches_node(spec: &PodSpec, node: &Node) -> bool {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let selected = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    let affinity = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| {
        affinity
            .required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    selected && required.is_none_or(|required| affinity::matches_node_selector(required, node))
}

/// A taint that keeps the pod away. A node that is not ready or cordoned counts as tainted so, whether
/// or not somebody wrote the taint down.
pub(in crate::controllers) fn untolerated_taint(
    node: &Node,
    tolerations: &[Toleration],
) -> Option<Taint> {
    let implied = |key: &str| Taint {
        key: key.to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    let spec = node.spec.clone().unwrap_or_default();
    let cordoned = (spec.unschedulable == Some(true)).then(|| implied(UNSCHEDULABLE));
    let not_ready = (!kinds::node_is_ready(node)).then(|| implied(NOT_READY));
    let taints = spec
        .taints
        .into_iter()
        .flatten()
        .chain(cordoned)
        .chain(not_ready);
    let mut hard = taints.filter(|taint| taint.effect != "PreferNoSchedule");
    hard.find(|taint| {
        !tolerations
            .iter()
            .any(|toleration| tolerates(toleration, taint))
    })
}

pub(super) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (key, effect) = (text(&toleration.key), text(&toleration.effect));
    let exists = toleration.operator.as_deref() == Some("Exists");
    (effect.is_empty() || effect == taint.effect)
        && (key == taint.key || (key.is_empty() && exists))
        && (exists || text(&toleration.value) == text(&taint.value))
}

/// A resource of which the node has too little left. Nodes that do not say what they have, have enough.
fn lacking_resource(spec: &PodSpec, host: &Host) -> Option<String> {
    let allocatable = host
        .node
        .status
        .as_ref()
        .and_then(|status| status.allocatable.clone());
    let allocatable = allocatable.unwrap_or_default();
    let amount = |Quantity(text): &Quantity| quantity::parse(text).unwrap_or_default();
    let limit = allocatable.get("pods").map_or(DEFAULT_POD_LIMIT, amount);
    let count = u32::try_from(host.pods.len()).unwrap_or(u32::MAX);
    if f64::from(count) + 1.0 > limit {
        return Some("pods".to_owned());
    }
    let mut used = BTreeMap::new();
    for pod in host.pods.iter().filter(|pod| !pods::is_finished(pod)) {
        for (name, amount) in pod.spec.as_ref().map(requests).unwrap_or_default() {
            *used.entry(name).or_insert(0.0) += amount;
        }
    }
    let lacks = |(name, wanted): &(String, f64)| {
        let Some(total) = allocatable.get(name) else {
            return false;
        };
        *wanted > 0.0 && used.get(name).copied().unwrap_or(0.0) + wanted > amount(total)
    };
    requests(spec).into_iter().find(lacks).map(|(name, _)| name)
}

/// What the pod asks for: the sum of its containers, or its most demanding init container.
fn requests(spec: &PodSpec) -> BTreeMap<String, f64> {
    let mut total: BTreeMap<String, f64> = BTreeMap::new();
    let of = |container: &k8s_openapi::api::core::v1::Container| {
        let resources = container.resources.clone().unwrap_or_default();
        let requests = resources.requests.unwrap_or_default().into_iter();
        requests
            .map(|(name, Quantity(text))| (name, quantity::parse(&text).unwrap_or_default()))
            .collect::<Vec<_>>()
    };
    for (name, amount) in spec.containers.iter().flat_map(of) {
        *total.entry(name).or_default() += amount;
    }
    for (name, amount) in spec.init_containers.iter().flatten().flat_map(of) {
        let sum = total.entry(name).or_default();
        *sum = sum.max(amount);
    }
    total
}

fn ports_collide(spec: &PodSpec, host: &Host) -> bool {
    let wanted = host_ports(spec);
    let used = host.pods.iter().filter_map(|pod| pod.spec.as_ref());
    !wanted.is_empty() && used.flat_map(host_ports).any(|port| wanted.contains(&port))
}

fn host_ports(spec: &PodSpec) -> BTreeSet<(String, i32)> {
    let ports = spec
        .containers
        .iter()
        .flat_map(|container| container.ports.iter().flatten());
    let on_host = ports.filter_map(|port| {
        let number = port.host_port.filter(|port| *port > 0)?;
        Some((port.protocol.clone().unwrap_or_default(), number))
    });
    on_host.collect()
}
