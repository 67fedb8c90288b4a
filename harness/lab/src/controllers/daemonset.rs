//! DaemonSets: one pod on every node that fits.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, DaemonSetStatus},
        core::v1::{
            Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec, Toleration,
        },
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{
    Context, Controller, Item, ownership, pods, revisions,
    rollout::{self, Round},
    scheduler,
};
use crate::apiserver::{
    kinds::Kind,
    object::Key,
    registry::{DAEMON_SETS, NODES, PODS, Resource},
    status::Status,
    store::Change,
};

const GENERATION_LABEL: &str = "pod-template-generation";

pub(super) struct DaemonSets;

impl Controller for DaemonSets {
    fn name(&self) -> &'static str {
        "daemonset-controller"
    }

    fn follows(&self) -> Vec<&'static Resource> {
        vec![&DAEMON_SETS, &NODES, &PODS]
    }

    fn concerned(&self, context: &Context<'_>, change: &Change) -> Vec<Item> {
        match change.object.resource().kind {
            "Node" => {
                let all = context.client.list::<DaemonSet>(None);
                let key = |set: &Arc<DaemonSet>| Key::new(set.namespace(), set.name());
                all.iter()
                    .map(|set| Item::new(&DAEMON_SETS, key(set)))
                    .collect()
            }
            _ => ownership::concerned::<DaemonSet>(context, change),
        }
    }

    fn reconcile(
        &mut self,
        context: &Context<'_>,
        item: &Item,
    ) -> Result<Option<Timestamp>, Status> {
        let client = &context.client;
        let Some(set) = client.find::<DaemonSet>(&item.key.namespace, &item.key.name) else {
            return Ok(None);
        };
        let revision = revisions::current(context, &*set, &set.spec.template)?;
        let hash = revisions::hash(&revision);
        let claimed = ownership::claim_pods(context, &*set)?;
        let mut by_node: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
        for pod in claimed.into_iter().filter(|pod| !pods::is_finished(pod)) {
            by_node
                .entry(target_node(&pod).unwrap_or_default())
                .or_default()
                .push(pod);
        }
        let nodes: Vec<_> = client
            .list::<Node>(None)
            .into_iter()
            .filter(|node| fits(&set, node))
            .collect();
        if !set.is_terminating() {
            place(context, &set, &nodes, &by_node, &hash)?;
            update_pods(context, &set, &nodes, &by_node, &hash)?;
            let used = |hash: &str| {
                let mut pods = by_node.values().flatten();
                pods.any(|pod| pods::label(pod, revisions::HASH_LABEL) == Some(hash))
            };
            let limit = set.spec.revision_history_limit;
            revisions::clean_up(context, &*set, limit, |it| {
                let own = revisions::hash(it);
                own == hash || used(&own)
            })?;
        }
        update_status(context, &set, &nodes, &by_node, &hash)?;
        let settle = set.spec.min_ready_seconds.unwrap_or(0);
        let all = by_node.values().flatten().map(|pod| &**pod);
        Ok(pods::next_available(all, settle, context.now))
    }
}

/// Makes pods on nodes that lack one, and deletes those that are on the wrong node or too many.
fn place(
    context: &Context<'_>,
    set: &DaemonSet,
    nodes: &[Arc<Node>],
    by_node: &BTreeMap<String, Vec<Arc<Pod>>>,
    hash: &str,
) -> Result<(), Status> {
    let is_there = |name: &str| nodes.iter().any(|node| node.name() == name);
    for (name, pods) in by_node {
        let mut active = pods.iter().filter(|pod| !pod.is_terminating());
        let keep = if is_there(name) { active.next() } else { None };
        for pod in pods.iter().filter(|pod| !pod.is_terminating()) {
            if keep.is_none_or(|kept| kept.uid() != pod.uid()) {
                pods::delete(context, set, pod)?;
            }
        }
    }
    for node in nodes
        .iter()
        .filter(|node| !by_node.contains_key(node.name()))
    {
        create(context, set, node.name(), hash)?;
    }
    Ok(())
}

/// Deletes pods of an old template, as many at a time as may be unavailable.
fn update_pods(
    context: &Context<'_>,
    set: &DaemonSet,
    nodes: &[Arc<Node>],
    by_node: &BTreeMap<String, Vec<Arc<Pod>>>,
    hash: &str,
) -> Result<(), Status> {
    let strategy = set.spec.update_strategy.clone().unwrap_or_default();
    if strategy.type_.as_deref() == Some("OnDelete") {
        return Ok(());
    }
    let share = strategy
        .rolling_update
        .and_then(|rolling| rolling.max_unavailable);
    let total = i32::try_from(nodes.len()).unwrap_or(i32::MAX);
    let share = share.unwrap_or(IntOrString::Int(1));
    let limit = usize::try_from(rollout::part(&share, total, Round::Up).max(1)).unwrap_or(1);
    let settle = set.spec.min_ready_seconds.unwrap_or(0);
    let serves = |pod: &Pod| pods::is_available(pod, settle, context.now) && !pod.is_terminating();
    let served = |node: &&Arc<Node>| {
        by_node
            .get(node.name())
            .is_some_and(|pods| pods.iter().any(|pod| serves(pod)))
    };
    let unavailable = nodes.len() - nodes.iter().filter(served).count();
    let mut budget = limit.saturating_sub(unavailable);
    let old = by_node.values().flatten().filter(|pod| {
        pods::label(pod, revisions::HASH_LABEL) != Some(hash) && !pod.is_terminating()
    });
    for pod in old {
        if !serves(pod) {
            pods::delete(context, set, pod)?;
        } else if budget > 0 {
            pods::delete(context, set, pod)?;
            budget -= 1;
        }
    }
    Ok(())
}

