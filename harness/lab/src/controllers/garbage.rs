//! Garbage: objects whose owners are gone, and pods whose node is.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::Value;

use super::{Context, Controller, Item, after, pods};
use crate::apiserver::{
    object::{Key, Object},
    patch::Patch,
    registry::{self, NODES, PODS, Resource},
    rest::{DeleteOptions, FOREGROUND, ORPHAN, Part, Propagation, Target, WriteOptions},
    status::Status,
    store::Change,
};

/// Deletes the dependents of deleted owners, before or after them, or lets them go: as the deletion says.
pub(super) struct Collector;

impl Controller for Collector {
    fn name(&self) -> &'static str {
        "garbage-collector"
    }

    fn follows(&self) -> Vec<&'static Resource> {
        registry::ALL.to_vec()
    }

    /// A dependent is looked at when it or its owner changes; an owner when it waits for dependents.
    fn concerned(&self, context: &Context<'_>, change: &Change) -> Vec<Item> {
        let object = &change.object;
        let mut items = Vec::new();
        if change.deleted {
            items.extend(dependents(context, object).iter().map(|it| item_of(it)));
            items.extend(
                owners(context, object)
                    .filter(|it| waits(it))
                    .map(|it| item_of(&it)),
            );
        } else if object.owner_references().next().is_some() || waits(object) {
            items.push(item_of(object));
        }
        items
    }

    fn reconcile(
        &mut self,
        context: &Context<'_>,
        item: &Item,
    ) -> Result<Option<Timestamp>, Status> {
        let Some(object) = find(context, item) else {
            return Ok(None);
        };
        if waits(&object) {
            finish(context, &object)?;
        } else if !object.is_terminating() {
            drop_if_orphaned(context, &object)?;
        }
        Ok(None)
    }
}

/// Deletes an object of which no owner is left; forgets owners that are gone where another is there.
fn drop_if_orphaned(context: &Context<'_>, object: &Object) -> Result<(), Status> {
    let references: Vec<_> = object.owner_references().collect();
    if references.is_empty() {
        return Ok(());
    }
    // A kind that is not served may have its owners elsewhere: they are taken to be there.
    let is_served = |reference: &Value| resource_of(reference).is_some();
    let is_there =
        |reference: &&&Value| !is_served(reference) || owner(context, object, reference).is_some();
    let kept: Vec<Value> = references
        .iter()
        .filter(is_there)
        .map(|it| (*it).clone())
        .collect();
    if kept.is_empty() {
        return context
            .client
            .delete_object(object, DeleteOptions::default());
    }
    if kept.len() < references.len() {
        return set_owners(context, object, kept);
    }
    Ok(())
}

/// What a deletion with `orphan` or `foregroundDeletion` still has to do.
fn finish(context: &Context<'_>, owner: &Object) -> Result<(), Status> {
    let dependents = dependents(context, owner);
    if owner.finalizers().any(|finalizer| finalizer == ORPHAN) {
        for dependent in &dependents {
            let others = dependent
                .owner_references()
                .filter(|it| it["uid"] != owner.uid());
            set_owners(context, dependent, others.cloned().collect())?;
        }
        return remove_finalizer(context, owner, ORPHAN);
    }
    let blocks = |dependent: &&Arc<Object>| {
        let mut references = dependent
            .owner_references()
            .filter(|it| it["uid"] == owner.uid());
        references.any(|reference| reference["blockOwnerDeletion"] == true)
    };
    for dependent in dependents
        .iter()
        .filter(|dependent| !dependent.is_terminating())
    {
        let propagation = Some(Propagation::Foreground);
        let options = DeleteOptions {
            propagation,
            ..DeleteOptions::default()
        };
        context.client.delete_object(dependent, options)?;
    }
    let left = self::dependents(context, owner);
    if left.iter().any(|dependent| blocks(&dependent)) {
        return Ok(());
    }
    remove_finalizer(context, owner, FOREGROUND)
}

/// Whether the object is deleted but waits for its dependents.
fn waits(object: &Object) -> bool {
    object.is_terminating()
        && object
            .finalizers()
            .any(|finalizer| matches!(finalizer, ORPHAN | FOREGROUND))
}

/// The objects that name `owner` as one of theirs. An owner in a namespace owns nothing outside of it.
fn dependents(context: &Context<'_>, owner: &Object) -> Vec<Arc<Object>> {
    let uid = owner.uid();
    let namespace = Some(owner.namespace()).filter(|namespace| !namespace.is_empty());
    let resources = registry::ALL
        .iter()
        .filter(|it| namespace.is_none() || it.namespaced);
    let all = resources.flat_map(|it| context.client.rest.store.list(it, namespace).objects);
    all.filter(|object| object.owner_references().any(|it| it["uid"] == uid))
        .collect()
}

