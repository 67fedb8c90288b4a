//! What goes, and what goes with it: the garbage collector, namespaces, nodes, events.

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet},
    core::v1::{ConfigMap, Event, Namespace, Node, Pod, ServiceAccount},
};
use serde_json::json;

use super::{Cluster, template, workload};
use crate::apiserver::{kinds::Kind as _, registry, rest::Propagation};
use crate::controllers::{Context, ownership, pods};

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
