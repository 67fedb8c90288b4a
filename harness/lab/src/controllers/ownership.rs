//! Who controls an object, and which objects a workload's selector claims.

use std::sync::Arc;

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        batch::v1::Job,
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

use super::{Context, Item, pods};
use crate::apiserver::{
    kinds::Kind,
    object::{Key, Object},
    registry::Resource,
    selector::LabelSelector,
    status::Status,
    store::Change,
};

/// A kind that keeps pods, or what keeps them, by a selector.
pub(super) trait Selects: Kind {
    /// None, if the selector cannot be read.
    fn selector(&self) -> Option<LabelSelector>;
}

impl Selects for Deployment {
    fn selector(&self) -> Option<LabelSelector> {
        LabelSelector::try_from(&self.spec.selector).ok()
    }
}

impl Selects for ReplicaSet {
    fn selector(&self) -> Option<LabelSelector> {
        LabelSelector::try_from(&self.spec.selector).ok()
    }
}

impl Selects for StatefulSet {
    fn selector(&self) -> Option<LabelSelector> {
        LabelSelector::try_from(&self.spec.selector).ok()
    }
}

impl Selects for DaemonSet {
    fn selector(&self) -> Option<LabelSelector> {
        LabelSelector::try_from(&self.spec.selector).ok()
    }
}

impl Selects for Job {
    fn selector(&self) -> Option<LabelSelector> {
        LabelSelector::try_from(self.spec.as_ref()?.selector.as_ref()?).ok()
    }
}

/// The reference by which `owner` controls what it makes.
pub(super) fn reference<K: Kind>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::RESOURCE.api_version(),
        kind: K::RESOURCE.kind.to_owned(),
        name: owner.name().to_owned(),
        uid: owner.uid().to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

pub(super) fn controller(metadata: &ObjectMeta) -> Option<&OwnerReference> {
    metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))
}

pub(super) fn is_controlled_by<K: Kind>(metadata: &ObjectMeta, owner: &K) -> bool {
    controller(metadata).is_some_and(|reference| reference.uid == owner.uid())
}

/// The objects of `resource` that control the changed object, or did before the change.
pub(super) fn controllers(change: &Change, resource: &'static Resource) -> Vec<Item> {
    let owner = |object: &Object| {
        let owner = object.owner_references().find(|owner| {
            owner["controller"] == true
                && owner["kind"] == resource.kind
                && owner["apiVersion"] == resource.api_version()
        })?;
        let name = owner["name"].as_str()?;
        Some(Item::new(resource, Key::new(object.namespace(), name)))
    };
    let versions = [Some(&change.object), change.previous.as_ref()];
    versions
        .into_iter()
        .flatten()
        .filter_map(|object| owner(object))
        .collect()
}

/// The workloads of a kind that a change of one of them or of a dependent concerns: for a dependent those
/// that control it, and for one that nobody controls, those whose selector matches it.
pub(super) fn concerned<K: Selects>(context: &Context<'_>, change: &Change) -> Vec<Item> {
    let object = &change.object;
    if *object.resource() == *K::RESOURCE {
        return vec![Item::of(change)];
    }
    let owners = controllers(change, K::RESOURCE);
    let controlled = object
        .owner_references()
        .any(|owner| owner["controller"] == true);
    if !owners.is_empty() || controlled || change.deleted {
        return owners;
    }
    let all = context.client.list::<K>(Some(object.namespace()));
    let matches = |owner: &&Arc<K>| {
        owner
            .selector()
            .is_some_and(|it| !it.is_empty() && it.matches(&object.labels()))
    };
    let item = |owner: &Arc<K>| Item::new(K::RESOURCE, Key::new(owner.namespace(), owner.name()));
    all.iter().filter(matches).map(item).collect()
}

pub(super) fn claim_pods<K: Selects>(
    context: &Context<'_>,
    owner: &K,
) -> Result<Vec<Arc<Pod>>, Status> {
    claim(context, owner, pods::is_active)
}

/// The dependents of `owner`: those it controls, and matching ones that nobody does, which it adopts if
/// they are fit for it. One that it controls and that no longer matches is let go.
pub(super) fn claim<K: Selects, D: Kind>(
    context: &Context<'_>,
    owner: &K,
    is_fit: impl Fn(&D) -> bool,
) -> Result<Vec<Arc<D>>, Status> {
    let mut claimed = Vec::new();
    let Some(selector) = owner.selector() else {
        return Ok(claimed);
    };
    for dependent in context.client.list::<D>(Some(owner.namespace())) {
        let matches = selector.matches(&dependent.metadata().labels);
        match controller(dependent.metadata()) {
            Some(reference) if reference.uid != owner.uid() => {}
            Some(_) if matches => claimed.push(dependent),
            Some(_) => release(context, owner, &*dependent)?,
            None => {
                let free = !dependent.is_terminating() && !owner.is_terminating();
                if matches && free && is_fit(&dependent) {
                    claimed.push(adopt(context, owner, &*dependent)?);
                }
            }
        }
    }
    Ok(claimed)
}

fn adopt<K: Kind, D: Kind>(
    context: &Context<'_>,
    owner: &K,
    dependent: &D,
) -> Result<Arc<D>, Status> {
    let mut adopted = dependent.clone();
    adopted
        .metadata_mut()
        .owner_references
        .get_or_insert_default()
        .push(reference(owner));
    context.client.update(&adopted)
}

fn release<K: Kind, D: Kind>(
    context: &Context<'_>,
    owner: &K,
    dependent: &D,
) -> Result<(), Status> {
    let mut released = dependent.clone();
    if let Some(owners) = &mut released.metadata_mut().owner_references {
        owners.retain(|reference| reference.uid != owner.uid());
    }
    context.client.update(&released).map(drop)
}
