//! Deploying, as the harness does it: apply, wait until ready, delete.

use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{Endpoints, Pod, Service},
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::wait::{await_condition, conditions},
};
use serde_json::json;

use crate::cluster::{Cluster, soon};

/// A Deployment and its labels, all named alike.
pub(crate) fn deployment(name: &str, replicas: i32, image: &str, port: u16) -> Deployment {
    serde_json::from_value(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [
                    {"name": name, "image": image, "ports": [{"name": "http", "containerPort": port}]},
                ]},
            },
        },
    }))
    .unwrap()
}

/// A ready pod behind a Service of the same name.
pub(crate) async fn pod_with_service(cluster: &Cluster, name: &str, port: u16) {
    cluster.ready().await;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client.clone());
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [
            {"name": "c", "image": "web:1", "ports": [{"name": "http", "containerPort": port}]},
        ]},
    }))
    .unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let services: Api<Service> = Api::default_namespaced(cluster.client.clone());
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "selector": {"app": name}, "ports": [{"name": "web", "port": 80, "targetPort": "http"}],
        },
    }))
    .unwrap();
    services
        .create(&PostParams::default(), &service)
        .await
        .unwrap();
    soon(await_condition(pods, name, conditions::is_pod_running()))
        .await
        .unwrap();
    let endpoints: Api<Endpoints> = Api::default_namespaced(cluster.client.clone());
    let has_address = |endpoints: Option<&Endpoints>| {
        let subsets = endpoints.and_then(|endpoints| endpoints.subsets.as_ref());
        subsets.is_some_and(|subsets| subsets.iter().any(|subset| subset.addresses.is_some()))
    };
    soon(await_condition(endpoints, name, has_address))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_deployment_is_applied_becomes_ready_rolls_over_and_goes() {
    let cluster = Cluster::start().await;
    let deployments: Api<Deployment> = Api::default_namespaced(cluster.client.clone());
    let params = PatchParams::apply("inroads").force();
    let apply = |image: &'static str| {
        let (deployments, params) = (deployments.clone(), params.clone());
        async move {
            let wanted = Patch::Apply(deployment("web", 3, image, 80));
            deployments.patch("web", &params, &wanted).await.unwrap();
            let complete = conditions::is_deployment_completed();
            soon(await_condition(deployments, "web", complete))
                .await
                .unwrap();
        }
    };
    apply("web:1").await;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client.clone());
    let images = || async {
        let listed = pods
            .list(&ListParams::default().labels("app=web"))
            .await
            .unwrap();
        let active = listed
            .into_iter()
            .filter(|it| it.metadata.deletion_timestamp.is_none());
        let image = |pod: Pod| pod.spec.unwrap().containers[0].image.clone().unwrap();
        active.map(image).collect::<Vec<_>>()
    };
    assert_eq!(images().await, ["web:1"; 3]);
    apply("web:2").await;
    assert_eq!(images().await, ["web:2"; 3]);

    deployments
        .delete("web", &DeleteParams::foreground())
        .await
        .unwrap();
    let gone = await_condition(deployments, "web", |it: Option<&Deployment>| it.is_none());
    soon(gone).await.unwrap();
    assert!(images().await.is_empty());
    cluster.stop().await;
}

#[tokio::test]
async fn a_job_completes() {
    let cluster = Cluster::start().await;
    let jobs: Api<Job> = Api::default_namespaced(cluster.client.clone());
    let job: Job = serde_json::from_value(json!({
        "metadata": {"name": "sum"},
        "spec": {"completions": 2, "template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "c", "image": "job:1"}],
        }}},
    }))
    .unwrap();
    cluster.ready().await;
    jobs.create(&PostParams::default(), &job).await.unwrap();
    soon(await_condition(jobs, "sum", conditions::is_job_completed()))
        .await
        .unwrap();
    cluster.stop().await;
}

#[tokio::test]
async fn a_deleted_pod_is_replaced_and_its_service_follows() {
    let cluster = Cluster::start().await;
    let deployments: Api<Deployment> = Api::default_namespaced(cluster.client.clone());
    deployments
        .create(&PostParams::default(), &deployment("web", 1, "web:1", 80))
        .await
        .unwrap();
    let complete = conditions::is_deployment_completed();
    soon(await_condition(deployments.clone(), "web", complete))
        .await
        .unwrap();
    let pods: Api<Pod> = Api::default_namespaced(cluster.client.clone());
    let first = pods
        .list(&ListParams::default())
        .await
        .unwrap()
        .items
        .remove(0);
    let (name, uid) = (first.name_any(), first.uid().unwrap());
    pods.delete(&first.name_any(), &DeleteParams::default())
        .await
        .unwrap();
    let gone = await_condition(pods.clone(), &name, conditions::is_deleted(&uid));
    soon(gone).await.unwrap();
    let complete = conditions::is_deployment_completed();
    soon(await_condition(deployments, "web", complete))
        .await
        .unwrap();
    let second = pods
        .list(&ListParams::default())
        .await
        .unwrap()
        .items
        .remove(0);
    assert_ne!(second.uid().unwrap(), uid);
    cluster.stop().await;
}
