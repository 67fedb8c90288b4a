//! The ReplicaSets of a Deployment: which there are, and what is noted on them.

use std::sync::Arc;

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{limits, recreates};
use crate::{
    apiserver::{kinds::Kind, status::Status, words},
    controllers::{Context, ownership},
};

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const HASH_LABEL: &str = "pod-template-hash";

pub(super) struct Sets {
    /// The one with the Deployment's own template.
    pub(super) new: Option<Arc<ReplicaSet>>,
    /// The others, from the oldest to the newest.
    pub(super) old: Vec<Arc<ReplicaSet>>,
}

impl Sets {
    /// Those that the Deployment controls, and those it adopts.
    pub(super) fn of(context: &Context<'_>, deployment: &Deployment) -> Result<Self, Status> {
        let mut owned = ownership::claim::<_, ReplicaSet>(context, deployment, |_| true)?;
        owned.retain(|set| !set.is_terminating());
        owned.sort_by_key(|set| {
            (
                revision(&set.metadata),
                set.metadata.creation_timestamp.clone(),
            )
        });
        let is_new = |set: &Arc<ReplicaSet>| {
            let template = set.spec.template.clone().unwrap_or_default();
            without_hash(template) == deployment.spec.template
        };
        let new = owned
            .iter()
            .position(is_new)
            .map(|index| owned.remove(index));
        Ok(Self { new, old: owned })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new)
    }

    pub(super) fn active(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.all().filter(|set| replicas(set) > 0)
    }

    /// The highest revision among the old ones.
    pub(super) fn last_revision(&self) -> u64 {
        self.old
            .iter()
            .map(|set| revision(&set.metadata))
            .max()
            .unwrap_or(0)
    }
}

/// A ReplicaSet of the Deployment's present template, yet to be created.
pub(super) fn new_set(
    deployment: &Deployment,
    size: i32,
    revision: u64,
) -> Result<ReplicaSet, Status> {
    let encoded = serde_json::to_string(&deployment.spec.template)
        .map_err(|error| Status::internal(error.to_string()))?;
    let hash = words::hash(&encoded);
    let mut template = deployment.spec.template.clone();
    let labels = template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default();
    labels.insert(HASH_LABEL.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector = deployment.spec.selector.clone();
    let selected = selector.match_labels.get_or_insert_default();
    selected.insert(HASH_LABEL.to_owned(), hash.clone());

    let mut set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.name())),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![ownership::reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(size),
            min_ready_seconds: deployment.spec.min_ready_seconds,
            selector,
            template: Some(template),
        },
        status: None,
    };
    annotate(&mut set, deployment, revision);
    Ok(set)
}

/// What a ReplicaSet notes of its Deployment.
pub(super) fn annotate(set: &mut ReplicaSet, deployment: &Deployment, revision: u64) {
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let surge = if recreates(deployment) {
        0
    } else {
        limits(deployment).surge
    };
    let annotations = set.metadata.annotations.get_or_insert_default();
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if key != LAST_APPLIED && key != REVISION {
            annotations.insert(key.clone(), value.clone());
        }
    }
    annotations.insert(REVISION.to_owned(), revision.to_string());
    annotations.insert(DESIRED.to_owned(), wanted.to_string());
    annotations.insert(MAXIMUM.to_owned(), (wanted + surge).to_string());
}

pub(super) fn revision(metadata: &ObjectMeta) -> u64 {
    let annotation = metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(REVISION));
    annotation.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// How many pods the Deployment wanted when it last touched the set.
pub(super) fn desired(set: &ReplicaSet) -> Option<i32> {
    set.metadata
        .annotations
        .as_ref()?
        .get(DESIRED)?
        .parse()
        .ok()
}

pub(super) fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(0)
}

fn without_hash(mut template: PodTemplateSpec) -> PodTemplateSpec {
    let labels = template
        .metadata
        .as_mut()
        .and_then(|metadata| metadata.labels.as_mut());
    labels.map(|labels| labels.remove(HASH_LABEL));
    template
}
