//! The part of a cluster that one run works in: its namespace, and how things get into it.

mod grants;
mod objects;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::try_join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::cluster::{Cluster, ClusterError, Facts, Steps};
use crate::kubernetes::{Applier, KubernetesError, documents, is_forbidden};
use crate::method::Manifest;
use crate::run::Component;
use crate::scenario::{PodFacts, ServiceFacts, Workload};

pub use grants::{Grant, Right};
pub use objects::Inventory;

/// Longest time for a workload to become ready: image loading is over by then.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Longest time where nodes pull an image from a registry.
const PULL_LIMIT: Duration = Duration::from_secs(240);

/// Longest time for the namespace to empty.
const DELETE_LIMIT: Duration = Duration::from_secs(120);

/// Longest time for the API server to say that it is there.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// The image that manifest files name for this very program.
const MANIFEST_IMAGE: &str = "inroads-agent";

/// The cluster's domain, as names in manifest files end with it.
const MANIFEST_DOMAIN: &str = "cluster.local";

/// Where a run works in a cluster.
#[derive(Clone)]
pub struct Stage {
    /// A client with the rights to deploy.
    pub client: kube::Client,
    /// What is true of the cluster.
    pub facts: Facts,
    /// The run's namespace.
    pub namespace: String,
    /// The run's id.
    pub run: String,
    /// The image that holds this program.
    pub image: String,
    /// How many laptops each method connects.
    pub laptops: usize,
}

impl Stage {
    /// Makes the namespace and stands in it; what an earlier run left there is removed.
    ///
    /// # Errors
    /// [`KubernetesError::ForeignNamespace`] where it exists and is not ours.
    pub async fn set(
        cluster: &dyn Cluster,
        namespace: &str,
        run: &str,
    ) -> Result<Self, KubernetesError> {
        let stage = Self {
            client: cluster.client(),
            facts: cluster.facts().clone(),
            namespace: namespace.to_owned(),
            run: run.to_owned(),
            image: cluster.image().to_owned(),
            laptops: 1,
        };
        stage.applier().namespace(DELETE_LIMIT).await?;
        Ok(stage)
    }

    /// Applies manifests as they are, but for the namespace, the image and the cluster's domain, and waits
    /// until what they describe is ready.
    ///
    /// # Errors
    /// Where the API refuses an object or a workload does not become ready in time.
    pub async fn deploy(&self, manifests: &[Manifest]) -> Result<(), KubernetesError> {
        self.deploy_with(manifests, &[], READY_LIMIT).await
    }

    /// The same for a workload whose manifests may name images of other makers: the cluster is asked to supply
    /// them first. Returns what is in those images.
    ///
    /// # Errors
    /// As [`deploy`](Self::deploy), and where an image cannot be had: nothing is applied then.
    pub async fn deploy_workload(
        &self,
        cluster: &dyn Cluster,
        manifests: &[Manifest],
        progress: Steps<'_>,
    ) -> Result<Vec<Component>, ClusterError> {
        let mut supplies = Vec::new();
        for image in foreign_images(manifests)? {
            let supply = cluster.supply(&image, progress).await?;
            supplies.push((image, supply));
        }
        let limit = if supplies.iter().any(|(_, supply)| supply.pulled) {
            PULL_LIMIT
        } else {
            READY_LIMIT
        };
        let names: Vec<(&str, &str)> = supplies
            .iter()
            .map(|(image, supply)| (image.as_str(), supply.image.as_str()))
            .collect();
        self.deploy_with(manifests, &names, limit).await?;
        Ok(supplies
            .into_iter()
            .map(|(_, supply)| supply.component)
            .collect())
    }

    async fn deploy_with(
        &self,
        manifests: &[Manifest],
        supplied: &[(&str, &str)],
        limit: Duration,
    ) -> Result<(), KubernetesError> {
        let applier = self.applier();
        let mut names = self.own_image();
        names.extend(supplied.iter().copied());
        let mut objects = Vec::new();
        for manifest in manifests {
            for mut object in documents(manifest.file, manifest.yaml)? {
                place(&mut object, &names, &self.facts.domain);
                applier.apply(object.clone()).await?;
                objects.push(object);
            }
        }
        try_join_all(objects.iter().map(|object| applier.ready(object, limit))).await?;
        Ok(())
    }

