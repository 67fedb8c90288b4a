//! Deleting objects: at once, after a grace period, or once their finalizers are gone.

use std::{cmp::Ordering, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::DeleteOptions as SentOptions,
};
use serde_json::{Value, json};

use super::{Filter, Mode, Rest, now_in_seconds};
use crate::apiserver::{
    kinds::CONTENT_FINALIZER,
    object::{Key, Object},
    registry::Resource,
    status::Status,
};

pub(crate) const ORPHAN: &str = "orphan";
pub(crate) const FOREGROUND: &str = "foregroundDeletion";

/// The namespaces that a cluster cannot be without.
const PERMANENT: [&str; 3] = ["default", "kube-public", "kube-system"];

/// What becomes of the objects that the deleted one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
    /// They stay.
    Orphan,
}

/// How an object is to be deleted.
#[derive(Clone, Debug)]
pub(crate) struct DeleteOptions {
    pub(crate) grace_seconds: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    pub(crate) mode: Mode,
}

impl Default for DeleteOptions {
    fn default() -> Self {
        Self {
            grace_seconds: None,
            propagation: None,
            uid: None,
            resource_version: None,
            mode: Mode::Store,
        }
    }
}

impl TryFrom<SentOptions> for DeleteOptions {
    type Error = Status;

    fn try_from(sent: SentOptions) -> Result<Self, Status> {
        let propagation = match sent.propagation_policy.as_deref() {
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Orphan") => Some(Propagation::Orphan),
            None | Some("") => sent.orphan_dependents.map(|orphan| {
                if orphan {
                    Propagation::Orphan
                } else {
                    Propagation::Background
                }
            }),
            Some(other) => {
                return Err(Status::unprocessable(format!(
                    "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported \
                     value: \"{other}\": supported values: \"Background\", \"Foreground\", \
                     \"Orphan\""
                )));
            }
        };
        let preconditions = sent.preconditions.unwrap_or_default();
        let dry_run = sent.dry_run.iter().flatten().any(|stage| stage == "All");
        Ok(Self {
            grace_seconds: sent.grace_period_seconds,
            propagation,
            uid: preconditions.uid,
            resource_version: preconditions.resource_version,
            mode: if dry_run { Mode::DryRun } else { Mode::Store },
        })
    }
}

/// An object on which a deletion was begun.
#[derive(Debug)]
pub(crate) enum Deleted {
    /// It is gone.
    Now(Arc<Object>),
    /// It will go when its grace period is over or its finalizers are done.
    Later(Arc<Object>),
}

impl Rest {
    pub(crate) fn delete(
        &self,
        resource: &'static Resource,
        key: &Key,
        options: &DeleteOptions,
    ) -> Result<Deleted, Status> {
        if resource.kind == "Namespace" && PERMANENT.contains(&key.name.as_str()) {
            let why = "this namespace may not be deleted";
            return Err(Status::forbidden(resource, &key.name, why));
        }
        let _writing = self.write_lock();
        let current = self.get(resource, key)?;
        check_preconditions(&current, options)?;
        self.delete_locked(&current, options)
    }

    /// Deletes every object that matches; gives those that it began to delete.
    pub(crate) fn delete_collection(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
        filter: &Filter,
        options: &DeleteOptions,
    ) -> Result<Vec<Arc<Object>>, Status> {
        let _writing = self.write_lock();
        let objects = self.list(resource, namespace, filter).objects;
        objects
            .iter()
            .try_for_each(|object| self.delete_locked(object, options).map(drop))?;
        Ok(objects)
    }

