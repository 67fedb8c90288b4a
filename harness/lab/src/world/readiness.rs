//! Waiting until a lab can be used: every node ready, and cluster DNS answering where laptops ask it.

use std::time::Duration;

use futures_util::StreamExt as _;
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use inroads_harness::kubernetes::{self, Applier, documents};
use k8s_openapi::api::core::v1::Node;
use kube::api::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use nlink::netlink::namespace::Netns;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::{Credentials, WorldError, node_address, started};
use crate::spec::{CLUSTER_DOMAIN, NODES, addresses};

/// The manifests of cluster DNS, applied like everything else.
const CLUSTER_DNS: &str = include_str!("../../manifests/cluster-dns.yaml");

/// Longest time for each phase on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// The pause between two tries of something that has no event to wait for.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits for all of it and returns the API server's version.
pub(super) async fn wait(
    control_plane: &Netns,
    credentials: &Credentials,
) -> Result<String, WorldError> {
    let api = format!("https://{}:{}", node_address(0), addresses::API_PORT);
    let client = kubernetes::client(
        &api,
        credentials.authority.trust().pem(),
        &credentials.admin,
    )?;
    let version = within("starting the API server", async {
        loop {
            match client.apiserver_version().await {
                Ok(info) => return info.git_version,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    })
    .await?;
    let system = Applier::new(client.clone(), "kube-system", "lab");
    for object in documents("cluster-dns.yaml", CLUSTER_DNS)? {
        system.apply(object).await?;
    }
    within("waiting for the nodes", nodes_ready(client)).await?;
    within("waiting for cluster DNS", dns_answers(control_plane)).await??;
    Ok(version)
}

async fn within<T>(phase: &'static str, future: impl Future<Output = T>) -> Result<T, WorldError> {
    timeout(LIMIT, future)
        .await
        .map_err(|_elapsed| WorldError::TimedOut {
            phase,
            limit_s: LIMIT.as_secs(),
            said: String::new(),
        })
}

async fn nodes_ready(client: kube::Client) {
    let nodes = watcher(Api::<Node>::all(client), watcher::Config::default())
        .default_backoff()
        .applied_objects();
    let mut nodes = std::pin::pin!(nodes);
    let mut ready = std::collections::BTreeSet::new();
    while ready.len() < NODES.len() {
        let Some(seen) = nodes.next().await else {
            return;
        };
        let Ok(node) = seen else { continue };
        let conditions = node
            .status
            .and_then(|status| status.conditions)
            .unwrap_or_default();
        if conditions
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
        {
            ready.insert(node.metadata.name.unwrap_or_default());
        }
    }
}

/// Asks cluster DNS for the API server's name, from the control-plane node, until it answers.
async fn dns_answers(control_plane: &Netns) -> Result<(), WorldError> {
    let failed = || started("a question to cluster DNS");
    let name = Name::from_ascii(format!("kubernetes.default.svc.{CLUSTER_DOMAIN}."));
    let mut question = Message::query();
    question.add_query(Query::query(
        name.map_err(std::io::Error::other).map_err(failed())?,
        RecordType::A,
    ));
    let question = question
        .to_vec()
        .map_err(std::io::Error::other)
        .map_err(failed())?;
    loop {
        // A new socket each time, as resolvers do it: the kernel remembers where a flow goes.
        let socket = control_plane.socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK, 0);
        let socket = socket.map_err(std::io::Error::other).map_err(failed())?;
        let socket = UdpSocket::from_std(socket.into()).map_err(failed())?;
        // Until its Service has an endpoint, asking is refused.
        if socket.connect((addresses::DNS, 53)).await.is_ok()
            && socket.send(&question).await.is_ok()
            && answers(&socket).await
        {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn answers(socket: &UdpSocket) -> bool {
    let mut answer = [0; 512];
    let Ok(Ok(length)) = timeout(PAUSE * 4, socket.recv(&mut answer)).await else {
        return false;
    };
    Message::from_vec(&answer[..length])
        .is_ok_and(|answer| answer.metadata.response_code == ResponseCode::NoError)
}