    /// Applies one object, such as a secret that is made at run time; where it names the image of this program, the
    /// one that this cluster has takes its place.
    ///
    /// # Errors
    /// Where the API refuses it.
    pub async fn apply(&self, mut object: Value) -> Result<(), KubernetesError> {
        place(&mut object, &self.own_image(), &self.facts.domain);
        self.applier().apply(object).await
    }

    /// Asks the API server whether it would take the pods that manifests describe, without making any: policies on
    /// pods let a Deployment in and refuse its pods later. Who may not make pods is told nothing.
    ///
    /// # Errors
    /// Where it would not.
    pub async fn rehearse(&self, manifests: &[Manifest]) -> Result<(), KubernetesError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let dry_run = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        for manifest in manifests {
            let objects = documents(manifest.file, manifest.yaml)?;
            for (document, mut object) in objects.into_iter().enumerate() {
                let Some(template) = object.pointer_mut("/spec/template") else {
                    continue;
                };
                let mut pod = json!({ "metadata": { "generateName": "rehearsal-" } });
                pod["spec"] = template["spec"].take();
                place(&mut pod, &self.own_image(), &self.facts.domain);
                let pod: Pod =
                    serde_json::from_value(pod).map_err(|error| KubernetesError::Manifest {
                        file: manifest.file.to_owned(),
                        document,
                        reason: error.to_string(),
                    })?;
                match pods.create(&dry_run, &pod).await {
                    Err(error)
                        if is_forbidden(&error)
                            && error.to_string().contains("cannot create resource") => {}
                    other => drop(other.map_err(KubernetesError::call(
                        "rehearsing",
                        "pods of",
                        manifest.file,
                    ))?),
                }
            }
        }
        Ok(())
    }

    /// Changes the number of pods of a Deployment that was applied, and waits until they are ready.
    ///
    /// # Errors
    /// Where the API refuses, or they do not become ready in time.
    pub async fn scale(&self, deployment: &str, replicas: usize) -> Result<(), KubernetesError> {
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        let scaled = api.patch(deployment, &PatchParams::default(), &patch).await;
        scaled.map_err(KubernetesError::call("scaling", "deployment", deployment))?;
        let object = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": deployment } });
        self.applier().ready(&object, READY_LIMIT).await
    }

    /// Waits until `count` pods with these labels are ready, and returns their names.
    ///
    /// # Errors
    /// [`KubernetesError::NotReady`] after `limit`, with what the pods say.
    pub async fn ready_pods(
        &self,
        labels: &str,
        count: usize,
        limit: Duration,
    ) -> Result<Vec<String>, KubernetesError> {
        self.applier().ready_pods(labels, count, limit).await
    }

    /// What is in the namespace now, pods without an address left out.
    ///
    /// # Errors
    /// Where the API cannot be read.
    pub async fn observe(&self) -> Result<Workload, KubernetesError> {
        let all = ListParams::default();
        let services: Api<Service> = Api::namespaced(self.client.clone(), &self.namespace);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let failed = |kind: &str| KubernetesError::call("listing", kind, &self.namespace);
        let pods = pods.list(&all).await.map_err(failed("pods of"))?.items;
        let services = services
            .list(&all)
            .await
            .map_err(failed("services of"))?
            .items;
        Ok(Workload {
            namespace: self.namespace.clone(),
            domain: self.facts.domain.clone(),
            dns: Some(self.facts.dns),
            services: services
                .iter()
                .filter_map(|service| service_facts(service, &pods))
                .collect(),
            pods: pods.iter().filter_map(pod_facts).collect(),
            office: self.facts.office.clone(),
        })
    }

    /// Deletes the namespace with all that is in it, and what the run put outside of it.
    ///
    /// # Errors
    /// [`KubernetesError::NotGone`] where something holds it, [`KubernetesError::Silent`] where nobody answers.
    pub async fn strike(&self) -> Result<(), KubernetesError> {
        let answers = tokio::time::timeout(ANSWER_LIMIT, self.client.apiserver_version()).await;
        if !matches!(answers, Ok(Ok(_))) {
            return Err(KubernetesError::Silent {
                namespace: self.namespace.clone(),
            });
        }
        let applier = self.applier();
        let (outside, namespace) =
            tokio::join!(applier.delete_outside(), applier.clear(DELETE_LIMIT));
        outside?;
        namespace.map(drop)
    }

    /// What stands for the image of this program.
    fn own_image(&self) -> BTreeMap<&str, &str> {
        BTreeMap::from([(MANIFEST_IMAGE, self.image.as_str())])
    }

    fn applier(&self) -> Applier {
        Applier::new(self.client.clone(), &self.namespace, &self.run)
    }
}