fn owners<'a>(
    context: &'a Context<'_>,
    object: &'a Object,
) -> impl Iterator<Item = Arc<Object>> + 'a {
    object
        .owner_references()
        .filter_map(|reference| owner(context, object, reference))
}

/// The very object that a reference means, not another of its name.
fn owner(context: &Context<'_>, of: &Object, reference: &Value) -> Option<Arc<Object>> {
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    let resource = resource_of(reference)?;
    let namespace = if resource.namespaced {
        of.namespace()
    } else {
        ""
    };
    let found = context
        .client
        .rest
        .store
        .find(resource, &Key::new(namespace, text("name")))?;
    (found.uid() == text("uid")).then_some(found)
}

fn resource_of(reference: &Value) -> Option<&'static Resource> {
    registry::of_kind(
        reference["apiVersion"].as_str()?,
        reference["kind"].as_str()?,
    )
}

fn set_owners(context: &Context<'_>, object: &Object, owners: Vec<Value>) -> Result<(), Status> {
    let owners = if owners.is_empty() {
        Value::Null
    } else {
        Value::Array(owners)
    };
    change_metadata(context, object, "ownerReferences", owners)
}

fn remove_finalizer(context: &Context<'_>, object: &Object, done: &str) -> Result<(), Status> {
    let left: Vec<_> = object
        .finalizers()
        .filter(|finalizer| *finalizer != done)
        .collect();
    let left = if left.is_empty() {
        Value::Null
    } else {
        left.into()
    };
    change_metadata(context, object, "finalizers", left)
}

fn change_metadata(
    context: &Context<'_>,
    object: &Object,
    field: &str,
    value: Value,
) -> Result<(), Status> {
    let target = Target {
        resource: object.resource(),
        key: object.key(),
        part: Part::Main,
    };
    let version = object.version().to_string();
    let patch = serde_json::json!({"metadata": {field: value, "resourceVersion": version}});
    let options = WriteOptions::trusted(context.client.manager());
    match context
        .client
        .rest
        .patch(&target, &Patch::Merge(patch), &options)
    {
        Err(status) if !status.is_not_found() => Err(status),
        _ => Ok(()),
    }
}

fn find(context: &Context<'_>, item: &Item) -> Option<Arc<Object>> {
    let resource = registry::ALL
        .iter()
        .find(|resource| resource.plural == item.plural)?;
    context.client.rest.store.find(resource, &item.key)
}

fn item_of(object: &Object) -> Item {
    Item::new(object.resource(), object.key())
}

/// How long a pod may be bound to a node that is not there: it may only be late.
const LOST_AFTER_SECONDS: i64 = 40;

/// Deletes pods that are bound to a node that is not there: nobody else could end them.
#[derive(Default)]
pub(super) struct LostPods {
    missed_since: BTreeMap<Key, Timestamp>,
}

impl Controller for LostPods {
    fn name(&self) -> &'static str {
        "pod-garbage-collector"
    }

    fn follows(&self) -> Vec<&'static Resource> {
        vec![&NODES, &PODS]
    }

    fn concerned(&self, context: &Context<'_>, change: &Change) -> Vec<Item> {
        match change.object.resource().kind {
            "Node" if change.deleted => {
                let all = context.client.rest.store.list(&PODS, None).objects;
                let node = change.object.name();
                let on_it = all
                    .iter()
                    .filter(|pod| pods::node(&pod.typed::<Pod>()) == Some(node));
                on_it.map(|pod| item_of(pod)).collect()
            }
            "Pod" if !change.deleted => vec![Item::of(change)],
            _ => Vec::new(),
        }
    }

    fn reconcile(
        &mut self,
        context: &Context<'_>,
        item: &Item,
    ) -> Result<Option<Timestamp>, Status> {
        let client = &context.client;
        let missing = |node: &str| client.find::<Node>("", node).is_none();
        let pod = client.find::<Pod>(&item.key.namespace, &item.key.name);
        let Some(pod) = pod.filter(|pod| pods::node(pod).is_some_and(missing)) else {
            self.missed_since.remove(&item.key);
            return Ok(None);
        };
        let since = *self
            .missed_since
            .entry(item.key.clone())
            .or_insert(context.now);
        let end = after(since, LOST_AFTER_SECONDS);
        if context.now < end {
            return Ok(Some(end));
        }
        let at_once = DeleteOptions {
            grace_seconds: Some(0),
            ..DeleteOptions::default()
        };
        client.delete_with(&*pod, at_once).map(|()| None)
    }
}
