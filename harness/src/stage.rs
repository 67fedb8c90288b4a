//! The part of a cluster that one run works in: its namespace, and how things get into it.

use std::time::Duration;

use futures_util::future::try_join_all;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::cluster::{Cluster, Facts};
use crate::kubernetes::{Applier, KubernetesError, documents, is_forbidden};
use crate::method::Manifest;
use crate::scenario::{PodFacts, ServiceFacts, Workload};

/// Longest time for a workload to become ready: image loading is over by then.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Longest time for the namespace to empty.
const DELETE_LIMIT: Duration = Duration::from_secs(120);

/// Longest time for the API server to say that it is there.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// The image that manifest files name for this very program.
const MANIFEST_IMAGE: &str = "inroads-agent";

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

    /// Applies manifests as they are, but for the namespace and the image, and waits until what they
    /// describe is ready.
    ///
    /// # Errors
    /// Where the API refuses an object or a workload does not become ready in time.
    pub async fn deploy(&self, manifests: &[Manifest]) -> Result<(), KubernetesError> {
        let applier = self.applier();
        let mut objects = Vec::new();
        for manifest in manifests {
            for object in documents(manifest.file, manifest.yaml)? {
                self.apply(object.clone()).await?;
                objects.push(object);
            }
        }
        try_join_all(
            objects
                .iter()
                .map(|object| applier.ready(object, READY_LIMIT)),
        )
        .await?;
        Ok(())
    }

    /// Applies one object, such as a secret that is made at run time; where it names the image of this program, the
    /// one that this cluster has takes its place.
    ///
    /// # Errors
    /// Where the API refuses it.
    pub async fn apply(&self, mut object: Value) -> Result<(), KubernetesError> {
        self.place_image(&mut object);
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
                self.place_image(&mut pod);
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

    fn applier(&self) -> Applier {
        Applier::new(self.client.clone(), &self.namespace, &self.run)
    }

    fn place_image(&self, object: &mut Value) {
        match object {
            Value::Object(fields) => {
                for (key, value) in fields {
                    if key == "image" && value == MANIFEST_IMAGE {
                        *value = Value::from(self.image.as_str());
                    } else {
                        self.place_image(value);
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.place_image(item)),
            _ => {}
        }
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
