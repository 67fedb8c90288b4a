//! The history of a StatefulSet's or DaemonSet's template, in ControllerRevisions.

use std::sync::Arc;

use k8s_openapi::{
    api::{apps::v1::ControllerRevision, core::v1::PodTemplateSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, runtime::RawExtension},
};
use serde_json::{Value, json};

use super::{Context, ownership};
use crate::apiserver::{kinds::Kind, status::Status, words};

/// By this label pods tell of which revision they are.
pub(super) const HASH_LABEL: &str = "controller-revision-hash";

/// The revisions of one owner, from the oldest to the newest.
pub(super) fn of<K: Kind>(context: &Context<'_>, owner: &K) -> Vec<Arc<ControllerRevision>> {
    let all = context
        .client
        .list::<ControllerRevision>(Some(owner.namespace()));
    let owned = all
        .into_iter()
        .filter(|it| ownership::is_controlled_by(&it.metadata, owner));
    let mut owned: Vec<_> = owned.collect();
    owned.sort_by_key(|revision| revision.revision);
    owned
}

/// The revision with the present template, which becomes the newest; it is made if there is none.
pub(super) fn current<K: Kind>(
    context: &Context<'_>,
    owner: &K,
    template: &PodTemplateSpec,
) -> Result<Arc<ControllerRevision>, Status> {
    let data = encode(template)?;
    let known = of(context, owner);
    let newest = known
        .iter()
        .filter_map(|revision| revision.revision)
        .max()
        .unwrap_or(0);
    if let Some(same) = known.iter().find(|revision| revision.data.0 == data) {
        if same.revision == Some(newest) {
            return Ok(Arc::clone(same));
        }
        let again = ControllerRevision {
            revision: Some(newest + 1),
            ..ControllerRevision::clone(same)
        };
        return context.client.update(&again);
    }
    let hash = words::hash(&data.to_string());
    let labels = template
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.labels.clone());
    let mut labels = labels.unwrap_or_default();
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    context.client.create(&ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", owner.name())),
            namespace: owner.metadata().namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![ownership::reference(owner)]),
            ..ObjectMeta::default()
        },
        data: RawExtension(data),
        revision: Some(newest + 1),
    })
}

/// The template that a revision keeps.
pub(super) fn template(revision: &ControllerRevision) -> Result<PodTemplateSpec, Status> {
    let mut template = revision.data.0["spec"]["template"].clone();
    template
        .as_object_mut()
        .map(|template| template.remove("$patch"));
    serde_json::from_value(template).map_err(|error| {
        Status::internal(format!(
            "decode the template of revision {}: {error}",
            revision.name()
        ))
    })
}

/// The hash in a revision's name.
pub(super) fn hash(revision: &ControllerRevision) -> String {
    let labels = revision.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(HASH_LABEL))
        .cloned()
        .unwrap_or_default()
}

/// Deletes the oldest revisions that no pod is of, beyond `limit`.
pub(super) fn clean_up<K: Kind>(
    context: &Context<'_>,
    owner: &K,
    limit: Option<i32>,
    is_live: impl Fn(&ControllerRevision) -> bool,
) -> Result<(), Status> {
    let kept = usize::try_from(limit.unwrap_or(10)).unwrap_or(0);
    let all = of(context, owner);
    let dead: Vec<_> = all.iter().filter(|revision| !is_live(revision)).collect();
    let excess = dead.len().saturating_sub(kept);
    dead.into_iter()
        .take(excess)
        .try_for_each(|revision| context.client.delete(&**revision))
}

/// In the form of a patch, as `kubectl rollout undo` applies it.
fn encode(template: &PodTemplateSpec) -> Result<Value, Status> {
    let mut template =
        serde_json::to_value(template).map_err(|error| Status::internal(error.to_string()))?;
    template["$patch"] = "replace".into();
    Ok(json!({"spec": {"template": template}}))
}
