//! Who controls an object, and which objects a workload's selector claims.

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::Pod,
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

/// The workloads that may adopt a changed pod: those that control it, and for one that nobody controls,
/// those of `K` whose selector matches it.
pub(super) fn concerned_by_pod<K: Kind>(
    context: &Context<'_>,
    change: &Change,
    selector: impl Fn(&K) -> Option<LabelSelector>,
) -> Vec<Item> {
    let owners = controllers(change, K::RESOURCE);
    let pod = change.object.typed::<Pod>();
    if !owners.is_empty() || controller(&pod.metadata).is_some() || change.deleted {
        return owners;
    }
    let all = context.client.list::<K>(Some(change.object.namespace()));
    let matches = |owner: &&Arc<K>| {
        selector(owner).is_some_and(|it| !it.is_empty() && it.matches(&pod.metadata.labels))
    };
    let item = |owner: &Arc<K>| Item::new(K::RESOURCE, Key::new(owner.namespace(), owner.name()));
    all.iter().filter(matches).map(item).collect()
}

/// The pods of `owner`: those it controls, and matching ones that nobody does, which it adopts. One that
/// it controls and that no longer matches is let go.
pub(super) fn claim_pods<K: Kind>(
    context: &Context<'_>,
    owner: &K,
    selector: &LabelSelector,
) -> Result<Vec<Arc<Pod>>, Status> {
    let mut claimed = Vec::new();
    for pod in context.client.list::<Pod>(Some(owner.namespace())) {
        let matches = selector.matches(&pod.metadata.labels);
        match controller(&pod.metadata) {
            Some(reference) if reference.uid != owner.uid() => {}
            Some(_) if matches => claimed.push(pod),
            Some(_) => release(context, owner, &pod)?,
            None if matches && pods::is_active(&pod) && !owner.is_terminating() => {
                let mut adopted = Pod::clone(&pod);
                let owners = adopted.metadata.owner_references.get_or_insert_default();
                owners.push(reference(owner));
                claimed.push(context.client.update(&adopted)?);
            }
            None => {}
        }
    }
    Ok(claimed)
}

fn release<K: Kind>(context: &Context<'_>, owner: &K, pod: &Pod) -> Result<(), Status> {
    let mut released = pod.clone();
    if let Some(owners) = &mut released.metadata.owner_references {
        owners.retain(|reference| reference.uid != owner.uid());
    }
    context.client.update(&released).map(drop)
}
