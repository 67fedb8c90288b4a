//! The controllers together, against a kubelet that is a function: repeatable, without clock or threads.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{
    apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
    batch::v1::Job,
    core::v1::{ConfigMap, Endpoints, Event, Namespace, Node, Pod, ServiceAccount},
    discovery::v1::EndpointSlice,
};
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

fn condition<'a>(deployment: &'a Deployment, ty: &str) -> (&'a str, &'a str) {
    let conditions = deployment
        .status
        .as_ref()
        .unwrap()
        .conditions
        .as_ref()
        .unwrap();
    let found = conditions
        .iter()
        .find(|it| it.type_.as_deref() == Some(ty))
        .unwrap();
    (
        found.status.as_deref().unwrap(),
        found.reason.as_deref().unwrap(),
    )
}

#[test]
fn a_deployment_becomes_pods_on_nodes_and_says_when_it_is_available() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.create(
        "Deployment",
        workload("web", "web:1", json!({"replicas": 3})),
    );
    cluster.settle();
    let deployment = cluster.find::<Deployment>("web").unwrap();
    assert_eq!(
        condition(&deployment, "Available"),
        ("False", "MinimumReplicasUnavailable")
    );
    assert_eq!(condition(&deployment, "Progressing").0, "True");
    assert_eq!(
        deployment.status.as_ref().unwrap().observed_generation,
        Some(1)
    );

    cluster.run();
    let deployment = cluster.find::<Deployment>("web").unwrap();
    assert_eq!(
        condition(&deployment, "Available"),
        ("True", "MinimumReplicasAvailable")
    );
    assert_eq!(
        condition(&deployment, "Progressing"),
        ("True", "NewReplicaSetAvailable")
    );
    let status = deployment.status.clone().unwrap();
    assert_eq!(
        (
            status.replicas,
            status.ready_replicas,
            status.updated_replicas
        ),
        (Some(3), Some(3), Some(3))
    );
    assert_eq!(status.unavailable_replicas, None);
    let revision =
        &deployment.metadata.annotations.as_ref().unwrap()["deployment.kubernetes.io/revision"];
    assert_eq!(revision, "1");
    let mut on: Vec<_> = cluster
        .list::<Pod>()
        .iter()
        .map(|pod| pods::node(pod).unwrap().to_owned())
        .collect();
    on.sort();
    on.dedup();
    assert_eq!(on, ["a", "b"]);
    for reason in ["ScalingReplicaSet", "SuccessfulCreate", "Scheduled"] {
        assert!(cluster.reasons().iter().any(|it| it == reason), "{reason}");
    }
}

#[test]
fn a_new_template_rolls_out_within_its_limits_and_can_be_undone() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.create(
        "Deployment",
        workload("web", "web:1", json!({"replicas": 4})),
    );
    cluster.run();
    cluster.patch(
        "Deployment",
        "web",
        json!({"spec": {"template": template("web:2")}}),
    );
    cluster.settle();
    // One more than wanted, one fewer available: 25% of four each.
    assert_eq!(cluster.images()["web:2"], 2);
    for _ in 0..20 {
        let available = cluster
            .list::<Pod>()
            .iter()
            .filter(|pod| pods::is_ready(pod) && pods::is_active(pod))
            .count();
        let active = cluster
            .list::<Pod>()
            .iter()
            .filter(|pod| pods::is_active(pod))
            .count();
        assert!(available >= 3, "{available} available");
        assert!(active <= 5, "{active} active");
        cluster.run_pods();
    }
    cluster.run();
    assert_eq!(cluster.images(), [("web:2".to_owned(), 4)].into());
    assert_eq!(cluster.list::<ReplicaSet>().len(), 2);

    cluster.patch(
        "Deployment",
        "web",
        json!({"spec": {"template": template("web:1")}}),
    );
    cluster.run();
    assert_eq!(cluster.images(), [("web:1".to_owned(), 4)].into());
    assert_eq!(cluster.list::<ReplicaSet>().len(), 2);
    let deployment = cluster.find::<Deployment>("web").unwrap();
    let annotations = deployment.metadata.annotations.as_ref().unwrap();
    assert_eq!(annotations["deployment.kubernetes.io/revision"], "3");
}

