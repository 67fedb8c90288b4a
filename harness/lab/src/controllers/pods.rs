//! What controllers ask about pods, and how they make them.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{Pod, PodCondition, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

use super::Context;
use crate::apiserver::{kinds::Kind, status::Status};

/// Whether its kubelet says that it can serve.
pub(super) fn is_ready(pod: &Pod) -> bool {
    ready_condition(pod).is_some_and(|condition| condition.status == "True")
}

/// Whether it has ended for good.
pub(super) fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

/// Whether it counts as one of its owner's pods.
pub(super) fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !pod.is_terminating()
}

pub(super) fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

pub(super) fn node(pod: &Pod) -> Option<&str> {
    let node = pod.spec.as_ref()?.node_name.as_deref()?;
    (!node.is_empty()).then_some(node)
}

pub(super) fn label<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

/// When a ready pod has been so for long enough to count on it; it need not have come yet.
pub(super) fn available_at(pod: &Pod, min_ready_seconds: i32) -> Option<Timestamp> {
    let ready = ready_condition(pod).filter(|condition| condition.status == "True")?;
    if min_ready_seconds == 0 {
        return Some(Timestamp::MIN);
    }
    let since = ready.last_transition_time.as_ref()?.0;
    since
        .saturating_add(SignedDuration::from_secs(i64::from(min_ready_seconds)))
        .ok()
}

pub(super) fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    available_at(pod, min_ready_seconds).is_some_and(|at| at <= now)
}

/// When the next of `pods` becomes available by nothing but the passing of time.
pub(super) fn next_available<'a>(
    pods: impl IntoIterator<Item = &'a Pod>,
    min_ready_seconds: i32,
    now: Timestamp,
) -> Option<Timestamp> {
    let times = pods
        .into_iter()
        .filter_map(|pod| available_at(pod, min_ready_seconds));
    times.filter(|at| *at > now).min()
}

/// A pod made from a template, for `owner`.
pub(super) fn from_template(
    template: &PodTemplateSpec,
    namespace: &str,
    owner: OwnerReference,
) -> Pod {
    let metadata = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            labels: metadata.labels,
            annotations: metadata.annotations,
            finalizers: metadata.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// Makes a pod for `owner`, and tells of it there.
pub(super) fn create<K: Kind>(context: &Context<'_>, owner: &K, pod: &Pod) -> Result<(), Status> {
    match context.client.create(pod) {
        Ok(pod) => {
            context.tell(
                owner,
                "SuccessfulCreate",
                &format!("Created pod: {}", pod.name()),
            );
            Ok(())
        }
        Err(status) => {
            // A namespace that goes takes its workloads along: nothing to be told about.
            if !status.is_terminating_namespace() {
                context.warn(owner, "FailedCreate", &format!("Error creating: {status}"));
            }
            Err(status)
        }
    }
}

/// Deletes a pod of `owner`, and tells of it there.
pub(super) fn delete<K: Kind>(context: &Context<'_>, owner: &K, pod: &Pod) -> Result<(), Status> {
    context.client.delete(pod)?;
    context.tell(
        owner,
        "SuccessfulDelete",
        &format!("Deleted pod: {}", pod.name()),
    );
    Ok(())
}

fn ready_condition(pod: &Pod) -> Option<&PodCondition> {
    let mut conditions = pod.status.as_ref()?.conditions.iter().flatten();
    conditions.find(|condition| condition.type_ == "Ready")
}
