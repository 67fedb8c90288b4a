//! Deployments: one ReplicaSet per template, and the way from one to the next.

mod sets;
mod status;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};

use super::{
    Context, Controller, Item, ownership, pods,
    rollout::{self, Limits, Set, Step},
};
use crate::apiserver::{
    kinds::Kind,
    object::Key,
    registry::{DEPLOYMENTS, PODS, REPLICA_SETS, Resource},
    status::Status,
    store::Change,
};
use sets::{REVISION, Sets, annotate, desired, new_set, replicas, revision};

pub(super) struct Deployments;

impl Controller for Deployments {
    fn name(&self) -> &'static str {
        "deployment-controller"
    }

    fn follows(&self) -> Vec<&'static Resource> {
        vec![&DEPLOYMENTS, &REPLICA_SETS, &PODS]
    }

    fn concerned(&self, context: &Context<'_>, change: &Change) -> Vec<Item> {
        match change.object.resource().kind {
            "Deployment" | "ReplicaSet" => ownership::concerned::<Deployment>(context, change),
            // Recreating waits for the old pods to be gone.
            _ if change.deleted => {
                let sets = ownership::controllers(change, &REPLICA_SETS);
                let set = |item: Item| {
                    context
                        .client
                        .find::<ReplicaSet>(&item.key.namespace, &item.key.name)
                };
                let owner = |set: Arc<ReplicaSet>| {
                    let owner = ownership::controller(&set.metadata)?;
                    let key = Key::new(set.namespace(), &owner.name);
                    Some(Item::new(&DEPLOYMENTS, key))
                };
                sets.into_iter().filter_map(set).filter_map(owner).collect()
            }
            _ => Vec::new(),
        }
    }

    fn reconcile(
        &mut self,
        context: &Context<'_>,
        item: &Item,
    ) -> Result<Option<Timestamp>, Status> {
        let Some(deployment) = context
            .client
            .find::<Deployment>(&item.key.namespace, &item.key.name)
        else {
            return Ok(None);
        };
        let mut sets = Sets::of(context, &deployment)?;
        if deployment.is_terminating() {
            return status::update(context, &deployment, &sets);
        }
        let paused = deployment.spec.paused == Some(true);
        if !paused && !has_rolling_scale(&deployment, &sets) {
            prepare_new(context, &deployment, &mut sets)?;
        }
        if has_rolling_scale(&deployment, &sets) {
            scale_all(context, &deployment, &sets)?;
        } else if !paused {
            advance(context, &deployment, &sets)?;
            clean_up(context, &deployment, &sets)?;
        }
        // What was just changed counts in the next look, to which the change itself leads.
        let deployment = context
            .client
            .find::<Deployment>(&item.key.namespace, &item.key.name);
        let Some(deployment) = deployment else {
            return Ok(None);
        };
        status::update(context, &deployment, &Sets::of(context, &deployment)?)
    }
}

/// Makes the ReplicaSet of the present template, or marks it as the newest revision.
fn prepare_new(
    context: &Context<'_>,
    deployment: &Deployment,
    sets: &mut Sets,
) -> Result<(), Status> {
    let last = sets.last_revision();
    let new = match &sets.new {
        Some(set) => {
            let revision = revision(&set.metadata).max(last + u64::from(!sets.old.is_empty()));
            let mut marked = ReplicaSet::clone(set);
            annotate(&mut marked, deployment, revision);
            marked.spec.min_ready_seconds = deployment.spec.min_ready_seconds;
            if marked == **set {
                Arc::clone(set)
            } else {
                context.client.update(&marked)?
            }
        }
        None if waits_for_old_pods(context, deployment, sets) => return Ok(()),
        None => create(context, deployment, sets, last + 1)?,
    };
    let current = revision(&new.metadata);
    if revision(&deployment.metadata) != current {
        let mut marked = deployment.clone();
        let annotations = marked.metadata.annotations.get_or_insert_default();
        annotations.insert(REVISION.to_owned(), current.to_string());
        context.client.update(&marked)?;
    }
    sets.new = Some(new);
    Ok(())
}

fn create(
    context: &Context<'_>,
    deployment: &Deployment,
    sets: &Sets,
    revision: u64,
) -> Result<Arc<ReplicaSet>, Status> {
    let size = match step(deployment, sets) {
        Step::ScaleNew(size) => size,
        Step::ScaleOld(_) | Step::Nothing => 0,
    };
    let created = context
        .client
        .create(&new_set(deployment, size, revision)?)?;
    tell_scaled(context, deployment, &created, 0, size);
    Ok(created)
}

/// Makes the next step of the rollout, or simply keeps the one set at its size.
fn advance(context: &Context<'_>, deployment: &Deployment, sets: &Sets) -> Result<(), Status> {
    match step(deployment, sets) {
        Step::Nothing => Ok(()),
        Step::ScaleNew(size) => match &sets.new {
            Some(new) => scale(context, deployment, new, size),
            None => Ok(()),
        },
        Step::ScaleOld(sizes) => {
            let mut changes = sets.old.iter().zip(sizes);
            changes.try_for_each(|(set, size)| scale(context, deployment, set, size))
        }
    }
}