    fn delete_locked(
        &self,
        current: &Arc<Object>,
        options: &DeleteOptions,
    ) -> Result<Deleted, Status> {
        let mut value = current.value().clone();
        add_finalizer(&mut value, options.propagation);
        let grace = grace_seconds(current, options);
        let kept = grace > 0 || has_finalizers(&value);
        if !kept {
            return match options.mode {
                Mode::DryRun => Ok(Deleted::Now(Arc::clone(current))),
                Mode::Store => {
                    let stale = |_raced| Status::stale(current.resource(), current.name());
                    self.store.remove(current).map(Deleted::Now).map_err(stale)
                }
            };
        }
        mark(&mut value, current, grace);
        self.store_update(current, value, options.mode)
            .map(Deleted::Later)
    }
}

fn check_preconditions(current: &Object, options: &DeleteOptions) -> Result<(), Status> {
    let version = current.version().to_string();
    let checks = [
        ("UID", &options.uid, current.uid()),
        (
            "ResourceVersion",
            &options.resource_version,
            version.as_str(),
        ),
    ];
    for (what, wanted, found) in checks {
        if let Some(wanted) = wanted.as_ref().filter(|wanted| *wanted != found) {
            let why = format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: \
                 {found}"
            );
            return Err(Status::conflict(current.resource(), current.name(), why));
        }
    }
    Ok(())
}

/// How long a pod may take to end. Everything else, and a pod that no kubelet runs, goes at once.
fn grace_seconds(object: &Object, options: &DeleteOptions) -> i64 {
    if object.resource().kind != "Pod" {
        return 0;
    }
    let pod = object.typed::<Pod>();
    let (spec, status) = (pod.spec.as_ref(), pod.status.as_ref());
    let bound = spec
        .and_then(|spec| spec.node_name.as_ref())
        .is_some_and(|node| !node.is_empty());
    let phase = status.and_then(|status| status.phase.as_deref());
    if !bound || matches!(phase, Some("Succeeded" | "Failed")) {
        return 0;
    }
    let own = spec
        .and_then(|spec| spec.termination_grace_period_seconds)
        .unwrap_or(30);
    options.grace_seconds.unwrap_or(own).max(0)
}

fn add_finalizer(value: &mut Value, propagation: Option<Propagation>) {
    let wanted = match propagation {
        None => return,
        Some(Propagation::Background) => None,
        Some(Propagation::Foreground) => Some(FOREGROUND),
        Some(Propagation::Orphan) => Some(ORPHAN),
    };
    let present = crate::apiserver::object::strings(value.pointer("/metadata/finalizers"));
    let others = present.filter(|finalizer| !matches!(*finalizer, ORPHAN | FOREGROUND));
    let finalizers: Vec<_> = others.chain(wanted).map(str::to_owned).collect();
    if finalizers.is_empty() {
        value["metadata"]
            .as_object_mut()
            .map(|metadata| metadata.remove("finalizers"));
    } else {
        value["metadata"]["finalizers"] = json!(finalizers);
    }
}

fn has_finalizers(value: &Value) -> bool {
    let of_content = value["kind"] == "Namespace"
        && crate::apiserver::object::strings(value.pointer("/spec/finalizers"))
            .any(|finalizer| finalizer == CONTENT_FINALIZER);
    of_content
        || crate::apiserver::object::strings(value.pointer("/metadata/finalizers"))
            .next()
            .is_some()
}

/// Notes when the object must be gone. A second deletion can only make that sooner.
fn mark(value: &mut Value, current: &Object, grace: i64) {
    let metadata = &mut value["metadata"];
    let before = metadata["deletionGracePeriodSeconds"].as_i64();
    if current.is_terminating() && before.unwrap_or(0).cmp(&grace) != Ordering::Greater {
        return;
    }
    let end = Timestamp::now().saturating_add(SignedDuration::from_secs(grace));
    metadata["deletionTimestamp"] = now_in_seconds(end.unwrap_or(Timestamp::MAX));
    metadata["deletionGracePeriodSeconds"] = grace.into();
    if let Some(generation) = metadata["generation"].as_u64() {
        metadata["generation"] = (generation + 1).into();
    }
    if value["kind"] == "Namespace" {
        value["status"]["phase"] = "Terminating".into();
    }
}
