//! A node: kubelet, kube-proxy and pod routes in one process, in the node's own network namespace. It is
//! a client of the API server like any other and knows nothing that the API does not tell it.

mod config;
mod container_log;
mod exec;
mod ipam;
mod kubelet;
mod logs;
mod pod;
mod portforward;
mod prober;
mod proxy;
mod registration;
mod routes;
mod ruleset;
mod runtime;
mod server;
mod service_ports;
pub(crate) mod spdy;
mod stats;
mod status;
mod websocket;

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use inroads_harness::access::Secret;
use inroads_harness::kubernetes::{self, KubernetesError};
use ipnet::Ipv4Net;
use nlink::netlink::{Connection, Route};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::host;
use crate::net::{self, NetError};
use crate::process::ExitStatus;
use crate::spec::addresses;

use ipam::Ipam;
use kubelet::Pods;

/// The port that every kubelet serves its own API on.
pub(crate) const KUBELET_PORT: u16 = 10250;

/// What a node is told when it starts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NodeSpec {
    /// Its name.
    pub(crate) name: String,
    /// Its address on the LAN.
    pub(crate) address: Ipv4Addr,
    /// Whether it is the control plane's, which takes no ordinary pods.
    pub(crate) control_plane: bool,
    /// The addresses of its pods.
    pub(crate) pod_cidr: Ipv4Net,
    /// Where the API server listens.
    pub(crate) api: SocketAddr,
    /// The certificate authority, PEM.
    pub(crate) ca: String,
    /// Its own certificate and key, PEM.
    pub(crate) certificate: String,
    /// See `certificate`.
    pub(crate) key: Secret<String>,
    /// Its token for the API server.
    pub(crate) token: Secret<String>,
    /// The token that the API server shows it.
    pub(crate) kubelet_token: Secret<String>,
}

/// A node could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodeError {
    /// Its process could not become a host.
    #[error("becoming the node's host")]
    Host(#[source] host::HostError),
    /// It was not told what it is.
    #[error("reading the node's specification")]
    Spec(#[source] std::io::Error),
    /// The API server refused or failed.
    #[error("{doing}")]
    Api {
        doing: &'static str,
        #[source]
        source: Box<kube::Error>,
    },
    /// The API could not be used at all.
    #[error(transparent)]
    Kubernetes(#[from] KubernetesError),
    /// The network could not be changed.
    #[error(transparent)]
    Net(#[from] NetError),
    /// A certificate or key is not what it should be.
    #[error("the node's certificate or key cannot be used")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The kubelet's port could not be had.
    #[error("cannot listen on the kubelet's port")]
    Listen(#[source] std::io::Error),
}

/// What all parts of a node share.
pub(crate) struct Node {
    pub(crate) spec: NodeSpec,
    pub(crate) client: kube::Client,
    pub(crate) links: Connection<Route>,
    pub(crate) ipam: Mutex<Ipam>,
    pub(crate) pods: Pods,
}

impl Node {
    /// The address that is every pod's gateway: the node's own on their links.
    pub(crate) fn pod_gateway(&self) -> Ipv4Addr {
        ipam::gateway(self.spec.pod_cidr)
    }
}

/// The process of the node `name`: becomes its host, reads its specification from standard input, runs.
pub(crate) fn main(name: &str, folder: &Path) -> ExitStatus {
    let outcome = host::become_node(name, folder)
        .map_err(NodeError::Host)
        .and_then(|()| {
            let mut line = String::new();
            std::io::stdin()
                .read_line(&mut line)
                .map_err(NodeError::Spec)?;
            let spec =
                serde_json::from_str(&line).map_err(|error| NodeError::Spec(error.into()))?;
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build();
            runtime.map_err(NodeError::Spec)?.block_on(run(spec))
        });
    match outcome {
        Ok(()) => ExitStatus::SUCCESS,
        Err(error) => {
            let cause = std::error::Error::source(&error)
                .map(|cause| format!(": {cause}"))
                .unwrap_or_default();
            drop(writeln!(
                std::io::stderr().lock(),
                "node `{name}`: {error}{cause}"
            ));
            ExitStatus::FAILURE
        }
    }
}

/// Runs a node until it is killed.
///
/// # Errors
/// Where it cannot start, or a part of it ends, which none does in ordinary use.
async fn run(spec: NodeSpec) -> Result<(), NodeError> {
    let client = kubernetes::client(&format!("https://{}", spec.api), &spec.ca, &spec.token)?;
    let links = net::links_of(None)?;
    let ipam = Mutex::new(Ipam::new(spec.pod_cidr));
    let node = Arc::new(Node {
        spec,
        client,
        links,
        ipam,
        pods: Pods::default(),
    });

    let server = server::bind(&node).await?;
    registration::register(&node).await?;
    tokio::select! {
        ended = server.serve() => ended,
        ended = routes::follow(&node) => ended,
        ended = proxy::follow(&node) => ended,
        ended = kubelet::follow(node.clone()) => ended,
    }
}

/// The network that all nodes' pods share.
pub(crate) const PODS: Ipv4Net = addresses::PODS;