#[test]
fn recreating_waits_until_the_old_pods_are_gone() {
    let mut cluster = Cluster::new(&["a"]);
    let recreate = json!({"replicas": 2, "strategy": {"type": "Recreate"}});
    cluster.create("Deployment", workload("web", "web:1", recreate));
    cluster.run();
    cluster.patch(
        "Deployment",
        "web",
        json!({"spec": {"template": template("web:2")}}),
    );
    cluster.settle();
    assert_eq!(cluster.images(), [("web:1".to_owned(), 2)].into());
    assert!(cluster.list::<Pod>().iter().all(|pod| pod.is_terminating()));
    cluster.run();
    assert_eq!(cluster.images(), [("web:2".to_owned(), 2)].into());
}

#[test]
fn a_deployment_scales_up_and_down_and_replaces_what_is_deleted() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.create(
        "Deployment",
        workload("web", "web:1", json!({"replicas": 1})),
    );
    cluster.run();
    cluster.patch("Deployment", "web", json!({"spec": {"replicas": 5}}));
    cluster.run();
    assert_eq!(cluster.list::<Pod>().len(), 5);
    let victim = cluster.pod_names().remove(0);
    cluster.delete("Pod", &victim, None);
    cluster.run();
    assert_eq!(cluster.list::<Pod>().len(), 5);
    assert!(!cluster.pod_names().contains(&victim));
    cluster.patch("Deployment", "web", json!({"spec": {"replicas": 0}}));
    cluster.run();
    assert_eq!(cluster.list::<Pod>().len(), 0);
    let status = cluster
        .find::<Deployment>("web")
        .unwrap()
        .status
        .clone()
        .unwrap();
    assert_eq!(
        (status.replicas, status.observed_generation),
        (None, Some(3))
    );
}

#[test]
fn a_rollout_that_does_not_move_is_reported_after_its_deadline() {
    let mut cluster = Cluster::new(&[]);
    let impatient = json!({"progressDeadlineSeconds": 60});
    cluster.create("Deployment", workload("web", "web:1", impatient));
    cluster.settle();
    assert!(cluster.controllers.next_wake().is_some());
    cluster.pass(61);
    let deployment = cluster.find::<Deployment>("web").unwrap();
    assert_eq!(
        condition(&deployment, "Progressing"),
        ("False", "ProgressDeadlineExceeded")
    );
    let pod = &cluster.list::<Pod>()[0];
    let scheduled = &pod.status.as_ref().unwrap().conditions.as_ref().unwrap()[0];
    assert_eq!(
        (scheduled.type_.as_str(), scheduled.status.as_str()),
        ("PodScheduled", "False")
    );
    assert!(
        cluster
            .reasons()
            .iter()
            .any(|reason| reason == "FailedScheduling")
    );
    cluster.create(
        "Node",
        json!({
            "metadata": {"name": "late"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }),
    );
    cluster.run();
    let deployment = cluster.find::<Deployment>("web").unwrap();
    assert_eq!(condition(&deployment, "Available").0, "True");
}

#[test]
fn a_stateful_set_starts_in_order_with_names_that_stay() {
    let mut cluster = Cluster::new(&["a", "b"]);
    let headless =
        json!({"clusterIP": "None", "selector": {"app": "web"}, "ports": [{"port": 80}]});
    cluster.create(
        "Service",
        json!({"metadata": {"name": "db"}, "spec": headless}),
    );
    let set = json!({"replicas": 3, "serviceName": "db"});
    cluster.create("StatefulSet", workload("db", "db:1", set));
    cluster.settle();
    assert_eq!(cluster.pod_names(), ["db-0"]);
    cluster.run_pods();
    assert_eq!(cluster.pod_names(), ["db-0", "db-1"]);
    cluster.run();
    assert_eq!(cluster.pod_names(), ["db-0", "db-1", "db-2"]);
    let pod = cluster.find::<Pod>("db-1").unwrap();
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!(
        (spec.hostname.as_deref(), spec.subdomain.as_deref()),
        (Some("db-1"), Some("db"))
    );
    assert_eq!(
        pods::label(&pod, "statefulset.kubernetes.io/pod-name"),
        Some("db-1")
    );
    let slices = cluster.list::<EndpointSlice>();
    let hostnames: Vec<_> = slices
        .iter()
        .flat_map(|slice| slice.endpoints.iter().flatten())
        .filter_map(|endpoint| endpoint.hostname.clone())
        .collect();
    assert_eq!(hostnames, ["db-0", "db-1", "db-2"]);

    cluster.delete("Pod", "db-1", None);
    cluster.run();
    assert_eq!(cluster.pod_names(), ["db-0", "db-1", "db-2"]);
    let uid = cluster.find::<Pod>("db-1").unwrap().uid().to_owned();
    assert_ne!(uid, pod.uid());

    cluster.patch(
        "StatefulSet",
        "db",
        json!({"spec": {"template": template("db:2")}}),
    );
    cluster.run();
    assert_eq!(cluster.images(), [("db:2".to_owned(), 3)].into());
    let status = cluster
        .find::<StatefulSet>("db")
        .unwrap()
        .status
        .clone()
        .unwrap();
    assert_eq!(status.current_revision, status.update_revision);
    assert_eq!(
        (status.ready_replicas, status.updated_replicas),
        (Some(3), Some(3))
    );
    cluster.patch("StatefulSet", "db", json!({"spec": {"replicas": 1}}));
    cluster.run();
    assert_eq!(cluster.pod_names(), ["db-0"]);
}

#[test]
fn a_partition_holds_an_update_back() {
    let mut cluster = Cluster::new(&["a"]);
    let set = json!({"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": 2}}});
    cluster.create("StatefulSet", workload("db", "db:1", set));
    cluster.run();
    cluster.patch(
        "StatefulSet",
        "db",
        json!({"spec": {"template": template("db:2")}}),
    );
    cluster.run();
    assert_eq!(
        cluster.images(),
        [("db:1".to_owned(), 2), ("db:2".to_owned(), 1)].into()
    );
    cluster.delete("Pod", "db-0", None);
    cluster.run();
    assert_eq!(
        cluster.images(),
        [("db:1".to_owned(), 2), ("db:2".to_owned(), 1)].into()
    );
}

