//! The controllers together, against a kubelet that is a function: repeatable, without clock or threads.

mod daemonset;
mod deployment;
mod endpoints;
mod going;
mod job;
mod statefulset;

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Event, Pod};
use serde_json::{Value, json};

use super::*;
use crate::apiserver::{
    ServiceNetwork,
    kinds::Kind,
    object::Key,
    patch::Patch,
    registry,
    rest::{DeleteOptions, Part, Propagation, Target, WriteOptions},
};

/// A cluster whose time stands still until it is moved.
struct Cluster {
    rest: Arc<Rest>,
    controllers: Controllers,
    now: Timestamp,
    addresses: u8,
}

impl Cluster {
    fn new(nodes: &[&str]) -> Self {
        let rest = Arc::new(Rest::new(ServiceNetwork::default(), false));
        let controllers = Controllers::new(Arc::clone(&rest), "certificate".to_owned());
        let mut cluster = Self {
            rest,
            controllers,
            now: Timestamp::now(),
            addresses: 0,
        };
        cluster.create("Namespace", json!({"metadata": {"name": "default"}}));
        for name in nodes {
            cluster.create(
                "Node",
                json!({
                    "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
                    "status": {"conditions": [{"type": "Ready", "status": "True"}]},
                }),
            );
        }
        cluster.settle();
        cluster
    }

    fn create(&mut self, kind: &str, value: Value) {
        let resource = resource(kind);
        let namespace = match (resource.namespaced, value["metadata"]["namespace"].as_str()) {
            (false, _) => "",
            (true, namespace) => namespace.unwrap_or("default"),
        };
        let options = WriteOptions::trusted("test");
        self.rest
            .create(resource, namespace, value.clone(), &options)
            .unwrap();
    }

    fn patch(&mut self, kind: &str, name: &str, patch: Value) {
        let resource = resource(kind);
        let namespace = if resource.namespaced { "default" } else { "" };
        let target = Target {
            resource,
            key: Key::new(namespace, name),
            part: Part::Main,
        };
        self.rest
            .patch(
                &target,
                &Patch::Merge(patch),
                &WriteOptions::trusted("test"),
            )
            .unwrap();
    }

    fn delete(&mut self, kind: &str, name: &str, propagation: Option<Propagation>) {
        let resource = resource(kind);
        let namespace = if resource.namespaced { "default" } else { "" };
        let options = DeleteOptions {
            propagation,
            ..DeleteOptions::default()
        };
        self.rest
            .delete(resource, &Key::new(namespace, name), &options)
            .unwrap();
    }

    fn settle(&mut self) {
        self.controllers.settle(self.now);
    }

    fn pass(&mut self, seconds: i64) {
        self.now += SignedDuration::from_secs(seconds);
        self.settle();
    }

    /// What kubelets do: start what is bound, end what is deleted. One round.
    fn run_pods(&mut self) {
        for pod in self.list::<Pod>() {
            if pod.is_terminating() {
                let options = DeleteOptions {
                    grace_seconds: Some(0),
                    ..DeleteOptions::default()
                };
                let key = Key::new(pod.namespace(), pod.name());
                self.rest.delete(&registry::PODS, &key, &options).unwrap();
            } else if pods::node(&pod).is_some() && pods::phase(&pod) == "Pending" {
                self.addresses += 1;
                let address = format!("10.244.0.{}", self.addresses);
                self.set_status(&pod, json!({
                    "phase": "Running",
                    "podIP": address,
                    "conditions": [
                        {"type": "Ready", "status": "True", "lastTransitionTime": self.now.to_string()},
                    ],
                }));
            }
        }
        self.settle();
    }

    /// Rounds of kubelets and controllers until nothing changes any more.
    fn run(&mut self) {
        self.settle();
        for _ in 0..100 {
            let before = self.rest.store.version();
            self.run_pods();
            if self.rest.store.version() == before {
                return;
            }
        }
        panic!("the cluster never comes to rest");
    }

    fn set_status(&self, pod: &Pod, status: Value) {
        let key = Key::new(pod.namespace(), pod.name());
        let target = Target {
            resource: &registry::PODS,
            key,
            part: Part::Status,
        };
        let patch = Patch::Merge(json!({"status": status}));
        self.rest
            .patch(&target, &patch, &WriteOptions::trusted("kubelet"))
            .unwrap();
    }

    fn end_pods(&mut self, phase: &str) {
        for pod in self
            .list::<Pod>()
            .into_iter()
            .filter(|pod| pods::phase(pod) == "Running")
        {
            let ended = json!([{"name": "c", "state": {"terminated": {
                "exitCode": 0, "finishedAt": self.now.to_string(),
            }}}]);
            self.set_status(
                &pod,
                json!({"phase": phase, "conditions": [], "containerStatuses": ended}),
            );
        }
        self.settle();
    }

    fn find<K: Kind>(&self, name: &str) -> Option<Arc<K>> {
        let namespace = if K::RESOURCE.namespaced {
            "default"
        } else {
            ""
        };
        self.rest.client("test").find::<K>(namespace, name)
    }

    fn list<K: Kind>(&self) -> Vec<Arc<K>> {
        self.rest.client("test").list::<K>(None)
    }

    fn pod_names(&self) -> Vec<String> {
        self.list::<Pod>()
            .iter()
            .map(|pod| pod.name().to_owned())
            .collect()
    }

    fn images(&self) -> BTreeMap<String, usize> {
        let mut images = BTreeMap::new();
        for pod in self.list::<Pod>() {
            let image = pod.spec.as_ref().unwrap().containers[0]
                .image
                .clone()
                .unwrap();
            *images.entry(image).or_default() += 1;
        }
        images
    }

    fn reasons(&self) -> Vec<String> {
        self.list::<Event>()
            .iter()
            .filter_map(|event| event.reason.clone())
            .collect()
    }
}

fn resource(kind: &str) -> &'static Resource {
    registry::ALL
        .iter()
        .find(|resource| resource.kind == kind)
        .unwrap()
}

fn template(image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": image, "ports": [{"containerPort": 80, "name": "http"}]}]},
    })
}

fn workload(name: &str, image: &str, more: Value) -> Value {
    let mut workload = json!({
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "template": template(image)},
    });
    json_patch::merge(&mut workload["spec"], &more);
    workload
}
