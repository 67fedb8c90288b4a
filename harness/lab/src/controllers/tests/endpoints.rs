//! Endpoints and endpoint slices.

use k8s_openapi::api::{
    core::v1::{Endpoints, Pod},
    discovery::v1::EndpointSlice,
};
use serde_json::json;

use super::{Cluster, workload};

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
}

#[test]
fn endpoints_of_a_service_without_selector_are_mirrored_and_go_with_it() {
    let mut cluster = Cluster::new(&["a"]);
    let spec = json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80}]});
    cluster.create(
        "Service",
        json!({"metadata": {"name": "away"}, "spec": spec}),
    );
    let subset = json!({
        "addresses": [{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}, {"ip": "2001:db8::1"}],
        "notReadyAddresses": [{"ip": "192.0.2.3"}],
        "ports": [{"name": "http", "port": 8080}],
    });
    cluster.create(
        "Endpoints",
        json!({"metadata": {"name": "away"}, "subsets": [subset]}),
    );
    cluster.settle();
    let mut slices = cluster.list::<EndpointSlice>();
    slices.sort_by_key(|slice| slice.address_type.clone());
    let of = |slice: &EndpointSlice| {
        let endpoints = slice.endpoints.iter().flatten();
        let one = |endpoint: &k8s_openapi::api::discovery::v1::Endpoint| {
            let ready = endpoint.conditions.as_ref().and_then(|it| it.ready);
            (endpoint.addresses[0].clone(), ready.unwrap())
        };
        endpoints.map(one).collect::<Vec<_>>()
    };
    assert_eq!(slices.len(), 2);
    assert_eq!(
        of(&slices[0]),
        [
            ("192.0.2.1".to_owned(), true),
            ("192.0.2.2".to_owned(), true),
            ("192.0.2.3".to_owned(), false)
        ]
    );
    assert_eq!(of(&slices[1]), [("2001:db8::1".to_owned(), true)]);
    assert_eq!(slices[0].ports.as_ref().unwrap()[0].port, Some(8080));

    cluster.delete("Service", "away", None);
    cluster.settle();
    assert!(cluster.list::<EndpointSlice>().is_empty());
}
