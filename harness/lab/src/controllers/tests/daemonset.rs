//! Daemon sets.

use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::Pod};
use serde_json::json;

use super::{Cluster, template, workload};
use crate::apiserver::kinds::Kind as _;
use crate::controllers::pods;

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