#[test]
fn a_daemon_set_has_one_pod_on_every_node_that_fits() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.create("DaemonSet", workload("agent", "agent:1", json!({})));
    cluster.run();
    let nodes = |cluster: &Cluster| {
        let pods = cluster.list::<Pod>();
        let mut nodes: Vec<_> = pods
            .iter()
            .map(|pod| pods::node(pod).unwrap().to_owned())
            .collect();
        nodes.sort();
        nodes
    };
    assert_eq!(nodes(&cluster), ["a", "b"]);
    cluster.create(
        "Node",
        json!({
            "metadata": {"name": "c"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }),
    );
    cluster.create(
        "Node",
        json!({
            "metadata": {"name": "tainted"},
            "spec": {"taints": [{"key": "x", "effect": "NoSchedule"}]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }),
    );
    cluster.run();
    assert_eq!(nodes(&cluster), ["a", "b", "c"]);
    cluster.patch(
        "DaemonSet",
        "agent",
        json!({"spec": {"template": template("agent:2")}}),
    );
    cluster.settle();
    assert_eq!(
        cluster
            .list::<Pod>()
            .iter()
            .filter(|pod| pod.is_terminating())
            .count(),
        1
    );
    cluster.run();
    assert_eq!(cluster.images(), [("agent:2".to_owned(), 3)].into());
    let status = cluster
        .find::<DaemonSet>("agent")
        .unwrap()
        .status
        .clone()
        .unwrap();
    assert_eq!(
        (status.desired_number_scheduled, status.number_ready),
        (3, 3)
    );
    assert_eq!(status.updated_number_scheduled, Some(3));
}

fn job(name: &str, more: Value) -> Value {
    let mut job = json!({"metadata": {"name": name}, "spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": "job:1"}],
    }}}});
    json_patch::merge(&mut job["spec"], &more);
    job
}

fn job_condition(cluster: &Cluster, name: &str) -> Option<(String, String)> {
    let job = cluster.find::<Job>(name).unwrap();
    let last = job.status.as_ref()?.conditions.as_ref()?.last()?.clone();
    Some((last.type_, last.reason.unwrap()))
}

#[test]
fn a_job_runs_its_pods_to_the_end() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.create(
        "Job",
        job("sum", json!({"completions": 3, "parallelism": 2})),
    );
    cluster.run();
    assert_eq!(cluster.list::<Pod>().len(), 2);
    cluster.end_pods("Succeeded");
    cluster.run();
    cluster.end_pods("Succeeded");
    let done = ("Complete".to_owned(), "CompletionsReached".to_owned());
    assert_eq!(job_condition(&cluster, "sum"), Some(done));
    assert_eq!(
        cluster
            .find::<Job>("sum")
            .unwrap()
            .status
            .as_ref()
            .unwrap()
            .succeeded,
        Some(3)
    );
    assert!(cluster.reasons().iter().any(|reason| reason == "Completed"));
}