/// Every image that manifests name, but for that of this program, each once.
fn foreign_images(manifests: &[Manifest]) -> Result<BTreeSet<String>, KubernetesError> {
    let mut found = BTreeSet::new();
    for manifest in manifests {
        for object in documents(manifest.file, manifest.yaml)? {
            collect_images(&object, &mut found);
        }
    }
    found.remove(MANIFEST_IMAGE);
    Ok(found)
}

fn collect_images(object: &Value, into: &mut BTreeSet<String>) {
    match object {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(image) if key == "image" => drop(into.insert(image.clone())),
                    other => collect_images(other, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_images(item, into)),
        _ => {}
    }
}

/// Puts what this cluster has where a manifest has what it is written with: for each image what `images` has for it,
/// and the cluster's own domain.
fn place(object: &mut Value, images: &BTreeMap<&str, &str>, domain: &str) {
    match object {
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), value) {
                    ("image", Value::String(image)) => {
                        if let Some(name) = images.get(image.as_str()) {
                            *image = (*name).to_owned();
                        }
                    }
                    ("externalName", Value::String(name)) => {
                        if let Some(name_in_domain) = name.strip_suffix(MANIFEST_DOMAIN) {
                            *name = format!("{name_in_domain}{domain}");
                        }
                    }
                    (_, other) => place(other, images, domain),
                }
            }
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| place(item, images, domain)),
        _ => {}
    }
}

fn service_facts(service: &Service, pods: &[Pod]) -> Option<(String, ServiceFacts)> {
    let spec = service.spec.as_ref()?;
    let ports = spec.ports.iter().flatten().map(|port| {
        let name = port.name.clone().unwrap_or_default();
        (name, u16::try_from(port.port).unwrap_or_default())
    });
    let selector = spec.selector.as_ref();
    let selected = |pod: &&Pod| {
        let labels = pod.metadata.labels.as_ref();
        selector.is_some_and(|wanted| {
            wanted
                .iter()
                .all(|(key, value)| labels.and_then(|l| l.get(key)) == Some(value))
        })
    };
    Some((
        service.metadata.name.clone()?,
        ServiceFacts {
            cluster_ip: spec.cluster_ip.as_ref().and_then(|ip| ip.parse().ok()),
            ports: ports.collect(),
            endpoints: pods
                .iter()
                .filter(selected)
                .filter(|pod| is_ready(pod))
                .filter_map(|pod| pod.metadata.name.clone())
                .collect(),
            external_name: spec.external_name.clone(),
        },
    ))
}

fn pod_facts(pod: &Pod) -> Option<(String, PodFacts)> {
    let ip = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
    let node = pod.spec.as_ref()?.node_name.clone()?;
    Some((pod.metadata.name.clone()?, PodFacts { ip, node }))
}

/// Whether a pod's containers are all ready.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref());
    conditions
        .unwrap_or_default()
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: Manifest = Manifest {
        file: "x.yaml",
        yaml: "kind: Pod\nspec:\n  containers:\n    - { name: a, image: inroads-agent }\n    - { name: b, image: \"redis:7.0\" }\n\
               ---\nkind: Pod\nspec:\n  initContainers: [{ name: c, image: \"redis:7.0\" }]\n",
    };

    #[test]
    fn images_of_other_makers_are_found_once() {
        let found = foreign_images(&[MANIFEST]).unwrap();
        assert_eq!(found, BTreeSet::from(["redis:7.0".to_owned()]));
    }

    #[test]
    fn an_image_is_replaced_wherever_it_is_named_and_others_stay() {
        let mut objects = documents(MANIFEST.file, MANIFEST.yaml).unwrap();
        let names = BTreeMap::from([("redis:7.0", "inroads-redis:run")]);
        objects
            .iter_mut()
            .for_each(|object| place(object, &names, "cluster.local"));
        let image = |object: usize, path: &str| objects[object].pointer(path).cloned();
        let expected = |name: &str| Some(Value::from(name));
        assert_eq!(
            image(0, "/spec/containers/0/image"),
            expected("inroads-agent")
        );
        assert_eq!(
            image(0, "/spec/containers/1/image"),
            expected("inroads-redis:run")
        );
        assert_eq!(
            image(1, "/spec/initContainers/0/image"),
            expected("inroads-redis:run")
        );
    }
}