fn step(deployment: &Deployment, sets: &Sets) -> Step {
    let wanted = deployment.spec.replicas.unwrap_or(1);
    if recreates(deployment) {
        let zero = vec![0; sets.old.len()];
        return match &sets.new {
            _ if sets.old.iter().any(|set| replicas(set) > 0) => Step::ScaleOld(zero),
            Some(new) if replicas(new) == wanted => Step::Nothing,
            _ => Step::ScaleNew(wanted),
        };
    }
    // A status may be older than the size: pods that are no longer wanted do not count.
    let seen = |set: &Arc<ReplicaSet>| {
        let available = set
            .status
            .as_ref()
            .and_then(|status| status.available_replicas);
        Set {
            replicas: replicas(set),
            available: available.unwrap_or(0).min(replicas(set)),
        }
    };
    let old: Vec<_> = sets.old.iter().map(seen).collect();
    let new = sets.new.as_ref().map(seen).unwrap_or_default();
    rollout::step(wanted, new, &old, limits(deployment))
}

/// Whether the wanted number changed in the middle of a rollout: then all sets grow or shrink with it.
fn has_rolling_scale(deployment: &Deployment, sets: &Sets) -> bool {
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let changed = sets
        .active()
        .any(|set| desired(set).is_some_and(|desired| desired != wanted));
    changed && (sets.active().count() > 1 || deployment.spec.paused == Some(true))
}

fn scale_all(context: &Context<'_>, deployment: &Deployment, sets: &Sets) -> Result<(), Status> {
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let active: Vec<_> = sets.active().collect();
    let sizes: Vec<_> = active.iter().map(|set| replicas(set)).collect();
    let surge = if active.len() > 1 && !recreates(deployment) {
        limits(deployment).surge
    } else {
        0
    };
    let total = if wanted == 0 { 0 } else { wanted + surge };
    let shares = rollout::proportionally(&sizes, total);
    let mut changes = active.into_iter().zip(shares);
    changes.try_for_each(|(set, size)| scale(context, deployment, set, size))
}

fn scale(
    context: &Context<'_>,
    deployment: &Deployment,
    set: &ReplicaSet,
    size: i32,
) -> Result<(), Status> {
    let mut scaled = set.clone();
    scaled.spec.replicas = Some(size);
    annotate(&mut scaled, deployment, revision(&set.metadata));
    if scaled == *set {
        return Ok(());
    }
    context.client.update(&scaled)?;
    tell_scaled(context, deployment, set, replicas(set), size);
    Ok(())
}

fn tell_scaled(
    context: &Context<'_>,
    deployment: &Deployment,
    set: &ReplicaSet,
    before: i32,
    after: i32,
) {
    let way = match before.cmp(&after) {
        std::cmp::Ordering::Less => "up",
        std::cmp::Ordering::Greater => "down",
        std::cmp::Ordering::Equal => return,
    };
    let message = format!(
        "Scaled {way} replica set {} from {before} to {after}",
        set.name()
    );
    context.tell(deployment, "ScalingReplicaSet", &message);
}

/// Deletes the oldest of the empty ReplicaSets that are kept for going back.
fn clean_up(context: &Context<'_>, deployment: &Deployment, sets: &Sets) -> Result<(), Status> {
    let kept = usize::try_from(deployment.spec.revision_history_limit.unwrap_or(10)).unwrap_or(0);
    let is_empty = |set: &&Arc<ReplicaSet>| {
        replicas(set) == 0
            && set
                .status
                .as_ref()
                .is_none_or(|status| status.replicas == 0)
    };
    let empty: Vec<_> = sets.old.iter().filter(is_empty).collect();
    let excess = empty.len().saturating_sub(kept);
    empty
        .into_iter()
        .take(excess)
        .try_for_each(|set| context.client.delete(&**set))
}

fn recreates(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.strategy.as_ref();
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
}

/// Recreating: the new pods begin when the last of the old ones is gone.
fn waits_for_old_pods(context: &Context<'_>, deployment: &Deployment, sets: &Sets) -> bool {
    let is_old = |pod: &Arc<Pod>| {
        let owner = ownership::controller(&pod.metadata);
        let old = sets
            .old
            .iter()
            .any(|set| owner.is_some_and(|owner| owner.uid == set.uid()));
        old && !pods::is_finished(pod)
    };
    let running = || {
        context
            .client
            .list::<Pod>(Some(deployment.namespace()))
            .iter()
            .any(is_old)
    };
    recreates(deployment) && (sets.old.iter().any(|set| replicas(set) > 0) || running())
}

fn limits(deployment: &Deployment) -> Limits {
    let strategy = deployment.spec.strategy.as_ref();
    let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
    let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref());
    let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
    Limits::new(deployment.spec.replicas.unwrap_or(1), surge, unavailable)
}
