//! Affinity: terms about the labels of nodes, and about the pods that are near.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodAffinityTerm,
};

use super::{Cluster, Host};
use crate::{
    apiserver::{kinds::Kind, selector::LabelSelector},
    controllers::pods,
};

pub(super) const HOSTNAME: &str = "kubernetes.io/hostname";

/// The required parts of the affinity between pods, and topology spread that must be kept.
pub(super) fn check(pod: &Pod, host: &Host, cluster: &Cluster) -> Result<(), String> {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let near = affinity.and_then(|affinity| affinity.pod_affinity.as_ref());
    let near = near.and_then(|it| {
        it.required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    // The first pod of a group that wants to be near itself must be able to begin somewhere.
    let is_met = |term: &PodAffinityTerm| {
        !neighbours(pod, term, host, cluster).is_empty()
            || (matches_term(pod, term, pod) && nobody_matches(pod, term, cluster))
    };
    if !near.into_iter().flatten().all(is_met) {
        return Err("node(s) didn't match pod affinity rules".to_owned());
    }
    let apart = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let apart = apart.and_then(|it| {
        it.required_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let is_broken = |term: &PodAffinityTerm| !neighbours(pod, term, host, cluster).is_empty();
    if apart.into_iter().flatten().any(is_broken) {
        return Err("node(s) didn't match pod anti-affinity rules".to_owned());
    }
    if rejected_by_present(pod, host, cluster) {
        return Err("node(s) didn't satisfy existing pods anti-affinity rules".to_owned());
    }
    if breaks_spread(pod, host, cluster) {
        return Err("node(s) didn't match pod topology spread constraints".to_owned());
    }
    Ok(())
}

/// The pods in the same place as `host`, by the term's topology, that the term selects.
pub(super) fn neighbours<'a>(
    pod: &Pod,
    term: &PodAffinityTerm,
    host: &Host,
    cluster: &'a Cluster,
) -> Vec<&'a Arc<Pod>> {
    let Some(place) = place(host, &term.topology_key) else {
        return Vec::new();
    };
    let near = cluster
        .nodes
        .iter()
        .filter(|other| self::place(other, &term.topology_key) == Some(place));
    let pods = near.flat_map(|host| &host.pods);
    pods.filter(|other| matches_term(pod, term, other))
        .collect()
}

/// Where a node is, by a topology key. Every node is a host of its own, labelled or not.
pub(super) fn place<'h>(host: &'h Host, topology_key: &str) -> Option<&'h str> {
    let by_name = (topology_key == HOSTNAME).then(|| host.node.name());
    host.label(topology_key).or(by_name)
}

/// Whether `term`, a term of `pod`, speaks of `other`.
fn matches_term(pod: &Pod, term: &PodAffinityTerm, other: &Pod) -> bool {
    let named = term.namespaces.as_deref().unwrap_or_default();
    let everywhere = term
        .namespace_selector
        .as_ref()
        .is_some_and(|it| *it == Default::default());
    let in_scope = if named.is_empty() && term.namespace_selector.is_none() {
        other.namespace() == pod.namespace()
    } else {
        everywhere || named.iter().any(|name| name == other.namespace())
    };
    let selector = term.label_selector.as_ref().map(LabelSelector::try_from);
    let selects = match selector {
        Some(Ok(selector)) => selector.matches(&other.metadata.labels),
        _ => false,
    };
    in_scope && selects && !other.is_terminating()
}

fn nobody_matches(pod: &Pod, term: &PodAffinityTerm, cluster: &Cluster) -> bool {
    let mut all = cluster.nodes.iter().flat_map(|host| &host.pods);
    !all.any(|other| matches_term(pod, term, other))
}

/// Whether a pod that is already near refuses this one.
fn rejected_by_present(pod: &Pod, host: &Host, cluster: &Cluster) -> bool {
    cluster.nodes.iter().any(|other_host| {
        other_host.pods.iter().any(|other| {
            let affinity = other.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
            let apart = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
            let terms = apart.and_then(|it| {
                it.required_during_scheduling_ignored_during_execution
                    .as_ref()
            });
            terms.into_iter().flatten().any(|term| {
                let (here, there) = (
                    place(host, &term.topology_key),
                    place(other_host, &term.topology_key),
                );
                here.is_some() && here == there && matches_term(other, term, pod)
            })
        })
    })
}

/// Whether the pod would make its place too full beside the emptiest one.
fn breaks_spread(pod: &Pod, host: &Host, cluster: &Cluster) -> bool {
    let constraints = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.topology_spread_constraints.as_ref());
    let mut hard = constraints
        .into_iter()
        .flatten()
        .filter(|it| it.when_unsatisfiable == "DoNotSchedule");
    hard.any(|constraint| {
        let selector = constraint
            .label_selector
            .as_ref()
            .map(LabelSelector::try_from);
        let Some(Ok(selector)) = selector else {
            return false;
        };
        let key = &constraint.topology_key;
        let Some(here) = place(host, key) else {
            return true;
        };
        let count = |place: &str| {
            let hosts = cluster
                .nodes
                .iter()
                .filter(|it| self::place(it, key) == Some(place));
            let pods = hosts.flat_map(|host| &host.pods).filter(|other| {
                other.namespace() == pod.namespace()
                    && pods::is_active(other)
                    && selector.matches(&other.metadata.labels)
            });
            pods.count()
        };
        let least = cluster
            .nodes
            .iter()
            .filter_map(|it| self::place(it, key))
            .map(count)
            .min();
        let own = usize::from(selector.matches(&pod.metadata.labels));
        let skew = (count(here) + own).saturating_sub(least.unwrap_or(0));
        i32::try_from(skew).unwrap_or(i32::MAX) > constraint.max_skew
    })
}

pub(super) fn matches_node_selector(selector: &NodeSelector, node: &Node) -> bool {
    selector
        .node_selector_terms
        .iter()
        .any(|term| matches_node_term(term, node))
}

pub(super) fn matches_node_term(term: &NodeSelectorTerm, node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let by_label = |requirement: &NodeSelectorRequirement| {
        let value = labels
            .and_then(|labels| labels.get(&requirement.key))
            .map(String::as_str);
        meets(requirement, value)
    };
    let by_field = |requirement: &NodeSelectorRequirement| {
        requirement.key == "metadata.name" && meets(requirement, Some(node.name()))
    };
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    // A term without requirements matches nothing.
    !(expressions.is_empty() && fields.is_empty())
        && expressions.iter().all(by_label)
        && fields.iter().all(by_field)
}

fn meets(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = |value: &str| values.iter().any(|listed| listed == value);
    let number = |text: &str| text.parse::<i64>().ok();
    let limit = values.first().and_then(|limit| number(limit));
    match (requirement.operator.as_str(), value) {
        ("In", Some(value)) => listed(value),
        ("NotIn", value) => value.is_none_or(|value| !listed(value)),
        ("Exists", value) => value.is_some(),
        ("DoesNotExist", value) => value.is_none(),
        ("Gt", Some(value)) => {
            limit.is_some_and(|limit| number(value).is_some_and(|it| it > limit))
        }
        ("Lt", Some(value)) => {
            limit.is_some_and(|limit| number(value).is_some_and(|it| it < limit))
        }
        _ => false,
    }
}
