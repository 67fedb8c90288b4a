//! Many clients at once, slow ones among them.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, future::join_all};
use http::Request;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    cluster::{Cluster, soon},
    deploy::pod_with_service,
    kubelet::echo,
};

const MANY: usize = 500;

async fn open_files(cluster: &Cluster) -> u64 {
    let request = Request::get("/metrics").body(Vec::new()).unwrap();
    let metrics = cluster.client.request_text(request).await.unwrap();
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("process_open_fds "));
    line.unwrap().parse().unwrap()
}

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}})).unwrap()
}

/// The server and its clients share this process and its descriptors: what they leave open shows here.
async fn wait_for_open_files(cluster: &Cluster, limit: u64) {
    soon(async {
        while open_files(cluster).await > limit {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_watchers_all_hear_of_a_change() {
    let cluster = Cluster::start().await;
    let before = open_files(&cluster).await;
    let mut watches = Vec::new();
    for _ in 0..MANY {
        let client = cluster.client_with("admin-token").await;
        let maps: Api<ConfigMap> = Api::default_namespaced(client);
        let params = WatchParams::default().fields("metadata.name=news");
        watches.push(maps.watch(&params, "0").await.unwrap().boxed());
    }
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    maps.create(&PostParams::default(), &config_map("news"))
        .await
        .unwrap();
    let heard = soon(join_all(watches.iter_mut().map(|watch| watch.try_next()))).await;
    for event in heard {
        assert!(matches!(event.unwrap().unwrap(), WatchEvent::Added(_)));
    }
    drop(watches);
    wait_for_open_files(&cluster, before + 20).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_forwarded_connections_work_at_once_and_leave_nothing_open() {
    let cluster = Cluster::start().await;
    let port = echo().await;
    pod_with_service(&cluster, "web", port).await;
    let before = open_files(&cluster).await;
    let forward = |index: usize| {
        let pods: Api<Pod> = Api::default_namespaced(cluster.client.clone());
        async move {
            let mut forward = pods.portforward("web", &[port]).await.unwrap();
            let mut stream = forward.take_stream(port).unwrap();
            let sent = format!("connection {index}").repeat(100);
            stream.write_all(sent.as_bytes()).await.unwrap();
            let mut heard = vec![0; sent.len()];
            stream.read_exact(&mut heard).await.unwrap();
            assert_eq!(heard, sent.as_bytes());
            (forward, stream)
        }
    };
    let open = soon(join_all((0..MANY).map(forward))).await;
    assert_eq!(open.len(), MANY);
    drop(open);
    wait_for_open_files(&cluster, before + 20).await;
    cluster.stop().await;
}

/// A client that asks for a watch and never reads from it, in clear sight of the kernel's buffers.
async fn stalled_watcher(cluster: &Cluster) -> TlsStream<TcpStream> {
    let address = cluster.server.trim_start_matches("https://").to_owned();
    let stream = TcpStream::connect(&address).await.unwrap();
    let config = cluster.trust().client_config().unwrap();
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let connector = TlsConnector::from(config);
    let mut stream = connector.connect(name, stream).await.unwrap();
    let request = "GET /api/v1/configmaps?watch=true HTTP/1.1\r\nHost: lab\r\n\
                   Authorization: Bearer admin-token\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_does_not_read_delays_nobody() {
    let cluster = Cluster::start().await;
    let _stalled = stalled_watcher(&cluster).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    maps.create(&PostParams::default(), &config_map("busy"))
        .await
        .unwrap();
    let mut watch = maps
        .watch(&WatchParams::default().fields("metadata.name=busy"), "0")
        .await
        .unwrap()
        .boxed();
    soon(watch.try_next()).await.unwrap();
    let large = "x".repeat(20_000);
    let writes = async {
        for round in 0..2000 {
            let patch = Patch::Merge(json!({"data": {"round": round.to_string(), "large": large}}));
            maps.patch("busy", &PatchParams::default(), &patch)
                .await
                .unwrap();
            let event = watch.try_next().await.unwrap().unwrap();
            assert!(matches!(event, WatchEvent::Modified(_)));
        }
    };
    soon(writes).await;
    cluster.stop().await;
}
