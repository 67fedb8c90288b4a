//! The scheduler: which node a pod runs on.
//!
//! A node must fit (`filter`); among those that do, the best is taken (`score`). Both are pure. There is
//! no preemption: a pod that fits nowhere waits until a node or another pod changes.

mod affinity;
mod filter;
mod score;

pub(super) use filter::{matches_node, untolerated_taint};

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{Context, Controller, Item, pods};
use crate::apiserver::{
    kinds::Kind,
    object::Key,
    registry::{NODES, PODS, Resource},
    status::Status,
    store::Change,
};

const NAME: &str = "default-scheduler";

pub(super) struct Scheduler;

impl Controller for Scheduler {
    fn name(&self) -> &'static str {
        NAME
    }

    fn follows(&self) -> Vec<&'static Resource> {
        vec![&NODES, &PODS]
    }

    fn concerned(&self, context: &Context<'_>, change: &Change) -> Vec<Item> {
        if change.object.resource().kind == "Pod" {
            let pod = change.object.typed::<Pod>();
            let makes_room =
                pods::node(&pod).is_some() && (change.deleted || pods::is_finished(&pod));
            if !makes_room {
                return if is_waiting(&pod) {
                    vec![Item::of(change)]
                } else {
                    Vec::new()
                };
            }
        }
        let all = context.client.list::<Pod>(None);
        let waiting = all.iter().filter(|pod| is_waiting(pod));
        waiting
            .map(|pod| Item::new(&PODS, Key::new(pod.namespace(), pod.name())))
            .collect()
    }

    fn reconcile(
        &mut self,
        context: &Context<'_>,
        item: &Item,
    ) -> Result<Option<Timestamp>, Status> {
        let client = &context.client;
        let pod = client.find::<Pod>(&item.key.namespace, &item.key.name);
        let Some(pod) = pod.filter(|pod| is_waiting(pod)) else {
            return Ok(None);
        };
        let cluster = Cluster::new(client.list::<Node>(None), client.list::<Pod>(None));
        match choose(&pod, &cluster) {
            Ok(node) => {
                client.rest.bind(&item.key, &node)?;
                let (namespace, name) = (&item.key.namespace, &item.key.name);
                let message = format!("Successfully assigned {namespace}/{name} to {node}");
                context.tell(&*pod, "Scheduled", &message);
            }
            Err(why) => report(context, &pod, &why)?,
        }
        Ok(None)
    }
}

/// The nodes, each with the pods that are on it.
struct Cluster {
    nodes: Vec<Host>,
}

struct Host {
    node: Arc<Node>,
    pods: Vec<Arc<Pod>>,
}

impl Cluster {
    fn new(nodes: Vec<Arc<Node>>, all: Vec<Arc<Pod>>) -> Self {
        let mut by_node: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
        for pod in all.into_iter().filter(|pod| !pods::is_finished(pod)) {
            if let Some(node) = pods::node(&pod) {
                by_node.entry(node.to_owned()).or_default().push(pod);
            }
        }
        let host = |node: Arc<Node>| {
            let pods = by_node.remove(node.name()).unwrap_or_default();
            Host { node, pods }
        };
        Self {
            nodes: nodes.into_iter().map(host).collect(),
        }
    }
}

impl Host {
    fn label(&self, key: &str) -> Option<&str> {
        self.node
            .metadata
            .labels
            .as_ref()?
            .get(key)
            .map(String::as_str)
    }
}

/// The best node for `pod`, or how many nodes lack what.
fn choose(pod: &Pod, cluster: &Cluster) -> Result<String, String> {
    let mut refusals: BTreeMap<String, usize> = BTreeMap::new();
    let mut fitting = Vec::new();
    for host in &cluster.nodes {
        match filter::check(pod, host, cluster) {
            Ok(()) => fitting.push(host),
            Err(why) => *refusals.entry(why).or_default() += 1,
        }
    }
    let best = fitting
        .into_iter()
        .min_by_key(|host| score::cost(pod, host, cluster));
    best.map(|host| host.node.name().to_owned()).ok_or_else(|| {
        let total = cluster.nodes.len();
        if total == 0 {
            return "no nodes available to schedule pods".to_owned();
        }
        let reasons: Vec<_> = refusals
            .iter()
            .map(|(why, count)| format!("{count} {why}"))
            .collect();
        format!("0/{total} nodes are available: {}.", reasons.join(", "))
    })
}

/// Whether the pod has yet to be given a node, by this scheduler.
fn is_waiting(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let ours = spec
        .and_then(|spec| spec.scheduler_name.as_deref())
        .is_none_or(|it| it == NAME);
    let gated = spec.is_some_and(|spec| spec.scheduling_gates.iter().flatten().next().is_some());
    pods::node(pod).is_none() && pods::is_active(pod) && ours && !gated
}

/// Says why the pod waits, if it was not said before.
fn report(context: &Context<'_>, pod: &Pod, why: &str) -> Result<(), Status> {
    let mut reported = pod.clone();
    let conditions = reported
        .status
        .get_or_insert_default()
        .conditions
        .get_or_insert_default();
    let known = conditions
        .iter()
        .find(|condition| condition.type_ == "PodScheduled");
    if known.is_some_and(|condition| condition.message.as_deref() == Some(why)) {
        return Ok(());
    }
    let since = known.and_then(|condition| condition.last_transition_time.clone());
    conditions.retain(|condition| condition.type_ != "PodScheduled");
    conditions.push(PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some("Unschedulable".to_owned()),
        message: Some(why.to_owned()),
        last_transition_time: since.or(Some(Time(context.now))),
        ..PodCondition::default()
    });
    context.client.update_status(&reported)?;
    context.warn(pod, "FailedScheduling", why);
    Ok(())
}

#[cfg(test)]
mod tests;
