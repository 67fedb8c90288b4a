//! The part of a cluster that one run works in: its namespace, and how things get into it.

use std::time::Duration;

use futures_util::future::try_join_all;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, ListParams};
use serde_json::Value;

use crate::cluster::{Cluster, Facts};
use crate::kubernetes::{Applier, KubernetesError, documents};
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
        let applier = self.applier();
        let mut objects = Vec::new();
        for manifest in manifests {
            for mut object in documents(manifest.file, manifest.yaml)? {
                self.place(&mut object);
                applier.apply(object.clone()).await?;
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

    /// Applies one object that is made at run time, such as a secret.
    ///
    /// # Errors
    /// Where the API refuses it.
    pub async fn apply(&self, object: Value) -> Result<(), KubernetesError> {
        self.applier().apply(object).await
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

    fn applier(&self) -> Applier {
        Applier::new(self.client.clone(), &self.namespace, &self.run)
    }

    /// Puts this cluster's image and domain where a manifest has the ones that it is written with.
    fn place(&self, object: &mut Value) {
        match object {
            Value::Object(fields) => {
                for (key, value) in fields {
                    match (key.as_str(), value.as_str()) {
                        ("image", Some(MANIFEST_IMAGE)) => {
                            *value = Value::from(self.image.as_str());
                        }
                        ("externalName", Some(name)) => {
                            if let Some(name) = name.strip_suffix(MANIFEST_DOMAIN) {
                                *value = Value::from(format!("{name}{}", self.facts.domain));
                            }
                        }
                        _ => self.place(value),
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.place(item)),
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
            external_name: spec.external_name.clone(),
        },
    ))
}

fn pod_facts(pod: &Pod) -> Option<(String, PodFacts)> {
    let ip = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
    let node = pod.spec.as_ref()?.node_name.clone()?;
    Some((pod.metadata.name.clone()?, PodFacts { ip, node }))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref());
    conditions
        .unwrap_or_default()
        .iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
