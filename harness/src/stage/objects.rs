//! What is in the namespace, and having its pods replaced.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams};

use super::{Stage, is_ready};
use crate::clock::Stopwatch;
use crate::kubernetes::{self, KubernetesError, is_forbidden};

/// Every object of the namespace that stays what it is by itself, `Kind/name`.
pub type Inventory = BTreeSet<String>;

/// Longest time for others to be ready in the place of pods: what must come up where the last was waits until that is
/// gone, and a kubelet of 1.20 was seen to take 50 s for that.
const OTHERS_LIMIT: Duration = Duration::from_secs(120);

/// How often it is looked whether others have taken the place of pods.
const PAUSE: Duration = Duration::from_millis(100);

impl Stage {
    /// What is in the namespace now, of all kinds that this user may list.
    ///
    /// # Errors
    /// Where the API cannot be read.
    pub async fn inventory(&self) -> Result<Inventory, KubernetesError> {
        let mut all = Inventory::new();
        for resource in kubernetes::kinds() {
            let kind = &resource.kind;
            let api: Api<DynamicObject> =
                Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
            let listed = match api.list(&ListParams::default()).await {
                Err(error) if is_forbidden(&error) => continue,
                listed => {
                    listed.map_err(KubernetesError::call("listing", kind, &self.namespace))?
                }
            };
            let names = listed.items.into_iter().filter_map(|it| it.metadata.name);
            all.extend(names.map(|name| format!("{kind}/{name}")));
        }
        Ok(all)
    }

    /// The pods with these labels, and whether each holds a token of the API server's.
    ///
    /// # Errors
    /// Where the API cannot be read.
    pub async fn pods_with(&self, labels: &str) -> Result<Vec<(String, bool)>, KubernetesError> {
        let pods = self.live(labels).await?.into_iter();
        Ok(pods
            .filter_map(|pod| Some((pod.metadata.name.clone()?, has_token(&pod))))
            .collect())
    }

    /// Deletes the pods with these labels, as an update or a drained node does, and returns their names.
    ///
    /// # Errors
    /// Where the API refuses, or there are none.
    pub async fn delete_pods(&self, labels: &str) -> Result<BTreeSet<String>, KubernetesError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let names = names(&self.live(labels).await?);
        if names.is_empty() {
            return Err(KubernetesError::NotReady {
                what: format!("a pod with {labels}"),
                limit_s: 0,
                said: "there is none".to_owned(),
            });
        }
        for name in &names {
            let deleted = api.delete(name, &DeleteParams::default()).await;
            deleted.map_err(KubernetesError::call("deleting", "pod", name))?;
        }
        Ok(names)
    }

    /// Waits until as many others with these labels are ready as were deleted, and returns their names.
    ///
    /// # Errors
    /// Where the API cannot be read, or they are not ready in time.
    pub async fn others(
        &self,
        labels: &str,
        deleted: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>, KubernetesError> {
        let stopwatch = Stopwatch::start();
        loop {
            let mut live = self.live(labels).await?;
            live.retain(is_ready);
            let new: BTreeSet<String> = names(&live).difference(deleted).cloned().collect();
            if new.len() >= deleted.len() {
                return Ok(new);
            }
            if stopwatch.elapsed() > OTHERS_LIMIT {
                return Err(KubernetesError::NotReady {
                    what: format!("pods with {labels} in the place of {deleted:?}"),
                    limit_s: OTHERS_LIMIT.as_secs(),
                    said: format!("{} are there", new.len()),
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The pods with these labels that are not about to go.
    async fn live(&self, labels: &str) -> Result<Vec<Pod>, KubernetesError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let listed = api.list(&ListParams::default().labels(labels)).await;
        let listed = listed.map_err(KubernetesError::call("listing", "pods with", labels))?;
        let pods = listed.items.into_iter();
        Ok(pods
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .collect())
    }
}

fn names(pods: &[Pod]) -> BTreeSet<String> {
    pods.iter()
        .filter_map(|pod| pod.metadata.name.clone())
        .collect()
}

/// Whether a token of the API server's is mounted: by a volume of its own kind, or, before Kubernetes 1.21, by a
/// secret of its ServiceAccount's.
fn has_token(pod: &Pod) -> bool {
    const MOUNTED_AT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut mounts = containers.flat_map(|it| it.volume_mounts.iter().flatten());
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    let mut sources = volumes.flat_map(|it| {
        it.projected
            .iter()
            .flat_map(|it| it.sources.iter().flatten())
    });
    mounts.any(|mount| mount.mount_path == MOUNTED_AT)
        || sources.any(|source| source.service_account_token.is_some())
}
