//! ReplicaSets: as many pods as asked for, all of one template.

use std::{cmp::Reverse, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{Context, Controller, Item, ownership, pods};
use crate::apiserver::{
    kinds::Kind,
    registry::{PODS, REPLICA_SETS, Resource},
    selector::LabelSelector,
    status::Status,
    store::Change,
};

const FAILURE: &str = "ReplicaFailure";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

pub(super) struct ReplicaSets;

impl Controller for ReplicaSets {
    fn name(&self) -> &'static str {
        "replicaset-controller"
    }

    fn follows(&self) -> Vec<&'static Resource> {
        vec![&REPLICA_SETS, &PODS]
    }

    fn concerned(&self, context: &Context<'_>, change: &Change) -> Vec<Item> {
        ownership::concerned::<ReplicaSet>(context, change)
    }

    fn reconcile(
        &mut self,
        context: &Context<'_>,
        item: &Item,
    ) -> Result<Option<Timestamp>, Status> {
        let Some(set) = context
            .client
            .find::<ReplicaSet>(&item.key.namespace, &item.key.name)
        else {
            return Ok(None);
        };
        let claimed = ownership::claim_pods(context, &*set)?;
        let active: Vec<_> = claimed
            .into_iter()
            .filter(|pod| pods::is_active(pod))
            .collect();
        let managed = if set.is_terminating() {
            Ok(())
        } else {
            keep_count(context, &set, &active)
        };
        update_status(context, &set, &active, managed.as_ref().err())?;
        managed?;
        let settle = set.spec.min_ready_seconds.unwrap_or(0);
        Ok(pods::next_available(
            active.iter().map(|pod| &**pod),
            settle,
            context.now,
        ))
    }
}

/// Makes the pods that are missing, or deletes those that are too many.
fn keep_count(context: &Context<'_>, set: &ReplicaSet, active: &[Arc<Pod>]) -> Result<(), Status> {
    let wanted = usize::try_from(set.spec.replicas.unwrap_or(0)).unwrap_or(0);
    for _ in active.len()..wanted {
        create(context, set)?;
    }
    let mut ranked: Vec<_> = active.iter().collect();
    ranked.sort_by_cached_key(|pod| Worth::of(pod, active));
    let excess = active.len().saturating_sub(wanted);
    for pod in ranked.into_iter().take(excess) {
        pods::delete(context, set, pod)?;
    }
    Ok(())
}

fn create(context: &Context<'_>, set: &ReplicaSet) -> Result<(), Status> {
    let template = set.spec.template.clone().unwrap_or_default();
    let mut pod = pods::from_template(&template, set.namespace(), ownership::reference(set));
    pod.metadata.generate_name = Some(format!("{}-", set.name()));
    pods::create(context, set, &pod)
}

/// What a pod is worth, by its fields from the first to the last: the least is deleted first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Worth {
    has_node: bool,
    runs: bool,
    ready: bool,
    /// As its annotation says.
    cost: i64,
    siblings_beside: Reverse<usize>,
    restarts: Reverse<i32>,
    created: Reverse<Option<Time>>,
}

impl Worth {
    fn of(pod: &Pod, siblings: &[Arc<Pod>]) -> Self {
        let node = pods::node(pod);
        let beside = siblings
            .iter()
            .filter(|other| pods::node(other) == node)
            .count();
        let cost = pod
            .metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(DELETION_COST));
        let statuses = pod
            .status
            .as_ref()
            .and_then(|status| status.container_statuses.as_ref());
        let restarts = statuses
            .into_iter()
            .flatten()
            .map(|container| container.restart_count);
        Self {
            has_node: node.is_some(),
            runs: pods::phase(pod) == "Running",
            ready: pods::is_ready(pod),
            cost: cost.and_then(|cost| cost.parse().ok()).unwrap_or(0),
            siblings_beside: Reverse(beside),
            restarts: Reverse(restarts.sum()),
            created: Reverse(pod.metadata.creation_timestamp.clone()),
        }
    }
}

fn update_status(
    context: &Context<'_>,
    set: &ReplicaSet,
    active: &[Arc<Pod>],
    failure: Option<&Status>,
) -> Result<(), Status> {
    let labels = set
        .spec
        .template
        .as_ref()
        .and_then(|template| template.metadata.as_ref());
    let labels = labels
        .and_then(|metadata| metadata.labels.clone())
        .unwrap_or_default();
    let template = LabelSelector::equal(&labels);
    let settle = set.spec.min_ready_seconds.unwrap_or(0);
    let count = |holds: &dyn Fn(&Pod) -> bool| {
        i32::try_from(active.iter().filter(|pod| holds(pod)).count()).unwrap_or(i32::MAX)
    };
    let before = set.status.clone().unwrap_or_default();
    let status = ReplicaSetStatus {
        replicas: count(&|_| true),
        fully_labeled_replicas: Some(count(&|pod| template.matches(&pod.metadata.labels))),
        ready_replicas: Some(count(&pods::is_ready)),
        available_replicas: Some(count(&|pod| pods::is_available(pod, settle, context.now))),
        observed_generation: set.metadata.generation,
        conditions: failure.map(|failure| vec![failed(context, &before, failure)]),
        ..ReplicaSetStatus::default()
    };
    if status == before {
        return Ok(());
    }
    let updated = ReplicaSet {
        status: Some(status),
        ..set.clone()
    };
    context.client.update_status(&updated).map(drop)
}

fn failed(
    context: &Context<'_>,
    before: &ReplicaSetStatus,
    failure: &Status,
) -> ReplicaSetCondition {
    let known = before
        .conditions
        .iter()
        .flatten()
        .find(|it| it.type_.as_deref() == Some(FAILURE));
    let since = known.and_then(|condition| condition.last_transition_time.clone());
    ReplicaSetCondition {
        type_: Some(FAILURE.to_owned()),
        status: Some("True".to_owned()),
        reason: Some("FailedCreate".to_owned()),
        message: Some(failure.message.clone()),
        last_transition_time: since.or(Some(Time(context.now))),
    }
}
