//! Reading, writing, watching and deleting objects through the `kube` crate.

use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Namespace, Pod, Service},
};
use kube::{
    Api, Error, Resource, ResourceExt,
    api::{
        DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, ValidationDirective,
        WatchEvent, WatchParams,
    },
    core::Status,
    runtime::wait::{await_condition, conditions},
};
use serde_json::json;

use crate::cluster::{Cluster, soon};

fn config_map(name: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some([("key".to_owned(), value.to_owned())].into()),
        ..ConfigMap::default()
    }
}

fn status(error: Error) -> Status {
    match error {
        Error::Api(status) => *status,
        other => panic!("not an answer of the API: {other}"),
    }
}

#[tokio::test]
async fn objects_are_created_read_changed_and_deleted() {
    let cluster = Cluster::start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    let created = maps
        .create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    assert!(created.uid().is_some() && created.creation_timestamp().is_some());
    let again = maps
        .create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap_err();
    let again = status(again);
    assert_eq!((again.code, again.reason.as_str()), (409, "AlreadyExists"));
    assert_eq!(again.message, "configmaps \"a\" already exists");

    let mut changed = created.clone();
    changed.data = Some([("key".to_owned(), "2".to_owned())].into());
    maps.replace("a", &PostParams::default(), &changed)
        .await
        .unwrap();
    let stale = status(
        maps.replace("a", &PostParams::default(), &changed)
            .await
            .unwrap_err(),
    );
    assert_eq!((stale.code, stale.reason.as_str()), (409, "Conflict"));

    let listed = maps
        .list(&ListParams::default().fields("metadata.name=a"))
        .await
        .unwrap();
    assert_eq!(listed.items.len(), 1);
    assert_eq!(listed.items[0].data.as_ref().unwrap()["key"], "2");
    let partly = maps.get_metadata("a").await.unwrap();
    assert_eq!(partly.uid(), created.uid());
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let gone = status(maps.get("a").await.unwrap_err());
    assert_eq!(
        (gone.code, gone.message.as_str()),
        (404, "configmaps \"a\" not found")
    );
    cluster.stop().await;
}

#[tokio::test]
async fn server_side_apply_owns_drops_and_conflicts() {
    let cluster = Cluster::start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    let apply = |manager: &'static str, data: serde_json::Value| {
        let maps = maps.clone();
        async move {
            let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data});
            maps.patch("a", &PatchParams::apply(manager), &Patch::Apply(config))
                .await
        }
    };
    apply("one", json!({"a": "1", "b": "1"})).await.unwrap();
    let conflict = status(apply("two", json!({"a": "2"})).await.unwrap_err());
    assert_eq!((conflict.code, conflict.reason.as_str()), (409, "Conflict"));
    assert_eq!(
        conflict.message,
        "Apply failed with 1 conflict: conflict with \"one\" using v1: .data.a"
    );
    apply("two", json!({"c": "2"})).await.unwrap();
    let map = apply("one", json!({"a": "1"})).await.unwrap();
    let keys: Vec<_> = map.data.as_ref().unwrap().keys().collect();
    assert_eq!(keys, ["a", "c"]);
    let forced = PatchParams::apply("two").force();
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "2", "c": "2"}});
    let map = maps
        .patch("a", &forced, &Patch::Apply(config))
        .await
        .unwrap();
    assert_eq!(map.data.as_ref().unwrap()["a"], "2");
    cluster.stop().await;
}

