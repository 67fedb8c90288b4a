//! The status of a Deployment: counts, and the conditions that `kubectl rollout status` and
//! `kubectl wait` look at.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    limits,
    sets::{Sets, replicas},
};
use crate::{
    apiserver::{kinds::Kind, status::Status},
    controllers::{Context, after},
};

const AVAILABLE: &str = "Available";
const PROGRESSING: &str = "Progressing";
/// The deadline that means "never".
const NO_DEADLINE: i32 = i32::MAX;

/// Writes the status; gives the time at which the rollout counts as stuck.
pub(super) fn update(
    context: &Context<'_>,
    deployment: &Deployment,
    sets: &Sets,
) -> Result<Option<Timestamp>, Status> {
    let before = deployment.status.clone().unwrap_or_default();
    let mut status = counts(deployment, sets);
    status.collision_count = before.collision_count;
    let conditions = [
        Some(available(deployment, &status)),
        progressing(context, deployment, sets, &before, &status),
    ];
    let conditions = conditions.into_iter().flatten();
    let dated = conditions.map(|condition| date(context, condition, &before));
    status.conditions = Some(dated.collect());

    let deadline = stuck_at(deployment, &status).filter(|at| *at > context.now);
    if status != before {
        let updated = Deployment {
            status: Some(status),
            ..deployment.clone()
        };
        context.client.update_status(&updated)?;
    }
    Ok(deadline)
}

fn counts(deployment: &Deployment, sets: &Sets) -> DeploymentStatus {
    let sum =
        |of: &dyn Fn(&ReplicaSet) -> Option<i32>| sets.all().filter_map(|set| of(set)).sum::<i32>();
    let status = |set: &ReplicaSet| set.status.clone().unwrap_or_default();
    let wanted: i32 = sets.all().map(|set| replicas(set)).sum();
    let available = sum(&|set| status(set).available_replicas);
    let some = |count: i32| Some(count).filter(|count| *count > 0);
    let updated = |set: &Arc<ReplicaSet>| set.status.clone().unwrap_or_default().replicas;
    DeploymentStatus {
        replicas: some(sum(&|set| Some(status(set).replicas))),
        updated_replicas: some(sets.new.as_ref().map_or(0, updated)),
        ready_replicas: some(sum(&|set| status(set).ready_replicas)),
        available_replicas: some(available),
        unavailable_replicas: some((wanted - available).max(0)),
        observed_generation: deployment.metadata.generation,
        ..DeploymentStatus::default()
    }
}

fn available(deployment: &Deployment, status: &DeploymentStatus) -> DeploymentCondition {
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let least = wanted - limits(deployment).unavailable;
    if status.available_replicas.unwrap_or(0) >= least {
        let message = "Deployment has minimum availability.";
        condition(
            AVAILABLE,
            "True",
            "MinimumReplicasAvailable",
            message.to_owned(),
        )
    } else {
        let message = "Deployment does not have minimum availability.";
        condition(
            AVAILABLE,
            "False",
            "MinimumReplicasUnavailable",
            message.to_owned(),
        )
    }
}

fn progressing(
    context: &Context<'_>,
    deployment: &Deployment,
    sets: &Sets,
    before: &DeploymentStatus,
    status: &DeploymentStatus,
) -> Option<DeploymentCondition> {
    let known = find(before, PROGRESSING);
    if deployment.spec.paused == Some(true) {
        let message = "Deployment is paused".to_owned();
        return Some(condition(
            PROGRESSING,
            "Unknown",
            "DeploymentPaused",
            message,
        ));
    }
    let Some(new) = &sets.new else {
        return known.cloned();
    };
    let name = new.name();
    if is_complete(deployment, status) {
        let message = format!("ReplicaSet \"{name}\" has successfully progressed.");
        return Some(condition(
            PROGRESSING,
            "True",
            "NewReplicaSetAvailable",
            message,
        ));
    }
    if has_moved(before, status) || known.is_none() {
        let begins = known.is_none() && before.replicas.is_none();
        let (reason, message) = if begins {
            (
                "NewReplicaSetCreated",
                format!("Created new replica set \"{name}\""),
            )
        } else {
            (
                "ReplicaSetUpdated",
                format!("ReplicaSet \"{name}\" is progressing."),
            )
        };
        let mut moved = condition(PROGRESSING, "True", reason, message);
        moved.last_update_time = Some(Time(context.now));
        return Some(moved);
    }
    let known = known?;
    if known.reason.as_deref() == Some("NewReplicaSetAvailable") {
        // A template that was complete has begun to change again.
        let message = format!("ReplicaSet \"{name}\" is progressing.");
        let mut moved = condition(PROGRESSING, "True", "ReplicaSetUpdated", message);
        moved.last_update_time = Some(Time(context.now));
        return Some(moved);
    }
    let late = deadline(deployment, known).is_some_and(|deadline| deadline <= context.now);
    if late {
        let message = format!("ReplicaSet \"{name}\" has timed out progressing.");
        return Some(condition(
            PROGRESSING,
            "False",
            "ProgressDeadlineExceeded",
            message,
        ));
    }
    Some(known.clone())
}

fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let is_wanted = |count: Option<i32>| count.unwrap_or(0) == wanted;
    is_wanted(status.updated_replicas)
        && is_wanted(status.replicas)
        && is_wanted(status.available_replicas)
}

fn has_moved(before: &DeploymentStatus, now: &DeploymentStatus) -> bool {
    let old = |status: &DeploymentStatus| {
        status.replicas.unwrap_or(0) - status.updated_replicas.unwrap_or(0)
    };
    now.updated_replicas > before.updated_replicas
        || old(now) < old(before)
        || now.ready_replicas > before.ready_replicas
        || now.available_replicas > before.available_replicas
}

/// When a rollout that does not move counts as stuck.
fn stuck_at(deployment: &Deployment, status: &DeploymentStatus) -> Option<Timestamp> {
    let known = find(status, PROGRESSING)?;
    let moves = matches!(
        known.reason.as_deref(),
        Some("NewReplicaSetCreated" | "ReplicaSetUpdated" | "FoundNewReplicaSet")
    );
    deadline(deployment, known).filter(|_| moves)
}

fn deadline(deployment: &Deployment, known: &DeploymentCondition) -> Option<Timestamp> {
    let seconds = deployment.spec.progress_deadline_seconds.unwrap_or(600);
    let since = known.last_update_time.as_ref()?.0;
    (seconds != NO_DEADLINE).then(|| after(since, i64::from(seconds)))
}

fn condition(ty: &str, status: &str, reason: &str, message: String) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(ty.to_owned()),
        status: Some(status.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message),
        ..DeploymentCondition::default()
    }
}

/// Keeps the times of a condition that did not change.
fn date(
    context: &Context<'_>,
    mut condition: DeploymentCondition,
    before: &DeploymentStatus,
) -> DeploymentCondition {
    let known = condition.type_.as_deref().and_then(|ty| find(before, ty));
    let same_status = known.filter(|known| known.status == condition.status);
    let same = same_status.filter(|known| known.reason == condition.reason);
    let now = || Some(Time(context.now));
    let since = same_status.and_then(|known| known.last_transition_time.clone());
    condition.last_transition_time = since.or_else(now);
    if condition.last_update_time.is_none() {
        let updated = same.and_then(|known| known.last_update_time.clone());
        condition.last_update_time = updated.or_else(now);
    }
    condition
}

fn find<'a>(status: &'a DeploymentStatus, ty: &str) -> Option<&'a DeploymentCondition> {
    status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_.as_deref() == Some(ty))
}