#[test]
fn a_failing_job_is_tried_again_and_given_up() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.create("Job", job("bad", json!({"backoffLimit": 1})));
    cluster.run();
    cluster.end_pods("Failed");
    assert_eq!(cluster.list::<Pod>().len(), 1);
    cluster.pass(11);
    assert_eq!(cluster.list::<Pod>().len(), 2);
    cluster.run();
    cluster.end_pods("Failed");
    let given_up = ("Failed".to_owned(), "BackoffLimitExceeded".to_owned());
    assert_eq!(job_condition(&cluster, "bad"), Some(given_up));
}

#[test]
fn an_indexed_job_numbers_its_pods_and_goes_after_its_time() {
    let mut cluster = Cluster::new(&["a"]);
    let spec = json!({
        "completions": 2, "parallelism": 2, "completionMode": "Indexed", "ttlSecondsAfterFinished": 5,
    });
    cluster.create("Job", job("parts", spec));
    cluster.run();
    let mut indexes: Vec<_> = cluster
        .list::<Pod>()
        .iter()
        .map(|pod| {
            pod.metadata.annotations.as_ref().unwrap()["batch.kubernetes.io/job-completion-index"]
                .clone()
        })
        .collect();
    indexes.sort();
    assert_eq!(indexes, ["0", "1"]);
    cluster.end_pods("Succeeded");
    let status = cluster
        .find::<Job>("parts")
        .unwrap()
        .status
        .clone()
        .unwrap();
    assert_eq!(status.completed_indexes.as_deref(), Some("0,1"));
    cluster.pass(6);
    assert!(cluster.find::<Job>("parts").is_none());
    assert_eq!(cluster.list::<Pod>().len(), 0);
}

#[test]
fn endpoints_follow_readiness_and_named_ports() {
    let mut cluster = Cluster::new(&["a"]);
    let spec = json!({
        "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
    });
    cluster.create(
        "Service",
        json!({"metadata": {"name": "web"}, "spec": spec}),
    );
    cluster.create(
        "Deployment",
        workload("web", "web:1", json!({"replicas": 2})),
    );
    cluster.run();
    let addresses = |cluster: &Cluster| {
        let endpoints = cluster.find::<Endpoints>("web").unwrap();
        let subset = endpoints
            .subsets
            .clone()
            .unwrap_or_default()
            .pop()
            .unwrap_or_default();
        let count = |list: &Option<Vec<_>>| list.as_ref().map_or(0, Vec::len);
        (count(&subset.addresses), count(&subset.not_ready_addresses))
    };
    assert_eq!(addresses(&cluster), (2, 0));
    let pod = cluster.list::<Pod>().remove(0);
    cluster.set_status(
        &pod,
        json!({"conditions": [{"type": "Ready", "status": "False"}]}),
    );
    cluster.settle();
    assert_eq!(addresses(&cluster), (1, 1));
    let slice = cluster.list::<EndpointSlice>().remove(0);
    let mut ready: Vec<_> = slice
        .endpoints
        .iter()
        .flatten()
        .map(|endpoint| endpoint.conditions.as_ref().unwrap().ready.unwrap())
        .collect();
    ready.sort_unstable();
    assert_eq!(ready, [false, true]);
    assert_eq!(slice.ports.as_ref().unwrap()[0].port, Some(80));

    cluster.delete("Service", "web", None);
    cluster.settle();
    assert!(cluster.find::<Endpoints>("web").is_none());
    assert!(cluster.list::<EndpointSlice>().is_empty());
}

#[test]
fn endpoints_of_a_service_without_selector_are_left_alone() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.create(
        "Service",
        json!({"metadata": {"name": "ext"}, "spec": {"ports": [{"port": 80}]}}),
    );
    cluster.create(
        "Endpoints",
        json!({
            "metadata": {"name": "ext"},
            "subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}],
        }),
    );
    cluster.run();
    assert_eq!(
        cluster
            .find::<Endpoints>("ext")
            .unwrap()
            .subsets
            .as_ref()
            .unwrap()
            .len(),
        1
    );
    assert!(cluster.list::<EndpointSlice>().is_empty());
}

