//! What goes through the API server: logs, exec, port-forward, and HTTP to pods, Services and nodes.

use futures_util::{AsyncBufReadExt, SinkExt, StreamExt, TryStreamExt};
use http::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Error,
    api::{AttachParams, LogParams, PostParams},
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    cluster::{Cluster, NODE, soon},
    deploy::pod_with_service,
    kubelet::{echo, website},
};

async fn get(cluster: &Cluster, path: &str) -> Result<Value, Error> {
    let request = Request::get(path).body(Vec::new()).unwrap();
    let text = cluster.client.request_text(request).await?;
    Ok(serde_json::from_str(&text).unwrap())
}

#[tokio::test]
async fn logs_are_read_whole_in_part_and_as_they_come() {
    let cluster = Cluster::start().await;
    pod_with_service(&cluster, "web", 80).await;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client.clone());
    assert_eq!(
        pods.logs("web", &LogParams::default()).await.unwrap(),
        "one\ntwo\nthree\n"
    );
    let tail = LogParams {
        tail_lines: Some(1),
        ..LogParams::default()
    };
    assert_eq!(pods.logs("web", &tail).await.unwrap(), "three\n");
    let follow = LogParams {
        follow: true,
        ..LogParams::default()
    };
    let lines = pods.log_stream("web", &follow).await.unwrap().lines();
    let lines: Vec<_> = soon(lines.try_collect()).await.unwrap();
    assert_eq!(lines, ["one", "two", "three", "four"]);

    let wrong = LogParams {
        container: Some("x".to_owned()),
        ..LogParams::default()
    };
    let refused = pods.logs("web", &wrong).await.unwrap_err().to_string();
    assert!(
        refused.contains("container x is not valid for pod web"),
        "{refused}"
    );
    pod_with_service(&cluster, "silent", 80).await;
    let refused = pods
        .logs("silent", &LogParams::default())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("is waiting to start: ContainerCreating"),
        "{refused}"
    );
    cluster.stop().await;
}

#[tokio::test]
async fn a_command_runs_with_its_input_and_output() {
    let cluster = Cluster::start().await;
    pod_with_service(&cluster, "web", 80).await;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client.clone());
    let mut attached = pods
        .exec("web", ["echo", "a b", "&c"], &AttachParams::default())
        .await
        .unwrap();
    let mut said = String::new();
    soon(attached.stdout().unwrap().read_to_string(&mut said))
        .await
        .unwrap();
    assert_eq!(said, "a b &c\n");
    let status = soon(attached.take_status().unwrap()).await.unwrap();
    assert_eq!(status.status.as_deref(), Some("Success"));

    let params = AttachParams::default().stdin(true);
    let mut attached = pods.exec("web", ["cat"], &params).await.unwrap();
    let (mut stdin, mut stdout) = (attached.stdin().unwrap(), attached.stdout().unwrap());
    stdin.write_all(b"hello").await.unwrap();
    stdin.flush().await.unwrap();
    let mut heard = [0; 5];
    soon(stdout.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"hello");
    cluster.stop().await;
}

#[tokio::test]
async fn a_port_is_forwarded_and_a_closed_one_reported() {
    let cluster = Cluster::start().await;
    let port = echo().await;
    pod_with_service(&cluster, "web", port).await;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client.clone());
    let mut forward = pods.portforward("web", &[port]).await.unwrap();
    let mut stream = forward.take_stream(port).unwrap();
    let sent: Vec<u8> = (0..2_000_000_u32)
        .map(|byte| byte.to_le_bytes()[0])
        .collect();
    let (mut from, mut to) = tokio::io::split(&mut stream);
    let mut heard = vec![0; sent.len()];
    let both = async { tokio::join!(to.write_all(&sent), from.read_exact(&mut heard)) };
    let (wrote, read) = soon(both).await;
    wrote.unwrap();
    read.unwrap();
    assert!(heard == sent, "the bytes came back changed");

    let mut forward = pods.portforward("web", &[1]).await.unwrap();
    let _stream = forward.take_stream(1).unwrap();
    let error = soon(forward.take_error(1).unwrap()).await.unwrap();
    assert!(error.contains("connection refused"), "{error}");
    cluster.stop().await;
}

#[tokio::test]
async fn who_speaks_spdy_to_a_container_is_told_what_to_speak() {
    let cluster = Cluster::start().await;
    pod_with_service(&cluster, "web", 80).await;
    let request = Request::post("/api/v1/namespaces/default/pods/web/exec?command=true")
        .header("connection", "Upgrade")
        .header("upgrade", "SPDY/3.1")
        .body(Vec::new())
        .unwrap();
    let Err(Error::Api(status)) = cluster.client.request_text(request).await else {
        panic!("it was not refused");
    };
    assert_eq!((status.code, status.reason.as_str()), (400, "BadRequest"));
    assert!(
        status.message.contains("speaks WebSocket only"),
        "{}",
        status.message
    );
    cluster.stop().await;
}