#[tokio::test]
async fn every_kind_of_patch_changes_a_deployment() {
    let cluster = Cluster::start().await;
    let deployments: Api<Deployment> = Api::default_namespaced(cluster.client.clone());
    let deployment = crate::deploy::deployment("web", 1, "web:1", 80);
    deployments
        .create(&PostParams::default(), &deployment)
        .await
        .unwrap();
    let params = PatchParams::default();
    let replicas = |deployment: &Deployment| deployment.spec.replicas;

    let merge = Patch::Merge(json!({"spec": {"replicas": 2}}));
    assert_eq!(
        replicas(&deployments.patch("web", &params, &merge).await.unwrap()),
        Some(2)
    );
    let operations = json!([{"op": "replace", "path": "/spec/replicas", "value": 3}]);
    let json_patch: Patch<()> = Patch::Json(serde_json::from_value(operations).unwrap());
    assert_eq!(
        replicas(
            &deployments
                .patch("web", &params, &json_patch)
                .await
                .unwrap()
        ),
        Some(3)
    );
    let strategic = Patch::Strategic(json!({"spec": {"template": {"spec": {"containers": [
        {"name": "web", "env": [{"name": "A", "value": "1"}]},
    ]}}}}));
    let patched = deployments.patch("web", &params, &strategic).await.unwrap();
    let container = &patched.spec.template.spec.as_ref().unwrap().containers[0];
    assert_eq!(container.image.as_deref(), Some("web:1"));
    assert_eq!(container.env.as_ref().unwrap()[0].name, "A");

    let scale = deployments.get_scale("web").await.unwrap();
    assert_eq!(scale.spec.unwrap().replicas, Some(3));
    let to_one = Patch::Merge(json!({"spec": {"replicas": 1}}));
    deployments
        .patch_scale("web", &params, &to_one)
        .await
        .unwrap();
    assert_eq!(replicas(&deployments.get("web").await.unwrap()), Some(1));
    cluster.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_named_with_its_field() {
    let cluster = Cluster::start().await;
    let deployments: Api<Deployment> = Api::default_namespaced(cluster.client.clone());
    let apply = |config: serde_json::Value, params: PatchParams| {
        let deployments = deployments.clone();
        async move {
            status(
                deployments
                    .patch("web", &params, &Patch::Apply(config))
                    .await
                    .unwrap_err(),
            )
        }
    };
    let manifest = |spec: serde_json::Value| json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec});
    let params = PatchParams::apply("test");
    let wrong = apply(manifest(json!({"replicas": "two"})), params.clone()).await;
    assert_eq!((wrong.code, wrong.reason.as_str()), (400, "BadRequest"));
    assert_eq!(wrong.details.unwrap().causes[0].field, "spec.replicas");

    let empty = apply(manifest(json!({})), params.clone()).await;
    assert_eq!((empty.code, empty.reason.as_str()), (422, "Invalid"));
    let fields: Vec<_> = empty
        .details
        .unwrap()
        .causes
        .into_iter()
        .map(|it| it.field)
        .collect();
    assert!(fields.contains(&"spec.template".to_owned()), "{fields:?}");
    assert!(fields.contains(&"spec.selector".to_owned()), "{fields:?}");

    let strict = PatchParams {
        field_validation: Some(ValidationDirective::Strict),
        ..params
    };
    let unknown = apply(manifest(json!({"replicaz": 2})), strict).await;
    assert!(
        unknown.message.contains("unknown field \"spec.replicaz\""),
        "{}",
        unknown.message
    );

    let request = http::Request::post("/api/v1/namespaces/default/configmaps")
        .header("content-type", "application/yaml")
        .body(b"kind: ConfigMap\nmetadata: {name: [}\n".to_vec())
        .unwrap();
    let malformed = status(cluster.client.request_text(request).await.unwrap_err());
    assert_eq!(malformed.code, 400);
    assert!(
        malformed.message.contains("line 2"),
        "{}",
        malformed.message
    );
    cluster.stop().await;
}