fn create(context: &Context<'_>, set: &DaemonSet, node: &str, hash: &str) -> Result<(), Status> {
    let owner = ownership::reference(set);
    let mut pod = pods::from_template(&set.spec.template, set.namespace(), owner);
    pod.metadata.generate_name = Some(format!("{}-", set.name()));
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(revisions::HASH_LABEL.to_owned(), hash.to_owned());
    let generation = set.metadata.generation.unwrap_or(1);
    labels.insert(GENERATION_LABEL.to_owned(), generation.to_string());
    let spec = pod.spec.get_or_insert_default();
    pin(spec, node);
    let tolerations = spec.tolerations.get_or_insert_default();
    tolerations.extend(
        own_tolerations()
            .filter(|own| !tolerations.contains(own))
            .collect::<Vec<_>>(),
    );
    pods::create(context, set, &pod)
}

/// Whether the set's pods belong on the node.
fn fits(set: &DaemonSet, node: &Node) -> bool {
    let spec = set.spec.template.spec.clone().unwrap_or_default();
    let own = spec.tolerations.iter().flatten().cloned();
    let tolerations: Vec<_> = own.chain(own_tolerations()).collect();
    scheduler::matches_node(&spec, node)
        && scheduler::untolerated_taint(node, &tolerations).is_none()
}

/// Daemons run where other pods are kept away because something is wrong with the node.
fn own_tolerations() -> impl Iterator<Item = Toleration> {
    let taints = [
        ("node.kubernetes.io/not-ready", "NoExecute"),
        ("node.kubernetes.io/not-ready", "NoSchedule"),
        ("node.kubernetes.io/unreachable", "NoExecute"),
        ("node.kubernetes.io/disk-pressure", "NoSchedule"),
        ("node.kubernetes.io/memory-pressure", "NoSchedule"),
        ("node.kubernetes.io/pid-pressure", "NoSchedule"),
        ("node.kubernetes.io/unschedulable", "NoSchedule"),
    ];
    taints.into_iter().map(|(key, effect)| Toleration {
        key: Some(key.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some(effect.to_owned()),
        ..Toleration::default()
    })
}

/// Lets the scheduler place the pod on this node only.
fn pin(spec: &mut PodSpec, node: &str) {
    let by_name = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let affinity = spec
        .affinity
        .get_or_insert_default()
        .node_affinity
        .get_or_insert_default();
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .get_or_insert_with(|| NodeSelector {
            node_selector_terms: Vec::new(),
        });
    if required.node_selector_terms.is_empty() {
        required
            .node_selector_terms
            .push(NodeSelectorTerm::default());
    }
    for term in &mut required.node_selector_terms {
        term.match_fields = Some(vec![by_name.clone()]);
    }
}

/// The node that a pod runs on, or is pinned to.
fn target_node(pod: &Pod) -> Option<String> {
    if let Some(node) = pods::node(pod) {
        return Some(node.to_owned());
    }
    let affinity = pod
        .spec
        .as_ref()?
        .affinity
        .as_ref()?
        .node_affinity
        .as_ref()?;
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    let mut fields = required
        .node_selector_terms
        .iter()
        .flat_map(|term| term.match_fields.iter().flatten());
    fields
        .find(|field| field.key == "metadata.name")?
        .values
        .as_ref()?
        .first()
        .cloned()
}

fn update_status(
    context: &Context<'_>,
    set: &DaemonSet,
    nodes: &[Arc<Node>],
    by_node: &BTreeMap<String, Vec<Arc<Pod>>>,
    hash: &str,
) -> Result<(), Status> {
    let settle = set.spec.min_ready_seconds.unwrap_or(0);
    let count = |holds: &dyn Fn(&Pod) -> bool| {
        let on = nodes.iter().filter_map(|node| by_node.get(node.name()));
        let with = on.filter(|pods| pods.iter().any(|pod| !pod.is_terminating() && holds(pod)));
        i32::try_from(with.count()).unwrap_or(i32::MAX)
    };
    let desired = i32::try_from(nodes.len()).unwrap_or(i32::MAX);
    let is_wanted = |name: &str| nodes.iter().any(|node| node.name() == name);
    let misplaced = by_node
        .keys()
        .filter(|name| !name.is_empty() && !is_wanted(name))
        .count();
    let available = count(&|pod| pods::is_available(pod, settle, context.now));
    let before = set.status.clone().unwrap_or_default();
    let status = DaemonSetStatus {
        desired_number_scheduled: desired,
        current_number_scheduled: count(&|pod| pods::node(pod).is_some()),
        number_misscheduled: i32::try_from(misplaced).unwrap_or(i32::MAX),
        number_ready: count(&pods::is_ready),
        number_available: Some(available).filter(|count| *count > 0),
        number_unavailable: Some(desired - available).filter(|count| *count > 0),
        updated_number_scheduled: Some(count(&|pod| {
            pods::label(pod, revisions::HASH_LABEL) == Some(hash)
        }))
        .filter(|count| *count > 0),
        observed_generation: set.metadata.generation,
        collision_count: before.collision_count,
        conditions: before.conditions.clone(),
    };
    if status == before {
        return Ok(());
    }
    let updated = DaemonSet {
        status: Some(status),
        ..set.clone()
    };
    context.client.update_status(&updated).map(drop)
}