#[tokio::test]
async fn http_reaches_pods_services_and_nodes_without_the_callers_secret() {
    let cluster = Cluster::start().await;
    let port = website().await;
    pod_with_service(&cluster, "web", port).await;
    let base = "/api/v1/namespaces/default";
    for target in [
        format!("{base}/pods/web:{port}/proxy"),
        format!("{base}/pods/web/proxy"),
        format!("{base}/pods/http:web:http/proxy"),
        format!("{base}/services/web/proxy"),
        format!("{base}/services/web:web/proxy"),
        format!("{base}/services/http:web:80/proxy"),
    ] {
        let seen = get(&cluster, &format!("{target}/a/b%20c?x=1"))
            .await
            .unwrap();
        assert_eq!(
            (&seen["path"], &seen["query"]),
            (&json!("/a/b%20c"), &json!("x=1")),
            "{target}"
        );
        assert_eq!(seen["authorization"], Value::Null);
        assert_eq!(seen["forwarded"], format!("{target}/a/b%20c"));
    }
    let request = Request::post(format!("{base}/services/web/proxy/form")).body(b"data".to_vec());
    let seen = cluster.client.request_text(request.unwrap()).await.unwrap();
    let seen: Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(
        (&seen["method"], &seen["body"]),
        (&json!("POST"), &json!("data"))
    );

    let node = get(
        &cluster,
        &format!("/api/v1/nodes/{NODE}/proxy/stats?full=1"),
    )
    .await
    .unwrap();
    assert_eq!(
        (&node["path"], &node["query"]),
        (&json!("/stats"), &json!("full=1"))
    );
    assert_eq!(node["authorized"], true);
    cluster.stop().await;
}

#[tokio::test]
async fn redirects_lead_through_the_proxy_and_dead_ends_are_explained() {
    let cluster = Cluster::start().await;
    let port = website().await;
    pod_with_service(&cluster, "web", port).await;
    let location = |path: &'static str| {
        let client = cluster.client.clone();
        async move {
            let request = Request::get(path)
                .body(kube::client::Body::empty())
                .unwrap();
            let response = client.send(request).await.unwrap();
            response.headers()["location"].to_str().unwrap().to_owned()
        }
    };
    assert_eq!(
        location("/api/v1/namespaces/default/services/web/proxy/moved").await,
        "/api/v1/namespaces/default/services/web/proxy/elsewhere?x=1"
    );
    assert_eq!(
        location("/api/v1/namespaces/default/services/web/proxy").await,
        "/api/v1/namespaces/default/services/web/proxy/"
    );

    let refused = |path: &'static str| {
        let cluster = &cluster;
        async move {
            match get(cluster, path).await.unwrap_err() {
                Error::Api(status) => (status.code, status.message.clone()),
                other => panic!("{other}"),
            }
        }
    };
    let (code, message) = refused("/api/v1/namespaces/default/services/web:x/proxy/").await;
    assert_eq!(
        (code, message.as_str()),
        (503, "no service port \"x\" found for service \"web\"")
    );
    let (code, message) = refused("/api/v1/namespaces/default/pods/web:1/proxy/").await;
    assert_eq!(code, 503);
    assert!(
        message.contains("error trying to reach service: dial tcp 127.0.0.1:1"),
        "{message}"
    );
    let (code, _) = refused("/api/v1/namespaces/default/services/none/proxy/").await;
    assert_eq!(code, 404);
    cluster.stop().await;
}

#[tokio::test]
async fn a_websocket_passes_through_the_service_proxy() {
    let cluster = Cluster::start().await;
    let port = website().await;
    pod_with_service(&cluster, "web", port).await;
    let request = Request::get("/api/v1/namespaces/default/services/web/proxy/socket")
        .body(Vec::new())
        .unwrap();
    let mut socket = cluster.client.connect(request).await.unwrap().into_stream();
    socket.send("over there".into()).await.unwrap();
    let heard = soon(socket.next()).await.unwrap().unwrap();
    assert_eq!(heard.into_text().unwrap().as_str(), "over there");
    cluster.stop().await;
}

#[tokio::test]
async fn a_pod_without_a_node_has_no_logs() {
    let cluster = Cluster::start().await;
    cluster.ready().await;
    let pods: Api<Pod> = Api::default_namespaced(cluster.client.clone());
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "stuck"},
        "spec": {
            "nodeSelector": {"no": "where"}, "containers": [{"name": "c", "image": "web:1"}],
        },
    }))
    .unwrap();
    pods.create(&PostParams::default(), &pod).await.unwrap();
    let refused = pods
        .logs("stuck", &LogParams::default())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("pod stuck does not have a host assigned"),
        "{refused}"
    );
    cluster.stop().await;
}