#[tokio::test]
async fn a_watch_replays_and_follows_until_it_ends() {
    let cluster = Cluster::start().await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    let start = maps.list(&ListParams::default()).await.unwrap();
    let version = start.metadata.resource_version.unwrap();
    maps.create(&PostParams::default(), &config_map("a", "1"))
        .await
        .unwrap();
    let params = WatchParams::default().fields("metadata.name=a").timeout(2);
    let mut watch = maps.watch(&params, &version).await.unwrap().boxed();
    let added = soon(watch.try_next()).await.unwrap().unwrap();
    assert!(matches!(added, WatchEvent::Added(map) if map.name_any() == "a"));
    maps.create(&PostParams::default(), &config_map("b", "1"))
        .await
        .unwrap();
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let deleted = soon(watch.try_next()).await.unwrap().unwrap();
    assert!(matches!(deleted, WatchEvent::Deleted(map) if map.name_any() == "a"));
    assert!(soon(watch.try_next()).await.unwrap().is_none());

    let expired = maps
        .watch(&WatchParams::default(), "1")
        .await
        .unwrap()
        .boxed();
    let first = soon(expired.into_future()).await.0.unwrap().unwrap();
    assert!(
        matches!(first, WatchEvent::Added(_)),
        "the history reaches back to the start"
    );
    cluster.stop().await;
}

#[tokio::test]
async fn a_namespace_goes_with_all_that_is_in_it() {
    let cluster = Cluster::start().await;
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    let namespace: Namespace =
        serde_json::from_value(json!({"metadata": {"name": "team"}})).unwrap();
    namespaces
        .create(&PostParams::default(), &namespace)
        .await
        .unwrap();
    let deployments: Api<Deployment> = Api::namespaced(cluster.client.clone(), "team");
    let deployment = crate::deploy::deployment("web", 2, "web:1", 80);
    deployments
        .create(&PostParams::default(), &deployment)
        .await
        .unwrap();
    let available = await_condition(deployments, "web", conditions::is_deployment_completed());
    soon(available).await.unwrap();

    let uid = namespaces.get("team").await.unwrap().uid().unwrap();
    namespaces
        .delete("team", &DeleteParams::default())
        .await
        .unwrap();
    soon(await_condition(
        namespaces,
        "team",
        conditions::is_deleted(&uid),
    ))
    .await
    .unwrap();
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), "team");
    assert!(
        pods.list(&ListParams::default())
            .await
            .unwrap()
            .items
            .is_empty()
    );
    cluster.stop().await;
}

#[tokio::test]
async fn services_are_allocated_and_collections_deleted() {
    let cluster = Cluster::start().await;
    let services: Api<Service> = Api::default_namespaced(cluster.client.clone());
    for index in 0..3 {
        let service = json!({
            "metadata": {"name": format!("s{index}"), "labels": {"group": "test"}},
            "spec": {"type": "NodePort", "ports": [{"port": 80}]},
        });
        let service: Service = serde_json::from_value(service).unwrap();
        let created = services
            .create(&PostParams::default(), &service)
            .await
            .unwrap();
        let spec = created.spec.unwrap();
        assert!(spec.cluster_ip.unwrap().starts_with("10."));
        assert!(spec.ports.unwrap()[0].node_port.unwrap() >= 30_000);
    }
    let group = ListParams::default().labels("group=test");
    assert_eq!(services.list(&group).await.unwrap().items.len(), 3);
    services
        .delete_collection(&DeleteParams::default(), &group)
        .await
        .unwrap();
    assert!(services.list(&group).await.unwrap().items.is_empty());
    assert_eq!(
        services
            .get("kubernetes")
            .await
            .unwrap()
            .spec
            .unwrap()
            .cluster_ip
            .unwrap(),
        "10.96.0.1"
    );
    cluster.stop().await;
}

#[tokio::test]
async fn a_kind_that_is_not_served_does_not_exist() {
    use k8s_openapi::api::networking::v1::NetworkPolicy;
    let cluster = Cluster::start().await;
    let policies: Api<NetworkPolicy> = Api::default_namespaced(cluster.client.clone());
    let refused = status(policies.list(&ListParams::default()).await.unwrap_err());
    assert_eq!(
        refused.code,
        404,
        "an unenforced {} would be a lie",
        NetworkPolicy::kind(&())
    );
    cluster.stop().await;
}
