use serde_json::{Value, json};

use super::*;

fn node(name: &str, more: Value) -> Arc<Node> {
    let mut node = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    });
    json_patch::merge(&mut node, &more);
    Arc::new(serde_json::from_value(node).unwrap())
}

fn pod(name: &str, spec: Value) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": {
            "name": name, "namespace": "default", "labels": {"app": "web"},
            "ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "1", "controller": true},
            ],
        },
        "spec": {"containers": [{"name": "c"}]},
    });
    json_patch::merge(&mut pod["spec"], &spec);
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn cluster(nodes: &[Arc<Node>], pods: &[Arc<Pod>]) -> Cluster {
    Cluster::new(nodes.to_vec(), pods.to_vec())
}

fn two_nodes() -> [Arc<Node>; 2] {
    [node("a", json!({})), node("b", json!({}))]
}

#[test]
fn pods_of_one_owner_are_spread() {
    let mut placed = Vec::new();
    for index in 0..4 {
        let new = pod(&index.to_string(), json!({}));
        let node = choose(&new, &cluster(&two_nodes(), &placed)).unwrap();
        placed.push(pod(&index.to_string(), json!({"nodeName": node})));
    }
    let on: Vec<_> = placed.iter().map(|pod| pods::node(pod).unwrap()).collect();
    assert_eq!(on, ["a", "b", "a", "b"]);
}

#[test]
fn a_selector_and_taints_keep_pods_away() {
    let nodes = [
        node("a", json!({"metadata": {"labels": {"disk": "ssd"}}})),
        node(
            "b",
            json!({"spec": {"taints": [{"key": "gpu", "effect": "NoSchedule"}]}}),
        ),
        node("c", json!({"spec": {"unschedulable": true}})),
        node(
            "d",
            json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}}),
        ),
    ];
    let cluster = cluster(&nodes, &[]);
    assert_eq!(choose(&pod("p", json!({})), &cluster).unwrap(), "a");
    let wants = pod("p", json!({"nodeSelector": {"disk": "hdd"}}));
    assert_eq!(
        choose(&wants, &cluster).unwrap_err(),
        "0/4 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had \
         untolerated taint {gpu: }, 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }, \
         1 node(s) had untolerated taint {node.kubernetes.io/unschedulable: }."
    );
    let tolerates = json!({
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchFields": [
                {"key": "metadata.name", "operator": "In", "values": ["b"]},
            ]}],
        }}},
    });
    assert_eq!(choose(&pod("p", tolerates), &cluster).unwrap(), "b");
}

#[test]
fn required_anti_affinity_holds_both_ways() {
    let apart = json!({"affinity": {"podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [{
            "labelSelector": {"matchLabels": {"app": "web"}},
            "topologyKey": "kubernetes.io/hostname",
        }],
    }}});
    let mut on_a = apart.clone();
    on_a["nodeName"] = "a".into();
    let first = pod("first", on_a);
    let placed = cluster(&two_nodes(), &[Arc::clone(&first)]);
    assert_eq!(choose(&pod("second", apart.clone()), &placed).unwrap(), "b");
    assert_eq!(
        choose(&pod("without-terms", json!({})), &placed).unwrap(),
        "b"
    );
    let full = [first, pod("second", json!({"nodeName": "b"}))];
    let why = choose(&pod("third", apart), &cluster(&two_nodes(), &full)).unwrap_err();
    assert!(
        why.contains("2 node(s) didn't match pod anti-affinity rules"),
        "{why}"
    );
}

#[test]
fn requests_must_fit_into_what_is_left() {
    let nodes = [node(
        "a",
        json!({"status": {"allocatable": {"cpu": "2", "pods": "2"}}}),
    )];
    let wants =
        |cpu: &str| json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]});
    let mut placed = wants("1500m");
    placed["nodeName"] = "a".into();
    let half_full = cluster(&nodes, &[pod("first", placed)]);
    assert_eq!(choose(&pod("p", wants("500m")), &half_full).unwrap(), "a");
    let why = choose(&pod("p", wants("501m")), &half_full).unwrap_err();
    assert_eq!(why, "0/1 nodes are available: 1 Insufficient cpu.");
    let two = [
        pod("1", json!({"nodeName": "a"})),
        pod("2", json!({"nodeName": "a"})),
    ];
    let why = choose(&pod("p", json!({})), &cluster(&nodes, &two)).unwrap_err();
    assert_eq!(why, "0/1 nodes are available: 1 Too many pods.");
}

#[test]
fn preferences_outweigh_spreading() {
    let nodes = [
        node("a", json!({})),
        node("b", json!({"metadata": {"labels": {"disk": "ssd"}}})),
    ];
    let prefers = json!({"affinity": {"nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [{
            "weight": 10,
            "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]},
        }],
    }}});
    let crowded = [
        pod("1", json!({"nodeName": "b"})),
        pod("2", json!({"nodeName": "b"})),
    ];
    assert_eq!(
        choose(&pod("p", prefers), &cluster(&nodes, &crowded)).unwrap(),
        "b"
    );
}

#[test]
fn hard_topology_spread_is_kept() {
    let spread = json!({"topologySpreadConstraints": [{
        "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "web"}},
    }]});
    let zoned =
        |name: &str, zone: &str| node(name, json!({"metadata": {"labels": {"zone": zone}}}));
    let nodes = [zoned("a", "1"), zoned("b", "1"), zoned("c", "2")];
    let placed = [pod("1", json!({"nodeName": "a"}))];
    assert_eq!(
        choose(&pod("p", spread), &cluster(&nodes, &placed)).unwrap(),
        "c"
    );
}

#[test]
fn without_nodes_a_pod_waits() {
    let why = choose(&pod("p", json!({})), &cluster(&[], &[])).unwrap_err();
    assert_eq!(why, "no nodes available to schedule pods");
}
