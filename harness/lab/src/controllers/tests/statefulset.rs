//! Stateful sets.

use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::Pod, discovery::v1::EndpointSlice};
use serde_json::json;

use super::{Cluster, template, workload};
use crate::apiserver::kinds::Kind as _;
use crate::controllers::pods;

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
