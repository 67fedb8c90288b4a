//! Which of the nodes that fit a pod is best: what the pod prefers, then the emptiest of its siblings,
//! then the emptiest.

use k8s_openapi::api::core::v1::{Pod, WeightedPodAffinityTerm};

use super::{Cluster, Host, affinity, filter};
use crate::{
    apiserver::{kinds::Kind, selector::LabelSelector},
    controllers::{ownership, pods},
};

/// The lower, the better: compared from the first figure to the last, and by name at the end, so that
/// the choice is the same each time.
pub(super) fn cost(pod: &Pod, host: &Host, cluster: &Cluster) -> (i64, usize, usize, String) {
    let preferences =
        soft_taints(pod, host) + node_preference(pod, host) + near_and_apart(pod, host, cluster);
    let siblings = siblings(pod, host);
    (
        preferences,
        siblings,
        host.pods.len(),
        host.node.name().to_owned(),
    )
}

fn soft_taints(pod: &Pod, host: &Host) -> i64 {
    const WEIGHT: i64 = 100;
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.clone());
    let tolerations = tolerations.unwrap_or_default();
    let taints = host
        .node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.as_ref());
    let soft = taints
        .into_iter()
        .flatten()
        .filter(|taint| taint.effect == "PreferNoSchedule");
    let kept_away = soft.filter(|taint| !tolerations.iter().any(|it| filter::tolerates(it, taint)));
    WEIGHT * i64::try_from(kept_away.count()).unwrap_or(i64::MAX)
}

fn node_preference(pod: &Pod, host: &Host) -> i64 {
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let preferred = affinity.and_then(|affinity| affinity.node_affinity.as_ref());
    let preferred = preferred.and_then(|it| {
        it.preferred_during_scheduling_ignored_during_execution
            .as_ref()
    });
    let met = preferred
        .into_iter()
        .flatten()
        .filter(|term| affinity::matches_node_term(&term.preference, &host.node));
    -met.map(|term| i64::from(term.weight)).sum::<i64>()
}

/// Preferred affinity draws near, preferred anti-affinity and soft topology spread push apart: each by
/// its weight for every pod that is there.
fn near_and_apart(pod: &Pod, host: &Host, cluster: &Cluster) -> i64 {
    let spec = pod.spec.clone().unwrap_or_default();
    let affinity = spec.affinity.unwrap_or_default();
    let near = affinity
        .pod_affinity
        .and_then(|it| it.preferred_during_scheduling_ignored_during_execution);
    let apart = affinity
        .pod_anti_affinity
        .and_then(|it| it.preferred_during_scheduling_ignored_during_execution);
    let weigh = |term: &WeightedPodAffinityTerm| {
        let neighbours = affinity::neighbours(pod, &term.pod_affinity_term, host, cluster);
        i64::from(term.weight) * i64::try_from(neighbours.len()).unwrap_or(i64::MAX)
    };
    let drawn: i64 = near.iter().flatten().map(weigh).sum();
    let pushed: i64 = apart.iter().flatten().map(weigh).sum();
    let spread = spec.topology_spread_constraints.unwrap_or_default();
    let soft = spread
        .iter()
        .filter(|it| it.when_unsatisfiable == "ScheduleAnyway");
    let crowded = soft.map(|constraint| {
        let selector = constraint
            .label_selector
            .as_ref()
            .map(LabelSelector::try_from);
        let Some(Ok(selector)) = selector else {
            return 0;
        };
        let here = affinity::place(host, &constraint.topology_key);
        let hosts = cluster
            .nodes
            .iter()
            .filter(|it| here.is_some() && affinity::place(it, &constraint.topology_key) == here);
        let pods = hosts.flat_map(|host| &host.pods).filter(|other| {
            other.namespace() == pod.namespace() && selector.matches(&other.metadata.labels)
        });
        i64::try_from(pods.count()).unwrap_or(i64::MAX)
    });
    pushed - drawn + crowded.sum::<i64>()
}

/// The pods on the node that have the same controller.
fn siblings(pod: &Pod, host: &Host) -> usize {
    let Some(owner) = ownership::controller(&pod.metadata) else {
        return 0;
    };
    let same = |other: &Pod| {
        ownership::controller(&other.metadata).is_some_and(|other| other.uid == owner.uid)
    };
    host.pods
        .iter()
        .filter(|other| pods::is_active(other) && same(other))
        .count()
}
