//! Deployments and their replica sets.

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::Pod,
};
use serde_json::json;

use super::{Cluster, template, workload};
use crate::apiserver::kinds::Kind as _;
use crate::controllers::pods;

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
