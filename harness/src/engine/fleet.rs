//! Laptops that are pods of Kubernetes Jobs: load from more machines than one, with Kubernetes to place it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::kubernetes::{KubernetesError, documents};
use crate::method::{Method, Vantage};
use crate::stage::Stage;

/// The Job of one method's laptops.
const MANIFEST: &str = include_str!("../../manifests/laptops.yaml");

/// The label of a method's laptops.
const LABEL: &str = "inroads.dev/laptops";

/// Longest time for laptops to come up.
const READY_LIMIT: Duration = Duration::from_secs(90);

/// Where the clients run, if not on the cluster's own laptops.
pub struct PodLaptops<'a> {
    /// How many for each method.
    pub count: usize,
    /// The cluster whose pods they are; the one that is measured, where there is none.
    pub cluster: Option<&'a dyn Cluster>,
}

impl PodLaptops<'_> {
    /// Where they are placed, for a run on `stage`. Another cluster's namespace is made, and what an earlier run
    /// left there is removed.
    ///
    /// # Errors
    /// Where the namespace cannot be had.
    pub(super) async fn stage(&self, stage: &Stage) -> Result<Stage, KubernetesError> {
        match self.cluster {
            // Another name than the run's: the other cluster may be the same one by another kubeconfig.
            Some(cluster) => {
                let namespace = format!("{}-laptops", stage.namespace);
                Stage::set(cluster, &namespace, &stage.run).await
            }
            None => Ok(stage.clone()),
        }
    }
}

/// Laptops that are pods.
pub struct Fleet {
    stage: Stage,
    count: usize,
}

impl Fleet {
    /// `count` laptops for each method, in pods of `stage`.
    pub(super) fn new(stage: Stage, count: usize) -> Self {
        Self { stage, count }
    }

    /// Where they are.
    pub(super) fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Brings up the laptops of `method` and returns the names of their pods.
    ///
    /// # Errors
    /// Where the API refuses them, or they do not come up.
    pub(super) async fn raise(&self, method: &dyn Method) -> Result<Vec<String>, KubernetesError> {
        if method.vantage() == Vantage::Pod {
            return Ok(Vec::new());
        }
        self.stage.apply(self.job(method)?).await?;
        let labels = format!("{LABEL}={}", method.id().as_label());
        self.stage
            .ready_pods(&labels, self.count, READY_LIMIT)
            .await
    }

    fn job(&self, method: &dyn Method) -> Result<Value, KubernetesError> {
        let name = method.id().as_label();
        let mut job = documents("laptops.yaml", MANIFEST)?.remove(0);
        let labels = json!({ LABEL: name });
        let set = |job: &mut Value, path: &str, value: Value| {
            if let Some(place) = job.pointer_mut(path) {
                *place = value;
            }
        };
        set(&mut job, "/metadata/name", json!(format!("laptops-{name}")));
        set(&mut job, "/spec/parallelism", json!(self.count));
        set(&mut job, "/spec/completions", json!(self.count));
        set(&mut job, "/spec/template/metadata/labels", labels.clone());
        const APART: &str = "/spec/template/spec/affinity/podAntiAffinity\
            /preferredDuringSchedulingIgnoredDuringExecution/0/podAffinityTerm/labelSelector/matchLabels";
        set(&mut job, APART, labels);
        if method.changes_laptop() {
            // For links, routes and /dev/net/tun, in the pod's own network.
            let rights = json!({ "privileged": true });
            set(
                &mut job,
                "/spec/template/spec/containers/1/securityContext",
                rights,
            );
        }
        // Older API servers refuse a field that they do not know.
        if is_at_least(&self.stage.facts.kubernetes, 1, 24) {
            job["spec"]["completionMode"] = json!("Indexed");
        }
        Ok(job)
    }
}

/// Whether a version such as `v1.29.3-gke.1` is this one or a later.
fn is_at_least(version: &str, major: u32, minor: u32) -> bool {
    let mut numbers = version
        .trim_start_matches('v')
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse::<u32>().unwrap_or(0));
    let has = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    has >= (major, minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(is_at_least("v1.24.0", 1, 24) && is_at_least("v1.31.2+k3s1", 1, 24));
        assert!(is_at_least("v2.0", 1, 24));
        assert!(!is_at_least("v1.20.2", 1, 24) && !is_at_least("unknown", 1, 24));
    }
}
