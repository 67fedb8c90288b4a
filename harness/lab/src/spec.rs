//! What a lab is made of, as handed to the process that makes it, and what that process reports back.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use inroads_harness::access::Secret;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// Everything about a lab that its maker chooses.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LabSpec {
    /// Names of the laptops to make.
    pub(crate) laptops: Vec<String>,
    /// Where on this machine's loopback the API server listens; port 0 takes any.
    pub(crate) api_listen: SocketAddr,
}

/// What a lab is told on standard input when it is to outlive the process that made it. Until then it
/// ends with that process, so that one that dies half-way leaves no lab that nobody knows of.
pub(crate) const STAY: u8 = b'+';

/// The addresses of a lab. They are the same in every lab: its networks are its own.
pub(crate) mod addresses {
    use super::{Ipv4Addr, Ipv4Net};

    /// The office LAN: laptops, the office's server, the nodes.
    pub(crate) const LAN: Ipv4Net = net([192, 168, 50, 0], 24);
    /// The office's router, everyone's default gateway.
    pub(crate) const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 1);
    /// The office's server: DNS of the office zone, and a web page.
    pub(crate) const OFFICE: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 53);
    /// The lab's own main process, on the switch.
    pub(crate) const LAB: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 254);
    /// A host with no credential.
    pub(crate) const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 66);
    /// The first laptop; the others follow.
    pub(crate) const FIRST_LAPTOP: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 101);
    /// The control-plane node; the workers follow.
    pub(crate) const FIRST_NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 50, 10);
    /// Pods; each node has a /24 of it.
    pub(crate) const PODS: Ipv4Net = net([10, 244, 0, 0], 16);
    /// Virtual addresses of Services.
    pub(crate) const SERVICES: Ipv4Net = net([10, 96, 0, 0], 12);
    /// The API server's Service.
    pub(crate) const API_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
    /// The cluster's DNS.
    pub(crate) const DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
    /// The API server's port on the control-plane node.
    pub(crate) const API_PORT: u16 = 6443;

    const fn net(address: [u8; 4], prefix: u8) -> Ipv4Net {
        let [a, b, c, d] = address;
        Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
    }
}

/// The DNS domain of the cluster.
pub(crate) const CLUSTER_DOMAIN: &str = "cluster.local";

/// The DNS zone of the office.
pub(crate) const OFFICE_DOMAIN: &str = "office.test";

/// The nodes, the control plane first.
pub(crate) const NODES: [&str; 3] = ["control-plane", "worker-1", "worker-2"];

/// What the processes of a lab say on standard output, one JSON object a line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Report {
    /// The namespaces exist; the lab's first process has this id outside.
    Started { pid: i32 },
    /// A step of the way.
    Progress(String),
    /// Everything answers.
    Ready(Box<Ready>),
    /// It came to nothing; the error with its causes.
    Failed(Vec<String>),
}

/// A lab that is ready, as its users need to know it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// The API server on this machine's loopback.
    pub(crate) api: SocketAddr,
    /// Its certificate authority, PEM.
    pub(crate) ca: String,
    /// A token with all rights.
    pub(crate) admin_token: Secret<String>,
    /// The API server's version.
    pub(crate) kubernetes: String,
    /// The hosts outside the cluster and the nodes: name, and process id inside the lab.
    pub(crate) hosts: BTreeMap<String, i32>,
    /// How long it took from the first namespace to here, in milliseconds.
    pub(crate) ready_ms: u64,
}
