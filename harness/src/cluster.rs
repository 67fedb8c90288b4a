//! What a run needs of a cluster, whichever kind it is.

use std::ffi::OsStr;
use std::fmt;
use std::net::IpAddr;

use async_trait::async_trait;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::run::{Component, Provenance};
use crate::software::{Software, image_base};

/// Who is told of each step.
pub type Steps<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// Where workloads run, and the laptops outside it.
///
/// Everything inside is reached through [`client`](Self::client) alone, so methods and scenarios need
/// not know which kind of cluster they are on.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// A client of the API server, with the rights to deploy methods and scenarios.
    fn client(&self) -> kube::Client;

    /// What is true of this cluster.
    fn facts(&self) -> &Facts;

    /// The image that holds this very program, already where the nodes find it.
    fn image(&self) -> &str;

    /// Sees to it that the nodes have the image of another maker's software that a manifest names. `progress` is
    /// told where that takes time. Where nodes pull from a registry there is nothing to be done.
    ///
    /// # Errors
    /// Where it cannot be had, with the reason and what to do about it.
    async fn supply(&self, image: &str, _progress: Steps<'_>) -> Result<Supply, ClusterError> {
        Ok(Supply::pulled(image))
    }

    /// The parts whose behaviour stands in the figures.
    fn components(&self) -> Vec<Component>;

    /// The laptop of this name, on the office LAN, outside the cluster.
    ///
    /// # Errors
    /// [`ClusterError::NoLaptop`] where the cluster has none of that name.
    async fn laptop(&self, name: &str) -> Result<Box<dyn Laptop>, ClusterError>;

    /// Whether all of it goes when it is [released](Self::release), and what is in it needs no tidying before.
    fn goes_with_the_run(&self) -> bool {
        false
    }

    /// Removes what was made for this run; a cluster that existed before stays.
    ///
    /// # Errors
    /// Where something of ours may be left; the message names it.
    async fn release(self: Box<Self>) -> Result<(), ClusterError>;
}

/// An image that nodes have, or will pull.
#[derive(Debug, Clone)]
pub struct Supply {
    /// What it is called on the nodes.
    pub image: String,
    /// What is in it.
    pub component: Component,
    /// Whether nodes pull it from a registry, which takes its time.
    pub pulled: bool,
}

impl Supply {
    /// An image that nodes pull by the name that the manifest gives it. Its tag is all that is known of its
    /// version.
    #[must_use]
    pub fn pulled(image: &str) -> Self {
        let base = image_base(image);
        let name = Software::of_image(image).map_or(base, |software| software.server);
        Self {
            image: image.to_owned(),
            component: Component {
                name: name.to_owned(),
                version: format!("image {image}"),
                provenance: Provenance::Real,
            },
            pulled: true,
        }
    }
}

/// A host on the office LAN. Commands on it see its network, its resolver and its hosts file.
pub trait Laptop: Send + Sync {
    /// Its name: the method it is for, or `none`.
    fn name(&self) -> &str;

    /// A command that runs `program` there in the foreground, with the caller's standard streams and, beside
    /// the laptop's own environment, `variables`.
    fn command(&self, program: &OsStr, variables: &[(&str, &str)]) -> tokio::process::Command;

    /// A command that runs this very program there.
    fn inroads(&self) -> tokio::process::Command;

    /// Why its routes, links and files must stay as they are; `None` where they are there to be changed.
    fn unchangeable(&self) -> Option<&str> {
        None
    }
}

/// What is true of a cluster, as far as methods and reports care.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Facts {
    /// Which kind of cluster it is.
    pub kind: ClusterKind,
    /// The API server's version, such as `v1.33.0`.
    pub kubernetes: String,
    /// What connects pods.
    pub cni: String,
    /// What implements Services, with its mode.
    pub kube_proxy: String,
    /// All nodes.
    pub nodes: Vec<Node>,
    /// Addresses of pods.
    pub pod_cidr: IpNet,
    /// Virtual addresses of Services.
    pub service_cidr: IpNet,
    /// The cluster's DNS server.
    pub dns: IpAddr,
    /// The cluster's DNS domain, `cluster.local`.
    pub domain: String,
    /// The API server's URL as a laptop reaches it.
    pub api_server: String,
    /// The certificate authority of the API server, PEM.
    pub api_server_ca: String,
    /// What is known of the office that laptops stand in.
    pub office: Option<Office>,
}

/// A name of the office's, which no way into a cluster may get in the way of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Office {
    /// A name that the office's DNS knows.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Where the office's DNS shows what it was asked for, where it does.
    pub log: Option<QueryLog>,
}

/// A page, over plain HTTP, of the names that a DNS server was asked for: each stands in it as text, in
/// lower case.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QueryLog {
    /// Its web server.
    pub server: std::net::SocketAddr,
    /// Its path.
    pub path: String,
}

impl Facts {
    /// The nodes that run workloads.
    pub fn workers(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| !node.control_plane)
    }
}

/// A node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its address on the LAN.
    pub address: IpAddr,
    /// Addresses of its pods; none where the pod network does not give each node a range.
    pub pod_cidr: Option<IpNet>,
    /// Whether it runs the control plane, and takes no workloads.
    pub control_plane: bool,
}

/// The kinds of cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClusterKind {
    /// The embedded, rootless one.
    Lab,
    /// kind: Kubernetes in Docker.
    Kind,
    /// Any cluster that a kubeconfig names.
    Context,
}

impl fmt::Display for ClusterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Lab => "lab",
            Self::Kind => "kind",
            Self::Context => "context",
        })
    }
}

/// A cluster could not be had, used or removed.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// This machine lacks something.
    #[error("{what}\n(hint: {hint})")]
    Missing {
        /// What is missing.
        what: String,
        /// What to do about it.
        hint: String,
    },
    /// There is no such laptop.
    #[error("the cluster has no laptop `{0}`")]
    NoLaptop(String),
    /// The user interrupted, and what was begun is taken down again.
    #[error("interrupted")]
    Interrupted,
    /// A phase did not end in time.
    #[error("{phase} took longer than {limit_s} s\n(hint: {hint})")]
    TimedOut {
        /// What was waited for.
        phase: String,
        /// The limit, in seconds.
        limit_s: u64,
        /// What to do about it.
        hint: String,
    },
    /// The API refused or failed.
    #[error(transparent)]
    Kubernetes(#[from] crate::kubernetes::KubernetesError),
    /// Something else failed.
    #[error("{doing}")]
    Failed {
        /// What was being done, and to what.
        doing: String,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl ClusterError {
    /// For `map_err`: what was being done when the cause came up.
    pub fn while_doing<E>(doing: impl Into<String>) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Failed {
            doing: doing.into(),
            source: source.into(),
        }
    }
}