#[test]
fn the_owned_go_after_the_owner_before_it_or_stay() {
    let dependents = |cluster: &Cluster| {
        (
            cluster.list::<ReplicaSet>().len(),
            cluster.list::<Pod>().len(),
        )
    };
    let deployed = || {
        let mut cluster = Cluster::new(&["a"]);
        cluster.create(
            "Deployment",
            workload("web", "web:1", json!({"replicas": 2})),
        );
        cluster.run();
        cluster
    };
    let mut cluster = deployed();
    cluster.delete("Deployment", "web", None);
    cluster.run();
    assert_eq!(dependents(&cluster), (0, 0));

    let mut cluster = deployed();
    cluster.delete("Deployment", "web", Some(Propagation::Foreground));
    cluster.settle();
    assert!(cluster.find::<Deployment>("web").unwrap().is_terminating());
    cluster.run();
    assert!(cluster.find::<Deployment>("web").is_none());
    assert_eq!(dependents(&cluster), (0, 0));

    let mut cluster = deployed();
    cluster.delete("Deployment", "web", Some(Propagation::Orphan));
    cluster.run();
    assert!(cluster.find::<Deployment>("web").is_none());
    assert_eq!(dependents(&cluster), (1, 2));
    cluster.create(
        "Deployment",
        workload("web", "web:1", json!({"replicas": 2})),
    );
    cluster.run();
    assert_eq!(dependents(&cluster), (1, 2));
    let adopted = &cluster.list::<ReplicaSet>()[0];
    let owner = ownership::controller(&adopted.metadata).unwrap();
    assert_eq!(owner.uid, cluster.find::<Deployment>("web").unwrap().uid());
}

#[test]
fn a_namespace_is_furnished_and_goes_when_it_is_empty() {
    let mut cluster = Cluster::new(&["a"]);
    cluster.create("Namespace", json!({"metadata": {"name": "team"}}));
    cluster.settle();
    let client = cluster.rest.client("test");
    assert!(client.find::<ServiceAccount>("team", "default").is_some());
    let map = client
        .find::<ConfigMap>("team", "kube-root-ca.crt")
        .unwrap();
    assert_eq!(map.data.as_ref().unwrap()["ca.crt"], "certificate");
    let mut deployment = workload("web", "web:1", json!({"replicas": 2}));
    deployment["metadata"]["namespace"] = "team".into();
    cluster.create("Deployment", deployment);
    cluster.run();
    cluster.delete("Namespace", "team", None);
    cluster.settle();
    assert!(cluster.find::<Namespace>("team").unwrap().is_terminating());
    cluster.run();
    assert!(cluster.find::<Namespace>("team").is_none());
    for resource in registry::ALL.iter().filter(|resource| resource.namespaced) {
        assert!(
            cluster
                .rest
                .store
                .list(resource, Some("team"))
                .objects
                .is_empty()
        );
    }
}

#[test]
fn pods_of_a_lost_node_are_deleted_and_replaced() {
    let mut cluster = Cluster::new(&["a", "b"]);
    cluster.create(
        "Deployment",
        workload("web", "web:1", json!({"replicas": 2})),
    );
    cluster.run();
    cluster.delete("Node", "a", None);
    cluster.settle();
    assert!(cluster.find::<Node>("a").is_none());
    cluster.pass(41);
    cluster.run();
    let nodes: Vec<_> = cluster
        .list::<Pod>()
        .iter()
        .map(|pod| pods::node(pod).unwrap().to_owned())
        .collect();
    assert_eq!(nodes, ["b", "b"]);
}

#[test]
fn a_repeated_event_counts_and_an_old_one_is_forgotten() {
    let mut cluster = Cluster::new(&[]);
    cluster.create(
        "Pod",
        json!({"metadata": {"name": "p"}, "spec": template("web:1")["spec"]}),
    );
    cluster.settle();
    let pod = cluster.find::<Pod>("p").unwrap();
    let context = Context {
        client: cluster.rest.client("test"),
        now: cluster.now,
    };
    context.tell(&*pod, "Again", "and again");
    context.tell(&*pod, "Again", "and again");
    let events = cluster.list::<Event>();
    let again = events
        .iter()
        .find(|event| event.reason.as_deref() == Some("Again"))
        .unwrap();
    assert_eq!(again.count, Some(2));
    cluster.settle();
    cluster.pass(3601);
    assert!(cluster.list::<Event>().is_empty());
}
